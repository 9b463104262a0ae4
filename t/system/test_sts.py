"""The sts role: MTA-STS policies (RFC 8461) from web servers of our own, with
the test as its lookup and its relay."""
import os
import pwd
import socket
import ssl
import time

import pytest

import resolver
from postern import BUILD, SLOW, Instance, wait_for
from role_driver import Fields, Role, u8, u32, view
from sts_help import WebKeys, WebServer, policy, response

NONE, POLICY, FETCH_ERROR, INVALID, CERTIFICATE = 1, 2, 3, 4, 5
TXT, HOST = 16, 0xffff
FOUND, NO_DATA, NO_NAME, TEMPORARY, BOGUS = 1, 2, 3, 4, 5


@pytest.fixture(scope="module")
def keys():
    k = WebKeys()
    yield k
    k.destroy()


@pytest.fixture(scope="module")
def good(keys):
    return keys.context("good", ["mta-sts." + d for d in (
        "example.com", "two.example", "three.example", "xn--bcher-kva.example")
    ] + ["mta-sts.d%d.example" % i for i in range(150)])


@pytest.fixture
def web(good):
    w = WebServer(good)
    yield w
    w.close()


class Sts(Role):
    """The role, with the DNS as zone says: (name, type) -> list of records,
    or a status; what is not in it does not exist."""

    def __init__(self, keys, web, **conf):
        self.zone, self.asked = {}, []
        self.tag = 0
        super().__init__("sts", **{
            "smtp_tls_sts_CAfile": keys.ca, "smtp_tls_sts_cache_map": "",
            "smtp_tls_sts_port": str(web.port) if web else "1",
            "smtp_tls_sts_private_networks": "yes", **conf})

    def __enter__(self):
        super().__enter__()
        self.lookup = self.peer("lookup")
        self.relay = self.peer("relay")
        self.start()
        return self

    def site(self, domain, id="1", address="127.0.0.1"):
        self.zone[f"_mta-sts.{domain}", TXT] = [f"v=STSv1; id={id};"]
        self.zone[f"mta-sts.{domain}", HOST] = [socket.inet_aton(address)]

    def next_question(self):
        f = self.lookup.expect("FACT")
        tag, kind, type_ = f.u32(), f.u8(), f.u16()
        name = f.text()
        assert kind == 1 and f.u32() == 0 and f.view() == b""
        f.done()
        self.asked.append((name, type_))
        return tag, name, type_

    def reply(self, tag, records, lookup=None):
        if isinstance(records, int):
            body = u8(records) + u32(0)
        else:
            body = u8(FOUND) + u32(len(records)) + b"".join(
                view(r) for r in records)
        (lookup or self.lookup).send("FACT_IS", u32(tag) + view(body))

    def send(self, domain):
        self.tag += 1
        self.relay.send("STS", u32(self.tag) + view(domain))
        return self.tag

    def serve_dns(self, n):
        for _ in range(n):
            tag, name, type_ = self.next_question()
            self.reply(tag, self.zone.get((name, type_), NO_NAME))

    def result(self, seconds=30):
        f = self.relay.expect("STS_IS", seconds)
        r = f.u32(), f.u8(), f.view(), f.text()
        f.done()
        return r

    def ask(self, domain, dns=2):
        """(answer, policy, why); the DNS is asked that many questions."""
        tag = self.send(domain)
        self.serve_dns(dns)
        got, answer, text, why = self.result()
        assert got == tag
        return answer, text, why

    def order(self, words, dns=0):
        self.control.send("ORDER", u32(9) + view(words))
        self.serve_dns(dns)
        f = self.control.expect("ORDER_IS")
        assert f.u32() == 9
        refused, text = f.u8(), f.text()
        f.done()
        return refused, text


@pytest.fixture
def sts(keys, web):
    with Sts(keys, web) as s:
        yield s


# -- what a policy is ---------------------------------------------------------

def test_policy(sts, web):
    sts.site("example.com", id="20160831085700Z")
    web.sites["example.com"] = response(policy("*.example.com", "MX.other.net"))
    answer, text, why = sts.ask("Example.COM.")
    assert (answer, why) == (POLICY, "")
    assert text == (b"version: STSv1\nmode: enforce\nmx: *.example.com\n"
                    b"mx: mx.other.net\nmax_age: 86400\n")
    assert sts.asked == [("_mta-sts.example.com", TXT),
                         ("mta-sts.example.com", HOST)]
    request = web.requests[0].decode().split("\r\n")
    assert request[0] == "GET /.well-known/mta-sts.txt HTTP/1.1"
    assert "Host: mta-sts.example.com" in request
    # known now: nobody is asked
    assert sts.ask("example.com", dns=0)[1] == text
    assert web.count("example.com") == 1
    sts.settle()
    assert "MTA-STS: example.com: mode=enforce, id=20160831085700Z" in \
        sts.log()


def test_name_in_utf8(sts, web):
    sts.site("xn--bcher-kva.example")
    web.sites["xn--bcher-kva.example"] = response(policy("a.example"))
    assert sts.ask("Bücher.example")[0] == POLICY


@pytest.mark.parametrize("name", [
    "", ".", "a..b", "-", "[192.0.2.1]", "192.0.2.1 x", "a b.example",
    "x" * 64 + ".example", "a." * 124 + "example", b"\xff", "a/b", "a\n.b"])
def test_no_domain(sts, name):
    assert sts.ask(name, dns=0) == (NONE, b"", "no name of a domain")


def test_chunked_and_charset(sts, web):
    sts.site("example.com")
    body = policy("a.example")
    web.sites["example.com"] = (
        b"HTTP/1.1 200 OK\r\nContent-Type: Text/Plain; charset=utf-8\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" +
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    assert sts.ask("example.com")[0] == POLICY


@pytest.mark.parametrize("records,dns,why", [
    ([], 1, "no record in the DNS"),
    (NO_DATA, 1, "no record in the DNS"),
    (TEMPORARY, 1, "its record in the DNS cannot be found now"),
    (BOGUS, 1, "its record in the DNS is not authentic"),
    (["v=spf1 -all"], 1, "no record in the DNS"),
    (["v=STSv1; id=1", "v=STSv1; id=1"], 1, "not valid, or there are sev"),
    (["v=STSv1; id=1", "v=STSv1; id=x y"], 1, "not valid, or there are sev"),
    (["v=STSv1; id=;"], 1, "not valid, or there are several"),
    (["v=spf1 -all", "v=STSv1; id=1;"], 2, None)])
def test_record(sts, web, records, dns, why):
    sts.site("example.com")
    web.sites["example.com"] = response(policy("a.example"))
    sts.zone["_mta-sts.example.com", TXT] = records or NO_NAME
    answer, text, got = sts.ask("example.com", dns)
    if why is None:
        assert answer == POLICY
    else:
        assert answer == NONE and text == b"" and why in got
        assert web.asked == []


# -- what a web server may do -------------------------------------------------

def drip(c):
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
              b"Content-Length: 60000\r\n\r\n")
    while True:
        c.sendall(b"x")
        time.sleep(0.05)


def endless(c):
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        c.sendall(b"x: y\n" * 1000)


def endless_header(c):
    c.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        c.sendall(b"X-Header: y\r\n" * 100)


def cut(c):
    """The policy is whole, but nobody says so."""
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" +
              policy("a.example"))
    c.shutdown(socket.SHUT_RDWR)


def silent(c):
    c.recv(1)


WRONG = {
    "404": (response(b"", "404 Not Found"), FETCH_ERROR, "HTTP status 404"),
    "redirect": (response(b"", "301 Moved", more="Location: https://mta-sts."
                          "two.example/.well-known/mta-sts.txt\r\n"),
                 FETCH_ERROR, "HTTP status 301"),
    "500": (response(policy("a.example"), "500 No"), FETCH_ERROR,
            "HTTP status 500"),
    "204": (response(b"", "204 No Content"), FETCH_ERROR, "HTTP status 204"),
    "html": (response(policy("a.example"), kind="text/html"), FETCH_ERROR,
             "not text/plain but text/html"),
    "no type": (response(policy("a.example"), kind=""), FETCH_ERROR,
                "not text/plain but nothing"),
    "almost": (response(policy("a.example"), kind="text/plainx"),
               FETCH_ERROR, "not text/plain but text/plainx"),
    "encoded": (response(b"abc", more="Content-Encoding: gzip\r\n"),
                FETCH_ERROR, "encoded"),
    "huge": (response(b"x" * 65537), FETCH_ERROR, "over 65536 bytes"),
    "endless": (endless, FETCH_ERROR, "over 65536 bytes"),
    "endless header": (endless_header, FETCH_ERROR, "mta-sts.example.com"),
    "cut": (cut, FETCH_ERROR, "no proper response"),
    "no http": (b"220 mail.example.com ESMTP\r\n\r\n", FETCH_ERROR,
                "mta-sts.example.com[127.0.0.1]"),
    "nothing": (lambda c: None, FETCH_ERROR, "no proper response"),
    "empty": (response(b""), INVALID, "not valid: no version"),
    "no policy": (response(b"<html>\n"), INVALID, "not of the form"),
    "no mx": (response(policy()), INVALID, "not valid: no mx"),
    "mode": (response(policy("a.example", mode="strict")), INVALID,
             "unknown mode"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong(sts, web, case):
    what, expected, why = WRONG[case]
    sts.site("example.com")
    web.sites["example.com"] = what
    answer, text, got = sts.ask("example.com")
    assert (answer, text) == (expected, b"") and why in got, got
    assert web.asked == ["example.com"]
    # It is not asked again, whatever comes, for a while.
    assert sts.ask("example.com", dns=0)[0] == expected
    assert web.asked == ["example.com"]


@pytest.mark.parametrize("case", ["drip", "silent", "no tls"])
def test_time_limit(keys, web, case):
    web.sites["example.com"] = drip if case == "drip" else silent
    dead = socket.create_server(("127.0.0.2", 0))
    conf = {"smtp_tls_sts_timeout": "2s"}
    if case == "no tls":
        conf["smtp_tls_sts_port"] = str(dead.getsockname()[1])
    with dead, Sts(keys, web, **conf) as sts:
        sts.site("example.com", address="127.0.0.2")
        answer, text, why = sts.ask("example.com")
        assert answer == FETCH_ERROR
        assert why == "its web server has not answered in time"
        assert sts.status()["open"] == "0"


def test_unreachable(keys):
    with Sts(keys, None) as sts:
        sts.site("example.com")
        answer, text, why = sts.ask("example.com")
        assert answer == FETCH_ERROR
        assert why == "mta-sts.example.com[127.0.0.1]: no TLS connection"


def test_second_address(sts, web):
    """The first one does not answer; the other counts."""
    sts.site("example.com")
    sts.zone["mta-sts.example.com", HOST] = [
        socket.inet_pton(socket.AF_INET6, "::1"), socket.inet_aton("127.0.0.1")]
    web.sites["example.com"] = response(policy("a.example"))
    assert sts.ask("example.com")[0] == POLICY


def test_no_address(sts):
    sts.site("example.com")
    for records, why in ((NO_NAME, "its web server has no address"),
                         (TEMPORARY, "the address of its web server cannot "
                                     "be found now")):
        sts.zone["mta-sts.example.com", HOST] = records
        assert sts.ask("example.com") == (FETCH_ERROR, b"", why)
        assert sts.order("flush example.com") == (0, "1 forgotten\n")


CERTIFICATES = {
    "other name": ({"names": ["mta-sts.two.example", "example.com"]},
                   "mismatch"),
    "common name only": ({"cn": "mta-sts.example.com"}, "mismatch"),
    "wildcard too high": ({"names": ["*.com"]}, "mismatch"),
    "partial wildcard": ({"names": ["mta-st*.example.com"]}, "mismatch"),
    "expired": ({"names": ["mta-sts.example.com"], "expired": True},
                "expired"),
    "other authority": ({"names": ["mta-sts.example.com"], "ca": "other"},
                        "unable to get local issuer"),
}


@pytest.mark.parametrize("case", CERTIFICATES)
def test_certificate(sts, web, keys, case):
    how, why = CERTIFICATES[case]
    web.contexts["example.com"] = keys.context("bad", **how)
    web.sites["example.com"] = response(policy("a.example"))
    sts.site("example.com")
    answer, text, got = sts.ask("example.com")
    assert (answer, text) == (CERTIFICATE, b"")
    assert "certificate: " in got and why in got, got


def test_wildcard_certificate(sts, web, keys):
    web.contexts["example.com"] = keys.context("wild", ["*.example.com"])
    web.sites["example.com"] = response(policy("a.example"))
    sts.site("example.com")
    assert sts.ask("example.com")[0] == POLICY


def test_old_tls(sts, web):
    web.newest = ssl.TLSVersion.TLSv1_1
    web.sites["example.com"] = response(policy("a.example"))
    sts.site("example.com")
    answer, text, why = sts.ask("example.com")
    assert answer == FETCH_ERROR and why.endswith(": no TLS connection"), why


@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.31.255.255", "169.254.1.1",
    "0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::",
    "fe80::1", "fc00::1", "::ffff:10.0.0.1", "::127.0.0.1", "ff02::1"])
def test_private_address(keys, web, address):
    """Who owns a domain does not choose what inside is connected to."""
    with Sts(keys, web, smtp_tls_sts_private_networks="no") as sts:
        sts.site("example.com")
        sts.zone["mta-sts.example.com", HOST] = [socket.inet_pton(
            socket.AF_INET6 if ":" in address else socket.AF_INET, address)]
        assert sts.ask("example.com") == (
            FETCH_ERROR, b"", "its web server has a private address")
        assert web.asked == []


# -- many ---------------------------------------------------------------------

def test_one_fetch_for_many(sts, web):
    sts.site("example.com")
    web.sites["example.com"] = response(policy("a.example"))
    tags = {sts.send("example.com") for _ in range(200)}
    other = sts.peer("relay")
    other.send("STS", u32(77) + view("EXAMPLE.com"))
    other.heard()
    sts.settle()
    sts.serve_dns(2)
    for _ in range(200):
        tag, answer, text, why = sts.result()
        tags.remove(tag)
        assert answer == POLICY
    f = other.expect("STS_IS")
    assert (f.u32(), f.u8()) == (77, POLICY)
    assert not tags and web.count("example.com") == 1
    assert sts.status()["looked"] == "1"


def test_slow_sites_stall_nobody(sts, web):
    for i in range(50):
        sts.site("d%d.example" % i)
        web.sites["d%d.example" % i] = silent
        sts.send("d%d.example" % i)
        sts.serve_dns(2)
    wait_for("the slow ones", lambda: len(web.asked) == 50)
    sts.site("example.com")
    web.sites["example.com"] = response(policy("a.example"))
    assert sts.ask("example.com")[0] == POLICY
    assert sts.status()["open"] == "50"


def test_more_than_at_once(keys, web):
    """Those over the number of connections have their turn."""
    with Sts(keys, web) as sts:
        tags = set()
        for i in range(150):
            sts.site("d%d.example" % i)
            web.sites["d%d.example" % i] = response(policy("a.example"))
            tags.add(sts.send("d%d.example" % i))
            sts.serve_dns(1)
        sts.serve_dns(150)
        for _ in range(150):
            tag, answer, text, why = sts.result()
            assert answer == POLICY, why
            tags.remove(tag)
        assert sts.status()["policies"] == "150"


def test_cache_is_bounded(keys, web):
    """Domains without a policy do not push out one that has one."""
    with Sts(keys, web, smtp_tls_sts_cache_limit="100") as sts:
        sts.site("example.com")
        web.sites["example.com"] = response(policy("a.example"))
        assert sts.ask("example.com")[0] == POLICY
        for i in range(300):
            assert sts.ask("none%d.example" % i, dns=1)[0] == NONE
        st = sts.status()
        assert (st["policies"], st["others"]) == ("1", "25")
        assert sts.ask("example.com", dns=0)[0] == POLICY
        # all places are taken by open questions: no answer is kept waiting
        for i in range(25):
            sts.send("busy%d.example" % i)
            sts.next_question()
        assert sts.ask("more.example", dns=0) == (NONE, b"",
                                                  "too many at once")


# -- time ---------------------------------------------------------------------

def again(**conf):
    """What is known is looked at again after a second."""
    return {"smtp_tls_sts_check_time": "1s", "smtp_tls_sts_retry_time": "1s",
            **conf}


def until_asked(sts, domain):
    """Ask until the role asks the DNS; the tag of its question."""
    def asks():
        sts.send(domain)
        sts.settle()
        m = sts.lookup.data or select_ready(sts.lookup.sock)
        if not m:
            sts.result()
        return m
    wait_for("a look", asks)


def select_ready(sock):
    import select
    return bool(select.select([sock], [], [], 0.1)[0])


def test_changed(keys, web):
    """A new id: fetched again.  The same: not.  mode none: the way out."""
    with Sts(keys, web, **again()) as sts:
        sts.site("example.com", id="1")
        web.sites["example.com"] = response(policy("a.example"))
        assert sts.ask("example.com")[0] == POLICY
        web.sites["example.com"] = response(policy(mode="none"))
        until_asked(sts, "example.com")
        sts.serve_dns(1)
        assert b"mode: enforce" in sts.result()[2]
        assert web.count("example.com") == 1
        sts.site("example.com", id="2")
        until_asked(sts, "example.com")
        sts.serve_dns(2)
        assert sts.result()[2].startswith(b"version: STSv1\nmode: none\n")
        assert web.count("example.com") == 2


@pytest.mark.parametrize("case", [
    "no record", "dns fails", "404", "certificate", "invalid", "doubled"])
def test_policy_stays(keys, web, case):
    """Whatever goes wrong with the new one, the old one protects."""
    with Sts(keys, web, **again()) as sts:
        sts.site("example.com", id="1")
        web.sites["example.com"] = response(policy("a.example"))
        text = sts.ask("example.com")[1]
        sts.site("example.com", id="2")
        dns = 2
        if case == "no record":
            sts.zone["_mta-sts.example.com", TXT] = NO_NAME
            dns = 1
        elif case == "dns fails":
            sts.zone["_mta-sts.example.com", TXT] = TEMPORARY
            dns = 1
        elif case == "doubled":
            sts.zone["_mta-sts.example.com", TXT] *= 2
            dns = 1
        elif case == "404":
            web.sites["example.com"] = response(b"", "404 No")
        elif case == "invalid":
            web.sites["example.com"] = response(b"version: STSv1\n")
        else:
            web.contexts["example.com"] = keys.context("late", ["x.example"])
        until_asked(sts, "example.com")
        sts.serve_dns(dns)
        got = sts.result()
        assert (got[1], got[2], got[3]) == (POLICY, text, "")


def test_patience(keys, web):
    """A lookup that does not answer: the old policy is the answer soon, and
    then at once."""
    with Sts(keys, web, **again()) as sts:
        sts.site("example.com", id="1")
        web.sites["example.com"] = response(policy("a.example"))
        assert sts.ask("example.com")[0] == POLICY
        until_asked(sts, "example.com")
        sts.next_question()
        assert sts.result()[1] == POLICY
        assert sts.ask("example.com", dns=0)[0] == POLICY


def test_expires(keys, web):
    with Sts(keys, web, **again()) as sts:
        sts.site("example.com", id="1")
        web.sites["example.com"] = response(policy("a.example", age=0))
        assert sts.ask("example.com")[0] == POLICY
        sts.zone["_mta-sts.example.com", TXT] = NO_NAME
        until_asked(sts, "example.com")
        sts.serve_dns(1)
        assert sts.result()[1] == NONE
        assert sts.status()["policies"] == "0"


def test_refresh(keys, web):
    """In use, so it is fetched before it expires - even if somebody hides the
    record in the DNS."""
    with Sts(keys, web, smtp_tls_sts_refresh_time="1s") as sts:
        sts.site("example.com", id="1")
        web.sites["example.com"] = response(policy("a.example"))
        assert sts.ask("example.com")[0] == POLICY
        sts.zone["_mta-sts.example.com", TXT] = NO_NAME
        web.sites["example.com"] = response(policy("b.example"))
        sts.serve_dns(2)
        wait_for("the new one", lambda: b"mx: b.example" in
                 sts.ask("example.com", dns=0)[1])


def test_retry_backs_off(keys, web):
    """The same id is not fetched again at once; a new one is."""
    with Sts(keys, web, smtp_tls_sts_check_time="1s",
             smtp_tls_sts_retry_time="1h") as sts:
        sts.site("example.com", id="1")
        assert sts.ask("example.com")[0] == FETCH_ERROR
        until_asked(sts, "example.com")
        sts.serve_dns(1)
        assert sts.result()[1] == FETCH_ERROR
        assert web.count("example.com") == 1
        web.sites["example.com"] = response(policy("a.example"))
        sts.site("example.com", id="2")
        until_asked(sts, "example.com")
        sts.serve_dns(2)
        assert sts.result()[1] == POLICY


# -- other processes ----------------------------------------------------------

def test_lookup_ends(sts, web):
    """Its question goes to the next one."""
    sts.site("example.com")
    web.sites["example.com"] = response(policy("a.example"))
    sts.send("example.com")
    sts.next_question()
    sts.lookup.close()
    sts.lookup = sts.peer("lookup", generation=2)
    sts.serve_dns(2)
    assert sts.result()[1] == POLICY


def test_late_lookup(keys, web):
    with Sts(keys, web) as sts:
        sts.lookup.close()
        sts.site("example.com")
        web.sites["example.com"] = response(policy("a.example"))
        sts.send("example.com")
        sts.settle()
        sts.lookup = sts.peer("lookup")
        sts.serve_dns(2)
        assert sts.result()[1] == POLICY


def test_relay_goes(sts, web):
    """Nobody waits any more: what was found out is kept."""
    sts.site("example.com")
    web.sites["example.com"] = response(policy("a.example"))
    sts.send("example.com")
    tag, name, type_ = sts.next_question()
    sts.relay.close()
    sts.relay = sts.peer("relay")
    sts.reply(tag, sts.zone[name, type_])
    sts.serve_dns(1)
    wait_for("the policy", lambda: sts.status()["policies"] == "1")
    assert sts.ask("example.com", dns=0)[0] == POLICY


@pytest.mark.parametrize("body", [b"", u8(9) + u32(0), u8(FOUND) + u32(0),
                                  u8(FOUND) + u32(1) + view("x") + b"y",
                                  u8(NO_NAME) + u32(1) + view("x")])
def test_bad_answer(sts, body):
    sts.send("example.com")
    tag, name, type_ = sts.next_question()
    sts.lookup.send("FACT_IS", u32(tag) + view(body))
    f = sts.control.expect("BLAME")
    assert f.u32() == os.getpid()
    assert sts.lookup.receive() is None


def test_unknown_answer(sts, web):
    """To a question that nobody asked: not looked at."""
    sts.reply(4711, NO_NAME)
    sts.site("example.com")
    web.sites["example.com"] = response(policy("a.example"))
    assert sts.ask("example.com")[0] == POLICY


# -- the file -----------------------------------------------------------------

def stored(tmp_path):
    return {"smtp_tls_sts_cache_map": f"lmdb:{tmp_path}/sts_cache"}


def test_restart(keys, web, tmp_path):
    """The policy is there after a restart, and no others."""
    with Sts(keys, web, **stored(tmp_path)) as sts:
        sts.site("example.com")
        web.sites["example.com"] = response(policy("a.example"))
        text = sts.ask("example.com")[1]
        sts.site("two.example")
        web.sites["two.example"] = response(policy("a.example"))
        assert sts.ask("two.example")[0] == POLICY
        assert sts.ask("three.example", dns=1)[0] == NONE
        assert sts.order("flush two.example") == (0, "1 forgotten\n")
    with Sts(keys, web, **stored(tmp_path)) as sts:
        st = sts.status()
        assert (st["policies"], st["others"]) == ("1", "0")
        sts.zone["_mta-sts.example.com", TXT] = TEMPORARY
        assert sts.ask("example.com", dns=1) == (POLICY, text, "")


def test_killed(keys, web, tmp_path):
    """Killed after it was stored: it is there."""
    s = Sts(keys, web, **stored(tmp_path))
    try:
        s.__enter__()
        s.site("example.com")
        web.sites["example.com"] = response(policy("a.example"))
        assert s.ask("example.com")[0] == POLICY
        path = tmp_path / "sts_cache.lmdb"
        wait_for("the file", lambda: b"a.example" in path.read_bytes())
        s.settle()
        s.process.kill()
        s.process.wait()
    finally:
        s.end()
    with Sts(keys, web, **stored(tmp_path)) as sts:
        assert sts.status()["policies"] == "1"


def test_damaged_file(keys, web, tmp_path):
    path = tmp_path / "sts_cache.lmdb"
    path.write_bytes(b"\xff" * 40000)
    with Sts(keys, web, **stored(tmp_path)) as sts:
        assert sts.status()["policies"] == "0"
    assert "is damaged; it is now" in sts.log()


def test_unusable_file(keys, web, tmp_path):
    conf = {"smtp_tls_sts_cache_map": f"lmdb:{tmp_path}/no/such/file"}
    with Sts(keys, web, **conf) as sts:
        sts.site("example.com")
        web.sites["example.com"] = response(policy("a.example"))
        assert sts.ask("example.com")[0] == POLICY
    assert "is in memory only" in sts.log()


# -- commands -----------------------------------------------------------------

def test_orders(sts, web):
    sts.site("example.com", id="7")
    web.sites["example.com"] = response(policy("a.example"))
    refused, text = sts.order("query example.com", dns=2)
    assert refused == 0
    lines = text.split("\n")
    assert lines[:3] == ["domain: example.com", "policy: enforce", "id: 7"]
    assert "mx: a.example" in lines
    sts.site("two.example")
    refused, text = sts.order("query two.example", dns=2)
    assert "policy: cannot be fetched\n" in text
    assert "problem: mta-sts.two.example[127.0.0.1]: HTTP status 404\n" in text
    refused, text = sts.order("list")
    assert text.startswith("example.com enforce id=7 fetched=20")
    assert "two.example - (mta-sts.two.example[" in text
    # look now
    web.sites["two.example"] = response(policy("b.example", mode="testing"))
    refused, text = sts.order("refresh two.example", dns=2)
    assert "policy: testing\n" in text and "problem" not in text
    assert sts.order("flush nobody.example") == (0, "0 forgotten\n")
    assert sts.order("flush") == (0, "2 forgotten\n")
    assert sts.order("list") == (0, "")
    assert sts.order("query a..b") == (1, "no name of a domain")
    assert sts.order("dance") == (1, "unknown command")


def test_flush_while_it_looks(sts, web):
    sts.site("example.com")
    web.sites["example.com"] = response(policy("a.example"))
    sts.send("example.com")
    tag, name, type_ = sts.next_question()
    assert sts.order("flush") == (0, "1 forgotten\n")
    sts.reply(tag, sts.zone[name, type_])
    sts.serve_dns(1)
    assert sts.result()[1] == POLICY


# -- all of it ----------------------------------------------------------------

@pytest.mark.skipif(not resolver.available(), reason="no nsd or unbound")
def test_gateway(keys, web):
    """With the lookup role, a name server, master and the command; in its
    jail if there is one."""
    names = resolver.NameService({
        "example.com": '_mta-sts TXT "v=STSv1; " "id=5;"\n'
                       "mta-sts A 127.0.0.1\n",
        "two.example": '_mta-sts TXT "v=STSv1; id=1"\n'
                       '_mta-sts TXT "v=STSv1; id=2"\nmta-sts A 127.0.0.1\n'})
    web.sites["example.com"] = response(policy("a.example"))
    gw = None
    try:
        gw = Instance(main={
            "smtp_tls_sts": "yes", "dns_resolvers": names.address,
            "smtp_tls_sts_CAfile": keys.ca,
            "smtp_tls_sts_port": str(web.port),
            "smtp_tls_sts_private_networks": "yes"})
        out = gw.command("sts", "query", "example.com").stdout
        assert "policy: enforce\nid: 5\n" in out
        out = gw.command("sts", "query", "two.example").stdout
        assert "policy: none\nproblem: its record in the DNS is not" in out
        assert gw.command("sts").stdout.startswith("example.com enforce ")
        if os.getuid() == 0:
            pid = gw.pids("sts")[0]
            with open(f"/proc/{pid}/status") as f:
                st = dict(line.rstrip().split(":\t") for line in f
                          if ":\t" in line)
            uid = str(pwd.getpwnam("postern-net").pw_uid)
            assert st["Uid"].split() == [uid] * 4
            assert st["Seccomp"] == "2"
            root = os.readlink(f"/proc/{pid}/root")
            assert root != "/" and os.listdir(root) == []
        # A new generation knows it; the lookup role may die.
        names.stop(names.unbound)
        gw.command("reload")
        wait_for("the new one", lambda: len(gw.pids("sts")) == 1)
        gw.kill("lookup")
        gw.expect_log("lookup.* killed by signal 9")
        out = gw.command("sts", "query", "example.com").stdout
        assert "policy: enforce\nid: 5\n" in out
        assert gw.command("sts", "flush", "example.com").stdout == \
            "1 forgotten\n"
        p = gw.command("sts", "query", "a b", check=False)
        assert p.returncode == 1 and "not a domain" in p.stderr
        gw.set(smtp_tls_sts="no")
        gw.command("reload")
        wait_for("its end", lambda: not gw.pids("sts"))
        p = gw.command("sts", check=False)
        assert p.returncode == 1 and "it is not used here" in p.stderr
    finally:
        if gw:
            gw.destroy()
        names.close()


def test_no_authorities(sts, keys, web, tmp_path):
    """A file that is not there: the process does not begin."""
    s = Sts(keys, web, smtp_tls_sts_CAfile=str(tmp_path / "none.pem"))
    try:
        assert s.control.receive() is None
        assert "smtp_tls_sts_CAfile" in s.log()
    finally:
        s.end()
