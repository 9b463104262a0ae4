"""What becomes of postern-milter, its restrictions and its mail server when
something breaks down or changes."""
import contextlib
import os
import re
import signal

import pytest
from pmilter_help import (HAVE_POSTFIX, HAVE_SENDMAIL, Mta, Postfix,
                          PosternMilter, Sendmail)
from postern import BIN, Sink, mail, wait_for
from test_lookup import NameServer, ip

pytestmark = pytest.mark.skipif(
    not os.path.exists(f"{BIN}/postern-milter"), reason="no libmilter-dev")
need_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
A = 1


@pytest.fixture
def made():
    out = []
    yield out
    for m in reversed(out):
        m.destroy()


def milter(made, rcpt="bad@example.com REJECT\n", unix=False, **main):
    made.append(PosternMilter(unix=unix, main={
        "role_processes": "1",
        "header_checks": "regexp:$config_directory/header_checks",
        "postern_milter_restrictions": "smtpd_recipient_restrictions",
        "smtpd_recipient_restrictions": "check_recipient_access "
        "texthash:$config_directory/rcpt", **main}, args=["-s", "666"], files={
            "rcpt": rcpt, "header_checks": "/^Subject: bad/ REJECT bad\n"}))
    return made[-1]


def rcpt(mta, address):
    """A letter, or the text of a reply."""
    mta.send(b"R<" + address.encode() + b">\0")
    kind, data = mta.packet()
    return data.rstrip(b"\0").decode() if kind == b"y" else kind.decode()


def begun(m):
    mta = Mta(m)
    mta.connect()
    mta.begin(rcpts=())
    return mta


# -- changes -------------------------------------------------------------------


def test_rules_change_under_a_connection(made):
    m = milter(made)
    mta = begun(m)
    assert rcpt(mta, "bad@example.com").startswith("554 5.7.1 ")
    assert rcpt(mta, "new@example.com") == "c"
    m.write("rcpt", "new@example.com 550 5.7.5 new rule\n")
    m.wait_log("reloaded: generation 2")
    assert rcpt(mta, "bad@example.com") == "c"
    assert rcpt(mta, "new@example.com").startswith("550 5.7.5 ")
    wait_for("the end of the old ones", lambda: (
        len(m.children("policy")), len(m.children("lookup"))) == (1, 1))
    m.expected += ["rcpt:1", "the restrictions cannot be used"]
    m.write("rcpt", "x@example.com FOO\n")
    m.wait_log("the old ones stay in charge")
    assert rcpt(mta, "new@example.com").startswith("550 5.7.5 ")
    assert re.search(r"rcpt:1: unknown action or restriction", m.log())
    mta.close()


def test_hits_are_counted(made):
    m = milter(made)
    mta = begun(m)
    for _ in range(3):
        assert rcpt(mta, "bad@example.com").startswith("554 ")
    assert rcpt(mta, "user@example.com") == "c"
    mta.text(mail("bad"))
    assert mta.end()[-1][0] == b"y"
    mta.close()

    def rows():
        os.kill(m.pid, signal.SIGUSR1)
        return dict(re.findall(r"status: rule \S+/(\w+:1): (\d+) hits, 0 of "
                               r"them only warned, \2 in the last hour", m.log()))
    wait_for("all hits", lambda: rows() == {"rcpt:1": "3",
                                            "header_checks:1": "1"})


def test_what_needs_a_new_start(made):
    """pmilter's sessions were agreed on with the old settings."""
    m = milter(made)
    with open(m.etc + "/main.cf") as f:
        text = f.read()
    m.expected += ["the change needs a new start", "is not evaluated here"]
    m.write("main.cf", text + "smtpd_delay_reject = no\n"
            "postern_milter_restrictions =\n")
    m.wait_log("reloaded: generation 2")
    assert "smtpd_delay_reject: the change needs a new start" in m.log()
    assert "postern_milter_restrictions: the change needs a new" in m.log()
    mta = begun(m)
    try:
        assert rcpt(mta, "bad@example.com").startswith("554 ")
    finally:
        mta.close()


# -- breakdowns ----------------------------------------------------------------


def test_policy_is_killed(made):
    """What it was asked fails, what comes then waits for the next one."""
    m = milter(made)
    m.expected += ["killed by signal 9", "could not be evaluated"]
    mta = begun(m)
    for _ in range(2):
        pid, = m.children("policy")
        os.kill(pid, signal.SIGSTOP)
        mta.send(b"R<bad@example.com>\0")
        os.kill(pid, signal.SIGKILL)
        # it may have died before it was asked
        assert mta.packet()[1][:9] in (b"451 4.3.0", b"554 5.7.1")
        assert rcpt(mta, "bad@example.com").startswith("554 5.7.1 ")
        assert m.children("policy") != [pid]
    assert rcpt(mta, "user@example.com") == "c"
    mta.text(mail("bad"))
    assert mta.end()[-1] == (b"y", b"550 5.7.1 bad\0")


@pytest.mark.long
def test_policy_is_silent(made):
    m = milter(made, postern_milter_restrictions_time_limit="1s")
    m.expected += ["killed by signal 9", "could not be evaluated",
                   "broke the rules"]
    mta = begun(m)
    pid, = m.children("policy")
    os.kill(pid, signal.SIGSTOP)
    assert rcpt(mta, "user@example.com").startswith("451 4.3.0 ")
    assert rcpt(mta, "bad@example.com").startswith("554 5.7.1 ")
    assert m.children("policy") != [pid]
    mta.close()


def test_names_that_nobody_knows_in_time(made):
    """sendmail would give the filter up after 10 seconds."""
    with contextlib.closing(NameServer({
            ("silent.example", A): "silence",
            ("silent.example", 15): "silence",
            ("silent.example", 28): "silence"}).s) as s:
        m = milter(made, dns_resolvers="127.0.0.1@%d" % s.getsockname()[1],
                   postern_milter_restrictions_time_limit="1s",
                   smtpd_recipient_restrictions="check_recipient_access "
                   "texthash:$config_directory/rcpt, "
                   "reject_unknown_recipient_domain, reject_rbl_client "
                   "silent.example")
        mta = begun(m)
        assert rcpt(mta, "user@silent.example").startswith("450 4.1.2 ")
        assert rcpt(mta, "bad@example.com").startswith("554 5.7.1 ")
        mta.close()


def test_lookup_is_killed(made):
    dns = NameServer({("known.example", A): [ip("192.0.2.1")]})
    with contextlib.closing(dns.s):
        m = milter(made, dns_resolvers=dns.address,
                   smtpd_recipient_restrictions="check_recipient_access "
                   "texthash:$config_directory/rcpt, "
                   "reject_unknown_recipient_domain")
        m.expected += ["killed by signal 9"]
        mta = begun(m)
        assert rcpt(mta, "user@known.example") == "c"
        pid, = m.children("lookup")
        os.kill(pid, signal.SIGKILL)
        assert rcpt(mta, "bad@example.com").startswith("554 5.7.1 ")
        wait_for("another lookup that is asked",
                 lambda: rcpt(mta, "user@known.example") == "c" or None)
        assert rcpt(mta, "user@else.example").startswith("450 4.1.2 ")
        assert m.children("lookup") != [pid]
        mta.close()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("server", [
    pytest.param(Sendmail, marks=pytest.mark.skipif(
        not HAVE_SENDMAIL, reason="no sendmail (t/peers/sendmail fetch)")),
    pytest.param(Postfix, marks=pytest.mark.skipif(
        not HAVE_POSTFIX, reason="no Postfix"))])
@need_root
def test_keeper_is_killed(made, server):
    """Nothing stays running, the mail server has its default action, and a
    new start finds no obstacle."""
    sink = Sink()
    # sendmail trusts no socket below /tmp
    m, peer = milter(made, unix=server is Postfix), None
    m.expected += ["master is gone", "master has gone"]
    try:
        peer = server(m, sink)
        with peer.client() as c:
            c.ehlo()
            assert c.message("a@client.example", "user@example.com",
                             mail("bad")).text.startswith("550 5.7.1 bad")
        pids = m.children()
        assert len(pids) == 4
        os.kill(m.pid, signal.SIGKILL)
        wait_for("the end of all", lambda: not any(map(alive, pids)))
        wait_for("the end of postern-milter", lambda: not alive(m.pid))
        m.pid = None
        with peer.client() as c:
            c.ehlo()
            replies = [c.cmd("MAIL FROM:<a@client.example>"),
                       c.cmd("RCPT TO:<user@example.com>")]
            assert any(400 <= r.code < 500 for r in replies), replies
        assert not sink.messages
        m.start()
        with peer.client() as c:
            c.ehlo()
            assert c.cmd("MAIL FROM:<a@client.example>").code == 250
            assert c.cmd("RCPT TO:<bad@example.com>").code == 554
            assert c.cmd("RSET").code == 250
            assert c.message("a@client.example", "user@example.com",
                             mail("fine")).code == 250
        sink.wait(1)
    finally:
        if peer:
            peer.destroy()
        sink.close()


@pytest.mark.long
def test_keeper_is_killed_under_a_message(made):
    """It is judged; more are not taken."""
    m = milter(made)
    m.expected += ["master is gone", "master has gone"]
    mta = begun(m)
    assert rcpt(mta, "user@example.com") == "c"
    pids = m.children()
    os.kill(m.pid, signal.SIGKILL)
    m.pid = None
    mta.text(mail("bad"))
    assert mta.end()[-1][0] == b"y"
    mta.close()
    wait_for("the end of all", lambda: not any(map(alive, pids)))
