"""Outside filters, and recipients who get different copies."""
import json

import pytest
from milters import (CONTINUE, DISCARD, REJECT, Milter, add_header, add_rcpt,
                     body, quarantine)
from postern import BIN, Instance, Sink, mail

STRICT, OTHER = "strict@example.com", "other@example.com"


@pytest.fixture
def site():
    sink, milter = Sink(), Milter()
    gw = Instance(sink, start=False)
    gw.write("mark", "/^Subject: (.*)/ REPLACE Subject: [marked] $1\n")
    gw.set(smtpd_milters=milter.where, filter_policy_classes="strict",
           filter_policy_maps=f"inline:{{{STRICT}=strict}}",
           strict_header_checks=f"regexp:{gw.etc}/mark")
    gw.start()
    yield gw, sink, milter
    gw.destroy()
    milter.close()
    sink.close()


def send(gw):
    with gw.client() as c:
        c.ehlo()
        return c.message("a@client.example", [STRICT, OTHER], mail("hello"))


def queue(gw):
    out = gw.run(f"{BIN}/postqueue", "-c", gw.etc, "-j").stdout
    return [json.loads(line) for line in out.splitlines()]


def subjects(sink, n):
    """Subject and recipients of what arrived."""
    return sorted((next(h for h in m.header.decode().split("\r\n")
                        if h.startswith("Subject:")), sorted(m.rcpts))
                  for m in sink.wait(n))


COPIES = [("Subject: [marked] hello", [STRICT]), ("Subject: hello", [OTHER])]


def test_each_copy_is_shown(site):
    gw, sink, milter = site
    milter.use({"eom": [add_header("X-A", "1"), CONTINUE]})
    assert send(gw).code == 250
    assert subjects(sink, 2) == COPIES
    assert all(b"X-A: 1" in m.header for m in sink.messages)
    s = milter.last()
    # first as it was said, then each copy as a transaction of its own
    assert [a for a, in s.args("rcpt")] == [
        f"<{r}>".encode() for r in (STRICT, OTHER)] + sorted(
        (f"<{r}>".encode() for r in (STRICT, OTHER)),
        key=lambda r: [a for a, in s.args("rcpt")][2:].index(r))
    assert s.stages().count("eom") == 2
    shown = [v.strip() for k, v in s.headers() if k == b"Subject"]
    assert sorted(shown) == [b"[marked] hello", b"hello"]


def refuse_marked(answer):
    """For the copy that the strict class has changed."""
    def eom(s, told):
        shown = [v for k, v in s.headers() if k == b"Subject"]
        return answer if b"[marked]" in shown[-1] else None
    return eom


@pytest.mark.parametrize("answer,place", ((DISCARD, None),
                                          ([quarantine("odd"), CONTINUE],
                                           "hold"),
                                          (REJECT, "hold")),
                         ids=("discard", "quarantine", "reject"))
def test_one_copy_is_not_wanted(site, answer, place):
    """A refusal that nobody can be told is what
    filter_policy_reject_action says."""
    gw, sink, milter = site
    milter.use({"eom": refuse_marked(answer)})
    assert send(gw).code == 250
    assert subjects(sink, 1) == COPIES[1:]
    held = [q for q in queue(gw) if q["queue_name"] == "hold"]
    assert len(held) == (place == "hold")
    for q in held:
        assert [r["address"] for r in q["recipients"]] == [STRICT]


def test_both_are_refused(site):
    gw, sink, milter = site
    milter.use({"eom": REJECT})
    assert send(gw).text == "550 5.7.1 Command rejected"
    assert not queue(gw) and not sink.messages


def test_recipients_of_one_copy(site):
    gw, sink, milter = site
    milter.use({"eom": refuse_marked([add_rcpt("<more@example.com>"),
                                      CONTINUE])})
    assert send(gw).code == 250
    assert subjects(sink, 2) == [
        (COPIES[0][0], ["more@example.com", STRICT]), COPIES[1]]


def test_body_of_one_copy(site):
    """Copies share one text: what gets another one has to wait."""
    gw, sink, milter = site
    milter.use({"eom": refuse_marked([body("new\r\n"), CONTINUE])})
    assert send(gw).code == 250
    assert subjects(sink, 1) == COPIES[1:]
    q, = [q for q in queue(gw) if q["queue_name"] == "hold"]
    assert [r["address"] for r in q["recipients"]] == [STRICT]
