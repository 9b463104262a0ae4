"""master and postern: start, stop, generations, deaths, the control socket."""
import os
import pwd
import re
import signal
import socket
import subprocess

import pytest
from postern import BIN, Client, free_port, mail, run, wait_for

root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def send(gw, subject, port=None):
    with Client(port or gw.port) as c:
        c.ehlo()
        return c.message("a@client.example", "user@example.com",
                         mail(subject)).code


def generation(gw, role):
    """The numbers of the generations of a role that serve."""
    text = gw.command("status").stdout
    return sorted(int(n) for n in re.findall(
        rf"^{role}\s+pid \d+\s+generation (\d+)\s+serving", text, re.M))


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        return False
    except OSError:
        return True


def test_init_never_overwrites(make):
    gw = make(start=False)
    with open(gw.path("main.cf")) as f:
        before = f.read()
    p = gw.command("init", gw.dir + "/gw", config=False, check=False)
    assert p.returncode == 1
    assert "holds an instance already" in p.stderr
    with open(gw.path("main.cf")) as f:
        assert f.read() == before


@pytest.mark.parametrize("words,error", [
    ([], "usage"),
    (["{}", "--listen", "nowhere"], "--listen"),
    (["{}", "--relay", ":25"], "a host is missing"),
    (["{}", "--domain", "a b"], "no valid domain"),
    (["{}", "--hostname", "-x-"], "no valid domain"),
    (["{}", "--frobnicate"], "usage"),
    (["{}", "--tls-cert", "/dev/null"], "usage"),
    (["{}", "--tls-cert", "/dev/null", "--tls-key", "/nonexistent"],
     "--tls-key: /nonexistent: No such file"),
])
def test_init_refuses(words, error, tmp_path):
    words = [w.format(tmp_path / "gw") for w in words]
    p = run(BIN + "/postern", "init", *words, check=False)
    assert p.returncode == 1 and error in p.stderr, p.stderr
    assert not (tmp_path / "gw").exists()


def test_unknown_verb():
    p = run(BIN + "/postern", "frobnicate", check=False)
    assert p.returncode == 1 and "unknown command: frobnicate" in p.stderr
    assert "postern [-c CONFIG_DIR] VERB" in run(BIN + "/postern",
                                                 "help").stdout


def test_status_and_stop(make, sink):
    gw = make(sink, start=False)
    assert gw.command("status", check=False).returncode == 3
    assert gw.command("stop", check=False).returncode == 1
    gw.start()
    p = gw.command("status")
    for role in ("master", "gate", "smtpd", "lookup", "filter", "qmgr",
                 "relay"):
        assert re.search(rf"^{role}\s+pid \d+", p.stdout, re.M), p.stdout
    p = gw.command("start", check=False)
    assert p.returncode == 1 and "already running" in p.stderr
    gw.stop()
    assert gw.command("status", check=False).returncode == 3
    assert refused(gw.port)


def test_mail_config(make, sink):
    gw = make(sink)
    p = run("env", "MAIL_CONFIG=" + gw.etc, BIN + "/postern", "status")
    assert gw.etc in p.stdout


def test_port_in_use(make, sink):
    with socket.socket() as s:
        gw = make(sink, start=False)
        s.bind(("127.0.0.1", gw.port))
        s.listen()
        p = gw.command("start", check=False)
    gw.expect_log("cannot listen on|cannot bind")
    assert p.returncode == 1
    assert f"cannot listen on 127.0.0.1:{gw.port}" in p.stderr
    assert "Address already in use" in p.stderr
    assert not gw.processes()


@pytest.mark.parametrize("file,line,error", [
    ("main.cf", "message_size_limit = large", "message_size_limit"),
    ("main.cf", "inet_protocols = ipx", "unknown word"),
    ("master.cf", "x unix -", "master.cf"),
    ("master.cf", "nowhere inet n - y - - smtpd", "bad address or port"),
    ("header_checks", "/^Subject: (/ REJECT", r"header_checks:\d+: "),
    ("header_checks", "/^Subject: x/ REJCT", r"header_checks:\d+: .*REJCT"),
    ("body_checks", "# match: abc\n/^xyz/ REJECT", r"body_checks:\d+: "),
])
def test_check_and_start_refuse(make, file, line, error):
    gw = make(start=False)
    assert gw.command("check").returncode == 0
    gw.edit(file, lambda t: t + line + "\n")
    for verb in ("check", "start"):
        p = gw.command(verb, check=False)
        assert p.returncode == 1, p.stderr
        assert re.search(error, p.stderr), p.stderr
    assert not gw.processes()


@root_only
@pytest.mark.parametrize("setting,error", [
    ({"mail_owner": "root"}, "privileged"),
    ({"net_user": "no-such-account"}, "no such account"),
    ({"scan_user": "postern"}, "must be different"),
])
def test_accounts(make, setting, error):
    gw = make(start=False)
    gw.set(**setting)
    p = gw.command("check", check=False)
    assert p.returncode == 1 and error in p.stderr, p.stderr


def test_open_permissions_warn(make):
    gw = make(start=False)
    os.chmod(gw.path("header_checks"), 0o666)
    p = gw.command("check")
    assert re.search(r"header_checks can be changed by group or others",
                     p.stderr), p.stderr


def test_missing_directory_is_made(make, sink):
    gw = make(sink, start=False)
    os.rmdir(gw.spool + "/hold")
    gw.start()
    gw.wait_log(r"warning: creating missing directory: \S+/hold")
    st = os.stat(gw.spool + "/hold")
    assert st.st_mode & 0o777 == 0o700
    if os.getuid() == 0:
        assert st.st_uid == pwd.getpwnam("postern").pw_uid


def test_reload_keeps_sessions(make, sink):
    gw = make(sink)
    before = gw.processes()
    with gw.client() as c:
        c.ehlo()
        c.envelope("a@client.example", "user@example.com")
        p = gw.command("reload")
        assert "is in service" in p.stdout
        assert send(gw, "new") == 250
        assert c.data_cmd(mail("old")).code == 250
        assert c.cmd("QUIT").code == 221
    sink.wait_subject("new")
    sink.wait_subject("old")
    master = gw.pids("master")

    def replaced():
        now = gw.processes()
        return not (set(before) & set(now)) - set(master)
    wait_for("the old processes to end", replaced)


def test_only_users_of_a_file_are_replaced(make, sink):
    gw = make(sink)
    qmgr, smtpd, old = gw.pids("qmgr"), gw.pids("smtpd"), gw.pids("filter")
    gw.edit("header_checks", lambda t: t + "/^Subject: x/ REJECT\n")
    wait_for("new filters", lambda: not set(old) & set(gw.pids("filter"))
             and len(gw.pids("filter")) == len(old))
    assert gw.pids("qmgr") == qmgr and gw.pids("smtpd") == smtpd
    assert min(generation(gw, "filter")) > max(generation(gw, "qmgr"))


@pytest.mark.parametrize("name", [
    "message_size_limit", "inet_protocols",
    "x_destination_concurrency_positive_feedback"])
def test_broken_main_cf(make, sink, name):
    """Refused with file and line; in force again when it is right."""
    gw = make(sink)
    gw.expect_log("not a number|unknown word|reload failed")
    line = sum(1 for _ in open(gw.path("main.cf"))) + 1
    gw.set(**{name: "large"})
    gw.wait_log(rf"error: reload failed: \S+main.cf:{line}: .*keeping "
                "generation 1$")
    p = gw.command("reload", check=False)
    assert p.returncode == 1
    assert re.search(rf"main.cf:{line}: ", p.stderr), p.stderr
    assert send(gw, "still") == 250
    # and stopping it, or asking, does not need a good main.cf
    assert "not in force" in gw.command("status").stdout
    gw.edit("main.cf", lambda t: t.replace(
        f"{name} = large", "message_size_limit = 20000"))
    gw.wait_log("generation \\d+ is in service")

    def announced():
        with gw.client() as c:
            return c.ehlo().text
    # gate hears of its new smtpds a moment after the line in the log
    wait_for("the new size", lambda: "SIZE 20000" in announced())


def test_services_come_and_go(make, sink):
    gw = make(sink)
    port = free_port()
    line = f"127.0.0.1:{port} inet n - y - 1 smtpd\n" \
        "  -o smtpd_banner=second\n"
    gw.edit("master.cf", lambda t: t + line)
    wait_for("the second port", lambda: not refused(port))
    with Client(port) as c:
        assert c.banner.text == "220 second"
    assert send(gw, "two", port) == 250
    with gw.client() as c:
        assert "second" not in c.banner.text
    gw.edit("master.cf", lambda t: t.replace(line, ""))
    wait_for("its end", lambda: refused(port))
    assert send(gw, "one") == 250


def test_port_in_use_keeps_the_old_generation(make, sink):
    gw = make(sink)
    gw.expect_log("cannot listen on|reload failed")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        gw.edit("master.cf", lambda t: t +
                f"127.0.0.1:{port} inet n - y - 1 smtpd\n")
        gw.wait_log(r"reload failed: cannot listen on 127.0.0.1:\d+ .*"
                    "keeping generation 1")
    assert send(gw, "kept") == 250


def test_no_line_no_process(make, sink):
    gw = make(sink, start=False)
    gw.edit("master.cf", lambda t: re.sub(r"(?m)^((relay|smtp)\s)", r"#\1", t))
    gw.start()
    assert not gw.pids("relay") and gw.pids("qmgr")
    gw.wait_log("warning: master.cf: no relay service")


def test_master_cf_of_postfix(make, sink):
    gw = make(sink, start=False)
    gw.edit("master.cf", lambda t: t + "tlsmgr unix - - y 1000? 1 tlsmgr\n"
            "rewrite unix - - y - - trivial-rewrite\n")
    gw.start()
    gw.wait_log("does without: tlsmgr, rewrite$")


def test_dead_roles_are_started_again(make, sink):
    gw = make(sink)
    gw.expect_log("killed by signal 9")
    for role in ("gate", "smtpd", "filter", "qmgr", "relay", "lookup",
                 "pickup"):
        count = len(gw.pids(role))
        pid = gw.kill(role)
        gw.wait_log(rf"warning: process \S+/{role} pid {pid} killed by "
                    "signal 9$")
        wait_for(f"a new {role}", lambda: len(gw.pids(role)) == count and
                 pid not in gw.pids(role))
    gw.ready()
    wait_for("mail to be taken", lambda: send(gw, "alive") == 250)
    sink.wait_subject("alive")


def test_start_that_fails_says_why(make, sink):
    """A role that cannot start: not half a gateway, and the reason."""
    gw = make(sink, start=False)
    gw.expect_log("exit status|killed")
    fake = gw.dir + "/libexec"
    os.mkdir(fake)
    for role in os.listdir(os.path.join(BIN, "../libexec")):
        os.symlink(os.path.join(BIN, "../libexec", role),
                   os.path.join(fake, role))
    os.unlink(fake + "/relay")
    os.symlink("/bin/false", fake + "/relay")
    gw.set(daemon_directory=fake)
    p = gw.command("start", check=False)
    assert p.returncode == 1
    assert re.search(r"relay pid \d+ exit status 1", p.stderr), p.stderr
    assert not gw.processes()


def test_master_dies(make, sink):
    """The roles end by themselves; a new start waits for the old qmgr."""
    gw = make(sink)
    old = gw.processes()
    gw.kill("master")
    wait_for("the lock to be free",
             lambda: gw.command("status", check=False).returncode == 3)
    gw.start()
    assert not set(old) & set(gw.processes())
    assert send(gw, "again") == 250
    sink.wait_subject("again")


def master_dies(gw):
    gw.kill("master")
    wait_for("the lock to be free",
             lambda: gw.command("status", check=False).returncode == 3)


def test_master_dies_under_clients(gw, sink):
    """They do not keep the next one from the queue: the idle one is sent away,
    the other when its message is in."""
    with gw.client() as idle, gw.client() as busy:
        idle.ehlo()
        busy.ehlo()
        busy.envelope("a@client.example", "user@example.com")
        assert busy.cmd("DATA").code == 354
        master_dies(gw)
        assert idle.reply().code == 421
        busy.send(mail("half-way") + b".\r\n")
        assert busy.reply().code == 250
        assert busy.reply().code == 421
    gw.start()
    sink.wait_subject("half-way")
    assert send(gw, "again") == 250
    sink.wait_subject("again")


@pytest.mark.long
def test_master_dies_under_a_client_that_hangs(gw, sink):
    with gw.client() as c:
        c.ehlo()
        c.envelope("a@client.example", "user@example.com")
        assert c.cmd("DATA").code == 354
        master_dies(gw)
        gw.start()
        gw.wait_log("warning: master is gone, and the time to finish is over")
    assert send(gw, "again") == 250
    sink.wait_subject("again")


def test_signals(make, sink):
    gw = make(sink)
    os.kill(gw.pids("master")[0], signal.SIGHUP)
    gw.wait_log("generation 2 is in service")
    os.kill(gw.pids("master")[0], signal.SIGTERM)
    gw.wait_log("terminating on signal 15")
    wait_for("the end", lambda: gw.command("status",
                                           check=False).returncode == 3)
    gw.running = False


def test_stop_does_not_wait_for_idle_clients(make, sink):
    gw = make(sink)
    with gw.client() as c:
        c.ehlo()
        gw.stop()
        assert c.closed(1)


def test_log_is_opened_again(make, sink):
    gw = make(sink)
    os.rename(gw.log_path, gw.log_path + ".1")
    gw.command("log")

    def logged():
        assert send(gw, "logged") == 250
        return re.search(r"postern/smtpd\[\d+\]: \w+: client=", gw.log())
    wait_for("a line in the new file", logged)
    assert os.stat(gw.log_path).st_mode & 0o777 == 0o640


def test_control_socket_is_private(make, sink):
    gw = make(sink)
    st = os.stat(gw.spool + "/pid/control")
    assert st.st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(gw.spool + "/pid/control")
        s.sendall(b"frobnicate\n")
        assert s.recv(100) == b"ERROR unknown command\n"
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(gw.spool + "/pid/control")
        s.sendall(b"x" * 5000)
        assert s.recv(100) == b"ERROR command too long\n"


@root_only
def test_ordinary_user(make, sink):
    gw = make(sink, user="daemon")
    uid = str(pwd.getpwnam("daemon").pw_uid)
    for pid in gw.processes():
        with open(f"/proc/{pid}/status") as f:
            assert re.search(rf"^Uid:\s+{uid}\s", f.read(), re.M)
        assert os.readlink(f"/proc/{pid}/root") == "/"
    gw.wait_log("warning: started by an ordinary user")
    assert send(gw, "user") == 250
    sink.wait_subject("user")


def test_start_without_a_log(make, sink):
    """As in a container: no maillog_file, and no syslog. What there is to say
    goes to standard error, also of processes that are started later."""
    gw = make(sink, start=False)
    gw.set(maillog_file="")
    said = gw.dir + "/stderr"
    with open(said, "w") as f:
        p = subprocess.run([BIN + "/postern", "-c", gw.etc, "start"],
                           stdin=subprocess.DEVNULL, stderr=f, check=False,
                           stdout=subprocess.PIPE, timeout=60)
    gw.running = True

    def text():
        with open(said) as f:
            return f.read()
    assert p.returncode == 0 and b"is running" in p.stdout, text()
    assert send(gw, "user") == 250
    sink.wait_subject("user")
    if not os.path.exists("/dev/log"):
        assert "maillog_file = /file/name gives a log file" in text()
        wait_for("the delivery", lambda: "status=sent" in text())
        gw.kill("smtpd")
        gw.ready()
        with gw.client() as c:
            c.cmd("HELO late.example")
        wait_for("a line of the new process",
                 lambda: "connection after HELO" in text())


def test_start_without_a_log_fails(make, sink):
    """It says why, at once."""
    gw = make(sink, start=False)
    gw.set(maillog_file="", header_checks="regexp:/nonexistent")
    p = gw.command("start", check=False)
    assert p.returncode == 1 and "/nonexistent" in p.stderr
