"""The rules inside another mail server: postern-milter."""
import glob
import os
import re
import signal
import socket
import threading
import time

import pytest
from file_makers import EXE, ole, tnef, zipped
from pmilter_help import (HAVE_POSTFIX, HAVE_SENDMAIL, Mta, Postfix,
                          PosternMilter, Sendmail)
from postern import BIN, TOP, Instance, Sink, mail, mail_with, wait_for

pytestmark = pytest.mark.skipif(
    not os.path.exists(f"{BIN}/postern-milter"), reason="no libmilter-dev")
need_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
RULES = """/^Subject: bad/ REJECT 5.7.7 no bad 100% subjects
/^Subject: later/ REJECT 4.7.1 later please
/^Subject: gone/ DISCARD
/^Subject: hold/ HOLD look at it
/^Subject: pre/ PREPEND X-Pre: yes
/^Subject: (repl.*)/ REPLACE Subject: [$1] done
/^Subject: warn/ WARN look
/^Subject: way/ FILTER smtp:[127.0.0.1]:1
/^Subject: redirect/ REDIRECT other@example.com
/^Subject: copy/ BCC copy@example.com
/^X-Strip:/ IGNORE
"""


@pytest.fixture
def make(request):
    made = []

    def make(cls, *args, **kw):
        made.append(cls(*args, **kw))
        return made[-1]
    yield make
    failed = getattr(request.node, "failed_call", False)
    trouble = []
    for m in reversed(made):
        if failed and hasattr(m, "log"):
            print(f"--- log of {m.dir}\n" + m.log()[-6000:])
        try:
            if isinstance(m, (PosternMilter, Instance)):
                m.destroy(check=not failed)
            else:
                m.destroy()
        except AssertionError as e:
            trouble.append(str(e))
    assert not trouble, "\n".join(trouble)


@pytest.fixture
def milter(make):
    def start(rules=RULES, main=None, more=None, **kw):
        files = {"header_checks": rules, **(more or {})}
        return make(PosternMilter, files=files, main={
            "header_checks": "regexp:$config_directory/header_checks",
            "role_processes": "2", **(main or {})}, **kw)
    return start


@pytest.fixture(scope="module")
def shared():
    """One for all tests that do it no harm."""
    m = PosternMilter(files={"header_checks": RULES}, main={
        "header_checks": "regexp:$config_directory/header_checks",
        "role_processes": "2"})
    yield m
    m.destroy()


def said(replies):
    """The last reply: a letter, or the text of a code of its own."""
    kind, data = replies[-1]
    return data.rstrip(b"\0").decode() if kind == b"y" else kind.decode()


# -- the protocol -------------------------------------------------------------


def test_verdicts(shared):
    m = shared
    mta = Mta(m)
    assert mta.version == 6 and mta.protocol & 0x100000
    mta.connect()
    assert said(mta.message(mail("fine"))) == "c"
    assert said(mta.message(mail("bad"))) == "550 5.7.7 no bad 100%% subjects"
    assert said(mta.message(mail("later"))) == "451 4.7.1 later please"
    assert said(mta.message(mail("gone"))) == "d"
    assert mta.message(mail("hold")) == [(b"q", b"look at it\0"), (b"c", b"")]
    assert mta.message(mail("pre", X_Strip="a")) == [
        (b"m", b"\0\0\0\1X-Strip\0\0"),
        (b"i", b"\0\0\0\3X-Pre\0 yes\0"), (b"c", b"")]
    assert mta.message(mail("replace\r\n\tit")) == [
        (b"m", b"\0\0\0\1Subject\0 [replace\n\tit] done\0"), (b"c", b"")]
    assert said(mta.message(mail("warn"))) == "c"
    assert mta.message(mail("redirect"), ("a@b.example", "c@d.example")) == [
        (b"-", b"<a@b.example>\0"), (b"-", b"<c@d.example>\0"),
        (b"+", b"<other@example.com>\0"), (b"c", b"")]
    assert mta.message(mail("copy")) == [
        (b"+", b"<copy@example.com>\0"), (b"c", b"")]
    assert mta.message(mail("way"), ident="QID9") == [(b"c", b"")]
    m.wait_log("QID9: FILTER smtp:[127.0.0.1]:1 is not possible here")
    # in the words of the gateway
    assert re.search(
        r"/cleanup\[\d+\]: QID1: reject: header Subject: bad from "
        r"mail\.client\.example\[192\.0\.2\.7\]; from=<a@client\.example> "
        r"to=<user@example\.com> proto=ESMTP helo=<client\.example>: 5\.7\.7 "
        r"no bad 100% subjects; rule=\S+/header_checks:1\n", m.log())
    assert re.search(
        r"/pmilter\[\d+\]: QID1: milter-reject: END-OF-MESSAGE from "
        r"mail\.client\.example\[192\.0\.2\.7\]: 5\.7\.7 no bad 100% "
        r"subjects; from=<a@client\.example> to=<user@example\.com> "
        r"proto=ESMTP helo=<client\.example>; rule=\S+/header_checks:1\n",
        m.log())


def applied(text, replies, space=b""):
    """What a mail server makes of a text when it is told that."""
    head, _, body = text.partition(b"\r\n\r\n")
    lines = re.split(rb"\r\n(?![ \t])", head)
    new = None
    for kind, data in replies:
        if kind == b"b":
            new = (new or b"") + data
        if kind not in (b"m", b"i"):
            continue
        n = int.from_bytes(data[:4], "big")
        name, value = data[4:].split(b"\0")[:2]
        line = name + b":" + space + value.replace(b"\n", b"\r\n")
        if kind == b"i":
            lines.insert(max(n - 1, 0), line)
            continue
        at = [i for i, li in enumerate(lines)
              if li.split(b":")[0].lower() == name.lower()][n - 1]
        lines[at:at + 1] = [line] if value else []
    return b"\r\n".join(lines) + b"\r\n\r\n" + (
        body if new is None else new)


def test_headers_are_changed_where_they_stand(milter):
    m = milter("""/^X-One: a$/ IGNORE
/^X-One: b$/ REPLACE X-One: B
/^X-Two:/ PREPEND X-Before: two
/^X-Three:/ REPLACE X-Four: 4
/^Received:/ IGNORE
""")
    mta = Mta(m)
    text = (b"Received: by x\r\nX-One: a\r\nx-one: c\r\nX-one: b\r\nX-Two: 2"
            b"\r\n\tfolded\r\nReceived: by y\r\nX-Three: 3\r\nX-One: a\r\n"
            b"To:  blanks \r\n\r\nbody\r\n")
    mta.connect()
    assert applied(text, mta.message(text)) == (
        b"x-one: c\r\nX-One: B\r\nX-Before: two\r\nX-Two: 2\r\n\tfolded"
        b"\r\nX-Four: 4\r\nTo:  blanks \r\n\r\nbody\r\n")
    # without the blanks of values, as older servers tell them
    mta = Mta(m, protocol=0x3ff)
    mta.connect()
    assert applied(text, mta.message(text), b" ") == (
        b"x-one: c\r\nX-One: B\r\nX-Before: two\r\nX-Two: 2\r\n\tfolded"
        b"\r\nX-Four: 4\r\nTo:  blanks \r\n\r\nbody\r\n")


def strip(milter, **kw):
    return milter("/^never/ DUNNO\n", main={
        "attachment_checks": "pcre:{ {/ is=[^ ]*,executable,/ STRIP no "
        "programs} }", "mime_ambiguity": "ignore"}, **kw)


@pytest.mark.long
def test_the_body_is_replaced(milter):
    m = strip(milter)
    mta = Mta(m)
    mta.connect()
    text = mail_with("evil.exe", EXE * 3000)
    replies = mta.message(text)
    assert said(replies) == "c"
    new = applied(text, replies)
    assert b"no programs" in new and b"See it." in new
    assert len(new) < 2000 < len(text)
    head = text.partition(b"\r\n\r\n")[0]
    assert new.startswith(head)
    # what is large stays as it is
    text = mail_with("ok.txt", b"fine\n" * 200000)
    assert mta.message(text) == [(b"c", b"")]


@pytest.mark.long
def test_a_server_that_allows_nothing(shared):
    """Half an edit is none: better later."""
    m = shared
    mta = Mta(m, actions=0x102, protocol=0x400)
    mta.connect()
    assert said(mta.message(mail("fine"))) == "c"
    assert said(mta.message(mail("bad"))).startswith("550 5.7.7 ")
    for subject in ("hold", "pre", "redirect", "copy"):
        assert said(mta.message(mail(subject))) == \
            "451 4.3.0 Error: content filter failed"
    m.wait_log("the server does not let filters change")


def test_tag(milter):
    m = milter(mode="tag")
    mta = Mta(m)
    assert mta.actions & 0xff == 0x11
    mta.connect()

    def tag(subject, **headers):
        replies = mta.message(mail(subject, **headers))
        assert replies[-1] == (b"c", b"")
        return replies[:-1]
    assert tag("fine") == [(b"i", b"\0\0\0\0X-Postern\0 ok\0")]
    assert tag("bad") == [(b"i", b"\0\0\0\0X-Postern\0 reject; 550 5.7.7 no "
                           b"bad 100% subjects\0")]
    assert tag("later")[0][1].endswith(b"\0 tempfail; 451 4.7.1 later please\0")
    assert tag("gone")[0][1].endswith(b"\0 discard\0")
    assert tag("hold")[0][1].endswith(b"\0 hold; look at it\0")
    for subject in ("pre", "repl", "redirect", "copy", "way"):
        assert tag(subject, X_Strip="x") == [
            (b"i", b"\0\0\0\0X-Postern\0 ok\0")]
    # no one else says what we say
    text = b"x-postern: ok\r\nSubject: bad\r\nX-POSTERN: ok\r\n\r\n"
    assert applied(text, mta.message(text)) == (
        b"X-Postern: reject; 550 5.7.7 no bad 100% subjects\r\n"
        b"Subject: bad\r\n\r\n")


def test_quarantine(milter):
    m = milter(mode="quarantine")
    mta = Mta(m)
    mta.connect()
    assert mta.message(mail("bad")) == [
        (b"q", b"no bad 100% subjects\0"), (b"c", b"")]
    assert mta.message(mail("gone")) == [
        (b"q", b"held by a content rule\0"), (b"c", b"")]
    assert said(mta.message(mail("later"))) == "451 4.7.1 later please"
    assert len(mta.message(mail("pre"))) == 2


@pytest.mark.long
def test_recipients_with_different_policies(milter):
    m = milter("/^Subject: (bad|odd)/ REJECT\n/^Subject: one/ DISCARD\n"
               "/^Subject: three/ HOLD\n/^X-Strip:/ IGNORE\n", main={
                   "filter_policy_classes": "lax",
                   "filter_policy_maps":
                   "inline:{ {lax@example.com = lax} }",
                   "lax_header_checks": "regexp:$config_directory/lax"},
               more={"lax": "/^Subject: odd/ HOLD\n"})
    mta = Mta(m)
    mta.connect()
    lax, user = "lax@example.com", "user@example.com"
    assert said(mta.message(mail("bad"), [user])) == "550 5.7.1 message " \
        "content rejected"
    assert said(mta.message(mail("bad"), [lax])) == "c"
    assert said(mta.message(mail("bad"), [lax, user])).startswith("550 ")
    m.wait_log("the strictest one counts for all")
    assert said(mta.message(mail("odd"), [lax, user])).startswith("550 ")
    assert mta.message(mail("one"), [lax, user]) == [
        (b"-", b"<user@example.com>\0"), (b"c", b"")]
    assert said(mta.message(mail("one"), [user])) == "d"
    assert said(mta.message(mail("three"), [lax, user])) == "c"
    assert mta.message(mail("three"), [lax, user])[0][0] == b"q"
    assert mta.message(mail("x", X_Strip="1"), [lax, user])[0][0] == b"m"


# -- limits ----------------------------------------------------------------------


@pytest.mark.long
def test_message_size_limit(milter):
    m = milter(main={"message_size_limit": "100000"})
    mta = Mta(m)
    mta.connect()
    big = mail("big", b"x" * 78 + b"\r\n")
    assert said(mta.message(mail("fits", b"x" * 99000))) == "c"
    for pieces in (1000, 65535):
        assert said(mta.message(mail("big", b"x" * 101000), pieces=pieces)) \
            == "552 5.3.4 Error: message file too big"
    assert said(mta.message(big)) == "c"
    assert said(mta.message(b"X: y\r\n" * 10001 + b"\r\n")) == \
        "554 5.6.0 Error: too many header lines"
    assert said(mta.message(b"X: y\r\n" * 9999 + b"\r\n")) == "c"


@pytest.mark.long
def test_memory_limit(milter):
    m = milter(main={"postern_milter_memory_limit": "1048576"})
    # one that answers each step
    one, two = Mta(m, protocol=0x100000), Mta(m)
    one.connect()
    two.connect()
    one.begin()
    one.text(mail("first", b"x" * 800000))
    assert said(two.message(mail("second", b"x" * 400000))) == \
        "452 4.3.1 Error: insufficient memory in content filter"
    assert said(two.message(mail("third", b"x" * 200000))) == "c"
    assert said(one.end()) == "c"
    assert said(two.message(mail("fourth", b"x" * 800000))) == "c"


@pytest.mark.long
def test_session_limit(milter):
    m = milter(main={"postern_milter_session_limit": "3"})
    open_ones = [Mta(m) for _ in range(3)]
    for mta in open_ones:
        mta.connect()
    more = Mta(m)
    with pytest.raises(AssertionError):
        more.connect()
    m.wait_log("postern_milter_session_limit is 3")
    more.close()
    open_ones.pop().close()

    def again():
        mta = Mta(m)
        try:
            mta.connect()
            return mta
        except AssertionError:
            mta.close()
    assert said(wait_for("a place", again).message(mail("fine"))) == "c"
    for mta in open_ones:
        assert said(mta.message(mail("bad"))).startswith("550")


def test_many_recipients(shared):
    mta = Mta(shared)
    mta.connect()
    many = [f"user{i}@example.com" for i in range(10000)]
    assert said(mta.message(mail("fine"), many)) == "c"
    assert said(mta.message(mail("fine"), many + ["x@example.com"])) == \
        "452 4.5.3 Error: too many recipients"


def test_sessions_side_by_side(shared):
    m = shared
    answers = []

    def session(i):
        mta = Mta(m)
        mta.connect()
        for k in range(10):
            subject = ("fine", "bad", "hold", "gone")[(i + k) % 4]
            answers.append((subject, said(mta.message(
                mail(subject, b"text\r\n" * 1000 * (k % 3)),
                ident=f"Q{i}x{k}"))[:3]))
        mta.close()
    threads = [threading.Thread(target=session, args=(i,)) for i in range(50)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(answers) == 500
    assert set(answers) == {("fine", "c"), ("bad", "550"), ("hold", "c"),
                            ("gone", "d")}
    for i in range(50):
        assert len(re.findall(rf": Q{i}x\d: message-id=", m.log())) > 0


def test_slow_server(shared):
    """One that sends byte by byte keeps nobody from going on."""
    m = shared
    slow, other = Mta(m), Mta(m)
    slow.connect()
    other.connect()
    slow.begin()
    whole = b"\0\0\0\x0eLSubject\0 bad\0"
    for i in range(len(whole)):
        slow.sock.sendall(whole[i:i + 1])
        assert said(other.message(mail("bad"))).startswith("550")
    slow.ask(b"N", 0x40000)
    assert said(slow.end()).startswith("550")


@pytest.mark.parametrize("junk", [
    b"\xff\xff\xff\xffL", b"\0\0\0\0", b"\0\0\0\1E", b"\0\0\0\1T",
    b"\0\0\0\5Babc", b"\0\0\0\3L\0\0", b"\0\0\0\2Lx", b"\0\0\0\2R\0",
    b"\0\0\0\2M\0\0\0\0\1E", b"\0\0\0\5DMabc", b"GET / HTTP/1.0\r\n\r\n",
    b"\0\0\0\1K", b"\0\0\0\5C\0004\0\0", b"\0\0\0\1Q"])
def test_what_no_server_sends(junk, shared):
    m = shared
    front = m.children("pmilter")
    for begun in (False, True):
        mta = Mta(m)
        mta.connect()
        if begun:
            mta.begin()
        mta.sock.sendall(junk)
        mta.close()
    mta = Mta(m)
    mta.connect()
    assert said(mta.message(mail("bad"))).startswith("550")
    assert m.children("pmilter") == front


def test_words_of_libmilter(shared):
    """What the library says is in our log, not in syslog's."""
    with socket.create_connection(("127.0.0.1", shared.port)) as s:
        s.sendall(b"\0\0\0\5O\0\0\0\0")
        shared.wait_log(": warning: libmilter: postern-milter: st_optionneg")


# -- changes and breakdowns -----------------------------------------------------------


def test_rules_change_under_a_connection(milter):
    m = milter()
    mta, half = Mta(m), Mta(m)
    mta.connect()
    half.connect()
    half.begin()
    half.text(mail("new"))
    assert said(mta.message(mail("new"))) == "c"
    m.write("header_checks", "/^Subject: new/ REJECT new rule\n")
    m.wait_log("reloaded: generation 2")
    assert said(mta.message(mail("new"))) == "550 5.7.1 new rule"
    assert said(half.end()) == "550 5.7.1 new rule"
    wait_for("the end of the old filters",
             lambda: len(m.children("filter")) == 2)
    # what cannot be used has no effect
    m.write("header_checks", "/^Subject: (/ REJECT\n")
    m.wait_log("the old ones stay in charge")
    assert said(mta.message(mail("new"))) == "550 5.7.1 new rule"
    assert re.search(r"header_checks:1: ", m.log())
    m.expected += ["header_checks", "fatal: content rules cannot be used"]
    m.write("header_checks", "/^Subject: newer/ REJECT newer rule\n")
    m.wait_log("reloaded: generation 4")
    assert said(mta.message(mail("new"))) == "c"
    m.write("main.cf", open(m.etc + "/main.cf").read() + "no equals sign\n")
    m.wait_log("the old one stays in charge")
    m.expected += ["main.cf"]
    assert said(mta.message(mail("newer"))) == "550 5.7.1 newer rule"


@pytest.mark.long
def test_the_last_change_counts(milter):
    """Also one that comes while filters are being started."""
    m = milter()
    mta = Mta(m)
    mta.connect()
    m.write("header_checks", "/^Subject: first/ REJECT first\n")
    m.wait_log("changed: ")
    end = time.monotonic() + 4
    n = 0
    while time.monotonic() < end:
        n += 1
        m.write("header_checks", f"/^Subject: new/ REJECT rule {n}\n")
        time.sleep(0.37)
    wait_for("the last rule", lambda: said(mta.message(mail("new"))) ==
             f"550 5.7.1 rule {n}")


@pytest.mark.long
def test_hup(milter):
    m = milter()
    mta = Mta(m)
    mta.connect()
    os.rename(m.log_path, m.log_path + ".1")
    os.kill(m.pid, signal.SIGHUP)
    m.wait_log("reloaded: generation 2")
    assert said(mta.message(mail("bad"))).startswith("550")
    m.wait_log(": reject: header")
    m.wait_log(": milter-reject: ")
    os.kill(m.pid, signal.SIGUSR1)
    m.wait_log("status: pmilter")


def test_filter_is_killed(milter):
    m = milter(main={"role_processes": "1"})
    m.expected += ["killed by signal 9"]
    mta, other = Mta(m), Mta(m)
    mta.connect()
    other.connect()
    for _ in range(3):
        pid, = m.children("filter")
        os.kill(pid, signal.SIGKILL)
        wait_for("another filter", lambda: m.children("filter") not in (
            [], [pid]))
        assert said(mta.message(mail("bad"))).startswith("550")
    # the message it is at is tried later, one behind it goes to the next
    pid, = m.children("filter")
    os.kill(pid, signal.SIGSTOP)
    for one in (mta, other):
        one.begin()
        one.text(mail("bad"))
        one.send(b"E")
    m.wait_log("QID1: reject", 3)
    time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    got = sorted(read_end(one) for one in (mta, other))
    assert got == ["451 4.3.0 Error: content filter failed",
                   "550 5.7.7 no bad 100%% subjects"]


def read_end(mta):
    while True:
        kind, data = mta.packet()
        if kind in b"acdrty":
            return said([(kind, data)])


@pytest.mark.long
def test_filter_is_silent(milter):
    m = milter(main={"role_processes": "1", "filter_time_limit": "1s"})
    m.expected += ["killed by signal 9", "broke the rules"]
    mta = Mta(m)
    mta.connect()
    pid, = m.children("filter")
    os.kill(pid, signal.SIGSTOP)
    assert said(mta.message(mail("fine"))) == \
        "451 4.3.0 Error: content filter is slow"
    assert said(mta.message(mail("bad"))).startswith("550")
    assert m.children("filter") != [pid]


def test_front_is_killed(milter):
    m = milter()
    m.expected += ["killed by signal 9"]
    pid, = m.children("pmilter")
    mta = Mta(m)
    mta.connect()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises((EOFError, ConnectionError)):
        mta.message(mail("fine"))

    def again():
        try:
            new = Mta(m)
            new.connect()
            return new
        except (OSError, EOFError):
            return None
    mta = wait_for("another pmilter", again)
    assert said(mta.message(mail("bad"))).startswith("550")
    assert m.children("pmilter") != [pid]


@pytest.mark.long
def test_stop_waits_for_a_message(milter):
    m = milter()
    mta, idle = Mta(m, protocol=0x100000), Mta(m)
    mta.connect()
    idle.connect()
    mta.begin()
    os.kill(m.pid, signal.SIGTERM)
    # no new one begins
    wait_for("the stop", lambda: said(idle.message(mail("fine"))) ==
             "451 4.3.2 Error: content filter is being stopped")
    mta.text(mail("bad"))
    assert said(mta.end()).startswith("550")
    m.stop()
    assert "stopped\n" in m.log()
    assert os.listdir(m.dir).count("pid") == 0


@pytest.mark.long
def test_starts_again_at_once(milter):
    m = milter(unix=True, args=["-s", "0666"])
    assert os.stat(m.dir + "/socket").st_mode & 0o777 == 0o666
    mta = Mta(m)
    mta.connect()
    assert said(mta.message(mail("bad"))).startswith("550")
    # nobody takes its place
    p = m.start(check=False)
    assert p.returncode == 1 and "somebody serves" in p.stderr
    m.stop()
    assert not os.path.exists(m.dir + "/socket")
    m.start()


@pytest.mark.parametrize("text, why", [
    ("header_checks = regexp:$config_directory/missing\n", "missing"),
    ("filter_policy_maps = ldap:/etc/x.cf\n", "behind a connection"),
    ("message_size_limit = x\n", "message_size_limit"),
])
def test_what_cannot_start(milter, text, why):
    m = milter(text=text, start=False)
    m.write("main.cf", open(m.etc + "/main.cf").read() + text)
    p = m.start(check=False)
    assert p.returncode == 1
    assert why in p.stderr + m.log()
    m.expected += ["fatal:", "error:"]
    assert not os.path.exists(m.dir + "/pid")


@pytest.mark.long
def test_options(milter):
    m = milter(start=False)
    for more in (["-m", "maybe"], ["-s", "8"], ["-s", "1777"], ["-x"],
                 ["-p", "unix:relative"], ["-c", "/nonexistent"],
                 ["-d", "x"], ["extra"], ["-P", "pid"]):
        m.args = more
        p = m.start(check=False)
        assert p.returncode == 1 and p.stderr, more
    m.args = ["-g", "no-such-group"]
    m.socket = f"unix:{m.dir}/socket"
    m.expected += ["no such group", "error: not started"]
    assert m.start(check=False).returncode == 1


@need_root
def test_jail(milter):
    m = milter(main={"role_processes": "1"})
    mta = Mta(m)
    mta.connect()
    assert said(mta.message(mail("bad"))).startswith("550")
    for pid in m.children():
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status") as f:
                st = dict(line.rstrip("\n").split(":\t", 1) for line in f
                          if ":\t" in line)
            assert "0" not in st["Uid"].split(), st["Name"]
            assert st["NoNewPrivs"] == "1" and st["Seccomp"] == "2"
            assert int(st["CapEff"], 16) == 0
        assert os.readlink(f"/proc/{pid}/root") == m.dir + "/data/empty"
        assert os.listdir(f"/proc/{pid}/root") == []
    with open(f"/proc/{m.pid}/status") as f:
        st = dict(line.rstrip("\n").split(":\t", 1) for line in f
                  if ":\t" in line)
    # chown, dac_override, fowner, kill, setgid, setuid, bind, chroot
    assert int(st["CapEff"], 16) == 0x404eb


# -- the same inside another server as in the gateway ---------------------------------------


def with_file(name, data, kind="application/octet-stream"):
    text = mail_with(name, data)
    return text.replace(b"application/octet-stream", kind.encode())


def refused():
    """What the shipped rules do not let through, and what is close to it."""
    zipped_exe = zipped(("sub/evil.exe", EXE))
    two = mail_with("a.txt").replace(
        b'boundary="frontier"', b'boundary="frontier"; boundary="other"')
    yield "exe", with_file("invoice.pdf.exe", EXE)
    yield "exe-renamed", with_file("invoice.pdf", EXE)
    yield "exe-zipped", with_file("a.zip", zipped_exe)
    yield "exe-deep", with_file("a.zip", zipped(("b.zip", zipped_exe)))
    yield "scr", with_file("holiday.scr", b"text")
    yield "js", with_file("a.js", b"alert(1)")
    yield "lnk", with_file("a.txt", b"L\0\0\0\1\x14\2\0\0\0\0\0\xc0" +
                           bytes(6) + b"\x46" + bytes(60))
    yield "ole", with_file("a.doc", ole())
    yield "tnef", with_file("winmail.dat", tnef((b"a.txt", b"text")),
                            "application/ms-tnef")
    yield "tnef-exe", with_file("winmail.dat", tnef((b"a.exe", EXE)),
                                "application/ms-tnef")
    yield "vbs", with_file("a.vbs", b"x")
    yield "html", with_file("a.html", b"<html><script>URL.createObjectURL(b)"
                            b"</script>", "text/html")
    yield "boundaries", two
    yield "types", mail("x", Content_Type="text/plain\r\nContent-Type: "
                        "multipart/mixed; boundary=x")
    yield "encodings", mail("x", Content_Transfer_Encoding="base64\r\n"
                            "Content-Transfer-Encoding: 7bit")
    yield "continued", mail_with("a.exe", EXE).replace(
        b'filename="a.exe"', b"filename*0=a.e;\r\n\tfilename*1=xe")
    yield "encoded", mail_with("a.exe", EXE).replace(
        b'filename="a.exe"', b"filename*=utf-8''a%2Eexe")
    yield "words", mail_with("a.exe", EXE).replace(
        b'"a.exe"', b'"=?utf-8?B?YS5leGU=?="')
    yield "uuencode", mail("x", b"begin 644 a.txt\r\n#0V%T\r\n`\r\nend\r\n")
    yield "deep", mail("x", b"".join(
        b"--%d\r\nContent-Type: multipart/mixed; boundary=%d\r\n\r\n" %
        (i, i + 1) for i in range(1, 150)),
        Content_Type="multipart/mixed; boundary=1")
    yield "nested", mail("x", b"Subject: inner\r\n\r\n" + mail_with(
        "a.exe", EXE), Content_Type="message/rfc822")
    yield "pdf", with_file("a.pdf", b"%PDF-1.7\n1 0 obj <</S /JavaScript>>",
                           "application/pdf")
    yield "ok", mail_with("a.txt", b"text")
    yield "rule-hold", mail("please hold")
    yield "rule-discard", mail("please discard")
    yield "rule-strip", mail("please", X_Strip="x", X_Other="y")
    yield "rule-prepend", mail("please prepend")
    yield "rule-replace", mail("please replace\r\n\tit")
    yield "rule-later", mail("please later")
    yield "rule-redirect", mail("please redirect")
    yield "rule-copy", mail("please copy")
    yield "strip", with_file("take.me", b"taken " * 2000)


MORE_RULES = """/^Subject: please hold/ HOLD somebody looks
/^Subject: please discard/ DISCARD
/^Subject: please prepend/ PREPEND X-Pre: yes
/^(Subject: please) replace/ REPLACE $1, replaced
/^Subject: please later/ REJECT 4.7.9 not now
/^Subject: please redirect/ REDIRECT other@example.com
/^Subject: please copy/ BCC copy@example.com
/^X-Strip:/ IGNORE
"""


def messages():
    for path in sorted(glob.glob(f"{TOP}/t/mail/*.eml")):
        with open(path, "rb") as f:
            yield os.path.basename(path), f.read().replace(b"\n", b"\r\n")
    yield from refused()


def send_all(server):
    """{name: what the client was told}"""
    told = {}
    with server.client() as c:
        c.ehlo()
        for name, text in messages():
            r = c.message(f"{name}@client.example", "user@example.com", text)
            told[name] = r.text
    return told


def normal(told):
    """Words without what is each server's own."""
    return {n: "250" if t.startswith("250") else t for n, t in told.items()}


def received(sink, server):
    """{name: (recipients, headers, body)}; a line that is too long is broken
    by servers in their own ways, and sendmail completes multiparts."""
    out = {}
    for m in sink.messages:
        name = m.sender.split("@")[0]
        own = [h for h in re.split(rb"\r\n(?![ \t])", m.header)
               if h and not re.match(rb"(?i)(received|return-path|message-id|date|"
                               rb"x-authentication-warning|from|to|cc|bcc|"
                               rb"resent-\w+|sender|reply-to|errors-to):", h)]
        out.setdefault(name, []).append((
            sorted(m.rcpts), sorted(re.sub(rb"\s+", b" ", h).strip()
                                    for h in own),
            None if server is Sendmail and name.endswith(".eml") else
            re.sub(rb"\s+", b"", m.body)))
    return {n: sorted(v) for n, v in out.items()}


@pytest.fixture(scope="module")
def gateway():
    """The gateway, what it said to each message and what it let through."""
    sink = Sink()
    gw = Instance(sink, main={"mime_ambiguity": "reject"}, start=False)
    try:
        gw.edit("header_checks", lambda t: MORE_RULES + t)
        gw.edit("attachment_checks",
                lambda t: "/ name=take\\.me/ STRIP taken away\n" + t)
        gw.start()
        gw.told = send_all(gw)
        gw.held = len(gw.queued("hold"))
        wait_for("all that is not held", lambda: not gw.queued(
            "incoming", "active", "deferred"))
        expected = sum(t.startswith("250") for t in gw.told.values())
        sink.wait(expected - gw.held - 1)       # and one discarded
        yield gw
    finally:
        sink.close()
        gw.destroy(check=False)


def beside(make, gw, **kw):
    """postern-milter with the gateway's configuration."""
    files = {}
    for name in ("header_checks", "body_checks", "attachment_checks"):
        with open(gw.path(name)) as f:
            files[name] = f.read()
    with open(gw.path("main.cf")) as f:
        text = f.read()
    return make(PosternMilter, files=files, text=text, main={
        "header_checks": "pcre:$config_directory/header_checks",
        "body_checks": "pcre:$config_directory/body_checks",
        "attachment_checks": "pcre:$config_directory/attachment_checks",
        "message_size_limit": "0"}, **kw)


def test_gateway_refuses_some(gateway):
    """Or the comparison would say little."""
    codes = [t[:3] for t in gateway.told.values()]
    assert codes.count("250") > 50
    assert codes.count("550") + codes.count("554") > 12, gateway.told
    assert codes.count("451") == 1 and gateway.held >= 1


@pytest.mark.parametrize("server", [
    pytest.param(Sendmail, marks=pytest.mark.skipif(
        not HAVE_SENDMAIL, reason="no sendmail (t/peers/sendmail fetch)")),
    pytest.param(Postfix, marks=pytest.mark.skipif(
        not HAVE_POSTFIX, reason="no Postfix"))])
@need_root
def test_same_verdicts(server, gateway, make):
    sink = make_sink(make)
    m = beside(make, gateway)
    peer = make(server, m, sink)
    told = normal(send_all(peer))
    ours = normal(gateway.told)
    different = {n: (ours[n], told[n]) for n in ours if ours[n] != told[n]}
    assert not different
    assert len(peer.held()) == gateway.held
    want = received(gateway.sink, server)
    sink.wait(len(gateway.sink.messages))
    got = received(sink, server)
    assert sorted(got) == sorted(want)
    different = {n: (want[n], got[n]) for n in want if want[n] != got[n]}
    assert not different, sorted(different)


def make_sink(make):
    class Owned(Sink):
        def destroy(self):
            self.close()
    return make(Owned)
