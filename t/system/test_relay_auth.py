"""The relay logs in: to servers that let it, and those that do not."""
import base64
import hashlib
import hmac
import os
import re
import ssl

import pytest

import test_relay
import test_relay_tls
from postern import wait_for
from role_driver import u8, u16, u32, view
from test_relay import (BOUNCED, CONNECT, DEFERRED, NONE, SENT, SUBJECT,
                        Server, script)
from test_relay_tls import context, keys, secure  # noqa: F401

PASSWORD, TOKEN, NOTHING, FAILED, REFUSED = 1, 2, 3, 4, 5
USER, SECRET = "joe@example.com", "s3cret,Grüße=x"
OPEN = {"smtp_sasl_security_options": "noanonymous"}


def b64(text):
    data = text if isinstance(text, bytes) else text.encode()
    return base64.b64encode(data).decode()


def unb64(text):
    return base64.b64decode(text, validate=True).decode()


class Relay(test_relay_tls.Relay):
    """With a credentials role of our own."""

    def __init__(self, **conf):
        super().__init__(**{**dict(smtp_sasl_auth_enable="yes",
                                   smtp_tls_security_level="none"), **conf})
        self.asked = []

    def __enter__(self):
        super().__enter__()
        self.logins = self.peer("credentials")
        return self

    def question(self):
        f = self.logins.expect("CREDENTIALS")
        tag = f.u32()
        self.asked.append((f.text(), f.text(), f.text(), f.u16(), f.u8()))
        f.done()
        return tag

    def tell(self, tag, answer=PASSWORD, user=USER, secret=SECRET, why=""):
        if answer > TOKEN:
            user = secret = ""
        self.logins.send("CREDENTIALS_ARE", u32(tag) + u8(answer) +
                         view(user) + view(secret) + view(why))

    def login(self, hop, answer=PASSWORD, user=USER, secret=SECRET, why="",
              **kw):
        """Deliver, and answer one question for a login."""
        self.deliver(hop, **kw)
        self.tell(self.question(), answer, user, secret, why)
        return self.result()


def server(auth, mechanisms="PLAIN LOGIN", keywords=(), **replies):
    """auth(c, words): the conversation after AUTH; its result is said."""
    def talk(c, line):
        return auth(c, line.split(" "))
    offer = [f"AUTH {mechanisms}"] if mechanisms else []
    return Server(script(offer + list(keywords), AUTH=talk, **replies))


def ask(c, challenge):
    """The client's answer to it, decoded."""
    c.say("334 " + b64(challenge))
    return unb64(c.line())


def expect_plain(c, words):
    assert words[:2] == ["AUTH", "PLAIN"]
    assert unb64(words[2]) == f"\0{USER}\0{SECRET}"
    return "235 2.7.0 welcome"


def check_secrets(relay):
    """Nothing in the log shows what was said."""
    relay.settle()
    for word in (SECRET, b64(SECRET), b64(f"\0{USER}\0{SECRET}"),
                 b64(f"\0{USER}\0{SECRET}")[:20], "s3cret"):
        assert word not in relay.log()


def test_plain():
    with server(expect_plain) as s, Relay(**OPEN) as relay:
        r = relay.login(s.hop)
        assert (r.status, r.trouble) == (SENT, NONE), r.reason
        assert relay.asked == [("", s.hop, "127.0.0.1", s.port, 0)]
        assert [w.split(" ")[0] for w in s.conns[0].got] == [
            "EHLO", "AUTH", "MAIL", "RCPT", "DATA"]
        # once for a connection
        relay.idle()
        assert relay.send(s.hop).status == SENT
        assert s.connections == 1 and len(relay.asked) == 1
        check_secrets(relay)


def test_login():
    def auth(c, words):
        assert words == ["AUTH", "LOGIN"]
        assert ask(c, "Username:") == USER
        assert ask(c, "Password:") == SECRET
        return "235 ok"
    with server(auth, "LOGIN GSSAPI") as s, Relay(**OPEN) as relay:
        assert relay.login(s.hop).status == SENT


def test_cram_md5_needs_no_plain_text():
    def auth(c, words):
        assert words == ["AUTH", "CRAM-MD5"]
        challenge = "<1896.6971@inside>"
        digest = hmac.new(SECRET.encode(), challenge.encode(),
                          "md5").hexdigest()
        assert ask(c, challenge) == f"{USER} {digest}"
        return "235 ok"
    with server(auth, "PLAIN LOGIN CRAM-MD5") as s, Relay() as relay:
        assert relay.login(s.hop).status == SENT


class Scram:
    """The server's side.  Attributes make it a bad one."""

    def __init__(self, iterations=4096, name="SCRAM-SHA-256", binding=None,
                 password=SECRET):
        self.iterations, self.name, self.binding = iterations, name, binding
        self.password = password
        self.nonce = lambda own: own + "3rfcNHYJY1ZVvWVs7j"
        self.signature = lambda v: "v=" + b64(v)
        self.early = False
        self.flag = None

    def __call__(self, c, words):
        alg = "sha1" if "SHA-1" in self.name else "sha256"

        def mac(key, text):
            return hmac.new(key, text if isinstance(text, bytes) else
                            text.encode(), alg).digest()
        assert words[:2] == ["AUTH", self.name], words
        first = unb64(words[2])
        header, bare = re.fullmatch(r"((?:n|y|p=[a-z-]+),,)(n=.*)",
                                    first).groups()
        self.flag = header
        own = re.fullmatch(r"n=(.*),r=([!-+\--~]+)", bare)
        assert own[1] == USER
        salt = b"saltsaltsalt"
        server_first = (f"r={self.nonce(own[2])},s={b64(salt)},"
                        f"i={self.iterations}")
        final = ask(c, server_first)
        without, proof = final.rsplit(",p=", 1)
        channel = self.binding(c) if self.binding else b""
        assert without == (f"c={b64(header.encode() + channel)},"
                           f"r={self.nonce(own[2])}")
        salted = hashlib.pbkdf2_hmac(alg, self.password.encode(), salt,
                                     self.iterations)
        message = f"{bare},{server_first},{without}"
        key = mac(salted, "Client Key")
        sign = mac(hashlib.new(alg, key).digest(), message)
        if bytes(a ^ b for a, b in zip(key, sign)) != base64.b64decode(proof):
            return "535 5.7.8 no"
        if self.early:
            return "235 2.7.0 never mind who I am"
        v = mac(mac(salted, "Server Key"), message)
        assert ask(c, self.signature(v)) == ""
        return "235 2.7.0 ok"


@pytest.mark.parametrize("name", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_scram(name):
    scram = Scram(name=name)
    with server(scram, "PLAIN LOGIN CRAM-MD5 " + name) as s, \
            Relay() as relay:
        assert relay.login(s.hop).status == SENT
        assert scram.flag == "n,,"
    with server(Scram(name=name, password="other"), name) as s, \
            Relay() as relay:
        r = relay.login(s.hop)
        assert (r.status, r.dsn, r.trouble) == (DEFERRED, "4.7.8", CONNECT)
        relay.wait_log(rf"SASL {name} authentication failed for user "
                       r"joe@example.com: 535 5.7.8 no")


BAD = "cannot authenticate to server 127.0.0.1[127.0.0.1] with "


def bad_scram(**kw):
    s = Scram()
    s.__dict__.update(kw)
    return s


def forever(c, words):
    for _ in range(100):
        c.say("334 ")
        c.line()
    raise AssertionError("the client never tires")


def says(*lines):
    def auth(c, words):
        c.say(*lines)
        c.rest()
        raise EOFError
    return auth


@pytest.mark.parametrize("mechanism, auth, why", [
    ("SCRAM-SHA-256", bad_scram(nonce=lambda own: "x" + own),
     "nonce is not made of ours"),
    ("SCRAM-SHA-256", bad_scram(nonce=lambda own: own),
     "nonce is not made of ours"),
    ("SCRAM-SHA-256", bad_scram(iterations=1), "too few iterations"),
    ("SCRAM-SHA-256", bad_scram(iterations=10 ** 9), "more iterations"),
    ("SCRAM-SHA-256", bad_scram(signature=lambda v: "v=" + b64(v[::-1])),
     "the server does not know the password"),
    ("SCRAM-SHA-256", bad_scram(signature=lambda v: "e=other-error"),
     "reports an error"),
    ("SCRAM-SHA-256", bad_scram(early=True), "before it was time"),
    ("SCRAM-SHA-256", forever, "malformed"),
    ("SCRAM-SHA-256", says("235 come in"), "before it was time"),
    ("PLAIN", forever, "a challenge more"),
    ("LOGIN", forever, "a challenge more"),
    ("CRAM-MD5", forever, "empty challenge"),
    ("CRAM-MD5", says("334 ==="), "not BASE64"),
    ("CRAM-MD5", says("334 PDE+ PDE+"), "not BASE64"),
    ("CRAM-MD5", says("334-PDE+", "334 PDE+"), "a challenge that is none"),
    ("CRAM-MD5", says("354 PDE+"), "a challenge that is none"),
    ("LOGIN", says("235 come in"), "before it was time"),
])
def test_hostile(mechanism, auth, why):
    with server(auth, mechanism) as s, Relay(**OPEN) as relay:
        r = relay.login(s.hop)
        assert (r.status, r.dsn, r.trouble) == (DEFERRED, "4.7.0", CONNECT)
        assert BAD + mechanism in r.reason and why in r.reason
        wait_for("its end", lambda: s.ended == 1)
        assert not s.conns[0].texts
        assert not any(g.startswith("MAIL") for g in s.conns[0].got)
        check_secrets(relay)


@pytest.mark.parametrize("auth, why", [
    (says("334 " + "A" * 2040), "a challenge that is too long"),
    (says("334 " + "A" * 3000), "a challenge that is too long"),
    (says("334 " + "A" * 400000), "remote protocol error"),
    (says("334 PDE+", "334 PDE+"), "remote protocol error"),
    (says("hello"), "remote protocol error"),
    (lambda c, words: None, "lost connection"),
])
def test_hostile_replies(auth, why):
    with server(auth, "CRAM-MD5") as s, Relay() as relay:
        r = relay.login(s.hop)
        assert r.status == DEFERRED and why in r.reason, r.reason
        assert not s.conns[0].texts


def test_silence():
    with server(says("334 PDE+"), "PLAIN") as s, \
            Relay(smtp_helo_timeout="1s", **OPEN) as relay:
        r = relay.login(s.hop)
        assert r.status == DEFERRED
    with server(says(), "PLAIN") as s, \
            Relay(smtp_helo_timeout="1s", **OPEN) as relay:
        r = relay.login(s.hop)
        assert r.status == DEFERRED
        assert "timed out while performing SASL authentication" in r.reason


@pytest.mark.parametrize("reply, dsn", [
    ("535 5.7.8 bad", "4.7.8"), ("535 bad", "4.0.0"),
    ("454 4.7.0 later", "4.7.0"), ("432 4.7.12 new password", "4.7.12"),
    ("500 5.5.6 line", "4.5.6"), ("421 4.3.2 going", "4.3.2"),
])
def test_refused(reply, dsn):
    with server(lambda c, w: reply) as s, Relay(**OPEN) as relay:
        r = relay.login(s.hop)
        assert (r.status, r.dsn, r.trouble) == (DEFERRED, dsn, CONNECT)
        assert r.reason == "SASL authentication failed; server " \
            f"127.0.0.1[127.0.0.1] said: {reply}"
        relay.wait_log("SASL PLAIN authentication failed for user joe")
        # a refused password is not tried in other ways
        assert len([g for g in s.conns[0].got if g[:4] == "AUTH"]) == 1
        check_secrets(relay)


def test_refused_for_good():
    with server(lambda c, w: "535 5.7.8 bad") as s, \
            Relay(smtp_sasl_auth_soft_bounce="no", **OPEN) as relay:
        r = relay.login(s.hop)
        assert (r.status, r.dsn) == (BOUNCED, "5.7.8")


CACHE = dict(smtp_sasl_auth_cache_name="proxy:btree:/x", **OPEN)


def test_a_refused_login_is_told():
    """To the role that has it: other relays shall not try it either."""
    with server(lambda c, w: "535 5.7.8 bad") as s, \
            Relay(**CACHE) as relay:
        assert relay.login(s.hop).dsn == "4.7.8"
        f = relay.logins.expect("LOGIN_REFUSED")
        assert (f.text(), f.u16(), f.text(), f.text(), f.text()) == (
            "127.0.0.1", s.port, USER, SECRET, "5.7.8 535 5.7.8 bad")
        f.done()
        check_secrets(relay)
    # what is not for good, what is no password
    for reply, kind in (("454 4.7.0 later", PASSWORD),
                        ("500 5.5.6 line", PASSWORD)):
        with server(lambda c, w: reply) as s, Relay(**CACHE) as relay:
            relay.login(s.hop, kind)
            relay.deliver(s.hop)
            relay.question()


@pytest.mark.parametrize("why, soft, end, dsn, said", [
    ("5.7.8 535 5.7.8 bad", "yes", DEFERRED, "4.7.8", "535 5.7.8 bad"),
    ("5.7.8 535 5.7.8 bad", "no", BOUNCED, "5.7.8", "535 5.7.8 bad"),
    ("5.0.0 535 bad", "no", BOUNCED, "5.0.0", "535 bad"),
    ("2.0.0 x\ny", "no", BOUNCED, "5.7.8", "x?y"),
    ("", "yes", DEFERRED, "4.7.8", "")])
def test_refused_before(why, soft, end, dsn, said):
    with server(expect_plain) as s, \
            Relay(smtp_sasl_auth_soft_bounce=soft, **CACHE) as relay:
        r = relay.login(s.hop, REFUSED, why=why)
        assert (r.status, r.dsn, r.trouble) == (end, dsn, CONNECT)
        assert r.reason == ("SASL [CACHED] authentication failed; server "
                            f"127.0.0.1[127.0.0.1] said: {said}")
        wait_for("its end", lambda: s.ended == 1)
        assert [g[:4] for g in s.conns[0].got] == ["EHLO", "QUIT"]


def test_the_next_mechanism():
    """It is the mechanism that the server does not want."""
    def auth(c, words):
        if words[1] == "CRAM-MD5":
            return "504 5.5.4 not that"
        return expect_plain(c, words)
    with server(auth, "CRAM-MD5 PLAIN") as s, Relay(**OPEN) as relay:
        assert relay.login(s.hop).status == SENT
        assert s.connections == 1
    with server(lambda c, w: "534 5.7.9 too weak", "CRAM-MD5 PLAIN") as s, \
            Relay(**OPEN) as relay:
        r = relay.login(s.hop)
        assert (r.status, r.dsn) == (DEFERRED, "4.7.9")
        assert len([g for g in s.conns[0].got if g[:4] == "AUTH"]) == 2


def test_no_mechanism():
    for mechanisms in "PLAIN LOGIN", "GSSAPI", "OAUTHBEARER", \
            "SCRAM-SHA-256-PLUS":
        with server(expect_plain, mechanisms) as s, Relay() as relay:
            r = relay.login(s.hop)
            assert (r.status, r.dsn) == (DEFERRED, "4.7.0")
            assert "offered no compatible authentication" in r.reason
            assert not any(g[:4] == "AUTH" for g in s.conns[0].got)
    with server(expect_plain, "PLAIN LOGIN CRAM-MD5") as s, \
            Relay(smtp_sasl_mechanism_filter="!cram-md5, plain",
                  **OPEN) as relay:
        assert relay.login(s.hop).status == SENT
    with server(expect_plain, "PLAIN LOGIN") as s, \
            Relay(smtp_sasl_mechanism_filter="!plain, !login, static:all",
                  **OPEN) as relay:
        assert relay.login(s.hop).status == DEFERRED


def test_the_old_form():
    with server(expect_plain, None, ["AUTH=LOGIN PLAIN"]) as s, \
            Relay(**OPEN) as relay:
        assert relay.login(s.hop).status == SENT


def test_not_offered():
    with server(expect_plain, None) as s, Relay(**OPEN) as relay:
        r = relay.login(s.hop)
        assert (r.status, r.dsn) == (DEFERRED, "4.7.0")
        assert "does not announce SASL authentication support" in r.reason
        # there is none for it
        r = relay.login(s.hop, NOTHING)
        assert r.status == SENT
    with server(expect_plain, None) as s, \
            Relay(smtp_sasl_auth_enforce="no", **OPEN) as relay:
        assert relay.send(s.hop).status == SENT
        assert relay.asked == []
    with server(expect_plain) as s, \
            Relay(smtp_discard_ehlo_keywords="auth", **OPEN) as relay:
        assert relay.login(s.hop).status == DEFERRED


def test_no_login():
    with server(expect_plain) as s, Relay(**OPEN) as relay:
        assert relay.login(s.hop, NOTHING).status == SENT
        assert not any(g[:4] == "AUTH" for g in s.conns[0].got)
    with server(expect_plain) as s, Relay(**OPEN) as relay:
        r = relay.login(s.hop, FAILED, why="table x")
        assert r.status == DEFERRED
        relay.wait_log("login: table x")
        assert "table x" not in r.reason


def test_the_credentials_role_ends():
    with server(expect_plain) as s, Relay(**OPEN) as relay:
        relay.deliver(s.hop)
        relay.question()
        relay.logins.close()
        relay.logins = relay.peer("credentials", 2)
        relay.tell(relay.question())
        assert relay.result().status == SENT
    # with nobody to ask nothing is sent
    with server(expect_plain) as s, \
            Relay(smtp_helo_timeout="1s", **OPEN) as relay:
        relay.logins.close()
        r = relay.send(s.hop)
        assert r.status == DEFERRED
        assert not any(g[:4] == "MAIL" for g in s.conns[0].got)


@pytest.mark.parametrize("body", [
    u8(0) + view("") + view("") + view(""),
    u8(9) + view("") + view("") + view(""),
    u8(PASSWORD) + view("") + view("x") + view(""),
    u8(PASSWORD) + view("u\n") + view("x") + view(""),
    u8(PASSWORD) + view("u") + view("") + view(""),
    u8(PASSWORD) + view("u") + view("a\0b") + view(""),
    u8(PASSWORD) + view("u") + view("a" * 9000) + view(""),
    u8(NOTHING) + view("u") + view("") + view(""),
    u8(PASSWORD) + view("u"),
])
def test_bad_answers(body):
    with server(expect_plain) as s, \
            Relay(smtp_helo_timeout="1s", **OPEN) as relay:
        relay.deliver(s.hop)
        relay.logins.send("CREDENTIALS_ARE", u32(relay.question()) + body)
        assert relay.control.expect("BLAME")
        assert relay.result().status == DEFERRED


def test_by_sender():
    with server(lambda c, w: "235 ok") as s, \
            Relay(smtp_sender_dependent_authentication="yes",
                  **OPEN) as relay:
        for i, sender in enumerate(["a@example.com", "b@example.com", "",
                                    "a@example.com"]):
            relay.deliver(s.hop, sender=sender)
            if i < 3:       # the last one finds the first connection
                relay.tell(relay.question(), user=f"u{i}")
                assert relay.asked[-1][0] == sender
            assert relay.result().status == SENT
            relay.idle(min(i + 1, 3))
        assert s.connections == 3
        for i, c in enumerate(s.conns):
            auth = [unb64(g.split(" ")[2]) for g in c.got if g[:4] == "AUTH"]
            assert auth == [f"\0u{i}\0{SECRET}"]
            assert len(c.texts) == (2 if i == 0 else 1)


def test_new_logins_new_connections():
    with server(expect_plain) as s, Relay(**OPEN) as relay:
        assert relay.login(s.hop).status == SENT
        relay.idle()
        relay.logins = relay.peer("credentials", 2)
        relay.settle()
        assert relay.login(s.hop).status == SENT
        assert s.connections == 2


def test_dummy_mail_auth():
    with server(expect_plain) as s, \
            Relay(smtp_send_dummy_mail_auth="yes", **OPEN) as relay:
        assert relay.login(s.hop).status == SENT
        assert "MAIL FROM:<a@example.com> AUTH=<>" in s.conns[0].got
        relay.idle()
    with server(expect_plain) as s, \
            Relay(smtp_send_dummy_mail_auth="yes", **OPEN) as relay:
        assert relay.login(s.hop, NOTHING).status == SENT
        assert "MAIL FROM:<a@example.com>" in s.conns[0].got


# -- within TLS --------------------------------------------------------------

def tls_server(ctx, auth, before="PLAIN", after="PLAIN LOGIN"):
    """AUTH is offered before TLS, and something else within."""
    inside = script([f"AUTH {after}"] if after else [],
                    AUTH=lambda c, line: auth(c, line.split(" ")))

    def talk(c):
        c.say("220 inside ESMTP")
        while True:
            verb = c.line()[:4].upper()
            if verb == "EHLO":
                c.say("250-inside", f"250-AUTH {before}", "250 STARTTLS")
            elif verb == "STAR":
                c.say("220 go")
                secure(c, ctx)
                inside(test_relay_tls.Inside(c))
                return
            else:
                c.say("221 bye" if verb == "QUIT" else "500 what?")
                if verb == "QUIT":
                    return
    return Server(talk)


def tls_conf(keys, level, **more):
    return dict(smtp_tls_security_level=level,
                smtp_tls_CAfile=keys.path("ca.crt"), **more)


@pytest.mark.parametrize("name, level, sent", [
    ("self", "encrypt", False), ("inside", "secure", True)])
def test_options_by_tls(keys, name, level, sent):  # noqa: F811
    conf = tls_conf(keys, level, smtp_tls_secure_cert_match="inside.example",
                    smtp_sasl_tls_verified_security_options="noanonymous")
    with tls_server(context(keys, name), expect_plain) as s, \
            Relay(**conf) as relay:
        r = relay.login(s.hop)
        assert r.status == (SENT if sent else DEFERRED), r.reason
    conf = tls_conf(keys, level, smtp_tls_secure_cert_match="inside.example",
                    smtp_sasl_tls_security_options="noanonymous")
    with tls_server(context(keys, name), expect_plain) as s, \
            Relay(**conf) as relay:
        assert relay.login(s.hop).status == SENT
        # not a word of it outside
        assert [g[:4] for g in s.conns[0].got][:4] == [
            "EHLO", "STAR", "EHLO", "AUTH"]


def test_what_is_offered_inside_counts(keys):  # noqa: F811
    conf = tls_conf(keys, "encrypt",
                    smtp_sasl_tls_security_options="noanonymous")
    with tls_server(context(keys, "self"), expect_plain, "CRAM-MD5 LOGIN",
                    "PLAIN") as s, Relay(**conf) as relay:
        assert relay.login(s.hop).status == SENT
    with tls_server(context(keys, "self"), expect_plain, "PLAIN",
                    None) as s, Relay(**conf) as relay:
        assert relay.login(s.hop).status == DEFERRED


def test_broken_tls_gets_no_login(keys):  # noqa: F811
    """At level may mail goes without TLS that fails; a login does not, in
    whatever form."""
    def talk(c):
        c.say("220 inside ESMTP")
        while True:
            verb = c.line()[:4].upper()
            if verb == "EHLO":
                c.say("250-inside", "250-AUTH CRAM-MD5 PLAIN",
                      "250 STARTTLS")
            elif verb == "STAR":
                c.say("220 go")
                c.s.sendall(b"this is no TLS\r\n")
                c.rest()
                return
            else:
                c.say("221 bye" if verb == "QUIT" else "500 what?")
                if verb == "QUIT":
                    return
    with Server(talk) as s, Relay(smtp_tls_security_level="may",
                                  **OPEN) as relay:
        r = relay.login(s.hop)
        assert (r.status, r.dsn) == (DEFERRED, "4.7.4"), r.reason
        assert "TLS with host" in r.reason
        assert not any(g[:4] in ("AUTH", "MAIL") for c in s.conns
                       for g in c.got)


def end_point(keys, name):
    """RFC 5929 section 4."""
    pem = open(keys.path(name + ".crt")).read()
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()
    return lambda c: digest


@pytest.mark.parametrize("offer", ["SCRAM-SHA-256-PLUS SCRAM-SHA-256",
                                   "SCRAM-SHA-256"])
def test_channel_binding(keys, offer):  # noqa: F811
    plus = "PLUS" in offer
    scram = Scram(name=offer.split(" ")[0],
                  binding=end_point(keys, "self") if plus else None)
    ctx = context(keys, "self", ssl.TLSVersion.TLSv1_2)
    with tls_server(ctx, scram, "PLAIN", offer) as s, \
            Relay(**tls_conf(keys, "encrypt")) as relay:
        r = relay.login(s.hop)
        assert r.status == SENT, r.reason
        assert scram.flag == ("p=tls-server-end-point,," if plus else "y,,")
    # told not to
    scram = Scram()
    with tls_server(ctx, scram, "PLAIN", "SCRAM-SHA-256-PLUS SCRAM-SHA-256") \
            as s, Relay(smtp_sasl_mechanism_filter="scram-sha-256",
                        **tls_conf(keys, "encrypt")) as relay:
        assert relay.login(s.hop).status == SENT
        assert scram.flag == "n,,"


# -- tokens ------------------------------------------------------------------

def bearer(accepted):
    def auth(c, words):
        text = unb64(words[2])
        if words[1] == "XOAUTH2":
            m = re.fullmatch("user=(.*)\1auth=Bearer (.*)\1\1", text)
        else:
            m = re.fullmatch("n,a=(.*),\1host=.*\1port=\\d+\1auth=Bearer "
                             "(.*)\1\1", text)
        assert m and m[1] == USER
        if m[2] == accepted:
            return "235 ok"
        rest = ask(c, '{"status":"invalid_token"}')
        assert rest == ("" if words[1] == "XOAUTH2" else "\1")
        return "535 5.7.8 no"
    return auth


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_tokens(keys, mechanism):  # noqa: F811
    conf = tls_conf(keys, "encrypt",
                    smtp_sasl_tls_security_options="noanonymous")
    ctx = context(keys, "self")
    long = "ya29." + "x" * 4000
    with tls_server(ctx, bearer(long), "PLAIN", "PLAIN " + mechanism) as s, \
            Relay(**conf) as relay:
        assert relay.login(s.hop, TOKEN, secret=long).status == SENT
    # one that has expired: the next is asked for, once
    with tls_server(ctx, bearer("new"), "PLAIN", mechanism) as s, \
            Relay(**conf) as relay:
        relay.deliver(s.hop)
        relay.tell(relay.question(), TOKEN, secret="old")
        relay.tell(relay.question(), TOKEN, secret="new")
        assert relay.result().status == SENT
        assert [a[4] for a in relay.asked] == [0, 1]
        assert s.connections == 1
        relay.wait_log(r'535 5.7.8 no: {"status":"invalid_token"}')
    with tls_server(ctx, bearer("new"), "PLAIN", mechanism) as s, \
            Relay(**conf) as relay:
        relay.deliver(s.hop)
        relay.tell(relay.question(), TOKEN, secret="old")
        relay.tell(relay.question(), TOKEN, secret="old2")
        r = relay.result()
        assert (r.status, r.dsn) == (DEFERRED, "4.7.8")


def test_no_token_without_tls():
    with server(bearer("x"), "XOAUTH2 OAUTHBEARER") as s, \
            Relay(**OPEN) as relay:
        r = relay.login(s.hop, TOKEN, secret="x")
        assert r.status == DEFERRED
        assert not any(g[:4] == "AUTH" for g in s.conns[0].got)


def test_jailed():
    """Nothing of it needs a call that the jail does not have."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    with server(Scram(), "SCRAM-SHA-256") as s, \
            Relay(jailed=True, user="postern-out"
                  if os.system("id postern-out >/dev/null 2>&1") == 0
                  else "nobody", root="/var/empty"
                  if os.path.isdir("/var/empty") else "") as relay:
        assert relay.login(s.hop).status == SENT
