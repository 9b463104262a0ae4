"""Servers behind a firewall that masks what they say."""
import threading

import pytest
from postern import Sink, mail, wait_for

MASKED = "220 " + "*" * 60 + "2****" + "*" * 9 + "200**0*"


class Fixup(Sink):
    """It does not know EHLO."""

    def __init__(self, banner=MASKED):
        super().__init__(lambda verb, argument:
                         banner if verb == "CONNECT" else
                         "500 Unknown" if verb == "EHLO" else None)


@pytest.fixture
def fixup():
    sinks = []

    def new(*args):
        sinks.append(Fixup(*args))
        return sinks[-1]
    yield new
    for s in sinks:
        s.close()


def send(gw, subject):
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail(subject)).code == 250


def test_new_mail(make, fixup):
    """HELO, and no wait."""
    sink = fixup()
    gw = make(sink, main={"smtp_pix_workaround_delay_time": "600s"})
    send(gw, "new")
    sink.wait_subject("new")
    assert sink.commands[0].startswith("HELO ")
    gw.wait_log(r": enabling PIX workarounds: disable_esmtp delay_dotcrlf for "
                r"127\.0\.0\.1\[127\.0\.0\.1\]:\d+$")
    gw.wait_log(r"status=sent")


def test_old_mail(make, fixup):
    """The dot comes after the wait, and the message is whole."""
    sink = fixup()
    gw = make(sink, main={"smtp_pix_workaround_delay_time": "2s",
                          "smtp_pix_workaround_threshold_time": "0s"})
    send(gw, "old")
    m = sink.wait_subject("old")
    assert m.text.endswith(b"\r\n")
    # the wait is part of the time that the conversation took
    gw.wait_log(r"delays=[^/]*/[^/]*/[^/]*/(?:[2-9]|\d\d)[.\d]*, .*"
                r"status=sent")


def test_lost(make, fixup):
    """The session ends during the wait: the message is sent again."""
    sink = fixup()
    gw = make(sink, main={"smtp_pix_workaround_delay_time": "600s",
                          "smtp_pix_workaround_threshold_time": "0s"})
    send(gw, "lost")
    wait_for("DATA", lambda: "DATA" in sink.commands)
    threading.Timer(0.5, sink.down).start()
    gw.wait_log(r"status=deferred \(lost connection with 127\.0\.0\.1\S* "
                r"while sending (message body|DATA command)\)")
    assert not sink.messages
    sink.up()
    gw.set(smtp_pix_workarounds="disable_esmtp")
    gw.command("reload")
    gw.command("flush")
    sink.wait_subject("lost")


@pytest.mark.parametrize("main", [
    {"smtp_pix_workarounds": ""},
    {"smtp_pix_workaround_maps": "inline:{{127.0.0.1=delay_dotcrlf}}"}])
def test_with_ehlo(make, fixup, main):
    sink = fixup()
    gw = make(sink, main=main)
    send(gw, "ehlo")
    sink.wait_subject("ehlo")
    assert sink.commands[0].startswith("EHLO ")
    assert ("enabling PIX workarounds: delay_dotcrlf for" in gw.log()) == (
        "smtp_pix_workaround_maps" in main)


@pytest.mark.parametrize("banner", [
    "220 inside ESMTP", "220 ***x***", "220", "220 2002"])
def test_not_masked(make, fixup, banner):
    sink = fixup(banner)
    gw = make(sink)
    send(gw, "plain")
    sink.wait_subject("plain")
    assert sink.commands[0].startswith("EHLO ")
    assert "PIX" not in gw.log()
