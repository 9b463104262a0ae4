"""What a client can make the gateway spend has an end."""
import os
import re
import resource
import socket
import time

import pytest
from postern import SAN, SLOW, Closed, mail, wait_for
from tls_help import Keys, TlsClient, context


def rss_kb(pid):
    """Private and shared pages of the process, each counted once."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            return int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M).group(1))
    except PermissionError:
        pytest.skip("may not read smaps_rollup")


def memory_kb(gw):
    return sum(rss_kb(p) for p in gw.processes())


def test_idle_sessions(make, sink):
    """5,000 idle sessions after EHLO; memory for each, over all processes."""
    count = 500 if SAN else 5000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = count + 200
    if hard < want and os.getuid() != 0:
        count = max(100, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE,
                       (max(want, soft), max(want, hard)))
    gw = make(sink, main={"smtpd_client_connection_count_limit": "0"})
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("warm")).code == 250
    sink.wait(1)
    before = memory_kb(gw)
    socks = []
    try:
        for i in range(count):
            s = socket.create_connection(("127.0.0.1", gw.port), 30 * SLOW)
            socks.append(s)
            if i % 100 == 99:           # not faster than the listen queue
                s.recv(512)
        for s in socks:
            s.sendall(b"EHLO client.example\r\n")
        seen = 0
        for s in socks:
            data = b""
            while not re.search(rb"(?m)^250 .*\n", data):
                more = s.recv(4096)
                if not more:
                    break
                data += more
            seen += bool(re.search(rb"(?m)^250 ", data))
        assert seen == count, f"only {seen} of {count} sessions"
        each = (memory_kb(gw) - before) / count
        print(f"{each:.1f} KB for each of {count} idle sessions")
        # the others are served meanwhile
        with gw.client() as c:
            c.ehlo()
            assert c.message("a@client.example", "user@example.com",
                             mail("meanwhile")).code == 250
        sink.wait_subject("meanwhile")
        if not SAN:
            assert each < 32, f"{each:.1f} KB for each idle session"
    finally:
        for s in socks:
            s.close()


def test_idle_tls_sessions(make, sink):
    """1,000 idle sessions after STARTTLS, some of which have had mail."""
    count = 100 if SAN else 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(
        soft, min(hard, count + 200)), hard))
    keys, ctx, open_ones = Keys(), context(), []
    try:
        gw = make(sink, main={
            "smtpd_client_connection_count_limit": "0",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_chain_files": keys.cert("gw", "gw.example.com")})

        def one(subject=None):
            c = TlsClient(gw.port, ctx)
            open_ones.append(c)
            assert c.ehlo().code == 250
            if subject:
                assert c.message("a@client.example", "user@example.com",
                                 mail(subject, b"x" * 78 * 400)).code == 250
        for i in range(20):
            one(f"warm {i}")
        before = memory_kb(gw)
        for i in range(count):
            one(None if i % 10 else f"message {i}")
        # all of it is gone from memory that is not these sessions' own
        for i in range(0, count, 10):
            sink.wait_subject(f"message {i}")
        each = (memory_kb(gw) - before) / count
        print(f"{each:.1f} KB for each of {count} idle sessions with TLS")
        for c in open_ones:
            assert c.cmd("NOOP").code == 250
        if not SAN:
            assert each < 64, f"{each:.1f} KB for each idle session"
    finally:
        for c in open_ones:
            c.close()
        keys.destroy()


def test_connection_count_limit(make, sink):
    gw = make(sink, main={"smtpd_client_connection_count_limit": "3",
                          "smtpd_client_event_limit_exceptions": ""})
    held = [gw.client() for _ in range(3)]
    with gw.client() as c:
        assert re.match(r"421 4\.7\.0 gw\.example\.com Error: too many "
                        r"connections from 127\.0\.0\.1$", c.banner.text)
        assert c.closed()
    with gw.client(source="127.0.0.77") as c:
        assert c.banner.code == 220
    held.pop().close()
    wait_for("room again", lambda: gw.client().banner.code == 220)
    for c in held:
        c.close()
    gw.wait_log(r"Connection concurrency limit exceeded: \d+ from "
                r"unknown\[127\.0\.0\.1\]")


def test_connection_rate_limit(make, sink):
    """Who goes on while being refused stays out; others do not notice, and
    after a time without connections all is well."""
    gw = make(sink, main={"smtpd_client_connection_rate_limit": "3",
                          "anvil_rate_time_unit": "4s",
                          "smtpd_client_event_limit_exceptions":
                          "127.0.0.78"})
    codes = []
    for _ in range(5):
        with gw.client() as c:
            codes.append(c.banner.code)
    # Trying whether it was ready counted, too.
    assert codes == sorted(codes) and codes[-1] == 421, codes
    for _ in range(5):
        with gw.client(source="127.0.0.78") as c:
            assert c.banner.code == 220
    with gw.client(source="127.0.0.77") as c:
        assert c.banner.code == 220
    wait_for("the next unit of time",
             lambda: gw.client().banner.code == 220)
    gw.wait_log(r"Connection rate limit exceeded: \d+ from "
                r"unknown\[127\.0\.0\.1\] for service ")


def warm(gw, sink, c):
    """What the first message costs is paid."""
    assert c.message("a@client.example", "user@example.com",
                     mail("warm")).code == 250
    sink.wait_subject("warm")


def test_message_and_recipient_rate_limits(make, sink):
    """All smtpds count together, whatever comes of a message; who is over
    the limit waits, others do not notice."""
    gw = make(sink, main={"smtpd_client_message_rate_limit": "4",
                          "smtpd_client_recipient_rate_limit": "6",
                          "anvil_rate_time_unit": "1h",
                          "anvil_status_update_time": "1s",
                          "role_processes": "3",
                          "smtpd_client_event_limit_exceptions":
                          "127.0.0.78"})

    def say(source, *lines):
        with gw.client(source=source) as c:
            c.ehlo()
            return [c.cmd(line) for line in lines][-1].text

    letter = "MAIL FROM:<a@client.example>"
    for _ in range(4):
        assert say("127.0.0.77", letter).startswith("250 ")
    assert say("127.0.0.77", letter) == (
        "450 4.7.1 Error: too much mail from 127.0.0.77")
    rcpt = ["RCPT TO:<user@example.com>"]
    assert say("127.0.0.76", letter, *rcpt * 6).startswith("250 ")
    assert say("127.0.0.76", letter, *rcpt) == (
        "450 4.7.1 Error: too many recipients from 127.0.0.76")
    for _ in range(6):
        assert say("127.0.0.78", letter, *rcpt * 8).startswith("250 ")
    gw.wait_log(r"warning: Message delivery request rate limit exceeded: 5 "
                r"from \S+\[127\.0\.0\.77\] for service \S+")
    gw.wait_log(r"warning: Recipient address rate limit exceeded: 7 from "
                r"\S+\[127\.0\.0\.76\] for service ")
    gw.wait_log(r"/gate\[\d+\]: statistics: max message rate 5/3600s for "
                r"\(\S+:127\.0\.0\.77\) at \w{3} [ \d]\d [\d:]{8}$")
    gw.wait_log(r"/gate\[\d+\]: statistics: max recipient rate 7/3600s for "
                r"\(\S+:127\.0\.0\.76\) at ")
    gw.wait_log(r"/gate\[\d+\]: statistics: max connection rate \d+/3600s ")


def test_rate_limit_outlives_a_reload(make, sink):
    """A session that is there before a reload counts for itself."""
    gw = make(sink, main={"smtpd_client_message_rate_limit": "2",
                          "anvil_rate_time_unit": "1h",
                          "smtpd_client_event_limit_exceptions": ""})
    letter = "MAIL FROM:<a@client.example>"
    with gw.client() as c:
        c.ehlo()
        gate = gw.pids("gate")
        gw.set(smtpd_client_message_rate_limit="3")
        wait_for("a new gate", lambda: not set(gw.pids("gate")) & set(gate))
        codes = []
        for _ in range(4):
            codes.append(c.cmd(letter).code)
            c.cmd("RSET")
        assert codes == [250, 250, 450, 450]


def test_endless_command_costs_nothing(gw, sink):
    """50 MB without a line end: bounded memory, and the session survives."""
    with gw.client() as c:
        c.ehlo()
        warm(gw, sink, c)
        before = memory_kb(gw)
        c.send(b"NOOP ")
        for _ in range(50):
            c.send(b"x" * (1 << 20))
        grown = memory_kb(gw) - before
        c.send(b"\r\n")
        assert re.match(r"500 5\.5\.2 ", c.reply().text)
        assert c.cmd("NOOP").code == 250
    assert grown < 4096, f"{grown} KB for one command line"


def test_endless_line_in_the_text(make, sink):
    """A text line of 8 MB passes, folded on its way out, in bounded memory;
    its bytes are all there."""
    gw = make(sink)
    line = b"y" * (8 << 20)
    with gw.client(timeout=60) as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("long line", line + b"\r\n")).code == 250
    m = sink.wait_subject("long line", 60)
    assert max(map(len, m.body.split(b"\r\n"))) <= 998
    assert m.body.replace(b"\r\n ", b"").rstrip(b"\r\n") == line


def test_message_too_big_is_cut_off(make, sink):
    """Far over the limit: nothing of it is kept while the rest is read."""
    gw = make(sink, main={"message_size_limit": "100000"})
    with gw.client(timeout=60) as c:
        c.ehlo()
        warm(gw, sink, c)
        c.envelope("a@client.example", "user@example.com")
        assert c.cmd("DATA").code == 354
        before = memory_kb(gw)
        for _ in range(30):
            c.send(b"0123456789abcd\r\n" * 65536)
        grown = memory_kb(gw) - before
        c.send(b".\r\n")
        assert c.reply().text == "552 5.3.4 Error: message file too big"
        assert c.message("a@client.example", "user@example.com",
                         mail("small")).code == 250
    assert grown < 4096, f"{grown} KB kept of a refused text"
    sink.wait_subject("small")
    assert len(sink.messages) == 2


def test_many_recipients(make, sink):
    """Up to the limit all are delivered, the rest is refused for now."""
    gw = make(sink, main={"smtpd_recipient_limit": "1000"})
    accepted = 0
    with gw.client(timeout=60) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@client.example>")
        for i in range(1010):
            r = c.cmd(f"RCPT TO:<u{i}@example.com>")
            if r.code == 250:
                accepted += 1
            else:
                assert r.text == "452 4.5.3 Error: too many recipients"
        assert accepted == 1000
        assert c.data_cmd(mail("to many")).code == 250
    wait_for("all recipients", lambda: sum(
        len(m.rcpts) for m in list(sink.messages)) >= 1000, 30)
    got = [r for m in sink.messages for r in m.rcpts]
    assert sorted(got) == sorted(f"u{i}@example.com" for i in range(1000))


def test_silent_client_is_dropped(make, sink):
    gw = make(sink, main={"smtpd_timeout": "1s"})
    with gw.client() as c:
        assert re.match(r"421 4\.4\.2 gw\.example\.com Error: timeout "
                        r"exceeded$", c.reply().text)
        assert c.closed()
    gw.wait_log(r"timeout after CONNECT from unknown\[127\.0\.0\.1\]")


def test_slow_text_is_dropped(make, sink):
    """A byte now and then does not hold a session for ever."""
    gw = make(sink, main={"smtpd_data_timeout": "2s"})
    with gw.client() as c:
        c.ehlo()
        c.envelope("a@client.example", "user@example.com")
        assert c.cmd("DATA").code == 354
        begin = time.monotonic()
        try:
            while time.monotonic() - begin < 20 * SLOW:
                c.send(b"x")
                time.sleep(0.2)
        except OSError:
            pass
        assert time.monotonic() - begin < 15 * SLOW
    assert not sink.messages


def test_errors_slow_a_client_down(make, sink):
    gw = make(sink, main={"smtpd_soft_error_limit": "2",
                          "smtpd_hard_error_limit": "5",
                          "smtpd_error_sleep_time": "1s"})
    with gw.client() as c:
        times = []
        for _ in range(4):
            begin = time.monotonic()
            c.cmd("FROB")
            times.append(time.monotonic() - begin)
        # a busy machine may be slow once
        assert min(times[:2]) < 0.5 and times[3] > 0.8, times
        r = c.cmd("FROB")
        while r.code != 421:
            r = c.cmd("FROB")
        assert c.closed()
    gw.wait_log(r"too many errors after \w+ from unknown\[127\.0\.0\.1\]")


def test_connection_lost_is_logged(gw):
    with gw.client() as c:
        c.ehlo()
        c.envelope("a@client.example", "user@example.com")
        assert c.cmd("DATA").code == 354
        c.send(b"Subject: half")
    gw.wait_log(r"lost connection after DATA( \(\d+ bytes\))? from "
                r"unknown\[127\.0\.0\.1\]")


def test_full_disk(make, sink):
    """No room in the spool: 452 now, not a lost message later."""
    gw = make(sink, main={"queue_minfree": "9000000000000000"})
    with gw.client() as c:
        c.ehlo()
        r = c.cmd("MAIL FROM:<a@client.example>")
        assert re.match(r"452 4\.3\.1 Insufficient system storage", r.text)


def test_hostile_bytes_do_not_kill(gw, sink):
    """Noise into the port; the gateway goes on and says nothing bad."""
    import random
    rng = random.Random(3)
    words = [b"MAIL FROM:<", b"RCPT TO:<", b"DATA\r\n", b".\r\n", b"EHLO ",
             b"a@example.com>", b"\r\n", b"\n", b"\r", b"\0", b"\xff" * 40,
             b"RSET\r\n", b"QUIT", b" SIZE=", b"9" * 30, b"<" * 100, b"\"",
             b"\\", b"@" * 50, b"Content-Type: multipart/mixed; boundary=",
             b"--", b"=?utf-8?b?", b"\t", b":" * 20, b"VRFY ", b"NOOP\r\n"]
    for _ in range(150):
        try:
            with gw.client(greet=False, timeout=5) as c:
                c.send(b"".join(rng.choice(words)
                                for _ in range(rng.randrange(1, 200))))
                c.sock.settimeout(0.02)
                try:
                    c.sock.recv(65536)
                except socket.timeout:
                    pass
        except (OSError, Closed):
            pass
    gw.ready()
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("alive")).code == 250
    sink.wait_subject("alive")
