"""TLS with real mail servers as next hops, at all levels, and as clients."""
import os
import shutil
import subprocess

import pytest

from postern import TOP, Client, Closed, free_port, mail, wait_for
from test_message import Inside
from test_relay_tls import ServerKeys
from tls_help import TlsClient


@pytest.fixture(scope="module")
def keys():
    k = ServerKeys()
    try:
        k.cert("ca", "Test Authority", is_ca=True)
        k.named("inside", "inside.example.com", names=["inside.example.com"],
                ips=["127.0.0.1"])
        yield k
    finally:
        k.destroy()


def able(port):
    """OpenSMTPD of Debian 12 offers STARTTLS, and then cannot use its key."""
    try:
        TlsClient(port).close()
        return True
    except OSError:
        return False


@pytest.fixture(scope="module", params=["postfix", "exim", "opensmtpd"])
def inside(request, keys):
    if os.getuid() != 0:
        pytest.skip("needs root")
    if request.param == "postfix" and not shutil.which("postfix"):
        pytest.skip("Postfix is not installed")
    if request.param != "postfix" and \
            not os.path.isdir(f"{TOP}/build/peers/{request.param}"):
        pytest.skip(f"{request.param} is not unpacked")

    def give_keys(where, mode=0o644):
        os.makedirs(where)
        for name in ("inside.crt", "inside.key"):
            shutil.copy(keys.path(name), where)
            os.chmod(os.path.join(where, name), mode)
    if request.param == "postfix":
        server = Inside("postfix", "mail/inbox",
                        "smtpd_tls_security_level = may\n"
                        "smtpd_tls_received_header = yes\n"
                        f"smtpd_tls_cert_file = {keys.path('inside.crt')}\n"
                        f"smtpd_tls_key_file = {keys.path('inside.key')}\n")
    elif request.param == "opensmtpd":
        server = Inside("opensmtpd", "var/mail/inbox",
                        setup=lambda where: give_keys(
                            where + "/etc/mail", 0o600),
                        env={"OPENSMTPD_CONF":
                             'pki inside cert "/etc/mail/inside.crt"\n'
                             'pki inside key "/etc/mail/inside.key"\n',
                             "OPENSMTPD_LISTEN": "tls pki inside"})
    else:
        server = Inside("exim", "var/mail/inbox", setup=lambda where:
                        give_keys(where + "/etc/exim4"),
            env={"EXIM_MAIN": "tls_advertise_hosts = *\n"
                 "tls_certificate = /etc/exim4/inside.crt\n"
                 "tls_privatekey = /etc/exim4/inside.key"})
    server.name = request.param
    server.able = able(server.port)
    yield server
    server.stop()


LEVELS = {
    "may": {},
    "encrypt": {"smtp_tls_mandatory_protocols": "TLSv1.2"},
    "fingerprint": {"smtp_tls_fingerprint_cert_match": "{print}"},
    "verify": {},
    "secure": {"smtp_tls_secure_cert_match": "inside.example.com"},
}


@pytest.mark.parametrize("level", ["none", *LEVELS])
def test_unable(make, inside, keys, level):
    """STARTTLS is offered, and does not work: mail goes as it is only where
    it may."""
    if inside.able:
        pytest.skip("its TLS works")
    gw = make(relay=f"127.0.0.1:{inside.port}", main={
        "smtp_tls_security_level": level,
        "smtp_tls_fingerprint_cert_match": "00:11",
        "smtp_tls_CAfile": keys.path("ca.crt")})
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail(f"unable {level}")).code == 250
    if level in ("none", "may"):
        inside.wait_text(f"Subject: unable {level}".encode())
        gw.wait_log(r"dsn=2\.0\.0, status=sent")
        return
    gw.wait_log(rf"tls={level}:none, dsn=4\.7\.5, status=deferred \(Cannot "
                r"start TLS: handshake failure\)")
    assert f"Subject: unable {level}".encode() not in inside.mailbox()


@pytest.mark.parametrize("level", LEVELS)
def test_through(make, inside, keys, level):
    if not inside.able:
        pytest.skip("its TLS does not work")
    more = {k: v.replace("{print}", keys.fingerprint("inside"))
            for k, v in LEVELS[level].items()}
    gw = make(relay=f"127.0.0.1:{inside.port}", main={
        "smtp_tls_security_level": level, "smtp_tls_loglevel": "1",
        "smtp_tls_CAfile": keys.path("ca.crt"), **more})
    with gw.client() as c:
        assert c.ehlo().code == 250
        for i in range(3):
            r = c.message("a@client.example", "user@example.com",
                          mail(f"{level} {i}", b"x" * 900 + b"\r\n" +
                               b"." * 900 + b"\r\n" * 2000))
            assert r.code == 250, r
    for i in range(3):
        box = inside.wait_text(f"Subject: {level} {i}".encode())
    at = box.rindex(f"Subject: {level}".encode())
    head = box[box.rindex(b"From ", 0, at - 200):at]
    if inside.name == "postfix":
        assert b"with ESMTPS" in box[at - 1500:at]
        assert (b"using TLSv1.2" if level == "encrypt" else
                b"using TLSv1.3") in box[at - 1500:at]
    elif inside.name == "opensmtpd":
        assert b"(TLSv1.2:" if level == "encrypt" else b"(TLSv1.3:" in head
    else:
        assert b"with esmtps" in box[at - 1500:at], head
    gw.wait_log(rf"to=<user@example\.com>, .* tls={level}, dsn=2\.\S+, "
                r"status=sent")
    word = {"may": "Trusted", "encrypt": "Trusted"}.get(level, "Verified")
    gw.wait_log(rf"{word} TLS connection established to 127\.0\.0\.1"
                rf"\[127\.0\.0\.1\]:{inside.port}: TLSv1\.")


def test_refused(make, inside, keys):
    """A name that it does not show: the mail waits, and goes when the policy
    is another."""
    if not inside.able:
        pytest.skip("its TLS does not work")
    gw = make(relay=f"127.0.0.1:{inside.port}", main={
        "smtp_tls_security_level": "secure",
        "smtp_tls_secure_cert_match": "other.example.com",
        "smtp_tls_CAfile": keys.path("ca.crt")})
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("wrong name")).code == 250
    gw.wait_log(r"tls=secure:encrypt, dsn=4\.7\.5, status=deferred \(Server "
                r"certificate not verified\)")
    gw.set(smtp_tls_secure_cert_match="inside.example.com")
    gw.command("reload")
    gw.command("flush")
    inside.wait_text(b"Subject: wrong name")
    gw.wait_log(r"tls=secure, dsn=2\.\S+, status=sent")


# How OpenSMTPD is told to reach us, and the TLS that it then has.
CLIENT = {"smtp+notls": (False, ""), "smtp": (True, ""),
          "smtp+tls": (True, "tls no-verify"),
          "smtps": (True, "tls no-verify")}


@pytest.mark.parametrize("url", CLIENT)
def test_from_opensmtpd(make, sink, keys, url, tmp_path):
    if os.getuid() != 0 or not os.path.isdir(f"{TOP}/build/peers/opensmtpd"):
        pytest.skip("needs root and OpenSMTPD")
    secret, words = CLIENT[url]
    gw = make(sink, main={
        "smtpd_tls_security_level": "may", "mynetworks": "127.0.0.0/8",
        "smtpd_tls_chain_files": keys.path("inside.pem"),
        "smtpd_tls_received_header": "yes", "smtpd_tls_loglevel": "1"})
    port = gw.port
    if url == "smtps":
        port = free_port()
        gw.edit("master.cf", lambda t: t +
                f"127.0.0.1:{port} inet n - - - - smtpd\n"
                "  -o smtpd_tls_wrappermode=yes\n")
        gw.command("reload")

        def wraps():
            try:
                TlsClient(port, wrap=True).close()
                return True
            except OSError:
                return False
        wait_for("the port", wraps)
    script, where = f"{TOP}/t/peers/opensmtpd", str(tmp_path / "peer")
    listen = free_port()
    subprocess.run([script, "relay", where, str(listen), "0"], check=True,
                   timeout=60, stdin=subprocess.DEVNULL, env={
                       **os.environ, "OPENSMTPD_RELAY": words,
                       "OPENSMTPD_URL": f"{url}://127.0.0.1:{port}"})

    def send():
        try:
            with Client(listen) as c:
                c.ehlo()
                return c.message("a@client.example", "user@example.com",
                                 mail(f"by {url}", b"x" * 900 +
                                      b"\r\n..\r\n" * 9000)).code == 250
        except (OSError, Closed):
            return False
    try:
        wait_for("OpenSMTPD to take it", send)
        head = sink.wait_subject(f"by {url}").header
    finally:
        subprocess.run([script, "stop", where], check=False, timeout=60)
    ours = head.split(b"by gw.example.com")[0] + \
        head.split(b"by gw.example.com")[1].split(b"Received:")[0]
    assert (b"using TLSv1.3" in ours) == secret, head
    assert (b"with ESMTPS" in ours) == secret, head
