"""The lookup role against a name server that says what the test wants."""
import os
import socket
import struct
import threading

import pytest

from postern import wait_for
from role_driver import Role, u8, u32, view

A, PTR, MX, AAAA, SRV = 1, 12, 15, 28, 33
# enum route_flag
WITH_MX, NATIVE, NO_DNS, IGNORE_MX, DEFER_MX, WITH_SRV, SRV_FALLBACK, \
    IGNORE_SRV = (1 << i for i in range(8))
NAME_OK, UNVERIFIED, NO_NAME, NAME_TEMPFAIL = 1, 2, 3, 4
FOUND, NOT_FOUND, TEMPFAIL, NULL_MX = 1, 2, 3, 4


def wire(name):
    out = b""
    for label in name.rstrip(".").split("."):
        if label:
            out += bytes([len(label)]) + label.encode()
    return out + b"\0"


def mx(preference, name):
    return struct.pack(">H", preference) + wire(name)


def srv(priority, weight, port, name):
    return struct.pack(">HHH", priority, weight, port) + wire(name)


def ip(text):
    return socket.inet_pton(socket.AF_INET6 if ":" in text else
                            socket.AF_INET, text)


class NameServer:
    """zone: (name, type) -> list of rdata, or "servfail", "silence"; a name
    that is in no key does not exist."""

    def __init__(self, zone):
        self.zone = zone
        self.asked = []
        self.ttl = 60
        self.flags = 0x8180
        self.s = self.bind()
        self.address = "127.0.0.1@%d" % self.s.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def bind(self):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
        return s

    def serve(self):
        while True:
            try:
                q, client = self.s.recvfrom(65536)
            except OSError:
                return
            if len(q) < 12:
                return
            reply = self.reply(q)
            if reply:
                self.s.sendto(reply, client)

    def reply(self, q):
        pos, labels = 12, []
        while q[pos]:
            labels.append(q[pos + 1:pos + 1 + q[pos]].decode().lower())
            pos += 1 + q[pos]
        name = ".".join(labels)
        kind = struct.unpack_from(">H", q, pos + 1)[0]
        question = q[12:pos + 5]
        self.asked.append((name, kind))
        data = self.zone.get((name, kind))
        rcode, answers = 0, []
        if data is None:
            if not any(n == name for n, _ in self.zone):
                rcode = 3
        elif data == "silence":
            return None
        elif data == "servfail":
            rcode = 2
        elif data == "refused":
            rcode = 5
        else:
            answers = data
        return (q[:2] + struct.pack(">HHHHH", self.flags | rcode, 1,
                                    len(answers), 0, 0) + question +
                b"".join(b"\xc0\x0c" + struct.pack(
                    ">HHIH", kind, 1, self.ttl, len(d)) + d for d in answers))

    def __enter__(self):
        return self

    def __exit__(self, *rest):
        port = self.s.getsockname()[1]
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(
            b"end", ("127.0.0.1", port))
        self.thread.join(5)
        self.s.close()


class Lookup(Role):
    def __init__(self, server, **conf):
        conf = {"myhostname": "gw.example.com", "mydomain": "example.com",
                "dns_resolvers": server.address, **conf}
        jail = conf.pop("jail", {})
        super().__init__("lookup", **jail, **conf)
        self.tag = 0

    def __enter__(self):
        super().__enter__()
        self.smtpd = self.peer("smtpd")
        self.relay = self.peer("relay")
        self.start()
        return self

    def ask_name(self, addr):
        self.tag += 1
        self.smtpd.send("NAME", u32(self.tag) + view(ip(addr)))

    def name_is(self, seconds=15):
        f = self.smtpd.expect("NAME_IS", seconds)
        tag = f.u32()
        r = (f.u8(), f.text(), f.text())
        f.done()
        return tag, r

    def name(self, addr):
        self.ask_name(addr)
        tag, r = self.name_is()
        assert tag == self.tag
        return r

    def ask_route(self, domain, flags=WITH_MX):
        self.tag += 1
        self.relay.send("ROUTE", u32(self.tag) + u8(flags) + view(domain))

    def route_is(self, seconds=35):
        f = self.relay.expect("ROUTE_IS", seconds)
        tag = f.u32()
        status, text = f.u8(), f.text()
        routes = []
        for _ in range(f.u32()):
            preference, host, addr = f.u16(), f.text(), f.view()
            port = (struct.unpack(">H", addr[-2:]) if len(addr) in (6, 18)
                    else ())
            if port:
                addr = addr[:-2]
            routes.append((preference, host.lower(), socket.inet_ntop(
                socket.AF_INET if len(addr) == 4 else socket.AF_INET6,
                addr) if addr else None) + port)
        f.done()
        return tag, status, text, routes

    def route(self, domain, flags=WITH_MX):
        self.ask_route(domain, flags)
        tag, *rest = self.route_is()
        assert tag == self.tag
        return tuple(rest)


ZONE = {
    ("1.2.0.192.in-addr.arpa", PTR): [wire("mail.example.org")],
    ("2.2.0.192.in-addr.arpa", PTR): [wire("mail.example.org")],
    ("3.2.0.192.in-addr.arpa", PTR): [wire("gone.example.org")],
    ("4.2.0.192.in-addr.arpa", PTR): "servfail",
    ("5.2.0.192.in-addr.arpa", PTR): [wire("broken.example.org")],
    ("6.2.0.192.in-addr.arpa", PTR): [wire("192.0.2.6")],
    ("7.2.0.192.in-addr.arpa", PTR): [wire("a b.example.org"),
                                      wire("mail.example.org")],
    ("8.2.0.192.in-addr.arpa", PTR): "silence",
    ("1.0.0.10.in-addr.arpa", PTR): [wire("inside.example.org")],
    ("inside.example.org", A): [ip("10.0.0.1")],
    ("1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa", PTR):
        [wire("six.example.org")],
    ("six.example.org", AAAA): [ip("2001:db8::2"), ip("2001:db8::1")],
    ("mail.example.org", A): [ip("192.0.2.99"), ip("192.0.2.1")],
    ("broken.example.org", A): "servfail",
    ("example.org", MX): [mx(20, "back.example.org"),
                          mx(10, "mail.example.org")],
    ("back.example.org", A): [ip("192.0.2.20")],
    ("back.example.org", AAAA): [ip("2001:db8::20")],
    ("nomx.example.org", A): [ip("192.0.2.30")],
    ("null.example.org", MX): [mx(0, "")],
    ("dot.example.org", MX): [mx(0, ""), mx(10, "mail.example.org")],
    ("fail.example.org", MX): "servfail",
    ("refused.example.org", MX): "refused",
    ("half.example.org", MX): [mx(10, "broken.example.org"),
                               mx(20, "mail.example.org")],
    ("lost.example.org", MX): [mx(10, "broken.example.org"),
                               mx(20, "gone.example.org")],
    ("dead.example.org", MX): [mx(10, "gone.example.org")],
    ("text.example.org", 16): [b"\1x"],
    ("bad.example.org", MX): [mx(10, "a b.example.org")],
    ("short.example.org", MX): [b"\0"],
    ("loop.example.org", MX): [b"\0\0\xc0\x0c" + b"\0" * 9],
    ("many.example.org", MX): [mx(i, f"h{i}.example.org")
                               for i in range(70)],
    **{(f"h{i}.example.org", A): [ip(f"192.0.3.{i}")] for i in range(70)},
    ("wide.example.org", A): [ip(f"192.0.4.{i}") for i in range(80)],
    ("wide.example.org", AAAA): [ip(f"2001:db8::{i:x}") for i in range(80)],
    ("late.example.org", MX): [mx(10, "mail.example.org"),
                               mx(20, "broken.example.org")],
    ("numeric.example.org", MX): [mx(10, "192.0.2.40")],
    ("fail.example.org", A): [ip("192.0.2.41")],
    ("bad.example.org", A): [ip("192.0.2.42")],
    ("slow.example.org", MX): "silence",
    ("_submission._tcp.example.org", SRV): [
        srv(20, 0, 465, "back.example.org"),
        srv(10, 5, 587, "nomx.example.org"),
        srv(10, 95, 588, "six.example.org")],
    ("_submission._tcp.null.example.org", SRV): [srv(0, 0, 0, "")],
    ("_submission._tcp.fail.example.org", SRV): "servfail",
    ("_submission._tcp.bad.example.org", SRV): [b"\0\0\0"],
    ("_submission._tcp.gone.example.org", SRV): [
        srv(0, 0, 587, "gone.example.org")],
    **{(f"_submission._tcp.s{n}.example.org", SRV): [
        (struct.pack(">HHH", 1, 2, 3) + b"\1x" * 9)[:n]] for n in range(21)},
    **{(f"s{n}.example.org", MX): [(b"\0\1" + b"\1x" * 9)[:n]]
       for n in range(21)},
}


@pytest.fixture(scope="module")
def lookup():
    with NameServer(ZONE) as server, Lookup(server) as role:
        yield role


@pytest.mark.parametrize("addr,answer", [
    ("192.0.2.1", (NAME_OK, "mail.example.org", "mail.example.org")),
    # the reverse zone names a host that is not this one
    ("192.0.2.2", (UNVERIFIED, "unknown", "mail.example.org")),
    ("192.0.2.3", (UNVERIFIED, "unknown", "gone.example.org")),
    ("192.0.2.4", (NAME_TEMPFAIL, "unknown", "unknown")),
    ("192.0.2.5", (NAME_TEMPFAIL, "unknown", "broken.example.org")),
    ("192.0.2.6", (NO_NAME, "unknown", "unknown")),
    ("192.0.2.7", (UNVERIFIED, "unknown", "mail.example.org")),
    ("192.0.2.77", (NO_NAME, "unknown", "unknown")),
    ("10.0.0.1", (NAME_OK, "inside.example.org", "inside.example.org")),
    ("::ffff:192.0.2.1", (NAME_OK, "mail.example.org", "mail.example.org")),
    ("2001:db8::1", (NAME_OK, "six.example.org", "six.example.org")),
    ("2001:db8::7", (NO_NAME, "unknown", "unknown")),
    ("127.0.0.1", (NAME_OK, "localhost", "localhost"))])
def test_name(lookup, addr, answer):
    assert lookup.name(addr) == answer


TRY_AGAIN = "Host or domain name not found. Name service error for " \
    "name=%s type=%s: Host not found, try again"
NOBODY = "Host or domain name not found. Name service error for " \
    "name=%s type=A: Host not found"


@pytest.mark.parametrize("domain,status,text", [
    ("nosuch.example.org", NOT_FOUND, NOBODY % "nosuch.example.org"),
    ("dead.example.org", NOT_FOUND, NOBODY % "gone.example.org"),
    ("text.example.org", NOT_FOUND, "Host or domain name not found. Name "
     "service error for name=text.example.org type=A: Host found but no data "
     "record of requested type"),
    ("null.example.org", NULL_MX,
     "Domain null.example.org does not accept mail (nullMX)"),
    ("fail.example.org", TEMPFAIL, TRY_AGAIN % ("fail.example.org", "MX")),
    ("refused.example.org", TEMPFAIL,
     TRY_AGAIN % ("refused.example.org", "MX")),
    ("lost.example.org", TEMPFAIL,
     TRY_AGAIN % ("broken.example.org", "A")),
    ("short.example.org", TEMPFAIL, None),
    ("loop.example.org", TEMPFAIL, None),
    ("bad.example.org", TEMPFAIL, "Host or domain name not found. Name "
     "service error for name=bad.example.org type=MX: Malformed or "
     "unexpected name server reply"),
    ("a..b", NOT_FOUND, None), ("", NOT_FOUND, None),
    ("a b", NOT_FOUND, None), ("x" * 300, NOT_FOUND, None),
    ("a\0b", NOT_FOUND, None), ("\u00fc.example", NOT_FOUND, None)])
def test_no_route(lookup, domain, status, text):
    got = lookup.route(domain)
    assert got[0] == status, got
    assert got[2] == []
    if text:
        assert got[1] == text


def test_route(lookup):
    assert lookup.route("example.org")[0] == FOUND
    routes = lookup.route("Example.ORG.")[2]
    assert sorted(routes) == [
        (10, "mail.example.org", "192.0.2.1"),
        (10, "mail.example.org", "192.0.2.99"),
        (20, "back.example.org", "192.0.2.20"),
        (20, "back.example.org", "2001:db8::20")]
    assert lookup.route("nomx.example.org") == (
        FOUND, "", [(0, "nomx.example.org", "192.0.2.30")])
    assert lookup.route("example.org", 0)[0] == NOT_FOUND
    assert lookup.route("back.example.org", 0)[2] != []
    assert lookup.route("numeric.example.org")[2] == [
        (10, "192.0.2.40", "192.0.2.40")]
    # a null MX among others is no null MX
    assert {r[1] for r in lookup.route("dot.example.org")[2]} == \
        {"mail.example.org"}
    # one host's failure does not matter while another is known; but if it
    # was the best, that is told
    assert sorted(lookup.route("half.example.org")[2]) == [
        (10, "broken.example.org", None),
        (20, "mail.example.org", "192.0.2.1"),
        (20, "mail.example.org", "192.0.2.99")]
    assert {r[2] for r in lookup.route("late.example.org")[2]} == {
        "192.0.2.1", "192.0.2.99"}
    assert lookup.route("localhost", 0)[2] != []


def test_limits_of_an_answer(lookup):
    routes = lookup.route("many.example.org")[2]
    assert sorted(r[0] for r in routes) == list(range(30))
    assert len(lookup.route("wide.example.org")[2]) == 100


def test_time_limit():
    with NameServer(ZONE) as server, Lookup(server) as lookup:
        lookup.ask_name("192.0.2.8")
        # others do not wait for it
        lookup.ask_name("192.0.2.1")
        assert lookup.name_is()[1][0] == NAME_OK
        assert lookup.name_is()[1] == (NAME_TEMPFAIL, "unknown", "unknown")
        assert lookup.status()["open"] == "0"


def test_asker_goes_away():
    with NameServer(ZONE) as server, Lookup(server) as lookup:
        for _ in range(50):
            lookup.ask_name("192.0.2.8")
            lookup.ask_route("slow.example.org")
        wait_for("all requests",
                 lambda: lookup.status()["open"] == "100")
        lookup.smtpd.close()
        lookup.relay.close()
        wait_for("the end of all", lambda: lookup.status()["open"] == "0")
        assert lookup.process.poll() is None


def test_many_at_once():
    with NameServer(ZONE) as server, Lookup(server) as lookup:
        n = 12000
        reader = threading.Thread(target=lambda: [
            answers.append(lookup.name_is(60)[1][0]) for _ in range(n)])
        answers = []
        reader.start()
        for _ in range(n):
            lookup.ask_name("192.0.2.8")
        wait_for("the first answers", lambda: len(answers) >= 2000)
        # those over the limit are answered at once; routes have their own
        assert set(answers) == {NAME_TEMPFAIL}
        assert len(answers) < n
        assert lookup.route("example.org")[0] == FOUND
        reader.join(60)
        assert len(answers) == n and set(answers) == {NAME_TEMPFAIL}


def test_families():
    with NameServer(ZONE) as server, \
            Lookup(server, inet_protocols="ipv4") as lookup:
        assert [r[2] for r in lookup.route("back.example.org")[2]] == \
            ["192.0.2.20"]
        assert ("back.example.org", AAAA) not in server.asked


def test_errors_that_are_ignored(lookup):
    for domain, address in (("fail", "192.0.2.41"), ("bad", "192.0.2.42")):
        domain += ".example.org"
        assert lookup.route(domain)[0] == TEMPFAIL
        assert lookup.route(domain, WITH_MX | IGNORE_MX) == (
            FOUND, "", [(0, domain, address)])
    assert lookup.route("dead.example.org")[0] == NOT_FOUND
    assert lookup.route("dead.example.org", WITH_MX | DEFER_MX)[0] == TEMPFAIL
    # no MX at all is another thing
    assert lookup.route("nosuch.example.org",
                        WITH_MX | DEFER_MX)[0] == NOT_FOUND


def test_srv(lookup):
    first = set()
    for _ in range(300):
        status, _, routes = lookup.route("submission:example.org",
                                         WITH_MX | WITH_SRV)
        assert status == FOUND
        by_rank = {r[0]: r for r in routes}
        assert sorted(by_rank) == [0, 1, 2]
        assert {by_rank[i][1] for i in (0, 1)} == {"nomx.example.org",
                                                   "six.example.org"}
        assert by_rank[2][1] == "back.example.org"
        for r in routes:
            assert r[3] == {"nomx.example.org": 587, "six.example.org": 588,
                            "back.example.org": 465}[r[1]]
        first.add(by_rank[0][1])
        if len(first) == 2:
            break
    assert len(first) == 2


@pytest.mark.parametrize("domain,flags,status", [
    ("nomx", 0, NOT_FOUND), ("nomx", IGNORE_SRV, NOT_FOUND),
    ("nomx", SRV_FALLBACK, FOUND), ("fail", 0, TEMPFAIL),
    ("fail", IGNORE_SRV | IGNORE_MX, FOUND),
    ("fail", SRV_FALLBACK | IGNORE_MX, FOUND), ("bad", 0, TEMPFAIL),
    ("bad", IGNORE_SRV | IGNORE_MX, FOUND), ("null", 0, NOT_FOUND),
    ("null", SRV_FALLBACK, NOT_FOUND), ("gone", SRV_FALLBACK, NOT_FOUND)])
def test_no_srv(lookup, domain, flags, status):
    got = lookup.route(f"submission:{domain}.example.org",
                       WITH_MX | WITH_SRV | flags)
    assert got[0] == status, got


@pytest.mark.parametrize("key", [
    "example.org", ":example.org", "a_b:example.org", "x" * 64 + ":a.example",
    "submission:", "submission:a b", "a.b:example.org",
    "submission:" + "x." * 122 + "example"])
def test_bad_service(lookup, key):
    assert lookup.route(key, WITH_MX | WITH_SRV)[0] == NOT_FOUND


def test_records_of_all_lengths(lookup):
    """No record that is cut off is read beyond its end."""
    for n in range(21):
        assert lookup.route(f"s{n}.example.org")[0] == TEMPFAIL
        assert lookup.route(f"submission:s{n}.example.org",
                            WITH_MX | WITH_SRV)[0] == TEMPFAIL
    assert lookup.status()["open"] == "0"


def hosts_names():
    """A name of /etc/hosts that no resolver has by itself."""
    with open("/etc/hosts") as f:
        for line in f:
            words = line.split("#")[0].split()
            for name in words[1:]:
                if "." in words[0] and "localhost" not in name and \
                        not name.startswith("ip6-"):
                    yield name, words[0]


def test_native_names():
    names = list(hosts_names())
    if not names:
        pytest.skip("/etc/hosts has no name of its own")
    name, address = names[0]
    there = (FOUND, [(0, name, address)])
    with NameServer({("mail.example.org", A): [ip("192.0.2.1")],
                     (name + ".", 16): [b"\1x"]}) as server, \
            Lookup(server, inet_protocols="ipv4") as lookup:
        def ask(name, flags):
            status, _, routes = lookup.route(name, flags)
            return status, routes
        assert ask(name, 0) == (NOT_FOUND, [])
        assert ask(name, NATIVE) == there
        assert ask(name, NO_DNS) == there
        assert ask(name, WITH_MX) == (NOT_FOUND, [])
        assert ask("mail.example.org", NO_DNS) == (
            FOUND, [(0, "mail.example.org", "192.0.2.1")])
        # the DNS goes first
        server.zone[(name, A)] = [ip("192.0.2.9")]
        server.zone[(name, MX)] = [mx(10, "mail.example.org")]
    with NameServer(server.zone) as server, \
            Lookup(server, inet_protocols="ipv4") as lookup:
        assert ask(name, NATIVE) == (FOUND, [(0, name, "192.0.2.9")])
        # /etc/hosts does not hide an MX
        assert ask(name, WITH_MX) == (
            FOUND, [(10, "mail.example.org", "192.0.2.1")])


class Nobody:
    address = "127.0.0.1@1"


def test_no_name_server():
    with Lookup(Nobody) as lookup:
        assert lookup.name("192.0.2.1")[0] == NAME_TEMPFAIL


@pytest.mark.long
def test_no_name_server_is_no_missing_domain():
    with Lookup(Nobody) as lookup:
        assert lookup.route("example.org")[0] == TEMPFAIL


def test_bad_message():
    with NameServer(ZONE) as server, Lookup(server) as lookup:
        lookup.smtpd.send("NAME", u32(1) + view(b"12345"))
        assert lookup.smtpd.receive() is None
        lookup.control.expect("BLAME")
        assert lookup.route("example.org")[0] == FOUND


def test_retire():
    with NameServer(ZONE) as server, Lookup(server) as lookup:
        lookup.control.send("RETIRE")
        assert lookup.route("example.org")[0] == FOUND
        lookup.smtpd.close()
        lookup.relay.close()
        assert lookup.process.wait(20) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_in_the_jail(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    with NameServer(ZONE) as server, \
            Lookup(server, jail=dict(jailed=True, user="nobody",
                                     root=str(root))) as lookup:
        assert lookup.name("192.0.2.1")[0] == NAME_OK
        assert lookup.name("127.0.0.1")[1] == "localhost"
        assert lookup.route("example.org")[0] == FOUND
        assert lookup.route("fail.example.org")[0] == TEMPFAIL
        threads = os.listdir(f"/proc/{lookup.process.pid}/task")
        for t in threads:
            with open(f"/proc/{lookup.process.pid}/task/{t}/status") as f:
                assert "Seccomp:\t2" in f.read()
