"""The cases of t/rules/rewrite: settings, what goes in, what must come out.

A file begins with lines for main.cf.  Cases follow, with blank lines between:
"< from ADDRESS", "< to ADDRESS", "< header TEXT" go in; "> from", "> to",
"> header" come out (headers without white space), or "> refused" when the
text is answered with 4xx, or "> none" when nobody gets it.  \\n and \\t stand
for a line end and a tab.
"""
import os
import re

from postern import TOP, Client

DIR = os.path.join(TOP, "t/rules/rewrite")


class Case:
    def __init__(self, number, lines):
        self.number = number
        self.sender, self.rcpts, self.headers = None, [], []
        self.expected = []
        self.lines = lines
        for line in lines:
            if line.startswith("> "):
                self.expected.append(line[2:])
                continue
            assert line.startswith("< "), line
            word, _, rest = line[2:].partition(" ")
            if word == "from":
                self.sender = rest.strip("<>")
            elif word == "to":
                self.rcpts.append(rest)
            else:
                self.headers.append(rest.replace("\\n", "\r\n")
                                    .replace("\\t", "\t"))

    def text(self):
        return ("\r\n".join([f"X-Case: {self.number}"] + self.headers)
                + "\r\n\r\ntext\r\n").encode()


class File:
    def __init__(self, name):
        self.name = name
        self.path = os.path.join(DIR, name + ".case")
        with open(self.path) as f:
            parts = f.read().strip().split("\n\n")
        self.head = parts[0].split("\n")
        self.conf = dict(re.split(r"\s*=\s*", l, maxsplit=1)
                         for l in self.head if not l.startswith("#"))
        self.cases = [Case(i, p.split("\n")) for i, p in enumerate(parts[1:])]

    def record(self, results):
        with open(self.path, "w") as f:
            f.write("\n".join(self.head) + "\n")
            for c, got in zip(self.cases, results):
                lines = [l for l in c.lines if l.startswith("<")]
                f.write("\n" + "\n".join(lines + ["> " + g for g in got])
                        + "\n")


def names():
    return sorted(n[:-5] for n in os.listdir(DIR) if n.endswith(".case"))


def send(port, cases):
    """The number of each case whose text was not accepted."""
    refused = set()
    with Client(port) as c:
        c.ehlo()
        for case in cases:
            c.envelope(case.sender, *case.rcpts)
            r = c.data_cmd(case.text())
            assert r.code in (250, 451), r
            if r.code != 250:
                refused.add(case.number)
    return refused


def squeeze(text):
    return re.sub(r"\s", "", text)


def results(cases, refused, messages):
    """What became of each case, as its expected lines."""
    out = []
    for case in cases:
        if case.number in refused:
            out.append(["refused"])
            continue
        got = [m for m in messages
               if m.field("X-Case") == str(case.number)]
        if not got:
            out.append(["none"])
            continue
        lines = ["from " + (got[0].sender or "<>")]
        lines += ["to " + r for r in sorted(r for m in got for r in m.rcpts)]
        header = re.sub(rb"\r\n(?=[ \t])", b"", got[0].header).decode()
        wanted = [h.split(":")[0].lower() for h in case.headers]
        lines += ["header " + squeeze(h) for h in header.split("\r\n")
                  if h.split(":")[0].lower() in wanted]
        out.append(lines)
    return out
