"""AUTH for clients by Cyrus SASL: sasldb, and a private saslauthd."""
import os
import shutil
import smtplib
import socket
import subprocess
import tempfile
import threading

import pytest
from postern import LIBEXEC, mail, wait_for
from sasl_help import PASSWORD, plain
from test_sasl import login, offered, scram

SASLAUTHD = shutil.which("saslauthd") or "/usr/sbin/saslauthd"
pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not os.path.exists(SASLAUTHD) or
    not os.path.exists(f"{LIBEXEC}/auth-cyrus"),
    reason="needs root, libsasl2-dev and sasl2-bin")


@pytest.fixture(scope="module")
def place():
    """A directory with a sasldb."""
    d = tempfile.mkdtemp(prefix="postern-sasl-", dir="/tmp")
    os.chmod(d, 0o755)
    for user, password in ("joe", PASSWORD), ("ann", "ann's"):
        subprocess.run(["saslpasswd2", "-p", "-c", "-f", d + "/sasldb2", "-u",
                        "gw.example.com", user], input=password.encode(),
                       check=True, timeout=30)
    shutil.chown(d + "/sasldb2", "postern-auth")
    yield d
    shutil.rmtree(d, ignore_errors=True)


def configure(place, name, text):
    with open(f"{place}/{name}.conf", "w") as f:
        f.write(text)


def settings(sink, place, name, **more):
    return {"smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "cyrus",
            "smtpd_sasl_path": name, "cyrus_sasl_config_path": place,
            "smtpd_error_sleep_time": "0", "smtpd_sasl_time_limit": "3s",
            "smtpd_relay_restrictions":
            "permit_sasl_authenticated, reject_unauth_destination",
            "relayhost": f"[127.0.0.1]:{sink.port}", **more}


@pytest.fixture
def gw(make, sink, place):
    configure(place, "db", "pwcheck_method: auxprop\n"
              f"auxprop_plugin: sasldb\nsasldb_path: {place}/sasldb2\n"
              "mech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-256 "
              "ANONYMOUS\n")
    return make(sink, main=settings(sink, place, "db"))


def test_sasldb(gw, sink):
    with gw.client() as c:
        have = set(offered(c))
        assert {"PLAIN", "LOGIN", "CRAM-MD5"} <= have
        assert "ANONYMOUS" not in have
        r = c.cmd("AUTH PLAIN " + plain("joe", "wrong"))
        assert r.text == ("535 5.7.8 Error: authentication failed: "
                          "authentication failure")
        nobody = c.cmd("AUTH PLAIN " + plain("nobody", "wrong"))
        assert nobody.text == r.text
        login(c)
        assert c.message("a@client.example", "b@elsewhere.example",
                         mail("in")).code == 250
    sink.wait_subject("in")
    gw.wait_log(r"sasl_method=PLAIN, sasl_username=joe")
    gw.wait_log(r"warning: .*: SASL PLAIN authentication failed: "
                "authentication failure")
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("AUTH LOGIN").code == 334
        assert c.cmd("*").code == 501
        assert c.cmd("AUTH PLAIN =").code in (535, 501)
        if "SCRAM-SHA-256" in have:
            assert scram(c, "joe", PASSWORD).code == 235
    c = smtplib.SMTP("127.0.0.1", gw.port)
    c.ehlo()
    c.user, c.password = "ann", "ann's"
    assert c.auth("CRAM-MD5", c.auth_cram_md5)[0] == 235
    c.close()


def test_options(make, sink, place):
    configure(place, "opt", "pwcheck_method: auxprop\n"
              f"auxprop_plugin: sasldb\nsasldb_path: {place}/sasldb2\n"
              "mech_list: PLAIN LOGIN CRAM-MD5\n")
    gw = make(sink, main=settings(
        sink, place, "opt", smtpd_sasl_security_options="noplaintext"))
    with gw.client() as c:
        assert offered(c) == ["CRAM-MD5"]


def test_reload_and_many(gw):
    clients = [gw.client() for _ in range(50)]
    try:
        for c in clients:
            c.ehlo()
            assert c.cmd("AUTH LOGIN").code == 334
        gw.command("reload")
        for c in clients:
            c.send(b"am9l\r\n")
        assert [c.reply().code for c in clients] == [334] * len(clients)
    finally:
        for c in clients:
            c.close()
    with gw.client() as c:
        c.ehlo()
        login(c)


class Saslauthd:
    def __init__(self, place):
        self.dir = place + "/mux"
        os.makedirs(self.dir, exist_ok=True)
        os.chmod(self.dir, 0o755)
        # it has one way only to look into a sasldb: that of the system; so
        # it asks the accounts of this host, none of which it may know
        self.process = subprocess.Popen(
            [SASLAUTHD, "-d", "-a", "shadow", "-n", "1", "-m", self.dir],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)
        wait_for("saslauthd", lambda: os.path.exists(self.dir + "/mux"))

    def stop(self):
        os.killpg(self.process.pid, 9)
        self.process.wait()


def test_saslauthd(make, sink, place):
    configure(place, "mux", "pwcheck_method: saslauthd\n"
              f"saslauthd_path: {place}/mux/mux\nmech_list: PLAIN LOGIN\n")
    gw = make(sink, main=settings(sink, place, "mux"))
    with gw.client() as c:
        c.ehlo()
        # nobody there
        r = c.cmd("AUTH PLAIN " + plain("postern-no-such-user", "x"))
        assert r.code == 454, r
        gw.wait_log(r"warning: authentication by Cyrus SASL: ")
        d = Saslauthd(place)
        try:
            r = c.cmd("AUTH PLAIN " + plain("postern-no-such-user", "x"))
            assert r.code == 535, r
        finally:
            d.stop()


def test_saslauthd_that_hangs(make, sink, place):
    """More clients than threads; others do not notice."""
    os.makedirs(place + "/dead", exist_ok=True)
    held = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place + "/dead/mux")
    os.chmod(place + "/dead/mux", 0o777)
    listener.listen(64)

    def hold():
        while True:
            try:
                held.append(listener.accept())
            except OSError:
                return
    threading.Thread(target=hold, daemon=True).start()
    configure(place, "dead", "pwcheck_method: saslauthd\n"
              f"saslauthd_path: {place}/dead/mux\nmech_list: PLAIN\n")
    gw = make(sink, main=settings(sink, place, "dead",
                                  smtpd_sasl_time_limit="2s"))
    clients = [gw.client() for _ in range(12)]
    try:
        for c in clients:
            c.ehlo()
            c.send(f"AUTH PLAIN {plain('joe', 'x')}\r\n".encode())
        with gw.client() as other:
            other.ehlo()
            assert other.message("a@client.example", "user@example.com",
                                 mail("other")).code == 250
        assert {c.reply().code for c in clients} == {454}
    finally:
        for c in clients:
            c.close()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for sock, _ in held:
            sock.close()
