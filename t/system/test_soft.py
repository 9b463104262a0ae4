"""soft_mode: what rules would do stands in the log, and nothing else happens;
who may relay, limits and syntax stay as they are."""
import os
import re

import pytest
from milters import (CONTINUE, DISCARD, REJECT, Milter, add_header,
                     quarantine, reply)
from postern import (Client, Instance, Sink, free_port, mail, mail_with,
                     wait_for)

RULES = {
    "access": "bad.example REJECT not from there\n"
              "user@example.com DUNNO\n"
              "hold@example.com HOLD look at it\n"
              "lost@example.com DISCARD\n"
              "other@example.com REDIRECT elsewhere@example.com\n"
              "copy@example.com BCC elsewhere@example.com\n"
              "filter@example.com FILTER smtp:[127.0.0.1]:1\n"
              "mark@example.com PREPEND X-Mark: yes\n"
              "later@example.com DEFER_IF_PERMIT not now\n"
              "outside.example OK\n",
    "header_checks": "/^Subject: bad/ REJECT bad subject\n"
                     "/^Subject: held/ HOLD held subject\n"
                     "/^Subject: gone/ DISCARD\n"
                     "/^X-Strip:/ STRIP\n"
                     "/^X-Ignore:/ IGNORE\n"
                     "/^X-Replace:/ REPLACE X-Replace: other\n"
                     "/^X-Prepend:/ PREPEND X-Before: this\n"
                     "/^X-Copy:/ BCC elsewhere@example.com\n"
                     "/^X-Go:/ REDIRECT elsewhere@example.com\n"
                     "/^X-Filter:/ FILTER smtp:[127.0.0.1]:1\n"
                     "/^X-Warn:/ WARN only that\n",
    "body_checks": "/worm/ REJECT a worm\n",
    "out": "/^X-Out:/ STRIP\n",
    "attachment_checks": "/name=\\S+\\.exe/ REJECT Programs are not accepted\n"
                         "/name=\\S+\\.scr/ STRIP no savers\n",
}
MAIN = {
    "mynetworks": "127.0.0.2",
    "smtpd_sender_restrictions": "check_sender_access hash:$config_directory"
                                 "/access",
    "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
    "smtpd_recipient_restrictions":
        "reject_non_fqdn_recipient, "
        "check_recipient_access hash:$config_directory/access",
    "smtpd_end_of_data_restrictions":
        "check_client_access inline:{{127.0.0.9=REJECT too late}}",
    "header_checks": "pcre:$config_directory/header_checks",
    "body_checks": "pcre:$config_directory/body_checks",
    "attachment_checks": "pcre:$config_directory/attachment_checks",
    "smtp_header_checks": "pcre:$config_directory/out",
    "virtual_alias_domains": "v.example",
    "smtpd_milters": "",
    "always_add_missing_headers": "yes",
    "soft_mode": "yes",
}


@pytest.fixture(scope="module")
def gw():
    sink = Sink()
    g = Instance(sink, main={**MAIN, "relayhost":
                             f"[127.0.0.1]:{sink.port}"}, start=False)
    try:
        for name, text in RULES.items():
            g.write(name, text)
        g.start()
        yield g
    finally:
        g.destroy()
        sink.down()


def would(gw, text, since):
    """The one line that says so; nothing else was decided."""
    return gw.wait_log(r"soft: would " + text, since=since)


def lines_since(gw, since):
    return [l for l in gw.log()[since:].splitlines() if "soft: would" in l]


@pytest.fixture
def since(gw):
    return len(gw.log())


def passes(gw, sender="a@b.example", rcpt="user@example.com", text=None,
           source=None):
    """It arrives as it was sent, but for Received:."""
    subject = os.urandom(6).hex()
    text = text or mail(subject)
    if b"Subject: " not in text:
        text = b"Subject: " + subject.encode() + b"\r\n" + text
    key = re.search(rb"Subject: ([^\r]*)", text).group(1).decode()
    before = len(gw.sink.messages)
    with gw.client(source=source) as c:
        c.ehlo()
        r = c.message(sender, rcpt, text)
        assert r.code == 250, r
    wait_for("the message", lambda: len(gw.sink.messages) > before)
    m = gw.sink.messages[-1]
    assert m.rcpts == [rcpt] and m.sender == sender, (m.rcpts, key)
    got = re.sub(rb"\AReceived:[^\r]*\r\n([ \t][^\r]*\r\n)*", b"", m.text)
    assert got == text
    return m


RCPTS = {
    "hold": r"hold: RCPT from .*Recipient address look at it",
    "lost": r"discard: RCPT from .*triggers DISCARD action",
    "other": r"redirect: RCPT from .*REDIRECT elsewhere@example.com",
    "copy": r"bcc: RCPT from .*BCC elsewhere@example.com",
    "filter": r"filter: RCPT from .*FILTER smtp:",
    "mark": r"prepend: RCPT from .*PREPEND X-Mark: yes",
    "later": r"reject: RCPT from .*4\d\d 4.\d.\d <later@example.com>: "
             r"Recipient address rejected: not now",
}


@pytest.mark.parametrize("user", RCPTS)
def test_recipient_actions(gw, since, user):
    passes(gw, rcpt=user + "@example.com")
    would(gw, RCPTS[user], since)
    assert len(lines_since(gw, since)) == 1


def test_refused_sender(gw, since):
    """The line is the real one's, and the rule is named."""
    passes(gw, sender="x@bad.example")
    line = would(gw, r"reject: RCPT from ", since)
    [line] = lines_since(gw, since)
    assert "NOQUEUE: soft: would reject: RCPT from unknown[127.0.0.1]: " \
        "554 5.7.1 <x@bad.example>: Sender address rejected: not from " \
        "there; from=<x@bad.example> to=<user@example.com> proto=ESMTP " \
        "helo=<client.example>" in line
    assert line.endswith("rule=" + gw.path("access"))


def test_first_decision_only(gw, since):
    """The rules would have ended there."""
    passes(gw, sender="x@bad.example", rcpt="hold@example.com")
    would(gw, "reject", since)
    assert len(lines_since(gw, since)) == 1


def test_end_of_data(gw, since):
    passes(gw, source="127.0.0.9")
    would(gw, "reject: END-OF-MESSAGE from .*too late", since)


HEADERS = {
    "Subject: bad news": r"reject: header Subject: bad news .*: 5.7.1 bad "
                         "subject; rule=.*header_checks:1",
    "Subject: held up": "hold: header Subject: held up .*held subject",
    "Subject: gone": "discard: header Subject: gone",
    "X-Strip: a": "strip: header X-Strip: a",
    "X-Ignore: a": "ignore: header X-Ignore: a",
    "X-Replace: a": "replace: header X-Replace: a .*X-Replace: other",
    "X-Prepend: a": "prepend: header X-Prepend: a .*X-Before: this",
    "X-Copy: a": "bcc: header X-Copy: a .*elsewhere@example.com",
    "X-Go: a": "redirect: header X-Go: a .*elsewhere@example.com",
    "X-Filter: a": "filter: header X-Filter: a .*smtp:",
}


@pytest.mark.parametrize("header", HEADERS)
def test_content(gw, since, header):
    passes(gw, text=b"From: a@b.example\r\n" + header.encode() +
           b"\r\nReturn-Path: <kept@b.example>\r\n\r\ntext\r\n")
    would(gw, HEADERS[header], since)
    assert len(lines_since(gw, since)) == 1


def test_at_delivery(gw, since):
    passes(gw, text=b"From: a@b.example\r\nX-Out: a\r\n\r\ntext\r\n")
    would(gw, "strip: header X-Out: a", since)


def test_unknown_recipients(gw, since):
    """Whom the server inside may know; whom nobody can."""
    gw.set(relay_recipient_maps="inline:{{user@example.com=x}}")
    gw.command("reload")
    passes(gw, rcpt="new@example.com")
    would(gw, "reject: RCPT from .*550 5.1.1 <new@example.com>", since)
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@b.example>")
        assert c.cmd("RCPT TO:<nobody@v.example>").code == 550
        assert c.cmd("VRFY other@example.com").code == 550


def test_worm_and_attachment(gw, since):
    passes(gw, text=mail("w", b"it is a worm\r\n"))
    would(gw, "reject: body it is a worm .*a worm", since)
    passes(gw, text=mail_with("invoice.exe"))
    would(gw, r"reject: .*invoice.exe.*Programs are not", since)
    passes(gw, text=mail_with("invoice.scr"))
    would(gw, r"strip: .*invoice.scr.*no savers", since)


def test_warnings_are_as_ever(gw, since):
    passes(gw, text=b"From: a@b.example\r\nX-Warn: 1\r\nSubject: w\r\n\r\n")
    gw.wait_log("warning: header X-Warn", since=since)
    assert not lines_since(gw, since)


def test_never_an_open_relay(gw, since):
    """Not by any rule, and not by one that is soft for others."""
    with gw.client() as c:
        c.ehlo()
        for sender in ("a@b.example", "x@bad.example", ""):
            c.cmd(f"MAIL FROM:<{sender}>")
            r = c.cmd("RCPT TO:<someone@outside.example>")
            assert r.text == ("554 5.7.1 <someone@outside.example>: "
                              "Relay access denied"), r
            r = c.cmd("RCPT TO:<a%outside.example@example.com>")
            assert r.code == 554, r
            c.cmd("RSET")
    assert len(lines_since(gw, since)) == 2     # of bad.example


def test_who_may_relay_may(gw, since):
    passes(gw, sender="x@bad.example", rcpt="c@outside.example",
           source="127.0.0.2")
    would(gw, "reject: RCPT from .*not from there", since)


def test_limits_and_syntax(gw):
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("RCPT TO:<user@example.com>").code == 503
        assert c.cmd("MAIL FROM:<a@b.example> SIZE=999999999999").code == 552
        assert c.cmd("MAIL FROM:a b").code == 555


def test_loops_end(gw, since):
    hops = b"Received: from a by b; Sun, 22 Nov 2026 00:00:00 +0000\r\n" * 60
    with gw.client() as c:
        c.ehlo()
        r = c.message("a@b.example", "user@example.com", hops + mail("loop"))
        assert r.text == "554 5.4.0 Error: too many hops"


def test_counted(gw):
    passes(gw, sender="x@bad.example")
    status = gw.command("status").stdout
    assert "soft_mode is on" in status
    n = sum(int(v) for v in re.findall(r"softened (\d+)", status))
    assert n > 0
    # the row has fired, as a trial
    wait_for("the row", lambda: re.search(
        r"etc/access\b", gw.command("rules").stdout))


# Lists that keep strangers from relaying, each in its way; (relay, recipient).
GUARDS = {
    "old": ("", "check_recipient_access pcre:$config_directory/ours, "
            "permit_mynetworks, reject_unauth_destination"),
    "rows": ("", "check_recipient_access pcre:$config_directory/ours, "
             "permit_dnswl_client wl.invalid, check_client_access "
             "inline:{{127.0.0.1=OK}}, reject"),
    "both": ("check_recipient_access pcre:$config_directory/ours, "
             "permit_mynetworks, check_client_access inline:{{127.0.0.1=OK}}"
             ", reject", "check_recipient_access pcre:$config_directory/ours"
             ", check_client_access inline:{{127.0.0.1=OK}}"),
    "doubt": ("", "check_recipient_access "
              "inline:{{out.example=DEFER_IF_REJECT}}, "
              "defer_if_permit, permit"),
    "doubts": ("permit_mynetworks, defer_if_reject, defer_if_permit, "
               "reject_unauth_destination", "permit"),
    "discard": ("", "check_recipient_access inline:{{out.example=DISCARD}}, "
                "check_client_access inline:{{127.0.0.1=REJECT}}, "
                "check_client_access inline:{{127.0.0.1=OK}}, reject"),
    "class": ("test_class", "permit"),
}


@pytest.fixture(scope="module")
def guarded():
    """Every service refuses out.example to a stranger, softly or not."""
    sink = Sink()
    main = {"mynetworks": "127.0.0.2", "smtpd_restriction_classes":
            "test_class", "test_class": "check_recipient_access "
            "pcre:$config_directory/ours, reject", "soft_mode": "yes",
            "relayhost": f"[127.0.0.1]:{sink.port}",
            "smtpd_client_restrictions": "check_client_access "
            "inline:{{127.0.0.1=DEFER_IF_PERMIT}}"}
    ports, master = {}, ""
    for name, (relay, rcpt) in GUARDS.items():
        main[f"{name}_relay"], main[f"{name}_rcpt"] = relay, rcpt
        for soft in ("yes", "no"):
            ports[name, soft] = port = free_port()
            master += (f"127.0.0.1:{port} inet n - y - 1 smtpd\n"
                       f"  -o smtpd_relay_restrictions=${name}_relay\n"
                       f"  -o smtpd_recipient_restrictions=${name}_rcpt\n"
                       f"  -o soft_mode={soft}\n")
    g = Instance(sink, main=main, start=False)
    try:
        g.write("ours", "/@example\\.com$/ DUNNO\n/./ REJECT no relay\n")
        g.edit("master.cf", lambda t: t + master)
        g.start()
        yield g, ports
    finally:
        g.destroy()
        sink.down()


@pytest.mark.parametrize("name", GUARDS)
def test_no_list_opens_the_relay(guarded, name):
    g, ports = guarded
    codes = {}
    for soft in ("yes", "no"):
        with Client(ports[name, soft]) as c:
            c.ehlo()
            assert c.cmd("MAIL FROM:<a@b.example>").code == 250
            codes[soft] = [c.cmd(f"RCPT TO:<u@{d}>").code for d in
                           ("out.example", "example.com")]
    hard, soft = codes["no"], codes["yes"]
    # DISCARD is a 250 that nobody gets
    assert hard[0] >= 400 or name == "discard", codes
    assert soft[0] >= 400, codes
    assert soft[1] == 250, codes


# What a filter says; what is said of it instead
MILTERS = {
    "connect": (REJECT, "milter-reject: CONNECT"),
    "helo": (reply("450 4.7.1 helo no"), "milter-reject: EHLO"),
    "mail": (REJECT, "milter-reject: MAIL"),
    "rcpt": (reply("550 5.7.9 not him"), "milter-reject: RCPT from .*not him"),
    "data": (DISCARD, "milter-discard: DATA"),
    "header": (REJECT, "milter-reject: END-OF-MESSAGE"),
    "body": (DISCARD, "milter-discard: END-OF-MESSAGE"),
    "eom": ([add_header("X-Added", "1"), quarantine("odd"), CONTINUE],
            "milter-change: END-OF-MESSAGE from .*: header X-Added.*"),
}


@pytest.fixture(scope="module")
def filtered():
    m, sink = Milter(), Sink()
    g = Instance(sink, main={"soft_mode": "yes", "smtpd_milters": m.where})
    g.milter = m
    yield g
    g.destroy()
    m.down()
    sink.down()


@pytest.mark.parametrize("stage", MILTERS)
def test_milters(filtered, stage):
    since = len(filtered.log())
    answer, text = MILTERS[stage]
    filtered.milter.use({stage: answer})
    passes(filtered)
    would(filtered, text, since)
    if stage == "eom":
        would(filtered, "milter-hold: END-OF-MESSAGE from .*odd", since)
    else:
        assert len(lines_since(filtered, since)) == 1, lines_since(filtered,
                                                                   since)


def test_a_milter_that_is_not_there(filtered):
    filtered.milter.down()
    since = len(filtered.log())
    try:
        passes(filtered)
        would(filtered, "milter-shutdown: CONNECT", since)
        would(filtered, "milter-shutdown: MAIL", since)
        assert len(lines_since(filtered, since)) == 2
    finally:
        filtered.milter.up()
