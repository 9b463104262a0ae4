"""What rules hold: list, show, release, delete, expire."""
import json
import os

import pytest
from postern import Instance, Sink, mail, run, wait_for

RULES = "/^Subject: worm/ HOLD looks like a worm\n" \
    "/^Subject: odd(.*)/ HOLD odd$1\n"


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


@pytest.fixture
def make(sink):
    made = []

    def gateway(**main):
        gw = Instance(sink, main={
            "header_checks": "pcre:header_checks",
            "smtpd_sender_restrictions":
            "check_sender_access inline:{ {held@a.example = HOLD ask Jo} }",
            **main}, start=False)
        gw.write("header_checks", RULES)
        gw.start()
        made.append(gw)
        return gw
    yield gateway
    for gw in made:
        gw.destroy()


def send(gw, subject, sender="a@client.example", rcpts="user@example.com"):
    with gw.client() as c:
        c.ehlo()
        r = c.message(sender, rcpts, mail(subject))
    assert r.code == 250, r
    return r.text.rsplit(" ", 1)[1]


def quarantine(gw, *args, **kw):
    return gw.command("quarantine", *args, **kw)


def held(gw, *args):
    return {e["queue_id"]: e for e in map(json.loads, quarantine(
        gw, "list", "--json", *args).stdout.splitlines())}


def test_list_and_patterns(make):
    gw = make(quarantine_lifetime="30d")
    assert quarantine(gw, "list").stdout == "Nothing is held\n"
    worm = send(gw, "worm", rcpts=["user@example.com", "b@example.com"])
    odd, asked = send(gw, "odd \x1b[31m text"), send(gw, "x", sender="held@a.example")
    reasons = {worm: f"looks like a worm; rule={gw.etc}/header_checks:1",
               odd: f"odd  [31m text; rule={gw.etc}/header_checks:2"}
    everything = held(gw)
    assert set(everything) == {worm, odd, asked}
    assert everything[worm]["hold_reason"] == reasons[worm]
    assert everything[asked]["hold_reason"].startswith("ask Jo; rule=inline:")
    assert everything[worm]["queue_name"] == "hold"
    out = quarantine(gw, "list", "--reason", "*worm*").stdout.splitlines()
    assert len(out) == 3 and out[0].startswith(worm + "  ")
    assert out[1] == "    from a@client.example to user@example.com, " \
        "b@example.com"
    assert out[2] == "    " + reasons[worm]
    # nothing of a message reaches the terminal as it is
    assert "\x1b" not in quarantine(gw, "list").stdout
    assert set(held(gw, "--sender", "held@a.example")) == {asked}
    assert set(held(gw, "--recipient", "b@example.com")) == {worm}
    assert not held(gw, "--older", "1h")
    # it outlives the system, and is seen without it
    gw.stop()
    p = quarantine(gw, "list")
    assert worm in p.stdout
    gw.start()
    assert set(held(gw)) == {worm, odd, asked}
    text = quarantine(gw, "show", worm).stdout
    assert "Subject: worm" in text and reasons[worm] in text


def test_release_is_not_judged_again(make, sink):
    gw = make()
    worm, odd = send(gw, "worm"), send(gw, "odd")
    quarantine(gw, "release", worm)
    sink.wait_subject("worm")
    assert set(held(gw)) == {odd}
    quarantine(gw, "release", "ALL", "--reason", "*header_checks:2")
    sink.wait_subject("odd")
    assert not held(gw)


def test_delete_only_what_is_held(make, sink):
    gw = make()
    worm = send(gw, "worm")
    sink.down()
    other = send(gw, "other")
    wait_for("a deferred message", lambda: gw.queued("deferred"))
    p = quarantine(gw, "delete", other, check=False)
    assert p.returncode == 1 and "not found there" in p.stderr
    assert gw.queued("deferred")
    quarantine(gw, "delete", worm)
    assert not gw.queued("hold")
    sink.up()
    gw.command("flush")
    sink.wait_subject("other")
    assert not sink.find("worm")


def test_expire(make):
    gw = make()
    worm = send(gw, "worm")
    p = quarantine(gw, "expire", check=False)
    assert p.returncode and "quarantine_lifetime is 0" in p.stderr
    quarantine(gw, "expire", "--older", "1h")
    assert set(held(gw)) == {worm}
    wait_for("its age", lambda: held(gw, "--older", "1s"))
    quarantine(gw, "expire", "--older", "1s")
    assert not held(gw)


def test_expires_by_itself(make, sink):
    """What a rule holds, not what an administrator does."""
    gw = make(quarantine_lifetime="2s")
    sink.down()
    mine = send(gw, "mine")
    wait_for("a deferred message", lambda: gw.queued("deferred"))
    gw.command("hold", mine)
    worm = send(gw, "worm")
    gw.wait_log(f"{worm}: held longer than quarantine_lifetime "
                r"\(looks like a worm; rule=.*header_checks:1\)")
    gw.wait_log(f"{worm}: removed")
    assert [os.path.basename(f) for f in gw.queued("hold")] == [mine]
    assert "placed on hold by an administrator" in \
        quarantine(gw, "list").stdout


def test_wrong_words(make):
    gw = make()
    for words in ((), ("eat",), ("show",), ("show", "-q"), ("release",),
                  ("list", "--older", "soon"), ("expire", "--newer", "1d")):
        p = quarantine(gw, *words, check=False)
        assert p.returncode and p.stderr, words
    p = run(gw.build + "/bin/postqueue", "-c", gw.etc, "-f", "--older", "1d",
            check=False)
    assert p.returncode == 64
