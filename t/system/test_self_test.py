"""postern test: a walk along the way of mail through what runs."""
import os
import re
import socket
import threading

import pytest

from postern import HOSTNAME, Instance, Sink
from tls_help import Keys


class Dns:
    """A resolver that has one answer to everything."""

    def __init__(self, code):
        self.code = code
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.where = "127.0.0.1@%d" % self.sock.getsockname()[1]
        self.asked = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(512)
            except OSError:
                return
            self.asked.append(data)
            # another question's answer first: it must not count
            self.sock.sendto(bytes([data[0] ^ 1]) + data[1:2] +
                             b"\x80\x05" + data[4:], peer)
            self.sock.sendto(data[:2] + bytes([0x80, self.code]) + data[4:],
                             peer)

    def close(self):
        self.sock.close()


@pytest.fixture
def dns():
    d = Dns(0)
    yield d
    d.close()


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


class Walk:
    """What it printed, in parts."""

    def __init__(self, gw, *args):
        p = gw.command("test", *args, check=False)
        self.status, self.text, self.errors = (
            p.returncode, p.stdout, p.stderr)

    def marks(self, mark):
        return re.findall(rf"(?m)^  {mark} +(.*)$", self.text)

    def has(self, mark, pattern):
        assert any(re.search(pattern, m) for m in self.marks(mark)), (
            mark, pattern, self.text)

    def said(self, who):
        return re.findall(rf"(?m)^    {who}: (.*)$", self.text)


def test_a_walk_that_sends_nothing(sink, dns):
    gw = Instance(sink, main={"dns_resolvers": dns.where})
    try:
        w = Walk(gw)
        assert w.status == 0, w.text
        assert not w.marks("FAILED")
        w.has("ok", "it runs and answers")
        w.has("ok", "queue directories below " + gw.spool)
        w.has("ok", r"the resolver 127\.0\.0\.1:\d+ answers: gw\.example")
        w.has("ok", "it greets")
        w.has("note", "STARTTLS is not offered")
        w.has("ok", f"mail for postmaster@{HOSTNAME} is accepted")
        w.has("ok", "192.0.2.171 may not send to other domains")
        w.has("ok", "an ordinary message gets through")
        w.has("ok", r"invoice\.pdf\.exe is kept out by .*_checks:\d+$")
        w.has("ok", rf"the next hop \[127\.0\.0\.1\]:{sink.port} answers")
        w.has("note", "there is no relayhost")
        w.has("not done", "no message is sent")
        w.has("not done", "postern test --local USER")
        w.has("not done", "postern test --remote ADDRESS")
        w.has("ok", "has the sessions of this test")
        assert w.said("C")[:4] == [
            f"EHLO postern-test.{HOSTNAME}",
            f"MAIL FROM:<postmaster@{HOSTNAME}>",
            f"RCPT TO:<postmaster@{HOSTNAME}>", "RSET"]
        assert "221 2.0.0 Bye" in w.said("S")
        assert "DATA" not in w.said("C")
        assert w.text.splitlines()[-1].startswith(
            f"{len(w.marks('ok'))} ok, 0 failed, ")
        assert dns.asked
        # the trial of the rules left nothing either
        assert not gw.queued()
        assert not sink.messages
        assert "queue active" not in gw.log()
    finally:
        gw.destroy()


def test_messages_to_whom_was_named(sink, dns):
    gw = Instance(sink, main={"dns_resolvers": dns.where,
                              "relayhost": f"[127.0.0.1]:{sink.port}"})
    try:
        w = Walk(gw, "--to", "boss@example.com", "--local", "me",
                 "--remote", "friend@far.example")
        assert w.status == 0, w.text
        assert sorted(m.rcpts[0] for m in sink.wait(3)) == [
            "boss@example.com", "friend@far.example", f"me@{HOSTNAME}"]
        ids = [re.search(r"message (\w+) left", m).group(1)
               for m in w.marks("ok") if "left the queue" in m]
        assert len(set(ids)) == 3
        for i in ids:
            assert f"{i}: removed" in gw.log()
            assert re.search(rf"(?m)^    log: .* {i}: to=<.*status=sent",
                             w.text)
        # each message's own lines and no other's
        shown = [re.search(r"\]: (\w+): ", l).group(1)
                 for l in w.said("log")]
        assert set(shown) == set(ids)
        assert len(shown) == len(set(w.said("log")))
        w.has("ok", rf"far\.example goes by smtp to \[127\.0\.0\.1\]:"
              rf"{sink.port}")
        assert all("by `postern test`" not in m.text.decode() and
                   "with `postern test`" in m.text.decode()
                   for m in sink.messages)
    finally:
        gw.destroy()


def test_probe_asks_only(sink, dns):
    gw = Instance(sink, main={"dns_resolvers": dns.where})
    try:
        w = Walk(gw, "--probe", "--to", "boss@example.com", "--local", "me",
                 "--remote", "friend@far.example")
        assert w.status == 0, w.text
        assert "RCPT TO:<boss@example.com>" in w.said("C")
        assert "DATA" not in w.said("C")
        assert len([m for m in w.marks("not done") if "--probe" in m]) == 3
        assert not sink.messages and not gw.queued()
    finally:
        gw.destroy()


def test_an_open_relay_is_found(sink, dns):
    """With XCLIENT in the session, without it by a trial."""
    gw = Instance(sink, main={
        "dns_resolvers": dns.where, "mynetworks": "127.0.0.0/8",
        "smtpd_authorized_xclient_hosts": "127.0.0.1",
        "smtpd_relay_restrictions":
            "permit_mynetworks, check_sender_access "
            f"inline:{{{{ {HOSTNAME} = OK }}}}, reject_unauth_destination"})
    try:
        w = Walk(gw)
        assert w.status == 1
        assert "XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.171" in w.said("C")
        w.has("FAILED", r"OPEN RELAY: 192\.0\.2\.171 may send from "
              rf"<postmaster@{HOSTNAME}> to <postern-test@example\.net>")
        assert len(w.marks("FAILED")) == 1
        look = re.search(r"look at (\S+/main\.cf):(\d+): "
                         r"smtpd_relay_restrictions = ", w.text)
        with open(look.group(1)) as f:
            line = f.read().splitlines()[int(look.group(2)) - 1]
        assert line.startswith("smtpd_relay_restrictions = permit_mynetw")
        gw.set(smtpd_authorized_xclient_hosts="")
        gw.command("reload")
        w = Walk(gw)
        assert w.status == 1 and not any("XCLIENT" in c for c in w.said("C"))
        w.has("FAILED", "OPEN RELAY")
        gw.set(mynetworks="0.0.0.0/0, [::]/0")
        gw.command("reload")
        w = Walk(gw)
        assert w.status == 1
        w.has("FAILED", "there are no strangers")
        assert not sink.messages
    finally:
        gw.destroy()


def test_what_is_wrong_is_told(sink):
    """Next hop gone, resolver of no use, no rules, a queue directory that
    others may read, a message that cannot be delivered."""
    dns = Dns(2)
    gw = Instance(sink, main={"dns_resolvers": dns.where,
                              "attachment_checks": ""})
    try:
        gw.write("body_checks", "")
        gw.write("header_checks", "")
        sink.down()
        os.chmod(gw.spool + "/hold", 0o755)
        w = Walk(gw, "--to", "boss@example.com", "--wait", "20")
        os.chmod(gw.spool + "/hold", 0o700)
        assert w.status == 1
        w.has("FAILED", r"the resolver 127\.0\.0\.1:\d+ cannot tell")
        assert re.search(r"look at \S+/main\.cf:\d+: dns_resolvers = ",
                         w.text)
        w.has("FAILED", "hold has mode 0755 instead of 0700")
        w.has("FAILED", r"invoice\.pdf\.exe gets through")
        w.has("FAILED", r"the next hop \[127\.0\.0\.1\]:\d+ cannot be")
        w.has("FAILED", r"waits in the queue as (\w+); `postern delete \1`")
        held = re.search(r"waits in the queue as (\w+)", w.text).group(1)
        gw.command("delete", held)
    finally:
        gw.destroy()
        dns.close()


@pytest.mark.parametrize("days,mark,pattern", [
    (30, "ok", r"STARTTLS; the certificate is valid for (29|30) more days"),
    (3, "note", r"the certificate is valid for [23] more days"),
    (-1, "FAILED", "the certificate has expired")])
def test_certificates(sink, dns, days, mark, pattern):
    keys = Keys()
    gw = None
    try:
        # -days -1 is for openssl x509 alone
        keys.cert("gw", HOSTNAME, days=max(days, 1))
        keys.openssl("req", "-new", "-key", "gw.key", "-subj",
                     "/CN=" + HOSTNAME, "-out", "gw.csr")
        keys.openssl("x509", "-req", "-in", "gw.csr", "-signkey", "gw.key",
                     "-days", str(days), "-out", "gw.crt")
        gw = Instance(sink, main={
            "dns_resolvers": dns.where, "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": keys.path("gw.crt"),
            "smtpd_tls_key_file": keys.path("gw.key")})
        w = Walk(gw)
        assert w.status == (1 if mark == "FAILED" else 0), w.text
        w.has(mark, pattern)
        w.has("note", "others need not trust the certificate")
        assert not any("does not name" in m for m in w.marks("note"))
        assert w.said("C").count(f"EHLO postern-test.{HOSTNAME}") == 2
    finally:
        if gw:
            gw.destroy()
        keys.destroy()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two accounts")
def test_as_an_ordinary_user(sink, dns):
    gw = Instance(sink, main={"dns_resolvers": dns.where}, user="nobody")
    try:
        w = Walk(gw, "--to", "boss@example.com")
        assert w.status == 0, w.text + w.errors
        w.has("ok", "queue directories")
        sink.wait(1)
    finally:
        gw.destroy()


def test_not_running(sink):
    gw = Instance(sink, start=False)
    try:
        w = Walk(gw)
        assert w.status == 3 and w.text == "Postern is not running\n"
    finally:
        gw.destroy()


@pytest.mark.parametrize("args", [
    ["--to", "nobody"], ["--to", "a@b>\r\nDATA"], ["--local", "-bs"],
    ["--remote", "x@y z"], ["--wait", "0"], ["more"]])
def test_words(sink, args):
    gw = Instance(sink, start=False)
    try:
        w = Walk(gw, *args)
        assert w.status == 1 and "fatal: " in w.errors and not w.text
    finally:
        gw.destroy()


def test_log_that_moves_away(sink, dns):
    """Rotation in the middle of a message is followed."""
    def later(verb, argument):
        if verb == "RCPT":
            os.rename(gw.log_path, gw.log_path + ".1")
            gw.command("log")
    sink.on = later
    gw = Instance(sink, main={"dns_resolvers": dns.where})
    try:
        w = Walk(gw, "--to", "boss@example.com")
        assert w.status == 0, w.text
        w.has("ok", "left the queue")
    finally:
        gw.destroy()
