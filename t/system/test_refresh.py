"""The command that renews tokens: the program refresh by itself, and in a whole
Postern."""
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import time

import pytest

from postern import BUILD, mail, wait_for
from test_relay_auth import ask, tls_server, unb64
from test_relay_login import hidden, make, send  # noqa: F401
from test_relay_tls import context, keys  # noqa: F401

ROOT = os.getuid() == 0
USER = "nobody"


class Place:
    """A directory of tokens, a command, and what the command leaves."""

    def __init__(self, base):
        self.base = str(base)
        self.tokens = self.base + "/tokens"
        self.left = self.base + "/left"
        for d in self.tokens, self.left:
            os.mkdir(d)
            if ROOT:
                shutil.chown(d, USER)
            os.chmod(d, 0o755)
        if ROOT:
            shutil.chown(self.tokens, USER, "postern-auth")
            os.chmod(self.tokens, 0o2750)
        self.program = self.base + "/command"
        self.put("joe", "")

    def put(self, name, text):
        with open(f"{self.tokens}/.put", "w") as f:
            f.write(text)
        os.chmod(f"{self.tokens}/.put", 0o644)
        os.rename(f"{self.tokens}/.put", f"{self.tokens}/{name}")

    def get(self, name="joe"):
        with open(f"{self.tokens}/{name}") as f:
            return f.read()

    def command(self, text, shell="/bin/sh"):
        with open(self.program + ".new", "w") as f:
            f.write(f"#!{shell}\ncd {self.left}\n{text}\n")
        os.chmod(self.program + ".new", 0o755)
        os.rename(self.program + ".new", self.program)

    def said(self, name):
        try:
            with open(f"{self.left}/{name}") as f:
                return f.read()
        except FileNotFoundError:
            return ""


@pytest.fixture
def place(tmp_path):
    # where others than root can go
    base = f"/tmp/postern-refresh-{os.getpid()}-{time.monotonic_ns()}"
    os.mkdir(base, 0o755)
    os.chmod(base, 0o755)
    yield Place(base)
    shutil.rmtree(base)


class Refresh:
    """The program, as master starts it."""

    def __init__(self, place, *words, name="joe", ms=60000, user=USER):
        exe = place.base + "/refresh"
        if not os.path.exists(exe):
            shutil.copy(BUILD + "/libexec/refresh", exe)
        self.log_path = place.base + "/log"
        become = ["setpriv", "--reuid", user, "--regid",
                  str(pwd.getpwnam(user).pw_gid), "--clear-groups",
                  ] if ROOT and user else []
        self.process = subprocess.Popen(
            ["sh", "-c", 'exec 3>>"$0"; exec "$@"', self.log_path, *become,
             exe, "t/refresh", "1", "16", str(ms), place.tokens, name,
             place.program, *words, name], stdin=subprocess.DEVNULL)

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def end(self):
        """(status, what it has logged)"""
        try:
            return self.process.wait(60), self.log()
        finally:
            self.process.kill()
            self.process.wait()


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_renews(place):
    place.command('''echo "$@" > args; env | sort > env; ls /proc/$$/fd > fd
grep -E "Uid|Gid|Groups|Cap|NoNew" /proc/$$/status > status
cat > stdin; pwd > /dev/null; echo "hello there" >&2
echo '{"access_token": "new.one", "expires_in": 3600}' ''')
    status, log = Refresh(place, "-x", "$(id)", ";").end()
    assert status == 0, log
    assert json.loads(place.get())["access_token"] == "new.one"
    assert re.search(r"token joe: renewed, good for (3600|3599) s\n", log)
    assert "token joe: the command says: hello there\n" in log
    assert "new.one" not in log
    assert place.said("args") == "-x $(id) ; joe\n"
    names = {line.split("=")[0] for line in place.said("env").splitlines()}
    assert names <= {"PATH", "LANG", "PWD", "OLDPWD", "_", "SHLVL"}, names
    # sh has its script open on a high number
    fds = sorted(int(n) for n in place.said("fd").split())
    assert fds[:3] == [0, 1, 2] and all(n >= 10 for n in fds[3:]), fds
    assert place.said("stdin") == ""
    facts = dict(re.findall(r"(\w+):\s*(.*)", place.said("status")))
    assert facts["NoNewPrivs"] == "1"
    if ROOT:
        uid = str(pwd.getpwnam(USER).pw_uid)
        assert set(facts["Uid"].split()) == {uid}
        assert int(facts["CapPrm"], 16) == int(facts["CapEff"], 16) == 0
    assert os.stat(f"{place.tokens}/joe").st_mode & 0o777 == 0o640
    assert os.listdir(place.tokens) == ["joe"]


@pytest.mark.parametrize("command, why", [
    ("exit 3", "the command ended with status 3"),
    ("echo half; exit 1", "the command ended with status 1"),
    ("kill -SEGV $$", "the command was ended by signal 11"),
    (":", "the file is empty"),
    ("echo '{\"error\": \"invalid_client\"}'", "there is no access_token"),
    ("echo two words", "the token is malformed"),
    ("echo '{\"access_token\": \"a\", \"expiry\": 1}'", "has expired"),
    ("head -c 10000000 /dev/zero", "it writes too much"),
    ("yes", "it writes too much"),
    ("head -c 33000 /dev/zero | tr '\\0' a; exec >&-; sleep 1000",
     "it writes too much"),
])
def test_fails(place, command, why):
    """One line says so, and the file is what it was."""
    place.put("joe", "the.old.one")
    place.command(command)
    status, log = Refresh(place).end()
    assert status == 1
    lines = [x for x in log.splitlines() if "warning: token joe: " in x]
    assert len(lines) == 1 and why in lines[0], log
    assert place.get() == "the.old.one"
    assert os.listdir(place.tokens) == ["joe"]


def test_says_much(place):
    """Of what it complains the first lines are logged, made printable."""
    place.command("printf 'a\\033[2Jb\\n' >&2; i=0; while [ $i -lt 30 ]; do "
                  "echo line $i >&2; i=$((i+1)); done; "
                  "head -c 3000000 /dev/zero >&2; echo good.one")
    status, log = Refresh(place).end()
    assert status == 0 and place.get() == "good.one\n"
    assert log.count("the command says: ") == 10
    assert "says: a?[2Jb" in log and len(log) < 8000


def test_does_not_start(place):
    status, log = Refresh(place).end()
    assert status == 1 and "No such file" in log
    assert "status 127" in log


HANGS = '''echo $$ > first; trap "" TERM
sleep 1000 & echo $! > second
setsid sh -c 'trap "" TERM; echo $$ > third; sleep 1000' &
while [ ! -s third ]; do sleep 0.01; done
%s'''


def strays(place):
    return [int(place.said(n)) for n in ("first", "second", "third")]


def test_hangs(place):
    """It is ended with all that it started, even what left its group."""
    place.put("joe", "the.old.one")
    place.command(HANGS % "echo good.one; sleep 1000")
    status, log = Refresh(place, ms=3000).end()
    assert status == 1 and "not renewed: the command: it took too long" in log
    assert place.get() == "the.old.one"
    assert all(gone(p) for p in strays(place))


def test_leaves_something(place):
    place.command(HANGS % "echo good.one")
    status, log = Refresh(place).end()
    assert status == 0, log
    assert place.get() == "good.one\n"
    assert all(gone(p) for p in strays(place))


def test_is_told_to_end(place):
    place.command(HANGS % "touch ready; sleep 1000")
    r = Refresh(place)
    try:
        wait_for("it runs", lambda: os.path.exists(place.left + "/ready"))
        r.process.send_signal(signal.SIGTERM)
    finally:
        status, log = r.end() if place.said("third") else (None, None)
    assert status == 1 and "Postern stops" in log
    assert all(gone(p) for p in strays(place))


@pytest.mark.parametrize("name", ["../joe", "/etc/passwd", ".hidden", "-rf",
                                  "", "a b", "a;b", "a\nb", "é", "a" * 129])
def test_names(place, name):
    place.command("touch ran; echo good.one")
    status, log = Refresh(place, name=name).end()
    assert status == 1 and "nor for such a name" in log
    assert os.listdir(place.left) == []


def test_only_files_that_are_there(place):
    place.command("touch ran; echo good.one")
    assert Refresh(place, name="ann").end()[0] == 1
    os.symlink("joe", place.tokens + "/link")
    assert Refresh(place, name="link").end()[0] == 1
    os.mkdir(place.tokens + "/dir")
    assert Refresh(place, name="dir").end()[0] == 1
    assert os.listdir(place.left) == []
    assert sorted(os.listdir(place.tokens)) == ["dir", "joe", "link"]


def test_link_where_the_new_one_goes(place):
    place.command("echo good.one")
    with open(place.left + "/victim", "w") as f:
        f.write("untouched")
    os.symlink(place.left + "/victim", place.tokens + "/.joe.new")
    assert Refresh(place).end()[0] == 0
    assert place.get() == "good.one\n" and place.said("victim") == "untouched"


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_never_as_root(place):
    place.command("touch ran; echo good.one")
    status, log = Refresh(place, user=None).end()
    assert status == 1 and "not run as root" in log
    assert os.listdir(place.left) == []


# -- a whole Postern

def gateway(make, keys, s, place, **more):  # noqa: F811
    gw = make(relay=f"127.0.0.1:{s.port}", start=False, main={
        "smtp_sasl_auth_enable": "yes", "smtp_tls_security_level": "secure",
        "smtp_tls_CAfile": keys.path("ca.crt"),
        "smtp_tls_secure_cert_match": "inside.example",
        "smtp_sasl_tls_verified_security_options": "noanonymous",
        "smtp_connection_cache_on_demand": "no",
        "smtp_sasl_token_directory": place.tokens,
        "smtp_sasl_token_maps":
            f"inline:{{ {{[127.0.0.1]:{s.port} = joe@example.com:joe}} }}",
        "smtp_sasl_token_command": f"{place.program} --for",
        "smtp_sasl_token_command_user": USER,
        "smtp_sasl_token_command_interval": "1s",
        "minimal_backoff_time": "1s", "maximal_backoff_time": "1s",
        "queue_run_delay": "1s", **more})
    gw.expect_log("token joe: |login: |authentication failed")
    return gw


class Door:
    """A server that lets in who has .token."""

    def __init__(self, keys, token):  # noqa: F811
        self.token = token
        self.server = tls_server(context(keys, "inside"), self.auth, "PLAIN",
                                 "PLAIN XOAUTH2")

    def auth(self, c, words):
        if unb64(words[2]).endswith(f"auth=Bearer {self.token}\1\1"):
            return "235 ok"
        ask(c, '{"status":"401"}')
        return "535 5.7.8 expired"

    def arrived(self, n):
        wait_for(f"{n} messages", lambda: sum(
            len(c.texts) for c in self.server.conns) == n, 60)


# lines of "runs" never lie within each other
GIVES = '''echo "begin $*" >> runs
grep -E "Uid|CapEff|NoNew" /proc/$$/status > status
sleep 0.2; cat give; echo "end" >> runs'''


def give(place, token, **more):
    with open(place.left + "/give", "w") as f:
        json.dump({"access_token": token, **more}, f)


def test_expired_and_refused(make, keys, place):  # noqa: F811
    place.command(GIVES)
    place.put("joe", '{"access_token": "canary-one", "expiry": 1}')
    give(place, "canary-two", expires_in=3600)
    door = Door(keys, "canary-two")
    with door.server as s:
        gw = gateway(make, keys, s, place)
        gw.start()
        # expired: it goes out at the first try
        send(gw, "first")
        door.arrived(1)
        log = gw.log()
        assert "token joe: renewed, good for " in log
        assert "status=deferred" not in log
        assert place.said("runs") == "begin --for joe\nend\n"
        facts = dict(re.findall(r"(\w+):\s*(.*)", place.said("status")))
        assert facts["NoNewPrivs"] == "1"
        if ROOT:
            uid = str(pwd.getpwnam(USER).pw_uid)
            assert set(facts["Uid"].split()) == {uid}
            assert int(facts["CapEff"], 16) == 0
        # refused, as if it had been revoked
        door.token = "canary-three"
        give(place, "canary-three", expires_in=60)
        send(gw, "second")
        door.arrived(2)
        assert json.loads(place.get())["access_token"] == "canary-three"
        # about to expire: nobody waits, and the next is there soon
        give(place, "canary-three", expires_in=3600)

        def renewed():
            send(gw, "next")
            return json.loads(place.get())["expires_in"] == 3600
        wait_for("one that lasts", renewed)
        hidden(gw, "canary")


def test_never_twice_at_once(make, keys, place):  # noqa: F811
    place.command(GIVES + "\n[ -e stop ] && exit 0; exit 1")
    place.put("joe", "")
    give(place, "canary-one")
    door = Door(keys, "canary-one")
    with door.server as s:
        # two services that have the same file
        gw = gateway(make, keys, s, place, transport_maps="inline:{ "
                     f"{{us@example.com = other:[127.0.0.1]:{s.port}}} }}")
        gw.edit("master.cf", lambda t: t + "other unix - - y - - smtp\n"
                " -o smtp_sasl_security_options=noanonymous\n")
        gw.start()
        assert len(gw.pids("credentials")) == 2
        with gw.client() as c:
            c.ehlo()
            for n in range(20):
                r = c.message("a@client.example", [
                    "us@example.com" if n % 2 else "user@example.com"],
                    mail(str(n)))
                assert r.code == 250, r
        wait_for("some runs", lambda: place.said("runs").count("end\n") >= 3)
        gw.wait_log("token joe: the command ended with status 1")
        open(place.left + "/stop", "w").close()
        door.arrived(20)
        runs = place.said("runs")
        assert re.fullmatch("(begin --for joe\nend\n)+(begin --for joe\n)?",
                            runs), runs


def test_stop_while_it_runs(make, keys, place):  # noqa: F811
    place.command(HANGS % "touch ready; sleep 1000")
    door = Door(keys, "canary-one")
    with door.server as s:
        gw = gateway(make, keys, s, place)
        gw.start()
        send(gw, "first")
        wait_for("it runs", lambda: os.path.exists(place.left + "/ready"))
        gw.command("reload")
        gw.stop()
    assert all(gone(p) for p in strays(place))


@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.parametrize("user, why", [
    ("root", "the account is privileged"),
    ("postern-auth", "the account is one of Postern's own"),
    ("nobody-of-this-name", "no such account")])
def test_accounts(make, keys, place, user, why):  # noqa: F811
    place.command("touch ran; echo good.one")
    door = Door(keys, "good.one")
    with door.server as s:
        gw = gateway(make, keys, s, place, smtp_sasl_token_command_user=user)
        gw.expect_log("smtp_sasl_token_command_user: ")
        gw.start()
        send(gw, "first")
        gw.wait_log(f"smtp_sasl_token_command_user: {user}: {why}")
        gw.wait_log("status=deferred")
        assert os.listdir(place.left) == []


@pytest.mark.parametrize("setting, why", [
    ({"smtp_sasl_token_command": "curl x"}, "begins with the path"),
    ({"smtp_sasl_token_command_user": ""},
     "needs smtp_sasl_token_command_user")])
def test_configuration(make, keys, place, setting, why):  # noqa: F811
    door = Door(keys, "one")
    with door.server as s:
        gw = gateway(make, keys, s, place, **setting)
        r = gw.command("check", check=False)
        assert r.returncode != 0 and why in r.stdout + r.stderr
