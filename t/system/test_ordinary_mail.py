"""What `postern init` writes lets ordinary mail through, and unchanged.

The messages are t/mail/*.eml, with line ends of Unix: what mail programs,
servers and scripts send, correct or careless.
"""
import glob
import os

from postern import TOP

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
