"""Restrictions in a whole gateway: what an answer does to the message, facts
from the DNS and from policy services, and what a refusal leaves behind."""
import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import pytest
from postern import BUILD, Closed, Instance, Sink, free_port, mail, wait_for
from test_lookup import NameServer, ip, mx

A, TXT, MX = 1, 16, 15


class Daemon:
    """A policy service: answer(attributes) -> an action; None: it closes the
    connection; False: it says nothing."""

    def __init__(self, answer, path=None):
        self.answer, self.asked, self.connections = answer, [], 0
        if path:
            self.s = socket.socket(socket.AF_UNIX)
            self.s.bind(path)
            os.chmod(path, 0o666)
        else:
            self.s = socket.socket()
            self.s.bind(("127.0.0.1", 0))
            self.spec = "inet:127.0.0.1:%d" % self.s.getsockname()[1]
        self.s.listen(50)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                c, _ = self.s.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.talk, args=(c,),
                             daemon=True).start()

    def talk(self, c):
        with c, c.makefile("rwb") as f:
            while True:
                attributes = {}
                for line in f:
                    if line == b"\n":
                        break
                    name, _, value = line.decode().rstrip("\n").partition("=")
                    attributes[name] = value
                if not attributes:
                    return
                self.asked.append(attributes)
                action = self.answer(attributes)
                if action is None:
                    return
                if action is False:
                    time.sleep(30)
                    return
                f.write(b"action=" + action.encode() + b"\n\n")
                f.flush()

    def close(self):
        self.s.close()


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


def gateway(sink, files=None, **main):
    gw = Instance(sink, main={"smtpd_error_sleep_time": "0", **main},
                  start=False)
    for name, text in (files or {}).items():
        gw.write(name, text)
    try:
        gw.start()
    except BaseException:
        gw.destroy(check=False)
        raise
    return gw


def say(gw, *commands, **kw):
    """The last reply."""
    with gw.client(**kw) as c:
        for command in commands:
            r = c.cmd(command)
        return r.text


def try_one(gw, sender, rcpt="user@example.com", helo="client.example"):
    return say(gw, "EHLO " + helo, f"MAIL FROM:<{sender}>",
               f"RCPT TO:<{rcpt}>")


ACTIONS = """hold@a.example HOLD look at it
discard@a.example DISCARD
redirect@a.example REDIRECT other@example.com
bcc@a.example BCC copy@example.com
prepend@a.example PREPEND X-Seen: yes
filter@a.example FILTER smtp:[127.0.0.1]:%d
"""


def test_actions(sink):
    second = Sink()
    gw = gateway(sink, {"access": ACTIONS % second.port},
                 smtpd_sender_restrictions="check_sender_access "
                 "texthash:access")
    try:
        with gw.client() as c:
            c.ehlo()

            def send(name):
                r = c.message(name + "@a.example", "user@example.com",
                              mail(name))
                assert r.code == 250, r

            send("redirect")
            assert sink.wait_subject("redirect").rcpts == \
                ["other@example.com"]
            send("bcc")
            wait_for("both copies", lambda: sorted(
                r for m in sink.find("bcc") for r in m.rcpts) ==
                ["copy@example.com", "user@example.com"])
            send("prepend")
            text = sink.wait_subject("prepend").text
            assert text.startswith(b"X-Seen: yes\r\nReceived:"), text[:200]
            send("filter")
            second.wait_subject("filter")
            send("hold")
            wait_for("a message on hold", lambda: gw.queued("hold"))
            send("discard")
            # The wish of one message is not for the next one.
            send("plain")
            got = sink.wait_subject("plain")
            assert got.rcpts == ["user@example.com"]
            assert b"X-Seen" not in got.text
        assert not sink.find("discard") and not sink.find("hold")
        assert len(gw.queued("hold")) == 1
        log = gw.log()
        assert "NOQUEUE: hold: RCPT from unknown[127.0.0.1]: " \
            "<hold@a.example>: Sender address look at it; " \
            "from=<hold@a.example> to=<user@example.com> proto=ESMTP " \
            "helo=<client.example> rule=" in log
        assert "access:1\n" in log
        assert "discard: RCPT from unknown[127.0.0.1]: <discard@a.example>: " \
            "Sender address triggers DISCARD action; " in log
    finally:
        gw.destroy()
        second.close()


def test_no_delay(sink):
    gw = gateway(sink, {"access": "bad.example REJECT helo\n"
                        "x@bad.example REJECT sender\n"
                        "hold@a.example HOLD\n127.0.0.9 REJECT you\n"},
                 smtpd_delay_reject="no",
                 smtpd_client_restrictions="check_client_access "
                 "texthash:access",
                 smtpd_helo_restrictions="check_helo_access texthash:access",
                 smtpd_sender_restrictions="check_sender_access "
                 "texthash:access",
                 smtpd_data_restrictions="reject_multi_recipient_bounce")
    try:
        with gw.client(source="127.0.0.9", greet=False) as c:
            assert c.reply().text == "554 5.7.1 <unknown[127.0.0.9]>: " \
                "Client host rejected: you"
            assert c.cmd("EHLO x").text == "503 5.7.0 Error: access denied " \
                "for unknown[127.0.0.9]"
            assert c.cmd("QUIT").code == 221
        with gw.client() as c:
            assert c.cmd("EHLO bad.example").text == "554 5.7.1 " \
                "<bad.example>: Helo command rejected: helo"
            assert c.cmd("EHLO good.example").code == 250
            assert c.cmd("MAIL FROM:<x@bad.example>").text == "554 5.7.1 " \
                "<x@bad.example>: Sender address rejected: sender"
            # No transaction was begun.
            assert c.cmd("RCPT TO:<user@example.com>").code == 503
            assert c.message("hold@a.example", "user@example.com",
                             mail("held")).code == 250
            # A refused DATA leaves the transaction as it is.
            c.envelope("", "user@example.com", "b@example.com")
            assert c.cmd("DATA").text == "550 5.5.3 <DATA>: Data command " \
                "rejected: Multi-recipient bounce"
            assert c.cmd("RSET").code == 250
            assert c.message("", "user@example.com", mail("one")).code == 250
        wait_for("a message on hold", lambda: gw.queued("hold"))
        sink.wait_subject("one")
        log = gw.log()
        assert "NOQUEUE: reject: CONNECT from unknown[127.0.0.9]: 554 5.7.1 " \
            "<unknown[127.0.0.9]>: Client host rejected: you; proto=SMTP" \
            in log
        assert "NOQUEUE: reject: MAIL from unknown[127.0.0.1]: 554 5.7.1 " \
            "<x@bad.example>: Sender address rejected: sender; " \
            "from=<x@bad.example> proto=ESMTP helo=<good.example>" in log
    finally:
        gw.destroy()


def test_end_of_data(sink):
    """After a refusal here nothing of the transaction is left: sender and
    recipients of the next message are looked at anew."""
    d = Daemon(lambda a: "REJECT too much" if int(a["size"]) > 100 and
               a["sender"] == "big@a.example" else "DUNNO")
    gw = gateway(sink, smtpd_end_of_data_restrictions="check_policy_service "
                 + d.spec)
    try:
        with gw.client() as c:
            c.ehlo()
            r = c.message("big@a.example", "user@example.com", mail("no", b"x" * 100 + b"\r\n"))
            assert r.text == "554 5.7.1 <END-OF-MESSAGE>: End-of-data " \
                "rejected: too much", r
            assert c.cmd("RCPT TO:<user@example.com>").text == \
                "503 5.5.1 Error: need MAIL command"
            assert c.cmd("DATA").code == 503
            assert c.message("a@a.example", ["user@example.com",
                             "b@example.com"], mail("yes")).code == 250
        sink.wait_subject("yes")
        assert not sink.find("no")
        wait_for("an empty queue", lambda: not gw.queued())
        first, last = d.asked[0], d.asked[-1]
        assert first["protocol_state"] == "END-OF-MESSAGE"
        assert first["recipient"] == "user@example.com"
        assert int(first["size"]) > 100 and first["queue_id"]
        assert last["recipient_count"] == "2" and last["recipient"] == ""
        assert first["instance"] != last["instance"]
    finally:
        gw.destroy()
        d.close()


def test_service(sink):
    d = Daemon(lambda a: {"later@a.example": "DEFER_IF_PERMIT Greylisted",
                          "no@a.example": "550 5.7.1 go away",
                          "mark@a.example": "PREPEND X-Policy: seen",
                          "close@a.example": None,
                          "junk@a.example": "550 bad\nx"}.get(
                              a["sender"], "DUNNO"))
    gw = gateway(sink, smtpd_recipient_restrictions="check_policy_service "
                 + d.spec, smtpd_policy_service_retry_delay="1")
    try:
        assert try_one(gw, "no@a.example") == "550 5.7.1 " \
            "<user@example.com>: Recipient address rejected: go away"
        assert try_one(gw, "later@a.example") == "450 4.7.1 " \
            "<user@example.com>: Recipient address rejected: Greylisted"
        with gw.client() as c:
            c.ehlo()
            for i in range(5):
                assert c.message("mark@a.example", "user@example.com",
                                 mail(f"m{i}")).code == 250
        assert b"X-Policy: seen" in sink.wait_subject("m4").text
        # One connection serves them all.
        assert d.connections == 1 and len(d.asked) == 7
        gw.expect_log("problem talking to server")
        assert try_one(gw, "close@a.example") == "451 4.3.5 " \
            "<user@example.com>: Recipient address rejected: Server " \
            "configuration problem"
        a = d.asked[0]
        assert a["request"] == "smtpd_access_policy"
        assert a["protocol_state"] == "RCPT"
        assert a["protocol_name"] == "ESMTP"
        assert a["client_address"] == "127.0.0.1"
        assert a["client_name"] == a["reverse_client_name"] == "unknown"
        assert a["server_address"] == "127.0.0.1"
        assert a["server_port"] == str(gw.port)
        assert a["helo_name"] == "client.example"
        assert a["recipient"] == "user@example.com"
        assert a["recipient_count"] == "0" and a["size"] == "0"
        assert list(a) == [
            "request", "protocol_state", "protocol_name", "client_address",
            "client_port", "client_name", "reverse_client_name",
            "server_address", "server_port", "helo_name", "sender",
            "recipient", "recipient_count", "queue_id", "instance", "size",
            "etrn_domain", "stress", "sasl_method", "sasl_username",
            "sasl_sender", "ccert_subject", "ccert_issuer",
            "ccert_fingerprint", "ccert_pubkey_fingerprint",
            "encryption_protocol", "encryption_cipher",
            "encryption_keysize", "tls_sni", "policy_context",
            "compatibility_level", "mail_version"]
    finally:
        gw.destroy()
        d.close()


def test_service_is_not_there(sink):
    gw = gateway(sink, smtpd_recipient_restrictions="check_policy_service "
                 f"inet:127.0.0.1:{free_port()}, permit",
                 smtpd_policy_service_try_limit="1")
    try:
        gw.expect_log("problem talking to server")
        assert try_one(gw, "a@a.example") == "451 4.3.5 " \
            "<user@example.com>: Recipient address rejected: Server " \
            "configuration problem"
        gw.set(smtpd_policy_service_default_action="DUNNO")
        wait_for("the new setting", lambda: try_one(
            gw, "a@a.example").startswith("250"))
    finally:
        gw.destroy()


def test_silent_service(sink):
    """A client that leaves, and others that are served, while a service says
    nothing."""
    d = Daemon(lambda a: False if a["sender"] == "slow@a.example" else
               "DUNNO")
    gw = gateway(sink, smtpd_recipient_restrictions="check_policy_service "
                 f"{{ {d.spec}, timeout=1s, {{default_action = 450 silent}} }}",
                 smtpd_policy_service_try_limit="1")
    try:
        gw.expect_log("problem talking to server")
        with gw.client() as gone:
            gone.ehlo()
            gone.cmd("MAIL FROM:<slow@a.example>")
            gone.send(b"RCPT TO:<user@example.com>\r\n")
            wait_for("the question", lambda: d.asked)
        with gw.client() as slow:
            slow.ehlo()
            slow.cmd("MAIL FROM:<slow@a.example>")
            slow.send(b"RCPT TO:<user@example.com>\r\nRSET\r\n")
            assert try_one(gw, "a@a.example").startswith("250")
            assert slow.reply().text == "450 4.7.1 <user@example.com>: " \
                "Recipient address rejected: silent"
            assert slow.reply().code == 250
    finally:
        gw.destroy()
        d.close()


def test_unix_service(sink):
    gw = Instance(sink, main={"smtpd_recipient_restrictions":
                              "check_policy_service unix:policy/s"},
                  start=False)
    os.mkdir(gw.spool + "/policy", 0o755)
    d = Daemon(lambda a: "REJECT by socket", gw.spool + "/policy/s")
    refused = "554 5.7.1 <user@example.com>: Recipient address rejected: " \
        "by socket"
    try:
        gw.start()
        assert try_one(gw, "a@a.example") == refused
        gw.set(smtpd_recipient_restrictions="check_policy_service "
               f"{{ unix:{gw.spool}/policy/s, default_action=OK }}")
        gw.command("reload")
        for _ in range(5):
            assert try_one(gw, "a@a.example") == refused
    finally:
        gw.destroy()
        d.close()


ZONE = {
    ("a.example", MX): [mx(10, "mx.a.example")],
    ("null.example", MX): [mx(0, "")],
    ("odd.example", MX): [b"\0", b"", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"],
    ("later.example", MX): "servfail",
    ("later.example", A): "servfail",
    ("slow.example", MX): "silence",
    ("slow.example", A): "silence",
    ("2.0.0.127.bl.example", A): [ip("127.0.0.2")],
    ("2.0.0.127.bl.example", TXT): [b"\5listed"[:1] + b"liste"],
    ("client.example", A): [ip("127.0.0.1")],
}


def test_dns(sink):
    with NameServer(ZONE) as dns:
        gw = gateway(sink, dns_resolvers=dns.address,
                     smtpd_client_restrictions="reject_rbl_client bl.example",
                     smtpd_helo_restrictions="reject_unknown_helo_hostname",
                     smtpd_sender_restrictions="reject_unknown_sender_domain")
        try:
            gw.expect_log("RBL lookup error")
            assert try_one(gw, "u@a.example").startswith("250")
            assert try_one(gw, "u@no.example") == "450 4.1.8 " \
                "<u@no.example>: Sender address rejected: Domain not found"
            assert try_one(gw, "u@null.example") == "550 5.7.27 " \
                "<u@null.example>: Sender address rejected: Domain " \
                "null.example does not accept mail (nullMX)"
            for domain in ("odd", "later"):
                assert try_one(gw, f"u@{domain}.example").startswith(
                    "450 4.1.8 ")
            assert try_one(gw, "u@a.example", helo="no.example") == \
                "450 4.7.1 <no.example>: Helo command rejected: Host not found"
            with gw.client(source="127.0.0.2") as c:
                c.ehlo()
                c.cmd("MAIL FROM:<u@a.example>")
                assert c.cmd("RCPT TO:<user@example.com>").text == \
                    "554 5.7.1 Service unavailable; Client host " \
                    "[127.0.0.2] blocked using bl.example; liste"
            # What is about the client is asked once in a session.
            before = dns.asked.count(("3.0.0.127.bl.example", A))
            with gw.client(source="127.0.0.3") as c:
                c.ehlo()
                c.cmd("MAIL FROM:<u@a.example>")
                for i in range(5):
                    assert c.cmd(f"RCPT TO:<u{i}@example.com>").code == 250
            assert dns.asked.count(("3.0.0.127.bl.example", A)) == before + 1
        finally:
            gw.destroy()


def test_footer(sink):
    gw = gateway(sink, smtpd_recipient_restrictions="reject",
                 smtpd_reject_footer="call $server_name about "
                 "$client_address\\nat noon")
    try:
        with gw.client() as c:
            c.ehlo()
            c.cmd("MAIL FROM:<a@a.example>")
            assert c.cmd("RCPT TO:<user@example.com>").lines == [
                "554-5.7.1 <user@example.com>: Recipient address rejected: "
                "Access denied",
                "554-5.7.1 call gw.example.com about 127.0.0.1",
                "554 5.7.1 at noon"]
            assert c.cmd("RSET").text == "250 2.0.0 Ok"
            assert c.cmd("NONSENSE").lines[1] == \
                "500-5.5.2 call gw.example.com about 127.0.0.1"
    finally:
        gw.destroy()


def start_daemon(command, port):
    """A policy daemon of the distribution; it listens when this returns."""
    p = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)

    def listens():
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            assert p.poll() is None, "it ended"
            return False
    try:
        wait_for("the daemon", listens)
    except BaseException:
        p.kill()
        p.wait()
        raise
    return p


@pytest.mark.skipif(not shutil.which("postgrey") or os.getuid() != 0,
                    reason="needs postgrey and root")
def test_postgrey(sink):
    directory = tempfile.mkdtemp(prefix="postern-grey-", dir="/tmp")
    user = pwd.getpwnam("postgrey")
    os.chown(directory, user.pw_uid, user.pw_gid)
    port = free_port()
    d = start_daemon(["postgrey", f"--inet=127.0.0.1:{port}",
                      f"--dbdir={directory}", "--delay=2", "--user=postgrey",
                      "--group=postgrey",
                      "--x-greylist-header=X-Greylist: delayed"], port)
    # Behind permit_mynetworks it would not be asked.
    gw = gateway(sink, mynetworks="192.0.2.0/24",
                 smtpd_recipient_restrictions="check_policy_service "
                 f"inet:127.0.0.1:{port}")
    try:
        first = try_one(gw, "a@a.example")
        assert first.startswith("450 4.2.0 <user@example.com>: Recipient "
                                "address rejected: Greylisted"), first
        wait_for("the delay to pass", lambda: try_one(
            gw, "a@a.example").startswith("250"), 20)
        with gw.client() as c:
            c.ehlo()
            assert c.message("a@a.example", "user@example.com",
                             mail("known")).code == 250
        sink.wait_subject("known")
    finally:
        gw.destroy()
        d.terminate()
        d.wait()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.skipif(not shutil.which("policyd-spf"),
                    reason="needs postfix-policyd-spf-python")
def test_policyd_spf(sink):
    """It speaks on standard input and output, as Postfix's spawn(8) wants it:
    a process for each connection."""
    server = socket.create_server(("127.0.0.1", 0))
    children = []

    def serve():
        while True:
            try:
                c, _ = server.accept()
            except OSError:
                return
            with c:
                children.append(subprocess.Popen(
                    ["policyd-spf"], stdin=c, stdout=c,
                    stderr=subprocess.DEVNULL))
    threading.Thread(target=serve, daemon=True).start()
    gw = gateway(sink, smtpd_recipient_restrictions="check_policy_service "
                 f"inet:127.0.0.1:{server.getsockname()[1]}")
    try:
        with gw.client() as c:
            c.ehlo()
            assert c.message("a@a.example", "user@example.com",
                             mail("spf")).code == 250
        # For 127.0.0.1 it says so in a header.
        text = sink.wait_subject("spf").text
        assert text.lower().startswith(b"x-comment: spf"), text[:200]
    finally:
        gw.destroy()
        server.close()
        for child in children:
            child.terminate()
            child.wait()


def test_edited_table(sink):
    """An edited table takes effect by itself; a broken one does not."""
    gw = gateway(sink, {"access": "a@a.example OK\n"},
                 smtpd_restriction_classes="look",
                 look="check_sender_access texthash:access",
                 smtpd_sender_restrictions="look")
    try:
        assert try_one(gw, "a@a.example").startswith("250")
        gw.write("access", "a@a.example REJECT now\n")
        wait_for("the edited table", lambda: try_one(
            gw, "a@a.example").startswith("554"))
        gw.expect_log("access:2: |configuration cannot be used|error: ")
        gw.write("access", "a@a.example OK\nb@b.example NONSENSE\n")
        gw.wait_log(r"access:2: unknown action or restriction: \"NONSENSE\"")
        assert try_one(gw, "a@a.example") == "554 5.7.1 <a@a.example>: " \
            "Sender address rejected: now"
        p = gw.command("check", check=False)
        assert p.returncode != 0
        assert "access:2: unknown action" in p.stdout + p.stderr
    finally:
        gw.destroy()


def test_sleep(sink):
    gw = gateway(sink, smtpd_recipient_restrictions="sleep 1, reject")
    try:
        with gw.client() as c:
            c.ehlo()
            since = time.monotonic()
            c.cmd("MAIL FROM:<a@a.example>")
            assert c.cmd("RCPT TO:<user@example.com>").code == 554
            assert time.monotonic() - since > 0.9
    finally:
        gw.destroy()


def test_reject_maps(sink):
    """Footers by the text of a refusal; refusals that are replaced, and stay
    refusals."""
    gw = gateway(sink, {
        "footers": "/Relay access/\tsee http://www.example.com/$$client_address"
                   "\n/syntax/\t\\c; call us\n",
        "filters": "/^5(.*)User unknown(.*)/\t450 4.1.1 try again\n"
                   "/^(...) 5.5.2 Error: command.*(recog.*)/\t$1 5.5.2 $2\n"
                   "/^554 5.7.1 <(.*)@bad.example>/\t421 4.7.0 $1 Goodbye\n"},
        smtpd_reject_footer="other",
        smtpd_reject_footer_maps="pcre:footers",
        smtpd_reject_filter_maps="pcre:filters",
        mynetworks="192.0.2.0/24", relay_recipient_maps="inline:{"
        "user@example.com=x}", smtpd_relay_restrictions=
        "permit_mynetworks, reject_unauth_destination")
    try:
        with gw.client() as c:
            c.ehlo()
            assert c.cmd("NONSENSE").lines == ["500-5.5.2 recognized",
                                               "500 5.5.2 other"]
            assert c.cmd("MAIL FROM:<x y").lines[-1].endswith("; call us")
            c.cmd("MAIL FROM:<a@a.example>")
            assert c.cmd("RCPT TO:<u@out.example>").lines == [
                "554-5.7.1 <u@out.example>: Relay access denied",
                "554 5.7.1 see http://www.example.com/127.0.0.1"]
            r = c.cmd("RCPT TO:<none@example.com>")
            assert r.lines == ["450-4.1.1 try again", "450 4.1.1 other"], r
            assert c.cmd("RCPT TO:<user@example.com>").code == 250
            assert c.cmd("RCPT TO:<x@bad.example>").code == 421
            with pytest.raises(Closed):
                c.cmd("NOOP")
        assert 'smtpd_reject_filter_maps: "500 5.5.2 Error: command not ' \
            'recognized" -> "500 5.5.2 recognized"' in gw.log()
        gw.expect_log("need a reply with 4xx or 5xx|configuration cannot")
        gw.write("filters", "/./\t250 2.0.0 Ok\n")
        p = gw.command("check", check=False)
        assert p.returncode != 0
        assert "filters:1: smtpd_reject_filter_maps: need a reply" in \
            p.stdout + p.stderr
    finally:
        gw.destroy()


def test_policybench():
    p = subprocess.run([f"{BUILD}/t/tools/policybench", "1000"], text=True,
                       capture_output=True, timeout=120)
    assert p.returncode == 0, p.stderr
    assert re.fullmatch(
        r"recipient in a table of 1000: -?[\d.]+ us, -?[\d.]+ % of a "
        r"message\nlist of 20 restrictions: [\d.]+ us, [\d.]+ % of a "
        r"message\n", p.stdout), p.stdout


def test_hostile_addresses(sink):
    """Forms of one address are one address, and none of them relays."""
    gw = gateway(sink, mynetworks="192.0.2.0/24",
                 smtpd_hard_error_limit="1000", smtpd_soft_error_limit="1000",
                 smtpd_sender_restrictions="check_sender_access "
                 "inline:{bad.example=REJECT}")
    denied = "Relay access denied"
    try:
        with gw.client() as c:
            c.ehlo()
            for sender in ("a@bad.example.", "@x.example:a@bad.example",
                           "a@BAD.Example", "a@x.bad.example",
                           '"a b"@bad.example', '"a@b"@bad.example'):
                assert c.cmd(f"MAIL FROM:<{sender}>").code == 250, sender
                r = c.cmd("RCPT TO:<user@example.com>")
                assert "Sender address rejected: Access denied" in r.text, r
                c.cmd("RSET")
            for sender in ("a@bad.example..", "a@.bad.example", "a@bad..e",
                           "a@bad.example\0", "a@" + "x" * 64 + ".example",
                           "a@" + ".".join(["x" * 50] * 6)):
                assert c.cmd(f"MAIL FROM:<{sender}>").code in (500, 501), \
                    sender
            c.cmd("MAIL FROM:<a@a.example>")
            for rcpt in ("u%b.example@example.com", '"u@b.example"@'
                         "example.com", "u@example.com@b.example",
                         "@example.com:u@b.example", "b.example!u@"
                         "example.com", "u@example.com.b.example",
                         "u@[192.0.2.1]", "u@xexample.com"):
                r = c.cmd(f"RCPT TO:<{rcpt}>")
                assert r.code == 554 and denied in r.text, (rcpt, r)
            for rcpt in ("u@example.com.", "@x.example:u@example.com",
                         "u@EXAMPLE.COM", '"u"@example.com'):
                assert c.cmd(f"RCPT TO:<{rcpt}>").code == 250, rcpt
    finally:
        gw.destroy()


def test_hostile_service(sink):
    """Answers that are none: too long, without end, with more behind them,
    of other attributes only, bytes."""
    answers = {"long": b"action=" + b"x" * 20000 + b"\n\n",
               "bytes": bytes(range(256)) + b"\n\n",
               "other": b"nothing=OK\n\n",
               "empty": b"\n\n",
               "two": b"action=DUNNO\n\naction=REJECT of another\n\n",
               "nul": b"action=OK\0REJECT\n\n"}
    server = socket.create_server(("127.0.0.1", 0))

    def talk(c):
        with contextlib.suppress(OSError), c, c.makefile("rb") as f:
            name = None
            for line in f:
                if line.startswith(b"sender="):
                    name = line[7:].split(b"@")[0].decode()
                if line == b"\n":
                    c.sendall(answers.get(name, b"action=DUNNO\n\n"))

    def serve():
        while True:
            try:
                c, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(c,), daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
    gw = gateway(sink, smtpd_recipient_restrictions="check_policy_service "
                 f"inet:127.0.0.1:{server.getsockname()[1]}, permit",
                 smtpd_policy_service_try_limit="1",
                 smtpd_policy_service_timeout="5s")
    try:
        gw.expect_log("problem talking to server|policy service")
        for name in answers:
            got = try_one(gw, name + "@a.example")
            # What one message was told is never told to the next.
            assert try_one(gw, "plain@a.example").startswith("250"), name
            assert got.startswith("451 4.3.5 "), (name, got)
    finally:
        gw.destroy()
        server.close()


def test_relocated_is_refused_at_rcpt(make, sink):
    """Not bounced later; a change of the file counts without a command."""
    gw = make(sink, start=False)
    gw.write("moved", "old@example.com new@other.example\n")
    gw.set(relocated_maps="texthash:$config_directory/moved")
    gw.start()

    def ask(user):
        with gw.client() as c:
            c.ehlo()
            c.cmd("MAIL FROM:<a@client.example>")
            return c.cmd(f"RCPT TO:<{user}@example.com>").text
    assert ask("old") == ("550 5.1.6 <old@example.com>: Recipient address "
                          "rejected: User has moved to new@other.example")
    gw.wait_log(r"reject: RCPT from .*<old@example.com>: .* rule=\S+/moved:1")
    assert ask("user").startswith("250 ")
    gw.write("moved", "user@example.com else@other.example\n")
    wait_for("the new table", lambda: ask("user").startswith("550 5.1.6 "))
    assert ask("old").startswith("250 ")
