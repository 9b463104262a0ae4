"""Read a notification the way a program would: with Python's email package,
and field by field as RFC 3464 has them."""
import email
import email.policy
import email.utils
import re

ACTIONS = {"failed", "delayed", "delivered", "relayed", "expanded"}
TYPED = re.compile(r"[!-9<-~]+; .+$", re.S)
MESSAGE = {
    "reporting-mta": TYPED, "original-envelope-id": re.compile(r".{1,100}$"),
    "x-postern-queue-id": re.compile(r"[0-9A-F]{11}$"),
    "x-postern-sender": TYPED, "arrival-date": None,
}
RECIPIENT = {
    "final-recipient": TYPED, "original-recipient": TYPED,
    "action": re.compile("(%s)$" % "|".join(ACTIONS)),
    "status": re.compile(r"[245]\.\d{1,3}\.\d{1,3}$"),
    "remote-mta": TYPED, "diagnostic-code": TYPED,
    "last-attempt-date": None, "will-retry-until": None,
}


def fields(text, known, required):
    """One group of fields; every one is known, well formed and there once."""
    found = {}
    for line in re.sub(r"\r\n(?=[ \t])", "", text).split("\r\n"):
        name, colon, value = line.partition(":")
        assert colon, f"no field: {line!r}"
        name, value = name.lower(), value.strip()
        assert name in known and name not in found, line
        found[name] = value
        if known[name] is None:
            assert email.utils.parsedate_to_datetime(value), line
        else:
            assert known[name].match(value), line
    assert set(required) <= set(found), found
    return found


class Report:
    """subject, words, message (fields), recipients {address: fields},
    original, headers_only, global_"""

    def __init__(self, raw):
        for line in raw.split(b"\r\n"):
            assert len(line) < 999 and b"\n" not in line and \
                b"\r" not in line, line
        m = email.message_from_bytes(raw)
        assert not m.defects, m.defects
        assert m.get_content_type() == "multipart/report"
        for name in ("From", "To", "Subject", "Date", "Message-Id",
                     "Received", "MIME-Version"):
            assert len(m.get_all(name)) == 1, name
        assert m["Auto-Submitted"] == "auto-replied"
        self.subject = str(m["Subject"])
        body = raw.partition(b"\r\n\r\n")[2]
        boundary = b"--" + m.get_boundary().encode()
        parts = body.split(boundary)[1:]
        assert len(parts) == 4 and parts[3] == b"--\r\n", parts
        types = []
        for part in parts[:3]:
            head, _, text = part.partition(b"\r\n\r\n")
            head = email.message_from_bytes(head[2:] + b"\r\n\r\n")
            eight = any(c > 127 for c in text)
            assert (head["Content-Transfer-Encoding"] == "8bit") == eight
            assert not eight or m["Content-Transfer-Encoding"] == "8bit"
            types.append((head.get_content_type(), text))
        self.global_ = types[1][0] == "message/global-delivery-status"
        assert types[0][0] == "text/plain"
        assert types[1][0] == ("message/global-delivery-status" if
                               self.global_ else "message/delivery-status")
        assert m.get_param("report-type") == types[1][0].split("/")[1]
        assert types[2][0] in (
            ("message/global", "message/global-headers") if self.global_ else
            ("message/rfc822", "text/rfc822-headers"))
        self.headers_only = types[2][0].endswith("headers")
        self.words = types[0][1].decode()
        self.original = types[2][1]
        status = types[1][1]
        if not self.global_:
            status.decode("ascii")
        groups = status.decode().strip("\r\n").split("\r\n\r\n")
        self.message = fields(groups[0], MESSAGE, [
            "reporting-mta", "x-postern-queue-id", "arrival-date"])
        self.recipients = {}
        for g in groups[1:]:
            f = fields(g, RECIPIENT, ["final-recipient", "action", "status"])
            delayed = f["action"] == "delayed"
            assert ("will-retry-until" in f) == delayed
            assert ("last-attempt-date" in f) == delayed
            kind, _, address = f["final-recipient"].partition("; ")
            assert kind in ("rfc822", "utf-8")
            assert address not in self.recipients
            self.recipients[address] = f
        assert self.recipients

    def __repr__(self):
        return f"Report({self.subject!r}, {self.recipients!r})"


def reports(sink, sender=""):
    """Those that a sink has, to whom; from the null sender or another."""
    return [(m.rcpts, Report(m.text)) for m in list(sink.messages)
            if m.sender == sender]
