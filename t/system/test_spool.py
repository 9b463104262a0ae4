"""A large spool, ten thousand destinations, a journal that is too small."""
import random
import re
import socket
import threading
import time

import pytest
from postern import BUILD, SLOW, Sink, mail, run, wait_for
from test_crash import Load, judge, settle

SPOOLGEN = f"{BUILD}/t/tools/spoolgen"
FAST = {"minimal_backoff_time": "1s", "maximal_backoff_time": "2s",
        "queue_run_delay": "1s", "service_throttle_time": "1s",
        "smtpd_error_sleep_time": "0"}


def stopped(make, sink, routes="", **main):
    """Directories are there, nothing runs."""
    gw = make(sink, main=main, start=False)
    gw.write("routes", routes)
    gw.start()
    gw.stop()
    return gw


def status(gw, name):
    m = re.search(rf"\b{name} (\d+)", gw.command("status").stdout)
    return int(m.group(1)) if m else None


def large_spool(make, sink, count):
    gw = stopped(make, sink)
    run(SPOOLGEN, gw.spool, "deferred", str(count), timeout=300)
    run(SPOOLGEN, gw.spool, "deferred", "1", "due=-10", "subject=due")
    run(SPOOLGEN, gw.spool, "incoming", "1", "subject=new")
    gw.start()
    since = time.monotonic()
    first = []

    def known():
        n = status(gw, "deferred")
        if sink.messages and not first:
            first.append(n)
        return n == count
    sink.wait_subject("new")
    new = time.monotonic() - since
    sink.wait_subject("due", 60)
    due = time.monotonic() - since
    wait_for("all of them", known, 60)
    print(f"{count} deferred: new mail delivered {new:.2f} s after the start, "
          f"what was due {due:.2f} s, all known "
          f"{time.monotonic() - since:.2f} s")
    time.sleep(0.3)
    assert len(sink.messages) == 2
    return gw


def test_deferred_mail_waits_its_time(make, sink):
    gw = large_spool(make, sink, 2000)
    assert len(gw.queued("deferred")) == 2000


@pytest.mark.long
def test_hundred_thousand_deferred(make, sink):
    """New mail does not wait until the spool has been read."""
    gw = large_spool(make, sink, 100000)
    since = time.monotonic()
    gw.command("flush")
    sink.wait(100002, 600)
    print(f"100000 flushed in {time.monotonic() - since:.0f} s")
    wait_for("an empty spool", lambda: not gw.queued(), 60)
    assert len(sink.messages) == 100002
    assert len({m.field("Subject") for m in sink.messages}) == 100002


def many_destinations(make, sink, count):
    """One message to each of so many next hops; all are the sink, by other
    names of the loopback network."""
    sink.down()
    sinks = Sink()		# for its port
    sinks.down()
    sinks.listener = socket.socket()
    sinks.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sinks.listener.bind(("0.0.0.0", sinks.port))
    sinks.listener.listen(4096)
    threading.Thread(target=sinks.accept, args=(sinks.listener,),
                     daemon=True).start()
    gw = stopped(make, sink, "".join(
        f"d{i}.example smtp:[127.1.{i // 250}.{i % 250 + 1}]:{sinks.port}\n"
        for i in range(1, count + 1)),
        transport_maps="texthash:$config_directory/routes",
        mynetworks="127.0.0.0/8", **FAST)
    run(SPOOLGEN, gw.spool, "incoming", str(count), "rcpt=u@d%.example",
        timeout=300)
    gw.start()
    since = time.monotonic()
    sinks.wait(count, 300)
    print(f"{count} destinations: {time.monotonic() - since:.1f} s, "
          f"{sinks.sessions} connections")
    wait_for("an empty spool", lambda: not gw.queued(), 60)
    assert len(sinks.messages) == count
    assert len({m.rcpts[0] for m in sinks.messages}) == count
    sinks.close()


def test_three_hundred_destinations(make, sink):
    many_destinations(make, sink, 300)


@pytest.mark.long
def test_ten_thousand_destinations(make, sink):
    many_destinations(make, sink, 10000)


def small_journal(make, sink, seed, kills):
    """Two segments of the least size, a next hop that does not answer, and so
    messages that hold their segment: they are moved to files, while qmgr is
    killed now and then."""
    rng = random.Random(seed)
    gate = threading.Event()
    taken, killed = [], []

    def on(verb, m):
        if verb == "DOT":
            taken.append((time.monotonic(), m.field("Subject")))
        elif verb == "MAIL" and not gate.is_set():
            gate.wait(120 * SLOW)
    sink.on = on
    gw = make(sink, main={"queue_journal_segments": "2",
                          "queue_journal_segment_size": "8388608",
                          "default_process_limit": "10", **FAST})
    gw.expect_log(r"signal 9|killed by signal|a relay ended")
    with Load(gw, seed) as load:
        for _ in range(kills):
            time.sleep(rng.uniform(0.8, 2))
            since = time.monotonic()
            if gw.kill("qmgr"):
                killed.append((since, time.monotonic()))
        wait_for("more than the journal holds",
                 lambda: len(load.accepted) > 600 and
                 gw.queued("incoming", "active"), 60)
        gate.set()
        time.sleep(0.5)
    settle(gw, sink, load)
    judge(gw, sink, load, len(killed), taken, killed)
    wait_for("an empty spool", lambda: not gw.queued(), 30)


def test_journal_is_too_small(make, sink):
    small_journal(make, sink, 3, 0)


def test_journal_is_too_small_and_qmgr_dies(make, sink):
    small_journal(make, sink, 4, 4)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5, 10))
def test_journal_is_too_small_for_long(make, sink, seed):
    small_journal(make, sink, seed, 25)


def test_stop_with_mail_still_coming_in(make, sink):
    """What is in the journal at an orderly end is there at the next start,
    although clients went on sending until the end."""
    sink.on = lambda verb, m: time.sleep(0.2) if verb == "MAIL" else None
    gw = make(sink, main={"queue_journal_segments": "2",
                          "queue_journal_segment_size": "8388608", **FAST})
    with Load(gw, 6) as load:
        for _ in range(3):
            n = len(load.accepted)
            wait_for("load", lambda: len(load.accepted) > n + 30, 30)
            gw.stop()
            gw.start()
    sink.on = lambda verb, m: None
    settle(gw, sink, load)
    judge(gw, sink, load, 0, [], [])
