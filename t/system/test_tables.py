"""Indexed tables: built by themselves, in force without any command, and
sendmail's files as they are."""
import os
import time

import pytest
from postern import wait_for


@pytest.fixture
def gw(make, sink):
    gw = make(sink, main={"relay_recipient_maps": "hash:recipients"},
              start=False)
    gw.write("recipients", "known@example.com x\n")
    gw.start()
    return gw


def rcpt(gw, address):
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<a@client.example>").code == 250
        return c.cmd(f"RCPT TO:<{address}>").code


def index(gw, name="recipients"):
    return gw.path(name + ".lmdb")


def test_built_at_the_start(gw):
    assert os.path.exists(index(gw))
    assert rcpt(gw, "known@example.com") == 250
    assert rcpt(gw, "KNOWN@Example.com") == 250
    assert rcpt(gw, "other@example.com") == 550


def test_edited_source_is_in_force(gw):
    with gw.client() as kept:
        kept.ehlo()
        gw.write("recipients", "known@example.com x\nnew@example.com x\n")
        wait_for("the new recipient",
                 lambda: rcpt(gw, "new@example.com") == 250, 10)
        # the old connection is still open
        assert kept.cmd("MAIL FROM:<a@client.example>").code == 250
        assert kept.cmd("RCPT TO:<known@example.com>").code == 250
    # the index that was built is no change of its own
    time.sleep(2.5)                     # longer than the watch takes
    assert gw.log().count("is in service") == 1


def test_broken_source_keeps_the_old(gw):
    gw.expect_log("recipients|stays in force")
    gw.write("recipients", "known@example.com x\nbroken\n")
    gw.wait_log(r"recipients:2: expected format")
    assert rcpt(gw, "known@example.com") == 250
    gw.write("recipients", "other@example.com x\n")
    # each smtpd has read the broken one, or already this one
    wait_for("the mended table", lambda: [
        rcpt(gw, f"{user}@example.com") for user in
        ("other", "other", "known", "known")] == [250, 250, 550, 550], 20)


def test_directory_of_others_is_not_written_to(make, sink):
    gw = make(sink, main={"relay_recipient_maps": "hash:shared/recipients"},
              start=False)
    os.mkdir(gw.path("shared"))
    os.chmod(gw.path("shared"), 0o777)
    gw.write("shared/recipients", "known@example.com x\n")
    gw.expect_log("read into memory")
    gw.start()
    assert not os.path.exists(index(gw, "shared/recipients"))
    assert rcpt(gw, "known@example.com") == 250
    assert rcpt(gw, "other@example.com") == 550
    gw.wait_log(r"shared/recipients.*read into memory")
    gw.write("shared/recipients", "other@example.com x\n")
    wait_for("the new recipient",
             lambda: rcpt(gw, "other@example.com") == 250, 10)


def test_sendmail_files(make, sink):
    gw = make(sink, main={
        "relay_domains": "sendmail-relay-domains:mail/relay-domains",
        "mynetworks": "",
        "transport_maps": "sendmail-mailertable:mail/mailertable",
    }, start=False)
    os.mkdir(gw.path("mail"))
    gw.write("mail/relay-domains", "# ours\nsendmail.example\n")
    gw.write("mail/mailertable",
             f"sendmail.example\tesmtp:[127.0.0.1]\n"
             f"gone.sendmail.example\terror:5.1.2:550 moved away\n")
    gw.start()
    assert rcpt(gw, "a@sendmail.example") == 250
    assert rcpt(gw, "a@sub.sendmail.example") == 250
    assert rcpt(gw, "a@elsewhere.example") in (454, 554)
    gw.write("mail/relay-domains", "elsewhere.example\n")
    wait_for("the new relay domain",
             lambda: rcpt(gw, "a@elsewhere.example") == 250, 10)
    assert rcpt(gw, "a@sendmail.example") in (454, 554)


def test_virtusertable_for_both(make, sink):
    """Addresses for the rewriting, errors for the refusal."""
    spec = "sendmail-virtusertable:virtusertable"
    gw = make(sink, main={
        "virtual_alias_maps": spec,
        "smtpd_recipient_restrictions": "check_recipient_access " + spec,
    }, start=False)
    gw.write("virtusertable", "sales@example.com\tjoe@example.com\n"
             "gone@example.com\terror:5.7.1:550 %1 has left\n"
             "nobody@example.com\terror:nouser No such user\n")
    assert gw.command("check").returncode == 0
    gw.start()
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@client.example>")
        assert c.cmd("RCPT TO:<sales@example.com>").code == 250
        r = c.cmd("RCPT TO:<gone@example.com>")
        assert r.code == 550 and "5.7.1" in r.text and "gone has left" in \
            r.text
        r = c.cmd("RCPT TO:<nobody@example.com>")
        assert r.code == 550 and "No such user" in r.text
        assert c.cmd("RCPT TO:<other@example.com>").code == 250
