"""Tables behind a server, asked without a gateway, and private servers of
their kinds: each in a directory of its own, on a socket there and a port of
the loopback."""
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from postern import BUILD, SLOW, Instance, free_port, wait_for


class Query:
    """build/t/tools/query-KIND over one table.  What is asked gets "none",
    "found VALUE", "temporary WHY" or "wrong WHY"."""

    def __init__(self, kind, settings, where=None):
        self.file = tempfile.NamedTemporaryFile(
            "w", suffix=".cf", dir=where, delete=False)
        for name, value in settings.items():
            self.file.write(f"{name} = {value}\n")
        self.file.close()
        # Behind the filter of system calls no leaks can be looked for.
        env = dict(os.environ, LDAPNOINIT="1", LC_ALL="C.UTF-8",
                   ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "")
                   + ":detect_leaks=0")
        self.proc = subprocess.Popen(
            [os.path.join(BUILD, "t/tools", "query-" + kind),
             f"{kind}:{self.file.name}"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=env)
        self.opened = self.reply()

    def send(self, key):
        if isinstance(key, str):
            key = key.encode()
        try:
            self.proc.stdin.write(key + b"\n")
            self.proc.stdin.flush()
        except BrokenPipeError:
            pass    # It did not open the table; the reply says so.

    def reply(self):
        return self.proc.stdout.readline().decode().rstrip("\n").strip()

    def ask(self, key):
        if self.opened != "opened":
            return self.opened
        self.send(key)
        return self.reply()

    def memory(self):
        """The most that it ever had, in KB."""
        with open(f"/proc/{self.proc.pid}/status") as f:
            return next(int(line.split()[1]) for line in f
                        if line.startswith("VmHWM"))

    def close(self):
        try:
            self.proc.stdin.close()
        except BrokenPipeError:
            pass
        try:
            status = self.proc.wait(30 * SLOW)
        finally:
            self.proc.kill()
            self.proc.wait()
            self.proc.stdout.close()
            os.unlink(self.file.name)
        return status

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        status = self.close()
        assert kind is not None or status in (0, 1), status


def ask(kind, settings, key):
    with Query(kind, settings) as q:
        return q.ask(key)


def check_rows(kind, common, rows):
    """rows: (settings, {key: answer}); "temporary" and "wrong" stand for
    every text behind them."""
    wrong = []
    for settings, answers in rows:
        with Query(kind, {**common, **settings}) as q:
            for key, want in answers.items():
                got = q.ask(key)
                short = got.split(" ")[0]
                if want not in (got, short if short != "found" else got):
                    wrong.append((settings, key, want, got))
    assert not wrong, "\n".join(map(str, wrong))


def check_commands(kind, settings, key, value):
    """postmap -q and postern check, over lookup-KIND; value of key, and none
    of others."""
    gw = Instance(start=False, main={
        "relay_recipient_maps": f"{kind}:$config_directory/t.cf"})
    try:
        spec = f"{kind}:{gw.path('t.cf')}"
        text = "".join(f"{n} = {v}\n" for n, v in settings.items())
        gw.write("t.cf", text)

        def postmap(*args, stdin=""):
            p = subprocess.run(
                [os.path.join(BUILD, "bin/postmap"), "-c", gw.etc, *args],
                capture_output=True, text=True, input=stdin,
                timeout=60 * SLOW)
            return p.returncode, p.stdout, p.stderr
        assert postmap("-q", key, spec) == (0, value + "\n", "")
        assert postmap("-q", key, "proxy:" + spec)[:2] == (0, value + "\n")
        assert postmap("-q", "no@such.example", spec) == (1, "", "")
        assert postmap("-q", "-", spec, stdin=f"no@such.example\n{key}\n"
                       )[:2] == (0, f"{key}\t{value}\n")
        assert gw.command("check").returncode == 0
        # a mistake in the table's parameters is found by both
        gw.write("t.cf", text + "expansion_limit = many\n")
        p = gw.command("check", check=False)
        assert p.returncode != 0 and "expansion_limit" in p.stderr, p.stderr
        assert f"{spec}: cannot be opened" in p.stderr, p.stderr
        status, out, err = postmap("-q", key, spec)
        assert status == 1 and out == "" and "expansion_limit" in err, err
    finally:
        gw.destroy(check=False)


def run(*args, **kwargs):
    r = subprocess.run(args, stdout=subprocess.PIPE, timeout=120 * SLOW,
                       stderr=subprocess.STDOUT, text=True, **kwargs)
    assert r.returncode == 0, (args, r.stdout)
    return r.stdout


def certificates(d):
    """An authority, a server at 127.0.0.1 by it, another authority."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for ca in ("ca", "other"):
        run("openssl", "req", "-x509", *curve, "-subj", f"/CN={ca}", "-days",
            "30", "-keyout", f"{d}/{ca}.key", "-out", f"{d}/{ca}.pem")
    run("openssl", "req", *curve, "-subj", "/CN=server", "-addext",
        "subjectAltName=IP:127.0.0.1", "-keyout", f"{d}/key.pem", "-out",
        f"{d}/req.pem")
    run("openssl", "x509", "-req", "-in", f"{d}/req.pem", "-CA",
        f"{d}/ca.pem", "-CAkey", f"{d}/ca.key", "-CAcreateserial", "-days",
        "30", "-copy_extensions", "copy", "-out", f"{d}/cert.pem")


class Silent:
    """A server that takes connections and says nothing, ever."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.count = 0
        self.open = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            while True:
                c, _ = self.listener.accept()
                self.count += 1
                self.open.append(c)
                threading.Thread(target=self.talk, args=(c,),
                                 daemon=True).start()
        except OSError:
            pass

    def talk(self, c):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for c in self.open:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            c.close()


class Between(Silent):
    """Somebody between the client and a server.  first(client, server), two
    sockets, may say what it likes before all goes through."""

    def __init__(self, port, first):
        self.to, self.first = port, first
        super().__init__()

    def talk(self, c):
        s = socket.create_connection(("127.0.0.1", self.to))
        self.open.append(s)
        try:
            self.first(c, s)
            threading.Thread(target=self.copy, args=(c, s),
                             daemon=True).start()
        except OSError:
            return
        self.copy(s, c)

    @staticmethod
    def copy(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Daemon:
    """A server in a directory that only it and root can look into."""
    user = None

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="pt-", dir="/tmp")
        self.port = free_port()
        self.proc = None
        self.log = open(os.path.join(self.dir, "log"), "a")
        self.become = {}
        if os.getuid() == 0 and self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.dir, account.pw_uid, account.pw_gid)
            self.become = {"user": account.pw_uid,
                           "group": account.pw_gid, "extra_groups": []}
        # The table's engine may be nobody special.
        os.chmod(self.dir, 0o755)
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.end()
            raise

    def run(self, *args, **kwargs):
        return run(*args, cwd=self.dir, **{**self.become, **kwargs})

    def start(self):
        self.proc = subprocess.Popen(
            self.command(), cwd=self.dir, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, **self.become)
        wait_for(f"{self.command()[0]}: {self.dir}/log", self.up, 60)

    def up(self):
        if self.proc.poll() is not None:
            with open(os.path.join(self.dir, "log")) as f:
                raise AssertionError(f.read()[-2000:])
        return self.ready()

    def stop(self, how=signal.SIGTERM):
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGCONT)
            self.proc.send_signal(how)
            try:
                self.proc.wait(30 * SLOW)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()

    def pause(self):
        self.proc.send_signal(signal.SIGSTOP)
        wait_for("its threads to stand still", self.still)

    def still(self):
        for path in glob.glob(f"/proc/{self.proc.pid}/task/*/stat"):
            with open(path) as f:
                if f.read().rpartition(")")[2].split()[0] != "T":
                    return False
        return True

    def go_on(self):
        self.proc.send_signal(signal.SIGCONT)

    def end(self):
        self.stop(signal.SIGKILL)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
