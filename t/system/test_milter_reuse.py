"""A connection to an outside filter serves several sessions, one after the
other."""
import pytest
from milters import CONTINUE, HANG, REJECT, Milter, add_header
from postern import Instance, Sink, mail, wait_for

FILTER = {"eom": [add_header("X-A", "1"), CONTINUE]}


@pytest.fixture
def site():
    sink, milter = Sink(), Milter()
    milter.use(FILTER)
    made = []

    def make(**settings):
        gw = Instance(sink, start=False)
        made.append(gw)
        gw.set(**{"smtpd_milters": milter.where,
                  "smtpd_client_connection_count_limit": "0",
                  "smtpd_client_connection_rate_limit": "0",
                  "milter_connection_reuse_time_limit": "2s", **settings})
        gw.start()
        return gw, sink, milter
    yield make
    for gw in made:
        gw.destroy()
    milter.close()
    sink.close()


def session(gw, subject="hello"):
    with gw.client() as c:
        c.ehlo()
        r = c.message("a@client.example", "user@example.com", mail(subject))
        assert r.code == 250, r.text
        c.cmd("QUIT")


def told(milter):
    """What each connection was told, without what is said in between."""
    return [[stage for stage, *_ in s.told if stage in
             ("negotiate", "connect", "eom", "quit_nc", "quit")]
            for s in milter.sessions if any(t[0] == "eom" for t in s.told)]


def test_one_connection_for_sessions(site):
    gw, sink, milter = site()
    for i in range(3):
        session(gw, f"number {i}")
        wait_for("an idle connection", lambda: "idle_connections 1" in
                 gw.command("status").stdout)
    sink.wait(3)
    assert all(b"X-A: 1" in m.header for m in sink.messages)
    one, = told(milter)
    assert one.count("negotiate") == 1 and one.count("eom") == 3
    assert one.count("connect") == one.count("quit_nc") + 1
    # and it is not kept for long: a filter that is to end can
    wait_for("the end of the connection",
             lambda: told(milter)[0][-2:] == ["quit_nc", "quit"])


def test_no_reuse(site):
    gw, sink, milter = site(milter_connection_reuse_time_limit="0")
    session(gw)
    session(gw)
    wait_for("two connections", lambda: told(milter) == [
        ["negotiate", "connect", "eom", "quit"]] * 2)


def test_old_versions_have_none(site):
    gw, sink, milter = site(milter_protocol="5")
    session(gw)
    session(gw)
    wait_for("two connections", lambda: told(milter) == [
        ["negotiate", "connect", "eom", "quit"]] * 2)


def test_filter_restarts_meanwhile(site):
    gw, sink, milter = site(milter_connection_reuse_time_limit="60s")
    session(gw)
    milter.down()
    milter.up()
    milter.use(FILTER)
    session(gw)
    sink.wait(2)
    assert b"X-A: 1" in sink.messages[1].header


def test_hears_nothing_on_a_used_one(site):
    """It is asked on a new one, and is given no used one any more."""
    gw, sink, milter = site()
    milter.use({"connect": lambda s, what: HANG if any(
        t[0] == "quit_nc" for t in s.told) else None, **FILTER})
    for i in range(3):
        session(gw, f"number {i}")
        if i == 0:
            wait_for("an idle connection", lambda: "idle_connections 1" in
                     gw.command("status").stdout)
    sink.wait(3)
    assert all(b"X-A: 1" in m.header for m in sink.messages)
    wait_for("three connections", lambda: [
        [t for t in s if t != "quit_nc"][:3] for s in told(milter)] ==
        [["negotiate", "connect", "eom"]] * 3)
    assert [s.count("connect") for s in told(milter)] == [2, 1, 1]
    assert gw.log().count("each has its own from now on") == 1


def test_a_session_that_broke_off(site):
    """Its connection is in no state for another one, or is told ABORT."""
    gw, sink, milter = site()
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<gone@client.example>")
        c.cmd("RCPT TO:<user@example.com>")
    session(gw)
    got = sink.wait(1)
    s = next(s for s in milter.sessions
             if any(t[0] == "eom" for t in s.told))
    stages = [t[0] for t in s.told]
    if "quit_nc" in stages and stages.index("mail") < stages.index("quit_nc"):
        assert "abort" in stages[:stages.index("quit_nc")]


def test_a_decision_before_the_end(site):
    """It was told more: its connection ends with the decision.  From then on
    it is told one thing at a time, and keeps the connection."""
    gw, sink, milter = site()
    milter.use({"header": lambda s, h: REJECT if h[0] == b"X-Bad" else None,
                **FILTER})
    bad = b"X-Bad: yes\r\nTo: user@example.com\r\nSubject: bad\r\n\r\nno\r\n"
    with gw.client() as c:
        c.ehlo()
        for text, code in ((mail("one"), 250), (bad, 550), (bad, 550),
                           (mail("two"), 250)):
            r = c.message("a@client.example", "user@example.com", text)
            assert r.code == code, r.text
        c.cmd("QUIT")
    assert len(sink.wait(2)) == 2
    assert all(b"X-A: 1" in m.header for m in sink.messages)
    # how much it was told at once: of each message
    first, second = ([[stage for stage in read if stage in (
        "header", "eoh", "body", "eom")] for read in s.reads]
        for s in milter.sessions if s.args("mail"))
    first, second = [list(filter(None, f)) for f in (first, second)]
    assert len(first[0]) > 3 and first[0][-2:] == ["eoh", "body"]
    assert first[1] == ["eom"] and first[2][0] == "header"
    assert all(len(read) == 1 for read in second)
    # the refused one ends after its header, the other is told whole
    assert [r[0] for r in second].count("eom") == 1
    assert [r[0] for r in second][:2] == ["header", "header"]


def test_no_role_without_filters(site):
    gw, sink, milter = site(smtpd_milters="")
    session(gw)
    assert not gw.pids("milter")


def test_a_slow_filter_holds_up_only_its_own(site):
    """Of two sessions in one role, that of the quick one goes on."""
    gw, sink, milter = site()
    first = []

    def slowly(s, what):
        first.append(what)
        return HANG if len(first) == 1 else None
    milter.use({"mail": slowly, **FILTER})
    with gw.client() as slow:
        slow.ehlo()
        slow.send(b"MAIL FROM:<slow@client.example>\r\n")
        wait_for("the filter that thinks", lambda: first)
        session(gw)
        sink.wait(1)
    milter.down()
