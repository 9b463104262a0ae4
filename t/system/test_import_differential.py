"""What postern import makes of a site, beside the sendmail 8.17 that the site
had: the same envelopes through both, with the same next hops behind.  Who
refuses what and when, where it goes, and which addresses it has there, must
be the same, or the report of the import says so."""
import collections
import itertools
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import threading

import pytest
from postern import (BIN, TOP, Client, Closed, Instance, Sink, free_port,
                     wait_for)

PEER = f"{TOP}/t/peers/sendmail"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        os.geteuid() != 0 or not os.path.isdir(
            f"{TOP}/build/peers/sendmail"),
        reason="needs root and t/peers/sendmail fetch")]

COMMON = """OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `gw.example.net')dnl
DAEMON_OPTIONS(`Name=MTA, Addr=127.0.0.1, Port={port}')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`nocanonify')dnl
FEATURE(`always_add_domain')dnl
FEATURE(`accept_unresolvable_domains')dnl
define(`SMART_HOST', `esmtp:[127.0.0.21]')dnl
define(`MAIL_HUB', `esmtp:[127.0.0.22]')dnl
LOCAL_DOMAIN(`v1.example v2.example')dnl
RELAY_DOMAIN(`relayed.example 127.0.1')dnl
FEATURE(`access_db', `hash -T<TMPF> {d}/access')dnl
FEATURE(`mailertable', `hash {d}/mailertable')dnl
"""
SITES = {
    "gateway": (COMMON + """FEATURE(`blocklist_recipients')dnl
FEATURE(`virtusertable', `hash {d}/virtusertable')dnl
MAILER(`smtp')dnl
""", {
        "access": [
            "Connect:127.0.0.2\tREJECT",
            "Connect:127.0.0.4\tRELAY",
            "Connect:127.0.0.5\tERROR:4.7.1:\"450 later\"",
            "From:spam.example\tREJECT",
            "From:ok.spam.example\tOK",
            "From:boss@spam.example\tOK",
            "From:later.example\tERROR:4.7.1:\"451 come later\"",
            "quiet.example\tDISCARD",
            "untagged.example\tREJECT",
            "To:partner.example\tRELAY",
            "To:mt.example\tRELAY",
            "To:gone.example\tRELAY",
            "To:abuse@v1.example\tREJECT",
            "To:big@relayed.example\tERROR:5.2.2:\"552 full\"",
        ],
        "mailertable": [
            "mt.example\tesmtp:[127.0.0.23]",
            ".mt.example\tsmtp:[127.0.0.24]",
            "gone.example\terror:5.1.2:550 gone",
            "v1.example\tsmtp:[127.0.0.24]",
        ],
        "virtusertable": [
            "info@v1.example\tinfo@out.example",
            "joe@v1.example\tjoe@mt.example",
            "joe+x@v1.example\tjoex@mt.example",
            "@v2.example\t%1@out.example",
            "key@v2.example\tkeeper@v1.example",
            "foreign@foreign.example\tnever@out.example",
        ]}),
    "department": (COMMON + """FEATURE(`delay_checks')dnl
FEATURE(`accept_unqualified_senders')dnl
MASQUERADE_AS(`example.net')dnl
MASQUERADE_DOMAIN(`dept.example')dnl
MASQUERADE_EXCEPTION(`v2.example')dnl
EXPOSED_USER(`root')dnl
FEATURE(`masquerade_entire_domain')dnl
FEATURE(`masquerade_envelope')dnl
FEATURE(`genericstable', `hash {d}/genericstable')dnl
GENERICS_DOMAIN(`dept.example v1.example')dnl
FEATURE(`domaintable', `hash {d}/domaintable')dnl
FEATURE(`virtusertable', `hash {d}/virtusertable')dnl
MAILER(`smtp')dnl
""", {
        "access": [
            "127.0.0.2\tREJECT",
            "127.0.0.4\tRELAY",
            "spam.example\t550 go away",
            "From:dept.example\tOK",
            "partner.example\tRELAY",
        ],
        "mailertable": [
            "relayed.example\trelay:[127.0.0.23]",
            ".\tesmtp:[127.0.0.24]",
        ],
        "genericstable": [
            "jsmith\tJohn.Smith@example.net",
            "ann@dept.example\tAnn.Lee@people.example",
            "bob\trobert",
        ],
        "domaintable": ["old.example\trelayed.example"],
        "virtusertable": [
            "info@v1.example\tinfo@out.example",
            "nobody@v1.example\terror:nouser 550 No such user",
            "team+*@v1.example\tteam+%2@out.example",
        ]}),
}
CLIENTS = ["127.0.0.1", "127.0.0.3", "127.0.0.4", "127.0.1.9"] * 3 + [
    "127.0.0.2", "127.0.0.5"]
SENDERS = {
    "gateway": ["a@ext.example", "", "u@spam.example", "u@sub.spam.example",
                "u@ok.spam.example", "boss@spam.example", "u@later.example",
                "u@quiet.example", "u@untagged.example", "joe",
                "x@v1.example"],
    "department": ["a@ext.example", "", "u@spam.example", "u@dept.example",
                   "u@a.dept.example", "root@dept.example",
                   "jsmith@dept.example", "ann@dept.example",
                   "ann@a.dept.example", "bob@v1.example", "u@v2.example",
                   "u@gw.example.net", "u@old.example", "joe"],
}
RCPTS = {
    "gateway": ["u@relayed.example", "u@sub.relayed.example",
                "u@partner.example", "u@mt.example", "u@a.mt.example",
                "u@gone.example", "u@foreign.example",
                "foreign@foreign.example", "info@v1.example",
                "joe@v1.example", "joe+x@v1.example", "joe+y@v1.example",
                "other@v1.example", "any@v2.example", "any+d@v2.example",
                "key@v2.example",
                "abuse@v1.example", "big@relayed.example",
                "u@gw.example.net", "postmaster"],
    "department": ["u@relayed.example", "u@old.example", "u@partner.example",
                   "u@foreign.example", "info@v1.example",
                   "nobody@v1.example", "team+red@v1.example",
                   "u@v2.example", "u@gw.example.net"],
}
HOPS = range(21, 25)
# Which envelopes: others may be asked for.
SEED = int(os.environ.get("SEED", "8"))


class Hop(Sink):
    """A next hop, 127.0.0.N, on the port that all of them have."""

    def __init__(self, n, port):
        self.address, self.shared = f"127.0.0.{n}", port
        super().__init__()

    def up(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((self.address, self.shared))
        self.listener.listen(512)
        threading.Thread(target=self.accept, args=(self.listener,),
                         daemon=True).start()


class Hops:
    def __init__(self):
        self.port = free_port()
        self.list = [Hop(n, self.port) for n in HOPS]

    def close(self):
        for h in self.list:
            h.down()

    def got(self):
        """Number of the case -> where it is, with which addresses.  What
        says that mail was returned is not of a case."""
        found = collections.defaultdict(list)
        for h in self.list:
            for m in list(h.messages):
                n = m.field("X-Case")
                if n and m.field("Subject") == f"case {n}":
                    found[int(n)].append((
                        h.address, m.sender, tuple(m.rcpts),
                        m.field("From"), m.field("To")))
        return {n: sorted(v) for n, v in found.items()}


def write_site(d, name, port):
    mc, tables = SITES[name]
    os.makedirs(d)
    with open(d + "/sendmail.mc", "w") as f:
        f.write(mc.replace("{d}", d).replace("{port}", str(port)))
    for table, lines in tables.items():
        with open(f"{d}/{table}", "w") as f:
            f.write("".join(l + "\n" for l in lines))


class Sendmail:
    def __init__(self, name, hops):
        self.port = free_port()
        self.dir = tempfile.mkdtemp(prefix="postern-sendmail-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        write_site(self.dir + "/mail", name, self.port)
        try:
            subprocess.run([PEER, "site", self.dir, str(hops.port)],
                           check=True, timeout=60, stderr=subprocess.DEVNULL)
            wait_for("sendmail to greet", self.greets)
        except BaseException:
            self.close()
            raise

    def greets(self):
        try:
            with Client(self.port) as c:
                return c.cmd("QUIT").code == 221
        except (OSError, Closed):
            return False

    def waiting(self):
        return [n for n in os.listdir(self.dir + "/q") if n[:2] == "qf"]

    def close(self):
        subprocess.run([PEER, "stop", self.dir], check=False, timeout=60)
        wait_for("sendmail to end", lambda: not self.greets())
        shutil.rmtree(self.dir, ignore_errors=True)


class Imported(Instance):
    """An instance whose configuration is an imported one, but for where its
    files are and the port of the next hops."""

    def __init__(self, name, hops):
        self.sources = tempfile.mkdtemp(prefix="postern-site-", dir="/tmp")
        super().__init__(start=False)
        write_site(self.sources + "/mail", name, self.port)
        places = [l for l in open(self.etc + "/main.cf") if re.match(
            r"(queue|data|daemon|command)_directory|maillog_file", l)]
        p = subprocess.run(
            [BIN + "/postern", "import", "sendmail", self.sources + "/mail",
             "--to", self.etc, "--force"], text=True, capture_output=True,
            check=False, timeout=60)
        assert p.returncode == 0, p.stdout + p.stderr
        for file in ("main.cf", "transport", "mailertable"):
            if os.path.exists(f"{self.etc}/{file}"):
                self.edit(file, lambda t: re.sub(
                    r"(\[127\.0\.0\.2\d\])", rf"\1:{hops.port}", t))
        self.edit("main.cf", lambda t: t + "".join(places))
        self.set(smtpd_peername_lookup="no", inet_protocols="ipv4",
                 notify_classes="", smtpd_error_sleep_time="0",
                 smtp_tls_security_level="none")
        self.report = open(self.etc + "/import-report.txt").read()
        self.start()

    def destroy(self, check=True):
        shutil.rmtree(self.sources, ignore_errors=True)
        super().destroy(check)

    close = destroy


def converse(port, n, client, sender, rcpt):
    """("RCPT", 5): where it ends, and the class of the reply."""
    with Client(port, source=client, greet=False) as c:
        steps = [("CONNECT", None), ("HELO", "EHLO client.example"),
                 ("MAIL", f"MAIL FROM:<{sender}>"),
                 ("RCPT", f"RCPT TO:<{rcpt}>"), ("DATA", "DATA"),
                 ("DOT", f"From: {sender or 'a@ext.example'}\r\nTo: {rcpt}\r\n"
                  f"Subject: case {n}\r\nX-Case: {n}\r\n\r\ntext\r\n.")]
        for stage, command in steps:
            r = c.reply() if command is None else c.cmd(command)
            if r.code >= 400:
                return stage, r.code // 100
        c.cmd("QUIT")
        return "accepted", 2


def cases(name):
    """100 envelopes: each sender and recipient, from each kind of client."""
    every = list(itertools.product(CLIENTS, SENDERS[name], RCPTS[name]))
    # everywhere, and the same each time
    return random.Random(SEED).sample(every, 100)


def in_hub_form(got):
    """As sendmail's MAIL_HUB has it: user@[hub]."""
    return [(host, sender, tuple(
        r.split("@")[0] + f"@[{host}]" if host == "127.0.0.22" else r
        for r in rcpts), *rest) for host, sender, rcpts, *rest in got]


def told(case, old, new):
    """The words of the report that say why these two differ; None: there
    are none."""
    client, sender, rcpt = case
    (stage, class_), there = old
    if old[0] == new[0] and there and new[1] and \
            there == in_hub_form(new[1]):
        return "from sendmail it got user@hub"
    if rcpt == "any+d@v2.example" and old[0] == new[0]:
        return "user+detail keeps its detail here"
    if "quiet" in sender and (stage, class_) == ("RCPT", 5) and \
            new == (("accepted", 2), None):
        return "the recipients are not judged any more"
    if old[1] is new[1] is None and stage == "MAIL" and \
            new[0] == ("CONNECT", class_) and client in ("127.0.0.2",
                                                         "127.0.0.5"):
        return "sendmail says it at MAIL"
    return None


@pytest.mark.parametrize("name", SITES)
def test_same_as_sendmail(name):
    todo = cases(name)
    hops = [Hops(), Hops()]
    servers, results = [], []
    try:
        servers.append(Sendmail(name, hops[0]))
        servers.append(Imported(name, hops[1]))
        for server in servers:
            results.append([converse(server.port, n, *case)
                            for n, case in enumerate(todo)])
        wait_for("sendmail's queue", lambda: not servers[0].waiting(), 60)
        wait_for("the queue", lambda: "is empty" in servers[1].run(
            BIN + "/postqueue", "-c", servers[1].etc, "-p").stdout, 60)
        got = [h.got() for h in hops]
        differ = []
        for n, case in enumerate(todo):
            old, new = ((results[i][n], got[i].get(n)) for i in (0, 1))
            if old == new:
                continue
            words = told(case, old, new)
            if words is None or words not in servers[1].report:
                differ.append((case, old, new))
        assert not differ, f"{len(differ)} of {len(todo)}:\n" + "\n".join(
            f"{case}\n   sendmail {old}\n   Postern  {new}"
            for case, old, new in differ)
        # a test in which nothing arrives shows nothing
        assert len(got[0]) > 15, len(got[0])
        assert len(set(results[0])) > 1
    finally:
        for s in servers:
            s.close()
        for h in hops:
            h.close()
