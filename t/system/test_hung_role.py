"""A process that works no more, or at one thing without an end: whoever asked
it goes on, and what was asked has a defined end."""
import os
import re
import signal
import time

import pytest
from postern import Instance, Sink, free_port, mail, wait_for


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


@pytest.fixture
def make(sink):
    made = []

    def gateway(**main):
        gw = Instance(sink, main={
            "daemon_timeout": "1s", "role_processes": "1",
            "queue_run_delay": "1s", "minimal_backoff_time": "1s",
            "transport_retry_time": "1s", "service_throttle_time": "1s",
            **main})
        gw.expect_log("broke the rules|ended with 1|killed|signal|ended")
        made.append(gw)
        return gw
    yield gateway
    for gw in made:
        gw.destroy()


def send(gw, subject, rcpt="user@example.com", sender="a@client.example"):
    with gw.client() as c:
        c.ehlo()
        return c.message(sender, rcpt, mail(subject)).text


def test_relay_with_a_message(make, sink):
    gw = make()
    hung = gw.kill("relay", signal.SIGSTOP)
    assert send(gw, "one").startswith("250 ")
    gw.wait_log(r"relay\[%d\] broke the rules: no report in time" % hung)
    # it counts as one that was not begun
    assert sink.wait_subject("one")
    assert hung not in gw.pids("relay")
    wait_for("an empty queue", lambda: not gw.queued())
    assert len(sink.messages) == 1


@pytest.mark.long
def test_relay_with_a_probe(make):
    gw = make(smtpd_recipient_restrictions="reject_unverified_recipient",
              address_verify_poll_delay="30s")
    hung = gw.kill("relay", signal.SIGSTOP)
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@client.example>")
        r = c.cmd("RCPT TO:<user@example.com>")
    assert r.code == 450 and "relay process ended" in r.text, r
    assert hung not in gw.pids("relay")


@pytest.mark.long
def test_relay_with_mail_for_a_filter(make):
    gw = make(smtpd_proxy_filter=f"127.0.0.1:{free_port()}",
              smtpd_proxy_timeout="1s", daemon_timeout="300s")
    hung = gw.kill("relay", signal.SIGSTOP)
    gw.expect_log("broke the rules|ended with 1|killed|signal|proxy filter")
    assert send(gw, "x") == "451 4.3.0 Error: queue file write error"
    gw.wait_log(r"relay\[%d\] broke the rules: no report in time" % hung)
    assert not gw.queued()


@pytest.mark.long
def test_bounce(make, sink):
    sink.on = lambda verb, arg: "550 5.1.1 no" if verb == "RCPT" and \
        "user@" in arg else None
    gw = make(relay_domains="example.com, client.example")
    send(gw, "one")
    # the role is there
    wait_for("a notification", lambda: len(sink.messages) == 1)
    hung = gw.kill("bounce", signal.SIGSTOP)
    send(gw, "two")
    gw.wait_log(r"bounce\[%d\] broke the rules: no notification in time" %
                hung)
    wait_for("the other one", lambda: len(sink.messages) == 2)
    wait_for("an empty queue", lambda: not gw.queued())
    assert len(sink.messages) == 2


@pytest.mark.long
def test_showq_with_a_site(make):
    gw = make(fast_flush_domains="example.com, other.example",
              daemon_timeout="2s", smtpd_etrn_restrictions="permit")

    def etrn(name):
        with gw.client() as c:
            c.ehlo()
            return c.cmd(f"ETRN {name}").code
    assert etrn("example.com") in (250, 253)
    gw.wait_log("site example.com: 0 deferred")
    hung = gw.kill("showq", signal.SIGSTOP)
    assert etrn("other.example") in (250, 253)
    gw.wait_log(r"showq\[%d\] broke the rules: no end of a search" % hung, 60)
    # that one is forgotten, the next one is looked for
    assert etrn("example.com") in (250, 253)
    wait_for("another search", lambda: len(re.findall(
        "site example.com: 0 deferred", gw.log())) == 2, 60)
    assert "site other.example" not in gw.log()


def test_trickling_server(make, sink):
    """Alive in each step, and for ever."""
    def slow(verb, arg):
        if verb == "RCPT":
            time.sleep(0.6)
    sink.on = slow
    gw = make(smtp_rcpt_timeout="5s", maximal_backoff_time="300s",
              minimal_backoff_time="300s")
    sink.keywords = ()
    rcpts = [f"u{i}@example.com" for i in range(8)]
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", rcpts, mail("x")).code == 250
    gw.wait_log(r"to=<u7@example.com>, .*dsn=4.4.2, status=deferred "
                r"\(delivery took longer than 1 s\)")
    assert not sink.messages
    assert "broke the rules" not in gw.log()
    assert os.listdir(gw.spool + "/deferred")
