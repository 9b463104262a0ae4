"""Delivery on this host: mailboxes."""
import errno
import fcntl
import glob
import os
import pwd
import re
import shutil
import signal
import subprocess

import pytest

from fault import EDQUOT, EIO, Faults, SHORT, SYNC, WRITE
from postern import HOSTNAME, Instance, SAN, mail, run, wait_for

ROOT = os.geteuid() == 0
SERVICES = """
local      unix  -  n  n  -  -  local
virtual    unix  -  n  n  -  -  virtual
"""
needs_root = pytest.mark.skipif(not ROOT, reason="only root becomes others")


def own_name():
    return pwd.getpwuid(os.geteuid()).pw_name


class Account:
    """A user of this host, while a test needs one."""

    def __init__(self, name, uid):
        self.name, self.home = name, f"/tmp/postern-home-{name}"
        self.remove()
        run("useradd", "--no-log-init", "--uid", str(uid), "--home-dir",
            self.home, "--create-home", "--skel", "/nonexistent",
            "--shell", "/bin/sh", name)
        self.uid, self.gid = uid, pwd.getpwnam(name).pw_gid

    def remove(self):
        subprocess.run(["userdel", self.name], capture_output=True,
                       check=False)
        shutil.rmtree(self.home, ignore_errors=True)


@pytest.fixture(scope="module")
def users():
    """Two users; as an ordinary user there is only oneself."""
    if not ROOT:
        yield None
        return
    made = []
    try:
        # files of tests run side by side
        for i, name in enumerate(("ptalice", "ptbob")):
            made.append(Account(f"{name}{os.getpid()}",
                                4711 + os.getpid() % 20000 * 2 + i))
        yield made
    finally:
        for u in made:
            u.remove()


class Host(Instance):
    """A gateway that delivers here."""

    def __init__(self, services="", start=True, **main):
        main = {"mynetworks": "127.0.0.0/8", "smtpd_relay_restrictions":
                "permit_mynetworks, reject",
                "deliver_lock_delay": "100ms", "alias_maps": "",
                **main}
        super().__init__(main=main, start=False)
        os.mkdir(self.dir + "/mail")
        os.chmod(self.dir + "/mail", 0o1777)
        self.edit("main.cf", lambda t: re.sub(
            r"^(mydestination =|local_transport =.*)\n", "", t, count=2,
            flags=re.M))
        self.set(mail_spool_directory=self.dir + "/mail")
        self.edit("master.cf", lambda t: t + SERVICES + services)
        if not start:
            return
        try:
            self.start()
            self.ready()
        except BaseException:
            self.destroy(check=False)
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        self.destroy(check=kind is None)

    def send(self, to, text=None, sender="sender@client.example", **kw):
        with self.client() as c:
            c.ehlo()
            r = c.message(sender, to if isinstance(to, list) else [to],
                          text or mail(**kw))
            assert r.code == 250, r

    def box(self, name):
        with open(f"{self.dir}/mail/{name}", "rb") as f:
            return f.read()

    def has(self, path, what=b"", seconds=30):
        """The file, once it has that in it and nobody writes to it."""
        def read():
            try:
                with open(path, "rb") as f:
                    text = f.read()
            except OSError:
                return None
            return text if what in text and not os.path.exists(
                path + ".lock") else None
        return wait_for(f"{what} in {path}", read, seconds)

    def flush(self):
        """Deferred mail is tried again, once it is deferred."""
        wait_for("a deferred message", lambda: self.queued("deferred"))
        self.run(self.build + "/bin/postqueue", "-c", self.etc, "-f")

    def status(self, to, status, seconds=30, since=0):
        """The delivery's log line."""
        return self.wait_log(
            rf"local\[\d+\]: \w+: to=<{re.escape(to)}>.* status={status} "
            r"\((.*)\)$", seconds, since).group(1)


def me(users):
    return users[0].name if users else own_name()


def test_mailbox(users):
    """A mailbox file: its envelope in front, its text as it was, locked and
    owned by the user."""
    name = me(users)
    with Host() as h:
        to = f"{name}@{HOSTNAME}"
        h.send(to, mail("one", b"From here\r\n>From there\r\n.dot\r\n"
                        b"fromage\r\nF\r\nFrom\r\n no end"))
        assert h.status(to, "sent") == "delivered to mailbox"
        path = f"{h.dir}/mail/{name}"
        text = h.has(path, b"no end")
        lines = text.split(b"\n")
        assert re.fullmatch(
            rb"From sender@client\.example  (Mon|Tue|Wed|Thu|Fri|Sat|Sun) "
            rb"[A-Z][a-z]{2} [ 0-3]\d \d\d:\d\d:\d\d 20\d\d", lines[0])
        assert lines[1:4] == [b"Return-Path: <sender@client.example>",
                              b"X-Original-To: " + to.encode(),
                              b"Delivered-To: " + to.encode()]
        assert text.endswith(
            b"\n\n>From here\n>From there\n.dot\nfromage\nF\nFrom\n"
            b" no end\n\n")
        assert b"\r" not in text
        st = os.stat(path)
        assert st.st_mode & 0o777 == 0o600
        assert st.st_uid == pwd.getpwnam(name).pw_uid
        h.send(to, mail("two"), sender="")
        again = h.has(path, b"Subject: two")
        assert again.startswith(text)
        assert again[len(text):].startswith(b"From MAILER-DAEMON  ")
        assert not h.queued()


def test_reader(users):
    """A program that reads mailboxes finds each message, and no other."""
    import mailbox
    name = me(users)
    with Host() as h:
        for i in range(5):
            h.send(f"{name}@{HOSTNAME}", mail(
                f"number {i}", b"a\r\n\r\nFrom nobody Sat Nov 21 17:40:00 "
                b"2026\r\nSubject: no\r\n\r\nb\r\n"))
        wait_for("five messages", lambda: h.log().count("status=sent") == 5)
        box = mailbox.mbox(f"{h.dir}/mail/{name}")
        assert [m["subject"] for m in box] == [
            f"number {i}" for i in range(5)] or sorted(
            m["subject"] for m in box) == [f"number {i}" for i in range(5)]


def test_unknown_user(users):
    with Host() as h:
        h.send(f"nobodysuch@{HOSTNAME}")
        assert h.status(f"nobodysuch@{HOSTNAME}", "bounced") == \
            'unknown user: "nobodysuch"'
        for name in ("../etc/passwd", "-f", "a/b", ".", "x y", "a:b"):
            h.send(f'"{name}"@{HOSTNAME}' if name != "../etc/passwd"
                   else f'"{name}"@{HOSTNAME}')
        wait_for("all to bounce",
                 lambda: h.log().count("status=bounced") >= 7)
        assert os.listdir(h.dir + "/mail") == []


def test_extension(users):
    """user+extension is the user's."""
    name = me(users)
    with Host(recipient_delimiter="+-") as h:
        h.send(f"{name.upper()}+lists@{HOSTNAME}")
        h.has(f"{h.dir}/mail/{name}", b"Delivered-To: ")


def test_maildir(users):
    """home_mailbox = Maildir/: a file of its own, made where nothing was."""
    name = me(users)
    home = pwd.getpwnam(name).pw_dir
    if not os.access(home, os.W_OK):
        pytest.skip("no home directory")
    folder = f"postern-test-{os.getpid()}/Maildir"
    with Host(home_mailbox=folder + "/") as h:
        try:
            to = f"{name}@{HOSTNAME}"
            for i in range(3):
                h.send(to, mail(f"number {i}", b"From x\r\n"))
            wait_for("three files", lambda: len(glob.glob(
                f"{home}/{folder}/new/*")) == 3)
            assert h.status(to, "sent") == "delivered to maildir"
            for path in glob.glob(f"{home}/{folder}/new/*"):
                with open(path, "rb") as f:
                    text = f.read()
                assert text.startswith(b"Return-Path: <sender@client")
                assert text.endswith(b"\n\nFrom x\n")
                assert os.stat(path).st_mode & 0o777 == 0o600
                assert os.stat(path).st_uid == pwd.getpwnam(name).pw_uid
            assert os.listdir(f"{home}/{folder}/tmp") == []
            assert sorted(os.listdir(f"{home}/{folder}")) == [
                "cur", "new", "tmp"]
        finally:
            shutil.rmtree(f"{home}/postern-test-{os.getpid()}",
                          ignore_errors=True)


def test_locks(users):
    """Whoever holds a lock is waited for, and then mail is deferred; a lock
    that nobody holds any more does not count."""
    name = me(users)
    with Host(deliver_lock_attempts="3") as h:
        to = f"{name}@{HOSTNAME}"
        path = f"{h.dir}/mail/{name}"
        with open(path + ".lock", "w"):
            pass
        h.send(to)
        assert "unable to create lock file" in h.status(to, "deferred")
        assert os.path.exists(path + ".lock")
        assert not os.path.exists(path)
        # as old as a process that died
        os.utime(path + ".lock", (1, 1))
        shutil.chown(path + ".lock", name)
        h.flush()
        h.status(to, "sent")
        h.wait_log(r"removed the lock .*\.lock, which was \d+ s old")
        h.has(path, b"Subject: hello")
        if ROOT:
            # one that somebody else has put there does not keep mail away
            os.mkdir(path + ".lock")
            os.utime(path + ".lock", (1, 1))
            h.send(to, mail("in spite of it"))
            wait_for("it", lambda: b"in spite of it" in h.box(name))
            h.wait_log("it does not count")
            os.rmdir(path + ".lock")
        before = len(h.log())
        with open(path, "r+b") as f:
            fcntl.lockf(f, fcntl.LOCK_EX)
            h.send(to, mail("second"))
            assert "cannot lock" in h.status(to, "deferred", since=before)
            assert not os.path.exists(path + ".lock")
        assert b"second" not in h.box(name)
        h.flush()
        h.has(path, b"Subject: second")


@needs_root
def test_attacks(users):
    """Nothing that another user has put where a mailbox belongs is written
    to."""
    alice, bob = users
    with Host() as h:
        to = f"{alice.name}@{HOSTNAME}"
        path = f"{h.dir}/mail/{alice.name}"
        victim = h.dir + "/victim"
        with open(victim, "w") as f:
            f.write("precious\n")
        os.chown(victim, alice.uid, alice.gid)
        since = 0

        def tried(reason):
            nonlocal since
            since = len(h.log())
            h.send(to)
            assert reason in h.status(to, "deferred", since=since)
            with open(victim) as f:
                assert f.read() == "precious\n"
            assert not os.path.exists(path + ".lock")
            os.unlink(path)

        os.symlink(victim, path)
        tried("Too many levels of symbolic links")
        os.link(victim, path)
        tried("has 2 hard links")
        os.mkfifo(path)
        os.chown(path, alice.uid, alice.gid)
        tried("is not a regular file")
        with open(path, "w"):
            pass
        os.chown(path, bob.uid, bob.gid)
        os.chmod(path, 0o666)
        tried("is not owned by its recipient")
        # where the mailbox would be made
        os.symlink(h.dir + "/not-there", path)
        tried("Too many levels")
        assert not os.path.exists(h.dir + "/not-there")
        # a lock that is a link makes nothing elsewhere
        os.symlink(h.dir + "/not-there", path + ".lock")
        h.set(deliver_lock_attempts="2")
        h.wait_log("new configuration|reloaded|generation")
        h.send(to)
        wait_for("the lock to be in the way", lambda: "File exists" in
                 h.log())
        assert not os.path.exists(h.dir + "/not-there")


@needs_root
def test_spool_of_a_group(users):
    """The usual /var/mail, where only group mail makes files."""
    alice = users[0]
    with Host() as h:
        path = f"{h.dir}/mail/{alice.name}"
        shutil.chown(h.dir + "/mail", "root", "mail")
        os.chmod(h.dir + "/mail", 0o2775)
        h.send(f"{alice.name}@{HOSTNAME}")
        h.has(path, b"Subject: hello")
        assert os.stat(path).st_uid == alice.uid
        # nobody but root may make a lock: the other one has to do
        os.chmod(h.dir + "/mail", 0o755)
        h.send(f"{alice.name}@{HOSTNAME}", mail("second"))
        h.has(path, b"Subject: second")
        # root's own
        os.chmod(h.dir + "/mail", 0o2775)
        h.send(f"root@{HOSTNAME}", mail("third"))
        h.has(h.dir + "/mail/root", b"Subject: third")


def test_size_limit(users):
    name = me(users)
    with Host(mailbox_size_limit="3000") as h:
        to = f"{name}@{HOSTNAME}"
        h.send(to, mail("fits"))
        text = h.has(f"{h.dir}/mail/{name}", b"fits")
        h.send(to, mail("does not", b"x" * 70 + b"\r\n" + b"y\r\n" * 2000))
        assert "mailbox is full" in h.status(to, "bounced")
        assert h.box(name) == text


@needs_root
def test_full_disk(users):
    """What does not fit is taken back to the last byte, and comes later."""
    alice = users[0]
    with Host() as h:
        run("mount", "-t", "tmpfs", "-o", "size=200k,mode=1777", "none",
            h.dir + "/mail")
        to = f"{alice.name}@{HOSTNAME}"
        h.send(to, mail("fits"))
        text = h.has(f"{h.dir}/mail/{alice.name}", b"fits")
        h.send(to, mail("does not", b"0123456789\r\n" * 30000))
        assert "No space left on device" in h.status(to, "deferred")
        assert h.box(alice.name) == text
        run("mount", "-o", "remount,size=2m", h.dir + "/mail")
        h.flush()
        more = h.has(f"{h.dir}/mail/{alice.name}", b"does not", 60)
        assert more.startswith(text) and more.count(b"0123456789") == 30000


@needs_root
def test_processes(users):
    """Who runs as what: the role without rights and in a jail, the keeper
    with two of root's rights and no network."""
    with Host(transport_retry_time="1s", minimal_backoff_time="1s",
              queue_run_delay="1s", maximal_backoff_time="1s",
              service_throttle_time="1s") as h:
        pids = h.processes()
        role, = [p for p, n in pids.items() if n == "local"]
        keeper, = [p for p, n in pids.items() if n == "local-keeper"]

        def field(pid, name):
            with open(f"/proc/{pid}/status") as f:
                return re.search(rf"^{name}:\s*(.*)$", f.read(), re.M)[1]
        owner = pwd.getpwnam("postern")
        assert field(role, "Uid").split() == [str(owner.pw_uid)] * 4
        assert field(role, "Seccomp") == "2"
        assert field(role, "CapEff") == "0" * 16
        assert os.readlink(f"/proc/{role}/root") == h.dir + "/gw/data/empty"
        assert field(keeper, "Uid").split() == ["0"] * 4
        # CAP_SETGID and CAP_SETUID
        assert int(field(keeper, "CapEff"), 16) == 0xc0
        assert int(field(keeper, "CapPrm"), 16) == 0xc0
        assert os.readlink(f"/proc/{keeper}/ns/net") != os.readlink(
            "/proc/self/ns/net")
        names = sorted(os.readlink(f"/proc/{keeper}/fd/{n}")
                       for n in os.listdir(f"/proc/{keeper}/fd"))
        assert len([n for n in names if n.startswith("socket:")]) == 1, names
        # it ends with the role, and both come again
        os.kill(role, signal.SIGKILL)
        wait_for("the keeper to end", lambda: keeper not in h.processes()
                 and not os.path.exists(f"/proc/{keeper}"))
        h.expect_log(r"killed by signal 9")
        wait_for("another", lambda: h.pids("local-keeper"))
        h.send(f"{users[0].name}@{HOSTNAME}", mail("after"))
        h.has(f"{h.dir}/mail/{users[0].name}", b"after")
        # and the role with it
        os.kill(h.pids("local-keeper")[0], signal.SIGKILL)
        h.expect_log(r"fatal: the process that starts deliveries is gone")
        h.wait_log("the process that starts deliveries is gone")
        h.send(f"{users[0].name}@{HOSTNAME}", mail("once more"))
        h.has(f"{h.dir}/mail/{users[0].name}", b"once more", 60)


@needs_root
def test_virtual(users):
    """Mailboxes of people without an account, with the ids of a table."""
    with Host(virtual_mailbox_domains="v.example",
              virtual_mailbox_maps="inline:{ a@v.example=v/a, "
              "b@v.example=v/b/, up@v.example=../up, low@v.example=low }",
              virtual_uid_maps="inline:{ low@v.example=99, "
              "@v.example=45678 }", virtual_gid_maps="static:45679",
              recipient_delimiter="+") as h:
        base = h.dir + "/virtual"
        os.mkdir(base)
        os.chown(base, 45678, 45679)
        h.set(virtual_mailbox_base=base)
        h.wait_log("generation 2 is in service")
        os.mkdir(base + "/v")
        os.chown(base + "/v", 45678, 45679)
        h.send(["a@v.example", "A+x@V.example", "b@v.example"])
        text = h.has(base + "/v/a", b"Subject: hello")
        wait_for("both", lambda: h.has(base + "/v/a").count(
            b"Subject: hello") == 2)
        assert text.startswith(b"From sender@client.example  ")
        new, = wait_for("a file", lambda: glob.glob(base + "/v/b/new/*"))
        for path in (new, base + "/v/a"):
            st = os.stat(path)
            assert (st.st_uid, st.st_gid, st.st_mode & 0o777) == (
                45678, 45679, 0o600)
        # sealed lips about where: the sender learns nothing of paths
        h.send(["up@v.example", "low@v.example"])
        assert "bad mailbox" in h.status("up@v.example", "deferred")
        assert "bad value in virtual_uid_maps" in h.status(
            "low@v.example", "deferred")
        assert not os.path.exists(h.dir + "/up")


def test_crash(users):
    """kill -9 of the role, again and again: no message is lost, and what is
    in the mailbox is whole."""
    name = me(users)
    with Host(transport_retry_time="1s", minimal_backoff_time="1s",
              queue_run_delay="1s", maximal_backoff_time="1s",
              service_throttle_time="1s") as h:
        h.expect_log("killed by signal 9")
        body = b"0123456789abcdef\r\n" * 2000 + b"the end\r\n"
        for i in range(30):
            h.send(f"{name}@{HOSTNAME}", mail(f"number-{i}-", body))
            if i % 5 == 2:
                h.kill("local")
        want = [f"Subject: number-{i}-\n".encode() for i in range(30)]
        path = f"{h.dir}/mail/{name}"
        text = b""

        def all_there():
            nonlocal text
            text = h.has(path)
            return all(w in text for w in want)
        wait_for("all messages", all_there, 60)
        h.stop()
        text = h.has(path)
        parts = text.split(b"\nFrom sender@client.example  ")
        for p in parts:
            assert p.count(b"0123456789abcdef\n") == 2000
            assert p.rstrip(b"\n").endswith(b"the end")
        assert len(parts) >= 30


@pytest.mark.skipif(SAN, reason="a sanitizer wants to be the first library")
def test_faults(users):
    """Whatever fails on the way to a mailbox: it waits, what was there stays
    as it was, and in the end the message is there once."""
    name = me(users)
    h = Host(start=False)
    try:
        f = Faults(h.dir, role="local")
        h.set(daemon_directory=f.libexec, maximal_backoff_time="1s",
              minimal_backoff_time="1s", queue_run_delay="1s",
              transport_retry_time="1s")
        h.start()
        h.ready()
        h.expect_log("cannot take back")
        path = f"{h.dir}/mail/{name}"
        h.send(f"{name}@{HOSTNAME}", mail("first"))
        text = h.has(path, b"first")
        body = b"0123456789\r\n" * 20000
        for call, error, skip in (
                (WRITE, EDQUOT, 0), (WRITE, EIO, 1), (WRITE, SHORT, 1),
                (WRITE, errno.ESTALE, 2), (SYNC, EIO, 0),
                (SYNC, errno.ESTALE, 0)):
            since = len(h.log())
            subject = f"fault-{call}-{error}-{skip}-"
            f.set(call, error, match=name, skip=skip,
                  times=0 if error != SHORT else 3)
            h.send(f"{name}@{HOSTNAME}", mail(subject, body))
            if error != SHORT:
                h.status(f"{name}@{HOSTNAME}", "deferred", since=since)
                assert h.has(path) == text
            f.clear()
            more = h.has(path, subject.encode())
            assert more.startswith(text)
            assert more.count(subject.encode()) == 1
            assert more.count(b"0123456789\n") == \
                text.count(b"0123456789\n") + 20000
            text = more
        h.stop()
        assert h.has(path) == text
    finally:
        h.destroy(check=False)
    assert not h.log() or "panic" not in h.log()
