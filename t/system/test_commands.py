"""postern and postconf, as root and as an ordinary user; installation."""
import os
import re
import shutil
import stat
import subprocess
import tempfile

import pytest
from postern import (BIN, BUILD, HOSTNAME, TOP, Instance, free_port, mail,
                     run, wait_for)

need_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def test_init_makes_a_complete_instance(make, sink):
    gw = make(sink, start=False)
    for name in ("main.cf", "master.cf"):
        assert os.path.isfile(gw.path(name))
    assert gw.spool in gw.init.stdout + gw.init.stderr or \
        gw.dir in gw.init.stdout + gw.init.stderr
    with open(gw.path("main.cf")) as f:
        text = f.read()
    assert re.search(rf"(?m)^myhostname\s*=\s*{re.escape(HOSTNAME)}$", text)
    assert re.search(r"(?m)^relay_domains\s*=.*\bexample\.com\b", text)
    # again: refused, and nothing is overwritten
    p = gw.command("init", gw.dir + "/gw", config=False, check=False)
    assert p.returncode != 0
    with open(gw.path("main.cf")) as f:
        assert f.read() == text


def test_init_defaults(make):
    """init DIR alone makes something that starts."""
    top = tempfile.mkdtemp(prefix="postern-test-", dir="/tmp")
    try:
        run(BIN + "/postern", "init", top + "/gw")
        run(BIN + "/postern", "-c", top + "/gw/etc", "check")
    finally:
        shutil.rmtree(top)


def test_start_returns_when_the_port_answers(make, sink):
    gw = make(sink)
    with gw.client() as c:
        assert c.banner.code == 220
    p = gw.command("start", check=False)
    assert p.returncode != 0 and re.search(
        r"already running|is running", p.stdout + p.stderr)


def test_status(make, sink):
    gw = make(sink)
    p = gw.command("status")
    for role in ("master", "gate", "smtpd", "filter", "qmgr", "relay"):
        assert re.search(rf"\b{role}\b", p.stdout), p.stdout
    gw.stop()
    p = gw.command("status", check=False)
    assert p.returncode != 0
    assert "not running" in p.stdout + p.stderr
    p = gw.command("stop", check=False)
    assert p.returncode != 0 and "not running" in p.stdout + p.stderr


def test_stop_leaves_nothing_behind(make, sink):
    gw = make(sink)
    pids = gw.processes()
    assert len(pids) >= 6
    gw.stop()
    wait_for("all processes to be gone", lambda: not any(
        os.path.exists(f"/proc/{p}/fd") and p in alive() for p in pids))
    with pytest.raises(OSError):
        gw.client(timeout=2)


def alive():
    out = set()
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{p}/stat") as f:
                if f.read().rpartition(")")[2].split()[0] != "Z":
                    out.add(int(p))
        except OSError:
            pass
    return out


def test_mail_config_names_the_directory(make, sink):
    gw = make(sink)
    p = run(BIN + "/postern", "status",
            env={**os.environ, "MAIL_CONFIG": gw.etc})
    assert "smtpd" in p.stdout


def test_check_finds_mistakes(make, sink):
    gw = make(sink, start=False)
    gw.command("check")
    gw.set(no_such_parameter="1")
    p = gw.command("check")
    assert re.search(r"warning: .*main\.cf:? ?.*unused parameter: "
                     r"no_such_parameter|no_such_parameter",
                     p.stdout + p.stderr)
    gw.set(header_checks="regexp:broken")
    gw.write("broken", "# one\n/(/ REJECT\n")
    p = gw.command("check", check=False)
    assert p.returncode != 0
    assert re.search(r"broken:2:|broken, line 2", p.stdout + p.stderr)
    p = gw.command("start", check=False)
    gw.running = False
    assert p.returncode != 0, "it started with a broken rule file"


def test_start_tells_why_not(make, sink):
    """A port that is taken is an error of the command, not of a log file."""
    gw = make(sink, start=False)
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", gw.port))
        s.listen()
        gw.expect_log(".")
        p = gw.command("start", check=False)
        assert p.returncode != 0
        assert re.search(r"in use", p.stdout + p.stderr), p.stderr


def test_bad_usage():
    for args in ([], ["frobnicate"], ["init"], ["start", "--no-such"]):
        p = run(BIN + "/postern", *args, check=False)
        assert p.returncode != 0 and p.stderr, args
    p = run(BIN + "/postern", "-c", "/nonexistent", "start", check=False)
    assert p.returncode != 0 and "/nonexistent" in p.stderr


def postconf(gw, *args, check=True):
    return gw.run(BIN + "/postconf", "-c", gw.etc, *args, check=check)


def test_postconf(make, sink):
    gw = make(sink, start=False)
    gw.set(mydomain="example.net", relay_domains="a.$mydomain, b.$mydomain",
           message_size_limit="12345")
    assert postconf(gw, "message_size_limit").stdout == \
        "message_size_limit = 12345\n"
    assert postconf(gw, "-h", "message_size_limit").stdout == "12345\n"
    assert postconf(gw, "relay_domains").stdout == \
        "relay_domains = a.$mydomain, b.$mydomain\n"
    assert postconf(gw, "-x", "relay_domains").stdout == \
        "relay_domains = a.example.net, b.example.net\n"
    assert postconf(gw, "-d", "message_size_limit").stdout == \
        "message_size_limit = 10240000\n"
    changed = postconf(gw, "-n").stdout
    assert "message_size_limit = 12345\n" in changed
    assert "smtpd_timeout" not in changed
    everything = postconf(gw).stdout.splitlines()
    assert everything == sorted(everything) and len(everything) > 100
    p = postconf(gw, "no_such_parameter", check=False)
    assert "no_such_parameter" in p.stderr


def test_postconf_knows_every_parameter(make, sink):
    gw = make(sink, start=False)
    with open(TOP + "/lib/conf_params.def") as f:
        names = re.findall(r"(?m)^PARAM_\w+\((\w+),", f.read())
    shown = re.findall(r"(?m)^(\w+) =", postconf(gw, "-d").stdout)
    assert set(names) <= set(shown)


@need_root
def test_ordinary_user(make, sink):
    """All of it without any privilege: no jail, and it says so once."""
    gw = make(sink, user="nobody")
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("unprivileged")).code == 250
        assert c.message("a@client.example", "user@example.com",
                         mail("ILOVEYOU")).code == 550
    sink.wait_subject("unprivileged")
    for pid in gw.processes():
        assert os.stat(f"/proc/{pid}").st_uid != 0
    said = [l for l in gw.log().splitlines() if "without" in l and
            re.search(r"jail|chroot|locked", l)]
    assert len(said) == 1, said
    gw.command("reload")
    gw.command("flush")
    assert "smtpd" in gw.command("status").stdout
    gw.stop()


@need_root
def test_accounts_are_made_once(make, sink):
    make(sink).stop()
    again = make(sink)
    assert "adduser" not in again.log() and "useradd" not in again.log()


@need_root
def test_private_instances_do_not_disturb_one_another(make, sink):
    one, two = make(sink), make(sink)
    one.stop()
    # a number that was another process's once
    one.seen.update((pid, "1") for pid in two.pids("smtpd"))
    assert not one.kill_left()
    with two.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("two")).code == 250
    sink.wait_subject("two")


def installed(*settings):
    top = tempfile.mkdtemp(prefix="postern-test-", dir="/tmp")
    wanted = BUILD[len(TOP) + 1:]
    cc = "clang" if "clang" in wanted else "gcc"
    san = "1" if wanted.endswith("san") else ""
    run("make", "-s", "-C", TOP, f"CC={cc}", f"SAN={san}", "install",
        f"DESTDIR={top}", *settings, timeout=300,
        env={k: v for k, v in os.environ.items() if k != "MAKEFLAGS"})
    found = {}
    for where, dirs, files in os.walk(top):
        for n in files:
            path = os.path.join(where, n)
            found[path[len(top):]] = os.lstat(path)
    return top, found


def test_install():
    top, found = installed("PREFIX=/usr")
    try:
        with open(TOP + "/Makefile") as f:
            roles = re.search(r"(?m)^ROLES = (.*)$", f.read().replace(
                "\\\n", " ")).group(1).split()
        for role in roles:
            assert f"/usr/libexec/postern/{role}" in found
        assert "/usr/sbin/postern" in found
        assert "/usr/libexec/postern/bin/postconf" in found
        for name in ("sendmail", "postdrop", "mailq", "newaliases"):
            assert f"/usr/libexec/postern/bin/{name}" in found
        assert "/usr/share/man/man5/postern-main.cf.5" in found
        for role in roles:
            assert any(n.startswith(f"/usr/share/man/man8/postern-{role}.")
                       for n in found), role
        stock = os.listdir(TOP + "/rules/stock")
        assert stock
        for name in stock:
            assert f"/usr/share/postern/stock/{name}" in found
        for path, st in found.items():
            assert st.st_mode & 0o7000 == 0, f"{path} is setuid or setgid"
            assert stat.S_ISLNK(st.st_mode) or st.st_mode & 0o022 == 0, \
                f"{path} can be written to"
            # what another MTA on the machine owns is left alone
            assert not re.match(
                r"/usr/(s?bin/(post(?!ern)|sendmail|mailq|newaliases)"
                r"|lib/(postfix|sendmail)|share/man/man\d/(?!postern))",
                path), path
        with open(TOP + "/lib/conf_params.def") as f:
            default = re.search(r'daemon_directory, "([^"]*)"', f.read())
        assert default.group(1) == "/usr/libexec/postern"
    finally:
        shutil.rmtree(top)


def test_install_with_postfix_names():
    top, found = installed("PREFIX=/opt/x", "WITH_POSTFIX_NAMES=1")
    try:
        link = top + "/opt/x/sbin/postconf"
        assert os.path.realpath(link) == os.path.realpath(
            top + "/opt/x/libexec/postern/bin/postconf")
        assert "/opt/x/share/man/man5/main.cf.5" in found
        assert subprocess.run([link, "-d", "mail_name"], check=True,
                              capture_output=True, text=True
                              ).stdout == "mail_name = Postern\n"
    finally:
        shutil.rmtree(top)
