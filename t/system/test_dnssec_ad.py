"""DANE by the word of a resolver on loopback (its AD bit), and of no other."""
import ctypes
import os
import socket
import struct
import subprocess
import threading

import pytest

from postern import mail
from resolver import NameService, available
from role_driver import u16, u32, view
from test_dane import FAILED, FOUND, NONE, Dane
from test_lookup import A, AAAA, MX, NameServer, ip, mx

TLSA = 52
ANSWER_AD = 0x81a0
RECORD = bytes((3, 1, 1)) + b"x" * 32
BELIEVED = "DNSSEC: the resolver on loopback is believed"
DANE_RECORDS_MAX = 50

real = pytest.mark.skipif(not available(),
                          reason="needs nsd, unbound, ldnsutils")
ZONE = {
    ("a.example", A): [ip("192.0.2.1")],
    ("a.example", AAAA): [],
    ("_25._tcp.a.example", TLSA): [RECORD],
    ("a.example", MX): [mx(1, "a.example")],
    ("refused.example", A): "refused",
    ("refused.example", AAAA): "servfail",
    ("lost.example", A): [ip("192.0.2.2")],
    ("lost.example", AAAA): [],
    ("_25._tcp.lost.example", TLSA): "servfail",
    **{(f"s{n}.example", t): [ip("192.0.2.3")] if t == A else []
       for n in range(21) for t in (A, AAAA)},
    **{(f"_25._tcp.s{n}.example", TLSA): [(b"\3\1\1" + b"x" * 20)[:n]]
       for n in range(21)},
    **{(f"s{n}.example", MX): [(b"\0\1" + b"\1x" * 9)[:n]]
       for n in range(21)},
    ("probe.example", A): [ip("192.0.2.9")],
}


def is_found(answer):
    return answer == (FOUND, 1, "a.example", [RECORD])


class Raw(NameServer):
    """Keeps the questions as they came."""

    def __init__(self, zone, flags=ANSWER_AD):
        self.questions = []
        super().__init__(zone)
        self.flags = flags

    def reply(self, q):
        self.questions.append(q)
        return super().reply(q)


def test_the_bit(tmp_path):
    with Raw(ZONE) as server, Dane(server) as ask:
        assert is_found(ask.dane("a.example", "a.example", 25))
        assert f"{BELIEVED} (127.0.0.1)" in ask.log()
        # RFC 6840 section 5.7, RFC 3225
        for q in server.questions:
            assert q[3] & 0x20, "AD is not asked for"
            assert q[-11:-8] == b"\0\0\x29" and q[-4] & 0x80, "no DO"
        # No number is used twice in a row, nor counted up.
        ids = {struct.unpack_from(">H", q)[0] for q in server.questions}
        assert len(ids) > 1
        server.flags = 0x8180
        assert ask.dane("a.example", "a.example", 25)[0] == NONE
    with Raw(ZONE) as server, Dane(server, dns_trust_ad="no") as ask:
        assert ask.dane("a.example", "a.example", 25)[0] == NONE
        assert ask.dane("", "a.example", 25)[0] == NONE
        ask.settle()
        said = "DNSSEC: nothing is proven, so that there is no DANE: "
        assert ask.log().count(said) == 1 and "dns_trust_ad = no" in ask.log()
    # What is not under this root is not proven.
    anchors = tmp_path / "anchors"
    anchors.write_text("other.example. IN DS 1 13 2 " + "00" * 32 + "\n")
    with Raw(ZONE) as server, Dane(
            server, dns_trust_anchor_file=str(anchors)) as ask:
        assert ask.dane("a.example", "a.example", 25)[0] == NONE


def test_failures():
    with Raw(ZONE) as server, Dane(server) as ask:
        assert ask.dane("", "refused.example", 25)[0] == FAILED
        assert ask.dane("", "lost.example", 25)[0] == FAILED
        assert ask.dane("", "nowhere.example", 25)[0] == NONE


def test_short_records():
    with Raw(ZONE) as server, Dane(server) as ask:
        for n in range(21):
            status, _, _, records = ask.dane("", f"s{n}.example", 25)
            assert (status, records) == ((NONE, []) if n < 3 else (FOUND, [
                (b"\3\1\1" + b"x" * 20)[:n]]))
            # An MX record with half a name says nothing.
            assert ask.dane(f"s{n}.example", f"s{n}.example",
                            25)[0] == FAILED


def test_probe():
    """A resolver that validates nothing is named, once; one that has proven
    something is not asked, and what fails says nothing."""
    said = "DNSSEC validation may be unavailable: the resolver "
    probe = {"dnssec_probe": "A:probe.example"}
    with Raw(ZONE, 0x8180) as server, Dane(server, **probe) as ask:
        for _ in range(3):
            assert ask.dane("", "a.example", 25)[0] == NONE
        ask.wait_log(said + "has not validated its answer to dnssec_probe = "
                     "A:probe.example")
        assert ask.log().count(said) == 1
        assert server.asked.count(("probe.example", A)) == 1
    with Raw(ZONE) as server, Dane(server, **probe) as ask:
        assert ask.dane("", "refused.example", 25)[0] == FAILED
        assert ask.dane("", "a.example", 25)[0] == FOUND
        server.flags = 0x8180
        assert ask.dane("", "a.example", 25)[0] == NONE
        ask.settle()
        assert ("probe.example", A) not in server.asked
    with Raw(ZONE, 0x8180) as server, Dane(server, dnssec_probe="") as ask:
        assert ask.dane("", "a.example", 25)[0] == NONE
        ask.settle()
        assert "DNSSEC validation" not in ask.log()
    for bad in "what", "what:ever", "a", "a:" + "x" * 64 + ".example":
        with Raw(ZONE, 0x8180) as server, Dane(server,
                                               dnssec_probe=bad) as ask:
            assert ask.dane("", "a.example", 25)[0] == NONE
            ask.wait_log(f"dnssec_probe: cannot be asked: {bad}")


class Forger(Raw):
    """The answer comes without AD; before it, others with it: from another
    port, with another number, to another question."""

    def __init__(self, zone):
        self.other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        super().__init__(zone, 0x8180)

    def reply(self, q):
        true = super().reply(q)
        client = self.client
        forged = true[:2] + struct.pack(">H", ANSWER_AD) + true[4:]
        self.other.sendto(forged, client)
        self.s.sendto(bytes([forged[0] ^ 1]) + forged[1:], client)
        self.s.sendto(forged[:13] + b"z" + forged[14:], client)
        return true

    def serve(self):
        while True:
            q, self.client = self.s.recvfrom(65536)
            if len(q) < 12:
                return
            self.s.sendto(self.reply(q), self.client)

    def __exit__(self, *rest):
        super().__exit__(*rest)
        self.other.close()


def test_forged_answers():
    with Forger(ZONE) as server, Dane(server) as ask:
        for _ in range(10):
            assert ask.dane("a.example", "a.example", 25)[0] == NONE
        assert ("a.example", A) in server.asked


class Truncated(Raw):
    """All is cut short by UDP; by TCP it does as how says."""

    def __init__(self, zone, how):
        self.tcp = None
        self.how = how
        self.connections = 0
        super().__init__(zone)
        if how == "refuse":
            self.tcp.close()
            self.tcp = None
            return
        self.tcp.listen(50)
        threading.Thread(target=self.accept, daemon=True).start()

    def bind(self):
        """A port that nobody has, by UDP and by TCP."""
        for _ in range(100):
            s = super().bind()
            self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                self.tcp.bind(s.getsockname())
                return s
            except OSError:
                s.close()
                self.tcp.close()
        raise AssertionError("no port is free")

    def accept(self):
        kept = []
        while True:
            try:
                c, _ = self.tcp.accept()
            except OSError:
                return
            self.connections += 1
            if self.how == "hang":
                kept.append(c)
                continue
            if self.how == "answer":
                threading.Thread(target=self.talk, args=(c,),
                                 daemon=True).start()
                continue
            if self.how == "half":
                c.sendall(b"\0\x40half")
            c.close()

    def talk(self, c):
        f = c.makefile("rb")
        while True:
            n = f.read(2)
            if len(n) < 2:
                return
            r = NameServer.reply(self, f.read(struct.unpack(">H", n)[0]))
            c.sendall(struct.pack(">H", len(r)) + r)

    def reply(self, q):
        r = super().reply(q)
        return r[:2] + struct.pack(">H", ANSWER_AD | 0x200) + r[4:]

    def __exit__(self, *rest):
        super().__exit__(*rest)
        if self.tcp:
            self.tcp.shutdown(socket.SHUT_RDWR)
            self.tcp.close()


@pytest.mark.parametrize("how", ["answer", "refuse", "close", "half", "hang"])
def test_tcp(how):
    with Truncated(ZONE, how) as server, Dane(server) as ask:
        answer = ask.dane("a.example", "a.example", 25)
        assert is_found(answer) if how == "answer" else answer[0] == FAILED
        assert (server.connections > 0) == (how != "refuse")


def test_silence():
    """It costs those who wait for it their time only."""
    zone = {**ZONE, ("mute.example", A): "silence",
            ("mute.example", AAAA): "silence"}
    with Raw(zone) as server, Dane(server) as ask:
        ask.tag += 1
        ask.relay.send("DANE", u32(ask.tag) + view("") +
                       view("mute.example") + u16(25))
        assert is_found(ask.dane("a.example", "a.example", 25))
        f = ask.relay.expect("DANE_IS", 40)
        assert (f.u32(), f.u8()) == (ask.tag - 1, FAILED)
        assert server.asked.count(("mute.example", A)) == 3
        # One that leaves does not leave its questions.
        ask.relay.send("DANE", u32(1) + view("") + view("mute.example") +
                       u16(25))
        ask.settle()
        ask.relay.close()
        ask.relay = ask.peer("relay")
        assert is_found(ask.dane("a.example", "a.example", 25))


@pytest.fixture(scope="module")
def dns():
    tlsa = "".join(f"_26._tcp.ok TLSA 3 1 1 {i:064x}\n" for i in range(150))
    d = NameService({"plain.example": "ok A 192.0.2.1\n"
                     f"_25._tcp.ok TLSA 3 1 1 {'aa' * 32}\n"},
                    {"signed.example": "ok A 192.0.2.1\n@ MX 10 ok\n"
                     f"_25._tcp.ok TLSA 3 1 1 {'aa' * 32}\n" + tlsa},
                    {"forged.example": (
                        f"f A 192.0.2.1\n_25._tcp.f TLSA 3 1 1 {'aa' * 32}\n",
                        "aa" * 32, "ab" * 32)})
    yield d
    d.close()


@real
@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_in_the_jail(dns, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    with Dane(dns, jail=dict(jailed=True, user="nobody",
                             root=str(root))) as ask:
        assert ask.dane("signed.example", "ok.signed.example", 25)[:2] == (
            FOUND, 1)
        assert ask.dane("", "f.forged.example", 25)[0] == FAILED
        assert ask.dane("", "ok.plain.example", 25)[0] == NONE
        # by TCP
        records = ask.dane("", "ok.signed.example", 26)[3]
        assert len(records) == DANE_RECORDS_MAX
        assert len(set(records)) == DANE_RECORDS_MAX


@real
def test_it_ends_and_returns(dns):
    with Dane(dns) as ask:
        assert ask.dane("", "ok.signed.example", 25)[0] == FOUND
        dns.stop(dns.unbound)
        assert ask.dane("", "ok.signed.example", 25)[0] == FAILED
        dns.start_unbound()
        assert ask.dane("", "ok.signed.example", 25)[0] == FOUND


@real
def test_many_at_once(dns):
    with Dane(dns) as ask:
        for i in range(1000):
            ask.relay.send("DANE", u32(i) + view("signed.example") +
                           view("ok.signed.example") + u16(25))
        for _ in range(1000):
            f = ask.relay.expect("DANE_IS", 40)
            f.u32()
            assert (f.u8(), f.u8()) == (FOUND, 1)


# -- resolv.conf, in a network and with a file of one's own -------------------

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000


def can_unshare():
    return os.getuid() == 0 and subprocess.run(
        ["unshare", "-m", "-n", "true"], capture_output=True).returncode == 0


class Namespaces:
    """This process, and all that it starts, in others."""

    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.before = [os.open(f"/proc/self/ns/{n}", os.O_RDONLY)
                       for n in ("net", "mnt")]
        self.here = os.getcwd()
        self.must(self.libc.unshare(CLONE_NEWNET | CLONE_NEWNS))

    def must(self, rc):
        if rc != 0:
            raise OSError(ctypes.get_errno(), "namespace")

    def close(self):
        for fd in self.before:
            self.must(self.libc.setns(fd, 0))
            os.close(fd)
        os.chdir(self.here)


@pytest.fixture(scope="module")
def resolv_conf(tmp_path_factory):
    path = tmp_path_factory.mktemp("etc") / "resolv.conf"
    path.write_text("")
    ns = Namespaces()
    try:
        for command in (f"mount --make-rprivate /; mount --bind {path} "
                        "/etc/resolv.conf", "ip link set lo up",
                        "ip address add 192.0.2.53/32 dev lo"):
            subprocess.run(["sh", "-c", command], check=True)
        yield path
    finally:
        ns.close()


@pytest.fixture(scope="module")
def port53(resolv_conf):
    d = NameService({}, {"signed.example": "ok A 127.0.0.1\n@ MX 10 ok\n"
                         f"_25._tcp.ok TLSA 3 1 1 {'aa' * 32}\n"},
                    addresses=("127.0.0.1", "127.0.0.53", "::1",
                               "192.0.2.53"), port=53)
    yield d
    d.close()


@real
@pytest.mark.skipif(not can_unshare(), reason="needs namespaces")
@pytest.mark.parametrize("servers,conf,found", [
    (["127.0.0.1"], {}, True),
    (["127.0.0.53"], {}, True),
    (["::1"], {}, True),
    (["127.0.0.1", "::1"], {}, True),
    # the same resolver, with the same bit, by way of another address
    (["192.0.2.53"], {}, False),
    (["127.0.0.1", "192.0.2.53"], {}, False),
    (["192.0.2.53", "127.0.0.1"], {}, False),
    (["192.0.2.53"], {"dns_trust_ad": "auto"}, False),
    (["127.0.0.1"], {"dns_trust_ad": "no"}, False),
    (["127.0.0.1"], {"dns_resolvers": "192.0.2.53"}, False),
    (["192.0.2.53"], {"dns_resolvers": "127.0.0.1"}, True),
    # none is named, although one is there
    ([], {}, False),
], ids=str)
def test_resolv_conf(resolv_conf, port53, servers, conf, found):
    resolv_conf.write_text("search example\n" + "".join(
        f"nameserver {s}\n" for s in servers))
    with Dane(port53, **{"dns_resolvers": "", **conf}) as ask:
        assert (BELIEVED in ask.log()) == found
        if servers:
            assert ask.dane("signed.example", "ok.signed.example", 25)[:2] \
                == ((FOUND, 1) if found else (NONE, 0))


@real
@pytest.mark.skipif(not can_unshare(), reason="needs namespaces")
def test_gateway(resolv_conf, port53, make, sink):
    """What nothing can be proven by is said before mail depends on it."""
    main = {"dns_resolvers": "", "smtp_tls_security_level": "dane",
            "relay_domains": "signed.example", "transport_maps":
            f"inline:{{ {{signed.example = relay:signed.example:{sink.port}}} "
            "}"}
    resolv_conf.write_text("nameserver 192.0.2.53\n")
    gw = make(sink, main=main)
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "u@signed.example",
                         mail("dane")).code == 250
    gw.wait_log(r"DNSSEC: nothing is proven, so that there is no DANE: .* "
                r"the resolver 192\.0\.2\.53 is not on loopback")
    gw.wait_log(r"tls=dane:none, dsn=2\.0\.0, status=sent")
    said = gw.command("check").stderr
    assert "smtp_tls_security_level is dane, but nothing is proven by " \
        "DNSSEC: no dns_trust_anchor_file" in said, said
    assert "and the resolver 192.0.2.53 is not on loopback" in said
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    said = gw.command("check").stderr
    assert "DNSSEC" not in said, said
    p = gw.command("test", check=False)
    assert f"{BELIEVED} (127.0.0.1)" in p.stdout
    gw.set(smtp_tls_security_level="may", smtp_tls_policy_maps="inline:"
           "{ {signed.example = dane-only} }")
    assert "DNSSEC" not in gw.command("check").stderr
    resolv_conf.write_text("nameserver 192.0.2.53\n")
    assert "smtp_tls_policy_maps is dane, but nothing is proven" in \
        gw.command("check").stderr
