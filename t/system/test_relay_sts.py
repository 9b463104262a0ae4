"""Deliveries to domains with MTA-STS policies: the test is the relay's lookup
and sts."""
import os
import re
import socket
import ssl

import pytest

from postern import wait_for
from role_driver import u8, u16, u32, view
from sts_help import policy
from test_dane import digest
from test_relay import DEFERRED, SENT, Server, script
from test_relay_tls import LINE, Relay, ServerKeys, context, starttls

NO_POLICY, POLICY, FETCH_ERROR = 1, 2, 3
A, B = "127.0.0.1", "127.0.0.2"


@pytest.fixture(scope="module")
def keys():
    k = ServerKeys()
    try:
        k.cert("ca", "Test Authority", is_ca=True)
        k.cert("self", "mx.example.org")
        k.named("mx", "mx", names=["mx.example.org"])
        k.named("wild", "mx", names=["*.example.org"])
        k.named("nexthop", "mx", names=["example.org"])
        k.named("expired", "mx", names=["mx.example.org"], days=-1)
        yield k
    finally:
        k.destroy()


class StsRelay(Relay):
    def __init__(self, keys, level="may", **conf):
        super().__init__(**{
            "smtp_tls_security_level": level, "smtp_tls_sts": "yes",
            "smtp_tls_sts_CAfile": keys.path("ca.crt"), **conf})

    def __enter__(self):
        super().__enter__()
        self.lookup = self.peer("lookup")
        self.sts = self.peer("sts")
        return self

    def asked(self, domain="example.org"):
        f = self.sts.expect("STS")
        tag = f.u32()
        assert f.text() == domain
        f.done()
        return tag

    def told(self, tag, answer, text=b"", why="", sts=None):
        (sts or self.sts).send("STS_IS", u32(tag) + u8(answer) + view(text) +
                               view(why))

    def route(self, *hosts):
        """(host, address), best first"""
        f = self.lookup.expect("ROUTE")
        tag = f.u32()
        self.lookup.send("ROUTE_IS", u32(tag) + u8(1) + view("") +
                         u32(len(hosts)) + b"".join(
            u16(10 * i) + view(h) + view(socket.inet_aton(a))
            for i, (h, a) in enumerate(hosts)))

    def dane(self, status, way=0, records=()):
        f = self.lookup.expect("DANE")
        tag = f.u32()
        assert (f.text(), f.text()) == ("example.org", "mx.example.org")
        self.lookup.send("DANE_IS", u32(tag) + u8(status) + u8(way) +
                         view("mx.example.org") + u32(len(records)) +
                         b"".join(view(r) for r in records))

    def send_to(self, server, text, hosts=(("mx.example.org", A),),
                answer=POLICY):
        self.deliver(f"example.org:{server.port}")
        self.told(self.asked(), answer, text)
        if hosts:
            self.route(*hosts)
        return self.result()


@pytest.mark.parametrize("name", ["mx", "wild"])
def test_enforce(keys, name):
    with Server(starttls(context(keys, name))) as server, \
            StsRelay(keys) as relay:
        r = relay.send_to(server, policy("mx.example.org"))
        assert r.status == SENT, r.reason
        relay.wait_log(LINE % ("secure", "2.0.0"))


@pytest.mark.parametrize("name,why", [
    ("self", "Server certificate not trusted"),
    ("expired", "Server certificate not trusted"),
    ("nexthop", "Server certificate not verified")])
def test_enforce_certificate(keys, name, why):
    """The name of the domain is not the name of its server."""
    with Server(starttls(context(keys, name))) as server, \
            StsRelay(keys) as relay:
        r = relay.send_to(server, policy("*.example.org"))
        assert (r.status, r.dsn, r.reason) == (DEFERRED, "4.7.5", why)


def test_enforce_without_starttls(keys):
    with Server(script()) as server, StsRelay(keys) as relay:
        r = relay.send_to(server, policy("mx.example.org"))
        assert (r.status, r.dsn) == (DEFERRED, "4.7.4")
        assert "TLS is required, but was not offered" in r.reason


def test_only_named_hosts(keys):
    """The best host, which the policy does not name, is not connected to."""
    with Server(starttls(context(keys, "mx"))) as server, \
            StsRelay(keys) as relay:
        r = relay.send_to(server, policy("mx.example.org"), [
            ("evil.example.net", B), ("mx.example.org", A)])
        assert r.status == SENT, r.reason
        assert server.connections == 1
        relay.wait_log("does not name its mail server evil.example.net")


def test_no_named_host(keys):
    with Server(starttls(context(keys, "mx"))) as server, \
            StsRelay(keys) as relay:
        r = relay.send_to(server, policy("*.example.org"), [
            ("mx.example.net", A), ("a.b.example.org", A)])
        assert (r.status, r.dsn, r.reason) == (
            DEFERRED, "4.4.4",
            "the MTA-STS policy of example.org names no MX host")
        assert server.connections == 0


@pytest.mark.parametrize("answer,text", [
    (NO_POLICY, b""), (FETCH_ERROR, b""),
    (POLICY, policy("other.example", mode="testing")),
    (POLICY, policy(mode="none"))])
def test_not_enforced(keys, answer, text):
    with Server(starttls(context(keys, "self"))) as server, \
            StsRelay(keys) as relay:
        r = relay.send_to(server, text, answer=answer)
        assert r.status == SENT, r.reason
        relay.wait_log(LINE % ("may", "2.0.0"))


def test_encrypt_stays(keys):
    """What we want at least is not undone by a domain that wants less."""
    with Server(script()) as server, StsRelay(keys, "encrypt") as relay:
        r = relay.send_to(server, policy(mode="none"))
        assert (r.status, r.dsn) == (DEFERRED, "4.7.4")


@pytest.mark.parametrize("name,hosts", [
    ("mx", ["other.example"]), ("wild", ["*.example.org"])])
def test_patterns_not_enforced(keys, name, hosts):
    """To any server, with a name of the policy."""
    with Server(starttls(context(keys, name))) as server, StsRelay(
            keys, smtp_tls_enforce_sts_mx_patterns="no") as relay:
        r = relay.send_to(server, policy("mail.example.org"),
                          [("odd.example.net", A)])
        assert (r.status, r.dsn) == ((SENT, "2.0.0") if name == "wild" else (
            DEFERRED, "4.7.5")), r.reason
        r = relay.send_to(server, policy(*hosts, "mx.example.org"),
                          [("odd.example.net", A)])
        assert r.status == SENT, r.reason


# What DNSSEC says of the server (status, is the way to it proven, certificate
# in the record), the hosts of the policy, the server's certificate -> how it
# ends, tls=, what is said
NONE, FOUND, FAILED = 1, 2, 3
DANE = [
    # DANE wins, for good and bad
    (FOUND, 1, "self", "other.example", "self", SENT, "dane", ""),
    (FOUND, 1, "self", "mx.example.org", "mx", DEFERRED, "dane:encrypt",
     "Server certificate not trusted"),
    (FAILED, 0, None, "mx.example.org", "mx", DEFERRED, "dane:none",
     "TLSA lookup error"),
    # where it is
    (NONE, 0, None, "mx.example.org", "mx", SENT, "secure", ""),
    (NONE, 0, None, "mx.example.org", "self", DEFERRED, "secure:encrypt",
     "Server certificate not trusted"),
    (NONE, 0, None, "other.example", "mx", DEFERRED, "secure:none",
     "no DANE, and the MTA-STS policy does not name host mx.example.org"),
    # records of a server that anybody can have put there
    (FOUND, 0, "self", "mx.example.org", "self", DEFERRED, "secure:encrypt",
     "Server certificate not trusted"),
    (FOUND, 0, "self", "mx.example.org", "mx", SENT, "secure", ""),
]


@pytest.mark.parametrize("status,way,record,hosts,cert,end,word,said", DANE)
def test_dane_wins(keys, status, way, record, hosts, cert, end, word, said):
    records = [bytes((3, 1, 1)) + bytes.fromhex(digest(keys, record, True))
               ] if record else []
    with Server(starttls(context(keys, cert))) as server, \
            StsRelay(keys, "dane") as relay:
        relay.deliver(f"example.org:{server.port}")
        relay.told(relay.asked(), POLICY, policy(hosts))
        relay.route(("mx.example.org", A))
        relay.dane(status, way, records)
        r = relay.result()
        assert r.status == end and r.reason.startswith(said), r.reason
        relay.wait_log(LINE % (word, "2.0.0" if end == SENT else "4.7.5"))


@pytest.mark.parametrize("status,want", [
    (FOUND, "mx.example.org"), (NONE, "example.org")])
def test_dane_chooses_the_servername(keys, status, want):
    """Of the records, whatever smtp_tls_servername is: RFC 7672 8.1."""
    seen = []
    ctx = context(keys, "self")
    ctx.sni_callback = lambda sock, name, c: seen.append(name)
    records = [bytes((3, 1, 1)) + bytes.fromhex(digest(keys, "self", True))]
    with Server(starttls(ctx)) as server, StsRelay(
            keys, "dane", smtp_tls_servername="nexthop",
            smtp_tls_sts="no") as relay:
        relay.deliver(f"example.org:{server.port}")
        relay.route(("mx.example.org", A))
        relay.dane(status, 1, records if status == FOUND else ())
        assert relay.result().status == SENT
        assert seen == [want]


def sent_by(keys, record, tls):
    with Server(starttls(context(keys, "self"))) as server, \
            StsRelay(keys, "dane", smtp_tls_sts="no") as relay:
        relay.deliver(f"example.org:{server.port}")
        relay.route(("mx.example.org", A))
        relay.dane(FOUND, 1, [record])
        assert relay.result().status == SENT
        relay.wait_log(LINE % (tls, "2.0.0"))


@pytest.mark.parametrize("record", [
    bytes((3, 0, 0)) + b"no certificate", bytes((3, 1, 0)) + b"\x30\x03abc",
    bytes((2, 0, 0, 0x30))])
def test_dane_malformed(keys, record):
    """Records that nobody can use want TLS, no more: RFC 7672 2.2."""
    sent_by(keys, record, "dane:encrypt")


@pytest.mark.parametrize("selector", [0, 1])
def test_dane_whole(keys, selector):
    """A certificate or a key instead of its digest."""
    digest(keys, "self", True)      # makes self.der of the key
    keys.openssl("x509", "-in", "self.crt", "-outform", "DER", "-out",
                 "self.cert")
    with open(keys.path("self.der" if selector else "self.cert"), "rb") as f:
        record = bytes((3, selector, 0)) + f.read()
    sent_by(keys, record, "dane")


def test_dane_and_testing(keys):
    """Nothing but a line in the log comes of that."""
    with Server(script()) as server, StsRelay(keys, "dane") as relay:
        relay.deliver(f"example.org:{server.port}")
        relay.told(relay.asked(), POLICY, policy("a.example", mode="testing"))
        relay.route(("mx.example.org", A))
        relay.dane(NONE)
        assert relay.result().status == SENT
        relay.wait_log("mode testing: the policy of example.org does not name "
                       "its mail server mx.example.org")


def test_kept_session_of_dane(keys):
    """One that had neither is not for a delivery that has to have one."""
    with Server(starttls(context(keys, "self"))) as server, StsRelay(
            keys, "dane", smtp_connection_cache_time_limit="60s") as relay:
        for text, end in ((policy(mode="none"), SENT),
                          (policy("mx.example.org"), DEFERRED)):
            relay.deliver(f"example.org:{server.port}")
            relay.told(relay.asked(), POLICY, text)
            relay.route(("mx.example.org", A))
            relay.dane(NONE)
            assert relay.result().status == end
        assert server.connections == 2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2,
                                     ssl.TLSVersion.TLSv1_3])
def test_resumed_with_the_same_records_only(keys, version):
    good = bytes((3, 1, 1)) + bytes.fromhex(digest(keys, "self", True))
    bad = bytes((3, 1, 1)) + b"x" * 32
    with Server(starttls(context(keys, "self", version))) as server, StsRelay(
            keys, "dane", smtp_tls_loglevel="1",
            smtp_connection_cache_on_demand="no") as relay:
        resumed = 0
        for status, records, way, end, reused, word in (
                (FOUND, [good], 1, SENT, 0, "dane"),
                (FOUND, [good], 1, SENT, 1, "dane"),
                (FOUND, [good, bad], 1, SENT, 0, "dane"),
                (FOUND, [bad], 1, DEFERRED, 0, "dane:encrypt"),
                (FOUND, [bad], 1, DEFERRED, 0, "dane:encrypt"),
                (FOUND, [good], 0, SENT, 0, "dane:halfdane"),
                (NONE, [], 0, SENT, 0, "dane:encrypt"),
                (NONE, [], 0, SENT, 1, "dane:encrypt"),
                (FOUND, [good], 0, SENT, 1, "dane:halfdane"),
                (FOUND, [good], 1, SENT, 1, "dane")):
            relay.deliver(f"example.org:{server.port}")
            relay.told(relay.asked(), NO_POLICY)
            relay.route(("mx.example.org", A))
            relay.dane(status, way, records)
            r = relay.result()
            assert r.status == end, r.reason
            wait_for("the end", lambda: relay.status()["sessions"] == "0")
            resumed += reused
            assert relay.status()["tls_resumed"] == str(resumed)
            assert re.search(f" tls={word}, dsn=", relay.log().rstrip().split(
                "\n")[-1])
        # the record again, of a resumed session as of a full one
        assert relay.log().count("Verified TLS connection reused") == 3


@pytest.mark.parametrize("level", ["none", "secure", "dane-only"])
def test_level_of_our_own(keys, level):
    """Not asked: there is nothing that it could say."""
    with Server(starttls(context(keys, "nexthop"))) as server, \
            StsRelay(keys, level) as relay:
        relay.deliver(f"example.org:{server.port}")
        relay.route(("mx.example.org", A))
        if level == "dane-only":
            relay.dane(FOUND, 1, [bytes((3, 1, 1)) + bytes.fromhex(
                digest(keys, "nexthop", True))])
        r = relay.result()
        assert r.status == SENT, r.reason


def test_table_wins(keys, tmp_path):
    table = tmp_path / "policy"
    with Server(script()) as server:
        table.write_text(f"example.org:{server.port} none\n")
        with StsRelay(keys, smtp_tls_policy_maps=f"texthash:{table}") as relay:
            relay.deliver(f"example.org:{server.port}")
            relay.route(("mx.example.org", A))
            assert relay.result().status == SENT


def test_host_is_no_domain(keys):
    """In brackets: a policy is one of a domain."""
    with Server(starttls(context(keys, "self"))) as server, \
            StsRelay(keys) as relay:
        assert relay.send(server.hop).status == SENT
        relay.deliver(f"[example.org]:{server.port}")
        relay.route(("example.org", A))
        assert relay.result().status == SENT


def test_kept_session(keys):
    """One that was made without a policy is not used under one."""
    with Server(starttls(context(keys, "self"))) as server, StsRelay(
            keys, smtp_connection_cache_time_limit="60s") as relay:
        assert relay.send_to(server, b"", answer=NO_POLICY).status == SENT
        relay.idle()
        r = relay.send_to(server, policy("mx.example.org"))
        assert (r.status, r.dsn) == (DEFERRED, "4.7.5")
        assert server.connections == 2


def test_silent_sts(keys):
    """Nobody answers: mail waits, it is not sent without protection."""
    with Server(script()) as server, StsRelay(
            keys, smtp_tls_sts_timeout="1s") as relay:
        relay.deliver(f"example.org:{server.port}")
        relay.asked()
        r = relay.result(60)
        assert (r.status, r.dsn, r.reason) == (
            DEFERRED, "4.7.5", "MTA-STS policy lookup error")
        assert server.connections == 0


def test_sts_ends(keys):
    """The next one is asked."""
    with Server(starttls(context(keys, "self"))) as server, \
            StsRelay(keys) as relay:
        relay.deliver(f"example.org:{server.port}")
        relay.asked()
        relay.sts.close()
        relay.sts = relay.peer("sts", generation=2)
        relay.told(relay.asked(), NO_POLICY)
        relay.route(("mx.example.org", A))
        assert relay.result().status == SENT


@pytest.mark.parametrize("answer,text", [
    (0, b""), (99, b""), (POLICY, b""), (POLICY, b"version: STSv1\n"),
    (NO_POLICY, policy("a.example")), (POLICY, b"\xff" * 70000)],
    ids=["0", "99", "empty", "cut", "too much", "huge"])
def test_bad_answer(keys, answer, text):
    """What is no policy ends the channel; the question is still open."""
    with Server(starttls(context(keys, "self"))) as server, \
            StsRelay(keys) as relay:
        relay.deliver(f"example.org:{server.port}")
        relay.told(relay.asked(), answer, text)
        f = relay.control.expect("BLAME")
        assert f.u32() == os.getpid()
        relay.sts = relay.peer("sts", generation=2)
        relay.told(relay.asked(), NO_POLICY)
        relay.route(("mx.example.org", A))
        assert relay.result().status == SENT


def test_late_answer(keys):
    """The delivery has ended: its answer is for nobody."""
    with Server(script()) as server, StsRelay(keys) as relay:
        relay.deliver(f"example.org:{server.port}", limit=0.3)
        tag = relay.asked()
        r = relay.result()
        assert r.status == DEFERRED
        relay.told(tag, POLICY, policy("mx.example.org"))
        r = relay.send_to(server, b"", answer=NO_POLICY)
        assert r.status == SENT
