"""Several servers inside as one next hop: weights, health, draining."""
import contextlib
import os
import re
import threading

import pytest
from postern import Instance, Sink, mail, wait_for

QUICK = {"minimal_backoff_time": "1s", "maximal_backoff_time": "1s",
         "queue_run_delay": "1s", "smtp_connection_cache_on_demand": "no",
         "nexthop_pool_minimal_backoff": "1s",
         "nexthop_pool_maximal_backoff": "2s"}


def hop(sink):
    return f"[127.0.0.1]:{sink.port}"


@contextlib.contextmanager
def pool(*servers, sinks=2, on=None, start=True, **main):
    """servers: options of each, "weight=3"; yields the gateway, sinks."""
    made = [Sink(on=on) if i == 0 else Sink() for i in range(sinks)]
    text = ", ".join(f"{hop(s)} {o}" for s, o in zip(
        made, servers + ("",) * sinks))
    gw = None
    try:
        gw = Instance(made[0], main={
            **QUICK, "nexthop_pools": "ex: " + text, "transport_maps":
            "inline:{ {example.com = relay:pool:ex} }", **main}, start=start)
        yield gw, made
    finally:
        if gw:
            gw.destroy()
        for s in made:
            s.close()


def send(gw, *subjects):
    with gw.client() as c:
        c.ehlo()
        for s in subjects:
            r = c.message("a@client.example", ["user@example.com"], mail(s))
            assert r.code == 250, r


def subjects(*sinks):
    return sorted(m.field("Subject") for s in sinks for m in list(s.messages))


def arrived(sinks, names, seconds=30):
    """All of them, each once."""
    wait_for(f"{len(names)} messages", lambda: set(names) <= set(
        subjects(*sinks)), seconds)
    assert subjects(*sinks) == sorted(names)


def state(gw, sink):
    line = [x for x in gw.command("pool").stdout.splitlines()
            if hop(sink) in x]
    assert len(line) == 1, line
    return re.search(r"state=(\S+)", line[0])[1], line[0]


def test_weights():
    with pool("weight=3", "", "weight=9 backup", sinks=3) as (gw, sinks):
        names = [f"m{i:02}" for i in range(16)]
        send(gw, *names)
        arrived(sinks, names)
        assert [len(s.messages) for s in sinks] == [12, 4, 0]
        status = gw.command("status").stdout
        assert f"pool ex server {hop(sinks[0])} state=up weight=3 " \
            "chosen=12" in status


def test_server_that_is_down_leaves_and_comes_back():
    with pool("", "", "backup", sinks=3) as (gw, sinks):
        a, b, backup = sinks
        a.down()
        gw.expect_log("is down, and tried again in")
        names = [f"m{i:02}" for i in range(20)]
        send(gw, *names)
        arrived((b, backup), names)
        assert not backup.messages
        # one process found out, all know: nobody else was refused much
        gw.wait_log(re.escape(f"pool ex: server {hop(a)} is down"))
        a.up()

        def back():
            send(gw, "again")
            return a.messages
        wait_for("mail at the server that is back", back)
        gw.wait_log(re.escape(f"pool ex: server {hop(a)} is up"))
        assert state(gw, a)[0] == "up"
        # none of the others left: the backup takes over
        a.down()
        b.down()
        send(gw, "backup")
        backup.wait_subject("backup")


@pytest.mark.parametrize("when,reply", [
    ("CONNECT", "421 4.3.2 not now"), ("CONNECT", "554 5.3.2 go away"),
    ("EHLO", "421 4.3.2 not now"), ("CONNECT", "close")])
def test_server_that_does_not_want_to_talk(when, reply):
    def on(verb, argument):
        return reply if verb == when else None
    with pool("weight=9", on=on,
              nexthop_pool_minimal_backoff="1h",
              nexthop_pool_maximal_backoff="1h") as (gw, (a, b)):
        gw.expect_log("is down, and tried again in")
        send(gw, "first")
        b.wait_subject("first")
        wait_for("the news", lambda: state(gw, a)[0] == "down")
        sessions = a.sessions
        names = [f"m{i}" for i in range(5)]
        send(gw, *names)
        arrived((b,), names + ["first"])
        assert a.sessions == sessions and not a.messages
        assert "next=3" in state(gw, a)[1]


def test_server_that_is_short_of_something():
    """4xx to MAIL: the message goes to the next server, and after three of
    them the server is left alone."""
    def on(verb, argument):
        return "452 4.3.1 Insufficient system resources" \
            if verb == "MAIL" else None
    with pool("weight=99", on=on, nexthop_pool_minimal_backoff="1h",
              nexthop_pool_maximal_backoff="1h") as (gw, (a, b)):
        gw.expect_log("is down, and tried again in")
        for i in range(3):
            assert state(gw, a)[0] == "up"
            send(gw, f"m{i}")
            b.wait_subject(f"m{i}")
            # the news is there before the report
        wait_for("the news", lambda: state(gw, a)[0] == "down")
        assert "Insufficient system resources" in state(gw, a)[1]


def test_server_that_hangs():
    """It accepts connections and says nothing."""
    release = threading.Event()

    def on(verb, argument):
        if verb == "CONNECT":
            release.wait(100)
        return None
    with pool("weight=9", on=on, smtp_helo_timeout="1s",
              nexthop_pool_minimal_backoff="1h",
              nexthop_pool_maximal_backoff="1h") as (gw, (a, b)):
        gw.expect_log("is down, and tried again in")
        try:
            send(gw, "first")
            b.wait_subject("first")
            wait_for("the news", lambda: state(gw, a)[0] == "down")
            sessions = a.sessions
            send(gw, "m1", "m2", "m3")
            arrived((b,), ["first", "m1", "m2", "m3"])
            assert a.sessions == sessions
        finally:
            release.set()


@pytest.mark.parametrize("when", ["MAIL", "RCPT", "DATA", "DOT"])
def test_connection_lost_in_the_middle(when):
    """Nothing is lost, and nothing comes twice: where the server may have the
    message (RFC 1047) no other server gets it at once."""
    left = {"n": 4}

    def on(verb, argument):
        if verb != when or left["n"] == 0:
            return None
        left["n"] -= 1
        return "close"
    with pool("weight=3", on=on) as (gw, sinks):
        gw.expect_log("is down, and tried again in")
        names = [f"m{i:02}" for i in range(12)]
        send(gw, *names)
        arrived(sinks, names, 60)
        wait_for("an empty queue", lambda: not gw.queued(
            "incoming", "active", "deferred"))
        assert subjects(*sinks) == sorted(names)


def test_killed_while_mail_flows():
    with pool("", "", "backup", sinks=3) as (gw, sinks):
        gw.expect_log("is down, and tried again in")
        names = [f"m{i:03}" for i in range(120)]
        cut = threading.Thread(target=lambda: (
            sinks[0].wait(10), sinks[0].down()))
        cut.start()
        try:
            send(gw, *names)
        finally:
            cut.join()
        wait_for("all messages", lambda: set(names) <= set(
            subjects(*sinks)), 60)
        wait_for("an empty queue", lambda: not gw.queued(
            "incoming", "active", "deferred"), 60)
        # those that the server had taken when it lost the connection
        twice = len(subjects(*sinks)) - len(names)
        assert 0 <= twice <= len(re.findall(
            "may be sent more than once", gw.log()))


def test_all_down():
    with pool() as (gw, sinks):
        gw.expect_log("is down, and tried again in")
        for s in sinks:
            s.down()
        names = [f"m{i}" for i in range(5)]
        send(gw, *names)
        wait_for("deferred mail", lambda: len(gw.queued("deferred")) == 5)
        for s in sinks:
            s.up()
        arrived(sinks, names, 60)


def test_drain():
    with pool("weight=9") as (gw, (a, b)):
        gw.command("pool", "drain", "ex", hop(a))
        assert state(gw, a)[0] == "drained,up"
        names = [f"m{i}" for i in range(5)]
        send(gw, *names)
        arrived((b,), names)
        # a reload and a restart do not put it back
        gw.command("reload")
        assert state(gw, a)[0] == "drained,up"
        gw.stop()
        gw.start()
        assert state(gw, a)[0] == "drained,up"
        send(gw, "more")
        b.wait_subject("more")
        assert not a.sessions
        table = gw.command("queue", "--json").stdout
        assert "pool:ex" not in table or "drained" in table
        gw.command("pool", "drain", "ex", hop(b))
        send(gw, "waits")
        gw.wait_log("status=deferred .pool:ex: all servers of the pool are "
                    "drained")
        gw.command("pool", "ready", "ex", hop(a))
        a.wait_subject("waits")
        assert state(gw, a)[0] == "up"
        assert os.listdir(gw.spool + "/private") == ["pools"]
        with open(gw.spool + "/private/pools") as f:
            assert f.read() == f"drain ex {hop(b)}\n"


@pytest.mark.parametrize("words,why", [
    (("drain", "ex", "[nobody]"), "no such server"),
    (("drain", "no", "[127.0.0.1]:1"), "no such server"),
    (("ready", "ex", "x"), "no such server"),
    (("drain", "ex"), "usage"), (("stop", "ex", "x"), "usage"),
    (("drain", "ex", "a b"), "usage")])
def test_wrong_orders(words, why):
    with pool() as (gw, sinks):
        p = gw.command("pool", *words, check=False)
        assert p.returncode != 0 and why in p.stderr
        gw.stop()
        p = gw.command("pool", check=False)
        assert p.returncode != 0 and "not running" in p.stderr


def test_pool_that_is_not_there():
    with pool(transport_maps="inline:{ {example.com = relay:pool:no} }") as \
            (gw, sinks):
        send(gw, "lost")
        gw.wait_log(r"dsn=4.3.2, status=deferred \(pool:no: no such pool")
        gw.set(nexthop_pools="no: " + hop(sinks[1]))
        gw.command("reload")
        sinks[1].wait_subject("lost", 60)
        # a mistake does not come into force
        gw.set(nexthop_pools="no: localhost")
        gw.expect_log("nexthop_pools: localhost: expected")
        gw.expect_log("reload failed: qmgr ended")
        assert gw.command("reload", check=False).returncode != 0
        send(gw, "still")
        sinks[1].wait_subject("still")


def test_limit_of_the_destination_is_the_pools():
    release = threading.Event()
    busy, most, lock = [0], [0], threading.Lock()

    def on(verb, argument):
        if verb == "DOT":
            with lock:
                busy[0] += 1
                most[0] = max(most[0], busy[0])
            release.wait(60)
            with lock:
                busy[0] -= 1
        return None
    with pool(relay_destination_concurrency_limit="3",
              relay_initial_destination_concurrency="3") as (gw, sinks):
        for s in sinks:
            s.on = on
        names = [f"m{i}" for i in range(10)]
        send(gw, *names)
        wait_for("three deliveries", lambda: busy[0] == 3)
        release.set()
        arrived(sinks, names)
        assert most[0] == 3


def test_relayhost_of_several():
    with pool() as (gw, (a, b)):
        gw.set(relayhost=f"{hop(a)}, {hop(b)}", mynetworks="127.0.0.0/8",
               transport_maps="")
        gw.command("reload")
        a.down()
        with gw.client() as c:
            c.ehlo()
            r = c.message("a@example.com", ["x@elsewhere.example"],
                          mail("out"))
            assert r.code == 250, r
        b.wait_subject("out")
