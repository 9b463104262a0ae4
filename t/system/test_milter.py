"""Outside filters: each answer at each stage, and each change of a message.
What is expected holds for the gateway and for Debian's Postfix, which is
asked too in the long run; where it does otherwise stands beside."""
import pytest
from milter_mta import HEADERS, LATER, NO, TEXT, Talk, fields
from milters import (ACCEPT, CAN_SKIP, CLOSE, CONN_FAIL, CONTINUE, DISCARD,
                     PROGRESS, REJECT, SHUTDOWN, SKIP, TEMPFAIL, add_header,
                     add_rcpt, add_rcpt_args, body, change_from,
                     change_header, delete_rcpt, insert_header, quarantine,
                     reply)
from postern import mail

RCPTS = ["user@example.com", "b@example.com"]
BANNER = "554 gw.example.com ESMTP not accepting connections"
GONE = "421 4.7.0 Server closing connection"
# name: answer, what the client is told at the next chance
REFUSALS = {
    "reject": (REJECT, NO),
    "tempfail": (TEMPFAIL, LATER),
    "code 5xx": (reply("554 5.7.0 no way"), "554 5.7.0 no way"),
    "code 4xx": (reply("452 4.2.1 wait"), "452 4.2.1 wait"),
    "no status": (reply("550 plainly no"), "550 plainly no"),
    "percent": (reply("550 5.7.1 100%% sure"), "550 5.7.1 100% sure"),
    "lines": (reply("550-5.7.1 one\r\n550-5.7.1 two\r\n550 5.7.1 three"),
              "550-5.7.1 one\n550-5.7.1 two\n550 5.7.1 three"),
}
ENDINGS = {
    "shutdown": (SHUTDOWN, GONE),
    "421": (reply("421 4.7.0 go away"), "421 4.7.0 go away"),
}
BROKEN = {"close": CLOSE, "failure": CONN_FAIL, "skip": SKIP,
          "quarantine": [quarantine("bad"), CONTINUE],
          "change": [add_header("X-A", "1"), CONTINUE]}
STAGES = ("connect", "helo", "unknown", "mail", "unknown in mail", "rcpt",
          "data", "header", "eoh", "body", "eom")
MESSAGE = ("header", "eoh", "body", "eom")


def at(stage, text):
    """Where the client hears of it."""
    if stage == "connect" and text[0] == "5":
        return {"connect": BANNER, "mail": text}
    if stage in ("connect", "helo"):
        return {"mail": text}
    if stage == "rcpt":
        return {"rcpt": text, "rcpt2": text}
    return {{**dict.fromkeys(MESSAGE, "dot"), "unknown": "XYZZY",
             "unknown in mail": "XYZZY"}.get(stage, stage): text}


def matrix():
    """(stage, action): answer, what is not as usual, closed, arrives"""
    out = {}
    for stage in STAGES:
        unknown = stage.startswith("unknown")
        usual = {"XYZZY": "500 5.5.2 Error: command not recognized"} \
            if unknown else {}
        out[stage, "accept"] = ACCEPT, usual, False, True
        out[stage, "progress"] = ([PROGRESS, PROGRESS, CONTINUE], usual,
                                  False, True)
        if stage not in ("connect", "helo", "unknown"):
            out[stage, "discard"] = DISCARD, usual, False, False
        for name, (answer, text) in REFUSALS.items():
            out[stage, name] = answer, at(stage, text), False, unknown
        for name, (answer, text) in ENDINGS.items():
            bad = {"connect": "421 gw.example.com Service unavailable - "
                   "try again later"} if stage == "connect" else \
                {"helo": text} if stage == "helo" else \
                {k: text for k in list(at(stage, text))[:1]}
            out[stage, name] = answer, bad, True, False
        for name, answer in BROKEN.items():
            if stage == "eom" and name in ("quarantine", "change"):
                continue
            bad = at(stage, LATER)
            if stage == "unknown in mail":
                bad.update(at("rcpt", LATER))
            # mail that begins later has a filter again
            out[stage, name] = answer, bad, False, stage == "unknown"
    return out


MATRIX = matrix()
# What Postfix 3.7 does otherwise: what is not as usual, closed, arrives.
PECULIAR = {("unknown", "accept"): ({}, True, False)}       # it panics
for s in ("close", "failure", "change"):
    PECULIAR["unknown", s] = ({"XYZZY": LATER, "mail": LATER}, False, False)
for s in STAGES:
    # out of turn, and it does not mind
    PECULIAR[s, "skip"] = (MATRIX[s, "accept"][1], False, True)
for s in MESSAGE:
    PECULIAR[s, "shutdown"] = ({}, False, False)    # it loses the message


@pytest.mark.parametrize("stage,action", MATRIX,
                         ids=lambda v: v.replace(" ", "-"))
def test_answer(mta, stage, action):
    answer, bad, closed, arrives = MATRIX[stage, action]
    if mta.name == "postfix" and (stage, action) in PECULIAR:
        bad, closed, arrives = PECULIAR[stage, action]
        if closed:
            mta.expect_panic()
    if stage == "body" and action == "skip":
        # this is where it belongs, when it was negotiated
        mta.milter.use({"body": answer}, steps=CAN_SKIP)
        bad, closed, arrives = {}, False, True
    else:
        mta.milter.use({stage.split()[0]: answer})
    t = Talk(mta, rcpts=RCPTS,
             before=["XYZZY 1"] if stage == "unknown" else [],
             between=["XYZZY 1"] if stage == "unknown in mail" else [])
    got = mta.settled()
    if mta.name == "postfix" and (
            action == "quarantine" or (stage, action) == ("unknown", "accept")):
        # it takes the former at any time, and then loses its way
        assert t.bad != bad or closed
        return
    assert (t.bad, t.closed) == (bad, closed)
    assert [sorted(m.rcpts) for m in got] == [sorted(RCPTS)] * arrives
    assert not mta.queue()
    # whatever the filter did, it was shown what arrived
    if arrives and action in BROKEN and mta.name == "postern":
        assert mta.milter.told("eom")
    # who refused is in the log
    if bad and action in REFUSALS and stage != "connect":
        mta.wait_log(r"milter-reject: ")


@pytest.mark.parametrize("stage", ("connect", "helo", "unknown"))
def test_discard_of_no_message(mta, stage):
    """There is nothing to discard.  The filter is out of turn; no mail may
    be lost for that."""
    mta.milter.use({stage: DISCARD})
    t = Talk(mta, before=["XYZZY 1"] if stage == "unknown" else [])
    got = mta.settled()
    assert not t.closed
    if mta.name == "postfix" and stage == "unknown":
        assert not got and "dot" in t.replies       # it is lost
    else:
        assert len(got) == (t.replies.get("dot", "")[:3] == "250")
        assert got or t.bad["mail"] == LATER


@pytest.mark.parametrize("stage", ("connect", "helo", "mail", "rcpt", "data",
                                   "header", "eoh", "body"))
def test_accept_is_the_last_word(mta, stage):
    """Of a message, or a session; the next message is another matter."""
    mta.milter.use({stage: ACCEPT})
    with mta.client() as c:
        c.ehlo()
        for subject in ("first", "second"):
            assert c.message("a@client.example", RCPTS,
                             mail(subject)).code == 250
        c.cmd("QUIT")
    assert len(mta.settled()) == 2
    told = [s for s in mta.milter.last().stages() if s not in ("abort",
                                                               "quit")]
    assert told[-1] == stage
    assert told.count(stage) == (1 if stage in ("connect", "helo") else 2)


@pytest.mark.parametrize("answer", ("tempfail", "code 5xx", "reject"))
def test_one_recipient_is_refused(mta, answer):
    packet, text = REFUSALS[answer]
    mta.milter.use({"rcpt": lambda s, args: packet if b"user" in args[0]
                    else CONTINUE})
    t = Talk(mta, rcpts=["b@example.com", "user@example.com",
                         "c@example.com"])
    assert t.bad == {"rcpt2": text}
    got, = mta.settled()
    assert sorted(got.rcpts) == ["b@example.com", "c@example.com"]


def test_refused_at_data_and_sent_again(mta):
    """A transaction that a filter ended leaves nothing behind."""
    answers = [REJECT, CONTINUE]
    mta.milter.use({"eom": lambda s, args: answers.pop(0)})
    with mta.client() as c:
        c.ehlo()
        r = c.message("a@client.example", "user@example.com", mail("no"))
        assert r.text == NO
        assert c.cmd("RCPT TO:<user@example.com>").code == 503
        r = c.message("c@client.example", "b@example.com", mail("yes"))
        assert r.code == 250
        c.cmd("QUIT")
    got, = mta.settled()
    assert (got.sender, got.rcpts, got.field("Subject")) == (
        "c@client.example", ["b@example.com"], "yes")


# Changes: name, answers at the end of the message, and what is not as it was:
# header, body, recipients, sender; postfix: what that has instead.
def edit(name, *answers, postfix=None, **what):
    return pytest.param(answers, what, postfix or {},
                        id=name.replace(" ", "-"))


def added(*lines):
    return HEADERS + list(lines)


def inserted(place, *lines):
    return HEADERS[:place] + list(lines) + HEADERS[place:]


def changed(place, *lines):
    return HEADERS[:place] + list(lines) + HEADERS[place + 1:]


SUBJECT, DUP1, DUP2, FOLDED = (HEADERS.index(h) for h in (
    "Subject: hello", "X-Dup: first", "X-Dup:second", "X-Fold: one\r\n\ttwo"))
REFUSED = {"dot": LATER}
GREATER = [*sorted(RCPTS), "new@example.com"]
EDITS = [
    edit("add", add_header("X-A", "1"), header=added("X-A: 1")),
    edit("add lines", add_header("X-A", "1\n\ttwo\r\n three"),
         header=added("X-A: 1\r\n\ttwo\r\n three"),
         postfix={"header": added("X-A: 1\r\n\ttwo\r\r\n three")}),
    edit("add empty", add_header("X-A", ""), header=added("X-A:")),
    edit("add 8bit", add_header("X-A", "caf\u00e9"),
         header=added("X-A: caf\u00e9")),
    edit("add long", add_header("X-A", "v" * 900),
         header=added("X-A: " + "v" * 900)),
    edit("add Received", add_header("Received", "from x by y"),
         header=added("Received: from x by y")),
    edit("add two", add_header("X-A", "1"), add_header("X-A", "2"),
         header=added("X-A: 1", "X-A: 2")),
    # in front of so many, our Received among them
    edit("insert 0", insert_header(0, "X-A", "0"),
         header=inserted(0, "X-A: 0")),
    edit("insert 1", insert_header(1, "X-A", "1"),
         header=inserted(1, "X-A: 1")),
    edit("insert 3", insert_header(3, "X-A", "3"),
         header=inserted(3, "X-A: 3")),
    edit("insert 99", insert_header(99, "X-A", "99"), header=added("X-A: 99")),
    edit("insert last", insert_header(0xffffffff, "X-A", "1"),
         header=added("X-A: 1")),
    edit("insert two at 0", insert_header(0, "X-A", "0"),
         insert_header(0, "X-B", "0"), header=inserted(0, "X-B: 0", "X-A: 0")),
    edit("insert two at 1", insert_header(1, "X-A", "0"),
         insert_header(1, "X-B", "0"), header=inserted(1, "X-B: 0", "X-A: 0")),
    edit("change", change_header(1, "Subject", "new"),
         header=changed(SUBJECT, "Subject: new")),
    edit("change 0", change_header(0, "Subject", "new"),
         header=changed(SUBJECT, "Subject: new")),
    edit("change case", change_header(1, "SUBJECT", "new"),
         header=changed(SUBJECT, "SUBJECT: new")),
    edit("change 2nd that is not there", change_header(2, "Subject", "new"),
         header=added("Subject: new")),
    edit("change far", change_header(0xffffffff, "Subject", "new"),
         header=added("Subject: new")),
    edit("change what is not there", change_header(1, "X-None", "new"),
         header=added("X-None: new")),
    edit("change first of two", change_header(1, "X-Dup", "new"),
         header=changed(DUP1, "X-Dup: new")),
    edit("change second of two", change_header(2, "X-Dup", "new"),
         header=changed(DUP2, "X-Dup: new")),
    edit("change folded", change_header(1, "X-Fold", "new"),
         header=changed(FOLDED, "X-Fold: new")),
    edit("change our Received", change_header(1, "Received", "new"),
         header=added("Received: new")),
    edit("change what was added", add_header("X-A", "1"),
         change_header(1, "X-A", "2"), header=added("X-A: 2")),
    edit("delete", change_header(1, "Subject", ""), header=changed(SUBJECT)),
    edit("delete what is not there", change_header(2, "Subject", "")),
    edit("delete our Received", change_header(1, "Received", "")),
    edit("delete first of two", change_header(1, "X-Dup", ""),
         header=changed(DUP1)),
    edit("delete one and change the other", change_header(1, "X-Dup", ""),
         change_header(1, "X-Dup", "n"),
         header=[h for h in changed(DUP2, "X-Dup: n") if h != HEADERS[DUP1]]),
    edit("delete both", change_header(2, "X-Dup", ""),
         change_header(1, "X-Dup", ""),
         header=[h for h in HEADERS if "X-Dup" not in h]),
    edit("sender", change_from("<new@client.example>"),
         sender="new@client.example"),
    edit("sender bare", change_from("new@client.example"),
         sender="new@client.example"),
    edit("sender none", change_from("<>"), sender=""),
    edit("sender empty", change_from(""), sender=""),
    edit("sender twice", change_from("<x@client.example>"),
         change_from("<new@client.example>"), sender="new@client.example"),
    edit("sender arguments", change_from("<new@client.example>",
                                         "RET=HDRS ENVID=abc"),
         sender="new@client.example",
         said=["MAIL FROM:<new@client.example>", "RET=HDRS", "ENVID=abc"]),
    edit("sender bad arguments", change_from("<new@client.example>",
                                             "FOO=BAR"),
         sender="new@client.example"),
    edit("recipient", add_rcpt("<new@example.com>"), rcpts=GREATER),
    edit("recipient bare", add_rcpt("new@example.com"), rcpts=GREATER),
    edit("recipient with arguments", add_rcpt_args("<new@example.com>",
                                                   "NOTIFY=NEVER"),
         rcpts=GREATER, said=["RCPT TO:<new@example.com>", "NOTIFY=NEVER"]),
    edit("recipient no arguments", add_rcpt_args("<new@example.com>"),
         rcpts=GREATER),
    edit("recipient bad arguments", add_rcpt_args("<new@example.com>",
                                                  "FOO=BAR"), rcpts=GREATER),
    edit("recipient there already", add_rcpt("<user@example.com>"),
         postfix={"rcpts": sorted([*RCPTS, "user@example.com"])}),
    edit("recipient twice", add_rcpt("<new@example.com>"),
         add_rcpt("<new@example.com>"), rcpts=GREATER),
    edit("recipient deleted", delete_rcpt("<user@example.com>"),
         rcpts=["b@example.com"]),
    edit("recipient deleted bare", delete_rcpt("user@example.com"),
         rcpts=["b@example.com"]),
    edit("recipient deleted that is not there",
         delete_rcpt("<nobody@example.com>")),
    edit("recipients all deleted", delete_rcpt("<user@example.com>"),
         delete_rcpt("<b@example.com>"), rcpts=[]),
    edit("recipients replaced", delete_rcpt("<user@example.com>"),
         delete_rcpt("<b@example.com>"), add_rcpt("<new@example.com>"),
         rcpts=["new@example.com"]),
    edit("recipient added and deleted", add_rcpt("<new@example.com>"),
         delete_rcpt("<new@example.com>")),
    edit("recipient deleted and added", delete_rcpt("<user@example.com>"),
         add_rcpt("<user@example.com>")),
    edit("body", body("new\r\n"), body=b"new\r\n"),
    edit("body of LF lines", body("one\ntwo\n.three\n"),
         body=b"one\r\ntwo\r\n.three\r\n"),
    edit("body without an end", body("one"), body=b"one\r\n"),
    edit("body of nothing", body(""), body=b""),
    edit("body in pieces", body("one\r\nt"), body("wo\r\n"),
         body=b"one\r\ntwo\r\n"),
    edit("body split between CR and LF", body("one\r"), body("\ntwo\r\n"),
         body=b"one\r\ntwo\r\n"),
    edit("body of 8bit", body(b"caf\xe9\r\n"), body=b"caf\xe9\r\n"),
    edit("body with a dot", body("a\r\n.\r\n\r\nb\r\n"),
         body=b"a\r\n.\r\n\r\nb\r\n"),
    edit("body with a lone CR", body("one\rtwo\r\n"), body=b"one two\r\n",
         postfix={"body": b"one\rtwo\r\n"}),
    edit("body then header", body("new\r\n"), add_header("X-A", "1"),
         body=b"new\r\n", header=added("X-A: 1")),
    edit("header then body", add_header("X-A", "1"), body("new\r\n"),
         body=b"new\r\n", header=added("X-A: 1")),
    edit("body with a header between", body("one\r\n"),
         add_header("X-A", "1"), body("two\r\n"),
         body=b"one\r\ntwo\r\n", header=added("X-A: 1"),
         postfix={"bad": {"dot": "451 4.3.5 Server configuration problem - "
                          "try again later"}}),
    edit("body over the limit", *[body("x" * 60000 + "\r\n")] * 60,
         bad=REFUSED,
         postfix={"bad": {"dot": "552 5.3.4 Error: message file too big"}}),
    edit("all", change_from("<new@client.example>"),
         add_rcpt("<new@example.com>"), delete_rcpt("<b@example.com>"),
         insert_header(1, "X-First", "1"), add_header("X-Last", "1"),
         change_header(1, "Subject", "new"), body("new\r\n"),
         sender="new@client.example",
         rcpts=["new@example.com", "user@example.com"], body=b"new\r\n",
         header=["Received", "X-First: 1"] +
         changed(SUBJECT, "Subject: new")[1:] + ["X-Last: 1"]),
    edit("progress between", PROGRESS, add_header("X-A", "1"), PROGRESS,
         PROGRESS, add_header("X-B", "1"), header=added("X-A: 1", "X-B: 1")),
    # the rest of the answer decides
    edit("then accept", add_header("X-A", "1"), ACCEPT,
         header=added("X-A: 1")),
    edit("then reject", add_header("X-A", "1"), body("new\r\n"), REJECT,
         bad={"dot": NO}),
    edit("then tempfail", add_rcpt("<new@example.com>"), TEMPFAIL,
         bad=REFUSED),
    edit("then discard", add_rcpt("<new@example.com>"), DISCARD, rcpts=[]),
    edit("then the end", body("half\r\n"), CLOSE, bad=REFUSED),
    # names that are none, values that break out
    edit("name empty", add_header("", "v"), bad=REFUSED,
         postfix={"header": added(": v")}),
    edit("name with space", add_header("X A", "v"), bad=REFUSED,
         postfix={"header": added("X A: v")}),
    edit("name with colon", add_header("X-A:", "v"), bad=REFUSED,
         postfix={"header": added("X-A:: v")}),
    edit("name with control", add_header("X\1A", "v"), bad=REFUSED,
         postfix={"header": added("X\1A: v")}),
    edit("name with LF", insert_header(1, "X: 1\nEvil", "v"), bad=REFUSED,
         postfix={"header": inserted(1, "X: 1\r\n\tEvil: v")}),
    edit("name with CR", change_header(1, "X\rA", "v"), bad=REFUSED,
         postfix={"header": added("X\rA: v")}),
    edit("name of 8bit", add_header("X-\u00e9", "v"), bad=REFUSED,
         postfix={"header": added("X-\u00e9: v")}),
    edit("value with LF", add_header("X-A", "1\nX-Evil: yes"),
         header=added("X-A: 1\r\n\tX-Evil: yes")),
    edit("value with empty line", add_header("X-A", "1\n\nbody?"),
         header=added("X-A: 1\r\n\tbody?"),
         postfix={"header": added("X-A: 1\r\n\t\r\n\tbody?")}),
    edit("value ends with LF", add_header("X-A", "1\n"),
         header=added("X-A: 1"),
         postfix={"header": added("X-A: 1\r\n\t")}),
    edit("value with CR", add_header("X-A", "1\rX-Evil: yes"),
         header=added("X-A: 1 X-Evil: yes"),
         postfix={"header": added("X-A: 1\rX-Evil: yes")}),
    edit("sender with LF", change_from("<new\n@client.example>"),
         bad=REFUSED, postfix={"sender": "new@client.example"}),
    edit("recipient with CRLF", add_rcpt("<new\r\n@example.com>"),
         bad=REFUSED, postfix={"rcpts": GREATER}),
    edit("recipient empty", add_rcpt(""), bad=REFUSED, postfix={"bad": {}}),
]


@pytest.mark.parametrize("answers,what,postfix", EDITS)
def test_edit(mta, answers, what, postfix):
    if mta.name == "postfix" and postfix:
        what = {k: v for k, v in {**what, **postfix}.items()
                if k != "bad" or postfix.get("bad")}
    mta.milter.use({"eom": [*answers, CONTINUE]})
    t = Talk(mta, rcpts=RCPTS, text=TEXT)
    got = mta.settled()
    assert (t.bad, t.closed) == (what.get("bad", {}), False)
    rcpts = [] if "bad" in what else what.get("rcpts", RCPTS)
    assert sorted(r for m in got for r in m.rcpts) == sorted(rcpts)
    for m in got:
        assert m.sender == what.get("sender", "a@client.example")
        assert fields(m) == what.get("header", HEADERS)
        assert m.body == what.get("body", b"old body\r\n")
    if "said" in what:
        start, *words = what["said"]
        assert [c for c in mta.sink.commands if c.startswith(start)
                and set(words) <= set(c.split())], mta.sink.commands
    assert not mta.queue()


@pytest.mark.parametrize("answers", (
    [quarantine("it smells"), CONTINUE],
    [quarantine("it smells"), ACCEPT],
    [add_header("X-A", "1"), quarantine("it smells"), CONTINUE],
    [quarantine("first"), quarantine("it smells"), CONTINUE],
), ids=("continue", "accept", "edit", "twice"))
def test_quarantine(mta, answers):
    mta.milter.use({"eom": answers})
    t = Talk(mta, rcpts=RCPTS, text=TEXT)
    assert not t.bad and not mta.settled()
    assert mta.held() == [("a@client.example", sorted(RCPTS))]
    assert ("\nX-A: 1\n" in mta.held_text()) == (len(answers) == 3 and
                                               b"X-A" in answers[0])
    mta.wait_log("milter-hold: END-OF-MESSAGE .*(smells|triggers HOLD)")
    mta.tool("postsuper", "-H", "ALL")
    mta.tool("postqueue", "-f")
    assert len(mta.sink.wait(1)) == 1


@pytest.mark.parametrize("answer", (REJECT, TEMPFAIL, DISCARD),
                         ids=("reject", "tempfail", "discard"))
def test_quarantine_and_then_no(mta, answer):
    mta.milter.use({"eom": [quarantine("it smells"), answer]})
    t = Talk(mta)
    assert t.bad == {REJECT: {"dot": NO}, TEMPFAIL: {"dot": LATER},
                     DISCARD: {}}[answer]
    assert not mta.settled() and not mta.queue()


def test_reason_of_quarantine_is_made_harmless(mta):
    mta.milter.use({"eom": [quarantine("a\nqmgr: c\x1b[1m" + "x" * 3000),
                            CONTINUE]})
    assert not Talk(mta).bad and not mta.settled()
    assert len(mta.held()) == 1
    assert "\nqmgr: c" not in mta.log() and "\x1b" not in mta.log()
