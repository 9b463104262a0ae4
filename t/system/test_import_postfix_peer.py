"""The same envelopes through a Postfix with its files and through Postern
with what `postern import postfix` makes of them: replies, next hops and
rewritten addresses agree, or the report says that they need not."""
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from postern import (BIN, TOP, Client, Closed, Instance, Sink, free_port,
                     mail, run, wait_for)

PEER = os.path.join(TOP, "t/peers/postfix")
POSTMAP = next((p for p in ("/usr/sbin/postmap",) if os.path.exists(p)), None)
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0 or not POSTMAP or
                       not shutil.which("postfix", path="/usr/sbin:/sbin"),
                       reason="needs root and Postfix")]
SINKS = ("customer", "slow", "pattern", "rest")

# Without its log: a master that warns of compatibility_level 0 more often
# than fits in the socket of its postlogd waits for it forever.
COMMON = """
mydestination = localhost, inside.example.com
local_recipient_maps =
local_transport = smtp:[127.0.0.1]:{rest}
virtual_mailbox_domains =
relayhost = [127.0.0.1]:{rest}
relay_recipient_maps = hash:{etc}/recipients
transport_maps = hash:${{config_directory}}/transport,
    regexp:{etc}/transport.re
virtual_alias_domains = virtual.example
virtual_alias_maps = hash:$config_directory/virtual
sender_canonical_maps = hash:{etc}/senders
recipient_canonical_maps = texthash:{etc}/canonical
recipient_delimiter = +
mynetworks = {etc}/networks, 127.0.0.2
smtpd_authorized_xclient_hosts = 127.0.0.1
smtpd_client_restrictions = check_client_access cidr:{etc}/clients
smtpd_helo_restrictions = reject_invalid_helo_hostname
smtpd_sender_restrictions = reject_non_fqdn_sender,
    check_sender_access hash:{etc}/access
disable_dns_lookups = yes
smtp_host_lookup = native
smtpd_reject_unlisted_sender = no
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 10000
smtpd_soft_error_limit = 10000
smtp_tls_security_level = none
masquerade_domains = masked.example
maillog_file =
smtp_connection_cache_on_demand = no
"""
NEW = """
relay_domains = hash:$config_directory/relay_domains
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions = reject_unlisted_recipient,
    check_recipient_access hash:{etc}/access
"""
OLD = """
compatibility_level = 0
mydestination = localhost, inside.example.com, customer.example
relay_recipient_maps =
smtpd_recipient_restrictions = permit_mynetworks,
    check_recipient_access hash:{etc}/access, reject_unauth_destination
smtpd_helo_required = yes
"""
TABLES = {
    "relay_domains": "customer.example x\nslow.example x\n"
                     "pattern.example x\n",
    "recipients": "a@customer.example x\n@slow.example x\n"
                  "u@pattern.example x\nold@customer.example x\n"
                  "a@sub.customer.example x\n",
    "transport": "customer.example smtp:[127.0.0.1]:{customer}\n"
                 ".customer.example smtp:[127.0.0.1]:{slow}\n"
                 "slow.example :[127.0.0.1]:{slow}\n"
                 "a@rest.example relay:[127.0.0.1]:{customer}\n"
                 "gone.example error:5.1.6 moved away\n",
    "transport.re": "/@pattern\\.(example|test)$/ smtp:[127.0.0.1]:{pattern}"
                    "\n",
    "virtual": "info@virtual.example a@customer.example, b@rest.example\n"
               "@catch.virtual.example a@slow.example\n"
               "redirect@slow.example u@pattern.example\n"
               "loop@virtual.example info@virtual.example\n",
    "senders": "old@isp.example new@isp.example\n@was.example @is.example\n",
    "canonical": "moved@customer.example a@customer.example\n"
                 "joe joe.user@rest.example\n",
    "networks": "192.0.2.0/28\n10.0.0.0/8\n",
    "clients": "203.0.113.0/24 REJECT go away\n198.51.100.9 450 4.7.9 later\n",
    "access": "spam.example REJECT no spam\nbad@fine.example 554 not you\n"
              "secret@customer.example REJECT\nok@fine.example OK\n",
}
CLIENTS = ("127.0.0.2", "192.0.2.7", "192.0.2.16", "10.1.2.3", "203.0.113.5",
           "198.51.100.9", "198.51.100.10")
HELOS = ("client.example", "[192.0.2.7]", "under_score", "-bad-")
SENDERS = ("", "x@fine.example", "old@isp.example", "y@was.example",
           "z@spam.example", "z@sub.spam.example", "bad@fine.example",
           "ok@fine.example", "plain", "u@host.masked.example",
           "Mixed@Fine.Example", '"a b"@fine.example')
RCPTS = ("a@customer.example", "A@CUSTOMER.example", "no@customer.example",
         "a+tag@customer.example", "a@sub.customer.example",
         "b@slow.example", "redirect@slow.example", "u@pattern.example",
         "x@rest.example", "a@rest.example", "info@virtual.example",
         "info+more@virtual.example", "none@virtual.example",
         "x@catch.virtual.example", "loop@virtual.example",
         "moved@customer.example", "joe", "joe@inside.example.com",
         "secret@customer.example", "x@gone.example", "postmaster",
         "a%rest.example@customer.example", "a%customer.example",
         "@customer.example:a@rest.example", "rest.example!a",
         "u@[127.0.0.1]", '"q s"@slow.example', "x@spam.example")


def envelopes(count=110):
    rng = random.Random(2026)
    todo = [("127.0.0.2", "client.example", "x@fine.example", r)
            for r in RCPTS]
    todo += [("198.51.100.10", "client.example", "x@fine.example", r)
             for r in RCPTS]
    todo += [("10.1.2.3", "client.example", s, "x@rest.example")
             for s in SENDERS]
    rest = list(itertools.product(CLIENTS, HELOS, SENDERS, RCPTS))
    return todo + rng.sample(rest, count - len(todo))


class Sinks:
    def __init__(self):
        self.all = {name: Sink() for name in SINKS}
        self.ports = {name: s.port for name, s in self.all.items()}

    def take(self, subject):
        """{(sink, sender, recipient)} of a message."""
        return {(name, m.sender, r) for name, s in self.all.items()
                for m in s.find(subject) for r in m.rcpts}

    def close(self):
        for s in self.all.values():
            s.close()


class Postfix:
    def __init__(self, tmp, main, sinks):
        self.dir = tmp
        self.etc = tmp + "/etc"
        self.port = free_port()
        names = dict(sinks.ports, etc=self.etc)
        os.makedirs(self.etc)
        os.chmod(tmp, 0o755)
        for name, text in TABLES.items():
            with open(f"{self.etc}/{name}", "w") as f:
                f.write(re.sub(r"\{(\w+)\}",
                               lambda m: str(names[m.group(1)]), text))
        # the tables are opened when the main.cf is there
        self.main = (COMMON + main).format(**names)
        with open(self.etc + "/main.cf", "w") as f:
            f.write("compatibility_level = 3.6\n")
        for name in re.findall(r"hash:\S*/(\w+)", COMMON + main):
            if f"texthash:{{etc}}/{name}" not in COMMON + main:
                run(POSTMAP, "-c", self.etc, f"hash:{self.etc}/{name}")
        os.unlink(self.etc + "/main.cf")
        subprocess.run([PEER, "start", tmp, str(self.port)], check=True,
                       input=self.main.encode(), timeout=120)

        def greets():
            try:
                with Client(self.port) as c:
                    return c.banner.code == 220
            except (OSError, Closed):
                return False
        try:
            wait_for("a greeting of Postfix", greets, 60)
        except AssertionError:
            self.close()
            raise

    def close(self):
        try:
            subprocess.run([PEER, "stop", self.dir], check=False, timeout=60)
        except subprocess.TimeoutExpired:
            with open(self.dir + "/spool/pid/master.pid") as f:
                os.kill(int(f.read()), signal.SIGKILL)


def imported(peer, tmp):
    """An instance with what became of peer's files."""
    gw = Instance(start=False)
    try:
        new = tmp + "/new"
        p = run(os.path.join(BIN, "postern"), "import", "postfix", peer.etc,
                "--to", new)
        assert p.returncode == 0, p.stderr
        with open(gw.path("main.cf")) as f:
            mine = "".join(re.findall(
                r"(?m)^(?:queue|data|daemon|command)_directory = .*\n"
                r"|^maillog_file = .*\n", f.read()))
        for name in os.listdir(new):
            shutil.copy(os.path.join(new, name), gw.path(name))
        gw.edit("main.cf", lambda t: t + mine)
        gw.edit("master.cf", lambda t: t.replace(
            f"127.0.0.1:{peer.port}", f"127.0.0.1:{gw.port}"))
        with open(new + "/import-report.txt") as f:
            gw.report = f.read()
        gw.start()
    except BaseException:
        gw.destroy(check=False)
        raise
    return gw


def status(reply):
    """Code and enhanced code."""
    m = re.match(r"(\d{3})[ -](\d\.\d+\.\d+)?", reply.lines[-1])
    return m.groups()


def through(port, envelope, subject):
    """What the client was told, without texts."""
    client, helo, sender, rcpt = envelope
    with Client(port) as c:
        c.ehlo("proxy.example")
        r = c.cmd(f"XCLIENT NAME=[UNAVAILABLE] ADDR={client}")
        if r.code != 220:
            return [status(r)]
        said = [c.ehlo(helo).code]
        for line in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{rcpt}>"):
            r = c.cmd(line)
            said.append(status(r))
            if r.code != 250:
                return said
        said.append(c.data_cmd(mail(subject)).code)
        c.cmd("QUIT")
        return said


@pytest.mark.parametrize("main", [NEW, OLD], ids=["today", "level-0"])
def test_same_envelopes(main):
    sinks = Sinks()
    peer = gw = None
    # the processes of root's Postfix go there
    tmp = tempfile.mkdtemp(prefix="postern-test-", dir="/tmp")
    os.chmod(tmp, 0o755)
    try:
        peer = Postfix(tmp + "/peer", main, sinks)
        gw = imported(peer, tmp)
        told, sent = {}, []
        for n, e in enumerate(envelopes()):
            for who, port in (("postfix", peer.port), ("postern", gw.port)):
                told[n, who] = through(port, e, f"{who}-{n}")
            if told[n, "postfix"][-1] == 250:
                sent.append(n)

        def drained():
            return not gw.queued() and not subprocess.run(
                ["/usr/sbin/postqueue", "-c", peer.etc, "-j"], check=True,
                capture_output=True).stdout
        wait_for("both queues to be empty", drained, 120)
        wrong, arrived = [], 0
        for n, e in enumerate(envelopes()):
            a, b = told[n, "postfix"], told[n, "postern"]
            if a != b:
                wrong.append((e, a, b))
            elif n in sent:
                a, b = (sinks.take(f"{w}-{n}") for w in ("postfix",
                                                        "postern"))
                arrived += bool(a)
                if a != b:
                    wrong.append((e, sorted(a), sorted(b)))
        assert arrived > 25 and len(told) // 2 - len(sent) > 25
        assert not wrong, "\n".join(map(str, wrong))
    finally:
        if gw:
            gw.destroy(check=False)
        if peer:
            peer.close()
        sinks.close()
        shutil.rmtree(tmp, ignore_errors=True)
