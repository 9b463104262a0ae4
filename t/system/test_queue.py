"""What happens to mail that cannot be delivered at once, or at all."""
import re
import time

import pytest
from postern import Sink, mail, wait_for


def send(gw, subject, rcpts="user@example.com", sender="a@client.example"):
    with gw.client() as c:
        c.ehlo()
        r = c.message(sender, rcpts, mail(subject))
        assert r.code == 250, r
        c.cmd("QUIT")
    return r.text.rsplit(" ", 1)[1]


def test_deferred_then_flushed(gw, sink):
    sink.down()
    qid = send(gw, "patience")
    gw.wait_log(qid + r": to=<user@example\.com>, relay=none, .*dsn=4\.4\.1, "
                r"status=deferred \(connect to 127\.0\.0\.1"
                r"\[127\.0\.0\.1\]:\d+: Connection refused\)")
    wait_for("a file in deferred", lambda: len(gw.queued("deferred")) == 1)
    # the dead destination is not tried again for new mail
    qid2 = send(gw, "more")
    gw.wait_log(qid2 + r": to=<user@example\.com>, relay=none, .*"
                r"status=deferred")
    sink.up()
    time.sleep(0.5)
    assert not sink.messages, "tried again before its time"
    gw.command("flush")
    sink.wait(2)
    wait_for("an empty spool", lambda: not gw.queued())
    gw.wait_log(qid + r": removed")
    assert sorted(m.field("Subject") for m in sink.messages) == [
        "more", "patience"]


def test_retried_by_itself(make, sink):
    gw = make(sink, main={"minimal_backoff_time": "1s",
                          "maximal_backoff_time": "2s",
                          "queue_run_delay": "1s"})
    sink.down()
    send(gw, "again")
    wait_for("a file in deferred", lambda: gw.queued("deferred"))
    sink.up()
    sink.wait_subject("again", 20)
    wait_for("an empty spool", lambda: not gw.queued())


def test_file_of_a_deferred_message(gw, sink):
    """Complete: ready mark set; due: modification time in the future."""
    import os
    sink.down()
    qid = send(gw, "on disk")
    files = wait_for("a file in deferred", lambda: gw.queued("deferred"))
    assert os.path.basename(files[0]) == qid
    st = os.stat(files[0])
    assert st.st_mode & 0o777 == 0o700
    assert 60 < st.st_mtime - time.time() < 1200
    gw.wait_log(qid + ".*status=deferred")


def test_restart_finds_everything(gw, sink):
    sink.down()
    ids = [send(gw, f"kept {i}") for i in range(20)]
    for qid in ids:
        gw.wait_log(qid + ".*status=deferred")
    gw.stop()
    assert len(gw.queued()) == 20
    sink.up()
    gw.start()
    gw.command("flush")
    sink.wait(20)
    wait_for("an empty spool", lambda: not gw.queued())
    assert len(sink.messages) == 20
    for i in range(20):
        assert len(sink.find(f"kept {i}")) == 1


def test_unfinished_file_is_not_mail(gw, sink):
    """What is left of a message that was not answered 250 is never sent."""
    import os
    gw.stop()
    for name in ("0000000ABC1", "AAAAAAAAAAA"):
        path = f"{gw.spool}/incoming/{name}"
        with open(path, "wb") as f:
            f.write(b"\0" * 64 + mail("never sealed"))
        os.chmod(path, 0o600)
        st = os.stat(gw.spool + "/incoming")
        os.chown(path, st.st_uid, st.st_gid)
    gw.start()
    send(gw, "afterwards")
    sink.wait_subject("afterwards")
    time.sleep(0.5)
    assert len(sink.messages) == 1


def test_damaged_file_goes_to_corrupt(gw, sink):
    import os
    sink.down()
    qid = send(gw, "damaged")
    wait_for("a file in deferred", lambda: gw.queued("deferred"))
    gw.wait_log(qid + ".*status=deferred")
    gw.stop()
    path, = gw.queued("deferred")
    with open(path, "r+b") as f:
        f.seek(70)
        f.write(b"\xff" * 8)
    os.utime(path, (0, 0))
    sink.up()
    gw.expect_log("corrupt")
    gw.start()
    gw.command("flush")
    wait_for("a file in corrupt", lambda: gw.queued("corrupt"))
    time.sleep(0.3)
    assert not sink.messages
    assert not gw.queued()


def dsn_of(sink, to):
    def find():
        return [m for m in list(sink.messages) if m.sender == ""
                and to in m.rcpts]
    return wait_for(f"a notification to {to}", find)[0]


def refuse(address, reply):
    def on(verb, argument):
        if verb == "RCPT" and argument == address:
            return reply
    return on


def test_hard_failure_returns_to_sender(make, sink):
    sink.on = refuse("gone@example.com", "550 5.1.1 No such user here")
    gw = make(sink, main={"mynetworks": "127.0.0.0/8",
                          "relayhost": f"[127.0.0.1]:{sink.port}"})
    qid = send(gw, "to nobody", "gone@example.com", "sender@client.example")
    gw.wait_log(qid + r": to=<gone@example\.com>, relay=127\.0\.0\.1"
                r"\[127\.0\.0\.1\]:\d+, .*dsn=5\.1\.1, status=bounced "
                r"\(host 127\.0\.0\.1\[127\.0\.0\.1\] said: 550 5\.1\.1 No "
                r"such user here \(in reply to RCPT TO command\)\)")
    gw.wait_log(qid + r": sender non-delivery notification: [0-9A-F]+")
    m = dsn_of(sink, "sender@client.example")
    assert m.rcpts == ["sender@client.example"]
    assert re.search(rb"(?i)content-type: multipart/report;\s+"
                     rb"report-type=delivery-status", m.header)
    assert b"Final-Recipient: rfc822; gone@example.com" in m.body
    assert b"Action: failed" in m.body
    assert b"Status: 5.1.1" in m.body
    assert b"No such user here" in m.body
    assert b"Subject: to nobody" in m.body
    wait_for("an empty spool", lambda: not gw.queued())
    gw.wait_log(qid + ": removed")


def test_error_transport_with_soft_bounce(make, sink):
    """It waits, as what a server refuses does; later it is returned."""
    gw = make(sink, main={
        "mynetworks": "127.0.0.0/8", "soft_bounce": "yes",
        "relayhost": f"[127.0.0.1]:{sink.port}",
        "smtpd_reject_unlisted_recipient": "no",
        "transport_maps": "inline:{{gone@example.com=error:5.1.6 moved away},"
        " {no@example.com=error:nobody}}"})
    qid = send(gw, "soft", ["gone@example.com", "no@example.com"],
               "sender@client.example")
    gw.wait_log(qid + r": to=<gone@example\.com>, relay=none, .*dsn=4\.1\.6, "
                r"status=deferred \(moved away\)")
    gw.wait_log(qid + r": to=<no@example\.com>, relay=none, .*dsn=4\.0\.0, "
                r"status=deferred \(nobody\)")
    assert gw.queued() and "status=bounced" not in gw.log()
    gw.set(soft_bounce="no")
    gw.command("reload")
    gw.command("flush")
    gw.wait_log(qid + r": to=<gone@example\.com>, .*dsn=5\.1\.6, "
                r"status=bounced \(moved away\)")
    assert b"Status: 5.1.6" in dsn_of(sink, "sender@client.example").body


def test_null_sender_is_never_answered(make, sink):
    sink.on = refuse("gone@example.com", "550 5.1.1 No such user here")
    gw = make(sink)
    qid = send(gw, "a notification", "gone@example.com", "")
    gw.wait_log(qid + ".*status=bounced")
    gw.wait_log(qid + ": removed")
    wait_for("an empty spool", lambda: not gw.queued())
    time.sleep(0.5)
    assert not sink.messages and not gw.queued()


def test_recipients_have_their_own_fate(make, sink):
    """One message: sent to one, refused for one, later for one."""
    replies = {"never@example.com": "550 5.1.1 no",
               "later@example.com": "451 4.3.0 later"}
    sink.on = lambda verb, a: replies.get(a) if verb == "RCPT" else None
    gw = make(sink, main={"mynetworks": "127.0.0.0/8",
                          "relayhost": f"[127.0.0.1]:{sink.port}"})
    qid = send(gw, "three", ["good@example.com", "never@example.com",
                             "later@example.com"])
    for rcpt, status in (("good", "sent"), ("never", "bounced"),
                         ("later", "deferred")):
        gw.wait_log(qid + f": to=<{rcpt}@example" + r"\.com>.*status="
                    + status)
    assert sink.wait_subject("three").rcpts == ["good@example.com"]
    m = dsn_of(sink, "a@client.example")
    assert b"never@example.com" in m.body
    assert b"later@example.com" not in m.body
    wait_for("a file in deferred", lambda: len(gw.queued("deferred")) == 1)
    replies.clear()
    gw.command("flush")
    wait_for("the rest", lambda: len(sink.find("three")) == 2)
    assert sink.find("three")[1].rcpts == ["later@example.com"]
    wait_for("an empty spool", lambda: not gw.queued())


def test_what_is_done_survives_a_restart(make, sink):
    replies = {"later@example.com": "451 4.3.0 later"}
    sink.on = lambda verb, a: replies.get(a) if verb == "RCPT" else None
    gw = make(sink)
    qid = send(gw, "both", ["good@example.com", "later@example.com"])
    gw.wait_log(qid + ".*later@.*status=deferred")
    wait_for("a file in deferred", lambda: gw.queued("deferred"))
    gw.stop()
    replies.clear()
    gw.start()
    gw.command("flush")
    wait_for("the rest", lambda: len(sink.find("both")) == 2)
    assert sink.find("both")[1].rcpts == ["later@example.com"]


def test_too_old_is_returned(make, sink):
    sink.on = refuse("later@example.com", "451 4.3.0 never mind")
    gw = make(sink, main={"maximal_queue_lifetime": "2s",
                          "minimal_backoff_time": "1s",
                          "maximal_backoff_time": "1s",
                          "queue_run_delay": "1s",
                          "mynetworks": "127.0.0.0/8",
                          "relayhost": f"[127.0.0.1]:{sink.port}"})
    qid = send(gw, "too old", "later@example.com")
    gw.wait_log(qid + r": from=<a@client\.example>, status=expired, "
                r"returned to sender", 30)
    m = dsn_of(sink, "a@client.example")
    assert b"later@example.com" in m.body
    wait_for("an empty spool", lambda: not gw.queued())


@pytest.mark.parametrize("verb,reply,status", [
    ("CONNECT", "421 4.3.2 busy", "deferred"),
    ("CONNECT", "554 5.3.2 go away", "deferred"),
    ("EHLO", "421 4.3.2 busy", "deferred"),
    ("MAIL", "451 4.3.0 no", "deferred"),
    ("MAIL", "553 5.1.8 no", "bounced"),
    ("DATA", "451 4.3.0 no", "deferred"),
    ("DATA", "554 5.3.0 no", "bounced"),
    ("DOT", "451 4.3.0 no", "deferred"),
    ("DOT", "554 5.6.0 no", "bounced"),
    ("MAIL", "close", "deferred"),
    ("DATA", "close", "deferred"),
    ("DOT", "close", "deferred"),
])
def test_each_place_where_it_can_fail(make, sink, verb, reply, status):
    sink.on = lambda v, argument: reply if v == verb else None
    gw = make(sink, main={"relayhost": f"[127.0.0.1]:{sink.port}"})
    qid = send(gw, "trouble")
    gw.wait_log(qid + r": to=<user@example\.com>, .*status=" + status)
    if status == "deferred":
        wait_for("a file in deferred", lambda: gw.queued("deferred"))
        sink.on = lambda v, argument: None
        gw.command("flush")
        sink.wait_subject("trouble")
    wait_for("an empty spool", lambda: not gw.queued())
    assert len(sink.find("trouble")) == (status == "deferred")


def test_one_session_for_many(gw, sink):
    """Connections to the next hop are used again."""
    with gw.client() as c:
        c.ehlo()
        for i in range(50):
            assert c.message("a@client.example", "user@example.com",
                             mail(f"many {i}")).code == 250
    sink.wait(50)
    # never more than default_destination_concurrency_limit at once
    assert sink.sessions <= 20, f"{sink.sessions} sessions for 50 messages"


@pytest.mark.parametrize("keywords", [("8BITMIME",), ("PIPELINING",)])
def test_ehlo_keywords_are_honoured(make, keywords):
    """A next hop without PIPELINING is sent one command at a time."""
    sink = Sink(keywords=keywords)
    try:
        gw = make(sink)
        send(gw, "slowly", ["a@example.com", "b@example.com"])
        sink.wait_subject("slowly")
        assert bool(sink.ahead) == (keywords == ("PIPELINING",))
    finally:
        sink.close()
