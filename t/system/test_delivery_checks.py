"""Rules for a text while it is delivered: smtp_header_checks and the like,
of each transport its own."""
import re

import pytest
from postern import Instance, Sink, mail, mail_with, wait_for

NAMES = ("header", "mime_header", "nested_header", "body")
LINES = "".join(f"""
{name} unix - - n - - smtp
  -o syslog_name=postfix/$service_name""" + "".join(
    f"\n  -o smtp_{c}_checks=pcre:{name}_{c}" for c in NAMES) + "\n"
    for name in ("red", "blue"))

RED = {
    "header": "/^Subject: (.*)/ REPLACE Subject: [red] $1\n"
              "/^X-Secret:/ IGNORE\n"
              "/^X-Strip:/ STRIP not there\n"
              "/^From:/ PREPEND X-Red: yes\n"
              "/^To:/ INFO seen\n"
              "/^X-Warn:/ WARN odd\n",
    "mime_header": "/^(Content-Disposition:.*)loud/ REPLACE ${1}quiet\n",
    "nested_header": "/^X-Inner:/ IGNORE\n",
    "body": "/^password (.*)/ REPLACE password ***\n"
            "/^drop/ IGNORE\n/^mark/ PREPEND .here\n",
}
BLUE = dict.fromkeys(NAMES, "# none\n") | {
    "header": "/^Subject: (.*)/ REPLACE Subject: [blue] $1\n"}


@pytest.fixture
def made(request):
    sink, red, blue = Sink(), Sink(), Sink()
    gw = Instance(sink, main={
        "transport_maps": "inline:{ "
        "{red@example.com = red:[127.0.0.1]:%d}, "
        "{blue@example.com = blue:[127.0.0.1]:%d} }" % (red.port, blue.port),
        "minimal_backoff_time": "1s", "transport_retry_time": "1s",
        "queue_run_delay": "1s"}, start=False)
    gw.edit("master.cf", lambda t: t + LINES)
    for c in NAMES:
        gw.write("red_" + c, RED[c])
        gw.write("blue_" + c, BLUE[c])
    gw.start()
    yield gw, sink, red, blue
    try:
        gw.destroy()
    finally:
        for s in (sink, red, blue):
            s.close()


def send(gw, text, *users):
    with gw.client() as c:
        c.ehlo()
        r = c.message("a@client.example", [u + "@example.com" for u in users],
                      text)
        assert r.code == 250, r
    return r.text.rsplit(" ", 1)[1]


TEXT = mail("hello", b"first\r\npassword 1234\r\ndrop this\r\ndrop that\r\n"
            b"mark\r\n.dot\r\nlast\r\n",
            X_Secret="a\r\n\tb", X_Strip="s", X_Warn="w", X_Last="l")


def test_each_transport_has_its_own(made):
    gw, sink, red, blue = made
    qid = send(gw, TEXT, "user", "red", "blue")
    plain, r, b = (s.wait(1)[0].text for s in (sink, red, blue))
    trace, own = plain.split(b"From: ", 1)
    assert plain.endswith(TEXT[TEXT.index(b"Subject"):])
    assert b == plain.replace(b"Subject: ", b"Subject: [blue] ")
    assert r == trace + b"X-Red: yes\r\nFrom: " + own.replace(
        b"Subject: ", b"Subject: [red] ").replace(
        b"X-Secret: a\r\n\tb\r\nX-Strip: s\r\n", b"").replace(
        b"password 1234\r\ndrop this\r\ndrop that\r\nmark\r\n",
        b"password ***\r\n.here\r\nmark\r\n")
    rule = re.escape(gw.path("red_header"))
    for line in (
            rf"postfix/red/smtp\[\d+\]: {qid}: replace: header Subject: "
            rf"hello: Subject: \[red\] hello; rule={rule}:1$",
            rf"{qid}: prepend: header From: sender@client.example: X-Red: "
            rf"yes; rule={rule}:4$",
            rf"{qid}: strip: header X-Strip: s: not there; rule={rule}:3$",
            rf"{qid}: info: header To: user@example.com: seen; ",
            rf"{qid}: warning: header X-Warn: w: odd; ",
            rf"{qid}: replace: body password 1234: password \*\*\*; "):
        gw.wait_log("(?m)" + line)
    # IGNORE says nothing
    assert "X-Secret" not in gw.log()
    # the rules count
    wait_for("hits", lambda: re.search(
        rf"^ *1 .*{rule}:1\b", gw.command("rules", "-a").stdout, re.M) or
        re.search(r"^ *1 .*\[red\]", gw.command("rules", "-a").stdout, re.M))


def test_parts(made):
    """What stands in MIME parts, and in an attached message."""
    gw, sink, red, blue = made
    inner = (b"Subject: inner\r\nX-Inner: 1\r\nX-Secret: kept\r\n"
             b"Content-Disposition: loud\r\n\r\npassword 1\r\n")
    text = mail("parts", b"password 0\r\n--f\r\n"
                b"Content-Disposition: inline; loud\r\n\r\nbody\r\n--f\r\n"
                b"Content-Type: message/rfc822\r\n\r\n" + inner +
                b"--f--\r\npassword 2\r\n", MIME_Version="1.0",
                Content_Type="multipart/mixed; boundary=f")
    send(gw, text, "red")
    got = red.wait(1)[0].text
    want = text[text.index(b"Subject"):].replace(
        b"loud", b"quiet").replace(b"X-Inner: 1\r\n", b"").replace(
        b"Subject: parts", b"Subject: [red] parts")
    want = re.sub(rb"password \d", b"password ***", want)
    assert got.endswith(want)


def test_edits_upon_edits(made):
    """The filter changed the message first; the addresses are changed
    last."""
    gw, sink, red, blue = made
    gw.write("header_checks", "/^Subject:/ REPLACE Subject: by the filter\n"
             "/^To:/ PREPEND X-Secret: of the filter\n"
             "/^X-Two:/ PREPEND X-Strip: 3\n")
    gw.write("body_checks", "/^x$/ REPLACE password z\n")
    gw.set(header_checks="pcre:header_checks", body_checks="pcre:body_checks",
           smtp_generic_maps="inline:{ {sender@client.example = "
           "new@out.example} }")
    gw.write("red_body", "/^password/ REPLACE drop\n/^drop/ IGNORE\n")
    gw.write("red_header", RED["header"] +
             "/^X-Two:/ REPLACE Reply-To: sender@client.example\n")
    gw.command("reload")
    gw.wait_log("generation 2 is in service")
    send(gw, mail("x", b"x\r\ny\r\n", X_Two="2"), "red")
    got = red.wait(1)[0].text
    assert got.endswith(
        b"X-Red: yes\r\nFrom: new@out.example\r\nTo: user@example.com\r\n"
        b"Subject: [red] by the filter\r\nReply-To: new@out.example\r\n\r\n"
        b"drop\r\ny\r\n"), got


def test_mail_that_waits_gets_the_rules_of_the_day(made):
    gw, sink, red, blue = made
    red.on = lambda verb, arg: "451 4.3.0 later" if verb == "DOT" else None
    send(gw, TEXT, "red")
    gw.wait_log(r"to=<red@example.com>.*status=deferred")
    gw.write("red_header", "/^Subject: (.*)/ REPLACE Subject: $1 again\n")
    gw.wait_log("generation 2 is in service")
    red.on = lambda verb, arg: None
    gw.command("flush", check=False)
    got = red.wait(1)[0].text
    assert b"Subject: hello again\r\n" in got and b"X-Secret: a" in got
    assert b"X-Red" not in got


def test_broken_file_changes_nothing(made):
    gw, sink, red, blue = made
    gw.expect_log("red_header|relay|smtp|generation|cannot be used")
    for n, bad in enumerate((
            "/x/ REJECT no\n", "/x/ 550 no\n", "/x/ HOLD\n",
            "/x/ DISCARD\n", "/x/ FILTER smtp:[127.0.0.1]\n",
            "/x/ BCC a@b.example\n", "/x/ REDIRECT a@b.example\n",
            "/x/ PASS\n", "/(x/ IGNORE\n", "/x/ REPLACE\n")):
        gw.write("red_header", "# first\n" + bad)
        if n == 0:
            gw.wait_log(re.escape(gw.path("red_header")) + ":2: ")
        assert gw.path("red_header") + ":2: " in gw.command(
            "check", check=False).stderr
        if n == 0:
            send(gw, TEXT, "red")
            assert b"[red] hello" in red.wait(1)[0].text
    gw.write("red_header", "/^Subject: (.*)/ REPLACE Subject: mended\n")
    gw.wait_log(r"generation \d+ is in service")
    send(gw, TEXT, "red")
    assert b"Subject: mended\r\n" in red.wait(2)[1].text


def test_a_table_behind_a_connection_is_refused(made):
    gw, sink, red, blue = made
    gw.expect_log("smtp_header_checks")     # it may read the file, too
    gw.set(smtp_header_checks="tcp:127.0.0.1:1")
    p = gw.command("check", check=False)
    assert p.returncode != 0
    assert "smtp_header_checks" in p.stderr and "connection" in p.stderr
    gw.set(smtp_header_checks="")


def test_large_texts_side_by_side(made):
    """Some megabytes each, in many turns of the loop; small mail passes."""
    gw, sink, red, blue = made
    line = b"x" * 70 + b"\r\n"
    body = (line * 1000 + b"drop\r\npassword 1\r\n") * 60
    want = (line * 1000 + b"password ***\r\n") * 60
    for n in range(4):
        send(gw, mail(f"big {n}", body), "red", "blue")
    send(gw, mail("small"), "red")
    for m in red.wait(5):
        if b"[red] big" in m.text:
            assert m.text.split(b"\r\n\r\n", 1)[1] == want
    for m in blue.wait(4):
        assert m.text.split(b"\r\n\r\n", 1)[1] == body


def test_too_many_changes_wait(made):
    """Beyond what is kept in memory the message stays in the queue."""
    gw, sink, red, blue = made
    gw.expect_log("too many changes|more than 1000 matches")
    send(gw, mail("many", b"password 1\r\nx\r\n" * 70000), "red")
    gw.wait_log(r"to=<red@example.com>.*dsn=4.3.0.*status=deferred \("
                "content rules failed: too many changes by rules")
    # those that are dropped in one go are one change
    send(gw, mail("few", b"drop\r\n" * 70000 + b"end\r\n"), "red")
    assert red.wait(1)[0].text.endswith(b"\r\n\r\nend\r\n")


def test_text_of_the_sender_makes_no_header(made):
    """$1 may hold line ends of a folded header."""
    gw, sink, red, blue = made
    gw.write("red_header", "/^X-Fold: (.*)/ REPLACE X-New: $1\n")
    gw.wait_log("generation 2 is in service")
    send(gw, mail("x", X_Fold="a\r\n Bcc: b\r\n\tc"), "red")
    assert b"X-New: a\r\n Bcc: b\r\n\tc\r\n\r\n" in red.wait(1)[0].text


def test_attachment_name(made):
    gw, sink, red, blue = made
    gw.write("red_mime_header",
             "/^(Content-Type:.*)name=\"[^\"]*\"(.*)/ "
             "REPLACE ${1}name=\"x.txt\"$2\n")
    gw.wait_log("generation 2 is in service")
    send(gw, mail_with("report.dat"), "red")
    got = red.wait(1)[0].text
    assert b'\tname="x.txt"' in got and b'filename="report.dat"' in got
