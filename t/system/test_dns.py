"""Facts of the DNS from a real resolver: nsd's zones through unbound."""
import os
import struct
import time

import pytest

from postern import Instance
from resolver import NameService, available
from role_driver import u8, u16, u32, view
from test_lookup import A as TYPE_A
from test_lookup import (FOUND, NAME_OK, NULL_MX, NOT_FOUND, TEMPFAIL,
                         Lookup, NameServer, ip)

pytestmark = pytest.mark.skipif(not available(),
                                reason="needs nsd, unbound, ldnsutils")

A, NS, MX, TXT, HOST = 1, 2, 15, 16, 0xffff
F_FOUND, NO_DATA, NO_NAME, TEMPORARY, BOGUS = 1, 2, 3, 4, 5

LONG = "y" * 63
PLAIN = f"""
@ MX 10 mail
@ MX 20 backup
@ TXT "one " "two"
mail A 192.0.2.1
mail AAAA 2001:db8::1
backup A 192.0.2.2
null MX 0 .
text TXT "only"
c1 CNAME c2
c2 CNAME c3
c3 CNAME mail
cgone CNAME nowhere
ctext CNAME text
loop1 CNAME loop2
loop2 CNAME loop1
d DNAME dd
x.dd A 192.0.2.9
*.wild A 192.0.2.5
*.wild MX 10 mail
xn--bcher-kva A 192.0.2.6
xn--bcher-kva MX 10 mail
under_score MX 10 under_mail
under_mail A 192.0.2.7
odd MX 10 a\\032b.plain.example.
odd MX 20 a\\000b
odd MX 30 mail
odd2 MX 10 a\\032b.plain.example.
dot MX 10 a\\.b
numeric MX 10 192.0.2.1.
long MX 10 {LONG}.{LONG}.{LONG}.
nul TXT "a\\000b\\013\\010c"
9.0.0.127.bl A 127.0.0.2
9.0.0.127.bl TXT "a\\000b\\013\\010250 2.0.0 Ok\\013\\010$sender \\200"
many TXT {" ".join('"' + 250 * "z" + '"' for _ in range(16))}
""" + "".join(f"huge A 10.1.{i // 250}.{i % 250}\n" for i in range(2000)) + \
    "".join(f"mxs MX {i} m{i}\nm{i} A 10.2.0.{i}\n" for i in range(200))
REVERSE = """
1 PTR mail.plain.example.
2 PTR c1.plain.example.
3 CNAME 3.0-25
3.0-25 PTR three.plain.example.
4 PTR a\\032b.plain.example.
"""
FORGED = """
a A 192.0.2.66
@ MX 10 a
"""


@pytest.fixture(scope="module")
def dns():
    d = NameService(
        {"plain.example": PLAIN + "three A 192.0.2.3\n",
         "2.0.192.in-addr.arpa": REVERSE},
        {"signed.example": "a A 192.0.2.50\n@ MX 10 a\nn TXT \"x\"\n"},
        {"forged.example": (FORGED, "192.0.2.66", "192.0.2.99")},
        silent=["silent.example"], refused=["refused.example"])
    yield d
    d.close()


class Facts(Lookup):
    def ask_fact(self, kind, name):
        self.tag += 1
        self.smtpd.send("FACT", u32(self.tag) + u8(1) + u16(kind) +
                        view(name) + u32(0) + view(""))

    def fact_is(self, seconds=25):
        f = self.smtpd.expect("FACT_IS", seconds)
        tag, answer = f.u32(), f.view()
        f.done()
        status, n = struct.unpack_from("<BI", answer)
        pos, records = 5, []
        for _ in range(n):
            size = struct.unpack_from("<I", answer, pos)[0]
            records.append(answer[pos + 4:pos + 4 + size])
            pos += 4 + size
        assert pos == len(answer)
        return tag, (status, records)

    def fact(self, kind, name):
        self.ask_fact(kind, name)
        tag, answer = self.fact_is()
        assert tag == self.tag
        return answer


@pytest.fixture(scope="module")
def facts(dns):
    with Facts(dns) as f:
        yield f


@pytest.fixture(scope="module")
def valid(dns):
    with Facts(dns, dns_trust_anchor_file=dns.anchors) as f:
        yield f


def mx(preference, host):
    return struct.pack("<H", preference) + host


def test_types(facts):
    assert facts.fact(A, "mail.plain.example") == (F_FOUND,
                                                   [ip("192.0.2.1")])
    status, records = facts.fact(HOST, "mail.plain.example")
    assert sorted(records) == sorted([ip("192.0.2.1"), ip("2001:db8::1")])
    status, records = facts.fact(MX, "plain.example")
    assert sorted(records) == [mx(10, b"mail.plain.example"),
                               mx(20, b"backup.plain.example")]
    assert facts.fact(NS, "plain.example") == (F_FOUND,
                                               [b"ns.plain.example"])
    assert facts.fact(TXT, "plain.example") == (F_FOUND, [b"one two"])
    assert facts.fact(MX, "null.plain.example") == (F_FOUND, [mx(0, b"")])
    # a name may be asked for with a dot at its end, and in any case
    assert facts.fact(A, "MAIL.plain.example.")[0] == F_FOUND
    assert facts.fact(MX, "under_score.plain.example") == (
        F_FOUND, [mx(10, b"under_mail.plain.example")])


def test_what_is_not_there(facts):
    assert facts.fact(MX, "nowhere.plain.example") == (NO_NAME, [])
    assert facts.fact(HOST, "nowhere.plain.example") == (NO_NAME, [])
    assert facts.fact(MX, "text.plain.example") == (NO_DATA, [])
    assert facts.fact(HOST, "text.plain.example") == (NO_DATA, [])
    # an empty non-terminal
    assert facts.fact(A, "dd.plain.example") == (NO_DATA, [])


def test_aliases(facts):
    assert facts.fact(A, "c1.plain.example") == (F_FOUND, [ip("192.0.2.1")])
    assert facts.fact(A, "cgone.plain.example") == (NO_NAME, [])
    assert facts.fact(A, "ctext.plain.example") == (NO_DATA, [])
    assert facts.fact(A, "x.d.plain.example") == (F_FOUND, [ip("192.0.2.9")])
    assert facts.fact(A, "loop1.plain.example") == (TEMPORARY, [])
    assert facts.fact(A, "any.wild.plain.example") == (F_FOUND,
                                                       [ip("192.0.2.5")])
    assert facts.fact(MX, "a.b.wild.plain.example")[0] == F_FOUND
    assert facts.fact(TXT, "a.wild.plain.example") == (NO_DATA, [])


def test_hostile_records(facts):
    """Names that are none are left out; if nothing else is there, that is no
    answer rather than "has no MX"."""
    assert facts.fact(MX, "odd.plain.example") == (
        F_FOUND, [mx(30, b"mail.plain.example")])
    assert facts.fact(MX, "odd2.plain.example") == (TEMPORARY, [])
    assert facts.fact(MX, "dot.plain.example") == (TEMPORARY, [])
    status, records = facts.fact(MX, "long.plain.example")
    assert (status, len(records[0])) == (F_FOUND, 2 + 3 * 63 + 2)
    # Bytes of a text are the reader's business: test_hostile_reason.
    assert facts.fact(TXT, "nul.plain.example") == (F_FOUND,
                                                    [b"a\0b\r\nc"])


def test_large_answers(facts):
    """They are cut short by UDP and asked for again by TCP; of what comes,
    no more is taken than the limits say."""
    status, records = facts.fact(A, "huge.plain.example")
    assert (status, len(records)) == (F_FOUND, 100)
    assert all(r.startswith(b"\n\1") for r in records)
    status, records = facts.fact(MX, "mxs.plain.example")
    assert (status, len(records)) == (F_FOUND, 100)
    status, records = facts.fact(TXT, "many.plain.example")
    assert status == F_FOUND and len(records[0]) <= 1000
    assert set(records[0]) == {ord("z")}


@pytest.mark.parametrize("name", [
    "", ".", "..", "a..plain.example", ".plain.example", "192.0.2.1",
    "[192.0.2.1]", "::1", "::ffff:192.0.2.1", "mail.plain.example\0x",
    "a\0", "x" * 64 + ".plain.example", ".".join(["x" * 50] * 6), "x" * 255,
    "x." * 127 + "x", "mail.plain.example..", "a b.plain.example",
    "\\109ail.plain.example", "mail\\.plain.example", "b\u00fccher", "\xff",
    "mail.plain.example\n", "*", "%00.plain.example", "$(id).plain.example"])
@pytest.mark.parametrize("kind", [A, HOST, MX, TXT])
def test_hostile_names(facts, kind, name):
    status, records = facts.fact(kind, name)
    assert records == [] and status in (NO_NAME, TEMPORARY)


def test_failures(facts):
    assert facts.fact(MX, "refused.example") == (TEMPORARY, [])
    assert facts.fact(HOST, "a.refused.example") == (TEMPORARY, [])


def test_silent_server(facts):
    """Others do not wait for it, and it is never "no such domain"."""
    since = time.monotonic()
    facts.ask_fact(MX, "silent.example")
    silent = facts.tag
    facts.ask_fact(HOST, "silent.example")
    facts.ask_fact(MX, "plain.example")
    tag, (status, _) = facts.fact_is()
    assert (tag, status) == (facts.tag, F_FOUND)
    for _ in range(2):
        tag, answer = facts.fact_is()
        assert tag in (silent, silent + 1) and answer == (TEMPORARY, [])
    assert time.monotonic() - since < 60


def test_names_of_clients(facts):
    assert facts.name("192.0.2.1") == (NAME_OK, "mail.plain.example",
                                       "mail.plain.example")
    # the reverse of a part of a network, RFC 2317
    assert facts.name("192.0.2.3")[1] == "three.plain.example"
    # its name has another address
    assert facts.name("192.0.2.2")[1:] == ("unknown", "c1.plain.example")
    assert facts.name("192.0.2.4")[1:] == ("unknown", "unknown")
    assert facts.name("192.0.2.200")[1:] == ("unknown", "unknown")


def test_routes(facts):
    assert facts.route("null.plain.example")[0] == NULL_MX
    assert facts.route("nowhere.plain.example")[0] == NOT_FOUND
    assert facts.route("refused.example")[0] == TEMPFAIL
    assert facts.route("c1.plain.example")[0] == FOUND
    assert facts.route("loop1.plain.example")[0] == TEMPFAIL
    assert facts.route("b\u00fccher.plain.example")[0] == FOUND
    assert facts.route("stra\u00dfe.plain.example")[0] == NOT_FOUND
    assert facts.route("\u0308x.plain.example")[0] == NOT_FOUND


def test_signed(valid):
    assert valid.fact(A, "a.signed.example") == (F_FOUND,
                                                 [ip("192.0.2.50")])
    assert valid.fact(MX, "n.signed.example") == (NO_DATA, [])
    assert valid.fact(MX, "nowhere.signed.example") == (NO_NAME, [])
    # no anchor is above it
    assert valid.fact(A, "mail.plain.example")[0] == F_FOUND


def test_forged(valid, facts):
    """Known as forged by who has the anchor; the resolver that has it tells
    others no more than that it failed."""
    assert valid.fact(A, "a.forged.example") == (BOGUS, [])
    assert valid.fact(HOST, "a.forged.example") == (BOGUS, [])
    valid.settle()
    assert "DNS: a.forged.example: not valid: " in valid.log()
    assert valid.fact(MX, "forged.example")[0] == F_FOUND
    assert valid.route("forged.example")[0] == TEMPFAIL
    assert facts.fact(A, "a.forged.example") == (TEMPORARY, [])


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_validation_in_the_jail(dns, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    with Facts(dns, dns_trust_anchor_file=dns.anchors,
               jail=dict(jailed=True, user="nobody", root=str(root))) as f:
        assert f.fact(A, "a.signed.example")[0] == F_FOUND
        assert f.fact(A, "a.forged.example")[0] == BOGUS
        # by TCP
        assert len(f.fact(A, "huge.plain.example")[1]) == 100


@pytest.mark.parametrize("text", ["", "; nothing\n", "nonsense\n",
                                  "example. IN DS x\n", None])
def test_bad_anchors(dns, tmp_path, text):
    path = tmp_path / "anchors"
    if text is not None:
        path.write_text(text)
    try:
        with Facts(dns, dns_trust_anchor_file=str(path)):
            pass
    except AssertionError:
        return
    raise AssertionError("the anchors were taken")


def test_cache():
    """An answer is kept as long as its TTL says; a failure is not."""
    zone = {("a.example", TYPE_A): [ip("192.0.2.1")],
            ("b.example", TYPE_A): [ip("192.0.2.2")]}
    with NameServer(zone) as server, Facts(server) as f:
        for _ in range(5):
            assert f.fact(A, "a.example")[0] == F_FOUND
            assert f.fact(A, "A.EXAMPLE.")[0] == F_FOUND
        assert server.asked.count(("a.example", TYPE_A)) == 1
        server.ttl = 1
        assert f.fact(A, "b.example")[1] == [ip("192.0.2.2")]
        zone["b.example", TYPE_A] = [ip("192.0.2.3")]
        time.sleep(2.1)
        assert f.fact(A, "b.example")[1] == [ip("192.0.2.3")]


def test_gateway(dns, sink):
    gw = Instance(sink, main={
        "smtpd_error_sleep_time": "0", "dns_resolvers": dns.address,
        "dns_trust_anchor_file": dns.anchors,
        "smtpd_sender_restrictions": "reject_unknown_sender_domain"})
    gw.expect_log("not valid")

    def try_one(sender):
        with gw.client() as c:
            c.ehlo()
            r = c.cmd(f"MAIL FROM:<{sender}> SMTPUTF8")
            return r.text if r.code != 250 else \
                c.cmd("RCPT TO:<user@example.com>").text
    try:
        for good in ("plain", "null2.wild.plain", "signed", "c1.plain",
                     "b\u00fccher.plain"):
            assert try_one(f"u@{good}.example").startswith("250"), good
        assert try_one("u@null.plain.example").startswith("550 5.7.27 ")
        for bad in ("nowhere.plain", "text.plain", "loop1.plain",
                    "refused", "a.forged", "odd2.plain",
                    "stra\u00dfe.plain"):
            assert try_one(f"u@{bad}.example").startswith("450 4.1.8 "), bad
        # A missing name may be refused for good; the others may not.
        gw.set(unknown_address_reject_code="550")
        gw.command("reload")
        assert try_one("u@nowhere.plain.example").startswith("550 5.1.8 ")
        for later in ("loop1.plain", "refused", "a.forged", "odd2.plain"):
            assert try_one(f"u@{later}.example").startswith("450 "), later
    finally:
        gw.destroy()


def test_hostile_reason(dns, sink):
    """What a list says is one line of the reply, and no macro of it."""
    gw = Instance(sink, main={
        "dns_resolvers": dns.address, "smtpd_error_sleep_time": "0",
        "smtpd_client_restrictions": "reject_rbl_client bl.plain.example"})
    try:
        with gw.client(source="127.0.0.9") as c:
            c.ehlo()
            c.cmd("MAIL FROM:<u@a.example>")
            r = c.cmd("RCPT TO:<user@example.com>")
            assert r.lines == [
                "554 5.7.1 Service unavailable; Client host [127.0.0.9] "
                "blocked using bl.plain.example; a?b??250 2.0.0 Ok??$sender "
                "?"], r.lines
            assert c.cmd("RSET").code == 250
    finally:
        gw.destroy()
