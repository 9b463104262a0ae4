"""Conversations of t/wire/*.smtp with a running gateway.

    # comment
    @main name = value      setting of main.cf for this conversation
    @file name text         a line of a file beside main.cf
    @source ADDRESS         connect from there (127.0.0.0/8)
    @received N             afterwards the inside server has N more messages
    C: text                 send text and CRLF
    CR: text                send text as it is, with \\r \\n \\t \\0 \\\\ \\xHH, and
                            {COUNT*TEXT} for TEXT repeated
    S: line                 the server's next line is this
    S~ regexp               the server's next line matches (from its start)
    --                      the server closes

Lines to send that follow one another go out together.
"""
import glob
import os
import re

import pytest
from postern import TOP, Client, Closed, Instance, Sink, wait_for


class Conversation:
    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path)
        self.main, self.files = [], {}
        self.source, self.received = None, None
        self.steps = []
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                self.read(number, line.rstrip("\n"))
        self.settings = (tuple(self.main), tuple(
            (k, tuple(v)) for k, v in sorted(self.files.items())))

    def read(self, number, line):
        if not line or line.startswith("#"):
            return
        if line.startswith("@"):
            word, _, rest = line[1:].partition(" ")
            if word == "main":
                name, _, value = rest.partition("=")
                self.main.append((name.strip(), value.strip()))
            elif word == "file":
                name, _, text = rest.partition(" ")
                self.files.setdefault(name, []).append(text)
            elif word == "source":
                self.source = rest.strip()
            elif word == "received":
                self.received = int(rest)
            else:
                raise ValueError(f"{self.path}:{number}: @{word}")
        elif line == "--":
            self.steps.append((number, "--", None))
        else:
            m = re.match(r"(C|CR|S):(?: (.*))?$|S~ (.*)$", line)
            if not m:
                raise ValueError(f"{self.path}:{number}: {line}")
            if m.group(1) in ("C", "CR"):
                text = m.group(2) or ""
                raw = escaped(text) if m.group(1) == "CR" else \
                    text.encode() + b"\r\n"
                self.steps.append((number, "C", raw))
            elif m.group(1) == "S":
                self.steps.append(
                    (number, "S", re.compile(re.escape(m.group(2)) + "$")))
            else:
                self.steps.append((number, "S", re.compile(m.group(3))))


def escaped(text):
    text = re.sub(r"\{(\d+)\*([^}]*)\}",
                  lambda m: m.group(2) * int(m.group(1)), text)
    plain = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
    return re.sub(rb"\\(x[0-9a-fA-F]{2}|.)", lambda m: (
        bytes([int(m.group(1)[1:], 16)]) if m.group(1)[:1] == b"x"
        and len(m.group(1)) == 3 else plain[m.group(1).decode()]),
        text.encode())


CONVERSATIONS = sorted(
    (Conversation(p) for p in glob.glob(TOP + "/t/wire/*.smtp")),
    key=lambda c: (c.settings, c.name))


class Server:
    """The gateway for one set of settings, kept while they stay the same."""

    def __init__(self):
        self.settings = self.gw = self.sink = None

    def get(self, settings):
        if self.settings != settings:
            self.end()
            self.sink = Sink()
            main, files = settings
            # None of these tests is about being slowed down.
            self.gw = Instance(self.sink, start=False, main={
                "smtpd_error_sleep_time": "0", **dict(main)})
            for name, lines in files:
                self.gw.write(name, "\n".join(lines) + "\n")
            self.gw.start()
            self.settings = settings
        return self.gw, self.sink

    def end(self):
        self.settings = None
        if self.gw:
            gw, self.gw = self.gw, None
            self.sink.close()
            gw.destroy()


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    s.end()


@pytest.mark.parametrize("talk", CONVERSATIONS, ids=lambda c: c.name)
def test_conversation(server, talk):
    gw, sink = server.get(talk.settings)
    if talk.received is not None:
        # what the one before has sent is not of this one
        wait_for("an empty queue", lambda: not gw.queued())
    before = len(sink.messages)
    with Client(gw.port, source=talk.source, timeout=20,
                greet=False) as client:
        out = b""
        for number, kind, what in talk.steps + [(0, "", None)]:
            if kind == "C":
                out += what
                continue
            if out:
                client.send(out)
                out = b""
            where = f"{talk.name}:{number}"
            if kind == "S":
                try:
                    line = client.line()
                except Closed:
                    pytest.fail(f"{where}: closed; expected {what.pattern}")
                except TimeoutError:
                    pytest.fail(f"{where}: no reply; expected "
                                f"{what.pattern}; have {client.data!r}")
                assert what.match(line), f"{where}: {line!r}"
            elif kind == "--":
                assert client.closed(), f"{where}: still open"
        assert not client.data, \
            f"{talk.name}: more than expected: {client.data!r}"
    if talk.received is not None:
        if talk.received:
            wait_for(f"{talk.received} messages",
                     lambda: len(sink.messages) - before >= talk.received)
        wait_for("an empty queue", lambda: not gw.queued())
        assert len(sink.messages) - before == talk.received
