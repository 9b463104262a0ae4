"""The main job: a message goes through, a worm does not."""
import os
import re
import shutil
import subprocess
import tempfile

import pytest
from postern import TOP, free_port, mail, mail_with, wait_for

need_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


class Inside:
    """A real mail server from t/peers, with one mailbox."""

    def __init__(self, name, inbox, settings="", env=None, setup=None):
        self.script = f"{TOP}/t/peers/{name}"
        self.dir = tempfile.mkdtemp(prefix=f"postern-{name}-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.inbox = os.path.join(self.dir, inbox)
        self.port = free_port()
        if setup:
            setup(self.dir)
        subprocess.run([self.script, "start", self.dir, str(self.port)],
                       check=True, input=settings.encode(), timeout=60,
                       env={**os.environ, **(env or {})})
        wait_for(f"{name} to listen", self.listens, 20)

    def listens(self):
        import socket
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def mailbox(self):
        try:
            with open(self.inbox, "rb") as f:
                return f.read()
        except FileNotFoundError:
            return b""

    def wait_text(self, needle):
        wait_for(f"{needle!r} in {self.inbox}",
                 lambda: needle in self.mailbox(), 20)
        return self.mailbox()

    def stop(self):
        subprocess.run([self.script, "stop", self.dir], check=False,
                       timeout=60)
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture(scope="module", params=["postfix", "exim"])
def inside(request):
    if os.getuid() != 0:
        pytest.skip("needs root")
    if request.param == "postfix" and not shutil.which("postfix"):
        pytest.skip("Postfix is not installed")
    if request.param == "exim" and \
            not os.path.isdir(f"{TOP}/build/peers/exim"):
        pytest.skip("Exim is not unpacked")
    server = Inside(request.param, {"postfix": "mail/inbox",
                                    "exim": "var/mail/inbox"}[request.param])
    yield server
    server.stop()


def test_through_to_a_real_server(make, inside):
    gw = make(relay=f"127.0.0.1:{inside.port}")
    body = b"".join(b"line %d\r\n" % i for i in range(200)) + \
        b".leading dot\r\n..two\r\n" + b"x" * 990 + b"\r\nlast\r\n"
    with gw.client() as c:
        assert c.ehlo().code == 250
        r = c.message("a@client.example", "user@example.com",
                      mail("a clean message", body))
        assert re.match(r"250 2\.0\.0 Ok: queued as [0-9A-F]+$", r.text), r
        assert c.cmd("QUIT").code == 221
    box = inside.wait_text(b"\nlast\n")
    assert b"Subject: a clean message\n" in box
    assert body.replace(b"\r\n", b"\n") in box
    assert box.count(b"Subject: a clean message\n") == 1
    assert re.search(rb"(?i)return-path: <a@client\.example>", box)


def test_large_message_arrives_whole(make, inside):
    gw = make(relay=f"127.0.0.1:{inside.port}")
    body = b"".join(b"%07d " % i + b"x" * 62 + b"\r\n" for i in range(40000))
    with gw.client() as c:
        c.ehlo()
        r = c.message("a@client.example", "user@example.com",
                      mail("large", body))
        assert r.code == 250, r
    box = inside.wait_text(b"0039999 " + b"x" * 62)
    assert body.replace(b"\r\n", b"\n") in box


def test_log_of_a_message(gw, sink):
    """The lines that log tools for Postfix look for."""
    with gw.client() as c:
        c.ehlo("client.example")
        r = c.message("a@client.example", "user@example.com", mail("logged"))
        assert r.code == 250, r
        c.cmd("QUIT")
    qid = r.text.rsplit(" ", 1)[1]
    when = r"^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ "
    gw.wait_log(when + r"postern/smtpd\[\d+\]: connect from "
                r"unknown\[127\.0\.0\.1\]")
    gw.wait_log(r"postern/smtpd\[\d+\]: " + qid +
                r": client=unknown\[127\.0\.0\.1\]")
    gw.wait_log(r"postern/qmgr\[\d+\]: " + qid +
                r": from=<a@client\.example>, size=\d+, nrcpt=1 ")
    gw.wait_log(r"postern/(smtp|relay)\[\d+\]: " + qid +
                r": to=<user@example\.com>, relay=127\.0\.0\.1\[127\.0\.0\.1\]"
                r":\d+, .*delay=[\d.]+, delays=[\d./]+, .*dsn=2\.0\.0, "
                r"status=sent \(250 2\.0\.0 Ok: taken\)")
    gw.wait_log(r"postern/qmgr\[\d+\]: " + qid + r": removed")
    gw.wait_log(r"disconnect from unknown\[127\.0\.0\.1\] ehlo=1 mail=1 "
                r"rcpt=1 data=1 quit=1 commands=5")
    wait_for("an empty spool", lambda: not gw.queued())


def test_received_header(gw, sink):
    with gw.client() as c:
        c.ehlo("client.example")
        c.message("a@client.example", "user@example.com", mail("traced"))
    m = sink.wait_subject("traced")
    assert m.sender == "a@client.example"
    assert m.rcpts == ["user@example.com"]
    assert re.match(
        rb"Received: from client\.example \(unknown \[127\.0\.0\.1\]\)\r\n"
        rb"\s+by gw\.example\.com \(Postern\) with ESMTP id [0-9A-F]+\r\n"
        rb"\s+for <user@example\.com>; \w{3}, \d{2} \w{3} \d{4} "
        rb"\d\d:\d\d:\d\d [-+]\d{4} \(\w+\)\r\nFrom: ", m.text), m.text


def test_text_is_not_changed(gw, sink):
    text = mail("as it was", b"\r\n \r\n\t\r\n.\r\n..\r\nend \xc3\xa9\xff\r\n")
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         text).code == 250
    m = sink.wait_subject("as it was")
    assert m.text.endswith(text)


@pytest.mark.parametrize("subject", ["ILOVEYOU", "ILOVEYOU!!"])
def test_loveletter_is_refused(gw, sink, subject):
    with gw.client() as c:
        c.ehlo()
        r = c.message("worm@client.example", "user@example.com",
                      mail(subject))
        assert r.code == 550, r
        assert re.match(r"550 5\.7\.\d ", r.text), r
        # the session goes on
        r = c.message("a@client.example", "user@example.com", mail("after"))
        assert r.code == 250, r
    sink.wait_subject("after")
    assert len(sink.messages) == 1
    m = gw.wait_log(r": [0-9A-F]+: reject: header Subject: " + subject +
                    r" from unknown\[127\.0\.0\.1\]; from=<worm@client\."
                    r"example> to=<user@example\.com> proto=ESMTP .*")
    assert re.search(r"/\S+:\d+", m.group(0)), \
        "the line does not name the rule's file and line"
    wait_for("an empty spool", lambda: not gw.queued())


@pytest.mark.parametrize("name", ["invoice.pdf.exe", "LOVE-LETTER.TXT.vbs",
                                  "game.scr", "x.pif"])
def test_attachment_is_refused(gw, sink, name):
    with gw.client() as c:
        c.ehlo()
        r = c.message("worm@client.example", "user@example.com",
                      mail_with(name))
        assert r.code == 550, r
    gw.wait_log(r": reject: (header|body) .*" + re.escape(name))
    assert not sink.messages


def test_harmless_attachment_passes(gw, sink):
    with gw.client() as c:
        c.ehlo()
        r = c.message("a@client.example", "user@example.com",
                      mail_with("invoice.pdf"))
        assert r.code == 250, r
    assert b'filename="invoice.pdf"' in sink.wait(1)[0].text


def test_article_body_check(make, sink):
    """A body_checks rule sees the headers of MIME parts."""
    gw = make(sink, main={"body_checks": "regexp:attachments"}, start=False)
    gw.write("attachments", r'/^(.*)name="(.*)\.(exe|lnk|scr|pif)"$/ '
             "550 No executables, please\n")
    gw.start()
    with gw.client() as c:
        c.ehlo()
        r = c.message("a@client.example", "user@example.com",
                      mail_with("evil.exe"))
        assert r.code == 550 and "No executables, please" in r.text, r
        r = c.message("a@client.example", "user@example.com",
                      mail_with("good.txt"))
        assert r.code == 250, r


def test_actions_reach_the_text(make, sink):
    gw = make(sink, main={"header_checks": "regexp:hc"}, start=False)
    gw.write("hc", "/^X-Secret:/ IGNORE\n"
             "/^X-Old: (.*)/ REPLACE X-New: $1\n"
             "/^X-Mark:/ PREPEND X-Before: yes\n"
             "/^Subject: send elsewhere/ REDIRECT other@example.com\n"
             "/^Subject: drop/ DISCARD\n"
             "/^Subject: later/ 451 4.7.1 Try again\n"
             "/^Subject: keep/ HOLD on purpose\n")
    gw.start()
    with gw.client() as c:
        c.ehlo()
        for subject in ("edited", "send elsewhere", "drop it", "keep it"):
            r = c.message("a@client.example", "user@example.com",
                          mail(subject, X_Secret="1", X_Old="v", X_Mark="m"))
            assert r.code == 250, (subject, r)
        r = c.message("a@client.example", "user@example.com",
                      mail("later"))
        assert r.text == "451 4.7.1 Try again", r
    m = sink.wait_subject("edited")
    assert b"X-Secret" not in m.text
    assert b"\r\nX-New: v\r\n" in m.text and b"X-Old" not in m.text
    assert b"\r\nX-Before: yes\r\nX-Mark: m\r\n" in m.text
    assert sink.wait_subject("send elsewhere").rcpts == ["other@example.com"]
    gw.wait_log(r": discard: header Subject: drop it")
    gw.wait_log(r": hold: header Subject: keep it")
    wait_for("a file in hold", lambda: len(gw.queued("hold")) == 1)
    assert not sink.find("drop it") and not sink.find("keep it")


def test_no_open_relay(make, sink):
    gw = make(sink, main={"mynetworks": "192.0.2.1"})
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<a@client.example>").code == 250
        r = c.cmd("RCPT TO:<user@elsewhere.example>")
        assert re.match(r"[45]54 [45]\.7\.1 <user@elsewhere\.example>: "
                        r"Relay access denied$", r.text), r
        assert c.cmd("RCPT TO:<user@example.com>").code == 250
    gw.wait_log(r"NOQUEUE: reject: RCPT from unknown\[127\.0\.0\.1\]: "
                r"[45]54 [45]\.7\.1 <user@elsewhere\.example>: Relay access "
                r"denied; from=<a@client\.example> to=<user@elsewhere\."
                r"example> proto=ESMTP helo=<client\.example>")


def test_own_networks_may_relay(make, sink):
    gw = make(sink, main={"mynetworks": "127.0.0.0/8",
                          "relayhost": f"[127.0.0.1]:{sink.port}"})
    with gw.client() as c:
        c.ehlo()
        r = c.message("a@example.com", "user@elsewhere.example", mail("out"))
        assert r.code == 250, r
    assert sink.wait_subject("out").rcpts == ["user@elsewhere.example"]
