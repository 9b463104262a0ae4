"""DANE: what servers have to show is said by a signed zone."""
import hashlib
import os
import re
import ssl
import subprocess

import pytest

from postern import mail
from resolver import NameService, available
from role_driver import u16, u32, view
from test_lookup import Lookup
from test_relay import Server, script
from test_relay_tls import ServerKeys, context, starttls

pytestmark = pytest.mark.skipif(not available(),
                                reason="needs nsd, unbound, ldnsutils")

NONE, FOUND, FAILED = 1, 2, 3


@pytest.fixture(scope="module")
def keys():
    k = ServerKeys()
    try:
        k.cert("ca", "Test Authority", is_ca=True)
        k.cert("self", "whoever.example")
        k.named("ta", "ta.signed.example", names=["ta.signed.example"])
        k.join("ta.pem", "ta.key", "ta.crt", "ca.crt")
        yield k
    finally:
        k.destroy()


def digest(keys, name, key):
    """SHA-256 of the certificate, or of its public key."""
    if not key:
        with open(keys.path(name + ".crt")) as f:
            return hashlib.sha256(ssl.PEM_cert_to_DER_cert(
                f.read())).hexdigest()
    keys.openssl("x509", "-in", name + ".crt", "-noout", "-pubkey", "-out",
                 name + ".pub")
    keys.openssl("pkey", "-pubin", "-in", name + ".pub", "-outform", "DER",
                 "-out", name + ".der")
    with open(keys.path(name + ".der"), "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


@pytest.fixture(scope="module")
def servers(keys):
    s = {"self": Server(starttls(context(keys, "self"))),
         "ta": Server(starttls(context(keys, "ta"))),
         "bare": Server(script())}
    yield s
    for one in s.values():
        one.__exit__(Exception)


@pytest.fixture(scope="module")
def dns(keys, servers):
    port = {name: s.port for name, s in servers.items()}
    good = f"3 1 1 {digest(keys, 'self', True)}"
    authority = f"2 0 1 {digest(keys, 'ca', False)}"
    zone = f"""
ok A 127.0.0.1
_{port['self']}._tcp.ok TLSA {good}
alias CNAME ok
d-ok MX 10 ok
d-alias MX 10 alias
out CNAME host.plain.example.
_{port['self']}._tcp.out TLSA {good}
d-out MX 10 out
bare-out CNAME host.plain.example.
wrong A 127.0.0.1
_{port['self']}._tcp.wrong TLSA 3 1 1 {'00' * 32}
d-wrong MX 10 wrong
none A 127.0.0.1
d-none MX 10 none
odd A 127.0.0.1
_{port['self']}._tcp.odd TLSA 1 1 1 {'00' * 32}
d-odd MX 10 odd
ta A 127.0.0.1
_{port['ta']}._tcp.ta TLSA {authority}
d-ta MX 10 ta
tb A 127.0.0.1
_{port['ta']}._tcp.tb TLSA {authority}
d-tb MX 10 tb
bare A 127.0.0.1
_{port['bare']}._tcp.bare TLSA {good}
d-bare MX 10 bare
"""
    forged = f"""
f A 127.0.0.1
_25._tcp.f TLSA 3 1 1 {'aa' * 32}
_{port['self']}._tcp.f TLSA 3 1 1 {'aa' * 32}
d-forged MX 10 f
"""
    d = NameService({"plain.example": f"""
d-half MX 10 ok.signed.example.
host A 127.0.0.1
_{port['self']}._tcp.host TLSA {good}
d-host MX 10 host
in CNAME ok.signed.example.
"""}, {"signed.example": zone},
        {"forged.example": (forged, "aa" * 32, "ab" * 32)})
    yield d
    d.close()


class Dane(Lookup):
    def dane(self, domain, host, port):
        self.tag += 1
        self.relay.send("DANE", u32(self.tag) + view(domain) + view(host) +
                        u16(port))
        f = self.relay.expect("DANE_IS", 40)
        assert f.u32() == self.tag
        r = f.u8(), f.u8(), f.text(), [f.view() for _ in range(f.u32())]
        f.done()
        return r


# Validated here; and by the resolver, which is on loopback.
TRUST = [{"dns_trust_anchor_file": True}, {}]


def trusted(dns, conf):
    return {k: dns.anchors if v is True else v for k, v in conf.items()}


@pytest.mark.parametrize("trust", TRUST, ids=["anchors", "ad"])
def test_lookup(dns, keys, servers, trust):
    good = bytes((3, 1, 1)) + bytes.fromhex(digest(keys, "self", True))
    port = servers["self"].port
    with Dane(dns, **trusted(dns, trust)) as ask:
        assert ask.dane("d-ok.signed.example", "ok.signed.example", port) == (
            FOUND, 1, "ok.signed.example", [good])
        assert ask.dane("", "OK.signed.example.", port) == (
            FOUND, 1, "ok.signed.example", [good])
        # not one of its MX
        assert ask.dane("d-none.signed.example", "ok.signed.example",
                        port)[:2] == (FOUND, 0)
        assert ask.dane("d-half.plain.example", "ok.signed.example",
                        port)[:2] == (FOUND, 0)
        assert ask.dane("d-alias.signed.example", "alias.signed.example",
                        port) == (FOUND, 1, "ok.signed.example", [good])
        # an alias that is proven, of what is not; and the other way round
        assert ask.dane("d-out.signed.example", "out.signed.example",
                        port) == (FOUND, 1, "out.signed.example", [good])
        assert ask.dane("", "bare-out.signed.example", port)[0] == NONE
        assert ask.dane("", "in.plain.example", port)[0] == NONE
        # the domain itself, without MX
        assert ask.dane("ok.signed.example", "ok.signed.example",
                        port)[:2] == (FOUND, 1)
        assert ask.dane("", "ok.signed.example", 1) == (NONE, 0, "", [])
        assert ask.dane("", "none.signed.example", port)[0] == NONE
        assert ask.dane("", "nowhere.signed.example", port)[0] == NONE
        # without a signature records are worth nothing
        assert ask.dane("d-host.plain.example", "host.plain.example",
                        port) == (NONE, 0, "", [])
        # and with a wrong one they are no absence
        assert ask.dane("", "f.forged.example", 25) == (FAILED, 0, "", [])
        assert ask.dane("", "not a name", 25)[0] == NONE
    with Dane(dns, dns_trust_ad="no") as ask:
        assert ask.dane("d-ok.signed.example", "ok.signed.example",
                        port)[0] == NONE


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_lookup_hosts(dns, keys, servers, tmp_path, monkeypatch):
    """/etc/hosts knows the server and the domain: it takes nothing away."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 ok.signed.example d-ok.signed.example\n"
                     "127.0.0.1 d-ok.signed.example\n")
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda cmd, **kw: popen(
        ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec '
         '"$1"', str(hosts), *cmd], **kw))
    with Dane(dns, dns_trust_anchor_file=dns.anchors) as ask:
        assert ask.dane("d-ok.signed.example", "ok.signed.example",
                        servers["self"].port)[:2] == (FOUND, 1)


# domain, server, tls=, dsn, what is said
DANE = [
    ("d-ok.signed.example", "self", "dane", "2.0.0", ""),
    ("d-alias.signed.example", "self", "dane", "2.0.0", ""),
    ("d-out.signed.example", "self", "dane", "2.0.0", ""),
    ("d-wrong.signed.example", "self", "dane:encrypt", "4.7.5",
     "Server certificate not trusted"),
    ("d-none.signed.example", "self", "dane:encrypt", "2.0.0", ""),
    ("d-odd.signed.example", "self", "dane:encrypt", "2.0.0", ""),
    ("d-ta.signed.example", "ta", "dane", "2.0.0", ""),
    # signed by the same authority for another host
    ("d-tb.signed.example", "ta", "dane:encrypt", "4.7.5",
     "Server certificate not trusted"),
    ("d-bare.signed.example", "bare", "dane:none", "4.7.4",
     "TLS is required, but was not offered"),
    ("d-half.plain.example", "self", "dane:halfdane", "2.0.0", ""),
    ("d-host.plain.example", "self", "dane:encrypt", "2.0.0", ""),
    ("d-forged.forged.example", "self", "dane:none", "4.7.5",
     "TLSA lookup error for host"),
]
ONLY = [
    ("d-ok.signed.example", "self", "dane-only", "2.0.0", ""),
    ("d-none.signed.example", "self", "dane-only:none", "4.7.5",
     "no TLSA records of host"),
    ("d-odd.signed.example", "self", "dane-only:none", "4.7.5",
     "no usable TLSA records of host"),
    ("d-half.plain.example", "self", "dane-only:none", "4.7.5",
     "no DNSSEC for the MX records"),
]


@pytest.mark.parametrize("trust", TRUST, ids=["anchors", "ad"])
@pytest.mark.parametrize("level,cases,more", [
    ("dane", DANE, {}), ("dane-only", ONLY, {}),
    ("dane", [("d-half.plain.example", "self", "dane:encrypt", "2.0.0", "")],
     {"smtp_tls_dane_insecure_mx_policy": "encrypt"})])
def test_delivery(make, dns, servers, level, cases, more, trust):
    hops = " ".join(f"{{ {domain} = relay:{domain}:{servers[s].port} }}"
                    for domain, s, *_ in cases)
    gw = make(main={
        "dns_resolvers": dns.address, **trusted(dns, trust),
        "smtp_tls_security_level": level, "smtp_tls_loglevel": "1",
        "transport_maps": f"inline:{{ {hops} }}", **more,
        "relay_domains": " ".join(c[0] for c in cases)})
    with gw.client() as c:
        assert c.ehlo().code == 250
        for domain, *_ in cases:
            r = c.message("a@client.example", f"u@{domain}", mail("dane"))
            assert r.code == 250, r
    for domain, _, tls, dsn, said in cases:
        gw.wait_log(rf"to=<u@{re.escape(domain)}>, .* tls={tls}, "
                    rf"dsn={re.escape(dsn)}, status=\w+ \({said}")
    if level == "dane" and not more:
        gw.wait_log(r"Verified TLS connection established to "
                    r"ok\.signed\.example\[127\.0\.0\.1\]")
