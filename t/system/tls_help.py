"""Certificates for tests, and a client that speaks TLS."""
import os
import shutil
import ssl
import subprocess
import tempfile

from postern import Client, run


class Keys:
    """A directory of PEM files, made with openssl."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="postern-keys-", dir="/tmp")
        os.chmod(self.dir, 0o755)

    def path(self, name):
        return os.path.join(self.dir, name)

    def destroy(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def openssl(self, *args):
        return run("openssl", *args, cwd=self.dir).stdout

    def cert(self, name, cn, kind="ec", days=30, ca=None, is_ca=False):
        """NAME.key, NAME.crt and NAME.pem (key, then certificate); returns
        the last one's path."""
        how = {"ec": ["-newkey", "ec", "-pkeyopt",
                      "ec_paramgen_curve:prime256v1"],
               "rsa": ["-newkey", "rsa:2048"]}[kind]
        args = ["req", "-x509", *how, "-nodes", "-keyout", name + ".key",
                "-out", name + ".crt", "-days", str(days), "-subj",
                "/CN=" + cn, "-addext",
                f"basicConstraints=CA:{'TRUE' if is_ca else 'FALSE'}"]
        if ca:
            args += ["-CA", ca + ".crt", "-CAkey", ca + ".key"]
            if "-CA" not in run("openssl", "req", "-help",
                                check=False).stderr:
                args = None
        if args:
            self.openssl(*args)
        else:
            self.openssl("req", "-new", *how, "-nodes", "-keyout",
                         name + ".key", "-out", name + ".csr", "-subj",
                         "/CN=" + cn)
            self.openssl("x509", "-req", "-in", name + ".csr", "-CA",
                         ca + ".crt", "-CAkey", ca + ".key",
                         "-CAcreateserial", "-days", str(days), "-out",
                         name + ".crt")
        return self.join(name + ".pem", name + ".key", name + ".crt")

    def join(self, name, *parts):
        with open(self.path(name), "w") as out:
            for part in parts:
                with open(self.path(part)) as f:
                    out.write(f.read())
        os.chmod(self.path(name), 0o600)
        for part in parts:
            if part.endswith(".key"):
                os.chmod(self.path(part), 0o600)
        return self.path(name)

    def fingerprint(self, name):
        return self.openssl("x509", "-in", name + ".crt", "-noout",
                            "-fingerprint", "-sha256").strip().split("=")[1]


def context(cert=None, version=None, low=False):
    """A client that takes any certificate."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    if low:
        c.set_ciphers("ALL:@SECLEVEL=0")
        c.minimum_version = ssl.TLSVersion.TLSv1
    if version:
        c.minimum_version = c.maximum_version = version
    if cert:
        c.load_cert_chain(cert)
    return c


class TlsClient(Client):
    """STARTTLS, or from the first byte on (wrap); then as Client."""

    def __init__(self, port, ctx=None, name=None, wrap=False, session=None,
                 **kw):
        super().__init__(port, greet=not wrap, **kw)
        self.ctx = ctx or context()
        if not wrap:
            r = self.ehlo()
            assert "STARTTLS" in r.text, r
            r = self.cmd("STARTTLS")
            assert r.code == 220, r
            assert not self.data
        self.sock = self.ctx.wrap_socket(self.sock, server_hostname=name,
                                         session=session)
        if wrap:
            self.banner = self.reply()

    def line(self):
        try:
            return super().line()
        except ssl.SSLError as e:
            raise ConnectionError(str(e)) from e

    def subject(self):
        """The common name of the certificate it was shown."""
        der = self.sock.getpeercert(True)
        p = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout",
                            "-subject", "-nameopt", "multiline"],
                           input=der, capture_output=True, check=True)
        return p.stdout.decode().split("commonName")[1].split(
            "=")[1].strip()
