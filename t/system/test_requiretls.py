"""REQUIRETLS and TLS-Required (RFC 8689): what clients may ask for, and to
which servers such mail goes."""
import os

import pytest

from postern import HOSTNAME, mail, run, wait_for
from test_relay import (BOUNCED, CONNECT, DEFERRED, NONE, SENT, Server,
                        script)
from test_relay_sts import NO_POLICY, POLICY, StsRelay
from test_relay_tls import (Relay, ServerKeys, conf, context, secure,
                            starttls)
from sts_help import policy
from test_aliases import Names
from test_lmtp import Gateway
from test_submit import sendmail
from tls_help import TlsClient

REQUIRE, OPTIONAL = 1 << 4, 1 << 5
OFFERS = "250-inside\r\n250-REQUIRETLS\r\n250 8BITMIME"
LACKS_NOT = "250-inside\r\n250 8BITMIME"


@pytest.fixture(scope="module")
def keys():
    k = ServerKeys()
    try:
        k.cert("ca", "Test Authority", is_ca=True)
        k.cert("self", "inside.example")
        k.named("inside", "x", names=["mx.example.org"], ips=["127.0.0.1"])
        k.cert("gw", "gw.example.com")
        yield k
    finally:
        k.destroy()


def relay(keys, level="secure", want="enforce", **more):
    return Relay(**conf(keys, level, smtp_requiretls_policy=want, **more))


def said(server, verb="MAIL"):
    return [line for c in server.conns for line in c.got
            if line.startswith(verb)]


# -- the relay ---------------------------------------------------------------

# level, policy, server's certificate (None: no TLS), its EHLO within TLS,
# how it ends, the end of tls=, is the parameter said
CASES = [
    ("secure", "enforce", "inside", OFFERS, SENT, "secure/requiretls", True),
    ("may", "enforce", "inside", OFFERS, BOUNCED,
     "may/requiretls:nocertmatch", False),
    ("may", "enforce", "self", OFFERS, BOUNCED,
     "may/requiretls:nocertmatch", False),
    ("encrypt", "enforce", "inside", OFFERS, BOUNCED,
     "encrypt/requiretls:nocertmatch", False),
    ("secure", "enforce", "inside", LACKS_NOT, BOUNCED,
     "secure/requiretls:none", False),
    ("may", "enforce", None, None, BOUNCED, "may:none/requiretls:nostarttls",
     False),
    ("may", "opportunistic+starttls", None, None, BOUNCED,
     "may:none/requiretls:nostarttls", False),
    ("may", "opportunistic+starttls", "self", LACKS_NOT, SENT,
     "may/requiretls:none", False),
    ("may", "opportunistic+starttls", "self", OFFERS, SENT,
     "may/requiretls:nocertmatch", True),
    ("may", "opportunistic", None, None, SENT,
     "may:none/requiretls:nostarttls", False),
    ("may", "opportunistic", "inside", OFFERS, SENT,
     "may/requiretls:nocertmatch", True),
    ("may", "disable", "inside", OFFERS, SENT, "may", False),
]


@pytest.mark.parametrize("level,want,cert,ehlo,end,word,asked", CASES)
def test_relay(keys, level, want, cert, ehlo, end, word, asked):
    # Offered without TLS, it is anybody's word.
    talk = script(["REQUIRETLS"]) if cert is None else starttls(
        context(keys, cert), EHLO=ehlo,
        before="250-inside\r\n250-REQUIRETLS\r\n250 STARTTLS")
    with Server(talk) as server, relay(keys, level, want) as r:
        got = r.send(server.hop, flags=REQUIRE)
        assert got.status == end, got.reason
        r.wait_log(rf", tls={word}, dsn={'2.0.0' if end == SENT else '5.7.30'}")
        if end == SENT:
            assert said(server) == ["MAIL FROM:<a@example.com>" +
                                    " REQUIRETLS" * asked]
        else:
            assert said(server) == []
            assert (got.dsn, got.trouble) == ("5.7.30", NONE)
            assert got.reason.startswith(
                "REQUIRETLS support required, but host 127.0.0.1[127.0.0.1] ")


def test_not_required(keys):
    """What is offered is not asked for without need."""
    with Server(starttls(context(keys, "inside"), EHLO=OFFERS)) as server, \
            relay(keys) as r:
        assert r.send(server.hop).status == SENT
        assert said(server) == ["MAIL FROM:<a@example.com>"]
        r.wait_log("tls=secure, dsn")
    with Server(starttls(context(keys, "inside"), EHLO=OFFERS)) as server, \
            relay(keys, requiretls_enable="no") as r:
        assert r.send(server.hop, flags=REQUIRE).status == SENT
        assert said(server) == ["MAIL FROM:<a@example.com>"]


def test_the_default_policy(keys):
    """A server inside, by its address, need not know it."""
    with Server(script()) as server, Relay(**conf(keys, "may")) as r:
        assert r.send(server.hop, flags=REQUIRE).status == SENT


@pytest.mark.parametrize("offer", [True, False])
def test_another_server(keys, offer):
    """One that does not know it is not the last word."""
    ctx = context(keys, "inside")
    with Server(starttls(ctx, EHLO=LACKS_NOT)) as a, \
            Server(starttls(ctx, EHLO=OFFERS if offer else LACKS_NOT)) as b, \
            relay(keys) as r:
        got = r.send(f"{a.hop}, {b.hop}", flags=REQUIRE)
        assert said(a) == [] and b.connections == 1
        assert (got.status, got.dsn) == ((SENT, "2.0.0") if offer else (
            BOUNCED, "5.7.30")), got.reason


@pytest.mark.parametrize("first", [True, False])
def test_another_server_is_down(keys, first):
    """It may know it: mail waits."""
    with Server(starttls(context(keys, "inside"), EHLO=LACKS_NOT)) as a, \
            relay(keys) as r:
        hops = ["[127.0.0.1]:1", a.hop]
        got = r.send(", ".join(hops if first else hops[::-1]), flags=REQUIRE)
        assert got.status == DEFERRED and said(a) == []


def test_man_in_the_middle(keys):
    """With a certificate of his own, or without STARTTLS: mail waits until he
    is gone."""
    with Server(starttls(context(keys, "self"), EHLO=OFFERS)) as server, \
            relay(keys) as r:
        got = r.send(server.hop, flags=REQUIRE)
        assert (got.status, got.dsn, got.trouble) == (DEFERRED, "4.7.5",
                                                      CONNECT)
        assert said(server) == []
        r.wait_log("tls=secure:encrypt/requiretls:none, dsn=4")
    with Server(script(["REQUIRETLS"])) as server, relay(keys) as r:
        got = r.send(server.hop, flags=REQUIRE)
        assert (got.status, got.dsn) == (DEFERRED, "4.7.4")
        assert said(server) == []


def test_the_parameter_is_refused(keys):
    """It is not tried without."""
    with Server(starttls(context(keys, "inside"), EHLO=OFFERS,
                         MAIL="555 5.5.4 what?")) as server, relay(keys) as r:
        got = r.send(server.hop, flags=REQUIRE)
        assert (got.status, got.dsn) == (BOUNCED, "5.5.4")
        assert said(server) == ["MAIL FROM:<a@example.com> REQUIRETLS"]


def test_kept_sessions(keys):
    """One that will not do is not used, and stays for others."""
    replies = [LACKS_NOT, OFFERS]

    def ehlo(c, line):
        return replies[min(len(server.conns), 2) - 1]
    with Server(starttls(context(keys, "inside"), EHLO=ehlo)) as server, \
            relay(keys, smtp_connection_cache_time_limit="60s") as r:
        assert r.send(server.hop).status == SENT
        r.idle()
        assert r.send(server.hop, flags=REQUIRE).status == SENT
        r.idle(2)
        assert server.connections == 2
        assert r.send(server.hop, flags=REQUIRE).status == SENT
        r.idle(2)
        assert r.send(server.hop).status == SENT
        assert server.connections == 2
        assert len([m for m in said(server) if "REQUIRETLS" in m]) == 2


def test_notifications(keys):
    """They ask for it where it is known, and are not lost where not."""
    with Server(script()) as server, relay(keys, "may") as r:
        assert r.send(server.hop, sender="", flags=REQUIRE).status == SENT
        assert r.send(server.hop, sender="double-bounce@gw.example.com",
                      flags=REQUIRE).status == SENT
        assert said(server) == ["MAIL FROM:<>",
                                "MAIL FROM:<double-bounce@gw.example.com>"]
    with Server(starttls(context(keys, "inside"), EHLO=OFFERS)) as server, \
            relay(keys) as r:
        assert r.send(server.hop, sender="", flags=REQUIRE).status == SENT
        assert said(server) == ["MAIL FROM:<> REQUIRETLS"]
    with Server(script()) as server, \
            relay(keys, "may", requiretls_redact_dsn="no") as r:
        assert r.send(server.hop, sender="", flags=REQUIRE).dsn == "5.7.30"


def test_a_policy_that_cannot_be_had(keys):
    with Server(script()) as server, relay(keys, want="fail:x") as r:
        got = r.send(server.hop, flags=REQUIRE)
        assert (got.status, got.dsn, got.reason) == (
            DEFERRED, "4.7.5", "REQUIRETLS policy lookup error")
        assert server.connections == 0
        # that concerns nobody else
        assert r.send(server.hop).dsn == "4.7.4"


def test_mta_sts(keys):
    """The policy of a domain is proof, and without one there is none."""
    for answer, text, end in ((POLICY, policy("mx.example.org"), SENT),
                              (POLICY, policy("mx.example.org",
                                              mode="testing"), BOUNCED),
                              (NO_POLICY, b"", BOUNCED)):
        with Server(starttls(context(keys, "inside"), EHLO=OFFERS)) as server, \
                StsRelay(keys, smtp_requiretls_policy="enforce") as r:
            r.deliver(f"example.org:{server.port}", flags=REQUIRE)
            r.told(r.asked(), answer, text)
            r.route(("mx.example.org", "127.0.0.1"))
            got = r.result()
            assert got.status == end, got.reason
            assert len(said(server)) == (end == SENT)


# -- TLS-Required: no -----------------------------------------------------------

def test_optional(keys):
    """Neither names nor TLS itself are insisted on."""
    for talk in (script(), starttls(context(keys, "self"))):
        with Server(talk) as server, relay(keys) as r:
            assert r.send(server.hop, flags=OPTIONAL).status == SENT
            r.wait_log("tls=may")
            # as they are for others
            assert r.send(server.hop).status == DEFERRED
            # and for mail that asks for both
            assert r.send(server.hop,
                          flags=OPTIONAL | REQUIRE).status == DEFERRED
    with Server(script()) as server, \
            relay(keys, tls_required_enable="no") as r:
        assert r.send(server.hop, flags=OPTIONAL).dsn == "4.7.4"
    with Server(starttls(context(keys, "self"))) as server, \
            relay(keys, "none") as r:
        assert r.send(server.hop, flags=OPTIONAL).status == SENT
        assert said(server, "STARTTLS") == []


def test_optional_needs_no_policy(keys, tmp_path):
    with Server(script()) as server, \
            relay(keys, smtp_tls_policy_maps="fail:x") as r:
        assert r.send(server.hop, flags=OPTIONAL).status == SENT
        assert r.send(server.hop).dsn == "4.7.5"
    table = tmp_path / "policy"
    with Server(starttls(context(keys, "self"))) as server:
        table.write_text(f"{server.hop} none\n")
        with relay(keys, smtp_tls_policy_maps=f"texthash:{table}") as r:
            assert r.send(server.hop, flags=OPTIONAL).status == SENT
            assert said(server, "STARTTLS") == []
            table.write_text("")
    with Server(script()) as server, StsRelay(keys) as r:
        # nobody is asked for MTA-STS
        r.deliver(f"example.org:{server.port}", flags=OPTIONAL)
        r.route(("mx.example.org", "127.0.0.1"))
        assert r.result().status == SENT


# -- a gateway ------------------------------------------------------------------

@pytest.fixture
def gateway(make, keys):
    def gateway(sink=None, **main):
        return make(sink, main={
            "smtpd_tls_security_level": "may",
            "smtpd_tls_chain_files": keys.path("gw.pem"), **main})
    return gateway


def send(c, *rcpts, sender="a@client.example", text=None, parameter=True):
    assert c.ehlo().code == 250
    r = c.cmd(f"MAIL FROM:<{sender}>" + " REQUIRETLS" * parameter)
    assert r.code == 250, r
    for rcpt in rcpts or ("user@example.com",):
        assert c.cmd(f"RCPT TO:<{rcpt}>").code == 250
    assert c.cmd("DATA").code == 354
    c.send((text or mail("for tls")) + b".\r\n")
    r = c.reply()
    assert r.code == 250, r
    return r.text.split()[-1]


def shown(gw, qid):
    return run(gw.build + "/bin/postcat", "-c", gw.etc, "-qeh", qid).stdout


def test_offered_within_tls(gateway, sink):
    gw = gateway(sink)
    with gw.client() as c:
        assert "REQUIRETLS" not in c.ehlo().text
        r = c.cmd("MAIL FROM:<a@client.example> REQUIRETLS")
        assert r.code == 555, r
    with TlsClient(gw.port) as c:
        # it has not said so yet
        r = c.ehlo()
        assert "\n250-REQUIRETLS" in r.text or "REQUIRETLS" in r.text
        for bad in ("REQUIRETLS=yes", "REQUIRETLS2"):
            assert c.cmd(f"MAIL FROM:<a@client.example> {bad}").code == 555
        send(c)
    m = sink.wait_subject("for tls")
    assert m.field("Require-TLS-ESMTP") == "yes"


@pytest.mark.parametrize("main", [
    {"requiretls_enable": "no"},
    {"smtpd_discard_ehlo_keywords": "requiretls"},
    {"smtpd_discard_ehlo_keyword_address_maps":
     "inline:{ { 127.0.0.1 = requiretls } }"}])
def test_not_offered(gateway, sink, main):
    gw = gateway(sink, **main)
    with TlsClient(gw.port) as c:
        assert "REQUIRETLS" not in c.ehlo().text
        assert c.cmd("MAIL FROM:<a@client.example> REQUIRETLS").code == 555


def test_it_is_kept(gateway, sink):
    """In the queue, through kill -9, and by who reads the queue."""
    later = []
    sink.on = lambda verb, argument: (
        "451 4.3.0 later" if verb == "RCPT" and not later else None)
    gw = gateway(sink, queue_run_delay="1s", minimal_backoff_time="1s",
                 maximal_backoff_time="1s")
    gw.expect_log(r"signal 9|killed by signal|restart|throttl")
    with TlsClient(gw.port) as c:
        required = send(c, text=mail("required"))
        plain = send(c, text=mail("plain"), parameter=False)
        relaxed = send(c, text=mail("relaxed", **{"TLS-Required": "No"}),
                       parameter=False)
        both = send(c, text=mail("both", **{"TLS-Required": "No"}))
    for qid in (required, plain, relaxed, both):
        gw.wait_log(qid + r": .*status=deferred")
    gw.kill("qmgr")
    gw.wait_log("qmgr.*(signal 9|killed)")
    wait_for("all four", lambda: all(
        "sender: " in run(gw.build + "/bin/postcat", "-c", gw.etc, "-qe", q,
                          check=False).stdout
        for q in (required, plain, relaxed, both)))
    for qid, require, relax in ((required, 1, 0), (plain, 0, 0),
                                (relaxed, 0, 1), (both, 1, 1)):
        text = shown(gw, qid)
        assert text.count("\nrequiretls: yes\n") == require, text
        assert text.count("\ntls_required: no\n") == relax, text
    later.append(1)
    for subject in ("required", "plain", "relaxed", "both"):
        sink.wait_subject(subject)
    gw.wait_log(required + r": .* tls=may:none/requiretls:nostarttls, dsn=2")
    gw.wait_log(plain + r": .* tls=may:none, dsn=2")


def test_bounce(gateway, sink):
    """No more than the header comes back, even if all was asked for."""
    gw = gateway(sink, smtp_requiretls_policy="inline:{ {[x] = disable} } "
                 "enforce", smtp_tls_security_level="may")
    with TlsClient(gw.port) as c:
        assert c.ehlo().code == 250
        assert c.cmd("MAIL FROM:<b@example.com> RET=FULL REQUIRETLS"
                     ).code == 250
        assert c.cmd("RCPT TO:<user@example.com>").code == 250
        assert c.cmd("DATA").code == 354
        c.send(mail("secret", b"the body\r\n") + b".\r\n")
        assert c.reply().code == 250
    m = sink.wait_subject("Undelivered Mail Returned to Sender")
    assert m.sender == ""
    assert b"the body" not in m.text and b"secret" in m.text
    assert b"Status: 5.7.30\r\n" in m.text
    assert b"text/rfc822-headers" in m.text
    gw.wait_log(r"to=<b@example\.com>, .*/requiretls:nostarttls, dsn=2")


def refuse(sink):
    sink.on = lambda verb, argument: "550 5.1.1 no" if (
        verb == "RCPT" and "x@" in str(argument)) else None


def test_bounce_whole(gateway, sink):
    refuse(sink)
    gw = gateway(sink, requiretls_redact_dsn="no")
    with TlsClient(gw.port) as c:
        send(c, "x@example.com", sender="b@example.com",
             text=mail("all", b"the body\r\n"))
    m = sink.wait_subject("Undelivered Mail Returned to Sender")
    assert b"the body" in m.text


def test_bounce_of_what_needs_no_tls(gateway, sink):
    refuse(sink)
    gw = gateway(sink)
    with TlsClient(gw.port) as c:
        send(c, "x@example.com", sender="b@example.com", parameter=False,
             text=mail("any", **{"TLS-Required": "No"}))
        send(c, "x@example.com", sender="c@example.com",
             text=mail("both", **{"TLS-Required": "No"}))
    wait_for("two", lambda: len(sink.messages) == 2)
    got = {m.rcpts[0]: m for m in sink.messages}
    assert got["b@example.com"].field("TLS-Required") == "no"
    assert got["c@example.com"].field("TLS-Required") is None


def test_sendmail(gateway, sink):
    gw = gateway(sink)
    for args, text, word in (
            (["-Orequiretls=yes"], mail("one"), "/requiretls:nostarttls"),
            (["-O", "RequireTLS=no"], mail("two"), ""),
            (["-ODeliveryMode=d"], mail("three"), ""),
            ([], mail("four", **{"Require-TLS-ESMTP": "yes"}),
             "/requiretls:nostarttls")):
        subject = text.split(b"Subject: ")[1].split(b"\r\n")[0].decode()
        sendmail(gw, "-f", "a@example.com", *args, f"{subject}@example.com",
                 text=text)
        sink.wait_subject(subject)
        gw.wait_log(rf"to=<{subject}@example\.com>.*tls=may:none{word}, dsn=2")
    sendmail(gw, "-Orequiretls=perhaps", "a@example.com", status=os.EX_USAGE)
    assert sink.find("three")[0].field("Require-TLS-ESMTP") is None


def test_forwarded(keys):
    """What an alias or a map stands for gets it as it was asked for."""
    with Names("list: user@example.com\n", smtpd_tls_security_level="may",
               smtpd_tls_chain_files=keys.path("gw.pem"),
               smtp_tls_security_level="may",
               virtual_alias_maps="inline:{ { v@example.com = "
               "w@example.com } }") as gw:
        with TlsClient(gw.port) as c:
            send(c, f"list@{HOSTNAME}", text=mail("by alias"))
            send(c, "v@example.com", text=mail("by map"))
        for to in ("user", "w"):
            gw.wait_log(rf"to=<{to}@example\.com>.*/requiretls:nostarttls, "
                        r"dsn=4")


# -- LMTP -------------------------------------------------------------------------

def lmtp_talk(ctx, offers):
    """A server with STARTTLS, and REQUIRETLS within TLS or not."""
    def talk(c):
        c.say("220 inside LMTP")
        tls = False
        while True:
            line = c.line()
            verb = line[:4].upper()
            if verb == "LHLO":
                c.say(offers if tls else "250-inside\r\n250 STARTTLS")
            elif verb == "STAR":
                c.say("220 go")
                secure(c, ctx)
                tls = True
            elif verb == "DATA":
                c.say("354 go on")
                c.text()
                c.say("250 2.1.5 saved")
            else:
                c.say("221 bye" if verb == "QUIT" else "250 Ok")
                if verb == "QUIT":
                    return
    return talk


def test_lmtp(keys):
    """Its own parameters hold; what smtp_tls_* say has no effect on it."""
    more = dict(smtpd_tls_security_level="may",
                smtpd_tls_chain_files=keys.path("gw.pem"),
                smtp_tls_security_level="none",
                lmtp_tls_CAfile=keys.path("ca.crt"))
    for cert, level, want, offers, word, param in (
            ("inside", "secure", "enforce", OFFERS, "secure/requiretls", True),
            ("self", "may", "opportunistic", LACKS_NOT,
             "may/requiretls:none", False),
            ("inside", "secure", "enforce", LACKS_NOT,
             "secure/requiretls:none", None),
            ("self", "secure", "opportunistic", OFFERS,
             "secure:encrypt/requiretls:none", None)):
        with Server(lmtp_talk(context(keys, cert), offers)) as server, \
                Gateway(virtual_transport=f"lmtp:inet:{server.hop}",
                        lmtp_tls_security_level=level,
                        lmtp_requiretls_policy=want, **more) as gw:
            gw.up()
            with TlsClient(gw.port) as c:
                send(c, "a@box.example")
            gw.wait_log(rf"to=<a@box\.example>, .* tls={word}, dsn="
                        f"{'[45]' if param is None else '2'}")
            got = said(server)
            assert len(got) == (param is not None)
            assert all(("REQUIRETLS" in m) == param for m in got)
