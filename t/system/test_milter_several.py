"""Several outside filters in order, and the settings that choose them."""
import os

import pytest
from milter_mta import HEADERS, LATER, NO, TEXT, Talk, fields
from milters import (ACCEPT, CLOSE, CONTINUE, DISCARD, LEADING_SPACE,
                     OLD_ACTIONS, REJECT, TEMPFAIL, add_header, add_rcpt, body,
                     change_from, change_header, delete_rcpt, insert_header,
                     packet, quarantine, reply)
from postern import mail, wait_for

RCPTS = ["user@example.com", "b@example.com"]


def both(mta, first, second, **how):
    mta.milter.use(first)
    mta.second.use(second, **how)


def test_each_sees_the_changes_of_the_one_before(mta):
    both(mta, {"eom": [add_header("X-A", "1"), change_header(1, "Subject",
                                                             "new"),
                       change_header(1, "X-Dup", ""),
                       insert_header(1, "X-First", "f\n\tg"),
                       body("one\ntwo\n"), CONTINUE]},
         {"eom": [change_header(1, "X-A", "2"), add_header("X-B", "1"),
                  CONTINUE]})
    assert not Talk(mta, "two", text=TEXT).bad
    got, = mta.settled()
    s = mta.second.last()
    assert s.headers() == [
        (b"X-First", b"f\n\tg"), (b"From", b"sender@client.example"),
        (b"To", b"user@example.com"), (b"Subject", b"new"),
        (b"X-Dup", b"second"), (b"X-Fold", b"one\n\ttwo"), (b"X-A", b"1")]
    assert s.body() == b"one\r\ntwo\r\n"
    assert fields(got) == ["Received", "X-First: f\r\n\tg", *[
        h for h in HEADERS[1:] if h != "X-Dup: first" and
        not h.startswith("Subject")][:2], "Subject: new",
        *HEADERS[-2:], "X-A: 2", "X-B: 1"]
    assert got.body == b"one\r\ntwo\r\n"
    # the first knows nothing of the second
    assert mta.milter.last().body() == b"old body\r\n"


def test_each_replaces_the_body(mta):
    both(mta, {"eom": [body("one\r\n"), CONTINUE]},
         {"eom": lambda s, told: [body(b"two, was " + s.body()), CONTINUE]})
    assert not Talk(mta, "two", text=TEXT).bad
    got, = mta.settled()
    assert got.body == b"two, was one\r\n" and fields(got) == HEADERS


def test_each_changes_the_envelope(mta):
    both(mta, {"eom": [change_from("<one@client.example>"),
                       add_rcpt("<new@example.com>"), CONTINUE]},
         {"eom": [change_from("<two@client.example>"),
                  delete_rcpt("<new@example.com>"),
                  add_rcpt("<newer@example.com>"),
                  delete_rcpt("<b@example.com>"), CONTINUE]})
    assert not Talk(mta, "two", rcpts=RCPTS).bad
    got, = mta.settled()
    assert got.sender == "two@client.example"
    assert sorted(got.rcpts) == ["newer@example.com", "user@example.com"]


@pytest.mark.parametrize("stage", ("connect", "helo", "mail", "rcpt", "data",
                                   "header", "eom"))
def test_accept_is_for_one_filter(mta, stage):
    both(mta, {stage: ACCEPT}, {"eom": [add_header("X-B", "1"), CONTINUE]})
    assert not Talk(mta, "two", text=TEXT).bad
    got, = mta.settled()
    assert fields(got) == [*HEADERS, "X-B: 1"]
    assert mta.second.last().stages()[1:6] == ["connect", "helo", "mail",
                                               "rcpt", "data"]


@pytest.mark.parametrize("which", ("first", "second"))
@pytest.mark.parametrize("stage,answer,bad", (
    ("mail", REJECT, {"mail": NO}),
    ("rcpt", TEMPFAIL, {"rcpt": LATER}),
    ("data", reply("550 5.7.1 no"), {"data": "550 5.7.1 no"}),
    ("eoh", REJECT, {"dot": NO}),
    ("eom", REJECT, {"dot": NO}),
    ("mail", DISCARD, {}), ("body", DISCARD, {}), ("eom", DISCARD, {}),
), ids=lambda v: v if isinstance(v, str) else "")
def test_one_of_them_says_no(mta, stage, answer, bad, which):
    """Changes of the other do not matter."""
    no, yes = {stage: answer}, {"eom": [add_header("X-A", "1"), CONTINUE]}
    both(mta, *((no, yes) if which == "first" else (yes, no)))
    t = Talk(mta, "two", text=TEXT)
    assert t.bad == bad and not mta.settled() and not mta.queue()
    if which == "first" and stage != "rcpt":
        # nobody is asked about a message that is refused or dropped
        assert not mta.second.told("eom")
    for m in (mta.milter, mta.second):
        s = m.last()
        wait_for("the end", lambda s=s: s.ended.is_set() or
                 "quit_nc" in s.stages())


def test_refused_recipient_is_not_told_on(mta):
    both(mta, {"rcpt": lambda s, args: REJECT if b"user" in args[0] else
               CONTINUE}, {})
    t = Talk(mta, "two", rcpts=RCPTS)
    assert t.bad == {"rcpt": NO}
    assert mta.second.told("rcpt") == [[b"<b@example.com>"]]
    got, = mta.settled()
    assert got.rcpts == ["b@example.com"]


def test_one_holds(mta):
    both(mta, {"eom": [quarantine("looks odd"), CONTINUE]},
         {"eom": [add_header("X-B", "1"), CONTINUE]})
    assert not Talk(mta, "two", text=TEXT).bad
    assert not mta.settled() and len(mta.held()) == 1
    # Postfix asks no more filters then
    assert ("\nX-B: 1\n" in mta.held_text()) == (mta.name == "postern")


@pytest.mark.parametrize("end", (CLOSE, packet("Z")), ids=("dies", "lies"))
def test_second_is_of_no_use(mta, end):
    """Its settings say accept: what the first did, holds."""
    both(mta, {"eom": [add_header("X-A", "1"), body("new\r\n"), CONTINUE]},
         {"eom": [end]})
    assert not Talk(mta, "two", text=TEXT).bad
    got, = mta.settled()
    assert fields(got) == [*HEADERS, "X-A: 1"] and got.body == b"new\r\n"


# Postfix 3.7 commits what came.
@pytest.mark.ours
def test_second_dies_in_the_middle(mta):
    both(mta, {"eom": [add_header("X-A", "1"), CONTINUE]},
         {"eom": [add_header("X-B", "1"), body("half\r\n"), CLOSE]})
    assert not Talk(mta, "two", text=TEXT).bad
    got, = mta.settled()
    assert fields(got) == [*HEADERS, "X-A: 1"]
    assert got.body == b"old body\r\n"


def test_first_is_of_no_use(mta):
    both(mta, {"eom": [add_header("X-A", "1"), packet("Z")]}, {})
    t = Talk(mta, "two", text=TEXT)
    assert t.bad == {"dot": LATER} and not mta.settled()
    assert not mta.second.told("eom")


def test_each_agrees_on_its_own(mta):
    both(mta, {"eom": [add_header("X-A", "1"), CONTINUE]},
         {"eom": [add_header("X-B", " 2"), CONTINUE]}, steps=LEADING_SPACE)
    mta.milter.use(mta.milter.script, version=2, actions=OLD_ACTIONS)
    assert not Talk(mta, "two", text=TEXT).bad
    got, = mta.settled()
    assert fields(got) == [*HEADERS, "X-A: 1", "X-B: 2"]
    assert not mta.milter.told("data") and mta.second.told("data")
    assert (b"X-A", b" 1") in mta.second.last().headers()


# -- settings ----------------------------------------------------------------

def test_none(mta):
    assert not Talk(mta, "none", text=TEXT).bad
    got, = mta.settled()
    assert fields(got) == HEADERS and not mta.milter.sessions


def test_unix_socket(mta):
    mta.local.use({"eom": [add_header("X-A", "1"), CONTINUE]})
    assert not Talk(mta, "unix", text=TEXT).bad
    got, = mta.settled()
    assert fields(got) == [*HEADERS, "X-A: 1"]
    mta.clean()
    mta.local.down()
    os.unlink(mta.local.path)
    assert Talk(mta, "unix").bad == {"mail": LATER}


def test_six(mta):
    """A client and a filter on IPv6."""
    mta.six.use({"eom": [add_header("X-A", "1"), CONTINUE]})
    assert not Talk(mta, "six", text=TEXT).bad
    got, = mta.settled()
    assert fields(got) == [*HEADERS, "X-A: 1"]
    (name, rest), = mta.six.last().args("connect")
    assert name in (b"[IPv6:::1]", b"[::1]") and rest[:1] == b"6"
    assert rest[3:] in (b"::1\0", b"IPv6:::1\0")


@pytest.mark.parametrize("mark,outcome", (
    ("warn", "arrives"), ("hold", "held"), ("reject", "refused"),
    ("discard", "dropped"), ("replace", "replaced"), ("none", "arrives")))
def test_header_checks(mta, mark, outcome):
    """milter_header_checks see what filters add or change, not the rest."""
    mta.milter.use({"eom": [add_header("X-Mark", mark), CONTINUE]})
    t = Talk(mta, text=b"X-Mark: reject\r\n" + TEXT)
    got = mta.settled()
    assert bool(mta.held()) == (outcome == "held")
    if outcome == "refused":
        assert t.bad["dot"][:3] in ("550", "554")
    else:
        assert not t.bad
    assert len(got) == (outcome in ("arrives", "replaced"))
    if got:
        assert fields(got[0])[-1] == ("X-Mark: replaced" if outcome ==
                                      "replaced" else f"X-Mark: {mark}")
        assert fields(got[0])[1] == "X-Mark: reject"
    if mark == "warn":
        mta.wait_log("milter-header-warning|warning: header X-Mark")


def test_maps(mta):
    """smtpd_milter_maps: filters by client address."""
    assert not Talk(mta, "maps", text=TEXT, source="127.0.0.8").bad
    assert not mta.milter.sessions and not mta.second.sessions
    assert not Talk(mta, "maps", text=TEXT, source="127.0.0.9").bad
    assert not mta.milter.sessions and mta.second.told("eom")
    assert not Talk(mta, "maps", text=TEXT).bad
    assert mta.milter.told("eom") and len(mta.settled()) == 3


def test_local_mail(mta):
    """non_smtpd_milters, for what a program of this machine sends."""
    mta.second.use({"eom": [add_header("X-A", "1"), CONTINUE]})
    mta.submit("a@client.example", "user@example.com",
               mail("local").replace(b"\r\n", b"\n"))
    got = mta.sink.wait_subject("local")
    assert b"X-A: 1" in got.header
    s = mta.second.last()
    assert s.stages()[:3] == ["negotiate", "connect", "helo"]
    assert s.args("connect")[0][0] == b"localhost"
    # Postfix leaves the brackets out here
    assert [a.strip(b"<>") for a, in s.args("mail") + s.args("rcpt")] == [
        b"a@client.example", b"user@example.com"]
    assert not mta.milter.sessions


@pytest.mark.parametrize("answer", (REJECT, DISCARD), ids=("reject",
                                                           "discard"))
def test_local_mail_is_refused(mta, answer):
    """Nobody waits for an answer: the sender gets a bounce."""
    mta.second.use({"eom": answer})
    mta.submit("a@example.com", "user@example.com",
               mail("local").replace(b"\r\n", b"\n"))
    mta.second.wait_told("eom")
    if answer == REJECT:
        got, = mta.sink.wait(1)
        assert got.sender == "" and got.rcpts == ["a@example.com"]
        # and no filter sees a bounce
        assert len(mta.second.told("eom")) == 1
    else:
        assert not mta.settled()


def test_local_mail_has_to_wait(mta):
    mta.second.use({"eom": TEMPFAIL})
    mta.submit("a@example.com", "user@example.com",
               mail("local").replace(b"\r\n", b"\n"))
    mta.second.wait_told("eom")
    assert not mta.sink.messages
