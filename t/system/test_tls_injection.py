"""Plain text that is sent with the word that starts TLS, to be taken for what is
said inside (CVE-2011-0411): by clients behind STARTTLS, by servers behind the
220 to it.

Policies of MTA-STS are fetched with TLS from the first byte on, and an
smtpd_proxy_filter is talked to without TLS: there is nothing to inject into."""
import ssl

import pytest

from postern import Client, Closed, Instance, Sink, free_port, mail
from test_proxy_filter import KEYWORDS, Filter, Gateway
from test_relay import BOUNCED, DEFERRED, SENT, Server
from test_relay_tls import Relay, ServerKeys, conf, context
from test_tls_hostile import hello
from test_verify import SETTINGS, ask
from tls_help import TlsClient


@pytest.fixture(scope="module")
def keys():
    k = ServerKeys()
    try:
        k.cert("ca", "Test Authority", is_ca=True)
        k.named("inside", "inside.example", names=["inside.example"],
                ips=["127.0.0.1"])
        k.cert("gw", "gw.example.com")
        yield k
    finally:
        k.destroy()


# -- a server's ----------------------------------------------------------------

# To EHLO, MAIL, RCPT, DATA and the dot; parts of a reply; nothing; a part of TLS
BEHIND = {"replies": b"250 Ok\r\n" * 3 + b"354 go on\r\n250 2.0.0 taken\r\n",
          "keywords": b"250-inside\r\n250 PIPELINING\r\n250 Ok\r\n",
          "part": b"250-insi", "byte": b"2", "end": b"\r\n", "zero": b"\0",
          "alert": b"\x15\x03\x03\x00\x02\x01\x00"}


def talks(ctx, behind):
    """Inside TLS it knows none of the recipients."""
    def talk(c):
        c.say("220 inside")
        while True:
            verb = c.line()[:4].upper()
            if verb in ("EHLO", "LHLO"):
                c.say("250-inside\r\n250-PIPELINING\r\n250 STARTTLS")
            elif verb == "STAR":
                c.s.sendall(b"220 go\r\n" + behind)
                assert not c.buf
                try:
                    c.s = ctx.wrap_socket(c.s, server_side=True)
                except (ssl.SSLError, OSError):
                    raise EOFError from None
            elif verb == "RCPT":
                c.say("550 5.1.1 nobody")
            elif verb == "DATA":
                c.say("554 5.5.1 for whom?")
            elif verb == "QUIT":
                c.say("221 bye")
                return
            else:
                c.say("250 Ok")
    return talk


@pytest.mark.parametrize("level", ["may", "encrypt", "secure"])
@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
@pytest.mark.parametrize("behind", BEHIND)
def test_of_a_server(keys, level, lmtp, behind):
    """At level may it is asked once more, in plain text."""
    with Server(talks(context(keys, "inside"), BEHIND[behind])) as server, \
            Relay(lmtp=lmtp, **conf(
                keys, level, smtp_starttls_timeout="5s",
                smtp_tls_secure_cert_match="inside.example")) as relay:
        relay.deliver(server.hop)
        r = relay.result(60)
        assert r.status == (BOUNCED if level == "may" else DEFERRED), r.reason
        if level == "may":
            assert r.reason.endswith("(in reply to RCPT TO command)")
            assert "550 5.1.1 nobody" in r.reason
        assert server.connections == (2 if level == "may" else 1)
        # nothing was said inside
        assert server.conns[0].got[1:] == ["STARTTLS"]
        relay.wait_log(f"tls={level}:none, dsn=[45]")


def test_the_server_itself(keys):
    """It is the words that matter, not the server."""
    for lmtp in (False, True):
        with Server(talks(context(keys, "inside"), b"")) as server, \
                Relay(lmtp=lmtp, **conf(keys, "secure",
                      smtp_tls_secure_cert_match="inside.example")) as relay:
            r = relay.send(server.hop)
            assert r.status == BOUNCED and "nobody" in r.reason
            relay.wait_log("tls=secure, dsn=5")
            assert server.connections == 1


@pytest.mark.parametrize("behind", ["replies", "part"])
@pytest.mark.parametrize("level", ["may", "encrypt"])
def test_of_a_server_that_is_asked(make, keys, level, behind):
    """Whether it knows a recipient."""
    with Server(talks(context(keys, "inside"), BEHIND[behind])) as server:
        gw = make(relay=f"127.0.0.1:{server.port}", main={
            **SETTINGS, "smtp_tls_security_level": level})
        assert ask(gw, "user")[:3] == ("550" if level == "may" else "450")
        assert server.conns[0].got[1:] == ["STARTTLS"]


def test_a_filter_has_no_tls():
    """What it offers is not taken."""
    inside, outside = Sink(), Filter(KEYWORDS + ("STARTTLS",))
    gw = None
    try:
        gw = Gateway(inside, outside)
        gw.again(smtp_tls_security_level="encrypt")
        # what it gives back waits for a server that has TLS
        assert gw.say(mail("filtered")).startswith("250 ")
        assert "STARTTLS" not in outside.commands
    finally:
        if gw:
            gw.destroy()
        inside.close()
        outside.close()


# -- a client's ----------------------------------------------------------------

@pytest.fixture(scope="module")
def services(keys):
    """An MX, and submission, where TLS must be."""
    sink, submission, gw = Sink(), free_port(), None
    try:
        gw = Instance(sink, main={
            "smtpd_tls_security_level": "may",
            "smtpd_tls_chain_files": keys.path("gw.pem")}, start=False)
        gw.edit("master.cf", lambda t: t +
                f"127.0.0.1:{submission} inet n - - - - smtpd\n"
                "  -o smtpd_tls_security_level=encrypt\n"
                "  -o smtpd_tls_auth_only=yes\n"
                "  -o syslog_name=postern/submission\n")
        gw.start()
        gw.ready()
        yield gw, {"smtp": gw.port, "submission": submission}
    finally:
        if gw:
            gw.destroy()
        sink.close()


COMMANDS = b"MAIL FROM:<evil@stranger.example>\r\n" \
    b"RCPT TO:<user@example.com>\r\nDATA\r\n"


@pytest.mark.parametrize("service", ["smtp", "submission"])
@pytest.mark.parametrize("parts", [
    (b"STARTTLS\r\n" + COMMANDS,), (b"STARTTLS\r\nEHLO x\r\n" + COMMANDS,),
    (b"STARTTLS\r\nAUTH PLAIN AGpvZQBwYXNz\r\n",), (b"STARTTLS\r\nE",),
    (b"START", b"TLS\r\nEHLO x\r\n"), (b"STARTTLS\n" + COMMANDS,),
    (b"NOOP\r\nSTARTTLS\r\nEHLO x\r\n",), (b"STARTTLS\r\nSTARTTLS\r\n",),
    (b"STARTTLS\r\n", None)], ids=lambda p: repr(b"|".join(
        x or b"hello" for x in p))[2:40])
def test_of_a_client(services, service, parts):
    """The session ends, whatever comes of the handshake."""
    gw, ports = services
    since = len(gw.log())
    with Client(ports[service]) as c:
        assert c.ehlo().code == 250
        c.send(b"".join(hello() if p is None else p for p in parts))
        try:
            codes = [c.reply().code for _ in range(8)]
        except Closed:
            codes = []
        assert 220 not in codes and 354 not in codes
        assert c.closed()
    gw.wait_log("improper command pipelining after (STARTTLS|NOOP)",
                since=since)
    assert "client=" not in gw.log()[since:]


@pytest.mark.parametrize("service", ["smtp", "submission"])
def test_nothing_is_kept(services, service):
    """What was said before TLS is forgotten (RFC 3207 section 4.2), and a
    transaction ends first."""
    gw, ports = services

    class Half(TlsClient):
        def cmd(self, text):
            if text == "STARTTLS":
                self.before = [super(Half, self).cmd(x).code for x in (
                    "MAIL FROM:<evil@stranger.example>",
                    "RCPT TO:<user@example.com>")]
                if service == "smtp":
                    assert super().cmd(text).code == 503
                    super().cmd("RSET")
            return super().cmd(text)
    with Half(ports[service]) as c:
        assert c.before == ([250, 250] if service == "smtp" else [530, 530])
        assert c.cmd("RCPT TO:<user@example.com>").code == 503
        assert c.cmd("DATA").code == 503
        assert c.message("a@client.example", "user@example.com",
                         mail(f"no name at {service}")).code == 250
    head = gw.sink.wait_subject(f"no name at {service}").header
    assert b"client.example (" not in head and b"with ESMTP" not in head
