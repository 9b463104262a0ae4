"""postern-milter, and the mail servers it is tried in."""
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile

from postern import BAD_LOG, BIN, Client, LIBEXEC, TOP, free_port, wait_for

PEERS = f"{TOP}/t/peers"
HAVE_SENDMAIL = os.path.isdir(f"{TOP}/build/peers/sendmail") and \
    shutil.which("m4") is not None
HAVE_POSTFIX = os.path.exists("/usr/sbin/postfix")


class PosternMilter:
    """postern-milter with a configuration of its own.  main: settings for
    main.cf; files: name -> text, beside it."""

    def __init__(self, main=None, files=None, mode=None, unix=False,
                 args=(), start=True, text=""):
        self.dir = tempfile.mkdtemp(prefix="postern-pmilter-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.etc, self.log_path = self.dir + "/etc", self.dir + "/log"
        os.mkdir(self.etc)
        for name, content in (files or {}).items():
            self.write(name, content)
        self.write("main.cf", text + "".join(f"{k} = {v}\n" for k, v in {
            "myhostname": "gw.example.com", "daemon_directory": LIBEXEC,
            "data_directory": self.dir + "/data",
            "maillog_file": self.log_path, **(main or {})}.items()))
        self.port = free_port()
        self.socket = f"unix:{self.dir}/socket" if unix else \
            f"inet:{self.port}@127.0.0.1"
        self.mode, self.args = mode, list(args)
        self.pid = None
        self.expected = []
        try:
            if start:
                self.start()
        except BaseException:
            self.destroy(check=False)
            raise

    def command(self):
        cmd = [f"{BIN}/postern-milter", "-c", self.etc, "-p", self.socket,
               "-P", self.dir + "/pid", *self.args]
        return cmd + (["-m", self.mode] if self.mode else [])

    def start(self, check=True):
        p = subprocess.run(self.command(), capture_output=True, text=True,
                           stdin=subprocess.DEVNULL, timeout=120)
        self.warned = p.stderr
        if p.returncode == 0:
            with open(self.dir + "/pid") as f:
                self.pid = int(f.read())
        assert not check or p.returncode == 0, p.stderr + self.log()
        return p

    def write(self, name, text):
        path = f"{self.etc}/{name}"
        with open(path + ".new", "w") as f:
            f.write(text)
        os.rename(path + ".new", path)

    def log(self):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def wait_log(self, text, count=1):
        wait_for(f"{text!r} in the log:\n" + self.log()[-3000:],
                 lambda: self.log().count(text) >= count)

    def children(self, name=None):
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as f:
            pids = [int(p) for p in f.read().split()]
        out = []
        for p in pids:
            with contextlib.suppress(OSError):
                with open(f"/proc/{p}/comm") as f:
                    if name in (None, f.read().strip()):
                        out.append(p)
        return out

    def stop(self):
        if self.pid is None:
            return
        pid, self.pid = self.pid, None
        os.kill(pid, signal.SIGTERM)
        try:
            wait_for("the end of postern-milter",
                     lambda: not os.path.exists(f"/proc/{pid}"))
        except AssertionError:
            os.kill(pid, signal.SIGKILL)
            raise

    def destroy(self, check=True):
        try:
            self.stop()
            bad = [line for line in self.log().splitlines()
                   if BAD_LOG.search(line)
                   and not any(e in line for e in self.expected)]
            assert not check or not bad, "\n".join(bad)
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)


class Peer:
    """A mail server with postern-milter as its filter and a sink behind."""

    def __init__(self, milter, sink):
        self.dir = tempfile.mkdtemp(prefix="postern-peer-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.port = free_port()
        try:
            self.launch(milter, sink)
            wait_for("the mail server", self.answers)
        except BaseException:
            self.destroy()
            raise

    def answers(self):
        try:
            with Client(self.port) as c:
                return c.banner.code == 220
        except OSError:
            return False

    def client(self):
        return Client(self.port)

    def destroy(self):
        subprocess.run([f"{PEERS}/{self.name}", "stop", self.dir],
                       timeout=60, check=False, capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)


class Sendmail(Peer):
    name = "sendmail"
    lines = ()          # more for its .mc

    def launch(self, milter, sink):
        with open(f"{TOP}/contrib/postern-milter.mc") as f:
            line = [li for li in f if li.startswith("INPUT_")][0].strip()
        line = line.replace("unix:/run/postern/milter.sock", milter.socket)
        assert milter.socket in line
        subprocess.run(
            [f"{PEERS}/sendmail", "start", self.dir, str(self.port),
             str(sink.port), line, *self.lines],
            check=True, timeout=60, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def held(self):
        """Messages in quarantine."""
        return [n for n in os.listdir(f"{self.dir}/q") if n[:2] == "hf"]


class Postfix(Peer):
    name = "postfix"
    lines = ""          # more for its main.cf

    def launch(self, milter, sink):
        s = milter.socket.split(":", 1)
        if s[0] == "inet":
            port, host = s[1].split("@")
            s[1] = f"{host}:{port}"
        with open(f"{TOP}/contrib/postern-milter.cf") as f:
            lines = f.read()
        assert "inet:127.0.0.1:8895" in lines
        subprocess.run(
            [f"{PEERS}/postfix", "start", self.dir, str(self.port)],
            check=True, timeout=60, text=True,
            input=lines.replace("inet:127.0.0.1:8895", f"{s[0]}:{s[1]}") +
            "virtual_mailbox_domains =\n"
            "strict_rfc821_envelopes = no\n" + self.lines +
            f"relayhost = [127.0.0.1]:{sink.port}\n")

    def held(self):
        return os.listdir(f"{self.dir}/spool/hold")


class Mta:
    """The mail server's side of the protocol, by hand."""

    def __init__(self, milter, actions=0x1ff, protocol=0x1fffff):
        if milter.socket.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(milter.socket[5:])
        else:
            self.sock = socket.create_connection(("127.0.0.1", milter.port))
        self.sock.settimeout(60)
        self.negotiate(actions, protocol)

    def negotiate(self, actions=0x1ff, protocol=0x1fffff):
        self.send(b"O" + struct.pack(">III", 6, actions, protocol))
        kind, data = self.packet()
        assert kind == b"O"
        self.version, self.actions, self.protocol = struct.unpack(
            ">III", data[:12])

    def send(self, data):
        self.sock.sendall(struct.pack(">I", len(data)) + data)

    def read(self, n):
        out = b""
        while len(out) < n:
            more = self.sock.recv(n - len(out))
            if not more:
                raise EOFError
            out += more
        return out

    def packet(self):
        n, = struct.unpack(">I", self.read(4))
        data = self.read(n)
        return data[:1], data[1:]

    def ask(self, data, no_reply):
        self.send(data)
        if not self.protocol & no_reply:
            assert self.packet()[0] == b"c", data

    def macros(self, command, **values):
        self.send(b"D" + command + b"".join(
            f"{k}\0{v}\0".encode() for k, v in values.items()))

    def connect(self, addr="192.0.2.7", name="mail.client.example"):
        self.ask(b"C" + name.encode() + b"\0" + b"4" +
                 struct.pack(">H", 2525) + addr.encode() + b"\0", 0x1000)
        self.ask(b"Hclient.example\0", 0x2000)

    def message(self, text, rcpts=("user@example.com",), ident="QID1",
                sender="a@client.example", pieces=65535):
        """All replies up to the last one, which ends it."""
        self.begin(rcpts, ident, sender)
        self.text(text, pieces)
        return self.end()

    def begin(self, rcpts=("user@example.com",), ident="QID1",
              sender="a@client.example"):
        self.macros(b"M", i=ident)
        self.ask(b"M<" + sender.encode() + b">\0", 0x4000)
        for r in rcpts:
            self.ask(b"R<" + r.encode() + b">\0", 0x8000)

    def text(self, text, pieces=65535):
        head, _, body = text.partition(b"\r\n\r\n")
        lines = head.replace(b"\r\n ", b"\0 ").replace(b"\r\n\t", b"\0\t")
        for line in filter(None, lines.split(b"\r\n")):
            name, _, value = line.replace(b"\0", b"\n").partition(b":")
            if not self.protocol & 0x100000:
                value = value[1:] if value[:1] == b" " else value
            self.ask(b"L" + name + b"\0" + value + b"\0", 0x80)
        self.ask(b"N", 0x40000)
        for i in range(0, len(body), pieces):
            self.ask(b"B" + body[i:i + pieces], 0x80000)

    def end(self):
        self.send(b"E")
        out = []
        while True:
            kind, data = self.packet()
            if kind == b"p":
                continue
            out.append((kind, data))
            if kind in b"acdrty":
                return out

    def close(self):
        self.sock.close()
