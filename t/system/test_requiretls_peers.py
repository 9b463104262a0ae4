"""REQUIRETLS (RFC 8689) from end to end: gateways in a row, each of which finds
out in its own way who the next one is, and Debian's Postfix and Exim, which do
not know it."""
import os
import re

import pytest

from postern import Instance, Sink, free_port, mail, wait_for
from resolver import NameService, available
from sts_help import WebKeys, WebServer, policy, response
from test_dane import digest
from test_relay_tls import ServerKeys
from test_requiretls import send
from tls_help import TlsClient
from tls_peers import Exim, Filled, Postfix, there

pytestmark = pytest.mark.skipif(os.getuid() != 0 or not available(),
                                reason="needs root, nsd, unbound, ldnsutils")
# Mail for NAME@example.com goes to the MX hosts of NAME.dane.example, a signed
# zone, or NAME.example, which has policies of MTA-STS.
OTHERS = [name for name in ("postfix", "exim") if there(name)]


class Row(Filled):
    """first finds its servers by DANE, second by MTA-STS; third has nothing but
    a server inside, by its address.  Each other server has a second MX, at
    another address: second."""

    def __init__(self):
        self.keys, self.web_keys, self.sink = ServerKeys(), WebKeys(), Sink()
        self.web = self.dns = None
        self.gws, self.others = {}, {}
        super().__init__()

    def fill(self):
        keys = self.keys
        keys.cert("ca", "Test Authority", is_ca=True)
        keys.named("second", "second", names=["mx.second.dane.example"])
        keys.named("third", "third", names=["mx.third.example"])
        keys.named("weak", "weak", names=["mx.weak.example"])
        for name in OTHERS:
            keys.named(name, name, names=[f"*.{name}.dane.example"])
            self.others[name] = {"postfix": Postfix, "exim": Exim}[name](
                keys, free_port())
        ports = [free_port() for _ in range(3)]
        ways = {n: (o.server.port, n) for n, o in self.others.items()}
        ways["second"] = ports[0], "second"
        self.names(ways, ports[1:])
        self.sites()
        for name in ("third", "second", "first"):
            self.gateway(name, ways, ports)

    def names(self, ways, plain):
        zone = ""
        for name, (port, cert) in ways.items():
            zone += f"{name} MX 10 mx.{name}\nmx.{name} A 127.0.0.1\n" \
                f"_{port}._tcp.mx.{name} TLSA 3 1 1 " \
                f"{digest(self.keys, cert, True)}\n"
            if name in self.others:
                # the same, and one that knows it
                zone += f"both-{name} MX 10 mx.{name}\n" \
                    f"both-{name} MX 20 second-{name}\n" \
                    f"second-{name} A 127.0.0.2\n" \
                    f"_{port}._tcp.second-{name} TLSA 3 1 1 " \
                    f"{digest(self.keys, 'second', True)}\n"
        self.dns = NameService({z: (
            "@ MX 10 mx\nmx A 127.0.0.1\nmta-sts A 127.0.0.1\n"
            '_mta-sts TXT "v=STSv1; id=1"\n')
            for z in ("third.example", "weak.example")},
            {"dane.example": zone})

    def sites(self):
        good = self.web_keys.context("good", [
            "mta-sts.third.example", "mta-sts.weak.example"])
        self.web = WebServer(good)
        for name, mode in (("third", "enforce"), ("weak", "testing")):
            self.web.sites[name + ".example"] = response(
                policy(f"mx.{name}.example", mode=mode))

    def gateway(self, name, ways, ports):
        hops = {}
        if name == "first":
            hops = {n: f"{n}.dane.example:{p}" for n, (p, _) in ways.items()}
            hops.update({"both-" + n: f"both-{n}.dane.example:{p}"
                         for n, (p, _) in ways.items() if n in self.others})
            hops.update(third=hops["second"], weak=hops["second"])
        elif name == "second":
            hops = {"third": f"third.example:{ports[1]}",
                    "weak": f"weak.example:{ports[1]}"}
        gw = Instance(self.sink, main={
            "smtpd_tls_security_level": "may",
            "smtpd_tls_chain_files": self.keys.path(
                "second.pem" if name == "first" else name + ".pem"),
            "smtp_tls_CAfile": self.keys.path("ca.crt"),
            "smtp_tls_security_level": "dane" if name == "first" else "may",
            "smtp_tls_sts": "yes" if name == "second" else "no",
            "smtp_tls_sts_CAfile": self.web_keys.ca,
            "smtp_tls_sts_port": str(self.web.port),
            "smtp_tls_sts_private_networks": "yes",
            "dns_resolvers": self.dns.address,
            "dns_trust_anchor_file": self.dns.anchors,
            "transport_maps": "inline:{ " + " ".join(
                f"{{ {k}@example.com = relay:{v} }}"
                for k, v in hops.items()) + " }" if hops else ""},
            start=False)
        more = {"second": [f"127.0.0.1:{ports[0]}"] + [
            f"127.0.0.2:{p}" for n, (p, _) in ways.items()
            if n in self.others], "third": [f"127.0.0.1:{ports[1]}"]}
        gw.edit("master.cf", lambda t: t + "".join(
            f"{at} inet n - - - - smtpd\n" for at in more.get(name, [])))
        self.gws[name] = gw
        gw.start()
        gw.ready()

    def close(self):
        for gw in self.gws.values():
            gw.destroy(check=gw.running)
        for o in self.others.values():
            o.stop()
        for x in (self.web, self.dns, self.sink):
            if x:
                x.close()
        self.keys.destroy()
        self.web_keys.destroy()

    def send(self, to, subject, parameter=True):
        """Returns its line in the log of the first."""
        first, to = self.gws["first"], to + "@example.com"
        since = len(first.log())
        with TlsClient(first.port) as c:
            send(c, to, sender="back@example.com", parameter=parameter,
                 text=mail(subject, b"the body\r\n"))
        return first.wait_log(rf"to=<{to}>, (.* status=.*)",
                              since=since).group(1)

    def returned(self, subject):
        def found():
            return [m for m in list(self.sink.messages) if m.sender == "" and
                    f"Subject: {subject}\r\n".encode() in m.text]
        m, = wait_for("what comes back", found)
        assert m.rcpts == ["back@example.com"]
        assert b"Status: 5.7.30\r\n" in m.text
        assert b"text/rfc822-headers" in m.text
        assert b"the body" not in m.text
        return m


@pytest.fixture(scope="module")
def row():
    r = Row()
    yield r
    r.close()


def test_all_the_way(row):
    """By DANE, by MTA-STS, and to a server inside, which need not know it."""
    line = row.send("third", "all the way")
    assert " tls=dane/requiretls, dsn=2.0.0, status=sent" in line, line
    m = row.sink.wait_subject("all the way")
    row.gws["second"].wait_log(
        r"to=<third@example\.com>, relay=mx\.third\.example\S+, .* "
        r"tls=secure/requiretls, dsn=2\.0\.0, status=sent")
    row.gws["third"].wait_log(r"to=<third@example\.com>, .* "
                              r"tls=may:none/requiretls:nostarttls, dsn=2")
    assert m.field("Require-TLS-ESMTP") == "yes"
    # the header does not make up for the parameter: both came each time
    assert len(re.findall("with ESMTPS id", m.header.decode())) == 3


def test_without_the_wish(row):
    row.send("third", "no wish", parameter=False)
    m = row.sink.wait_subject("no wish")
    for name in ("first", "second", "third"):
        line = row.gws[name].wait_log(
            r"(to=<third@example\.com>.* tls=[^/]+, .*status=sent)").group(1)
        assert "requiretls" not in line
    assert m.field("Require-TLS-ESMTP") is None


def test_a_policy_that_does_not_hold(row):
    """The second knows nobody by a policy for testing: its notification comes
    back by itself, since the first has gone."""
    assert "status=sent" in row.send("weak", "weak")
    row.gws["second"].wait_log(
        r"to=<weak@example\.com>, .* tls=may/requiretls:nocertmatch, "
        r"dsn=5\.7\.30, status=bounced \(REQUIRETLS support required, but host ")
    row.returned("weak")


@pytest.mark.parametrize("name", ["postfix", "exim"])
def test_one_that_does_not_know_it(row, name):
    if name not in row.others:
        pytest.skip(f"no {name}")
    line = row.send(name, f"required of {name}")
    assert re.search(r" tls=dane/requiretls:none, dsn=5\.7\.30, status=bounced "
                     r"\(REQUIRETLS support required, but host "
                     rf"mx\.{name}\.dane\.example", line), line
    row.returned(f"required of {name}")
    # it is the wish alone
    line = row.send(name, f"wished of {name}", parameter=False)
    assert " tls=dane, dsn=2.0.0, status=sent" in line, line
    row.others[name].text(f"wished of {name}")
    assert f"Subject: required of {name}\n".encode() not in \
        row.others[name].server.mailbox()


@pytest.mark.parametrize("name", ["postfix", "exim"])
def test_another_mail_server(row, name):
    """It is tried next, though the first would take mail."""
    if name not in row.others:
        pytest.skip(f"no {name}")
    line = row.send("both-" + name, f"around {name}")
    assert re.search(rf"relay=second-{name}\.dane\.example\[127\.0\.0\.2\]\S+, "
                     r".* tls=dane/requiretls, dsn=2\.0\.0, status=sent",
                     line), line
    m = row.sink.wait_subject(f"around {name}")
    assert m.rcpts == [f"both-{name}@example.com"]
    assert m.field("Require-TLS-ESMTP") == "yes"
