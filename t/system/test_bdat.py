"""Messages that come by BDAT (RFC 3030): everything that judges, changes and
keeps them sees the message that DATA would have brought."""
import pytest
from milters import CONTINUE, REJECT, Milter, add_header
from postern import (Client, Instance, Sink, free_port, mail, mail_with,
                     wait_for)


def chunks(text, *sizes):
    """The commands for text, cut after so many octets each."""
    out, at = b"", 0
    for n in sizes:
        out += b"BDAT %d\r\n" % len(text[at:at + n]) + text[at:at + n]
        at += n
    return out + b"BDAT %d LAST\r\n" % len(text[at:]) + text[at:]


def replies(c, n):
    return [c.reply() for _ in range(n)]


def say(gw, text, *sizes, rcpts=("user@example.com",), **kw):
    """The last reply; all is sent at once, and the ones before must be
    good."""
    with gw.client(**kw) as c:
        assert "CHUNKING" in c.ehlo().text
        c.send(b"MAIL FROM:<a@client.example>\r\n" + b"".join(
            b"RCPT TO:<%s>\r\n" % r.encode() for r in rcpts) +
            chunks(text, *sizes))
        *before, last = replies(c, 2 + len(rcpts) + len(sizes))
        assert all(r.code == 250 for r in before), before
        return last.text


@pytest.fixture(scope="module")
def sink():
    server = Sink()
    yield server
    server.close()


@pytest.fixture
def make(sink):
    made = []

    def one(files=None, start=True, **main):
        gw = Instance(sink, main=main, start=False)
        made.append(gw)
        for name, text in (files or {}).items():
            gw.write(name, text)
        if start:
            gw.start()
        return gw
    yield one
    for gw in made:
        gw.destroy()


def test_same_message_as_by_data(make, sink):
    gw = make()
    text = mail("cuts", b".\r\n..\r\n.a\r\nbare\nlf\r\nFrom x\r\n" +
                bytes(range(128, 256)) + b"\r\n" + b"x" * 5000 + b"\r\n")
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         text).code == 250
    for sizes in ((), (1,), (10, 20, 30), (len(text),), (7,) * 200):
        assert say(gw, text, *sizes).startswith("250 2.0.0 Ok: queued as")
    wait_for("six of them", lambda: len(sink.find("cuts")) == 6)
    first, *others = sink.find("cuts")
    assert all(m.body == first.body for m in others)
    assert b"bare\r\nlf\r\n" in first.body
    assert b"\r\n.\r\n..\r\n.a\r\n" in b"\r\n" + first.body


def test_large_one_goes_to_a_file(make, sink):
    gw = make(queue_memory_text_limit="20000", message_size_limit="2000000")
    body = b"".join(b"%066d\r\n" % i for i in range(20000))
    assert say(gw, mail("large", body), 30000, 500000).startswith("250 ")
    assert sink.wait_subject("large").body == body
    # announced, and not even read to memory
    with gw.client() as c:
        c.ehlo()
        c.envelope("a@client.example", "user@example.com")
        c.send(b"BDAT 3000000\r\n")
        c.send(b"NOOP\r\n" * 500000)
        assert c.reply().text == "552 5.3.4 Error: message file too big"
        assert c.cmd("RCPT TO:<user@example.com>").code == 503
        c.envelope("a@client.example", "user@example.com")
        c.send(chunks(mail("small")))
        assert c.reply().code == 250
    sink.wait_subject("small")


def test_filter_sees_it_whole(make, sink):
    gw = make({"header_checks": "/^Subject: look/ REJECT seen\n"
               "/^Subject: mark/ PREPEND X-Marked: yes\n",
               "body_checks": "/sec.ret/ REJECT a secret\n"},
              header_checks="regexp:$config_directory/header_checks",
              body_checks="regexp:$config_directory/body_checks")
    worm = mail_with("invoice.exe")
    for cut in (1, worm.index(b".exe") + 2, worm.index(b"frontier") + 3):
        assert say(gw, worm, cut).startswith("550 5.7.1"), cut
    look = mail("look here")
    assert say(gw, look, look.index(b"look") + 2) == "550 5.7.1 seen"
    text = mail("body", b"a sec.ret\r\n")
    assert say(gw, text, text.index(b"sec") + 1) == "550 5.7.1 a secret"
    # without a line end it is a line too
    assert say(gw, text[:-2], len(text) - 4) == "550 5.7.1 a secret"
    assert say(gw, mail("mark"), 3).startswith("250 ")
    assert sink.wait_subject("mark").field("X-Marked") == "yes"


def test_replies_for_each_recipient(make, sink):
    gw = make({"header_checks": "/^Subject: no/ REJECT not wanted\n"},
              filter_policy_maps="inline:{ lax@example.com=lax }",
              filter_policy_classes="lax",
              header_checks="regexp:$config_directory/header_checks",
              lax_header_checks="")
    with gw.client() as c:
        assert "PRDR" in c.ehlo().text
        c.send(b"MAIL FROM:<a@client.example> PRDR\r\n"
               b"RCPT TO:<user@example.com>\r\nRCPT TO:<lax@example.com>\r\n" +
               chunks(mail("no"), 20))
        got = [r.code for r in replies(c, 8)]
    assert got == [250, 250, 250, 250, 353, 550, 250, 250], got
    assert sink.wait_subject("no").rcpts == ["lax@example.com"]


def test_milters_are_told_of_one_message(make, sink):
    milter = Milter()
    try:
        gw = make(smtpd_milters=milter.where, milter_default_action="tempfail")
        milter.use({"eom": [add_header("X-Milter", "was here"), CONTINUE]})
        assert say(gw, mail("told", b"one\r\ntwo\r\n"), 5, 20, 7)[:3] == "250"
        got = sink.wait_subject("told")
        assert got.field("X-Milter") == "was here"
        assert len(milter.told("data")) == 1 and len(milter.told("eom")) == 1
        assert milter.last().body() == b"one\r\ntwo\r\n"
        # refused where DATA is: the octets are no commands
        milter.use({"data": REJECT})
        with gw.client() as c:
            c.ehlo()
            c.envelope("a@client.example", "user@example.com")
            c.send(b"BDAT 12\r\nQUIT\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n")
            first, second = replies(c, 2)
            assert first.text == "550 5.7.1 Command rejected"
            assert second.code == 503
            assert c.cmd("NOOP").code == 250
        assert not milter.told("body")
        # a recipient of before may not be in the next message
        milter.use({})
        assert say(gw, mail("next"), rcpts=("b@example.com",))[:3] == "250"
        assert sink.wait_subject("next").rcpts == ["b@example.com"]
    finally:
        milter.close()


def test_filter_before_the_queue(make, sink):
    back = free_port()

    def come(verb, got):
        if verb != "DOT":
            return None
        with Client(back) as c:
            c.ehlo("filter.example")
            return c.message(got.sender, got.rcpts, b"X-Scanned: yes\r\n" +
                             got.text).text
    # which is no reason to send it chunks
    outside = Sink(come, keywords=("PIPELINING", "CHUNKING"))
    try:
        gw = make(smtpd_proxy_filter=f"127.0.0.1:{outside.port}", start=False)
        gw.edit("master.cf", lambda t: t + f"""127.0.0.1:{back} inet n - n - - smtpd
  -o smtpd_proxy_filter=
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o mynetworks=127.0.0.0/8
""")
        gw.start()
        # what looks like an end to somebody is none for the filter either
        text = mail("passed", b"a\r\n.\r\nb\n.\nc\r\n.\rd\r\n")
        assert say(gw, text, 9, text.index(b"\n.\n") + 2).startswith("250 ")
        got = sink.wait_subject("passed")
        assert got.field("X-Scanned") == "yes"
        assert got.body == b"a\r\n.\r\nb\r\n.\r\nc\r\n. d\r\n"
        assert len(sink.find("passed")) == 1 and len(outside.messages) == 1
        assert "DATA" in outside.commands
    finally:
        outside.close()


def test_client_that_leaves_in_a_chunk(make, sink):
    gw = make()
    text = mail("half")
    for said in (b"BDAT 10\r\n12345", chunks(text, 10)[:-1],
                 b"BDAT 10\r\n1234567890", b"BDAT 0\r\nBDAT 4 LAST\r\nabc"):
        with gw.client() as c:
            c.ehlo()
            c.envelope("a@client.example", "user@example.com")
            c.send(said)
    gw.wait_log(r"lost connection after BDAT \(5 bytes\) from")
    wait_for("four ends", lambda: gw.log().count("lost connection") == 4)
    assert not gw.queued()
    assert not sink.find("half")


def test_slow_chunk_ends_in_time(make):
    gw = make(smtpd_data_timeout="1s")
    for before in (b"", b"MAIL FROM:<a@client.example>\r\n"
                   b"RCPT TO:<user@example.com>\r\n"):
        with gw.client() as c:
            c.ehlo()
            c.send(before + b"BDAT 1000000\r\nx")
            assert c.closed(30)
    wait_for("two ends", lambda: gw.log().count("timeout after BDAT") == 2)


def test_not_where_it_is_not_announced(make):
    gw = make(smtpd_discard_ehlo_keywords="chunking, vrfy")
    with gw.client() as c:
        assert "CHUNKING" not in c.ehlo().text
        c.envelope("a@client.example", "user@example.com")
        c.send(b"BDAT 6 LAST\r\nQUIT\r\n")
        assert c.reply().text == "502 5.5.1 Error: command not implemented"
        assert c.cmd("NOOP").code == 250
