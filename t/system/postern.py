"""What the system tests are made of: a private gateway, a client that speaks
SMTP line by line, and a server to stand behind the gateway."""
import collections
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
BUILD = os.path.join(TOP, os.environ.get("BUILD", "build"))
BIN = os.path.join(BUILD, "bin")
LIBEXEC = os.path.join(BUILD, "libexec")
SAN = BUILD.endswith("san")
# A build with sanitizers is slow; so is a busy machine.
SLOW = 4 if SAN else 1
DOMAIN = "example.com"
HOSTNAME = "gw.example.com"
# Lines that no test should cause; a test that does says so (expect_log).
BAD_LOG = re.compile(
    r"panic:|fatal:|error:|killed by signal|forbidden system call"
    r"|ERROR: \w+Sanitizer|runtime error:|broke the rules")


def own_ports(first=10000, last=32000, block=200):
    """Ports below the range that the kernel picks clients' ports from, each
    once.  Whoever holds the name of a block has its ports for as long as it
    lives: files of tests run side by side.  The name is an abstract socket's,
    so it is known where the ports are, in this network, and ends with us."""
    blocks = list(range(first, last, block))
    random.shuffle(blocks)
    while blocks:
        start = blocks.pop()
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0postern-test-ports-{start}")
        except OSError:
            holder.close()
            continue
        PORT_HOLDERS.append(holder)
        yield from range(start, start + block)


PORT_HOLDERS = []
PORTS = own_ports()
PORTS_LOCK = threading.Lock()


def free_port():
    """A port that nothing uses and no other test is given."""
    with PORTS_LOCK:
        for port in PORTS:
            with socket.socket() as s:
                try:
                    s.bind(("0.0.0.0", port))
                    return port
                except OSError:
                    pass
    raise RuntimeError("no free port")


def wait_for(what, condition, seconds=30):
    """Returns the first true value of condition()."""
    end = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds * SLOW} s for {what}")
        time.sleep(0.02)


class Reply:
    def __init__(self, lines):
        self.lines = lines
        self.code = int(lines[-1][:3]) if lines and lines[-1] else 0
        self.text = "\n".join(lines)

    def __repr__(self):
        return f"Reply({self.text!r})"


class Closed(Exception):
    """The server closed the connection."""


class Client:
    """An SMTP client; every call that sends returns the Reply."""

    def __init__(self, port, host="127.0.0.1", source=None, timeout=30,
                 greet=True):
        self.sock = socket.create_connection(
            (host, port), timeout * SLOW, (source, 0) if source else None)
        self.data = b""
        self.banner = self.reply() if greet else None

    def send(self, raw):
        self.sock.sendall(raw)

    def line(self):
        """The next line without its CRLF; raises Closed at the end."""
        while b"\n" not in self.data:
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                raise Closed(self.data.decode("latin-1"))
            self.data += more
        line, self.data = self.data.split(b"\n", 1)
        assert line.endswith(b"\r"), f"reply line without CR: {line!r}"
        return line[:-1].decode("utf-8", "replace")

    def reply(self):
        lines = []
        while True:
            lines.append(self.line())
            if lines[-1][3:4] != "-":
                return Reply(lines)

    def cmd(self, text):
        self.send(text.encode() + b"\r\n")
        return self.reply()

    def ehlo(self, name="client.example"):
        return self.cmd("EHLO " + name)

    def envelope(self, sender, *rcpts):
        """MAIL and RCPTs, all of which must be accepted."""
        r = self.cmd(f"MAIL FROM:<{sender}>")
        assert r.code == 250, r
        for rcpt in rcpts:
            r = self.cmd(f"RCPT TO:<{rcpt}>")
            assert r.code == 250, r

    def data_cmd(self, text):
        """DATA and the text (bytes, CRLF lines); the reply to the dot."""
        r = self.cmd("DATA")
        assert r.code == 354, r
        if not text.endswith(b"\r\n"):
            text += b"\r\n"
        text = re.sub(rb"(^|\r\n)\.", rb"\1..", text)
        self.send(text + b".\r\n")
        return self.reply()

    def message(self, sender, rcpts, text):
        if isinstance(rcpts, str):
            rcpts = [rcpts]
        self.envelope(sender, *rcpts)
        return self.data_cmd(text)

    def closed(self, seconds=10):
        """True once the server has closed; discards what it still says."""
        self.sock.settimeout(seconds * SLOW)
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
        except socket.timeout:
            return False
        return True

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def mail(subject="hello", body=b"text\r\n", **headers):
    """The bytes of a small message."""
    lines = ["From: sender@client.example", "To: user@example.com",
             "Subject: " + subject]
    lines += [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def mail_with(filename, content=b"MZ not really a program"):
    """A message with an attachment of that name."""
    import base64
    coded = base64.encodebytes(content).replace(b"\n", b"\r\n")
    return mail("your invoice", (
        b"--frontier\r\nContent-Type: text/plain\r\n\r\nSee it.\r\n"
        b"--frontier\r\nContent-Type: application/octet-stream;\r\n"
        b'\tname="' + filename.encode() + b'"\r\n'
        b"Content-Transfer-Encoding: base64\r\n"
        b"Content-Disposition: attachment;\r\n"
        b'\tfilename="' + filename.encode() + b'"\r\n\r\n' + coded +
        b"--frontier--\r\n"), MIME_Version="1.0",
        Content_Type='multipart/mixed; boundary="frontier"')


class Received:
    def __init__(self, sender, rcpts, text, peer):
        self.sender, self.rcpts, self.text, self.peer = (
            sender, rcpts, text, peer)
        self.header, _, self.body = text.partition(b"\r\n\r\n")

    def field(self, name):
        m = re.search(rb"(?im)^" + name.encode() + rb":[ \t]*(.*)$",
                      self.header)
        return m.group(1).strip().decode("utf-8", "replace") if m else None


class Lines:
    """Lines of a socket; ahead tells whether more is here already."""

    def __init__(self, sock):
        self.sock, self.ready, self.rest = sock, collections.deque(), b""

    def __iter__(self):
        return self

    def __next__(self):
        while not self.ready:
            more = self.sock.recv(262144)
            if not more:
                raise StopIteration
            *whole, self.rest = (self.rest + more).split(b"\n")
            self.ready.extend(w + b"\n" for w in whole)
        return self.ready.popleft()

    @property
    def ahead(self):
        return bool(self.ready or self.rest)


class Sink:
    """The inside server.  on(verb, argument) may return the reply to give
    instead of the usual one ("451 4.3.0 later"), or None; verbs are CONNECT
    EHLO MAIL RCPT DATA DOT QUIT.  "close" drops the connection there."""

    def __init__(self, on=None, keywords=("PIPELINING", "8BITMIME", "SIZE",
                                          "SMTPUTF8", "ENHANCEDSTATUSCODES")):
        self.on = on or (lambda verb, argument: None)
        self.keywords = keywords
        self.messages = []
        self.ahead = []     # commands sent before the reply to another
        self.commands = []  # as they came, of all sessions
        self.sessions = 0
        self.port = free_port()
        self.lock = threading.Lock()
        self.listener = None
        self.open = set()
        self.up()

    def up(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(512)
        threading.Thread(target=self.accept, args=(self.listener,),
                         daemon=True).start()

    def down(self):
        """Refuse connections, and end those there are."""
        if self.listener:
            try:
                self.listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.listener.close()
            self.listener = None
        with self.lock:
            for s in self.open:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def accept(self, listener):
        while True:
            try:
                sock, peer = listener.accept()
                # replies to a pipelined group must not wait for one another
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                return
            with self.lock:
                self.open.add(sock)
                self.sessions += 1
            threading.Thread(target=self.session, args=(sock, peer),
                             daemon=True).start()

    def session(self, sock, peer):
        try:
            self.talk(sock, Lines(sock), peer)
        except (OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.open.discard(sock)
            sock.close()

    def talk(self, sock, lines, peer):
        sender, rcpts = None, []

        def say(verb, argument, usual):
            text = self.on(verb, argument) or usual
            if text == "close":
                raise OSError
            sock.sendall(text.encode() + b"\r\n")
            return text
        if say("CONNECT", "", "220 inside ESMTP")[0] != "2":
            return
        for line in lines:
            text = line.rstrip(b"\r\n").decode("utf-8", "replace")
            verb = text[:4].upper()
            self.commands.append(text)
            if lines.ahead:
                self.ahead.append(text)
            path = re.search(r"<(.*?)>", text)
            if verb == "EHLO":
                usual = "250-inside" if self.keywords else "250 inside"
                for i, k in enumerate(self.keywords):
                    sep = " " if i == len(self.keywords) - 1 else "-"
                    usual += f"\r\n250{sep}{k}"
                say("EHLO", text, usual)
            elif verb == "MAIL":
                if say("MAIL", path.group(1), "250 2.1.0 Ok")[0] == "2":
                    sender, rcpts = path.group(1), []
            elif verb == "RCPT":
                if say("RCPT", path.group(1), "250 2.1.5 Ok")[0] == "2":
                    rcpts.append(path.group(1))
            elif verb == "DATA":
                if not rcpts:
                    say("DATA", "", "554 5.5.1 No valid recipients")
                    continue
                if say("DATA", "", "354 go on")[0] != "3":
                    continue
                body = []
                for line in lines:
                    if line == b".\r\n":
                        break
                    body.append(line[1:] if line[:1] == b"." else line)
                else:
                    return
                got = Received(sender, rcpts, b"".join(body), peer)
                reply = self.on("DOT", got) or "250 2.0.0 Ok: taken"
                if reply != "close" and reply[0] == "2":
                    with self.lock:
                        self.messages.append(got)
                if reply == "close":
                    return
                sock.sendall(reply.encode() + b"\r\n")
                sender, rcpts = None, []
            elif verb == "RSET":
                sender, rcpts = None, []
                say("RSET", "", "250 2.0.0 Ok")
            elif verb == "QUIT":
                say("QUIT", "", "221 2.0.0 Bye")
                return
            else:
                say(verb, text, "250 2.0.0 Ok")

    def wait(self, count, seconds=30):
        wait_for(f"{count} messages in the sink (it has "
                 f"{len(self.messages)})",
                 lambda: len(self.messages) >= count, seconds)
        return self.messages

    def find(self, subject):
        return [m for m in list(self.messages)
                if m.field("Subject") == subject]

    def wait_subject(self, subject, seconds=30):
        return wait_for(f"a message with subject {subject}",
                        lambda: self.find(subject), seconds)[0]

    close = down


def run(*cmd, check=True, timeout=60, **kw):
    p = subprocess.run(cmd, capture_output=True, text=True,
                       stdin=subprocess.DEVNULL, timeout=timeout * SLOW, **kw)
    if check and p.returncode:
        raise AssertionError(f"{cmd}: status {p.returncode}\n"
                             f"{p.stdout}{p.stderr}")
    return p


class Instance:
    """A private gateway, made by `postern init`.  main: settings for main.cf.
    user: run everything as that account (needs root)."""

    def __init__(self, sink=None, main=None, relay=None, domain=DOMAIN,
                 user=None, start=True):
        self.dir = tempfile.mkdtemp(prefix="postern-test-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.user = user
        self.build = BUILD
        if user:
            # the source tree may lie where only root can go
            self.build = self.copy_programs()
            shutil.chown(self.dir, user)
        self.etc = self.dir + "/gw/etc"
        self.spool = self.dir + "/gw/spool"
        self.log_path = self.dir + "/gw/log/maillog"
        self.port = free_port()
        self.sink = sink
        self.expected = []
        self.running = False
        self.seen = set()
        if relay is None:
            relay = f"127.0.0.1:{sink.port if sink else 1}"
        try:
            self.init = self.command(
                "init", self.dir + "/gw", "--listen",
                f"127.0.0.1:{self.port}", "--relay", relay,
                "--domain", domain, "--hostname", HOSTNAME, config=False)
            # clients of the tests are strangers, though they are local
            self.set(**{"smtpd_peername_lookup": "no",
                        "local_header_rewrite_clients": "",
                        "inet_protocols": "ipv4",
                        # no mail but the test's own
                        "notify_classes": "", **(main or {})})
            if start:
                self.start()
        except BaseException:
            self.destroy(check=False)
            raise

    def copy_programs(self):
        tree = self.dir + "/tree"
        for part in ("bin", "libexec"):
            os.makedirs(f"{tree}/build/{part}")
            for name in os.listdir(os.path.join(BUILD, part)):
                shutil.copy2(os.path.join(BUILD, part, name),
                             f"{tree}/build/{part}/{name}")
        shutil.copytree(os.path.join(TOP, "rules/stock"),
                        tree + "/rules/stock")
        return tree + "/build"

    def command(self, *args, config=True, check=True, timeout=60):
        cmd = [self.build + "/bin/postern"]
        if config:
            cmd += ["-c", self.etc]
        return self.run(*cmd, *args, check=check, timeout=timeout)

    def run(self, *cmd, check=True, timeout=60):
        if self.user:
            group = str(pwd.getpwnam(self.user).pw_gid)
            cmd = ("setpriv", "--reuid", self.user, "--regid", group,
                   "--clear-groups", *cmd)
        return run(*cmd, check=check, timeout=timeout)

    # Configuration

    def set(self, **settings):
        """Add settings to main.cf; the last definition wins."""
        self.edit("main.cf", lambda t: t + "".join(
            f"{k} = {v}\n" for k, v in settings.items()))

    def path(self, name):
        return os.path.join(self.etc, name)

    def edit(self, name, change):
        """Replace a file of the configuration in one step, as editors do."""
        path = self.path(name)
        old = ""
        if os.path.exists(path):
            with open(path) as f:
                old = f.read()
        with open(path + ".new", "w") as f:
            f.write(change(old))
        os.chmod(path + ".new", 0o644)
        if self.user:
            shutil.chown(path + ".new", self.user)
        os.rename(path + ".new", path)

    def write(self, name, text):
        self.edit(name, lambda old: text)

    # Life

    def start(self):
        self.running = True
        self.command("start")

    def stop(self):
        self.command("stop", timeout=30)
        self.running = False

    def processes(self):
        """{pid: role} of the master and everything below it."""
        masters, children, since = {}, {}, {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as f:
                    stat = f.read()
                with open(f"/proc/{pid}/cmdline") as f:
                    words = f.read().split("\0")
            except OSError:
                continue
            name = stat[stat.index("(") + 1:stat.rindex(")")]
            fields = stat[stat.rindex(")") + 2:].split()
            state, parent = fields[:2]
            if state == "Z":
                continue
            since[int(pid)] = fields[19]
            if name == "master" and self.etc in words:
                masters[int(pid)] = int(parent)
            children.setdefault(int(parent), []).append((int(pid), name))
        # a child of it looks the same until it is a role
        todo = [p for p, parent in masters.items() if parent not in masters]
        found = dict.fromkeys(todo, "master")
        while todo:
            for pid, name in children.get(todo.pop(), []):
                found[pid] = name
                todo.append(pid)
        self.seen.update((pid, since[pid]) for pid in found)
        return found

    def left(self):
        """What still runs of all processes seen so far."""
        self.processes()
        out = []
        for pid, since in self.seen:
            try:
                with open(f"/proc/{pid}/stat") as f:
                    # numbers are given again
                    if f.read().rpartition(")")[2].split()[19] == since and \
                            os.readlink(f"/proc/{pid}/exe").startswith(
                                self.build):
                        out.append(pid)
            except OSError:
                pass
        return out

    def pids(self, role):
        return sorted(p for p, r in self.processes().items() if r == role)

    def kill(self, role, sig=signal.SIGKILL):
        """One process of the role; its pid, or None when there was none."""
        for pid in self.pids(role):
            try:
                os.kill(pid, sig)
                return pid
            except ProcessLookupError:
                pass
        return None

    def client(self, **kw):
        return Client(self.port, **kw)

    def ready(self):
        """Wait until an SMTP session can be had."""
        def try_once():
            try:
                with self.client(timeout=5) as c:
                    return c.banner.code == 220
            except (OSError, Closed):
                return False
        wait_for("a greeting", try_once, 30)

    # What it left behind

    def log(self):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def wait_log(self, pattern, seconds=30, since=0):
        """The match of pattern in a line of the log."""
        rx = re.compile(pattern, re.M)
        try:
            return wait_for(f"a log line like {pattern!r}",
                            lambda: rx.search(self.log(), since), seconds)
        except AssertionError as e:
            tail = "".join(self.log().splitlines(True)[-30:])
            raise AssertionError(f"{e}; the log ends with:\n{tail}") from None

    def expect_log(self, pattern):
        """Lines like this are the test's doing, not a mistake."""
        self.expected.append(re.compile(pattern))

    def queued(self, *queues):
        """Files of messages in these stages of the spool; without stages,
        all of them and what lives in the journal."""
        def walk(queues):
            return [os.path.join(top, n) for q in queues
                    for top, _, names in os.walk(os.path.join(self.spool, q))
                    for n in names]
        if queues:
            return walk(queues)
        everywhere = ("incoming", "active", "deferred", "hold")
        found = walk(everywhere)
        if self.running:
            status = self.command("status", check=False).stdout
            for n in re.findall(r"journal_messages (\d+)", status):
                found += ["a message in the journal"] * int(n)
        # one that moved from where it was not looked for yet to where it
        # was not looked for any more
        return found or walk(reversed(everywhere))

    def bad_log_lines(self):
        return [l for l in self.log().splitlines() if BAD_LOG.search(l)
                and not any(e.search(l) for e in self.expected)]

    def kill_left(self):
        left = self.left()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return left

    def mounts(self):
        """File systems of their own below the directory."""
        with open("/proc/mounts") as f:
            return [p for p in (line.split()[1] for line in f)
                    if p.startswith(self.dir + "/")]

    def remove(self):
        """What dies may write its last while the directory goes."""
        for path in reversed(self.mounts()):
            subprocess.run(["umount", "-l", path], check=False)
        for _ in range(100):
            shutil.rmtree(self.dir, ignore_errors=True)
            if not os.path.exists(self.dir):
                return
            self.kill_left()
            time.sleep(0.05)
        raise AssertionError(f"{self.dir} cannot be removed")

    def destroy(self, check=True):
        stopped = True
        if self.running:
            try:
                stopped = self.command("stop", check=False,
                                       timeout=30).returncode == 0
            except subprocess.TimeoutExpired:
                stopped = False
        left = self.kill_left()
        bad = self.bad_log_lines()
        if os.environ.get("KEEP"):
            print("kept:", self.dir)
        else:
            self.remove()
        if check:
            assert not bad, "the log has:\n" + "\n".join(bad)
            assert stopped, f"postern stop failed; killed {left}"
