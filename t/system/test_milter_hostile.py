"""Outside filters that lie, stall, flood and die.  The client is told what
the settings say, no message is half changed, and nothing grows without a
limit.  Postfix is asked to show that the cases are what they claim."""
import itertools
import struct
import time

import pytest
from milter_mta import HEADERS, LATER, NO, TEXT, Talk, fields
from milters import (ACCEPT, CLOSE, CONTINUE, DISCARD, HANG, PROGRESS, REJECT,
                     RESET, SHUTDOWN, add_header, add_rcpt, body,
                     change_from, delete_rcpt, negotiate, packet, reply,
                     strings)
from postern import mail, wait_for

BROKEN = "550 5.5.0 Service unavailable"
ADD = add_header("X-A", "1")
EDIT_THEN = [ADD, add_rcpt("<new@example.com>"), body("half\r\n"),
             change_from("<new@client.example>")]


def length(n, rest=b""):
    return struct.pack("!I", n) + rest


def for_ever(session, data):
    for _ in itertools.count():
        session.send(data * 100)


# At the end of a message: none of these is an answer.
NO_ANSWERS = {
    "length 0": length(0),
    "length of all": length(0xffffffff, b"h" + b"x" * 5000),
    "length negative": length(0x80000001, b"c"),
    "length of a megabyte": length(1 << 20, b"h" + b"x" * 5000),
    "length cut": [b"\0\0", CLOSE],
    "packet cut": [ADD[:-3], CLOSE],
    "packet cut and reset": [ADD[:-3], RESET],
    "closed": CLOSE,
    "reset": RESET,
    "no such code": packet("Z"),
    "code NUL": packet(b"\0"),
    "code 8bit": packet(b"\xff"),
    "command": packet("M", b"<x@y>\0"),
    "negotiation again": negotiate(),
    "header without NUL": [packet("h", b"X-A: 1"), CONTINUE],
    "header without value": [packet("h", b"X-A\0"), CONTINUE],
    "header with its end cut": [packet("h", b"X-A\0v"), CONTINUE],
    "header of three strings": [packet("h", b"X-A\0v\0w\0"), CONTINUE],
    "header of nothing": [packet("h"), CONTINUE],
    "index cut": [packet("i", b"\0\0\1"), CONTINUE],
    "index alone": [packet("m", b"\0\0\0\1"), CONTINUE],
    "sender of nothing": [packet("e"), CONTINUE],
    "sender without NUL": [packet("e", b"<new@client.example>"), CONTINUE],
    "sender of three strings": [packet("e", strings("<a@b>", "X=1", "Y=2")),
                                CONTINUE],
    "recipient of nothing": [packet("+"), CONTINUE],
    "recipient of two strings": [packet("+", strings("<a@b>", "X=1")),
                                 CONTINUE],
    "recipient without NUL": [packet("2", b"<new@example.com>"), CONTINUE],
    "no recipient to delete": [packet("-"), CONTINUE],
    "reason without NUL": [packet("q", b"bad"), CONTINUE],
    "reason of nothing": [packet("q"), CONTINUE],
    "reply without NUL": packet("y", b"550 5.7.1 no"),
    "reply of nothing": packet("y"),
    "reply empty": reply(""),
    "reply without digits": reply("no way"),
    "reply of two digits": reply("55"),
    "reply of four digits": reply("5500 no"),
    "reply 250": reply("250 2.0.0 Ok"),
    "reply 354": reply("354 go on"),
    "reply 600": reply("600 x"),
    "reply of two codes": reply("550-5.7.1 x\r\n250 2.0.0 Ok"),
    "reply of two refusals": reply("550-5.7.1 x\r\n450 4.7.1 y"),
    "reply hides another": reply("550 5.7.1 x\r\n250 2.0.0 Ok: queued"),
    "reply with LF": reply("550 5.7.1 x\n250 2.0.0 Ok: queued"),
    "reply that goes on": reply("550-5.7.1 x\r\n550-5.7.1 y"),
    "reply of many lines": reply("550-5.7.1 x\r\n" * 200 + "550 5.7.1 x"),
    "reply of a long line": reply("550 5.7.1 " + "x" * 5000),
    "two strings in a reply": packet("y", b"550 5.7.1 x\0 250 ok\0"),
    "1001 headers": [ADD * 1001, CONTINUE],
    "5000 recipients": [b"".join(add_rcpt(f"<u{i}@example.com>")
                                 for i in range(5000)), CONTINUE],
    "two megabytes of headers": [add_header("X-A", "v" * 60000) * 35,
                                 CONTINUE],
    "progress for ever": lambda s, told: for_ever(s, PROGRESS),
    "body for ever": lambda s, told: for_ever(s, body("x" * 60000)),
    "headers for ever": lambda s, told: for_ever(s, ADD),
}
# Postfix 3.7 takes these for answers and passes them on, or waits for more.
TAKEN_BY_POSTFIX = {
    "reply hides another", "reply of many lines", "1001 headers",
    "5000 recipients", "two megabytes of headers", "progress for ever",
    "headers for ever", "body for ever", "reply of a long line",
    "reply of two codes", "reply of two refusals", "reply that goes on",
    "reply with LF", "reply of two digits", "reply of four digits",
    "reason without NUL", "reason of nothing",
}
ours = pytest.mark.ours


def cases(table, not_for_postfix):
    return [pytest.param(name, id=name.replace(" ", "-"),
                         marks=ours if name in not_for_postfix else ())
            for name in table]


def unharmed(got):
    """One message, as it came."""
    m, = got
    assert (m.sender, m.rcpts) == ("a@client.example", ["user@example.com"])
    assert fields(m) == HEADERS and m.body == b"old body\r\n"


@pytest.mark.parametrize("name", cases(NO_ANSWERS, TAKEN_BY_POSTFIX))
def test_no_answer(mta, name):
    mta.milter.use({"eom": [ADD, NO_ANSWERS[name]]})
    t = Talk(mta, "short", text=TEXT)
    assert not mta.settled() and not mta.queue()
    if mta.name == "postfix":
        assert list(t.bad) == ["dot"]
        return
    assert (t.bad, t.closed) == ({"dot": LATER}, False)
    mta.wait_log(r"warning: .*(milter|filter)")
    mta.clean()
    mta.milter.use({"eom": [*EDIT_THEN, NO_ANSWERS[name]]})
    t = Talk(mta, "short_accept", text=TEXT)
    assert not t.bad and not t.closed
    unharmed(mta.settled())


@ours
@pytest.mark.parametrize("answer,text", (
    ("550 2.1.0 mixed", "550 5.1.0 mixed"),
    ("450 5.1.0 mixed", "450 4.1.0 mixed"),
    ("550 5.7.1 a\tb\x01c\x7fd", "550 5.7.1 a?b?c?d"),
    ("550", "550 5.7.1"),
    ("550-5.7.1 x\r\n550-\r\n550 5.7.1 y",
     "550-5.7.1 x\n550-\n550 5.7.1 y"),
), ids=("status-2", "status-5", "control", "code-alone", "empty-line"))
def test_reply_made_harmless(mta, answer, text):
    """What the client sees is a reply of that code, of printable text."""
    mta.milter.use({"rcpt": reply(answer)})
    t = Talk(mta)
    got = t.bad["rcpt"].split("\n")
    want = text.split("\n")
    assert len(got) == len(want)
    for g, w in zip(got, want):
        assert g[:3] == w[:3] and g.isprintable()
        if answer != "550":
            assert g == w


NEGOTIATIONS = {
    "closed": CLOSE, "reset": RESET,
    "nothing in it": packet("O"), "cut": packet("O", b"\0\0\0\6\0\0"),
    "length 0": length(0), "length of all": length(0xffffffff, b"O"),
    "go on": CONTINUE, "accept": ACCEPT, "reject": REJECT,
    "version 0": negotiate(0), "version 1": negotiate(1),
    "version 7": negotiate(7), "version of all": negotiate(0xffffffff),
    "actions that are none": negotiate(6, 0xffffffff),
    "steps that are none": negotiate(6, 0x1ff, 0xffffffff),
    "macros cut": negotiate()[:3] + b"\x10" + negotiate()[4:] + b"\0\0\0",
    "macros of no stage": negotiate(macros={99: "i"}),
    "macros without end": negotiate(macros={0: "x" * 100000}),
    "SMTP": b"220 mail.example.com ESMTP\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}
NEGOTIATED_BY_POSTFIX = {"version 7", "version of all", "version 0",
                         "version 1", "actions that are none",
                         "steps that are none", "macros cut",
                         "macros of no stage", "macros without end"}


@pytest.mark.parametrize("name", cases(NEGOTIATIONS, NEGOTIATED_BY_POSTFIX))
def test_negotiation(mta, name):
    mta.milter.use({"negotiate": NEGOTIATIONS[name]})
    t = Talk(mta, "short")
    assert t.bad == {"mail": LATER} and not mta.settled()
    if mta.name == "postern":
        assert not Talk(mta, "short_accept", text=TEXT).bad
        unharmed(mta.settled())


@ours
@pytest.mark.parametrize("script,stage", (
    ({"negotiate": negotiate() + CONTINUE}, "mail"),
    ({"connect": CONTINUE * 2}, "mail"),
    ({"helo": CONTINUE + REJECT}, "mail"),
    ({"mail": CONTINUE + REJECT}, "rcpt"),
    ({"rcpt": CONTINUE * 2 + ACCEPT}, "data"),
    ({"data": CONTINUE + DISCARD}, "dot"),
    ({"header": CONTINUE * 2}, "dot"),
    ({"body": CONTINUE + ADD + CONTINUE}, "dot"),
), ids=("negotiate", "connect", "helo", "mail", "rcpt", "data", "header",
        "body"))
def test_answers_before_it_is_asked(mta, script, stage):
    mta.milter.use(script)
    t = Talk(mta, "short", text=TEXT)
    got = mta.settled()
    # known when the next thing is asked at the latest
    order = ["mail", "rcpt", "data", "dot"]
    assert not got and len(t.bad) == 1 and not t.closed
    where, = t.bad
    assert t.bad[where] == LATER
    assert order.index(where) <= order.index(stage)


@ours
@pytest.mark.parametrize("more", (CONTINUE, REJECT, ADD, b"\0\0\0\0",
                                  PROGRESS),
                         ids=("go-on", "reject", "edit", "junk", "progress"))
def test_more_behind_the_last_answer(mta, more):
    """The message is settled; it is the next one that gets no filter."""
    mta.milter.use({"eom": CONTINUE + more})
    with mta.client("short") as c:
        c.ehlo()
        r = c.message("a@client.example", "user@example.com", TEXT)
        first = r.code == 250
        assert first or r.text == LATER
        r = c.cmd("MAIL FROM:<a@client.example>")
        if r.code == 250:
            r = c.cmd("RCPT TO:<user@example.com>")
        assert r.text == LATER
        c.cmd("QUIT")
    got = mta.settled()
    assert len(got) == first
    assert not got or fields(got[0]) == HEADERS


@pytest.mark.parametrize("stage", [
    pytest.param(s, marks=() if s in ("helo", "rcpt", "eom") else
                 pytest.mark.long)
    for s in ("negotiate", "connect", "helo", "mail", "rcpt", "data",
              "unknown", "header", "eoh", "body", "eom")])
def test_never_answers(mta, stage):
    mta.milter.use({stage: HANG})
    t = Talk(mta, "short", before=["XYZZY"] if stage == "unknown" else [])
    want = {"negotiate": "mail", "connect": "mail", "helo": "mail",
            "unknown": "XYZZY"}.get(stage, "dot" if stage in (
                "header", "eoh", "body", "eom") else stage)
    assert t.bad.pop(want) == LATER and not t.closed
    assert set(t.bad.values()) <= {LATER}
    # here, mail that begins after that has a filter again
    assert len(mta.settled()) == (stage == "unknown" and
                                  mta.name == "postern")
    assert not mta.queue()


def dribble(session, told):
    """A header that never ends, and always comes."""
    session.send(length(200000, b"hX-A\0"))
    while True:
        session.send(b"x")
        time.sleep(0.05)


# Postfix waits as long as bytes come.
@ours
@pytest.mark.long
def test_answers_byte_for_byte(mta):
    mta.milter.use({"eom": dribble})
    t = Talk(mta, "short")
    assert t.bad == {"dot": LATER}


DEFAULTS = {"tempfail": LATER, "reject": BROKEN, "accept": None,
            "quarantine": None, "shutdown": "421"}
DEATHS = ("down", "negotiate", "connect", "helo", "mail", "rcpt", "data",
          "header", "eoh", "body", "eom")


@pytest.mark.parametrize("setting", DEFAULTS)
@pytest.mark.parametrize("stage", DEATHS)
def test_dies(mta, stage, setting):
    """Before, and at each stage."""
    if stage == "down":
        mta.milter.down()
    else:
        mta.milter.use({stage: CLOSE})
    t = Talk(mta, setting, text=TEXT)
    got = mta.settled()
    wants = DEFAULTS[setting]
    where = "mail" if stage in DEATHS[:5] else \
        "dot" if stage in DEATHS[7:] else stage
    if setting == "shutdown" and mta.name == "postern":
        assert t.closed and not got
        (where, text), = t.bad.items()
        assert text.startswith("421 ")
    elif wants and setting != "shutdown":
        assert t.bad.pop(where) == wants and not t.closed
        assert set(t.bad) <= {"connect"} and not got
    assert bool(mta.held()) == (setting == "quarantine")
    if setting == "accept":
        unharmed(got)
    if setting == "quarantine":
        assert not t.bad and not got
        mta.wait_log("milter-hold: .*(default_action|HOLD)")


# Postfix 3.7 commits what came, or loses the message.
@ours
@pytest.mark.parametrize("setting", ("accept", "tempfail", "quarantine"))
@pytest.mark.parametrize("answers", (
    [ADD], [body("half\r\n")], [change_from("<new@client.example>")],
    [add_rcpt("<new@example.com>")], [delete_rcpt("<user@example.com>")],
    EDIT_THEN,
), ids=("header", "body", "sender", "add", "delete", "all"))
def test_half_of_the_changes(mta, answers, setting):
    """A filter that dies in the middle has changed nothing."""
    mta.milter.use({"eom": [*answers, CLOSE]})
    t = Talk(mta, setting, text=TEXT)
    got = mta.settled()
    if setting == "tempfail":
        assert t.bad == {"dot": LATER} and not got
    elif setting == "accept":
        assert not t.bad
        unharmed(got)
    else:
        assert not t.bad and not got
        assert mta.held() == [("a@client.example", ["user@example.com"])]
        text = mta.held_text()
        assert "X-A:" not in text and "old body" in text
        mta.tool("postsuper", "-H", "ALL")
        mta.tool("postqueue", "-f")
        unharmed(mta.sink.wait(1))


def test_broken_once(mta):
    """A transaction keeps to its failure; the next one has a filter again, or
    in Postfix the next session."""
    answers = [packet("Z")]
    mta.milter.use({"rcpt": lambda s, told: answers.pop() if answers else
                    None, "eom": [ADD, CONTINUE]})
    with mta.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@client.example>")
        for _ in range(3):
            assert c.cmd("RCPT TO:<user@example.com>").text == LATER
        c.cmd("RSET")
        if mta.name == "postern":
            assert c.message("a@client.example", "user@example.com",
                             mail("again")).code == 250
    assert not Talk(mta).bad
    got = mta.settled()
    assert len(got) == (2 if mta.name == "postern" else 1)
    assert all("X-A: 1" in fields(m) for m in got)


@pytest.mark.parametrize("between", ("messages", "sessions"))
def test_restarted(mta, between):
    """A filter that goes away while it is idle and comes back."""
    with mta.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("one")).code == 250
        if between == "sessions":
            c.cmd("QUIT")
        mta.milter.down()
        mta.milter.up()
        if between == "messages":
            r = c.cmd("MAIL FROM:<a@client.example>")
            assert r.code == 250 or r.text == LATER
            c.cmd("QUIT")
    assert not Talk(mta, subject="two").bad
    assert len(mta.settled()) == 2


def role_memory(mta):
    """The most that any process of the role held, in bytes."""
    most = 0
    for pid, role in mta.gw.processes().items():
        if role == "milter":
            with open(f"/proc/{pid}/status") as f:
                for line in f:
                    if line.startswith("VmHWM:"):
                        most = max(most, int(line.split()[1]) << 10)
    return most


@ours
def test_floods_are_bounded(mta):
    """Twenty sessions at once whose filter floods each."""
    floods = itertools.cycle((ADD, body("x" * 60000), PROGRESS,
                              add_rcpt("<x@example.com>"),
                              reply("550-x\r\n" * 1000 + "550 x")))
    mta.milter.use({"eom": lambda s, told: for_ever(s,
                                                             next(floods))})
    before = role_memory(mta)
    clients = [mta.client() for _ in range(20)]
    for c in clients:
        c.ehlo()
        c.envelope("a@client.example", "user@example.com")
        assert c.cmd("DATA").code == 354
    for c in clients:
        c.send(b"Subject: flood\r\n\r\nx\r\n.\r\n")
    for c in clients:
        assert c.reply().text == LATER
        c.close()
    assert before and role_memory(mta) - before < 20 * (8 << 20)
    assert not mta.settled()


def test_slow_filter_stalls_nobody(mta):
    """One session waits for its filter; others go on."""
    mta.milter.use({"eom": lambda s, told: HANG if
                    (b"Subject", b"slow") in s.headers() else CONTINUE})
    with mta.client("tempfail") as slow:
        slow.ehlo()
        slow.envelope("a@client.example", "user@example.com")
        assert slow.cmd("DATA").code == 354
        slow.send(mail("slow") + b".\r\n")
        wait_for("the slow one", lambda: [
            s for s in mta.milter.sessions if s.args("eom")])
        for i in range(10):
            assert not Talk(mta, subject=f"quick {i}").bad
    mta.milter.hang_up()
    assert len(mta.sink.wait(10)) == 10


@pytest.mark.long
def test_thousand_sessions(mta):
    """All of them in the filter at once, and then all let go."""
    count = 1000 if mta.name == "postern" else 50
    gate = []
    mta.milter.use({"rcpt": lambda s, told: wait_for(
        "the gate", lambda: gate, 120) and CONTINUE})
    clients = []
    try:
        for i in range(count):
            c = mta.client("patient", timeout=120)
            clients.append(c)
            c.ehlo()
            assert c.cmd(f"MAIL FROM:<a{i}@client.example>").code == 250
            c.send(b"RCPT TO:<user@example.com>\r\n")
        wait_for("all to be told", lambda: len(mta.milter.told("rcpt")) ==
                 count, 60)
        gate.append(True)
        for c in clients:
            assert c.reply().code == 250
        for c in clients:
            assert c.data_cmd(mail("many")).code == 250
    finally:
        gate.append(True)
        for c in clients:
            c.close()
    wait_for("all inside", lambda: len(mta.sink.messages) == count, 60)
    assert len({m.sender for m in mta.sink.messages}) == count


def test_hang_up_is_told_once(mta):
    """421 ends the session there and then; the filter is told."""
    mta.milter.use({"rcpt": SHUTDOWN})
    t = Talk(mta, rcpts=["user@example.com", "b@example.com"])
    assert list(t.bad) == ["rcpt"] and t.closed
    s = mta.milter.last()
    wait_for("the end", lambda: s.ended.is_set() or "quit_nc" in s.stages())
    assert len(s.args("rcpt")) == 1


def test_no_means_no(mta):
    """A refusal behind changes: nothing of them, and nothing kept."""
    mta.milter.use({"eom": [*EDIT_THEN, REJECT]})
    t = Talk(mta, text=TEXT)
    assert t.bad == {"dot": NO} and not mta.settled() and not mta.queue()
