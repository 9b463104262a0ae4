"""Rules for decoded text in a gateway: hot, and in explain and replay."""
import base64
import re

import pytest
from postern import mail, wait_for


def coded(text, subject="hello"):
    return mail(subject, base64.encodebytes(text).replace(b"\n", b"\r\n"),
                MIME_Version="1.0",
                Content_Type="text/html; charset=iso-8859-1",
                Content_Transfer_Encoding="base64")


def send(gw, text):
    with gw.client() as c:
        c.ehlo()
        return c.message("a@client.example", "user@example.com", text)


@pytest.fixture
def decoding(make, sink):
    gw = make(sink, start=False)
    gw.write("decoded", "/^na\u00efve word/ REJECT no such words\n")
    gw.write("shown", "/^Subject: .*na\u00efve/ REJECT no such subject\n")
    gw.set(decoded_body_checks="pcre:$config_directory/decoded",
           decoded_header_checks="pcre:$config_directory/shown")
    return gw


def test_rules_are_hot(decoding, sink):
    gw = decoding
    gw.start()
    text = coded(b"<p>na<b>\xefv</b>e&#32;word</p>")
    r = send(gw, text)
    assert r.code == 550 and "5.7.1 no such words" in r.text, r
    gw.wait_log(r"cleanup\[\d+\]: \w+: reject: body na.*ve word from "
                r"unknown\[127\.0\.0\.1\]; from=<a@client\.example> "
                r"to=<user@example\.com> proto=ESMTP helo=<client\.example>: "
                rf"5\.7\.1 no such words; rule={re.escape(gw.etc)}/decoded:1")
    r = send(gw, mail("=?iso-8859-1?q?na=EFve?="))
    assert r.code == 550 and "5.7.1 no such subject" in r.text, r
    gw.wait_log(r"reject: header Subject: na.*ve from ")
    # a rule that is not one: the old ones stay
    gw.write("decoded", "/other/ REPLACE x\n")
    gw.wait_log(r"decoded:1: decoded text cannot be changed")
    gw.wait_log(r"reload failed: .*keeping generation")
    gw.expect_log(r"decoded:1: decoded text cannot be changed|"
                  r"content rules cannot be used|reload failed: ")
    assert send(gw, text).code == 550
    gw.write("decoded", "/other/ REJECT other words\n")
    wait_for("the new rules", lambda: send(gw, text).code == 250)
    r = send(gw, coded(b"an <i>oth</i>er"))
    assert r.code == 550 and "5.7.1 other words" in r.text, r


def test_explain_and_replay(decoding, tmp_path):
    gw = decoding
    message = tmp_path / "mails" / "m"
    message.parent.mkdir()
    message.write_bytes(coded(b"<p>na\xefve&nbsp;word</p>"))
    told = gw.command("explain", "--client", "192.0.2.1", "--from",
                      "a@b.example", "--to",
                      "user@example.com", "--message",
                      str(message)).stdout
    assert "looked at: decoded_header_checks = pcre:" in told
    assert "looked at: decoded_body_checks = pcre:" in told
    assert f"message: REJECT; rule={gw.etc}/decoded:1" in told
    assert told.splitlines()[-1].startswith("550 5.7.1 no such words")
    message.write_bytes(b"Return-Path: <a@b.example>\r\nDelivered-To: "
                        b"user@example.com\r\n" + message.read_bytes())
    said = gw.command("replay", str(message.parent)).stdout
    assert said.startswith("m: 550 5.7.1 no such words"), said
    assert f"; rule={gw.etc}/decoded:1\n" in said
    # a condition, too
    message.write_bytes(b"Return-Path: <a@b.example>\r\nDelivered-To: "
                        b"user@example.com\r\n" + mail(
                            "x", b"begin 644 a\r\n#0V%T\r\n`\r\nend\r\n"))
    said = gw.command("replay", str(message.parent)).stdout
    assert said.startswith("m: 550 5.6.1 message content is not accepted "
                           "(uuencode): "), said
    assert said.splitlines()[0].endswith("; rule=main.cf")


def test_a_mistake_is_found(decoding):
    gw = decoding
    for rule in ("IGNORE", "REPLACE x", "STRIP", "PREPEND x"):
        gw.write("decoded", f"/x/ {rule}\n")
        p = gw.command("check", check=False)
        assert p.returncode != 0
        assert f"{gw.etc}/decoded:1: decoded text cannot be changed" in p.stderr
