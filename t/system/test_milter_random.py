"""Made-up messages and made-up changes of two filters, and a model of what
must come out: the gateway and Postfix are both held to it."""
import random

import pytest
from milter_mta import Talk, fields
from milters import (CONTINUE, LEADING_SPACE, add_header, add_rcpt, body,
                     change_from, change_header, delete_rcpt, insert_header)

NAMES = ("Subject", "X-A", "X-B", "To", "Received", "DKIM-Signature",
         "x-a", "X-Content")
ADDRESSES = [f"u{i}@example.com" for i in range(6)]
SEEDS = [pytest.param(n, marks=pytest.mark.long if n >= 30 else ())
         for n in range(120)]


def value(r):
    words = ["".join(r.choice("abcXYZ=;.") for _ in range(r.randint(1, 9)))
             for _ in range(r.randint(1, 5))]
    out = words[0]
    for w in words[1:]:
        out += r.choice((" ", " ", "\n ", "\n\t", "  ")) + w
    return out


def lines(r, end):
    text = ""
    for _ in range(r.randint(0, 6)):
        text += r.choice(("", ".", "..x", "text", "a b ", "From x")) + end
    return text


class Model:
    """A message as a list of [name, value with its leading space]."""

    def __init__(self, r):
        self.header = [[r.choice(NAMES), r.choice((" ", " ", "", "\t")) +
                        value(r)] for _ in range(r.randint(0, 8))]
        if not self.header:
            self.header = [["Subject", " one"]]
        self.body = lines(r, "\r\n")
        self.sender = "a@client.example"
        self.rcpts = ADDRESSES[:r.randint(1, 4)]
        # ours is in front, counted in places, and seen by nobody
        self.header.insert(0, ["Received", None])

    def text(self):
        return "".join(f"{n}:{v}\n" for n, v in self.header[1:]).replace(
            "\n", "\r\n").encode() + b"\r\n" + self.body.encode()

    def seen(self, spaces):
        """As a filter is told."""
        def cut(v):
            return v if spaces or v[:1] != " " else v[1:]
        return [(n.encode(), cut(v).encode()) for n, v in self.header
                if v is not None]

    def find(self, name, number):
        for i, (n, v) in enumerate(self.header):
            if v is not None and n.lower() == name.lower():
                number -= 1
                if number <= 0:
                    return i
        return None

    def change(self, r, spaces):
        """One change at random, done here and returned as a packet."""
        name, v, number = r.choice(NAMES), value(r), r.randint(0, 4)
        told = r.choice((" ", "", "\t")) + v if spaces else v
        kept = told if spaces else " " + v
        kind = r.randrange(8)
        if kind == 0:
            self.header.append([name, kept])
            return add_header(name, told)
        if kind == 1:
            number = r.randint(0, 12)
            self.header.insert(number, [name, kept])
            return insert_header(number, name, told)
        if kind == 2:
            at = self.find(name, max(number, 1))
            if at is None:
                self.header.append([name, kept])
            else:
                self.header[at] = [name, kept]
            return change_header(number, name, told)
        if kind == 3:
            at = self.find(name, max(number, 1))
            if at is not None:
                del self.header[at]
            return change_header(number, name, "")
        if kind == 4:
            self.sender = r.choice(("", "b@client.example"))
            return change_from(f"<{self.sender}>")
        one = r.choice(ADDRESSES)
        if kind == 5 and one not in self.rcpts:
            self.rcpts = [*self.rcpts, one]
            return add_rcpt(f"<{one}>")
        if kind == 6 and self.rcpts != [one]:
            self.rcpts = [x for x in self.rcpts if x != one]
            return delete_rcpt(f"<{one}>")
        return b""

    def changes(self, r, spaces):
        out = [self.change(r, spaces) for _ in range(r.randint(0, 7))]
        if r.random() < 0.4:
            # of one piece here, or Postfix takes the rest for an addition
            text = lines(r, r.choice(("\r\n", "\n")))
            self.body = text.replace("\r\n", "\n").replace("\n", "\r\n")
            out.insert(r.randint(0, len(out)), body(text))
        return [*out, CONTINUE]

    def arrived(self):
        """As fields() tells it."""
        return ["Received" if v is None else f"{n}:{v}".replace(
            "\n", "\r\n") for n, v in self.header]


@pytest.mark.parametrize("seed", SEEDS)
def test_made_up(mta, seed):
    r = random.Random(seed)
    m = Model(r)
    text, rcpts = m.text(), list(m.rcpts)
    seen, spaces = [], [r.random() < 0.3 for _ in range(2)]
    for which, milter in enumerate((mta.milter, mta.second)):
        seen.append((m.seen(spaces[which]), m.body.encode()))
        milter.use({"eom": m.changes(r, spaces[which])},
                   steps=LEADING_SPACE if spaces[which] else 0)
    t = Talk(mta, "two", text=text, rcpts=rcpts)
    assert not t.bad and not t.closed
    got = mta.settled()
    for (headers, told), milter in zip(seen, (mta.milter, mta.second)):
        assert milter.last().headers() == headers
        assert milter.last().body() == told
    assert sorted(x for g in got for x in g.rcpts) == sorted(m.rcpts)
    for g in got:
        assert g.sender == m.sender
        assert fields(g) == m.arrived()
        assert g.body == m.body.encode()
