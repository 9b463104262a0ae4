"""attachment_checks in a gateway: stock rules, actions, old worms."""
import base64
import binascii
import email
import email.policy
import io
import zipfile
from email.message import EmailMessage

import pytest
from file_makers import (EXE, gz, nested_bomb, ole, packed, rar4, record,
                         tarred, tnef, zip_encrypted, zipped)
from postern import Instance, Sink, mail, wait_for

# -- a gateway ---------------------------------------------------------------


def message(*files, signed=False):
    m = EmailMessage(policy=email.policy.SMTP)
    m["From"], m["To"] = "a@client.example", "user@example.com"
    m["Subject"], m["Date"] = "files", "Mon, 1 Jan 2024 00:00:00 +0000"
    m["Message-ID"] = "<files@client.example>"
    m.set_content("the text\n")
    for name, data, kind in files:
        main, sub = kind.split("/")
        m.add_attachment(data, maintype=main, subtype=sub, filename=name)
    raw = m.as_bytes()
    if signed:
        raw = raw.replace(b"multipart/mixed", b"multipart/signed", 1)
    return raw


OCTETS = "application/octet-stream"


def der(tag, *parts):
    data = b"".join(parts)
    n = len(data)
    return bytes([tag, 0x84]) + n.to_bytes(4, "big") + data


def cms(data):
    """What is signed, up to where the signatures begin."""
    oid = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07"
    return der(0x30, der(6, oid + b"\x02"), der(0xa0, der(
        0x30, der(2, b"\1"), der(0x31), der(0x30, der(6, oid + b"\x01"),
                                           der(0xa0, der(4, data))))))


@pytest.fixture(scope="module")
def gateway():
    """With what `postern init` writes."""
    sink = Sink()
    gw = Instance(sink)
    yield gw
    sink.close()
    gw.destroy()


def send(gw, *files, **kw):
    with gw.client() as c:
        c.ehlo()
        r = c.message("a@client.example", "user@example.com",
                      message(*files, **kw))
        c.cmd("QUIT")
    return r


PDF = b"%PDF-1.7\n" + b"x" * 3000
OFFICE = ("[Content_Types].xml", b"<x/>")
MACRO = ole(("Workbook", 2, record(0x809, bytes(16)) +
             record(0x85, bytes(4) + b"\0\1" + b"\1\0a")))


@pytest.mark.parametrize("name, data, where", [
    ("invoice.pdf", EXE, "attachment"),
    ("photo.jpg.scr . ", b"text", "attachment"),
    ("a\u202etxt.doc", b"text", "attachment"),
    ("\uff41.\uff45\uff58\uff45", b"text", "attachment"),
    ("a.pdf" + " " * 100 + ".exe", b"text", "attachment"),
    ("a.exe\u200b", b"text", "attachment"),
    ("disk.bin", b"vhdxfile" + bytes(60), "attachment"),
    ("a.jpg", b"@echo off\r\n", "attachment"),
    ("a.docx", zipped(OFFICE, ("word/vbaProject.bin", b"x")), "attachment"),
    ("a.xls", MACRO, "attachment"),
    ("docs.zip", zipped(("evil.exe", EXE)), "member"),
    ("docs.zip", zipped(("in.zip", zipped(("a.js", b"x")))), "member"),
    ("docs.zip", zipped(("a.zip", zipped(("b.zip", zipped(("x.txt", EXE)))))),
     "member"),
    ("docs.tgz", tarred("w:gz", ("readme.txt", EXE)), "member"),
    ("src.tgz", tarred("w:gz", ("a/x.js", EXE)), "member"),
    ("src.tgz", tarred("w:gz", ("a/x.vbs", b"x")), "member"),
    ("a.rar", rar4(b"a.txt", EXE), "member"),
    ("a.txt", zipped(("evil.exe", EXE)), "member"),
    ("locked.zip", zip_encrypted("run.exe", EXE), "member"),
    ("winmail.dat", tnef((b"a.txt", b"x"), (b"run.txt", EXE)), "attachment"),
    ("winmail.dat", tnef((b"a.zip", zipped(("a.vbs", b"x")))), "member"),
    ("bomb.gz", gz(bytes(100 << 20)), "attachment"),
    ("bomb.zip", nested_bomb(), "attachment"),
])
def test_stock_rules_refuse(gateway, name, data, where):
    r = send(gateway, (name, data, OCTETS))
    assert r.code == 550, r
    gateway.expect_log(rf"reject: {where} ext=.*rule=\S+/attachment_checks:\d+")


@pytest.mark.parametrize("name, data", [
    ("a.zip", zipped(("x.js#.txt", b"x")).replace(b"x.js#", b"x.js\0")),
    ("a.zip", zipped(("x.js?", b"x"))), ("a.e*xe", b"text"),
    ("x.exe/", b"text"), ("Update.dmg", b"text"), ("a.iqy", b"WEB\r\n"),
    ("a.rar", b"1234567**ACE**" + bytes(60)),
    ("a.exe.p7m", cms(b"text")), ("a.txt.p7m", cms(EXE)),
    ("a.zip.p7m", cms(zipped(("x.js", b"x")))),
    ("a.svg", b"<svg xmlns='x'><script>x()</script></svg>"),
    ("a.slk", b"ID;P\r\nO;E\r\n"),
    ("a.zip", zipped(("b.zip", zipped(("x.js", b"x")))).replace(
        b"\x08\0", b"\x09\0")),
], ids=lambda v: repr(v)[:16])
def test_disguises(gateway, name, data):
    r = send(gateway, (name, data, OCTETS))
    assert r.code == 550, r


def test_signed_files_pass(gateway):
    r = send(gateway, ("a.pdf.p7m", cms(PDF), "application/pkcs7-mime"),
             ("a.xml.p7m", cms(b"<?xml version='1.0'?>\n<x/>\n"),
              "application/pkcs7-mime"),
             ("a.docx.p7m", cms(zipped(OFFICE, ("word/document.xml", b""))),
              OCTETS))
    assert r.code == 250, r


def test_uuencode(gateway):
    body = b"text\r\n\r\nbegin 644 run.bin\r\n" + b"".join(
        binascii.b2a_uu(EXE[i:i + 45]).rstrip(b"\n") + b"\r\n"
        for i in range(0, len(EXE), 45)) + b"`\r\nend\r\n"
    with gateway.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("uu", body)).code == 550
    gateway.expect_log(r"reject: attachment ext=bin magic=exe ")


def test_ordinary_mail_passes(gateway):
    seen = len(gateway.sink.messages)
    office = zipped(OFFICE, ("word/document.xml", b"<x/>"))
    r = send(gateway, ("a.docx", office, OCTETS), ("a.pdf", PDF, OCTETS),
             ("pdfs.zip", zipped(("1.pdf", PDF), ("2.pdf", PDF)), OCTETS),
             ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(500), "image/png"),
             ("a.ics", b"BEGIN:VCALENDAR\r\n", "text/calendar"),
             ("logs.tar.xz", packed("xz", tarred("w", (
                 "l/app.log", b"2026-11-21 line\n" * 100000))), OCTETS),
             ("src.tar.gz", tarred("w:gz", ("p/index.js", b"x"), (
                 "p/setup.py", b"#!/usr/bin/python3\n"),
                 ("p/gradlew.bat", b"@echo off\r\n")), OCTETS),
             ("report.final.pdf.zip", zipped(("a.pdf", PDF)), OCTETS),
             ("old.doc", ole(("WordDocument", 2, b"\xec\xa5" + bytes(30)),
                             ("Macros", 1, b"")), OCTETS),
             ("locked.zip", zip_encrypted("plan.pdf", PDF), OCTETS),
             ("page.html", b"<html>page</html>", "text/html"),
             ("backup.sh", b"#!/bin/sh\n", "text/x-sh"))
    assert r.code == 250, (r, gateway.log()[-2000:])
    gateway.sink.wait(seen + 1)
    assert not gateway.queued("hold")


# -- worms of old times ------------------------------------------------------


def parts(subject, *part, kind="mixed"):
    """Headers and content of each part, as the worm wrote them."""
    text = f"""From: a@client.example
To: user@example.com
Subject: {subject}
Date: Mon, 1 Jan 2024 00:00:00 +0000
MIME-Version: 1.0
Content-Type: multipart/{kind}; boundary="====_ABC123456j7890DEF_===="

"""
    for head, data in part:
        text += "--====_ABC123456j7890DEF_====\n" + head + "\n\n"
        text += data if isinstance(data, str) else \
            base64.encodebytes(data).decode()
        text += "\n"
    text += "--====_ABC123456j7890DEF_====--\n"
    return text.replace("\n", "\r\n").encode()


def attached(name, kind=OCTETS, more=""):
    return f"Content-Type: {kind}; name=\"{name}\"{more}\n" \
        "Content-Transfer-Encoding: base64\n" \
        f"Content-Disposition: attachment; filename=\"{name}\""


TEXT = ("Content-Type: text/plain", "hello")
WORMS = {
    "LoveLetter": parts("ILOVEYOU", TEXT, (
        attached("LOVE-LETTER-FOR-YOU.TXT.vbs"),
        b"rem  barok -loveletter(vbe) <i hate go to school>\r\n")),
    "Nimda": parts("desktopsamples", (
        "Content-Type: multipart/alternative; boundary=\"in\"",
        "--in\nContent-Type: text/html\n\n<HTML><BODY><iframe "
        "src=3Dcid:EA4DMGBP9p height=3D0></iframe></BODY></HTML>\n--in--"),
        ("Content-Type: audio/x-wav;\n\tname=\"readme.exe\"\n"
         "Content-Transfer-Encoding: base64\nContent-ID: <EA4DMGBP9p>",
         EXE), kind="related"),
    "W32.Vote": parts("Fwd:Peace BeTweeN AmeriCa And IsLaM !", TEXT, (
        attached("WTC.EXE"), EXE)),
    "Sircam": parts("Budget", TEXT, (attached(
        "Budget.xls.pif", "application/mixed"), EXE + b"\xd0\xcf\x11\xe0")),
    "Klez": parts("A special excite game", (
        "Content-Type: text/html", "<iframe src=cid:K width=0>"), (
        "Content-Type: audio/x-midi;\n\tname=setup.scr\n"
        "Content-Transfer-Encoding: base64\nContent-ID: <K>", EXE),
        kind="alternative"),
    "MyDoom": parts("Mail Delivery System", TEXT, (
        attached("document.zip"), zipped((
            "document.txt" + " " * 60 + ".scr", EXE)))),
    "Bagle": parts("Re: Msg reply", TEXT, (
        attached("Document.zip"), zip_encrypted("xkwqz.exe", EXE))),
    "Sobig": parts("Re: Details", TEXT, (attached("your_details.pif"), EXE)),
    "Kournikova": parts("Here you have, ;o)", TEXT, (
        attached("AnnaKournikova.jpg.vbs"), b"Execute e7iqom5JE4z")),
    "Netsky": parts("Re: Your document", TEXT, (
        attached("document_all02c.zip"), zipped((
            "document.doc                              .pif", EXE)))),
    "Locky": parts("Invoice", TEXT, (attached("invoice_4711.zip"), zipped((
        "invoice_4711.js", b"var a = 1;")))),
}


@pytest.mark.parametrize("worm", WORMS)
def test_worm(gateway, worm):
    with gateway.client() as c:
        c.ehlo()
        r = c.message("a@client.example", "user@example.com", WORMS[worm])
    assert r.code == 550, r


@pytest.fixture
def with_rules(make, sink):
    def made(text, **main):
        gw = make(sink, start=False, main=main)
        gw.write("attachment_checks", text)
        gw.start()
        return gw
    return made


def test_strip(with_rules):
    gw = with_rules("/ is=[^ ]*,executable,/ STRIP no programs\n")
    assert send(gw, ("a.txt", b"kept", OCTETS), ("run.bin", EXE, OCTETS),
                ("b.txt", b"kept too", OCTETS)).code == 250
    got = gw.sink.wait(1)[0]
    m = email.message_from_bytes(got.text, policy=email.policy.SMTP)
    assert not m.defects
    parts = list(m.iter_parts())
    assert [p.get_filename() for p in parts] == \
        [None, "a.txt", None, "b.txt"]
    note = parts[2]
    assert note.get_content_type() == "text/plain"
    assert "run.bin" in note.get_content()
    assert "no programs" in note.get_content()
    assert parts[3].get_content() == b"kept too"
    assert EXE not in b"".join(p.get_payload(decode=True) for p in parts)


def test_strip_of_a_signed_part_holds(with_rules):
    gw = with_rules("/ is=[^ ]*,executable,/ STRIP no programs\n")
    r = send(gw, ("run.bin", EXE, OCTETS), signed=True)
    assert r.code == 250
    assert gw.queued("hold") and gw.sink.messages == []


def test_rename(with_rules):
    gw = with_rules("/ ext=([^ ]*\\.)?bin / RENAME\n")
    assert send(gw, ("my run.bin", b"data", OCTETS)).code == 250
    m = email.message_from_bytes(gw.sink.wait(1)[0].text,
                                 policy=email.policy.SMTP)
    part = list(m.iter_parts())[1]
    assert part.get_filename() == "my_run.bin.blocked"
    assert part.get_payload(decode=True) == b"data"


def test_quarantine(with_rules):
    gw = with_rules("/ is=[^ ]*,executable,/ QUARANTINE a program\n")
    assert send(gw, ("run.bin", EXE, OCTETS)).code == 250
    queued = gw.queued("hold")
    assert len(queued) == 1 and gw.sink.messages == []
    gw.expect_log(r"hold: attachment ext=bin magic=exe .*: a program")
    out = gw.command("quarantine", "list").stdout
    assert "a program: attachment ext=bin magic=exe " in out
    assert f"{gw.etc}/attachment_checks:1" in out
    shown = gw.command("quarantine", "show",
                       out.splitlines()[0].split()[0]).stdout
    assert "name=run.bin" in shown


def test_strip_of_a_member_takes_the_attachment(with_rules):
    gw = with_rules("/^member .* is=[^ ]*,executable,/ STRIP\n")
    assert send(gw, ("a.zip", zipped(("x.exe", EXE)), OCTETS),
                ("b.txt", b"kept", OCTETS)).code == 250
    m = email.message_from_bytes(gw.sink.wait(1)[0].text,
                                 policy=email.policy.SMTP)
    names = [p.get_filename() for p in m.iter_parts()]
    assert names == [None, None, "b.txt"]


def at(hour, minute):
    """An archive of that time of day, and its member's time."""
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr(zipfile.ZipInfo("x.exe", (2026, 11, 22, hour, minute, 4)),
                   EXE)
    return b.getvalue()


def test_a_time_is_no_encoding(with_rules):
    """From 07:40 to 07:47 a member's time has a '=': what is not encoded was
    taken for quoted-printable, and could not be changed."""
    gw = with_rules("/^member .* is=[^ ]*,executable,/ STRIP\n")
    assert b"=" in at(7, 40)[:12] and b"=" not in at(12, 0)[:12]
    for time in (7, 40), (12, 0):
        assert send(gw, ("a.zip", at(*time), OCTETS)).code == 250
    assert len(gw.sink.wait(2)) == 2


def test_strip_of_winmail(with_rules):
    """A program in it takes all of it away."""
    gw = with_rules("/ is=[^ ]*,executable,/ STRIP no programs\n",
                    mime_ambiguity_checks="tnef ignore")
    assert send(gw, ("winmail.dat", tnef((b"a.txt", b"x"), (b"b.bin", EXE)),
                     "application/ms-tnef"),
                ("b.txt", b"kept", OCTETS)).code == 250
    m = email.message_from_bytes(gw.sink.wait(1)[0].text,
                                 policy=email.policy.SMTP)
    _, note, kept = m.iter_parts()
    assert note.get_content_type() == "text/plain"
    assert "b.bin" in note.get_content()
    assert kept.get_content() == b"kept"


def test_edits_in_a_message_in_base64_hold(with_rules):
    """Nothing can be changed in there."""
    gw = with_rules("/ is=[^ ]*,executable,/ STRIP no programs\n")
    r = send(gw, ("a.mht", message(("run.bin", EXE, OCTETS)), OCTETS))
    assert r.code == 250
    assert gw.queued("hold") and gw.sink.messages == []
    assert "cannot be changed here" in gw.command("quarantine",
                                                  "list").stdout


def test_strip_of_a_whole_message(with_rules):
    gw = with_rules("/ is=[^ ]*,executable,/ STRIP no programs\n")
    text = b"From: a@client.example\r\nSubject: x\r\nMIME-Version: 1.0\r\n" \
        b"Content-Type: application/octet-stream; name=x\r\n" \
        b"Content-Transfer-Encoding: base64\r\n\r\n" + \
        base64.encodebytes(EXE).replace(b"\n", b"\r\n")
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         text).code == 250
    m = email.message_from_bytes(gw.sink.wait(1)[0].text,
                                 policy=email.policy.SMTP)
    assert m.get_content_type() == "text/plain" and m["Subject"] == "x"
    assert "no programs" in m.get_content()
    assert base64.b64encode(EXE)[:40] not in m.as_bytes()


def test_limit_rule_may_hold(with_rules):
    gw = with_rules("/ is=[^ ]*,limit-/ QUARANTINE too much in it\n")
    assert send(gw, ("bomb.gz", gz(bytes(100 << 20)), OCTETS)).code == 250
    assert "limit-ratio" in gw.command("quarantine", "list").stdout


def test_one_bomb_is_only_its_own(gateway):
    """The process of one message ends with it; the filter goes on."""
    filters = gateway.pids("filter")
    for _ in range(5):
        assert send(gateway, ("b.zip", nested_bomb(), OCTETS)).code == 550
        assert send(gateway, ("a.zip", zipped(("a.txt", b"x")), OCTETS)
                    ).code == 250
    assert gateway.pids("filter") == filters
    wait_for("processes that scan to end",
             lambda: len(gateway.pids("scan-keeper")) == len(filters))


@pytest.fixture
def mortal():
    """Its processes may be killed."""
    sink = Sink()
    gw = Instance(sink)
    yield gw
    sink.close()
    gw.destroy(check=False)


def test_keeper_ends_with_its_filter(mortal):
    keepers = mortal.pids("scan-keeper")
    assert keepers and mortal.kill("filter")
    wait_for("its keeper to end and another to come", lambda: len(
        k := mortal.pids("scan-keeper")) == len(keepers) and k != keepers)
    assert send(mortal, ("a.zip", zipped(("a.exe", EXE)), OCTETS)).code == 550


def test_killed_keeper(mortal):
    """The filter cannot go on without it; another takes the message."""
    bad = ("a.zip", zipped(("a.exe", EXE)), OCTETS)
    assert mortal.kill("scan-keeper")
    assert send(mortal, bad).code in (550, 451)
    wait_for("a keeper for each filter", lambda: len(
        mortal.pids("scan-keeper")) == len(mortal.pids("filter")) > 0)
    assert send(mortal, bad).code == 550


def raw_mail(*parts):
    return (b"From: a@client.example\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: multipart/mixed; boundary=f\r\n\r\n" +
            b"".join(b"--f\r\n" + p + b"\r\n" for p in parts) + b"--f--\r\n")


def put(gw, text):
    with gw.client() as c:
        c.ehlo()
        return c.message("a@client.example", "user@example.com", text)


RENAMES = "/ ext=([^ ]*\\.)?bin / RENAME\n"
NAMED = (b"Content-Type: application/x-bin; name=run.bin\r\n"
         b"Content-Disposition: attachment; filename=run.bin\r\n")


@pytest.mark.parametrize("header", [
    NAMED,
    b"X-A: b\r\n\rX-B: c\r\n" + NAMED,
    b"\rX-B: c\r\n" + NAMED,
    b"no header\r\n" + NAMED,
    b"content-type : application/x-bin; name=run.bin\r\n"
    b"Content-Disposition\t: attachment; filename=run.bin\r\n",
    NAMED.replace(b"; ", b";\r\n\t") + b"X-C: d\r\n",
    NAMED + NAMED,
], ids=["plain", "stray-cr", "stray-cr-first", "other-line", "blank",
        "folded", "twice"])
def test_rename_leaves_no_old_name(with_rules, header):
    """Whatever stands around it in the header block."""
    gw = with_rules(RENAMES, mime_ambiguity="ignore",
                    smtpd_forbid_bare_newline="no")
    assert put(gw, raw_mail(header + b"\r\ndata")).code == 250
    got = gw.sink.wait(1)[0].text
    assert b"run.bin.blocked" in got
    block = got.split(b"--f\r\n", 1)[1].split(b"\r\n\r\n", 1)[0]
    for line in block.replace(b"\r\n\t", b" ").split(b"\r\n"):
        assert b":" in line or line == b"no header", block
        assert b"run.bin" not in line.replace(b"run.bin.blocked", b""), block
    m = email.message_from_bytes(got, policy=email.policy.SMTP)
    if b"no header" not in header:
        assert [p.get_filename() for p in m.iter_parts()] == [
            "run.bin.blocked"]


@pytest.mark.parametrize("header", [
    b"", b"Content-Type: application/octet-stream\r\n",
    b"Content-Disposition: attachment\r\n"], ids=["none", "type", "shown"])
def test_rename_of_what_has_no_name(with_rules, header):
    """Found by its content: it gets one."""
    gw = with_rules("/ is=[^ ]*,executable,/ RENAME\n",
                    mime_ambiguity="ignore")
    coded = base64.encodebytes(EXE).replace(b"\n", b"\r\n")
    text = raw_mail(header + b"Content-Transfer-Encoding: base64\r\n\r\n" +
                    coded)
    assert put(gw, text).code == 250
    m = email.message_from_bytes(gw.sink.wait(1)[0].text,
                                 policy=email.policy.SMTP)
    part, = m.iter_parts()
    assert part.get_content_type() == OCTETS
    assert part.get_filename().endswith(".blocked")
    assert part.get_payload(decode=True) == EXE


def test_strip_is_stronger_than_rename(with_rules):
    """A part with two names, one for each rule; and an archive."""
    gw = with_rules("/ ext=([^ ]*\\.)?doc / RENAME\n"
                    "/ ext=([^ ]*\\.)?dat / STRIP no programs\n",
                    mime_ambiguity="ignore")
    text = raw_mail(
        b"Content-Type: application/msword; name=a.doc\r\n"
        b"Content-Disposition: attachment; filename=b.dat\r\n\r\ndata",
        b"Content-Type: text/plain\r\n\r\nkept")
    assert put(gw, text).code == 250
    m = email.message_from_bytes(gw.sink.wait(1)[0].text,
                                 policy=email.policy.SMTP)
    note, kept = m.iter_parts()
    assert note.get_content_type() == "text/plain"
    assert "no programs" in note.get_content()
    assert kept.get_content() == "kept"
    assert b"data" not in m.as_bytes()


def test_names_make_no_headers(with_rules):
    gw = with_rules(RENAMES, mime_ambiguity="ignore")
    text = raw_mail(
        b"Content-Type: application/octet-stream\r\n"
        b"Content-Disposition: attachment; "
        b"filename*=utf-8''a%0d%0aX-Evil%3a%20%22%0d%0a%0d%0a--f.bin"
        b"\r\n\r\ndata")
    assert put(gw, text).code == 250
    got = gw.sink.wait(1)[0].text
    m = email.message_from_bytes(got, policy=email.policy.SMTP)
    part, = m.iter_parts()
    assert part["X-Evil"] is None and "X-Evil" in part.get_filename()
    assert part.get_filename().endswith(".bin.blocked")
    assert part.get_payload() == "data"


def test_more_parts_than_edits(with_rules):
    """Not one of them gets through because there are too many."""
    gw = with_rules("/ ext=([^ ]*\\.)?bin / STRIP\n", mime_ambiguity="ignore",
                    mime_part_limit="2000")
    assert put(gw, raw_mail(*[NAMED + b"\r\ndata"] * 1100)).code == 250
    assert len(gw.queued("hold")) == 1 and gw.sink.messages == []


def test_strip_in_an_attached_message(with_rules):
    gw = with_rules("/ ext=([^ ]*\\.)?bin / STRIP\n", mime_ambiguity="ignore")
    inner = raw_mail(NAMED + b"\r\ndata", b"\r\nkept")
    text = raw_mail(b"Content-Type: message/rfc822\r\n\r\n" +
                    inner.replace(b"=f", b"=g").replace(b"--f", b"--g"),
                    b"\r\nlast")
    assert put(gw, text).code == 250
    got = gw.sink.wait(1)[0].text
    m = email.message_from_bytes(got, policy=email.policy.SMTP)
    attached, last = m.iter_parts()
    note, kept = attached.get_payload(0).iter_parts()
    assert b"data" not in got and last.get_content() == "last"
    assert "removed" in note.get_content() and kept.get_content() == "kept"


@pytest.mark.parametrize("name", [
    "a.bin::$DATA", "a.bin:b.txt", "a:b.bin", "aa:b.bin", "a.txt:b.bin", "C:a.bin", "a:b:c.bin. "])
def test_names_with_colons(with_rules, name):
    """Streams for some, and '_' for others."""
    gw = with_rules(RENAMES, mime_ambiguity="ignore")
    text = raw_mail(b"Content-Type: application/octet-stream\r\n"
                    b"Content-Disposition: attachment; filename=\"" +
                    name.encode() + b"\"\r\n\r\ndata")
    assert put(gw, text).code == 250
    m = email.message_from_bytes(gw.sink.wait(1)[0].text,
                                 policy=email.policy.SMTP)
    part, = m.iter_parts()
    assert part.get_filename().endswith(".blocked")
    assert ":" not in part.get_filename()


@pytest.mark.parametrize("name", [
    "a.eml", "a.EML", "a.eml.", "a.eml . ", "a.e\u200bml", "a.\uff45ml",
    "a.eml::$DATA", "a.mht"])
def test_a_message_by_any_spelling_of_its_name(with_rules, name):
    gw = with_rules("/ ext=([^ ]*\\.)?bin / REJECT found\n",
                    mime_ambiguity="ignore")
    inner = base64.encodebytes(raw_mail(NAMED + b"\r\ndata"))
    coded = base64.b64encode(name.encode()).decode()
    text = raw_mail(f"Content-Type: application/octet-stream; "
                    f"name=\"=?utf-8?b?{coded}?=\"\r\n"
                    f"Content-Transfer-Encoding: base64\r\n\r\n".encode() +
                    inner.replace(b"\n", b"\r\n"))
    assert put(gw, text).text.endswith("found")
