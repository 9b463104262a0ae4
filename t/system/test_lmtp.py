"""The client of LMTP: the relay of an "lmtp" service.  Servers of our own that
misbehave, and Dovecot's."""
import glob
import os
import pwd
import re
import shutil
import socket
import subprocess
import threading

import pytest

from daemons import Daemons
from postern import Client, Instance, free_port, mail, wait_for
from test_lookup import hosts_names
from test_relay import (BOUNCED, CONNECT, DEFERRED, LOST, Relay, SENT,
                        SUBJECT, Server)

ROOT = os.geteuid() == 0
RELAYED, DELIVERED = 4, 5
THREE = ("a@box.example", "b@box.example", "c@box.example")
OK = "250 2.1.5 <x> saved"


def lmtp(*after, rcpt=lambda line: "250 2.1.5 Ok", keywords=("PIPELINING",),
         data="354 go on", lhlo=None):
    """talk() of a server: after says what follows the dot, one each, None
    where the connection is closed."""
    def talk(c):
        c.say("220 inside LMTP")
        while True:
            line = c.line()
            verb = line[:4].upper()
            if verb == "LHLO":
                c.say(lhlo or "\r\n".join(
                    ["250-inside"] + ["250-" + k for k in keywords] +
                    ["250 ENHANCEDSTATUSCODES"]))
            elif verb == "MAIL":
                accepted = 0
                c.say("250 2.1.0 Ok")
            elif verb == "RCPT":
                said = rcpt(line)
                accepted += said.startswith("2")
                c.say(said)
            elif verb == "DATA":
                reply = data(accepted) if callable(data) else data
                c.say(reply)
                if not reply.startswith("354"):
                    continue
                c.text()
                for said in after:
                    if said is None:
                        raise EOFError
                    c.say(said)
            elif verb == "QUIT":
                c.say("221 2.0.0 Bye")
                return
            elif verb == "RSET":
                c.say("250 2.0.0 Ok")
            else:
                c.say("500 5.5.1 what?")
    return talk


def outcome(r):
    return [(status, dsn) for status, dsn, _, _ in r.rcpts]


def verbs(c):
    return [line.split()[0] for line in c.got]


def test_a_reply_for_each_recipient():
    with Server(lmtp(OK, "452 4.2.2 <b> full", "550 5.7.1 <c> no")) as s, \
            Relay(lmtp=True) as r:
        got = r.send("inet:" + s.hop, rcpts=THREE)
        assert outcome(got) == [(SENT, "2.1.5"), (DEFERRED, "4.2.2"),
                                (BOUNCED, "5.7.1")]
        assert [reason for _, _, reason, _ in got.rcpts][0] == OK
        assert "said: 452 4.2.2 <b> full (in reply to end of DATA command)" \
            in got.rcpts[1][2]
        assert verbs(s.conns[0])[:1] == ["LHLO"]
        assert "EHLO" not in verbs(s.conns[0])
        # The session is whole, and serves the next message.
        r.idle()
        s.talk = None
        assert r.status()["sessions"] == "1"


def test_those_refused_before_get_no_reply():
    def rcpt(line):
        return "550 5.1.1 who?" if "<b@" in line else "250 2.1.5 Ok"
    for keywords in ("PIPELINING",), ():
        with Server(lmtp("450 4.0.0 <a> later", OK, rcpt=rcpt,
                         keywords=keywords)) as s, Relay(lmtp=True) as r:
            got = r.send(s.hop, rcpts=THREE)
            assert outcome(got) == [(DEFERRED, "4.0.0"), (BOUNCED, "5.1.1"),
                                    (SENT, "2.1.5")]
            r.idle()


def test_status_in_the_last_line():
    """As Cyrus has it; of SMTP too."""
    def rcpt(line):
        return "550-no such mailbox\r\n550 5.1.1 User unknown"
    with Server(lmtp(rcpt=rcpt)) as s, Relay(lmtp=True) as r:
        assert outcome(r.send(s.hop)) == [(BOUNCED, "5.1.1")]


def test_connection_lost_between_replies():
    """Who has an answer keeps it; the others wait."""
    for after, want in (
            ((OK, None), [(SENT, "2.1.5"), (DEFERRED, "4.4.2"),
                          (DEFERRED, "4.4.2")]),
            ((OK, "550 5.0.0 no", None),
             [(SENT, "2.1.5"), (BOUNCED, "5.0.0"), (DEFERRED, "4.4.2")]),
            ((None,), [(DEFERRED, "4.4.2")] * 3)):
        with Server(lmtp(*after)) as s, Relay(lmtp=True) as r:
            got = r.send(s.hop, rcpts=THREE)
            assert outcome(got) == want
            assert got.trouble == LOST
            assert "while sending end of data" in got.rcpts[2][2]


def test_silence_between_replies():
    """Each reply has the whole time, and one that does not come ends it."""
    with Server(lmtp(OK, OK)) as s, \
            Relay(lmtp=True, smtp_data_done_timeout="1s") as r:
        got = r.send(s.hop, rcpts=THREE)
        assert outcome(got) == [(SENT, "2.1.5")] * 2 + [(DEFERRED, "4.4.2")]
        assert "timed out" in got.rcpts[2][2]


def test_too_many_replies():
    """One more than there are recipients is no reply to the next message."""
    for after in (OK, OK, OK, OK), (OK + "\r\n" + OK + "\r\n" + OK + "\r\n" +
                                    OK,):
        with Server(lmtp(*after)) as s, Relay(lmtp=True) as r:
            assert outcome(r.send(s.hop, rcpts=THREE)) == [(SENT, "2.1.5")] * 3
            wait_for("the session to end", lambda: s.ended == 1)
            s.talk = lmtp("550 5.0.0 no", "550 5.0.0 no", "550 5.0.0 no")
            assert outcome(r.send(s.hop, rcpts=THREE)) == \
                [(BOUNCED, "5.0.0")] * 3
            assert s.connections == 2


def test_one_reply_as_in_smtp():
    """A server of SMTP answers once: the rest of the recipients is not sent."""
    with Server(lmtp(OK)) as s, \
            Relay(lmtp=True, smtp_data_done_timeout="1s") as r:
        assert outcome(r.send(s.hop, rcpts=THREE)) == \
            [(SENT, "2.1.5")] + [(DEFERRED, "4.4.2")] * 2


def test_junk_for_a_reply():
    with Server(lmtp(OK, "hello", OK)) as s, Relay(lmtp=True) as r:
        got = r.send(s.hop, rcpts=THREE)
        assert outcome(got) == [(SENT, "2.1.5")] + [(DEFERRED, "4.5.0")] * 2
    with Server(lmtp(OK, "354 go on", OK)) as s, Relay(lmtp=True) as r:
        got = r.send(s.hop, rcpts=THREE)
        assert outcome(got) == [(SENT, "2.1.5")] + [(DEFERRED, "4.5.0")] * 2


def test_no_recipient_left():
    """Nobody was accepted, and DATA was sent ahead: no reply would follow a
    text, so none is sent and none is waited for."""
    def nobody(line):
        return "550 5.1.1 who?"
    for data in "503 5.5.1 no valid recipients", "354 go on":
        with Server(lmtp(rcpt=nobody, data=data)) as s, \
                Relay(lmtp=True) as r:
            assert outcome(r.send(s.hop, rcpts=THREE)) == \
                [(BOUNCED, "5.1.1")] * 3
            assert s.conns[0].texts == []


def test_closing_among_replies():
    with Server(lmtp(OK, "421 4.3.2 shutting down", OK)) as s, \
            Relay(lmtp=True) as r:
        got = r.send(s.hop, rcpts=THREE)
        assert outcome(got) == [(SENT, "2.1.5"), (DEFERRED, "4.3.2"),
                                (SENT, "2.1.5")]
        wait_for("no session", lambda: r.status()["sessions"] == "0")


def test_not_a_server_of_lmtp():
    """There is no HELO to fall back to."""
    for lhlo, dsn in (("500 5.5.1 what?", BOUNCED), ("421 4.3.2 no",
                                                     DEFERRED)):
        with Server(lmtp(lhlo=lhlo)) as s, Relay(lmtp=True) as r:
            got = r.send(s.hop)
            assert got.status == dsn
            assert "refused to talk to me" in got.reason
            wait_for("the end", lambda: s.ended == 1)
            assert verbs(s.conns[0]) in (["LHLO", "QUIT"], ["LHLO"])


def test_dead_first_server():
    """What one server defers, the next hop behind it is asked about; what it
    took or refused is settled."""
    with Server(lmtp(OK, "451 4.3.0 later", "550 5.0.0 no")) as s, \
            Server(lmtp("250 2.0.0 second")) as t, \
            Relay(lmtp=True, smtp_fallback_relay="inet:" + t.hop) as r:
        got = r.send(s.hop, rcpts=THREE)
        assert outcome(got) == [(SENT, "2.1.5"), (SENT, "2.0.0"),
                                (BOUNCED, "5.0.0")]
        assert [line for line in t.conns[0].got if line[:4] == "RCPT"] == \
            ["RCPT TO:<b@box.example>"]


def test_lost_and_a_second_server():
    """After a loss nobody is asked to take what the first may have."""
    with Server(lmtp("451 4.3.0 later", None)) as s, \
            Server(lmtp("250 2.0.0 second")) as t, \
            Relay(lmtp=True, smtp_fallback_relay=t.hop) as r:
        assert outcome(r.send(s.hop, rcpts=THREE)) == \
            [(SENT, "2.0.0")] + [(DEFERRED, "4.4.2")] * 2


def test_next_hops(tmp_path):
    """unix:, with the path as it is; inet:; no MX; the port."""
    path = str(tmp_path / "Socket")
    with Server(lmtp(OK)) as s, \
            Relay(lmtp=True, lmtp_tcp_port=str(s.port),
                  queue_directory=str(tmp_path)) as r:
        for hop in (s.hop, f"inet:127.0.0.1:{s.port}", "inet:127.0.0.1",
                    "INET:[127.0.0.1]"):
            assert r.send(hop).status == SENT, hop
        got = r.send("unix:" + path)
        assert (got.status, got.trouble) == (DEFERRED, CONNECT)
        assert got.reason == f"connect to gw.example.com[{path}]: " \
            "No such file or directory"
        with socket.socket(socket.AF_UNIX) as u:
            u.bind(path)
            u.listen(5)
            s.listener, old = u, s.listener
            threading.Thread(target=s.accept, daemon=True).start()
            for hop in "unix:" + path, "unix:Socket":
                got = r.send(hop)
                assert (got.status, got.mta) == (SENT, "gw.example.com")
                assert f"relay=gw.example.com[{hop[5:]}]," in r.log()
            s.listener = old
            u.shutdown(socket.SHUT_RDWR)
        long = r.send("unix:/" + "x" * 200)
        assert long.status == DEFERRED and "name too long" in long.reason
        for hop in "unix:", "inet:", "inet:[127.0.0.1]:0":
            got = r.send(hop)
            assert got.status == DEFERRED and "bad next hop" in got.reason
        # a domain is a host, never asked for its MX
        r.lookup = r.peer("lookup")
        r.deliver("box.example:2424")
        ask = r.lookup.expect("ROUTE")
        ask.u32()
        assert ask.u8() == 0


def test_no_tls_to_a_socket_of_this_host(tmp_path):
    """Whatever is configured for servers elsewhere."""
    path = str(tmp_path / "socket")
    with Server(lmtp(OK)) as s, socket.socket(socket.AF_UNIX) as u, \
            Relay(lmtp=True, smtp_tls_wrappermode="yes",
                  smtp_tls_security_level="encrypt",
                  queue_directory=str(tmp_path)) as r:
        u.bind(path)
        u.listen(5)
        s.listener, old = u, s.listener
        threading.Thread(target=s.accept, daemon=True).start()
        assert r.send("unix:" + path).status == SENT
        s.listener = old
        u.shutdown(socket.SHUT_RDWR)


def test_final(tmp_path):
    """Who tells the sender: they, if they do DSN; else we, that it was
    relayed, or as lmtp_assume_final says, delivered."""
    for conf, keywords, want in (
            ({}, (), RELAYED), ({}, ("DSN",), SENT),
            ({"lmtp_assume_final": "yes"}, (), DELIVERED),
            ({"lmtp_assume_final": "yes"}, ("DSN",), SENT)):
        with Server(lmtp("250 2.0.0 Ok", keywords=keywords)) as s, \
                Relay(lmtp=True, **conf) as r:
            assert r.send(s.hop, notify=2).status == want


@pytest.mark.parametrize("lmtp_host_lookup,status", [
    ("native", "sent"), ("dns", "deferred")])
def test_host_lookup(make, lmtp_host_lookup, status):
    """LMTP does not go by what is set for SMTP.  No name service answers, but
    each system knows this name."""
    names = [n for n, a in hosts_names() if a == "127.0.0.1"]
    if not names:
        pytest.skip("/etc/hosts has no name of its own for 127.0.0.1")
    with Server(lmtp("250 2.0.0 Ok")) as s:
        gw = make(main={
            "dns_resolvers": f"127.0.0.1@{free_port()}",
            "relay_transport": f"box:inet:{names[0]}:{s.port}",
            "lmtp_host_lookup": lmtp_host_lookup,
            "smtp_host_lookup": "native" if status == "deferred" else "dns"},
            start=False)
        gw.edit("master.cf", lambda t: t + "box unix - - n - - lmtp\n")
        gw.start()
        with gw.client() as c:
            c.ehlo()
            assert c.message("", ["a@example.com"], mail("x")).code == 250
        gw.wait_log(rf"to=<a@example.com>, .*status={status}", 60)


def test_old_names_of_tls(make):
    """... count where lmtp_tls_security_level is empty, not those of SMTP."""
    with Server(lmtp("250 2.0.0 Ok")) as s:
        gw = make(main={
            "relay_transport": f"box:inet:127.0.0.1:{s.port}",
            "lmtp_tls_security_level": "", "lmtp_enforce_tls": "yes",
            "smtp_tls_security_level": "none"}, start=False)
        gw.edit("master.cf", lambda t: t + "box unix - - n - - lmtp\n")
        gw.start()
        with gw.client() as c:
            c.ehlo()
            assert c.message("", ["a@example.com"], mail("x")).code == 250
        gw.wait_log("to=<a@example.com>, .*status=deferred .*TLS is required")


def test_kept_by_destination(tmp_path):
    """Paths of sockets, too, are named there."""
    import socket
    path = str(tmp_path / "s")
    for listed, connections in ((path, 1), ("/dev/null", 3)):
        with Server(lmtp("250 2.0.0 Ok")) as s, Relay(
                lmtp=True, lmtp_connection_cache_on_demand="no",
                smtp_connection_cache_on_demand="no",
                smtp_connection_cache_destinations="inline:{%s=x}" % listed) \
                as r, socket.socket(socket.AF_UNIX) as u:
            u.bind(path)
            u.listen(5)
            s.listener, old = u, s.listener
            threading.Thread(target=s.accept, daemon=True).start()
            for _ in range(3):
                assert r.send("unix:" + path).status == SENT
            assert s.connections == connections
            s.listener = old
            u.shutdown(socket.SHUT_RDWR)
        os.unlink(path)


# -- Dovecot -----------------------------------------------------------------

needs_dovecot = pytest.mark.skipif(
    not ROOT or shutil.which("dovecot") is None,
    reason="needs root and Dovecot")
NOBODY = 65534


class Dovecot:
    """LMTP for the users of box.example: "small" has no room for mail."""

    def __init__(self, socket_path, owner, blocks="", **settings):
        self.d = Daemons()
        self.port = free_port()
        box = self.d.folder("box", "nobody")
        self.d.file("users", "".join(
            f"{u}@box.example:{{PLAIN}}x:{NOBODY}:{NOBODY}::{box}/{u}::"
            f"{extra}\n" for u, extra in (
                ("alice", ""), ("bob", ""), ("alice+x", ""),
                ("small", "userdb_quota_rule=*:storage=1"))))
        more = "".join(f"{k} = {v}\n" for k, v in settings.items())
        self.conf = self.d.file("dovecot.conf", f"""
protocols = lmtp
base_dir = {self.d.dir}/run
state_dir = {self.d.dir}/state
log_path = {self.d.dir}/dovecot.log
ssl = no
first_valid_uid = 1
last_valid_uid = 0
first_valid_gid = 1
mail_location = maildir:~/Maildir
mail_plugins = quota
plugin {{
  quota = count:User quota
  quota_vsizes = yes
  quota_grace = 0
}}
passdb {{
  driver = passwd-file
  args = {self.d.dir}/users
}}
userdb {{
  driver = passwd-file
  args = {self.d.dir}/users
}}
service lmtp {{
  unix_listener {socket_path} {{
    user = {owner}
    mode = 0600
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {self.port}
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
{more}{blocks}""")
        self.d.run(shutil.which("dovecot"), "-F", "-c", self.conf,
                   name="dovecot")
        self.d.wait_port(self.port)
        self.d.wait("the socket", lambda: os.path.exists(socket_path))

    def texts(self, user):
        found = []
        for path in glob.glob(f"{self.d.dir}/box/{user}/Maildir/new/*"):
            with open(path, "rb") as f:
                found.append(f.read())
        return found

    def fetched(self, user):
        return subprocess.run(
            ["doveadm", "-c", self.conf, "fetch", "-u",
             user + "@box.example", "hdr.subject", "all"],
            capture_output=True, check=True).stdout


class Gateway(Instance):
    def __init__(self, service="lmtp  unix  -  -  -  -  -  lmtp", **main):
        super().__init__(main={
            "mynetworks": "127.0.0.0/8", "smtpd_relay_restrictions":
            "permit_mynetworks, reject",
            "virtual_mailbox_domains": "box.example", **main}, start=False)
        self.edit("master.cf", lambda t: t + service + "\n")

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        if kind is not None:
            print(self.log())
        self.destroy(check=kind is None)

    def up(self):
        self.start()
        self.ready()

    def send(self, *rcpts, body=b"text\r\n", **kw):
        with self.client() as c:
            c.ehlo()
            r = c.message("sender@client.example", list(rcpts),
                          mail(body=body, **kw))
            assert r.code == 250, r

    def status(self, to, status):
        return self.wait_log(
            rf"lmtp\[\d+\]: \w+: (to=<{re.escape(to)}>.* "
            rf"status={status} \(.*\))$").group(1)


@pytest.fixture
def dovecot():
    made = []

    def make(path, owner="postern-out", **settings):
        made.append(Dovecot(path, owner, **settings))
        return made[-1]
    yield make
    for d in made:
        d.d.stop()


@needs_dovecot
def test_dovecot_by_socket(dovecot):
    """Its socket lies in private/, for our client alone, which is jailed."""
    with Gateway(virtual_transport="lmtp:unix:private/dovecot-lmtp") as gw:
        gw.up()
        d = dovecot(gw.spool + "/private/dovecot-lmtp")
        with Client(d.port) as c:
            assert "CHUNKING" in c.cmd("LHLO client.example").text
        # several chunks
        body = b"".join(b".dots\r\n..\r\n.\xc3\xa4\r\n" for _ in
                        range(20000))
        gw.send("alice@box.example", "bob@box.example", "nobody@box.example",
                "small@box.example", body=body)
        line = gw.status("alice@box.example", "sent")
        assert "relay=gw.example.com[private/dovecot-lmtp]," in line
        assert "Saved" in line
        gw.status("bob@box.example", "sent")
        assert "dsn=5.1.1" in gw.status("nobody@box.example", "bounced")
        assert "dsn=5.2.2" in gw.status("small@box.example", "bounced")
        for user in "alice", "bob":
            text, = d.texts(user)
            assert text.endswith(b"\n\n" + body.replace(b"\r\n", b"\n"))
            assert text.startswith(b"Return-Path: <sender@client.example>\n")
        assert d.texts("small") == []
        # private/ is no way for others
        st = os.stat(gw.spool + "/private")
        assert st.st_mode & 0o777 == 0o710
        assert st.st_gid == pwd.getpwnam("postern-out").pw_gid


@needs_dovecot
def test_dovecot_by_tcp_and_quota_later(dovecot):
    """A full mailbox that may have room tomorrow waits, alone."""
    with Gateway() as gw:
        d = dovecot(gw.dir + "/socket", quota_full_tempfail="yes")
        gw.set(virtual_transport=f"lmtp:inet:127.0.0.1:{d.port}",
               lmtp_lhlo_name="lmtp.client.example",
               smtp_helo_name="not this", lmtp_destination_recipient_limit="2")
        gw.up()
        for n in range(10):
            gw.send("alice@box.example", "bob@box.example",
                    "small@box.example", subject=f"m{n}",
                    body=b"x\r\n" * 1000)
        wait_for("ten each", lambda: len(d.texts("alice")) == 10 and
                 len(d.texts("bob")) == 10)
        wait_for("ten deferred", lambda: len(gw.queued("deferred")) == 10)
        assert "dsn=4.2.2" in gw.status("small@box.example", "deferred")
        assert all(b"Received: from lmtp.client.example" in text
                   for text in d.texts("alice"))
        text = d.fetched("alice")
        assert all(b"m%d" % n in text for n in range(10))


@needs_dovecot
def test_dovecot_goes_and_comes_back(dovecot):
    with Gateway(virtual_transport="lmtp:unix:private/dovecot-lmtp") as gw:
        gw.up()
        gw.send("alice@box.example")
        assert "No such file or directory" in gw.status("alice@box.example",
                                                        "deferred")
        wait_for("a deferred message", lambda: gw.queued("deferred"))
        d = dovecot(gw.spool + "/private/dovecot-lmtp")
        gw.run(gw.build + "/bin/postqueue", "-c", gw.etc, "-f")
        gw.status("alice@box.example", "sent")
        assert len(d.texts("alice")) == 1


@needs_dovecot
def test_the_jail(dovecot):
    """A socket elsewhere is out of reach, unless master.cf lets it out; an
    -o is for this service."""
    with Gateway(virtual_transport="lmtp:unix:/DIR") as gw:
        path = gw.dir + "/dovecot-lmtp"
        gw.set(virtual_transport="lmtp:unix:" + path)
        d = dovecot(path)
        gw.up()
        gw.send("alice@box.example")
        assert "outside of queue_directory" in gw.status("alice@box.example",
                                                         "deferred")
        gw.edit("master.cf", lambda t: t.replace(
            "lmtp  unix  -  -  -", "lmtp  unix  -  -  n"))
        gw.command("reload")
        wait_for("a deferred message", lambda: gw.queued("deferred"))
        gw.run(gw.build + "/bin/postqueue", "-c", gw.etc, "-f")
        gw.status("alice@box.example", "sent")
        assert len(d.texts("alice")) == 1


# -- Cyrus -------------------------------------------------------------------

CYRUS = "/usr/lib/cyrus/bin/"


class Cyrus:
    """LMTP for alice and bob of box.example, 50 KB each."""

    def __init__(self, socket_path):
        self.d = Daemons()
        for name in "lib", "spool", "run":
            self.d.folder(name, "cyrus")
        self.port = free_port()
        conf = self.d.file("imapd.conf", f"""
configdirectory: {self.d.dir}/lib
partition-default: {self.d.dir}/spool
defaultpartition: default
proc_path: {self.d.dir}/run/proc
mboxname_lockpath: {self.d.dir}/run/lock
idlesocket: {self.d.dir}/run/idle
notifysocket: {self.d.dir}/run/notify
lmtpsocket: {socket_path}
admins: cyrus
servername: cyrus.example
virtdomains: userid
defaultdomain: box.example
unixhierarchysep: yes
altnamespace: no
hashimapspool: no
mailbox_legacy_dirs: yes
duplicatesuppression: no
autocreate_post: yes
autocreate_quota: 50
autocreate_users: alice bob
sieveuserhomedir: no
sievedir: {self.d.dir}/lib/sieve
""")
        services = self.d.file("cyrus.conf", f"""
START {{
  recover cmd="ctl_cyrusdb -C {conf} -r"
}}
SERVICES {{
  unix cmd="lmtpd -C {conf}" listen="{socket_path}" prefork=0 maxchild=5
  tcp cmd="lmtpd -a -C {conf}" listen="127.0.0.1:{self.port}" proto=tcp4 maxchild=5
}}
EVENTS {{
}}
""")
        self.d.run(CYRUS + "master", "-C", conf, "-M", services, "-p",
                   self.d.dir + "/run/pid", "-D", name="master")
        self.d.wait_port(self.port)
        self.d.wait("the socket", lambda: os.path.exists(socket_path))

    def texts(self, user):
        found = []
        for path in glob.glob(f"{self.d.dir}/spool/**/{user}/[0-9]*.",
                              recursive=True):
            with open(path, "rb") as f:
                found.append(f.read())
        return found


@pytest.mark.skipif(not ROOT or not os.path.exists(CYRUS + "lmtpd"),
                    reason="needs root and Cyrus")
@pytest.mark.parametrize("by", ["unix", "tcp"])
def test_cyrus(by):
    with Gateway() as gw:
        os.makedirs(gw.spool + "/private", exist_ok=True)
        c = Cyrus(gw.spool + "/private/cyrus-lmtp")
        try:
            gw.set(virtual_transport="lmtp:unix:private/cyrus-lmtp"
                   if by == "unix" else f"lmtp:inet:127.0.0.1:{c.port}")
            gw.up()
            body = b"".join(b".dots\r\n..\r\n.%d\r\n" % n
                            for n in range(2500))
            gw.send("alice@box.example", body=body)
            gw.status("alice@box.example", "sent")
            text, = c.texts("alice")
            assert text.endswith(b"\r\n\r\n" + body)
            assert b"Return-Path: <sender@client.example>\r\n" in text
            # the last one that fits, and no room for more: she waits, he
            # has it once
            gw.send("alice@box.example", body=body)
            wait_for("two", lambda: len(c.texts("alice")) == 2)
            gw.send("alice@box.example", "bob@box.example",
                    "nobody@box.example", body=body)
            gw.status("bob@box.example", "sent")
            assert "dsn=5.1.1" in gw.status("nobody@box.example", "bounced")
            assert "dsn=4.2.2" in gw.status("alice@box.example", "deferred")
            assert len(c.texts("alice")) == 2 and len(c.texts("bob")) == 1
        except BaseException:
            print(c.d.said())
            raise
        finally:
            c.d.stop()
