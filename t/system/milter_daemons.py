"""Real outside filters from Debian packages, each listening on a port of its
own; and what they need: keys, a name server, scanners."""
import glob
import os
import shutil
import socket
import struct
import threading

from daemons import Daemons
from postern import TOP, free_port, run

VIRUS = b"POSTERN-TEST-VIRUS-7f3a"
SPAM = (b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL"
        b"*C.34X")       # the string that SpamAssassin knows
DKIM_OPTIONS = """Mode {mode}
Socket inet:{port}@127.0.0.1
UserID root
RequireSafeKeys no
Syslog no
AuthservID {host}
Canonicalization relaxed/simple
TestPublicKeys {dir}/public
"""
DMARC_OPTIONS = """Socket inet:{port}@127.0.0.1
UserID root
Syslog no
AuthservID {host}
TrustedAuthservIDs {host}
IgnoreHosts {dir}/ignored
RejectFailures true
SPFIgnoreResults true
Background false
"""


class Texts:
    """A name server at port 53 of an address of our own: TXT records."""

    def __init__(self, texts):
        self.texts = texts
        pid = os.getpid()
        self.address = f"127.{pid >> 8 & 127 | 64}.{pid & 255}.98"
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((self.address, 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            q, peer = self.sock.recvfrom(512)
            if len(q) < 17:
                return
            try:
                self.sock.sendto(self.answer(q), peer)
            except (IndexError, struct.error):
                pass

    def answer(self, q):
        labels, at = [], 12
        while q[at]:
            labels.append(q[at + 1:at + 1 + q[at]].decode().lower())
            at += 1 + q[at]
        kind, = struct.unpack("!H", q[at + 1:at + 3])
        question = q[12:at + 5]
        text = self.texts.get(".".join(labels)) if kind == 16 else None
        code = 0 if text or kind != 16 else 3
        head = q[:2] + struct.pack("!HHHHH", 0x8580 | code, 1,
                                   1 if text else 0, 0, 0)
        if not text:
            return head + question
        data = b"".join(bytes([len(text[i:i + 250])]) +
                        text[i:i + 250].encode()
                        for i in range(0, len(text), 250))
        return head + question + b"\xc0\x0c" + struct.pack(
            "!HHIH", 16, 1, 60, len(data)) + data

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"end", (self.address, 53))


def answers(path, question):
    """Does who listens on a unix socket say anything?"""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
            s.sendall(question)
            return s.recv(100)
        except OSError:
            return None


class Filters:
    """Started when first asked for: where(name) is the word for
    smtpd_milters."""

    def __init__(self, host="gw.example.com"):
        self.daemons = Daemons()
        self.dir, self.host = self.daemons.dir, host
        self.ports, self.names = {}, None
        self.key = None

    def where(self, name):
        if name not in self.ports:
            self.ports[name] = free_port()
        return f"inet:127.0.0.1:{self.ports[name]}"

    def start(self, name):
        self.where(name)
        getattr(self, name)(self.ports[name])
        self.daemons.wait_port(self.ports[name])

    def stop(self):
        self.daemons.stop()
        if self.names:
            self.names.close()

    # DKIM and DMARC

    def keys(self):
        """(name, text) of the public key; made once."""
        if not self.key:
            run("openssl", "genrsa", "-out", self.dir + "/private", "2048")
            pem = run("openssl", "rsa", "-in", self.dir + "/private",
                      "-pubout").stdout
            self.key = ("test._domainkey.client.example",
                        "v=DKIM1; k=rsa; p=" + "".join(
                            pem.splitlines()[1:-1]))
            self.daemons.file("public", " ".join(self.key) + "\n")
        return self.key

    def dkim(self, port, mode, more):
        self.keys()
        conf = self.daemons.file(f"opendkim.{mode}", DKIM_OPTIONS.format(
            mode=mode, port=port, dir=self.dir, host=self.host) + more)
        self.daemons.run("/usr/sbin/opendkim", "-f", "-x", conf,
                         name="opendkim." + mode)

    def dkim_sign(self, port):
        self.dkim(port, "s", "Domain client.example\nSelector test\n"
                  f"KeyFile {self.dir}/private\nInternalHosts 127.0.0.0/8\n")

    def dkim_verify(self, port):
        self.dkim(port, "v", "InternalHosts 192.0.2.1\n")

    def dmarc(self, port):
        self.names = Texts({"_dmarc.client.example": "v=DMARC1; p=reject"})
        self.daemons.file("ignored", "192.0.2.1\n")
        resolv = self.daemons.file(
            "resolv.conf", f"nameserver {self.names.address}\n"
            "options timeout:2 attempts:1\n")
        conf = self.daemons.file("opendmarc.conf", DMARC_OPTIONS.format(
            port=port, dir=self.dir, host=self.host))
        self.daemons.run(
            "unshare", "-m", "sh", "-c", f"mount --bind {resolv} "
            f"/etc/resolv.conf && exec opendmarc -f -c {conf}",
            name="opendmarc")

    # Scanners

    def clamav(self, port):
        d = self.daemons
        db, own = d.folder("db", "clamav"), d.folder("clamd", "clamav")
        with open(db + "/test.ndb", "w") as f:
            f.write(f"Postern.Test:0:*:{VIRUS.hex()}\n")
        d.run("clamd", "--config-file=" + d.file(
            "clamd.conf", f"LocalSocket {own}/sock\nLocalSocketMode 666\n"
            f"DatabaseDirectory {db}\nForeground yes\nUser clamav\n"))
        d.wait("clamd", lambda: answers(own + "/sock", b"PING\n"))
        d.run("clamav-milter", "--config-file=" + d.file(
            "clamav-milter.conf", f"MilterSocket inet:{port}@127.0.0.1\n"
            f"ClamdSocket unix:{own}/sock\nForeground yes\nUser clamav\n"
            "OnInfected Reject\nRejectMsg virus %v\nAddHeader Replace\n"
            f"LogFile {own}/milter.log\n"))

    def spamassassin(self, port):
        d = self.daemons
        home = d.folder("spamd", "debian-spamd")
        for pre in glob.glob("/etc/spamassassin/*.pre"):
            shutil.copy(pre, home)
        d.file("spamd/local.cf", "use_bayes 0\nskip_rbl_checks 1\n"
               "header POSTERN_TEST Subject =~ /judge me/\n"
               "score POSTERN_TEST 7\n")
        spamd = free_port()
        d.run("spamd", "--local", "-x", "-m", "1", "-u", "debian-spamd",
              "--siteconfigpath", home, "-H", home, "-p", str(spamd),
              "-i", "127.0.0.1", "-s", "stderr")
        d.wait_port(spamd)
        d.run("spamass-milter", "-p", f"inet:{port}@127.0.0.1", "-r", "15",
              "--", "-d", "127.0.0.1", "-p", str(spamd))

    def mimedefang(self, port):
        d = self.daemons
        spool = d.folder("md", "defang")
        os.chmod(spool, 0o700)
        code = d.file("md-filter", MIMEDEFANG_FILTER)
        d.run("mimedefang-multiplexor", "-D", "-U", "defang", "-z", spool,
              "-s", spool + "/mx.sock", "-F", code, "-m", "1", "-x", "2",
              "-l")
        d.wait("the multiplexor", lambda: os.path.exists(spool + "/mx.sock"))
        d.run("mimedefang", "-D", "-U", "defang", "-z", spool, "-m",
              spool + "/mx.sock", "-p", f"inet:{port}@127.0.0.1", "-X")

    # Samples

    def pymilter(self, port):
        code = self.daemons.file("sample.py", PYMILTER)
        self.daemons.run("/usr/bin/python3", code,
                         f"inet:{port}@127.0.0.1",
                         self.dir + "/pymilter.said", name="pymilter")

    def pmilter(self, port):
        code = self.daemons.file("sample.pl", PMILTER)
        self.daemons.run("perl", code, f"inet:{port}@127.0.0.1",
                         name="pmilter")

    def noop(self, port):
        program = build_noop(self.dir)
        self.daemons.run(program, f"inet:{port}@127.0.0.1")


def build_noop(folder):
    """The filter of contrib/milterbench."""
    program = folder + "/noop-milter"
    run("gcc", "-O2", "-o", program, TOP + "/contrib/noop_milter.c",
        "-lmilter", "-pthread")
    return program


MIMEDEFANG_FILTER = r"""
sub filter_begin { }
sub filter {
	my($entity, $fname, $ext, $type) = @_;
	return action_replace_with_warning("removed: $fname")
	    if $fname =~ /\.zzz$/i;
	return action_accept();
}
sub filter_end {
	my($entity) = @_;
	append_text_boilerplate($entity, "-- \nchecked", 0);
	action_add_header("X-Checked", "yes");
	action_bounce("not this") if $Subject =~ /bounce/;
	action_quarantine_entire_message() if $Subject =~ /keep/;
}
1;
"""
PYMILTER = '''
import sys
import Milter


class Sample(Milter.Base):
    @Milter.noreply
    def connect(self, name, family, addr):
        return Milter.CONTINUE

    def say(self, what):
        with open(sys.argv[2], "a") as f:
            print(what, file=f)

    def envfrom(self, sender, *args):
        self.text, self.subject, self.refused = b"", "", False
        return Milter.CONTINUE

    def envrcpt(self, rcpt, *args):
        if rcpt == "<nobody@example.com>":
            self.setreply("550", "5.1.1", "no such user", "really not")
            return Milter.REJECT
        return Milter.CONTINUE

    def header(self, name, value):
        if name == "Subject":
            self.subject = value
        if self.refused:
            self.say("header")
        elif name == "X-Refuse":
            self.refused = True
            self.say("refused")
            return Milter.REJECT
        return Milter.CONTINUE

    def eoh(self):
        if self.refused:
            self.say("eoh")
        return Milter.CONTINUE

    @Milter.nocallback
    def unknown(self, command):
        return Milter.CONTINUE

    def body(self, chunk):
        if self.refused:
            self.say("body")
        self.text += chunk
        return Milter.CONTINUE

    def eom(self):
        self.progress()
        self.addheader("X-Sample", "id " + self.getsymval("i"))
        self.addheader("X-First", "1", 1)
        self.chgheader("Subject", 1, "was " + self.subject)
        self.addrcpt("<copy@example.com>")
        self.delrcpt("<b@example.com>")
        self.chgfrom("<sample@client.example>")
        self.replacebody(self.text.upper())
        if "hold" in self.subject:
            self.quarantine("as it says")
        return Milter.ACCEPT


Milter.factory = Sample
Milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS | Milter.CHGBODY |
                 Milter.ADDRCPT | Milter.DELRCPT | Milter.CHGFROM |
                 Milter.QUARANTINE)
Milter.runmilter("sample", sys.argv[1], 60)
'''
PMILTER = r'''
use strict;
use Sendmail::PMilter qw(:all);
my $milter = new Sendmail::PMilter;
$milter->setconn($ARGV[0]);
$milter->register("sample", {
	envfrom => sub { SMFIS_CONTINUE },
	envrcpt => sub { $_[1] =~ /nobody/ ? SMFIS_REJECT : SMFIS_CONTINUE },
	header => sub { SMFIS_CONTINUE },
	eom => sub {
		my $ctx = shift;
		$ctx->addheader("X-Sample", "old");
		$ctx->chgheader("Subject", 1, "changed");
		$ctx->addrcpt("<copy\@example.com>");
		$ctx->replacebody("new\r\n");
		SMFIS_ACCEPT;
	},
}, SMFIF_ADDHDRS | SMFIF_CHGHDRS | SMFIF_ADDRCPT | SMFIF_CHGBODY);
$milter->set_dispatcher(Sendmail::PMilter::ithread_dispatcher())
    if $ENV{PMILTER_THREADS};
$milter->main();
'''
