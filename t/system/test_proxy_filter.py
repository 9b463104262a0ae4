"""smtpd_proxy_filter: a filter outside answers for the message before its
client is answered, and nothing of it is stored before it comes back."""
import os
import re
import signal
import threading
import time

import pytest
from postern import HOSTNAME, Client, Instance, Sink, free_port, mail, wait_for

KEYWORDS = ("PIPELINING", "8BITMIME", "SIZE", "SMTPUTF8", "DSN",
            "ENHANCEDSTATUSCODES",
            "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE")
AFTER = """127.0.0.1:%d inet n - n - - smtpd
  -o smtpd_proxy_filter=
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o mynetworks=127.0.0.0/8
  -o receive_override_options=no_header_body_checks,no_address_mappings,no_unknown_recipient_checks
"""
FAILED = "451 4.3.0 Error: queue file write error"


class Filter(Sink):
    """Gives mail back to the gateway while its own client waits, as such
    filters do; answers[verb] says what it does instead: a reply, or a
    function of the argument that returns one or None."""

    def __init__(self, keywords=KEYWORDS):
        self.back, self.answers, self.passed = free_port(), {}, []
        super().__init__(self.come, keywords)

    def come(self, verb, got):
        answer = self.answers.get(verb)
        if callable(answer):
            answer = answer(got)
        if answer or verb != "DOT":
            return answer
        with Client(self.back) as c:
            c.ehlo("filter.example")
            r = c.message(got.sender, got.rcpts,
                          b"X-Scanned: yes\r\n" + got.text)
        self.passed.append(r.text)
        return r.text


class Gateway(Instance):
    def __init__(self, inside, outside):
        super().__init__(inside, main={
            "smtpd_proxy_filter": f"127.0.0.1:{outside.port}",
            "smtpd_proxy_timeout": "3s",
            "header_checks": "pcre:header_checks"}, start=False)
        self.write("header_checks", "/^X-Scanned:/ REJECT was here before\n"
                   "/^Subject: hold/ HOLD look at it\n"
                   "/^Subject: drop/ DISCARD\n"
                   "/^Subject: elsewhere/ FILTER smtp:[127.0.0.1]:1\n"
                   "/^Subject: mark/ PREPEND X-Marked: yes\n")
        self.edit("master.cf",
                  lambda t: t + AFTER % outside.back)
        self.start()

    def say(self, text, rcpts="user@example.com", sender="a@client.example"):
        with self.client() as c:
            c.ehlo("client.example")
            return c.message(sender, rcpts, text).text

    def nothing_kept(self):
        wait_for("an empty queue", lambda: not self.queued())
        assert not os.listdir(self.spool + "/incoming")

    def again(self, **settings):
        self.set(**settings)
        self.command("reload")
        self.ready()


@pytest.fixture
def made():
    inside, outside = Sink(), Filter()
    gw = None
    try:
        gw = Gateway(inside, outside)
        yield gw, inside, outside
    finally:
        if gw:
            gw.destroy()
        inside.close()
        outside.close()


def said(outside, verb):
    return [c for c in outside.commands if c.startswith(verb)]


def test_comes_back_before_the_client_is_answered(made):
    gw, inside, outside = made
    answer = gw.say(mail("plain", b".dot\r\n..\r\ntext\r\n"),
                    ["user@example.com", "b@example.com"])
    # the client hears what the filter heard: the id of what came back
    assert answer == outside.passed[0] and answer.startswith("250 2.0.0 Ok")
    got = inside.wait_subject("plain")
    assert got.body == b".dot\r\n..\r\ntext\r\n" and b"X-Scanned" in got.text
    wait_for("both", lambda: sorted(r for m in inside.find("plain")
                                    for r in m.rcpts) ==
             ["b@example.com", "user@example.com"])
    assert said(outside, "EHLO") == ["EHLO " + HOSTNAME]
    assert len(said(outside, "MAIL")) == 1 and len(said(outside, "RCPT")) == 2
    forwarded = dict(w.split("=", 1) for line in said(outside, "XFORWARD")
                     for w in line.split()[1:])
    assert forwarded["ADDR"] == "127.0.0.1" and \
        forwarded["HELO"] == "client.example" and \
        forwarded["PROTO"] == "ESMTP" and forwarded["PORT"].isdigit()
    # never a command before the reply to the one before
    assert not outside.ahead
    gw.wait_log("proxy-accept: END-OF-MESSAGE from .*: 250 2.0.0 .*; "
                "from=<a@client.example> nrcpt=2 proto=ESMTP "
                "helo=<client.example>")
    gw.nothing_kept()


def test_large(made):
    gw, inside, outside = made
    body = b"".join(b"%07d text\r\n" % i for i in range(400000))
    assert gw.say(mail("large", body)).startswith("250 ")
    assert inside.wait_subject("large").body == body
    gw.nothing_kept()


def test_own_judgement_comes_first(made):
    gw, inside, outside = made
    assert gw.say(b"X-Scanned: yes\r\n" + mail("forged")) == \
        "550 5.7.1 was here before"
    assert gw.say(mail("drop")).startswith("250 ")
    assert not outside.sessions
    assert gw.say(mail("mark")).startswith("250 ")
    assert b"X-Marked: yes" in inside.wait_subject("mark").text
    # an action cannot lead it around the filter
    assert gw.say(mail("elsewhere")) == outside.passed[-1]
    inside.wait_subject("elsewhere")
    gw.wait_log("FILTER smtp:.* is not used")
    gw.nothing_kept()


REFUSALS = [
    ("CONNECT", "554 5.3.2 go away", FAILED),
    ("CONNECT", "421 4.3.2 later", FAILED),
    ("MAIL", "550 5.1.8 not from there", "550 5.1.8 not from there"),
    ("MAIL", "421 4.3.2 busy", "451 4.3.2 busy"),
    ("DATA", "451 4.7.0 not now", "451 4.7.0 not now"),
    ("DOT", "554 5.7.0 Reject, id=1 - INFECTED",
     "554 5.7.0 Reject, id=1 - INFECTED"),
    ("DOT", "550 no status", "550 5.0.0 no status"),
    ("DOT", "554-5.7.0 one\r\n554 5.7.0 two", "554 5.7.0 one two"),
    ("DOT", "451 4.5.0 Error in processing",
     "451 4.5.0 Error in processing"),
    ("DOT", "421 4.3.0 bye", "451 4.3.0 bye"),
    ("DOT", "354 what", FAILED),
    ("DOT", "rubbish", FAILED),
    ("DOT", "close", FAILED),
    ("DATA", "close", FAILED),
    ("RCPT", "close", FAILED),
    ("CONNECT", "close", FAILED),
]


def test_what_it_refuses_is_the_answer(made):
    gw, inside, outside = made
    for verb, reply, expected in REFUSALS:
        outside.answers = {verb: reply}
        assert gw.say(mail("refused")) == expected, (verb, reply)
        gw.nothing_kept()
    gw.expect_log("proxy filter")
    outside.answers = {}
    assert gw.say(mail("last")).startswith("250 ")
    inside.wait_subject("last")
    assert not inside.find("refused") and not outside.passed[1:]
    gw.wait_log("proxy-reject: END-OF-MESSAGE from .*: 554 5.7.0 Reject, "
                "id=1 - INFECTED; from=<a@client.example> "
                "to=<user@example.com> proto=ESMTP")


def test_one_refused_recipient_refuses_all(made):
    gw, inside, outside = made
    outside.answers = {"RCPT": lambda a: "550 5.1.1 no such user" if "b@" in a
                       else None}
    assert gw.say(mail("mixed"), ["user@example.com", "b@example.com",
                                  "c@example.com"]) == \
        "550 5.1.1 no such user"
    # nobody got it, not even those who were accepted
    assert len(said(outside, "RCPT")) == 2 and not said(outside, "DATA")
    gw.nothing_kept()
    assert not inside.messages and not outside.messages
    outside.answers = {"RCPT": lambda a: "450 4.2.0 grey" if "b@" in a
                       else None}
    assert gw.say(mail("mixed"), ["user@example.com", "b@example.com"]) == \
        "450 4.2.0 grey"
    gw.nothing_kept()
    assert not inside.messages


def test_down_and_silent(made):
    gw, inside, outside = made
    gw.expect_log("proxy filter")
    outside.down()
    assert gw.say(mail("down")) == FAILED
    gw.nothing_kept()
    gw.wait_log(r"proxy filter \[127.0.0.1\]:\d+: .*Connection refused")
    outside.up()
    go_on = threading.Event()
    for verb in ("CONNECT", "DOT"):
        go_on.clear()
        outside.answers = {verb: lambda got: go_on.wait(60) and "close"}
        assert gw.say(mail("silent")) == FAILED
        go_on.set()
        gw.nothing_kept()
    gw.wait_log(r"proxy filter .*timed out while sending end of data")
    outside.answers = {}
    assert gw.say(mail("again")).startswith("250 ")
    inside.wait_subject("again")


def test_no_more_at_once_than_told(made):
    gw, inside, outside = made
    gw.edit("master.cf", lambda t: re.sub(
        r"(?m)^(127.0.0.1:%d\s+inet(\s+\S+){4}\s+)\S+(\s+smtpd)" % gw.port,
        r"\g<1>2\3", t))
    gw.again(smtpd_proxy_timeout="60s")
    at_once, most, lock = [0], [0], threading.Lock()

    def slow(got):
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.3)
        with lock:
            at_once[0] -= 1
    outside.answers = {"DOT": slow}
    answers = []
    threads = [threading.Thread(target=lambda i=i: answers.append(
        gw.say(mail(f"slow {i}")))) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(answers) == 12 and all(a.startswith("250 ") for a in answers)
    assert most[0] == 2
    inside.wait(12)
    gw.nothing_kept()


def test_held_mail_does_not_get_around_it(made):
    gw, inside, outside = made
    assert gw.say(mail("hold")).startswith("250 2.0.0 Ok: queued as ")
    wait_for("it in hold", lambda: len(gw.queued("hold")) == 1)
    assert not outside.sessions
    id, = (os.path.basename(f) for f in gw.queued("hold"))
    gw.command("quarantine", "release", id)
    assert b"X-Scanned: yes" in inside.wait_subject("hold").text
    gw.nothing_kept()


def test_kill_while_it_has_the_mail(made):
    """Whoever dies: the client hears no 250 and has the message still, or the
    message came back; and nothing of it is left here."""
    gw, inside, outside = made
    gw.expect_log("killed|gone|ended|proxy filter|queue manager")
    for n, role in enumerate(("qmgr", "relay")):
        there, go_on = threading.Event(), threading.Event()

        def slow(got):
            there.set()
            go_on.wait(30)
            return "close"
        outside.answers = {"DOT": slow}
        answers = []
        t = threading.Thread(target=lambda: answers.append(
            gw.say(mail(f"killed {n}"))))
        t.start()
        assert there.wait(30)
        gw.kill(role, signal.SIGKILL)
        t.join(60)
        assert answers == [FAILED]
        go_on.set()
        outside.answers = {}
        gw.ready()
        wait_for("mail again", lambda: gw.say(mail("after")).startswith(
            "250 "))
        gw.nothing_kept()
    assert not [m for m in inside.messages
                if m.field("Subject").startswith("killed")]


def test_reload_while_it_has_the_mail(made):
    gw, inside, outside = made
    there, go_on = threading.Event(), threading.Event()

    def slow(got):
        there.set()
        go_on.wait(30)
    gw.again(smtpd_proxy_timeout="60s")
    outside.answers = {"DOT": slow}
    answers = []
    t = threading.Thread(target=lambda: answers.append(
        gw.say(mail("reloaded"))))
    t.start()
    assert there.wait(30)
    # the new settings are those of new sessions only
    gw.again(smtpd_proxy_filter="")
    go_on.set()
    t.join(60)
    assert answers[0].startswith("250 ")
    inside.wait_subject("reloaded")
    before = outside.sessions
    assert "Ok: queued as" in gw.say(mail("direct"))
    assert b"X-Scanned" not in inside.wait_subject("direct").text
    assert outside.sessions == before
    gw.nothing_kept()


def test_client_that_leaves(made):
    gw, inside, outside = made
    there, go_on = threading.Event(), threading.Event()

    def slow(got):
        there.set()
        go_on.wait(30)
        return "554 5.7.1 no"
    outside.answers = {"DOT": slow}
    c = gw.client()
    c.ehlo()
    c.envelope("a@client.example", "user@example.com")
    assert c.cmd("DATA").code == 354
    c.send(mail("left") + b".\r\n")
    assert there.wait(30)
    c.close()
    go_on.set()
    gw.nothing_kept()
    assert not inside.messages


def test_needs_host_and_port(made):
    gw, _, _ = made
    gw.stop()       # or it would read the file too, and complain in its log
    for value in ("unix:/run/filter", "scan.example", "a b:10024"):
        gw.set(smtpd_proxy_filter=value)
        p = gw.command("check", check=False)
        assert p.returncode != 0 and "smtpd_proxy_filter" in \
            p.stdout + p.stderr


CLASSES = {
    "filter_policy_classes": "marked",
    "filter_policy_maps": "inline:{ {b@example.com = marked} }",
    "marked_header_checks": "pcre:marked",
}


def prdr(gw, text, *rcpts):
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<a@client.example> PRDR").code == 250
        for r in rcpts:
            assert c.cmd(f"RCPT TO:<{r}>").code == 250
        first = c.data_cmd(text)
        if first.code != 353:
            return [first.text]
        return [c.reply().text for _ in range(len(rcpts) + 1)]


def test_recipients_judged_differently(made):
    """What is split is stored, and goes through it all the same; what is
    refused for some is not, and the filter answers for the others."""
    gw, inside, outside = made
    gw.write("marked", "/^Subject: (split)/ REPLACE Subject: $1 marked\n"
             "/^Subject: worm/ REJECT a worm\n")
    gw.again(**CLASSES)
    both = ["user@example.com", "b@example.com"]
    assert "Ok: queued as" in gw.say(mail("split"), both)
    for subject, rcpt in (("split", both[0]), ("split marked", both[1])):
        got = inside.wait_subject(subject)
        assert got.rcpts == [rcpt] and b"X-Scanned: yes" in got.text
    gw.nothing_kept()
    answers = prdr(gw, mail("worm"), *both)
    assert answers[0].startswith("250 ") and answers[1] == \
        "550 5.7.1 <b@example.com>: a worm"
    assert answers[2] == outside.passed[-1]
    assert inside.wait_subject("worm").rcpts == [both[0]]
    # it is the answer for those that we would have taken
    outside.answers = {"DOT": "554 5.7.0 no"}
    assert prdr(gw, mail("worm"), *both) == ["554 5.7.0 no"]
    gw.nothing_kept()


def test_smtputf8_and_size_it_does_not_take(made):
    gw, inside, outside = made
    outside.keywords = ("8BITMIME", "SIZE 1000")
    assert re.fullmatch(r"554 5.3.4 message size \d+ exceeds size limit 1000 "
                        r"of server 127.0.0.1\[127.0.0.1\]",
                        gw.say(mail("big", b"x" * 70 + b"\r\n" + b"y\r\n" *
                                    500)))
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<é@client.example> SMTPUTF8").code == 250
        assert c.cmd("RCPT TO:<user@example.com>").code == 250
        assert c.data_cmd(mail("utf8")).text.startswith("554 5.6.7 ")
    assert not outside.messages
    gw.nothing_kept()


def test_replies_in_pieces_and_long_ones(made):
    gw, _, outside = made
    outside.answers = {"DOT": "550 5.7.1 " + "x" * 1900}
    answer = gw.say(mail("long"))
    assert answer.startswith("550 5.7.1 xxx") and len(answer) <= 510
    outside.answers = {"DOT": "\r\n".join(
        ["550-5.7.1 y"] * 99 + ["550 5.7.1 end"])}
    answer = gw.say(mail("lines"))
    assert answer.startswith("550 5.7.1 y y y") and len(answer) <= 510
    # bytes that would be lines of ours
    outside.answers = {"DOT": "550 5.7.1 a\0b\x1bc\rd"}
    assert re.fullmatch(r"550 5.7.1 a\?b\?c.d", gw.say(mail("bytes")))
    gw.nothing_kept()


# -- the way back: XFORWARD ---------------------------------------------------

SAID = "XFORWARD NAME=far.example ADDR=192.0.2.7 PORT=4711 HELO=h+3Di " \
    "PROTO=ESMTP IDENT=ABC123 SOURCE=REMOTE"


@pytest.fixture
def inner():
    """A gateway that its clients here may tell who their clients are."""
    sink = Sink(keywords=KEYWORDS)
    gw = None
    try:
        gw = Instance(sink, main={
            "smtpd_authorized_xforward_hosts": "127.0.0.1",
            "smtpd_soft_error_limit": "100",
            "smtp_send_xforward_command": "yes"})
        yield gw, sink
    finally:
        if gw:
            gw.destroy()
        sink.close()


def xforward(sink):
    return [{k: v for k, _, v in (w.partition("=") for w in c.split()[1:])}
            for c in sink.commands if c.startswith("XFORWARD")]


def test_xforward_in_the_log_and_the_envelope(inner):
    gw, sink = inner
    with gw.client() as c:
        assert "250-XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT" in \
            c.ehlo().lines
        assert c.cmd(SAID).text == "250 2.0.0 Ok"
        assert c.message("a@client.example", "user@example.com",
                         mail("first")).code == 250
        # it was for that message
        assert c.message("a@client.example", "user@example.com",
                         mail("second")).code == 250
    gw.wait_log(r"client=unknown\[127.0.0.1\], orig_queue_id=ABC123, "
                r"orig_client=far.example\[192.0.2.7\]$")
    gw.wait_log(r"client=unknown\[127.0.0.1\]$")
    sink.wait(2)
    told = {f["ADDR"]: f for f in xforward(sink)}
    assert sorted(told) == ["127.0.0.1", "192.0.2.7"]
    f = told["192.0.2.7"]
    assert (f["NAME"], f["PORT"], f["HELO"], f["PROTO"]) == (
        "far.example", "4711", "h+3Di", "ESMTP")
    # and it is the truth that stands in the text
    assert b"far.example" not in b"".join(m.text for m in sink.messages)


def test_xforward_that_is_wrong(inner):
    gw, sink = inner
    with gw.client() as c:
        c.ehlo()
        for words, answer in (
                ("", "501 5.5.4 Syntax: XFORWARD attribute=value..."),
                (" FOO=x", "501 5.5.4 Bad XFORWARD attribute name: FOO"),
                (" NAME", "501 5.5.4 Bad XFORWARD attribute name: NAME"),
                (" NAME=", "501 5.5.4 Bad NAME syntax:"),
                (" NAME=a..b", "501 5.5.4 Bad NAME syntax: a..b"),
                (" ADDR=1.2.3", "501 5.5.4 Bad ADDR syntax: 1.2.3"),
                (" ADDR=[TEMPUNAVAIL]",
                 "501 5.5.4 Bad ADDR syntax: [TEMPUNAVAIL]"),
                (" PORT=0", "501 5.5.4 Bad PORT syntax: 0"),
                (" PORT=65536", "501 5.5.4 Bad PORT syntax: 65536"),
                (" PROTO=" + "x" * 33, "501 5.5.4 Bad PROTO syntax: " +
                 "x" * 33),
                (" SOURCE=HERE", "501 5.5.4 Bad SOURCE syntax: HERE"),
                (" HELO=+0", "501 5.5.4 Bad HELO syntax: +0"),
                (" HELO=a+0D+0Ab", "501 5.5.4 Bad HELO syntax: a+0D+0Ab"),
                # one bad word, and nothing of the command counts
                (" ADDR=192.0.2.9 PORT=x", "501 5.5.4 Bad PORT syntax: x")):
            assert c.cmd("XFORWARD" + words).text.strip() == answer, words
        assert c.cmd("XFORWARD HELO=a+3Cc NAME=[UNAVAILABLE] "
                     "ADDR=IPV6:2001:db8::1").code == 250
        c.envelope("a@client.example")
        assert c.cmd(SAID).text == \
            "503 5.5.1 Error: MAIL transaction in progress"
        assert c.cmd("RCPT TO:<user@example.com>").code == 250
        assert c.data_cmd(mail("v6")).code == 250
        assert c.cmd(SAID).code == 250
        assert c.cmd("RSET").code == 250
        assert c.message("a@client.example", "user@example.com",
                         mail("reset")).code == 250
    gw.wait_log(r"client=unknown\[127.0.0.1\], "
                r"orig_client=unknown\[2001:db8::1\]$")
    sink.wait(2)
    assert {f["ADDR"] for f in xforward(sink)} == {"IPV6:2001:db8::1",
                                                   "127.0.0.1"}
    assert {f["HELO"] for f in xforward(sink)} == {"a?c", "client.example"}


def test_xforward_of_others(made):
    gw, _, _ = made
    with gw.client() as c:
        assert "XFORWARD" not in c.ehlo().text
        assert c.cmd(SAID).text == "550 5.7.0 Error: insufficient " \
            "authorization"
        assert c.message("a@client.example", "user@example.com",
                         mail("plain")).code == 250
    assert "orig_client" not in gw.log()
