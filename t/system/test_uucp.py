"""Mail by UUCP: rmail, and a neighbour reached with real uux and uucico."""
import os
import shutil

import pytest

from postern import HOSTNAME, mail, wait_for
from test_local import needs_root
from test_pipe import Piped
from test_submit import sendmail, taken

TO = "ann@example.com"


def arrived(sink, subject):
    return sink.wait_subject(subject)


@pytest.mark.parametrize("lines, sender", [
    (b"From bob Sat Nov 21 17:40:00 2026\n", f"bob@{HOSTNAME}"),
    (b"From bob@b.example  Sat Nov 21 17:40:00 2026\n", "bob@b.example"),
    (b"From bob Sat Nov 21 17:40:00 2026 remote from hosta\n",
     "bob@hosta"),
    (b"From uucp Sat Nov 21 17:40:00 2026 remote from near\n"
     b">From bob Sat Nov 21 17:30:00 2026 remote from far\n",
     "far!bob@near"),
    (b"From \"b o\"@b.example Sat Nov 21 17:40:00 2026\n",
     "\"b o\"@b.example"),
    (b"From MAILER-DAEMON Sat Nov 21 17:40:00 2026\n", ""),
    (b"From <> Sat Nov 21 17:40:00 2026 remote from hosta\n", ""),
])
def test_rmail(make, sink, lines, sender):
    """The sender is what the lines say; the text begins behind them, and a
    dot does not end it."""
    gw = make(sink, main={"append_dot_mydomain": "no"})
    sendmail(gw, TO, "cee@example.com", name="rmail",
             text=lines + b"Subject: rmail\n\nFrom here\n.\nto here\n")
    got = arrived(sink, "rmail")
    assert got.sender == sender
    assert sorted(got.rcpts) == [TO, "cee@example.com"]
    assert got.text.endswith(b"\r\n\r\nFrom here\r\n.\r\nto here\r\n")
    assert b"remote from" not in got.text
    taken(gw)


def test_words_are_no_options(make, sink):
    """What follows rmail was said by another host."""
    gw = make(sink)
    text = b"From b@b.example Sat Nov 21 17:40:00 2026\nSubject: one\n\nx\n"
    sendmail(gw, "-t@example.com", "-C/tmp@example.com", name="rmail",
             text=text)
    assert sorted(arrived(sink, "one").rcpts) == \
        ["-C/tmp@example.com", "-t@example.com"]
    sendmail(gw, name="rmail", text=text, status=64)


@pytest.mark.parametrize("text", [
    b"", b"Subject: x\n\nx\n", b"From", b"From ", b">From \n",
    b"From b\n" * 99 + b"From " + b"x" * 4000 + b"\n\n",
    (b"From b d remote from " + b"h" * 1000 + b"\n") * 20])
def test_no_sender(make, sink, text):
    gw = make(sink)
    sendmail(gw, TO, name="rmail", text=text, status=65)
    taken(gw)


def test_headers_at_once(make, sink):
    """The first line behind is a header that begins as such a line does."""
    gw = make(sink)
    for n, first in enumerate((b"From: a@b.example\n", b"Fro: x\n", b"F: x\n",
                               b">x\n", b"From\n")):
        sendmail(gw, TO, name="rmail", text=b"From b@b.example d\n" + first +
                 b"Subject: n%d\n\nx\n" % n)
    for n in range(3):
        arrived(sink, f"n{n}")
    wait_for("all of them", lambda: len(sink.messages) == 5)


# -- real UUCP ---------------------------------------------------------------


def node(top, name, neighbour, *sys):
    """Configuration of a host; its folder."""
    d = f"{top}/{name}"
    os.makedirs(d + "/spool")
    with open(d + "/sys", "w") as f:
        f.write("\n".join((f"system {neighbour}", "time any",
                           "protocol i", *sys)) + "\n")
    with open(d + "/port", "w") as f:
        f.write(f"port cable\ntype pipe\n"
                f"command /usr/sbin/uucico -I {top}/{neighbour}/config -l\n")
    with open(d + "/passwd", "w") as f:
        f.write(f"U{neighbour} secret\n")
    with open(d + "/config", "w") as f:
        f.write(f"nodename {name}\nspool {d}/spool\nsysfile {d}/sys\n"
                f"portfile {d}/port\n"
                f"passwdfile {d}/passwd\n"
                f"logfile {d}/spool/Log\nstatfile {d}/spool/Stats\n"
                f"debugfile {d}/spool/Debug\npubdir {d}/spool\n"
                f"lockdir {d}/spool\nmax-uuxqts 1\n")
    for path, _, files in os.walk(d):
        for one in [path] + [f"{path}/{f}" for f in files]:
            shutil.chown(one, "uucp", "uucp")
    return d


def uucp(gw, *cmd):
    gw.run("setpriv", "--reuid", "uucp", "--regid", "uucp", "--clear-groups",
           *cmd)


@needs_root
@pytest.mark.skipif(not shutil.which("uux"), reason="no UUCP here")
def test_both_ways(make, sink):
    """From one gateway to another by uux, uucico and uuxqt, which the latter
    starts: nothing but the
    lines that UUCP is about is gained or lost."""
    there = make(sink)
    # as without a set-gid postdrop
    os.chmod(there.spool + "/maildrop", 0o1733)
    with Piped("flags=Fqhu user=uucp", "uux -I CONF -r -n -z -a$sender - "
               "$nexthop!rmail ($recipient)", transport_maps=
               "inline:{ p.example=show:there, q.example=show:there }") as h:
        top = h.dir + "/uucp"
        os.mkdir(top)
        os.chmod(top, 0o755)
        here = node(top, "here", "there", "port cable",
                    "call-login Uhere", "call-password secret",
                    'chat "" \\r\\c ogin: \\L word: \\P')
        with open(top + "/rmail", "w") as f:
            f.write(f"#!/bin/sh\nMAIL_CONFIG={there.etc} "
                    f"exec {there.build}/bin/rmail \"$@\"\n")
        os.chmod(top + "/rmail", 0o755)
        node(top, "there", "here", "called-login Uhere",
             "commands rmail", f"command-path {top}")
        h.edit("master.cf", lambda t: t.replace("CONF", here + "/config"))
        h.wait_log("generation 2 is in service")
        body = b"From here\r\n.\r\n\xc3\xa4\r\n" * 200
        h.send(["Ann@P.Example", "bee@p.example"], mail("by uucp", body))
        h.status("Ann@P.Example", "sent")
        there.set(relay_domains="p.example, q.example")
        there.wait_log("generation 2 is in service")
        uucp(h, "uucico", "-I", here + "/config", "-S", "there")
        try:
            got = arrived(sink, "by uucp")
        finally:
            for name in "here", "there":
                with open(f"{top}/{name}/spool/Log") as f:
                    print(f.read())
        assert got.sender == "sender@client.example"
        assert sorted(got.rcpts) == ["ann@p.example", "bee@p.example"]
        assert got.text.endswith(b"\r\n\r\n" + body)
        assert b"remote from" not in got.text
