"""TLS with real mail servers as clients; as next hops they are in
test_tls_peers.py.

            none  may  encrypt  known by  dane  wrapper  certificate  resumed
Postfix      x     x      x     fvs         x      x          x          x
Exim         x     x      x     v           x      x          x          x
OpenSMTPD    x     x      x     v           -      x          x          -
sendmail     x     x      x     v           -      -          x          -
swaks        x     x      x     v           -      x          x          -

Known by: fingerprint, verify (sendmail: not by its name), secure.  Not possible
with what Debian 12 has: OpenSMTPD, sendmail and swaks have no DANE and resume no
sessions, and sendmail is no client of wrapped ports.
"""
import os
import re
import shutil
import subprocess
import tempfile

import pytest

from postern import (Client, Closed, Instance, Sink, free_port, mail, run,
                     wait_for)
from resolver import NameService, available
from test_dane import digest
from test_relay_tls import ServerKeys
from tls_peers import PEERS, Filled, copies, there

pytestmark = pytest.mark.skipif(os.getuid() != 0 or not available(),
                                reason="needs root, nsd, unbound, ldnsutils")
ZONE = "gw.signed.example"


class Place(Filled):
    """A gateway with a name in a signed zone, for clients."""

    def __init__(self):
        self.keys, self.sink = ServerKeys(), Sink()
        self.gw = self.dns = None
        super().__init__()

    def fill(self):
        keys, self.wrapped = self.keys, free_port()
        keys.cert("ca", "Test Authority", is_ca=True)
        keys.named("gw", "gw", names=["*." + ZONE], ips=["127.0.0.1"])
        keys.named("client", "client.example", names=["client.example"])
        keys.join("gw-chain.pem", "gw.key", "gw.crt", "ca.crt")
        self.gw = Instance(self.sink, main={
            "smtpd_tls_security_level": "may", "smtpd_tls_ask_ccert": "yes",
            "smtpd_tls_CAfile": keys.path("ca.crt"),
            "smtpd_tls_chain_files": keys.path("gw-chain.pem"),
            "smtpd_tls_received_header": "yes", "smtpd_tls_loglevel": "1",
            "relay_domains": "example.com to.example",
            "parent_domain_matches_subdomains": "relay_domains",
            "mynetworks": "127.0.0.0/8"}, start=False)
        self.gw.edit("master.cf", lambda t: t +
                     f"127.0.0.1:{self.wrapped} inet n - - - - smtpd\n"
                     "  -o smtpd_tls_wrappermode=yes\n")
        self.gw.start()
        self.gw.ready()
        shown = digest(keys, "gw", True)
        self.address = "127.53.%d.%d" % divmod(self.wrapped, 256)
        self.dns = NameService({}, {ZONE: "".join(
            f"{name} A 127.0.0.1\n" + "".join(
                f"_{p}._tcp.{name} TLSA 3 1 1 {shown}\n"
                for p in (self.gw.port, self.wrapped) if "dane" in name)
            for name in CASES)}, also=self.address)

    def resolv_conf(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(f"nameserver {self.address}\noptions trust-ad\n")
        return path

    def close(self):
        if self.gw:
            self.gw.destroy()
        self.sink.close()
        if self.dns:
            self.dns.close()
        self.keys.destroy()


# what a client is asked to do: whether it has TLS then
CASES = {"none": False, **dict.fromkeys(
    ("may", "encrypt", "fingerprint", "verify", "secure", "dane", "dane-only",
     "wrapped", "wrapped-verify", "wrapped-dane", "certificate", "again"),
    True)}


def port_of(place, case):
    return place.wrapped if case.startswith("wrapped") else place.gw.port


class Peer:
    """able: which of the cases it can do."""

    def __init__(self, place):
        self.place, self.port = place, free_port()
        self.dir = tempfile.mkdtemp(prefix=f"postern-{self.name}-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.start()
        wait_for(f"{self.name} to greet", self.greets)

    def script(self, *args, text="", **env):
        subprocess.run([f"{PEERS}/{self.name}", *args], check=True,
                       timeout=60, input=text.encode(),
                       env={**os.environ, **env})

    def greets(self):
        try:
            with Client(self.port) as c:
                return c.cmd("QUIT").code == 221
        except (OSError, Closed):
            return False

    def send(self, case, subject):
        with Client(self.port) as c:
            c.ehlo()
            r = c.message("a@client.example", f"user@{case}.to.example",
                          mail(subject, b"x" * 900 + b"\r\n..\r\n" * 9000))
            assert r.code == 250, r

    def stop(self):
        subprocess.run([f"{PEERS}/{self.name}", "stop", self.dir],
                       check=False, timeout=60)
        shutil.rmtree(self.dir, ignore_errors=True)


class Postfix(Peer):
    name, able = "postfix", CASES

    def start(self):
        p, policy, to = self.place, "", ""
        entry = {"fingerprint": "fingerprint match=" +
                 p.keys.fingerprint("gw"), "wrapped": "encrypt",
                 "wrapped-verify": "verify", "wrapped-dane": "dane",
                 "certificate": "encrypt", "again": "encrypt"}
        way = {"certificate": "known"}
        for case in CASES:
            hop = f"[{case}.{ZONE}]:{port_of(p, case)}"
            policy += f"{hop} {entry.get(case, case)}\n"
            to += f"{case}.to.example " + ("wrapped" if case.startswith(
                "wrapped") else way.get(case, "smtp")) + f":{hop}\n"
        for name, text in (("policy", policy), ("transport", to)):
            with open(f"{self.dir}/{name}", "w") as f:
                f.write(text)
        self.script(
            "start", self.dir, str(self.port),
            RESOLV_CONF=p.resolv_conf(self.dir + "/resolv.conf"),
            POSTFIX_MASTER="wrapped unix - - n - - smtp "
            "-o smtp_tls_wrappermode=yes\nknown unix - - n - - smtp "
            f"-o smtp_tls_cert_file={p.keys.path('client.crt')} "
            f"-o smtp_tls_key_file={p.keys.path('client.key')}",
            text="virtual_mailbox_domains =\nsmtp_tls_loglevel = 1\n"
            f"transport_maps = texthash:{self.dir}/transport\n"
            f"smtp_tls_policy_maps = texthash:{self.dir}/policy\n"
            f"smtp_tls_CAfile = {p.keys.path('ca.crt')}\n"
            "smtp_dns_support_level = dnssec\n"
            "smtp_tls_session_cache_database = "
            "btree:${data_directory}/smtp_scache\n"
            "smtp_connection_cache_on_demand = no\n"
            "smtp_destination_concurrency_limit = 1\n")


class Exim(Peer):
    name = "exim"
    able = [c for c in CASES if c not in ("fingerprint", "secure")]
    CHECKED = ("  hosts_require_tls = *\n  tls_verify_hosts = *\n"
               "  tls_verify_certificates = /etc/exim4/ca.crt\n")
    WORDS = {"none": "  hosts_avoid_tls = *\n", "may": "",
             "encrypt": "  hosts_require_tls = *\n", "verify": CHECKED,
             "dane": "  hosts_try_dane = *\n",
             "dane-only": "  hosts_require_dane = *\n",
             "wrapped": "  protocol = smtps\n",
             "wrapped-verify": "  protocol = smtps\n" + CHECKED,
             "wrapped-dane": "  protocol = smtps\n  hosts_require_dane = *\n",
             "certificate": "  tls_certificate = /etc/exim4/own.crt\n"
                            "  tls_privatekey = /etc/exim4/own.key\n",
             "again": "  tls_resumption_hosts = *\n"}

    def start(self):
        p, routers, transports = self.place, "", ""
        copies(p.keys, "client", self.dir + "/etc/exim4")
        p.resolv_conf(self.dir + "/etc/resolv.conf")
        for case in self.able:
            routers += (f"r_{case}:\n  driver = manualroute\n  self = send\n"
                        f"  domains = {case}.to.example\n"
                        f"  route_list = * {case}.{ZONE} bydns\n"
                        "  dnssec_request_domains = *\n"
                        f"  transport = t_{case}\n").replace("-", "_") \
                .replace(case.replace("-", "_") + ".", case + ".")
            transports += (f"t_{case}:\n".replace("-", "_") +
                           "  driver = smtp\n  allow_localhost\n"
                           f"  port = {port_of(p, case)}\n" +
                           self.WORDS[case])
        self.script("relay", self.dir, str(self.port), "1",
                    EXIM_MAIN="dns_dnssec_ok = 1\n",
                    EXIM_ROUTERS=routers, EXIM_TRANSPORTS=transports)


class OpenSmtpd(Peer):
    name = "opensmtpd"
    WORDS = {"none": ("smtp+notls", ""), "may": ("smtp", ""),
             "encrypt": ("smtp+tls", "tls no-verify"),
             "verify": ("smtp+tls", "tls"),
             "wrapped": ("smtps", "tls no-verify"),
             "wrapped-verify": ("smtps", "tls"),
             "certificate": ("smtp+tls", "tls no-verify pki own")}
    able = list(WORDS)
    sent = False

    def send(self, case, subject):
        """All at once: it lets each of them wait for seconds."""
        for other in [] if self.sent else self.able:
            super().send(other, subject.replace(case, other, 1))
        self.sent = True

    def start(self):
        p = self.place
        copies(p.keys, "client", self.dir + "/etc/mail", 0o600)
        p.resolv_conf(self.dir + "/etc/resolv.conf")
        os.makedirs(self.dir + "/etc/ssl/certs")
        shutil.copy(p.keys.path("ca.crt"),
                    self.dir + "/etc/ssl/certs/ca-certificates.crt")
        with open(self.dir + "/etc/hosts", "w") as f:
            f.write("127.0.0.1 localhost " + " ".join(
                f"{case}.{ZONE}" for case in self.able) + "\n")
        conf = 'pki own cert "/etc/mail/own.crt"\n' \
            'pki own key "/etc/mail/own.key"\n'
        for case, (url, words) in self.WORDS.items():
            conf += (f'action "{case}" relay host "{url}://{case}.{ZONE}:'
                     f'{port_of(p, case)}" helo outside.example.net {words}\n'
                     f'match from any for domain "{case}.to.example" action '
                     f'"{case}"\n')
        self.script("relay", self.dir, str(self.port), "1",
                    OPENSMTPD_CONF=conf)


class Sendmail(Peer):
    name, plain = "sendmail", False
    able = ("may", "encrypt", "verify", "certificate")

    def start(self):
        p = self.place
        copies(p.keys, "client", self.dir + "/tls", 0o600)
        self.script("start", self.dir, str(self.port), str(p.gw.port), *[
            f"define(`{k}', `/mnt/{v}')dnl" for k, v in (
                ("confCLIENT_CERT", "own.crt"), ("confCLIENT_KEY", "own.key"),
                ("confCACERT", "ca.crt"), ("confCACERT_PATH", ""))],
            "CLIENT_OPTIONS(`Family=inet, M=S')dnl" if self.plain else RULES)


# without an authority's word for it no mail goes there
RULES = """LOCAL_RULESETS
SLocal_tls_server
R$*\t\t\t$: $&{verify}
ROK\t\t\t$@ OK
R$*\t\t\t$#error $@ 4.7.1 $: "403 4.7.1 not known"
divert(0)dnl"""


class PlainSendmail(Sendmail):
    plain, able = True, ("none",)


class Swaks:
    name, port = "swaks", None
    WORDS = {"none": [], "may": ["--tls-optional"], "encrypt": ["--tls"],
             "verify": ["--tls-verify", "--tls"],
             "wrapped": ["--tls-on-connect"],
             "wrapped-verify": ["--tls-on-connect", "--tls-verify"],
             "certificate": ["--tls", "--tls-cert", "CERT",
                             "--tls-key", "KEY"]}
    able = list(WORDS)

    def __init__(self, place):
        self.place = place

    def send(self, case, subject):
        p = self.place
        put = {"CERT": p.keys.path("client.crt"),
               "KEY": p.keys.path("client.key")}
        run("swaks", "--server", f"127.0.0.1:{port_of(p, case)}", "--to",
            f"user@{case}.to.example", "--from", "a@client.example", "--helo",
            "client.example", "--header", f"Subject: {subject}",
            "--tls-ca-path", p.keys.path("ca.crt"),
            *[put.get(w, w) for w in self.WORDS[case]])

    def stop(self):
        pass


PEER_TYPES = {"postfix": Postfix, "exim": Exim, "opensmtpd": OpenSmtpd,
              "sendmail": Sendmail, "plain sendmail": PlainSendmail,
              "swaks": Swaks}
ASKED = [(name, case) for name, kind in PEER_TYPES.items()
         for case in kind.able]


@pytest.fixture(scope="module")
def place():
    p = Place()
    yield p
    p.close()


@pytest.fixture(scope="module")
def running(place):
    peers = {}
    yield peers
    for p in peers.values():
        p.stop()


@pytest.fixture
def peer(place, running, name):
    program = PEER_TYPES[name].name
    if not (shutil.which("swaks") if name == "swaks" else there(program)):
        pytest.skip(f"no {program}")
    if name not in running:
        running[name] = PEER_TYPES[name](place)
    return running[name]


@pytest.mark.parametrize("name,case", ASKED)
def test_client(place, peer, name, case):
    subject = f"{case} by {name}"
    peer.send(case, subject)
    head = place.sink.wait_subject(subject).header.decode()
    # ours is the one that names the gateway
    at = head.index("by gw.example.com")
    ours = head[head.rindex("Received:", 0, at):at + 60]
    assert ("using TLSv1.3" in ours) == CASES[case], head
    assert ("with ESMTPS id" in ours) == CASES[case], head
    assert ('(Client CN "client.example", Issuer "Test Authority" '
            "(verified OK))" in ours) == (
        case == "certificate" or name == "sendmail"), head


@pytest.mark.parametrize("name", [n for n, c in ASKED if c == "again"])
def test_resumed(place, peer, name):
    since, sent = len(place.gw.log()), []

    def again():
        sent.append(f"again {len(sent)} by {name}")
        peer.send("again", sent[-1])
        place.sink.wait_subject(sent[-1])
        return "TLS connection reused from " in place.gw.log()[since:]
    wait_for("one that is resumed", again)
