"""Web servers of MTA-STS policies on loopback, with certificates of an
authority of their own."""
import os
import shutil
import socket
import ssl
import tempfile
import threading

from postern import SLOW, free_port, run

CA_CONF = """[ca]
default_ca = x
[x]
database = %(dir)s/index
new_certs_dir = %(dir)s
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = optional
"""


class WebKeys:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="postern-web-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.write("index", "")
        self.write("ca.cnf", CA_CONF % {"dir": self.dir})
        for ca in ("ca", "other"):
            self.openssl("req", "-x509", *self.new(ca), "-days", "30",
                         "-addext", "basicConstraints=critical,CA:TRUE",
                         "-subj", "/CN=Test " + ca)
        self.ca = self.path("ca.crt")

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)

    def openssl(self, *args):
        run("openssl", *args, cwd=self.dir)

    def new(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-keyout", name + ".key", "-out", name + ".crt"]

    def context(self, name, names=(), cn="web", ca="ca", expired=False):
        """A server's context; the certificate is for names."""
        new = self.new(name)
        new[-1] = name + ".csr"
        san = ",".join("DNS:" + n for n in names)
        self.openssl("req", *new, "-subj", "/CN=" + cn,
                     *(["-addext", "subjectAltName=" + san] if san else []))
        dates = ("20200101000000Z", "20200201000000Z") if expired else (
            "20200101000000Z", "20991231000000Z")
        self.openssl("ca", "-batch", "-notext", "-config", "ca.cnf",
                     "-cert", ca + ".crt", "-keyfile", ca + ".key",
                     "-startdate", dates[0], "-enddate", dates[1],
                     "-in", name + ".csr", "-out", name + ".crt")
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        c.load_cert_chain(self.path(name + ".crt"), self.path(name + ".key"))
        return c

    def destroy(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def policy(*mx, mode="enforce", age=86400):
    return ("version: STSv1\r\nmode: %s\r\n" % mode + "".join(
        f"mx: {m}\r\n" for m in mx) + f"max_age: {age}\r\n").encode()


def response(body, status="200 OK", kind="text/plain", more=""):
    head = f"HTTP/1.1 {status}\r\n{more}"
    if kind:
        head += f"Content-Type: {kind}\r\n"
    return (head + f"Content-Length: {len(body)}\r\n\r\n").encode() + body


class WebServer:
    """sites: domain -> bytes that are sent, or a function of the connection,
    for https://mta-sts.DOMAIN/.  contexts: the same -> context; default: one
    with "*".  asked: the domains, in order."""

    def __init__(self, default):
        self.sites, self.contexts, self.default = {}, {}, default
        self.asked, self.requests = [], []
        self.newest = None          # TLS version
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.port = free_port()
        self.socket = socket.create_server(("0.0.0.0", self.port),
                                           backlog=200)
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                c, _ = self.socket.accept()
            except OSError:
                return
            if self.closing.is_set():
                c.close()
                return
            t = threading.Thread(target=self.serve, args=(c,))
            self.threads.append(t)
            t.start()

    def serve(self, raw):
        raw.settimeout(30 * SLOW)
        domain = []

        def on_name(sock, name, context):
            domain.append((name or "").removeprefix("mta-sts."))
            sock.context = self.contexts.get(domain[0], self.default)
        base = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        base.sni_callback = on_name
        if self.newest:
            base.set_ciphers("ALL:@SECLEVEL=0")
            base.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            base.maximum_version = self.newest
        try:
            c = base.wrap_socket(raw, server_side=True)
        except (OSError, ValueError):
            raw.close()
            return
        try:
            request = b""
            while b"\r\n\r\n" not in request:
                piece = c.recv(4096)
                if not piece:
                    return
                request += piece
            with self.lock:
                self.asked.append(domain[0])
                self.requests.append(request)
                what = self.sites.get(domain[0], response(b"", "404 No"))
            if callable(what):
                what(c)
            else:
                c.sendall(what)
                c.unwrap()
        except OSError:
            pass
        finally:
            c.close()

    def count(self, domain):
        with self.lock:
            return self.asked.count(domain)

    def close(self):
        self.closing.set()
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for t in self.threads:
            t.join(60)
