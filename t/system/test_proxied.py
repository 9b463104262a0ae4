"""The PROXY protocol: who connects is who the proxy in front says it is, for
everything from the first count on."""
import re
import socket
import struct

import pytest
from postern import Client, Closed, Instance, Sink, free_port, mail, wait_for

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def text(client, six=False):
    if six:
        return b"PROXY TCP6 %s ::1 4711 25\r\n" % client.encode()
    return b"PROXY TCP4 %s 192.0.2.25 4711 25\r\n" % client.encode()


def binary(client, fields=b"", six=False):
    family = socket.AF_INET6 if six else socket.AF_INET
    body = socket.inet_pton(family, client) + socket.inet_pton(
        family, "::1" if six else "192.0.2.25") + struct.pack(
        "!HH", 4711, 25) + fields
    return SIGNATURE + bytes([0x21, 0x21 if six else 0x11]) + struct.pack(
        "!H", len(body)) + body


LOCAL = SIGNATURE + b"\x20\0\0\0"


class Gateway(Instance):
    """One port behind a proxy, one for all the world."""

    def __init__(self, sink, **main):
        super().__init__(sink, main={
            "smtpd_client_event_limit_exceptions": "", **main}, start=False)
        self.behind = free_port()
        self.edit("master.cf", lambda t: t +
                  f"127.0.0.1:{self.behind} inet n - n - - smtpd\n"
                  "  -o smtpd_upstream_proxy_protocol=haproxy\n"
                  "  -o smtpd_upstream_proxy_timeout=2s\n")
        self.start()

    def via(self, header, more=b""):
        c = Client(self.behind, greet=False)
        c.send(header + more)
        return c

    def greeted(self, header):
        c = self.via(header)
        c.banner = c.reply()
        return c


@pytest.fixture
def make():
    made, sink = [], Sink()

    def one(**main):
        made.append(Gateway(sink, **main))
        return made[-1]
    one.sink = sink
    yield one
    for gw in made:
        gw.destroy()
    sink.close()


@pytest.mark.parametrize("header,who", [
    (text("198.51.100.7"), "198.51.100.7"),
    (text("2001:db8::7", six=True), "2001:db8::7"),
    (binary("198.51.100.8"), "198.51.100.8"),
    (binary("2001:db8::8", six=True), "2001:db8::8"),
    (binary("198.51.100.9", b"\x04\0\x0a" + b"z" * 10), "198.51.100.9"),
    (LOCAL, "127.0.0.1"),
], ids=["text", "text6", "binary", "binary6", "fields", "local"])
def test_client_is_who_the_proxy_says(make, header, who):
    gw = make()
    with gw.greeted(header) as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("from " + who)).code == 250
    got = make.sink.wait_subject("from " + who).text.decode()
    assert f"{'IPv6:' if ':' in who else ''}{who}])" in got
    gw.wait_log("client=" + re.escape(f"unknown[{who}]"))


def test_header_in_pieces_and_what_follows_it(make):
    gw = make(smtpd_forbid_unauth_pipelining="no")
    for header in (text("198.51.100.7"), binary("198.51.100.7", b"\4\0\0"),
                   LOCAL):
        for step in (1, 5):
            c = Client(gw.behind, greet=False)
            c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(0, len(header), step):
                c.send(header[i:i + step])
            assert c.reply().code == 220
            c.close()
        # in one packet with the header: nothing of it is lost
        with gw.via(header, b"EHLO client.example\r\nQUIT\r\n") as c:
            assert [c.reply().code for _ in range(3)] == [220, 250, 221]


def test_what_is_wrong_is_closed_without_a_word(make):
    gw = make()
    bad = [b"EHLO client.example\r\n", b"PROXY UNKNOWN\r\n",
           b"PROXY TCP4 192.0.2.7 192.0.2.25 4711\r\n", b"P" * 5000,
           b"PROXY TCP4 " + b"1" * 5000, SIGNATURE + b"\x21\0\0\0",
           SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 5000,
           SIGNATURE + b"\x21\x11\0\x04abcd", b"\0" * 20, b"\x16\x03\x01",
           text("198.51.100.300"), SIGNATURE + b"\x31\x11\0\x0c"]
    for header in bad:
        with gw.via(header) as c:
            try:
                said = c.sock.recv(100)
            except ConnectionResetError:
                said = b""
            assert said == b"", header
    wait_for("a line for each",
             lambda: len(re.findall("no client from proxy.*bad header",
                                    gw.log())) == len(bad))
    # silent, or only half there
    for header in (b"", text("198.51.100.7")[:-1], LOCAL[:15],
                   binary("198.51.100.7")[:-1]):
        with gw.via(header) as c:
            assert c.closed(20), header
    gw.wait_log(r"no client from proxy \[127\.0\.0\.1\]: timeout")
    with gw.via(b"PROXY TC") as c:
        pass
    gw.wait_log("no client from proxy .*: lost connection")
    # that port is for a proxy, the other one is not
    with gw.greeted(text("198.51.100.7")) as c:
        assert c.cmd("QUIT").code == 221
    with Client(gw.port, greet=False) as c:
        c.send(text("198.51.100.7"))
        assert c.reply().code in (220, 554)


def test_clients_are_counted_and_not_the_proxy(make):
    gw = make(smtpd_client_connection_count_limit="2")
    held = [gw.greeted(text("198.51.100.1")) for _ in range(2)]
    held += [gw.greeted(binary(f"198.51.100.{i}")) for i in range(2, 12)]
    with gw.greeted(text("198.51.100.1")) as c:
        assert c.banner.text == "421 4.7.0 gw.example.com Error: too many " \
            "connections from 198.51.100.1"
    for c in held:
        assert c.cmd("NOOP").code == 250
        c.close()


def test_rates_are_the_clients(make):
    gw = make(smtpd_client_message_rate_limit="3")
    for who in ("198.51.100.1", "198.51.100.2"):
        for i in range(5):
            with gw.greeted(text(who)) as c:
                c.ehlo()
                r = c.cmd("MAIL FROM:<a@client.example>")
                assert r.code == (250 if i < 3 else 450), r


def test_rights_are_the_clients(make):
    """The proxy is in mynetworks; who comes through it is not."""
    gw = make(mynetworks="127.0.0.0/8, 198.51.100.99")
    for header, code in ((text("198.51.100.7"), 554),
                         (text("198.51.100.99"), 250),
                         (binary("127.0.0.1"), 250), (LOCAL, 250)):
        with gw.greeted(header) as c:
            c.ehlo()
            c.envelope("a@client.example")
            r = c.cmd("RCPT TO:<user@elsewhere.example>")
            assert r.code == code, header


def test_reload_while_a_header_is_on_its_way(make):
    gw = make()
    with gw.via(text("198.51.100.7")[:20]) as c:
        wait_for("it to be read", lambda: "clients" in
                 gw.command("status").stdout)
        gw.edit("main.cf", lambda t: t + "smtpd_client_connection_count_limit"
                " = 77\n")
        gw.command("reload")
        c.send(text("198.51.100.7")[20:])
        assert c.reply().code == 220
    # switched off by a reload, for who comes then
    gw.edit("master.cf", lambda t: t.replace("=haproxy", "="))
    gw.command("reload")
    wait_for("a greeting without a header", lambda: plain(gw))


def plain(gw):
    with Client(gw.behind, greet=False) as c:
        c.sock.settimeout(1)
        try:
            return c.reply().code == 220
        except (OSError, Closed):
            return False
