"""Transports with settings of their own: "-o" behind the SMTP client of a
line in master.cf."""
import os
import signal

import pytest
from postern import Instance, Sink, mail, wait_for

LINES = """
slow unix - - n - 2 smtp
  -o smtp_data_done_timeout=1200 -o smtp_helo_name=slow.example.com
  -o syslog_name=postfix/$service_name
plain unix - - n - - smtp
same unix - - n - - smtp
  -o smtp_data_done_timeout=1200 -o smtp_helo_name=slow.example.com
  -o syslog_name=postfix/$service_name
"""


@pytest.fixture
def made():
    sink, first, second = Sink(), Sink(), Sink()
    gw = Instance(sink, main={"transport_maps": "inline:{ "
                  "{slow@example.com = slow:[127.0.0.1]:%d}, "
                  "{same@example.com = same:[127.0.0.1]:%d}, "
                  "{plain@example.com = plain:[127.0.0.1]:%d} }" % (
                      first.port, first.port, second.port),
                  "minimal_backoff_time": "1s", "transport_retry_time": "1s",
                  "queue_run_delay": "1s"}, start=False)
    gw.edit("master.cf", lambda t: t + LINES)
    gw.start()
    yield gw, sink, first, second
    gw.destroy()
    for s in (sink, first, second):
        s.close()


def send(gw, *users):
    with gw.client() as c:
        c.ehlo()
        r = c.message("a@client.example", [u + "@example.com" for u in users],
                      mail("to " + " ".join(users)))
        assert r.code == 250, r


def greeted(sink):
    return {c.split()[1] for c in sink.commands if c[:4].upper() == "EHLO"}


def test_settings_have_effect(made):
    gw, sink, first, second = made
    count = len(gw.pids("relay"))
    send(gw, "user", "slow", "plain", "same")
    sink.wait(1)
    second.wait(1)
    first.wait(2)
    assert greeted(sink) == greeted(second) == {"gw.example.com"}
    assert greeted(first) == {"slow.example.com"}
    gw.wait_log(r"postfix/slow/smtp\[\d+\]: .* to=<slow@example.com>")
    gw.wait_log(r"postern/smtp\[\d+\]: .* to=<plain@example.com>")
    gw.wait_log(r"postfix/slow/smtp\[\d+\]: .* to=<same@example.com>")
    # those with the same settings share processes
    cores = len(gw.pids("smtpd"))
    assert count == cores + 2
    assert "no effect" not in gw.log()


def test_reload_changes_them(made):
    gw, sink, first, _ = made
    gw.edit("master.cf", lambda t: t.replace("slow.example.com",
                                             "fast.example.com"))
    gw.command("reload")
    gw.wait_log("generation 2 is in service")
    send(gw, "slow")
    first.wait(1)
    assert greeted(first) == {"fast.example.com"}


def test_processes_that_die_come_back(made):
    """Mail of a transport whose processes are gone waits for them."""
    gw, sink, first, second = made
    gw.expect_log("killed by signal|relay process ended")
    for n in range(1, 4):
        gw.processes()
        for pid in gw.pids("relay"):
            os.kill(pid, signal.SIGKILL)
        send(gw, "slow", "user", "plain")
        wait_for("mail", lambda: len(first.messages) == n and
                 len(sink.messages) == n and len(second.messages) == n, 30)


def test_a_wrong_setting_is_told_at_start(made):
    gw, sink, first, _ = made
    gw.stop()
    gw.expect_log("fatal|error|exited|ended")
    gw.edit("master.cf", lambda t: t.replace(
        "smtp_data_done_timeout=1200", "smtp_generic_maps=regexp:/nowhere"))
    p = gw.command("start", check=False)
    assert p.returncode != 0 and "/nowhere" in gw.log() + p.stderr
    gw.edit("master.cf", lambda t: t.replace(
        "smtp_generic_maps=regexp:/nowhere", "smtp_data_done_timeout=9"))
    gw.start()
    send(gw, "slow", "user")
    sink.wait(1)
    first.wait(1)


KEYWORDS = ("PIPELINING", "8BITMIME", "SIZE",
            "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE")


def forwarded(sink):
    """{attribute: value} of each message, from its XFORWARD commands."""
    out = [{}]
    for c in sink.commands:
        verb, _, rest = c.partition(" ")
        if verb == "XFORWARD":
            out[-1].update(w.split("=", 1) for w in rest.split())
        elif verb == "MAIL":
            out.append({})
    return out[:-1]


@pytest.mark.parametrize("refused", [False, True])
def test_xforward(refused):
    sink = Sink(lambda verb, arg: "501 5.5.4 no" if refused and
                verb == "XFOR" else None, keywords=KEYWORDS)
    gw = Instance(sink, main={"smtp_send_xforward_command": "yes"})
    try:
        with gw.client() as c:
            c.ehlo("a+b=" + "x" * 300 + ".example")
            ids = []
            for n in (1, 2):
                # one after the other: commands of sessions stand together
                r = c.message("a@client.example", "user@example.com",
                              mail(f"message {n}"))
                ids.append(r.text.rsplit(" ", 1)[1])
                sink.wait(n)
        said = forwarded(sink)
        assert sorted(f["IDENT"] for f in said) == sorted(ids)
        for f in said:
            assert f["ADDR"] == "127.0.0.1" and f["NAME"] == "[UNAVAILABLE]"
            assert f["HELO"].startswith("a+2Bb+3Dxxxx")
            assert f["PROTO"] == "ESMTP" and f["SOURCE"] == "REMOTE"
            assert f["PORT"].isdigit()
        assert all(len(c) <= 510 for c in sink.commands)
        if refused:
            gw.wait_log("warning: host .* said: 501 5.5.4 no .in reply to "
                        "XFORWARD command")
    finally:
        gw.destroy()
        sink.close()


def test_xforward_only_when_wanted(made):
    gw, sink, _, _ = made
    sink.keywords = KEYWORDS
    send(gw, "user")
    sink.wait(1)
    assert not any(c.startswith("XFORWARD") for c in sink.commands)
