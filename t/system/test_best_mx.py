"""best_mx_transport: mail of a domain whose best MX is this host."""
import os
import re
import signal
import threading

import pytest
from postern import Sink, mail, wait_for
from resolver import NameService, available
from test_local import Host, me, users      # noqa: F401, users is a fixture

pytestmark = pytest.mark.skipif(not available(),
                                reason="needs nsd, unbound, ldnsutils")

# gw is this host, by inet_interfaces
ZONE = """
@ MX 10 gw
gw A 127.0.0.9
other MX 10 gw
second MX 5 nobody
second MX 10 gw
nobody A 127.0.0.10
"""
LOOP = r"status=bounced \(mail for loops.example loops back to myself\)"


@pytest.fixture(scope="module")
def dns():
    d = NameService({"loops.example": ZONE})
    yield d
    d.close()


def settings(dns, **main):
    return {"dns_resolvers": dns.address, "inet_interfaces": "127.0.0.1, 127.0.0.9",
            "relay_domains": "example.com, loops.example",
            "parent_domain_matches_subdomains": "relay_domains",
            "relay_transport": "relay", "minimal_backoff_time": "1s",
            "transport_retry_time": "1s", "queue_run_delay": "1s", **main}


@pytest.fixture
def gateway(make, dns):
    def gateway(sink, master="", **main):
        gw = make(sink, main=settings(dns, **main), start=False)
        gw.edit("master.cf", lambda t: t + master)
        gw.start()
        return gw
    return gateway


def send(gw, *rcpts, subject="hello"):
    with gw.client() as c:
        c.ehlo()
        r = c.message("", rcpts, mail(subject))
        assert r.code == 250, r


def empty(gw):
    wait_for("an empty queue", lambda: not gw.queued())


def passed(gw):
    return re.findall(r": passing <(.*)> to transport=(.*)$", gw.log(), re.M)


def test_without_it(gateway, sink):
    gw = gateway(sink)
    send(gw, "a@loops.example")
    gw.wait_log(rf"to=<a@loops.example>, relay=none, .*dsn=5.4.6, {LOOP}")
    assert not passed(gw)


def test_passed_on(gateway, sink):
    gw = gateway(sink, best_mx_transport=f"relay:[127.0.0.1]:{sink.port}",
                 transport_maps="inline:{{in@loops.example = "
                 f"relay:[127.0.0.1]:{sink.port}}}}}")
    send(gw, "a@loops.example", "b@loops.example", "in@loops.example")
    wait_for("all of it", lambda: sum(
        (m.rcpts for m in sink.messages), []).__len__() == 3)
    # those that looped stay together
    assert sorted(sorted(m.rcpts) for m in sink.messages) == [
        ["a@loops.example", "b@loops.example"], ["in@loops.example"]]
    for who in "ab":
        gw.wait_log(rf"to=<{who}@loops.example>, relay=.*status=sent")
    assert sorted(passed(gw)) == [("a@loops.example", "relay"),
                                  ("b@loops.example", "relay")]
    empty(gw)
    # what could not be sent is no loop, and waits as ever
    send(gw, "a@second.loops.example")
    gw.wait_log(r"to=<a@second.loops.example>, .*status=deferred \(connect")
    assert len(passed(gw)) == 2


@pytest.mark.parametrize("way,line", [
    ("error:5.1.1 Nobody Here", r"dsn=5.1.1, status=bounced \(Nobody Here\)"),
    ("error", r"dsn=5.0.0, status=bounced \(Address is undeliverable\)"),
    ("retry:4.2.1 later", r"dsn=4.2.1, status=deferred \(later\)"),
    ("discard:", r"dsn=2.0.0, status=sent \(loops.example\)"),
    ("nothing", r"dsn=4.3.0, status=deferred \(mail transport unavailable\)"),
])
def test_without_a_server(gateway, sink, way, line):
    gw = gateway(sink, best_mx_transport=way)
    send(gw, "a@loops.example")
    gw.wait_log(rf"to=<a@loops.example>, relay=none, .*{line}")


@pytest.mark.parametrize("way", ["relay", "smtp", "relay:loops.example",
                                 "relay:other.loops.example", "chain"])
def test_loop_guard(gateway, sink, way):
    """Where it is passed on it loops again; nor is there a chain of them."""
    gw = gateway(sink, best_mx_transport=way, master="chain unix - - n - - "
                 f"smtp\n  -o best_mx_transport=relay:[127.0.0.1]:{sink.port}"
                 "\n")
    send(gw, "a@loops.example")
    gw.wait_log(r"to=<a@loops.example>, relay=none, .*dsn=5.4.6, "
                r"status=bounced \(mail for .*loops.example loops back")
    empty(gw)
    assert len(passed(gw)) == 1 and not sink.find("hello")


def test_loop_guard_soft(gateway, sink):
    gw = gateway(sink, best_mx_transport="relay", soft_bounce="yes",
                 minimal_backoff_time="1000s")
    send(gw, "a@loops.example")
    gw.wait_log(r"to=<a@loops.example>, relay=none, .*dsn=4.4.6, "
                r"status=deferred \(mail for loops.example loops back")
    assert len(passed(gw)) == 1
    gw.set(best_mx_transport="error:5.7.1 not here")
    gw.command("reload")
    send(gw, "b@loops.example")
    gw.wait_log(r"to=<b@loops.example>, relay=none, .*dsn=4.7.1, "
                r"status=deferred \(not here\)")


def test_each_service_has_its_own(gateway, sink):
    first = Sink()
    gw = gateway(
        sink, best_mx_transport=f"relay:[127.0.0.1]:{sink.port}",
        inner=f"relay:[127.0.0.1]:{first.port}",
        transport_maps="inline:{{one@loops.example = one:}, "
        "{none@loops.example = none:}, {same@loops.example = same:}}",
        master="one unix - - n - - smtp\n  -o best_mx_transport=$inner\n"
        "none unix - - n - - smtp\n  -o { best_mx_transport = }\n"
        "same unix - - n - - smtp -o smtp_helo_name=x.example.com\n")
    for who in ("one", "none", "same"):
        send(gw, who + "@loops.example", subject=who)
    first.wait_subject("one")
    sink.wait_subject("same")
    gw.wait_log(rf"to=<none@loops.example>, .*{LOOP}")
    assert len(passed(gw)) == 2
    first.close()


def test_relayhost_is_a_mistake(gateway, sink):
    gw = gateway(sink, best_mx_transport=f"relay:[127.0.0.1]:{sink.port}",
                 relayhost="loops.example", mynetworks="127.0.0.0/8",
                 minimal_backoff_time="1000s")
    gw.expect_log("relayhost configuration problem")
    send(gw, "a@elsewhere.example")
    gw.wait_log(r"dsn=4.3.5, status=deferred \(relayhost configuration")
    assert not passed(gw)


def test_the_domain_does_not_die(gateway, sink):
    gw = gateway(sink, best_mx_transport=f"relay:[127.0.0.1]:{sink.port}",
                 initial_destination_concurrency="1",
                 default_destination_concurrency_limit="2")
    for i in range(20):
        send(gw, "a@loops.example", subject=f"n {i}")
    sink.wait(20)
    empty(gw)
    assert "is not tried for" not in gw.log()
    assert "status=deferred" not in gw.log()


def test_bad_value(gateway, sink):
    gw = gateway(sink)
    gw.set(best_mx_transport=":[127.0.0.1]")
    gw.expect_log("best_mx_transport|reload failed: qmgr ended")
    gw.command("reload", check=False)
    gw.wait_log(r"best_mx_transport = :\[127.0.0.1\]: no transport")
    # those that were at work still are
    send(gw, "a@loops.example")
    gw.wait_log(rf"to=<a@loops.example>, .*{LOOP}")


@pytest.mark.parametrize("role", ["relay", "qmgr"])
def test_killed_in_between(gateway, role):
    """What is passed on and not delivered is found and passed on again."""
    reached, go = threading.Event(), threading.Event()

    def on(verb, argument):
        if verb == "DATA" and not go.is_set():
            reached.set()
            go.wait(60)
        return None
    sink = Sink(on)
    gw = gateway(sink, best_mx_transport=f"relay:[127.0.0.1]:{sink.port}")
    gw.expect_log("a relay ended with|role .* (died|ended|killed)|signal 9")
    try:
        send(gw, "a@loops.example", "b@loops.example")
        assert reached.wait(30)
        for pid in gw.pids(role):
            os.kill(pid, signal.SIGKILL)
        go.set()
        sink.wait_subject("hello")
        empty(gw)
    finally:
        go.set()
        sink.close()
    assert sorted({r for m in sink.messages for r in m.rcpts}) == [
        "a@loops.example", "b@loops.example"]
    assert "status=bounced" not in gw.log()
    assert len(passed(gw)) == 4


def test_held_while_it_loops(gateway, sink):
    """postsuper has its way with a message that is passed on."""
    reached, go = threading.Event(), threading.Event()

    def on(verb, argument):
        if verb == "DATA":
            reached.set()
            go.wait(60)
            return "451 4.3.0 later"
        return None
    slow = Sink(on)
    gw = gateway(sink, best_mx_transport=f"relay:[127.0.0.1]:{slow.port}")
    try:
        send(gw, "a@loops.example")
        assert reached.wait(30)
        gw.run(gw.build + "/bin/postsuper", "-c", gw.etc, "-h", "ALL")
    finally:
        go.set()
    wait_for("it on hold", lambda: gw.queued("hold"))
    slow.close()


def test_local_delivery(dns, users):        # noqa: F811
    name = me(users)
    with Host(**settings(dns, best_mx_transport="local",
                         relay_domains="")) as h:
        h.send(f"{name}@loops.example", mail("home"))
        h.status(f"{name}@loops.example", "sent")
        assert b"Subject: home" in h.box(name)
        h.send("nobody-here@loops.example", mail("lost"))
        assert "unknown user" in h.status("nobody-here@loops.example",
                                          "bounced")
        assert passed(h) == [(f"{name}@loops.example", "local"),
                             ("nobody-here@loops.example", "local")]


@pytest.mark.parametrize("way,who,code", [
    ("relay:[127.0.0.1]:%d", "good", 250), ("relay:[127.0.0.1]:%d", "bad", 550),
    ("discard:", "any", 250), ("error:no", "any", 550),
    ("relay", "any", 450), ("", "any", 450)])
def test_probes(gateway, way, who, code):
    sink = Sink(lambda verb, a: "550 5.1.1 no such user"
                if verb == "RCPT" and a.startswith("bad") else None)
    gw = gateway(sink, best_mx_transport=way % sink.port if "%" in way
                 else way, smtpd_error_sleep_time="0",
                 smtpd_recipient_restrictions="reject_unverified_recipient",
                 address_verify_poll_delay="10s",
                 unverified_recipient_reject_code="550")
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<>").code == 250
        r = c.cmd(f"RCPT TO:<{who}@loops.example>")
        assert r.code == code, r
        if code == 450:
            assert "loops back to myself" in r.text
    sink.close()
