"""Clients that misuse TLS: each loses its own session and nothing else."""
import re
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest
from postern import SLOW, Closed, Instance, Sink, mail, wait_for
from tls_help import Keys, TlsClient, context


@pytest.fixture(scope="module")
def keys():
    k = Keys()
    k.cert("own", "gw.example.com")
    k.cert("client", "mail.client.example")
    yield k
    k.destroy()


def settings(keys):
    return {"smtpd_tls_security_level": "may",
            "smtpd_tls_chain_files": keys.path("own.pem"),
            "smtpd_client_connection_count_limit": "0"}


@pytest.fixture(scope="module")
def shared(keys):
    """One for all who do not change its settings."""
    sink = Sink()
    i = Instance(sink, main=settings(keys))
    yield i
    i.destroy()
    sink.close()


@pytest.fixture
def gw(shared):
    """Nothing that was done to it hurt others."""
    pids, left = shared.pids("smtpd"), len(shared.sink.messages)
    yield shared
    with TlsClient(shared.port) as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("well")).code == 250
    shared.sink.wait(left + 1)
    assert shared.pids("smtpd") == pids, "a process was replaced"


def started(gw):
    c = gw.client()
    c.ehlo()
    assert c.cmd("STARTTLS").code == 220
    return c


def hello(name="gw.example.com"):
    """The bytes of a ClientHello."""
    incoming, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context().wrap_bio(incoming, out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


@pytest.mark.parametrize("behind", [
    b"RSET\r\n", b"MAIL FROM:<evil@stranger.example>\r\n", b"\r\n", b"x",
    b"\x16\x03\x01"])
def test_injection(gw, behind):
    """CVE-2011-0411: what stands behind STARTTLS is not the client's."""
    since = len(gw.log())
    with gw.client() as c:
        c.ehlo()
        c.send(b"STARTTLS\r\n" + behind)
        assert c.reply().code == 554
        assert c.closed()
    gw.wait_log("improper command pipelining after STARTTLS", since=since)


def test_injection_is_refused_whatever_is_set(make, keys):
    gw = make(main={**settings(keys),
                    "smtpd_forbid_unauth_pipelining": "no"})
    with gw.client() as c:
        c.ehlo()
        c.send(b"STARTTLS\r\nRSET\r\n" + hello())
        assert c.reply().code == 554
        assert c.closed()


@pytest.mark.parametrize("garbage", [
    b"EHLO me\r\nMAIL FROM:<a@b.example>\r\n",
    b"\0" * 100, bytes(i * 7 % 251 for i in range(5000)), b"\x80\x2e\x01\x03\x01" + b"x" * 50,
    b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x03\x01\xff\xff",
    # a ClientHello of 128 KB, of 16 MB, of nothing
    b"\x16\x03\x01\x40\x00\x01\x02\x00\x00" + b"x" * 20000,
    b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"x" * 20000,
    b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    b"\x16\x03\x01\xff\xff\x01\x00\x40\x00" + b"x" * 70000,
    # a Finished, application data and an alert before all
    b"\x16\x03\x03\x00\x10\x14\x00\x00\x0c" + b"x" * 12,
    b"\x17\x03\x03\x00\x05hello", b"\x15\x03\x03\x00\x02\x02\x28"], ids=lambda g: f"{g[:9].hex()}-{len(g)}")
def test_garbage_for_a_handshake(gw, garbage):
    since = len(gw.log())
    with started(gw) as c:
        try:
            c.send(garbage)
        except OSError:
            pass
        assert c.closed()
    gw.wait_log(r"SSL_accept error from unknown\[127\.0\.0\.1\]: ",
                since=since)
    gw.wait_log(r"lost connection after STARTTLS from unknown", since=since)


def test_damaged_hellos(gw):
    """A bit here and there."""
    good = hello()
    for i in range(0, len(good), max(1, len(good) // 60)):
        with started(gw) as c:
            c.sock.settimeout(0.05)
            try:
                c.send(good[:i] + bytes([good[i] ^ 0x41]) + good[i + 1:])
                c.sock.recv(10)
            except OSError:
                pass


def test_a_byte_at_a_time(gw):
    c = started(gw)
    c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    incoming, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context().wrap_bio(incoming, out)

    def step(fn, *args):
        while True:
            try:
                return fn(*args)
            except ssl.SSLWantReadError:
                for byte in out.read():
                    c.sock.sendall(bytes([byte]))
                incoming.write(c.sock.recv(1))
    step(tls.do_handshake)
    tls.write(b"EHLO slow.example\r\n")
    assert b"250-" in step(tls.read, 1000)
    c.close()


def test_the_handshake_has_a_deadline(make, keys):
    gw = make(main={**settings(keys), "smtpd_starttls_timeout": "2s"})
    # silence, and a byte now and then: neither makes it longer
    silent, slow = started(gw), started(gw)
    data = hello()
    try:
        for byte in data:
            slow.send(bytes([byte]))
            time.sleep(0.1)
    except OSError:
        pass
    else:
        assert False, "it had all the time"
    assert silent.closed() and slow.closed()
    gw.wait_log(r"SSL_accept error from unknown\[127\.0\.0\.1\]: timeout")
    gw.wait_log(r"timeout after STARTTLS from unknown\[127\.0\.0\.1\]")


def test_closing_at_every_point(gw):
    """FIN and RST, before, inside and behind the handshake."""
    data = hello()
    for n in (0, 1, 5, 9, len(data) // 2, len(data) - 1, len(data)):
        for reset in (False, True):
            c = started(gw)
            c.send(data[:n])
            if reset:
                c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                  struct.pack("ii", 1, 0))
            c.close()
    for reset in (False, True):
        c = TlsClient(gw.port)
        c.ehlo()
        c.send(b"MAIL FROM:<a@client.example>\r\n")
        if reset:
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                              struct.pack("ii", 1, 0))
        c.close()
    wait_for("all to be over", lambda: "sessions 0" in status_of(gw))


def status_of(gw):
    text = gw.command("status").stdout
    return "sessions " + str(sum(
        int(n) for n in re.findall(r"(?m)^smtpd.*\n\s+sessions (\d+)", text)))


def test_half_closed(gw):
    """The client has said all it has to say, and still listens."""
    c = started(gw)
    c.send(hello())
    c.sock.shutdown(socket.SHUT_WR)
    assert c.closed()
    c = TlsClient(gw.port)
    c.ehlo()
    raw = c.sock.unwrap()       # close_notify, answered by ours
    raw.close()
    wait_for("its end", lambda: status_of(gw) == "sessions 0")


def test_a_message_cut_off_is_no_message(gw):
    """Truncation: no dot came, whatever ended the connection."""
    since = len(gw.log())
    c = TlsClient(gw.port)
    c.ehlo()
    c.envelope("a@client.example", "user@example.com")
    assert c.cmd("DATA").code == 354
    c.send(b"Subject: cut\r\n\r\ntext\r\n")
    c.sock.unwrap().close()
    gw.wait_log("lost connection after DATA", since=since)
    assert not gw.sink.find("cut")


def test_renegotiation(gw):
    """s_client's R asks for it."""
    p = subprocess.Popen(
        ["openssl", "s_client", "-starttls", "smtp", "-tls1_2", "-connect",
         f"127.0.0.1:{gw.port}"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        p.stdin.write("R\n")
        p.stdin.flush()
        out = p.communicate(timeout=30 * SLOW)[0]
    finally:
        p.kill()
        p.wait()
    assert "RENEGOTIATING" in out
    assert "no renegotiation" in out, out[-500:]


def test_a_hundred_certificates(make, sink, keys):
    """A chain as long as the client likes, within what it may claim."""
    gw = make(sink, main={
        "smtpd_tls_security_level": "may", "smtpd_tls_ask_ccert": "yes",
        "smtpd_tls_CAfile": keys.path("own.crt"),
        "smtpd_tls_chain_files": keys.path("own.pem"),
        "smtpd_tls_loglevel": "1"})
    hundred = keys.join("hundred.pem", "client.key",
                        *["client.crt"] * 100)
    with TlsClient(gw.port, context(hundred)) as c:
        assert c.ehlo().code == 250
    gw.wait_log("Untrusted TLS connection established")
    many = keys.join("many.pem", "client.key", *["client.crt"] * 400)
    with pytest.raises((Closed, OSError)):
        with TlsClient(gw.port, context(many)) as c:
            c.ehlo()
    gw.wait_log("warning: TLS library problem: excessive message size")
    with TlsClient(gw.port) as c:
        assert c.ehlo().code == 250


def test_a_client_that_does_not_read(gw):
    """Replies fill the connection: it is not read from any more."""
    c = TlsClient(gw.port)
    c.ehlo()
    c.sock.settimeout(2 * SLOW)
    sent = 0
    try:
        while sent < 200 << 20:
            sent += c.sock.send(b"MAIL FROM:<a@b.example>\r\nRSET\r\n" * 400)
    except OSError:
        pass
    assert sent < 200 << 20
    c.close()


def test_silent_handshakes_do_not_keep_others_out(gw):
    """200 that begin and do not go on."""
    data, held = hello(), []
    try:
        for i in range(200):
            held.append(started(gw))
            held[-1].send(data[:i])
        with TlsClient(gw.port) as c:
            c.ehlo()
            assert c.message("a@client.example", "user@example.com",
                             mail("between")).code == 250
        gw.sink.wait_subject("between")
    finally:
        for c in held:
            c.close()


def test_new_keys_without_end(gw):
    """KeyUpdate by the thousand; openssl's K and k send them."""
    p = subprocess.Popen(
        ["openssl", "s_client", "-starttls", "smtp", "-tls1_3", "-connect",
         f"127.0.0.1:{gw.port}"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def read():
        p.stdout.read()
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(20):
            p.stdin.write("K\n")
            p.stdin.flush()
            time.sleep(0.01)
        assert p.poll() is None
    except BrokenPipeError:
        pytest.fail("a few are allowed")
    finally:
        p.kill()
        p.wait()
        reader.join()
