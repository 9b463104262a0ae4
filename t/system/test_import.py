"""postern import sendmail: what becomes of sendmail.mc files as sites have
them (t/import/sendmail), and that nothing is lost or overwritten."""
import os
import re
import shutil
import subprocess
import tempfile

import pytest
from postern import BIN, TOP

SAMPLES = f"{TOP}/t/import/sendmail"
NAMES = sorted(os.listdir(SAMPLES))
ENTRY = re.compile(r"^(\S+?)(?::(\d+))?: (carried over|changed|"
                   r"not carried over|unknown): (.*)\n(?:\t(.*))?", re.M)


@pytest.fixture
def out():
    d = tempfile.mkdtemp(prefix="postern-import-", dir="/tmp")
    yield d
    shutil.rmtree(d)


def run(*args):
    return subprocess.run([BIN + "/postern", *args], text=True,
                          capture_output=True, timeout=120, check=False)


class Imported:
    def __init__(self, source, to, *options):
        self.source, self.to = os.path.realpath(source), to
        p = run("import", "sendmail", source, "--to", to, *options)
        self.text = p.stdout + p.stderr
        self.status = p.returncode
        if self.status == 2:
            # what was written is checked: this host has not all it names
            for line in p.stderr.splitlines():
                if ": error: " in line:
                    assert re.search(r"No such file or directory( \(|$)|uucp",
                                     line), p.stderr
            self.status = 0
        if self.status or "-n" in options:
            return
        report = open(to + "/import-report.txt").read()
        # (file, line) -> [(outcome, reason)]
        self.report = {}
        for file, line, outcome, text, why in ENTRY.findall(report):
            self.report.setdefault(
                (os.path.relpath(file, self.source), int(line or 0)),
                []).append((outcome, why))
        p = subprocess.run([BIN + "/postconf", "-c", to, "-n"], text=True,
                           capture_output=True, timeout=60, check=False)
        self.warnings = p.stderr
        assert p.returncode == 0, p.stderr
        self.main = dict(l.split(" =", 1) for l in p.stdout.splitlines())
        self.main = {k: v.strip() for k, v in self.main.items()}

    def table(self, name):
        rows = {}
        for line in open(f"{self.to}/{name}"):
            if not line.startswith("#"):
                key, value = line.rstrip("\n").split("\t", 1)
                rows[key] = value
        return rows

    def find(self, kind, name, key):
        p = subprocess.run([BIN + "/postmap", "-c", self.to, "-q", key,
                            f"{kind}:{self.to}/{name}"], text=True,
                           capture_output=True, timeout=60, check=False)
        assert not p.stderr, p.stderr
        return p.stdout.rstrip("\n")

    def said(self, file, line):
        return [o for o, _ in self.report.get((file, line), [])]

    def of(self, file, pattern):
        """What was said of the lines of a file that match."""
        said = []
        for n, line in enumerate(open(f"{self.source}/{file}"), 1):
            if re.search(pattern, line):
                said += self.report.get((file, n), [("nothing", line)])
        return said


def listing(d):
    found = {}
    for top, _, names in os.walk(d):
        for n in names:
            p = os.path.join(top, n)
            st = os.stat(p)
            found[p] = (st.st_mtime_ns, st.st_size, open(p, "rb").read())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_dropped_silently(name, out):
    """Each line of each file is in the report, each setting has a source or
    a reason, and the source is as it was."""
    before = listing(f"{SAMPLES}/{name}")
    got = Imported(f"{SAMPLES}/{name}", out + "/etc")
    assert got.status == 0, got.text
    assert listing(f"{SAMPLES}/{name}") == before
    depth = 0
    for n, line in enumerate(open(f"{SAMPLES}/{name}/sendmail.mc"), 1):
        inside, text = depth, line.strip()
        depth += len(re.findall(r"\(", line)) - len(re.findall(r"\)", line))
        if inside or not text or text.startswith(("dnl", "#", "divert")):
            depth = max(depth, 0) if not text.startswith("#") else inside
            continue
        assert got.said("sendmail.mc", n), (n, line)
    for table in ("access", "mailertable", "virtusertable", "genericstable",
                  "domaintable", "authinfo"):
        path = f"{SAMPLES}/{name}/{table}"
        used = re.search(rf"^FEATURE\([`\s]*{table.replace('access', 'access_db')}\b",
                         open(f"{SAMPLES}/{name}/sendmail.mc").read(), re.M)
        if not os.path.exists(path) or not used:
            continue
        for n, line in enumerate(open(path), 1):
            if line.strip() and not line.startswith("#"):
                assert got.said(table, n), (table, n, line)
    above = "x"
    for line in open(out + "/etc/main.cf"):
        if re.match(r"[a-z0-9_]+ =", line):
            assert above.startswith("#") or re.match(
                r"(smtpd_\w+_restrictions|smtp_tls_policy_maps|mynetworks|"
                r"sender_canonical_\w+|swap_bangpath|non_smtpd_milters|"
                r"smtpd_tls_security_level) =", line), line
        above = line
    bad = [w for w in got.warnings.splitlines() if "smtp_sasl_" not in w]
    assert not bad, bad


def test_report_counts(out):
    got = Imported(f"{SAMPLES}/hub", out + "/etc")
    for outcome in ("carried over", "changed", "not carried over", "unknown"):
        n = sum(o == outcome for said in got.report.values()
                for o, _ in said)
        assert re.search(rf"^ +{n} {outcome}$", got.text, re.M), got.text


def test_redhat(out):
    got = Imported(f"{SAMPLES}/redhat", out + "/etc")
    m = got.main
    assert m["smtp_connect_timeout"] == "1m"
    assert m["disable_vrfy_command"] == "yes"
    assert m["authorized_flush_users"] == "root"
    assert m["mailbox_command"].startswith("/usr/bin/procmail ")
    assert "example.org" in m["mydestination"].split(", ")
    assert "localhost.localdomain" in m["mydestination"].split(", ")
    assert "reject_unknown_sender_domain" not in m.get(
        "smtpd_sender_restrictions", "")
    assert "reject_non_fqdn_sender" in m["smtpd_sender_restrictions"]
    assert got.table("relay_clients")["localhost"] == "OK"
    master = open(out + "/etc/master.cf").read()
    assert "127.0.0.1:smtp  inet" in master
    assert not re.search(r"^submission", master, re.M)
    assert got.of("sendmail.mc", "smrsh")[0][0] == "not carried over"
    assert got.of("sendmail.mc", "confUSERDB_SPEC")[0][0] == \
        "not carried over"


def test_debian(out):
    got = Imported(f"{SAMPLES}/debian", out + "/etc")
    m = got.main
    assert m["smtpd_helo_required"] == "yes"
    # the included file, behind a condition
    assert m["smtpd_tls_cert_file"] == "/etc/mail/tls/sendmail-server.crt"
    assert m["smtpd_tls_security_level"] == "may"
    assert m["smtpd_client_connection_rate_limit"] == "10"
    assert "127.0.0.0/8" in m["smtpd_client_event_limit_exceptions"]
    # the condition that is not true
    assert not got.of("sendmail.mc", "NO_SUCH_THING")[1:]
    assert "envelope_sender" in m["sender_canonical_classes"]
    assert m["recipient_canonical_classes"] == "header_recipient"
    assert got.table("access_client")["10.9.8"].startswith("550 5.7.1")
    assert got.table("access_sender")["bad.example"].startswith("550 5.7.1")
    assert got.table("relay_recipients") == {"friend.example": "OK"}
    assert set(got.table("relay_clients")) == {"localhost", "127", "::1"}
    master = open(out + "/etc/master.cf").read()
    assert re.search(r"^127.0.0.1:submission +inet.*\n"
                     r"  -o smtpd_client_restrictions=permit_sasl_auth",
                     master, re.M)


def test_freebsd(out):
    got = Imported(f"{SAMPLES}/freebsd", out + "/etc")
    assert got.main["transport_maps"].startswith("hash:")
    assert got.table("transport") == {
        "xyz.example": "smtp:[gateway.xyz.example]",
        ".uucp.example": "error:5.1.2 no UUCP here"}
    access = got.table("access_sender")
    assert access["cyberspammer.example"] == \
        "550 5.7.1 We don't accept mail from spammers"
    assert access["okay.cyberspammer.example"] == "OK"
    assert got.find("hash", "access_client", "128.32") == "OK"
    assert got.find("hash", "relay_clients", "128.32") == "OK"
    # example.com is not local: sendmail would not look the address up
    assert got.said("virtusertable", 1) == ["not carried over"]
    # one service for both families
    master = open(out + "/etc/master.cf").read()
    assert len(re.findall(r"^smtp  inet", master, re.M)) == 1
    assert re.search(r"^submission  inet", master, re.M)


def test_hub(out):
    got = Imported(f"{SAMPLES}/hub", out + "/etc")
    m = got.main
    assert m["message_size_limit"] == "20971520"
    assert m["maximal_queue_lifetime"] == "4d"
    assert m["relayhost"] == "[outside.example.com]"
    assert m["local_transport"] == "smtp:[inside.example.com]"
    assert m["smtpd_delay_reject"] == "yes"
    for net in ("192.0.2.0/24", "198.51.100.7/32", "10.1.0.0/16",
                "[2001:db8::]/32"):
        assert net in m["mynetworks"], net
    # delay_checks: the sender comes first
    assert re.match(r"check_sender_access \S+, reject_non_fqdn_sender, "
                    r"reject_unknown_sender_domain, check_client_access \S+, "
                    r"reject_rbl_client dnsbl.example.net, ",
                    m["smtpd_sender_restrictions"])
    assert "reject_rbl_client enh.example.net=127.0.0.3" in \
        m["smtpd_sender_restrictions"]
    t = got.table("transport")
    assert t["two.example"] == "relay:[10.1.1.2], [10.1.1.3]"
    assert t["later.example"] == "retry:4.7.0 Not now"
    assert got.table("virtual_mailers") == {"@local.example": "postmaster"}
    assert got.said("mailertable", 7) == ["not carried over"]
    assert got.table("tls_policy") == {"secure.example": "verify",
                                       "broken.example": "none"}
    assert got.table("access_sender")["quiet@spam2.example"] == "DISCARD"
    assert got.table("sasl_password") == {"outside.example.com": "hub:secret"}
    for name in ("sasl_password", "sasl_password.lmdb"):
        assert os.stat(f"{out}/etc/{name}").st_mode & 0o77 == 0
    assert "secret" not in open(out + "/etc/import-report.txt").read()
    for what in ("confNO_SUCH_OPTION", "no_such_feature"):
        assert got.of("sendmail.mc", what)[0][0] == "unknown"
    assert got.of("sendmail.mc", r"^R\$\*")[0][0] == "not carried over"


def test_department(out):
    got = Imported(f"{SAMPLES}/department", out + "/etc")
    t = got.table("sender_canonical")
    assert t["jsmith@dept.example.edu"] == "John.Smith@example.edu"
    assert t["@dept.example.edu"] == "@example.edu"
    assert t["root@dept.example.edu"] == "root@dept.example.edu"
    assert got.find("pcre", "masquerade", "x@a.dept.example.edu") == \
        "x@example.edu"
    assert got.find("pcre", "masquerade", "root@a.dept.example.edu") == ""
    assert got.find("pcre", "masquerade", "x@open.dept.example.edu") == \
        "x@open.dept.example.edu"
    assert got.table("canonical") == {"@old.example.edu": "@dept.example.edu"}
    assert got.main["fallback_transport"] == "relay:[campus.example.edu]"
    assert got.said("genericstable", 3) == ["not carried over"]
    assert "reject_non_fqdn_sender" not in got.main.get(
        "smtpd_sender_restrictions", "")


def test_hosting(out):
    got = Imported(f"{SAMPLES}/hosting", out + "/etc")
    m = got.main
    assert m["virtual_alias_maps"].startswith("hash:")
    assert got.table("virtual") == {
        "info@cust1.example": "alice", "sales@cust1.example":
        "bob@elsewhere.example", "@cust2.example": "@elsewhere.example",
        "info@virtual.example": "carol"}
    # "error:" cannot be said by virtual(5)
    assert got.table("virtual_errors")["nobody@cust1.example"] == \
        "550 5.1.1 No such user here"
    assert m["virtual_alias_domains"] == "virtual.example, virt2.example"
    assert got.table("access_recipient")["abuse@cust1.example"].startswith(
        "550 5.2.1")
    assert got.said("virtusertable", 6) == ["not carried over"]


def test_filters(out):
    got = Imported(f"{SAMPLES}/filters", out + "/etc")
    m = got.main
    assert m["smtpd_milters"] == (
        "{ inet:127.0.0.1:8890, default_action=accept }, "
        "{ unix:/var/run/clamav/clamav-milter.ctl, default_action=tempfail, "
        "connect_timeout=900s, command_timeout=240s, content_timeout=600s }")
    assert m["milter_connect_macros"] == "j _ {daemon_name}"
    assert m["smtpd_sasl_auth_enable"] == "yes"
    assert "permit_sasl_authenticated" in m["smtpd_relay_restrictions"]
    assert m["smtp_tls_cert_file"] == "/etc/mail/certs/mx.pem"
    assert m["smtpd_client_connection_count_limit"] == "20"
    assert got.of("sendmail.mc", "MAIL_FILTER.`unused")[0][0] == \
        "not carried over"
    assert got.table("sasl_password") == {"smtp.example.com":
                                          "user:pass word"}
    master = open(out + "/etc/master.cf").read()
    assert re.search(r"^smtps  inet.*\n  -o smtpd_tls_wrappermode=yes",
                     master, re.M)


def test_uucp(out):
    got = Imported(f"{SAMPLES}/uucp", out + "/etc")
    assert got.main["default_transport"] == "uucp:bigvax"
    # an open relay is never made
    assert got.of("sendmail.mc", "promiscuous")[0][0] == "not carried over"
    assert got.main["smtpd_relay_restrictions"].endswith(
        "reject_unauth_destination")


def test_cf_without_mc(out):
    """sendmail.cf alone: the classes, maps and options that stand in it."""
    os.mkdir(out + "/mail")
    with open(out + "/mail/sendmail.cf", "w") as f:
        f.write("V10/Berkeley\nCwlocalhost one.example\n"
                "Fw-o /etc/mail/local-host-names %[^\\#]\n"
                "Djcf.example.com\nDSrelay:[smart.example]\n"
                "C{Other}x y\nKaccess hash -T<TMPF> /etc/mail/access\n"
                "Kmailertable hash /etc/mail/mailertable\n"
                "O MaxMessageSize=1000000\nO Timeout.connect=2m\n"
                "O PrivacyOptions=novrfy,\n\tnoexpn\nO Odd=1\n"
                "O DaemonPortOptions=Name=MTA, Addr=127.0.0.1\n"
                "Xf, S=inet:99@localhost, F=T\n"
                "Msmtp,\t\tP=[IPC], F=mDFMuX,\n\t\tA=TCP $h\n"
                "HReceived: x\nScanonify=3\nR$*\t$@ $1\nR$+\t$: $1\n")
    with open(out + "/mail/local-host-names", "w") as f:
        f.write("two.example\n")
    with open(out + "/mail/access", "w") as f:
        f.write("bad.example REJECT\n")
    got = Imported(out + "/mail", out + "/etc")
    assert got.status == 0, got.text
    m = got.main
    assert m["myhostname"] == "cf.example.com"
    assert m["relayhost"] == "[smart.example]"
    assert m["message_size_limit"] == "1000000"
    assert m["smtp_connect_timeout"] == "2m"
    assert m["disable_vrfy_command"] == "yes"
    assert m["smtpd_milters"] == \
        "{ inet:localhost:99, default_action=tempfail }"
    assert {"one.example", "two.example"} <= set(
        m["mydestination"].split(", "))
    assert got.said("sendmail.cf", 13) == ["unknown"]
    # a rule set is one entry
    assert got.said("sendmail.cf", 19) == ["not carried over"]
    assert "2 rules" in got.report[("sendmail.cf", 19)][0][1]


def test_target(out):
    """Existing files stay without --force, -n writes nothing, and the source
    is never the target."""
    to = out + "/etc"
    got = Imported(f"{SAMPLES}/hub", to, "-n")
    assert got.status == 0 and not os.path.exists(to)
    assert f"would write {to}/main.cf" in got.text
    assert f"would make the directory {to}" in got.text
    os.mkdir(to)
    with open(to + "/main.cf", "w") as f:
        f.write("mine\n")
    got = Imported(f"{SAMPLES}/hub", to)
    assert got.status == 1
    assert f"{to}/main.cf exists" in got.text
    assert os.listdir(to) == ["main.cf"]
    assert open(to + "/main.cf").read() == "mine\n"
    got = Imported(f"{SAMPLES}/hub", to, "--force")
    assert got.status == 0, got.text
    assert got.main["myhostname"] == "hub.example.com"
    assert not [n for n in os.listdir(to) if n.startswith(".")]
    copy = out + "/mail"
    shutil.copytree(f"{SAMPLES}/hub", copy)
    before = listing(copy)
    for inside in (copy, copy + "/new", copy + "/a/b"):
        p = run("import", "sendmail", copy, "--to", inside, "--force")
        assert p.returncode == 1 and "is in what is read" in p.stderr
    assert listing(copy) == before


def test_links_are_not_followed(out):
    """A name in the target that is a link: its file is not written to."""
    to = out + "/etc"
    os.mkdir(to)
    with open(out + "/precious", "w") as f:
        f.write("precious\n")
    os.symlink(out + "/precious", to + "/main.cf")
    got = Imported(f"{SAMPLES}/hub", to)
    assert got.status == 1
    got = Imported(f"{SAMPLES}/hub", to, "--force")
    assert got.status == 0, got.text
    assert open(out + "/precious").read() == "precious\n"
    assert not os.path.islink(to + "/main.cf")


@pytest.mark.parametrize("text, line", [
    ("OSTYPE(`linux')\ndefine(`confX', `a\n", 2),
    ("\n\nFEATURE(`x'\n", 3),
    ("define(`A', " + "x" * 20000 + ")\n", 1),
    ("define(" + "a," * 20 + ")\n", 1),
])
def test_mistakes_have_a_place(text, line, out):
    os.mkdir(out + "/mail")
    with open(out + "/mail/sendmail.mc", "w") as f:
        f.write(text)
    got = Imported(out + "/mail", out + "/etc")
    assert got.status == 1
    assert f"/mail/sendmail.mc:{line}: " in got.text
    assert not os.path.exists(out + "/etc")


def test_full_disk(out):
    """Half-way nothing stays: here the limit of a file's size."""
    to = out + "/etc"
    p = subprocess.run(
        ["sh", "-c", "ulimit -f 2; trap '' XFSZ; exec \"$@\"", "sh",
         BIN + "/postern", "import", "sendmail", f"{SAMPLES}/hub", "--to",
         to], text=True, capture_output=True, timeout=60, check=False)
    assert p.returncode == 1, p.stdout
    assert "cannot write" in p.stderr or "error" in p.stderr
    assert not os.path.exists(to) or not os.listdir(to)
