"""Files for tests of the scanner, made byte by byte where no packer of the
system makes them."""
import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib

EXE = (b"MZ\x90\0" + b"\0" * 56 + struct.pack("<I", 64) + b"PE\0\0" +
       b"\0" * 200)


def zipped(*files, method=zipfile.ZIP_DEFLATED):
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w", method) as z:
        for name, data in files:
            z.writestr(name, data)
    return b.getvalue()


def tarred(mode, *files):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode=mode) as t:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return b.getvalue()


def utf16(name):
    return name.encode("utf-16-le").ljust(64, b"\0") + \
        struct.pack("<H", 2 * len(name) + 2 if name else 0)


def ole(*entries, clsid=bytes(16)):
    """A compound file of small streams: (name, type, content)."""
    mini, dirs, chain = b"", [], []
    for name, kind, content in entries:
        start = len(mini) // 64
        n = (len(content) + 63) // 64
        chain += [start + i + 1 for i in range(n)]
        if n:
            chain[-1] = 0xfffffffe
        mini += content.ljust(64 * n, b"\0")
        dirs.append((name, kind, start, len(content)))
    mini_sectors = (len(mini) + 511) // 512
    dir_sectors = (len(dirs) + 1 + 3) // 4

    def entry(name, kind, start, size, cls=bytes(16)):
        return utf16(name) + bytes([kind, 1]) + struct.pack(
            "<III", *[0xffffffff] * 3) + cls + bytes(20) + struct.pack(
            "<IQ", start, size)
    first_mini = 2 + dir_sectors
    d = entry("Root Entry", 5, first_mini, len(mini), clsid)
    d += b"".join(entry(*x) for x in dirs)
    d = d.ljust(512 * dir_sectors, b"\0")
    fat = [0xfffffffd, 0xfffffffe] + \
        list(range(3, 2 + dir_sectors)) + [0xfffffffe] + \
        list(range(first_mini + 1, first_mini + mini_sectors)) + \
        ([0xfffffffe] if mini_sectors else [])
    fat += [0xffffffff] * (128 - len(fat))
    minifat = chain + [0xffffffff] * (128 - len(chain))
    h = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack(
        "<HHHHH", 0x3e, 3, 0xfffe, 9, 6) + bytes(6) + struct.pack(
        "<IIIIIIIIII", 0, 1, 2, 0, 4096, 1, 1, 0xfffffffe, 0, 0)[:36]
    # FAT count, first directory, ..., cutoff, mini FAT, DIFAT
    h = h[:44] + struct.pack("<IIIIIIII", 1, 2, 0, 4096, 1, 1,
                             0xfffffffe, 0)
    h += struct.pack("<I", 0) + struct.pack("<I", 0xffffffff) * 108
    pad = b"" if mini_sectors == 0 else mini.ljust(512 * mini_sectors, b"\0")
    return h + struct.pack("<128I", *fat) + struct.pack("<128I", *minifat) + \
        d + pad


def zip64(name, data, end_size=0xffffffff):
    """Every number stands where zip64 has it."""
    crc, n, ones = zlib.crc32(data), len(data), 0xffffffff
    extra = struct.pack("<HHQQ", 1, 16, n, n)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 45, 0, 0, 0, 0, crc, ones,
                        ones, len(name), len(extra)) + name + extra + data
    extra = struct.pack("<HHQQQ", 1, 24, n, n, 0)
    central = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 45, 45, 0, 0, 0,
                          0, crc, ones, ones, len(name), len(extra), 0, 0, 0,
                          0, ones) + name + extra
    at = len(local) + len(central)
    return local + central + struct.pack(
        "<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(central),
        len(local)) + struct.pack("<4sIQI", b"PK\6\7", 0, at, 1) + \
        struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, end_size, ones, 0)


def zip_of_one_kernel(count, size):
    """Each entry of the directory has the same bytes as content."""
    z = zlib.compressobj(9, 8, -15)
    data = z.compress(bytes(size)) + z.flush()
    numbers = (zlib.crc32(bytes(size)), len(data), size)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0, *numbers,
                        1, 0) + b"A" + data
    central = b"".join(struct.pack(
        "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 0, *numbers, 5, 0,
        0, 0, 0, 0, 0) + b"%05d" % i for i in range(count))
    return local + central + struct.pack(
        "<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(central),
        len(local), 0)


def crc16(data):
    c = 0
    for b in data:
        c ^= b
        for _ in range(8):
            c = c >> 1 ^ (0xa001 if c & 1 else 0)
    return c


def lha(name, data):
    """A header of level 0, stored."""
    body = b"-lh0-" + struct.pack("<IIIBBB", len(data), len(data), 0, 0x20, 0,
                                  len(name)) + name + \
        struct.pack("<H", crc16(data))
    return bytes([len(body), sum(body) & 0xff]) + body + data + b"\0"


def rar4(name, data, encrypted=False):
    def block(kind, flags, body, more=b""):
        h = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
        return struct.pack("<H", zlib.crc32(h) & 0xffff) + h + more
    file = struct.pack("<IIBIIBBHI", len(data), len(data), 2, zlib.crc32(data),
                       0x21 << 16, 29, 0x30, len(name), 0x20) + name
    return b"Rar!\x1a\x07\0" + block(0x73, 0, bytes(6)) + block(
        0x74, 0x8000 | (4 if encrypted else 0), file, data) + \
        block(0x7b, 0x4000, b"")


def rar5(name, data, method=0, dictionary=0, size=None, encrypted=False):
    def number(n):
        out = b""
        while n > 127:
            out += bytes([n & 127 | 128])
            n >>= 7
        return out + bytes([n])

    def block(*fields):
        body = b"".join(f if isinstance(f, bytes) else number(f)
                        for f in fields)
        body = number(len(body)) + body
        return struct.pack("<I", zlib.crc32(body)) + body
    extra = b""
    if encrypted:
        extra = number(1) + number(0) + number(0) + b"\x0f" + bytes(32)
        extra = number(len(extra)) + extra
    start = [2, 3, len(extra), len(data)] if encrypted else [2, 2, len(data)]
    return b"Rar!\x1a\x07\1\0" + block(1, 0, 0) + block(
        *start, 4, len(data) if size is None else size, 0x20,
        struct.pack("<I", zlib.crc32(data)), method << 7 | dictionary << 10,
        0, len(name), name, extra) + data + block(5, 0, 0)


def lzma_alone(dictionary):
    d = bytearray(lzma.compress(b"x" * 100000, format=lzma.FORMAT_ALONE))
    d[1:5] = struct.pack("<I", dictionary)
    return bytes(d)


def seven_zip_with_dictionary(archive, size):
    """Change the one that an archive of LZMA with a plain header has."""
    d = bytearray(archive)
    offset, n = struct.unpack("<QQ", d[12:28])
    at = d.index(b"\x03\x01\x01", 32 + offset) + 4
    assert d[at] == 0x5d
    d[at + 1:at + 5] = struct.pack("<I", size)
    d[28:32] = struct.pack("<I", zlib.crc32(bytes(d[32 + offset:])[:n]))
    d[8:12] = struct.pack("<I", zlib.crc32(bytes(d[12:32])))
    return bytes(d)


def record(kind, data=b""):
    """Of a workbook."""
    return struct.pack("<HH", kind, len(data)) + data


def nested_bomb():
    """As 42.zip: sixteen times sixteen times ..."""
    d = zipped(("0.dll", bytes(1 << 20)))
    for _ in range(5):
        d = zipped(*[(f"lib {i}.zip", d) for i in range(16)])
    return d


def gz(data):
    return gzip.compress(data)


def packed(how, data):
    return {"gzip": gzip, "bzip2": bz2, "xz": lzma}[how].compress(data)


def tnef(*files):
    """winmail.dat: (name, data) each."""
    def attribute(level, kind, data):
        return struct.pack("<BII", level, kind, len(data)) + data + \
            struct.pack("<H", sum(data) & 0xffff)
    out = struct.pack("<IH", 0x223e9f78, 1)
    for name, data in files:
        out += attribute(2, 0x00069002, bytes(14))
        out += attribute(2, 0x00018010, name + b"\0")
        out += attribute(2, 0x0006800f, data)
    return out


def zip_encrypted(name, data):
    """As a password makes it look; there is none."""
    z = bytearray(zipped((name, data), method=zipfile.ZIP_STORED))
    for at in 6, z.index(b"PK\1\2") + 8:
        z[at] |= 1
    return bytes(z)
