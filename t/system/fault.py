"""Faults in a running role: the test's side of t/fault/fault.c."""
import errno
import mmap
import os
import struct

from postern import BUILD, LIBEXEC

WRITE, SYNC, RENAME, UNLINK, OPEN, CREATE, TRUNCATE, MEMFD, TIMES, CHMOD, \
    READ = range(1, 12)
SHORT, DROP = 1001, 1002
EIO, ENOSPC, EDQUOT, EMFILE = (errno.EIO, errno.ENOSPC, errno.EDQUOT,
                               errno.EMFILE)
RULE = struct.Struct("<4I64s2I")
RULES = 8


class Faults:
    """Role programs of which one is wrapped; set daemon_directory to
    faults.libexec before the start."""

    def __init__(self, top, role="qmgr"):
        self.libexec = os.path.join(top, "libexec")
        os.makedirs(self.libexec)
        path = os.path.join(top, "faults")
        with open(path, "wb") as f:
            f.truncate(8 + RULES * RULE.size)
        os.chmod(path, 0o666)
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 0)
        for name in os.listdir(LIBEXEC):
            if name != role:
                os.symlink(os.path.join(LIBEXEC, name),
                           os.path.join(self.libexec, name))
        wrapper = os.path.join(self.libexec, role)
        with open(wrapper, "w") as f:
            f.write("#!/bin/sh\n"
                    f"FAULT={path} LD_PRELOAD={BUILD}/t/fault/fault.so "
                    f"exec {LIBEXEC}/{role} \"$@\"\n")
        os.chmod(wrapper, 0o755)

    def set(self, call, action, match="", skip=0, times=0, rule=0):
        """From the call after skip on, times times (0: always)."""
        at = 8 + rule * RULE.size
        # the call last: it switches the rule on
        self.map[at:at + 4] = b"\0\0\0\0"
        self.map[at:at + RULE.size] = RULE.pack(
            0, action, skip, times, match.encode(), 0, 0)
        self.map[at:at + 4] = struct.pack("<I", call)

    def clear(self):
        """How often each rule struck."""
        counts = [self.count(i) for i in range(RULES)]
        for i in range(RULES):
            at = 8 + i * RULE.size
            self.map[at:at + 4] = b"\0\0\0\0"
        return counts

    def count(self, rule=0):
        return RULE.unpack_from(self.map, 8 + rule * RULE.size)[6]

    def clock(self, seconds):
        """Move the role's time of day."""
        self.map[0:8] = struct.pack("<q", int(seconds * 1000000))
