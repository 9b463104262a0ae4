"""BINARYMIME (RFC 3030 section 3): what is binary becomes base64 as it comes
in.  Python's email package says what came out of it."""
import email
import itertools
import os
import random

import pytest
from file_makers import EXE, zipped
from milters import CONTINUE, Milter
from postern import Client, Sink, free_port, mail, wait_for
from test_bdat import chunks, replies
from test_message import inside  # noqa: F401, a fixture

OCTETS = bytes(range(256)) * 3
# What an end, a command or a line end looks like, within octets.
TRAPS = (b"\x89PNG\r\n\x1a\n" + OCTETS + b"\r\n.\r\nQUIT\r\n\n.\n\r.\r\0\0\r\n"
         b"--\r\n--a\r\nBDAT 5 LAST\r\n" + b"x" * 5000 + b"\r\n\r\n")
BINARY = b"Content-Transfer-Encoding: binary\r\n"


def leaf(data, of="application/octet-stream", name=None, field=BINARY):
    named = b'; name="%s"' % name.encode() if name else b""
    return b"Content-Type: " + of.encode() + named + b"\r\n" + field + \
        b"\r\n" + data


def parts(*entities, boundary=b"=_1", of=b"mixed", field=BINARY):
    return b'Content-Type: multipart/%s; boundary="%s"\r\n' % (
        of, boundary) + field + b"\r\npreamble\r\n" + b"".join(
        b"--%s\r\n%s\r\n" % (boundary, e) for e in entities) + \
        b"--%s--\r\n" % boundary


def message(subject, entity):
    return mail(subject, b"", MIME_Version="1.0")[:-2] + entity


def leaves(text):
    """The types and octets of all leaves, as Python decodes them."""
    found = email.message_from_bytes(text)
    assert not found.defects
    return [(p.get_content_type(), p.get_payload(decode=True))
            for p in found.walk() if not p.is_multipart()]


def say(gw, text, *sizes):
    with gw.client() as c:
        assert "BINARYMIME" in c.ehlo().text
        c.send(b"MAIL FROM:<a@client.example> BODY=BINARYMIME\r\n"
               b"RCPT TO:<user@example.com>\r\n" + chunks(text, *sizes))
        *before, last = replies(c, 3 + len(sizes))
        assert all(r.code == 250 for r in before), before
        return last.text


def is_text(text):
    """Lines, as any hop can take them."""
    return b"\0" not in text and all(
        len(line) <= 998 and b"\r" not in line and b"\n" not in line
        for line in text.split(b"\r\n"))


@pytest.fixture
def gateway(make, sink):
    def one(**main):
        return make(sink, main={"smtpd_binarymime_enable": "yes", **main})
    return one


def test_octets_arrive(gateway, sink):
    gw = gateway()
    data = [TRAPS, b"", b"\r\n", b"\n", OCTETS + b"\r", b"\0",
            os.urandom(100000)]
    text = message("all of them", parts(
        leaf(b"line\nline\r\n", "text/plain; charset=utf-8"),
        leaf(b"as it is\r\n", "text/plain", field=b""),
        *(leaf(d, "image/png") for d in data)))
    want = [("text/plain", b"line\nline\r\n"),
            ("text/plain", b"as it is\r\n")] + [("image/png", d) for d in data]
    many = [57] * 100 + [7] * 100
    cuts = [(), (1,), (4096, 33333, 13), many,
            (text.index(b"--=_1\r\n") + 3, 1, 1, 1)]
    for sizes in cuts:
        assert say(gw, text, *sizes).startswith("250 2.0.0 Ok: queued as")
    wait_for("all", lambda: len(sink.find("all of them")) == len(cuts))
    for m in sink.find("all of them"):
        assert is_text(m.text)
        # a line end that is a line's, in the one that is no octets
        assert [(t, d) for t, d in leaves(m.text)] == want
        assert m.field("Content-Transfer-Encoding") == "8bit"
        assert m.body.startswith(b"preamble\r\n--=_1\r\n")
    # without a multipart: to the very end
    assert say(gw, message("one", leaf(TRAPS)), 100).startswith("250 ")
    assert leaves(sink.wait_subject("one").text) == \
        [("application/octet-stream", TRAPS)]


def test_broken_off(gateway, sink):
    """No final boundary: what is there is kept."""
    gw = gateway()
    text = message("half", parts(leaf(TRAPS)))
    text = text[:text.rindex(b"\r\n--=_1--")]
    assert say(gw, text, 1000).startswith("250 ")
    found = email.message_from_bytes(sink.wait_subject("half").text)
    assert found.get_payload(0).get_payload(decode=True) == TRAPS


def test_any_structure(gateway, sink):
    gw = gateway()
    rnd = random.Random(3030)
    number = itertools.count()

    def octets():
        return b"".join(rnd.choice((
            rnd.randbytes(rnd.randrange(100)), b"\r\n", b"\n", b"\r", b"\r\n.",
            b"\r\n--", b"\r\n--=_", b"\0")) for _ in range(rnd.randrange(30)))

    def entity(depth):
        kind = rnd.randrange(4 if depth < 5 else 2)
        field = BINARY if rnd.randrange(2) else b""
        if kind == 0:
            data = octets()
            want.append(("application/octet-stream", data))
            return leaf(data)
        if kind == 1:
            want.append(("text/plain", b"plain\r\n.\r\ntext"))
            return leaf(want[-1][1], "text/plain", field=b"")
        if kind == 2:
            return b"Content-Type: message/rfc822\r\n" + field + \
                b"\r\nSubject: inner\r\n" + entity(depth + 1)
        n = b"=_%d_" % next(number)
        return parts(*(entity(depth + 1) for _ in range(rnd.randrange(1, 5))),
                     boundary=n, field=field).removesuffix(b"\r\n")

    for i in range(40):
        want = []
        text = message(f"shape {i}.", parts(*(entity(0) for _ in range(3))))
        sizes = [rnd.randrange(1, 300) for _ in range(rnd.randrange(20))]
        assert say(gw, text, *sizes).startswith("250 "), text
        got = sink.wait_subject(f"shape {i}.").text
        assert is_text(got)
        assert leaves(got) == want, text


def test_real_server(make, inside):  # noqa: F811
    gw = make(relay=f"127.0.0.1:{inside.port}",
              main={"smtpd_binarymime_enable": "yes"})
    text = message("to a real server", parts(leaf(TRAPS), leaf(OCTETS)))
    assert say(gw, text, 999, 1).startswith("250 ")
    box = inside.wait_text(b"\n--=_1--\n")
    assert [d for _, d in leaves(box[box.index(b"\n") + 1:])] == \
        [TRAPS, OCTETS]


def test_filter_looks_into_it(gateway, sink):
    gw = gateway()
    for name, data in (("a.dat", EXE), ("a.zip", zipped(("x.exe", EXE)))):
        text = message("worm", parts(
            leaf(b"see it", "text/plain"), leaf(data, name=name)))
        assert say(gw, text, len(text) - 100).startswith("550 5.7.1"), name
    assert not sink.find("worm")


def test_refusals(gateway, make, sink):
    gw = gateway()
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<a@client.example> BODY=BINARYMIME").code == \
            250
        assert c.cmd("RCPT TO:<user@example.com>").code == 250
        assert c.cmd("DATA").text == \
            "503 5.5.1 Error: BODY=BINARYMIME needs BDAT"
        c.send(chunks(message("after all", leaf(TRAPS)), 5))
        assert [r.code for r in replies(c, 2)] == [250, 250]
    assert leaves(sink.wait_subject("after all").text)[0][1] == TRAPS
    for kind in "partial", "external-body":
        assert say(gw, message("no", parts(leaf(
            b"Subject: x\r\n\r\n", "message/" + kind)))) == \
            "554 5.6.1 Error: this type of message may not be binary"
    gw.wait_log("reject: .*554 5.6.1 Error: this type of message")
    assert say(gw, message("no", leaf(b"x", field=BINARY + BINARY.replace(
        b"binary", b"8bit")))).startswith("554 5.6.0 ")
    # declared at MAIL alone, and wrongly there: the same lines as ever
    assert say(gw, message("lines", leaf(b"\n\0\r", field=b""))) \
        .startswith("250 ")
    for main in ({}, {"smtpd_binarymime_enable": "yes",
                      "smtpd_discard_ehlo_keywords": "binarymime"},
                 {"smtpd_binarymime_enable": "yes",
                  "smtpd_discard_ehlo_keywords": "chunking"}):
        other = make(sink, main=main)
        with other.client() as c:
            assert "BINARYMIME" not in c.ehlo().text
            assert c.cmd("MAIL FROM:<a@client.example> BODY=BINARYMIME") \
                .text == "555 5.5.4 Unsupported option: BODY=BINARYMIME"


def test_size_of_what_is_written(gateway, sink):
    gw = gateway(message_size_limit="100000", queue_memory_text_limit="20000")
    assert say(gw, message("fits", leaf(bytes(70000))), 30000) \
        .startswith("250 ")
    assert leaves(sink.wait_subject("fits").text)[0][1] == bytes(70000)
    with gw.client() as c:
        c.ehlo()
        c.send(b"MAIL FROM:<a@client.example> BODY=BINARYMIME\r\n"
               b"RCPT TO:<user@example.com>\r\n" +
               chunks(message("over", leaf(bytes(80000)))))
        assert replies(c, 3)[2].text == \
            "552 5.3.4 Error: message file too big"


@pytest.mark.parametrize("keywords", [("8BITMIME",), ("PIPELINING",),
                                      ("8BITMIME", "BINARYMIME")])
def test_next_hop_is_told_what_it_has_become(gateway, sink, keywords):
    sink.keywords = keywords
    gw = gateway()
    mark = " BODY=8BITMIME" if "8BITMIME" in keywords else ""
    for subject, words, told in (("seven", b"x", ""), ("eight", b"\xe4", mark)):
        text = message(subject, parts(
            leaf(words, "text/plain", field=b""), leaf(OCTETS)))
        assert say(gw, text, 10).startswith("250 ")
        got = sink.wait_subject(subject)
        assert leaves(got.text)[1][1] == OCTETS
        commands = [x for x in sink.commands if x.startswith("MAIL")]
        assert commands[-1].endswith(">" + told) or told and \
            told in commands[-1], commands
        assert "BINARYMIME" not in commands[-1]


def test_milters_see_lines(gateway, sink):
    milter = Milter()
    try:
        gw = gateway(smtpd_milters=milter.where,
                     milter_default_action="tempfail")
        milter.use({"eom": CONTINUE})
        text = message("seen", parts(leaf(TRAPS)))
        assert say(gw, text, 77).startswith("250 ")
        assert b"BODY=8BITMIME" in b" ".join(
            x if isinstance(x, bytes) else b" ".join(x)
            for x in milter.told("mail"))
        body = milter.last().body()
        assert is_text(body) and b"base64" in body
        assert sink.wait_subject("seen").body == body
    finally:
        milter.close()


@pytest.mark.parametrize("way", ["content_filter", "smtpd_proxy_filter"])
def test_filters_outside_see_lines(make, sink, way):
    """And they may give it back by BINARYMIME."""
    back = free_port()

    def come(verb, got):
        if verb != "DOT":
            return None
        with Client(back) as c:
            c.ehlo("filter.example")
            if got.field("Subject") == "lines":
                assert is_text(got.text)
                return c.message(got.sender, got.rcpts, got.text).text
            text = message("back", parts(leaf(leaves(got.text)[0][1])))
            c.send(b"XFORWARD NAME=far.example ADDR=192.0.2.9\r\n"
                   b"MAIL FROM:<a@client.example> BODY=BINARYMIME\r\n"
                   b"RCPT TO:<user@example.com>\r\n" + chunks(text, 9))
            return replies(c, 5)[-1].text

    outside = Sink(come)
    try:
        where = f"127.0.0.1:{outside.port}" if "proxy" in way else \
            f"smtp:[127.0.0.1]:{outside.port}"
        gw = make(sink, main={"smtpd_binarymime_enable": "yes", way: where},
                  start=False)
        gw.edit("master.cf", lambda t: t + f"""127.0.0.1:{back} inet n - n - - smtpd
  -o {way}=
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o smtpd_authorized_xforward_hosts=127.0.0.0/8
  -o mynetworks=127.0.0.0/8
""")
        gw.start()
        for subject in "lines", "forth":
            assert say(gw, message(subject, parts(leaf(TRAPS))), 50) \
                .startswith("250 ")
        for subject in "lines", "back":
            got = sink.wait_subject(subject)
            assert leaves(got.text)[0][1] == TRAPS
            assert is_text(got.text)
        gw.wait_log("client=far.example\\[192.0.2.9\\]|orig_client=far")
    finally:
        outside.close()


def test_for_one_service(make, sink):
    port = free_port()
    gw = make(sink, start=False)
    gw.edit("master.cf", lambda t: t + f"127.0.0.1:{port} inet n - n - - "
            "smtpd\n  -o smtpd_binarymime_enable=yes\n")
    gw.start()
    with gw.client() as c, Client(port) as other:
        assert "BINARYMIME" not in c.ehlo().text
        assert "BINARYMIME" in other.ehlo().text
