"""The services submission and submissions as they are shipped, with Dovecot,
for swaks and Python's smtplib."""
import os
import re
import shutil
import smtplib
import subprocess

import pytest
from postern import SLOW, Client, free_port, mail
from sasl_help import DOVECOT, PASSWORD, Dovecot, plain
from tls_help import Keys, TlsClient, context

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not os.path.exists(DOVECOT),
    reason="needs root and Dovecot")


@pytest.fixture(scope="module")
def keys():
    k = Keys()
    k.cert("own", "gw.example.com")
    yield k
    k.destroy()


@pytest.fixture(scope="module")
def dovecot():
    d = Dovecot()
    yield d
    d.destroy()


@pytest.fixture
def gw(make, sink, dovecot, keys):
    """gw.submission and gw.submissions are ports."""
    gw = make(sink, start=False, main={
        "smtpd_tls_security_level": "may",
        "smtpd_tls_chain_files": keys.path("own.pem"),
        "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": dovecot.socket,
        "smtpd_sender_login_maps": "inline:{{joe@example.com=joe}, "
        "{ann@example.com=ann@example.com}}",
        # what holds for strangers does not for those who log in
        "smtpd_client_restrictions": "reject",
        "smtpd_helo_restrictions": "reject",
        "smtpd_recipient_restrictions": "reject",
        "relayhost": f"[127.0.0.1]:{sink.port}"})
    gw.submission, gw.submissions = free_port(), free_port()

    def change(text):
        for name in "submission", "submissions":
            text, n = re.subn(
                rf"(?m)^#({name} +inet .*\n(?:#  -o .*\n)+)",
                lambda m: m.group(1).replace("\n#", "\n").replace(
                    name, f"127.0.0.1:{getattr(gw, name)}", 1), text)
            assert n == 1, name
        return text
    gw.edit("master.cf", change)
    gw.start()
    return gw


def test_who_is_let_in(gw, sink):
    with gw.client() as c:
        assert "AUTH" not in c.ehlo().text
    with Client(gw.submission) as c:
        assert "AUTH" not in c.ehlo().text
        assert c.cmd("MAIL FROM:<a@example.com>").code == 530
        assert c.cmd("AUTH PLAIN " + plain("joe", PASSWORD)).code == 530
    for port, wrap in (gw.submission, False), (gw.submissions, True):
        with TlsClient(port, wrap=wrap) as c:
            assert "AUTH PLAIN LOGIN" in c.ehlo().text
            c.cmd("MAIL FROM:<joe@example.com>")
            # also who is in mynetworks, and for our own domains
            assert c.cmd("RCPT TO:<user@example.com>").code == 554
            c.cmd("RSET")
            assert c.cmd("AUTH PLAIN " + plain("joe", PASSWORD)).code == 235
            c.cmd("MAIL FROM:<ann@example.com>")
            assert c.cmd("RCPT TO:<b@elsewhere.example>").code == 553
            c.cmd("RSET")
            assert c.message("joe@example.com", "b@elsewhere.example",
                             mail("in")).code == 250
    sink.wait(2)
    gw.wait_log(r"postern/submission/smtpd\[\d+\]: .*sasl_username=joe")
    gw.wait_log(r"postern/submissions/smtpd\[\d+\]: .*sasl_username=joe")


def test_smtplib(gw, sink):
    ctx = context()
    with smtplib.SMTP("127.0.0.1", gw.submission) as c:
        c.starttls(context=ctx)
        # CRAM-MD5, the first it knows that is offered
        c.login("ann@example.com", "ann's")
        c.sendmail("ann@example.com", ["b@elsewhere.example"],
                   mail("smtplib 1"))
    with smtplib.SMTP_SSL("127.0.0.1", gw.submissions, context=ctx) as c:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            c.login("ann@example.com", "wrong")
        c.login("ann@example.com", "ann's")
        c.sendmail("ann@example.com", ["b@elsewhere.example"],
                   mail("smtplib 2"))
    for n in 1, 2:
        m = sink.wait_subject(f"smtplib {n}")
        assert "with ESMTPSA id" in m.header.decode()


@pytest.mark.skipif(not shutil.which("swaks"), reason="no swaks")
@pytest.mark.parametrize("how", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("tls", ["-tls", "-tlsc"])
def test_swaks(gw, sink, how, tls):
    port = gw.submission if tls == "-tls" else gw.submissions

    def swaks(password):
        return subprocess.run(
            ["swaks", "--server", f"127.0.0.1:{port}", tls, "--auth", how,
             "--auth-user", "ann@example.com", "--auth-password", password,
             "--from", "ann@example.com", "--to", "b@elsewhere.example",
             "--header", f"Subject: swaks {how} {tls}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60 * SLOW)
    p = swaks("wrong")
    assert p.returncode == 28, p.stdout + p.stderr
    p = swaks("ann's")
    assert p.returncode == 0, p.stdout + p.stderr
    sink.wait_subject(f"swaks {how} {tls}")
