"""Authentication servers that are silent, lie, or make no sense: the client
hears "try again later", and nobody else notices."""
import os

import pytest
from postern import mail, wait_for
from sasl_help import GREETING, FakeAuth, plain

LATER = "454 4.7.0 Temporary authentication failure: "


@pytest.fixture
def fake():
    made = []

    def fake(*args, **kw):
        made.append(FakeAuth(*args, **kw))
        return made[-1]
    yield fake
    for f in made:
        f.close()


def gateway(make, sink, server, **more):
    return make(sink, main={
        "smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot",
        "smtpd_sasl_path": server.path, "smtpd_sasl_time_limit": "2s",
        **more})


def good(words):
    """Everybody may come in, as the name that is given."""
    if words[0] == "AUTH":
        return f"OK\t{words[1]}\tuser=joe\n"
    return None


def attempt(gw):
    """AUTH beside another session, which must not notice."""
    with gw.client() as other, gw.client() as c:
        c.ehlo()
        other.ehlo()
        c.send(f"AUTH PLAIN {plain('joe', 'x')}\r\n".encode())
        assert other.message("a@client.example", "user@example.com",
                             mail("other")).code == 250
        r = c.reply()
        assert c.cmd("NOOP").code == 250
        return r


@pytest.mark.parametrize("answer", [
    None,                                   # it hangs
    "close",
    "OK\t{id}\n",                           # nobody
    "OK\t{id}\tuser=\n",
    "OK\t{id}\tuser=a\x01nb\n",             # a name with a line end
    "OK\t{id}\tuser=" + "x" * 300 + "\n",
    "OK\t{id}\tuser=a\x01\n",
    "OK\tnonsense\n", "OK\n", "\n", "OK\t99999999999\tuser=joe\n",
    "CONT\t{id}\tnot base64!\n",
    "CONT\t{id}\tYQ==\tmore\n",
    "CONT\t{id}\t" + "A" * 12292 + "\n",
    "x" * 200000,                           # a line without an end
    "A\0B\n", "VERSION\t1\t2\n", "DONE\n",
    "FAIL\t{id}\ttemp\n", "FAIL\t{id}\tcode=temp_fail\n",
    "OK\t{other}\tuser=joe\n",              # for somebody else
], ids=lambda a: (a or "silence")[:20].encode().hex())
def test_bad_answers(make, sink, fake, answer):
    def on(words):
        if words[0] != "AUTH" or answer is None:
            return None
        return answer.replace("{id}", words[1]).replace(
            "{other}", str(int(words[1]) ^ 4096))
    server = fake(on)
    gw = gateway(make, sink, server)
    r = attempt(gw)
    assert r.text.startswith(LATER), r
    gw.wait_log(r"warning: unknown\[127\.0\.0\.1\]: SASL PLAIN "
                r"authentication failed: ")
    if answer is None or not answer.startswith("FAIL"):
        gw.wait_log(r"warning: authentication server inet:127\.0\.0\.1:\d+: ")
    # it comes to its senses
    server.on = good

    def better():
        with gw.client() as c:
            c.ehlo()
            return c.cmd("AUTH PLAIN " + plain("joe", "x")).code == 235
    wait_for("a login", better)


@pytest.mark.parametrize("greeting", [
    "", "\n", "VERSION\t2\t0\nMECH\tPLAIN\nDONE\n", "MECH\tPLAIN\nDONE\n",
    "VERSION\t1\t2\nDONE\n", "VERSION\tx\n",
    "VERSION\t1\t2\nMECH\tpl ain\nDONE\n",
    "VERSION\t1\t2\nMECH\t" + "X" * 21 + "\nDONE\n",
    "VERSION\t1\t2\n" + "MECH\tPLAIN\n" * 33 + "DONE\n",
    "VERSION\t1\t2\nOK\t1\tuser=joe\n", "x" * 20000, "\0" * 100 + "\n",
], ids=lambda g: str(len(g)))
def test_bad_greetings(make, sink, fake, greeting):
    server = fake(good, greeting)
    gw = gateway(make, sink, server)
    with gw.client() as c:
        assert "AUTH" not in c.ehlo().text
        r = c.cmd("AUTH PLAIN " + plain("joe", "x"))
        assert r.text.startswith(LATER), r
        assert c.message("a@client.example", "user@example.com",
                         mail("no auth")).code == 250
    gw.wait_log(r"warning: authentication server inet:127\.0\.0\.1:\d+: ")
    server.greeting = GREETING
    with gw.client() as c:
        wait_for("a login", lambda: "AUTH" in c.ehlo().text and c.cmd(
            "AUTH PLAIN " + plain("joe", "x")).code == 235)


def test_nobody_there(make, sink):
    server = FakeAuth(good)
    server.close()
    gw = gateway(make, sink, server)
    with gw.client() as c:
        assert "AUTH" not in c.ehlo().text
        assert c.cmd("AUTH PLAIN " + plain("joe", "x")).code == 454
    gw.wait_log(r"warning: authentication server .*: Connection refused")


def test_a_later_greeting_counts(make, sink, fake):
    """What is refused here is nothing that the server sends: it comes in
    pieces, and has more than is known."""
    server = fake(good, "VERSION\t1\t9\textra\nSPID\t1\nCUID\t2\nNEWS\t1\n"
                  "MECH\tPLAIN\tplaintext\tfancy\n"
                  "MECH\tEXTERNAL\nMECH\tOWN\tprivate\n"
                  "COOKIE\tx\nDONE\nNEWS\t2\n")
    gw = gateway(make, sink, server)
    with gw.client() as c:
        assert "\n250-AUTH PLAIN\n" in c.ehlo().text
        assert c.cmd("AUTH OWN").code == 504
        assert c.cmd("AUTH PLAIN " + plain("joe", "x")).code == 235


def test_what_the_server_is_told(make, sink, fake):
    server = fake(good)
    gw = gateway(make, sink, server, smtpd_sasl_service="sub mission")
    response = plain("joe", "x")
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("AUTH PLAIN " + response).code == 235
        port = c.sock.getsockname()[1]
    assert server.lines[0] == ["VERSION", "1", "1"]
    assert server.lines[1][0] == "CPID"
    words, = server.asked("AUTH")
    assert words[2:] == ["PLAIN", "service=sub mission", "nologin",
                         "lip=127.0.0.1", f"lport={gw.port}",
                         "rip=127.0.0.1", f"rport={port}",
                         "resp=" + response]


def test_reasons(make, sink, fake):
    server = fake(lambda w: f"FAIL\t{w[1]}\tuser=a\x01tb\treason=too\x01nbad"
                  "\n" if w[0] == "AUTH" else None)
    gw = gateway(make, sink, server)
    r = attempt(gw)
    assert r.code == 535 and len(r.lines) == 1 and "too" in r.text
    line = gw.wait_log(r"SASL PLAIN authentication failed: too.*bad")
    assert "sasl_username" not in str(line)


def test_no_end_of_challenges(make, sink, fake):
    server = fake(lambda w: f"CONT\t{w[1]}\tYQ==\n"
                  if w[0] in ("AUTH", "CONT") else None)
    gw = gateway(make, sink, server)
    with gw.client() as c:
        c.ehlo()
        r = c.cmd("AUTH PLAIN")
        for n in range(40):
            if r.code != 334:
                break
            r = c.cmd("YQ==")
        assert n == 32 and r.text.startswith(LATER), (n, r)
        assert c.cmd("NOOP").code == 250
    wait_for("the end", lambda: server.asked("CANCEL"))


def test_clients_that_leave(make, sink, fake):
    """The server hears of it, and its late answers are for nobody."""
    held = []
    server = fake(lambda w: held.append(w) if w[0] == "AUTH" else None)
    gw = gateway(make, sink, server, smtpd_sasl_time_limit="60s")
    for _ in range(3):
        with gw.client() as c:
            c.ehlo()
            c.send(f"AUTH PLAIN {plain('joe', 'x')}\r\n".encode())
    wait_for("three questions", lambda: len(held) == 3)
    # the old ones end when smtpd looks at their clients again
    server.on = good
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("AUTH PLAIN " + plain("joe", "x")).code == 235


def test_one_hangs_among_many(make, sink, fake):
    """A server that answers others does not hang: the connection stays."""
    def on(words):
        if words[0] == "AUTH" and words[-1] != "resp=" + plain("slow", "x"):
            return good(words)
        return None
    server = fake(on)
    gw = gateway(make, sink, server)
    with gw.client() as slow, gw.client() as c:
        slow.ehlo()
        c.ehlo()
        slow.send(f"AUTH PLAIN {plain('slow', 'x')}\r\n".encode())
        wait_for("the question", lambda: server.asked("AUTH"))
        assert c.cmd("AUTH PLAIN " + plain("joe", "x")).code == 235
        assert slow.reply().text.startswith(LATER)
    wait_for("the cancel", lambda: server.asked("CANCEL"))
    assert server.sessions == 1


def test_many_at_once(make, sink, fake):
    server = fake(good)
    gw = gateway(make, sink, server)
    clients = [gw.client() for _ in range(200)]
    try:
        for c in clients:
            c.ehlo()
        for c in clients:
            c.send(f"AUTH PLAIN {plain('joe', 'x')}\r\n".encode())
        assert [c.reply().code for c in clients] == [235] * len(clients)
    finally:
        for c in clients:
            c.close()
    assert server.sessions == 1


def test_flood(make, sink, fake):
    """It never stops talking; memory has an end."""
    server = fake(lambda w: "NEWS\t1\n" * 100000 + good(w)
                  if w[0] == "AUTH" else None)
    gw = gateway(make, sink, server, smtpd_sasl_time_limit="60s")
    r = attempt(gw)
    assert r.code == 235
    pid, = gw.pids("auth-dovecot")
    with open(f"/proc/{pid}/status") as f:
        rss = int(f.read().split("VmRSS:")[1].split()[0])
    assert rss < (400000 if "san" in os.environ.get("BUILD", "") else 20000)
