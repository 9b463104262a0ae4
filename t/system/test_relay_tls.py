"""TLS with servers: those that do it well, and those that do not."""
import re
import select
import socket
import ssl
import struct
import threading

import pytest

import test_relay
from postern import SLOW, wait_for
from test_relay import (BOUNCED, CONNECT, DEFERRED, NONE, SENT, SUBJECT,
                        Server, script)
from test_relay_bdat import chunks
from tls_help import Keys

LINE = r"00000000ABC: to=<b@example\.org>, .* tls=%s, dsn=%s, status="


class Relay(test_relay.Relay):
    def wait_log(self, pattern, seconds=30):
        wait_for("in the log: " + pattern,
                 lambda: re.search(pattern, self.log()), seconds)


class ServerKeys(Keys):
    def named(self, name, cn, ca="ca", days=30, names=(), ips=()):
        """A certificate with subjectAltName entries, signed by ca."""
        with open(self.path(name + ".ext"), "w") as f:
            alt = [f"DNS:{n}" for n in names] + [f"IP:{i}" for i in ips]
            f.write("basicConstraints=CA:FALSE\n")
            if alt:
                f.write("subjectAltName=" + ",".join(alt) + "\n")
        self.openssl("req", "-new", "-newkey", "ec", "-pkeyopt",
                     "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                     name + ".key", "-out", name + ".csr", "-subj",
                     "/CN=" + cn)
        self.openssl("x509", "-req", "-in", name + ".csr", "-CA",
                     ca + ".crt", "-CAkey", ca + ".key", "-CAcreateserial",
                     "-extfile", name + ".ext", "-days", str(days), "-out",
                     name + ".crt")
        self.join(name + ".pem", name + ".key", name + ".crt")


@pytest.fixture(scope="module")
def keys():
    k = ServerKeys()
    try:
        k.cert("ca", "Test Authority", is_ca=True)
        k.cert("self", "inside.example")
        k.named("inside", "inside.example", names=["inside.example"],
                ips=["127.0.0.1"])
        k.named("below", "x", names=["*.inside.example"])
        k.named("other", "inside.example", names=["other.example"])
        k.named("expired", "inside.example", names=["inside.example"],
                ips=["127.0.0.1"], days=-1)
        k.named("client", "gw.example.com", names=["gw.example.com"])
        yield k
    finally:
        k.destroy()


def context(keys, name, version=None, ciphers=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(keys.path(name + ".pem"))
    if version:
        c.minimum_version = c.maximum_version = version
    if ciphers:
        c.set_ciphers(ciphers)
    return c


def secure(c, ctx):
    assert not c.buf
    c.s = ctx.wrap_socket(c.s, server_side=True)


def starttls(ctx, begin=None, before="250-inside\r\n250-STARTTLS\r\n250 SIZE",
             **replies):
    """A server that offers STARTTLS; begin(c) takes the place of the reply
    to it and of the handshake."""
    c_talk = script(**replies)

    def talk(c):
        c.say("220 inside ESMTP")
        c.secured = False
        while True:
            line = c.line()
            verb = line[:4].upper()
            if verb == "EHLO":
                c.say(before)
            elif verb == "STAR":
                if begin:
                    begin(c)
                else:
                    c.say("220 go")
                    secure(c, ctx)
                    c.secured = True
                    c_talk(Inside(c))
                    return
            elif verb == "MAIL":
                c.say("250 Ok")
            elif verb == "RCPT":
                c.say("250 Ok")
            elif verb == "DATA":
                c.say("354 go on")
                c.text()
                c.say("250 2.0.0 taken in plain")
            else:
                c.say("221 bye" if verb == "QUIT" else "500 what?")
                if verb == "QUIT":
                    return
    return talk


class Inside:
    """The conversation inside TLS: without a greeting."""

    def __init__(self, conn):
        self.conn, self.greeted = conn, False

    def say(self, *lines):
        if self.greeted:
            self.conn.say(*lines)
        self.greeted = True

    def __getattr__(self, name):
        return getattr(self.conn, name)


def conf(keys, level, **more):
    return dict(smtp_tls_security_level=level, smtp_tls_loglevel="1",
                smtp_tls_CAfile=keys.path("ca.crt"), **more)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2,
                                     ssl.TLSVersion.TLSv1_3])
def test_may(keys, version):
    with Server(starttls(context(keys, "self", version))) as server, \
            Relay(**conf(keys, "may")) as relay:
        r = relay.send(server.hop, text=SUBJECT + b"x\r\n" * 30000)
        assert (r.status, r.trouble) == (SENT, NONE), r.reason
        assert r.reason == "250 2.0.0 Ok: queued as 123"
        c = server.conns[0]
        assert c.got == ["EHLO gw.example.com", "STARTTLS",
                         "EHLO gw.example.com", "MAIL FROM:<a@example.com>",
                         "RCPT TO:<b@example.org>", "DATA"]
        assert c.texts[0].count(b"x\r\n") == 30000
        relay.wait_log("status=sent")
        name = {ssl.TLSVersion.TLSv1_2: "TLSv1.2",
                ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
        assert re.search(r"Untrusted TLS connection established to "
                         r"127\.0\.0\.1\[127\.0\.0\.1\]:%d: %s with cipher "
                         r"\S+ \(\d+/\d+ bits\)" % (server.port, name),
                         relay.log()), relay.log()
        assert re.search(LINE % ("may", r"2\.0\.0"), relay.log())


@pytest.mark.parametrize("keywords", [("CHUNKING", "PIPELINING"),
                                      ("CHUNKING",)])
def test_chunks(keys, keywords):
    text = SUBJECT + b"".join(b"%070d\r\n" % i for i in range(60000))
    ctx = context(keys, "self")

    def talk(c):
        c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        secure(c, ctx)
        chunks(keywords=keywords)(c)
    with Server(talk) as server, \
            Relay(**conf(keys, "may", smtp_tls_wrappermode="yes")) as relay:
        for _ in range(2):
            r = relay.send(server.hop, text=text)
            assert (r.status, r.trouble) == (SENT, NONE), r.reason
            relay.idle()
        assert server.connections == 1
        assert server.conns[0].texts == [text, text]


def test_the_connection_is_kept_and_used_again(keys):
    with Server(starttls(context(keys, "inside"))) as server, \
            Relay(**conf(keys, "may")) as relay:
        for i in range(3):
            assert relay.send(server.hop).status == SENT
            relay.idle()
        assert server.connections == 1
        assert server.conns[0].got.count("STARTTLS") == 1
        assert relay.log().count("Trusted TLS connection established") == 1
        assert relay.log().count(", tls=may, ") == 3


def test_none_and_not_offered(keys):
    with Server(script()) as server, Relay(**conf(keys, "may")) as relay:
        assert relay.send(server.hop).status == SENT
        relay.wait_log(r"tls=may:none, dsn=2\.0\.0")
    with Server(starttls(context(keys, "self"))) as server, \
            Relay(**conf(keys, "none", smtp_tls_note_starttls_offer="yes")) \
            as relay:
        assert relay.send(server.hop).reason.endswith("taken in plain")
        relay.wait_log(r"tls=none, dsn=2\.0\.0")
        relay.wait_log(r"Host offered STARTTLS: \[127\.0\.0\.1\]")
    with Server(starttls(context(keys, "self"))) as server, \
            Relay(**conf(keys, "none", smtp_log_tls_feature_status="no")) \
            as relay:
        assert relay.send(server.hop).status == SENT
        relay.wait_log(r"delays=[\d./]+, dsn=2\.0\.0")
    with Server(starttls(context(keys, "self"))) as server, \
            Relay(**conf(keys, "may", smtp_discard_ehlo_keywords="starttls")) \
            as relay:
        assert relay.send(server.hop).reason.endswith("taken in plain")


def test_the_default(keys):
    ctx = context(keys, "self")
    for level, word in (("3.11", "may"), ("3.10", "none")):
        with Server(starttls(ctx)) as server, \
                Relay(compatibility_level=level) as relay:
            assert relay.send(server.hop).status == SENT
            relay.wait_log(f"tls={word}, dsn")


# level, further parameters, server's certificate, what is said of it
MET = [
    ("encrypt", {}, "self", None),
    ("encrypt", {}, "expired", None),
    ("secure", {"smtp_tls_secure_cert_match": "inside.example"}, "inside",
     None),
    ("secure", {"smtp_tls_secure_cert_match": "Inside.Example"}, "inside",
     None),
    ("secure", {}, "inside", None),
    ("verify", {}, "inside", None),
    ("verify", {"smtp_tls_verify_cert_match": "a.inside.example"}, "below",
     None),
    ("verify", {"smtp_tls_verify_cert_match": ".inside.example"}, "below",
     None),
    ("verify", {"smtp_tls_verify_cert_match": "inside.example"}, "below",
     "not verified"),
    ("verify", {"smtp_tls_verify_cert_match": "a.b.inside.example"}, "below",
     "not verified"),
    ("secure", {"smtp_tls_secure_cert_match": "nexthop, inside.example"},
     "other", "not verified"),
    ("secure", {"smtp_tls_secure_cert_match": "inside.example"}, "self",
     "not trusted"),
    ("secure", {"smtp_tls_secure_cert_match": "inside.example"}, "expired",
     "not trusted"),
    ("secure", {"smtp_tls_secure_cert_match": "inside.example",
                "smtp_tls_CAfile": ""}, "inside", "not trusted"),
    ("fingerprint", {"smtp_tls_fingerprint_cert_match": "AA:BB, {self}"},
     "self", None),
    ("fingerprint", {"smtp_tls_fingerprint_cert_match": "{self}"},
     "inside", "not verified"),
]


@pytest.mark.parametrize("level,more,cert,bad", MET)
def test_levels(keys, level, more, cert, bad):
    more = {k: v.replace("{self}", keys.fingerprint("self").lower())
            for k, v in more.items()}
    with Server(starttls(context(keys, cert))) as server, \
            Relay(**{**conf(keys, level), **more}) as relay:
        r = relay.send(server.hop)
        c = server.conns[0]
        if not bad:
            assert r.status == SENT, r.reason
            relay.wait_log(f", tls={level}, dsn=2")
            if level != "encrypt":
                relay.wait_log("Verified TLS connection established to ")
            return
        assert (r.status, r.dsn, r.trouble) == (DEFERRED, "4.7.5", CONNECT)
        assert r.reason == "Server certificate " + bad
        relay.wait_log(rf", tls={level}:encrypt, dsn=4\.7\.5, status=def")
        assert not any(line.startswith("MAIL") for line in c.got)
        # a word of goodbye, inside TLS
        wait_for("QUIT", lambda: c.got[-1] == "QUIT")


@pytest.mark.parametrize("level", ["encrypt", "secure", "fingerprint"])
def test_required_and_not_offered(keys, level):
    with Server(script()) as server, \
            Relay(**conf(keys, level, smtp_tls_fingerprint_cert_match="AA")) \
            as relay:
        r = relay.send(server.hop)
        assert (r.status, r.dsn, r.trouble) == (DEFERRED, "4.7.4", CONNECT)
        assert r.reason == ("TLS is required, but was not offered by host "
                            "127.0.0.1[127.0.0.1]")
        wait_for("QUIT", lambda: server.conns[0].got == [
            "EHLO gw.example.com", "QUIT"])
    # neither by one that knows HELO only
    with Server(script(EHLO="502 what?")) as server, \
            Relay(**conf(keys, "encrypt")) as relay:
        r = relay.send(server.hop)
        assert (r.status, r.dsn) == (DEFERRED, "4.7.4")


def test_refused_when_asked_for(keys):
    def begin(c):
        c.say("454 4.7.0 not now")
    ctx = context(keys, "self")
    with Server(starttls(ctx, begin)) as server, \
            Relay(**conf(keys, "may")) as relay:
        assert relay.send(server.hop).reason.endswith("taken in plain")
        assert server.connections == 1
        relay.wait_log("tls=may:none, dsn=2")
    with Server(starttls(ctx, begin)) as server, \
            Relay(**conf(keys, "encrypt")) as relay:
        r = relay.send(server.hop)
        assert (r.status, r.dsn) == (DEFERRED, "4.7.4")
        assert r.reason == ("TLS is required, but host 127.0.0.1[127.0.0.1] "
                            "refused to start TLS: 454 4.7.0 not now")


def garbage(c):
    c.say("220 go")
    c.s.sendall(b"nothing of the kind\r\n" * 3)


def truncated(c):
    """Half of an answer to the ClientHello, then nothing."""
    c.say("220 go")
    c.s.recv(65536)
    c.s.sendall(bytes((22, 3, 3, 0, 122)) + b"\2\0\0")
    raise EOFError


def closed(c):
    c.say("220 go")
    raise EOFError


def alert(c):
    c.say("220 go")
    c.s.recv(65536)
    c.s.sendall(bytes((21, 3, 3, 0, 2, 2, 40)))
    c.s.recv(65536)
    raise EOFError


def reset(c):
    c.say("220 go")
    c.s.recv(65536)
    c.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                   struct.pack("ii", 1, 0))
    c.s.close()
    raise EOFError


def silent(c):
    """Until the other side has had enough."""
    c.say("220 go")
    c.rest()
    raise EOFError


def mute(c):
    c.rest()
    raise EOFError


def injected(c):
    """What stands behind the reply would be read as said inside TLS."""
    c.s.sendall(b"220 go\r\n250 it was me\r\n")
    c.rest()
    raise EOFError


def endless(c):
    """A message of the handshake that says it is of 16 MB."""
    c.say("220 go")
    c.s.recv(65536)
    for _ in range(2000):
        c.s.sendall(bytes((22, 3, 3, 64, 0)) + b"\2\xff\xff\xff" +
                    bytes(16380))
    raise EOFError


def drips(c):
    """A byte now and then of a record of 16 KB: none of them makes the time
    longer."""
    c.say("220 go")
    c.s.sendall(bytes((22, 3, 3, 64, 0)))
    for _ in range(600):
        c.s.sendall(b"\2")
        if select.select([c.s], [], [], 0.05)[0] and not c.s.recv(65536):
            raise EOFError
    raise AssertionError("it had all the time")


HOSTILE = [drips, garbage, truncated, closed, alert, reset, silent, mute, injected,
           endless]


@pytest.mark.parametrize("begin", HOSTILE)
def test_hostile(keys, begin):
    """At level may it is tried once more, without; else the mail waits."""
    ctx = context(keys, "self")
    with Server(starttls(ctx, begin)) as server, \
            Relay(**conf(keys, "may", smtp_starttls_timeout="1s")) as relay:
        relay.deliver(server.hop)
        # the second connection is offered TLS, too, and does not take it
        r = relay.result(60)
        assert r.status == SENT and r.reason.endswith("taken in plain")
        assert server.connections == 2
        relay.wait_log(r"SSL_connect error to 127\.0\.0\.1\[127\.0\.0\.1\]:")
        relay.wait_log("tls=may:none, dsn=2")
    with Server(starttls(ctx, begin)) as server, \
            Relay(**conf(keys, "encrypt", smtp_starttls_timeout="1s")) \
            as relay:
        relay.deliver(server.hop)
        r = relay.result(60)
        assert (r.status, r.trouble) == (DEFERRED, CONNECT)
        if begin not in (mute, injected):
            assert (r.dsn, r.reason) == (
                "4.7.5", "Cannot start TLS: handshake failure")
        assert server.connections == 1
        relay.wait_log(", tls=encrypt:none, dsn=4")


@pytest.mark.parametrize("reuse,connections", [("yes", 1), ("no", 3)])
def test_connections_are_kept(keys, reuse, connections):
    with Server(starttls(context(keys, "self"))) as server, \
            Relay(**conf(keys, "encrypt", smtp_tls_connection_reuse=reuse)) \
            as relay:
        for _ in range(3):
            assert relay.send(server.hop).status == SENT
        assert server.connections == connections


def test_a_byte_at_a_time(keys):
    """Slow, and all of it is there: of the handshake and of replies."""
    ctx = context(keys, "inside")

    def begin(c):
        c.say("220 go")
        c.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        incoming, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = ctx.wrap_bio(incoming, out, server_side=True)

        def flush():
            for byte in out.read():
                c.s.sendall(bytes([byte]))

        def step(fn, *args):
            while True:
                try:
                    return fn(*args)
                except ssl.SSLWantReadError:
                    flush()
                    more = c.s.recv(1)
                    if not more:
                        raise EOFError from None
                    incoming.write(more)
        step(tls.do_handshake)
        text = b""
        while True:
            text += step(tls.read, 1000)
            while b"\r\n" in text:
                line, text = text.split(b"\r\n", 1)
                said.append(line)
                if data[-1:] == [1]:
                    if line != b".":
                        continue
                    data.append(0)
                elif line == b"DATA":
                    data.append(1)
                    tls.write(b"354 go on\r\n")
                    continue
                tls.write(b"250 2.0.0 slowly\r\n")
                flush()
    said, data = [], []
    with Server(starttls(ctx, begin)) as server, \
            Relay(**conf(keys, "encrypt")) as relay:
        r = relay.send(server.hop)
        assert (r.status, r.reason) == (SENT, "250 2.0.0 slowly"), said
        assert server.connections == 1


def test_plain_goes_to_the_same_server_only_then(keys):
    """The session that comes after the one without TLS tries it again."""
    count = []

    def begin(c):
        count.append(1)
        closed(c)
    with Server(starttls(context(keys, "self"), begin)) as server, \
            Relay(**conf(keys, "may",
                         smtp_connection_cache_on_demand="no")) as relay:
        for i in range(2):
            assert relay.send(server.hop).status == SENT
        assert (len(count), server.connections) == (2, 4)


def test_a_client_certificate_that_the_server_misses(keys):
    """With TLSv1.3 the client hears of it when it thinks that all is done."""
    ctx = context(keys, "inside", ssl.TLSVersion.TLSv1_3)
    ctx.verify_mode = ssl.CERT_REQUIRED
    ctx.load_verify_locations(keys.path("ca.crt"))

    def begin(c):
        c.say("220 go")
        try:
            secure(c, ctx)
        except ssl.SSLError:
            raise EOFError
        raise AssertionError("no certificate was shown")
    with Server(starttls(ctx, begin)) as server, \
            Relay(**conf(keys, "may")) as relay:
        r = relay.send(server.hop)
        assert r.status == SENT and r.reason.endswith("taken in plain")
    for more in ({"smtp_tls_chain_files": keys.path("client.pem")},
                 {"smtp_tls_cert_file": keys.path("client.crt"),
                  "smtp_tls_key_file": keys.path("client.key")}):
        with Server(starttls(ctx)) as server, \
                Relay(**conf(keys, "encrypt", **more)) as relay:
            assert relay.send(server.hop).status == SENT


def test_wrapper_mode(keys):
    ctx = context(keys, "inside")

    def talk(c):
        secure(c, ctx)
        script(("STARTTLS",))(c)
    with Server(talk) as server, \
            Relay(**conf(keys, "secure", smtp_tls_wrappermode="yes")) \
            as relay:
        for i in range(2):
            assert relay.send(server.hop).status == SENT
            relay.idle()
        assert server.connections == 1
        assert "STARTTLS" not in server.conns[0].got
        relay.wait_log("Verified TLS connection established")
    # not to be talked into plain text
    with Server(script()) as server, \
            Relay(**conf(keys, "may", smtp_tls_wrappermode="yes")) as relay:
        r = relay.send(server.hop)
        assert (r.status, r.dsn) == (DEFERRED, "4.7.5")
        assert server.connections == 1
        relay.wait_log(", tls=encrypt:none, dsn=4")


def test_policy_maps(keys, tmp_path):
    servers = {name: Server(starttls(context(keys, cert)))
               for name, cert in (("a", "inside"), ("b", "other"),
                                  ("c", "self"), ("d", "self"),
                                  ("e", "self"), ("f", "inside"))}
    table = tmp_path / "policy"
    hop = {name: s.hop for name, s in servers.items()}
    table.write_text("\n".join([
        f"{hop['a']} secure match=a.example:inside.example",
        f"{hop['b']} verify match=inside.example",
        f"{hop['c']} none",
        f"{hop['d']} fingerprint match=AB:CD|" + keys.fingerprint("self"),
        f"{hop['e']} secure color=green",
        f"{hop['f']} encrypt protocols=TLSv1.2 ciphers=high "
        "exclude=AES256:SHA384 servername=inside.example", ""]))
    try:
        with Relay(**conf(keys, "may", smtp_tls_policy_maps="texthash:" +
                          str(table))) as relay:
            assert relay.send(hop["a"]).status == SENT
            relay.wait_log("tls=secure, dsn=2")
            r = relay.send(hop["b"])
            assert (r.dsn, r.reason) == ("4.7.5",
                                         "Server certificate not verified")
            r = relay.send(hop["c"])
            assert r.reason.endswith("taken in plain")
            assert relay.send(hop["d"]).status == SENT
            relay.wait_log("tls=fingerprint, dsn=2")
            r = relay.send(hop["e"])
            assert (r.status, r.dsn) == (DEFERRED, "4.7.5")
            assert r.reason == "client TLS configuration problem"
            assert servers["e"].connections == 0
            relay.wait_log(r"policy:5: next hop .*: unknown attribute color")
            assert relay.send(hop["f"]).status == SENT
            relay.wait_log(r"TLSv1\.2 with cipher (?!\S*SHA384)")
    finally:
        for s in servers.values():
            s.__exit__(None)


def test_a_kept_connection_is_for_its_own_policy(keys, tmp_path):
    """The next hop is another one by name, with another policy: the
    connection of the first is not good enough for it."""
    with Server(starttls(context(keys, "inside"))) as server, \
            Relay(**conf(keys, "may", smtp_tls_policy_maps="inline:{ { "
                         f"{server.hop} = encrypt }} }}")) as relay:
        assert relay.send(server.hop).status == SENT
        relay.idle()
        # the same host, in another way of writing it
        assert relay.send(f"127.0.0.1:{server.port}").status == SENT
        assert server.connections == 2


def test_servername(keys):
    seen = []
    ctx = context(keys, "self")
    ctx.sni_callback = lambda sock, name, c: seen.append(name)
    for value, want in (("", None), ("gw.example.org", "gw.example.org"),
                        ("hostname", None)):
        with Server(starttls(ctx)) as server, \
                Relay(**conf(keys, "may", smtp_tls_servername=value)) \
                as relay:
            assert relay.send(server.hop).status == SENT
            assert seen.pop() == want


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2,
                                     ssl.TLSVersion.TLSv1_3])
def test_resumed(keys, version):
    ctx = context(keys, "inside", version)
    with Server(starttls(ctx)) as server, \
            Relay(**conf(keys, "verify",
                         smtp_connection_cache_on_demand="no")) as relay:
        for i in range(4):
            assert relay.send(server.hop).status == SENT
            wait_for("the end", lambda: relay.status()["sessions"] == "0")
        assert relay.status()["tls_resumed"] == "3"
        relay.wait_log("Verified TLS connection reused to ")
        assert relay.log().count(", tls=verify, ") == 4
    # not without it, and not after one that was refused
    for more in ({"smtp_tls_session_cache_timeout": "0"},
                 {"smtp_tls_verify_cert_match": "x.example"}):
        with Server(starttls(ctx)) as server, \
                Relay(**conf(keys, "verify", **more,
                             smtp_connection_cache_on_demand="no")) as relay:
            for i in range(2):
                relay.send(server.hop)
                wait_for("the end",
                         lambda: relay.status()["sessions"] == "0")
            assert relay.status()["tls_resumed"] == "0"


def identities(hello):
    """The tickets that a ClientHello offers (RFC 8446 section 4.2.11)."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + struct.unpack_from(">H", hello, at)[0]
    at += 1 + hello[at] + 2
    while at + 4 <= len(hello):
        kind, n = struct.unpack_from(">HH", hello, at)
        if kind == 41:
            size = struct.unpack_from(">H", hello, at + 6)[0]
            return [hello[at + 8:at + 8 + size]]
        at += 4 + n
    return []


def peeking(ctx, seen, meet=None):
    """starttls(), which notes what was offered, and whether it was taken;
    those of a round wait for one another before they answer."""
    def begin(c):
        c.say("220 go")
        hello = c.s.recv(5, socket.MSG_PEEK | socket.MSG_WAITALL)
        n = 5 + struct.unpack(">H", hello[3:5])[0]
        offered = identities(c.s.recv(n, socket.MSG_PEEK |
                                      socket.MSG_WAITALL))
        if meet:
            meet[0].wait(20 * SLOW)
        secure(c, ctx)
        seen.append((offered, c.s.session_reused))
    return starttls(ctx, begin)


def several(relay, hop, n):
    for _ in range(n):
        relay.deliver(hop)
    for _ in range(n):
        assert relay.result().status == SENT
    wait_for("the end", lambda: relay.status()["sessions"] == "0")


def test_resumed_side_by_side(keys):
    """Of TLSv1.3 each ticket is used once; a server gives two, and one more
    in each session that was resumed."""
    seen, meet = [], [threading.Barrier(4)]
    ctx = context(keys, "inside", ssl.TLSVersion.TLSv1_3)
    with Server(peeking(ctx, seen, meet)) as server, \
            Relay(**conf(keys, "verify",
                         smtp_connection_cache_on_demand="no")) as relay:
        several(relay, server.hop, 4)
        assert relay.status()["tls_kept"] == "8"
        meet[0] = threading.Barrier(6)
        for _ in range(3):
            several(relay, server.hop, 6)
        assert relay.status()["tls_resumed"] == "18"
        assert all(reused for offered, reused in seen[4:])
        offered = [ticket for tickets, _ in seen for ticket in tickets]
        assert len(offered) == len(set(offered)) == 18


def test_resumed_side_by_side_before_tls13(keys):
    """One session is for all of them."""
    seen = []
    ctx = context(keys, "inside", ssl.TLSVersion.TLSv1_2)
    with Server(peeking(ctx, seen)) as server, \
            Relay(**conf(keys, "verify",
                         smtp_connection_cache_on_demand="no")) as relay:
        several(relay, server.hop, 1)
        several(relay, server.hop, 5)
        assert relay.status()["tls_kept"] == "1"
        assert [reused for _, reused in seen] == [False] + [True] * 5


def test_so_many_tickets_of_a_server(keys):
    ctx = context(keys, "inside", ssl.TLSVersion.TLSv1_3)
    ctx.num_tickets = 60
    with Server(starttls(ctx)) as server, \
            Relay(**conf(keys, "may",
                         smtp_connection_cache_on_demand="no")) as relay:
        several(relay, server.hop, 2)
        assert relay.status()["tls_kept"] == "16"
        # the first two were at the same time, or not
        before = int(relay.status()["tls_resumed"])
        several(relay, server.hop, 2)
        assert int(relay.status()["tls_resumed"]) == before + 2
        assert relay.status()["tls_kept"] == "16"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2,
                                     ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("cert,strict,bad", [
    ("inside", "verify match=inside.example", None),
    ("other", "verify match=inside.example", "not verified"),
    ("self", "verify match=inside.example", "not trusted"),
    ("inside", "fingerprint match={other}", "not verified"),
    ("inside", "fingerprint match={inside}", None)])
def test_resumed_under_its_own_policy_only(keys, version, cert, strict, bad):
    """What was said to nobody in particular proves nothing."""
    strict = re.sub(r"\{(\w+)\}", lambda m: keys.fingerprint(m[1]), strict)
    with Server(starttls(context(keys, cert, version))) as server, \
            Relay(**conf(keys, "may", smtp_connection_cache_on_demand="no",
                         smtp_tls_policy_maps="inline:{ { "
                         f"127.0.0.1:{server.port} = {strict} }} }}")) \
            as relay:
        lax, same = server.hop, f"127.0.0.1:{server.port}"
        for hop, resumed in ((lax, 0), (lax, 1), (same, 1)):
            r = relay.send(hop)
            wait_for("the end", lambda: relay.status()["sessions"] == "0")
            assert relay.status()["tls_resumed"] == str(resumed)
        assert r.status == (DEFERRED if bad else SENT)
        if bad:
            assert r.reason == "Server certificate " + bad
        # what was not held is not kept, what was is
        relay.send(same)
        wait_for("the end", lambda: relay.status()["sessions"] == "0")
        assert relay.status()["tls_resumed"] == ("1" if bad else "2")
        several(relay, lax, 1)
        assert relay.status()["tls_resumed"] == ("2" if bad else "3")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2,
                                     ssl.TLSVersion.TLSv1_3])
def test_a_server_that_cannot_resume(keys, version):
    """It hangs up on whoever tries: a try costs one connection, not all."""
    ctx = context(keys, "inside", version)
    tries = []

    def begin(c):
        tries.append(c)
        if len(tries) == 2:
            raise EOFError
        c.say("220 go")
        secure(c, ctx)
    with Server(starttls(ctx, begin)) as server, \
            Relay(**conf(keys, "encrypt",
                         smtp_connection_cache_on_demand="no")) as relay:
        several(relay, server.hop, 1)
        assert relay.send(server.hop).status == DEFERRED
        several(relay, server.hop, 1)
        assert relay.status()["tls_resumed"] == "1"
    tries.clear()

    def hang_up(c):
        tries.append(c)
        c.say("220 go")
        if len(tries) == 2:
            raise EOFError
        secure(c, ctx)
    with Server(starttls(ctx, hang_up)) as server, \
            Relay(**conf(keys, "encrypt",
                         smtp_connection_cache_on_demand="no")) as relay:
        several(relay, server.hop, 1)
        r = relay.send(server.hop)
        assert r.reason == "Cannot start TLS: handshake failure"
        wait_for("the end", lambda: relay.status()["sessions"] == "0")
        assert relay.status()["tls_kept"] == "0"
        several(relay, server.hop, 1)
        assert relay.status()["tls_resumed"] == "0"


def test_pipelining_and_many_recipients(keys):
    rcpts = [f"u{i}@example.org" for i in range(3000)]
    with Server(starttls(context(keys, "self"), EHLO="250-inside\r\n"
                         "250 PIPELINING")) as server, \
            Relay(**conf(keys, "encrypt")) as relay:
        relay.deliver(server.hop, rcpts=rcpts,
                      text=SUBJECT + b"0123456789abcde\r\n" * 100000)
        r = relay.result(60)
        assert {x[0] for x in r.rcpts} == {SENT} and len(r.rcpts) == 3000
        assert len(server.conns[0].texts[0]) > 1700000


def test_the_server_says_no_inside(keys):
    with Server(starttls(context(keys, "self"),
                         RCPT="550 5.1.1 no")) as server, \
            Relay(**conf(keys, "encrypt")) as relay:
        r = relay.send(server.hop)
        assert (r.status, r.dsn) == (BOUNCED, "5.1.1")
        relay.wait_log("tls=encrypt, dsn=5")


@pytest.mark.parametrize("parameter,value,text", [
    ("smtp_tls_security_level", "medium", "unknown level medium"),
    ("smtp_tls_security_level", "fingerprint", "there is nothing to match"),
    ("smtp_tls_protocols", "TLSv9", "unknown protocol TLSv9"),
    ("smtp_tls_CAfile", "/nowhere", "/nowhere: No such file"),
    ("smtp_tls_exclude_ciphers", "@x", "@x is no name of a cipher"),
    ("smtp_tls_fingerprint_digest", "sha0", "unknown digest sha0"),
    ("smtp_tls_cert_file", "/nowhere", "/nowhere: No such file"),
])
def test_mistakes_are_found_at_the_start(parameter, value, text):
    relay = Relay(**{parameter: value})
    try:
        with pytest.raises(AssertionError):
            with relay:
                pass
        assert text in relay.log()
    finally:
        if relay.process.returncode is None:
            relay.end()
