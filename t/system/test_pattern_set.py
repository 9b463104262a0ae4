"""Many rules of a table, asked together."""
import os
import subprocess

import pytest
from postern import BUILD, SAN, mail, wait_for

TOGETHER = b"libhs" in subprocess.run(
    ["ldd", f"{BUILD}/libexec/filter"], stdout=subprocess.PIPE,
    check=False).stdout
needs_vectorscan = pytest.mark.skipif(
    not TOGETHER, reason="built without Vectorscan")


def rules(n, action):
    return "".join(f"/badword{i}x/ {action} 5.7.1 rule {i}\n"
                   for i in range(n))


@pytest.fixture
def gw(make, sink):
    gw = make(sink, main={"body_checks": "pcre:body",
                          "rules_cache_directory": "sets"}, start=False)
    gw.write("body", rules(200, "REJECT"))
    gw.set(rules_cache_directory=gw.path("sets"))
    gw.start()
    return gw


def send(gw, body):
    with gw.client() as c:
        c.ehlo()
        return c.message("a@client.example", "user@example.com",
                         mail(body=body.encode() + b"\r\n"))


def sets(gw):
    return sorted(os.listdir(gw.path("sets")))


def judges(gw):
    assert send(gw, "nothing").code == 250
    for i in (0, 7, 199):
        r = send(gw, f"line\r\nsome BadWord{i}X here")
        assert r.code == 550 and f"rule {i}" in repr(r), r
    # the first rule wins, not the one found first
    r = send(gw, "badword150x badword3x badword17x")
    assert "rule 3" in repr(r), r


@needs_vectorscan
def test_cache(gw):
    judges(gw)
    first, = sets(gw)
    path = gw.path("sets") + "/" + first
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(gw.path("sets")).st_mode & 0o777 == 0o700
    kept = os.stat(path).st_ino
    with open(path, "rb") as f:
        good = f.read()
    assert len(good) > 7000
    # the same rules are not compiled again
    gw.stop()
    gw.start()
    judges(gw)
    assert sets(gw) == [first] and os.stat(path).st_ino == kept
    # a damaged file is replaced
    gw.stop()
    with open(path, "r+b") as f:
        f.seek(6000)
        f.write(b"damaged")
    gw.start()
    judges(gw)
    with open(path, "rb") as f:
        assert f.read() == good


@needs_vectorscan
def test_cache_that_cannot_be_written(gw):
    """Neither is a directory used that others can write to."""
    gw.stop()
    os.chmod(gw.path("sets"), 0o777)
    for f in sets(gw):
        os.unlink(gw.path("sets") + "/" + f)
    gw.start()
    judges(gw)
    assert sets(gw) == []


def test_many_rules(gw):
    """More than Vectorscan is asked for: nothing is kept."""
    gw.stop()
    for f in sets(gw) if TOGETHER else ():
        os.unlink(gw.path("sets") + "/" + f)
    gw.write("body", rules(5000, "REJECT"))
    gw.start()
    judges(gw)
    r = send(gw, "badword4999x")
    assert "rule 4999" in repr(r), r
    assert not os.path.exists(gw.path("sets")) or sets(gw) == []


def test_new_rules(gw):
    judges(gw)
    gw.write("body", rules(2000, "REJECT") + "/otherword/ REJECT other\n")
    wait_for("the new rule", lambda: send(gw, "otherword").code == 550)
    judges(gw)


@needs_vectorscan
def test_check_names_rules_alone(gw):
    gw.write("body", rules(20, "REJECT") + "/[0-9]+a?/ DUNNO\n"
             "!/badword/ DUNNO\n/(?R)?x/ DUNNO\n")
    out = gw.command("check", check=False)
    text = out.stdout + out.stderr
    assert "2 patterns cannot be asked together with the others, which is " \
        "slower: lines 21, 23" in text, text


@pytest.mark.long
def test_random_patterns():
    """Others: PATTERN_ROUNDS=3000 PATTERN_SEED=N test_pattern_set."""
    out = subprocess.run(
        [f"{BUILD}/t/unit/test_pattern_set"], timeout=1800, check=False,
        env={**os.environ, "PATTERN_ROUNDS": "100" if SAN else "600",
             "PATTERN_SEED": "1234"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert out.returncode == 0, out.stdout.decode("latin-1")
