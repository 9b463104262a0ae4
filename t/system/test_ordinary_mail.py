"""What `postern init` writes lets ordinary mail through, and unchanged; files
that go around MIME are refused.

The messages are t/mail/*.eml, with line ends of Unix: what mail programs,
servers and scripts send, correct or careless.
"""
import base64
import glob
import os
import re

import pytest
from file_makers import tnef
from postern import TOP, mail

MAIL = sorted(glob.glob(f"{TOP}/t/mail/*.eml"))


def test_ordinary_mail(gw, sink):
    assert len(MAIL) > 40
    sent = {}
    refused = []
    with gw.client() as c:
        c.ehlo()
        for path in MAIL:
            name = os.path.basename(path)
            with open(path, "rb") as f:
                text = f.read().replace(b"\n", b"\r\n")
            r = c.message(f"{name}@client.example", "user@example.com", text)
            if r.code != 250:
                refused.append(f"{name}: {r}")
            sent[f"{name}@client.example"] = text
    assert not refused, "\n".join(refused)
    for m in sink.wait(len(MAIL)):
        text = sent.pop(m.sender)
        # behind our own Received
        at = m.text.index(b"Received: from mail.client.example")
        # smtp_line_length_limit breaks lines
        assert m.text[at:].replace(b"\r\n ", b"") == \
            text.replace(b"\r\n ", b""), m.sender
    assert not sent
    odd = [line for line in gw.log().splitlines() if ": mime " in line]
    assert not odd, "\n".join(odd)


def winmail():
    return base64.encodebytes(tnef((b"a.txt", b"text"))).replace(
        b"\n", b"\r\n")


HIDDEN = {
    "tnef": ("application/ms-tnef; name=winmail.dat", "base64", winmail()),
    "uuencode": ("text/plain", "7bit",
                 b"begin 644 a.txt\r\n#0V%T\r\n`\r\nend\r\n"),
    "yenc": ("text/plain", "8bit", b"=ybegin line=128 size=3 name=a.txt\r\n"
             b"\x6d\x8b\x9e\r\n=yend size=3\r\n"),
}


@pytest.mark.parametrize("what", HIDDEN)
def test_around_mime(gw, what):
    kind, encoding, body = HIDDEN[what]
    with gw.client() as c:
        c.ehlo()
        r = c.message("a@client.example", "user@example.com", mail(
            "a file", body, MIME_Version="1.0", Content_Type=kind,
            Content_Transfer_Encoding=encoding))
    assert r.code == 550
    assert re.match(rf"550 5\.6\.1 message content is not accepted "
                    rf"\({what}\): ", r.text), r
    gw.wait_log(rf": reject: mime {what} ")
