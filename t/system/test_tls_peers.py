"""TLS with real mail servers as next hops, at all levels."""
import os
import shutil

import pytest

from postern import TOP, mail
from test_message import Inside
from test_relay_tls import ServerKeys


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


@pytest.fixture(scope="module", params=["postfix", "exim"])
def inside(request, keys):
    if os.getuid() != 0:
        pytest.skip("needs root")
    if request.param == "postfix" and not shutil.which("postfix"):
        pytest.skip("Postfix is not installed")
    if request.param == "exim" and \
            not os.path.isdir(f"{TOP}/build/peers/exim"):
        pytest.skip("Exim is not unpacked")

    def give_keys(where):
        for name in ("inside.crt", "inside.key"):
            shutil.copy(keys.path(name), where)
            os.chmod(os.path.join(where, name), 0o644)
    if request.param == "postfix":
        server = Inside("postfix", "mail/inbox",
                        "smtpd_tls_security_level = may\n"
                        "smtpd_tls_received_header = yes\n"
                        f"smtpd_tls_cert_file = {keys.path('inside.crt')}\n"
                        f"smtpd_tls_key_file = {keys.path('inside.key')}\n")
    else:
        server = Inside("exim", "var/mail/inbox", setup=lambda where: (
            os.makedirs(f"{where}/etc/exim4"), give_keys(f"{where}/etc/exim4")),
            env={"EXIM_MAIN": "tls_advertise_hosts = *\n"
                 "tls_certificate = /etc/exim4/inside.crt\n"
                 "tls_privatekey = /etc/exim4/inside.key"})
    server.name = request.param
    yield server
    server.stop()


LEVELS = {
    "may": {},
    "encrypt": {"smtp_tls_mandatory_protocols": "TLSv1.2"},
    "fingerprint": {"smtp_tls_fingerprint_cert_match": "{print}"},
    "verify": {},
    "secure": {"smtp_tls_secure_cert_match": "inside.example.com"},
}


@pytest.mark.parametrize("level", LEVELS)
def test_through(make, inside, keys, level):
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
