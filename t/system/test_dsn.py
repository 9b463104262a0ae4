"""Delivery status notifications: who is told what, when, and once."""
import os
import re
import shutil
import signal
import time

import pytest
from dsn_report import Report, reports
from postern import (DOMAIN, HOSTNAME, SLOW, Client, Closed, Sink, mail,
                     wait_for)
from test_message import Inside
from test_tools import listing

ANN = "ann@client.example"
NOTIFY = {"plain": None, "never": "NEVER", "success": "SUCCESS",
          "failure": "FAILURE", "delay": "DELAY",
          "all": "SUCCESS,FAILURE,DELAY"}
USUAL = ("PIPELINING", "8BITMIME", "SIZE", "SMTPUTF8", "ENHANCEDSTATUSCODES")
SOON = {"minimal_backoff_time": "1s", "maximal_backoff_time": "1s",
        "queue_run_delay": "1s"}


@pytest.fixture
def gateway(make, sink):
    """A gateway that relays everything to one sink, notifications too."""
    def gateway(**main):
        return make(sink, main={
            "mynetworks": "127.0.0.0/8",
            "relayhost": f"[127.0.0.1]:{sink.port}", **main})
    return gateway


def hand_in(gw, rcpts, text=None, sender=ANN, more=""):
    """rcpts: addresses, or {address: parameters}; the queue id."""
    if not isinstance(rcpts, dict):
        rcpts = {r: "" for r in ([rcpts] if isinstance(rcpts, str)
                                 else rcpts)}
    with gw.client(timeout=120) as c:
        c.ehlo()
        r = c.cmd(f"MAIL FROM:<{sender}>{more}")
        assert r.code == 250, r
        for address, parameters in rcpts.items():
            r = c.cmd(f"RCPT TO:<{address}>{parameters}")
            assert r.code == 250, r
        r = c.data_cmd(text or mail())
        assert r.code == 250, r
        c.cmd("QUIT")
    return r.text.rsplit(" ", 1)[1]


def everyone():
    """A recipient for each NOTIFY."""
    return {f"{name}@{DOMAIN}": f" NOTIFY={value}" if value else ""
            for name, value in NOTIFY.items()}


def addresses(*names):
    return {f"{n}@{DOMAIN}" for n in names}


def no_recipient(reply):
    """Nobody at DOMAIN is taken."""
    return lambda verb, arg: reply if verb == "RCPT" and \
        arg.endswith("@" + DOMAIN) else None


def wait_reports(sink, n=1, sender=""):
    wait_for(f"{n} notifications from <{sender}>",
             lambda: len([m for m in list(sink.messages)
                          if m.sender == sender]) >= n, 20)
    got = reports(sink, sender)
    assert len(got) == n, got
    return got


def emptied(gw):
    wait_for("an empty spool", lambda: not gw.queued())


def returns(report, ret):
    """What RET asked for is what came back."""
    assert report.headers_only == (ret == "HDRS")
    assert b"Subject: hello" in report.original
    assert (b"the body" in report.original) == (ret != "HDRS")


RETS = [None, "FULL", "HDRS"]


def with_ret(ret):
    return " ENVID=QQ+2B31" + (f" RET={ret}" if ret else "")


@pytest.mark.parametrize("ret", RETS)
def test_delivered_to_a_server_with_dsn(gateway, sink, ret):
    sink.keywords = USUAL + ("DSN",)
    gw = gateway()
    qid = hand_in(gw, everyone(), more=with_ret(ret))
    sink.wait(1)
    gw.wait_log(qid + ": removed")
    assert len(sink.messages) == 1, "a notice that is the next server's"
    command = next(c for c in sink.commands if c.startswith("MAIL"))
    assert " ENVID=QQ+2B31" in command
    assert re.findall(r" RET=(\w+)", command) == ([ret] if ret else [])
    for name, value in NOTIFY.items():
        address = f"{name}@{DOMAIN}"
        assert f"RCPT TO:<{address}>" + (
            f" NOTIFY={value}" if value else "") + \
            f" ORCPT=rfc822;{address}" in sink.commands


@pytest.mark.parametrize("ret", RETS)
def test_relayed_to_a_server_without_dsn(gateway, sink, ret):
    gw = gateway()
    qid = hand_in(gw, everyone(), mail(body=b"the body\r\n"),
                  more=with_ret(ret))
    (to, r), = wait_reports(sink)
    assert to == [ANN]
    gw.wait_log(qid + ": sender delivery status notification: [0-9A-F]{11}$")
    assert set(r.recipients) == addresses("success", "all")
    for f in r.recipients.values():
        assert (f["action"], f["status"]) == ("relayed", "2.0.0")
        assert f["diagnostic-code"] == "smtp; 250 2.0.0 Ok: taken"
        assert f["remote-mta"] == "dns; 127.0.0.1"
    assert r.message["original-envelope-id"] == "QQ+31"
    assert r.message["x-postern-queue-id"] == qid
    assert r.subject == "Successful Mail Delivery Report"
    # RET is for failures alone
    returns(r, "HDRS")
    gw.wait_log(qid + ": removed")
    assert not any(" NOTIFY=" in c or " ENVID=" in c or " ORCPT=" in c
                   for c in sink.commands)
    emptied(gw)


@pytest.mark.parametrize("ret", RETS)
def test_failed(gateway, sink, ret):
    sink.on = no_recipient("550 5.1.1 no such user")
    gw = gateway()
    qid = hand_in(gw, everyone(), mail(body=b"the body\r\n"),
                  more=with_ret(ret))
    (to, r), = wait_reports(sink)
    assert to == [ANN]
    gw.wait_log(qid + ": sender non-delivery notification: [0-9A-F]{11}$")
    assert set(r.recipients) == addresses("plain", "failure", "all")
    for f in r.recipients.values():
        assert (f["action"], f["status"]) == ("failed", "5.1.1")
        assert f["diagnostic-code"] == "smtp; 550 5.1.1 no such user"
    assert r.message["x-postern-sender"] == "rfc822; " + ANN
    assert r.message["original-envelope-id"] == "QQ+31"
    returns(r, ret)
    for name in NOTIFY:
        gw.wait_log(qid + f": to=<{name}@example.com>.*status=bounced")
    emptied(gw)
    log = gw.log()
    assert log.index(qid + ": sender non-delivery") < \
        log.index("from=<>, size=")


@pytest.mark.parametrize("ret", [
    pytest.param(None, marks=pytest.mark.long), "FULL"])
def test_delayed_is_told_once(gateway, sink, ret):
    sink.on = no_recipient("450 4.2.0 later")
    gw = gateway(delay_warning_time="1s", **SOON)
    qid = hand_in(gw, everyone(), mail(body=b"the body\r\n"),
                  more=with_ret(ret))
    (to, r), = wait_reports(sink)
    assert to == [ANN]
    gw.wait_log(qid + ": sender delay notification: [0-9A-F]{11}$")
    assert set(r.recipients) == addresses("plain", "delay", "all")
    for f in r.recipients.values():
        assert (f["action"], f["status"]) == ("delayed", "4.2.0")
    assert r.subject == "Delayed Mail (still being retried)"
    returns(r, "HDRS")

    def attempts():
        return len(re.findall(qid + r": to=<plain@.*status=deferred",
                              gw.log()))
    before = attempts()
    wait_for("more attempts", lambda: attempts() > before + 1, 30)
    gw.stop()
    before = attempts()
    gw.start()
    wait_for("attempts after a restart", lambda: attempts() > before + 1, 30)
    assert len(reports(sink)) == 1
    # in the end it arrives
    sink.on = lambda verb, arg: None
    wait_for("delivery", lambda: any(m.sender == ANN for m in sink.messages))
    # ... which those hear who asked for it, without details of the delay
    wait_for("the notice of success", lambda: len(reports(sink)) == 2)
    assert set(reports(sink)[1][1].recipients) == addresses("success", "all")
    emptied(gw)


def test_no_delay_notice_by_default(gateway, sink):
    sink.on = no_recipient("450 4.2.0 later")
    gw = gateway(**SOON)
    qid = hand_in(gw, f"plain@{DOMAIN}")
    wait_for("attempts", lambda: len(re.findall(
        qid + ".*status=deferred", gw.log())) > 3, 30)
    assert not sink.messages
    gw.command("flush")


@pytest.mark.parametrize("ret", RETS)
def test_expired(gateway, sink, ret):
    """A life of 0 is one attempt."""
    sink.on = no_recipient("450 4.2.0 later")
    gw = gateway(maximal_queue_lifetime="0", delay_warning_time="1s")
    qid = hand_in(gw, everyone(), mail(body=b"the body\r\n"),
                  more=with_ret(ret))
    (to, r), = wait_reports(sink)
    assert to == [ANN]
    gw.wait_log(qid + ": from=<ann@client.example>, status=expired, returned "
                "to sender")
    assert set(r.recipients) == addresses("plain", "failure", "all")
    for f in r.recipients.values():
        assert (f["action"], f["status"]) == ("failed", "4.2.0")
        assert f["diagnostic-code"] == "smtp; 450 4.2.0 later"
    returns(r, ret)
    for name in NOTIFY:
        gw.wait_log(qid + f": to=<{name}@example.com>.*dsn=4.2.0, "
                    r"status=bounced \(host .* said: 450 4.2.0 later")
    emptied(gw)
    assert sum("RCPT TO:<plain@" in c for c in sink.commands) == 1


@pytest.mark.parametrize("main", [
    dict(bounce_queue_lifetime="0"), dict(maximal_queue_lifetime="0")])
def test_expired_notification(gateway, sink, main):
    """The shorter life of the two; and nobody is told."""
    sink.on = no_recipient("450 4.2.0 later")
    gw = gateway(**main)
    qid = hand_in(gw, f"plain@{DOMAIN}", sender="")
    gw.wait_log(qid + ": from=<>, status=expired, returned to sender")
    gw.wait_log(qid + ": undeliverable, and the sender is <>: dropped for 1")
    emptied(gw)
    assert not sink.messages


def test_expired_says_the_last_real_reason(gateway, sink):
    """Not that the destination was not even tried."""
    sink.on = no_recipient("450 4.2.0 later")
    # where notices go must work
    other = Sink()
    try:
        gw = gateway(maximal_queue_lifetime="6s",
                     relayhost=f"[127.0.0.1]:{other.port}", **SOON)
        qid = hand_in(gw, f"plain@{DOMAIN}")
        gw.wait_log(qid + ".*status=deferred .*450 4.2.0 later")
        sink.down()
        (to, r), = wait_reports(other)
        f, = r.recipients.values()
        assert "temporarily suspended" not in r.words
        assert "450 4.2.0 later" in f["diagnostic-code"] or \
            "Connection refused" in f["diagnostic-code"]
        emptied(gw)
    finally:
        other.close()


def test_a_server_whose_dsn_is_not_used(gateway, sink):
    sink.keywords = USUAL + ("DSN",)
    gw = gateway(smtp_discard_ehlo_keywords="dsn")
    hand_in(gw, {f"user@{DOMAIN}": " NOTIFY=SUCCESS ORCPT=rfc822;x@y"})
    (to, r), = wait_reports(sink)
    f, = r.recipients.values()
    assert f["original-recipient"] == "rfc822; x@y"
    assert not any("ORCPT=" in c for c in sink.commands)


def test_orcpt_goes_both_ways(gateway, sink):
    sink.keywords = USUAL + ("DSN",)
    sink.on = lambda verb, arg: "550 5.1.1 no" if verb == "RCPT" and \
        arg.startswith("gone") else None
    gw = gateway()
    hand_in(gw, {f"fine@{DOMAIN}": " ORCPT=rfc822;a+2Bb@old.example",
                 f"gone@{DOMAIN}": " ORCPT=rfc822;list+3Dx@old.example"})
    (to, r), = wait_reports(sink)
    f, = r.recipients.values()
    assert f["original-recipient"] == "rfc822; list=x@old.example"
    assert f["final-recipient"] == f"rfc822; gone@{DOMAIN}"
    assert f"RCPT TO:<fine@{DOMAIN}> ORCPT=rfc822;a+2Bb@old.example" in \
        sink.commands
    assert f"RCPT TO:<{ANN}> ORCPT=rfc822;{ANN}" in sink.commands


def test_utf8(gateway, sink):
    sink.keywords = USUAL + ("DSN",)
    sink.on = no_recipient("550 5.1.1 niemand heißt so")
    gw = gateway()
    hand_in(gw, {f"jörg@{DOMAIN}": " ORCPT=utf-8;jörg@old.example"},
            mail("grüß Gott", "Körper\r\n".encode()),
            sender="änn@client.example", more=" SMTPUTF8")
    (to, r), = wait_reports(sink)
    assert to == ["änn@client.example"] and r.global_
    f, = r.recipients.values()
    assert f["final-recipient"] == f"utf-8; jörg@{DOMAIN}"
    assert f["original-recipient"] == "utf-8; jörg@old.example"
    assert f["diagnostic-code"] == "smtp; 550 5.1.1 niemand heißt so"
    assert r.message["x-postern-sender"] == "utf-8; änn@client.example"
    assert f"RCPT TO:<jörg@{DOMAIN}> ORCPT=utf-8;j\\x{{F6}}rg@old.example" \
        in sink.commands
    command = [c for c in sink.commands if c.startswith("MAIL FROM:<>")][0]
    assert " SMTPUTF8" in command and " BODY=8BITMIME" in command


def test_8bit_for_an_ascii_sender(gateway, sink):
    sink.on = no_recipient("550 5.1.1 niemand hei\xdft so")
    gw = gateway()
    hand_in(gw, f"user@{DOMAIN}", mail("hello", b"K\xf6rper\r\n"),
            more=" BODY=8BITMIME")
    (to, r), = wait_reports(sink)
    assert not r.global_ and b"K\xf6rper" in r.original


def test_bounce_size_limit(gateway, sink):
    sink.on = no_recipient("550 5.1.1 no")
    gw = gateway(bounce_size_limit="2000")
    hand_in(gw, f"user@{DOMAIN}", mail("hello", b"the body\r\n" * 500),
            more=" RET=FULL")
    (to, r), = wait_reports(sink)
    returns(r, "HDRS")
    assert b"Received: from client.example" in r.original


# Those who look after mail here


def test_postmaster_copies(gateway, sink):
    sink.on = no_recipient("550 5.1.1 no")
    gw = gateway(notify_classes="bounce, delay", delay_warning_time="1s",
                 bounce_notice_recipient="errors@client.example",
                 delay_notice_recipient="late@client.example", **SOON)
    qid = hand_in(gw, everyone(), mail(body=b"the body\r\n"))
    double = f"double-bounce@{HOSTNAME}"
    (to, r), = wait_reports(sink, sender=double)
    assert to == ["errors@client.example"]
    assert r.subject == "Postmaster Copy: Undelivered Mail"
    returns(r, "HDRS")
    # he hears of all, whatever NOTIFY says
    assert set(r.recipients) == addresses(*NOTIFY)
    gw.wait_log(qid + ": postmaster non-delivery notification: ")
    assert [to for to, _ in wait_reports(sink)] == [[ANN]]
    emptied(gw)
    sink.messages.clear()
    sink.on = no_recipient("450 4.2.0 later")
    qid = hand_in(gw, f"plain@{DOMAIN}")
    (to, r), = wait_reports(sink, sender=double)
    assert to == ["late@client.example"]
    assert r.subject == "Postmaster Warning: Delayed Mail"
    gw.wait_log(qid + ": postmaster delay notification: ")
    assert len(wait_reports(sink)) == 1


def test_double_bounce(gateway, sink):
    sink.on = no_recipient("550 5.1.1 no")
    gw = gateway(notify_classes="2bounce",
                 **{"2bounce_notice_recipient": "twice@client.example"})
    qid = hand_in(gw, f"plain@{DOMAIN}", mail(body=b"the body\r\n"),
                  sender="")
    (to, r), = wait_reports(sink, sender=f"double-bounce@{HOSTNAME}")
    assert to == ["twice@client.example"]
    gw.wait_log(qid + ": postmaster non-delivery notification: ")
    returns(r, "FULL")
    assert "x-postern-sender" not in r.message
    emptied(gw)
    assert not reports(sink)


def test_loops_end(gateway, sink):
    """Nothing can be delivered: a notice about a notice, and no more."""
    sink.on = lambda verb, arg: "550 5.1.1 no" if verb == "RCPT" else None
    gw = gateway(notify_classes="bounce 2bounce")
    qid = hand_in(gw, f"plain@{DOMAIN}")
    gw.wait_log(r"warning: [0-9A-F]{11}: undeliverable postmaster "
                "notification discarded", 20)
    emptied(gw)
    log = gw.log()
    # the notice, the postmaster's copy, and what became of the notice
    assert len(re.findall("postmaster non-delivery notification", log)) == 2
    assert len(re.findall("sender non-delivery notification", log)) == 1
    assert len(re.findall("notification discarded", log)) == 2
    assert not sink.messages
    assert qid in log


def test_null_sender_without_the_class(gateway, sink):
    sink.on = no_recipient("550 5.1.1 no")
    gw = gateway()
    qid = hand_in(gw, everyone(), sender="")
    gw.wait_log(qid + ": undeliverable, and the sender is <>: dropped for 6")
    emptied(gw)
    assert not sink.messages


def test_success_for_a_null_sender_is_not_told(gateway, sink):
    gw = gateway()
    hand_in(gw, everyone(), sender="")
    sink.wait(1)
    emptied(gw)
    assert len(sink.messages) == 1


@pytest.mark.parametrize("domain", [HOSTNAME, "example.com"])
def test_mail_to_double_bounce_ends_here(gateway, sink, domain):
    gw = gateway(mydomain="example.com")
    qid = hand_in(gw, f"Double-Bounce@{domain}")
    gw.wait_log(qid + r": to=<Double-Bounce@.*, relay=none, .*dsn=2.0.0, "
                r"status=sent \(undeliverable postmaster notification "
                r"discarded\)")
    emptied(gw)
    assert not sink.messages


def test_no_double_bounce_of_others(gateway, sink):
    gw = gateway()
    hand_in(gw, "double-bounce@elsewhere.example")
    sink.wait(1)


def errors(gw, *commands):
    with gw.client() as c:
        c.ehlo()
        replies = [c.cmd(x) for x in commands]
        c.cmd("QUIT")
    return replies


def test_postmaster_hears_of_sessions(gateway, sink):
    gw = gateway(notify_classes="policy, protocol",
                 error_notice_recipient="errors@client.example",
                 mynetworks="192.0.2.1")
    # rules are for what others send
    rules(gw, "header_checks", "/SMTP server/ REJECT", "/./ INFO")
    rules(gw, "body_checks", "/NOOPE/ REJECT")
    gw.command("reload")
    assert [r.code for r in errors(
        gw, "NOOPE", "MAIL FROM:<a@b.example>",
        "RCPT TO:<u@elsewhere.example>")][::2] == [500, 554]
    m, = sink.wait(1)
    assert m.sender == f"double-bounce@{HOSTNAME}"
    assert m.rcpts == ["errors@client.example"]
    assert m.field("Subject") == \
        "Postern SMTP server: errors from unknown[127.0.0.1]"
    assert b"In: NOOPE\r\nOut: 500 5.5.2" in m.body
    assert b"(notify_classes: policy protocol)" in m.body
    errors(gw, "MAIL FROM:<a@b.example>")
    emptied(gw)
    time.sleep(0.5)
    assert len(sink.messages) == 1


def test_undeliverable_mail_about_sessions_ends(gateway, sink):
    sink.on = lambda verb, arg: "550 5.1.1 no" if verb == "RCPT" else None
    gw = gateway(notify_classes="protocol, bounce, 2bounce")
    errors(gw, "NOOPE")
    gw.wait_log("undeliverable postmaster notification discarded")
    emptied(gw)
    assert "non-delivery notification" not in gw.log()


# What rules do to recipients


def rules(gw, name, *lines):
    gw.write(name, "".join(line + "\n" for line in lines))


def test_bcc_is_not_told(gateway, sink):
    sink.on = no_recipient("550 5.1.1 no")
    gw = gateway()
    rules(gw, "header_checks", f"/^Subject:/ BCC secret@{DOMAIN}")
    gw.command("reload")
    qid = hand_in(gw, f"plain@{DOMAIN}")
    (to, r), = wait_reports(sink)
    gw.wait_log(qid + f": to=<secret@{DOMAIN}>.*status=bounced")
    assert set(r.recipients) == addresses("plain")
    assert b"secret" not in sink.messages[0].text
    emptied(gw)


def test_redirect_names_the_original(gateway, sink):
    sink.on = no_recipient("550 5.1.1 no")
    gw = gateway()
    rules(gw, "header_checks", f"/^Subject:/ REDIRECT elsewhere@{DOMAIN}")
    gw.command("reload")
    hand_in(gw, f"plain@{DOMAIN}")
    (to, r), = wait_reports(sink)
    f, = r.recipients.values()
    assert f["final-recipient"] == f"rfc822; elsewhere@{DOMAIN}"
    assert f["original-recipient"] == f"rfc822; plain@{DOMAIN}"


# Templates


TEMPLATE = """failure_template = <<EOF
Charset: utf-8
From: Postamt (Poststelle)
Subject: Zurueck

Grüße von $myhostname, %s.
EOF
"""


@pytest.mark.long
def test_template_file_is_reread(gateway, sink):
    sink.on = no_recipient("550 5.1.1 no")
    gw = gateway(bounce_template_file="$config_directory/bounce.cf")
    gw.write("bounce.cf", TEMPLATE % "one")

    def says(word):
        def once():
            sink.messages.clear()
            hand_in(gw, f"plain@{DOMAIN}")
            (to, r), = wait_reports(sink)
            return (word in r.words) and r
        return wait_for(f"{word} in a notice", once, 20)
    r = says("Grüße von gw.example.com, one.")
    assert r.subject == "Zurueck"
    assert re.search(rb"(?m)^From: Postamt@" + HOSTNAME.encode() +
                     rb" \(Poststelle\)\r$", sink.messages[0].text)
    gw.write("bounce.cf", TEMPLATE % "two")
    says("Grüße von gw.example.com, two.")
    # a mistake: the built-in words are better than none
    gw.write("bounce.cf", TEMPLATE % "$nonsense")
    says("could not be delivered")
    gw.wait_log(r"warning: \S+/bounce\.cf:6: undefined parameter nonsense; "
                "the built-in failure_template is used")


# Crashes


def test_success_notice_survives_a_crash(gateway, sink):
    """Relayed, and the notice not yet written: it is not relayed again."""
    gw = gateway()
    gw.expect_log("killed by signal")
    hand_in(gw, {f"first@{DOMAIN}": " NOTIFY=SUCCESS"})
    wait_for("two messages", lambda: len(sink.messages) == 2)
    emptied(gw)
    sink.messages.clear()
    bounce = gw.kill("bounce", signal.SIGSTOP)
    qid = hand_in(gw, {f"second@{DOMAIN}": " NOTIFY=SUCCESS"})
    gw.wait_log(qid + ".*status=sent")
    # qmgr knows, and waits for the notice
    wait_for("no open recipient", lambda: [] == listing(
        gw)[qid]["recipients"])
    gw.kill("qmgr")
    gw.wait_log("qmgr.*killed by signal 9")
    os.kill(bounce, signal.SIGKILL)
    (to, r), = wait_reports(sink)
    f, = r.recipients.values()
    assert f["action"] == "relayed"
    assert "details were lost" in f["diagnostic-code"]
    emptied(gw)
    assert len([m for m in sink.messages if m.sender == ANN]) == 1


@pytest.mark.parametrize("role", ["bounce", "qmgr"])
@pytest.mark.parametrize("journal", ["yes", "no"])
def test_no_notice_is_lost(gateway, sink, role, journal):
    sink.on = no_recipient("550 5.1.1 no")
    gw = gateway(queue_journal=journal, service_throttle_time="1s", **SOON)
    gw.expect_log("killed by signal|cannot write a notification")
    ids, kills = [], 0

    def one():
        i = len(ids)
        try:
            ids.append(hand_in(gw, [f"a{i}@{DOMAIN}", f"b{i}@{DOMAIN}"]))
            return True
        except (AssertionError, OSError, Closed):
            return False        # no 250: not our promise
    for i in range(32):
        wait_for("a message to be taken", one, 30)
        if i % 4 == 3:
            # it may be down since the last time
            wait_for(f"a {role} to kill", lambda: gw.kill(role), 30)
            kills += 1
            gw.ready()
    assert len(ids) == 32 and kills == 8
    wait_for("a queue manager", lambda: gw.command(
        "flush", check=False).returncode == 0)

    def told():
        have = {}
        for _, r in reports(sink):
            q = r.message["x-postern-queue-id"]
            have.setdefault(q, []).append(r)
        return set(ids) <= set(have) and have
    wait_for("a notice for each message", told, 60)
    wait_for("an empty spool", lambda: not gw.queued(), 60)
    have = told()
    for q in ids:
        # a second one only where the process died in between
        assert 1 <= len(have[q]) <= 1 + kills
        assert len({a for r in have[q] for a in r.recipients}) == 2


def test_reload_while_notices_are_written(gateway, sink):
    sink.on = no_recipient("550 5.1.1 no")
    gw = gateway()
    ids = []
    for i in range(20):
        ids.append(hand_in(gw, f"a{i}@{DOMAIN}"))
        if i % 7 == 3:
            gw.command("reload")
    wait_for("all notices", lambda: len(sink.messages) >= 20, 30)
    emptied(gw)
    assert sorted(r.message["x-postern-queue-id"]
                  for _, r in reports(sink)) == sorted(ids)


def test_ten_thousand_recipients_fail(gateway, sink):
    long = "x" * 300
    sink.on = lambda verb, arg: f"550 5.1.1 <{arg}>: no such user {long}" \
        if verb == "RCPT" and arg.endswith("@" + DOMAIN) else None
    gw = gateway(smtpd_recipient_limit="10000",
                 default_destination_recipient_limit="1000")
    everybody = [f"user{i:05}@{DOMAIN}" for i in range(10000)]
    with gw.client(timeout=300) as c:
        c.ehlo()
        assert c.cmd(f"MAIL FROM:<{ANN}>").code == 250
        for k in range(0, 10000, 500):
            c.send("".join(f"RCPT TO:<{r}>\r\n"
                           for r in everybody[k:k + 500]).encode())
            for _ in range(500):
                assert c.reply().code == 250
        assert c.data_cmd(mail(body=b"the body\r\n")).code == 250
    wait_for("the notice", lambda: sink.messages, 120)
    emptied(gw)
    (to, r), = reports(sink)
    assert set(r.recipients) == set(everybody)
    assert len(sink.messages[0].text) < 16 << 20
    f = r.recipients[everybody[-1]]
    assert "550 5.1.1" in f["diagnostic-code"]


# With Postfix


def postfix(relayhost):
    if os.getuid() != 0 or not shutil.which("postfix"):
        pytest.skip("needs root, and Postfix")
    return Inside("postfix", "mail/inbox", f"relayhost = {relayhost}\n")


def test_postfix_behind_us(make, sink):
    """It has DSN, so the notices are its own - and name what we gave it."""
    server = postfix(f"[127.0.0.1]:{sink.port}")
    try:
        gw = make(relay=f"127.0.0.1:{server.port}",
                  main={"mynetworks": "127.0.0.0/8"})
        qid = hand_in(gw, {
            f"fine@{DOMAIN}": " NOTIFY=SUCCESS ORCPT=rfc822;a+2Bb@old.example",
            f"quiet@{DOMAIN}": " NOTIFY=NEVER",
            f"plain@{DOMAIN}": ""},
            mail(body=b"the body\r\n"), more=" ENVID=QQ+2B31 RET=HDRS")
        gw.wait_log(qid + ": removed")
        server.wait_text(b"the body")
        wait_for("a notice from Postfix", lambda: sink.messages, 30)
        time.sleep(1)
        m, = sink.messages
        assert m.sender == "" and m.rcpts == [ANN]
        text = re.sub(rb"\r\n[ \t]+", b" ", m.text)
        assert b"Original-Envelope-Id: QQ+31\r\n" in text or \
            b"Original-Envelope-Id: QQ+2B31\r\n" in text
        assert b"Original-Recipient: rfc822;a+b@old.example\r\n" in text
        assert b"Action: delivered\r\n" in text
        assert text.count(b"Final-Recipient:") == 1
    finally:
        server.stop()


def test_postfix_in_front_of_us(gateway, sink):
    """What it passes on reaches the next server, or comes back from us."""
    sink.on = lambda verb, arg: "550 5.1.1 no" if verb == "RCPT" and \
        arg.startswith("gone@") else None
    gw = gateway(smtp_connection_cache_on_demand="no")
    server = postfix(f"[127.0.0.1]:{gw.port}")
    try:
        with Client(server.port) as c:
            c.ehlo()
            assert c.cmd(f"MAIL FROM:<{ANN}> ENVID=QQ+2B31 "
                         "RET=HDRS").code == 250
            for rcpt, more in (("a@b.example", "NOTIFY=SUCCESS,FAILURE"),
                               ("gone@b.example",
                                "ORCPT=rfc822;list@old.example"),
                               ("quiet@b.example", "NOTIFY=NEVER")):
                assert c.cmd(f"RCPT TO:<{rcpt}> {more}").code == 250
            assert c.data_cmd(mail(body=b"the body\r\n")).code == 250
        wait_for("message and two notices",
                 lambda: len(sink.messages) >= 3, 30)
        emptied(gw)
        got = {r.subject: r for _, r in reports(sink)}
        relayed = got["Successful Mail Delivery Report"]
        failed = got["Undelivered Mail Returned to Sender"]
        assert len(sink.messages) == 3
        assert set(relayed.recipients) == {"a@b.example"}
        f, = failed.recipients.values()
        assert f["original-recipient"] == "rfc822; list@old.example"
        assert failed.headers_only
        for r in got.values():
            assert r.message["original-envelope-id"] == "QQ+31"
        # the same once more to a server with DSN
        sink.keywords = USUAL + ("DSN",)
        sink.commands.clear()
        with Client(server.port) as c:
            c.ehlo()
            assert c.cmd(f"MAIL FROM:<{ANN}> ENVID=QQ+2B31").code == 250
            assert c.cmd("RCPT TO:<jo+x@c.example> NOTIFY=DELAY").code == 250
            assert c.data_cmd(mail()).code == 250
        wait_for("the command", lambda: any(
            c.startswith("RCPT TO:<jo+x@c.example>")
            for c in sink.commands), 30)
        assert "RCPT TO:<jo+x@c.example> NOTIFY=DELAY " \
            "ORCPT=rfc822;jo+2Bx@c.example" in sink.commands
        assert any(" ENVID=QQ+2B31" in c for c in sink.commands)
    finally:
        server.stop()


def test_report_reader_sees_mistakes():
    """The judge of all these is one."""
    good = (b"Received: x\r\nFrom: a@b\r\nTo: c@d\r\nSubject: s\r\n"
            b"Date: Sat, 21 Nov 2026 03:08:31 +0000\r\nMessage-Id: <1@b>\r\n"
            b"MIME-Version: 1.0\r\nAuto-Submitted: auto-replied\r\n"
            b"Content-Type: multipart/report; report-type=delivery-status; "
            b"boundary=x\r\n\r\n--x\r\n\r\nwords\r\n--x\r\n"
            b"Content-Type: message/delivery-status\r\n\r\n"
            b"Reporting-MTA: dns; a\r\nX-Postern-Queue-ID: 0123456789A\r\n"
            b"Arrival-Date: Sat, 21 Nov 2026 03:08:31 +0000\r\n\r\n"
            b"Final-Recipient: rfc822; c@d\r\nAction: failed\r\n"
            b"Status: 5.0.0\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n"
            b"\r\nSubject: x\r\n\r\n--x--\r\n")
    assert Report(good).recipients
    for old, new in ((b"5.0.0", b"5.0"), (b"failed", b"lost"),
                     (b"Action: failed\r\n", b""),
                     (b"rfc822; c@d", b"c@d"),
                     (b"message/delivery-status", b"text/plain"),
                     (b"words", b"w\xf6rds"), (b"Action:", b"Status:"),
                     (b"--x--\r\n", b""), (b"words", b"x" * 999)):
        assert old in good
        with pytest.raises((AssertionError, ValueError)):
            print("not seen:", new, Report(good.replace(old, new, 1)))
