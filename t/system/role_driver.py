"""Run one role by itself: play master and its neighbours on the channels of
lib/msg.def, in the form of lib/chan.c."""
import array
import fcntl
import os
import re
import select
import socket
import struct
import subprocess
import tempfile
import termios
import time

from postern import LIBEXEC, SLOW, TOP

ROLES = ["none", "master", "gate", "smtpd", "lookup", "filter", "qmgr",
         "relay", "bounce", "pickup", "showq", "lookup-table", "milter",
         "pmilter", "local", "policy", "auth", "sts", "credentials",
         "tlsrpt"]
with open(os.path.join(TOP, "lib/msg.def")) as f:
    NAMES = re.findall(r"^MSG\((\w+),", f.read(), re.M)
NUMBER = {name: i + 1 for i, name in enumerate(NAMES)}


def u8(n):
    return struct.pack("<B", n)


def u16(n):
    return struct.pack("<H", n)


def u32(n):
    return struct.pack("<I", n)


def u64(n):
    return struct.pack("<Q", n)


def view(data):
    if isinstance(data, str):
        data = data.encode()
    return u32(len(data)) + data


class Fields:
    """Reads what lib/cursor.h reads."""

    def __init__(self, data):
        self.data, self.pos = data, 0

    def bytes(self, n):
        assert self.pos + n <= len(self.data), "message too short"
        self.pos += n
        return self.data[self.pos - n:self.pos]

    def number(self, n):
        return int.from_bytes(self.bytes(n), "little")

    def u8(self):
        return self.number(1)

    def u16(self):
        return self.number(2)

    def u32(self):
        return self.number(4)

    def u64(self):
        return self.number(8)

    def view(self):
        return self.bytes(self.u32())

    def text(self):
        return self.view().decode("utf-8", "replace")

    def done(self):
        assert self.pos == len(self.data), "message too long"


class Channel:
    def __init__(self, sock):
        self.sock = sock
        self.data = b""

    def send(self, name, body=b"", fds=()):
        head = u32(8 + len(body)) + u16(NUMBER[name]) + u8(len(fds)) + u8(0)
        control = []
        if fds:
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                        array.array("i", fds))]
        data = head + body
        sent = self.sock.sendmsg([data], control)
        if sent < len(data):
            self.sock.sendall(data[sent:])

    def receive(self, seconds=30):
        """(name, Fields); None when the other side closed."""
        end = time.monotonic() + seconds * SLOW
        while True:
            if len(self.data) >= 8:
                length, kind = struct.unpack_from("<IH", self.data)
                if len(self.data) >= length:
                    body = self.data[8:length]
                    self.data = self.data[length:]
                    return NAMES[kind - 1], Fields(body)
            left = end - time.monotonic()
            ready = select.select([self.sock], [], [], max(0, left))[0]
            assert ready, f"no message within {seconds * SLOW} s"
            try:
                piece = self.sock.recv(1 << 20)
            except ConnectionResetError:
                return None
            if not piece:
                return None
            self.data += piece

    def expect(self, name, seconds=30):
        m = self.receive(seconds)
        assert m is not None, f"closed, {name} was expected"
        assert m[0] == name, f"{m[0]} instead of {name}"
        return m[1]

    def heard(self, seconds=30):
        """Wait until the other side has read all that was sent: messages on
        two channels come in the order in which they are read."""
        end = time.monotonic() + seconds * SLOW
        while struct.unpack("i", fcntl.ioctl(
                self.sock, termios.TIOCOUTQ, bytes(4)))[0]:
            assert time.monotonic() < end, "nothing is read"
            time.sleep(0.002)

    def close(self):
        self.sock.close()


def memfd(data, seal=True):
    import fcntl
    fd = os.memfd_create("text", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(os.dup(fd), "wb") as f:
        f.write(data)
    if seal:
        fcntl.fcntl(fd, 1033, 2 | 4 | 8)  # F_ADD_SEALS: shrink grow write
    return fd


class Role:
    """A role program under test; use with `with`."""

    def __init__(self, name, jailed=False, user="", root="",
                 lmtp=False, **conf):
        self.role = name
        mine, its = socket.socketpair()
        self.dir = tempfile.TemporaryDirectory(prefix="postern-role-")
        self.log_path = os.path.join(self.dir.name, "log")
        log = os.open(self.log_path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        lines = "".join(f"{k} = {v}\n" for k, v in conf.items())
        settings = memfd(lines.encode(), seal=False)

        def fds():
            os.dup2(its.fileno(), 3)
            os.set_inheritable(3, True)
        self.process = subprocess.Popen(
            [os.path.join(LIBEXEC, name)], preexec_fn=fds, close_fds=False,
            stdin=subprocess.DEVNULL)
        its.close()
        self.control = Channel(mine)
        self.peers = []
        self.control.send(
            "INIT", u32(1) + u32(0) + u32(0) + u8(jailed) + u8(lmtp) +
            view(user) +
            view(root) + view("/nonexistent") + view(name) +
            view("postern/" + name) + u8(1) + u8(0),
            [settings, log])
        os.close(settings)
        os.close(log)

    def __enter__(self):
        try:
            self.control.expect("READY")
        except BaseException:
            self.end()
            print(self.log())
            raise
        return self

    def __exit__(self, kind, *rest):
        self.end()
        text = self.log()
        if kind is not None:
            print(text)
        else:
            for word in ("panic", "Sanitizer", "runtime error", "forbidden"):
                assert word not in text, text
            assert self.process.returncode == 0, text

    def peer(self, role, generation=1):
        mine, its = socket.socketpair()
        self.control.send("PEER", u8(ROLES.index(role)) + u32(os.getpid()) +
                          u32(generation) + u32(0), [its.fileno()])
        self.control.heard()
        its.close()
        self.peers.append(Channel(mine))
        return self.peers[-1]

    def start(self):
        self.control.send("START")

    def status(self):
        """What the role tells about itself; it has done all that was sent
        before, too."""
        self.control.send("STATUS", u32(7))
        f = self.control.expect("STATUS_IS")
        f.u32()
        return dict(line.split(" ", 1) for line in f.text().splitlines())

    def settle(self):
        """What was done so far stands in the log."""
        self.status()
        self.status()

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def wait_log(self, text, seconds=30):
        end = time.monotonic() + seconds * SLOW
        while text not in self.log():
            assert time.monotonic() < end, f"not in log: {text}\n{self.log()}"
            time.sleep(0.01)

    def end(self):
        for p in self.peers:
            p.close()
        self.control.close()
        try:
            self.process.wait(30 * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log_text = self.log()
        self.dir.cleanup()
        self.log = lambda: self.log_text


def envelope(sender, rcpts, flags=0, notify=0):
    return (u8(1) + u32(flags) + view(sender) + view("client.example.com") +
            view("192.0.2.1") + u16(1234) + view("client.example.com") +
            view("ESMTP") + view("") + view("") + u8(0) + u32(len(rcpts)) +
            b"".join(view(r) + view("") + u8(notify) for r in rcpts))


def edits(*list):
    """(offset, remove, insert), ..."""
    return u32(len(list)) + b"".join(
        u64(o) + u64(r) + view(i) for o, r, i in list) if list else b""
