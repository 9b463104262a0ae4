"""Delivery on this host, user by user, and what mail readers make of it."""
import os
import shutil
import subprocess
import threading

import pytest

from postern import HOSTNAME, mail, run, wait_for
from test_aliases import Names, forward, to
from test_local import Host, me, needs_root, users  # noqa: F401


def test_maps(users):
    """A user's own transport and command go before all others' and before
    the parameters'; an extension does not matter."""
    name = me(users)
    with Names(f"other: {name}\n",
               recipient_delimiter="+",
               mailbox_transport_maps=
               "inline:{ moved=discard:moved-away }, "
               f"inline:{{ {name}=discard:by-table }}",
               mailbox_transport="discard:by-parameter") as h:
        h.send(to(name + "+x"))
        h.wait_log(r"status=sent \(by-table\)")
        # and who is no user
        h.send(to("moved"))
        h.wait_log(r"status=sent \(moved-away\)")
        h.send(to("nobodysuch"))
        h.wait_log(r"status=sent \(by-parameter\)")
        since = len(h.log())
        h.send(to("other"))
        h.wait_log(r"status=sent \(by-table\)", since=since)


def test_command_maps(users):
    name = me(users)
    with Names(start=False, mailbox_command="/bin/false") as h:
        h.set(mailbox_command_maps=
              f"inline:{{ {{ {name} = {h.dir}/catch {h.dir}/out/table }} }}")
        h.start()
        h.ready()
        h.send(to(name))
        assert h.status(to(name), "sent").startswith("delivered to command")
        h.out("table", b"Subject: hello")


def test_fallback_maps(users):
    with Names(fallback_transport_maps=
               "inline:{ { gone = error:5.1.6 moved } }",
               fallback_transport="discard:by-parameter") as h:
        h.send(to("gone"), sender="")
        h.wait_log(r"dsn=5\.1\.6, status=bounced \(moved\)")
        h.send(to("nobodysuch"))
        h.wait_log(r"status=sent \(by-parameter\)")


@pytest.mark.parametrize("parameter", [
    "mailbox_transport_maps", "mailbox_command_maps",
    "fallback_transport_maps"])
def test_a_table_that_cannot_be_asked(users, parameter):
    """Nobody's mail goes where his entry would not have sent it."""
    name = me(users)
    with Names(**{parameter: "fail:broken"}) as h:
        h.expect_log("lookup failure|deferred until|broken")
        h.send(to(name))
        assert h.status(to(name), "deferred") == f"{parameter} lookup failure"
        assert not os.path.exists(f"{h.dir}/mail/{name}")


def test_command_shell(users):
    """Each command is the shell's, also one that needs none."""
    name = me(users)
    with Names(start=False) as h:
        shell = h.dir + "/shell"
        with open(shell, "w") as f:
            f.write("#!/bin/sh\nprintf '<%s>' \"$@\" >" + h.dir +
                    "/out/shell\ncat >/dev/null\n")
        os.chmod(shell, 0o755)
        h.set(local_command_shell=shell + " -x  -c",
              mailbox_command="/bin/cat 'a  b' > /dev/null; :")
        h.start()
        h.ready()
        h.send(to(name))
        h.status(to(name), "sent")
        assert h.out("shell") == b"<-x><-c></bin/cat 'a  b' > /dev/null; :>"
        h.set(mailbox_command="/bin/cat")
        h.wait_log("generation 2 is in service")
        since = len(h.log())
        h.send(to(name))
        h.status(to(name), "sent", since=since)
        assert h.out("shell") == b"<-x><-c></bin/cat>"


def test_error_and_its_like(users):
    """Transports that deliver nothing: the next hop is what is said, perhaps
    with a status; also under a name of one's own."""
    with Host(services="gone unix - - n - - error\n"
              "retry unix - - n - - error\n"
              "away unix - - n - - discard\n",
              transport_maps="inline:{ {a.example = error:5.1.6 has moved}, "
              "{b.example = retry:4.3.2 not today}, "
              "{c.example = discard:unwanted}, {d.example = error:no}, "
              "{e.example = gone:5.7.1 never}, {f.example = away:there}, "
              "{g.example = retry:}, {h.example = error:} }",
              smtpd_reject_unlisted_recipient="no") as h:
        for domain, dsn, status, text in (
                ("a", "5.1.6", "bounced", "has moved"),
                ("b", "4.3.2", "deferred", "not today"),
                ("c", "2.0.0", "sent", "unwanted"),
                ("d", "5.0.0", "bounced", "no"),
                ("e", "5.7.1", "bounced", "never"),
                ("f", "2.0.0", "sent", "there"),
                ("g", "4.0.0", "deferred", "Address is undeliverable"),
                ("h", "5.0.0", "bounced", "Address is undeliverable")):
            h.run("env", "MAIL_CONFIG=" + h.etc, h.build + "/bin/sendmail",
                  "-f", "", f"x@{domain}.example")
            h.wait_log(rf"to=<x@{domain}\.example>.* dsn={dsn}, "
                       rf"status={status} \({text}\)")


def test_merged_aliases(users):
    """Fragments of several hosts are put together and built again and again
    while mail comes: each name is known at each moment."""
    name = me(users)
    with Names(f"n0: {name}\n", minimal_backoff_time="300s",
               alias_maps="lmdb:$config_directory/aliases, "
               "lmdb:$config_directory/other",
               maximal_backoff_time="300s", queue_run_delay="300s",
               start=False) as h:
        for i in range(3):
            h.write(f"part{i}", f"n{i}: {name}\n")
        h.write("other", f"n9: {name}\n")
        stop = threading.Event()
        trouble = []

        def merge():
            parts = " ".join(h.path(f"part{i}") for i in range(3))
            path = h.path("aliases")
            try:
                turn = 0
                while not stop.is_set():
                    turn += 1
                    h.write(f"part{turn % 3}", f"n{turn % 3}: {name}\n" +
                            "".join(f"p{k}: nobody\n" for k in
                                    range(turn % 7 * 50))
                            .replace("p", f"p{turn % 3}-"))
                    h.run("sh", "-c", f"cat {parts} >{path}.new && "
                          f"mv {path}.new {path}")
                    h.run(h.build + "/bin/postalias", "-c", h.etc,
                          "lmdb:" + path)
            except BaseException as e:
                trouble.append(e)
        h.run("sh", "-c", f"cat {h.etc}/part? > {h.etc}/aliases")
        for table in "aliases", "other":
            h.run(h.build + "/bin/postalias", "-c", h.etc,
                  f"lmdb:{h.etc}/{table}")
        Host.start(h)
        h.ready()
        thread = threading.Thread(target=merge)
        thread.start()
        try:
            for i in range(40):
                h.send(to(f"n{(0, 1, 2, 9)[i % 4]}"), mail(f"number-{i}-"))
        finally:
            stop.set()
            thread.join()
        assert not trouble
        wait_for("all", lambda: h.log().count(f"to=<{to(name)}>") >= 40 and
                 not h.queued())
        assert "status=deferred" not in h.log()
        assert "status=bounced" not in h.log()
        text = h.has(f"{h.dir}/mail/{name}")
        for i in range(40):
            assert text.count(b"Subject: number-%d-" % i) == 1


# -- readers -----------------------------------------------------------------

BODY = (b"text\r\n\r\nFrom nobody Sat Nov 21 17:40:00 2026\r\n"
        b"Subject: none\r\n>From\r\n.dot\r\n\r\n")


def reader(h, user, *cmd, **kw):
    """A program of the user's."""
    r = subprocess.run(
        ["setpriv", "--reuid", user.name, "--regid", str(user.gid),
         "--clear-groups", *cmd], capture_output=True, check=False,
        timeout=60, env={"HOME": h.dir + "/reader", "USER": user.name,
                         "TZ": "UTC", "PATH": os.environ["PATH"]}, **kw)
    assert r.returncode == 0, r.stderr
    return r.stdout


def doveadm(h, user, location, verb, *what):
    conf = h.dir + "/dovecot.conf"
    with open(conf, "w") as f:
        f.write(f"mail_location = {location}\nfirst_valid_uid = 1\n"
                f"last_valid_uid = 0\nbase_dir = {h.dir}/reader/run\n"
                "log_path = /dev/stderr\nssl = no\n")
    return reader(h, user, "doveadm", "-c", conf, "-f", "tab", verb, *what)


@needs_root
@pytest.mark.skipif(not shutil.which("doveadm"), reason="no Dovecot here")
@pytest.mark.parametrize("form", ["mbox", "maildir"])
def test_dovecot_reads(users, form):
    """Each message once, whole, and unseen."""
    alice = users[0]
    main = {"home_mailbox": "Maildir/"} if form == "maildir" else {}
    with Host(**main) as h:
        run("install", "-d", "-o", alice.name, h.dir + "/reader")
        for i in range(5):
            h.send(to(alice.name), mail(f"number {i}", BODY))
        wait_for("five messages", lambda: h.log().count("status=sent") == 5)
        if form == "maildir":
            location = f"maildir:{alice.home}/Maildir"
        else:
            location = f"mbox:~/mail:INBOX={h.dir}/mail/{alice.name}"
        got = doveadm(h, alice, location, "fetch",
                      "hdr.subject flags", "ALL").decode().splitlines()[1:]
        assert sorted(line.split("\t")[0] for line in got) == \
            [f"number {i}" for i in range(5)]
        assert not any("Seen" in line for line in got)
        texts = doveadm(h, alice, location, "fetch", "body",
                        "SUBJECT", "number 3")
        body = BODY.replace(b"\r\n", b"\n")
        if form == "mbox":
            # lines that would end a message are quoted in the file, and
            # the last empty line may be the file's
            body = body.replace(b"\nFrom ", b"\n>From ").rstrip(b"\n")
        assert body in texts.replace(b"\r", b""), texts
        # what the reader writes back is no trouble for the next message
        doveadm(h, alice, location, "flags", "add", "\\Seen", "ALL")
        h.send(to(alice.name), mail("one more", BODY))
        wait_for("the sixth", lambda: h.log().count("status=sent") == 6)
        got = doveadm(h, alice, location, "fetch", "hdr.subject flags",
                      "UNSEEN").decode().splitlines()[1:]
        assert [line.split("\t")[0] for line in got] == ["one more"]


@needs_root
@pytest.mark.skipif(not shutil.which("mail"), reason="no mailx here")
def test_mailx_reads(users):
    alice = users[0]
    with Host() as h:
        for i in range(3):
            h.send(to(alice.name), mail(f"number {i}", BODY))
        wait_for("three messages", lambda: h.log().count("status=sent") == 3)
        got = reader(h, alice, "mail", "-n", "-f",
                     f"{h.dir}/mail/{alice.name}", input="h\nx\n", text=True)
        assert [f"number {i}" in got for i in range(3)] == [True] * 3, got
        assert "3 messages" in got and "nobody" not in got, got


@needs_root
def test_a_home_that_is_not_mounted(users):
    """The file system with the mailboxes is gone: mail waits, and nothing is
    made in what lies below it."""
    alice = users[0]
    with Host(home_mailbox="Maildir/", require_home_directory="yes") as h:
        top = h.dir + "/homes"
        os.mkdir(top)
        run("mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "none", top)
        home = f"{top}/{alice.name}"
        run("usermod", "-d", home, alice.name)
        try:
            os.mkdir(home)
            os.chown(home, alice.uid, alice.gid)
            h.send(to(alice.name), mail("first"))
            h.status(to(alice.name), "sent")
            assert len(os.listdir(home + "/Maildir/new")) == 1
            run("umount", "-l", top)
            since = len(h.log())
            h.send(to(alice.name), mail("second"))
            assert "home directory" in h.status(to(alice.name), "deferred",
                                                since=since)
            assert os.listdir(top) == []
            run("mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "none", top)
            os.mkdir(home)
            os.chown(home, alice.uid, alice.gid)
            h.flush()
            h.status(to(alice.name), "sent", since=since)
            assert len(os.listdir(home + "/Maildir/new")) == 1
        finally:
            run("usermod", "-d", alice.home, alice.name)
            run("umount", "-l", top, check=False)


@pytest.mark.parametrize("name_of", ["forward", "alias"])
def test_own_name_and_mailbox_transport(users, name_of):
    """A list that names its own user beside others, or beside a file: what
    mailbox_transport takes is the user's, once, and the others get theirs."""
    user = users[0]
    out = "out.example=discard:elsewhere"
    lists = f"{user.name}: \\{user.name}, x@out.example, y@out.example\n" \
        if name_of == "alias" else ""
    with Names(lists, mailbox_transport="discard:in-the-box",
               transport_maps=f"inline:{{ {out} }}") as h:
        if name_of == "forward":
            forward(user, f"\\{user.name}, x@out.example\ny@out.example\n")
        since = len(h.log())
        h.send(to(user.name))
        for who, text in ((to(user.name), "in-the-box"),
                          ("x@out.example", "elsewhere"),
                          ("y@out.example", "elsewhere")):
            h.wait_log(f"to=<{who}>.*status=sent \\({text}\\)", since=since)
        wait_for("an empty queue", lambda: not h.queued())
        log = h.log()[since:]
        assert log.count("(in-the-box)") == 1
        assert log.count("(elsewhere)") == 2
        assert "status=deferred" not in log
        if name_of == "forward":
            # beside a file alone there is nothing else to send
            forward(user, f"\\{user.name}, {h.dir}/mail/{user.name}.too\n")
            since = len(h.log())
            h.send(to(user.name))
            h.wait_log("status=sent \\(in-the-box\\)", since=since)
            assert b"Subject: hello" in h.has(
                f"{h.dir}/mail/{user.name}.too", b"Subject: hello")
            os.unlink(user.home + "/.forward")
