"""Each role is locked in, and dies of what it must not do."""
import os
import pwd
import re
import signal
import subprocess

import pytest
from postern import BUILD, SAN, mail, wait_for

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")

OWNERS = {"gate": "net_user", "smtpd": "net_user", "lookup": "net_user",
          "filter": "scan_user", "relay": "relay_user", "qmgr": "mail_owner",
          "pickup": "mail_owner", "showq": "mail_owner",
          "scan-keeper": "scan_user"}
ACCOUNTS = {"mail_owner": "postern", "net_user": "postern-net",
            "scan_user": "postern-scan", "relay_user": "postern-out",
            "auth_user": "postern-auth"}
ROLES = ["gate", "smtpd", "lookup", "filter", "relay", "qmgr", "pickup",
         "showq"]


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f
                    if ":\t" in line)


@pytest.fixture(scope="module")
def running():
    from postern import Instance, Sink
    sink = Sink()
    gw = Instance(sink, main={"smtpd_peername_lookup": "yes"})
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("before")).code == 250
    sink.wait(1)
    gw.run(f"{BUILD}/bin/postqueue", "-c", gw.etc, "-p")    # starts showq
    yield gw
    sink.close()
    gw.destroy()


@pytest.mark.parametrize("role", ROLES + ["scan-keeper"])
def test_role_is_locked_in(running, role):
    pids = running.pids(role)
    assert pids, f"no {role} runs"
    for pid in pids:
        st = status(pid)
        account = pwd.getpwnam(ACCOUNTS[OWNERS[role]])
        assert st["Uid"].split() == [str(account.pw_uid)] * 4
        assert st["Gid"].split() == [str(account.pw_gid)] * 4
        assert set(st["Groups"].split()) <= {str(account.pw_gid)}
        assert st["NoNewPrivs"] == "1"
        assert st["Seccomp"] == "2"
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(st[name], 16) == 0, (name, st[name])
        root = os.readlink(f"/proc/{pid}/root")
        assert root != "/", f"{role} sees the whole file system"
        if role in ("qmgr", "pickup", "showq"):
            assert os.path.samefile(root, running.spool)
        elif role != "lookup":
            assert os.listdir(root) == [], f"{root} is not empty"
            st = os.stat(root)
            assert st.st_uid == 0 and st.st_mode & 0o022 == 0, \
                f"{root} can be written to"


def test_accounts_are_apart(running):
    uids = {pwd.getpwnam(a).pw_uid for a in ACCOUNTS.values()}
    assert len(uids) == len(ACCOUNTS) and 0 not in uids
    for a in ACCOUNTS.values():
        assert pwd.getpwnam(a).pw_shell.endswith(("nologin", "false"))


def test_master_keeps_few_capabilities(running):
    st = status(running.pids("master")[0])
    assert int(st["CapEff"], 16) & (1 << 21) == 0, "CAP_SYS_ADMIN"
    assert int(st["CapEff"], 16) != (1 << 41) - 1


def test_no_inherited_files(running):
    """Nothing of the shell that started it is open in a role."""
    for pid, role in running.processes().items():
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                to = os.readlink(f"/proc/{pid}/fd/{fd}")
            except OSError:
                continue
            assert not to.startswith(("/dev/pts", "/dev/tty")), (role, to)
            if role in ("gate", "smtpd", "relay"):
                assert not to.startswith("/") or to in (
                    "/dev/null", running.log_path) or "memfd:" in to, \
                    (role, to)


def test_spool_belongs_to_its_owner(running):
    for d in ("incoming", "active", "deferred", "hold", "corrupt"):
        st = os.stat(os.path.join(running.spool, d))
        assert st.st_uid == pwd.getpwnam("postern").pw_uid
        assert st.st_mode & 0o077 == 0, d


EVERYBODY = ["exec", "fork", "mmap-exec", "ptrace", "setuid", "kill", "mount",
             "prctl"]
CASES = [(role, call) for role, calls in {
    "smtpd": ["open", "zone", "create", "socket", "connect", "listen",
              "accept"],
    "gate": ["open", "zone", "create", "socket", "connect"],
    "filter": ["open", "zone", "create", "socket", "connect", "listen",
               "accept"],
    "relay": ["open", "zone", "create", "listen", "accept"],
    "milter": ["open", "zone", "create", "listen", "accept"],
    "lookup": ["create", "listen", "accept"],
    "lookup-tcp": ["create", "listen", "accept"],
    "auth-cyrus": ["create", "listen", "accept"],
    "auth-dovecot": ["open", "zone", "create", "listen", "accept"],
    "sts": ["open", "zone", "create", "listen", "accept"],
    "credentials": ["open", "zone", "create", "socket", "connect", "listen",
                    "accept"],
    "tlsrpt": ["open", "zone", "create", "listen", "accept"],
    "qmgr": ["socket", "connect", "listen", "accept"],
    "bounce": ["socket", "connect", "listen", "accept"],
    "pickup": ["create", "socket", "connect", "listen", "accept"],
    "showq": ["create", "socket", "connect", "listen"],
    "pmilter": ["socket", "connect", "listen"],
}.items() for call in calls + EVERYBODY]

without_sanitizer = pytest.mark.skipif(
    SAN, reason="the sanitizers' own calls are allowed in this build")


def forbidden(role, call, root):
    os.chmod(root, 0o755)
    return subprocess.run(
        [f"{BUILD}/t/jail/forbidden-{role}", call, "nobody", str(root)],
        capture_output=True, text=True, timeout=20)


@without_sanitizer
@pytest.mark.parametrize("role,call", CASES, ids=lambda v: v)
def test_forbidden_call_is_fatal(role, call, tmp_path):
    p = forbidden(role, call, tmp_path)
    assert "survived" not in p.stdout, f"{role} may {call}"
    assert re.search(r"forbidden system call \w+", p.stderr), p.stderr
    assert p.returncode == -signal.SIGSYS


@without_sanitizer
@pytest.mark.parametrize("role", ROLES + ["bounce", "lookup-tcp", "pmilter",
                                          "sts", "credentials", "tlsrpt"])
def test_allowed_calls_work(role, tmp_path):
    p = forbidden(role, "nothing", tmp_path)
    assert p.returncode == 0, p.stdout + p.stderr
    assert "survived" in p.stdout


def test_role_that_dies_is_replaced(make, sink):
    """SIGSYS in one role ends that role, not the service."""
    gw = make(sink)
    gw.expect_log("signal 31|signal SYS|SIGSYS|killed by signal|forbidden")
    for role in ("smtpd", "filter", "relay"):
        old = gw.pids(role)
        wait_for(f"a {role} to kill", lambda: gw.kill(role, signal.SIGSYS))
        wait_for(f"a new {role}", lambda: len(gw.pids(role)) == len(old)
                 and gw.pids(role) != old, 20)
    gw.ready()
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("after")).code == 250
    sink.wait_subject("after")
