"""Attachments: what the scanner sees in files, and what rules do about it.

The files are made here, by Python or by the packers of the system."""
import bz2
import email
import email.policy
import gzip
import lzma
import os
import struct
import subprocess
import zipfile
from email.message import EmailMessage

import pytest
from file_makers import (EXE, lha, lzma_alone, nested_bomb, ole, rar4, rar5,
                         record, seven_zip_with_dictionary, tarred, zip64,
                         zip_of_one_kernel, zipped)
from postern import BUILD, SAN


class Seen:
    def __init__(self, lines):
        self.members = []
        for line in lines:
            what, rest = line.split(" ", 1)
            f = dict(x.split("=", 1) for x in rest.split(" ", 4) if "=" in x)
            if what == "cost":
                self.rss_kb = int(f["rss_kb"])
                self.cpu_us = int(f["cpu_us"])
                continue
            f["is"] = set(f["is"].strip(",").split(",")) - {""}
            if what == "member":
                self.members.append(f)
            else:
                self.file = f

    def member(self, name):
        found = [m for m in self.members if m["name"] == name]
        assert found, f"no {name} in {self.members}"
        return found[0]


@pytest.fixture
def scan(tmp_path):
    def run(data, name="file", depth=5, members=2000, size=32 << 20,
            ratio=200, ms=50 if not SAN else 5000, memory=32 << 20):
        path = tmp_path / name
        path.write_bytes(data)
        r = subprocess.run(
            [BUILD + "/t/tools/scanshow", str(depth), str(members),
             str(size), str(ratio), str(ms), str(memory), name], capture_output=True,
            cwd=tmp_path, timeout=60)
        assert r.returncode == 0, r.stderr
        return Seen(r.stdout.decode("utf-8", "replace").splitlines())
    return run


@pytest.mark.parametrize("data, magic, group", [
    (EXE, "exe", "executable"),
    (b"\x7fELF\2\1\1" + bytes(60), "elf", "executable"),
    (b"\xcf\xfa\xed\xfe" + bytes(60), "mach-o", "executable"),
    (b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(60), "java-class", "executable"),
    (b"ITSF\3\0\0\0" + bytes(60), "chm", "executable"),
    (b"#!/bin/sh\necho\n", "script", "script"),
    (b"@echo off\r\ndel *\r\n", "batch", "script"),
    (b"rem  barok -loveletter(vbe)\r\n", "vbs", "script"),
    (b"L\0\0\0\1\x14\2\0\0\0\0\0\xc0\0\0\0\0\0\0\x46" + bytes(60), "lnk",
     "shortcut"),
    (b"[InternetShortcut]\r\nURL=http://x/\r\n", "url", "shortcut"),
    (b"vhdxfile" + bytes(60), "vhdx", "disk-image"),
    (b"%PDF-1.7\n1 0 obj <</S /JavaScript>>", "pdf", "pdf-javascript"),
    (b"%PDF-1.7\n1 0 obj <</S /Launch>>", "pdf", "pdf-launch"),
    (b"%PDF-1.7\n1 0 obj <</Type /EmbeddedFile>>", "pdf", "pdf-file"),
    (b"{\\rtf1 {\\object\\objdata 0105}}", "rtf", "embedded"),
    (b"<html><script>URL.createObjectURL(b)</script>", "html",
     "html-smuggling"),
])
def test_kinds(scan, data, magic, group):
    f = scan(data).file
    assert f["magic"] == magic
    assert group in f["is"]


@pytest.mark.parametrize("data, magic", [
    (b"MZ is how this letter begins, and it goes on.\r\n" * 3, "text"),
    (b"%PDF-1.7\nplain", "pdf"),
    (b"\x89PNG\r\n\x1a\n" + bytes(60), "png"),
    (b"BEGIN:VCALENDAR\r\n", "calendar"),
    (b"", "empty"),
])
def test_ordinary_kinds(scan, data, magic):
    f = scan(data).file
    assert (f["magic"], f["is"]) == (magic, set())


@pytest.mark.parametrize("make", [
    lambda f: zipped(f), lambda f: zipped(f, method=zipfile.ZIP_STORED),
    lambda f: tarred("w", f), lambda f: tarred("w:gz", f),
    lambda f: tarred("w:bz2", f), lambda f: tarred("w:xz", f),
    lambda f: b"junk in front" * 9 + zipped(f),
    lambda f: zipped(("in.zip", zipped(("in.tgz", tarred("w:gz", f))))),
])
def test_members(scan, make):
    m = scan(make(("sub/evil.exe", EXE))).member("sub/evil.exe")
    assert m["magic"] == "exe" and "executable" in m["is"]


def test_path_of_a_member(scan):
    s = scan(zipped(("b.zip", zipped(("c.js", b"alert(1)")))), "a.zip")
    assert s.member("c.js")["in"] == "a.zip!b.zip"
    assert s.member("b.zip")["in"] == "a.zip"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_one_file(scan, pack):
    assert scan(pack(EXE), "evil.exe.z").member("evil.exe")["magic"] == "exe"


@pytest.mark.parametrize("args, name, found", [
    (["-t7z"], "a.7z", set()),
    (["-t7z", "-psecret"], "a.7z", {"encrypted"}),
    (["-t7z", "-psecret", "-mhe=on"], "a.7z", {"encrypted"}),
    (["-tzip", "-psecret"], "a.zip", {"encrypted"}),
    (["-tzip", "-mm=Deflate64"], "a.zip", {"unreadable"}),
    (["-tzip", "-mm=LZMA"], "a.zip", set()),
])
def test_packed_by_7z(scan, tmp_path, args, name, found):
    (tmp_path / "evil.exe").write_bytes(EXE)
    subprocess.run(["7z", "a", "-bd", *args, name, "evil.exe"], check=True,
                   cwd=tmp_path, stdout=subprocess.DEVNULL, timeout=60)
    s = scan((tmp_path / name).read_bytes(), name)
    assert s.file["is"] == {"archive"} | found
    if "-mhe=on" in args:
        assert s.members == []
    else:
        assert any("executable" in m["is"] for m in s.members
                   if m["name"] == "evil.exe") == (not found)


def test_disk_image(scan, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/Evil Program.exe").write_bytes(EXE)
    subprocess.run(["genisoimage", "-quiet", "-J", "-R", "-o", "a.iso", "d"],
                   check=True, cwd=tmp_path, timeout=60,
                   stderr=subprocess.DEVNULL)
    s = scan((tmp_path / "a.iso").read_bytes(), "a.pdf")
    assert "disk-image" in s.file["is"]
    assert s.member("Evil Program.exe")["magic"] == "exe"


def test_two_names(scan):
    z = bytearray(zipped(("evil.exe", EXE)))
    at = z.find(b"evil.exe")
    z[at:at + 8] = b"okay.txt"
    s = scan(bytes(z))
    assert "names-differ" in s.file["is"]
    assert s.member("evil.exe") and s.member("okay.txt")


def test_member_without_entry(scan):
    hidden = zipped(("x.js", b"alert(1)"))
    s = scan(hidden[:-22 - 46 - 4] + zipped(("b.txt", b"b")))
    assert "names-differ" in s.file["is"]
    assert s.member("x.js") and s.member("b.txt")


def test_damaged(scan):
    s = scan(zipped(("evil.exe", EXE))[:-30])
    assert "damaged" in s.file["is"]
    assert s.member("evil.exe")["magic"] == "exe"
    assert "damaged" in scan(tarred("w:gz", ("a", b"a" * 9999))[:40]
                             ).file["is"]
    assert "damaged" in scan(b"Rar!\x1a\x07\x00" + b"x" * 200).file["is"]


def test_zip_in_zip_is_no_deceit(scan):
    inner = zipped(("a.txt", b"text"))
    for method in zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED:
        s = scan(zipped(("1.zip", inner), ("2.zip", inner), method=method))
        assert s.file["is"] == {"archive"}
        assert [m["name"] for m in s.members] == \
            ["a.txt", "1.zip", "a.txt", "2.zip"]


def test_office(scan):
    rels = (b'<Relationship Type="http://x/attachedTemplate" '
            b'Target="http://evil/" TargetMode="External"/>')
    types = ("[Content_Types].xml", b"<Types/>")
    s = scan(zipped(types, ("word/document.xml", b"<x/>")))
    assert (s.file["magic"], s.file["is"]) == ("docx", {"archive"})
    s = scan(zipped(types, ("xl/vbaProject.bin", b"x"),
                    ("xl/activeX/activeX1.xml", b"x"),
                    ("xl/embeddings/oleObject1.bin", b"x"),
                    ("xl/_rels/settings.xml.rels", rels)))
    assert s.file["magic"] == "xlsx"
    assert s.file["is"] >= {"macro", "activex", "embedded",
                            "external-template"}


def test_compound_files(scan):
    s = scan(ole(("WordDocument", 2, b"x" * 100)))
    assert (s.file["magic"], s.file["is"]) == ("doc", set())
    s = scan(ole(("WordDocument", 2, b"x"), ("Macros", 1, b""),
                 ("VBA", 1, b"")))
    assert s.file["is"] == {"macro"}
    s = scan(ole(("EncryptedPackage", 2, b"x")))
    assert s.file["is"] == {"encrypted"}
    s = scan(ole(("x", 2, b"x"), clsid=bytes.fromhex(
        "84100c0000000000c000000000000046")))
    assert s.file["magic"] == "msi" and "executable" in s.file["is"]
    native = struct.pack("<IH", 999, 2) + b"run.vbs\0C:\\run.vbs\0" + \
        bytes(8) + b"C:\\t\\run.vbs\0" + struct.pack("<I", 3) + b"abc"
    s = scan(ole(("WordDocument", 2, b"x"), ("\1Ole10Native", 2, native)))
    assert "embedded" in s.file["is"]
    assert s.member("run.vbs")
    s = scan(ole(("Package", 2, zipped(("evil.exe", EXE)))))
    assert s.member("evil.exe")["magic"] == "exe"
    # a directory whose chain is a circle ends
    d = bytearray(ole(("a", 2, b"x")))
    d[512 + 8:512 + 12] = struct.pack("<I", 2)
    assert "limit-members" in scan(bytes(d)).file["is"]
    # and so does one of sectors that are cut short
    d = d[:512 * 3 + 13]
    s = scan(bytes(d))
    assert "limit-members" in s.file["is"]


A = b"A" * (100 << 20)
LIMITS = {"limit-bytes", "limit-ratio", "limit-time", "limit-memory"}


@pytest.mark.parametrize("name, data", [
    ("gzip", lambda: gzip.compress(A)),
    ("bzip2", lambda: bz2.compress(A)),
    ("xz", lambda: lzma.compress(A, preset=0)),
    ("zip in zip", lambda: zipped(*[(f"{i}.zip", zipped(
        ("b.gz", gzip.compress(A)))) for i in range(3)])),
    ("tgz", lambda: tarred("w:gz", ("a", A), ("evil.exe", EXE))),
    ("zip of zips", lambda: zipped(("a.zip", b"PK\3\4" + A))),
])
def test_bombs(scan, name, data):
    s = scan(data())
    assert s.file["is"] & LIMITS, name
    if not SAN:
        assert s.rss_kb < 40 << 10
    # Not the whole was unpacked: 100 MB more would show.
    assert len(s.members) < 20


def test_many_and_deep(scan):
    s = scan(zipped(*[(f"f{i}", b"x") for i in range(300)]), members=200)
    assert "limit-members" in s.file["is"] and len(s.members) == 201
    d = zipped(("x.txt", b"x"))
    for i in range(8):
        d = zipped((f"{i}.zip", d))
    s = scan(d)
    assert "limit-depth" in s.file["is"]
    assert not [m for m in s.members if m["name"] == "x.txt"]
    assert scan(d, depth=16).member("x.txt")


def seven(tmp_path, *args, name="a.7z", data=EXE):
    (tmp_path / "evil.exe").write_bytes(data)
    subprocess.run(["7z", "a", "-bd", *args, name, "evil.exe"], check=True,
                   cwd=tmp_path, stdout=subprocess.DEVNULL, timeout=60)
    return (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name, make", [
    ("nested", nested_bomb),
    ("one kernel", lambda: zip_of_one_kernel(1000, 10 << 20)),
    ("bzip2", lambda: bz2.compress(bytes(100 << 20))),
    ("xz", lambda: lzma.compress(bytes(100 << 20), preset=0)),
    ("lzma", lambda: lzma.compress(bytes(100 << 20), preset=0,
                                   format=lzma.FORMAT_ALONE)),
    ("members", lambda: tarred("w:gz", *[(f"{i}", b"")
                                         for i in range(5000)])),
    pytest.param("xz dictionary", lambda: lzma.compress(b"x", preset=9),
                 marks=pytest.mark.skipif(SAN, reason="no limit with ASan")),
    ("rar5 dictionary", lambda: rar5(b"a.exe", os.urandom(5000), 3, 15,
                                     1 << 33)),
])
def test_famous_bombs(scan, name, make):
    s = scan(make())
    assert s.file["is"] & (LIMITS | {"limit-members", "limit-depth",
                                     "damaged"}), name
    if not SAN:
        assert s.rss_kb < 40 << 10
        assert s.cpu_us < 500000


def test_dictionary_of_7z(scan, tmp_path):
    a = seven(tmp_path, "-mhc=off", "-m0=lzma", data=EXE * 100)
    assert scan(a).member("evil.exe")["magic"] == "exe"
    s = scan(seven_zip_with_dictionary(a, 0xf0000000))
    if not SAN:
        assert "limit-memory" in s.file["is"]
        assert s.rss_kb < 40 << 10


def test_memory_is_for_small_messages(scan):
    """A large one may have more: its archives need it."""
    data = lzma.compress(os.urandom(6 << 20), filters=[{
        "id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20}])
    assert scan(data).file["is"] == {"archive"}


def test_zip64(scan):
    s = scan(zip64(b"evil.exe", EXE))
    assert s.file["is"] == {"archive"}
    assert s.member("evil.exe")["magic"] == "exe"
    assert "names-differ" in scan(zip64(b"evil.exe", EXE, 1)).file["is"]


@pytest.mark.parametrize("kind, data", [
    ("lha", lha(b"evil.exe", EXE)), ("rar", rar4(b"evil.exe", EXE)),
    ("rar", rar5(b"evil.exe", EXE)),
])
def test_others(scan, kind, data):
    s = scan(data)
    assert s.file["magic"] == kind
    m = s.member("evil.exe")
    assert m["magic"] == "exe" and "executable" in m["is"]


@pytest.mark.parametrize("data", [
    rar4(b"evil.exe", EXE, True), rar5(b"evil.exe", EXE, encrypted=True)])
def test_encrypted_rar(scan, data):
    s = scan(data)
    assert "encrypted" in s.file["is"]
    assert "encrypted" in s.member("evil.exe")["is"]


def test_cab(scan, tmp_path):
    (tmp_path / "evil.exe").write_bytes(EXE)
    subprocess.run(["gcab", "-c", "-z", "a.cab", "evil.exe"], check=True,
                   cwd=tmp_path, timeout=60)
    s = scan((tmp_path / "a.cab").read_bytes())
    assert s.file["magic"] == "cab"
    assert s.member("evil.exe")["magic"] == "exe"


def test_zeros_are_no_tar(scan, tmp_path):
    """A disk begins with zeros, and so does the end of a tar file."""
    s = scan(lzma.compress(bytes(5000)), "zeros.xz")
    assert [m["name"] for m in s.members] == ["zeros"]
    (tmp_path / "d").mkdir()
    (tmp_path / "d/Evil.exe").write_bytes(EXE)
    subprocess.run(["genisoimage", "-quiet", "-J", "-R", "-o", "a.iso", "d"],
                   check=True, cwd=tmp_path, timeout=60,
                   stderr=subprocess.DEVNULL)
    s = scan(lzma.compress((tmp_path / "a.iso").read_bytes()), "a.iso.xz")
    assert s.member("Evil.exe")["magic"] == "exe"


BOF = record(0x809, bytes(16))


@pytest.mark.parametrize("name, data, found", [
    ("Workbook", BOF + record(0x85, bytes(4) + b"\0\0" + b"\3\0abc"), set()),
    ("Workbook", BOF + record(0x31, b"x" * 700) +
     record(0x85, bytes(4) + b"\2\1" + b"\3\0abc"),
     {"macro", "excel4-macro"}),
    ("Workbook", BOF + record(0x2f, bytes(54)), {"encrypted"}),
    ("Workbook", BOF + record(0x0a) + record(0x2f, bytes(54)), set()),
    ("Book", BOF + record(0x2f, b"x" * 3), {"encrypted"}),
    ("Workbook", b"\x85\0\xff\xff\1", set()),
    ("WordDocument", b"\xec\xa5" + bytes(8) + b"\0\1" + bytes(20),
     {"encrypted"}),
    ("WordDocument", b"\xec\xa5" + bytes(8) + b"\0\0" + bytes(20), set()),
])
def test_streams_of_office(scan, name, data, found):
    assert scan(ole((name, 2, data))).file["is"] == found


def test_excel4_macros(scan):
    s = scan(zipped(("[Content_Types].xml", b"<Types/>"),
                    ("xl/macrosheets/sheet1.xml", b"<x/>")))
    assert s.file["is"] >= {"macro", "excel4-macro"}


@pytest.mark.parametrize("front", [b"junk" * 10, b"%PDF-1.4\n" * 100,
                                   b"GIF89a" + bytes(300000)],
                         ids=["junk", "pdf", "gif"])
@pytest.mark.parametrize("kind", ["rar4", "rar5", "7z"])
def test_archive_behind_something(scan, tmp_path, kind, front):
    """Programs find it there."""
    if kind == "7z":
        (tmp_path / "x.exe").write_bytes(EXE)
        subprocess.run(["7z", "a", "a.7z", "x.exe"], cwd=tmp_path,
                       capture_output=True, check=True)
        data = (tmp_path / "a.7z").read_bytes()
    else:
        data = {"rar4": rar4, "rar5": rar5}[kind](b"x.exe", EXE)
    seen = scan(front + data, "a.dat")
    assert "executable" in seen.member("x.exe")["is"]
    if len(front) < 1000:
        # and as a member of another one
        seen = scan(zipped(("a.dat", front + data)), "a.zip")
        assert "executable" in seen.member("x.exe")["is"]


def test_archive_magic_alone(scan):
    """Text about an archive is none."""
    seen = scan(b"x" * 100 + b"Rar!\x1a\x07\x00 and so on\n" * 20, "a.txt")
    assert not seen.members
