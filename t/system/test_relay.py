"""The relay role against servers that behave, and servers that do not."""
import os
import re
import select
import socket
import ssl
import subprocess
import threading
import time

import pytest

from postern import SLOW, free_port, wait_for
from role_driver import (Role, edits, envelope, memfd, u8, u16, u32, u64,
                         view)

SENT, DEFERRED, BOUNCED, LOOPED = 1, 2, 3, 7
NONE, CONNECT, LOST, ROUTE = 1, 2, 3, 4
SUBJECT = b"Subject: hello\r\n\r\n"
CONF = dict(myhostname="gw.example.com", mydomain="example.com",
            inet_interfaces="127.0.0.1", smtp_connect_timeout="2s")


class Result:
    def __init__(self, f):
        self.delivery = f.u64()
        self.trouble = f.u8()
        self.trouble_text = f.text()
        self.rcpts = []
        for _ in range(f.u32()):
            f.u32()
            self.rcpts.append((f.u8(), f.text(), f.text(), f.text()))
        f.done()

    def __getattr__(self, name):
        """status, dsn, reason, mta of the only recipient"""
        if name not in ("status", "dsn", "reason", "mta"):
            raise AttributeError(name)
        assert len(self.rcpts) == 1
        return self.rcpts[0][("status", "dsn", "reason", "mta").index(name)]


class Relay(Role):
    def __init__(self, **conf):
        super().__init__("relay", **{**CONF, **conf})
        self.number = 0

    def __enter__(self):
        super().__enter__()
        self.qmgr = self.peer("qmgr")
        self.start()
        return self

    def deliver(self, hop, text=SUBJECT, rcpts=("b@example.org",),
                sender="a@example.com", flags=0, edit=b"", fd=None, offset=0,
                size=None, qmgr=None, arrived=0.05, transport="relay",
                limit=600, notify=0):
        self.number += 1
        own = memfd(text) if fd is None else fd
        now = int(time.time() * 1e6)
        (qmgr or self.qmgr).send(
            "DELIVER", u64(self.number) + u64(0xABC) + view(transport) +
            view(hop) + u64(offset) +
            u64(len(text) if size is None else size) + view(edit) +
            u64(now - int(arrived * 1e6)) + u64(now - int(arrived * 5e5)) +
            u64(int(limit * 1000)) +
            u32(len(rcpts)) + b"".join(u32(i) for i in range(len(rcpts))) +
            view(envelope(sender, rcpts, flags, notify)), [own])
        if fd is None:
            os.close(own)
        return self.number

    def idle(self, count=1):
        """Wait until the sessions rest, with their transactions ended."""
        wait_for(f"{count} idle sessions",
                 lambda: self.status()["idle"] == str(count))

    def result(self, seconds=30):
        return Result(self.qmgr.expect("DELIVERED", seconds))

    def send(self, hop, **kw):
        number = self.deliver(hop, **kw)
        r = self.result()
        assert r.delivery == number
        return r


class Server:
    """A server made of a function talk(conn), called in a thread for each
    connection; what goes wrong there is raised by close()."""

    def __init__(self, talk):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = free_port()
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(512)
        self.hop = f"[127.0.0.1]:{self.port}"
        self.talk = talk
        self.connections = self.ended = 0
        self.conns = []
        self.trouble = []
        self.over = False
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                s = self.listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            c = Conn(s)
            self.conns.append(c)
            threading.Thread(target=self.serve, args=(c,),
                             daemon=True).start()

    def serve(self, c):
        try:
            self.talk(c)
        except (ConnectionError, EOFError, ssl.SSLEOFError,
                ssl.SSLZeroReturnError):
            pass            # our side has gone
        except BaseException as e:
            # It waited for us, and the test is over: __exit__ closed it.
            if not (self.over and isinstance(e, OSError)):
                self.trouble.append(e)
        finally:
            c.close()
            self.ended += 1

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.over = True
        for c in self.conns:
            c.close()
        if self.trouble and kind is None:
            raise self.trouble[0]


class Conn:
    def __init__(self, s):
        self.s = s
        self.buf = b""
        self.got = []		# commands
        self.texts = []		# as sent, with the dot
        s.settimeout(20 * SLOW)

    def close(self):
        try:
            self.s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.s.close()

    def say(self, *lines):
        self.s.sendall("".join(line + "\r\n" for line in lines).encode())

    def line(self):
        while b"\r\n" not in self.buf:
            piece = self.s.recv(65536)
            if not piece:
                raise EOFError
            self.buf += piece
        line, self.buf = self.buf.split(b"\r\n", 1)
        self.got.append(line.decode())
        return self.got[-1]

    def text(self):
        end = b"\r\n.\r\n"
        while not (b"\r\n" + self.buf).endswith(end) and \
                end not in b"\r\n" + self.buf:
            piece = self.s.recv(65536)
            if not piece:
                raise EOFError
            self.buf += piece
        n = (b"\r\n" + self.buf).index(end) + 3
        self.texts.append(self.buf[:n])
        self.buf = self.buf[n:]
        return self.texts[-1]

    def rest(self):
        """What comes until the other side closes."""
        while True:
            try:
                piece = self.s.recv(65536)
            except ConnectionError:
                piece = b""
            if not piece:
                return self.buf
            self.buf += piece


def script(keywords=(), greeting="220 inside ESMTP", **replies):
    """talk() of an ordinary server, with other replies to some verbs.  A
    reply may be a function of the connection and the command."""
    usual = dict(EHLO="\r\n".join(["250-inside"] +
                                  ["250-" + k for k in keywords] +
                                  ["250 ENHANCEDSTATUSCODES"]),
                 HELO="250 inside", MAIL="250 2.1.0 Ok", RCPT="250 2.1.5 Ok",
                 DATA="354 go on", RSET="250 2.0.0 Ok", QUIT="221 2.0.0 Bye",
                 DOT="250 2.0.0 Ok: queued as 123")
    usual.update(replies)

    def answer(c, verb, line):
        reply = usual.get(verb, "500 what?")
        if callable(reply):
            reply = reply(c, line)
        if reply is None:
            raise EOFError
        c.say(reply)
        return reply

    def talk(c):
        c.say(greeting)
        while True:
            line = c.line()
            verb = line[:4].upper()
            if answer(c, verb, line).startswith("354"):
                c.text()
                answer(c, "DOT", ".")
            if verb == "QUIT":
                return
    return talk


def plain(data):
    """The text as a receiver stores it."""
    assert data.endswith(b"\r\n.\r\n") or data == b".\r\n"
    body = data[:-3]
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", body), "stray CR or LF"
    return re.sub(rb"(?m)^\.", b"", body)


@pytest.fixture
def smtp_sink(tmp_path):
    """smtp_sink("-p", ...): Postfix's sink with these options; its port."""
    running = []

    def start(*options):
        port = free_port()
        p = subprocess.Popen(
            ["smtp-sink", "-u", "nobody" if os.getuid() == 0 else "", *options,
             f"127.0.0.1:{port}", "100"] if os.getuid() == 0 else
            ["smtp-sink", *options, f"127.0.0.1:{port}", "100"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.append(p)

        def listens():
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return True
            except ConnectionError:
                assert p.poll() is None, "smtp-sink did not start"
                return False
        wait_for("smtp-sink", listens)
        return f"[127.0.0.1]:{port}"
    yield start
    for p in running:
        p.kill()
        p.wait()


def test_one_message():
    with Server(script()) as server, Relay() as relay:
        r = relay.send(server.hop, text=SUBJECT + b"body\r\n")
        assert (r.status, r.dsn, r.trouble) == (SENT, "2.0.0", NONE)
        assert r.reason == "250 2.0.0 Ok: queued as 123"
        assert r.mta == "127.0.0.1"
        c = server.conns[0]
        assert c.got == ["EHLO gw.example.com", "MAIL FROM:<a@example.com>",
                         "RCPT TO:<b@example.org>", "DATA"]
        assert plain(c.texts[0]) == SUBJECT + b"body\r\n"
        relay.wait_log("status=sent")
        line = relay.log().splitlines()[-1]
        assert re.search(
            r"00000000ABC: to=<b@example.org>, relay=127\.0\.0\.1\[127\.0\.0"
            r"\.1\]:%d, delay=[\d.]+, delays=[\d.]+/[\d.]+/[\d.]+/[\d.]+, "
            r"tls=may:none, dsn=2\.0\.0, status=sent \(250 2\.0\.0 Ok: queued as 123\)$"
            % server.port, line), line


def test_null_sender_quoting_and_parameters():
    keywords = ("PIPELINING", "SIZE 1000000", "8BITMIME", "SMTPUTF8")
    with Server(script(keywords)) as server, Relay() as relay:
        relay.send(server.hop, sender="", rcpts=["x y@example.org"], flags=1)
        relay.send(server.hop, sender="j\u00fcrgen@example.com", flags=3)
        got = server.conns[0].got
        assert got[1] == f"MAIL FROM:<> SIZE={len(SUBJECT)} BODY=8BITMIME"
        assert got[2] == 'RCPT TO:<"x y"@example.org>'
        assert got[4] == (f"MAIL FROM:<j\u00fcrgen@example.com> "
                          f"SIZE={len(SUBJECT)} BODY=8BITMIME SMTPUTF8")


def test_discarded_keywords():
    with Server(script(("SIZE 10", "PIPELINING"))) as server, \
            Relay(smtp_discard_ehlo_keywords="size") as relay:
        assert relay.send(server.hop, text=SUBJECT * 10).status == SENT
        assert server.conns[0].got[1] == "MAIL FROM:<a@example.com>"


@pytest.mark.parametrize("address,size", [("127.0.0.1", False),
                                          ("127.0.0.9", True)])
def test_keywords_discarded_for_some_servers(address, size):
    """Instead of those discarded for all."""
    maps = "inline:{ {%s = Size, DSN} }" % address
    with Server(script(("SIZE 1000", "8BITMIME"))) as server, \
            Relay(smtp_discard_ehlo_keyword_address_maps=maps,
                  smtp_discard_ehlo_keywords="8bitmime") as relay:
        assert relay.send(server.hop, flags=1).status == SENT
        assert server.conns[0].got[1] == "MAIL FROM:<a@example.com>" + (
            f" SIZE={len(SUBJECT)}" if size else " BODY=8BITMIME")


def test_pipelined_group_comes_in_one_piece():
    pieces = []

    def talk(c):
        c.say("220 inside")
        c.line()
        c.say("250-inside", "250 PIPELINING")
        c.line()
        time.sleep(0.05)
        select.select([c.s], [], [], 0)
        pieces.append(c.buf)
        for _ in range(3):
            c.line()
        c.say("250 Ok", "250 Ok", "250 Ok", "354 go on")
        pieces.append(c.s.recv(65536))
        c.say("250 done")
        c.line()

    with Server(talk) as server, Relay() as relay:
        relay.send(server.hop, rcpts=["b@example.org", "c@example.org"],
                   text=SUBJECT + b"x" * 100)
    assert pieces[0] == (b"RCPT TO:<b@example.org>\r\n"
                         b"RCPT TO:<c@example.org>\r\nDATA\r\n")
    assert pieces[1] == SUBJECT + b"x" * 100 + b"\r\n.\r\n"


@pytest.mark.parametrize("options", [(), ("-p",), ("-e",)])
def test_smtp_sink(smtp_sink, options):
    hop = smtp_sink(*options)
    with Relay() as relay:
        for size in (0, 1, 4096, 300000, 5000000):
            r = relay.send(hop, text=SUBJECT + b"x" * 70 + b"\r\n" +
                           b"0123456789abcde\r\n" * (size // 17),
                           rcpts=[f"u{i}@example.org" for i in range(20)])
            assert [x[0] for x in r.rcpts] == [SENT] * 20
        assert relay.status()["sessions"] == "1"
        relay.wait_log("conn_use=5")


@pytest.mark.parametrize("option,status,where", [
    ("-r,MAIL", DEFERRED, "in reply to MAIL FROM command"),
    ("-f,MAIL", BOUNCED, "in reply to MAIL FROM command"),
    ("-r,RCPT", DEFERRED, "in reply to RCPT TO command"),
    ("-f,RCPT", BOUNCED, "in reply to RCPT TO command"),
    ("-r,DATA", DEFERRED, "in reply to DATA command"),
    ("-f,DATA", BOUNCED, "in reply to DATA command"),
    ("-r,.", DEFERRED, "in reply to end of DATA command"),
    ("-f,.", BOUNCED, "in reply to end of DATA command"),
    ("-f,EHLO", SENT, "250 2.0.0"),
    ("-f,EHLO,HELO", BOUNCED, "refused to talk to me"),
    ("-r,EHLO,HELO", DEFERRED, "refused to talk to me"),
    ("-f,CONNECT", DEFERRED, "refused to talk to me"),
    ("-q,CONNECT", DEFERRED, "while receiving the initial server greeting"),
    ("-q,EHLO", DEFERRED, "while performing the EHLO handshake"),
    ("-q,MAIL", DEFERRED, "while sending MAIL FROM"),
    ("-q,RCPT", DEFERRED, "while sending RCPT TO"),
    ("-q,DATA", DEFERRED, "while sending DATA command"),
    ("-q,.", DEFERRED, "while sending end of data -- message may be sent "
     "more than once"),
    ("-Q,MAIL", DEFERRED, "in reply to MAIL FROM command"),
    ("-Q,RCPT", DEFERRED, "in reply to RCPT TO command"),
    ("-Q,DATA", DEFERRED, "in reply to DATA command"),
    ("-Q,.", DEFERRED, "in reply to end of DATA command"),
    ("-f,RSET", SENT, "250 2.0.0"),
])
def test_smtp_sink_faults(smtp_sink, option, status, where):
    flag, commands = option.split(",", 1)
    hop = smtp_sink(flag, commands)
    with Relay() as relay:
        r = relay.send(hop)
        assert r.status == status, r.reason
        assert where in r.reason
        assert r.dsn[0] == {SENT: "2", DEFERRED: "4", BOUNCED: "5"}[status]
        if "while" in where:
            assert r.reason.startswith("lost connection with 127.0.0.1"
                                       "[127.0.0.1] while ")
        # and once more, with whatever the session became
        assert relay.send(hop).status == status


def test_smtp_sink_slow(smtp_sink):
    hop = smtp_sink("-w", "1")
    with Relay() as relay:
        assert relay.send(hop).status == SENT


def test_each_recipient_has_its_own_reply():
    def rcpt(c, line):
        return {"b": "250 2.1.5 Ok", "c": "550 5.1.1 No such user",
                "d": "450 try later", "e": "552-5.2.2 Mailbox\r\n552 5.2.2 "
                "full"}[line[9]]
    with Server(script(("PIPELINING",), RCPT=rcpt)) as server, \
            Relay() as relay:
        r = relay.send(server.hop,
                       rcpts=[x + "@example.org" for x in "bcde"])
        said = "host 127.0.0.1[127.0.0.1] said: %s (in reply to RCPT TO " \
            "command)"
        assert r.trouble == NONE
        assert r.rcpts == [
            (SENT, "2.0.0", "250 2.0.0 Ok: queued as 123", "127.0.0.1"),
            (BOUNCED, "5.1.1", said % "550 5.1.1 No such user", "127.0.0.1"),
            (DEFERRED, "4.0.0", said % "450 try later", "127.0.0.1"),
            (BOUNCED, "5.2.2", said %
             "552-5.2.2 Mailbox 552 5.2.2 full", "127.0.0.1")]


@pytest.mark.parametrize("pipelining", [True, False])
def test_all_recipients_refused(pipelining):
    with Server(script(("PIPELINING",) if pipelining else (),
                       RCPT="550 5.1.1 no")) as server, Relay() as relay:
        assert relay.send(server.hop).status == BOUNCED
        relay.idle()
        assert relay.send(server.hop).status == BOUNCED
        relay.idle()
        # a DATA that was accepted is left without a message
        assert server.connections == 1
        c = server.conns[0]
        assert c.got.count("DATA") == (2 if pipelining else 0)
        assert set(c.texts) <= {b".\r\n"}
        assert "RSET" in c.got
    with Server(script(("PIPELINING",), MAIL="550 5.7.1 not from you",
                       RCPT="503 no", DATA="503 no")) as server, \
            Relay() as relay:
        r = relay.send(server.hop)
        assert r.reason.endswith("said: 550 5.7.1 not from you (in reply to "
                                 "MAIL FROM command)")
        assert server.conns[0].texts == []


def test_size_limit_of_the_server():
    with Server(script(("SIZE 100",))) as server, Relay() as relay:
        r = relay.send(server.hop, text=b"x" * 200)
        assert (r.status, r.dsn) == (BOUNCED, "5.3.4")
        assert r.reason == "message size 200 exceeds size limit 100 of " \
            "server 127.0.0.1[127.0.0.1]"
        assert server.conns[0].got == ["EHLO gw.example.com"]
        # edits count: the text that is sent is small enough
        r = relay.send(server.hop, text=b"x" * 200,
                       edit=edits((0, 150, "")))
        assert r.status == SENT
        assert relay.send(server.hop, text=b"x" * 200).dsn == "5.3.4"
        assert relay.send(server.hop).status == SENT
        assert server.connections == 1


@pytest.mark.parametrize("kw,status", [
    (dict(flags=2, sender="j\u00f6rg@example.com"), BOUNCED),
    (dict(flags=2, rcpts=["j\u00f6rg@example.org"]), BOUNCED),
    (dict(flags=2, text="Subject: \u00e4\r\n\r\n".encode()), BOUNCED),
    (dict(flags=2, text="Subject: a\r\n\r\n\u00e4".encode()), SENT),
    (dict(flags=2), SENT)])
def test_smtputf8_needed(kw, status):
    with Server(script()) as server, Relay() as relay:
        r = relay.send(server.hop, **kw)
        assert r.status == status
        if status == BOUNCED:
            assert r.dsn == "5.6.7"
            assert r.reason == "SMTPUTF8 is required, but was not offered " \
                "by host 127.0.0.1[127.0.0.1]"
        assert not any("SMTPUTF8" in x for x in server.conns[0].got)


def test_text_is_made_fit_for_smtp():
    text = (b".dot\r\n..\r\n.\r\nbare\nline\rfeed\r\n" + b"y" * 2500 +
            b"\r\nend")
    with Server(script()) as server, Relay() as relay:
        assert relay.send(server.hop, text=text).status == SENT
        sent = server.conns[0].texts[0]
    assert sent.startswith(b"..dot\r\n...\r\n..\r\nbare line feed\r\n")
    assert max(map(len, sent.split(b"\r\n"))) == 998
    assert plain(sent).replace(b"\r\n ", b"") == \
        b".dot\r\n..\r\n.\r\nbare line feed\r\n" + b"y" * 2500 + b"\r\nend\r\n"


def test_smuggled_end_of_data():
    for end in (b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r.\r\n"):
        text = b"a" + end + b"MAIL FROM:<evil@example.com>\r\n"
        with Server(script()) as server, Relay() as relay:
            assert relay.send(server.hop, text=text).status == SENT
            sent = server.conns[0].texts[0]
            assert b"MAIL FROM" in sent
            plain(sent)


def test_edits_and_offset(tmp_path):
    head = b"QUEUE FILE HEADER"
    text = b"Received: x\r\nSubject: worm\r\n\r\n" + b"line\r\n" * 20000
    (tmp_path / "file").write_bytes(head + text + b"END")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    edit = edits((0, 0, "X-First: 1\r\n"), (13, 15, "Subject: .\r\n"),
                 (len(text), 0, ".last"))
    with Server(script()) as server, Relay() as relay:
        r = relay.send(server.hop, fd=fd, offset=len(head), text=text,
                       edit=edit)
        assert r.status == SENT
        got = plain(server.conns[0].texts[0])
        os.close(fd)
    assert got == (b"X-First: 1\r\nReceived: x\r\nSubject: .\r\n\r\n" +
                   b"line\r\n" * 20000 + b".last\r\n")


def test_text_shorter_than_told():
    with Server(script()) as server, Relay() as relay:
        fd = memfd(SUBJECT)
        r = relay.send(server.hop, fd=fd, size=100000)
        os.close(fd)
        assert (r.status, r.dsn) == (DEFERRED, "4.3.0")
        assert "local data error" in r.reason
        # no dot: the server must not take half a message for a whole one
        wait_for("the session's end", lambda: server.ended == 1)
        assert server.conns[0].texts == []
        assert b"\r\n.\r\n" not in server.conns[0].buf


def test_unsealed_text_is_refused():
    with Relay() as relay:
        fd = memfd(SUBJECT, seal=False)
        relay.deliver("[127.0.0.1]:9", fd=fd)
        os.close(fd)
        assert relay.qmgr.receive() is None
        relay.control.expect("BLAME")


@pytest.mark.parametrize("hop", ["", "[", "[127.0.0.1]x", "[127.0.0.1]:",
                                 "[127.0.0.1]:99999", "h:0", "[]:25"])
def test_bad_next_hop(hop):
    with Relay() as relay:
        r = relay.send(hop)
        assert (r.status, r.dsn, r.trouble) == (DEFERRED, "4.3.5", ROUTE)


def test_connection_refused():
    with Relay() as relay:
        port = free_port()
        r = relay.send(f"[127.0.0.1]:{port}")
        assert (r.status, r.dsn, r.trouble) == (DEFERRED, "4.4.1", CONNECT)
        assert r.reason == f"connect to 127.0.0.1[127.0.0.1]:{port}: " \
            "Connection refused"
        relay.wait_log("relay=none, delay=")


def test_silent_server():
    """No time limit depends on the server saying anything."""
    def greet(c):
        c.say("220 hello")
        c.rest()

    def mail(c, line):
        c.rest()

    # one limit is short: nothing else may be too slow
    for limit, talk, doing, trouble in (
            ("helo", lambda c: c.rest(),
             "receiving the initial server greeting", CONNECT),
            ("helo", greet, "performing the EHLO handshake", CONNECT),
            ("mail", script(MAIL=mail), "sending MAIL FROM", LOST),
            ("rcpt", script(RCPT=mail), "sending RCPT TO", LOST),
            ("data_init", script(DATA=mail), "sending DATA command", LOST),
            ("data_done", script(DOT=mail), "sending end of data -- message "
             "may be sent more than once", LOST)):
        with Server(talk) as server, Relay(**{
                f"smtp_{limit}_timeout": "1s" if talk is greet else
                "200ms"}) as relay:
            r = relay.send(server.hop)
            assert r.reason == "conversation with 127.0.0.1[127.0.0.1] " \
                f"timed out while {doing}"
            assert (r.status, r.dsn) == (DEFERRED, "4.4.2")
            assert r.trouble == trouble
            assert r.trouble_text == r.reason


def test_slow_bytes_do_not_extend_a_time_limit():
    def talk(c):
        c.say("220 hello")
        c.line()
        while True:
            c.s.sendall(b"250-x")
            time.sleep(0.02)
    with Server(talk) as server, Relay(smtp_helo_timeout="1s") as relay:
        r = relay.send(server.hop)
        assert "timed out while performing the EHLO handshake" in r.reason


def test_replies_byte_by_byte():
    class Slow(Conn):
        def say(self, *lines):
            for byte in "".join(line + "\r\n" for line in lines).encode():
                self.s.sendall(bytes([byte]))
                time.sleep(0.0005)

    def talk(c):
        c.__class__ = Slow
        script(("PIPELINING", "SIZE"))(c)
    with Server(talk) as server, Relay() as relay:
        assert relay.send(server.hop, text=b"x\r\n" * 1000).status == SENT


def test_server_that_takes_no_text():
    told = threading.Event()

    def data(c, line):
        c.say("354 go")
        told.wait(60 * SLOW)

    def talk(c):
        c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        script(DATA=data)(c)
    with Server(talk) as server, Relay(smtp_data_xfer_timeout="500ms") as \
            relay:
        r = relay.send(server.hop, text=b"x" * 20000000)
        told.set()
        assert r.reason.endswith("timed out while sending message body")


def test_slow_reader_is_no_failure():
    """The limit is on the lack of progress, not on the whole."""
    def data(c, line):
        c.say("354 go")
        # more is to come than all buffers hold
        end = time.monotonic() + 3
        last = b""
        while not last.endswith(b"\r\n.\r\n"):
            slow = time.monotonic() < end
            piece = c.s.recv(1 << (16 if slow else 19))
            if not piece:
                raise EOFError
            last = last[-5:] + piece
            if slow:
                time.sleep(0.02)
        return "250 2.0.0 at last"

    def talk(c):
        c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        script(DATA=data)(c)
    with Server(talk) as server, \
            Relay(smtp_data_xfer_timeout="1500ms") as relay:
        r = relay.send(server.hop, text=(b"x" * 70 + b"\r\n") * 300000)
        assert (r.status, r.reason) == (SENT, "250 2.0.0 at last")


def test_refusal_in_the_middle_of_the_text():
    def data(c, line):
        c.say("354 go")
        c.s.recv(1000)
        c.say("552 5.3.4 too much")
        raise EOFError
    with Server(script(DATA=data)) as server, Relay() as relay:
        r = relay.send(server.hop, text=b"x" * 20000000)
        assert (r.status, r.dsn) == (BOUNCED, "5.3.4")
        assert "552 5.3.4 too much (in reply to end of DATA" in r.reason


@pytest.mark.parametrize("greeting", [
    "hello", "\n", "", "220", "220-a\r\n221 b", "220-" + "x" * 70000,
    "220-x\r\n" * 200 + "220 x", "\0\0\0", "99", "1234", "220 a\r\n220 b",
    "354 go on"])
def test_garbage(greeting):
    with Server(script(greeting=greeting)) as server, Relay() as relay:
        r = relay.send(server.hop)
        if greeting == "220":
            assert r.status == SENT
            return
        assert (r.status, r.trouble) == (DEFERRED, CONNECT)
        assert "remote protocol error in reply from" in r.reason
        assert r.dsn == "4.5.0"


@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "RCPT", "DATA", "DOT"])
def test_a_reply_too_many_never_counts_as_sent(verb):
    """A server that is one reply ahead: nothing is taken for the reply to the
    dot that was there before the dot."""
    usual = dict(EHLO="250 x", MAIL="250 Ok", RCPT="250 Ok",
                 DATA="354 go on\r\n250 Ok", DOT="250 Ok")
    reply = {verb: usual[verb] + ("\r\n250 Ok" if verb != "DATA" else "")}
    with Server(script(**reply)) as server, Relay() as relay:
        r = relay.send(server.hop)
        assert r.status == (SENT if verb == "DOT" else DEFERRED)
        assert bool(server.conns[0].texts) == (verb == "DOT")


def test_4xx_5xx_and_odd_codes_at_the_dot():
    for reply, status, dsn in (
            ("451 4.7.1 greylisted", DEFERRED, "4.7.1"),
            ("554 5.7.1 spam", BOUNCED, "5.7.1"),
            ("554 2.0.0 mixed", BOUNCED, "5.0.0"),
            ("250", SENT, "2.0.0"), ("354 more", DEFERRED, "4.5.0")):
        with Server(script(DOT=reply)) as server, Relay() as relay:
            r = relay.send(server.hop)
            assert (r.status, r.dsn) == (status, dsn), reply


def test_soft_bounce():
    with Server(script(RCPT="550 5.1.1 no")) as server, \
            Relay(soft_bounce="yes") as relay:
        r = relay.send(server.hop)
        assert (r.status, r.dsn) == (DEFERRED, "4.1.1")


def test_connection_is_reused():
    with Server(script(("PIPELINING",))) as server, Relay() as relay:
        for _ in range(5):
            assert relay.send(server.hop).status == SENT
        assert server.connections == 1
        assert "RSET" not in server.conns[0].got
        for n in range(2, 6):
            relay.wait_log(f"conn_use={n}, delay=")
        # another transport or next hop does not share it
        relay.send(server.hop, transport="smtp")
        assert server.connections == 2


def test_reuse_after_a_failed_transaction():
    state = {"no": True}
    with Server(script(DATA=lambda c, line: "451 later" if state["no"] else
                       "354 go on")) as server, Relay() as relay:
        assert relay.send(server.hop).status == DEFERRED
        relay.idle()
        state["no"] = False
        assert relay.send(server.hop).status == SENT
        assert server.connections == 1
        assert server.conns[0].got.count("RSET") == 1


def test_unused_connection_is_closed_in_time():
    with Server(script()) as server, \
            Relay(smtp_connection_cache_time_limit="300ms",
                  smtp_quit_timeout="300ms") as relay:
        relay.send(server.hop)
        wait_for("QUIT", lambda: server.conns[0].got[-1] == "QUIT")
        assert relay.status()["idle"] == "0"
        wait_for("its end", lambda: relay.status()["sessions"] == "0")
    # a server that does not answer QUIT is not waited for
    with Server(script(QUIT=lambda c, line: c.rest()[:0] or None)) as server, \
            Relay(smtp_connection_cache_time_limit="100ms",
                  smtp_quit_timeout="200ms") as relay:
        relay.send(server.hop)
        wait_for("its end", lambda: relay.status()["sessions"] == "0")


@pytest.mark.parametrize("conf,connections", [
    (dict(smtp_connection_cache_on_demand="no"), 4),
    (dict(smtp_connection_cache_on_demand="no",
          smtp_connection_cache_destinations="example.org, 127.0.0.1"), 1),
    (dict(smtp_connection_cache_on_demand="no",
          smtp_connection_cache_destinations="!127.0.0.1, example.org"), 4),
    (dict(smtp_connection_cache_on_demand="no",
          smtp_connection_cache_destinations="inline:{127.0.0.1=x}"), 1),
    (dict(smtp_tls_connection_reuse="no"), 1),
    (dict(smtp_connection_reuse_count_limit="2"), 2),
    (dict(smtp_connection_reuse_time_limit="0s"), 4)])
def test_reuse_limits(conf, connections):
    with Server(script()) as server, Relay(**conf) as relay:
        for _ in range(4):
            assert relay.send(server.hop).status == SENT
        assert server.connections == connections
        wait_for("QUIT", lambda: all(
            "QUIT" in c.got for c in server.conns[:connections - 1]))


@pytest.mark.parametrize("conf,greeting,verb", [
    ({}, "220 inside", "EHLO"),
    ({"smtp_always_send_ehlo": "no"}, "220 inside", "HELO"),
    ({"smtp_always_send_ehlo": "no"}, "220 ESMTP", "HELO"),
    ({"smtp_always_send_ehlo": "no"}, "220 inside noESMTP x", "HELO"),
    ({"smtp_always_send_ehlo": "no"}, "220 inside esmtp Postfix", "EHLO"),
    ({"smtp_always_send_ehlo": "no"}, "220-inside\r\n220 ESMTP", "EHLO"),
    ({"smtp_never_send_ehlo": "yes"}, "220 inside ESMTP", "HELO")])
def test_ehlo_or_helo(conf, greeting, verb):
    with Server(script(greeting=greeting)) as server, Relay(**conf) as relay:
        assert relay.send(server.hop).status == SENT
        assert server.conns[0].got[0].split()[0] == verb


@pytest.mark.parametrize("death", ["fin", "rst", "421", "late 421",
                                   "late fin"])
def test_dead_connection_is_replaced_silently(death):
    def mail(c, line):
        if server.connections > 1 or c.got.count(line) == 1:
            return "250 Ok"
        if death == "late 421":
            c.say("421 4.4.2 timeout")
        raise EOFError

    def dot(c, line):
        if server.connections == 1:
            c.say("250 2.0.0 first")
            if death == "rst":
                c.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               b"\1\0\0\0\0\0\0\0")
                c.s.close()
            elif death == "421":
                c.say("421 4.4.2 idle")
            if not death.startswith("late"):
                raise EOFError
            return "250-"   # never sent: see below
        return "250 2.0.0 second"

    def dot_late(c, line):
        return "250 2.0.0 " + ("first" if server.connections == 1 else
                               "second")
    with Server(script(MAIL=mail, DOT=dot_late if death.startswith("late")
                       else dot)) as server, Relay() as relay:
        assert relay.send(server.hop).reason == "250 2.0.0 first"
        r = relay.send(server.hop)
        assert (r.status, r.reason) == (SENT, "250 2.0.0 second")
        assert server.connections == 2
        assert len([t for c in server.conns for t in c.texts]) == 2
        relay.settle()
        assert "lost connection" not in relay.log()
        assert "(421" not in relay.log() and " 421 " not in relay.log()


def test_lost_after_the_dot_is_not_tried_again():
    with Server(script(DOT=None)) as server, Relay() as relay:
        r = relay.send(server.hop)
        assert (r.status, r.dsn, r.trouble) == (DEFERRED, "4.4.2", LOST)
        assert "message may be sent more than once" in r.reason
        assert server.connections == 1
    # nor on a connection that was in use before
    def dot(c, line):
        return "250 Ok" if len(c.texts) == 1 else None
    with Server(script(DOT=dot)) as server, Relay() as relay:
        assert relay.send(server.hop).status == SENT
        r = relay.send(server.hop)
        assert "message may be sent more than once" in r.reason
        assert server.connections == 1


def test_many_sessions():
    n = 300
    gate = threading.Event()

    def data(c, line):
        gate.wait(60 * SLOW)
        return "354 go on"
    with Server(script(DATA=data)) as server, Relay() as relay:
        for i in range(n):
            relay.deliver(server.hop, text=SUBJECT + b"%d\r\n" % i)
        wait_for("all connections", lambda: server.connections == n, 20)
        gate.set()
        done = {relay.result(30).delivery for _ in range(n)}
        assert done == set(range(1, n + 1))
        bodies = {plain(t) for c in server.conns for t in c.texts}
        assert len(bodies) == n


def test_many_recipients():
    rcpts = [f"user{i:05d}@{'x' * 200}.example.org" for i in range(2000)]
    with Server(script(("PIPELINING",))) as server, Relay() as relay:
        r = relay.send(server.hop, rcpts=rcpts)
        assert len(r.rcpts) == 2000
        assert {x[0] for x in r.rcpts} == {SENT}
        assert [x[9:-1] for x in server.conns[0].got[2:-1]] == rcpts


def test_qmgr_gone():
    """Without a dot nothing was delivered, and nobody would know: stop.  With
    it, the reply still goes to the log."""
    for verb in ("RCPT", "DOT"):
        waiting, go_on = threading.Event(), threading.Event()

        def wait(c, line):
            waiting.set()
            go_on.wait(60 * SLOW)
            return "250 2.0.0 taken"
        with Server(script(**{verb: wait})) as server, Relay() as relay:
            relay.deliver(server.hop)
            assert waiting.wait(15 * SLOW)
            relay.qmgr.close()
            if verb == "RCPT":
                wait_for("the delivery's end", lambda:
                         relay.status()["deliveries"] == "0")
            else:
                relay.settle()
            go_on.set()
            if verb == "DOT":
                relay.wait_log("status=sent (250 2.0.0 taken)")
            wait_for("the session's end", lambda: server.ended == 1)
            assert len(server.conns[0].texts) == (verb == "DOT")


def test_retire():
    started = threading.Semaphore(0)
    slow = []

    def dot(c, line):
        started.release()
        if slow:
            time.sleep(0.5)
        return "250 2.0.0 Ok"
    with Server(script(DOT=dot)) as server, \
            Relay(smtp_connection_cache_time_limit="10s") as relay:
        relay.send(server.hop)
        assert started.acquire(timeout=15 * SLOW)
        slow.append(True)
        relay.deliver(server.hop)
        relay.deliver(server.hop)
        assert started.acquire(timeout=15 * SLOW)
        relay.control.send("RETIRE")
        # what runs, and what was on its way, is finished
        assert relay.result().status == SENT
        assert relay.result().status == SENT
        assert relay.send(server.hop).status == SENT
        assert relay.process.poll() is None
        relay.qmgr.close()
        assert relay.process.wait(30 * SLOW) == 0
        wait_for("QUIT on all", lambda: all(
            c.got[-1:] == ["QUIT"] for c in server.conns))


def test_bad_message_from_qmgr():
    with Relay() as relay:
        fd = memfd(b"x")
        relay.qmgr.send("DELIVER", b"nonsense", [fd])
        os.close(fd)
        assert relay.qmgr.receive() is None
        f = relay.control.expect("BLAME")
        assert f.u32() == os.getpid()
        assert relay.process.poll() is None


class Lookup:
    """Answers ROUTE on the relay's channel to lookup."""

    def __init__(self, relay, generation=1):
        self.chan = relay.peer("lookup", generation)

    def question(self):
        f = self.chan.expect("ROUTE")
        self.tag = f.u32()
        q = (f.u8(), f.text())
        f.done()
        return q

    def answer(self, status=1, text="", list=()):
        self.chan.send("ROUTE_IS", u32(self.tag) + u8(status) + view(text) +
                       u32(len(list)) + b"".join(
                           u16(p) + view(h) + view(
                               (b"" if a is None else socket.inet_pton(
                                   socket.AF_INET6 if ":" in a else
                                   socket.AF_INET, a)) + b"".join(
                                       n.to_bytes(2, "big") for n in port))
                           for p, h, a, *port in list))


def test_route_by_mx():
    with Server(script()) as server, Relay() as relay:
        lookup = Lookup(relay)
        relay.deliver(f"example.org:{server.port}")
        assert lookup.question() == (1, "example.org")
        lookup.answer(list=[(20, "back", "127.0.0.2"),
                            (10, "mx.example.org", "127.0.0.1")])
        r = relay.result()
        assert (r.status, r.mta) == (SENT, "mx.example.org")
        relay.wait_log(f"relay=mx.example.org[127.0.0.1]:{server.port},")
        # no question while the connection is kept
        assert relay.send(f"example.org:{server.port}").status == SENT
        relay.deliver(f"[inside]:{server.port}")
        assert lookup.question() == (0, "inside")
        lookup.answer(list=[(0, "inside", "127.0.0.1")])
        assert relay.result().status == SENT


@pytest.mark.parametrize("status,dsn,what", [
    (2, "5.4.4", BOUNCED), (3, "4.4.3", DEFERRED), (4, "5.1.0", BOUNCED),
    (1, "4.4.3", DEFERRED)])
def test_no_route(status, dsn, what):
    with Relay() as relay:
        lookup = Lookup(relay)
        relay.deliver("example.org")
        lookup.question()
        lookup.answer(status, "because")
        r = relay.result()
        assert (r.status, r.dsn, r.reason) == (what, dsn, "because")
        assert r.trouble == ROUTE


def test_no_lookup():
    with Relay() as relay:
        r = relay.send("example.org")
        assert (r.status, r.dsn, r.trouble) == (DEFERRED, "4.4.3", ROUTE)
        # one that goes away: the next is asked
        first, second = Lookup(relay, 3), Lookup(relay, 2)
        relay.deliver("example.org")
        assert first.question()
        first.chan.close()
        assert second.question()
        second.chan.close()
        assert relay.result().dsn == "4.4.3"


def test_next_server_after_a_failure():
    """4xx and lost connections go to the next server, 5xx does not; those
    that are settled are not sent again."""
    def rcpt(c, line):
        return {"b": "250 Ok", "c": "450 later", "d": "550 no"}[line[9]]
    with Server(script(RCPT=rcpt)) as first, Relay() as relay:
        # the second server has the same port on another address
        talk = script(DOT="250 2.0.0 from the second")
        second = Server.__new__(Server)
        second.__dict__.update(talk=talk, connections=0, ended=0, conns=[],
                               trouble=[], port=first.port)
        second.listener = socket.socket()
        second.listener.bind(("127.0.0.2", first.port))
        second.listener.listen(5)
        threading.Thread(target=second.accept, daemon=True).start()
        with second:
            lookup = Lookup(relay)
            relay.deliver(f"example.org:{first.port}",
                          rcpts=[x + "@example.org" for x in "bcd"])
            lookup.question()
            lookup.answer(list=[(10, "one", "127.0.0.1"),
                                (20, "two", "127.0.0.2")])
            r = relay.result()
            assert [x[0] for x in r.rcpts] == [SENT, SENT, BOUNCED]
            assert r.rcpts[1][2:] == ("250 2.0.0 from the second", "two")
            assert [x for x in second.conns[0].got if "RCPT" in x] == \
                ["RCPT TO:<c@example.org>"]
            relay.wait_log("00000000ABC: host one[127.0.0.1] said: 450 later")


def test_address_and_session_limits():
    with Server(script(MAIL="451 no")) as server, \
            Relay(smtp_mx_address_limit="3", smtp_mx_session_limit="2",
                  smtp_connection_cache_on_demand="no") as relay:
        lookup = Lookup(relay)
        relay.deliver(f"example.org:{server.port}")
        lookup.question()
        lookup.answer(list=[(i, "one", "127.0.0.1") for i in range(10)])
        assert relay.result().status == DEFERRED
        assert server.connections == 2
        relay.deliver("example.net:1")
        lookup.question()
        lookup.answer(list=[(i, "one", f"127.0.0.{i + 1}")
                            for i in range(10)])
        r = relay.result()
        assert "connect to one[127.0.0.3]:1: Connection refused" == r.reason
        relay.settle()
        assert relay.log().count("connect to one[") == 4


def test_mail_loops():
    with Relay(inet_interfaces="127.0.0.1, 127.0.0.9") as relay:
        lookup = Lookup(relay)
        for mx, dsn in (([(10, "me", "127.0.0.9")], "5.4.6"),
                        ([(10, "me", "127.0.0.9"),
                          (20, "x", "127.0.0.3")], "5.4.6"),
                        ([(5, "x", "127.0.0.3"), (10, "me", "127.0.0.9")],
                         "4.4.1")):
            relay.deliver("example.org")
            lookup.question()
            lookup.answer(list=mx)
            r = relay.result()
            assert r.dsn == dsn, r.reason
            if dsn == "5.4.6":
                assert r.reason == "mail for example.org loops back to myself"
            else:
                assert "connect to x[127.0.0.3]:25" in r.reason
        assert relay.send("[127.0.0.9]").dsn == "5.4.6"


def test_mail_loops_through_a_nat():
    """... whose address is never bound to: what is sent elsewhere comes from
    here."""
    with Server(script()) as server, \
            Relay(inet_interfaces="[::1]",
                  proxy_interfaces="192.0.2.9 [2001:db8::9]") as relay:
        lookup = Lookup(relay)
        for address in "192.0.2.9", "2001:db8::9":
            relay.deliver("example.org")
            lookup.question()
            lookup.answer(list=[(10, "me", address),
                                (20, "x", "127.0.0.3")])
            r = relay.result()
            assert (r.dsn, r.reason) == (
                "5.4.6", "mail for example.org loops back to myself")
        assert relay.send("[192.0.2.9]").dsn == "5.4.6"
        assert relay.send(server.hop).status == SENT
        assert "bind" not in relay.log()


@pytest.mark.parametrize("conf,hop,status,dsn", [
    ({}, "example.org", LOOPED, "5.4.6"),
    # a next hop before it may be back tomorrow
    ({}, "[127.0.0.1]:1, example.org", DEFERRED, "4.4.6"),
    # nothing but a mistake
    ({"relayhost": "example.org"}, "example.org", DEFERRED, "4.3.5"),
    ({"best_mx_transport": ""}, "example.org", BOUNCED, "5.4.6")])
def test_mail_that_loops_is_passed(conf, hop, status, dsn):
    """... by qmgr, to best_mx_transport: nothing is wrong with the next hop,
    and nothing has become of the recipients yet."""
    with Relay(**{"inet_interfaces": "127.0.0.1, 127.0.0.9",
                  "best_mx_transport": "local", **conf}) as relay:
        lookup = Lookup(relay)
        relay.deliver(hop, rcpts=("a@example.org", "b@example.org"))
        lookup.question()
        lookup.answer(list=[(10, "me", "127.0.0.9")])
        r = relay.result()
        assert [x[:2] for x in r.rcpts] == [(status, dsn)] * 2
        assert all("mail for example.org loops back to myself" in x[2]
                   for x in r.rcpts)
        assert r.trouble == (NONE if status == LOOPED else ROUTE)
        assert (" to=<" in relay.log()) == (status != LOOPED)


def second_server(first, talk):
    """A server with the port of the first on another address."""
    second = Server.__new__(Server)
    second.__dict__.update(talk=talk, connections=0, ended=0, conns=[],
                           trouble=[], port=first.port,
                           hop=f"[127.0.0.2]:{first.port}")
    second.listener = socket.socket()
    second.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    second.listener.bind(("127.0.0.2", first.port))
    second.listener.listen(5)
    threading.Thread(target=second.accept, daemon=True).start()
    return second


def test_mx_before_ours_without_address():
    """Not a loop: the MX that is preferred to us cannot be found today."""
    with Relay(inet_interfaces="127.0.0.1, 127.0.0.9",
               smtp_fallback_relay="[127.0.0.1]:1") as relay:
        lookup = Lookup(relay)
        relay.deliver("example.org")
        lookup.question()
        lookup.answer(list=[(5, "primary", None), (10, "me", "127.0.0.9")])
        r = relay.result()
        assert (r.dsn, r.reason) == (
            "4.4.4", "unable to find primary relay for example.org")


MX, NATIVE, NO_DNS, IGNORE_MX, DEFER_MX, SRV, SRV_FALLBACK, IGNORE_SRV = (
    1 << i for i in range(8))


@pytest.mark.parametrize("conf,domain,host", [
    ({}, MX, 0),
    ({"smtp_dns_support_level": "enabled", "disable_dns_lookups": "yes"},
     MX, 0),
    ({"smtp_dns_support_level": "dnssec"}, MX, 0),
    ({"smtp_dns_support_level": "disabled"}, NO_DNS, NO_DNS),
    ({"disable_dns_lookups": "yes"}, NO_DNS, NO_DNS),
    ({"smtp_host_lookup": "native"}, MX | NATIVE | NO_DNS, NATIVE | NO_DNS),
    ({"smtp_host_lookup": "dns, native"}, MX | NATIVE, NATIVE),
    ({"ignore_mx_lookup_error": "yes"}, MX | IGNORE_MX, IGNORE_MX),
    ({"smtp_defer_if_no_mx_address_found": "yes"}, MX | DEFER_MX, DEFER_MX),
    ({"use_srv_lookup": "submission"}, MX, 0)])
def test_how_names_are_looked_up(conf, domain, host):
    with Relay(**conf) as relay:
        lookup = Lookup(relay)
        for hop, question in (("example.org", (domain, "example.org")),
                              ("[host]", (host, "host"))):
            relay.deliver(hop)
            assert lookup.question() == question
            lookup.answer(2, "no")
            relay.result()


def test_srv():
    with Server(script()) as server, \
            Relay(use_srv_lookup="submission, smtp",
                  allow_srv_lookup_fallback="yes",
                  ignore_srv_lookup_error="yes") as relay:
        lookup = Lookup(relay)
        both = SRV_FALLBACK | IGNORE_SRV
        for hop, question in (
                ("example.org:submission",
                 (both | MX | SRV, "submission:example.org")),
                ("example.net", (both | MX | SRV, "smtp:example.net")),
                ("example.org:smtps", (both | MX, "example.org")),
                ("example.org:587", (both | MX, "example.org")),
                ("[host]:submission", (both, "host"))):
            relay.deliver(hop)
            assert lookup.question() == question
            lookup.answer(2, "no")
            relay.result()
        # the port comes with the address, and each has its own
        relay.deliver("example.org:submission")
        lookup.question()
        lookup.answer(list=[(0, "one", "127.0.0.1", free_port()),
                            (1, "two", "127.0.0.1", server.port)])
        assert relay.result().status == SENT
        relay.wait_log(f"relay=two[127.0.0.1]:{server.port},")


def test_an_mx_has_no_fallback():
    """Mail of a domain whose MX we are does not leave it, and a loop does not
    go round by way of the fallback."""
    with Server(script()) as server, \
            Relay(inet_interfaces="127.0.0.1, 127.0.0.9",
                  smtp_fallback_relay=server.hop) as relay:
        lookup = Lookup(relay)
        for mx, dsn in (([(10, "me", "127.0.0.9")], "5.4.6"),
                        ([(5, "x", "127.0.0.3"), (10, "me", "127.0.0.9")],
                         "4.4.1")):
            relay.deliver("example.org")
            lookup.question()
            lookup.answer(list=mx)
            assert relay.result().dsn == dsn
        assert server.connections == 0
        relay.deliver("example.org")
        lookup.question()
        lookup.answer(2, "not found")
        assert relay.result().status == SENT


def test_several_next_hops():
    def rcpt(c, line):
        return {"b": "250 Ok", "c": "450 later", "d": "550 no"}[line[9]]
    rcpts = [x + "@example.org" for x in "bcd"]
    with Server(script(RCPT=rcpt)) as first, Relay() as relay:
        dead = f"[127.0.0.1]:{free_port()}"
        with second_server(first, script()) as second:
            for text in (f"{dead}, {first.hop}, {second.hop}",
                         f"{dead} [ {first.hop},{second.hop},"):
                r = relay.send(text, rcpts=rcpts)
                assert [x[0] for x in r.rcpts] == [SENT, SENT, BOUNCED], text
                assert r.trouble == NONE
            # the second message goes over the connections of the first
            assert (first.connections, second.connections) == (1, 1)
            assert [x for x in second.conns[0].got if "RCPT" in x] == \
                ["RCPT TO:<c@example.org>"] * 2
        r = relay.send(f"{dead}, [127.0.0.1]:{free_port()}")
        assert (r.status, r.dsn, r.trouble) == (DEFERRED, "4.4.1", CONNECT)


def test_names_that_do_not_exist_here():
    """One next hop of several that is down may be the right one; a relayhost
    that is not there is a mistake of ours."""
    with Relay(relayhost="[typo]") as relay:
        lookup = Lookup(relay)
        relay.deliver(f"[127.0.0.1]:{free_port()}, [gone]")
        lookup.question()
        lookup.answer(2, "not found")
        r = relay.result()
        assert (r.status, r.dsn, r.reason) == (DEFERRED, "4.4.4", "not found")
        relay.deliver("[typo]")
        lookup.question()
        lookup.answer(2, "not found")
        r = relay.result()
        assert (r.status, r.dsn) == (DEFERRED, "4.3.5")
        assert r.reason == "relayhost configuration problem: not found"
    with Relay(smtp_fallback_relay="[typo]") as relay:
        lookup = Lookup(relay)
        relay.deliver("example.org")
        for _ in range(2):
            lookup.question()
            lookup.answer(2, "not found")
        r = relay.result()
        assert (r.status, r.dsn) == (DEFERRED, "4.3.5")
        assert "smtp_fallback_relay configuration problem" in r.reason


@pytest.mark.parametrize("skip,status,trouble", [
    ("yes", DEFERRED, CONNECT), ("no", BOUNCED, CONNECT)])
def test_5xx_greeting(skip, status, trouble):
    with Server(lambda c: c.say("554 5.7.1 go away")) as server, \
            Relay(smtp_skip_5xx_greeting=skip) as relay:
        r = relay.send(server.hop)
        assert (r.status, r.trouble) == (status, trouble)
        assert "554 5.7.1 go away" in r.reason


def test_quit_response_is_not_waited_for():
    def quit(c, line):
        c.rest()
        raise EOFError
    for skip, left in (("yes", "0"), ("no", "1")):
        with Server(script(QUIT=quit)) as server, \
                Relay(smtp_skip_quit_response=skip, smtp_quit_timeout="100s",
                      smtp_connection_cache_on_demand="no") as relay:
            assert relay.send(server.hop).status == SENT
            wait_for("QUIT", lambda: "QUIT" in server.conns[0].got)
            wait_for("sessions",
                     lambda: relay.status()["sessions"] == left)


def test_families():
    with Server(script()) as server, Relay(inet_protocols="ipv4") as relay:
        lookup = Lookup(relay)
        relay.deliver(f"[x]:{server.port}")
        lookup.question()
        lookup.answer(list=[(0, "x", "::1"), (0, "x", "127.0.0.1")])
        assert relay.result().status == SENT
        relay.deliver("[y]:1")
        lookup.question()
        lookup.answer(list=[(0, "y", "::1")])
        assert relay.result().dsn == "4.4.4"
    with Server(script()) as server, \
            Relay(smtp_bind_address="127.0.0.7") as relay:
        assert relay.send(server.hop).status == SENT
        assert server.conns[0].s.getpeername()[0] == "127.0.0.7"
    with Server(script()) as server, \
            Relay(smtp_bind_address="192.0.2.1") as relay:
        assert relay.send(server.hop).status == SENT
        relay.wait_log("bind to 192.0.2.1: Cannot assign requested address")
    # an address that is not ours is no trouble of the server
    with Relay(smtp_bind_address="192.0.2.1",
               smtp_bind_address_enforce="yes") as relay:
        r = relay.send("[127.0.0.1]:9")
        assert (r.dsn, r.trouble) == ("4.3.0", NONE)
        assert "Cannot assign requested address" in r.reason


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_in_the_jail():
    with Server(script(("PIPELINING",))) as server, \
            Relay(jailed=True, user="nobody", root="/var/empty" if
                  os.path.isdir("/var/empty") else "/usr/share/empty" if
                  os.path.isdir("/usr/share/empty") else "/proc/self/fdinfo",
                  smtp_bind_address="127.0.0.1") as relay:
        assert relay.send(server.hop, text=b"x\r\n" * 100000).status == SENT
        assert relay.send(f"[127.0.0.1]:{free_port()}").status == DEFERRED
        fd = memfd(SUBJECT)
        assert relay.send(server.hop, fd=fd, size=1000).dsn == "4.3.0"
        os.close(fd)


def proxy_mail(relay, fd, hop, ehlo="gw.example", ms=5000, rcpts=("b@e.org",)):
    relay.qmgr.send(
        "PROXY_MAIL", u64(0xABC) + view(hop) + view(ehlo) + u64(ms) + u64(0) +
        u64(os.fstat(fd).st_size) + view(b"") +
        view(envelope("a@example.com", rcpts, 0)), [fd])


@pytest.mark.parametrize("bad", [
    {"ehlo": "x" * 300}, {"ms": 0}, {"ms": 1 << 63}, {"rcpts": ()}])
def test_bad_mail_for_a_filter(bad):
    with Relay() as relay:
        fd = memfd(SUBJECT)
        proxy_mail(relay, fd, "[127.0.0.1]:1", **bad)
        os.close(fd)
        assert relay.qmgr.receive() is None
        assert relay.control.expect("BLAME").u32() == os.getpid()
        assert relay.process.poll() is None


def test_mail_for_a_filter_that_can_be_changed():
    with Relay() as relay:
        fd = os.memfd_create("open", os.MFD_ALLOW_SEALING)
        os.write(fd, SUBJECT)
        proxy_mail(relay, fd, "[127.0.0.1]:1")
        os.close(fd)
        assert relay.qmgr.receive() is None
        assert relay.control.expect("BLAME").u32() == os.getpid()


def test_filter_that_is_not_there():
    with Relay() as relay:
        fd = memfd(SUBJECT)
        proxy_mail(relay, fd, "[127.0.0.1]:1")
        os.close(fd)
        f = relay.qmgr.expect("PROXY_SAID")
        assert f.u64() == 0xABC and f.u16() == 0
        assert relay.status()["deliveries"] == "0"


def test_deadline_of_a_delivery():
    """Every step is in time; all of them together are not."""
    def slow(c, line):
        time.sleep(0.3)
        return "250 2.1.5 Ok"
    rcpts = [f"u{i}@example.org" for i in range(10)]
    with Server(script(RCPT=slow)) as server, Relay() as relay:
        relay.deliver(server.hop, rcpts=rcpts, limit=1)
        r = relay.result()
        assert r.trouble == LOST
        assert {(s, dsn) for s, dsn, _, _ in r.rcpts} == {
            (DEFERRED, "4.4.2")}
        assert {why for _, _, why, _ in r.rcpts} == {
            "delivery took longer than 1 s"}
        wait_for("the end of the connection", lambda: server.ended == 1)
        assert relay.status()["deliveries"] == "0"
        # another one is not in its way
        assert relay.send(server.hop, limit=60).status == SENT


def test_deadline_while_the_text_trickles():
    """A server that reads a little now and then keeps a session alive."""
    def talk(c):
        c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.say("220 inside ESMTP")
        while True:
            line = c.line()
            if line == "DATA":
                c.say("354 go on")
                while c.s.recv(1000):
                    time.sleep(0.01)
                return
            c.say("250 Ok")
    with Server(talk) as server, Relay() as relay:
        relay.deliver(server.hop, text=SUBJECT + b"x" * 70 * 200000 + b"\r\n",
                      limit=2)
        r = relay.result()
        assert (r.status, r.dsn, r.reason) == (
            DEFERRED, "4.4.2", "delivery took longer than 2 s")


def test_deadline_without_a_session():
    """While the addresses of a next hop are waited for."""
    with Relay() as relay:
        relay.peer("lookup")
        relay.deliver("nowhere.example", limit=0.5)
        r = relay.result()
        assert (r.status, r.dsn) == (DEFERRED, "4.4.2")
        assert relay.status()["deliveries"] == "0"


def test_deadline_that_is_none():
    for limit in (0, 1 << 50):
        with Relay() as relay:
            relay.deliver("[127.0.0.1]:1", limit=limit)
            assert relay.qmgr.receive() is None
            assert relay.control.expect("BLAME").u32() == os.getpid()


def test_deadline_of_a_filter():
    def slow(c, line):
        time.sleep(0.15)
        return "250 2.1.5 Ok"
    with Server(script(RCPT=slow)) as server, Relay() as relay:
        fd = memfd(SUBJECT)
        proxy_mail(relay, fd, server.hop, ms=200,
                   rcpts=[f"u{i}@example.org" for i in range(20)])
        os.close(fd)
        f = relay.qmgr.expect("PROXY_SAID")
        assert f.u64() == 0xABC and f.u16() == 0
        f.text()
        assert f.text() == "delivery took longer than 1 s"
        assert relay.status()["deliveries"] == "0"
