"""AUTH for clients, with a real Dovecot; hostile servers are in
test_sasl_hostile.py."""
import base64
import hashlib
import hmac
import os
import re
import smtplib
import socket
import threading

import pytest
from conftest import need_root
from postern import Client, free_port, mail, run, wait_for
from sasl_help import DOVECOT, PASSWORD, Dovecot, b64, plain
from tls_help import Keys, TlsClient

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not os.path.exists(DOVECOT),
    reason="needs root and Dovecot")


@pytest.fixture(scope="module")
def dovecot():
    d = Dovecot()
    yield d
    d.destroy()


@pytest.fixture(scope="module")
def keys():
    k = Keys()
    k.cert("own", "gw.example.com")
    yield k
    k.destroy()


def settings(sink, dovecot, **more):
    return {"smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": dovecot.socket,
            "smtpd_error_sleep_time": "0", "smtpd_hard_error_limit": "10000",
            "smtpd_relay_restrictions":
            "permit_sasl_authenticated, reject_unauth_destination",
            "relayhost": f"[127.0.0.1]:{sink.port}",
            **more}


@pytest.fixture
def gw(make, sink, dovecot):
    return make(sink, main=settings(sink, dovecot))


def login(c, user="joe", password=PASSWORD):
    r = c.cmd("AUTH PLAIN " + plain(user, password))
    assert r.text == "235 2.7.0 Authentication successful", r
    return c


def offered(c):
    for line in c.ehlo().lines:
        if line[4:].startswith("AUTH "):
            return line[9:].split()
    return []


def scram(c, user, password):
    """SCRAM-SHA-256 (RFC 7677); checks that the server knows it too."""
    first = f"n={user},r=abcdefgh"
    r = c.cmd("AUTH SCRAM-SHA-256 " + b64("n,,", first))
    assert r.code == 334, r
    server = base64.b64decode(r.text[4:]).decode()
    field = dict(f.split("=", 1) for f in server.split(","))
    bare = "c=biws,r=" + field["r"]
    salted = hashlib.pbkdf2_hmac(
        "sha256", password.encode(), base64.b64decode(field["s"]),
        int(field["i"]))

    def mac(key, text):
        return hmac.new(key, text, hashlib.sha256).digest()
    key = mac(salted, b"Client Key")
    text = ",".join([first, server, bare]).encode()
    proof = bytes(a ^ b for a, b in zip(
        key, mac(hashlib.sha256(key).digest(), text)))
    r = c.cmd(b64(bare, ",p=", base64.b64encode(proof).decode()))
    if r.code != 334:
        return r
    verifier = base64.b64decode(r.text[4:])
    assert verifier == b"v=" + base64.b64encode(
        mac(mac(salted, b"Server Key"), text))
    return c.cmd("")


def test_plain(gw, sink):
    with gw.client() as c:
        # anonymous is not offered
        assert offered(c) == ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"]
        r = c.cmd("MAIL FROM:<a@client.example>")
        assert r.code == 250
        assert c.cmd("RCPT TO:<b@elsewhere.example>").code == 554
        c.cmd("RSET")
        login(c)
        assert c.message("a@client.example", "b@elsewhere.example",
                         mail("in")).code == 250
        assert c.cmd("QUIT").code == 221
    m = sink.wait_subject("in")
    assert "with ESMTPA id" in m.header.decode()
    assert "joe" not in m.header.decode()
    gw.wait_log(r"client=unknown\[127\.0\.0\.1\], sasl_method=PLAIN, "
                r"sasl_username=joe$")
    gw.wait_log(r"disconnect from .* ehlo=1 auth=1 mail=2 rcpt=1/2 data=1 ")


def test_other_mechanisms(gw):
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("AUTH PLAIN").text == "334 "
        assert c.cmd(plain("joe", PASSWORD)).code == 235
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("auth login").text == "334 " + b64("Username:")
        assert c.cmd(b64("joe")).text == "334 " + b64("Password:")
        assert c.cmd(b64(PASSWORD)).code == 235
    # all at once: nothing but a password follows
    with gw.client() as c:
        c.ehlo()
        c.send(f"AUTH LOGIN\r\n{b64('joe')}\r\n{b64(PASSWORD)}\r\n"
               "NOOP\r\n".encode())
        assert [c.reply().code for _ in range(4)] == [334, 334, 235, 250]
    with gw.client() as c:
        c.ehlo()
        assert scram(c, "joe", PASSWORD).code == 235
    with gw.client() as c:
        c.ehlo()
        assert scram(c, "joe", "wrong").code == 535
    c = smtplib.SMTP("127.0.0.1", gw.port)
    c.ehlo()
    c.user, c.password = "ann@example.com", "ann's"
    assert c.auth("CRAM-MD5", c.auth_cram_md5)[0] == 235
    c.quit()


def test_wrong_passwords(gw, dovecot):
    with gw.client() as c:
        c.ehlo()
        r = c.cmd("AUTH PLAIN " + plain("joe", "wrong"))
        assert r.text.startswith("535 5.7.8 Error: authentication failed:")
        gw.wait_log(r"warning: unknown\[127\.0\.0\.1\]: SASL PLAIN "
                    r"authentication failed: .*, sasl_username=joe$")
        login(c)
    gw.set(smtpd_hard_error_limit="3", smtpd_error_sleep_time="0")
    gw.command("reload")
    with gw.client() as c:
        c.ehlo()
        for _ in range(3):
            assert c.cmd("AUTH PLAIN " + plain("joe", "wrong")).code == 535
        assert c.reply().code == 421
        assert c.closed()


def test_order(gw):
    with gw.client() as c:
        assert c.cmd("AUTH PLAIN").code == 503
        c.ehlo()
        c.cmd("MAIL FROM:<a@client.example>")
        r = c.cmd("AUTH PLAIN " + plain("joe", PASSWORD))
        assert r.text == "503 5.5.1 Error: MAIL transaction in progress"
        c.cmd("RSET")
        login(c)
        assert c.cmd("AUTH PLAIN").text == \
            "503 5.5.1 Error: already authenticated"
        # EHLO again does not log out
        c.ehlo()
        assert c.cmd("AUTH PLAIN").code == 503


def test_syntax(gw):
    with gw.client() as c:
        c.ehlo()
        for args, code in (("", 501), ("PLAIN a b", 501), ("PLAIN ***", 501),
                           ("PLAIN YQ", 501), ("PLAIN YQ==YQ==", 501),
                           ("NONSENSE", 504), ("ANONYMOUS", 504),
                           ("X" * 100, 504), ("PLAIN\tYQ==", 535)):
            assert c.cmd("AUTH " + args).code == code, args
    with gw.client() as c:
        c.ehlo()
        # nothing; Dovecot asks then
        assert c.cmd("AUTH PLAIN =").text == "334 "
        assert c.cmd("").code == 535
        assert c.cmd("AUTH LOGIN").code == 334
        r = c.cmd("*")
        assert r.text == "501 5.7.0 Authentication aborted"
        assert c.cmd("AUTH LOGIN").code == 334
        assert c.cmd("QUIT!").code == 501
        assert c.cmd("AUTH LOGIN").code == 334
        assert c.cmd("A" * 13000).code == 500
        # commands are commands again
        assert c.cmd("NOOP").code == 250
        login(c)


def test_responses_to_a_refusal(gw):
    """Sent ahead, or all the same; the log and notices have none of them."""
    secret = b64("секрет")
    assert secret[0].isdigit()      # as no command does
    for said in (f"AUTH NONSENSE\r\n{secret}\r\n",
                 f"AUTH LOGIN x y\r\nSm9l\r\n{secret}\r\n"):
        with gw.client() as c:
            c.ehlo()
            c.send(said.encode())
            assert c.closed()
    gw.wait_log(r"(?s)(non-SMTP command from \S+: \(response\).*){2}")
    assert secret not in gw.log()


def test_long_responses(gw):
    long = plain("joe", "x" * 6000)
    assert 8000 < len(long) < 12288
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("AUTH PLAIN " + long).code == 535
        assert c.cmd("AUTH PLAIN").code == 334
        assert c.cmd(long).code == 535
        assert c.cmd("AUTH PLAIN " + "A" * 13000).code == 500
        assert c.cmd("NOOP " + "A" * 3000).code == 500
        login(c)


def test_byte_by_byte(gw):
    with gw.client() as c:
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        c.ehlo()
        for byte in b"AUTH LOGIN\r\n":
            c.send(bytes([byte]))
        assert c.reply().code == 334
        for line in (b64("joe"), b64(PASSWORD)):
            for byte in line.encode() + b"\r\n":
                c.send(bytes([byte]))
            last = c.reply()
        assert last.code == 235


def test_only_within_tls(make, sink, dovecot, keys):
    gw = make(sink, main=settings(sink, dovecot, smtpd_tls_security_level="may", smtpd_tls_auth_only="yes",
        smtpd_tls_chain_files=keys.path("own.pem")))
    with gw.client() as c:
        assert offered(c) == []
        r = c.cmd("AUTH PLAIN " + plain("joe", PASSWORD))
        assert r.text == ("538 5.7.0 Encryption required for requested "
                          "authentication mechanism")
    with TlsClient(gw.port) as c:
        assert "PLAIN" in offered(c)
        login(c)
        assert c.message("a@client.example", "b@elsewhere.example",
                         mail("secret")).code == 250
    assert "with ESMTPSA id" in sink.wait_subject("secret").header.decode()


def test_tls_forgets_who_it_was(make, sink, dovecot, keys):
    gw = make(sink, main=settings(sink, dovecot, smtpd_tls_security_level="may",
        smtpd_tls_chain_files=keys.path("own.pem"),
        smtpd_sasl_security_options="noplaintext",
        smtpd_sasl_tls_security_options="noanonymous, nodictionary",
        smtpd_sasl_mechanism_filter="!cram-md5, static:all"))
    with gw.client() as c:
        assert offered(c) == ["SCRAM-SHA-256", "ANONYMOUS"]
        assert c.cmd("AUTH PLAIN").code == 504
        assert c.cmd("AUTH CRAM-MD5").code == 504
        assert scram(c, "joe", PASSWORD).code == 235
        assert c.cmd("STARTTLS").code == 220
    c = Client(gw.port)
    c.ehlo()
    assert scram(c, "joe", PASSWORD).code == 235
    assert c.cmd("STARTTLS").code == 220
    t = TlsClient.__new__(TlsClient)
    from tls_help import context
    t.sock = context().wrap_socket(c.sock, server_hostname="gw.example.com")
    t.data = b""
    assert set(offered(t)) >= {"PLAIN", "LOGIN"}
    t.cmd("MAIL FROM:<a@client.example>")
    assert t.cmd("RCPT TO:<b@elsewhere.example>").code == 554
    t.cmd("RSET")
    login(t)
    t.cmd("MAIL FROM:<a@client.example>")
    assert t.cmd("RCPT TO:<b@elsewhere.example>").code == 250
    t.close()


def test_who_is_offered_it(make, sink, dovecot):
    gw = make(sink, main=settings(sink, dovecot, smtpd_sasl_exceptions_networks="127.0.0.2",
        broken_sasl_auth_clients="yes"))
    with gw.client() as c:
        text = c.ehlo().text
        assert "\n250-AUTH PLAIN " in text and "\n250-AUTH=PLAIN " in text
    with gw.client(source="127.0.0.2") as c:
        assert offered(c) == []
        r = c.cmd("AUTH PLAIN " + plain("joe", PASSWORD))
        assert r.text == "503 5.5.1 Error: authentication not enabled"
    gw.set(smtpd_discard_ehlo_keywords="auth")
    gw.command("reload")
    with gw.client() as c:
        assert offered(c) == []
        assert c.cmd("AUTH PLAIN").code == 503
    gw.set(smtpd_sasl_auth_enable="no")
    gw.command("reload")
    with gw.client() as c:
        assert offered(c) == []
        assert c.cmd("AUTH PLAIN").code == 503
        assert c.cmd("MAIL FROM:<a@client.example> AUTH=<>").code == 555
    wait_for("the end of auth", lambda: not gw.pids("auth-dovecot"))


class Policy(threading.Thread):
    """A policy service that says DUNNO, and keeps what it was asked."""

    def __init__(self):
        super().__init__(daemon=True)
        self.port = free_port()
        self.asked = []
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,),
                             daemon=True).start()

    def serve(self, sock):
        with sock, sock.makefile("rb") as f:
            request = {}
            for line in f:
                name, _, value = line.decode().rstrip("\n").partition("=")
                if name:
                    request[name] = value
                    continue
                self.asked.append(request)
                request = {}
                sock.sendall(b"action=DUNNO\n\n")


def test_who_it_was_is_known(make, sink, dovecot):
    policy = Policy()
    gw = make(sink, main=settings(sink, dovecot, smtpd_sasl_authenticated_header="yes",
        smtpd_recipient_restrictions=f"check_policy_service "
        f"inet:127.0.0.1:{policy.port}"))
    with gw.client() as c:
        c.ehlo()
        login(c, "ann@example.com", "ann's")
        r = c.cmd("MAIL FROM:<a@client.example> AUTH=bob+2B1@x.example")
        assert r.code == 250, r
        assert c.cmd("RCPT TO:<b@elsewhere.example>").code == 250
        assert c.data_cmd(mail("known")).code == 250
        for bad in ("AUTH=", "AUTH=a+", "AUTH=a AUTH=b", "AUTH=a+0Ab"):
            r = c.cmd("MAIL FROM:<a@client.example> " + bad)
            assert r.code == 501, (bad, r)
        c.cmd("MAIL FROM:<a@client.example> AUTH=<>")
        c.cmd("RCPT TO:<b@elsewhere.example>")
    m = sink.wait_subject("known")
    assert "\r\n\t(Authenticated sender: ann@example.com)\r\n" in \
        m.header.decode()
    gw.wait_log(r"sasl_method=PLAIN, sasl_username=ann@example\.com, "
                r"sasl_sender=bob\+1@x\.example$")
    policy.listener.close()
    who = [(a["sasl_method"], a["sasl_username"], a["sasl_sender"])
           for a in policy.asked]
    assert who == [("PLAIN", "ann@example.com", "bob+1@x.example"),
                   ("PLAIN", "ann@example.com", "")]


def test_whose_sender_it_is(make, sink, dovecot):
    gw = make(sink, main=settings(sink, dovecot, smtpd_sender_login_maps="inline:{{joe@example.com=joe}, "
        "{ann@example.com=ann@example.com}}",
        smtpd_sender_restrictions="reject_sender_login_mismatch",
        smtpd_recipient_restrictions="check_sasl_access "
        "inline:{{joe=REJECT not you}}"))

    def rcpt(sender, *who):
        with gw.client() as c:
            c.ehlo()
            if who:
                login(c, *who)
            c.cmd(f"MAIL FROM:<{sender}>")
            return c.cmd("RCPT TO:<user@example.com>").text
    ann = ("ann@example.com", "ann's")
    assert rcpt("stranger@x.example")[:3] == "250"
    assert rcpt("joe@example.com") == (
        "553 5.7.1 <joe@example.com>: Sender address rejected: "
        "not logged in")
    assert rcpt("joe@example.com", *ann) == (
        "553 5.7.1 <joe@example.com>: Sender address rejected: "
        "not owned by user ann@example.com")
    gw.wait_log(r"NOQUEUE: reject: RCPT from .*not owned by.* "
                r"helo=<client\.example> sasl_username=<ann@example\.com>")
    # addresses that become the other's
    for sender in ("joe%example.com", "example.com!joe"):
        assert rcpt(sender, *ann) == (
            f"553 5.7.1 <{sender}>: Sender address rejected: "
            "not owned by user ann@example.com")
    assert rcpt("ann@example.com", *ann)[:3] == "250"
    assert rcpt("joe@example.com", "joe") == (
        "554 5.7.1 <joe>: SASL login name rejected: not you")


def test_rate(make, sink, dovecot):
    gw = make(sink, main=settings(sink, dovecot, smtpd_client_auth_rate_limit="2",
        smtpd_client_event_limit_exceptions="127.0.0.2"))
    for _ in range(2):
        with gw.client() as c:
            c.ehlo()
            assert c.cmd("AUTH PLAIN " + plain("joe", "x")).code == 535
    with gw.client() as c:
        c.ehlo()
        r = c.cmd("AUTH PLAIN " + plain("joe", PASSWORD))
        assert r.text == ("450 4.7.1 Error: too many AUTH commands from "
                          "127.0.0.1")
    gw.wait_log(r"warning: AUTH command rate limit exceeded: 3 from ")
    with gw.client(source="127.0.0.2") as c:
        for _ in range(3):
            c.ehlo()
            assert c.cmd("AUTH PLAIN " + plain("joe", "x")).code == 535


def test_reload_in_a_conversation(gw):
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("AUTH LOGIN").code == 334
        gw.command("reload")
        assert c.cmd(b64("joe")).code == 334
        assert c.cmd(b64(PASSWORD)).code == 235
    wait_for("the end of the old ones",
             lambda: len(gw.pids("auth-dovecot")) == 1)
    with gw.client() as c:
        c.ehlo()
        login(c)


def test_crash_in_a_conversation(gw):
    gw.expect_log(r"killed by signal 9")
    with gw.client() as c, gw.client() as other:
        c.ehlo()
        other.ehlo()
        assert c.cmd("AUTH LOGIN").code == 334
        old, = gw.pids("auth-dovecot")
        os.kill(old, 9)
        wait_for("another one", lambda: gw.pids("auth-dovecot") not in
                 ([], [old]))
        r = c.cmd(b64("joe"))
        assert r.text.startswith("454 4.7.0 Temporary authentication "
                                 "failure: ")
        assert other.cmd("NOOP").code == 250
        wait_for("a login", lambda: c.cmd(
            "AUTH PLAIN " + plain("joe", PASSWORD)).code == 235)


def test_dovecot_goes_and_comes(make, sink):
    d = Dovecot()
    try:
        gw = make(sink, main=settings(sink, d))
        with gw.client() as c:
            assert "PLAIN" in offered(c)
            assert c.cmd("AUTH LOGIN").code == 334
            d.stop()
            assert c.cmd(b64("joe")).code == 454
            # a client that comes now learns that it is for the moment only
            with gw.client() as late:
                assert "PLAIN" in offered(late)
                r = late.cmd("AUTH PLAIN " + plain("joe", PASSWORD))
                assert r.code == 454
            assert c.message("a@client.example", "user@example.com",
                             mail("meanwhile")).code == 250
            d.start()
            wait_for("a login", lambda: c.cmd(
                "AUTH PLAIN " + plain("joe", PASSWORD)).code == 235)
        sink.wait_subject("meanwhile")
        gw.wait_log(r"warning: authentication server .*: ")
    finally:
        d.destroy()


def test_by_port_and_below_the_spool(make, sink, dovecot):
    gw = make(sink, main=settings(sink, dovecot, smtpd_sasl_path=f"inet:127.0.0.1:{dovecot.port}"))
    with gw.client() as c:
        c.ehlo()
        login(c)
    pid, = gw.pids("auth-dovecot")
    assert os.listdir(f"/proc/{pid}/root") == []


def test_services_have_servers_of_their_own(make, sink, dovecot):
    port = free_port()
    gw = make(sink, main=settings(sink, dovecot, smtpd_sasl_auth_enable="no",
                                  smtpd_sasl_path="nowhere"), start=False)
    gw.edit("master.cf", lambda t: t +
            f"127.0.0.1:{port} inet n - - - - smtpd\n"
            "  -o smtpd_sasl_auth_enable=yes\n"
            f"  -o smtpd_sasl_path={dovecot.socket}\n"
            "  -o syslog_name=postern/submission\n")
    gw.start()
    with gw.client() as c:
        assert offered(c) == []
    with Client(port) as c:
        assert "PLAIN" in offered(c)
        login(c)


def test_types_that_are_not_there(make, sink, dovecot):
    gw = make(sink, main=settings(sink, dovecot, smtpd_sasl_type="nonsense"),
              start=False)
    p = gw.command("start", check=False)
    assert p.returncode != 0
    assert "smtpd_sasl_type" in p.stdout + p.stderr + gw.log()


def memory_has(pid, secret):
    """Is it somewhere in what the process may write?"""
    with open(f"/proc/{pid}/maps") as maps, \
            open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if not m or "[v" in line:
                continue
            start, end = (int(x, 16) for x in m.groups())
            if end - start > 64 << 20:
                continue
            try:
                mem.seek(start)
                if secret in mem.read(end - start):
                    return True
            except OSError:
                pass
    return False


@pytest.mark.skipif("san" in os.environ.get("BUILD", ""),
                    reason="the sanitizers keep copies")
@pytest.mark.parametrize("tls", [False, True])
def test_passwords_are_forgotten(make, sink, dovecot, keys, tls):
    """Nothing that has been said in an AUTH is left in memory, in the log, or
    in a mail to the postmaster."""
    gw = make(sink, main=settings(sink, dovecot, smtpd_tls_security_level="may",
        smtpd_tls_chain_files=keys.path("own.pem"),
        notify_classes="policy, protocol",
        smtpd_client_auth_rate_limit="100"))
    secrets = []
    with TlsClient(gw.port) if tls else gw.client() as c:
        c.ehlo()
        for user, password in (("nobody", "a-very-long-wrong-password"),
                               ("joe", PASSWORD)):
            secrets.append(plain(user, password))
            code = c.cmd("AUTH PLAIN " + secrets[-1]).code
        assert code == 235
    with gw.client() as c:
        c.ehlo()
        c.cmd("AUTH LOGIN")
        secrets += [b64("a-name-that-nobody-has"), b64("and-a-password")]
        c.cmd(secrets[-2])
        c.cmd(secrets[-1])
        # behind what has to be last
        secrets.append(plain("x", "quite-another-password"))
        c.send(f"NOOP\r\nAUTH PLAIN {secrets[-1]}\r\n".encode())
        assert c.closed()
    notices = [sink.wait(n)[n - 1] for n in (1, 2)]
    for s in secrets:
        assert s not in gw.log()
        for m in notices:
            assert s.encode() not in m.text
    # what came behind is input that nobody read as a password
    for s in secrets[:-1]:
        for role in ("smtpd", "auth-dovecot"):
            for pid in gw.pids(role):
                assert not memory_has(pid, s.encode()), (role, s)


@need_root
def test_locked_in(gw):
    pid, = gw.pids("auth-dovecot")
    with open(f"/proc/{pid}/status") as f:
        st = dict(line.rstrip("\n").split(":\t", 1) for line in f
                  if ":\t" in line)
    assert st["Seccomp"] == "2" and st["NoNewPrivs"] == "1"
    assert int(st["CapEff"], 16) == 0
    assert st["Uid"].split()[0] == run("id", "-u", "postern-auth"
                                       ).stdout.strip()
