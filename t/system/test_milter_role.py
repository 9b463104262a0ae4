"""The role between the gateway and outside filters: that it dies, is told
other settings, and what else happens to a message on its way."""
import os
import signal
import threading

import pytest
from milter_mta import LATER, fields
from milters import (ACCEPT, CONTINUE, HANG, REJECT, Milter, add_header,
                     add_rcpt, body, change_header, quarantine)
from postern import Client, Closed, free_port, mail, wait_for

ADD = [add_header("X-A", "1"), CONTINUE]
AFTER = """127.0.0.1:%d inet n - n - - smtpd
  -o content_filter=
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o mynetworks=127.0.0.0/8
  -o receive_override_options=%s
"""


@pytest.fixture
def milter():
    m = Milter()
    yield m
    m.close()


@pytest.fixture
def other():
    m = Milter()
    yield m
    m.close()


def gateway(make, sink, milter, **main):
    gw = make(sink, main={"smtpd_milters": milter.where,
                          "milter_default_action": "tempfail", **main},
              start=False)
    return gw


def say(gw, text, rcpts="user@example.com"):
    with gw.client() as c:
        c.ehlo()
        return c.message("a@client.example", rcpts, text)


def passes(gw, subject):
    """Mail is taken, from some time on."""
    def once():
        try:
            return say(gw, mail(subject)).code == 250
        except (AssertionError, Closed, OSError):
            return False        # the new role is not there yet
    wait_for("mail to pass", once)


def kill_role(gw, role):
    pids = [p for p, r in gw.processes().items() if r == role]
    gw.expect_log(rf"{role}.*(killed by signal|signal 9)|killed by signal")
    for p in pids:
        os.kill(p, signal.SIGKILL)
    return pids


@pytest.mark.parametrize("default,reply", (
    ("tempfail", LATER), ("reject", "550 5.5.0 Service unavailable"),
    ("accept", None), ("shutdown", "421"), ("quarantine", None)))
def test_killed_between_commands(make, sink, milter, default, reply):
    gw = gateway(make, sink, milter, milter_default_action=default)
    gw.start()
    milter.use({"eom": ADD})
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<a@client.example>").code == 250
        kill_role(gw, "milter")
        s = milter.last()
        wait_for("the filter to be left", s.ended.is_set)
        r = c.cmd("RCPT TO:<user@example.com>")
        if reply:
            assert r.text.startswith(reply)
        else:
            assert r.code == 250
            assert c.data_cmd(mail("killed")).code == 250
    # and there is another one
    passes(gw, "next")
    wait_for("the filter to be asked", lambda: say(gw, mail("asked")).code ==
             250 and milter.told("eom"))
    if default == "accept":
        assert sink.wait_subject("killed")
    elif default == "quarantine":
        # with what came while there was no role
        wait_for("it to be held", lambda: gw.queued("hold"))
        assert not sink.find("killed")
    else:
        assert not sink.find("killed")


@pytest.mark.parametrize("role", ("milter", "qmgr"))
def test_killed_while_the_filter_thinks(make, sink, milter, role):
    """The client is not told yes, and nothing is sent on half judged."""
    gw = gateway(make, sink, milter)
    gw.start()
    gw.expect_log("qmgr")
    milter.use({"eom": HANG})
    with gw.client() as c:
        c.ehlo()
        c.envelope("a@client.example", "user@example.com")
        assert c.cmd("DATA").code == 354
        c.send(mail("lost") + b"\r\n.\r\n")
        milter.wait_told("eom")
        kill_role(gw, role)
        try:
            assert c.reply().code in (451, 421, 450)
        except Closed:
            pass
    milter.use({"eom": ADD})
    passes(gw, "next")
    assert b"X-A: 1" in sink.wait_subject("next").header
    assert not sink.find("lost")


def test_stops_while_the_filter_thinks(make, sink, milter):
    gw = gateway(make, sink, milter)
    gw.start()
    milter.use({"eom": HANG})
    c = gw.client()
    c.ehlo()
    c.envelope("a@client.example", "user@example.com")
    assert c.cmd("DATA").code == 354
    c.send(mail("lost") + b"\r\n.\r\n")
    milter.wait_told("eom")
    gw.stop()
    c.close()
    assert not sink.messages


def test_reload(make, sink, milter, other):
    """A session keeps the filters it began with; new ones get the new."""
    gw = gateway(make, sink, milter)
    gw.start()
    milter.use({"eom": ADD})
    other.use({"eom": [add_header("X-B", "1"), CONTINUE]})
    with gw.client() as c:
        c.ehlo()
        c.envelope("a@client.example", "user@example.com")
        gw.set(smtpd_milters=other.where)
        gw.command("reload")
        wait_for("the new filter", lambda: say(gw, mail("new")).code == 250
                 and other.told("eom"))
        assert c.data_cmd(mail("old")).code == 250
    assert b"X-A: 1" in sink.wait_subject("old").header
    new = sink.wait_subject("new")
    assert b"X-B: 1" in sink.find("new")[-1].header and new
    gw.set(smtpd_milters="")
    gw.command("reload")
    told = len(other.told("eom"))
    wait_for("no filter", lambda: say(gw, mail("none")).code == 250 and
             [m for m in sink.find("none") if b"X-B" not in m.header])
    assert len(other.told("eom")) >= told


def test_own_rules_come_first(make, sink, milter):
    """Filters see what our rules made of a message, and none that is
    refused."""
    gw = gateway(make, sink, milter, header_checks="pcre:header_checks")
    gw.write("header_checks", "/^Subject: mark/ PREPEND X-Ours: yes\n"
             "/^Subject: replace (.*)/ REPLACE Subject: replaced $1\n"
             "/^Subject: hold/ HOLD ours\n/^Subject: no/ REJECT ours\n"
             "/^Subject: drop/ DISCARD ours\n/^X-A:/ REJECT not for filters\n")
    gw.start()
    milter.use({"eom": [add_header("X-A", "1"), change_header(
        1, "X-Ours", "seen"), CONTINUE]})
    assert say(gw, mail("mark")).code == 250
    assert (b"X-Ours", b"yes") in milter.last().headers()
    got = sink.wait_subject("mark")
    assert b"X-Ours: seen" in got.header and b"X-A: 1" in got.header
    assert say(gw, mail("replace it")).code == 250
    assert (b"Subject", b"replaced it") in milter.last().headers()
    assert b"X-A: 1" in sink.wait_subject("replaced it").header
    told = len(milter.told("eom"))
    assert say(gw, mail("no")).text == "550 5.7.1 ours"
    assert say(gw, mail("drop")).code == 250
    assert len(milter.told("eom")) == told
    # what is held may still be refused, and is changed
    assert say(gw, mail("hold")).code == 250
    wait_for("it to be held", lambda: len(gw.queued("hold")) == 1)
    milter.use({"eom": REJECT})
    assert say(gw, mail("hold")).code == 550
    assert len(gw.queued("hold")) == 1


def test_filter_holds_and_we_reject(make, sink, milter):
    gw = gateway(make, sink, milter, body_checks="pcre:body_checks")
    gw.write("body_checks", "/bad words/ REJECT ours\n")
    gw.start()
    milter.use({"eom": [quarantine("odd"), CONTINUE]})
    assert say(gw, mail("x", b"bad words\r\n")).text == "550 5.7.1 ours"
    # nor may a filter's new body pass by what was decided
    milter.use({"eom": [body("bad words\r\n"), ACCEPT]})
    assert say(gw, mail("filtered", b"good\r\n")).code == 250
    assert sink.wait_subject("filtered").body == b"bad words\r\n"


def test_attachment_is_gone_before_filters_look(make, sink, milter):
    gw = gateway(make, sink, milter)
    gw.start()
    from postern import mail_with
    assert say(gw, mail_with("evil.exe")).code == 550
    assert not milter.told("eom")


@pytest.mark.parametrize("options,asked", (("no_milters", 1),
                                           ("no_header_body_checks", 2)))
def test_content_filter(make, sink, milter, options, asked):
    """Mail that a filter gives back is not shown again, if it is told so."""
    from postern import Sink, free_port
    back = free_port()
    outside = Sink()
    gw = gateway(make, sink, milter, content_filter=
                 f"smtp:[127.0.0.1]:{outside.port}")
    gw.edit("master.cf", lambda t: t + AFTER % (back, options))
    gw.start()
    milter.use({"eom": ADD})
    try:
        assert say(gw, mail("filtered")).code == 250
        got = outside.wait(1)[0]
        from postern import Client
        with Client(back) as c:
            c.ehlo()
            assert c.message(got.sender, got.rcpts, got.text).code == 250
        inside = sink.wait_subject("filtered")
        assert inside.header.count(b"X-A: 1") == asked
        assert len(milter.told("eom")) == asked
    finally:
        outside.close()


def test_recipients_of_a_filter_are_not_relayed_for_anybody(make, sink,
                                                            milter):
    """What a filter adds goes out like any recipient: it is trusted with the
    envelope, but an address that is none is not added."""
    gw = gateway(make, sink, milter, smtp_generic_maps="")
    gw.start()
    milter.use({"eom": [add_rcpt("<new@example.com>"), CONTINUE]})
    assert say(gw, mail("added")).code == 250
    wait_for("both", lambda: sorted(r for m in sink.find("added")
                                    for r in m.rcpts) ==
             ["new@example.com", "user@example.com"])
    for bad in ("<new@exa mple.com>", "<@>",
                "<" + "x" * 2000 + "@example.com>"):
        milter.use({"eom": [add_rcpt(bad), CONTINUE]})
        r = say(gw, mail("bad"))
        assert r.code in (250, 451)
        for m in sink.find("bad"):
            assert m.rcpts == ["user@example.com"]


def test_many_at_once(make, sink, milter):
    """Sessions do not mix."""
    gw = gateway(make, sink, milter)
    gw.start()
    milter.use({"eom": lambda s, told: [
        add_header("X-Same", dict(s.headers())[b"Subject"]), CONTINUE]})
    wrong = []

    def run(n):
        try:
            with gw.client() as c:
                c.ehlo()
                for i in range(10):
                    assert c.message(f"a{n}@client.example",
                                     "user@example.com",
                                     mail(f"{n}-{i}")).code == 250
        except Exception as e:      # noqa: BLE001
            wrong.append(e)
    threads = [threading.Thread(target=run, args=(n,)) for n in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    got = sink.wait(200, 60)
    assert len(got) == 200
    for m in got:
        subject = m.field("Subject")
        assert m.field("X-Same") == subject
        assert m.sender == f"a{subject.split('-')[0]}@client.example"
        assert fields(m)[-1] == f"X-Same: {subject}"


SECOND = """127.0.0.1:%d inet n - n - - smtpd
  -o milter_protocol=4
  -o milter_macro_daemon_name=second.example
  -o milter_connect_macros={daemon_name}
  -o milter_mail_macros=
127.0.0.1:%d inet n - n - - smtpd
  -o milter_pipelining=no
  -o milter_macro_defaults=other=third
  -o milter_mail_macros={other}
"""


def session_of(milter, port, subject):
    """The connection on which the filter heard of a message."""
    with Client(port) as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail(subject)).code == 250
        s, = [s for s in milter.sessions if subject.encode() in
              [v.strip() for _, v in s.headers()]]
        c.cmd("QUIT")
    return s


def test_settings_of_a_service(make, sink, milter):
    """The "-o" of a service count in its sessions, also where a connection to
    the filter is there that a session of another service has left."""
    ports = [free_port(), free_port()]
    gw = gateway(make, sink, milter, milter_connection_reuse_time_limit="1h")
    gw.edit("master.cf", lambda t: t + SECOND % tuple(ports))
    gw.start()
    for i, port in enumerate([gw.port, *ports] * 2):
        s = session_of(milter, port, f"number {i}")
        second, third = (port == p for p in ports)
        assert s.offer[0] == (4 if second else 6), i
        assert s.macros["connect"]["{daemon_name}"] == (
            "second.example" if second else "gw.example.com"), i
        assert ("j" in s.macros["connect"]) == (not second), i
        if third:
            assert s.macros["mail"] == {"{other}": "third"}
        else:
            assert ("mail" in s.macros) == (not second), i
        # headers, without a word to each, come in one piece
        most = max(sum(w in ("header", "eoh", "body") for w in r)
                   for r in s.reads)
        assert most > 1 if port == gw.port else most == 1, s.reads


def test_default_action_of_a_service(make, sink, milter):
    port = free_port()
    gw = gateway(make, sink, milter)
    gw.edit("master.cf", lambda t: t + f"127.0.0.1:{port} inet n - n - - "
            "smtpd\n  -o milter_default_action=accept\n"
            "  -o milter_header_checks=\n")
    gw.start()
    gw.wait_log(r"master\.cf:\d+: -o milter_header_checks has no effect on "
                "this service")
    milter.down()
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<a@client.example>").code == 451
    with Client(port) as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("all the same")).code == 250
    sink.wait_subject("all the same")
