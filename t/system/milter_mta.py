"""Mail servers that ask outside filters: the gateway, and Debian's Postfix,
which is asked what it does in the same cases.  Both listen on one port for
each way to be set up (SETTINGS) and relay to the same kind of sink."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from milters import Milter
from postern import (BIN, TOP, Client, Closed, Instance, Sink, free_port,
                     mail, run, wait_for)

PEER = f"{TOP}/t/peers/postfix"
# main.cf of a service: smtpd_milters and others.  %1, %2: the filters.
SETTINGS = {
    "tempfail": {"smtpd_milters": "%1"},
    "accept": {"smtpd_milters": "{ %1, default_action=accept }"},
    "reject": {"smtpd_milters": "{ %1, default_action=reject }"},
    "quarantine": {"smtpd_milters": "{ %1, default_action=quarantine }"},
    "shutdown": {"smtpd_milters": "{ %1, default_action=shutdown }"},
    "two": {"smtpd_milters": "%1, { %2, default_action=accept }"},
    "short": {"smtpd_milters": "{ %1, connect_timeout=2s, "
              "{ command_timeout = 2s }, content_timeout=2s }"},
    "short_accept": {"smtpd_milters": "{ %1, connect_timeout=2s, "
                     "command_timeout=2s, content_timeout=2s, "
                     "default_action=accept }"},
    "patient": {"smtpd_milters": "{ %1, command_timeout=600s }"},
    "old": {"smtpd_milters": "%1", "milter_protocol": "2"},
    "three": {"smtpd_milters": "%1", "milter_protocol": "3"},
    "unix": {"smtpd_milters": "%u"},
    # listens on ::1 too
    "six": {"smtpd_milters": "%6"},
    "macros": {"smtpd_milters": "%1", "milter_macro_daemon_name": "ORIGIN",
               "milter_macro_v": "ours-1.0", "milter_connect_macros":
               "j {daemon_name} v _", "milter_helo_macros": "{client_addr}",
               "milter_mail_macros": "{mail_addr} {auth_type} {mail_host}",
               "milter_rcpt_macros": "{rcpt_addr} {rcpt_host} i",
               "milter_data_macros": "i j",
               "milter_end_of_header_macros": "i {client_name}",
               "milter_end_of_data_macros": "i {daemon_addr}",
               "milter_unknown_command_macros": "v"},
    "maps": {"smtpd_milters": "%1", "smtpd_milter_maps":
             "inline:{ { 127.0.0.8 = DISABLE }, { 127.0.0.9 = %2 } }"},
    "none": {"smtpd_milters": ""},
}
CHECKS = """/^X-Mark:\\s+warn/ WARN a filter said so
/^X-Mark:\\s+hold/ HOLD a filter wants it
/^X-Mark:\\s+reject/ REJECT a filter marked it
/^X-Mark:\\s+discard/ DISCARD a filter marked it
/^X-Mark:\\s+replace/ REPLACE X-Mark: replaced
"""
LATER = "451 4.7.1 Service unavailable - try again later"
NO = "550 5.7.1 Command rejected"
TEXT = (b"From: sender@client.example\r\nTo: user@example.com\r\n"
        b"X-Dup: first\r\nSubject: hello\r\nX-Dup:second\r\n"
        b"X-Fold: one\r\n\ttwo\r\n\r\nold body\r\n")
# TEXT as it arrives
HEADERS = ["Received", "From: sender@client.example", "To: user@example.com",
           "X-Dup: first", "Subject: hello", "X-Dup:second",
           "X-Fold: one\r\n\ttwo"]
COMMON = {
    "milter_default_action": "tempfail",
    "smtpd_error_sleep_time": "0",
    "smtpd_hard_error_limit": "100",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_recipient_restrictions":
        "check_recipient_access inline:{{refused@example.com=550 5.7.1 no}}, "
        "permit_mynetworks, reject_unauth_destination",
    "mynetworks": "127.0.0.0/8",
    "local_header_rewrite_clients": "",
    "message_size_limit": "3000000",
    "inet_protocols": "all",
}


class Mta:
    """milter, second and local are the filters; sink is the inside."""

    def __init__(self, choices=None):
        self.choices = choices or SETTINGS
        self.sink = Sink(keywords=("PIPELINING", "8BITMIME", "SIZE", "DSN",
                                   "SMTPUTF8", "ENHANCEDSTATUSCODES"))
        self.dir = tempfile.mkdtemp(prefix="postern-milter-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.milter, self.second = Milter(), Milter()
        self.local = self.six = None
        self.ports = {}

    def settings(self, etc):
        """Lines for main.cf and master.cf."""
        main, master = dict(COMMON), ""
        main["milter_header_checks"] = f"pcre:{etc}/milter_header_checks"
        main["non_smtpd_milters"] = self.second.where
        self.local, self.six = Milter(self.dir), Milter(six=True)
        for name, own in self.choices.items():
            self.ports[name] = free_port()
            host = "[::1]" if name == "six" else "127.0.0.1"
            master += f"{host}:{self.ports[name]} inet n - n - - smtpd\n"
            for k, v in own.items():
                v = v.replace("%1", self.milter.where).replace(
                    "%2", self.second.where).replace(
                    "%u", self.local.where).replace("%6", self.six.where)
                if re.search(r"\s", v):
                    main[f"test_{name}_{k}"] = v
                    v = f"$test_{name}_{k}"
                master += f"  -o {k}={v}\n"
        return main, master

    def client(self, setting="tempfail", **kw):
        if setting == "six":
            kw["host"] = "::1"
        return Client(self.ports[setting], **kw)

    def clean(self):
        """No mail, and filters that agree to everything."""
        self.tool("postsuper", "-d", "ALL")
        # what is on its way belongs to the test before
        wait_for("an empty queue", lambda: not self.queue())
        self.sink.on = lambda verb, argument: None
        self.sink.messages, self.sink.commands = [], []
        for m in (self.milter, self.second, self.local, self.six):
            if not m.listener:
                m.up()
            m.use()

    def tool(self, name, *args, check=True):
        return run(self.programs + name, "-c", self.etc, *args,
                   check=check).stdout

    def queue(self, *queues):
        """What waits, of these queues or all, as postqueue -j tells."""
        entries = map(json.loads, self.tool("postqueue",
                                            "-j").splitlines())
        return [e for e in entries
                if not queues or e["queue_name"] in queues]

    def submit(self, sender, rcpt, text):
        """As a program of this machine."""
        p = subprocess.run(
            [self.programs + "sendmail", "-i", "-f", sender, rcpt],
            input=text, capture_output=True, timeout=60, check=False,
            env={**os.environ, "MAIL_CONFIG": self.etc})
        assert p.returncode == 0, p.stderr

    def settled(self):
        """The messages inside once nothing more is on its way."""
        wait_for("the queue to settle",
                 lambda: not self.queue("incoming", "active", "maildrop"))
        assert not self.queue("deferred"), self.queue("deferred")
        return list(self.sink.messages)

    def held(self):
        """(sender, recipients) of what is on hold."""
        return [(e["sender"], sorted(r["address"] for r in e["recipients"]))
                for e in self.queue("hold")]

    def held_text(self):
        q, = self.queue("hold")
        return self.tool("postcat", "-q", "-hb", q["queue_id"])

    def wait_log(self, pattern, since=0):
        rx = re.compile(pattern, re.M)
        try:
            return wait_for(f"a log line like {pattern!r}",
                            lambda: rx.search(self.log(), since), 15)
        except AssertionError as e:
            raise AssertionError(f"{e}; the log ends with:\n" + "".join(
                self.log().splitlines(True)[-20:])) from None

    def close(self):
        for m in (self.milter, self.second, self.local, self.six):
            if m:
                m.close()
        self.sink.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Postfix(Mta):
    name = "postfix"

    def __init__(self, choices=None):
        super().__init__(choices)
        self.programs = "/usr/sbin/"
        self.etc = self.dir + "/etc"
        try:
            main, master = self.settings(self.etc)
            main.update({"virtual_mailbox_domains": "",
                         "relay_domains": "example.com, example.org",
                         "relay_transport":
                         f"relay:[127.0.0.1]:{self.sink.port}",
                         "myhostname": "gw.example.com"})
            # the words of 3.7 know no shutdown
            main = {k: v.replace("=shutdown", "=tempfail")
                    for k, v in main.items()}
            subprocess.run([PEER, "start", self.dir, str(free_port())],
                           input="", text=True, check=True, timeout=60)
            with open(self.etc + "/main.cf") as f:
                lines = [l for l in f if l.split(" =")[0] not in main]
            with open(self.etc + "/main.cf", "w") as f:
                f.write("".join(lines) + "".join(
                    f"{k} = {v}\n" for k, v in main.items()))
            with open(self.etc + "/master.cf", "a") as f:
                f.write(master)
            with open(self.etc + "/milter_header_checks", "w") as f:
                f.write(CHECKS)
            self.signal(signal.SIGHUP)
            wait_for("Postfix", self.listens)
        except BaseException:
            print("".join(self.log().splitlines(True)[-20:]))
            self.close()
            raise

    def tool(self, name, *args, check=True):
        if name == "postcat":
            return run("/usr/sbin/postcat", "-c", self.etc, *args,
                       check=check).stdout
        return super().tool(name, *args, check=check)

    def listens(self):
        try:
            for setting in self.choices:
                self.client(setting).close()
            return True
        except (OSError, Closed):
            return False

    def signal(self, sig):
        try:
            with open(self.dir + "/spool/pid/master.pid") as f:
                os.kill(int(f.read()), sig)
                return True
        except (OSError, ValueError):
            return False

    def log(self):
        with open(self.dir + "/maillog", errors="replace") as f:
            return f.read()

    def close(self):
        self.signal(signal.SIGTERM)
        super().close()


    def expect_panic(self):
        """It throttles a service whose process dies soon after its start."""
        time.sleep(1)


class Postern(Mta):
    name = "postern"

    def __init__(self, choices=None):
        super().__init__(choices)
        self.programs = BIN + "/"
        self.gw = None
        try:
            self.gw = Instance(self.sink, start=False)
            self.etc = self.gw.etc
            main, master = self.settings(self.etc)
            self.gw.set(**main)
            self.gw.edit("master.cf", lambda t: t + master)
            self.gw.write("milter_header_checks", CHECKS)
            self.gw.start()
        except BaseException:
            self.close()
            raise

    def log(self):
        return self.gw.log()

    def close(self):
        try:
            if self.gw:
                self.gw.destroy()
        finally:
            super().close()


def fields(got):
    """The header of a message as a list; the Received of the gateway is just
    that, and white space behind a name alone does not count."""
    text = got.header.decode()
    return ["Received" if re.match(r"Received: from client\.example ", h)
            else re.sub(r":[ ]+$", ":", h)
            for h in re.split(r"\r\n(?![ \t])", text)]


class Talk:
    """A whole SMTP session: what was answered at each stage.  bad has the
    answers that are not the usual ones."""

    def __init__(self, mta, setting="tempfail", rcpts="user@example.com",
                 text=None, sender="a@client.example", helo="client.example",
                 before=(), between=(), subject="hello", **client):
        if isinstance(rcpts, str):
            rcpts = [rcpts]
        self.bad, self.replies = {}, {}
        self.closed = False
        self.rcpts = []
        text = text if text is not None else mail(subject)
        try:
            with mta.client(setting, greet=False, **client) as c:
                self.session(c, sender, rcpts, text, helo, before, between)
        except Closed as e:
            assert not str(e), f"half a reply: {e}"
            self.closed = True

    def note(self, stage, r, usual):
        self.replies[stage] = r.text
        if r.code != usual:
            self.bad[stage] = r.text
        return r.code == usual

    def session(self, c, sender, rcpts, text, helo, before, between):
        c.banner = c.reply()
        self.note("connect", c.banner, 220)
        self.note("helo", c.ehlo(helo), 250)
        for command in before:
            self.note(command.split()[0], c.cmd(command), 250)
        went = self.note("mail", c.cmd(f"MAIL FROM:<{sender}>"), 250)
        for command in between:
            self.note(command.split()[0], c.cmd(command), 250)
        for i, rcpt in enumerate(rcpts if went else []):
            r = c.cmd(f"RCPT TO:<{rcpt}>")
            self.note("rcpt" if not i else f"rcpt{i + 1}", r, 250)
            if r.code == 250:
                self.rcpts.append(rcpt)
        if self.rcpts and self.note("data", c.cmd("DATA"), 354):
            if not text.endswith(b"\r\n"):
                text += b"\r\n"
            c.send(re.sub(rb"(^|\r\n)\.", rb"\1..", text) + b".\r\n")
            self.note("dot", c.reply(), 250)
        self.note("quit", c.cmd("QUIT"), 221)


@pytest.fixture(scope="module",
                params=["postern", pytest.param("postfix",
                                                marks=pytest.mark.long)])
def server(request):
    if request.param == "postfix" and (os.getuid() != 0 or
                                       not shutil.which("postfix")):
        pytest.skip("needs root and Postfix")
    m = Postern() if request.param == "postern" else Postfix()
    yield m
    m.close()


@pytest.fixture
def mta(request, server):
    """A mail server, clean; its log is shown when the test fails."""
    server.clean()
    since = len(server.log())
    yield server
    if getattr(request.node, "failed_call", False):
        print("--- log\n" + server.log()[since:])
        print("--- told\n" + "\n".join(str(x.told)[:2000] for x in
                                       server.milter.sessions))
