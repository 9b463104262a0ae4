"""Files made so that the receiver's program sees more in them than a scanner
does: what the two must agree on."""
import struct
import subprocess
import zipfile
import zlib

import pytest
from file_makers import EXE, gz, ole, rar4, record, tarred, zipped
from test_attachments import scan  # noqa: F401, a fixture

TYPES = ("[Content_Types].xml", b"<Types/>")


def short(value):
    return repr(value)[:24]


def names(s):
    return [m["name"] for m in s.members]


# -- zip ----------------------------------------------------------------------

def local(name, data, method=0, flags=0, packed=None, size=None, extra=b""):
    return struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, flags, method, 0, 0,
                       zlib.crc32(data), len(data) if packed is None
                       else packed, len(data) if size is None else size,
                       len(name), len(extra)) + name + extra + data


def central(name, data, at, method=0, flags=0, packed=None, size=None,
            extra=b""):
    return struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, flags,
                       method, 0, 0, zlib.crc32(data),
                       len(data) if packed is None else packed,
                       len(data) if size is None else size, len(name),
                       len(extra), 0, 0, 0, 0, at) + name + extra


def end(count, size, at, comment=b""):
    return struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, size, at,
                       len(comment)) + comment


def deflated(data):
    z = zlib.compressobj(9, 8, -15)
    return z.compress(data) + z.flush()


def one(a, b):
    """A zip of one entry, its two headers as given."""
    return a + b + end(1, len(b), len(a))


PACKED = deflated(EXE)
UNICODE = struct.pack("<HHBI", 0x7075, 5 + 4, 1, 0) + b"x.js"


@pytest.mark.parametrize("data, found", [
    # a method each
    (one(local(b"a.txt", PACKED, 8, size=len(EXE)),
         central(b"a.txt", PACKED, 0, 0)), "executable"),
    (one(local(b"a.txt", PACKED, 0),
         central(b"a.txt", PACKED, 0, 8, size=len(EXE))), "executable"),
    # only one says that it is encrypted
    (one(local(b"a.txt", PACKED, 8, 1, size=len(EXE)),
         central(b"a.txt", PACKED, 0, 8, size=len(EXE))), "executable"),
    (one(local(b"a.txt", PACKED, 8, size=len(EXE)),
         central(b"a.txt", PACKED, 0, 8, 1, size=len(EXE))), "executable"),
    # more is stored than it says
    (one(local(b"a.txt", EXE, packed=1), central(b"a.txt", EXE, 0,
                                                 packed=1)), None),
    (one(local(b"a.txt", EXE), central(b"a.txt", EXE, 0, packed=len(EXE) - 9,
                                       size=len(EXE) - 9)), "executable"),
    # numbers of zip64 where none are needed
    (one(local(b"a.txt", EXE), central(
        b"a.txt", EXE, 0, extra=struct.pack("<HHQQ", 1, 16, 4, 4))),
     "executable"),
], ids=short)
def test_headers_that_differ(scan, data, found):  # noqa: F811
    s = scan(data, "a.zip")
    assert "names-differ" in s.file["is"]
    assert found is None or any(found in m["is"] for m in s.members)


def test_unicode_name_of_the_local_header(scan):  # noqa: F811
    s = scan(one(local(b"a.txt", b"x", extra=UNICODE),
                 central(b"a.txt", b"x", 0)))
    assert "x.js" in names(s)


def test_two_directories(scan):  # noqa: F811
    """At the place that the end record names, and in front of it."""
    a, b = local(b"a.txt", b"x"), local(b"b.js", b"x")
    near, far = central(b"a.txt", b"x", 0), central(b"b.js", b"x", len(a))
    s = scan(a + b + far + near + end(1, len(near), len(a + b)))
    assert "names-differ" in s.file["is"]
    assert {"a.txt", "b.js"} <= set(names(s))


def test_two_ends_of_zip64(scan):  # noqa: F811
    def end64(size, at):
        return struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1,
                           size, at)
    a, b = local(b"a.txt", b"x"), local(b"b.js", b"x")
    ca, cb = central(b"a.txt", b"x", 0), central(b"b.js", b"x", len(a))
    at = len(a + b + ca + cb)
    s = scan(a + b + ca + cb + end64(len(cb), len(a + b + ca)) +
             end64(len(ca), len(a + b)) +
             struct.pack("<4sIQI", b"PK\6\7", 0, at, 1) +
             end(1, 0xffffffff, 0xffffffff))
    assert "names-differ" in s.file["is"]
    assert {"a.txt", "b.js"} <= set(names(s))


def test_long_name_without_entry(scan):  # noqa: F811
    name = b"x" * 2000 + b".js"
    s = scan(local(name, b"x") + zipped(("b.txt", b"b")))
    assert any(m["name"].endswith("x.js") for m in s.members)
    assert "names-differ" in s.file["is"]


@pytest.mark.parametrize("method", ["LZMA", "BZip2", "PPMd", "XZ"])
def test_methods_of_zip(scan, tmp_path, method):  # noqa: F811
    (tmp_path / "in.zip").write_bytes(zipped(("x.exe", EXE)))
    (tmp_path / "a.txt").write_bytes(b"text" * 100)
    subprocess.run(["7z", "a", "-bd", "-tzip", "-mm=" + method, "a.zip",
                    "in.zip", "a.txt"], check=True, cwd=tmp_path,
                   stdout=subprocess.DEVNULL, timeout=60)
    s = scan((tmp_path / "a.zip").read_bytes(), "a.zip")
    assert s.file["is"] == {"archive"}
    assert "executable" in s.member("x.exe")["is"]


# -- what is where it should not be --------------------------------------------

def test_magic_twice(scan):  # noqa: F811
    """What looks like an archive stands in front of one."""
    fake = b"Rar!\x1a\x07\0" + b"x" * 99
    for front in fake * 3, b"\x1f\x8b" + b"x" * 99, b"PK\3\4" + b"x" * 99:
        s = scan(front + rar4(b"x.exe", EXE), "a.rar")
        assert "executable" in s.member("x.exe")["is"], front[:4]


def test_stored_archive_is_seen_once(scan):  # noqa: F811
    s = scan(zipped(("a.rar", rar4(b"x.txt", b"x")),
                    method=zipfile.ZIP_STORED))
    assert names(s) == ["x.txt", "a.rar"]


def test_old_tar(scan):  # noqa: F811
    d = bytearray(tarred("w", ("x.exe", EXE)))
    d[257:265] = bytes(8)
    d[148:156] = b" " * 8
    d[148:156] = b"%06o\0 " % sum(d[:512])
    assert "executable" in scan(bytes(d)).member("x.exe")["is"]


def test_name_in_gzip(scan):  # noqa: F811
    plain = gz(b"alert(1)")
    named = plain[:3] + b"\x08" + plain[4:10] + b"b.txt\0" + plain[10:]
    assert {"b.txt", "x.js"} <= set(names(scan(named, "x.js.gz")))
    named = named.replace(b"b.txt", b"x.vbs")
    assert {"x.vbs", "b.txt"} <= set(names(scan(named, "b.txt.gz")))


@pytest.mark.parametrize("data, magic, found", [
    (bytes(2048) + b"conectix" + bytes(504), "vhd", "disk-image"),
    (bytes(2048) + b"koly\0\0\0\4" + bytes(504), "dmg", "disk-image"),
    (EXE + bytes(1024) + b"koly\0\0\0\4" + bytes(504), "exe", "executable"),
    (EXE + bytes(1024) + b"conectix" + bytes(504), "exe", "disk-image"),
    ((EXE + bytes(1024)).ljust(32768, b"\0") + b"\1CD001" + bytes(2048), "exe",
     "executable"),
    (b"{\\rtf1 {\\object\\objupdate}}" + b"conectix" + bytes(504), "vhd",
     "embedded"),
    (b"\xeb\x3c\x90MSDOS5.0".ljust(54, b"\2") + b"FAT16   ".ljust(456, b"\1")
     + b"\x55\xaa" + bytes(512), "disk", "disk-image"),
    (bytes(512) + b"EFI PART" + bytes(512), "disk", "disk-image"),
    (b"xar!\0\x1c" + bytes(60), "xar", "executable"),
    ('<html><script>URL.createObjectURL(b)'.encode("utf-16"), "html",
     "html-smuggling"),
    ('<html><script>URL.createObjectURL(b)'.encode("utf-16-be"), "html",
     "html-smuggling"),
    (b'<html><a download="a.iso" href="data:application/x;base64,AA==">',
     "html", "html-smuggling"),
    (b'<svg xmlns="http://www.w3.org/2000/svg"><script>x()</script></svg>',
     "svg", "script"),
    (b'<?xml version="1.0"?>\n<!-- x --><svg onload="x()"/>', "svg",
     "script"),
    (b'\xef\xbb\xbf<?xml version="1.0"?><?mso-application progid="Word.'
     b'Document"?><w:wordDocument w:macrosPresent="yes">', "office-xml",
     "macro"),
    (b"ActiveMime\0\0\1\xf0" + bytes(40), "activemime", "macro"),
    (b"ID;P\nO;E\nNN;NAuto_open;ER1C1\n", "sylk", "excel4-macro"),
    (record(0x009, b"\2\0\x40\0"), "biff", "excel4-macro"),
    (record(0x409, b"\0\0\x40\0\0\0"), "biff", "excel4-macro"),
    (record(0x809, b"\0\6\x05\0" + bytes(12)) +
     record(0x85, bytes(4) + b"\0\1" + b"\3\0abc"), "biff", "excel4-macro"),
    (b"{\\rtf1 {\\*\\template http://x.example/a.dotm}}", "rtf",
     "external-template"),
    (b"{\\rtf1 " + b" " * (2 << 20) + b"{\\object\\objupdate}}", "rtf",
     "embedded"),
    (b"%PDF-1.7\n1 0 obj <</S /J#61vaScript>>", "pdf", "pdf-javascript"),
    (b"%PDF-1.7\n1 0 obj <</S /Rendition /JS (x)>>", "pdf",
     "pdf-javascript"),
    (b"%PDF-1.7\n" + b" " * (2 << 20) + b"<</S/Launch/Win 1>>", "pdf",
     "pdf-launch"),
], ids=short)
def test_other_forms(scan, data, magic, found):  # noqa: F811
    f = scan(data).file
    assert f["magic"] == magic and found in f["is"]


@pytest.mark.parametrize("data, magic", [
    (b"%PDF-1.7\nstream\n\xff\xfe\x01/JS\x91\x92\x93", "pdf"),
    (b"%PDF-1.7\n<</Type /EmbeddedFont /LaunchX 1 /JavaScripted 2>>", "pdf"),
    (b"ID;P\nC;Y1;X1;K\"a\"\nE\n", "sylk"),
    (record(0x009, b"\2\0\x10\0"), "biff"),
    (b'<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>',
     "svg"),
    (b'<?xml version="1.0"?><note>vbaProject</note>', "xml"),
    ("Guten Tag".encode("utf-16"), "text"),
    (b"mk-lzo is a program.\n", "text"),
    (b"{\\rtf1 \\object is a word}", "rtf"),
], ids=short)
def test_other_forms_of_ordinary_files(scan, data, magic):  # noqa: F811
    f = scan(data).file
    assert (f["magic"], f["is"]) == (magic, set())


# -- documents -------------------------------------------------------------------

def rels(kind, more=""):
    return (f'<Relationship Type="http://schemas.x/relationships/{kind}" '
            f'Target="x/y.bin" {more}/>').encode()


@pytest.mark.parametrize("part, text, found", [
    # names are what the relations say
    ("word/_rels/document.xml.rels", rels("vbaProject"), {"macro"}),
    ("xl/_rels/workbook.bin.rels", rels("xlMacrosheet"),
     {"macro", "excel4-macro"}),
    ("xl/_rels/a.rels", rels("control"), {"activex"}),
    ("xl/_rels/a.rels", rels("oleObject"), {"embedded"}),
    ("xl/externalLinks/externalLink1.xml",
     b'<externalLink><ddeLink ddeService="cmd" ddeTopic="x"/>', {"dde"}),
    # and how they are written
    ("word/_rels/settings.xml.rels",
     rels("attachedTemplate", "TargetMode='External'"),
     {"external-template"}),
    ("word/_rels/settings.xml.rels",
     rels("attachedTemplate", 'TargetMode = "&#x45;xtern&#97;l"'),
     {"external-template"}),
    ("word/_rels/settings.xml.rels",
     rels("attachedTemplate", 'TargetMode="External"').decode().encode(
         "utf-16"), {"external-template"}),
    ("word/_rels/settings.xml.rels", b" " * 300000 +
     rels("attachedTemplate", 'TargetMode="External"'),
     {"external-template"}),
    ("word/_rels/document.xml.rels", rels("image", 'TargetMode="External"'),
     set()),
    ("word/_rels/document.xml.rels", rels("attachedTemplate"), set()),
], ids=short)
def test_relations(scan, part, text, found):  # noqa: F811
    s = scan(zipped(TYPES, (part, text)))
    assert s.file["is"] == {"archive"} | found


def test_types_of_parts(scan):  # noqa: F811
    s = scan(zipped((TYPES[0], b'<Types><Override PartName="/a.bin" '
                     b'ContentType="application/vnd.ms-office.vbaProject"/>'),
                    ("word/document.xml", b"<x/>")))
    assert (s.file["magic"], s.file["is"]) == ("docx", {"archive", "macro"})


def test_macros_under_another_name(scan):  # noqa: F811
    project = ole(("VBA", 1, b""), ("PROJECT", 2, b"x"))
    s = scan(zipped(TYPES, ("word/media/image1.png", project)))
    assert "macro" in s.file["is"]


def test_encrypted_odf(scan):  # noqa: F811
    s = scan(zipped(("mimetype", b"application/vnd.oasis.opendocument.text"),
                    ("META-INF/manifest.xml", b"<manifest:file-entry><manif"
                     b"est:encryption-data manifest:checksum='x'/>")))
    assert "encrypted" in s.file["is"]


def native(label, file, path, data, wide=()):
    d = b"\2\0" + b"".join(x + b"\0" for x in (label, file)) + \
        b"\0\0\3\0" + struct.pack("<I", len(path) + 1) + path + b"\0" + \
        struct.pack("<I", len(data)) + data
    for x in wide:
        d += struct.pack("<I", len(x)) + x.encode("utf-16-le")
    return struct.pack("<I", len(d)) + d


@pytest.mark.parametrize("package, wanted", [
    (native(b"a.txt", b"C:\\x.js", b"C:\\t\\a.txt", b"x"), "C:\\x.js"),
    (native(b"x.js", b"C:\\a.txt", b"C:\\t\\a.txt", b"x"), "x.js"),
    (native(b"a.txt", b"a.txt", b"C:\\t\\x.js", b"x"), "C:\\t\\x.js"),
    (native(b"a" * 2500 + b".txt", b"x.js", b"", b"x"), "x.js"),
    (native(b"a.txt", b"a.txt", b"a.txt", b"x" * 3000,
            ["C:\\t\\a.txt", "a.txt", "x.js"]), "x.js"),
], ids=short)
def test_names_of_a_package(scan, package, wanted):  # noqa: F811
    s = scan(ole(("WordDocument", 2, b"x"), ("\1Ole10Native", 2, package)))
    assert wanted in names(s)
    objdata = struct.pack("<III", 0x501, 2, 8) + b"Package\0" + bytes(8) + \
        package
    rtf = b"{\\rtf1{\\object\\objemb{\\*\\objdata " + \
        objdata.hex().encode() + b"}}}"
    assert wanted in names(scan(rtf))


def test_content_of_a_package(scan):  # noqa: F811
    package = native(b"a.txt", b"a.txt", b"a.txt", b"MZP\0" + EXE[4:])
    s = scan(ole(("x", 2, b"x"), ("\1Ole10Native", 2, package)))
    assert any("executable" in m["is"] for m in s.members)
    s = scan(ole(("\1Ole10Native", 2, native(
        b"a.zip", b"a.zip", b"", zipped(("x.js", b"x"))))))
    assert "x.js" in names(s)


@pytest.mark.parametrize("spell", [
    lambda h: h, lambda h: h.upper(),
    lambda h: b"\r\n".join(h[i:i + 7] for i in range(0, len(h), 7)),
    lambda h: h[:9] + b"{\\*\\x 12}\\'ab\\loch " + h[9:],
], ids=short)
def test_object_of_rtf(scan, spell):  # noqa: F811
    inner = ole(("\1Ole10Native", 2, native(b"x.js", b"x.js", b"", b"x")))
    objdata = struct.pack("<III", 0x501, 2, 4) + b"abc\0" + bytes(8) + \
        struct.pack("<I", len(inner)) + inner
    s = scan(b"{\\rtf1{\\object\\objemb{\\*\\objdata" +
             spell(b" " + objdata.hex().encode()) + b"}}}", "a.doc")
    assert "x.js" in names(s)


@pytest.mark.parametrize("stream, value", [
    ("__substg1.0_3707001F", "x.js".encode("utf-16-le")),
    ("__substg1.0_3704001E", b"x.js"),
], ids=short)
def test_attachment_of_an_outlook_message(scan, stream, value):  # noqa: F811
    s = scan(ole(("__properties_version1.0", 2, b"x"),
                 ("__attach_version1.0_#00000000", 1, b""),
                 ("__substg1.0_37010102", 2, b"alert(1)"),
                 (stream, 2, value)))
    assert s.file["magic"] == "msg"
    assert "x.js" in names(s)


@pytest.mark.parametrize("at", [0, 1000, 2040])
def test_macros_of_powerpoint(scan, at):  # noqa: F811
    atom = struct.pack("<HHIIII", 2, 0x400, 12, 1, 1, 2)
    s = scan(ole(("PowerPoint Document", 2, bytes(at) + atom)))
    assert s.file["is"] == {"macro"}
    atom = struct.pack("<HHIIII", 2, 0x400, 12, 1, 0, 2)
    s = scan(ole(("PowerPoint Document", 2, bytes(at) + atom)))
    assert s.file["is"] == set()


@pytest.mark.parametrize("first", [0x82, 0x84, 0x86])
def test_installers(scan, first):  # noqa: F811
    s = scan(ole(("x", 2, b"x"), clsid=bytes([first]) + bytes.fromhex(
        "100c0000000000c000000000000046")))
    assert s.file["magic"] == "msi" and "executable" in s.file["is"]


def test_files_of_onenote(scan):  # noqa: F811
    guid = bytes.fromhex("e716e3bd65261145a4c48d4d0b7a9eac")
    data = bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3") + bytes(1000)
    for content in b"text", EXE, zipped(("x.js", b"x")):
        data += guid + struct.pack("<QIQ", len(content), 0, 0) + content
    s = scan(data, "a.one")
    assert s.file["magic"] == "onenote" and "embedded" in s.file["is"]
    assert any("executable" in m["is"] for m in s.members)
    assert "x.js" in names(s)
