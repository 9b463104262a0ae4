"""Authentication servers for tests: a private Dovecot, and one of our own that
does what it should not."""
import base64
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from postern import free_port, wait_for

DOVECOT = shutil.which("dovecot") or "/usr/sbin/dovecot"
PASSWORD = "s3cret-Grüße"
USERS = {"joe": PASSWORD, "ann@example.com": "ann's"}


def b64(*parts):
    return base64.b64encode("".join(parts).encode()).decode()


def plain(user, password, authzid=""):
    return b64(authzid, "\0", user, "\0", password)


class Dovecot:
    """Nothing but its auth service, on a socket that all may use and, on
    demand, a port.  settings: more lines."""

    def __init__(self, mechanisms="plain login cram-md5 scram-sha-256 "
                 "anonymous", settings=""):
        self.dir = tempfile.mkdtemp(prefix="postern-dovecot-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.socket = self.dir + "/auth"
        self.port = free_port()
        self.process = None
        with open(self.dir + "/users", "w") as f:
            for user, password in USERS.items():
                f.write(f"{user}:{{PLAIN}}{password}\n")
        os.chmod(self.dir + "/users", 0o644)
        with open(self.dir + "/conf", "w") as f:
            f.write(f"""
base_dir = {self.dir}/run
state_dir = {self.dir}/state
log_path = {self.dir}/log
protocols =
ssl = no
auth_mechanisms = {mechanisms}
auth_failure_delay = 0 secs
auth_verbose = yes
disable_plaintext_auth = no
passdb {{
  driver = passwd-file
  args = {self.dir}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  unix_listener {self.socket} {{
    mode = 0666
  }}
  inet_listener {{
    address = 127.0.0.1
    port = {self.port}
  }}
}}
{settings}
""")
        self.start()

    def start(self):
        try:
            os.unlink(self.socket)
        except FileNotFoundError:
            pass
        self.process = subprocess.Popen(
            [DOVECOT, "-F", "-c", self.dir + "/conf"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)
        wait_for("Dovecot's socket", lambda: os.path.exists(self.socket))

    def log(self):
        with open(self.dir + "/log", errors="replace") as f:
            return f.read()

    def stop(self):
        if self.process is None:
            return
        # its processes go on for a while when it has ended
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def destroy(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


GREETING = ("VERSION\t1\t2\nMECH\tPLAIN\tplaintext\n"
            "MECH\tLOGIN\tplaintext\nSPID\t7\nCUID\t1\nCOOKIE\t00\nDONE\n")


class FakeAuth:
    """An auth server on a port.  on(line) gets each line of a client, split at
    TABs, and returns what to send: text, "close", or None."""

    def __init__(self, on=None, greeting=GREETING):
        self.on = on or (lambda words: None)
        self.greeting = greeting
        self.lines = []
        self.sessions = 0
        self.port = free_port()
        self.open = set()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(64)
        self.path = f"inet:127.0.0.1:{self.port}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.open.add(sock)
            self.sessions += 1
            threading.Thread(target=self.session, args=(sock,),
                             daemon=True).start()

    def session(self, sock):
        try:
            greeting = self.greeting
            if greeting:
                sock.sendall(greeting.encode("latin-1"))
            with sock.makefile("rb") as f:
                for raw in f:
                    words = raw.decode().rstrip("\n").split("\t")
                    self.lines.append(words)
                    answer = self.on(words)
                    if answer == "close":
                        break
                    if answer:
                        sock.sendall(answer.encode("latin-1"))
        except OSError:
            pass
        finally:
            self.open.discard(sock)
            sock.close()

    def asked(self, word):
        return [w for w in list(self.lines) if w[0] == word]

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for s in list(self.open):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
