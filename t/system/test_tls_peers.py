"""TLS with real mail servers as next hops; as clients they are in
test_tls_clients.py.

            none..secure  dane  wrapper  client cert.  resumed  REQUIRETLS
Postfix          x          x      x          x           x    none has it
Exim             x          x      x          x           x
OpenSMTPD        x          x      x          x           -
sendmail         x          x      x          x           x
Dovecot LMTP     x          x      x          -           x

All levels are with each of them, both where the server is who it should be and
where it is not.  Not possible with what Debian 12 has: OpenSMTPD 6.8 keeps no
sessions that could be resumed; Dovecot makes no use of a certificate in LMTP,
and where it asks for one it resumes nothing; none of them knows REQUIRETLS,
which test_requiretls_peers.py tries with several of our own and these behind.

OpenSMTPD cannot use its key with OpenSSL 3 as it is delivered, and can with an
engine (t/peers/opensmtpd): it is here in both ways.
"""
import os
import re

import pytest

from postern import Instance, free_port, mail, wait_for
from resolver import NameService, available
from test_dane import digest
from test_relay_tls import ServerKeys
from tls_peers import HOPS, Filled, OpenSmtpd, port_of, there

pytestmark = pytest.mark.skipif(os.getuid() != 0 or not available(),
                                reason="needs root, nsd, unbound, ldnsutils")
ZONE = "signed.example"
# level: its entry in smtp_tls_policy_maps
LEVELS = {
    "none": "none",
    "may": "may",
    "encrypt": "encrypt protocols=TLSv1.2",
    "fingerprint": "fingerprint match=00:11|{print}",
    "verify": "verify",
    "secure": "secure",
    "dane": "dane",
    "dane-only": "dane-only",
}
# the same, and it is another server
WRONG = {
    "fingerprint": "fingerprint match=00:11",
    "verify": "verify match=other.example",
    "secure": "secure match=other.example",
    "dane": "dane",
    "dane-only": "dane-only",
}
WRAPPED = ("may", "secure", "dane")
SAID = {"fingerprint": "not verified", "verify": "not verified",
        "secure": "not verified", "dane": "not trusted",
        "dane-only": "not trusted"}


class Place(Filled):
    """All of the servers, the names they have, and a gateway before them."""

    def __init__(self):
        self.keys, self.hops, self.dns, self.gw = ServerKeys(), {}, None, None
        super().__init__()

    def fill(self):
        keys = self.keys
        keys.cert("ca", "Test Authority", is_ca=True)
        keys.named("client", "gw.example.com", names=["gw.example.com"])
        for name in filter(there, HOPS):
            keys.named(name, name, names=[f"*.{name}.{ZONE}"])
            self.hops[name] = HOPS[name](keys, free_port())
        self.policy, self.transport, self.zone = [], [], []
        for name in self.hops:
            for level, entry in LEVELS.items():
                self.add(name, level, entry)
            for level, entry in WRONG.items():
                self.add(name, "not-" + level, entry)
            for level in WRAPPED:
                self.add(name, "wrapped-" + level, LEVELS[level], "wrapped")
            self.add(name, "known", "encrypt", "known")
            self.add(name, "unknown", "encrypt")
            self.add(name, "again", "secure")
        self.dns = NameService({}, {ZONE: "\n".join(self.zone) + "\n"})
        self.gateway()

    def add(self, name, what, entry, way="plain"):
        hop, host = self.hops[name], f"{what}.{name}.{ZONE}"
        port = hop.wrapped if way == "wrapped" else \
            hop.insists if hop.insists and what.endswith("known") else \
            port_of(hop)
        shown = "00" * 32 if what.startswith("not-") else digest(
            self.keys, name, True)
        to = f"{'inet:' * hop.lmtp}[{host}]:{port}"
        self.zone.append(f"{what}.{name} A 127.0.0.1")
        if "dane" in what:
            self.zone.append(f"_{port}._tcp.{what}.{name} TLSA 3 1 1 {shown}")
        entry = entry.replace("{print}", self.keys.fingerprint(name))
        self.policy.append(f"{to} {entry}\n")
        self.transport.append(f"{what}.{name}@example.com "
                              f"{way}-{'lmtp' if hop.lmtp else 'smtp'}:{to}\n")

    def gateway(self):
        keys, main = self.keys, {}
        for p in ("smtp", "lmtp"):
            main.update({
                f"{p}_tls_security_level": "may", f"{p}_tls_loglevel": "1",
                f"{p}_tls_policy_maps": "texthash:${config_directory}/policy",
                f"{p}_tls_CAfile": keys.path("ca.crt"),
                f"{p}_connection_cache_on_demand": "no"})
        self.gw = Instance(None, main={
            **main, "dns_resolvers": self.dns.address,
            "dns_trust_anchor_file": self.dns.anchors,
            "transport_maps": "texthash:${config_directory}/transport"},
            start=False)
        self.gw.write("policy", "".join(self.policy))
        self.gw.write("transport", "".join(self.transport))
        lines = ""
        for p in ("smtp", "lmtp"):
            for way, more in (
                    ("plain", ""), ("wrapped", f"{p}_tls_wrappermode=yes"),
                    ("known",
                     f"{p}_tls_chain_files={keys.path('client.pem')}")):
                lines += f"{way}-{p} unix - - - - - {p}\n" + \
                    (f"  -o {more}\n" if more else "")
        self.gw.edit("master.cf", lambda t: t + lines)
        self.gw.start()
        self.gw.ready()

    def send(self, name, what):
        """Returns the rest of the log's line about it."""
        to = f"{what}.{name}@example.com"
        since = len(self.gw.log())
        with self.gw.client() as c:
            c.ehlo()
            r = c.message("a@client.example", to, mail(
                f"{what} by {name}", b"x" * 900 + b"\r\n" + b"." * 900 +
                b"\r\n" * 2000))
            assert r.code == 250, r
        return self.gw.wait_log(rf"to=<{re.escape(to)}>, (.* status=.*)",
                                since=since).group(1)

    def close(self):
        if self.gw:
            self.gw.destroy()
        for hop in self.hops.values():
            hop.stop()
        if self.dns:
            self.dns.close()
        self.keys.destroy()


@pytest.fixture(scope="module")
def place():
    p = Place()
    yield p
    p.close()


@pytest.fixture(params=HOPS)
def name(request, place):
    if request.param not in place.hops:
        pytest.skip(f"no {request.param}")
    return request.param


@pytest.mark.parametrize("level", LEVELS)
def test_level(place, name, level):
    line = place.send(name, level)
    assert re.search(rf" tls={level}, dsn=2\.\S+, status=sent", line), line
    text, hop = place.hops[name].text(f"{level} by {name}"), place.hops[name]
    if level == "none":
        assert re.search(hop.plain, text), text
        assert "TLSv1." not in text
        return
    version = r"TLSv1\.2" if level == "encrypt" else r"TLSv1\.3"
    assert re.search(hop.secret.replace("%s", version), text), text
    word = {"may": "Trusted", "encrypt": "Trusted"}.get(level, "Verified")
    place.gw.wait_log(
        rf"{word} TLS connection established to {level}\.{name}\."
        rf"signed\.example\[127\.0\.0\.1\]:{port_of(hop)}: {version} ")


@pytest.mark.parametrize("level", WRONG)
def test_another_server(place, name, level):
    line = place.send(name, "not-" + level)
    assert re.search(rf" tls={level}:encrypt, dsn=4\.7\.5, status=deferred "
                     rf"\(Server certificate {SAID[level]}\)", line), line


@pytest.mark.parametrize("level", WRAPPED)
def test_wrapped(place, name, level):
    line = place.send(name, "wrapped-" + level)
    # there is no other way: it is never less than encrypt
    word = "encrypt" if level == "may" else level
    assert re.search(rf" tls={word}, dsn=2\.\S+, status=sent", line), line
    hop = place.hops[name]
    text = hop.text(f"wrapped-{level} by {name}")
    assert re.search(hop.secret.replace("%s", r"TLSv1\.3"), text), text


def test_certificate(place, name):
    hop = place.hops[name]
    if hop.insists:
        assert "status=deferred" in place.send(name, "unknown")
    elif hop.known:
        place.send(name, "may")
        assert not re.search(hop.known, hop.text(f"may by {name}"))
    else:
        pytest.skip(f"{name} asks for none")
    line = place.send(name, "known")
    assert re.search(r" tls=encrypt, dsn=2\.\S+, status=sent", line), line
    text = hop.text(f"known by {name}")
    assert re.search(hop.known or "", text), text


def test_resumed(place, name):
    def again():
        assert "status=sent" in place.send(name, "again")
        return len(re.findall(r"Verified TLS connection reused to again\."
                              + name, place.gw.log()))
    if name == "opensmtpd":
        assert [again() for _ in range(3)] == [0, 0, 0]
    else:
        # a session can be resumed when its end was said
        wait_for("two that are resumed", lambda: again() >= 2)


@pytest.fixture(scope="module")
def unable(place):
    if not there("opensmtpd"):
        pytest.skip("no opensmtpd")
    server = OpenSmtpd(place.keys, free_port(), engine=False)
    yield server.server
    server.stop()


@pytest.mark.parametrize("level", ["none", "may", "encrypt", "secure"])
def test_unable(make, unable, place, level):
    """STARTTLS is offered, and does not work: mail goes as it is only where
    it may."""
    gw = make(relay=f"127.0.0.1:{unable.port}", main={
        "smtp_tls_security_level": level,
        "smtp_tls_CAfile": place.keys.path("ca.crt")})
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail(f"unable {level}")).code == 250
    if level in ("none", "may"):
        unable.wait_text(f"Subject: unable {level}".encode())
        gw.wait_log(r"dsn=2\.0\.0, status=sent")
        return
    gw.wait_log(rf"tls={level}:none, dsn=4\.7\.5, status=deferred \(Cannot "
                r"start TLS: handshake failure\)")
    assert f"Subject: unable {level}".encode() not in unable.mailbox()
