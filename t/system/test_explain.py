"""postern explain and postern replay against the gateway they speak of."""
import os
import re

import pytest

from postern import Closed, Instance

MAIN = """
smtpd_peername_lookup = no
mynetworks = 127.0.0.3/32
smtpd_client_restrictions =
    check_client_access cidr:$config_directory/clients
smtpd_helo_restrictions =
    check_helo_access texthash:$config_directory/helos,
    reject_invalid_helo_hostname
smtpd_sender_restrictions =
    check_sender_access texthash:$config_directory/senders,
    reject_non_fqdn_sender
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions =
    check_recipient_access texthash:$config_directory/rcpts,
    reject_non_fqdn_recipient
smtpd_data_restrictions =
    check_sender_access inline:{ { data@s.example = REJECT at data } }
    reject_multi_recipient_bounce
smtpd_end_of_data_restrictions =
    check_sender_access inline:{ { eod@s.example = 452 4.3.1 at the end } }
smtpd_restriction_classes = strict
strict = check_client_access inline:{ { 127.0.0.1 = REJECT strict } }, reject
relay_recipient_maps = texthash:$config_directory/users
smtpd_reject_footer = \\c. Ask $client_address
smtpd_discard_ehlo_keywords = chunking
message_size_limit = 20000
header_checks = regexp:$config_directory/header_checks
body_checks = regexp:$config_directory/body_checks
canonical_maps = inline:{ { old@example.com = u@example.com } }
relocated_maps = texthash:$config_directory/moved
soft_bounce = no
"""
FILES = {
    "moved": "# who left\nmoved@example.com new@other.example\n",
    "clients": """127.0.0.4 REJECT client
127.0.0.5 421 4.7.0 busy
127.0.0.6 DEFER_IF_PERMIT perhaps
127.0.0.7 OK
127.0.0.8 DEFER_IF_REJECT later
127.0.0.9 DISCARD all
127.0.0.10 550 5.7.9 in so many words
127.0.0.11 reject_unauth_destination
127.0.0.12 WARN looked at
""",
    "helos": """bad.helo REJECT helo
defer.helo DEFER
ok.helo OK
text.helo 554 5.5.5 text
""",
    "senders": """bad@s.example REJECT sender
s5.example 550 no thanks
defer@s.example DEFER come back
hold@s.example HOLD
discard@s.example DISCARD
redirect@s.example REDIRECT u@example.com
bcc@s.example BCC v@example.com
prepend@s.example PREPEND X-Seen: yes
filter@s.example FILTER smtp:[127.0.0.1]:1
warn@s.example WARN hm
info@s.example INFO well
ok@s.example OK
class@s.example strict
permit@s.example permit
dunno@s.example DUNNO
status@s.example REJECT 5.1.8 the sender
<> DUNNO
""",
    "rcpts": """reject@example.com REJECT rcpt
defer@example.com 450 4.2.1 mailbox
hold@example.com HOLD
discard@example.com DISCARD
gone@example.com 550 5.1.6 moved
""",
    "users": "".join(f"{u}@example.com x\n" for u in (
        "u", "v", "old", "reject", "defer", "hold", "discard", "gone")),
    "header_checks": """/^Subject: reject/ REJECT header
/^Subject: defer/ 450 4.7.1 header later
/^Subject: text/ 550 5.7.0 header text
/^Subject: hold/ HOLD
/^Subject: discard/ DISCARD
/^Subject: warn/ WARN
/^Subject: prepend/ PREPEND X-New: 1
/^Subject: replace/ REPLACE Subject: other
/^Subject: ignore/ IGNORE
/^Subject: redirect/ REDIRECT v@example.com
/^Subject: bcc/ BCC v@example.com
/^Subject: filter/ FILTER smtp:[127.0.0.1]:1
/name="?.*\\.exe/ REJECT an attachment
""",
    "body_checks": """/worm/ REJECT body
/later/ 451 4.7.1 body later
/drop/ DISCARD
/keep/ HOLD
""",
}


def case(name, client="127.0.0.1", helo="h.example", sender="a@s.example",
         rcpts=("u@example.com",), subject=None, body="text", size=None,
         header=""):
    text = None
    if subject is not None:
        text = f"Subject: {subject}\n{header}\n{body}\n"
    return pytest.param(client, helo, sender, rcpts, text, size, id=name)


CASES = [
    case("accepted"),
    case("accepted-text", subject="hello"),
    case("null-sender", sender=""),
    case("unknown-user", rcpts=["nobody@example.com"]),
    case("relay-denied", rcpts=["x@other.example"]),
    case("relay-permitted", client="127.0.0.3", rcpts=["x@other.example"]),
    case("two-rcpts", rcpts=["u@example.com", "v@example.com"]),
    case("second-refused", rcpts=["u@example.com", "x@other.example"]),
    case("first-refused", rcpts=["x@other.example", "u@example.com"],
         subject="hello"),
    case("no-fqdn-sender", sender="plain@host"),
    case("no-fqdn-rcpt", client="127.0.0.3", rcpts=["u@host"]),
    case("bad-sender-syntax", sender="a b@s.example"),
    case("source-route", rcpts=["@x.example:u@example.com"]),
    case("percent", rcpts=["u%other.example@example.com"]),
    case("bang", rcpts=["other.example!u"]),
    case("size-declared", size=30000),
    case("size-declared-fits", size=3000),
    case("size-text", subject="big", body="x" * 70 + "\n" + "y\n" * 20000),
    case("rewritten", rcpts=["old@example.com"], subject="hello"),
    case("dots", subject="dots", body=".\n..\n.x"),
    case("no-end-of-line", subject="x", body=""),
    case("relocated", rcpts=["moved@example.com"]),
    case("relocated-stranger", client="127.0.0.5", subject="x",
         rcpts=["u@example.com", "moved@example.com"]),
    case("multi-bounce", sender="", subject="x",
         rcpts=["u@example.com", "v@example.com"]),
    case("data-reject", sender="data@s.example", subject="x"),
    case("eod-reject", sender="eod@s.example", subject="x"),
    case("attachment", subject="x", header="Content-Type: "
         "application/octet-stream; name=\"a.exe\"\n"),
    case("too-many-hops", subject="x", header="Received: x\n" * 60),
    case("invalid-helo", helo="-bad-"),
    case("hold-and-worm", sender="hold@s.example", subject="x", body="worm"),
    case("discard-and-worm", sender="discard@s.example", subject="x",
         body="worm"),
    case("deferred-relay", client="127.0.0.8", rcpts=["x@other.example"]),
] + [
    case(f"client-{n}", client=f"127.0.0.{n}", subject="hello")
    for n in range(4, 13)
] + [
    case(f"helo-{h}", helo=f"{h}.helo") for h in ("bad", "defer", "ok",
                                                  "text")
] + [
    case(f"sender-{s}", sender=f"{s}@s.example", subject="hello")
    for s in ("bad", "defer", "hold", "discard", "redirect", "bcc",
              "prepend", "filter", "warn", "info", "ok", "class", "permit",
              "dunno", "status")
] + [
    case("sender-domain", sender="x@s5.example"),
] + [
    case(f"rcpt-{r}", rcpts=[f"{r}@example.com"], subject="hello")
    for r in ("reject", "defer", "hold", "discard", "gone")
] + [
    case(f"header-{s}", subject=s)
    for s in ("reject", "defer", "text", "hold", "discard", "warn",
              "prepend", "replace", "ignore", "redirect", "bcc", "filter")
] + [
    case(f"body-{b}", subject="x", body=b)
    for b in ("worm", "later", "drop", "keep")
]


def configure(instance):
    instance.edit("main.cf", lambda t: t + MAIN)
    for name, text in FILES.items():
        instance.write(name, text)


@pytest.fixture(scope="module")
def gateway():
    i = Instance(start=False)
    try:
        configure(i)
        i.start()
        yield i
    finally:
        i.destroy(check=False)


def live(gateway, client, helo, sender, rcpts, text, size):
    """The conversation that explain has."""
    try:
        c = gateway.client(source=client, greet=False)
        last = c.reply()
        if last.code != 220:
            return last
        last = c.ehlo(helo)
        if last.code != 250:
            return last
        last = c.cmd(f"MAIL FROM:<{sender}>" +
                     (f" SIZE={size}" if size else ""))
        if last.code != 250:
            return last
        accepted = 0
        for rcpt in rcpts:
            last = c.cmd(f"RCPT TO:<{rcpt}>")
            accepted += last.code == 250
            if last.code == 421:
                return last
        if text is None or not accepted:
            return last
        last = c.cmd("DATA")
        if last.code != 354:
            return last
        c.send(re.sub(r"(?m)^\.", "..", text).replace("\n", "\r\n").encode()
               + b".\r\n")
        return c.reply()
    except Closed:
        return last


def plain(reply):
    return re.sub(r"queued as \w+", "queued as ID", reply)


@pytest.mark.parametrize("client,helo,sender,rcpts,text,size", CASES)
def test_last_line_is_the_reply(gateway, tmp_path, client, helo, sender,
                                rcpts, text, size):
    words = ["--client", client, "--helo", helo, "--from", sender]
    for r in rcpts:
        words += ["--to", r]
    if size:
        words += ["--size", str(size)]
    if text is not None:
        (tmp_path / "m").write_text(text)
        words += ["--message", str(tmp_path / "m")]
    told = gateway.command("explain", *words).stdout
    said = live(gateway, client, helo, sender, rcpts, text, size)
    assert plain(told.splitlines()[-1]) == plain("\\n".join(said.lines)), told


@pytest.fixture
def stopped():
    """It does not run."""
    i = Instance(start=False)
    try:
        configure(i)
        yield i
    finally:
        i.destroy(check=False)


def tree(top):
    return {os.path.join(d, f): os.stat(os.path.join(d, f)).st_mtime_ns
            for d, _, files in os.walk(top) for f in files}


def test_nothing_is_left(stopped, tmp_path):
    (tmp_path / "m").write_text("Subject: hello\n\ntext\n")
    before = tree(stopped.dir)
    told = stopped.command(
        "explain", "--client", "127.0.0.1", "--from", "bad@s.example", "--to",
        "old@example.com", "--message", str(tmp_path / "m")).stdout
    assert tree(stopped.dir) == before
    assert (f"smtpd_sender_restrictions[1] check_sender_access "
            f"texthash:{stopped.etc}/senders: refuse: 554 5.7.1 "
            f"<bad@s.example>: Sender address rejected: sender; "
            f"rule={stopped.etc}/senders:1") in told
    told = stopped.command(
        "explain", "--client", "127.0.0.1", "--from", "a@s.example", "--to",
        "old@example.com", "--message", str(tmp_path / "m")).stdout
    assert "envelope: from <a@s.example> to <u@example.com>" in told
    assert "recipient <u@example.com>: class relay; transport relay" in told
    assert "header_checks = regexp:" in told
    told = stopped.command("explain", "--client", "127.0.0.1", "--from",
                           "a@s.example", "--to", "moved@example.com").stdout
    assert (f"rule relocated_maps for moved@example.com: new@other.example; "
            f"rule={stopped.etc}/moved:2") in told, told
    assert told.splitlines()[-1].startswith(
        "550 5.1.6 <moved@example.com>: Recipient address rejected: User has "
        "moved to new@other.example")


def test_names_and_services(stopped):
    stopped.edit("main.cf", lambda t: t + """
smtpd_peername_lookup = yes
smtpd_client_restrictions = check_client_access inline:{ { c.example = REJECT
    named } } check_reverse_client_hostname_access
    inline:{ { r.example = REJECT reverse } }
    check_policy_service inet:127.0.0.1:1
""")
    words = ["explain", "--client", "127.0.0.1", "--from", "", "--to",
             "u@example.com"]
    told = stopped.command(*words, "--name", "x.c.example").stdout
    assert told.splitlines()[-1].startswith(
        "554 5.7.1 <x.c.example[127.0.0.1]>: Client host rejected: named")
    told = stopped.command(*words, "--reverse-name", "r.example").stdout
    assert "rejected: reverse" in told.splitlines()[-1]
    told = stopped.command(*words, "--name", "z.example").stdout
    assert told.splitlines()[-1].startswith("250 2.1.5")
    assert "policy service inet:127.0.0.1:1" in told and "not asked" in told
    told = stopped.command(*words, "--name", "z.example",
                           "--ask-services").stdout
    assert told.splitlines()[-1].startswith("451 4.3.5"), told


def test_mistakes(stopped):
    assert stopped.command("explain", check=False).returncode == 1
    stopped.write("senders", "x FOO bar\n")
    p = stopped.command("explain", "--client", "127.0.0.1", "--from", "",
                        "--to", "u@example.com", check=False)
    assert p.returncode == 2
    assert "senders:1" in p.stderr


ENVELOPE = "X-Envelope-From: <a@s.example>\nX-Envelope-To: u@example.com\n"


def saved(top):
    top.mkdir()
    (top / "1-plain").write_text(ENVELOPE + "Subject: hello\n\ntext\n")
    (top / "2-offer").write_text(ENVELOPE + "Subject: an offer\n\ntext\n")
    (top / "3-worm").write_text(
        "Return-Path: <a@s.example>\nDelivered-To: u@example.com\n"
        "Subject: x\n\nworm\n")
    (top / "4-nothing").write_text("")
    (top / "5-binary").write_bytes(bytes(range(256)) * 20)
    (top / "6-nobody").write_text("Subject: x\n\ntext\n")
    (top / "7-crlf").write_bytes(
        (ENVELOPE + "Subject: an offer\n\ntext").replace(
            "\n", "\r\n").encode())
    (top / "8-dir").mkdir()
    return str(top)


def test_replay(stopped, tmp_path):
    top = saved(tmp_path / "mails")
    p = stopped.command("replay", top)
    lines = p.stdout.splitlines()
    assert lines[0] == "1-plain: 250 2.0.0 Ok: queued"
    assert lines[2].startswith("3-worm: 550 5.7.1 body")
    assert lines[2].endswith(f"rule={stopped.etc}/body_checks:1")
    assert lines[-1] == "8 files, 4 not replayed"
    assert "6-nobody: not replayed: no sender" in p.stderr
    # the same rules
    p = stopped.command("replay", top, "--rules", stopped.etc)
    assert p.stdout == "8 files, 0 differ, 4 not replayed\n"
    # a change
    new = stopped.dir + "/new"
    os.mkdir(new)
    for name in os.listdir(stopped.etc):
        with open(stopped.path(name)) as f, open(f"{new}/{name}", "w") as g:
            g.write(f.read())
    with open(new + "/header_checks", "a") as f:
        f.write("/^Subject: an offer/ REJECT no offers\n")
    p = stopped.command("replay", top, "--rules", new, check=False)
    assert p.returncode == 1
    assert p.stdout == f"""2-offer:
  old: 250 2.0.0 Ok: queued
  new: 550 5.7.1 no offers. Ask 192.0.2.1; rule={new}/header_checks:14
7-crlf:
  old: 250 2.0.0 Ok: queued
  new: 550 5.7.1 no offers. Ask 192.0.2.1; rule={new}/header_checks:14
8 files, 2 differ, 4 not replayed
"""
    # rules that cannot be used
    with open(new + "/header_checks", "a") as f:
        f.write("/(/ REJECT\n")
    p = stopped.command("replay", top, "--rules", new, check=False)
    assert p.returncode == 2
    assert "header_checks:15" in p.stderr
    assert stopped.command("replay", "/nonexistent",
                           check=False).returncode == 2


AT_DELIVERY = """
smtp_header_checks = regexp:$config_directory/out_header
smtp_body_checks = regexp:$config_directory/out_body
"""


@pytest.fixture
def delivering(stopped):
    """Rules at delivery; those of one transport are others."""
    stopped.edit("main.cf", lambda t: t + AT_DELIVERY)
    stopped.edit("master.cf", lambda t: t +
                 "inside unix - - n - - smtp\n"
                 "  -o smtp_body_checks= -o smtp_header_checks=regexp:inside\n")
    stopped.write("inside", "/^X-Never:/ IGNORE\n")
    stopped.write("out_header", "/^X-Secret:/ IGNORE\n"
                  "/^Subject: prep/ REPLACE Subject: inside\n"
                  "/^X-New:/ WARN seen\n")
    stopped.write("out_body", "/password/ REPLACE ********\n")
    return stopped


def explain(gateway, tmp_path, text, *more):
    (tmp_path / "m").write_text(text)
    return gateway.command(
        "explain", "--client", "127.0.0.1", "--from", "a@s.example", "--to",
        "u@example.com", *more, "--message", str(tmp_path / "m")).stdout


def at_delivery(told):
    return re.findall(r"  at delivery by (\S+): (.*)", told)


def test_at_delivery(delivering, tmp_path):
    told = explain(delivering, tmp_path,
                   "Subject: prepend\nX-Secret: 1\n\nthe password: x\n")
    # the edits are to what is queued: behind Received and X-New
    changes = at_delivery(told)
    assert [(t, re.sub("at byte [0-9]+", "at byte N", c)) for t, c in changes
            ] == [
        ("relay", 'edit at byte N: 16 bytes go, put in: "Subject: inside"'),
        ("relay", 'edit at byte N: 13 bytes go, put in: ""'),
        ("relay", 'edit at byte N: 15 bytes go, put in: "********"')]
    where = [int(re.search("at byte ([0-9]+)", c).group(1))
             for _, c in changes]
    assert where[1] == where[0] + len("Subject: prepend\r\n")
    assert where[2] == where[1] + len("X-Secret: 1\r\n\r\n")
    # X-New is what header_checks put in
    assert re.search(r"log relay: \S+: warning: header X-New: 1: seen; "
                     rf"rule={delivering.etc}/out_header:3\n", told), told
    assert f"rule={delivering.etc}/out_header:1\n" in told
    assert "  looked at: smtp_header_checks = regexp:" in told
    assert at_delivery(explain(
        delivering, tmp_path, "Subject: x\n\ntext\n")) == [
            ("relay", "unchanged")]
    # what is refused or dropped is not delivered
    for subject in ("reject", "discard"):
        told = explain(delivering, tmp_path, f"Subject: {subject}\n\nx\n")
        assert not at_delivery(told)
        assert "smtp_header_checks" not in told


def test_at_delivery_by_transport(delivering, tmp_path):
    delivering.edit("main.cf", lambda t: t + "transport_maps = inline:{ {"
                    " v@example.com = inside } }\n")
    text = "Subject: x\n\npassword\n"
    told = explain(delivering, tmp_path, text, "--to", "v@example.com")
    assert [t for t, _ in at_delivery(told)] == ["relay", "inside"]
    assert at_delivery(told)[1][1] == "unchanged"
    # a filter is another transport, and REDIRECT another recipient
    delivering.edit("header_checks", lambda t: t +
                    "/^Subject: to the filter/ FILTER inside:[127.0.0.1]:1\n")
    for subject in ("to the filter", "redirect"):
        told = explain(delivering, tmp_path,
                       f"Subject: {subject}\n\npassword\n")
        assert at_delivery(told) == [("inside", "unchanged")], subject


def test_replay_at_delivery(delivering, tmp_path):
    top = tmp_path / "mails"
    top.mkdir()
    (top / "1").write_text(ENVELOPE + "Subject: x\n\npassword\n")
    (top / "2").write_text(ENVELOPE + "Subject: x\n\ntext\n")
    p = delivering.command("replay", str(top))
    lines = p.stdout.splitlines()
    assert re.fullmatch(r'1: 250 2\.0\.0 Ok: queued; at delivery by relay: '
                        r'edit at byte \d+: 8 bytes go, put in: '
                        r'"\*{8}"', lines[0])
    assert lines[1] == "2: 250 2.0.0 Ok: queued"
    new = delivering.dir + "/new"
    os.mkdir(new)
    for name in os.listdir(delivering.etc):
        with open(delivering.path(name)) as f, open(f"{new}/{name}",
                                                    "w") as g:
            g.write(f.read())
    with open(new + "/out_body", "w") as f:
        f.write("# nothing yet\n/text/ WARN seen\n")
    p = delivering.command("replay", str(top), "--rules", new, check=False)
    assert p.returncode == 1
    assert p.stdout.endswith("  new: 250 2.0.0 Ok: queued\n"
                             "2 files, 1 differ, 0 not replayed\n")
