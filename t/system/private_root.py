"""A whole system of one's own: this one's files under an overlay, a process
table and a network of its own.  What is done in it leaves nothing behind."""
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import time

from postern import BUILD, SLOW, TOP, wait_for

# What system commands leave beside the files that they change and restore.
TRACES = ("/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-",
          "/etc/subuid-", "/etc/subgid-", "/etc/.pwd.lock", "/var/log",
          "/var/lib/dpkg/diversions-old", "/var/lib/dpkg/statoverride-old",
          "/var/lib/dpkg/lock", "/var/lib/dpkg/triggers", "/var/cache",
          "/var/mail", "/dev", "/run", "/proc", "/tmp", "/root",
          # an index, made anew from its text
          "/etc/aliases.lmdb",
          # what a mail server's own commands write
          "/var/lib/postfix", "/var/spool/postfix")

SETUP = """
set -e
mount -t tmpfs tmpfs {dir}
cd {dir}
mkdir -p upper work root base layers/0/etc
# Tests beside this one may make accounts.
for file in passwd shadow group gshadow subuid subgid; do
	[ ! -e /etc/$file ] || cp -a /etc/$file layers/0/etc/
done
# A layer must not lie in another one.
n=0
for layer in {layers}; do
	n=$((n + 1))
	cp -a $layer layers/$n
done
mount -t overlay -o lowerdir={lower} overlay base
mount -t overlay -o xino=on,lowerdir={lower},upperdir=upper,workdir=work \
	overlay root
mount --rbind /dev root/dev
mount -t proc proc root/proc
mount -t tmpfs tmpfs root/tmp
chmod 1777 root/tmp
mount -t tmpfs tmpfs root/run
# Nobody to ask for names: the answer is no, at once.
rm -f root/etc/resolv.conf root/etc/hosts
echo nameserver 127.0.0.1 >root/etc/resolv.conf
echo 127.0.0.1 host.example.com $(hostname) localhost >root/etc/hosts
ip link set lo up
cd root
pivot_root . mnt
echo ready
exec sleep infinity
"""


def installed(where):
    """`make install` below where, of the build under test."""
    words = [f"BUILD={os.path.relpath(BUILD, TOP)}", f"DESTDIR={where}"]
    words += ["SAN=1"] if BUILD.endswith("san") else []
    words += ["CC=clang"] if "clang" in BUILD else []
    env = {k: v for k, v in os.environ.items() if k != "MAKEFLAGS"}
    subprocess.run(["make", "-s", "install", *words], cwd=TOP, check=True,
                   env=env, stdout=subprocess.DEVNULL, timeout=600)


def state(path):
    """Kind, mode, owner, group and content of a file; None: there is none."""
    try:
        st = os.lstat(path)
    except FileNotFoundError:
        return None
    content = b""
    if stat.S_ISLNK(st.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(st.st_mode):
        with open(path, "rb") as f:
            content = hashlib.sha256(f.read()).hexdigest()
    return oct(st.st_mode), st.st_uid, st.st_gid, content


class Root:
    def __init__(self, *layers):
        self.dir = tempfile.mkdtemp(prefix="postern-root-", dir="/tmp")
        self.holder = subprocess.Popen(
            # It ends with us, however we end.
            ["setpriv", "--pdeathsig", "KILL",
             "unshare", "-m", "-p", "-n", "-f", "--mount-proc",
             "--kill-child", "sh", "-c",
             SETUP.format(dir=self.dir, layers=" ".join(layers),
                          lower=":".join([*(f"layers/{i}" for i in range(
                              len(layers) + 1)), "/"]))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            assert self.holder.stdout.readline() == b"ready\n"
            pid = self.holder.pid
            self.pid = int(open(
                f"/proc/{pid}/task/{pid}/children").read().split()[0])
        except BaseException:
            self.close()
            raise
        self.system = f"/proc/{self.pid}/root"
        self.top = f"{self.system}/mnt{self.dir}"

    def path(self, path):
        """Where a file of the system is for us."""
        return self.system + path

    def command(self, *words):
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-r", "-w",
                *words]

    def run(self, *words, status=0, text=None, timeout=120, **kw):
        # A file: what it starts in the background may keep it open.
        with tempfile.TemporaryFile("w+", errors="replace") as out:
            p = subprocess.run(self.command(*words), input=text or "",
                               text=True, stdout=out,
                               stderr=subprocess.STDOUT,
                               timeout=timeout * SLOW, **kw)
            out.seek(0)
            said = out.read()
        assert status is None or p.returncode == status, \
            f"{words}: {p.returncode}\n{said}"
        return said

    def sh(self, script, **kw):
        return self.run("sh", "-c", script, **kw)

    def read(self, path):
        with open(self.path(path)) as f:
            return f.read()

    def write(self, path, text, mode=0o644):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(self.path(path), "w") as f:
            f.write(text)
        os.chmod(self.path(path), mode)

    def there(self, path):
        return os.path.lexists(self.path(path))

    def changes(self):
        """What each file is whose path is not as it was in the beginning."""
        out, upper = {}, self.top + "/upper"
        for top, dirs, files in os.walk(upper):
            for name in dirs + files:
                path = f"{top}/{name}"[len(upper):]
                if path.startswith(TRACES):
                    continue
                now = state(f"{upper}{path}")
                if now != state(f"{self.top}/base{path}"):
                    out[path] = now
        return out

    def close(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()
        # Its processes are killed with it; their mounts go when they are gone.
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                os.rmdir(self.dir)
                return
            except OSError:
                time.sleep(0.02)
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
