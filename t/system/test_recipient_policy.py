"""Policy classes of recipients: rules of their own for some, and a message
whose recipients get different judgements."""
import os
import re
import shutil
import socket
import subprocess
import tempfile

import pytest
from fault import CHMOD, CREATE, EIO, ENOSPC, RENAME, SYNC, WRITE, Faults
from postern import (LIBEXEC, SAN, TOP, Client, Closed, Instance, Sink,
                     free_port, mail, run, wait_for)

CLASSES = {
    "header_checks": "pcre:header_checks",
    "body_checks": "pcre:body_checks",
    "filter_policy_classes": "lax strict marked",
    "filter_policy_maps": "inline:{ {lax@example.com = lax}, "
    "{strict@example.com = strict}, {marked@example.com = marked}, "
    "{abuse@example.com = default}, {@lab.example.com = lax} }",
    "lax_header_checks": "",
    "lax_body_checks": "pcre:lax_body",
    "strict_header_checks": "pcre:strict_checks",
    "marked_header_checks": "pcre:marked_checks",
}
FILES = {
    "header_checks": "/^Subject: worm/ REJECT a worm\n"
                     "/^Subject: odd/ HOLD odd\n"
                     "/^X-Drop:/ IGNORE\n",
    "body_checks": "/^bad line/ REJECT a bad line\n",
    "lax_body": "/^never/ REJECT\n",
    "strict_checks": "/^Subject: (worm|late$)/ REJECT a worm, strictly\n"
                     "/^Subject: later/ 450 4.7.1 not now\n"
                     "/^Subject: secret/ DISCARD\n",
    "marked_checks": "/^Subject: (.*)/ REPLACE Subject: [out] $1\n"
                     "/^X-Drop:/ IGNORE\n",
}
ALL = ["user@example.com", "lax@example.com", "strict@example.com",
       "marked@example.com"]


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


@pytest.fixture
def make(sink):
    made = []

    def gateway(start=True, **main):
        gw = Instance(sink, main={**CLASSES, **main}, start=False)
        for name, text in FILES.items():
            gw.write(name, text)
        if start:
            gw.start()
        made.append(gw)
        return gw
    yield gateway
    for gw in made:
        gw.destroy()


def send(gw, subject, rcpts, text=None):
    with gw.client() as c:
        c.ehlo()
        return c.message("a@example.com", rcpts, text or mail(subject))


def prdr(gw, subject, rcpts, text=None):
    """The replies for the recipients, and the one for the message."""
    with gw.client() as c:
        assert "250-PRDR" in c.ehlo().text or "250 PRDR" in c.ehlo().text
        assert c.cmd("MAIL FROM:<a@client.example> PRDR").code == 250
        for r in rcpts:
            assert c.cmd(f"RCPT TO:<{r}>").code == 250
        first = c.data_cmd(text or mail(subject))
        if first.code != 353:
            return [], first
        return [c.reply() for _ in rcpts], c.reply()


def got(sink, subject):
    return sorted((m.field("Subject"), *sorted(m.rcpts)) for m in
                  list(sink.messages) if subject in m.field("Subject"))


def spool_empty(gw):
    wait_for("an empty queue", lambda: not gw.queued(
        "incoming", "active", "deferred") and "message in the journal" not in
        " ".join(gw.queued()))


def test_one_class_alone(make, sink):
    gw = make()
    assert send(gw, "worm 1", "user@example.com").text == "550 5.7.1 a worm"
    assert send(gw, "worm 2", "lax@example.com").code == 250
    assert send(gw, "worm 3", "abuse@example.com").code == 550
    assert send(gw, "late", "strict@example.com").text == \
        "550 5.7.1 a worm, strictly"
    assert send(gw, "late", "user@example.com").code == 250
    # the extension is not looked for when the address is there
    bad = mail("body", b"bad line\r\n")
    assert send(gw, "", "lax@example.com", bad).code == 250
    assert send(gw, "", "strict@example.com", bad).text == \
        "550 5.7.1 a bad line"
    sink.wait_subject("worm 2")
    gw.wait_log(r"reject: header Subject: late .*; rule=\S+strict_checks:1; "
                "policy=strict$")


def test_the_same_judgement_is_one_message(make, sink):
    gw = make()
    r = send(gw, "plain", ["user@example.com", "lax@example.com",
                           "strict@example.com"])
    assert r.code == 250
    sink.wait_subject("plain")
    spool_empty(gw)
    assert got(sink, "plain") == [
        ("plain", "lax@example.com", "strict@example.com",
         "user@example.com")]
    assert "split" not in gw.log()
    # the log says once what is no rule's doing
    assert gw.log().count("message-id=") == 1


def test_edits_are_for_one_class(make, sink):
    gw = make()
    text = mail("edit", X_Drop="x")
    assert send(gw, "", ALL, text).code == 250
    wait_for("three copies", lambda: len(got(sink, "edit")) == 3)
    spool_empty(gw)
    copies = {m.rcpts[0]: m for m in sink.messages if len(m.rcpts) == 1}
    assert got(sink, "edit") == [
        ("[out] edit", "marked@example.com"),
        ("edit", "lax@example.com", "strict@example.com"),
        ("edit", "user@example.com")]
    assert copies["user@example.com"].field("X-Drop") is None
    assert copies["marked@example.com"].field("X-Drop") is None
    both = [m for m in sink.messages if len(m.rcpts) == 2][0]
    assert both.field("X-Drop") == "x"
    # one message: one Received header of ours, one Message-ID
    assert len({m.header.split(b"\r\n")[0] for m in sink.messages}) == 1


def test_hold_is_for_one_class(make, sink):
    gw = make()
    assert send(gw, "odd", ALL).code == 250
    wait_for("three copies", lambda: len(got(sink, "odd")) == 2)
    assert got(sink, "odd") == [
        ("[out] odd", "marked@example.com"),
        ("odd", "lax@example.com", "strict@example.com")]
    held = gw.queued("hold")
    assert len(held) == 1
    listed = gw.command("quarantine", "list").stdout
    assert "odd; rule=" in listed and "user@example.com" in listed
    assert "lax@example.com" not in listed
    gw.command("quarantine", "release", os.path.basename(held[0]))
    wait_for("the held one", lambda: ("odd", "user@example.com") in
             got(sink, "odd"))
    spool_empty(gw)
    assert not gw.queued("hold")


def test_discard_is_for_one_class(make, sink):
    gw = make()
    assert send(gw, "secret", ["strict@example.com",
                               "user@example.com"]).code == 250
    sink.wait_subject("secret")
    spool_empty(gw)
    assert got(sink, "secret") == [("secret", "user@example.com")]


@pytest.mark.parametrize("action", ["hold", "discard", "bounce", "reject"])
def test_refused_for_some(make, sink, action):
    gw = make(filter_policy_reject_action=action)
    r = send(gw, "worm", ["user@example.com", "lax@example.com",
                          "strict@example.com"])
    if action == "reject":
        assert r.text == "550 5.7.1 a worm"
        spool_empty(gw)
        assert not gw.queued() and not sink.messages
        return
    assert r.code == 250
    wait_for("the copy", lambda: ("worm", "lax@example.com") in
             got(sink, "worm"))
    spool_empty(gw)
    held = gw.command("quarantine", "list").stdout
    if action == "bounce":
        wait_for("notices", lambda: len(list(filter(
            lambda m: m.sender == "", list(sink.messages)))) == 2)
    notices = [m for m in sink.messages if m.sender == ""]
    assert (len(gw.queued("hold")), len(notices)) == {
        "hold": (2, 0), "discard": (0, 0), "bounce": (0, 2)}[action]
    if action == "hold":
        assert "refused: 550 5.7.1 a worm; rule=" in held
        assert "refused: 550 5.7.1 a worm, strictly; rule=" in held
    if action == "bounce":
        assert any(b"a worm, strictly" in m.text for m in notices)
        assert all(m.rcpts == ["a@example.com"] for m in notices)


def test_refused_for_all(make, sink):
    gw = make()
    assert send(gw, "worm", ["user@example.com", "strict@example.com"]
                ).text == "550 5.7.1 a worm"
    # what may pass later makes all of them wait: nothing is kept
    assert send(gw, "later", ["user@example.com", "strict@example.com"]
                ).text == "450 4.7.1 not now"
    assert not gw.queued() and not sink.messages


def test_prdr(make, sink):
    gw = make()
    each, last = prdr(gw, "worm", ALL)
    assert [r.text for r in each] == [
        "550 5.7.1 <user@example.com>: a worm",
        "250 2.1.5 <lax@example.com>: Ok",
        "550 5.7.1 <strict@example.com>: a worm, strictly",
        "250 2.1.5 <marked@example.com>: Ok"]
    assert last.code == 250
    each, last = prdr(gw, "later", ALL)
    assert [r.code for r in each] == [250, 250, 450, 250]
    assert last.code == 250
    each, last = prdr(gw, "worm", ["user@example.com", "strict@example.com"])
    assert [r.code for r in each] == [550, 550] and last.code == 550
    each, last = prdr(gw, "plain", ALL)
    assert [r.code for r in each] == [250] * 4 and last.code == 250
    # one answer for all
    each, last = prdr(gw, "worm", ["user@example.com"])
    assert not each and last.text == "550 5.7.1 a worm"
    wait_for("all of it", lambda: len(got(sink, "")) == 6)
    spool_empty(gw)
    assert not gw.queued("hold")
    assert got(sink, "worm") == [("[out] worm", "marked@example.com"),
                                 ("worm", "lax@example.com")]


def test_prdr_of_exim(make, sink, tmp_path):
    """Exim tells its senders of exactly those who were refused."""
    if os.getuid() != 0 or not os.path.isdir(f"{TOP}/build/peers/exim"):
        pytest.skip("needs root, and Exim, which is not unpacked")
    gw, port = make(), free_port()
    gw.set(smtpd_client_connection_count_limit="0")
    script, top = f"{TOP}/t/peers/exim", tempfile.mkdtemp(dir="/tmp")
    os.chmod(top, 0o755)
    try:
        with open(f"{top}/out", "wb") as out:
            subprocess.run([script, "relay", top, str(port), str(gw.port)],
                           stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                           check=True, timeout=60)
        wait_for("Exim", lambda: not socket.socket().connect_ex(
            ("127.0.0.1", port)))
        with Client(port) as c:
            c.ehlo()
            assert c.message("a@example.net", ALL, mail("worm")).code == 250
        log = f"{top}/var/log/exim4/mainlog"
        wait_for("the end of it", lambda: os.path.exists(log) and
                 "Completed" in open(log).read())
        said = open(log).read()
        assert re.findall(r"(=>|->|\*\*) (\S+)@example.com", said) == [
            ("**", "user"), ("=>", "lax"), ("**", "strict"),
            ("->", "marked")], said
        assert "PRDR" in said
        inbox = f"{top}/var/mail/inbox"
        wait_for("the notice", lambda: os.path.exists(inbox) and
                 "a worm, strictly" in open(inbox).read())
        notice = open(inbox).read()
        assert "<user@example.com>: a worm" in notice
        assert "lax@example.com>" not in notice.split("This is a copy")[0]
    finally:
        subprocess.run([script, "stop", top], check=False, timeout=60)
        shutil.rmtree(top, ignore_errors=True)
    wait_for("two copies", lambda: len(got(sink, "worm")) == 2)
    spool_empty(gw)
    assert not gw.queued("hold")


def test_prdr_only_where_announced(make):
    gw = make(smtpd_discard_ehlo_keywords="prdr")
    with gw.client() as c:
        assert "PRDR" not in c.ehlo().text
        assert c.cmd("MAIL FROM:<a@client.example> PRDR").code == 555
    gw.set(smtpd_discard_ehlo_keywords="", filter_policy_maps="")
    gw.command("reload")
    wait_for("no PRDR", lambda: "PRDR" not in gw.client().ehlo().text)


def test_copies_go_out_once(make, sink):
    gw = make(always_bcc="archive@example.com",
              recipient_bcc_maps="inline:{ {lax@example.com = "
              "other@example.com} }")
    assert send(gw, "bcc", ALL).code == 250
    wait_for("two copies", lambda: len(got(sink, "bcc")) == 2)
    spool_empty(gw)
    rcpts = [r for m in sink.messages for r in m.rcpts]
    assert sorted(rcpts) == sorted(ALL + ["archive@example.com",
                                          "other@example.com"])


def test_redirect_by_policy_counts_for_each_part(make, sink):
    gw = make(smtpd_sender_restrictions="check_sender_access inline:{ "
              "{a@example.com = REDIRECT boss@example.com} }")
    assert send(gw, "redirected", ALL).code == 250
    wait_for("it", lambda: len(got(sink, "redirected")) == 2)
    spool_empty(gw)
    assert {r for m in sink.messages for r in m.rcpts} == {"boss@example.com"}


def test_large_text(make, sink):
    gw = make()
    body = b"0123456789abcdef" * 4 + b"\r\n"
    assert send(gw, "", ALL, mail("odd", body * 20000)).code == 250
    wait_for("two copies", lambda: len(got(sink, "odd")) == 2, 60)
    for m in sink.messages:
        assert m.body == body * 20000
    assert len(gw.queued("hold")) == 1
    assert run(gw.build + "/bin/postcat", "-c", gw.etc, "-qb", os.path.
               basename(gw.queued("hold")[0])).stdout.count("\n") == 20000


def test_rules_of_a_class_are_watched(make):
    gw = make()
    assert send(gw, "new", "strict@example.com").code == 250
    gw.write("strict_checks", "/^Subject: new/ REJECT a new rule\n")
    wait_for("the rule", lambda: send(gw, "new", "strict@example.com").text ==
             "550 5.7.1 a new rule")


def test_attachments_of_a_class(make, sink):
    gw = make(attachment_checks="", start=False,
              strict_attachment_checks="pcre:strict_attach",
              lax_attachment_checks="pcre:lax_attach")
    gw.write("strict_attach", "/ ext=txt / STRIP no text here\n")
    gw.write("lax_attach", "/ magic=exe / REJECT no programs\n")
    gw.start()
    text = mail(
        "files", b"--b\r\nContent-Type: text/plain; name=a.txt\r\n\r\n"
        b"what it says\r\n--b--\r\n", MIME_Version="1.0",
        Content_Type="multipart/mixed; boundary=b")
    assert send(gw, "", ALL, text).code == 250
    gw.wait_log(r": strip: .* name=a\.txt .*; rule=\S+strict_attach:1; "
                "policy=strict")
    wait_for("all copies", lambda: sum(
        len(m.rcpts) for m in list(sink.messages)) == 4)
    for m in sink.messages:
        stripped = b"An attachment was removed" in m.text
        assert stripped == ("strict@example.com" in m.rcpts)
        assert stripped == (b"what it says" not in m.text)
    # the row is counted with the others
    wait_for("its hit", lambda: re.search(
        r"(?m)^ +1 .*strict_attach:1: / ext=txt /", gw.command(
            "rules").stdout))


def test_ambiguity_of_a_class(make, sink):
    """Two boundaries: who may get such mail, and who may not."""
    gw = make(mime_ambiguity="reject", lax_mime_ambiguity="ignore",
              marked_mime_ambiguity="hold")
    text = mail("twice", b"--a\r\n\r\ntext\r\n--a--\r\n",
                MIME_Version="1.0", Content_Type="multipart/mixed; boundary=a")
    text = text.replace(b"MIME-Version", b"Content-Type: text/plain\r\n"
                        b"MIME-Version")
    assert send(gw, "", "user@example.com", text).code == 550
    each, last = prdr(gw, "", ALL, text)
    assert [r.code for r in each] == [550, 250, 550, 250] and last.code == 250
    sink.wait_subject("twice")
    spool_empty(gw)
    assert [m.rcpts for m in sink.messages] == [["lax@example.com"]]
    assert len(gw.queued("hold")) == 1


@pytest.mark.parametrize("main, said", [
    ({"filter_policy_maps": "inline:{ {a@b.example = nosuch} }"},
     'no such class in filter_policy_classes: "nosuch"'),
    ({"filter_policy_classes": "lax strict marked mime"},
     "a class cannot be called mime"),
    ({"filter_policy_classes": "lax strict marked a-b"},
     "a-b: not a name for a class"),
    ({"filter_policy_classes": "lax strict marked lax"}, "lax: named twice"),
    ({"lax_body_checks_size_limit": "many"},
     'lax_body_checks_size_limit = many: '),
    ({"lax_header_checks": "inline:{ {x = FROB} }"}, "FROB"),
    ({"filter_policy_reject_action": "maybe"},
     "filter_policy_reject_action = maybe: must be hold"),
])
def test_mistakes(make, main, said):
    gw = make(start=False, **main)
    gw.expect_log("fatal|error")
    p = gw.command("start", check=False)
    assert p.returncode != 0
    assert said in gw.log() + p.stderr


def test_check_names_a_wrong_class(make):
    gw = make(start=False, filter_policy_maps="inline:{ {a@b.example = no} }",
              lax_header_checks="inline:{ {x = FROB} }")
    p = gw.command("check", check=False)
    assert p.returncode != 0
    assert 'no such class in filter_policy_classes: "no"' in p.stderr
    assert "FROB" in p.stderr


def test_explain_tells_each_class(make):
    gw = make()
    (open(gw.path("letter"), "wb")).write(mail("worm"))
    said = gw.command("explain", "--client", "192.0.2.1", "--from",
                      "a@client.example", "--to", "user@example.com", "--to",
                      "lax@example.com", "--message", gw.path("letter")).stdout
    assert re.search(r"message: REJECT; rule=\S+header_checks:1", said)
    assert re.search(r"message: OK$", said, re.M)
    assert "to <user@example.com>\n" in said
    assert "to <lax@example.com>\n" in said


def test_settings_of_classes_are_known(make):
    gw = make(start=False, other_header_checks="static:OK")
    p = gw.command("check", check=False)
    said = p.stdout + p.stderr
    assert "unused parameter: other_header_checks" in said
    assert "lax_" not in said and "strict_" not in said


# -- half-way ---------------------------------------------------------------

def wrapped(tmp_path, call, when):
    """Role programs with a queue manager that dies at its when'th such call
    of a pool thread, once."""
    if os.getuid() != 0 or not shutil.which("strace"):
        pytest.skip("needs root and strace")
    if SAN:
        pytest.skip("LeakSanitizer and strace exclude one another")
    libexec = tmp_path / "libexec"
    libexec.mkdir()
    for name in os.listdir(LIBEXEC):
        if name != "qmgr":
            (libexec / name).symlink_to(f"{LIBEXEC}/{name}")
    once = tmp_path / "once"
    script = libexec / "qmgr"
    script.write_text(
        f"#!/bin/sh\nif [ -e {once} ]; then exec {LIBEXEC}/qmgr \"$@\"; fi\n"
        f"touch {once}\nexec strace -D -f -o {tmp_path}/strace -e "
        f"trace={call} -e inject={call}:signal=KILL:when={when} "
        f"{LIBEXEC}/qmgr \"$@\"\n")
    script.chmod(0o755)
    for path in (libexec, tmp_path, tmp_path.parent, tmp_path.parent.parent):
        path.chmod(0o755)
    return str(libexec)


# the steps that matter most are tried each time
OFTEN = {("fsync", 4), ("fsync", 6), ("fchmod", 2), ("fchmod", 3)}
HALF = {"odd": ALL, "worm": ["user@example.com", "lax@example.com",
                             "strict@example.com"]}
# what the copies of all recipients come to, if there are any
WHOLE = {"odd": (2, 1), "worm": (1, 2)}


@pytest.mark.parametrize("subject", HALF)
@pytest.mark.parametrize("call, when", [
    pytest.param(call, when, marks=[] if (call, when) in OFTEN else
                 pytest.mark.long)
    for call, most in (("fsync", 9), ("fchmod", 5), ("pwritev", 3),
                       ("renameat,renameat2", 1))
    for when in range(1, most + 1)])
def test_killed_half_way(make, sink, tmp_path, subject, call, when):
    """kill -9 between any two steps: all copies are there, or none."""
    gw = make(start=False, queue_journal="no",
              daemon_directory=wrapped(tmp_path, call, when))
    gw.expect_log("killed by signal")
    gw.start()
    said = None
    try:
        said = send(gw, subject, HALF[subject]).code
    except Closed:
        pass
    gw.wait_log("qmgr.*killed by signal 9")
    gw.ready()
    spool_empty(gw)
    there = (len(got(sink, subject)), len(gw.queued("hold")))
    assert there == WHOLE[subject] or (there == (0, 0) and said != 250)
    # nothing that is half of something is left in hold
    for path in gw.queued("hold"):
        assert os.stat(path).st_mode & 0o100
    # and it goes on
    assert send(gw, "plain", ALL).code == 250
    wait_for("others", lambda: len(got(sink, "plain")) == 2)


@pytest.mark.long
def test_disk_fails_half_way(make, sink, tmp_path):
    """What cannot be stored is refused, and nothing of it stays."""
    faults = Faults(str(tmp_path))
    for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        path.chmod(0o755)
    gw = make(start=False, queue_journal="no",
              daemon_directory=faults.libexec)
    gw.expect_log("cannot (make the message durable|write queue file)")
    gw.start()
    large = mail("odd", b"x" * 60 + b"\r\n" + b"y" * 60 * 20000 + b"\r\n")
    for call, most in ((SYNC, 9), (WRITE, 5), (CHMOD, 4), (CREATE, 2),
                       (RENAME, 0)):
        for skip in range(most + 1):
            for text in (None, large):
                faults.set(call, ENOSPC if call == WRITE else EIO, skip=skip,
                           times=1)
                r = send(gw, "odd", ALL, text)
                if faults.clear()[0] == 0:
                    continue    # it has fewer steps
                if r.code != 250:
                    assert r.code in (451, 452)
                    assert not gw.queued("incoming", "hold")
                    assert not sink.messages
                spool_empty(gw)
                for name in gw.queued("hold"):
                    gw.command("quarantine", "delete", os.path.basename(name))
                wait_for("no held mail", lambda: not gw.queued("hold"))
                del sink.messages[:]
