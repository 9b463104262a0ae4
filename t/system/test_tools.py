"""The queue commands: what they show, what they change, who may use them."""
import json
import os
import pwd
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
from postern import SLOW, Sink, mail, wait_for
from conftest import need_root

NOBODY = ("setpriv", "--reuid", "nobody", "--regid", "nogroup",
          "--clear-groups")


def tool(gw, name, *args, check=True, user=None, stdin=None):
    cmd = [f"{gw.build}/bin/{name}", "-c", gw.etc, *args]
    if user:
        # the source tree may lie where only root can go
        if not hasattr(gw, "copy"):
            gw.copy = gw.copy_programs()
        cmd[0] = f"{gw.copy}/bin/{name}"
        cmd = [*NOBODY, *cmd]
    elif gw.user:
        cmd = ["setpriv", "--reuid", gw.user, "--regid",
               str(pwd.getpwnam(gw.user).pw_gid), "--clear-groups", *cmd]
    p = subprocess.run(cmd, capture_output=True, timeout=60,
                       input=stdin.encode() if stdin else b"")
    p.stdout = p.stdout.decode("utf-8", "surrogateescape")
    p.stderr = p.stderr.decode("utf-8", "replace")
    assert not check or p.returncode == 0, p.stdout + p.stderr
    return p


def listing(gw, *args):
    return {e["queue_id"]: e for e in map(
        json.loads, tool(gw, "postqueue", "-j", *args).stdout.splitlines())}


def send(gw, subject, rcpts="user@example.com", sender="a@client.example"):
    with gw.client() as c:
        c.ehlo()
        r = c.message(sender, rcpts, mail(subject))
        assert r.code == 250, r
        c.cmd("QUIT")
    return r.text.rsplit(" ", 1)[1]


def deferred(gw, n=1, **kw):
    ids = [send(gw, f"message {i}", **kw) for i in range(n)]
    wait_for("deferred files", lambda: set(ids) <= {
        os.path.basename(f) for f in gw.queued("deferred")})
    return ids


class Slow:
    """A sink that answers the final dot when it is told to."""

    def __init__(self, reply=None):
        self.go, self.reply = threading.Event(), reply
        self.sink = Sink(self.on)

    def on(self, verb, argument):
        if verb == "DOT":
            self.go.wait(60 * SLOW)
            return self.reply
        return None


def journal_ready(gw):
    wait_for("a journal segment", lambda: re.search(
        r"journal_segments [1-9]", gw.command("status").stdout))


# Listing

def test_empty(gw):
    assert tool(gw, "postqueue", "-p").stdout == "Mail queue is empty\n"
    assert tool(gw, "postqueue", "-j").stdout == ""


def test_traditional_listing(gw, sink):
    sink.down()
    qid, = deferred(gw, rcpts=["one@example.com", "two@example.com"])
    out = tool(gw, "postqueue", "-p").stdout
    assert re.fullmatch(
        r"-Queue ID-  --Size-- ----Arrival Time---- "
        r"-Sender/Recipient-------\n" + qid +
        r"  +\d+ [A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d  "
        r"a@client\.example\n +\(connect to 127\.0\.0\.1\[127\.0\.0\.1\]:\d+: "
        r"Connection refused\)\n {41}one@example\.com\n"
        r" {41}two@example\.com\n\n-- \d+ Kbytes in 1 Request\.\n", out), out


def test_json(gw, sink):
    sink.down()
    before = int(time.time())
    qid, = deferred(gw)
    e = listing(gw)[qid]
    assert list(e) == ["queue_name", "queue_id", "arrival_time",
                       "message_size", "forced_expire", "sender",
                       "recipients"]
    assert e["queue_name"] == "deferred" and e["forced_expire"] is False
    assert e["sender"] == "a@client.example"
    assert before <= e["arrival_time"] <= time.time() + 1
    assert e["message_size"] > 100
    r, = e["recipients"]
    assert r["address"] == "user@example.com"
    assert "Connection refused" in r["delay_reason"]
    more = listing(gw, "-v")[qid]
    assert more["attempts"] == 1
    assert more["next_attempt"] > more["last_attempt"]


def test_delivered_recipients_are_not_shown(make):
    sink = Sink(lambda verb, arg: "451 4.7.1 later"
                if verb == "RCPT" and arg.startswith("late") else None)
    gw = make(sink)
    qid, = deferred(gw, rcpts=["now@example.com", "late@example.com"])
    assert [r["address"] for r in listing(gw)[qid]["recipients"]] == [
        "late@example.com"]
    sink.close()


def test_in_memory_message_is_listed(make):
    """One that has no file: in the journal and on its way."""
    slow = Slow()
    gw = make(slow.sink)
    journal_ready(gw)
    qid = send(gw, "under way")
    e = wait_for("a listing", lambda: listing(gw).get(qid))
    assert e["queue_name"] == "active"
    assert not gw.queued("incoming", "active", "deferred")
    assert qid + "*" in tool(gw, "postqueue", "-p").stdout
    out = tool(gw, "postcat", "-q", qid).stdout
    assert "in_memory: yes" in out and "Subject: under way" in out
    slow.go.set()
    slow.sink.wait(1)
    wait_for("an empty list", lambda: not listing(gw))
    slow.sink.close()


def test_pending_bounce_is_shown(make):
    """A recipient that failed while another is still being tried."""
    go = threading.Event()

    def on(verb, arg):
        if verb == "RCPT" and arg.startswith("bad"):
            return "550 5.1.1 no such user"
        if verb == "DOT":
            go.wait(60 * SLOW)
        return None
    sink = Sink(on)
    gw = make(sink, main={"relay_destination_recipient_limit": "1"})
    qid = send(gw, "two fates", ["bad@example.com", "good@example.com"])

    def bounced():
        e = listing(gw).get(qid)
        return e and [r for r in e["recipients"] if "bounce_reason" in r]
    r, = wait_for("a bounce_reason", bounced)
    assert r["address"] == "bad@example.com"
    assert "no such user" in r["bounce_reason"]
    go.set()
    sink.wait(1)
    sink.close()


def test_ordinary_user_lists(make, sink):
    gw = make(sink, user="nobody") if os.getuid() == 0 else make(sink)
    sink.down()
    qid, = deferred(gw)
    assert qid in tool(gw, "postqueue", "-p").stdout
    assert "placed on hold" in tool(gw, "postsuper", "-h", qid).stderr
    assert listing(gw)[qid]["queue_name"] == "hold"


@need_root
def test_who_may(make, sink):
    gw = make(sink)
    sink.down()
    gw.expect_log("user id .* may not")
    qid, = deferred(gw)
    assert qid in tool(gw, "postqueue", "-p", user="nobody").stdout
    tool(gw, "postqueue", "-f", user="nobody")
    for name, args in (("postsuper", ("-d", qid)), ("postcat", ("-q", qid)),
                       ("postsuper", ("-h", "ALL"))):
        p = tool(gw, name, *args, user="nobody", check=False)
        assert p.returncode == 77 and "reserved" in p.stderr, p
    assert qid in listing(gw)
    gw.set(authorized_mailq_users="!nobody, static:anyone",
           authorized_flush_users="root")
    gw.command("reload")
    p = tool(gw, "postqueue", "-p", user="nobody", check=False)
    assert p.returncode == 77, p
    assert re.search(r"fatal: User uid=\d+ is not allowed to view the mail "
                     "queue", p.stderr)
    p = tool(gw, "postqueue", "-f", user="nobody", check=False)
    assert p.returncode == 77 and "flush the mail queue" in p.stderr
    gw.set(authorized_mailq_users="nobody")
    gw.command("reload")
    assert qid in tool(gw, "postqueue", "-p", user="nobody").stdout


@need_root
def test_when_the_system_is_down(gw, sink):
    sink.down()
    qid, = deferred(gw)
    gw.stop()
    assert qid in tool(gw, "postqueue", "-p").stdout
    p = tool(gw, "postqueue", "-p", user="nobody", check=False)
    assert p.returncode == 69
    assert p.stderr == ("postqueue: fatal: Queue report unavailable - "
                        "mail system is down\n")
    p = tool(gw, "postqueue", "-f", check=False)
    assert p.returncode == 69 and "mail system is down" in p.stderr


def test_nothing_reaches_the_terminal(make):
    """Escapes in a reply, control bytes that are no UTF-8."""
    sink = Sink(lambda verb, arg: "451 4.0.0 a\x1b[2J\x9b1m\"\\ \x07b"
                if verb == "RCPT" else None)
    gw = make(sink)
    qid, = deferred(gw)
    for args in ("-p", "-j"):
        out = tool(gw, "postqueue", args).stdout
        assert qid in out
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out), out
    sink.close()


# Trying again

def test_flush_all(gw, sink):
    sink.down()
    ids = deferred(gw, 3)
    sink.up()
    tool(gw, "postqueue", "-f")
    sink.wait(len(ids))


def test_flush_one(gw, sink):
    sink.down()
    a, b = deferred(gw, 2)
    sink.up()
    tool(gw, "postqueue", "-i", a)
    sink.wait(1)
    wait_for("one left", lambda: set(listing(gw)) == {b})
    p = tool(gw, "postqueue", "-i", a, check=False)
    assert p.returncode and "no such" in p.stderr
    p = tool(gw, "postqueue", "-i", "nonsense", check=False)
    assert p.returncode == 64 and "invalid queue id" in p.stderr


@pytest.mark.parametrize("site,got", [
    ("example.com", {"one"}), (".example.com", {"two"}),
    ("EXAMPLE.com", {"one"}), ("other.example", set())])
def test_flush_site(make, sink, site, got):
    gw = make(sink, main={
        "relay_domains": "example.com, sub.example.com",
        "parent_domain_matches_subdomains": ""})
    sink.down()
    send(gw, "one", "user@example.com")
    send(gw, "two", "user@sub.example.com")
    wait_for("two deferred", lambda: len(gw.queued("deferred")) == 2)
    sink.up()
    gw.command("flush", "-s", site)
    sink.wait(len(got))
    wait_for("the rest", lambda: len(listing(gw)) == 2 - len(got))
    assert {m.field("Subject") for m in sink.messages} == got


# ETRN: the same from outside

def etrn(gw, *sites):
    with gw.client() as c:
        c.ehlo()
        r = [c.cmd(f"ETRN {s}").code for s in sites]
        c.cmd("QUIT")
    return r


def test_etrn(make, sink):
    gw = make(sink, main={
        "relay_domains": "example.com, sub.example.com",
        "parent_domain_matches_subdomains": ""})
    sink.down()
    send(gw, "one", "user@example.com")
    send(gw, "two", "user@sub.example.com")
    wait_for("two deferred", lambda: len(gw.queued("deferred")) == 2)
    sink.up()
    # no showq runs yet; asked for often, it is looked for once
    assert etrn(gw, "other.example", *["Example.COM"] * 20) == (
        [459] + [250] * 20)
    sink.wait(1)
    gw.wait_log("site Example.COM: 1 deferred messages")
    wait_for("one left", lambda: len(listing(gw)) == 1)
    assert [m.field("Subject") for m in sink.messages] == ["one"]


# Hold, release, delete, requeue, expire

def test_hold_and_release(gw, sink):
    sink.down()
    qid, = deferred(gw)
    p = tool(gw, "postsuper", "-h", qid)
    assert p.stderr == (f"postsuper: {qid}: placed on hold\n"
                        "postsuper: Placed on hold: 1 message\n")
    assert [os.path.basename(f) for f in gw.queued("hold")] == [qid]
    assert qid + "!" in tool(gw, "postqueue", "-p").stdout
    sink.up()
    tool(gw, "postqueue", "-f")
    time.sleep(0.3)
    assert not sink.messages, "what is on hold was delivered"
    p = tool(gw, "postsuper", "-H", qid)
    assert "Released from hold: 1 message" in p.stderr
    sink.wait(1)
    wait_for("an empty spool", lambda: not gw.queued())
    gw.wait_log(qid + ": placed on hold")
    gw.wait_log(qid + ": released from hold")


def test_delete(gw, sink):
    sink.down()
    ids = deferred(gw, 3)
    p = tool(gw, "postsuper", "-d", ids[0])
    assert f"postsuper: {ids[0]}: removed" in p.stderr
    assert set(listing(gw)) == set(ids[1:])
    p = tool(gw, "postsuper", "-d", ids[0], check=False)
    assert p.returncode == 1 and "not found" in p.stderr
    p = tool(gw, "postsuper", "-d", "-", stdin=f"{ids[1]}!\n{ids[2]}\n")
    assert "Deleted: 2 messages" in p.stderr
    assert not listing(gw) and not gw.queued()


def test_requeue(gw, sink):
    sink.down()
    qid, = deferred(gw)
    tool(gw, "postsuper", "-h", qid)
    sink.up()
    tool(gw, "postqueue", "-f")
    tool(gw, "postsuper", "-r", qid)
    sink.wait(1)


def test_expire(gw, sink):
    sink.down()
    qid, = deferred(gw)
    p = tool(gw, "postsuper", "-e", qid)
    assert "Expired: 1 message" in p.stderr
    assert listing(gw)[qid]["forced_expire"] is True
    assert qid + "#" in tool(gw, "postqueue", "-p").stdout
    tool(gw, "postqueue", "-f")
    gw.wait_log(qid + ": from=<a@client.example>, status=expired")
    gw.wait_log(qid + ": removed")


def test_expire_and_release(gw, sink):
    sink.down()
    qid, = deferred(gw)
    tool(gw, "postsuper", "-h", qid)
    tool(gw, "postsuper", "-f", qid)
    gw.wait_log(qid + ": removed")


def test_all_of_a_queue(gw, sink):
    sink.down()
    ids = deferred(gw, 4)
    tool(gw, "postsuper", "-h", ids[0])
    p = tool(gw, "postsuper", "-d", "ALL", "deferred")
    assert "Deleted: 3 messages" in p.stderr
    assert set(listing(gw)) == {ids[0]}
    p = tool(gw, "postsuper", "-H", "ALL")
    assert "Released from hold: 1 message" in p.stderr


@pytest.mark.parametrize("pattern,n", [
    (("--sender", "spam@bad.example"), 1), (("--sender", "bad.example"), 2),
    (("--sender", "*@*.example"), 3), (("--sender", ""), 0),
    (("--recipient", "example.com"), 3), (("--recipient", "x@*"), 0),
    (("--older", "1h"), 0), (("--newer", "1h"), 3),
    (("--next-hop", "127.0.0.1"), 3), (("--next-hop", "[127.0.0.1]:*"), 3),
    (("--next-hop", "192.0.2.1"), 0),
    (("--sender", "bad.example", "--older", "1d"), 0)])
def test_patterns(gw, sink, pattern, n):
    sink.down()
    for s in ("spam@bad.example", "eggs@bad.example", "a@good.example"):
        send(gw, s, sender=s)
    wait_for("deferred", lambda: len(gw.queued("deferred")) == 3)
    out = tool(gw, "postsuper", "--dry-run", "-d", "ALL", *pattern)
    assert len(out.stdout.splitlines()) == n, out.stdout
    assert len(listing(gw)) == 3
    tool(gw, "postsuper", "-d", "ALL", *pattern)
    assert len(listing(gw)) == 3 - n


def test_pattern_beside_an_id_is_refused(gw):
    p = tool(gw, "postsuper", "-d", "0123456789A", "--sender", "x",
             check=False)
    assert p.returncode == 64 and "patterns go with ALL" in p.stderr


@pytest.mark.parametrize("reply", [None, "451 4.0.0 later"])
@pytest.mark.parametrize("op", ["-d", "-h", "-r"])
def test_during_a_delivery(make, op, reply):
    """What has begun goes on to its end; then the wish is fulfilled."""
    slow = Slow(reply)
    gw = make(slow.sink)
    qid = send(gw, "under way")
    wait_for("a delivery", lambda: slow.sink.sessions)
    wait_for("a listing", lambda: listing(gw).get(qid))
    p = tool(gw, "postsuper", op, qid)
    assert "is being delivered" in p.stderr
    assert qid in listing(gw), "gone before its attempt ended"
    slow.go.set()
    if reply is None:
        slow.sink.wait(1)
        wait_for("an end", lambda: not gw.queued() and not listing(gw))
    elif op == "-d":
        wait_for("an end", lambda: not gw.queued() and not listing(gw))
        assert "notification" not in gw.log()
    elif op == "-h":
        wait_for("a held file", lambda: gw.queued("hold"))
        e = listing(gw)[qid]
        assert e["queue_name"] == "hold"
        assert "later" in e["recipients"][0]["delay_reason"]
    else:
        wait_for("a second attempt", lambda: gw.log().count(
            f"{qid}: to=<user@example.com>") > 1)
        tool(gw, "postsuper", "-d", qid, check=False)
    slow.sink.close()


@pytest.mark.parametrize("op", ["-d", "-h", "-r", "-e"])
def test_in_the_journal_and_waiting(make, op):
    """A message that waits for its turn, without a file of its own."""
    slow = Slow()
    gw = make(slow.sink, main={"relay_destination_concurrency_limit": "1"})
    journal_ready(gw)
    first = send(gw, "first")
    wait_for("a delivery", lambda: slow.sink.sessions)
    qid = send(gw, "second")
    wait_for("a listing", lambda: set(listing(gw)) == {first, qid})
    p = tool(gw, "postsuper", op, qid)
    assert "being delivered" not in p.stderr, p.stderr
    if op == "-d":
        assert set(listing(gw)) == {first}
    elif op == "-h":
        assert [os.path.basename(f) for f in gw.queued("hold")] == [qid]
    slow.go.set()
    if op in ("-d", "-h"):
        slow.sink.wait(1)
        wait_for("the first to leave", lambda: first not in listing(gw))
        gw.stop()
        gw.start()
        time.sleep(0.5)
        assert len(slow.sink.messages) == 1
        assert set(listing(gw)) == ({qid} if op == "-h" else set())
    else:
        slow.sink.wait(2)
    slow.sink.close()


# Without the system

@need_root
def test_postsuper_offline(gw, sink):
    sink.down()
    ids = deferred(gw, 4)
    gw.stop()
    p = tool(gw, "postsuper", "-d", ids[0], "-h", ids[1], "-h", ids[2])
    assert "Deleted: 1 message" in p.stderr
    assert "Placed on hold: 2 messages" in p.stderr
    assert "Released" in tool(gw, "postsuper", "-H", ids[2]).stderr
    assert {k: e["queue_name"] for k, e in listing(gw).items()} == {
        ids[1]: "hold", ids[2]: "deferred", ids[3]: "deferred"}
    sink.up()
    gw.start()
    tool(gw, "postqueue", "-f")
    sink.wait(2)
    tool(gw, "postsuper", "-H", "ALL")
    sink.wait(3)
    assert len(sink.messages) == 3


@need_root
@pytest.mark.parametrize("op", ["-d", "-h"])
def test_offline_knows_the_journal(make, op):
    """qmgr was killed: what is only in its journal would come back."""
    slow = Slow("451 4.0.0 later")
    gw = make(slow.sink)
    gw.expect_log("killed by signal|relay|lost|qmgr|keeper")
    journal_ready(gw)
    qid = send(gw, "in the journal")
    wait_for("a listing", lambda: listing(gw).get(qid))
    assert not gw.queued("incoming", "active", "deferred")
    master, = gw.pids("master")
    os.kill(master, signal.SIGKILL)
    for pid in gw.left():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_for("all to end", lambda: not gw.left())
    slow.go.set()
    wait_for("the sessions' end", lambda: not slow.sink.open)
    p = tool(gw, "postsuper", op, "ALL")
    assert qid in p.stderr and "1 message" in p.stderr
    before = len(slow.sink.messages)
    slow.reply = None
    gw.start()
    time.sleep(0.5)
    assert set(listing(gw)) == ({qid} if op == "-h" else set())
    assert len(slow.sink.messages) == before
    if op == "-h":
        f, = gw.queued("hold")
        assert os.stat(f).st_uid == pwd.getpwnam("postern").pw_uid
        tool(gw, "postsuper", "-H", qid)
        slow.sink.wait_subject("in the journal")
    slow.sink.close()


@need_root
def test_not_beside_a_running_queue_manager(gw):
    """Master does not answer, but its queue manager lives."""
    gw.expect_log(".")
    os.unlink(gw.spool + "/pid/showq")
    p = tool(gw, "postsuper", "-d", "ALL", check=False)
    assert p.returncode == 69 and "queue manager is running" in p.stderr


@need_root
def test_structure(gw, sink):
    """Another setting of hash_queue_names; remains of a crash."""
    sink.down()
    ids = deferred(gw, 6)
    tool(gw, "postsuper", *sum((["-h", i] for i in ids[:3]), []))
    gw.stop()
    gw.set(hash_queue_names="incoming, active, hold")
    with open(gw.spool + "/incoming/.unnamed.1.1", "w"):
        pass
    os.utime(gw.spool + "/incoming/.unnamed.1.1", (0, 0))
    os.makedirs(gw.spool + "/incoming/7", exist_ok=True)
    with open(gw.spool + "/incoming/7/00000000070", "w") as f:
        f.write("half")
    assert set(listing(gw)) == set(ids), "not found where they were"
    p = tool(gw, "postsuper", "-s", "-p")
    assert not os.path.exists(gw.spool + "/incoming/.unnamed.1.1")
    assert not os.path.exists(gw.spool + "/incoming/7/00000000070")
    for i in ids[:3]:
        assert os.path.exists(f"{gw.spool}/hold/{i[-2]}/{i}"), p.stderr
    for i in ids[3:]:
        assert os.path.exists(f"{gw.spool}/deferred/{i}"), p.stderr
    sink.up()
    gw.start()
    tool(gw, "postqueue", "-f")
    tool(gw, "postsuper", "-H", "ALL")
    sink.wait(6)


def test_hold_in_the_wrong_place_is_found(gw, sink):
    """The same without postsuper -s: nothing is lost from sight."""
    sink.down()
    qid, = deferred(gw)
    tool(gw, "postsuper", "-h", qid)
    gw.stop()
    gw.set(hash_queue_names="deferred, hold")
    gw.start()
    assert listing(gw)[qid]["queue_name"] == "hold"
    assert f"sender: a@client.example" in tool(
        gw, "postcat", "-q", qid).stdout
    sink.up()
    tool(gw, "postsuper", "-H", qid)
    sink.wait(1)


# postcat

def test_postcat(gw, sink):
    sink.down()
    qid, = deferred(gw)
    path, = gw.queued("deferred")
    out = tool(gw, "postcat", "-q", qid).stdout
    assert out.startswith(f"*** ENVELOPE RECORDS deferred/{qid} ***\n")
    assert "\nsender: a@client.example\n" in out
    assert "\nrecipient: user@example.com\n" in out
    assert f"*** MESSAGE CONTENTS deferred/{qid} ***\nReceived: from" in out
    assert out.endswith(f"\ntext\n*** MESSAGE FILE END deferred/{qid} ***\n")
    assert tool(gw, "postcat", "-b", "-q", qid).stdout == "text\n"
    head = tool(gw, "postcat", "-hq", qid).stdout
    assert "Subject: message 0" in head and "***" not in head
    if os.getuid() == 0:
        assert "message_size" in tool(gw, "postcat", path).stdout
    assert tool(gw, "postcat", "-q", "00000000000",
                check=False).returncode == 1


def test_postcat_applies_edits(make, sink):
    gw = make(sink)
    gw.write("header_checks", "/^Subject: message 0/ REPLACE Subject: new\n")
    gw.command("reload")
    sink.down()
    qid, = deferred(gw)
    assert "Subject: new\n" in tool(gw, "postcat", "-hq", qid).stdout
    assert "Subject: message 0\n" in tool(gw, "postcat", "-rhq", qid).stdout


# The live view

def test_live_view(make, sink):
    slow = Slow()
    gw = make(slow.sink, main={"relay_destination_concurrency_limit": "1"})
    send(gw, "first")
    wait_for("a delivery", lambda: slow.sink.sessions)
    send(gw, "second")

    def view():
        rows = [json.loads(line) for line in gw.command(
            "queue", "--json").stdout.splitlines()]
        return rows and rows[0]["waiting"] and rows[0]
    row = wait_for("a destination", view)
    assert row["transport"] == "relay"
    assert row["next_hop"] == f"[127.0.0.1]:{slow.sink.port}"
    assert (row["active"], row["waiting"]) == (1, 1)
    assert row["limit"] == 1 and row["held_by"] == "limit"
    out = gw.command("queue", "--once").stdout
    assert all(len(line) <= 80 for line in out.splitlines()), out
    assert "\x1b" not in out and "limit" in out
    slow.go.set()
    slow.sink.wait(2)
    slow.sink.close()


def test_live_view_of_deferred(gw, sink):
    sink.down()
    deferred(gw, 3)
    row = json.loads(gw.command("queue", "--json").stdout)
    assert row["deferred"] == 3 and row["ages"] == [3] + [0] * 9
    assert "Connection refused" in row["last_error"]
    assert 0 < row["next_attempt_in"] < 1200


# What others do meanwhile

def frame(kind, body):
    return struct.pack("<IB", len(body) + 1, kind) + body


def connect(gw):
    s = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(gw.spool)
    try:
        s.connect("pid/showq")
    finally:
        os.chdir(here)
    s.settimeout(20)
    return s


@pytest.mark.parametrize("data", [
    b"\xff" * 100, frame(0, b""), frame(99, b""), frame(1, b"x"),
    frame(4, b"\x03" + struct.pack("<I", 0xffffffff)),
    frame(4, b"\x63" + struct.pack("<I", 0)), frame(5, b"short"),
    frame(3, b"\x02" + struct.pack("<I", 100000)), struct.pack("<I", 0),
    struct.pack("<I", 70000) + b"\x01" * 70000,
    frame(2, b"") + frame(2, b"")], ids=lambda d: f"{len(d)}-{d[4:6].hex()}")
def test_bad_requests(gw, data):
    with connect(gw) as s:
        s.sendall(data)
        while True:
            try:
                if not s.recv(65536):
                    break
            except ConnectionResetError:
                break
    assert tool(gw, "postqueue", "-p").stdout == "Mail queue is empty\n"


def test_slow_reader_costs_nothing(gw, sink):
    """It asks for a long list and reads nothing of it."""
    sink.down()
    ids = deferred(gw, 2)
    slow = [connect(gw) for _ in range(10)]
    nothing = struct.pack("<IB", 0, 0) + struct.pack("<I", 0) * 4 + b"\0" * 16
    for s in slow:
        s.sendall(frame(1, nothing))
    for _ in range(5):
        assert set(listing(gw)) == set(ids)
    for s in slow:
        s.close()


def test_idle_showq_is_started_again(gw):
    tool(gw, "postqueue", "-p")
    pid, = gw.pids("showq")
    gw.expect_log("killed by signal 9")
    os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: pid not in gw.pids("showq"))
    tool(gw, "postqueue", "-p")
    assert gw.pids("showq") not in ([], [pid])


def test_reload_brings_a_new_showq(gw, sink):
    sink.down()
    qid, = deferred(gw)
    assert qid in listing(gw)
    old = gw.pids("showq")
    for _ in range(3):
        gw.command("reload")
        assert qid in listing(gw)
    wait_for("the old one to end", lambda: old[0] not in gw.pids("showq"))


def test_qmgr_killed_between_orders(gw, sink):
    sink.down()
    ids = deferred(gw, 3)
    gw.expect_log("killed by signal 9")
    for qid in ids:
        gw.kill("qmgr")
        wait_for("an answer", lambda: tool(
            gw, "postsuper", "-h", qid, check=False).returncode == 0)
    wait_for("all on hold", lambda: {
        k: e["queue_name"] for k, e in listing(gw).items()} == dict.fromkeys(
            ids, "hold"))


def test_list_while_mail_flows(gw, sink):
    """Each list shows each message once, and the mail goes on."""
    stop, trouble, lists = threading.Event(), [], []

    def look():
        while not stop.is_set():
            p = tool(gw, "postqueue", "-j", check=False)
            ids = [json.loads(x)["queue_id"] for x in p.stdout.splitlines()]
            lists.append(len(ids))
            if p.returncode or len(ids) != len(set(ids)):
                trouble.append(p)
    t = threading.Thread(target=look)
    t.start()
    try:
        with gw.client() as c:
            c.ehlo()
            for i in range(400):
                assert c.message("a@client.example", "user@example.com",
                                 mail(f"m{i}")).code == 250
        sink.wait(400)
    finally:
        stop.set()
        t.join()
    assert not trouble, trouble[0]
    assert lists
    wait_for("an empty list", lambda: not listing(gw))
    assert len(sink.messages) == 400


def test_crafted_files(gw, sink):
    """Whatever lies in the spool: it is not shown, and nothing breaks."""
    sink.down()
    qid, = deferred(gw)
    tool(gw, "postsuper", "-h", qid)
    path, = gw.queued("hold")
    with open(path, "rb") as f:
        good = f.read()
    where = gw.spool + "/hold"

    def put(name, data):
        with open(f"{where}/{name}", "wb") as f:
            f.write(data)
        os.chmod(f"{where}/{name}", 0o700)
        if os.getuid() == 0:
            u = pwd.getpwnam("postern")
            os.chown(f"{where}/{name}", u.pw_uid, u.pw_gid)
    n = 0x100

    def name():
        nonlocal n
        n += 16
        return "%011X" % n
    for cut in (0, 1, 12, 63, 64, 65, len(good) // 2, len(good) - 1):
        put(name(), good[:cut])
    for at in range(8, 64, 4):      # lengths that lie
        x = name()
        data = bytearray(good)
        data[12:20] = struct.pack("<Q", int(x, 16))
        data[at:at + 4] = b"\xff\xff\xff\xff"
        put(x, bytes(data))
    tail = len(good) - good.rindex(b"a@client.example")
    for at in range(0, tail, 3):
        x = name()
        data = bytearray(good)
        data[12:20] = struct.pack("<Q", int(x, 16))
        data[-tail + at - 4] ^= 0xff
        put(x, bytes(data))
    os.mkfifo(f"{where}/{name()}", 0o700)
    os.symlink("/etc/passwd", f"{where}/{name()}")
    os.mkdir(f"{where}/{name()}", 0o700)
    os.symlink("/dev/zero", f"{where}/{name()}")
    put("not-an-id\x1b[2J", b"x")
    got = listing(gw)
    assert qid in got
    for e in got.values():
        assert e["queue_name"] == "hold"
    assert tool(gw, "postqueue", "-p").returncode == 0
    for f in os.listdir(where):
        tool(gw, "postcat", "-q", f, check=False)
    assert tool(gw, "postsuper", "-n", "-d", "ALL").returncode == 0
    assert gw.pids("showq")


def test_sender_shown_once_with_many_recipients(gw, sink):
    sink.down()
    rcpts = [f"user{i}@example.com" for i in range(40)]
    qid, = deferred(gw, rcpts=rcpts)
    assert [r["address"] for r in listing(gw)[qid]["recipients"]] == rcpts
    assert tool(gw, "postqueue", "-p").stdout.count("(connect") == 1


def test_throughput_while_the_queue_is_shown(gw, sink):
    """Many who list a long queue at once do not stop the mail."""
    sink.down()
    deferred(gw, 20)
    tool(gw, "postsuper", "-h", "ALL")
    sink.up()
    tool(gw, "postqueue", "-f")
    stop = threading.Event()

    def look():
        while not stop.is_set():
            tool(gw, "postqueue", "-p", check=False)
            gw.command("queue", "--once", check=False)
    lookers = [threading.Thread(target=look) for _ in range(3)]
    for t in lookers:
        t.start()
    try:
        with gw.client() as c:
            c.ehlo()
            # the destination is alive again after the flush
            for i in range(100):
                assert c.message("a@client.example", "user@example.com",
                                 mail(f"m{i}")).code == 250
        sink.wait(100, 30)
    finally:
        stop.set()
        for t in lookers:
            t.join()
    wait_for("the twenty on hold", lambda: len(listing(gw)) == 20)


def test_message_of_the_old_queue_manager(make):
    """During a reload it is in no file, and the new one does not know it."""
    slow = Slow("451 4.0.0 later")
    gw = make(slow.sink)
    journal_ready(gw)
    qid = send(gw, "under way")
    wait_for("a delivery", lambda: slow.sink.sessions)
    gw.command("reload")
    e = wait_for("a listing", lambda: listing(gw).get(qid))
    assert e["queue_name"] == "active"
    assert "under way" in tool(gw, "postcat", "-q", qid).stdout
    p = tool(gw, "postsuper", "-h", qid, check=False)
    assert "is being delivered" in p.stderr, p.stderr
    slow.go.set()
    wait_for("a held file", lambda: gw.queued("hold"))
    wait_for("it on the list", lambda: listing(gw)[qid]["queue_name"]
             == "hold")
    tool(gw, "postsuper", "-H", qid)
    gw.wait_log(qid + ": released from hold")
    slow.sink.close()
