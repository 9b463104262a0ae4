"""The way to a domain as a real name service tells it, and servers there."""
import socket
import threading

import pytest
from postern import Instance, Sink, free_port, mail, wait_for
from resolver import NameService, available

pytestmark = pytest.mark.skipif(not available(),
                                reason="needs nsd, unbound, ldnsutils")


class SinkAt(Sink):
    """A sink on another address of loopback, with a port of its choice."""

    def __init__(self, address, port, on=None):
        self.address, self.own_port = address, port
        super().__init__(on)

    def up(self):
        self.port = self.own_port
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((self.address, self.port))
        self.listener.listen(100)
        threading.Thread(target=self.accept, args=(self.listener,),
                         daemon=True).start()


ZONE = """
@ MX 10 first
@ MX 20 second
first A 127.0.0.2
second A 127.0.0.3
alias CNAME mxs
mxs MX 10 name
name CNAME second
equal MX 10 first
equal MX 10 second
six MX 10 both
both AAAA fe80::1
both A 127.0.0.2
gone MX 10 nowhere
gone MX 20 nothing
none MX 0 .
bare A 127.0.0.3
_submission._tcp.srv SRV 10 0 %d first
_submission._tcp.srv SRV 20 0 %d second
nosrv MX 10 second
"""
DOMAINS = ("inside alias equal six gone none bare").split()


@pytest.fixture(scope="module")
def made():
    port, other = free_port(), free_port()
    sinks, dns, gw = [], None, None
    try:
        sinks += [SinkAt("127.0.0.2", port), SinkAt("127.0.0.3", port),
                  SinkAt("127.0.0.3", other)]
        dns = NameService({"inside.example": ZONE % (free_port(), other)})

        def hop(name):
            return "inside.example" if name == "inside" else \
                name + ".inside.example"
        maps = "".join(f"{{{d}@example.com = relay:{hop(d)}:{port}}}, "
                       for d in DOMAINS)
        maps += "{srv@example.com = relay:srv.inside.example:submission}"
        gw = Instance(sinks[0], main={
            "transport_maps": "inline:{ %s }" % maps,
            "dns_resolvers": dns.address, "inet_protocols": "all",
            "use_srv_lookup": "submission",
            "smtp_connection_cache_on_demand": "no",
            "minimal_backoff_time": "1s", "queue_run_delay": "1s"})
        yield gw, sinks
    finally:
        if gw:
            gw.destroy()
        if dns:
            dns.close()
        for s in sinks:
            s.close()


def send(gw, user, subject):
    with gw.client() as c:
        c.ehlo()
        r = c.message("", [user + "@example.com"], mail(subject))
        assert r.code == 250, r


@pytest.mark.parametrize("user,which", [
    ("inside", 0), ("alias", 1), ("six", 0), ("bare", 1), ("srv", 2)])
def test_where_it_goes(made, user, which):
    gw, sinks = made
    send(gw, user, "to " + user)
    sinks[which].wait_subject("to " + user)


def test_equals_share(made):
    gw, sinks = made
    n = 0
    while not all(any(m.field("Subject").startswith("equal")
                      for m in s.messages) for s in sinks[:2]):
        assert n < 100
        send(gw, "equal", f"equal {n}")
        wait_for("it", lambda: any(s.find(f"equal {n}") for s in sinks))
        n += 1


def test_second_while_the_first_is_down(made):
    gw, sinks = made
    sinks[0].down()
    try:
        send(gw, "inside", "second choice")
        sinks[1].wait_subject("second choice")
    finally:
        sinks[0].up()
    send(gw, "inside", "first again")
    sinks[0].wait_subject("first again")


@pytest.mark.parametrize("user,line", [
    ("gone", r"dsn=5.4.4, status=bounced \(Host or domain name not found"),
    ("none", r"dsn=5.1.0, status=bounced \(Domain none.inside.example does "
             r"not accept mail \(nullMX\)")])
def test_no_way(made, user, line):
    gw, _ = made
    send(gw, user, "no way")
    gw.wait_log(rf"to=<{user}@example.com>.* {line}")
