"""Mail from programs on the host: sendmail, postdrop, maildrop, pickup."""
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import threading
import time

import pytest
from conftest import need_root
from postern import BUILD, HOSTNAME, SLOW, wait_for
from test_disk import disk, fill  # noqa: F401

ME = pwd.getpwuid(os.getuid()).pw_name
USER = "nobody"


def start(gw, *args, name="sendmail", user=None, env=None, **kw):
    cmd = [f"{gw.programs}/{name}" if hasattr(gw, "programs") else
           f"{gw.build}/bin/{name}", *args]
    if user:
        group = str(pwd.getpwnam(user).pw_gid)
        cmd = ["setpriv", "--reuid", user, "--regid", group,
               "--clear-groups"] + cmd
    return subprocess.Popen(cmd, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={"PATH": os.environ["PATH"],
                                 "MAIL_CONFIG": gw.etc, **(env or {})}, **kw)


def sendmail(gw, *args, text=b"", status=0, **kw):
    """What it printed on both; its exit status is as expected."""
    p = start(gw, *args, **kw)
    out, err = p.communicate(text, timeout=60 * SLOW)
    assert p.returncode == status, (p.returncode, out, err)
    return out.decode() + err.decode()


def letter(subject, **headers):
    lines = [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
    return "\n".join(lines + ["Subject: " + subject, "", "text", ""]).encode()


def waiting(gw):
    return os.listdir(gw.spool + "/maildrop")


def taken(gw):
    """Wait until nothing is left there: a file goes after its message is
    safe, and that may be after its delivery."""
    wait_for("an empty maildrop", lambda: not waiting(gw))


def record(kind, value):
    return kind + struct.pack("<H", len(value)) + value


RECORDS = record(b"S", b"a@client.example") + \
    record(b"R", b"user@example.com")


def stream(records=RECORDS, text=b"Subject: raw\n\nx\n", total=None):
    """What sendmail tells postdrop, but for the checksum."""
    return b"PSTNDRP\n" + struct.pack("<I", len(records)) + records + \
        struct.pack("<I", len(text)) + text + struct.pack("<I", 0) + \
        struct.pack("<Q", len(text) if total is None else total)


def maildrop(gw, *args):
    return gw.run(gw.programs + "/postern", "-c", gw.etc, "maildrop", *args)


@pytest.fixture
def public(make, sink):
    """A gateway for which everybody may submit: programs of its own, which
    can be made set-gid."""
    def public(mode, **kw):
        gw = make(sink, start=False, **kw)
        gw.programs = gw.dir + "/bin"
        shutil.copytree(gw.build + "/bin", gw.programs, symlinks=True)
        maildrop(gw, "--mode", mode)
        gw.start()
        return gw
    return public


# -- the command


def test_command_line(gw, sink):
    sendmail(gw, "-F", "A. Tester", "user@example.com,<u2@example.com>",
             "Joe <u3@example.com>", text=letter("one"))
    m = sink.wait_subject("one")
    assert m.sender == f"{ME}@{HOSTNAME}"
    assert m.rcpts == ["user@example.com", "u2@example.com", "u3@example.com"]
    assert m.field("From") == f'"A. Tester" <{ME}@{HOSTNAME}>'
    assert re.match(r"\w{3}, \d+ \w{3} \d{4} ", m.field("Date"))
    assert re.fullmatch(r"<\d{14}\.[0-9A-F]{11}@" + re.escape(HOSTNAME) + ">",
                        m.field("Message-Id"))
    assert re.match(rb"Received: by gw\.example\.com \(Postern, from userid "
                    rb"%d\)\r\n\tid [0-9A-F]{11}; \w{3}, " % os.getuid(),
                    m.text)
    taken(gw)
    gw.wait_log(rf"pickup\[\d+\]: [0-9A-F]{{11}}: uid={os.getuid()} "
                rf"from=<{ME}>$")
    gw.wait_log(r"cleanup\[\d+\]: [0-9A-F]{11}: message-id=<\d+\..*>$")


def test_recipients_of_the_header(gw, sink):
    sendmail(gw, "-t", "-f", "boss@example.com", "extra@example.com",
             text=b"From bob Thu Jan  1 00:00:00 1970\n" + letter(
                 "two", From="Boss <boss@example.com>",
                 To='"Last, First" <a@example.com>,\n b@example.com (comment)',
                 Cc="team: c@example.com, d@example.com;",
                 Bcc="secret@example.com", Content_Length="99",
                 Return_Path="<x@y.z>", Message_ID="<own@id>", Date="today"))
    m = sink.wait_subject("two")
    assert m.sender == "boss@example.com"
    assert sorted(m.rcpts) == [x + "@example.com" for x in
                               ("a", "b", "c", "d", "extra", "secret")]
    header = m.header.decode()
    assert "secret" not in header and "Content-Length" not in header
    assert "Return-Path" not in header and "From bob" not in header
    assert m.field("Date") == "today" and m.field("Message-ID") == "<own@id>"
    assert header.count("From:") == 1
    assert b'To: "Last, First" <a@example.com>,\r\n b@' in m.text


def test_resent(gw, sink):
    sendmail(gw, "-t", text=letter(
        "again", From="a@example.com", To="first@example.com",
        Date="then", Message_ID="<m@id>",
        Resent_To="second@example.com", Resent_Bcc="third@example.com"))
    m = sink.wait_subject("again")
    assert sorted(m.rcpts) == ["second@example.com", "third@example.com"]
    assert m.field("Resent-From") == f"{ME}@{HOSTNAME}" or \
        m.field("Resent-From").endswith(f"<{ME}@{HOSTNAME}>")
    assert m.field("Resent-Date") and m.field("Resent-Message-Id")
    assert m.field("Resent-Bcc") is None and m.field("Date") == "then"


@pytest.mark.parametrize("args,text,status,says", [
    (["-t"], letter("x", To="undisclosed:;"), 64, "No recipient addresses"),
    (["-t"], letter("x", To="Joe Public, a@example.com"), 65, "To: header"),
    (["-t"], b"", 64, "No recipient"),
    ([], b"x\n", 64, "must be specified"),
    (["a b c@example.com"], b"x\n", 65, "bad recipient"),
    (["user@example.com\nRCPT TO:<x@y.z>"], b"x\n", 65, "bad recipient"),
    (["-f", "a@b.c, d@e.f", "user@example.com"], b"x\n", 64, "bad sender"),
    (["-N", "sometimes", "user@example.com"], b"x\n", 64, "bad -N"),
    (["-bv", "user@example.com"], b"", 69, "-bv"),
    (["-bt"], b"", 64, "unsupported"),
    (["-ba"], b"", 64, "unsupported"),
    (["-q"], b"", 0, ""),
    (["-qX"], b"", 64, "unsupported"),
    (["-bd", "user@example.com"], b"", 64, "-bm only"),
    (["-bh"], b"", 0, ""),
    (["-Ac", "-q30m"], b"", 0, ""),
    (["-bd", "-q15m"], b"", 1, "already running"),
    (["-C", "/nonexistent", "-bd", "-q15m"], b"", 78, "nonexistent"),
    (["-f"], b"", 64, "needs a value"),
    (["-C", "/nonexistent", "user@example.com"], b"", 78, "nonexistent"),
])
def test_refused(gw, args, text, status, says):
    assert says in sendmail(gw, *args, text=text, status=status)
    assert not waiting(gw)


def test_options_that_change_nothing(gw, sink):
    sendmail(gw, "-oem", "-oi", "-om", "-odb", "-Am", "-U", "-G", "-v", "-n",
             "-O", "DeliveryMode=b", "-h", "3", "-p", "x", "-B8BITMIME",
             "-R", "hdrs", "-V", "id", "-N", "failure,delay", "-d0.1",
             "-MrESMTP", "-D", "/nonexistent/x", "-Q", "-sT", "-x", "--",
             "user@example.com", text=letter("three") + b".\nafter the dot\n")
    assert b"\r\n.\r\nafter the dot\r\n" in sink.wait_subject("three").body


def test_text_goes_through_as_it_is(gw, sink):
    body = b"".join(b"%04d \xe4\xf6 \x01.\n" % i for i in range(3000))
    sendmail(gw, "-i", "user@example.com", text=letter("long") + body +
             b"From here\r\n..\n" + b"l" * 900 + b"\nno end")
    got = sink.wait_subject("long").body
    want = b"text\r\n" + body.replace(b"\n", b"\r\n") + \
        b"From here\r\n..\r\n" + b"l" * 900 + b"\r\nno end\r\n"
    assert got == want


def test_large_text_spills(gw, sink):
    body = b"%075d\n" % 7 * 40000
    sendmail(gw, "user@example.com", text=letter("large") + body)
    assert sink.wait_subject("large", 30).body == \
        b"text\r\n" + body.replace(b"\n", b"\r\n")


def test_only_a_dot_ends(gw, sink):
    sendmail(gw, "user@example.com",
             text=letter("dot") + b"..\n. \n.\nnot this\n")
    assert sink.wait_subject("dot").body == b"text\r\n..\r\n. \r\n"


def test_text_without_header(gw, sink):
    sendmail(gw, "user@example.com", text=b"just a line\n")
    m = sink.wait(1)[0]
    assert m.body == b"just a line\r\n"
    assert m.field("From") and m.field("Date") and m.field("Message-Id")


@pytest.mark.parametrize("name,shown", [
    ("Ren\u00e9 M\u00fcller", "=?utf-8?Q?Ren=C3=A9_M=C3=BCller?="),
    ("=?x?= (evil", '"=?x?= (evil"'), ('a "b" \\', '"a \\"b\\" \\\\"'),
    ("x\nBcc: y@z.w", '"x Bcc: y@z.w"'), ("Plain Name", "Plain Name")])
def test_full_name(gw, sink, name, shown):
    sendmail(gw, "-F", name, "user@example.com", text=letter("name"))
    assert sink.wait_subject("name").field("From") == \
        f"{shown} <{ME}@{HOSTNAME}>"


@pytest.mark.parametrize("text", [
    b"Subject: last\nTo: user@example.com\n\ntext\n",
    b"Subject: last\nTo: user@example.com\n", b"Subject: last\n"
    b"To: user@example.com", b"Subject: last\nTo:\n user@example.com\n\n",
    b"To: user@example.com\nSubject: last\nCc:\n\ntext\n"])
def test_recipients_in_the_last_header(gw, sink, text):
    sendmail(gw, "-t", text=text)
    assert sink.wait_subject("last").rcpts == ["user@example.com"]


def test_null_sender_and_duplicates(gw, sink):
    sendmail(gw, "-f", "<>", "user@example.com", "user@EXAMPLE.com",
             "User@example.com", "local", "local", text=letter("null"))
    m = sink.wait_subject("null")
    gw.wait_log(r"to=<local@gw\.example\.com>")
    # case does not make them different
    wait_for("both domains", lambda: len(sink.messages) == 2 or
             len(m.rcpts) == 2)
    assert sorted(r for m in sink.messages for r in m.rcpts) == [
        f"local@{HOSTNAME}", "user@example.com"]
    m = sink.find("null")[0]
    assert m.sender == ""
    assert m.field("From").endswith(f"MAILER-DAEMON@{HOSTNAME}>") or \
        m.field("From") == f"MAILER-DAEMON@{HOSTNAME}"


def test_undisclosed_and_drop_list(make, sink):
    gw = make(sink, main={
        "undisclosed_recipients_header": "To: undisclosed-recipients:;",
        "message_drop_headers": "x-drop"})
    sendmail(gw, "user@example.com", text=letter("u", X_Drop="1", Bcc="b@c.d"))
    m = sink.wait_subject("u")
    assert m.field("To") == "undisclosed-recipients:;"
    assert m.field("X-Drop") is None and m.field("Bcc") == "b@c.d"


@pytest.mark.parametrize("value,always,added", [
    ("permit_inet_interfaces", "no", True), ("permit_mynetworks", "no", True),
    ("", "no", False), ("", "yes", True)])
def test_clients_whose_header_is_completed(make, sink, value, always, added):
    gw = make(sink, main={"local_header_rewrite_clients": value,
                          "always_add_missing_headers": always})
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         b"Subject: smtp\r\nBcc: x@y.z\r\n\r\nx\r\n"
                         ).code == 250
    m = sink.wait_subject("smtp")
    assert (m.field("From") == "a@client.example") == added
    assert bool(m.field("Date") and m.field("Message-Id")) == added
    assert m.field("Bcc") is None


def test_rules_see_local_mail_first(make, sink):
    gw = make(sink)
    gw.write("header_checks", "/^X-Gone:/ IGNORE\n/^From:/ IGNORE\n"
             "/^Bcc:/ REPLACE X-Was-Bcc: kept\n/^Subject:/ PREPEND X-New: 1\n"
             "/^X-Bad:/ REJECT no such thing\n")
    gw.command("reload")
    sendmail(gw, "user@example.com", text=letter(
        "rules", X_Gone="1", From="old@example.com", Bcc="b@c.d"))
    m = sink.wait_subject("rules")
    assert m.field("X-New") == "1" and m.field("X-Gone") is None
    assert m.field("X-Was-Bcc") == "kept"
    assert f"{ME}@{HOSTNAME}" in m.field("From")


def test_refused_text_comes_back(make, sink):
    gw = make(sink)
    gw.write("header_checks", "/^X-Bad:/ REJECT no such thing\n")
    gw.command("reload")
    sendmail(gw, "-f", "boss@example.com", "user@example.com",
             text=letter("bad", X_Bad="1"))
    m = sink.wait(1)[0]
    assert m.sender == "" and m.rcpts == ["boss@example.com"]
    assert b"no such thing" in m.body and b"X-Bad: 1" in m.body
    gw.wait_log(r"cleanup.*reject: header X-Bad: 1 from local; from=<boss@")
    gw.wait_log(r"to=<user@example.com>.*dsn=5\.7\.1, status=bounced")
    taken(gw)


def test_smtp_dialogue(gw, sink):
    p = start(gw, "-bs")
    out, err = p.communicate(
        b"NOOP\r\nMAIL FROM:<a@b.c>\r\nEHLO me\r\nRCPT TO:<x@y.z>\r\n"
        b"MAIL FROM:<a@b.c> SIZE=10 BODY=8BITMIME RET=HDRS ENVID=x+2By\r\n"
        b"RCPT TO:<user@example.com> NOTIFY=NEVER\r\n"
        b"RCPT TO:<bad address@example.com>\r\nDATA\r\n"
        b"Subject: smtp1\r\n\r\n.\rx\r\n..\r\n.x\r\n\r\n.\r\n"
        b"MAIL FROM:<a@b.c> ENVID=x+00y\r\n"
        b"MAIL FROM:<>\nRCPT TO:<user@example.com>\nDATA\n"
        b"Subject: smtp2\n\nbody\n.\nMAIL FROM:<a@b.c>\r\n"
        b"RCPT TO:<user@example.com>\r\nDATA\r\ncut off",
        timeout=30 * SLOW)
    assert p.returncode == 0 and err == b""
    codes = [l[:3] for l in out.decode().splitlines() if l[3:4] != "-"]
    assert codes == ["220", "250", "503", "250", "503", "250", "250", "501",
                     "354", "250", "501", "250", "250", "354", "250", "250",
                     "250", "354"], out
    assert sink.wait_subject("smtp1").body == b" x\r\n.\r\nx\r\n\r\n"
    assert sink.wait_subject("smtp2").sender == ""
    taken(gw)
    assert len(sink.messages) == 2


def test_other_names(gw):
    assert sendmail(gw, name="mailq") == "Mail queue is empty\n"
    assert sendmail(gw, "-bp") == "Mail queue is empty\n"
    assert "no alias tables" in sendmail(gw, name="newaliases")
    gw.write("aliases", "postmaster: root\n")
    gw.set(alias_database=f"hash:{gw.etc}/aliases")
    sendmail(gw, "-bi")
    assert os.path.exists(gw.etc + "/aliases.lmdb")
    gw.write("aliases", "postmaster\n")
    assert "aliases:1" in sendmail(gw, name="newaliases")


def test_daemon_mode(make, sink):
    gw = make(sink, start=False)
    gw.running = True
    # as Debian's boot script does, which looks whether it is there
    sendmail(gw, "-MTA", "-L", "sm-mta", "-bd", "-q15m")
    gw.ready()
    with open(gw.spool + "/pid/master.pid") as f:
        os.kill(int(f.read()), 0)
    sendmail(gw, "-L", "sm-msp-queue", "-Ac", "-q10m")


@pytest.mark.parametrize("broken", ["main.cf", "master.cf"])
def test_daemon_mode_says_what_is_wrong(make, sink, broken):
    gw = make(sink, start=False)
    os.rename(gw.path(broken), gw.path(broken) + ".gone")
    said = sendmail(gw, "-bd", "-q15m",
                    status=78 if broken == "main.cf" else 1)
    assert broken in said and "No such file" in said


# -- who may


@need_root
@pytest.mark.parametrize("mode", ["1730", "1733"])
def test_ordinary_user(public, sink, mode):
    gw = public(mode)
    st = os.stat(gw.spool + "/maildrop")
    assert oct(st.st_mode & 0o7777) == "0o" + mode
    program = os.stat(gw.programs + "/postdrop")
    assert bool(program.st_mode & stat.S_ISGID) == (mode == "1730")
    said = maildrop(gw).stdout
    assert ("set-gid" if mode == "1730" else "by themselves") in said
    sendmail(gw, "user@example.com", text=letter("user"), user=USER)
    uid = pwd.getpwnam(USER).pw_uid
    assert sink.wait_subject("user").sender == f"{USER}@{HOSTNAME}"
    gw.wait_log(rf"pickup.*: uid={uid} from=<{USER}>")
    # neither listing nor reading
    for cmd in ("ls {0}", "cat {0}/*", "touch {0}/../x"):
        p = subprocess.run(["setpriv", "--reuid", USER, "--regid", "nogroup",
                            "--clear-groups", "sh", "-c",
                            cmd.format(gw.spool + "/maildrop")],
                           capture_output=True)
        assert p.returncode != 0


@need_root
def test_without_a_way_in(make, sink):
    gw = make(sink)
    gw.expect_log("maildrop")
    os.chmod(gw.spool + "/maildrop", 0o1730)
    said = sendmail(gw, "user@example.com", text=letter("no"), user=USER,
                    status=75)
    assert "not writable" in said
    assert "users cannot hand in mail" in gw.command("maildrop").stdout


@need_root
def test_authorized_users(public, sink):
    gw = public("1730", main={"authorized_submit_users":
                              f"!{USER}, static:all"})
    said = sendmail(gw, "user@example.com", text=letter("no"), user=USER,
                    status=77)
    assert "not allowed to submit mail" in said
    p = start(gw, name="postdrop", user=USER)
    _, err = p.communicate(stream())
    assert p.returncode == 77 and b"not allowed" in err
    sendmail(gw, "user@example.com", text=letter("yes"))
    sink.wait_subject("yes")
    taken(gw)


@need_root
def test_set_gid_gives_nothing_else(public, tmp_path):
    """A configuration that the user could have written gets no group."""
    gw = public("1730")
    os.chmod(tmp_path, 0o755)
    for top in (tmp_path, *tmp_path.parents):
        if str(top).startswith("/tmp/") and os.stat(top).st_mode & 1 == 0:
            os.chmod(top, 0o755)
    own = tmp_path / "etc"
    shutil.copytree(gw.etc, own)
    for top, _, files in os.walk(own):
        for path in [top] + [os.path.join(top, f) for f in files]:
            shutil.chown(path, USER)
    p = start(gw, "-c", str(own), name="postdrop", user=USER)
    _, err = p.communicate(stream())
    assert p.returncode == 75 and b"not writable" in err
    assert not waiting(gw)


def test_ordinary_users_own_instance(make, sink):
    if os.getuid() != 0:
        gw = make(sink)
        user = None
    else:
        gw, user = make(sink, user=USER), USER
    sendmail(gw, "user@example.com", text=letter("own"), user=user)
    sink.wait_subject("own")
    assert oct(os.stat(gw.spool + "/maildrop").st_mode & 0o7777) == "0o700"


# -- postdrop's input


@pytest.mark.parametrize("data,says", [
    (b"", "not complete"),
    (b"garbage that is no message at all", "no maildrop file"),
    (stream(), "not complete"),
    (stream() + b"\0" * 8, "checksum"),
    (stream(total=1), "another length"),
    (b"PSTNDRP\n" + struct.pack("<I", 0xffffffff), "too many records"),
    (b"PSTNDRP\n" + struct.pack("<I", len(RECORDS)) + RECORDS +
     struct.pack("<I", 0xffffffff), "over its limit"),
    (stream(b""), "no sender"),
    (stream(record(b"S", b"")), "no recipient"),
    (stream(record(b"S", b"a\nb") + record(b"R", b"u")), "control byte"),
    (stream(record(b"S", b"a") + record(b"R", b"u\0v")), "control byte"),
    (stream(record(b"S", b"a") + record(b"R", b"u\r")), "control byte"),
    (stream(record(b"\0", b"") + RECORDS), "unknown type"),
    (stream(record(b"A", b"1.2.3.4") + RECORDS), "unknown type"),
    (stream(RECORDS + RECORDS), "twice"),
    (stream(record(b"S", b"a" * 1001) + record(b"R", b"u")), "too long"),
    (stream(RECORDS[:-3]), "cut"),
])
def test_postdrop_refuses(gw, data, says):
    p = start(gw, name="postdrop")
    _, err = p.communicate(data, timeout=30 * SLOW)
    assert p.returncode == 65 and says in err.decode(), err
    assert not waiting(gw)


def test_size_limit(make, sink):
    gw = make(sink, main={"message_size_limit": "5000"})
    for size, status in ((4900, 0), (5001, 65)):
        said = sendmail(gw, "user@example.com", status=status,
                        text=b"Subject: s%d\n\n" % size +
                        b"x" * 69 + b"\n" * (size - 69))
        assert ("too big" in said) == (status != 0)
    assert not [n for n in waiting(gw) if "s5001" in n]
    # a separator counts neither
    assert len(waiting(gw)) <= 1


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT,
                                 signal.SIGHUP])
def test_postdrop_stopped_leaves_nothing(gw, sig):
    # the tests may run where a terminal's signals are ignored
    p = start(gw, name="postdrop",
              preexec_fn=lambda: signal.signal(sig, signal.SIG_DFL))
    p.stdin.write(stream()[:-30])
    p.stdin.flush()
    wait_for("its file", lambda: waiting(gw))
    p.send_signal(sig)
    assert p.wait(20 * SLOW) == 75
    assert not waiting(gw)


def test_closed_descriptors(gw, sink):
    """0, 1 and 2 closed: the message must not get into another file."""
    p = subprocess.run(
        ["sh", "-c", f"MAIL_CONFIG={gw.etc} {gw.build}/bin/sendmail "
         "user@example.com <&- >&- 2>&-"], capture_output=True, timeout=60)
    assert p.returncode == 0
    assert sink.wait(1)[0].body == b""


# -- what lies in maildrop


def drop(gw, name, data, mode=0o744, uid=None):
    path = f"{gw.spool}/maildrop/{name}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, data)
    if uid is not None:
        os.fchown(fd, uid, uid)
    os.fchmod(fd, mode)
    os.close(fd)
    return path


def a_file(gw, subject):
    """A complete file of sendmail's making, while nobody takes it."""
    sendmail(gw, "user@example.com", text=letter(subject))
    made, = waiting(gw)
    with open(f"{gw.spool}/maildrop/{made}", "rb") as f:
        data = f.read()
    os.unlink(f"{gw.spool}/maildrop/{made}")
    return data


@need_root
def test_hostile_files(make, sink):
    gw = make(sink, start=False)
    gw.expect_log("maildrop")
    good = a_file(gw, "good")
    top = gw.spool + "/maildrop/"
    os.mkfifo(top + "f" * 32)
    os.symlink("/etc/passwd", top + "a" * 32)
    os.symlink(drop(gw, "9" * 32, good, 0o600), top + "b" * 32)
    os.mkdir(top + "d" * 32)
    os.mknod(top + "c" * 32, stat.S_IFCHR | 0o777, os.makedev(1, 5))
    s = socket.socket(socket.AF_UNIX)
    s.bind(top + "e" * 32)
    drop(gw, "not-a-name", good)
    drop(gw, "12" * 16, good, 0o700, uid=12345)
    drop(gw, "34" * 16, b"rubbish", uid=23456)
    drop(gw, "56" * 16, good[:-1], uid=23456)
    drop(gw, "78" * 16, good + b"x", uid=23456)
    drop(gw, "90" * 16, good.replace(b"good", b"evil"), uid=23456)
    drop(gw, "ab" * 16, b"", uid=23456)
    outside = gw.dir + "/linked"
    shutil.copy(drop(gw, "cd" * 16, good), outside)
    os.unlink(top + "cd" * 16)
    os.chmod(outside, 0o744)
    os.link(outside, top + "ef" * 16)
    gw.start()
    sink.wait(1)
    strange = [c * 32 for c in "fabdce"]
    for name in strange:
        gw.wait_log(rf"maildrop/{name}: uid=0: not a regular file")
    gw.wait_log("maildrop/not-a-name: uid=0: not a name")
    gw.wait_log("12: uid=12345: it cannot be read")
    for name in ("34", "56", "78", "90", "ab"):
        gw.wait_log(rf"maildrop/{name * 16}: uid=23456: removed: ")
    # looked at again and again, told once
    for _ in range(3):
        for name in strange[3:4] + ["not-a-name"]:
            os.chmod(top + name, 0o755)
        time.sleep(0.1)
    gw.command("reload")
    sendmail(gw, "user@example.com", text=letter("still works"))
    sink.wait_subject("still works")
    for name in strange[3:] + ["not-a-name"]:
        pids = re.findall(rf"pickup\[(\d+)\].*maildrop/{name}: uid=0",
                          gw.log())
        assert len(pids) == len(set(pids)), "told twice"
    wait_for("what is left", lambda: sorted(waiting(gw)) == sorted(
        strange + ["not-a-name", "12" * 16, "9" * 32]))
    assert [m.field("Subject") for m in sink.messages] == [
        "good", "still works"]
    assert os.path.exists(outside) and os.path.exists("/etc/passwd")
    s.close()


def test_log_is_not_filled(make, sink):
    gw = make(sink, start=False)
    gw.expect_log("maildrop")
    for i in range(300):
        os.mkfifo(f"{gw.spool}/maildrop/fifo{i}")
    gw.start()
    sendmail(gw, "user@example.com", text=letter("behind them"))
    sink.wait_subject("behind them")
    wait_for("the scan", lambda: "not named for a while" in gw.log())
    assert gw.log().count("not a regular file") == 100


def test_file_over_the_limit_comes_back(make, sink):
    gw = make(sink, start=False)
    data = a_file(gw, "big")
    gw.set(message_size_limit="10")
    drop(gw, "1" * 32, data)
    gw.start()
    gw.wait_log(r"5\.3\.4.*status=bounced")
    taken(gw)


def test_unfinished_file_is_left_alone(make, sink):
    gw = make(sink, start=False)
    data = a_file(gw, "later")
    gw.start()
    path = drop(gw, "1" * 32, data[:20], 0o600)
    sendmail(gw, "user@example.com", text=letter("other"))
    sink.wait_subject("other")
    assert os.path.exists(path)
    with open(path, "r+b") as f:
        f.write(data)
    os.chmod(path, 0o744)
    sink.wait_subject("later")


# -- faults


def flood(gw, count, threads=4, until=None):
    """Submit so many, and on until so; returns the threads and subjects."""
    sent = []

    def run(n):
        for i in itertools.count():
            if i >= count // threads and (not until or until() or i > 2000):
                break
            name = f"m{n}.{i}"
            text = letter(name)
            if i % 10 == 9:
                text += b"%060d\n" % i * 6000
            sendmail(gw, "user@example.com", text=text)
            sent.append(name)
    out = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for t in out:
        t.start()
    return out, sent


def all_once(gw, sink, sent, count):
    wait_for("all messages", lambda: len(sink.messages) >= count and
             not waiting(gw), 60)
    wait_for("an empty queue", lambda: not gw.queued(), 30)
    got = [m.field("Subject") for m in sink.messages]
    assert sorted(got) == sorted(sent) and len(set(got)) == count


def test_pickup_dies_under_load(gw, sink):
    """Neither lost nor doubled, whenever it dies."""
    gw.expect_log("killed by signal|pickup")
    kills = []
    threads, sent = flood(gw, 160, until=lambda: len(kills) > 3)
    while any(t.is_alive() for t in threads):
        if gw.kill("pickup") is not None:
            kills.append(time.monotonic())
        time.sleep(0.15)
    all_once(gw, sink, sent, len(sent))


def test_reload_under_load(gw, sink):
    threads, sent = flood(gw, 120)
    while any(t.is_alive() for t in threads):
        gw.command("reload")
    all_once(gw, sink, sent, 120)


def test_queue_manager_dies(gw, sink):
    gw.expect_log("killed by signal|queue manager is gone|recovered|qmgr")
    threads, sent = flood(gw, 80)
    time.sleep(0.2)
    gw.kill("qmgr")
    for t in threads:
        t.join()
    wait_for("all messages", lambda: set(sent) <= {
        m.field("Subject") for m in list(sink.messages)}, 60)
    taken(gw)


def test_waits_for_a_start(make, sink):
    gw = make(sink, start=False)
    for i in range(30):
        sendmail(gw, "user@example.com", text=letter(f"early{i}"))
    gw.start()
    assert {m.field("Subject") for m in sink.wait(30)} == {
        f"early{i}" for i in range(30)}


@need_root
def test_full_disk(disk, make, sink):  # noqa: F811
    gw = make(sink, main={"message_size_limit": "1000000"}, start=False)
    disk(gw.spool, "tmpfs", 80)
    gw.expect_log("refusing mail|accepting mail|does not exist|journal|"
                  "directory|No space|maildrop")
    gw.start()
    sendmail(gw, "user@example.com", text=letter("before"))
    sink.wait_subject("before")
    fill(gw, 500000)
    gw.wait_log("refusing mail")
    sendmail(gw, "user@example.com", text=letter("waits"))
    said = sendmail(gw, "user@example.com", status=75,
                    text=letter("no room") + b"%060d\n" % 1 * 14000)
    assert "No space" in said
    assert len(waiting(gw)) == 1 and not sink.find("waits")
    os.unlink(gw.spool + "/filler")
    sink.wait_subject("waits")
    taken(gw)
    assert not sink.find("no room")


@pytest.mark.skipif(not shutil.which("bsd-mailx"), reason="needs bsd-mailx")
def test_mail_command(gw, sink, tmp_path):
    rc = tmp_path / "rc"
    rc.write_text(f"set sendmail={BUILD}/bin/sendmail\n")
    subprocess.run(["bsd-mailx", "-s", "by mailx", "-c", "u2@example.com",
                    "user@example.com"], input=b"hello\n", check=True,
                   env={"PATH": os.environ["PATH"], "MAIL_CONFIG": gw.etc,
                        "MAILRC": str(rc), "HOME": str(tmp_path),
                        "USER": ME}, timeout=60)
    m = sink.wait_subject("by mailx")
    assert sorted(m.rcpts) == ["u2@example.com", "user@example.com"]
    assert m.body.rstrip() == b"hello"


def test_files_that_change_meanwhile(make, sink):
    """Their owner writes on while they are read: nothing wrong gets in, and
    nothing stops."""
    gw = make(sink, start=False)
    gw.expect_log("maildrop")
    data = a_file(gw, "changing")
    gw.start()
    stop = time.monotonic() + 3
    n = 0
    while time.monotonic() < stop:
        n += 1
        path = drop(gw, f"{n:032x}", data)
        try:
            with open(path, "r+b") as f:
                for _ in range(20):
                    f.seek(len(data) - 40)
                    f.write(b"EVIL" * (n % 50))
                    f.flush()
                    f.truncate(len(data) + n % 3)
        except FileNotFoundError:
            pass
    sendmail(gw, "user@example.com", text=letter("the last"))
    sink.wait_subject("the last")
    assert not any(b"EVIL" in m.text for m in sink.messages)
    assert {m.field("Subject") for m in sink.messages} <= {
        "changing", "the last"}
    assert len(gw.pids("pickup")) == 1
