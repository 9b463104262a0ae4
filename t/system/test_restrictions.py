"""Restrictions: real Postfix says what t/rules/restrictions says.

The form of the cases is at the top of t/unit/test_restrictions.c.  Questions
after a line "postern" are not put to Postfix: its answer is another one, or
it needs what cannot be had here."""
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest
from postern import TOP, Client, Closed, free_port, wait_for
from test_lookup import NameServer, ip, mx, wire

PEER = f"{TOP}/t/peers/postfix"
CASES = sorted(glob.glob(f"{TOP}/t/rules/restrictions/*.case"))
TYPES = {"A": [1], "NS": [2], "MX": [15], "TXT": [16], "HOST": [1, 28]}
# An address of this run: others may test at the same time.
DNS = f"127.{os.getpid() >> 8 & 127 | 64}.{os.getpid() & 255}.99"


def rdata(kind, word):
    if kind == "MX":
        preference, _, host = word.partition(":")
        return mx(int(preference), host)
    return wire(word) if kind == "NS" else ip(word)


class Block:
    """Settings, and the questions that are asked with them."""

    def __init__(self, old=None):
        self.main = list(old.main) if old else []
        self.files = {k: list(v) for k, v in old.files.items()} if old else {}
        self.zone = dict(old.zone) if old else {}
        self.asks = []

    def dns(self, kind, name, words):
        name = name.lower()
        if words[0] == "NXDOMAIN":
            return
        self.zone.setdefault((name, 0), [])
        if words[0] in ("NODATA", "TEMP", "BOGUS"):
            return
        if kind == "TXT":
            text = " ".join(words).encode()
            self.zone[name, 16] = [bytes([len(text)]) + text]
            return
        for word in words:
            number = TYPES[kind][0]
            if kind in ("A", "HOST") and ":" in word:
                number = 28
            self.zone.setdefault((name, number), []).append(rdata(kind, word))


def blocks(path):
    out = [Block()]
    skip = False
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            word, _, rest = line.rstrip("\n").strip().partition(" ")
            if word == "postern":
                skip = True
                continue
            block = out[-1]
            if word in ("set", "file", "dns") and block.asks:
                block = Block(block)
                out.append(block)
            if word == "reset":
                out.append(Block())
            elif word == "set":
                block.main.append(rest)
            elif word == "file":
                name, _, text = rest.partition(" ")
                block.files.setdefault(name, []).append(text)
            elif word == "dns":
                kind, name, *words = rest.split()
                block.dns(kind, name, words)
            elif word == "bad":
                out.append(Block())
            elif word == "ask":
                ask = dict(w.partition("=")[::2] for w in rest.split())
                block.asks.append((number, ask, None if skip else ask))
            elif word == "=" and block.asks:
                n, ask, wanted = block.asks[-1]
                block.asks[-1] = (n, ask, rest if wanted else None)
            if word in ("ask", "reset"):
                skip = False
    return [b for b in out if any(w for _, _, w in b.asks)]


class Resolver(NameServer):
    """At the port that the C library asks."""

    def __init__(self, zone):
        bind = socket.socket.bind

        class Socket(socket.socket):
            def bind(self, address):
                bind(self, (DNS, 53))
        old, socket.socket = socket.socket, Socket
        try:
            super().__init__(zone)
        finally:
            socket.socket = old

    def __exit__(self, *rest):
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(
            b"end", (DNS, 53))
        self.thread.join(5)
        self.s.close()


class Postfix:
    BASE = """myhostname = gw.example.net
mydomain = example.net
myorigin = gw.example.net
mynetworks = 192.0.2.0/24
mydestination = gw.example.net, local.example
relay_domains = inside.example, listed.example
virtual_mailbox_domains =
virtual_mailbox_maps =
virtual_alias_domains =
virtual_alias_maps =
local_recipient_maps =
smtpd_recipient_restrictions =
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination
smtpd_authorized_xclient_hosts = static:all
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 1000
smtp_dns_support_level = enabled
notify_classes =
maillog_file =
"""

    def __init__(self):
        self.client = None
        self.uses = 0
        self.dir = tempfile.mkdtemp(prefix="postern-peer-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.port = free_port()
        resolv = self.dir + "/resolv.conf"
        with open(resolv, "w") as f:
            f.write(f"nameserver {DNS}\noptions timeout:2 attempts:1\n")
        subprocess.run(
            ["unshare", "-m", "sh", "-c", f"mount --bind {resolv} "
             f"/etc/resolv.conf && exec {PEER} start {self.dir} {self.port}"],
            check=True, text=True, timeout=60, input=self.BASE)
        with open(self.dir + "/etc/main.cf") as f:
            self.base = f.read()
        # A process that has served goes on with what it has read.
        path = self.dir + "/etc/master.cf"
        with open(path) as f:
            text = f.read()
        with open(path, "w") as f:
            f.write(re.sub(r"(smtpd)$", r"\1 -o max_use=1",
                           text, flags=re.M))

    def use(self, block):
        self.hang_up()
        for name, lines in block.files.items():
            with open(f"{self.dir}/etc/{name}", "w") as f:
                f.write("\n".join(lines) + "\n")
        main = re.sub(r"\b(texthash|pcre):(\w)", rf"\1:{self.dir}/etc/\2",
                      "\n".join(block.main))
        # Whoever has read this says so; others serve once and end.
        self.uses += 1
        with open(self.dir + "/etc/main.cf", "w") as f:
            f.write(self.base + main + "\nsmtpd_banner = $myhostname ESMTP "
                    f"settings {self.uses}\n")
        # It rereads what may still be written, for a second.
        os.utime(self.dir + "/etc/main.cf", (1577836800, 1577836800))
        # "postfix reload" may wait for a logger that is not there.
        self.signal(signal.SIGHUP)

    def connect(self):
        """A session with the settings of now."""
        def once():
            try:
                c = Client(self.port)
            except (Closed, OSError):
                return None
            if c.banner.text.endswith(f" settings {self.uses}"):
                return c
            c.close()
            return None
        return wait_for("the new settings", once, 30)

    def signal(self, sig):
        try:
            with open(self.dir + "/spool/pid/master.pid") as f:
                os.kill(int(f.read()), sig)
        except (OSError, ValueError):
            pass

    def ask(self, ask):
        """All questions of a block go over one connection, as long as the
        server keeps it."""
        for _ in range(3):
            try:
                if not self.client:
                    self.client = self.connect()
                return self.try_ask(self.client, ask)
            except (Closed, OSError):
                self.hang_up()
                time.sleep(0.3)
        raise AssertionError(f"no session for {ask}")

    def hang_up(self):
        if self.client:
            self.client.close()
        self.client = None

    def try_ask(self, c, ask):
        addr = ask.get("client", "203.0.113.5")
        name = ask.get("name")
        if not name:
            name = "[TEMPUNAVAIL]" if ask.get("status") == "temp" else \
                "[UNAVAILABLE]"
        reverse = ask.get("reverse", name)
        c.cmd("RSET")
        r = c.cmd(f"XCLIENT ADDR={addr} NAME={name} REVERSE_NAME={reverse}")
        assert r.code == 220, r
        # HELO is optional, as in the cases.
        if "helo" in ask:
            c.cmd("EHLO " + ask["helo"])
        r = c.cmd(f"MAIL FROM:<{ask.get('from', 'a@b.example')}>")
        if r.code != 250:
            return r.text
        rcpts = [ask.get("to", "u@inside.example")]
        for i in range(1, int(ask.get("rcpts", 1))):
            rcpts.append(f"u{i}@inside.example")
        for rcpt in rcpts:
            r = c.cmd(f"RCPT TO:<{rcpt}>")
        if r.code == 250 and ask.get("stage") in ("data", "eod"):
            r = c.cmd("DATA")
            if r.code == 354:
                c.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
                r = c.reply()
        return "ok" if r.code == 250 else r.text

    def stop(self):
        self.hang_up()
        self.signal(signal.SIGTERM)
        shutil.rmtree(self.dir, ignore_errors=True)


def can_unshare():
    return os.getuid() == 0 and shutil.which("postfix") and subprocess.run(
        ["unshare", "-m", "true"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def postfix():
    p = Postfix()
    yield p
    p.stop()


# Postfix starts a process for each set of settings: minutes.
@pytest.mark.long
@pytest.mark.skipif(not can_unshare(), reason="needs root and Postfix")
@pytest.mark.parametrize("path", CASES, ids=os.path.basename)
def test_postfix_agrees(postfix, path):
    wrong = []
    asked = 0
    for block in blocks(path):
        postfix.use(block)
        with Resolver(block.zone):
            for number, ask, want in block.asks:
                if want is None:
                    continue
                asked += 1
                got = postfix.ask(ask)
                if got != want:
                    wrong.append(f"{os.path.basename(path)}:{number}: "
                                 f"{ask}\n  Postfix: {got}\n  here:    {want}")
    assert asked > 0 or os.path.basename(path) in (
        "service.case", "verify.case")
    assert not wrong, "\n".join(wrong)
