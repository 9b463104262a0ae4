"""What scanners find at our ports: by STARTTLS and with TLS from the first
byte on, as they are by default."""
import json
import os
import re
import shutil
import subprocess

import pytest

from postern import SLOW, Instance, Sink, free_port, wait_for
from tls_help import Keys, TlsClient


@pytest.fixture(scope="module")
def ports():
    keys, sink, gw = Keys(), Sink(), None
    try:
        wrapped = free_port()
        gw = Instance(sink, main={
            "smtpd_tls_security_level": "may",
            "smtpd_client_connection_count_limit": "0",
            "smtpd_tls_chain_files":
                f"{keys.cert('ecdsa', 'gw.example.com')}, "
                f"{keys.cert('rsa', 'gw.example.com', 'rsa')}"},
            start=False)
        gw.edit("master.cf", lambda t: t +
                f"127.0.0.1:{wrapped} inet n - - - - smtpd\n"
                "  -o smtpd_tls_wrappermode=yes\n")
        gw.start()

        def wraps():
            try:
                TlsClient(wrapped, wrap=True).close()
                return True
            except OSError:
                return False
        wait_for("the port", wraps)
        yield {"starttls": gw.port, "wrapped": wrapped}
    finally:
        if gw:
            gw.destroy()
        sink.close()
        keys.destroy()


WAYS = ["starttls", "wrapped"]


@pytest.mark.parametrize("way", WAYS)
def test_sslscan(ports, way):
    if not shutil.which("sslscan"):
        pytest.skip("sslscan is not installed")
    more = ["--starttls-smtp"] if way == "starttls" else []
    out = subprocess.run(
        ["sslscan", "--no-colour", *more, f"127.0.0.1:{ports[way]}"],
        capture_output=True, text=True, check=True,
        timeout=120 * SLOW).stdout
    for line in ("SSLv2 disabled", "SSLv3 disabled", "TLSv1.0 disabled",
                 "TLSv1.1 disabled", "TLSv1.2 enabled", "TLSv1.3 enabled"):
        assert re.search(line.replace(" ", r"\s+"), out), out
    # some builds of it cannot ask
    assert "Compression enabled" not in out
    assert re.search(r"(Secure s|S)ession renegotiation (not )?supported",
                     out), out
    assert "Insecure session renegotiation" not in out
    assert "vulnerable to heartbleed" in out
    for line in re.findall(r".*vulnerable to heartbleed", out):
        assert "not vulnerable" in line
    ciphers = re.findall(r"^(?:Preferred|Accepted)\s+(TLSv1\.[23])\s+(\d+) "
                         r"bits\s+(\S+)", out, re.M)
    assert {c[0] for c in ciphers} == {"TLSv1.2", "TLSv1.3"}, out
    for version, bits, name in ciphers:
        assert int(bits) >= 128, name
        assert not re.search(r"NULL|EXP|RC4|RC2|DES|MD5|ADH|AECDH|anon|SEED|"
                             r"IDEA", name), name
    assert any("ECDSA" in c[2] for c in ciphers)
    assert any("ECDHE-RSA" in c[2] for c in ciphers)


# Tests of testssl.sh, and findings that have to be there.  For SMTP it does not
# look for Ticketbleed.
FINDINGS = {
    "SSLv2": "not offered", "SSLv3": "not offered", "TLS1": "not offered",
    "TLS1_1": "not offered", "TLS1_2": "offered", "TLS1_3": "offered",
    "cipherlist_NULL": "not offered", "cipherlist_aNULL": "not offered",
    "cipherlist_EXPORT": "not offered", "cipherlist_LOW": "not offered",
    "heartbleed": "not vulnerable", "CCS": "not vulnerable",
    "ROBOT": "not vulnerable",
    "secure_renego": "supported", "secure_client_renego": "not vulnerable",
    "CRIME_TLS": "not vulnerable", "POODLE_SSL": "not vulnerable",
    "SWEET32": "not vulnerable", "FREAK": "not vulnerable",
    "DROWN": "not vulnerable", "LOGJAM": "not vulnerable",
    "BEAST": "not vulnerable", "RC4": "not vulnerable",
}


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_testssl(ports, way, tmp_path):
    if not shutil.which("testssl"):
        pytest.skip("testssl.sh is not installed")
    file = tmp_path / "found.json"
    more = ["-t", "smtp"] if way == "starttls" else []
    out = subprocess.run(
        ["testssl", "--quiet", "--color", "0", "--warnings", "off",
         "-p", "-s", "-f", "-P", "-S", "-U", "--ip", "one",
         "--jsonfile", str(file), *more, f"127.0.0.1:{ports[way]}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=900 * SLOW, env={**os.environ, "TERM": "dumb"}).stdout
    found = {f["id"]: f for f in json.loads(file.read_text())}
    for name, text in FINDINGS.items():
        assert name in found, f"{name}: {sorted(found)}\n{out}"
        assert found[name]["finding"].startswith(text), found[name]
    # What else is more than a remark is so by default in Postfix too, or is
    # about the certificate of this test.
    bad = {n for n, f in found.items() if f["severity"] in (
        "MEDIUM", "HIGH", "CRITICAL") and not n.startswith("cert")}
    assert bad <= {"cipher_order"}, {n: found[n] for n in bad}
