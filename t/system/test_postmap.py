"""postmap and postalias, beside Postfix's where that is installed."""
import os
import pathlib
import random
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time

import pytest
from postern import wait_for

BUILD = os.path.abspath(os.environ.get("BUILD", "build"))
POSTFIX = "/usr/sbin/postmap"
LMDB = "/usr/lib/postfix/postfix-lmdb.so"


@pytest.fixture
def run():
    # below a directory that everybody may enter
    tmp_path = pathlib.Path(tempfile.mkdtemp(prefix="postmap-"))
    os.chmod(tmp_path, 0o755)
    # nobody's main.cf but an empty one
    (tmp_path / "main.cf").write_text("")

    def call(program, *args, stdin="", check=True):
        p = subprocess.run(
            [f"{BUILD}/bin/{program}", *args], cwd=tmp_path, input=stdin,
            capture_output=True, text=True, timeout=120,
            env={**os.environ, "MAIL_CONFIG": str(tmp_path)})
        if check:
            assert p.returncode == 0, p.stderr
        return p
    call.dir = tmp_path
    yield call
    shutil.rmtree(tmp_path)


def write(run, name, text):
    (run.dir / name).write_text(text)


ENTRIES = 'a 1\nB two words\n"q k"@x  v\nlong first\n second\n'


def test_build_and_ask(run):
    write(run, "t", "# comment\n" + ENTRIES)
    assert run("postmap", "t").stderr == ""
    assert run("postmap", "-q", "b", "t").stdout == "two words\n"
    assert run("postmap", "-q", "B", "hash:t").stdout == "two words\n"
    assert run("postmap", "-q", "none", "t", check=False).returncode == 1
    assert run("postmap", "-q", "-", "t", stdin="a\nnone\nlong\n").stdout == (
        "a\t1\nlong\tfirst second\n")
    assert run("postmap", "-q", "-", "t", stdin="none\n",
               check=False).returncode == 1
    assert run("postmap", "-s", "t").stdout == (
        '"q k"@x\tv\na\t1\nb\ttwo words\nlong\tfirst second\n')
    assert run("postmap", "-js", "t").stdout.startswith(
        '{"\\"q k\\"@x": "v"}\n{"a": "1"}\n')
    assert run("postmap", "-jq", "b", "t").stdout == '{"b": "two words"}\n'
    # those without an index can be listed, too
    write(run, "u", "A 1\nb 2\n")
    assert run("postmap", "-s", "texthash:u").stdout == "a\t1\nb\t2\n"
    assert run("postmap", "-s", "inline:{X=y}").stdout == "x\ty\n"
    assert "unsupported map type" in run(
        "postmap", "-s", "static:x", check=False).stderr
    assert run("postmap", "-q", "x", "inline:{y=1}", "inline:{x=2}"
               ).stdout == "2\n"


def test_changes(run):
    write(run, "t", "a 1\n")
    run("postmap", "t")
    r = run("postmap", "-i", "t", stdin="b 2\na 3\n")
    assert 'duplicate entry: "a"' in r.stderr
    assert run("postmap", "-s", "t").stdout == "a\t1\nb\t2\n"
    assert run("postmap", "-iw", "t", stdin="a 3\n").stderr == ""
    assert run("postmap", "-q", "a", "t").stdout == "1\n"
    run("postmap", "-ir", "t", stdin="a 3\n")
    assert run("postmap", "-q", "a", "t").stdout == "3\n"
    run("postmap", "-d", "a", "t")
    assert run("postmap", "-d", "a", "t", check=False).returncode == 1
    run("postmap", "-d", "-", "t", stdin="x\nb\n")
    assert run("postmap", "-s", "t").stdout == ""
    # without a text and without an index
    run("postmap", "-i", "new", stdin="k v\n")
    assert run("postmap", "-s", "new").stdout == "k\tv\n"


def test_options(run):
    write(run, "t", "Key v\n")
    os.chmod(run.dir / "t", 0o640)
    run("postmap", "-f", "t")
    assert run("postmap", "-s", "t").stdout == "Key\tv\n"
    assert os.stat(run.dir / "t.lmdb").st_mode & 0o777 == 0o640
    os.chmod(run.dir / "t.lmdb", 0o600)
    run("postmap", "-n", "t")
    assert os.stat(run.dir / "t.lmdb").st_mode & 0o777 == 0o600
    assert run("postmap", "-q", "KEY", "t").stdout == "v\n"
    os.unlink(run.dir / "t.lmdb")
    run("postmap", "-p", "t")
    assert os.stat(run.dir / "t.lmdb").st_mode & 0o777 == 0o644
    write(run, "dup", "a 1\na 2\n")
    assert 'dup:2: duplicate entry: "a"' in run("postmap", "dup").stderr
    assert run("postmap", "-q", "a", "dup").stdout == "1\n"
    run("postmap", "-r", "dup")
    assert run("postmap", "-q", "a", "dup").stdout == "2\n"


def test_mistakes(run):
    write(run, "t", "a 1\nb\nalias: x\n")
    r = run("postmap", "t")
    assert "t:2: expected format: key whitespace value" in r.stderr
    assert "t:3: record is in \"key: value\" format" in r.stderr
    assert run("postmap", "-s", "t").stdout == "a\t1\nalias:\tx\n"
    for args, why in ((["nothing"], "open .*nothing: No such file"),
                      (["pcre:t"], "unsupported map type"),
                      (["-q", "x", "foo:t"], "unknown table type"),
                      (["-j", "t"], "option -j requires"),
                      (["-q", "a", "-s", "t"], "specify only one of"),
                      (["-hq", "a", "t"], "only with"),
                      ([], "usage: postmap"),
                      (["."], "not a regular file")):
        r = run("postmap", *args, check=False)
        assert r.returncode == 1
        assert re.search(why, r.stderr), r.stderr


def test_standard_input_is_not_the_table(run):
    write(run, "t", "a 1\n")
    with open(run.dir / "t") as f:
        subprocess.run([f"{BUILD}/bin/postmap", "t"], stdin=f, cwd=run.dir,
                       check=True, timeout=60)
    assert (run.dir / "t").read_text() == "a 1\n"
    # nor does it wait for one that stays open
    r, w = os.pipe()
    try:
        subprocess.run([f"{BUILD}/bin/postmap", "t"], stdin=r, cwd=run.dir,
                       check=True, timeout=60)
    finally:
        os.close(r)
        os.close(w)


def test_aliases(run):
    write(run, "al", '# aliases\nRoot: joe\n"a b": x,\n y\n'
                     'list: :include:/x\nprog: "|/bin/x"\nbad\nu@d: x\n')
    r = run("postalias", "al")
    assert "al:7: need name:value pair" in r.stderr
    assert "al:8: name must be local" in r.stderr
    assert run("postalias", "-s", "al").stdout == (
        'a b:\tx, y\nlist:\t:include:/x\nprog:\t"|/bin/x"\n'
        'root:\tjoe\n')
    assert run("postalias", "-q", "-", "al", stdin="root\n").stdout == (
        "root:\tjoe\n")
    assert run("postalias", "-q", "ROOT", "al").stdout == "joe\n"


MESSAGE = """From: a@b
Subject: hello
 world
Content-Type: multipart/mixed; boundary=xx

preamble
--xx
Content-Type: application/octet-stream; name="evil.exe"

body line
--xx--
"""


def test_messages(run):
    write(run, "all", "/./ X\n")

    def ask(option):
        return run("postmap", option, "-", "pcre:all", stdin=MESSAGE,
                   check=False).stdout.replace("\tX\n", "\n")
    head = MESSAGE.split("\n\n", 1)[0] + "\n"
    assert ask("-hq") == head
    assert ask("-bq") == MESSAGE.split("\n\n", 1)[1].replace("\n\n", "\n")
    part = 'Content-Type: application/octet-stream; name="evil.exe"\n'
    assert ask("-hmq") == head + part
    assert ask("-bmq") == "preamble\n--xx\n" + part + "body line\n--xx--\n"


@pytest.mark.skipif(not os.path.exists(LMDB), reason="no postfix-lmdb")
def test_postfix_reads_it_and_the_other_way_round(run):
    write(run, "t", ENTRIES)
    run("postmap", "t")

    def postfix(*args, stdin=""):
        return subprocess.run([POSTFIX, *args], cwd=run.dir, input=stdin,
                              capture_output=True, text=True, timeout=60,
                              env={**os.environ, "MAIL_CONFIG": str(run.dir)}
                              ).stdout
    theirs = postfix("-s", "lmdb:t")
    assert theirs == run("postmap", "-s", "t").stdout
    assert theirs.count("\n") == 4
    shutil.copy(run.dir / "t", run.dir / "u")
    postfix("lmdb:u")
    assert run("postmap", "-s", "u").stdout == theirs
    run("postmap", "-i", "u", stdin="new entry\n")
    assert postfix("-q", "new", "lmdb:u") == "entry\n"
    postfix("-i", "lmdb:t", stdin="their entry\n")
    assert run("postmap", "-q", "their", "t").stdout == "entry\n"


def big(run, name, n, word="v"):
    with open(run.dir / name, "w") as f:
        for i in range(n):
            f.write(f"key{i} {word}{i}\n")


def test_killed_in_the_middle(run):
    """The old index, or the new one; nothing else, and no litter."""
    big(run, "t", 60000, "old")
    run("postmap", "t")
    before = sorted(os.listdir(run.dir))
    big(run, "t", 60000, "new")
    random.seed(1)
    killed = 0
    for i in range(200):
        if i >= 12 and killed > 2:
            break
        p = subprocess.Popen([f"{BUILD}/bin/postmap", "t"], cwd=run.dir)
        time.sleep(random.uniform(0.001, 0.15))
        p.send_signal(signal.SIGKILL)
        killed += p.wait() != 0
        got = run("postmap", "-s", "t").stdout.splitlines()
        assert len(got) == 60000
        assert len({l.split("\t")[1][:3] for l in got}) == 1
    assert killed > 2
    left = [n for n in os.listdir(run.dir) if n not in before]
    # a link that had its name for an instant
    assert len(left) <= 1
    run("postmap", "t")
    assert run("postmap", "-q", "key7", "t").stdout == "new7\n"


def test_many_at_once(run):
    big(run, "t", 3000)
    run("postmap", "t")
    wrong = []

    def build():
        for _ in range(6):
            wrong.append(run("postmap", "t", check=False).stderr)

    def change(k):
        for i in range(10):
            wrong.append(run("postmap", "-ir", "t",
                             stdin=f"mine{k} {i}\n",
                             check=False).stderr)

    def ask():
        for i in range(20):
            r = run("postmap", "-q", "key2999", "t", check=False)
            wrong.append("" if r.stdout == "v2999\n" else repr(r))
    threads = [threading.Thread(target=build) for _ in range(2)] + [
        threading.Thread(target=change, args=(k,)) for k in range(2)] + [
        threading.Thread(target=ask) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not any(wrong), [w for w in wrong if w]
    assert len(run("postmap", "-s", "t").stdout.splitlines()) >= 3000


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_full_disk(run):
    disk = run.dir / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk],
                   check=True)
    try:
        (disk / "t").write_text("a old\n")
        run("postmap", "disk/t")
        with open(disk / "t", "w") as f:
            for i in range(14000):
                f.write(f"key{i} {'x' * 40}\n")
        r = run("postmap", "disk/t", check=False)
        assert r.returncode == 1 and "No space left" in r.stderr
        assert run("postmap", "-s", "disk/t").stdout == "a\told\n"
        assert sorted(os.listdir(disk)) == ["t", "t.lmdb"]
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_works_as_the_owner(run):
    """Who owns the directory cannot have root write elsewhere."""
    theirs = run.dir / "theirs"
    theirs.mkdir()
    (theirs / "t").write_text("a 1\n")
    secret = run.dir / "secret"
    secret.write_text("root's\n")
    os.chmod(secret, 0o600)
    os.symlink("../secret", theirs / "t.lmdb")
    os.symlink("../secret", theirs / "s")
    os.chown(theirs, 65534, 65534)
    r = run("postmap", "theirs/t")
    assert secret.read_text() == "root's\n"
    st = os.lstat(theirs / "t.lmdb")
    assert st.st_uid == 65534 and not os.path.islink(theirs / "t.lmdb")
    # his name for a file of root's is no way to read it
    r = run("postmap", "theirs/s", check=False)
    assert r.returncode == 1 and "Permission denied" in r.stderr


def test_change_is_seen_by_a_running_gateway(make, sink):
    gw = make(sink, main={"relay_recipient_maps": "hash:recipients"},
              start=False)
    gw.write("recipients", "known@example.com x\n")
    gw.start()

    def rcpt(address):
        with gw.client() as c:
            c.ehlo()
            c.cmd("MAIL FROM:<a@client.example>")
            return c.cmd(f"RCPT TO:<{address}>").code
    with gw.client() as kept:
        kept.ehlo()
        kept.cmd("MAIL FROM:<a@client.example>")
        assert kept.cmd("RCPT TO:<new@example.com>").code == 550
        subprocess.run([f"{BUILD}/bin/postmap", "-i",
                        gw.path("recipients")], check=True, timeout=60,
                       input="new@example.com x\n", text=True)
        # the same session, at once, and no new generation
        assert kept.cmd("RCPT TO:<new@example.com>").code == 250
    # many entries: the map of those that have it open must grow
    with gw.client() as kept:
        kept.ehlo()
        kept.cmd("MAIL FROM:<a@client.example>")
        assert kept.cmd("RCPT TO:<known@example.com>").code == 250
        more = "".join(f"u{i}@example.com {'x' * 500}\n"
                       for i in range(40000))
        subprocess.run([f"{BUILD}/bin/postmap", "-i",
                        gw.path("recipients")], check=True, timeout=60,
                       input=more, text=True)
        assert kept.cmd("RCPT TO:<u39999@example.com>").code == 250
        assert kept.cmd("RCPT TO:<u0@example.com>").code == 250
        assert kept.cmd("RCPT TO:<u40000@example.com>").code == 550
    assert "is in service" not in gw.log()
    # a new file in its place is a new generation
    gw.write("recipients2", "other@example.com x\n")
    subprocess.run([f"{BUILD}/bin/postmap", gw.path("recipients2")],
                   check=True, timeout=60)
    os.utime(gw.path("recipients2.lmdb"))
    os.rename(gw.path("recipients2.lmdb"), gw.path("recipients.lmdb"))
    wait_for("the table that was put there",
             lambda: rcpt("other@example.com") == 250, 10)


def test_aliases_at_once(run):
    """As postmap: the source's mode, and never half a table."""
    rows = "".join(f"name{i}: joe{i}\n" for i in range(3000))
    (run.dir / "al").write_text(rows)
    os.chmod(run.dir / "al", 0o640)
    run("postalias", "al")
    assert stat.S_IMODE(os.stat(run.dir / "al.lmdb").st_mode) == 0o640
    wrong = []

    def build():
        for _ in range(5):
            wrong.append(run("postalias", "al", check=False).stderr)

    def ask():
        for i in range(20):
            r = run("postalias", "-q", "name2999", "al", check=False)
            wrong.append("" if r.stdout == "joe2999\n" else repr(r))
    threads = [threading.Thread(target=f) for f in (build, build, ask, ask)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not any(wrong), [w for w in wrong if w]
    assert stat.S_IMODE(os.stat(run.dir / "al.lmdb").st_mode) == 0o640
