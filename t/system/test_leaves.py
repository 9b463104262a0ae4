"""The leaves of ordinary messages: as Python's email package sees them."""
import email
import email.policy
import quopri
import random
import string
import subprocess
from email.message import EmailMessage
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

from postern import BUILD

LEAFCAT = f"{BUILD}/t/tools/leafcat"


def leaves(text):
    out = subprocess.run([LEAFCAT], input=text, capture_output=True,
                         check=True, timeout=60).stdout
    found = []
    while not out.startswith(b"end"):
        line, _, out = out.partition(b"\n")
        kind, *words = line.split()
        n = int(words[-1])
        if kind == b"leaf":
            found.append((words[0].decode().lower(), out[:n], []))
        else:
            found[-1][2].append(out[:n].decode("utf-8"))
        out = out[n + 1:]
    return found


def expected(text):
    m = email.message_from_bytes(text, policy=email.policy.default)
    for p in m.walk():
        if p.is_multipart():
            continue
        yield (p.get_content_type(), p.get_payload(decode=True),
               p.get_filename())


def trim(b):
    """the last line end may be a boundary's"""
    return b[:-2] if b.endswith(b"\r\n") else b


def compare(text):
    want = list(expected(text))
    got = leaves(text)
    assert [w[0] for w in want] == [g[0] for g in got]
    for w, g in zip(want, got):
        assert trim(w[1]) == trim(g[1])
        if w[2] is not None:
            assert w[2].strip() in [n.strip() for n in g[2]]


def words(r, n):
    letters = string.ascii_letters + "   .=-é\u4e2d\u0431"
    return "".join(r.choice(letters) for _ in range(n))


def leaf(r):
    name = words(r, r.randint(1, 90)).strip(" .") + "x.pdf"
    if r.random() < 0.4:
        p = MIMEApplication(r.randbytes(r.randint(0, 5000)))
    else:
        lines = [words(r, r.randint(0, 120)) for _ in range(r.randint(1, 30))]
        p = MIMEText("\r\n".join(lines), r.choice(["plain", "html"]), "utf-8")
        if r.random() < 0.5:
            p.replace_header("Content-Transfer-Encoding", "quoted-printable")
            p.set_payload(quopri.encodestring(
                "\r\n".join(lines).encode()).decode())
    if r.random() < 0.7:
        p.add_header("Content-Disposition", "attachment",
                     filename=("utf-8", "", name))
    return p


def tree(r, depth):
    if depth == 0 or r.random() < 0.3:
        return leaf(r)
    m = MIMEMultipart(r.choice(["mixed", "alternative", "related"]))
    for _ in range(r.randint(1, 4)):
        m.attach(tree(r, depth - 1))
    return m


def test_random_trees():
    for seed in range(40):
        r = random.Random(seed)
        compare(tree(r, 4).as_bytes(
            policy=email.policy.compat32.clone(linesep="\r\n")))


def test_modern_messages():
    """what the package's own composer writes, with an attached message"""
    for seed in range(20):
        r = random.Random(seed)
        inner = EmailMessage()
        inner["Subject"] = "inner"
        inner.set_content("a line\r\n" * 3)
        m = EmailMessage()
        m["Subject"] = words(r, 80)
        m.set_content(words(r, 200))
        m.add_alternative("<p>" + words(r, 300), subtype="html")
        m.add_attachment(r.randbytes(300), maintype="application",
                         subtype="pdf", filename=words(r, 70) + "x.pdf")
        m.add_attachment(inner)
        compare(m.as_bytes(policy=email.policy.SMTP))
