"""Debian's mail servers as next hops with TLS: each by STARTTLS at one port and
with TLS from the first byte on at another; Postfix, Exim and sendmail ask
clients for a certificate and do not insist on it, OpenSMTPD does at a third
port."""
import glob
import os
import re
import shutil
import subprocess
import tempfile

from postern import TOP, Sink, free_port, wait_for
from test_lmtp import Dovecot
from test_message import Inside

PEERS = f"{TOP}/t/peers"


def there(name):
    if os.getuid() != 0:
        return False
    if name in ("postfix", "dovecot"):
        return bool(shutil.which(name))
    return os.path.isdir(f"{TOP}/build/peers/{name}")


class Filled:
    """fill() makes what close() undoes, also when it comes half-way only."""

    def __init__(self):
        try:
            self.fill()
        except BaseException:
            self.close()
            raise


def copies(keys, name, where, mode=0o644):
    """The files that a server shows and trusts, for one that is not to find
    them where they are."""
    os.makedirs(where)
    for kind in (".crt", ".key"):
        shutil.copy(keys.path(name + kind), f"{where}/own{kind}")
        os.chmod(f"{where}/own{kind}", mode)
    shutil.copy(keys.path("ca.crt"), where)
    os.chmod(f"{where}/ca.crt", 0o644)


class Hop:
    """text(subject) is the header, and more, of that message there; with[...]
    what stands there of TLS; known: of a client's certificate."""
    lmtp, insists = False, None
    plain = r"\bwith ESMTP id"

    def stop(self):
        self.server.stop()

    def text(self, subject):
        box = self.server.wait_text(f"Subject: {subject}\n".encode())
        box = box.decode("utf-8", "replace")
        at = box.index(f"Subject: {subject}\n")
        return box[box.rindex("From ", 0, max(0, box.rindex(
            "Received:", 0, at))):at]


class Postfix(Hop):
    secret = r"\(using %s with cipher .*\n.*\n.*\n?.*with ESMTPS id"
    known = r'Client CN "gw\.example\.com", Issuer "Test Authority" ' \
        r"\(verified OK\)"

    def __init__(self, keys, wrapped):
        self.wrapped = wrapped
        self.server = Inside(
            "postfix", "mail/inbox",
            "smtpd_tls_security_level = may\nsmtpd_tls_ask_ccert = yes\n"
            "smtpd_tls_received_header = yes\n"
            f"smtpd_tls_cert_file = {keys.path('postfix.crt')}\n"
            f"smtpd_tls_key_file = {keys.path('postfix.key')}\n"
            f"smtpd_tls_CAfile = {keys.path('ca.crt')}\n",
            env={"POSTFIX_MASTER":
                 f"127.0.0.1:{wrapped} inet n - n - - smtpd "
                 "-o smtpd_tls_wrappermode=yes"})


class Exim(Hop):
    plain = r"\bwith\s+esmtp\s+\(Exim"
    secret = r"with\s+esmtps\s+\(%s\) tls "
    known = r"\(certificate CN=gw\.example\.com 1\)"

    def __init__(self, keys, wrapped):
        self.wrapped = wrapped
        self.server = Inside(
            "exim", "var/mail/inbox",
            setup=lambda where: copies(keys, "exim", where + "/etc/exim4"),
            env={"EXIM_WRAPPED": str(wrapped), "EXIM_MAIN": """
tls_advertise_hosts = *
tls_certificate = /etc/exim4/own.crt
tls_privatekey = /etc/exim4/own.key
tls_try_verify_hosts = *
tls_verify_certificates = /etc/exim4/ca.crt
tls_resumption_hosts = *
received_header_text = Received: from $sender_helo_name with \
  $received_protocol ${if def:tls_in_cipher {${if def:tls_in_ver \
  { ($tls_in_ver)}} tls $tls_in_cipher }}(Exim $version_number) \
  (certificate $tls_in_peerdn $tls_in_certificate_verified)"""})

    def text(self, subject):
        return super().text(subject).replace("(TLS1.", "(TLSv1.")


class OpenSmtpd(Hop):
    secret = r"with ESMTPS id .*\(%s:"
    known = None

    def __init__(self, keys, wrapped, engine=True):
        self.wrapped, self.insists = wrapped, free_port()
        more = {} if engine else {"OPENSMTPD_ENGINE": "no"}
        self.server = Inside(
            "opensmtpd", "var/mail/inbox",
            setup=lambda where: copies(keys, "opensmtpd", where + "/etc/mail",
                                       0o600),
            env={"OPENSMTPD_CONF": f"""
pki own cert "/etc/mail/own.crt"
pki own key "/etc/mail/own.key"
ca own cert "/etc/mail/ca.crt"
listen on 127.0.0.1 port {wrapped} smtps pki own
listen on 127.0.0.1 port {self.insists} tls-require verify pki own ca own""",
                 "OPENSMTPD_LISTEN": "tls pki own", **more})


class Sendmail(Hop):
    """It gives what it has taken to a sink."""
    secret = r"\(version=%s cipher=\S+ bits=\d+ verify="
    known = r"verify=OK\)"

    def __init__(self, keys, wrapped):
        self.wrapped, self.sink = wrapped, Sink()
        self.dir = tempfile.mkdtemp(prefix="postern-sendmail-", dir="/tmp")
        copies(keys, "sendmail", self.dir + "/tls", 0o600)
        self.port = free_port()
        self.server = self
        tls = "/mnt"
        subprocess.run(
            [f"{PEERS}/sendmail", "start", self.dir, str(self.port),
             str(self.sink.port)] + [f"define(`{k}', `{v}')dnl" for k, v in (
                 ("confSERVER_CERT", tls + "/own.crt"),
                 ("confSERVER_KEY", tls + "/own.key"),
                 ("confCACERT", tls + "/ca.crt"),
                 ("confCACERT_PATH", tls))] + [
                 f"DAEMON_OPTIONS(`Name=S, Addr=127.0.0.1, Port={wrapped}, "
                 "M=s')dnl"],
            check=True, timeout=60, stdin=subprocess.DEVNULL)
        wait_for("sendmail to listen", lambda: Inside.listens(self))

    def text(self, subject):
        return self.sink.wait_subject(subject).header.decode()

    def stop(self):
        subprocess.run([f"{PEERS}/sendmail", "stop", self.dir], check=False,
                       timeout=60)
        self.sink.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class DovecotLmtp(Hop):
    lmtp = True
    plain = r"\bwith LMTP\b"
    secret = r"\bwith LMTPS\b"
    known = None        # it does not ask

    def __init__(self, keys, wrapped):
        self.wrapped = wrapped
        self.dir = tempfile.mkdtemp(prefix="postern-lmtp-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.server = Dovecot(
            self.dir + "/socket", "root", ssl="yes",
            ssl_cert="<" + keys.path("dovecot.crt"),
            ssl_key="<" + keys.path("dovecot.key"),
            blocks=f"""
service lmtp {{
  process_limit = 1
  client_limit = 100
  inet_listener lmtps {{
    address = 127.0.0.1
    port = {wrapped}
    ssl = yes
  }}
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home={self.dir}/box/%u allow_all_users=yes
}}""")
        os.mkdir(self.dir + "/box")
        shutil.chown(self.dir + "/box", 65534, 65534)

    def stop(self):
        self.server.d.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def text(self, subject):
        def found():
            for path in glob.glob(self.dir + "/box/*/Maildir/new/*"):
                with open(path, encoding="latin-1") as f:
                    text = f.read()
                if f"Subject: {subject}\n" in text:
                    return text
            return None
        return wait_for(f"{subject} in a mailbox", found)


HOPS = {"postfix": Postfix, "exim": Exim, "opensmtpd": OpenSmtpd,
        "sendmail": Sendmail, "dovecot": DovecotLmtp}


def port_of(hop):
    return hop.server.port
