"""contrib/leaving-sendmail.md: its commands, in their order, there and back,
with a real sendmail, a gateway in front of it and a real Dovecot behind."""
import os
import re
import shutil
import socket
import subprocess
import tempfile

import pytest
from pmilter_help import HAVE_SENDMAIL
from postern import (BIN, HOSTNAME, SLOW, TOP, Client, Instance, Sink,
                     free_port, mail, wait_for)
from test_lmtp import Dovecot, needs_dovecot

PEER = f"{TOP}/build/peers/sendmail"
LIBS = ":".join(f"{PEER}/{d}/x86_64-linux-gnu" for d in ("usr/lib", "lib"))
DOMAIN = "box.example"
MC = """divert(0)dnl
OSTYPE(`linux')dnl
define(`LOCAL_MAILER_PATH', `{d}/deliver')dnl
define(`confDOMAIN_NAME', `old.{domain}')dnl
define(`confCW_FILE', `{d}/mail/local-host-names')dnl
define(`confPID_FILE', `{d}/sendmail.pid')dnl
define(`QUEUE_DIR', `{d}/mqueue')dnl
define(`ALIAS_FILE', `{d}/mail/aliases')dnl
define(`STATUS_FILE', `{d}/statistics')dnl
define(`confDELIVERY_MODE', `interactive')dnl
define(`confREFUSE_LA', `1000')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confDONT_BLAME_SENDMAIL', `MapInUnsafeDirPath,ClassFileInUnsafeDirPath,RunProgramInUnsafeDirPath')dnl
define(`ESMTP_MAILER_ARGS', `TCP $h {front}')dnl
FEATURE(`use_cw_file')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`mailertable', `hash {d}/mail/mailertable')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Name=MTA, Addr=127.0.0.1, Port={front}')dnl
MODIFY_MAILER_FLAGS(`LOCAL', `-w')dnl
MAILER(local)dnl
MAILER(smtp)dnl
"""
# What is not the guide's: the commands of a system that has sendmail.
SHIMS = {
    "systemctl": """
case $1 in stop|restart)
    pid=$(head -1 $D/sendmail.pid 2>/dev/null) &&
    kill $pid && while kill -0 $pid 2>/dev/null; do sleep .05; done
    rm -f $D/sendmail.pid ;;
esac
case $1 in start|restart)
    $D/bin/sendmail -bd -q1s ;;
esac""",
    "make": "exec m4 -D_CF_DIR_=$CF/ $CF/m4/cf.m4 $D/mail/sendmail.mc "
            ">$D/mail/sendmail.cf",
    # where the host's name has no domain it sleeps for a minute
    "sendmail": "export LD_LIBRARY_PATH=$LIBS; exec unshare --uts sh -c "
                "'hostname old.box.example; exec \"$@\"' sh "
                "$PEER/usr/libexec/sendmail/sendmail "
                "-C $D/mail/sendmail.cf \"$@\"",
    "makemap": "LD_LIBRARY_PATH=$LIBS exec $PEER/usr/libexec/sendmail/"
               "makemap -C $D/mail/sendmail.cf \"$@\"",
    "newaliases.sendmail": "exec $D/bin/sendmail -bi",
    "postern": "exec $POSTERN/postern -c $D/postern/etc \"$@\"",
}


def blocks():
    """step: (there, [what is done once there], back), as shell text."""
    with open(f"{TOP}/contrib/leaving-sendmail.md") as f:
        text = f.read()
    steps = {}
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        there, _, back = part.partition("**Back")
        steps[int(part[0])] = [
            [re.sub(r"^    ", "", b, flags=re.M) for b in re.findall(
                r"(?:^    .*\n)+", p, re.M)] for p in (there, back)]
    return steps


class Site:
    def __init__(self):
        # sendmail trusts no socket below a directory of everybody
        self.dir = tempfile.mkdtemp(prefix="leaving-", dir="/run")
        os.chmod(self.dir, 0o755)
        self.back = free_port()
        self.steps = blocks()
        self.gw = self.new = None
        try:
            self.make()
        except BaseException:
            self.destroy(check=False)
            raise

    def file(self, name, text, mode=0o644):
        path = f"{self.dir}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)

    def make(self):
        self.new = Dovecot(self.dir + "/lmtp", "postern-out")
        self.gw = Instance(start=False, domain=DOMAIN, main={
            "mynetworks": "127.0.0.1",
            "header_checks": "pcre:$config_directory/header_checks"})
        self.gw.write("header_checks", "/^Subject: .*bad/ REJECT no\n")
        self.front = self.gw.port
        d = self.dir
        os.symlink(os.path.dirname(self.gw.etc), d + "/postern")
        for name in ("mqueue", "box", "run"):
            os.mkdir(f"{d}/{name}", 0o755)
        os.chmod(d + "/box", 0o1777)
        os.chmod(d + "/mqueue", 0o700)
        self.file("deliver", f"#!/bin/sh\nfor u; do :; done\n"
                  f"{{ cat; echo; echo =====; }} >>{d}/box/$u\n", 0o755)
        self.file("mail/sendmail.mc", MC.replace("{d}", d).replace(
            "{front}", str(self.front)).replace("{domain}", DOMAIN))
        self.file("mail/local-host-names", DOMAIN + "\n")
        self.file("mail/aliases", "root: bob\n")
        self.file("mail/mailertable", "")
        with open(f"{TOP}/contrib/postern-milter.mc") as f:
            self.file("contrib/postern-milter.mc", f.read().replace(
                "/run/postern", d + "/run"))
        for name, text in SHIMS.items():
            self.file("bin/" + name, "#!/bin/sh\n" + text + "\n", 0o755)
        self.sh("make\nmakemap hash /etc/mail/mailertable "
                "</etc/mail/mailertable\nnewaliases.sendmail\n"
                "systemctl start sendmail\n")
        self.settled()

    def sh(self, text):
        """Commands of the guide, with this site's places."""
        for old, new in (
                ("PATH=/usr/libexec/postern/bin:$PATH; ", ""),
                ("/etc/mail", self.dir + "/mail"),
                ("/etc/postern", self.gw.etc),
                ("/run/postern", self.dir + "/run"),
                ("[192.0.2.8]:24", f"[127.0.0.1]:{self.new.port}"),
                ("/var/log/mail.log", self.gw.log_path),
                ("contrib/", self.dir + "/contrib/"),
                ("2525", str(self.back)),
                ("example.com", DOMAIN)):
            text = text.replace(old, new)
        p = subprocess.run(
            ["sh", "-e"], input=text, capture_output=True, text=True,
            timeout=120 * SLOW, check=False, env={
                "D": self.dir, "PEER": PEER, "LIBS": LIBS, "POSTERN": BIN,
                "CF": f"{PEER}/usr/share/sendmail/cf",
                "MAIL_CONFIG": self.gw.etc, "PATH":
                f"{self.dir}/bin:{BIN}:/usr/sbin:/usr/bin:/sbin:/bin"})
        assert p.returncode == 0, f"{text}\n{p.stdout}{p.stderr}"
        return p.stdout

    def go(self, step, part=0):
        self.sh(self.steps[step][0][part])
        self.settled()

    def undo(self, step):
        self.sh(self.steps[step][1][0])
        self.settled()

    def settled(self):
        def answers():
            try:
                with Client(self.front, timeout=5):
                    return True
            except OSError:
                return False
        wait_for("port 25", answers)

    def old(self, user):
        try:
            with open(f"{self.dir}/box/{user}", "rb") as f:
                return f.read()
        except FileNotFoundError:
            return b""

    def send(self, user, subject, sender="a@client.example", port=None):
        with Client(port or self.front) as c:
            c.ehlo()
            return c.message(sender, f"{user}@{DOMAIN}", mail(subject))

    def arrives_old(self, user, subject=None, **kw):
        # in digits: the rules are about letters
        subject = subject or str(int.from_bytes(os.urandom(6), "big"))
        r = self.send(user, subject, **kw)
        assert r.code == 250, r
        def there():
            return [t for t in self.old(user).split(b"\n=====\n")[:-1]
                    if subject.encode() in t]
        wait_for(f"{subject} at the old server", there)
        assert not any(subject.encode() in t for t in self.new.texts(user))
        return there()[-1]

    def noticed(self):
        """A changed table has the same effect, but nobody says when."""
        self.gw.command("reload")

    def arrives_new(self, user, subject=None, **kw):
        # in digits: the rules are about letters
        subject = subject or str(int.from_bytes(os.urandom(6), "big"))
        r = self.send(user, subject, **kw)
        assert r.code == 250, r
        try:
            wait_for(f"{subject} at the new server", lambda: any(
                subject.encode() in t for t in self.new.texts(user)))
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.gw.log()[-3000:]}") from None
        assert subject.encode() not in self.old(user)

    def destroy(self, check=True):
        for name in ("sendmail.pid", "run/milter.pid"):
            try:
                with open(f"{self.dir}/{name}") as f:
                    os.kill(int(f.readline()), 15)
            except (OSError, ValueError):
                pass
        if self.gw:
            self.gw.running = self.gw.command(
                "status", check=False).returncode == 0
            self.gw.destroy(check=check)
        if self.new:
            self.new.d.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture
def site():
    s = Site()
    yield s
    s.destroy()


@pytest.mark.skipif(not HAVE_SENDMAIL, reason="t/peers/sendmail fetch")
@needs_dovecot
@pytest.mark.long
def test_the_whole_way(site):
    def product():
        with Client(site.front) as c:
            return c.banner.text

    site.arrives_old("alice")
    # 1. inside sendmail
    site.go(1)
    assert b"X-Postern: ok" in site.arrives_old("alice")
    assert b"X-Postern: reject" in site.arrives_old("alice", "x bad one")
    site.undo(1)
    assert b"X-Postern" not in site.arrives_old("bob")
    site.go(1)
    # 2. in front, soft
    site.go(2)
    assert HOSTNAME in product() and "Sendmail" not in product()
    text = site.arrives_old("alice", "a bad two")
    assert b"X-Postern" not in text
    assert "reject: header Subject: a bad two" in site.sh(site.steps[2][0][1])
    site.undo(2)
    assert "Sendmail" in product()
    site.arrives_old("alice", "a bad three")
    site.go(1)
    site.go(2)
    # 3. in force
    site.go(3)
    assert site.send("alice", "a bad four").text == "550 5.7.1 no"
    site.arrives_old("alice")
    site.undo(3)
    site.arrives_old("alice", "a bad five")
    site.go(3)
    # 4. users move
    site.go(4)
    site.arrives_old("alice")
    site.go(4, 1)
    site.noticed()
    site.arrives_new("alice")
    site.arrives_old("bob")
    # from the old server to one who moved, and to one who did not
    site.arrives_new("alice", port=site.back)
    site.arrives_old("bob", port=site.back)
    site.undo(4)
    site.noticed()
    site.arrives_old("alice")
    site.arrives_old("alice", port=site.back)
    # the servers do not agree: the old one says moved, the table does not
    site.sh('echo "carol: carol@new.example.com" >>/etc/mail/aliases\n'
            "newaliases.sendmail\n")
    site.send("carol", "round and round")
    site.gw.wait_log("mail loops: it was here 3 times")
    assert b"round and round" not in site.old("carol")
    site.go(4, 1)
    site.noticed()
    # 5. without it
    site.go(5)
    site.arrives_new("bob")
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", site.back), 5)
    site.undo(5)
    site.arrives_old("bob")
    site.arrives_new("alice")


# -- a domain on two servers ---------------------------------------------------

@pytest.fixture
def split():
    old, new = Sink(), Sink()
    g = Instance(old, start=False, main={
        "transport_maps": "hash:$config_directory/moved",
        "minimal_backoff_time": "1s", "maximal_backoff_time": "1s",
        "queue_run_delay": "1s", "own_hopcount_limit": "3"})
    g.write("moved", f"anna@example.com relay:[127.0.0.1]:{new.port}\n")
    g.start()
    yield g, old, new
    g.destroy()
    old.down()
    new.down()


def deliver(g, rcpts, subject, text=None):
    with g.client() as c:
        c.ehlo()
        r = c.message("a@client.example", rcpts, text or mail(subject))
        assert r.code == 250, r


def test_recipients_of_one_message(split):
    g, old, new = split
    deliver(g, ["bob@example.com", "anna@example.com", "Anna@EXAMPLE.com",
                "carl@example.com"], "both")
    there, here = new.wait_subject("both"), old.wait_subject("both")
    assert {r.lower() for r in there.rcpts} == {"anna@example.com"}
    assert sorted(here.rcpts) == ["bob@example.com", "carl@example.com"]


def test_who_moves_takes_waiting_mail_along(split):
    g, old, new = split
    old.down()
    deliver(g, "bob@example.com", "waits")
    g.wait_log("to=<bob@example.com>.*status=deferred")
    g.edit("moved", lambda t: t + "bob@example.com "
           f"relay:[127.0.0.1]:{new.port}\n")
    assert new.wait_subject("waits").rcpts == ["bob@example.com"]
    # and back
    old.up()
    g.edit("moved", lambda t: t.replace("bob@", "nobody@"))
    g.command("reload")
    deliver(g, "bob@example.com", "home")
    assert old.wait_subject("home").rcpts == ["bob@example.com"]


def test_mail_that_goes_round_ends(split):
    """Each server gives it back, as one that does not know the user."""
    g, old, _ = split
    g.expect_log("mail loops")
    deliver(g, "dave@example.com", "round")
    for n in (1, 2):
        m = old.wait(n)[-1]
        assert m.text.count(b"by " + HOSTNAME.encode()) == n
        with g.client() as c:
            c.ehlo("old.example.com")
            r = c.message("a@client.example", "dave@example.com", m.text)
        if n == 1:
            assert r.code == 250, r
    assert r.text == "554 5.4.6 Error: mail loops back to this host"
