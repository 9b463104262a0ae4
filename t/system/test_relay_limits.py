"""A server's LIMITS (RFC 9422) are kept to."""
import re

import pytest
from postern import Sink, mail, wait_for

ALL = [f"u{i}@example.com" for i in range(7)]


class Limited(Sink):
    def __init__(self, limits, on=None):
        super().__init__(on, keywords=("PIPELINING", "8BITMIME",
                                       f"LIMITS {limits}"))
        self.starts = []

    def talk(self, sock, lines, peer):
        self.starts.append(len(self.commands))
        super().talk(sock, lines, peer)

    def transactions(self):
        """The recipients that each was asked about."""
        out = []
        for c in self.commands:
            if c.startswith("MAIL"):
                out.append([])
            elif c.startswith("RCPT"):
                out[-1].append(re.search("<(.*?)>", c).group(1))
        return out


@pytest.fixture
def through(make):
    sinks = []

    def send(limits, rcpts, on=None, count=1, main=None, wanted=None):
        sink = Limited(limits, on)
        sinks.append(sink)
        gw = make(sink, main={"relay_domains": "example.com example.net "
                              "example.org", **(main or {})})
        for i in range(count):
            with gw.client() as c:
                c.ehlo()
                assert c.message("a@client.example", rcpts,
                                 mail(f"limits {i}")).code == 250
        got = wanted or sorted(rcpts * count)
        wait_for("all recipients", lambda: sorted(
            r for m in list(sink.messages) for r in m.rcpts) == got)
        return gw, sink
    yield send
    for sink in sinks:
        sink.close()


@pytest.mark.parametrize("main", [
    {}, {"smtp_connection_cache_on_demand": "no"}])
def test_rcptmax(through, main):
    gw, sink = through("RCPTMAX=3", ALL, main=main)
    assert [len(t) for t in sink.transactions()] == [3, 3, 1]
    assert sorted(sum(sink.transactions(), [])) == ALL
    assert sink.sessions == (3 if main else 1)
    for r in ALL:
        gw.wait_log(rf"to=<{r}>, .*status=sent")
    gw.wait_log(r"removed$")


def test_mailmax_and_rcptmax(through):
    """No session has more messages; a message goes on in another one."""
    _, sink = through("MAILMAX=2 RCPTMAX=2 WHAT=7", ALL, count=2)
    assert [len(t) for t in sink.transactions()].count(2) == 6
    # cut at each EHLO, the sessions that were open side by side included
    assert sink.sessions == 4
    assert max(len(t) for t in sink.transactions()) == 2


def test_mailmax(through):
    _, sink = through("MAILMAX=1", ["u@example.com"], count=4)
    assert sink.sessions == 4


def test_rcptdomainmax(through):
    rcpts = ["a@example.com", "b@example.net", "c@EXAMPLE.com",
             "d@example.org", "e@example.net"]
    _, sink = through("RCPTDOMAINMAX=1", rcpts, main={
        "transport_maps": "", "relay_destination_recipient_limit": "50"})
    for t in sink.transactions():
        assert len({r.split("@")[1].lower() for r in t}) == 1, t
    assert sink.sessions == len(sink.transactions())


@pytest.mark.parametrize("limits", [
    "RCPTMAX=0", "RCPTMAX=", "RCPTMAX=x", "RCPTMAX=9999999", "RCPTMAX",
    "RCPTMAX=-1 MAILMAX=+1", "RCPTMAX=03", "", "XRCPTMAX=1"])
def test_no_limits(through, limits):
    _, sink = through(limits, ALL)
    assert sink.transactions() == [ALL]


def test_discarded(through):
    _, sink = through("RCPTMAX=1", ALL,
                      main={"smtp_discard_ehlo_keywords": "LIMITS"})
    assert sink.transactions() == [ALL]


def test_many(make):
    """More than are worth it in one go: the others come later."""
    many = [f"u{i:03}@example.com" for i in range(520)]
    sink = Limited("RCPTMAX=1")
    try:
        gw = make(sink, main={"default_destination_recipient_limit": "1000"})
        with gw.client() as c:
            c.ehlo()
            assert c.message("a@client.example", many,
                             mail("many")).code == 250
        gw.wait_log(r"dsn=4\.5\.3, status=deferred \(the server takes too few "
                    r"recipients at a time\)")
        assert [m.rcpts for m in sink.messages] == [[r] for r in many[:501]]
    finally:
        sink.close()


def test_some_are_refused(through):
    """One that is refused, and a group of which all are: the others go."""
    def on(verb, argument):
        if verb == "RCPT" and argument[:2] in ("u1", "u2", "u3"):
            return "550 5.1.1 no" if argument[1] != "3" else "451 4.2.0 later"
        return None
    left = [ALL[0], *ALL[4:]]
    gw, sink = through("RCPTMAX=2", ALL, on=on, wanted=left)
    for r, status in zip(ALL, ["sent", "bounced", "bounced", "deferred",
                               "sent", "sent", "sent"]):
        gw.wait_log(rf"to=<{r}>, .*status={status}")
    assert max(len(t) for t in sink.transactions()) == 2
    assert len(sink.messages) >= 2


def test_first_server_is_busy(make):
    """All are refused for now by the first of two next hops: the second is
    asked about all, each once, and it ends."""
    def later(verb, argument):
        return "451 4.2.0 later" if verb == "RCPT" else None
    one, two = Limited("RCPTMAX=2", later), Limited("RCPTMAX=3")
    try:
        gw = make(one, main={"relay_transport": f"relay:[127.0.0.1]:{one.port},"
                            f"[127.0.0.1]:{two.port}"})
        with gw.client() as c:
            c.ehlo()
            assert c.message("a@client.example", ALL,
                             mail("busy")).code == 250
        wait_for("all recipients", lambda: sorted(
            r for m in list(two.messages) for r in m.rcpts) == ALL)
        assert max(len(t) for t in two.transactions()) <= 3
    finally:
        one.close()
        two.close()


def test_lost_between(through):
    """The connection ends after the first group: the others go by another."""
    dots = []

    def on(verb, argument):
        if verb == "MAIL" and len(dots) == 1:
            dots.append(0)
            return "close"
        if verb == "DOT":
            dots.append(1)
        return None
    _, sink = through("RCPTMAX=3", ALL, on=on)
    assert sorted(r for m in sink.messages for r in m.rcpts) == ALL
    assert sink.sessions == 2
