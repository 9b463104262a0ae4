"""Real daemons from outside, privately, for as long as a test lasts."""
import os
import pwd
import shutil
import socket
import subprocess
import tempfile

from postern import wait_for


class Daemons:
    """Started in the foreground, below a directory of their own."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="scanners-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.running = []

    def file(self, name, text, user=None):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o644)
        return path

    def folder(self, name, user):
        path = os.path.join(self.dir, name)
        os.makedirs(path, mode=0o755, exist_ok=True)
        shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
        return path

    def run(self, *cmd, name=None, **env):
        out = open(f"{self.dir}/{name or os.path.basename(cmd[0])}.out", "ab")
        with out:
            self.running.append(subprocess.Popen(
                cmd, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, env={**os.environ, **env}))

    def said(self):
        text = ""
        for top, _, names in os.walk(self.dir):
            for name in filter(lambda n: n.endswith((".out", ".log")), names):
                with open(f"{top}/{name}", errors="replace") as f:
                    text += f"== {name}\n" + f.read()[-3000:]
        return text

    def wait_port(self, port):
        def there():
            with socket.socket() as s:
                return not s.connect_ex(("127.0.0.1", port))
        self.wait(f"port {port}", there)

    def wait(self, what, condition):
        try:
            wait_for(what, condition, 30)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.said()}") from None

    def stop(self):
        for p in reversed(self.running):
            p.terminate()
        for p in self.running:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
