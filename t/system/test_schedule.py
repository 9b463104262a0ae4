"""Who is tried when, with real processes: what t/unit/test_sim.c cannot see."""
import os
import re
import resource
import shutil
import threading
import time

import pytest
from postern import LIBEXEC, SLOW, Sink, mail, wait_for
from role_driver import Role, u32


def send(gw, subject, rcpts="user@example.com", sender="a@client.example",
         body=b"text\r\n"):
    with gw.client() as c:
        c.ehlo()
        r = c.message(sender, rcpts, mail(subject, body))
        assert r.code == 250, r
        c.cmd("QUIT")
    return r.text.rsplit(" ", 1)[1]


class Gauge:
    """How many transactions a sink has at once.  Each takes so long, and ends
    not before go is set."""

    def __init__(self, takes=0.2):
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.takes = takes
        self.times = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, verb, argument):
        if verb == "MAIL":
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
                self.times.append(time.monotonic())
        if verb == "DOT":
            time.sleep(self.takes)
            self.go.wait(60 * SLOW)
            with self.lock:
                self.now -= 1
        return None


@pytest.fixture
def gauge(request):
    g = Gauge()
    g.sink = Sink(on=g)
    yield g
    g.sink.close()


def test_concurrency_limit(make, gauge):
    gw = make(gauge.sink, main={"relay_destination_concurrency_limit": "3"})
    for i in range(10):
        send(gw, f"first{i}")
    gauge.sink.wait(10)
    # the server is known to be good: more at once, but for the limit
    gauge.go.clear()
    for i in range(20):
        send(gw, f"m{i}")
    wait_for("three at once", lambda: gauge.now == 3)
    gauge.go.set()
    gauge.sink.wait(30)
    assert gauge.most == 3


def test_process_limit_is_a_limit_of_deliveries(make, gauge):
    gw = make(gauge.sink, start=False)
    gw.edit("master.cf", lambda t: re.sub(
        r"(?m)^(relay\s+unix(?:\s+\S+){4}\s+)\S+(\s+relay)", r"\g<1>1\2", t))
    gw.start()
    for i in range(6):
        send(gw, f"m{i}")
    gauge.sink.wait(6)
    assert gauge.most == 1


def test_rate_delay(make, gauge):
    gauge.takes = 0
    gw = make(gauge.sink, main={"relay_destination_rate_delay": "1s"})
    for i in range(4):
        send(gw, f"m{i}")
    wait_for("the pause in the status", lambda: "held=rate" in
             gw.command("status").stdout)
    gauge.sink.wait(4, 20)
    pauses = [b - a for a, b in zip(gauge.times, gauge.times[1:])]
    assert min(pauses) >= 0.99, pauses
    assert gauge.most == 1


def test_recipients_in_pieces(make):
    """Each piece names its own recipients, and answers are theirs."""
    def on(verb, argument):
        if verb == "RCPT" and argument.startswith("r7@"):
            return "450 4.2.2 full"
        if verb == "RCPT" and argument.startswith("r4@"):
            return "550 5.1.1 unknown"
        return None
    sink = Sink(on=on)
    try:
        gw = make(sink, main={"relay_destination_recipient_limit": "3"})
        rcpts = [f"r{i}@example.com" for i in range(10)]
        qid = send(gw, "pieces", rcpts, sender="")
        wait_for("a file in deferred", lambda: gw.queued("deferred"))
        assert all(len(m.rcpts) <= 3 for m in sink.messages)
        assert sorted(r for m in sink.messages for r in m.rcpts) == [
            r for r in rcpts if r[:2] not in ("r4", "r7")]
        log = gw.log()
        for i, rcpt in enumerate(rcpts):
            status = {4: "bounced", 7: "deferred"}.get(i, "sent")
            assert len(re.findall(qid + f": to=<{rcpt}>, .*"
                                  f"status={status}", log)) == 1
            assert len(re.findall(qid + f": to=<{rcpt}>", log)) == 1
    finally:
        sink.close()


def test_one_recipient_is_a_destination(make, gauge):
    gw = make(gauge.sink, main={
        "relay_destination_recipient_limit": "1",
        "relay_destination_concurrency_limit": "1"})
    gauge.go.clear()
    send(gw, "one by one", [f"r{i}@example.com" for i in range(5)])
    # side by side, although each has a limit of one
    wait_for("all at once", lambda: gauge.now == 5)
    gauge.go.set()
    gauge.sink.wait(5)
    assert all(len(m.rcpts) == 1 for m in gauge.sink.messages)
    gauge.most = 0
    for i in range(4):
        send(gw, f"same {i}", "R0@example.com")
    gauge.sink.wait(9)
    assert gauge.most == 1


def transports(gw, sinks):
    gw.write("transport", "".join(
        f"/@{domain}$/ relay:[127.0.0.1]:{s.port}\n"
        for domain, s in sinks.items()))


def test_one_destination_does_not_fill_the_active_queue(make, sink):
    """30 messages for a server that holds all it gets, 10 places; mail for
    another server passes, and nothing is counted as an attempt."""
    release = threading.Event()

    def on(verb, argument):
        if verb == "DOT":
            release.wait(60 * SLOW)
        return None
    stuck = Sink(on=on)
    try:
        gw = make(sink, main={
            "qmgr_message_active_limit": "10",
            "in_flow_delay": "0",
            "relay_domains": "stuck.example, example.com",
            "transport_maps": "regexp:$config_directory/transport"},
            start=False)
        transports(gw, {"stuck.example": stuck, "example.com": sink})
        gw.start()
        ids = [send(gw, f"held {i}", "u@stuck.example") for i in range(30)]
        wait_for("those that step aside", lambda: int(re.search(
            r"(?m)^\W*aside (\d+)", gw.command("status").stdout).group(1))
            >= 20)
        for i in range(5):
            send(gw, f"passes {i}")
        sink.wait(5)
        assert not stuck.messages
        status = gw.command("status").stdout
        assert re.search(rf"destination relay:\[127\.0\.0\.1\]:{stuck.port} "
                         r"waiting=\d+ busy=2 window=2/\d+ aside=\d+ "
                         r"held=window", status), status
        # a restart forgets who stepped aside, and loses none
        release.set()
        gw.stop()
        gw.start()
        stuck.wait(30, 30)
        wait_for("an empty spool", lambda: not gw.queued(), 30)
        log = gw.log()
        for i, qid in enumerate(ids):
            assert len(stuck.find(f"held {i}")) == 1
            assert not re.search(qid + ".*status=deferred", log)
    finally:
        release.set()
        stuck.close()


def test_in_flow_delay(make, gauge):
    """More comes than goes: what comes is slowed down, and gets in."""
    gauge.takes = 0.5
    gw = make(gauge.sink, main={
        "qmgr_message_active_limit": "40", "in_flow_delay": "100ms",
        "relay_destination_concurrency_limit": "2"})

    def delayed():
        return int(re.search(r"in_flow_delayed (\d+)",
                             gw.command("status").stdout).group(1))
    for i in range(5):
        send(gw, f"few {i}")
    assert delayed() == 0, "the queue was small"
    n = 5
    gauge.go.clear()
    end = time.monotonic() + 60 * SLOW
    while not delayed() and time.monotonic() < end:
        for i in range(10):
            send(gw, f"many {i}")
        n += 10
    assert delayed() > 0
    gauge.takes = 0
    gauge.go.set()
    gauge.sink.wait(n, 60)
    wait_for("an empty spool", lambda: not gw.queued())
    assert len(gauge.sink.messages) == n


def test_slots_that_could_not_be_given_come_later(tmp_path):
    (tmp_path / "master.cf").write_text("")
    for place in ("incoming", "active", "deferred", "hold", "corrupt",
                  "journal", "maildrop"):
        (tmp_path / "spool" / place).mkdir(parents=True)
    with Role("qmgr", config_directory=str(tmp_path),
              myhostname="gw.example.com",
              queue_directory=str(tmp_path / "spool")) as r:
        writer = r.peer("smtpd")
        r.start()
        writer.expect("SPACE")
        pid = r.process.pid
        used = len(os.listdir(f"/proc/{pid}/fd"))
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 4, hard))
        writer.send("SLOTS", u32(20))
        r.wait_log("cannot make a memory file")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        ids = {writer.expect("SLOT").u64() for _ in range(20)}
        assert len(ids) == 20
        assert r.log().count("cannot make a memory file") == 1


def test_no_relay_process(make, sink):
    """Mail waits a moment, is deferred then, and goes out later."""
    gw = make(sink, start=False)
    programs = gw.dir + "/libexec"
    shutil.copytree(LIBEXEC, programs)
    gw.set(daemon_directory=programs, transport_retry_time="2s",
           service_throttle_time="1s")
    gw.start()
    gw.expect_log("relay|fatal")
    os.rename(programs + "/relay", programs + "/not-now")
    os.symlink("/bin/false", programs + "/relay")
    while gw.kill("relay"):
        time.sleep(0.1)
    qid = send(gw, "waits")
    waited = gw.wait_log(r"no relay process for 2 s: mail is deferred")
    gave_up = gw.wait_log(
        qid + r": to=<user@example.com>, relay=none, .*dsn=4\.3\.0, "
        r"status=deferred \(mail transport unavailable\)")
    assert waited.end() < gave_up.start(), "deferred at once"
    qid = send(gw, "too")
    gw.wait_log(qid + r": .*\(mail transport unavailable\)")
    os.rename(programs + "/not-now", programs + "/relay")
    # not one that only begins
    wait_for("a relay", lambda: re.search(r"(?m)^\W*relays [1-9]",
                                          gw.command("status").stdout))
    send(gw, "now")
    sink.wait_subject("now")
    gw.command("flush")
    sink.wait(3)


def test_feedback_debug(make, gauge):
    gauge.takes = 0
    gw = make(gauge.sink, main={
        "destination_concurrency_feedback_debug": "yes",
        "relay_destination_concurrency_positive_feedback": "0"})
    gauge.takes = 0.1
    for i in range(10):
        send(gw, f"m{i}")
    gauge.sink.wait(10)
    assert gauge.most <= 2              # it cannot grow
    gauge.sink.down()
    send(gw, "refused")
    gw.wait_log(r"relay:.*: concurrency 2 -> 1 after a failure")


def test_unknown_transport_warns(make, sink):
    gw = make(sink, main={"rely_destination_rate_delay": "1s"})
    assert "rely_destination_rate_delay: master.cf has no service rely" in (
        gw.log() + gw.command("check", check=False).stderr)
    gw.stop()           # or it would read the file too, and complain
    gw.set(relay_destination_concurrency_positive_feedback="1/square")
    r = gw.command("check", check=False)
    assert r.returncode != 0
    assert "not a number from 0 to 1, number/concurrency or" in (
        r.stdout + r.stderr)


@pytest.mark.parametrize("limit", ["50", "1"])
def test_many_recipients_of_a_host_that_dies(make, sink, limit):
    """Its pieces are in delivery and waiting when the host is found dead."""
    gw = make(sink, main={"default_destination_recipient_limit": limit,
                          "minimal_backoff_time": "60s"})
    sink.down()
    names = [f"u{i}@example.com" for i in range(200)]
    with gw.client() as c:
        c.ehlo()
        c.envelope("a@client.example", *names)
        assert c.cmd("DATA").code == 354
        c.send(b"Subject: many\r\n\r\nx\r\n.\r\n")
        assert c.reply().code == 250
    wait_for("a file in deferred", lambda: gw.queued("deferred"))
    sink.up()
    gw.command("flush")
    wait_for("an empty queue", lambda: not gw.queued())
    assert sorted(r for m in sink.messages for r in m.rcpts) == sorted(names)
