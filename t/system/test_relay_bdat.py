"""Texts that are sent in chunks (RFC 3030) to servers that offer CHUNKING:
what they get is what DATA brings, and what they say of each chunk counts."""
import os
import re
import socket

import pytest
from postern import wait_for
from test_lmtp import THREE, outcome
from test_relay import (BOUNCED, DEFERRED, LOST, NONE, SENT, SUBJECT, Relay,
                        Server, plain, script)
from role_driver import edits, memfd

OK = "250 2.0.0 Ok: queued as 123"
BOTH = ("CHUNKING", "PIPELINING")
LINES = b"".join(b"%070d\r\n" % i for i in range(4000))     # five chunks
TRAP = (b"Subject: trap\r\n\r\n.\r\n..\r\n.x\r\nMAIL FROM:<x@y.example>\r\n"
        b"RCPT TO:<b@example.org>\r\nBDAT 5 LAST\r\nQUIT\r\nRSET\r\n")


def octets(c, n):
    while len(c.buf) < n:
        piece = c.s.recv(65536)
        if not piece:
            raise EOFError
        c.buf += piece
    got, c.buf = c.buf[:n], c.buf[n:]
    return got


def chunks(said=None, last=OK, keywords=BOTH, **replies):
    """talk() of a server: said(k) answers the k-th chunk of a message, of one
    with more; last, or what it returns, the last one.  None closes."""
    def bdat(c, line):
        n, *rest = line.split()[1:]
        assert rest in ([], ["LAST"]), line
        c.text_ += octets(c, int(n))
        c.chunk += 1
        if not rest:
            return (said and said(c.chunk)) or "250 2.0.0 %s octets" % n
        c.texts.append(c.text_)
        c.text_, c.chunk = b"", 0
        return last(c) if callable(last) else last

    def mail(c, line):
        c.text_, c.chunk = b"", 0
        return "250 2.1.0 Ok"
    return script(keywords, **{"BDAT": bdat, "MAIL": mail, **replies})


def verbs(c):
    return [line.split(" ")[0] for line in c.got]


@pytest.mark.parametrize("keywords", [BOTH, ("CHUNKING",)])
def test_one_chunk(keywords):
    with Server(chunks(keywords=keywords)) as server, Relay() as relay:
        r = relay.send(server.hop, text=SUBJECT + b".\r\n..\r\nno end")
        assert (r.status, r.dsn, r.reason, r.trouble) == \
            (SENT, "2.0.0", OK, NONE)
        c = server.conns[0]
        want = SUBJECT + b".\r\n..\r\nno end\r\n"
        assert c.texts == [want]
        assert c.got[1:] == ["MAIL FROM:<a@example.com>",
                             "RCPT TO:<b@example.org>",
                             "BDAT %d LAST" % len(want)]
        # the session is whole, and there is no RSET between messages
        assert relay.send(server.hop, text=b"").status == SENT
        assert c.got[-1] == "BDAT 0 LAST" and c.texts[1] == b""
        assert relay.send(server.hop, text=TRAP).status == SENT
        assert c.texts[2] == TRAP
        assert server.connections == 1 and "RSET" not in verbs(c)


@pytest.mark.parametrize("keywords", [BOTH, ("CHUNKING",)])
def test_several_chunks(keywords):
    text = SUBJECT + LINES
    with Server(chunks(keywords=keywords)) as server, Relay() as relay:
        assert relay.send(server.hop, text=text).reason == OK
        c = server.conns[0]
        assert c.texts == [text]
        assert verbs(c).count("BDAT") == 5
        sizes = [int(line.split()[1]) for line in c.got
                 if line.startswith("BDAT")]
        assert min(sizes[:-1]) >= 65536 and sum(sizes) == len(text)
        relay.idle()


def test_waits_without_pipelining():
    """The next chunk, or a first one, does not come before the reply."""
    seen = []

    def alone(reply):
        def say(c, line):
            seen.append(c.buf)
            c.s.settimeout(0.1)
            try:
                c.buf += c.s.recv(1)
            except TimeoutError:
                pass
            c.s.settimeout(20)
            seen.append(c.buf)
            return reply
        return say

    def talk(c):
        def said(k):
            alone("")(c, "")
        chunks(said, keywords=("CHUNKING",), RCPT=alone("250 2.1.5 Ok"))(c)
    with Server(talk) as server, Relay() as relay:
        assert relay.send(server.hop, text=SUBJECT + LINES).status == SENT
        assert len(seen) == 10 and not any(seen)


def test_first_chunk_waits_for_recipients():
    with Server(chunks(RCPT=lambda c, line: [
            c.s.settimeout(0.1), pytest.raises(TimeoutError, octets, c, 1),
            c.s.settimeout(20), "250 Ok"][-1])) as server, Relay() as relay:
        assert relay.send(server.hop).status == SENT
    with Server(chunks(RCPT="550 5.1.1 no")) as server, Relay() as relay:
        assert relay.send(server.hop, text=LINES).status == BOUNCED
        relay.idle()
        wait_for("RSET", lambda: "RSET" in verbs(server.conns[0]))
        assert verbs(server.conns[0]) == ["EHLO", "MAIL", "RCPT", "RSET"]

    def rcpt(c, line):
        return "550 5.1.1 no" if "<b@" in line else "250 2.1.5 Ok"
    with Server(chunks(RCPT=rcpt)) as server, Relay() as relay:
        assert outcome(relay.send(server.hop, rcpts=THREE)) == [
            (SENT, "2.0.0"), (BOUNCED, "5.1.1"), (SENT, "2.0.0")]


# Both ways through the same: what a receiver stores.
TEXTS = [b"", b".", b"\r", b"\n", b"a\r\n.\r\nb", b"a\n.\nb\r.\rc",
         b"\r\n.\r\n.\r\n", TRAP, b"x" * 70000, b"." * 70000 + b"\r\n",
         b"\xc3\xa4" * 40000, b"a\r" * 70000, LINES[:65536], LINES[:65537],
         LINES[:131072], b"z" * 65535 + b"\r\n.\r\n", b"\0\xff\r\n\0.\r\n"]


def test_the_same_as_by_data():
    stored = []
    for chunking in "yes", "no":
        with Server(chunks()) as server, \
                Relay(smtp_chunking_enable=chunking) as relay:
            for t in TEXTS:
                assert relay.send(server.hop, text=t).status == SENT
            got = server.conns[0].texts
            assert ("DATA" in verbs(server.conns[0])) == (chunking == "no")
            stored.append([plain(t) for t in got] if chunking == "no" else
                          got)
    assert stored[0] == stored[1] and len(stored[0]) == len(TEXTS)


@pytest.mark.parametrize("conf", [
    dict(smtp_chunking_enable="no"),
    dict(smtp_discard_ehlo_keywords="chunking"),
    dict(smtp_discard_ehlo_keyword_address_maps=
         "inline:{ {127.0.0.1 = Chunking} }")])
def test_ways_out(conf):
    with Server(chunks()) as server, Relay(**conf) as relay:
        assert relay.send(server.hop).status == SENT
        assert verbs(server.conns[0])[-1] == "DATA"


def test_not_behind_a_pix_firewall():
    with Server(chunks(greeting="220 " + "*" * 40)) as server, \
            Relay(smtp_pix_workarounds="delay_dotcrlf") as relay:
        assert relay.send(server.hop).status == SENT
        assert verbs(server.conns[0])[-1] == "DATA"


@pytest.mark.parametrize("reply,status,dsn", [
    ("451 4.7.1 greylisted", DEFERRED, "4.7.1"),
    ("554 5.7.1 spam", BOUNCED, "5.7.1"),
    ("503 5.5.1 what?", BOUNCED, "5.5.1")])
def test_refused_at_the_last(reply, status, dsn):
    """RFC 3030 leaves the session's state open, so RSET comes first."""
    for text, keywords in (SUBJECT, BOTH), (LINES, ("CHUNKING",)):
        with Server(chunks(last=reply, keywords=keywords)) as server, \
                Relay() as relay:
            r = relay.send(server.hop, text=text)
            assert (r.status, r.dsn) == (status, dsn)
            assert f"said: {reply} (in reply to BDAT LAST command)" in \
                r.reason
            relay.idle()
            assert verbs(server.conns[0])[-1] == "RSET"
            assert relay.send(server.hop).dsn == dsn
            assert server.connections == 1


@pytest.mark.parametrize("which", [1, 2, 4])
@pytest.mark.parametrize("reply,status,dsn", [
    ("452 4.3.1 full", DEFERRED, "4.3.1"),
    ("552 5.3.4 too big", BOUNCED, "5.3.4"),
    ("421 4.3.2 closing", DEFERRED, "4.3.2")])
def test_refused_chunk(which, reply, status, dsn):
    """No other chunk follows; what waits for no other reply goes on."""
    def said(k):
        return reply if k == which else None
    with Server(chunks(said, keywords=("CHUNKING",))) as server, \
            Relay() as relay:
        r = relay.send(server.hop, text=LINES)
        assert (r.status, r.dsn) == (status, dsn)
        assert "(in reply to BDAT command)" in r.reason
        c = server.conns[0]
        if reply.startswith("421"):
            wait_for("the end", lambda: server.ended == 1)
        else:
            relay.idle()
            assert relay.send(server.hop).status == SENT
            assert server.connections == 1
            assert verbs(c)[-4:] == ["RSET", "MAIL", "RCPT", "BDAT"]
        assert verbs(c).count("BDAT") == which + (reply[:3] != "421")
    # others are on their way: the connection is of no use any more
    with Server(chunks(said)) as server, Relay() as relay:
        r = relay.send(server.hop, text=LINES)
        assert (r.status, r.dsn) == (status, dsn)
        wait_for("the end", lambda: server.ended == 1)
        assert relay.status()["sessions"] == "0"


def test_refusal_in_the_middle_of_a_chunk():
    """Without reading it, as RFC 3030 would have it."""
    def bdat(c, line):
        octets(c, 1000)
        c.say("552 5.3.4 too much")
        raise EOFError
    with Server(chunks(BDAT=bdat)) as server, Relay() as relay:
        r = relay.send(server.hop, text=b"x" * 20000000)
        assert (r.status, r.dsn) == (BOUNCED, "5.3.4")


@pytest.mark.parametrize("where", ["chunk", "reply", "last"])
def test_connection_lost(where):
    def bdat(c, line):
        if where == "chunk":
            octets(c, 1000)
            raise EOFError
        octets(c, int(line.split()[1]))
        if where == "reply" or line.endswith("LAST"):
            raise EOFError
        return "250 Ok"
    with Server(chunks(BDAT=bdat, keywords=("CHUNKING",))) as server, \
            Relay() as relay:
        r = relay.send(server.hop, text=LINES)
        assert (r.status, r.dsn, r.trouble) == (DEFERRED, "4.4.2", LOST)
        assert ("sending end of data" if where == "last" else
                "sending message body") in r.reason


def test_silent_server():
    def bdat(c, line):
        c.rest()
    with Server(chunks(BDAT=bdat, keywords=("CHUNKING",))) as server, \
            Relay(smtp_data_xfer_timeout="1s") as relay:
        r = relay.send(server.hop, text=LINES)
        assert (r.status, r.dsn) == (DEFERRED, "4.4.2")
        assert "timed out while sending message body" in r.reason


@pytest.mark.parametrize("at", ["RCPT", "chunk", "last"])
def test_a_reply_too_many_never_counts_as_sent(at):
    """What was there before a chunk is no reply to it."""
    def said(k):
        return "250 Ok\r\n250 Ok" if at == "chunk" and k == 1 else None
    two = "250 Ok\r\n250 Ok"
    for keywords in BOTH, ("CHUNKING",):
        with Server(chunks(said, keywords=keywords,
                           last=two if at == "last" else OK,
                           **({"RCPT": two} if at == "RCPT" else {}))) as s, \
                Relay() as relay:
            r = relay.send(s.hop, text=LINES)
            if at == "last":
                assert r.status == SENT
                wait_for("the end", lambda: s.ended == 1)
            elif at == "chunk" and keywords == BOTH:
                # All was under way: one too many in the end.
                assert r.status in (SENT, DEFERRED)
                wait_for("the end", lambda: s.ended == 1)
            else:
                assert (r.status, r.dsn) == (DEFERRED, "4.5.0")
                assert not s.conns[0].texts


def test_replies_to_chunks_that_were_never_sent():
    def bdat(c, line):
        c.say(*["250 Ok"] * 5000)
        while c.s.recv(65536):
            pass
    with Server(chunks(BDAT=bdat)) as server, Relay() as relay:
        r = relay.send(server.hop, text=b"x" * 50000000)
        assert (r.status, r.dsn) == (DEFERRED, "4.5.0")


@pytest.mark.parametrize("reply", ["500 5.5.2 what?",
                                   "502 5.5.1 not implemented"])
@pytest.mark.parametrize("text", [TRAP, LINES], ids=["short", "long"])
def test_server_that_does_not_know_bdat(reply, text):
    """And takes the chunk for commands: at once another connection, and never
    another chunk for it."""
    with Server(chunks(BDAT=reply)) as server, Relay() as relay:
        assert relay.send(server.hop, text=text).reason == OK
        first, second = server.conns
        assert "BDAT" in verbs(first) and not first.texts
        assert verbs(second) == ["EHLO", "MAIL", "RCPT", "DATA"]
        assert plain(second.texts[0]) == text
        relay.wait_log(f"warning: host 127.0.0.1[127.0.0.1]:{server.port} "
                       "offers CHUNKING, but does not know BDAT; it gets DATA")
        relay.send(server.hop)
        relay.send(server.hop, transport="smtp")
        assert not any("BDAT" in verbs(c) for c in server.conns[1:])


def lmtp(*after, said=None, rcpt=None):
    return chunks(said, last="\r\n".join(after), EHLO="500 no",
                  LHLO="250-x\r\n250-CHUNKING\r\n250 PIPELINING",
                  **({"RCPT": rcpt} if rcpt else {}))


def test_lmtp_has_a_reply_for_each_recipient():
    for text in SUBJECT, LINES:
        with Server(lmtp(OK, "452 4.2.2 full", "550 5.7.1 no")) as s, \
                Relay(lmtp=True) as r:
            got = r.send("inet:" + s.hop, rcpts=THREE, text=text)
            assert outcome(got) == [(SENT, "2.0.0"), (DEFERRED, "4.2.2"),
                                    (BOUNCED, "5.7.1")]
            assert "(in reply to BDAT LAST command)" in got.rcpts[1][2]
            assert s.conns[0].texts == [text]
            r.idle()


def test_lmtp_those_refused_before_get_no_reply():
    def rcpt(c, line):
        return "550 5.1.1 who?" if "<b@" in line else "250 2.1.5 Ok"
    with Server(lmtp("450 4.0.0 later", OK, rcpt=rcpt)) as s, \
            Relay(lmtp=True) as r:
        assert outcome(r.send(s.hop, rcpts=THREE)) == [
            (DEFERRED, "4.0.0"), (BOUNCED, "5.1.1"), (SENT, "2.0.0")]
        r.idle()


def test_lmtp_refused_chunk_and_no_fallback_among_replies():
    """A chunk has one reply; 500 among those of recipients is for one."""
    with Server(lmtp(OK, said=lambda k: "552 5.3.4 no" if k == 2 else
                     None)) as s, Relay(lmtp=True) as r:
        assert outcome(r.send(s.hop, rcpts=THREE, text=LINES)) == \
            [(BOUNCED, "5.3.4")] * 3
    with Server(lmtp("500 5.5.2 what?", OK, OK)) as s, Relay(lmtp=True) as r:
        assert outcome(r.send(s.hop, rcpts=THREE)) == [
            (BOUNCED, "5.5.2"), (SENT, "2.0.0"), (SENT, "2.0.0")]
        assert s.connections == 1
    with Server(lmtp(OK)) as s, Relay(lmtp=True,
                                      smtp_chunking_enable="no") as r:
        assert r.send(s.hop).status == SENT
        assert re.search("DATA$", s.conns[0].got[-1])


def test_edits_in_chunks():
    text = b"Received: x\r\nSubject: worm\r\n\r\n" + b"line\r\n" * 20000
    edit = edits((0, 0, "X-First: 1\r\n"), (13, 15, "Subject: .\r\n"),
                 (len(text), 0, ".last"))
    with Server(chunks()) as server, Relay() as relay:
        assert relay.send(server.hop, text=text, edit=edit).status == SENT
        assert server.conns[0].texts == [
            b"X-First: 1\r\nReceived: x\r\nSubject: .\r\n\r\n" +
            b"line\r\n" * 20000 + b".last\r\n"]


@pytest.mark.parametrize("there", [SUBJECT, LINES], ids=["none", "some"])
def test_text_shorter_than_told(there):
    """No last chunk: half a message is none."""
    with Server(chunks()) as server, Relay() as relay:
        fd = memfd(there)
        r = relay.send(server.hop, fd=fd, size=len(there) + 100000)
        os.close(fd)
        assert (r.status, r.dsn) == (DEFERRED, "4.3.0")
        assert "local data error" in r.reason
        wait_for("the session's end", lambda: server.ended == 1)
        c = server.conns[0]
        assert c.texts == [] and not any("LAST" in line for line in c.got)


def test_next_server_after_a_refused_chunk():
    """What one server puts off, the other one gets whole."""
    later = chunks(lambda k: "452 4.3.1 full" if k == 2 else None)
    with Server(later) as first, Server(chunks()) as second, \
            Relay() as relay:
        assert relay.send(f"{first.hop}, {second.hop}", text=LINES).status == \
            SENT
        assert second.conns[0].texts == [LINES]


def test_slow_reader_gets_it_all():
    def bdat(c, line):
        n, got = int(line.split()[1]), 0
        while got < n:
            got += len(octets(c, min(4096, n - got)))
        return OK

    def talk(c):
        c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        chunks(BDAT=bdat)(c)
    with Server(talk) as server, Relay() as relay:
        assert relay.send(server.hop, text=LINES * 20).status == SENT
