"""A filter that gives no verdict: nothing gets past it that was not asked to,
and one text does not hold up the others."""
import re
import socket
import threading

import pytest
from postern import Instance, Sink, mail, run, wait_for


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


@pytest.fixture
def make(sink):
    made = []

    def gateway(action, filters=None, **main):
        gw = Instance(sink, main={
            "filter_time_limit": "2s", "filter_timeout_action": action,
            "virtual_alias_maps":
            "inline:{ {first@example.com = user@example.com} }",
            "header_checks": "pcre:header_checks", **main}, start=False)
        gw.write("header_checks", "/^Subject: worm/ REJECT a worm\n"
                 "/^Subject: held/ HOLD held by a rule\n")
        gw.expect_log("no verdict|broke the rules|filter ended|killed|"
                      "signal|restart")
        if filters:
            gw.edit("master.cf", lambda t: re.sub(
                r"(?m)^(filter(\s+\S+){5}\s+)\S+", rf"\g<1>{filters}", t))
        gw.start()
        assert not filters or len(gw.pids("filter")) == filters
        made.append(gw)
        return gw
    yield gateway
    for gw in made:
        gw.destroy()


def send(gw, subject, rcpt="first@example.com"):
    with gw.client() as c:
        c.ehlo()
        return c.message("a@client.example", rcpt, mail(subject)).text


def stop_filters(gw):
    """All that run; those that follow work."""
    pids = gw.pids("filter")
    assert pids
    for pid in pids:
        run("kill", "-STOP", str(pid))
    return set(pids)


@pytest.mark.parametrize("action", ["tempfail", "hold", "accept"])
def test_action(make, sink, action):
    gw = make(action, filters=1)
    hung = stop_filters(gw)
    said = send(gw, "worm")
    if action == "tempfail":
        assert said == "451 4.3.0 Error: content filter is slow"
    else:
        assert said.startswith("250 2.0.0 Ok: queued as ")
    if action == "hold":
        wait_for("a message on hold", lambda: gw.queued("hold"))
        out = gw.command("quarantine", "list").stdout
        assert "to user@example.com\n" in out
        assert "no verdict within filter_time_limit" in out
    if action == "accept":
        # its addresses were rewritten all the same
        assert sink.wait_subject("worm").rcpts == ["user@example.com"]
    # those that hung are replaced, and the rules are in force again
    wait_for("other filters", lambda: not hung & set(gw.pids("filter")) and
             re.search(r"(?m)^\W*filters [1-9]",
                       gw.command("status").stdout))
    assert send(gw, "worm") == "550 5.7.1 a worm"
    assert send(gw, "plain").startswith("250")
    sink.wait_subject("plain")
    assert not sink.find("worm") or action == "accept"


def test_others_are_not_held_up(make, sink):
    """One filter of two hangs: only the message it was busy with is late."""
    gw = make("tempfail", filters=2, filter_time_limit="5s")
    # each gets one; then one of them goes on
    pids = stop_filters(gw)
    said = {}

    def client(n):
        said[n] = send(gw, f"message {n}")
    threads = [threading.Thread(target=client, args=(n,)) for n in range(20)]
    for t in threads[:2]:
        t.start()
    wait_for("both with a filter", lambda: "judging 2" in
             gw.command("status").stdout)
    run("kill", "-CONT", str(pids.pop()))
    for t in threads[2:]:
        t.start()
    for t in threads:
        t.join()
    late = [n for n, text in said.items() if text.startswith("451")]
    assert len(late) == 1, said
    gone = {f"message {n}" for n in said if n not in late}
    wait_for("the others", lambda: gone == {
        m.field("Subject") for m in sink.messages})


def test_a_killed_filter_costs_one_message(make, sink):
    gw = make("accept", filters=2, filter_time_limit="30s")
    pids = stop_filters(gw)
    said = {}

    def client(n):
        said[n] = send(gw, f"message {n}")
    threads = [threading.Thread(target=client, args=(n,)) for n in range(10)]
    for t in threads:
        t.start()
    wait_for("all of them with the filters", lambda: "judging 10" in
             gw.command("status").stdout)
    for pid in pids:
        run("kill", "-KILL", str(pid))
    for t in threads:
        t.join()
    failed = [t for t in said.values() if not t.startswith("250")]
    assert set(failed) <= {"451 4.3.0 Error: content filter failed"}
    assert len(failed) == 2
    wait_for("the others", lambda: len(sink.messages) == 10 - len(failed))


class SlowTable:
    """A tcp: table that has nothing, and says so of a key with "slow" in it
    when it is let go."""

    def __init__(self):
        self.asked = threading.Event()
        self.go = threading.Event()
        self.s = socket.create_server(("127.0.0.1", 0))
        self.name = "tcp:127.0.0.1:%d" % self.s.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            while True:
                c, _ = self.s.accept()
                threading.Thread(target=self.talk, args=(c,),
                                 daemon=True).start()
        except OSError:
            pass

    def talk(self, c):
        try:
            for line in c.makefile("rb"):
                if b"slow" in line:
                    self.asked.set()
                    self.go.wait(60)
                c.sendall(b"500 none\n")
        except OSError:
            pass

    def close(self):
        self.go.set()
        self.s.shutdown(socket.SHUT_RDWR)
        self.s.close()


@pytest.fixture
def table():
    t = SlowTable()
    yield t
    t.close()


def test_who_waits_for_a_table_is_not_to_blame(make, sink, table):
    """The filter dies of a text that came after one that waits."""
    # In the recipient restrictions the first question would be asked.
    gw = make("accept", filters=1, filter_time_limit="30s",
              sender_canonical_maps=table.name)
    said = {}

    def client(n, sender):
        with gw.client() as c:
            c.ehlo()
            said[n] = c.message(sender, "user@example.com", mail(n)).text
    waits = threading.Thread(target=client, args=("waits", "slow@x.example"))
    waits.start()
    assert table.asked.wait(15)
    pids = stop_filters(gw)
    current = threading.Thread(target=client, args=("now", "a@x.example"))
    current.start()
    wait_for("both with the filter", lambda: "judging 2" in
             gw.command("status").stdout)
    for pid in pids:
        run("kill", "-KILL", str(pid))
    current.join()
    assert said == {"now": "451 4.3.0 Error: content filter failed"}
    table.go.set()
    waits.join()
    assert said["waits"].startswith("250"), said
    sink.wait_subject("waits")


def test_a_slow_table_is_not_a_slow_filter(make, sink, table):
    """Who waits for it is late; the filter goes on."""
    gw = make("tempfail", filters=1, sender_canonical_maps=table.name)
    pids = gw.pids("filter")
    with gw.client() as c:
        c.ehlo()
        r = c.message("slow@x.example", "user@example.com", mail("late"))
    assert r.text == "451 4.3.0 Error: content filter is slow"
    table.go.set()
    assert send(gw, "plain").startswith("250")
    assert gw.pids("filter") == pids
    assert "broke the rules" not in gw.log()


def test_value():
    gw = Instance(main={"filter_timeout_action": "hope"}, start=False)
    try:
        gw.expect_log("bad value|fatal|ended|signal|exit")
        p = gw.command("start", check=False)
        assert p.returncode != 0
    finally:
        gw.destroy(check=False)
