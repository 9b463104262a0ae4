"""An outside filter that does what a test says: the milter protocol, versions
2 to 6, spoken on the wire without a library, so that all of it can be wrong.

A script is a dict from a stage to its answer.  Stages: negotiate connect helo
mail rcpt data unknown header eoh body eom abort quit quit_nc.  An answer is

    bytes           sent as they are (the functions below make packets)
    a number        seconds to wait
    CLOSE, RESET    end the connection
    HANG            say nothing more, until the other side gives up
    a function      of (session, what was told); returns an answer
    a list of these
    None            as without a script: go on, where an answer is due
"""
import os
import select
import socket
import struct
import threading

from postern import free_port, wait_for

STAGES = {b"O": "negotiate", b"C": "connect", b"H": "helo", b"M": "mail",
          b"R": "rcpt", b"T": "data", b"U": "unknown", b"L": "header",
          b"N": "eoh", b"B": "body", b"E": "eom", b"A": "abort",
          b"Q": "quit", b"K": "quit_nc", b"D": "macros"}
CLOSE, RESET, HANG = "close", "reset", "hang"

# What a filter may do (SMFIF_*)
ADD_HEADERS, CHANGE_BODY, ADD_RCPT, DELETE_RCPT, CHANGE_HEADERS, \
    QUARANTINE, CHANGE_FROM, ADD_RCPT_ARGS, SET_MACROS = (
        1 << i for i in range(9))
ALL_ACTIONS = 0x1ff
OLD_ACTIONS = 0x3f          # of versions below 6
# What it does not want, does not answer, or can (SMFIP_*)
NO_CONNECT, NO_HELO, NO_MAIL, NO_RCPT, NO_BODY, NO_HEADERS, NO_EOH, \
    NR_HEADERS, NO_UNKNOWN, NO_DATA, CAN_SKIP, REJECTED_RCPT, NR_CONNECT, \
    NR_HELO, NR_MAIL, NR_RCPT, NR_DATA, NR_UNKNOWN, NR_EOH, NR_BODY, \
    LEADING_SPACE = (1 << i for i in range(21))
ALL_SILENT = (NR_CONNECT | NR_HELO | NR_MAIL | NR_RCPT | NR_DATA | NR_UNKNOWN |
              NR_HEADERS | NR_EOH | NR_BODY)
SILENT = {"connect": NR_CONNECT, "helo": NR_HELO, "mail": NR_MAIL,
          "rcpt": NR_RCPT, "data": NR_DATA, "unknown": NR_UNKNOWN,
          "header": NR_HEADERS, "eoh": NR_EOH, "body": NR_BODY}
# Stages of macros, where a filter names its own
MACROS_AT = {"connect": 0, "helo": 1, "mail": 2, "rcpt": 3, "data": 4,
             "eom": 5, "eoh": 6}


def raw(value):
    return value.encode() if isinstance(value, str) else value


def packet(kind, data=b""):
    return struct.pack("!I", len(data) + 1) + raw(kind) + data


def strings(*values):
    return b"".join(raw(v) + b"\0" for v in values)


CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, SKIP, PROGRESS, SHUTDOWN, \
    CONN_FAIL = (packet(c) for c in "cartdsp4f")


def reply(text):
    return packet("y", strings(text))


def add_header(name, value):
    return packet("h", strings(name, value))


def insert_header(index, name, value):
    return packet("i", struct.pack("!I", index) + strings(name, value))


def change_header(index, name, value):
    return packet("m", struct.pack("!I", index) + strings(name, value))


def change_from(address, *args):
    return packet("e", strings(address, *args))


def add_rcpt(address):
    return packet("+", strings(address))


def add_rcpt_args(address, *args):
    return packet("2", strings(address, *args))


def delete_rcpt(address):
    return packet("-", strings(address))


def body(text):
    return packet("b", raw(text))


def quarantine(reason):
    return packet("q", strings(reason))


def negotiate(version=6, actions=ALL_ACTIONS, steps=0, macros=None):
    data = struct.pack("!III", version, actions, steps)
    for stage, names in (macros or {}).items():
        data += struct.pack("!I", MACROS_AT.get(stage, stage)) + \
            strings(names)
    return packet("O", data)


class Gone(Exception):
    """The connection ended."""


class Session:
    """One connection, and all that it was told."""

    def __init__(self, milter, sock):
        self.milter, self.sock = milter, sock
        self.told = []          # (stage, strings or bytes), macros left out
        self.macros = {}        # stage: {name: value}, as last told
        self.macro_log = []     # (stage, {name: value}), all of them
        self.reads = []         # the stages that came with each read
        self.offer = None       # version, actions, steps
        self.steps = 0
        self.data = b""
        self.script = milter.script
        self.ended = threading.Event()

    # What was told

    def stages(self):
        return [s for s, _ in self.told]

    def args(self, stage):
        """What was told at a stage, each time."""
        return [a for s, a in self.told if s == stage]

    def headers(self):
        return [(n, v) for n, v in self.args("header")]

    def body(self):
        return b"".join(self.args("body"))

    # The wire

    def packet(self):
        while True:
            if len(self.data) >= 4:
                n, = struct.unpack("!I", self.data[:4])
                if len(self.data) >= 4 + n:
                    p = self.data[4:4 + n]
                    self.data = self.data[4 + n:]
                    return p[:1], p[1:]
            more = self.sock.recv(1 << 20)
            if not more:
                raise Gone
            self.data += more
            self.reads.append([])

    def send(self, data):
        self.sock.sendall(data)

    def run(self):
        try:
            while True:
                kind, data = self.packet()
                if not self.take(STAGES.get(kind, kind), data):
                    break
        except (OSError, Gone):
            pass
        finally:
            self.sock.close()
            self.ended.set()

    def take(self, stage, data):
        self.reads[-1:] = [self.reads[-1] + [stage]]
        words = data.split(b"\0")[:-1]
        if stage == "macros":
            at = STAGES.get(data[:1], data[:1])
            words = [w.decode() for w in data[1:].split(b"\0")[:-1]]
            values = dict(zip(words[::2], words[1::2]))
            self.macros[at] = values
            self.macro_log.append((at, values))
            return True
        if stage == "negotiate":
            self.offer = struct.unpack("!III", data[:12])
            told = self.offer
        elif stage == "body":
            told = data
        elif stage == "connect":
            told = (words[0], data[len(words[0]) + 1:])
        elif stage in ("mail", "rcpt"):
            told = words
        elif stage == "header":
            told = tuple(words)
        else:
            told = words[0] if words else b""
        self.told.append((stage, told))
        if stage == "negotiate" or stage == "connect":
            self.script = self.milter.script
        answer = self.script.get(stage)
        if stage == "quit":
            if answer is not None:
                self.give(answer, told)
            return False
        if not self.give(answer, told):
            self.usual(stage)
        return True

    def give(self, answer, told):
        """False: nothing was said."""
        if callable(answer):
            answer = answer(self, told)
        if answer is None:
            return False
        if isinstance(answer, list):
            for a in answer:
                self.give(a, told)
        elif isinstance(answer, bytes):
            self.send(answer)
        elif answer == CLOSE:
            raise Gone
        elif answer == RESET:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                 struct.pack("ii", 1, 0))
            raise Gone
        elif answer == HANG:
            while self.sock.recv(65536):
                pass
            raise Gone
        else:
            # woken up by the other side's leaving
            select.select([], [], [], answer)
        return True

    def usual(self, stage):
        m = self.milter
        if stage == "negotiate":
            version = min(m.version, self.offer[0])
            self.steps = m.steps & self.offer[2]
            self.send(negotiate(version, m.actions & self.offer[1],
                                self.steps, m.macros))
        elif stage not in ("abort", "quit_nc") and \
                not self.steps & SILENT.get(stage, 0):
            self.send(CONTINUE)


class Milter:
    """Listens on a port, or a unix socket below folder, until closed."""

    def __init__(self, folder=None, six=False):
        self.path = os.path.join(folder, "milter.sock") if folder else None
        self.port = None if folder else free_port()
        self.six = six
        self.where = f"unix:{self.path}" if folder else \
            f"inet:[::1]:{self.port}" if six else f"inet:127.0.0.1:{self.port}"
        self.sessions = []
        self.listener = None
        self.use()
        self.up()

    def use(self, script=None, version=6, actions=ALL_ACTIONS, steps=0,
            macros=None):
        """From now on; connections that there are end."""
        self.script = script or {}
        self.version, self.actions, self.steps = version, actions, steps
        self.macros = macros
        self.hang_up()
        self.sessions = []

    def up(self):
        if self.path:
            self.listener = socket.socket(socket.AF_UNIX)
            if os.path.exists(self.path):
                os.unlink(self.path)
            self.listener.bind(self.path)
            os.chmod(self.path, 0o666)
        else:
            self.listener = socket.socket(socket.AF_INET6 if self.six else
                                          socket.AF_INET)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR,
                                     1)
            self.listener.bind(("::1" if self.six else "127.0.0.1",
                                self.port))
        self.listener.listen(2048)
        threading.Thread(target=self.accept, args=(self.listener,),
                         daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            if not self.path:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session(self, sock)
            self.sessions.append(session)
            threading.Thread(target=session.run, daemon=True).start()

    def down(self):
        """Connections are refused, and those there are end."""
        if self.listener:
            try:
                self.listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.listener.close()
            self.listener = None
        self.hang_up()

    def hang_up(self):
        for s in self.sessions:
            try:
                s.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for s in self.sessions:
            s.ended.wait(10)

    close = down

    # What was told, in all sessions

    def told(self, stage):
        return [a for s in list(self.sessions) for a in s.args(stage)]

    def last(self):
        """The session told of a client last."""
        return [s for s in self.sessions if s.told][-1]

    def wait_told(self, stage, count=1):
        wait_for(f"{count} times {stage} told to the filter",
                 lambda: len(self.told(stage)) >= count)
        return self.told(stage)
