"""Logins, encryption and certificates as filters hear of them: a filter behind
the gateway is told what Postfix tells it, and restrictions in postern-milter
inside Postfix say what those of the gateway say."""
import os

import pytest
from conftest import need_root
from pmilter_help import HAVE_POSTFIX, PosternMilter, Postfix
from postern import BIN, Client, Sink, mail
from sasl_help import DOVECOT, PASSWORD, Dovecot, plain
from test_policy import Daemon
from test_tls import Milter
from tls_help import Keys, TlsClient, context

pytestmark = [need_root, pytest.mark.skipif(
    not os.path.exists(DOVECOT) or not HAVE_POSTFIX,
    reason="needs Dovecot and Postfix")]
TOLD = {"{auth_type}", "{auth_authen}", "{auth_author}", "{tls_version}",
        "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}"}
# user, certificate (None: no TLS, "": TLS without one)
WHO = [(None, None), (None, ""), (None, "client"), (None, "stranger"),
       ("joe", None), ("joe", ""), ("joe", "client"),
       ("ann@example.com", "stranger")]
PASSWORDS = {"joe": PASSWORD, "ann@example.com": "ann's"}


@pytest.fixture(scope="module")
def dovecot():
    d = Dovecot()
    yield d
    d.destroy()


@pytest.fixture(scope="module")
def keys():
    k = Keys()
    k.cert("ca", "Test Authority", is_ca=True)
    k.cert("own", "gw.example.com", ca="ca")
    k.cert("client", "mail.client.example", ca="ca")
    k.cert("stranger", "stranger.example")
    yield k
    k.destroy()


def session(keys, port, user, cert):
    """A client that has said who it is."""
    if cert is None:
        c = Client(port)
    else:
        c = TlsClient(port, context(keys.path(cert + ".pem")
                                    if cert else None))
    c.ehlo()
    if user:
        r = c.cmd("AUTH PLAIN " + plain(user, PASSWORDS[user]))
        assert r.code == 235, r
    return c


def accounts(dovecot, keys):
    """What a gateway and Postfix have in common."""
    return {"smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": f"inet:127.0.0.1:{dovecot.port}",
            "smtpd_tls_security_level": "may", "smtpd_tls_ask_ccert": "yes",
            "smtpd_tls_CAfile": keys.path("ca.crt"),
            "smtpd_sasl_security_options": "noanonymous",
            "smtpd_error_sleep_time": "0", "smtpd_soft_error_limit": "1000",
            "smtpd_hard_error_limit": "1000"}


def inside_postfix(milter, sink, dovecot, keys):
    class WithAccounts(Postfix):
        lines = "".join(f"{k} = {v}\n" for k, v in {
            **accounts(dovecot, keys),
            "smtpd_tls_cert_file": keys.path("own.crt"),
            "smtpd_tls_key_file": keys.path("own.key"),
            "smtpd_authorized_xclient_hosts": ""}.items())
    return WithAccounts(milter, sink)


# -- a filter behind the gateway ---------------------------------------------


def mail_in_pieces(c, number):
    """A refused RCPT, RSET, and a message for whom AUTH= speaks."""
    assert c.cmd("MAIL FROM:<a@client.example>").code == 250
    assert c.cmd("RSET").code == 250
    assert c.cmd("MAIL FROM:<b@client.example>").code == 250
    assert c.cmd("RCPT TO:<user@example.com>").code == 250
    assert c.cmd("DATA").code == 354
    c.send(mail(f"number {number}") + b".\r\n")
    assert c.reply().code == 250
    r = c.cmd("MAIL FROM:<c@client.example> AUTH=for+2Bme@client.example")
    return r.code


def heard(keys, port, milter, user, cert):
    """Of all commands but the connection, in order: those macros that tell
    who it is."""
    del milter.macros[:]
    with session(keys, port, user, cert) as c:
        code = mail_in_pieces(c, 1)
        c.cmd("QUIT")
    # the last one's are there once it has been answered
    assert code == 250
    told = [(kind, {k: v for k, v in m.items() if k in TOLD})
            for kind, m in milter.macros if kind in b"HM"]
    authors = [m.pop("{auth_author}", None) for kind, m in told
               if kind == b"M"]
    # a gateway says nothing where there is nothing to say
    return [t for t in told if t[0] == b"M" or t[1]], code, authors


def test_filter_hears_what_postfix_tells(make, sink, dovecot, keys):
    filters = [Milter(), Milter()]
    for m in filters:
        m.socket = f"inet:{m.port}@127.0.0.1"
    gw = make(sink, main={
        **accounts(dovecot, keys),
        "smtpd_tls_chain_files": keys.path("own.pem"),
        "smtpd_milters": f"inet:127.0.0.1:{filters[0].port}"})
    other = Sink()
    peer = inside_postfix(filters[1], other, dovecot, keys)
    try:
        for user, cert in WHO:
            ours, code, authors = heard(keys, gw.port, filters[0], user, cert)
            assert (ours, code) == heard(keys, peer.port, filters[1], user,
                                         cert)[:2], (user, cert)
            last = [m for kind, m in ours if kind == b"M"]
            assert len(last) >= 2
            assert all(m.get("{auth_authen}") == user for m in last)
            assert all(m.get("{auth_type}") == ("PLAIN" if user else None)
                       for m in last)
            # Postfix tells it of strangers too, and as it came
            assert authors[-3:] == [None, None, "for+me@client.example"
                                    if user else None]
            hello = [{}, *(m for kind, m in ours if kind == b"H")][-1]
            assert ("{tls_version}" in hello) == (cert is not None)
            assert hello.get("{cert_subject}") == (
                "mail.client.example" if cert == "client" else None)
            assert hello.get("{cert_issuer}") == (
                "Test Authority" if cert == "client" else None)
    finally:
        peer.destroy()
        other.close()
        for m in filters:
            m.listener.close()


# -- restrictions inside Postfix ---------------------------------------------

# one for each local part of a recipient
LISTS = {
    "login": "permit_sasl_authenticated, reject",
    "mismatch": "reject_sender_login_mismatch",
    "mismatchin": "reject_authenticated_sender_login_mismatch",
    "mismatchout": "reject_unauthenticated_sender_login_mismatch",
    "known": "reject_known_sender_login_mismatch",
    "cert": "permit_tls_all_clientcerts, reject",
    "plain": "reject_plaintext_session",
}
SENDERS = ["joe@client.example", "ann@client.example",
           "nobody@client.example", ""]
# what a policy service hears of who it is
ATTRIBUTES = ("sasl_method", "sasl_username", "sasl_sender", "ccert_subject",
              "ccert_issuer", "encryption_protocol", "encryption_cipher",
              "encryption_keysize", "sender", "recipient", "helo_name",
              "protocol_state")


def restricted(service):
    return {
        "relay_domains": "example.com",
        "relay_recipient_maps": "",
        "smtpd_restriction_classes": ", ".join("c_" + n for n in LISTS),
        **{"c_" + n: v for n, v in LISTS.items()},
        "smtpd_sender_login_maps": "inline:{joe@client.example=joe, "
        "ann@client.example=ann@example.com}",
        "smtpd_relay_restrictions": "reject_unauth_destination",
        "smtpd_reject_unlisted_recipient": "no",
        "smtpd_recipient_restrictions": "check_recipient_access inline:{" +
        ", ".join(f"{n}@example.com=c_{n}" for n in LISTS) +
        "}, check_policy_service " + service.spec}


def said(keys, port, user, cert):
    """All replies, and of a message in the end."""
    out = []
    with session(keys, port, user, cert) as c:
        for sender in SENDERS:
            assert c.cmd(f"MAIL FROM:<{sender}>").code == 250
            out += [(sender, n, c.cmd(f"RCPT TO:<{n}@example.com>").text)
                    for n in (*LISTS, "user")]
            assert c.cmd("RSET").code == 250
    return out


def told(service):
    out = [{k: a.get(k, "") for k in ATTRIBUTES} for a in service.asked]
    del service.asked[:]
    return out


@pytest.mark.skipif(not os.path.exists(f"{BIN}/postern-milter"),
                    reason="no libmilter-dev")
def test_same_verdicts_inside_postfix(make, sink, dovecot, keys):
    service, other = Daemon(lambda attributes: "DUNNO"), Sink()
    settings = restricted(service)
    gw = make(sink, main={
        **accounts(dovecot, keys), **settings,
        "smtpd_tls_chain_files": keys.path("own.pem")})
    m, peer = PosternMilter(main={
        **settings, "postern_milter_restrictions": "smtpd_relay_restrictions "
        "smtpd_recipient_restrictions"}, start=False), None
    try:
        m.start()
        peer = inside_postfix(m, other, dovecot, keys)
        texts = set()
        for user, cert in WHO:
            ours = said(keys, gw.port, user, cert)
            asked = told(service)
            assert ours == said(keys, peer.port, user, cert), (user, cert)
            assert asked == told(service), (user, cert)
            assert asked[-1]["sasl_username"] == (user or "")
            texts |= {(n, t[:3]) for _, n, t in ours}
        # each of the lists has let pass, and has refused
        assert all({(n, "250")} < {t for t in texts if t[0] == n}
                   for n in LISTS), texts
        assert ("user", "250") in texts and len(texts) >= 15
    finally:
        if peer:
            peer.destroy()
        m.destroy()
        other.close()
        service.close()
