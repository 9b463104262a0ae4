"""What an outside filter is told: commands, their order, macros, and what it
chose not to be told when the protocol was agreed on."""
import socket
import struct

import pytest
from milter_mta import LATER, NO, TEXT, Talk, fields
from milters import (ALL_SILENT, CAN_SKIP, CHANGE_HEADERS, CONTINUE,
                     LEADING_SPACE, NO_BODY, NO_CONNECT, NO_DATA, NO_EOH,
                     NO_HEADERS, NO_HELO, NO_MAIL, NO_RCPT, NO_UNKNOWN,
                     OLD_ACTIONS, REJECT, REJECTED_RCPT, SILENT, SKIP,
                     add_header, change_header, insert_header)
from postern import mail, wait_for

ALL = ["negotiate", "connect", "helo", "unknown", "mail", "rcpt", "rcpt",
       "data", "header", "header", "header", "eoh", "body", "eom"]
UNTOLD = {"connect": NO_CONNECT, "helo": NO_HELO, "mail": NO_MAIL,
          "rcpt": NO_RCPT, "data": NO_DATA, "unknown": NO_UNKNOWN,
          "header": NO_HEADERS, "eoh": NO_EOH, "body": NO_BODY}
DEFAULT_MACROS = {
    "connect": {"j", "{daemon_name}", "{daemon_addr}", "v", "_"},
    "mail": {"i", "{mail_addr}", "{mail_host}", "{mail_mailer}"},
    "rcpt": {"i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"},
    "data": {"i"}, "eoh": {"i"}, "eom": {"i"}}


def stages(session):
    """Without what ends a transaction."""
    return [s for s in session.stages() if s not in ("abort", "quit",
                                                     "quit_nc")]


def send(mta, setting="tempfail", text=None):
    """A session in which everything happens once, with two recipients."""
    t = Talk(mta, setting, before=["XYZZY 1"], text=text,
             rcpts=["user@example.com", "b@example.com"])
    assert set(t.bad) == {"XYZZY"} and not t.closed, t.bad
    assert len(mta.settled()) == 1
    return mta.milter.last()


def test_everything_in_order(mta):
    with mta.client() as c:
        c.ehlo("client.example")
        assert c.cmd("MAIL FROM:<a@client.example> SIZE=1000 "
                     "BODY=8BITMIME").code == 250
        assert c.cmd("RCPT TO:<user@example.com> NOTIFY=NEVER").code == 250
        assert c.cmd("RCPT TO:<refused@example.com>").code == 550
        assert c.cmd("RCPT TO:<b@example.com>").code == 250
        assert c.data_cmd(
            b"Subject:  two  spaces \r\nX-Tab:\ttab\r\nX-None:none\r\n"
            b"X-Fold: a\r\n b\r\n\tc\r\nX-Empty:\r\n\r\n"
            b"text\r\n.dot\r\n\r\nend\r\n").code == 250
        source = c.sock.getsockname()[1]
        c.cmd("QUIT")
    assert len(mta.settled()) == 1
    s = mta.milter.last()
    version, actions, steps = s.offer
    assert (version, actions) == (6, 0x1ff)
    assert steps | REJECTED_RCPT == 0x1fffff
    assert s.told[1:-1] + s.told[-1:] * (s.told[-1][0] == "eom") == [
        ("connect", (b"[127.0.0.1]",
                     b"4" + struct.pack("!H", source) + b"127.0.0.1\0")),
        ("helo", b"client.example"),
        ("mail", [b"<a@client.example>", b"SIZE=1000", b"BODY=8BITMIME"]),
        ("rcpt", [b"<user@example.com>", b"NOTIFY=NEVER"]),
        ("rcpt", [b"<b@example.com>"]),
        ("data", b""),
        ("header", (b"Subject", b" two  spaces ")),
        ("header", (b"X-Tab", b"\ttab")),
        ("header", (b"X-None", b"none")),
        ("header", (b"X-Fold", b"a\n b\n\tc")),
        ("header", (b"X-Empty", b"")),
        ("eoh", b""),
        ("body", b"text\r\n.dot\r\n\r\nend\r\n"),
        ("eom", b"")] + [x for x in s.told[1:-1] if x[0] == "abort"]


def test_macros(mta):
    s = send(mta)
    for stage, names in DEFAULT_MACROS.items():
        if mta.name == "postfix" and stage in ("mail", "rcpt"):
            names = names - {"i"}       # it has no queue file yet
            assert names <= set(s.macros[stage])
        else:
            assert set(s.macros[stage]) == names, stage
    assert s.macros["connect"]["j"] == "gw.example.com"
    assert s.macros["connect"]["{daemon_addr}"] == "127.0.0.1"
    assert s.macros["connect"]["_"].endswith("[127.0.0.1]")
    assert s.macros["mail"]["{mail_addr}"] == "a@client.example"
    assert [m["{rcpt_addr}"] for at, m in s.macro_log if at == "rcpt"] == [
        "user@example.com", "b@example.com"]
    assert s.macros["eom"]["i"] in mta.log()


# Postfix has one from the second recipient on.
@pytest.mark.ours
def test_queue_id_from_the_beginning(mta):
    """The id of the message is a macro from MAIL on, and each message has
    another."""
    for subject in ("one", "two"):
        with mta.client() as c:
            c.ehlo()
            for again in range(2):
                c.message("a@client.example", ["user@example.com",
                                               "b@example.com"],
                          mail(f"{subject} {again}"))
            c.cmd("QUIT")
    got = mta.settled()
    seen = set()
    for s in mta.milter.sessions:
        ids = [m["i"] for at, m in s.macro_log
               if at in ("mail", "rcpt", "data", "eoh", "eom")]
        for i in range(0, len(ids), len(ids) // len(s.args("eom"))):
            own = set(ids[i:i + len(ids) // len(s.args("eom"))])
            assert len(own) == 1
            seen |= own
    assert len(seen) == len(got) == 4
    for m in got:
        assert [i for i in seen if f" id {i}" in m.text.decode()]


def test_macros_of_the_settings(mta):
    s = send(mta, "macros")
    assert s.macros["connect"] == {
        "j": "gw.example.com", "{daemon_name}": "ORIGIN", "v": "ours-1.0",
        "_": s.macros["connect"]["_"]}
    assert s.macros["helo"] == {"{client_addr}": "127.0.0.1"}
    assert s.macros["unknown"] == {"v": "ours-1.0"}
    # what has no value is not sent
    assert set(s.macros["mail"]) == {"{mail_addr}", "{mail_host}"}
    assert set(s.macros["rcpt"]) == {"{rcpt_addr}", "{rcpt_host}", "i"}
    assert set(s.macros["data"]) == {"i", "j"}
    assert set(s.macros["eoh"]) == {"i", "{client_name}"}
    assert set(s.macros["eom"]) == {"i", "{daemon_addr}"}


def test_macros_that_the_filter_wants(mta):
    mta.milter.use(macros={"connect": "v", "mail": "{mail_addr} j",
                           "rcpt": "{client_name}", "data": "{client_addr}",
                           "eom": "{nosuch} i"})
    s = send(mta)
    assert set(s.macros["connect"]) == {"v"}
    assert s.macros["mail"] == {"{mail_addr}": "a@client.example",
                                "j": "gw.example.com"}
    assert set(s.macros["rcpt"]) == {"{client_name}"}
    assert s.macros["data"] == {"{client_addr}": "127.0.0.1"}
    assert set(s.macros["eom"]) == {"i"}


@pytest.mark.parametrize("stage", UNTOLD)
def test_not_told(mta, stage):
    mta.milter.use(steps=UNTOLD[stage])
    assert stages(send(mta)) == [s for s in ALL if s != stage]


def test_told_as_little_as_can_be(mta):
    mta.milter.use({"eom": [add_header("X-A", "1"), CONTINUE]},
                   steps=sum(UNTOLD.values()))
    assert stages(send(mta)) == ["negotiate", "eom"]
    assert "X-A: 1" in fields(mta.sink.messages[0])


@pytest.mark.parametrize("stage", SILENT)
def test_silent(mta, stage):
    """A filter that agreed to say nothing is not waited for."""
    mta.milter.use(steps=SILENT[stage])
    assert stages(send(mta)) == ALL


def test_all_silent_takes_no_turns(mta):
    """There is nothing to wait for before the end of the message: two writes
    are enough."""
    mta.milter.use({"eom": [add_header("X-A", "1"), CONTINUE]},
                   steps=ALL_SILENT)
    assert not Talk(mta).bad
    got, = mta.settled()
    assert "X-A: 1" in fields(got)
    s = mta.milter.last()
    assert stages(s) == [x for x in ALL if x != "unknown"][:5] + ALL[7:]
    reads = [r for r in s.reads if set(r) - {"negotiate", "abort", "quit",
                                             "quit_nc"}]
    assert len(reads) <= 2, reads


# Postfix takes it for the answer to something.
@pytest.mark.ours
def test_silent_filter_that_speaks(mta):
    """It answers what it said it would not."""
    mta.milter.use({"mail": REJECT}, steps=ALL_SILENT)
    t = Talk(mta, "short")
    got = mta.settled()
    # nobody can tell that it was not the answer to the end of the message
    assert not got and set(t.bad.values()) <= {LATER, NO} and t.bad


@pytest.mark.parametrize("version", (2, 3, 4, 5, 6))
def test_version_of_the_filter(mta, version):
    mta.milter.use({"eom": [add_header("X-A", "1"), CONTINUE]},
                   version=version, actions=OLD_ACTIONS)
    s = send(mta)
    assert stages(s) == [x for x in ALL if (version > 2 or x != "unknown")
                         and (version > 3 or x != "data")]
    assert "X-A: 1" in fields(mta.sink.messages[0])


@pytest.mark.parametrize("setting,version", (("old", 2), ("three", 3)))
def test_version_of_ours(mta, setting, version):
    s = send(mta, setting)
    assert s.offer[0] == version
    assert stages(s) == [x for x in ALL if (version > 2 or x != "unknown")
                         and (version > 3 or x != "data")]


def test_leading_space(mta):
    """Agreed on, values have their space, both ways."""
    mta.milter.use({"eom": [add_header("X-A", " one"), add_header("X-B", "2"),
                            change_header(1, "Subject", "\tnew"),
                            insert_header(1, "X-C", "  3"), CONTINUE]},
                   steps=LEADING_SPACE)
    assert not Talk(mta, text=TEXT).bad
    got, = mta.settled()
    assert mta.milter.last().headers()[:5] == [
        (b"From", b" sender@client.example"), (b"To", b" user@example.com"),
        (b"X-Dup", b" first"), (b"Subject", b" hello"), (b"X-Dup", b"second")]
    names = fields(got)
    for line in ("X-A: one", "X-B:2", "Subject:\tnew", "X-C:  3"):
        assert line in names


def test_refused_recipients(mta):
    """Told to those who want it, whatever they answer; not to others."""
    rcpts = ["refused@example.com", "user@example.com"]
    mta.milter.use()
    t = Talk(mta, rcpts=rcpts)
    assert list(t.bad) == ["rcpt"]
    assert mta.milter.last().args("rcpt") == [[b"<user@example.com>"]]
    mta.milter.use(steps=REJECTED_RCPT)
    t = Talk(mta, rcpts=rcpts)
    assert list(t.bad) == ["rcpt"] and t.bad["rcpt"].startswith("550 5.7.1 ")
    assert len(mta.settled()) == 2
    s = mta.milter.last()
    if s.offer[2] & REJECTED_RCPT:
        assert s.args("rcpt") == [[b"<refused@example.com>"],
                                  [b"<user@example.com>"]]
        first = [m for at, m in s.macro_log if at == "rcpt"][0]
        assert first["{rcpt_mailer}"] == "error"
    else:
        assert s.args("rcpt") == [[b"<user@example.com>"]]


@pytest.mark.parametrize("size", (0, 1, 65534, 65535, 65536, 300000))
def test_body_in_pieces(mta, size):
    text = (b"x" * 70 + b"\r\n") * (size // 72)
    text += b"y" * (size - len(text) - 2) + b"\r\n" if size > 1 else \
        b"\r\n"[:size and 2]
    s = send(mta, text=mail("size", text))
    assert s.body() == text
    assert all(0 < len(b) <= 65535 for b in s.args("body"))


@pytest.mark.parametrize("text,headers,body", (
    (b"Subject: no body\r\n", [(b"Subject", b"no body")], b""),
    (b"\r\nno header\r\n", [], b"no header\r\n"),
    (b"", [], b""),
    (b"Subject: long\r\n" + b"X: " + b"v" * 900 + b"\r\n" * 2 + b"b\r\n",
     [(b"Subject", b"long"), (b"X", b"v" * 900)], b"b\r\n"),
), ids=("no-body", "no-header", "nothing", "long"))
def test_messages_of_odd_form(mta, text, headers, body):
    if text == b"":
        text = b"\r\n"
    assert not Talk(mta, text=text).bad
    s = mta.milter.last()
    assert (s.headers(), s.body().replace(b"\r\n", b"") if not headers and
            not body else s.body()) == (headers, body)
    assert s.args("eom")


def test_header_of_many_fields(mta):
    text = b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(500))
    mta.milter.use({"eom": [change_header(1, "X-250", ""), CONTINUE]})
    assert not Talk(mta, text=text + b"\r\nbody\r\n").bad
    got, = mta.settled()
    assert mta.milter.last().headers() == [
        (b"X-%d" % i, b"%d" % i) for i in range(500)]
    assert fields(got)[1:] == [f"X-{i}: {i}" for i in range(500) if i != 250]


def test_skip(mta):
    """Enough of the body was seen."""
    mta.milter.use({"body": SKIP, "eom": [add_header("X-A", "1"), CONTINUE]},
                   steps=CAN_SKIP)
    s = send(mta, text=mail("skip", (b"x" * 70 + b"\r\n") * 10000))
    assert len(s.args("body")) == 1 and len(s.args("eom")) == 1
    assert "X-A: 1" in fields(mta.sink.messages[0])


@pytest.mark.parametrize("commands,told", (
    (["MAIL FROM:<a@client.example>", "RSET", "QUIT"], ["mail"]),
    (["MAIL FROM:<>", "RCPT TO:<user@example.com>", "QUIT"],
     ["mail", "rcpt"]),
    (["MAIL FROM:<a@client.example>", "EHLO again", "QUIT"],
     ["mail", "helo"]),
    (["NOOP", "VRFY x", "QUIT"], []),
    (["MAIL FROM:<a@client.example>", "MAIL FROM:<b@client.example>",
      "RCPT TO:<user@example.com>"], ["mail", "rcpt"]),
), ids=("rset", "quit", "ehlo", "nothing", "gone"))
def test_end_of_a_transaction(mta, commands, told):
    with mta.client() as c:
        c.ehlo()
        for command in commands:
            c.cmd(command)
    s = mta.milter.last()
    wait_for("the end of the session", lambda: s.ended.is_set() or
             "quit_nc" in s.stages())
    assert stages(s)[3:] == told
    # what began is told to be over
    if "mail" in told:
        assert "abort" in s.stages()[s.stages().index("mail"):]


def test_client_goes_away_in_the_text(mta):
    with mta.client() as c:
        c.ehlo()
        c.envelope("a@client.example", "user@example.com")
        assert c.cmd("DATA").code == 354
        c.send(b"Subject: half\r\n\r\nhalf a li")
    s = mta.milter.last()
    wait_for("the end of the session", lambda: s.ended.is_set() or
             "quit_nc" in s.stages() or "abort" in s.stages())
    assert "eom" not in s.stages()
    assert not mta.settled()


def test_messages_of_one_session(mta):
    """The session is told once, each message anew."""
    with mta.client() as c:
        c.ehlo()
        for i in range(3):
            assert c.message(f"{i}@client.example", "user@example.com",
                             mail(str(i))).code == 250
        c.cmd("QUIT")
    assert len(mta.settled()) == 3
    s = mta.milter.last()
    assert stages(s) == ["negotiate", "connect", "helo"] + [
        "mail", "rcpt", "data", "header", "header", "header", "eoh", "body",
        "eom"] * 3
    assert s.args("mail") == [[b"<%d@client.example>" % i] for i in range(3)]


def test_nothing_before_it_is_needed(mta):
    """A client that only connects, or speaks before its turn, costs the
    filter no message."""
    with mta.client() as c:
        c.cmd("NOOP")
        assert c.cmd("MAIL FROM:<a@client.example>").code in (250, 503)
        c.cmd("QUIT")
    with mta.client():
        pass
    assert not mta.milter.told("rcpt")


def test_actions_that_were_not_asked_for(mta):
    """Only what was agreed on may be changed."""
    mta.milter.use({"eom": [add_header("X-A", "1"), CONTINUE]},
                   actions=CHANGE_HEADERS)
    t = Talk(mta)
    got = mta.settled()
    if mta.name == "postfix":
        assert len(got) == 1            # it does not look
    else:
        assert t.bad == {"dot": LATER} and not got


def test_pipelined_client(mta):
    """Many commands in one packet are many questions, in order."""
    with mta.client() as c:
        c.ehlo()
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        c.send(b"MAIL FROM:<a@client.example>\r\n" + b"".join(
            b"RCPT TO:<u%d@example.com>\r\n" % i for i in range(50)) +
            b"DATA\r\n")
        assert [c.reply().code for _ in range(52)] == [250] * 51 + [354]
        c.send(b"Subject: many\r\n\r\n.\r\nQUIT\r\n")
        assert c.reply().code == 250 and c.reply().code == 221
    mta.settled()
    assert mta.milter.last().args("rcpt") == [
        [b"<u%d@example.com>" % i] for i in range(50)]
