"""One message stays one message between us and other servers, whatever looks
like an end in it: what is sent on is cut nowhere, and nothing that stood in a
text becomes a command; by DATA and by BDAT, to and from Debian's
Postfix, Exim, OpenSMTPD and sendmail."""
import os
import re
import shutil
import subprocess
import tempfile

import pytest
from postern import TOP, Client, Closed, Instance, Sink, free_port, wait_for

PEERS = f"{TOP}/t/peers"
COMMANDS = (b"MAIL FROM:<evil@evil.example>\r\nRCPT TO:<user@example.com>\r\n"
            b"DATA\r\nSubject: smuggled\r\n\r\nevil")
# What some server somewhere takes for the end of a message.
ENDS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r",
        b"\n.\r", b"\r.\n", b"\r\r\n.\r\r\n", b"\n\r.\n\r", b"\r\n\0.\r\n",
        b"\r\n.\0\r\n", b"\0\r\n.\r\r\n", b"\n\n.\n\n", b"\r\n \n.\n",
        b"\x85.\x85", b"\x0b.\x0b", b"\xff\r\n\xff.\r\n", b"\r\n.\r\r\n",
        b"\r\n\r.\r\n", b"\n..\n", b"\r\n..\n.\r\n\n", b"\x8d\x8a.\x8d\x8a"]
# By BDAT what ends DATA is text like any other.
CHUNK_ENDS = ENDS + [b"\r\n.\r\n", b"\r\n.\r\n.\r\n", b"\r\n..\r\n.\r\n"]
LONG = [b"." * 70000, b"x" * 998 + b"\r\n.", b"x" * 997 + b"\r",
        b"x" * 2047 + b"\n.\n", b".\r\n" * 200000,
        (b"y" * 989 + b"." * 9) * 8, b"\xff" * 5000]


def bodies(ends):
    return [b"before" + e + COMMANDS + e + b"after\r\n" for e in ends]


def long_lines():
    return [b"before\r\n" + line + b"\r\nafter\r\n" for line in LONG]


def borders():
    """Dots at line starts where buffers of usual sizes end."""
    out = []
    for size in (1024, 4096, 8192, 16384, 32768, 65536):
        for off in range(-4, 4):
            text = b"z" * 70 + b"\r\n"
            text = text * (size // 72 + 1)
            at = size + off - len(b"Subject: xxx\r\n\r\n")
            out.append(text[:at] + b"\r\n.\r\n.\r\n..\r\n" + text[at:] +
                       b"after\r\n")
    return out


class Counted(Sink):
    """Takes bytes as they are: only CRLF.CRLF ends a text."""

    def numbers(self):
        return sorted(int(m.field("Subject")) for m in list(self.messages)
                      if re.fullmatch(r"\d+", m.field("Subject") or ""))

    def all_there(self, wanted):
        wait_for(f"{len(wanted)} messages",
                 lambda: len(self.messages) >= len(wanted), 60)
        assert self.numbers() == sorted(wanted)
        assert {m.sender for m in self.messages} == {"a@client.example"}
        assert not any(m.field("Subject") == "smuggled"
                       for m in self.messages)
        for m in self.messages:
            assert m.text.rstrip(b"\r\n").endswith(b"after"), m.text[-200:]
            assert b"\n" not in m.text.replace(b"\r\n", b"")


def numbered(number, body):
    return b"Subject: %d\r\n\r\n" % number + body


def say(c, number, body):
    """By DATA, as it is: a smuggler stuffs no dots.  False: it is refused."""
    c.envelope("a@client.example", "user@example.com")
    assert c.cmd("DATA").code == 354
    c.send(numbered(number, body) + b"\r\n.\r\n")
    return c.reply().code == 250


def stuffed(body):
    return re.sub(rb"(?<=\r\n)\.", b"..", body)


def chunked(c, number, body):
    text = numbered(number, body)
    half = len(text) // 2
    c.envelope("a@client.example", "user@example.com")
    c.send(b"BDAT %d\r\n" % half + text[:half] +
           b"BDAT %d LAST\r\n" % (len(text) - half) + text[half:])
    return c.reply().code == 250 and c.reply().code == 250


class Peer:
    """A server that gives all mail to 127.0.0.1:next."""

    def __init__(self, name, next_):
        self.name, self.port = name, free_port()
        self.dir = tempfile.mkdtemp(prefix=f"postern-{name}-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.script, text = f"{PEERS}/{name}", ""
        args = ["start", self.dir, str(self.port)]
        if name == "postfix":
            text = (f"virtual_mailbox_domains =\nrelayhost = [127.0.0.1]:"
                    f"{next_}\nsmtp_host_lookup = native\n"
                    "message_size_limit = 0\nnotify_classes =\n")
        elif name in ("exim", "opensmtpd"):
            args = ["relay", self.dir, str(self.port), str(next_)]
        else:
            args.append(str(next_))
        subprocess.run([self.script, *args], check=True, timeout=60,
                       input=text.encode())
        wait_for(f"{name} to greet", self.greets)

    def greets(self):
        try:
            with Client(self.port) as c:
                return c.cmd("QUIT").code == 221
        except (OSError, Closed):
            return False

    def stop(self):
        subprocess.run([self.script, "stop", self.dir], check=False,
                       timeout=60)
        shutil.rmtree(self.dir, ignore_errors=True)


def there(name):
    if os.getuid() != 0:
        return False
    return bool(shutil.which("postfix")) if name == "postfix" else \
        os.path.isdir(f"{TOP}/build/peers/{name}")


PEER_NAMES = [pytest.param(n, marks=[pytest.mark.skipif(
    not there(n), reason=f"no {n}, or not root")] + more)
    for n, more in (("postfix", []), ("exim", []),
                    ("opensmtpd", []), ("sendmail", [pytest.mark.long]))]


def gateway(sink, **main):
    return Instance(sink, main={"message_size_limit": "10000000",
                                "mynetworks": "127.0.0.0/8", **main})


@pytest.fixture
def sink():
    s = Counted()
    yield s
    s.close()


def send_all(gw, how, texts, first=0):
    """Each in a session of its own: one that is cut would upset the next."""
    taken = []
    for number, body in enumerate(texts, first):
        with gw.client() as c:
            c.ehlo()
            assert how(c, number, body), body
            assert c.cmd("NOOP").code == 250
            taken.append(number)
    return taken


def everything(gw):
    plain = long_lines() + borders()
    taken = send_all(gw, say, [stuffed(b) for b in plain])
    taken += send_all(gw, say, bodies(ENDS), 1000)
    taken += send_all(gw, chunked, bodies(CHUNK_ENDS), 2000)
    return taken + send_all(gw, chunked, plain, 3000)


def test_to_a_strict_server(sink):
    """What the others are sent, seen as it is."""
    gw = gateway(sink)
    try:
        sink.all_there(everything(gw))
    finally:
        gw.destroy()


def test_to_another_of_us(sink):
    """Which takes chunks, too."""
    inner = gateway(sink)
    try:
        outer = gateway(inner)
        try:
            sink.all_there(everything(outer))
        finally:
            outer.destroy()
        assert re.search(r" bdat=\d", inner.log())
    finally:
        inner.destroy()


# What is in their logs after mail by DATA, and by BDAT.
SEEN = {"postfix": ("maillog", r" data=\d", r" bdat=\d"),
        "exim": ("var/log/exim4/mainlog", r" <= ", r" <= .* K ")}


def seen(peer, chunks):
    where, data, bdat = SEEN[peer.name]
    with open(f"{peer.dir}/{where}", errors="replace") as f:
        text = f.read()
    return re.search(bdat if chunks else data, text) and (
        chunks or not re.search(bdat, text))


def to_peer(sink, name, chunks, **main):
    peer = Peer(name, sink.port)
    try:
        gw = gateway(peer, **main)
        try:
            sink.all_there(everything(gw))
        finally:
            gw.destroy()
        if name in SEEN:
            wait_for("its log", lambda: seen(peer, chunks))
    finally:
        peer.stop()


@pytest.mark.parametrize("name", PEER_NAMES)
def test_to_another_server(sink, name):
    """By chunks where they offer CHUNKING."""
    to_peer(sink, name, True)


@pytest.mark.parametrize("name", [p for p in PEER_NAMES
                                  if p.values[0] in SEEN])
def test_to_another_server_by_data(sink, name):
    to_peer(sink, name, False, smtp_chunking_enable="no")


@pytest.mark.parametrize("name", PEER_NAMES)
def test_from_another_server(sink, name):
    """What they take and send on to us; what they refuse is their affair."""
    gw = peer = None
    try:
        gw = gateway(sink)
        peer = Peer(name, gw.port)
        taken = []
        # no long lines: Exim returns those to their sender
        for number, body in enumerate(bodies(ENDS) + [
                stuffed(b) for b in borders()[:16]]):
            with Client(peer.port) as c:
                c.ehlo()
                try:
                    if say(c, number, body):
                        taken.append(number)
                except (Closed, AssertionError, OSError):
                    pass
        # some of it may be two messages for them, and then is for us
        wait_for("all of it", lambda: set(taken) <= set(sink.numbers()), 60)
        sent = len(re.findall(r"client=", gw.log()))
        wait_for("each once", lambda: len(sink.messages) == sent)
        if name == "exim":
            assert re.search(r" bdat=\d", gw.log())
    finally:
        if peer:
            peer.stop()
        if gw:
            gw.destroy()
