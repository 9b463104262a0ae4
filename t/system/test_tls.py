"""TLS for clients, as they see it; hostile ones are in test_tls_hostile.py."""
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading

import pytest
from conftest import need_root
from postern import (BIN, SAN, SLOW, TOP, Client, Closed, free_port, mail, run,
                     wait_for)
from tls_help import Keys, TlsClient, context
from test_limits import rss_kb

TLS12 = ssl.TLSVersion.TLSv1_2
TLS13 = ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def keys():
    k = Keys()
    k.cert("rsa", "gw.example.com", "rsa")
    k.cert("ecdsa", "gw.example.com")
    k.cert("other", "other.example.net")
    k.cert("wild", "wild.example.org")
    k.cert("ca", "Test Authority", is_ca=True)
    k.cert("client", "mail.client.example", ca="ca")
    k.cert("stranger", "stranger.example")
    yield k
    k.destroy()


@pytest.fixture
def gw(make, sink, keys):
    return make(sink, main={
        "smtpd_tls_security_level": "may",
        "smtpd_tls_chain_files": f"{keys.path('ecdsa.pem')}, "
                                 f"{keys.path('rsa.pem')}",
        "smtpd_tls_loglevel": "1", "smtpd_tls_received_header": "yes"})


def deliver(c, subject, rcpt="user@example.com"):
    assert c.ehlo().code == 250
    r = c.message("a@client.example", rcpt, mail(subject))
    assert r.code == 250, r
    return r


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_a_message(gw, sink, version):
    with TlsClient(gw.port, context(version=version)) as c:
        assert "STARTTLS" not in c.ehlo().text
        deliver(c, "by tls")
        assert c.cmd("QUIT").code == 221
        # it says that nothing follows
        assert c.sock.recv(1) == b""
    m = sink.wait_subject("by tls")
    name = {TLS12: "TLSv1.2", TLS13: "TLSv1.3"}[version]
    head = m.header.decode().split("From: ")[0]
    assert re.search(rf"\r\n\t\(using {name} with cipher \S+ "
                     r"\(\d+/\d+ bits\)", head), head
    assert "\r\n\t(No client certificate requested)\r\n" in head
    assert "with ESMTPS id" in head
    gw.wait_log(r"smtpd\[\d+\]: Anonymous TLS connection established from "
                rf"unknown\[127\.0\.0\.1\]: {name} with cipher ")
    gw.wait_log(r"disconnect from .* ehlo=3 starttls=1 mail=1 ")


def test_a_large_message_in_and_long_lists_out(gw, sink):
    """More than one record, more than one read."""
    gw.set(smtpd_recipient_limit="2000")
    gw.command("reload")
    body = b"0123456789abcdef" * 60 + b"\r\n"
    with TlsClient(gw.port) as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("large", body * 4000)).code == 250
        c.send(b"MAIL FROM:<a@client.example>\r\n" +
               b"RCPT TO:<user@example.com>\r\n" * 800)
        for _ in range(801):
            assert c.reply().code == 250
    assert len(sink.wait_subject("large").body) == len(body) * 4000


def test_wrapper_mode(gw, sink):
    port = free_port()
    gw.edit("master.cf", lambda t: t +
            f"127.0.0.1:{port} inet n - - - - smtpd\n"
            "  -o smtpd_tls_wrappermode=yes\n  -o syslog_name=postern/smtps\n")
    gw.command("reload")
    wait_for("the port", lambda: run("sh", "-c", f"echo QUIT | openssl "
             f"s_client -quiet -connect 127.0.0.1:{port}",
             check=False).stdout.startswith("220 "))
    with TlsClient(port, wrap=True) as c:
        assert c.banner.code == 220
        assert "STARTTLS" not in c.ehlo().text
        assert c.cmd("STARTTLS").code == 554
        deliver(c, "wrapped")
    sink.wait_subject("wrapped")
    # who speaks first, inside or outside of TLS
    raw = Client(port, greet=False)
    raw.send(b"EHLO x\r\n")
    assert raw.closed()
    gw.wait_log(r"SSL_accept error from .*: no TLS handshake")
    raw.close()


@pytest.mark.parametrize("more", [{}, {"smtpd_tls_req_ccert": "yes"}])
def test_start_with_wrapped_ports_only(make, keys, more):
    """`postern start` waits for a greeting that comes by TLS, or for TLS
    alone where it would have to show a certificate."""
    gw = make(main={"smtpd_tls_wrappermode": "yes",
                    "smtpd_tls_chain_files": keys.path("ecdsa.pem"), **more})
    assert "SSL_accept error" not in gw.log()
    assert "lost connection" not in gw.log()


def test_encrypt(make, sink, keys):
    gw = make(sink, main={
        "smtpd_tls_security_level": "encrypt",
        "smtpd_tls_cert_file": keys.path("rsa.crt"),
        "smtpd_tls_key_file": keys.path("rsa.key"),
        "smtpd_tls_eccert_file": keys.path("ecdsa.crt"),
        "smtpd_tls_eckey_file": keys.path("ecdsa.key")})
    with gw.client() as c:
        c.ehlo()
        r = c.cmd("MAIL FROM:<a@client.example>")
        assert r.text == "530 5.7.0 Must issue a STARTTLS command first"
    with TlsClient(gw.port) as c:
        deliver(c, "must")
    sink.wait_subject("must")


@pytest.mark.parametrize("level", ["verify", "Secure", "fingerprint"])
def test_level_of_a_client(make, sink, keys, level):
    """... in the server: encrypt, with a warning, as in Postfix."""
    gw = make(sink, main={"smtpd_tls_security_level": level,
                          "smtpd_tls_chain_files": keys.path("rsa.pem")})
    says = f"smtpd_tls_security_level = {level.lower()} is a level of " \
        "clients: encrypt is used"
    assert says in gw.log()
    p = gw.command("check")
    assert p.stderr.count(says) == 1, p.stderr
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<a@client.example>").code == 530
    with TlsClient(gw.port) as c:
        deliver(c, "must")
    sink.wait_subject("must")


def test_init(keys, tmp_path):
    d = tmp_path / "gw"
    run(f"{BIN}/postern", "init", str(d), "--tls-cert",
        keys.path("rsa.crt"), "--tls-key", keys.path("rsa.key"))
    p = run(f"{BIN}/postern", "-c", str(d / "etc"), "check")
    assert not re.search("tls|certificate", p.stderr), p.stderr
    for name, value in [("security_level", "may"),
                        ("cert_file", keys.path("rsa.crt")),
                        ("key_file", keys.path("rsa.key"))]:
        assert run(f"{BIN}/postconf", "-c", str(d / "etc"), "-h",
                   "smtpd_tls_" + name).stdout.strip() == value


def test_old_names(make, sink, keys):
    """What configurations of twenty years say."""
    gw = make(sink, main={
        "smtpd_use_tls": "yes", "smtpd_tls_cert_file": keys.path("rsa.pem"),
        "smtpd_tls_session_cache_database": "btree:${data_directory}/x"})
    with TlsClient(gw.port) as c:
        deliver(c, "old")
    gw.set(smtpd_tls_security_level="", smtpd_enforce_tls="yes")
    gw.command("reload")
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<a@client.example>").code == 530
    gw.set(smtpd_tls_security_level="none")
    gw.command("reload")
    with gw.client() as c:
        assert "STARTTLS" not in str(c.ehlo())
        assert c.cmd("MAIL FROM:<a@client.example>").code == 250


# -- real clients ------------------------------------------------------------

def s_client(gw, *args, text="", check=True):
    return subprocess.run(
        ["openssl", "s_client", "-starttls", "smtp", "-connect",
         f"127.0.0.1:{gw.port}", *args], input=text, capture_output=True,
        text=True, timeout=60 * SLOW).stdout


def test_both_certificates(gw):
    rsa = s_client(gw, "-tls1_2", "-cipher", "aRSA")
    ecdsa = s_client(gw, "-tls1_2", "-cipher", "aECDSA")
    assert "Peer signature type: RSA" in rsa
    assert "Peer signature type: ECDSA" in ecdsa
    assert "Peer signature type: RSA-PSS" in s_client(
        gw, "-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256")


def test_swaks(gw, sink):
    for how in ("--tls", "--tls-optional-strict"):
        p = run("swaks", how, "--server", f"127.0.0.1:{gw.port}", "--to",
                "user@example.com", "--from", "a@client.example", "--helo",
                "client.example", "--header", f"Subject: swaks{how}")
        assert "=== TLS started with cipher TLSv1.3" in p.stdout
        sink.wait_subject(f"swaks{how}")


@pytest.mark.skipif(not os.path.exists("/usr/sbin/posttls-finger"),
                    reason="needs Postfix")
def test_posttls_finger(gw, tmp_path):
    """Postfix's client: it connects twice, the second time with a ticket."""
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    p = run("/usr/sbin/posttls-finger", "-c", "-l", "may", "-r", "1", "-m",
            "3", "-L", "summary", f"[127.0.0.1]:{gw.port}",
            env={**os.environ, "MAIL_CONFIG": str(tmp_path)})
    assert "TLS connection established to 127.0.0.1" in p.stdout, p
    gw.wait_log("Anonymous TLS connection reused from ")


PEER = f"{TOP}/t/peers/postfix"


@need_root
@pytest.mark.skipif(not shutil.which("postfix"), reason="needs Postfix")
@pytest.mark.parametrize("wrap", [False, True])
def test_mail_from_postfix(gw, sink, keys, wrap):
    """Postfix sends by us, sure of who we are, on both kinds of ports, and
    resumes its sessions."""
    hop = gw.port
    if wrap:
        hop = free_port()
        gw.edit("master.cf", lambda t: t +
                f"127.0.0.1:{hop} inet n - - - - smtpd\n"
                "  -o smtpd_tls_wrappermode=yes\n")
        gw.command("reload")
    port, dir_ = free_port(), tempfile.mkdtemp(prefix="postern-peer-",
                                               dir="/tmp")
    conf = {"virtual_mailbox_domains": "", "relayhost": f"[127.0.0.1]:{hop}",
            "smtp_tls_security_level": "fingerprint",
            "smtp_tls_fingerprint_digest": "sha256",
            "smtp_tls_fingerprint_cert_match": keys.fingerprint("ecdsa"),
            "smtp_tls_wrappermode": "yes" if wrap else "no",
            "smtp_tls_session_cache_database":
                "btree:${data_directory}/smtp_scache",
            "smtp_tls_loglevel": "1", "smtp_host_lookup": "native",
            "smtp_destination_concurrency_limit": "1"}
    try:
        run_input([PEER, "start", dir_, str(port)], "".join(
            f"{k} = {v}\n" for k, v in conf.items()))
        for i in range(3):
            with Client(port) as c:
                deliver(c, f"from postfix {i}")
            sink.wait_subject(f"from postfix {i}")
        with open(f"{dir_}/maillog") as f:
            log = f.read()
        assert "Verified TLS connection established to 127.0.0.1" in log, log
        assert log.count("status=sent (250 2.0.0 Ok: queued as") == 3, log
        gw.wait_log("Anonymous TLS connection reused from ")
    finally:
        subprocess.run([PEER, "stop", dir_], check=False, timeout=60)
        shutil.rmtree(dir_, ignore_errors=True)


def run_input(cmd, text):
    subprocess.run(cmd, check=True, text=True, timeout=60, input=text)


def test_protocols(make, sink, keys):
    gw = make(sink, main={
        "smtpd_tls_security_level": "may",
        "smtpd_tls_chain_files": keys.path("rsa.pem")})

    def version(*args):
        # s_client says "New, (NONE)" of a handshake that failed
        m = re.search(r"New, (TLSv1\S*), Cipher", s_client(gw, *args))
        return m.group(1) if m else None
    old = "-cipher", "ALL:@SECLEVEL=0"
    assert version("-tls1_1", *old) is None
    assert version("-tls1_2") == "TLSv1.2"
    assert version("-tls1_3") == "TLSv1.3"
    gw.set(smtpd_tls_protocols=">=TLSv1, <=TLSv1.2")
    gw.command("reload")
    assert version("-tls1", *old)
    assert version("-tls1_1", *old)
    assert version() == "TLSv1.2"
    gw.set(smtpd_tls_protocols="!SSLv2, !SSLv3, !TLSv1, !TLSv1.1")
    gw.command("reload")
    assert version("-tls1_1", *old) is None
    assert version() == "TLSv1.3"
    # anonymous and broken ciphers are never there
    for bad in ("aNULL", "eNULL", "3DES", "RC4", "SEED", "IDEA"):
        assert version("-tls1_2", "-cipher", bad + ":@SECLEVEL=0") is None
    gw.set(smtpd_tls_exclude_ciphers="AES256",
           tls_preempt_cipherlist="yes", smtpd_tls_eecdh_grade="ultra")
    gw.command("reload")
    text = s_client(gw, "-tls1_2")
    assert "AES256" not in re.search("Cipher is (.*)", text).group(1)
    assert "Server Temp Key: ECDH, secp384r1" in text


def test_names(make, sink, keys):
    gw = make(sink, main={
        "smtpd_tls_security_level": "may",
        "smtpd_tls_chain_files": keys.path("rsa.pem"),
        "smtpd_tls_loglevel": "1",
        "tls_server_sni_maps": "hash:${config_directory}/names"},
        start=False)
    gw.write("names", f"Other.Example.net {keys.path('other.pem')}\n"
             f".example.org {keys.path('wild.pem')}\n")
    gw.start()
    for name, subject in [("other.example.net", "other.example.net"),
                          ("OTHER.example.NET", "other.example.net"),
                          ("a.b.example.org", "wild.example.org"),
                          ("example.org", "gw.example.com"),
                          ("elsewhere.example", "gw.example.com"),
                          (None, "gw.example.com")]:
        with TlsClient(gw.port, name=name) as c:
            assert c.subject() == subject, name
            deliver(c, "named")
    gw.wait_log(r"established from \S+ to other\.example\.net: TLS")
    # a new name needs no command
    gw.write("names", f"new.example {keys.path('wild.pem')}\n")

    def shown():
        with TlsClient(gw.port, name="new.example") as c:
            return c.subject()
    wait_for("the new name", lambda: shown() == "wild.example.org")


# -- certificates of clients -------------------------------------------------

def test_clients_with_certificates(make, sink, keys):
    gw = make(sink, main={
        "smtpd_tls_security_level": "may", "smtpd_tls_ask_ccert": "yes",
        "smtpd_tls_CAfile": keys.path("ca.crt"), "mynetworks": "",
        "relayhost": f"[127.0.0.1]:{sink.port}",
        "smtpd_tls_chain_files": keys.path("ecdsa.pem"),
        "smtpd_tls_loglevel": "1,peercert", "smtpd_tls_received_header": "yes",
        "smtpd_relay_restrictions":
            "check_ccert_access inline:{{%s=REJECT not you}}, "
            "permit_tls_clientcerts, reject_unauth_destination"
            % keys.fingerprint("rsa"),
        "relay_clientcerts": "inline:{{%s=stranger}}"
            % keys.fingerprint("stranger")})

    def relay(cert, subject):
        with TlsClient(gw.port, context(cert and keys.path(cert))) as c:
            c.ehlo()
            c.cmd("MAIL FROM:<a@client.example>")
            r = c.cmd("RCPT TO:<x@elsewhere.example>")
            if r.code == 250:
                assert c.data_cmd(mail(subject)).code == 250
            return r
    assert relay("stranger.pem", "stranger").code == 250
    head = sink.wait_subject("stranger").header.decode()
    assert '(Client CN "stranger.example", Issuer "stranger.example" ' \
        "(not verified))" in head, head
    assert relay("client.pem", "trusted").code == 554    # not in the table
    assert relay(None, "none").code == 554
    r = relay("rsa.pem", "refused")
    assert r.text == "554 5.7.1 <unknown[127.0.0.1]>: Client certificate " \
        "rejected: not you", r
    gw.wait_log(r"Untrusted: subject_CN=stranger\.example, "
                rf"issuer=\S+, fingerprint={keys.fingerprint('stranger')}, ")
    # a resumed session has the certificate of its first
    ctx = context(keys.path("stranger.pem"))
    with TlsClient(gw.port, ctx) as c:
        c.ehlo()
        session = c.sock.session
    with TlsClient(gw.port, ctx, session=session) as c:
        c.ehlo()
        assert c.sock.session_reused
        c.cmd("MAIL FROM:<a@client.example>")
        assert c.cmd("RCPT TO:<x@elsewhere.example>").code == 250
    gw.set(smtpd_relay_restrictions="permit_tls_all_clientcerts, reject")
    gw.command("reload")
    assert relay("client.pem", "trusted").code == 250
    assert "(verified OK)" in sink.wait_subject("trusted").header.decode()
    gw.wait_log("Trusted TLS connection established from ")
    assert relay("stranger.pem", "untrusted").code == 554


def test_certificate_required(make, sink, keys):
    gw = make(sink, main={
        "smtpd_tls_security_level": "encrypt", "smtpd_tls_req_ccert": "yes",
        "smtpd_tls_CApath": keys.path("authorities"),
        "smtpd_tls_chain_files": keys.path("ecdsa.pem")}, start=False)
    os.makedirs(keys.path("authorities"), exist_ok=True)
    run("cp", keys.path("ca.crt"), keys.path("authorities/ca.pem"))
    gw.start()
    with TlsClient(gw.port, context(keys.path("client.pem"))) as c:
        deliver(c, "known")
    for cert, why in ((None, "No client certificate presented"),
                      (keys.path("stranger.pem"),
                       "Client certificate not trusted")):
        with pytest.raises((Closed, OSError)):
            with TlsClient(gw.port, context(cert)) as c:
                c.ehlo()
        gw.wait_log(r"NOQUEUE: abort: TLS from unknown\[127.0.0.1\]: " + why)


# -- sessions ----------------------------------------------------------------

def resumed(gw, ctx, session, port=None):
    with TlsClient(port or gw.port, ctx, session=session) as c:
        c.ehlo()                # a ticket comes with the first data
        c.cmd("QUIT")
        return c.sock.session_reused, c.sock.session


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_tickets(make, sink, keys, version):
    other = free_port()
    gw = make(sink, main={
        "smtpd_tls_security_level": "may", "role_processes": "4",
        "smtpd_tls_chain_files": keys.path("ecdsa.pem")}, start=False)
    gw.edit("master.cf", lambda t: t +
            f"127.0.0.1:{other} inet n - - - - smtpd\n")
    gw.start()
    ctx = context(version=version)
    reused, session = resumed(gw, ctx, None)
    assert not reused
    kept = []
    # whoever of the four answers
    for _ in range(8):
        kept.append(gw.client())
        assert resumed(gw, ctx, session)[0]
    for c in kept:
        c.close()
    assert not resumed(gw, ctx, session, other)[0], "another listener"
    assert resumed(gw, ctx, session)[0]
    gw.command("reload")
    assert not resumed(gw, ctx, session)[0], "another generation"


# -- filters outside ---------------------------------------------------------

class Milter:
    """Agrees to everything, and keeps the macros of each command."""

    def __init__(self):
        self.port, self.macros = free_port(), []
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(sock,),
                             daemon=True).start()

    def talk(self, sock):
        def packet(p):
            sock.sendall(len(p).to_bytes(4, "big") + p)
        stream = sock.makefile("rb")
        try:
            while len(size := stream.read(4)) == 4:
                p = stream.read(int.from_bytes(size, "big"))
                if p[:1] == b"O":
                    # no actions, and only what is no body
                    packet(b"O" + struct.pack(">III", 6, 0, 0x70))
                elif p[:1] == b"D":
                    words = p[2:].decode().split("\0")[:-1]
                    self.macros.append(
                        (p[1:2], dict(zip(words[::2], words[1::2]))))
                elif p[:1] == b"Q":
                    return
                elif p[:1] not in b"AK":
                    packet(b"c")
        except OSError:
            pass
        finally:
            sock.close()


def test_filters_hear_of_it(make, sink, keys):
    milter = Milter()
    gw = make(sink, main={
        "smtpd_tls_security_level": "may", "smtpd_tls_ask_ccert": "yes",
        "smtpd_tls_CAfile": keys.path("ca.crt"),
        "smtpd_tls_chain_files": keys.path("ecdsa.pem"),
        "smtpd_milters": f"inet:127.0.0.1:{milter.port}"})
    with TlsClient(gw.port, context(keys.path("client.pem"),
                                    version=TLS13)) as c:
        deliver(c, "heard")
    sink.wait_subject("heard")
    hello = [m for kind, m in milter.macros if kind == b"H"]
    assert "{tls_version}" not in (hello[0] if len(hello) > 1 else {})
    assert hello[-1] == {
        "{tls_version}": "TLSv1.3", "{cipher}": "TLS_AES_256_GCM_SHA384",
        "{cipher_bits}": "256", "{cert_subject}": "mail.client.example",
        "{cert_issuer}": "Test Authority"}, milter.macros
    milter.listener.close()


# -- files -------------------------------------------------------------------

def shown(gw):
    with TlsClient(gw.port) as c:
        return c.subject()


def test_new_certificate_without_any_command(gw, sink, keys):
    k = Keys()
    try:
        k.cert("a", "first.example")
        gw.set(smtpd_tls_chain_files=k.path("a.pem"))
        gw.command("reload")
        assert shown(gw) == "first.example"
        kept = TlsClient(gw.port)
        kept.ehlo()
        k.cert("b", "second.example")
        os.rename(k.path("b.pem"), k.path("a.pem"))
        wait_for("the new certificate",
                 lambda: shown(gw) == "second.example")
        deliver(kept, "kept")
        sink.wait_subject("kept")
        # half of a change, and one that is no use, change nothing
        k.cert("c", "third.example")
        k.join("x.pem", "c.key", "b.crt")
        since = len(gw.log())
        gw.expect_log("fatal: the configuration cannot be used|error: ")
        os.rename(k.path("x.pem"), k.path("a.pem"))
        gw.wait_log(r"a\.pem: the certificate is not of this private key",
                    since=since)
        assert shown(gw) == "second.example"
        k.join("x.pem", "c.key", "c.crt")
        os.rename(k.path("x.pem"), k.path("a.pem"))
        wait_for("the third certificate",
                 lambda: shown(gw) == "third.example")
        kept.close()
    finally:
        k.destroy()


def test_new_certificates_under_load(gw, sink, keys):
    """Every session that was begun ends well, whatever it was shown, and the
    last certificate is what new ones see."""
    k, trouble, seen, done = Keys(), [], set(), threading.Event()
    sent = []

    def load(name):
        number = 0
        while not done.is_set() or not number:
            number += 1
            try:
                with TlsClient(gw.port, timeout=60) as c:
                    seen.add(c.subject())
                    deliver(c, f"load {name} {number}")
                    deliver(c, f"load {name} {number} again")
                    assert c.cmd("QUIT").code == 221
                sent.extend([1, 1])
            except (AssertionError, OSError, Closed) as e:
                trouble.append(e)
                return
    try:
        for i in range(4):
            k.cert(f"c{i}", f"c{i}.example", "rsa" if i % 2 else "ec")
        os.symlink("c0.pem", k.path("live.pem"))
        gw.set(smtpd_tls_chain_files=k.path("live.pem"),
               smtpd_client_connection_count_limit="0")
        gw.command("reload")
        threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
        for t in threads:
            t.start()
        for i in range(1, 4):
            os.symlink(f"c{i}.pem", k.path("next"))
            os.rename(k.path("next"), k.path("live.pem"))
            wait_for(f"c{i}", lambda: shown(gw) == f"c{i}.example" or trouble)
        done.set()
        for t in threads:
            t.join()
        assert not trouble, trouble[:3]
        assert {"c0.example"} < seen
        sink.wait(len(sent))
        gw.stop()
    finally:
        done.set()
        k.destroy()


def test_links_that_move(gw, keys):
    """As certbot does: live/x.pem is a link into archive/."""
    k = Keys()
    try:
        k.cert("one", "one.example")
        k.cert("two", "two.example")
        os.symlink("one.pem", k.path("live.pem"))
        gw.set(smtpd_tls_chain_files=k.path("live.pem"))
        gw.command("reload")
        assert shown(gw) == "one.example"
        os.symlink("two.pem", k.path("next"))
        os.rename(k.path("next"), k.path("live.pem"))
        wait_for("the other one", lambda: shown(gw) == "two.example")
    finally:
        k.destroy()


def test_expiry(gw, keys):
    k = Keys()
    try:
        k.cert("short", "short.example", days=3)
        gw.set(smtpd_tls_chain_files=k.path("short.pem"))
        gw.command("reload")
        gw.wait_log(r"warning: \S+short\.pem: the certificate expires in "
                    r"[23] days")
        status = gw.command("status").stdout
        assert re.search(r"certificate_days [23] \S+short\.pem", status)
        # one process says it
        assert gw.log().count("short.pem: the certificate expires") == 1
    finally:
        k.destroy()


@pytest.mark.parametrize("settings,says", [
    ({"smtpd_tls_chain_files": "/nonexistent.pem"},
     "/nonexistent.pem: No such file or directory"),
    ({"smtpd_tls_chain_files": "KEYS/rsa.crt"},
     "the private key must come before its certificate"),
    ({"smtpd_tls_chain_files": "KEYS/rsa.key"}, "no certificate"),
    ({"smtpd_tls_chain_files": "KEYS/damaged.pem"}, "damaged.pem: bad PEM"),
    ({"smtpd_tls_chain_files": "KEYS/locked.pem"}, "has a password"),
    ({"smtpd_tls_chain_files": "KEYS"}, "not a file"),
    ({"smtpd_tls_cert_file": "KEYS/rsa.crt"}, "rsa.crt: no private key"),
    ({"smtpd_tls_cert_file": "KEYS/rsa.crt",
      "smtpd_tls_key_file": "KEYS/ecdsa.key"}, "not of this private key"),
    ({"smtpd_tls_security_level": "encrypt"}, "there is no certificate"),
    ({"smtpd_tls_security_level": "dane"}, "must be none, may or encrypt"),
    ({"smtpd_tls_security_level": "dane-only"}, "must be none, may or"),
    ({"smtpd_tls_security_level": "strong"}, "must be none, may or encrypt"),
    ({"smtpd_tls_protocols": "TLSv1.9"}, "unknown protocol TLSv1.9"),
    ({"smtpd_tls_protocols": "SSLv2"}, "no protocol is left"),
    ({"tls_medium_cipherlist": "nothing"}, "ciphers: no cipher match"),
    ({"smtpd_tls_ciphers": "best"}, "must be export, low, medium or high"),
    ({"tls_ssl_options": "NO_SUCH"}, "unknown option NO_SUCH"),
    ({"tls_eecdh_auto_curves": "nix", "tls_ffdhe_auto_groups": ""},
     "none of the groups"),
    ({"smtpd_tls_fingerprint_digest": "md99"}, "unknown digest md99"),
    ({"tls_server_sni_maps": "inline:{{a.example=/nonexistent}}",
      "smtpd_tls_chain_files": "KEYS/rsa.pem"}, "/nonexistent: No such"),
    ({"tls_server_sni_maps": "regexp:/x",
      "smtpd_tls_chain_files": "KEYS/rsa.pem"}, "can be used here"),
    ({"smtpd_tls_ask_ccert": "yes", "smtpd_tls_CAfile": "/nonexistent"},
     "/nonexistent: No such"),
])
def test_mistakes(mistakes, keys, settings, says):
    settings = {"smtpd_tls_security_level": "may", **settings}
    main = mistakes.path("main.cf")
    with open(main) as f:
        kept = f.read()
    try:
        mistakes.set(**{k: v.replace("KEYS", keys.dir)
                        for k, v in settings.items()})
        p = mistakes.command("check", check=False)
        assert p.returncode == 1, p.stderr
        assert says in p.stderr, p.stderr
    finally:
        with open(main, "w") as f:
            f.write(kept)


@pytest.fixture(scope="module")
def mistakes(keys):
    from postern import Instance, Sink
    sink = Sink()
    gw = Instance(sink, start=False)
    with open(keys.path("rsa.pem")) as f:
        text = f.read()
    with open(keys.path("damaged.pem"), "w") as f:
        f.write(text.replace("MII", "M#I", 1))
    keys.openssl("pkey", "-in", "rsa.key", "-aes128", "-passout", "pass:x",
                 "-out", "locked.key")
    keys.join("locked.pem", "locked.key", "rsa.crt")
    yield gw
    sink.close()
    gw.destroy()


def test_no_certificate_is_no_tls(make, sink):
    gw = make(sink, main={"smtpd_tls_security_level": "may"})
    with gw.client() as c:
        assert "STARTTLS" not in c.ehlo().text
        assert c.cmd("STARTTLS").code == 502
    gw.wait_log("warning: smtpd_tls_security_level = may, but there is no")


@need_root
@pytest.mark.skipif(SAN, reason="memory is not what it was")
def test_keys_are_smtpds_alone(gw, keys):
    """The files are root's, mode 0600.  Which processes have the key?"""
    text = keys.openssl("rsa", "-in", "rsa.key", "-noout", "-text")
    digits = re.search(r"prime1:\s*([0-9a-f:\s]+)prime2", text).group(1)
    prime = bytes.fromhex(re.sub(r"[:\s]", "", digits)).lstrip(b"\0")
    forms = prime, prime[::-1]
    with TlsClient(gw.port) as c:
        c.ehlo()
        have = {}
        for pid, role in gw.processes().items():
            have[role] = have.get(role, False) or any(
                f in part for part in memory(pid) for f in forms)
    assert have.pop("smtpd"), "looked for in the wrong way"
    assert not any(have.values()), have


def memory(pid):
    with open(f"/proc/{pid}/maps") as maps, \
            open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if m:
                start, end = (int(x, 16) for x in m.groups())
                try:
                    mem.seek(start)
                    yield mem.read(end - start)
                except OSError:
                    pass


# -- policy and limits -------------------------------------------------------

def test_plaintext_session(gw):
    gw.set(smtpd_recipient_restrictions="reject_plaintext_session")
    gw.command("reload")
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@client.example>")
        r = c.cmd("RCPT TO:<user@example.com>")
        assert r.text == "450 4.7.1 Session encryption is required"
    with TlsClient(gw.port) as c:
        deliver(c, "secret")


def test_rate(gw):
    gw.set(smtpd_client_new_tls_session_rate_limit="3",
           smtpd_client_event_limit_exceptions="")
    gw.command("reload")
    for _ in range(3):
        with TlsClient(gw.port) as c:
            c.ehlo()
    with gw.client() as c:
        c.ehlo()
        r = c.cmd("STARTTLS")
        assert r.text == "454 4.7.0 Error: too many new TLS sessions from " \
            "unknown[127.0.0.1]", r
        assert c.cmd("NOOP").code == 250
    gw.wait_log(r"warning: New TLS session rate limit exceeded: 4 from "
                r"unknown\[127\.0\.0\.1\] for service ")


@pytest.mark.skipif(SAN, reason="sanitizers take memory too")
def test_memory_of_an_idle_session(make, sink, keys):
    count = 300
    gw = make(sink, main={
        "smtpd_client_connection_count_limit": "0", "role_processes": "1",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_chain_files": keys.path("ecdsa.pem")})
    ctx, open_ = context(), []
    try:
        for _ in range(20):
            open_.append(TlsClient(gw.port, ctx))
        pid, = gw.pids("smtpd")
        before = rss_kb(pid)
        for _ in range(count):
            open_.append(TlsClient(gw.port, ctx))
            open_[-1].ehlo()
        each = (rss_kb(pid) - before) / count
        print(f"{each:.1f} KB for each session")
        assert each < 64
    finally:
        for c in open_:
            c.close()


def test_many_at_once(gw, sink):
    """200 handshakes at once, while others send mail in the clear."""
    gw.set(smtpd_client_connection_count_limit="0")
    gw.command("reload")
    trouble, barrier = [], threading.Barrier(20)

    def shake():
        barrier.wait()
        for _ in range(10):
            try:
                with TlsClient(gw.port, timeout=60) as c:
                    assert c.ehlo().code == 250
            except (AssertionError, OSError, Closed) as e:
                trouble.append(e)
    threads = [threading.Thread(target=shake) for _ in range(20)]
    for t in threads:
        t.start()
    with gw.client() as c:
        for i in range(20):
            deliver(c, f"meanwhile {i}")
    for t in threads:
        t.join()
    assert not trouble, trouble[:3]
    sink.wait(20)
