"""A queue on an overlay, as in a container: its files' st_dev is not that of
their directories, and their numbers are those of the layer they are in."""
import os
import subprocess

import pytest
from conftest import need_root
from postern import wait_for
from test_submit import a_file, drop, letter, sendmail, taken, waiting

pytestmark = need_root


@pytest.fixture
def mount():
    """mount(PATH, words of mount(8)...)"""
    mounts = []

    def mount(path, *words):
        subprocess.run(["mount", *words, path], check=True)
        mounts.append(path)
    yield mount
    for path in reversed(mounts):
        subprocess.run(["umount", "-l", path], check=False)


def overlay(gw, mount):
    """The spool: an overlay of two file systems, which leaves no room in a
    file's number to tell which of them it is on."""
    layers = gw.dir + "/layers"
    os.mkdir(layers)
    mount(layers, "-t", "tmpfs", "-o", "mode=755", "tmpfs")
    for name in ("upper", "work"):
        os.mkdir(f"{layers}/{name}", 0o755)
    mount(gw.spool, "-t", "overlay", "-o", f"xino=off,lowerdir={gw.spool},"
          f"upperdir={layers}/upper,workdir={layers}/work", "overlay")


def test_mail_is_taken(mount, make, sink):
    gw = make(sink, start=False)
    maildrop = gw.spool + "/maildrop"
    data = a_file(gw, "in the upper layer")
    lower = drop(gw, "1" * 32, a_file(gw, "in the lower layer"))
    overlay(gw, mount)
    upper = drop(gw, "2" * 32, data)
    for path in (lower, upper):
        assert os.stat(path).st_dev != os.stat(maildrop).st_dev
    gw.start()
    sendmail(gw, "user@example.com", text=letter("from sendmail"))
    sink.wait(3)
    taken(gw)
    assert sorted(m.field("Subject") for m in sink.messages) == [
        "from sendmail", "in the lower layer", "in the upper layer"]
    assert "maildrop/" not in gw.log()


@pytest.mark.parametrize("where", ["plain", "overlay"])
def test_what_is_mounted_on_a_name(mount, make, sink, where):
    """It could not be removed when it is taken."""
    gw = make(sink, start=False)
    gw.expect_log("it is mounted there")
    data = a_file(gw, "again and again")
    if where == "overlay":
        overlay(gw, mount)
    source = drop(gw, "a" * 32, data)
    os.rename(source, gw.spool + "/source")
    target = drop(gw, "b" * 32, b"")
    # The same file system: st_dev does not tell.
    mount(target, "--bind", gw.spool + "/source")
    gw.start()
    gw.wait_log("maildrop/b{32}: uid=0: it is mounted there")
    sendmail(gw, "user@example.com", text=letter("another"))
    sink.wait_subject("another")
    wait_for("what stays", lambda: waiting(gw) == ["b" * 32])
    assert len(sink.messages) == 1
