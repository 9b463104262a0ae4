"""Real outside filters from Debian, as people run them."""
import os
import shutil
import time

import dkim
import pytest
from milter_daemons import SPAM, VIRUS, Filters
from milter_mta import Postern, Postfix, Talk, fields
from postern import mail, mail_with, wait_for

NAMES = ("dkim_sign", "dkim_verify", "dmarc", "clamav", "spamassassin",
         "mimedefang", "pymilter", "pmilter", "noop")
HOST = "gw.example.com"


class Rig:
    """A mail server with a service for each filter, and the filters, which
    are started by the first test that wants one."""

    def __init__(self, kind):
        self.filters = Filters(HOST)
        choices = {n: {"smtpd_milters": self.filters.where(n)} for n in NAMES}
        choices["both"] = {"smtpd_milters": " ".join(
            self.filters.where(n) for n in ("dkim_verify", "dmarc"))}
        choices["all"] = {"smtpd_milters": " ".join(
            self.filters.where(n) for n in ("noop", "pymilter",
                                            "dkim_sign"))}
        ahead = self.filters.where("pymilter")
        if kind is Postern:
            ahead = "{ " + ahead + ", pipelining = yes }"
        choices["pymilter_ahead"] = {"smtpd_milters": ahead}
        self.started = set()
        try:
            self.mta = kind(choices)
        except BaseException:
            self.filters.stop()
            raise

    def need(self, *names):
        for n in names:
            if n not in self.started:
                self.filters.start(n)
                self.started.add(n)

    def talk(self, setting, text, **kw):
        t = Talk(self.mta, setting, text=text, **kw)
        t.got = self.mta.settled()
        return t

    def close(self):
        try:
            # filters on libmilter do not end while somebody is connected
            self.mta.close()
        finally:
            self.filters.stop()


@pytest.fixture(scope="module", params=[
    pytest.param(Postern, id="postern"),
    pytest.param(Postfix, id="postfix", marks=pytest.mark.long)])
def rig_of(request):
    if os.getuid() != 0:
        pytest.skip("needs root")
    if request.param is Postfix and not shutil.which("postfix"):
        pytest.skip("needs Postfix")
    r = Rig(request.param)
    yield r
    r.close()


@pytest.fixture
def rig(request, rig_of):
    rig_of.mta.clean()
    since = len(rig_of.mta.log())
    yield rig_of
    if getattr(request.node, "failed_call", False):
        print(rig_of.mta.log()[since:])
        print(rig_of.filters.daemons.said())


def signed(rig, text, **kw):
    rig.need("dkim_sign")
    t = rig.talk("dkim_sign", text, **kw)
    assert not t.bad
    got, = t.got
    return got


def verifies(rig, text):
    name, key = rig.filters.keys()

    def record(asked, timeout=5):
        assert asked.decode().rstrip(".") == name
        return key.encode()
    return dkim.verify(text, dnsfunc=record)


ODD = {
    "plain": mail("one", b"text\r\n"),
    "empty body": mail("empty", b""),
    "no end": mail("no end", b"no end"),
    "blank lines": mail("blank", b"a\r\n\r\n\r\n\r\n"),
    "white space": mail("white", b"a  b \t \r\n \r\n  c\t\r\n"),
    "dots": mail("dots", b".\r\n..\r\n.a\r\n"),
    "8bit": mail("8bit", "caf\u00e9\r\n".encode()),
    "folded": mail("folded", b"x\r\n", X_Long="a\r\n\tb\r\n c"),
    "attached": mail_with("report.txt", b"x" * 5000),
    "long": mail("long", b"".join(b"%06d text\r\n" % i
                                  for i in range(50000))),
}


@pytest.mark.parametrize("name", ODD, ids=lambda n: n.replace(" ", "-"))
def test_signature_holds_inside(rig, name):
    """What opendkim signed is what the inside server gets."""
    got = signed(rig, ODD[name])
    assert got.field("DKIM-Signature")
    assert verifies(rig, got.text)
    # it does, and not only because anything would
    assert not verifies(rig, got.text.replace(b"Subject: ", b"Subject: x"))


def test_signature_of_several_filters(rig):
    """The last one signs what those before made of it."""
    rig.need("noop", "pymilter", "dkim_sign")
    t = rig.talk("all", mail("one", b"text\r\n"),
                 rcpts=["user@example.com", "b@example.com"])
    assert not t.bad
    assert t.got and all(m.body == b"TEXT\r\n" for m in t.got)
    for m in t.got:
        assert m.field("Subject") == "was one" and verifies(rig, m.text)


def test_verified(rig):
    rig.need("dkim_verify")
    got = signed(rig, mail("one", b"text\r\n"))
    rig.mta.clean()
    text = got.text.split(b"\r\n", 3)       # our own Received is not signed
    t = rig.talk("dkim_verify", got.text)
    assert not t.bad and text
    assert "dkim=pass" in t.got[0].text.decode().split("DKIM-Signature")[0]
    rig.mta.clean()
    t = rig.talk("dkim_verify", got.text.replace(b"text\r\n", b"test\r\n"))
    assert "dkim=fail" in t.got[0].text.decode().split("DKIM-Signature")[0]


def test_dmarc(rig):
    rig.need("dkim_verify", "dmarc")
    got = signed(rig, mail("one", b"text\r\n"))
    rig.mta.clean()
    t = rig.talk("both", got.text)
    assert not t.bad
    assert "dmarc=pass" in t.got[0].text.decode()
    rig.mta.clean()
    t = rig.talk("both", mail("forged", b"text\r\n"))
    assert list(t.bad) == ["dot"] and not t.got
    assert t.bad["dot"].startswith("550 5.7.1 ") and \
        "client.example" in t.bad["dot"]
    rig.mta.clean()
    t = rig.talk("both", mail("one").replace(b"client.example",
                                             b"other.example"))
    assert not t.bad
    assert "dmarc=none" in t.got[0].text.decode()


@pytest.mark.parametrize("setting", ("pymilter", "pymilter_ahead"))
def test_pymilter(rig, setting):
    rig.need("pymilter")
    t = rig.talk(setting, mail("one", b"text\r\n"), rcpts=[
        "user@example.com", "nobody@example.com", "b@example.com"])
    assert t.bad == {"rcpt2": "550-5.1.1 no such user\n"
                     "550 5.1.1 really not"}
    assert sorted(r for m in t.got for r in m.rcpts) == [
        "copy@example.com", "user@example.com"]
    for m in t.got:
        assert m.sender == "sample@client.example"
        assert m.body == b"TEXT\r\n" and m.field("Subject") == "was one"
        assert fields(m)[1] == "X-First: 1"
        assert m.field("X-Sample").startswith("id ")
    rig.mta.clean()
    t = rig.talk("pymilter", mail("hold this"))
    assert not t.bad and not t.got and len(rig.mta.held()) == 1


def test_nothing_behind_a_refusal(rig):
    """What was on its way to a filter on libmilter when it refused a header
    does not reach it, and the next message does."""
    rig.need("pymilter")
    said = rig.filters.dir + "/pymilter.said"
    open(said, "w").close()
    for i in range(3):
        t = rig.talk("pymilter_ahead", b"X-Refuse: yes\r\nX-More: 1\r\n" +
                     mail("one", b"text\r\n"))
        assert list(t.bad) == ["dot"] and t.bad["dot"].startswith("550")
        with open(said) as f:
            assert f.read() == "refused\n" * (i + 1)
        t = rig.talk("pymilter_ahead", mail("one", b"text\r\n"))
        assert not t.bad and t.got
        rig.mta.clean()


def test_version_2(rig):
    """Sendmail::PMilter."""
    rig.need("pmilter")
    t = rig.talk("pmilter", mail("one", b"text\r\n"), rcpts=[
        "user@example.com", "nobody@example.com"])
    assert list(t.bad) == ["rcpt2"]
    assert sorted(r for m in t.got for r in m.rcpts) == [
        "copy@example.com", "user@example.com"]
    for m in t.got:
        assert m.body == b"new\r\n" and m.field("Subject") == "changed"
        assert m.field("X-Sample") == "old"


def test_noop(rig):
    """Nothing is changed, and a session takes many messages."""
    rig.need("noop")
    body = b"".join(b"%06d text\r\n" % i for i in range(30000))
    with rig.mta.client("noop") as c:
        c.ehlo()
        for i in range(20):
            assert c.message("a@client.example", "user@example.com",
                             mail(str(i), body if i == 7 else b"x\r\n")
                             ).code == 250
        c.cmd("QUIT")
    got = rig.mta.settled()
    assert len(got) == 20
    assert [m.body for m in got if m.field("Subject") == "7"] == [body]


def test_filter_ends_when_it_is_told(rig):
    """A filter on libmilter does not end as long as a session is open: none
    is left open behind the last client."""
    rig.need("noop")
    rig.talk("noop", mail("one"))
    p = [p for p in rig.filters.daemons.running
         if "noop" in str(p.args[0])][-1]
    p.terminate()
    wait_for("the filter to end", lambda: p.poll() is not None, 60)
    rig.started.discard("noop")


@pytest.mark.long
def test_clamav(rig):
    rig.need("clamav")
    t = rig.talk("clamav", mail("clean", b"text\r\n"))
    assert not t.bad
    assert "Clean" in t.got[0].field("X-Virus-Status")
    for text in (mail("virus", b"x " + VIRUS + b" y\r\n"),
                 mail_with("report.txt", b"x" + VIRUS)):
        rig.mta.clean()
        t = rig.talk("clamav", text)
        assert t.bad["dot"].startswith("550 5.7.1 virus Postern.Test")
        assert not t.got


@pytest.mark.long
def test_spamassassin(rig):
    rig.need("spamassassin")
    t = rig.talk("spamassassin", mail("good", b"text\r\n",
                                      X_Spam_Status="No, says who"))
    assert not t.bad
    assert [f.split(",")[0] for f in fields(t.got[0])
            if f.startswith("X-Spam-Status")] == ["X-Spam-Status: No"]
    rig.mta.clean()
    t = rig.talk("spamassassin", mail("judge me", b"text\r\n"))
    assert not t.bad
    got, = t.got
    assert got.field("X-Spam-Flag") == "YES"
    assert got.field("X-Spam-Status").startswith("Yes, score=")
    # it puts a report around the message
    assert b"text" in got.body and got.field("Content-Type")
    rig.mta.clean()
    t = rig.talk("spamassassin", mail("spam", SPAM + b"\r\n"))
    assert t.bad["dot"].startswith("550 5.7.1 ") and not t.got


@pytest.mark.long
def test_mimedefang(rig):
    """It replaces bodies with lines that end with LF alone."""
    rig.need("mimedefang")
    time.sleep(1)
    t = rig.talk("mimedefang", mail("one", b"text\r\n"))
    assert not t.bad
    got, = t.got
    assert got.field("X-Checked") == "yes"
    assert got.body.endswith(b"checked\r\n") and b"text" in got.body
    assert b"\n" not in got.body.replace(b"\r\n", b"")
    rig.mta.clean()
    t = rig.talk("mimedefang", mail_with("evil.zzz"))
    assert not t.bad
    got, = t.got
    assert b"removed: evil.zzz" in got.body and b"TVogbm90" not in got.body
    assert b"\n" not in got.text.replace(b"\r\n", b"")
    rig.mta.clean()
    t = rig.talk("mimedefang", mail("bounce it"))
    assert t.bad["dot"].startswith("554 5.7.1 not this") and not t.got
