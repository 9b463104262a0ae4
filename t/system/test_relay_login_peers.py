"""Logins of the relay at real mail servers: Debian's Postfix with Dovecot, Cyrus
SASL, and Exim."""
import os
import re
import shutil
import socket
import subprocess

import pytest

from postern import BUILD, LIBEXEC, TOP, free_port, mail, wait_for
from sasl_help import DOVECOT, PASSWORD, Dovecot
from test_message import Inside
from test_relay_login import hidden, secret
from test_relay_tls import keys  # noqa: F401
from test_sasl_cyrus import configure, place, settings  # noqa: F401

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("postfix") or
    not os.path.exists(DOVECOT), reason="needs root, Postfix and Dovecot")
WANTS_LOGIN = """
smtpd_sasl_auth_enable = yes
smtpd_sasl_authenticated_header = yes
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
smtpd_tls_security_level = may
smtpd_sasl_security_options = noanonymous
"""


def with_tls(keys, name="inside"):  # noqa: F811
    return (f"smtpd_tls_cert_file = {keys.path(name + '.crt')}\n"
            f"smtpd_tls_key_file = {keys.path(name + '.key')}\n")


@pytest.fixture(scope="module")
def dovecot(keys):  # noqa: F811
    auth = Dovecot("plain login cram-md5 scram-sha-1 scram-sha-256")
    try:
        server = Inside("postfix", "mail/inbox", WANTS_LOGIN + with_tls(keys) +
                        "smtpd_sasl_type = dovecot\n"
                        f"smtpd_sasl_path = {auth.socket}\n")
        yield server
        server.stop()
    finally:
        auth.destroy()


@pytest.fixture(scope="module")
def exim(keys):  # noqa: F811
    if not os.path.isdir(f"{TOP}/build/peers/exim"):
        pytest.skip("Exim is not unpacked")

    def setup(where):
        os.makedirs(where + "/etc/exim4")
        for name in ("inside.crt", "inside.key"):
            shutil.copy(keys.path(name), where + "/etc/exim4")
            os.chmod(f"{where}/etc/exim4/{name}", 0o644)
    server = Inside("exim", "var/mail/inbox", setup=setup, env={
        "EXIM_MAIN": "tls_advertise_hosts = *\n"
        "tls_certificate = /etc/exim4/inside.crt\n"
        "tls_privatekey = /etc/exim4/inside.key\n"
        "log_selector = +smtp_protocol_error",
        "EXIM_AUTH": f"""
begin authenticators
p:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{joe}}}}\
{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
l:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{joe}}}}\
{{eq{{$auth2}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth1
c:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{if eq{{$auth1}}{{joe}}{{{PASSWORD}}}fail}}
  server_set_id = $auth1
"""})
    yield server
    server.stop()


def gateway(make, keys, inside, password=PASSWORD, **more):  # noqa: F811
    gw = make(relay=f"127.0.0.1:{inside.port}", start=False, main={
        "smtp_sasl_auth_enable": "yes", "smtp_tls_security_level": "secure",
        "smtp_tls_CAfile": keys.path("ca.crt"),
        "smtp_tls_secure_cert_match": "inside.example",
        "smtp_sasl_tls_verified_security_options": "noanonymous", **more})
    gw.set(smtp_sasl_password_maps=f"texthash:{gw.path('passwd')}")
    secret(gw, "passwd", f"[127.0.0.1]:{inside.port} joe:{password}\n")
    gw.start()
    return gw


def through(gw, inside, subject):
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", ["user@example.com"],
                         mail(subject)).code == 250
    box = inside.wait_text(f"Subject: {subject}".encode())
    gw.wait_log(r"status=sent")
    hidden(gw, PASSWORD, "s3cret")
    return box.decode(errors="replace").split("\nFrom ")[-1]


POSTFIX_LOG = r"sasl_method=(\S+), sasl_username=(\S+)"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5",
                                       "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_postfix(make, keys, dovecot, mechanism):  # noqa: F811
    inside = dovecot
    gw = gateway(make, keys, inside, smtp_sasl_mechanism_filter=mechanism)
    box = through(gw, inside, f"by {mechanism} to Dovecot")
    assert "(Authenticated sender: joe)" in box
    with open(inside.dir + "/maillog") as f:
        method, user = re.findall(POSTFIX_LOG, f.read())[-1]
    assert (method, user) == (mechanism, "joe")


def test_the_best_is_taken(make, keys, dovecot):  # noqa: F811
    gw = gateway(make, keys, dovecot)
    through(gw, dovecot, "the best")
    with open(dovecot.dir + "/maillog") as f:
        assert re.findall(POSTFIX_LOG, f.read())[-1][0] == "SCRAM-SHA-256"


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_wrong_password(make, keys, dovecot, mechanism):  # noqa: F811
    gw = gateway(make, keys, dovecot, password="wrong-canary",
                 smtp_sasl_mechanism_filter=mechanism)
    gw.expect_log("authentication failed")
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", ["user@example.com"],
                         mail("wrong")).code == 250
    gw.wait_log(r"dsn=4\.7\.8, status=deferred \(SASL authentication failed; "
                r"server 127\.0\.0\.1\[127\.0\.0\.1\] said: 535 5\.7\.8 ")
    gw.wait_log(f"SASL {mechanism} authentication failed for user joe")
    assert b"Subject: wrong\n" not in dovecot.mailbox()
    hidden(gw, "wrong-canary")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_exim(make, keys, exim, mechanism):  # noqa: F811
    gw = gateway(make, keys, exim, smtp_sasl_mechanism_filter=mechanism)
    box = through(gw, exim, f"by {mechanism} to exim")
    assert re.search(r"with esmtpsa", box), box


@pytest.mark.skipif(not os.path.exists(f"{LIBEXEC}/auth-cyrus"),
                    reason="needs libsasl2-dev")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5",
                                       "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_cyrus_sasl(make, sink, place, mechanism):  # noqa: F811
    """Postern is the server too; the library judges."""
    configure(place, "peer", "pwcheck_method: auxprop\nauxprop_plugin: "
              f"sasldb\nsasldb_path: {place}/sasldb2\nmech_list: PLAIN LOGIN "
              "CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256\n")
    server = make(sink, main=settings(
        sink, place, "peer", smtpd_sasl_security_options="noanonymous",
        smtpd_recipient_restrictions="permit_sasl_authenticated, reject"))
    gw = make(relay=f"127.0.0.1:{server.port}", start=False, main={
        "smtp_sasl_auth_enable": "yes", "myhostname": "other.example.com",
        "smtp_sasl_security_options": "noanonymous",
        "smtp_sasl_mechanism_filter": mechanism})
    gw.set(smtp_sasl_password_maps=f"texthash:{gw.path('passwd')}")
    secret(gw, "passwd", f"[127.0.0.1]:{server.port} joe:{PASSWORD}\n")
    gw.start()
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", ["user@example.com"],
                         mail(f"by {mechanism}")).code == 250
    sink.wait_subject(f"by {mechanism}")
    server.wait_log(f"sasl_method={mechanism}, sasl_username=joe")
    hidden(gw, PASSWORD)


# -- channel binding ---------------------------------------------------------

SCRAMD = f"{BUILD}/t/tools/scramd"
BOUND = pytest.mark.skipif(not os.path.exists(SCRAMD),
                           reason="needs libsasl2-dev")


@pytest.fixture
def scramd(keys, place):  # noqa: F811
    running = []

    def start(*options):
        port = free_port()
        with open(place + "/scramd", "w") as said:
            p = subprocess.Popen(
                [SCRAMD, str(port), keys.path("inside.pem"),
                 place + "/sasldb2", "gw.example.com", *options], stderr=said)
        running.append(p)

        def listens():
            assert p.poll() is None
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return True
            except ConnectionError:
                return False
        wait_for("scramd", listens)
        return port
    yield start
    for p in running:
        p.kill()
        p.wait()


def said(place):  # noqa: F811
    with open(place + "/scramd") as f:
        return f.read()


@BOUND
@pytest.mark.parametrize("binding", ["tls-exporter", "tls-server-end-point"])
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256-PLUS",
                                       "SCRAM-SHA-1-PLUS"])
@pytest.mark.parametrize("wrong", [False, True])
def test_bound(make, keys, scramd, place, binding,  # noqa: F811
               mechanism, wrong):
    """Cyrus SASL compares with what the server's OpenSSL says."""
    gw = make(relay=f"127.0.0.1:{scramd(binding, *['wrong'] * wrong)}",
              start=False, main={
        "smtp_sasl_auth_enable": "yes", "smtp_tls_security_level": "encrypt",
        "smtp_tls_loglevel": "1", "smtp_connection_cache_on_demand": "no",
        "smtp_sasl_mechanism_filter": mechanism})
    gw.set(smtp_sasl_password_maps=f"texthash:{gw.path('passwd')}")
    secret(gw, "passwd", f"127.0.0.1 joe:{PASSWORD}\n")
    if wrong:
        gw.expect_log("authentication failed")
    gw.start()
    # of a resumed session the binding is another
    for n in range(2):
        with gw.client() as c:
            c.ehlo()
            assert c.message("a@client.example", ["user@example.com"],
                             mail("bound")).code == 250
        if wrong:
            gw.wait_log(r"status=deferred \(SASL authentication failed; ")
            break
        wait_for("it is sent", lambda: gw.log().count(
            "status=sent (250 2.0.0 Ok)") == n + 1)
    if wrong:
        assert "Channel bindings mismatch" in said(place)
    else:
        assert f"{mechanism} {binding}: " in said(place)
        gw.wait_log("TLS connection reused")
    hidden(gw, PASSWORD)
