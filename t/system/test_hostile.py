"""Next hops that misbehave, behind a whole gateway: no message is lost, none
comes twice, the others do not wait, and nothing grows without end."""
import re
import socket
import threading
import time

import pytest
from postern import SAN, SLOW, mail, wait_for
from test_relay import Server, script

MESSAGES = 12
# Long enough for whoever answers at all.
LIMITS = {"smtp_%s_timeout" % name: "1500ms" for name in (
    "connect", "helo", "mail", "rcpt", "data_init", "data_xfer", "data_done",
    "rset", "quit")}


def silent(c, line=None):
    c.rest()
    raise EOFError


def reset(c, line=None):
    c.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    raise EOFError


def endless(what):
    def say(c, line=None):
        while True:
            c.s.sendall(what)
    return say


def slowly(c, line=None):
    while True:
        c.s.sendall(b"2")
        time.sleep(0.1)


def greeting(what):
    def talk(c):
        what(c)
    return talk


def by_bytes(c):
    """Right, but a byte at a time."""
    c.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    send = c.s.sendall

    def say(*lines):
        for b in "".join(x + "\r\n" for x in lines).encode():
            send(bytes([b]))
    c.say = say
    script(("PIPELINING",))(c)


# name, talk(), what becomes of mail while it lasts: deferred, bounced, sent
BEHAVIOURS = [
    ("no greeting", greeting(silent), "deferred"),
    ("reset at once", greeting(reset), "deferred"),
    ("endless greeting", greeting(endless(b"220-hello\r\n" * 1000)),
     "deferred"),
    ("endless line", greeting(endless(b"220 hello " * 1000)), "deferred"),
    ("slow greeting", greeting(slowly), "deferred"),
    ("garbage", greeting(endless(bytes(range(256)) * 100)), "deferred"),
    ("greeting 421", script(greeting="421 4.3.2 busy"), "deferred"),
    ("EHLO of many lines", script(("X-MUCH",) * 5000), "either"),
    ("endless EHLO", script(EHLO=endless(b"250-X\r\n" * 1000)), "deferred"),
    ("EHLO 421", script(EHLO="421 4.3.2 no", HELO="421 4.3.2 no"),
     "deferred"),
    ("MAIL 421", script(MAIL="421 4.3.2 no"), "deferred"),
    ("RCPT 421", script(RCPT="421 4.3.2 no"), "deferred"),
    ("DATA 421", script(DATA="421 4.3.2 no"), "deferred"),
    ("dot 421", script(DOT="421 4.3.2 no"), "deferred"),
    ("silent after MAIL", script(MAIL=silent), "deferred"),
    ("silent after DATA", script(DATA=silent), "deferred"),
    ("silent after the dot", script(DOT=silent), "deferred"),
    ("reset after the dot", script(DOT=reset), "deferred"),
    ("closed after the dot", script(DOT=None), "deferred"),
    ("endless reply to the dot", script(DOT=endless(b"250-Ok\r\n" * 1000)),
     "deferred"),
    ("slow reply to the dot", script(DOT=slowly), "deferred"),
    ("dot 451", script(DOT="451 4.7.1 later"), "deferred"),
    ("dot 554", script(DOT="554 5.7.1 never"), "bounced"),
    ("DATA 554", script(("PIPELINING",), DATA="554 5.5.1 no"), "bounced"),
    ("all recipients 550", script(("PIPELINING",), RCPT="550 5.1.1 no"),
     "bounced"),
    ("a reply too early", script(DATA="354 go\r\n250 2.0.0 Ok"), "deferred"),
    ("binary after the dot", script(DOT="\0\1\2\3"), "deferred"),
    ("a code of two digits", script(DOT="25 Ok"), "deferred"),
    ("byte by byte", by_bytes, "sent"),
]
SHORT = {"no greeting", "endless greeting", "silent after the dot",
         "reset after the dot", "dot 554", "a reply too early",
         "byte by byte"}


class Hostile:
    """A server whose behaviour can be changed; ours knows what it took."""

    def __init__(self):
        self.talk = None
        self.most = self.now = 0
        self.lock = threading.Lock()
        self.server = Server(self.serve)

    def serve(self, c):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            self.talk(c)
        except OSError:
            pass
        finally:
            with self.lock:
                self.now -= 1

    def become(self, talk):
        """From now on; sessions that are kept end."""
        self.talk = talk
        for c in self.server.conns:
            try:
                c.s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def subjects(self, first=0):
        """Of the whole texts, from the connection first on."""
        return [re.search(rb"(?m)^Subject: (.*?)\r$", t).group(1).decode()
                for c in self.server.conns[first:] for t in c.texts
                if b"Subject:" in t]


def memory(gw, role):
    """Kilobytes, of the largest."""
    most = 0
    for pid in gw.pids(role):
        with open(f"/proc/{pid}/status") as f:
            most = max(most, int(re.search(r"VmRSS:\s+(\d+)",
                                           f.read()).group(1)))
    return most


def gateway(make, sink, hostile):
    gw = make(sink, start=False, main={
        **LIMITS, "transport_maps": "texthash:$config_directory/routes",
        "mynetworks": "127.0.0.0/8", "minimal_backoff_time": "1h",
        "maximal_backoff_time": "1h", "smtpd_error_sleep_time": "0"})
    gw.write("routes",
             f"bad.example smtp:[127.0.0.1]:{hostile.server.port}\n"
             f"client.example smtp:[127.0.0.1]:{sink.port}\n")
    gw.start()
    return gw


def statuses(gw, ids, wanted):
    text = gw.log()
    found = {}
    for qid, status in re.findall(
            r": ([0-9A-F]{11}): to=<u@bad\.example>.* status=(\w+)", text):
        found[qid] = status
    return [found[q] for q in ids if q in found and (
        wanted == "either" or found[q] == wanted)]


def flush(gw, count):
    """When so many are deferred."""
    wait_for(f"{count} in deferred", lambda: re.search(
        rf"\bdeferred {count}\n", gw.command("status").stdout))
    gw.command("flush")


def behave(gw, sink, hostile, name, talk, wanted):
    hostile.become(talk)
    hostile.most = 0
    first = len(hostile.server.conns)
    del sink.messages[:]
    ids = []
    with gw.client() as c:
        c.ehlo()
        for i in range(MESSAGES):
            r = c.message("s@client.example", "u@bad.example",
                          mail(f"{name} {i}"))
            assert r.code == 250
            ids.append(r.text.rsplit(" ", 1)[1])
        # somebody else's mail does not wait
        r = c.message("a@client.example", "user@example.com", mail("other"))
        assert r.code == 250
    sink.wait_subject("other")
    wait_for(f"{name}: {wanted}", lambda: len(
        statuses(gw, ids, wanted)) == MESSAGES, 40)
    # slow start: at most the window of a destination that never succeeds
    if wanted == "deferred" and "dot 4" not in name and "421" not in name:
        assert hostile.most < MESSAGES
    if wanted == "sent":
        assert sorted(hostile.subjects(first)) == sorted(
            f"{name} {i}" for i in range(MESSAGES))
    if wanted == "bounced":
        wait_for("notifications", lambda: len(
            [m for m in list(sink.messages) if m.sender == ""]) == MESSAGES)
    # and when it has come to its senses, all that is left arrives once
    hostile.become(script(("PIPELINING",)))
    first = len(hostile.server.conns)
    left = len(ids) - len(statuses(gw, ids, "sent")) - len(
        statuses(gw, ids, "bounced"))
    flush(gw, left)
    wait_for(f"{name}: {left} messages", lambda: len(
        hostile.subjects(first)) >= left)
    wait_for("an empty spool", lambda: not gw.queued())
    got = hostile.subjects(first)
    assert len(got) == left and len(set(got)) == left, got


def all_of_them(make, sink, rows):
    hostile = Hostile()
    with hostile.server:
        gw = gateway(make, sink, hostile)
        for name, talk, wanted in rows:
            since = time.monotonic()
            behave(gw, sink, hostile, name, talk, wanted)
            print(f"{name:26} {wanted:9} {hostile.most} at once, relay "
                  f"{memory(gw, 'smtp') or memory(gw, 'relay')} KB, "
                  f"{time.monotonic() - since:.1f} s")
        if not SAN:
            assert memory(gw, "relay") < 60000
            assert memory(gw, "qmgr") < 60000


def test_hostile_next_hops(make, sink):
    all_of_them(make, sink, [b for b in BEHAVIOURS if b[0] in SHORT])


@pytest.mark.long
def test_all_hostile_next_hops(make, sink):
    all_of_them(make, sink, BEHAVIOURS)


def test_a_session_that_ends_between_messages(make, sink):
    """It is replaced, and what was on its way is not sent twice."""
    def dot(c, line):
        c.say("250 2.0.0 Ok")
        raise EOFError
    hostile = Hostile()
    hostile.talk = script(("PIPELINING",), DOT=dot)
    with hostile.server:
        gw = gateway(make, sink, hostile)
        with gw.client() as c:
            c.ehlo()
            for i in range(40):
                assert c.message("s@client.example", "u@bad.example",
                                 mail(f"m{i}")).code == 250
        wait_for("all", lambda: not gw.queued(), 20 * SLOW)
        assert sorted(hostile.subjects()) == sorted(
            f"m{i}" for i in range(40))


def test_some_recipients_refused(make, sink):
    """Each has its own fate, whatever the text's."""
    def rcpt(c, line):
        return {"a": "250 Ok", "b": "550 5.1.1 no", "c": "450 4.2.1 later"}[
            line.split("<")[1][0]]
    hostile = Hostile()
    hostile.talk = script(("PIPELINING",), RCPT=rcpt)
    with hostile.server:
        gw = gateway(make, sink, hostile)
        with gw.client() as c:
            c.ehlo()
            r = c.message("s@client.example",
                          [f"{x}@bad.example" for x in "abc"], mail("parts"))
            assert r.code == 250
        wait_for("the notification", lambda: [
            m for m in list(sink.messages) if m.sender == ""])
        hostile.become(script(("PIPELINING",)))
        flush(gw, 1)
        wait_for("an empty spool", lambda: not gw.queued())
        last = hostile.server.conns[-1]
        assert [x for x in last.got if x.startswith("RCPT")][-1] == \
            "RCPT TO:<c@bad.example>"
        assert hostile.subjects() == ["parts", "parts"]
