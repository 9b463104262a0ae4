"""TLS reports (RFC 8460): the tlsrpt role, with the test as its relay, its
lookup and its qmgr, and what relays tell it."""
import datetime
import email
import email.policy
import gzip
import json
import os
import signal
import socket
import subprocess

import pytest

import resolver
import test_relay
from milters import CONTINUE, Milter, add_header
from postern import Instance, Sink, mail, wait_for
from role_driver import Fields, Role, u8, u16, u32, u64, view
from sts_help import WebKeys, WebServer, policy, response
from test_relay import DEFERRED, SENT, Server, script
from test_relay_sts import FETCH_ERROR, NO_POLICY, POLICY, StsRelay, A
from test_relay_sts import keys as server_keys  # noqa: F401
from test_relay_tls import context, starttls

TXT, HOST = 16, 0xffff
FOUND, NO_DATA, NO_NAME, TEMPORARY, BOGUS = 1, 2, 3, 4, 5
TLSA, STS, NOTHING = 1, 2, 3
RESULTS = [None, "success", "starttls-not-supported",
           "certificate-host-mismatch", "certificate-expired",
           "certificate-not-trusted", "validation-failure", "tlsa-invalid",
           "dnssec-invalid", "dane-required", "sts-policy-fetch-error",
           "sts-policy-invalid", "sts-webpki-invalid"]
LINES = "version: STSv1\nmode: enforce\nmx: *.example.com\nmax_age: 86400"
RUA = b"v=TLSRPTv1; rua=mailto:tls@reports.example"


@pytest.fixture(scope="module")
def web_keys():
    k = WebKeys()
    yield k
    k.destroy()


@pytest.fixture
def web(web_keys):
    w = WebServer(web_keys.context("reports", ["reports.example"]))
    yield w
    w.close()


def event(domain="example.com", kind=STS, lines=LINES, result="success",
          texts=None):
    if texts is None:
        texts = [""] * 4 if result == "success" else [
            "192.0.2.1", "mx.example.com", "2001:db8::25", "why \"so\""]
    return (view(domain) + u8(kind) + view(lines) +
            u8(RESULTS.index(result)) + b"".join(view(t) for t in texts))


class Tlsrpt(Role):
    def __init__(self, keys, where, port=1, **conf):
        self.path = str(where / "tlsrpt")
        super().__init__("tlsrpt", **{
            "smtp_tlsrpt_enable": "yes", "myhostname": "gw.ours.example",
            "smtp_tlsrpt_map": "lmdb:" + self.path,
            "smtp_tls_sts_CAfile": keys.ca, "smtp_tls_sts_port": str(port),
            "smtp_tls_sts_private_networks": "yes", **conf})

    def __enter__(self):
        super().__enter__()
        self.lookup = self.peer("lookup")
        self.relay = self.peer("relay")
        self.qmgr = self.peer("qmgr")
        self.start()
        return self

    def tell(self, *events):
        for e in events:
            self.relay.send("TLS_RESULT", e)
        self.relay.heard()

    def order(self, words):
        self.control.send("ORDER", u32(9) + view(words))
        f = self.control.expect("ORDER_IS")
        assert f.u32() == 9
        refused, text = f.u8(), f.text()
        f.done()
        return refused, text

    def question(self, name, type_=TXT):
        f = self.lookup.expect("FACT")
        tag, kind = f.u32(), f.u8()
        assert (kind, f.u16(), f.text()) == (1, type_, name)
        return tag

    def reply(self, tag, records):
        body = u8(records) + u32(0) if isinstance(records, int) else (
            u8(FOUND) + u32(len(records)) + b"".join(map(view, records)))
        self.lookup.send("FACT_IS", u32(tag) + view(body))

    def take(self, code=250, text="Ok"):
        """The message that comes: recipients, text"""
        f = self.qmgr.expect("SLOTS")
        assert f.u32() == 1
        fd = os.memfd_create("text", os.MFD_ALLOW_SEALING)
        try:
            self.qmgr.send("SLOT", u64(77), [fd])
            f = self.qmgr.expect("SEAL")
            assert f.u64() == 77
            size, flags, env = f.u64(), f.u8(), Fields(f.view())
            f.done()
            assert flags == 0
            data = os.pread(fd, size + 1, 0)
        finally:
            os.close(fd)
        assert len(data) == size
        assert env.u8() == 2 and env.u32() == 32 and env.text() == ""
        assert (env.text(), env.text()) == ("localhost", "127.0.0.1")
        assert env.u16() == 0 and env.text() == ""
        assert env.text() == "tlsrpt"
        assert (env.text(), env.text(), env.u8()) == ("", "", 0)
        to = []
        for _ in range(env.u32()):
            to.append(env.text())
            assert (env.text(), env.text(), env.u8()) == ("", "", 0)
        env.done()
        self.qmgr.send("SEALED", u64(77) + u16(code) + view("2.0.0") +
                       view(text))
        return to, data

    def listed(self):
        refused, text = self.order("list")
        assert not refused
        return text

    def gone(self):
        wait_for("the end of it", lambda: self.listed() == "")


@pytest.fixture
def role(web_keys, tmp_path):
    with Tlsrpt(web_keys, tmp_path) as r:
        yield r


def utc(text):
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(
        tzinfo=datetime.timezone.utc)


def valid(text, domain):
    """All that RFC 8460 section 4 demands; the policies by their type."""
    r = json.loads(text)
    assert set(r) == {"organization-name", "date-range", "contact-info",
                      "report-id", "policies"}
    first, last = (utc(r["date-range"][w + "-datetime"])
                   for w in ("start", "end"))
    assert first <= last and last - first < datetime.timedelta(days=1)
    assert (first.hour, first.minute, first.second) == (0, 0, 0)
    for name in ("organization-name", "contact-info", "report-id"):
        assert isinstance(r[name], str) and r[name]
    found = {}
    for p in r["policies"]:
        assert set(p) <= {"policy", "summary", "failure-details"}
        assert p["policy"]["policy-domain"] == domain
        kind = p["policy"]["policy-type"]
        assert kind in ("tlsa", "sts", "no-policy-found")
        s = p["summary"]
        assert set(s) == {"total-successful-session-count",
                          "total-failure-session-count"}
        details = {}
        for d in p.get("failure-details", []):
            assert d["result-type"] in RESULTS[2:]
            assert d["failed-session-count"] > 0
            details[d["result-type"]] = d
        found.setdefault(kind, []).append(
            (p["policy"], s["total-successful-session-count"],
             s["total-failure-session-count"], details))
    return r, found


def opened(data, domain, submitter="localdomain"):
    """A message, checked: its report's text."""
    m = email.message_from_bytes(data, policy=email.policy.default)
    assert m.get_content_type() == "multipart/report"
    assert m.get_param("report-type") == "tlsrpt"
    assert m["TLS-Report-Domain"] == domain
    assert m["TLS-Report-Submitter"] == submitter
    assert m["TLS-Required"] == "No"
    assert m["Auto-Submitted"] == "auto-generated"
    assert len(m.get_all("From")) == len(m.get_all("Date")) == 1
    text, report = m.get_payload()
    assert text.get_content_type() == "text/plain"
    assert report.get_content_type() == "application/tlsrpt+gzip"
    packed = report.get_payload(decode=True)
    r = json.loads(gzip.decompress(packed))
    first, last = (int(utc(r["date-range"][w + "-datetime"]).timestamp())
                   for w in ("start", "end"))
    assert report.get_filename() == \
        f"{submitter}!{domain}!{first}!{last}.json.gz"
    assert m["Subject"] == (f"Report Domain: {domain} Submitter: {submitter} "
                            f"Report-ID: <{r['report-id']}>")
    return gzip.decompress(packed).decode()


# -- the role ------------------------------------------------------------------

def test_report(role):
    failures = RESULTS[2:]
    role.tell(*[event()] * 3, event(kind=NOTHING, lines=""),
              *[event(result=r) for r in failures],
              event(result=failures[0]),
              event(kind=TLSA, lines="3 1 1 00ff\n2 0 1 ab"),
              event("other.example"))
    today = datetime.datetime.now(datetime.timezone.utc).date()
    text = role.listed()
    n = len(failures) + 1
    assert f"{today} example.com succeeded=5 failed={n}\n" in text
    assert " other.example succeeded=1 failed=0\n" in text
    assert role.order("show nobody.example") == (
        1, "nothing was counted for it")
    shown = valid(role.order("show example.com")[1], "example.com")[1]
    assert role.order("send example.com") == (
        0, "1 reports are being sent\n")
    role.reply(role.question("_smtp._tls.example.com"), [
        b"v=spf1 -all", b"v=TLSRPTv1; rua=mailto:tls@reports.example,"
        b"mailto:a%2Bb@reports.example, mailto:no, ftp://x/"])
    to, data = role.take()
    assert to == ["tls@reports.example", "a+b@reports.example"]
    r, found = valid(opened(data, "example.com", "ours.example"),
                     "example.com")
    assert r["organization-name"] == "ours.example"
    assert r["contact-info"] == "postmaster@ours.example"
    assert found == shown
    (policy_, good, bad, details), = found["sts"]
    assert policy_["policy-string"] == LINES.split("\n")
    assert policy_["mx-host"] == ["*.example.com"]
    assert (good, bad) == (3, n)
    assert set(details) == set(failures)
    assert details[failures[0]] == {
        "result-type": "starttls-not-supported",
        "sending-mta-ip": "192.0.2.1", "receiving-ip": "2001:db8::25",
        "receiving-mx-hostname": "mx.example.com",
        "failure-reason-code": "why \"so\"", "failed-session-count": 2}
    (policy_, good, bad, details), = found["tlsa"]
    assert policy_["policy-string"] == ["3 1 1 00ff", "2 0 1 ab"]
    assert (good, bad, details) == (1, 0, {})
    assert found["no-policy-found"][0][1:] == (1, 0, {})
    wait_for("its end", lambda: "example.com" not in role.listed())
    role.settle()
    assert "TLSRPT: example.com: report sent to its addresses (250 2.0.0 " \
        "Ok)" in role.log()
    # What comes later on that day is in another report.
    role.tell(event())
    shown = json.loads(role.order("show example.com")[1])
    assert utc(shown["date-range"]["start-datetime"]) > utc(
        r["date-range"]["end-datetime"])
    assert shown["report-id"] != r["report-id"]


@pytest.mark.parametrize("records", [
    NO_NAME, NO_DATA, [b"v=spf1 -all"], [RUA, RUA], [b"v=TLSRPTv1;"],
    [b"v=TLSRPTv1; rua=mailto:a@b.example\0"],
    [b"v=TLSRPTv1; rua=mailto:a@b.example%0d%0aBcc:c@d.example"],
    [b"v=TLSRPTv1; rua=mailto:a@[127.0.0.1]"],
    [b"v=TLSRPTv1; rua=https://127.0.0.1/"],
    [b"v=TLSRPTv1; rua=https://localhost/"],
    [b"v=TLSRPTv1; rua=https://x.example:25/"],
    [b"v=TLSRPTv1; rua=" + b"mailto:" + b"a" * 9000],
    [b"\xff" * 16000]], ids=lambda r: str(r)[:40])
def test_no_report(role, records):
    """No record, two, or one without an address that can be used."""
    role.tell(event())
    role.order("send")
    role.reply(role.question("_smtp._tls.example.com"), records)
    role.gone()
    status = role.status()
    assert (status["unwanted"], status["sent"], status["waiting"]) == (
        "1", "0", "0")


def test_many_addresses(role):
    role.tell(event())
    role.order("send")
    role.reply(role.question("_smtp._tls.example.com"), [
        b"v=TLSRPTv1; rua=" + b",".join(
            b"mailto:a%d@b.example" % i for i in range(100))])
    assert role.take()[0] == [f"a{i}@b.example" for i in range(5)]
    role.gone()


@pytest.mark.parametrize("status", [TEMPORARY, BOGUS])
def test_dns_fails(role, status):
    role.tell(event())
    role.order("send")
    role.reply(role.question("_smtp._tls.example.com"), status)
    role.wait_log("report not sent: its record in the DNS")
    assert "(to be sent)" in role.listed()
    role.order("send")
    role.reply(role.question("_smtp._tls.example.com"), [RUA])
    role.take()
    role.gone()


def test_refused_mail(role):
    """It is kept, and sent when it is taken."""
    role.tell(event())
    role.order("send")
    role.reply(role.question("_smtp._tls.example.com"), [RUA])
    first = role.take(452, "full")[1]
    role.wait_log("not all of its addresses took it")
    role.order("send")
    role.reply(role.question("_smtp._tls.example.com"), [RUA])
    second = role.take()[1]
    role.gone()

    def number(data):
        return email.message_from_bytes(data)["Message-ID"]
    assert number(first) == number(second)


def test_qmgr_ends(role):
    """The next one gets it."""
    role.tell(event())
    role.order("send")
    role.reply(role.question("_smtp._tls.example.com"), [RUA])
    role.qmgr.expect("SLOTS")
    role.qmgr.close()
    role.qmgr = role.peer("qmgr", generation=2)
    role.take()
    role.gone()


def posted(web, seen, answer):
    def talk(c):
        head, _, body = web.requests[-1].partition(b"\r\n\r\n")
        fields = email.message_from_bytes(head.partition(b"\r\n")[2])
        while len(body) < int(fields["Content-Length"]):
            body += c.recv(4096)
        seen.append((head.split(b"\r\n")[0].decode(), fields, body))
        c.sendall(answer)
        c.unwrap()
    return talk


def test_https(web_keys, web, tmp_path):
    seen = []
    web.sites["reports.example"] = posted(web, seen,
                                          response(b"thanks", "201 Made"))
    with Tlsrpt(web_keys, tmp_path, web.port) as role:
        role.tell(event())
        role.order("send")
        role.reply(role.question("_smtp._tls.example.com"), [
            b"v=TLSRPTv1; rua=https://reports.example/v1?a=b," +
            RUA.split(b"=", 2)[2]])
        role.take()
        role.reply(role.question("reports.example", HOST),
                   [socket.inet_aton("127.0.0.1")])
        role.gone()
        assert role.status()["sent"] == "1"
    (line, fields, body), = seen
    assert line == "POST /v1?a=b HTTP/1.1"
    assert fields["Content-Type"] == "application/tlsrpt+gzip"
    assert fields["Host"] == "reports.example"
    assert valid(gzip.decompress(body), "example.com")[1]["sts"][0][1] == 1


def test_https_fails(web_keys, web, tmp_path):
    """Mail that was taken is not sent again when the other is."""
    seen = []
    web.sites["reports.example"] = posted(web, seen,
                                          response(b"", "503 Later"))
    both = [b"v=TLSRPTv1; rua=https://reports.example/," +
            RUA.split(b"=", 2)[2]]
    here = [socket.inet_aton("127.0.0.1")]
    with Tlsrpt(web_keys, tmp_path, web.port) as role:
        role.tell(event())
        role.order("send")
        role.reply(role.question("_smtp._tls.example.com"), both)
        role.take()
        role.reply(role.question("reports.example", HOST), here)
        role.wait_log("HTTP status 503")
        role.wait_log("not all of its addresses took it")
        web.sites["reports.example"] = posted(web, seen, response(b""))
        role.order("send")
        role.reply(role.question("_smtp._tls.example.com"), both)
        role.reply(role.question("reports.example", HOST), here)
        role.gone()
    assert len(seen) == 2 and seen[0][2] == seen[1][2]


def test_https_inside(web_keys, web, tmp_path):
    """Whoever owns the domain does not choose what inside is connected to."""
    with Tlsrpt(web_keys, tmp_path, web.port,
                smtp_tls_sts_private_networks="no") as role:
        role.tell(event())
        role.order("send")
        role.reply(role.question("_smtp._tls.example.com"), [
            b"v=TLSRPTv1; rua=https://reports.example/"])
        role.reply(role.question("reports.example", HOST),
                   [socket.inet_aton("127.0.0.1"),
                    socket.inet_aton("10.0.0.1")])
        role.wait_log("has no address that is used")
    assert web.asked == []


GARBAGE = {
    "nothing": b"", "cut": event()[:-1], "long": event() + b"x",
    "case": event("Example.com"), "domain": event("a b"),
    "path": event("../../etc"), "huge": event("a." * 200 + "example"),
    "type": event(kind=0), "type 9": event(kind=9),
    "result": event().replace(u8(1) + u32(0) * 4, u8(99) + u32(0) * 4),
    "lines": event(lines="a" * 5000), "control": event(lines="a\x1b[1m"),
    "text": event(result="dane-required", texts=["", "a" * 300, "", ""]),
    "address": event(result="dane-required", texts=["x", "", "", ""]),
    "random": os.urandom(3000)}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage(role, what):
    """A relay that tells nonsense is ended, and what others told stays."""
    role.tell(event("good.example"))
    bad = role.peer("relay")
    bad.send("TLS_RESULT", GARBAGE[what])
    assert role.control.expect("BLAME").u32() == os.getpid()
    assert bad.receive() is None
    text = role.listed()
    assert "good.example succeeded=1" in text and text.count("\n") == 1


def test_bounds(web_keys, tmp_path):
    """The oldest make room; within a day those first in order."""
    with Tlsrpt(web_keys, tmp_path, smtp_tlsrpt_domain_limit="10") as role:
        role.tell(*[event(f"d{i:03}.example", result="dnssec-invalid",
                          texts=["", f"h{k}", "", ""])
                    for i in range(40) for k in range(100)])
        assert role.listed().count("\n") == 10
        role.wait_log("results of too many domains")
        assert role.status()["dropped"] == "30"
        p = valid(role.order("show d039.example")[1], "d039.example")[0]
        p, = p["policies"]
        assert p["summary"]["total-failure-session-count"] == 100
        assert len(p["failure-details"]) == 50


def test_largest(role):
    """All that one domain can have is shown and sent."""
    def text(*parts):
        return "".join(f"{p:>20}" for p in parts).replace(" ", '"').rjust(
            255, '"')
    role.tell(*[event(lines="x" * 4090 + str(i), result="dane-required",
                      texts=["", text(k), "", text(k, i)])
                for i in range(9) for k in range(51)])
    shown = role.order("show example.com")[1]
    assert len(valid(shown, "example.com")[1]["sts"]) == 8
    role.order("send")
    role.reply(role.question("_smtp._tls.example.com"), [RUA])
    to, data = role.take()
    found = valid(opened(data, "example.com", "ours.example"),
                  "example.com")[1]["sts"]
    assert len(found) == 8 and {p[2] for p in found} == {51}
    r = json.loads(opened(data, "example.com", "ours.example"))
    assert all(len(p["failure-details"]) == 50 for p in r["policies"])
    role.gone()


def test_killed(web_keys, tmp_path):
    """What was told a moment ago, and nobody has asked for, stays."""
    with Tlsrpt(web_keys, tmp_path) as r:
        r.tell(event(), event(result="certificate-expired"))

        def stored():
            with open(r.path + ".lmdb", "rb") as f:
                return b" example.com" in f.read()
        wait_for("the file", stored)
        os.kill(r.process.pid, signal.SIGKILL)
        assert r.process.wait() == -signal.SIGKILL
        r.process.returncode = 0    # that is no failure
    with Tlsrpt(web_keys, tmp_path) as r:
        assert "example.com succeeded=1 failed=1\n" in r.listed()


def test_restart_sends(web_keys, tmp_path):
    """One that was due and not sent is sent by the next process."""
    with Tlsrpt(web_keys, tmp_path) as r:
        r.tell(event())
        r.order("send")
        r.question("_smtp._tls.example.com")
    with Tlsrpt(web_keys, tmp_path, smtp_tlsrpt_delay="0") as r:
        r.reply(r.question("_smtp._tls.example.com"), [RUA])
        r.take()
        r.gone()


def test_two_processes(web_keys, tmp_path):
    """As during a reload: both count."""
    with Tlsrpt(web_keys, tmp_path) as a, Tlsrpt(web_keys, tmp_path) as b:
        for _ in range(3):
            for r in (a, b):
                r.tell(event())
                r.listed()
        assert "succeeded=6 failed=0" in a.listed()
        assert a.listed() == b.listed()


def test_full_disk(web_keys, tmp_path):
    """The file cannot grow: it goes on in memory, and stores when it can."""
    small = tmp_path / "small"
    small.mkdir(mode=0o755)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=755",
                       "tmpfs", small], check=False).returncode:
        pytest.skip("no tmpfs here")
    try:
        with Tlsrpt(web_keys, small) as r:
            r.tell(event())
            assert "succeeded=1" in r.listed()
            r.tell(*[event(f"d{i}.example", lines="x" * 4000)
                     for i in range(200)])
            assert r.listed().count("\n") == 1
            r.wait_log("results for TLS reports are not stored")
            r.tell(event())
            subprocess.run(["mount", "-o", "remount,size=16m", small],
                           check=True)
            wait_for("all of it", lambda: r.listed().count("\n") == 201)
            assert " example.com succeeded=2 " in r.listed()
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("spec", ["", "lmdb:relative", "DIR/no/such/file"])
def test_no_file(web_keys, tmp_path, spec):
    with Tlsrpt(web_keys, tmp_path, smtp_tlsrpt_map=spec.replace(
            "DIR", str(tmp_path))) as r:
        r.tell(event())
        assert r.order("list") == (0, "")
        assert r.order("send") == (0, "0 reports are being sent\n")
        r.wait_log("no TLS reports are made")


def test_unknown_order(role):
    assert role.order("dance") == (1, "unknown command")
    assert role.order("show") == (1, "unknown command")


# -- what relays tell ----------------------------------------------------------

class Told:
    def __init__(self, f):
        self.domain, self.kind, self.lines = f.text(), f.u8(), f.text()
        self.result = RESULTS[f.u8()]
        self.texts = [f.text() for _ in range(4)]
        f.done()


class Teller(StsRelay):
    def __init__(self, keys, level="may", **conf):
        super().__init__(keys, level, smtp_tlsrpt_enable="yes", **conf)

    def __enter__(self):
        super().__enter__()
        self.tlsrpt = self.peer("tlsrpt")
        return self

    def event(self):
        return Told(self.tlsrpt.expect("TLS_RESULT"))

    def silent(self):
        """Nothing was told: it would be here by now."""
        self.settle()
        self.tlsrpt.sock.setblocking(False)
        try:
            assert not self.tlsrpt.data
            with pytest.raises(BlockingIOError):
                self.tlsrpt.sock.recv(1)
        finally:
            self.tlsrpt.sock.setblocking(True)


@pytest.fixture
def keys(server_keys):  # noqa: F811
    return server_keys


def test_told_success(keys):
    with Server(starttls(context(keys, "self"))) as server, \
            Teller(keys) as relay:
        assert relay.send_to(server, b"", answer=NO_POLICY).status == SENT
        e = relay.event()
        assert (e.domain, e.kind, e.lines, e.result) == (
            "example.org", NOTHING, "", "success")
        assert e.texts == [""] * 4
        relay.silent()


def test_told_no_starttls(keys):
    with Server(script()) as server, Teller(keys) as relay:
        assert relay.send_to(server, b"", answer=NO_POLICY).status == SENT
        e = relay.event()
        assert (e.kind, e.result) == (NOTHING, "starttls-not-supported")
        assert e.texts == ["127.0.0.1", "mx.example.org", "127.0.0.1", ""]
        relay.silent()


@pytest.mark.parametrize("mode", ["enforce", "testing"])
@pytest.mark.parametrize("name,result", [
    ("mx", "success"), ("self", "certificate-not-trusted"),
    ("expired", "certificate-expired"),
    ("nexthop", "certificate-host-mismatch"),
    (None, "starttls-not-supported")])
def test_told_policy(keys, mode, name, result):
    talk = starttls(context(keys, name)) if name else script()
    with Server(talk) as server, Teller(keys) as relay:
        r = relay.send_to(server, policy("mx.example.org", mode=mode))
        assert r.status == (SENT if mode == "testing" or result == "success"
                            else DEFERRED)
        e = relay.event()
        assert (e.domain, e.kind, e.result) == ("example.org", STS, result)
        assert e.lines == (f"version: STSv1\nmode: {mode}\n"
                           "mx: mx.example.org\nmax_age: 86400")
        assert e.texts[:3] == ([""] * 3 if result == "success" else
                               ["127.0.0.1", "mx.example.org", "127.0.0.1"])
        relay.silent()


@pytest.mark.parametrize("mode", ["enforce", "testing"])
def test_told_host(keys, mode):
    with Server(starttls(context(keys, "mx"))) as server, \
            Teller(keys) as relay:
        relay.send_to(server, policy("other.example.org", mode=mode))
        e = relay.event()
        assert (e.kind, e.result, e.texts[1]) == (
            STS, "validation-failure", "mx.example.org")
        assert e.texts[3] == "the policy does not name this host"
        relay.silent()


@pytest.mark.parametrize("answer,result", [
    (FETCH_ERROR, "sts-policy-fetch-error"), (4, "sts-policy-invalid"),
    (5, "sts-webpki-invalid")])
def test_told_no_policy(keys, answer, result):
    with Server(starttls(context(keys, "self"))) as server, \
            Teller(keys) as relay:
        assert relay.send_to(server, b"", answer=answer).status == SENT
        assert relay.event().result == "success"
        e = relay.event()
        assert (e.kind, e.lines, e.result) == (STS, "", result)
        relay.silent()


def test_told_handshake(keys):
    """One result, although it is tried without TLS then."""
    def begin(c):
        c.say("220 go")
        c.s.recv(1000)
        c.s.sendall(b"this is no TLS\r\n" * 10)
        raise ConnectionResetError
    with Server(starttls(None, begin)) as server, Teller(keys) as relay:
        relay.deliver(f"example.org:{server.port}")
        relay.told(relay.asked(), NO_POLICY)
        relay.route(("mx.example.org", A))
        e = relay.event()
        assert (e.kind, e.result) == (NOTHING, "validation-failure")
        assert e.texts[3] != ""


def test_told_refused(keys):
    def begin(c):
        c.say("454 4.7.0 not\x1b now")
    with Server(starttls(None, begin)) as server, Teller(keys) as relay:
        assert relay.send_to(server, b"", answer=NO_POLICY).status == SENT
        e = relay.event()
        assert e.result == "starttls-not-supported"
        assert "454 4.7.0 not? now" in e.texts[3]
        relay.silent()


@pytest.mark.parametrize("level", ["none", "secure"])
def test_not_told(keys, level):
    """What we want is not the domain's fault."""
    with Server(starttls(context(keys, "self"))) as server, \
            Teller(keys, level) as relay:
        relay.deliver(f"example.org:{server.port}")
        relay.route(("mx.example.org", A))
        relay.result()
        relay.silent()


def test_not_told_of_hosts_and_reports(keys, monkeypatch):
    real = test_relay.envelope

    def report(*args, **kw):
        return real(*args, **kw).replace(view("ESMTP"), view("tlsrpt"))
    with Server(starttls(context(keys, "self"))) as server, \
            Teller(keys) as relay:
        assert relay.send(server.hop).status == SENT
        monkeypatch.setattr(test_relay, "envelope", report)
        assert relay.send_to(server, b"", answer=NO_POLICY).status == SENT
        relay.silent()


@pytest.mark.parametrize("skip", ["yes", "no"])
def test_told_resumed(keys, skip):
    """Of sessions that were resumed, as is wanted."""
    with Server(starttls(context(keys, "self"))) as server, Teller(
            keys, smtp_tlsrpt_skip_reused_handshakes=skip,
            smtp_connection_cache_on_demand="no",
            smtp_tls_loglevel="1") as relay:
        for _ in range(2):
            assert relay.send_to(server, b"",
                                 answer=NO_POLICY).status == SENT
        relay.wait_log("TLS connection reused to")
        assert relay.event().result == "success"
        if skip == "no":
            assert relay.event().result == "success"
        relay.silent()


GOOD = bytes((3, 1, 1)) + b"\xab" * 32


@pytest.mark.parametrize("level,status,secure,records,kind,lines,result", [
    ("dane", 2, 1, [GOOD], TLSA, "3 1 1 " + "ab" * 32, "validation-failure"),
    ("dane", 3, 0, [], TLSA, "", "dnssec-invalid"),
    ("dane", 2, 1, [b"\1\1\1" + b"x" * 32], TLSA, "", "tlsa-invalid"),
    ("dane", 1, 0, [], NOTHING, "", "success"),
    ("dane-only", 1, 0, [], NOTHING, "", "dane-required")])
def test_told_dane(keys, level, status, secure, records, kind, lines, result):
    with Server(starttls(context(keys, "self"))) as server, \
            Teller(keys, level) as relay:
        relay.deliver(f"example.org:{server.port}")
        if level == "dane":
            relay.told(relay.asked(), NO_POLICY)
        relay.route(("mx.example.org", A))
        f = relay.lookup.expect("DANE")
        relay.lookup.send("DANE_IS", u32(f.u32()) + u8(status) + u8(secure) +
                          view("mx.example.org") + u32(len(records)) +
                          b"".join(map(view, records)))
        e = relay.event()
        assert (e.kind, e.lines, e.result) == (kind, lines, result)
        relay.result()
        relay.silent()


@pytest.mark.parametrize("status,secure,records,name,result", [
    (1, 0, [], "mx", "success"),
    (2, 1, [b"\1\1\1" + b"x" * 32], "mx", "success"),
    (2, 0, [GOOD], "mx", "success"),
    (1, 0, [], "other", "validation-failure")])
def test_told_without_dane(keys, status, secure, records, name, result):
    """Level dane, and a server to which the domain's policy applies."""
    with Server(starttls(context(keys, "mx"))) as server, \
            Teller(keys, "dane") as relay:
        relay.deliver(f"example.org:{server.port}")
        relay.told(relay.asked(), POLICY, policy(f"{name}.example.org"))
        relay.route(("mx.example.org", A))
        f = relay.lookup.expect("DANE")
        relay.lookup.send("DANE_IS", u32(f.u32()) + u8(status) + u8(secure) +
                          view("mx.example.org") + u32(len(records)) +
                          b"".join(map(view, records)))
        e = relay.event()
        assert (e.kind, e.result) == (STS, result)
        relay.result()
        relay.silent()


def test_tlsrpt_does_not_read(keys):
    """Deliveries do not wait for it."""
    with Server(starttls(context(keys, "self"))) as server, \
            Teller(keys, smtp_connection_cache_on_demand="no") as relay:
        for _ in range(20):
            assert relay.send_to(server, b"",
                                 answer=NO_POLICY).status == SENT
        relay.tlsrpt.close()
        assert relay.send_to(server, b"", answer=NO_POLICY).status == SENT


# -- all of it -----------------------------------------------------------------

@pytest.mark.skipif(not resolver.available(), reason="no nsd or unbound")
def test_gateway(web_keys, web, keys):
    """From a delivery to the mail with the report, which a milter signs, and
    to a web server; in its jail."""
    seen = []
    web.sites["reports.example"] = posted(web, seen, response(b""))
    milter = Milter()
    milter.use({"eom": [add_header("DKIM-Signature", "v=1; d=x"), CONTINUE]})
    names = resolver.NameService({
        "there.example": "@ MX 10 mx\nmx A 127.0.0.1\n_smtp._tls TXT "
                         '"v=TLSRPTv1; " "rua=mailto:tls@reports.example,'
                         'https://reports.example/v1"\n',
        "reports.example": "@ A 127.0.0.1\n"})
    gw = None
    sink = Sink()
    server = Server(starttls(context(keys, "self")))
    plain = Server(script())
    try:
        gw = Instance(sink, main={
            "smtp_tlsrpt_enable": "yes", "dns_resolvers": names.address,
            "smtp_tls_sts_CAfile": web_keys.ca,
            "smtp_tls_sts_port": str(web.port),
            "smtp_tls_sts_private_networks": "yes",
            "non_smtpd_milters": milter.where,
            "relay_domains": "there.example",
            "smtp_tls_security_level": "may",
            # each message is a session, and so a result
            "smtp_connection_cache_on_demand": "no",
            "transport_maps": "inline:{ { u@there.example = "
            f"relay:there.example:{server.port} }} {{ v@there.example = "
            f"relay:there.example:{plain.port} }} {{ reports.example = "
            f"relay:[127.0.0.1]:{sink.port} }} }}"})
        with gw.client() as c:
            assert c.ehlo().code == 250
            for to in ("u", "v"):
                r = c.message("a@client.example", f"{to}@there.example",
                              mail("x"))
                assert r.code == 250, r
        wait_for("the results", lambda: "there.example succeeded=1 failed=1"
                 in gw.command("tlsrpt").stdout)
        shown = gw.command("tlsrpt", "show", "there.example").stdout
        shown = valid(shown.removesuffix("OK\n"), "there.example")[1]
        assert gw.command("tlsrpt", "send").stdout == \
            "1 reports are being sent\n"
        m = sink.wait_subject("Report Domain: there.example")
        assert m.sender == "" and m.rcpts == ["tls@reports.example"]
        submitter = email.message_from_bytes(m.text)["TLS-Report-Submitter"]
        r, found = valid(opened(m.text, "there.example", submitter),
                         "there.example")
        assert found == shown
        assert b"\r\nDKIM-Signature: v=1; d=x\r\n" in m.header + b"\r\n"
        wait_for("its end", lambda: gw.command("tlsrpt").stdout == "")
        assert valid(gzip.decompress(seen[0][2]), "there.example") == (
            r, found) and len(seen) == 1
        if os.getuid() == 0:
            pid = gw.pids("tlsrpt")[0]
            root = os.readlink(f"/proc/{pid}/root")
            assert root != "/" and os.listdir(root) == []
        # It may die, and the next one knows.
        with gw.client() as c:
            assert c.ehlo().code == 250
            assert c.message("a@client.example", "v@there.example",
                             mail("x")).code == 250
        wait_for("the result", lambda: "succeeded=0 failed=1" in
                 gw.command("tlsrpt").stdout)
        gw.expect_log("tlsrpt.* killed by signal 9")
        gw.kill("tlsrpt")
        wait_for("the next one", lambda: "succeeded=0 failed=1" in
                 gw.command("tlsrpt", check=False).stdout)
        gw.command("reload")
        wait_for("one of them", lambda: len(gw.pids("tlsrpt")) == 1)
        assert "succeeded=0 failed=1" in gw.command("tlsrpt").stdout
        p = gw.command("tlsrpt", "show", "a b", check=False)
        assert p.returncode == 1 and "not a domain" in p.stderr
    finally:
        if gw:
            gw.destroy()
        sink.down()
        milter.close()
        for s in (server, plain):
            s.__exit__(Exception)
        names.close()
