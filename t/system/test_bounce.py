"""The bounce role by itself: this is its queue manager."""
import os
import select
import time

import pytest
from dsn_report import Report
from postern import SLOW
from role_driver import Role, envelope, memfd, u16, u32, u64, u8, view

FAILURE, DELAY, SUCCESS, COPY, LATE_COPY, DOUBLE = range(1, 7)
DEFERRED, BOUNCED, RELAYED = 2, 3, 4
CONF = dict(myhostname="gw.example.com", mydomain="example.com",
            inet_interfaces="127.0.0.1")
TEXT = b"Subject: hello\r\n\r\nthe body\r\n"


class Bounce(Role):
    def __init__(self, **conf):
        super().__init__("bounce", **{**CONF, **conf})

    def __enter__(self):
        super().__enter__()
        self.qmgr = self.peer("qmgr")
        self.start()
        return self

    def order(self, kind=FAILURE, outcomes=((0, BOUNCED),), env=None,
              size=len(TEXT), offset=0, queue_id=0xABC, tail=b""):
        now = int(time.time() * 1e6)
        fd = memfd(TEXT)
        self.qmgr.send(
            "BOUNCE", u64(queue_id) + u8(kind) + u64(offset) + u64(size) +
            u64(now) * 3 + u32(len(outcomes)) + b"".join(
                u32(i) + u8(fate) + view("5.1.1") + view("no") + view("")
                for i, fate in outcomes) +
            view(env or envelope("a@client.example", ["b@example.com"])) +
            tail, [fd])
        os.close(fd)

    def slot(self, queue_id, asked=1):
        """Give it one; what it wrote there."""
        for _ in range(asked):
            assert self.qmgr.expect("SLOTS").u32() == 1
        fd = memfd(b"", seal=False)
        self.qmgr.send("SLOT", u64(queue_id), [fd])
        f = self.qmgr.expect("SEAL")
        assert f.u64() == queue_id
        size, internal = f.u64(), f.u8()
        assert internal == 1
        text = os.pread(fd, 1 << 20, 0)
        assert len(text) == size
        os.close(fd)
        return text

    def quiet(self, seconds=0.3):
        assert not select.select([self.qmgr.sock], [], [],
                                 seconds * SLOW)[0], self.qmgr.receive()

    def answered(self, queue_id, ok, note):
        f = self.qmgr.expect("BOUNCED")
        assert (f.u64(), f.u8(), f.u64()) == (queue_id, ok, note)
        f.done()


@pytest.mark.parametrize("code,ok", [(250, 1), (451, 0)])
def test_answer_comes_after_the_sealing(code, ok):
    with Bounce() as b:
        b.order()
        r = Report(b.slot(0x111))
        assert set(r.recipients) == {"b@example.com"}
        # sealed is not yet durable: nobody may mark anything now
        b.quiet()
        b.qmgr.send("SEALED", u64(0x111) + u16(code) + view("2.0.0") +
                    view("Ok"))
        b.answered(0xABC, ok, 0x111 if ok else 0)


def test_nothing_to_tell():
    with Bounce() as b:
        b.order(SUCCESS, [(0, RELAYED)])        # nobody asked
        b.answered(0xABC, 1, 0)
        b.order(FAILURE, env=envelope("", ["b@example.com"]))
        b.answered(0xABC, 1, 0)


def test_several_orders_at_once():
    with Bounce() as b:
        for i in range(5):
            b.order(queue_id=i + 1)
        notes = {}
        for i in range(5):
            r = Report(b.slot(0x100 + i, 5 if i == 0 else 0))
            notes[int(r.message["x-postern-queue-id"], 16)] = 0x100 + i
        assert set(notes) == {1, 2, 3, 4, 5}
        for message, note in notes.items():
            b.qmgr.send("SEALED", u64(note) + u16(250) + view("2.0.0") +
                        view("Ok"))
            b.answered(message, 1, note)


def test_text_that_is_not_there():
    with Bounce() as b:
        b.order(size=5000)
        b.qmgr.expect("SLOTS")
        fd = memfd(b"", seal=False)
        b.qmgr.send("SLOT", u64(0x111), [fd])
        os.close(fd)
        assert b.qmgr.expect("SLOT_DROP").u64() == 0x111
        b.answered(0xABC, 0, 0)


@pytest.mark.parametrize("bad", [
    dict(kind=0), dict(kind=7), dict(outcomes=[(1, BOUNCED)]),
    dict(outcomes=[(0, DEFERRED)]), dict(kind=DELAY), dict(tail=b"x"),
    dict(kind=SUCCESS, outcomes=[(0, BOUNCED)]),
    dict(outcomes=[(0, BOUNCED)] * 2), dict(env=b"\1"),
    dict(offset=1 << 63), dict(outcomes=[(0, 9)]),
    dict(env=envelope("a\r\nb@x", ["b@example.com"]))])
def test_nonsense_is_blamed(bad):
    with Bounce() as b:
        b.order(**bad)
        b.control.expect("BLAME")
