"""Real filters outside: amavisd-new and clamd behind content_filter and
smtpd_proxy_filter, as their own instructions set them up."""
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile

import pytest
from daemons import Daemons
from postern import Instance, Sink, free_port, mail, mail_with, wait_for

pytestmark = pytest.mark.long

MARK = b"POSTERN-TEST-VIRUS-7f3a"
# the lines of amavisd-new's README.postfix
AMAVIS = """
smtp-amavis unix - - n - 2 smtp
  -o smtp_data_done_timeout=1200
  -o smtp_send_xforward_command=yes
  -o disable_dns_lookups=yes
127.0.0.1:%d inet n - n - - smtpd
  -o content_filter=
  -o smtpd_restriction_classes=
  -o smtpd_client_restrictions=permit_mynetworks,reject
  -o smtpd_helo_restrictions=
  -o smtpd_sender_restrictions=
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o mynetworks=127.0.0.0/8
  -o smtpd_error_sleep_time=0
  -o smtpd_soft_error_limit=1001
  -o smtpd_hard_error_limit=1000
  -o receive_override_options=no_header_body_checks,no_unknown_recipient_checks,no_address_mappings
"""
AMAVISD = """use strict;
$max_servers = 1; $child_timeout = 60;
$daemon_user = 'amavis'; $daemon_group = 'amavis';
$mydomain = 'example.com'; $myhostname = 'scan.example.com';
$MYHOME = '%(dir)s'; $TEMPBASE = "$MYHOME/tmp"; $QUARANTINEDIR = undef;
$ENV{TMPDIR} = $TEMPBASE; $pid_file = "$MYHOME/pid";
$lock_file = "$MYHOME/lock"; $db_home = "$MYHOME/db";
$do_syslog = 0; $log_level = 2; $logfile = "$MYHOME/amavis.log";
$enable_db = 0; $enable_zmq = 0; $nanny_details_level = 0;
$unix_socketname = undef;
$inet_socket_bind = '127.0.0.1'; $inet_socket_port = %(port)d;
$forward_method = 'smtp:[127.0.0.1]:%(back)d'; $notify_method = undef;
@bypass_spam_checks_maps = (1);
@local_domains_maps = (['.example.com']);
@mynetworks = qw(127.0.0.0/8);
$final_virus_destiny = D_DISCARD; $final_banned_destiny = D_DISCARD;
$final_bad_header_destiny = D_PASS;
$virus_admin = undef; $warnvirussender = 0;
$virus_quarantine_method = undef; $banned_files_quarantine_method = undef;
$bad_header_quarantine_method = undef;
$banned_filename_re = new_RE(qr'\\.zzz$'i);
$X_HEADER_TAG = 'X-Virus-Scanned'; $X_HEADER_LINE = 'by amavisd-new';
@av_scanners = (['ClamAV-clamd', \\&ask_daemon,
  ["CONTSCAN {}\\n", '%(clamd)s'], qr/\\bOK$/m, qr/\\bFOUND$/m,
  qr/^.*?: (?!Infected Archive)(.*) FOUND$/m]);
@av_scanners_backup = ();
1;
"""


@pytest.fixture(scope="module")
def clamd():
    if os.getuid() != 0:
        pytest.skip("needs root")
    d = Daemons()
    try:
        db, run_dir = d.folder("db", "amavis"), d.folder("run", "amavis")
        with open(db + "/test.ndb", "w") as f:
            f.write(f"Postern.Test:0:*:{MARK.hex()}\n")
        d.socket = run_dir + "/clamd.sock"
        conf = d.file("clamd.conf", f"LocalSocket {d.socket}\n"
                      "LocalSocketMode 666\n"
                      f"DatabaseDirectory {db}\nForeground yes\n"
                      "User amavis\nLogVerbose yes\n")
        d.run("clamd", "--config-file=" + conf)
        d.wait("clamd", lambda: os.path.exists(d.socket))
        yield d
    finally:
        d.stop()


def gateway(sink, back, filter_port, name, lines):
    gw = Instance(sink, main={
        "content_filter": f"{name}:[127.0.0.1]:{filter_port}",
        "local_header_rewrite_clients": "",
        "header_checks": "pcre:header_checks"}, start=False)
    gw.write("header_checks", "/^Subject: ours/ REJECT by our own rules\n"
             "/^X-Virus-Scanned:/ REJECT scanned twice\n")
    gw.edit("master.cf", lambda t: t + lines)
    gw.start()
    return gw


def send(gw, text):
    with gw.client() as c:
        c.ehlo()
        return c.message("a@client.example", ["user@example.com",
                                              "b@example.com"], text)


def check_mail(gw, sink, daemons, scanned):
    """Ordinary mail arrives once, marked; a virus does not; and what is
    refused here never comes to the filter."""
    assert send(gw, mail("first")).code == 250
    daemons.wait("the first mail", lambda: sink.find("first"))
    body = b"".join(b"%06d text\r\n" % i for i in range(50000))
    assert send(gw, mail("large", body)).code == 250
    assert send(gw, mail("virus", b"x " + MARK + b" y\r\n")).code == 250
    assert send(gw, mail_with("report.txt", b"x" + MARK)).code == 250
    assert send(gw, mail("ours")).text == "550 5.7.1 by our own rules"
    assert send(gw, mail("last")).code == 250
    daemons.wait("the others", lambda: sink.find("last") and
                 sink.find("large"))
    daemons.wait("an empty queue", lambda: not gw.queued())
    assert sorted(m.field("Subject") for m in sink.messages) == [
        "first", "large", "last"]
    assert sink.find("large")[0].body == body
    for m in sink.messages:
        assert sorted(m.rcpts) == ["b@example.com", "user@example.com"]
        assert scanned(m)


def test_amavis_and_clamd(clamd):
    sink, port, back = Sink(), free_port(), free_port()
    d, gw = Daemons(), None
    try:
        d.folder("home", "amavis")
        for name in ("home/tmp", "home/db"):
            d.folder(name, "amavis")
        conf = d.file("amavisd.conf", AMAVISD % {
            "dir": d.dir + "/home", "port": port, "back": back,
            "clamd": clamd.socket})
        # clamd is asked for files of amavis
        os.chmod(d.dir + "/home", 0o755)
        os.chmod(d.dir + "/home/tmp", 0o755)
        gw = gateway(sink, back, port, "smtp-amavis", AMAVIS % back)
        d.run("amavisd", "-c", conf, "foreground")
        d.wait_port(port)
        check_mail(gw, sink, d, lambda m: b"X-Virus-Scanned: by amavisd-new"
                   in m.header)
        # a name that amavis refuses
        assert send(gw, mail_with("run.zzz")).code == 250
        gw.wait_log(r"status=sent \(250 2\.7\.0 Ok, discarded, .*BANNED")
        # the lines of its instructions are in force
        assert "no effect" not in gw.log()
        gw.wait_log(r"status=sent \(250 2\.0\.0 from MTA\(smtp:\[127\.0\.0\.1"
                    r"\]:\d+\): 250 2\.0\.0 Ok: queued as")
        gw.wait_log(r"status=sent \(250 2\.7\.0 Ok, discarded")
    except AssertionError as e:
        raise AssertionError(f"{e}\n{d.said()}{gw.log()[-3000:]}") from None
    finally:
        if gw:
            gw.destroy()
        d.stop()
        sink.close()


def test_clamsmtp_and_clamd(clamd):
    sink, port, back = Sink(), free_port(), free_port()
    d, gw = Daemons(), None
    try:
        tmp = d.folder("tmp", "amavis")
        conf = d.file("clamsmtpd.conf", f"OutAddress: 127.0.0.1:{back}\n"
                      f"Listen: 127.0.0.1:{port}\nClamAddress: "
                      f"{clamd.socket}\nTempDirectory: {tmp}\n"
                      "Header: X-AV-Checked: ClamAV\nAction: drop\n"
                      "User: amavis\n")
        gw = gateway(sink, back, port, "scan", "scan unix - - n - 16 smtp\n"
                     "  -o smtp_send_xforward_command=yes\n"
                     "  -o smtp_enforce_tls=no\n"
                     f"127.0.0.1:{back} inet n - n - 16 smtpd\n"
                     "  -o content_filter=\n  -o receive_override_options="
                     "no_unknown_recipient_checks,no_header_body_checks\n"
                     "  -o smtpd_helo_restrictions=\n"
                     "  -o smtpd_client_restrictions=\n"
                     "  -o smtpd_sender_restrictions=\n"
                     "  -o smtpd_recipient_restrictions=permit_mynetworks,"
                     "reject\n  -o mynetworks_style=host\n"
                     "  -o mynetworks=127.0.0.0/8\n")
        d.run("clamsmtpd", "-f", conf, "-d", "3")
        d.wait_port(port)
        check_mail(gw, sink, d, lambda m: b"X-AV-Checked: ClamAV"
                   in m.header)
    except AssertionError as e:
        raise AssertionError(f"{e}\n{d.said()}{gw.log()[-3000:]}") from None
    finally:
        if gw:
            gw.destroy()
        d.stop()
        sink.close()


# SMTPD_PROXY_README's way back, in both
BEFORE = """127.0.0.1:%d inet n - n - - smtpd
  -o smtpd_proxy_filter=
  -o smtpd_client_restrictions=permit_mynetworks,reject
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o mynetworks=127.0.0.0/8
  -o receive_override_options=no_header_body_checks,no_unknown_recipient_checks,no_address_mappings
"""


def proxy_gateway(sink, back, filter_port):
    gw = Instance(sink, main={
        "smtpd_proxy_filter": f"127.0.0.1:{filter_port}",
        "smtpd_proxy_timeout": "60s",
        "smtpd_proxy_options": "speed_adjust",
        "local_header_rewrite_clients": "",
        "header_checks": "pcre:header_checks"}, start=False)
    gw.write("header_checks", "/^Subject: ours/ REJECT by our own rules\n"
             "/^X-Virus-Scanned:/ REJECT scanned twice\n")
    gw.edit("master.cf", lambda t: t + BEFORE % back)
    gw.start()
    return gw


def check_answers(gw, sink, daemons, refusal, scanned):
    """Its sender hears what the filter says, and nobody else does."""
    assert send(gw, mail("first")).text.startswith("250 2.")
    body = b"".join(b"%06d text\r\n" % i for i in range(50000))
    assert send(gw, mail("large", body)).code == 250
    for text in (mail("virus", b"x " + MARK + b" y\r\n"),
                 mail_with("report.txt", b"x" + MARK)):
        r = send(gw, text)
        assert re.match(refusal, r.text), r
    assert send(gw, mail("ours")).text == "550 5.7.1 by our own rules"
    assert send(gw, mail("last")).code == 250
    daemons.wait("all", lambda: len(sink.messages) == 3)
    daemons.wait("an empty queue", lambda: not gw.queued())
    assert sorted(m.field("Subject") for m in sink.messages) == [
        "first", "large", "last"]
    assert sink.find("large")[0].body == body
    for m in sink.messages:
        assert sorted(m.rcpts) == ["b@example.com", "user@example.com"]
        assert scanned(m)
    assert not os.listdir(gw.spool + "/incoming")


def test_amavis_before_the_queue(clamd):
    sink, port, back = Sink(), free_port(), free_port()
    d, gw = Daemons(), None
    try:
        for name in ("home", "home/tmp", "home/db"):
            d.folder(name, "amavis")
        text = AMAVISD.replace("$final_virus_destiny = D_DISCARD",
                               "$final_virus_destiny = D_REJECT")
        assert text != AMAVISD
        conf = d.file("amavisd.conf", text % {
            "dir": d.dir + "/home", "port": port, "back": back,
            "clamd": clamd.socket})
        gw = proxy_gateway(sink, back, port)
        d.run("amavisd", "-c", conf, "foreground")
        d.wait_port(port)
        check_answers(gw, sink, d, r"554 5\.7\.0 .*INFECTED",
                      lambda m: b"X-Virus-Scanned: by amavisd-new" in m.header)
        gw.wait_log(r"proxy-accept: END-OF-MESSAGE from .*: 250 2\.0\.0 from "
                    r"MTA\(smtp:\[127\.0\.0\.1\]:\d+\): 250 2\.0\.0 Ok")
        gw.wait_log(r"proxy-reject: END-OF-MESSAGE from .*: 554 5\.7\.0 ")
    except AssertionError as e:
        raise AssertionError(f"{e}\n{d.said()}{gw.log()[-3000:]}") from None
    finally:
        if gw:
            gw.destroy()
        d.stop()
        sink.close()


def test_clamsmtp_before_the_queue(clamd):
    sink, port, back = Sink(), free_port(), free_port()
    d, gw = Daemons(), None
    try:
        tmp = d.folder("tmp", "amavis")
        conf = d.file("clamsmtpd.conf", f"OutAddress: 127.0.0.1:{back}\n"
                      f"Listen: 127.0.0.1:{port}\nClamAddress: "
                      f"{clamd.socket}\nTempDirectory: {tmp}\n"
                      "Header: X-AV-Checked: ClamAV\nAction: bounce\n"
                      "User: amavis\n")
        gw = proxy_gateway(sink, back, port)
        d.run("clamsmtpd", "-f", conf, "-d", "3")
        d.wait_port(port)
        check_answers(gw, sink, d, r"5\d\d 5\.\S+ .*[Vv]irus",
                      lambda m: b"X-AV-Checked: ClamAV" in m.header)
    except AssertionError as e:
        raise AssertionError(f"{e}\n{d.said()}{gw.log()[-3000:]}") from None
    finally:
        if gw:
            gw.destroy()
        d.stop()
        sink.close()
