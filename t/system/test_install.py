"""postern install and uninstall, in a system of its own beside Debian's
Postfix and sendmail."""
import os
import shutil
import subprocess
import tempfile

import pytest
from conftest import need_root
from postern import TOP, wait_for
from private_root import Root, installed

PEER = TOP + "/build/peers/sendmail"
OURS = "/usr/libexec/postern/bin/"
JOURNAL = "/var/lib/postern-install/journal"
NAMES = ["/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/mailq",
         "/usr/bin/newaliases"]
# Commands that change the system: each one is counted, and one of them is the
# last thing that an installation does.
COUNTED = """usr/bin/sync usr/bin/mv usr/bin/ln usr/bin/mkdir usr/bin/rm
    usr/bin/cp usr/bin/rmdir usr/sbin/groupadd usr/sbin/useradd
    usr/sbin/groupdel usr/sbin/userdel usr/bin/dpkg-divert
    usr/sbin/update-rc.d usr/bin/update-alternatives""".split()
COUNTER = """#!/bin/sh
[ -e /run/die ] || exec {real} "$@"
n=$(($(cat /run/steps) + 1))
echo $n >/run/steps
[ $n -lt $(cat /run/die) ] || kill -9 -- -$(cut -d' ' -f5 /proc/$$/stat)
exec {real} "$@"
"""
MAIN_CF = """compatibility_level = 3.6
myhostname = old.example.com
mydestination = old.example.com, localhost
inet_interfaces = all
mynetworks = 127.0.0.0/8 192.0.2.0/24
message_size_limit = 5000000
alias_maps =
recipient_delimiter = +
"""
SENDMAIL_CF = """divert(0)dnl
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `old.example.com')dnl
define(`ALIAS_FILE', `/etc/mail/aliases')dnl
define(`confDONT_BLAME_SENDMAIL', `GroupWritableDirPathSafe')dnl
define(`SMART_HOST', `hub.example.com')dnl
define(`QUEUE_DIR', `/var/spool/mqueue')dnl
define(`confQUEUE_LA', `10000')dnl
define(`confREFUSE_LA', `10000')dnl
define(`confRUN_AS_USER', `root')dnl
LOCAL_DOMAIN(`shop.example.com')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`no_default_msa')dnl
MAILER(local)dnl
MAILER(smtp)dnl
"""

pytestmark = need_root


@pytest.fixture(scope="module")
def layer():
    d = tempfile.mkdtemp(prefix="postern-layer-", dir="/tmp")
    os.chmod(d, 0o755)
    try:
        installed(d)
        yield d
    finally:
        shutil.rmtree(d)


@pytest.fixture
def root(layer):
    """Debian's Postfix, configured; not running."""
    with Root(layer) as r:
        if not r.there("/usr/sbin/postfix"):
            pytest.skip("no Postfix here")
        r.write("/etc/postfix/main.cf", MAIN_CF)
        r.sh("rm -rf /var/spool/postfix/pid/master.pid")
        yield r


def install(r, *words, **kw):
    return r.run("postern", "install", *words, **kw)


def ours(r, path):
    return r.run("readlink", "-f", path).startswith(OURS)


@pytest.mark.parametrize("words", ["--mode send-only", "--mode replace",
                                   "--mode beside --address 127.0.0.2"])
def test_and_back(root, words):
    before = root.changes()
    plan = install(root, *words.split(), "--dry-run")
    assert root.changes() == before
    assert "write /etc/postern/main.cf" in plan
    out = install(root, *words.split())
    assert "Postern is running" in out and "Done." in out
    ports = root.sh("ss -Hltn | awk '{print $4}' | sort").split()
    if "send-only" in words:
        assert ports == []
    elif "beside" in words:
        assert ports == ["127.0.0.2:25"]
    else:
        assert ports == ["0.0.0.0:25", "[::]:25"]
    for name in NAMES:
        assert ours(root, name) == ("replace" in words), name
    assert root.run("stat", "-c", "%a %G", OURS + "postdrop") == \
        "2755 postern-drop\n"
    # a second one changes nothing
    here = root.changes()
    assert "installed already" in install(root, *words.split(), status=1)
    assert root.changes() == here
    root.run("postern", "uninstall", "--dry-run")
    assert root.changes() == here
    root.run("postern", "uninstall")
    assert root.changes() == before
    assert root.sh("ss -Hltn") == ""
    assert "nothing is installed" in root.run("postern", "uninstall",
                                              status=1)


def test_replace_takes_over_postfix(root):
    """Its settings, its name at dpkg, its queue, its place on port 25."""
    root.write("/etc/cron.d/old-queue", "* * * * * root sendmail -q\n")
    # Held back while Postfix runs; in its queue when it is stopped.
    root.run("postconf", "-e", "defer_transports=local")
    root.run("postfix", "start")
    wait_for("Postfix", lambda: ":25" in root.sh("ss -Hltn"))
    root.run("/usr/sbin/sendmail", "games@old.example.com",
             text="Subject: waits\n\nhere\n")
    wait_for("a deferred message",
             lambda: "(deferred transport)" in root.run("postqueue", "-p"))
    root.run("postconf", "-X", "defer_transports")
    before = root.changes()
    out = install(root, "--mode", "replace")
    assert "The old queue is empty" in out, out
    assert "/etc/cron.d/old-queue" in out
    assert "Subject: waits" in root.read("/var/mail/games")
    assert root.sh("cat /proc/net/tcp | grep -c ':0019.* 0A '") == "1\n"
    main = root.read("/etc/postern/main.cf")
    for line in ("myhostname = old.example.com", "message_size_limit = 500",
                 "mynetworks = 127.0.0.0/8 192.0.2.0/24",
                 "recipient_delimiter = +"):
        assert line in main
    assert "diversion of /usr/sbin/sendmail to /usr/sbin/sendmail." \
        "postern-orig" in root.run("dpkg-divert", "--list",
                                   "/usr/sbin/sendmail")
    # What users call is Postern, and it takes their mail.
    assert root.run("mailq") == "Mail queue is empty\n"
    root.run("setpriv", "--reuid", "nobody", "--regid", "nogroup",
             "--clear-groups", "/usr/sbin/sendmail", "games@old.example.com",
             text="Subject: new\n\nhere\n")
    log = "/var/log/postern.log"
    wait_for("the delivery", lambda: "to=<games@old.example.com>" in
             root.read(log))
    root.sh("rm /var/mail/games")
    wait_for("an empty queue", lambda: "is empty" in root.run("mailq"))
    out = root.run("postern", "uninstall")
    after = root.changes()
    assert {p: s for p, s in after.items() if before.get(p) != s} == {}, out
    # Postfix runs as before, on port 25 too.
    wait_for("Postfix", lambda: ":25" in root.sh("ss -Hltn"))
    root.run("postfix", "status")


def test_uninstall_loses_no_mail(root):
    install(root, "--mode", "send-only")
    root.write("/etc/postern/main.cf", root.read("/etc/postern/main.cf") +
               "relayhost = [127.0.0.1]:1\n")
    root.run("postern", "reload")
    root.run(OURS + "sendmail", "a@elsewhere.example", text="Subject: x\n\n")
    wait_for("the deferral", lambda: "status=deferred" in
             root.read("/var/log/postern.log"))
    out = root.run("postern", "uninstall", status=1)
    assert "holds mail" in out
    assert "a@elsewhere.example" in root.run(OURS + "mailq")
    assert root.there(JOURNAL)
    out = root.run("postern", "uninstall", "--keep-queue")
    assert "it stays" in out and "/etc/postern/main.cf was changed" in out
    assert root.there("/etc/postern/main.cf")
    root.run("getent", "passwd", "postern")
    # and it is there for the next one
    install(root, "--mode", "send-only")
    assert "a@elsewhere.example" in root.run(OURS + "mailq")


def test_foreign_commands_are_reported(root):
    install(root, "--mode", "replace")
    assert "not Postern's" not in root.run("postern", "check")
    # the system's upgrade brings its own back
    root.sh("rm /usr/sbin/sendmail; cp /bin/true /usr/sbin/sendmail")
    out = root.run("postern", "check")
    assert "/usr/sbin/sendmail is not Postern's" in out
    assert "/usr/lib/sendmail is not Postern's" in out
    out = root.run("postern", "uninstall")
    assert "/usr/sbin/sendmail is newer than ours: it stays" in out
    assert root.run("cmp", "/bin/true", "/usr/sbin/sendmail") == ""


def repair(r, *words, **kw):
    return install(r, "--repair", *words, **kw)


def test_repair(root):
    """What else took the places of ours; and uninstall brings that back."""
    before = root.changes()
    for mode in ("send-only", "replace"):
        assert "nothing is installed" in repair(root, status=1)
        install(root, "--mode", mode)
        here = root.changes()
        if mode == "send-only":
            assert "replaced no command" in repair(root, status=1)
            root.run("postern", "uninstall")
            continue
        assert "nothing to do" in repair(root)
        assert root.changes() == here
    # a file, a link that follows it, another file, and nothing at all
    root.sh("rm /usr/sbin/sendmail /usr/bin/newaliases;"
            "cp /bin/true /usr/sbin/sendmail;"
            "ln -sf ../sbin/sendmail /usr/lib/sendmail;"
            "rm /usr/bin/mailq; cp /bin/false /usr/bin/mailq;"
            "dpkg-divert --quiet --local --no-rename --remove "
            "/usr/sbin/sendmail")
    foreign = root.changes()
    assert "`postern install --repair' puts ours back" in \
        root.run("postern", "check")
    plan = repair(root, "-n")
    assert root.changes() == foreign
    for text in ("save /usr/sbin/sendmail as /usr/sbin/sendmail.postern-orig",
                 "save /usr/bin/mailq as", "make the link /usr/bin/newal"):
        assert text in plan
    out = repair(root)
    assert plan in out and "Done." in out
    for name in NAMES:
        assert ours(root, name), name
    assert "not Postern's" not in root.run("postern", "check")
    for name in ("/usr/sbin/sendmail", "/usr/bin/mailq"):
        assert "postern-orig" in root.run("dpkg-divert", "--list", name)
    root.run("cmp", "/bin/true", "/usr/sbin/sendmail.postern-orig")
    assert root.run("mailq") == "Mail queue is empty\n"
    assert "nothing to do" in repair(root)
    root.run("postern", "uninstall")
    root.run("cmp", "/bin/true", "/usr/sbin/sendmail")
    root.run("cmp", "/bin/false", "/usr/bin/mailq")
    assert not root.there("/usr/bin/newaliases")
    after = root.changes()
    assert {p for p in {*after, *before} if before.get(p) != after.get(p)} \
        <= {*NAMES}
    assert not root.sh("dpkg-divert --list '*postern*'")


def test_repair_leaves_what_it_does_not_know(root):
    install(root, "--mode", "replace")
    root.sh("rm /usr/sbin/sendmail; cp /bin/true /usr/sbin/sendmail;"
            "sed -i '/^save/d' " + JOURNAL)
    here = root.changes()
    out = repair(root, status=1)
    assert "whose is it?" in out and "Undoing" not in out
    assert root.changes() == here
    root.run("postern", "status")


def test_nothing_of_another_is_overwritten(root):
    root.write("/usr/lib/sendmail.postern-orig", "whose?\n")
    root.sh("rm /usr/lib/sendmail; cp /bin/true /usr/lib/sendmail")
    before = root.changes()
    out = install(root, "--mode", "replace", status=1)
    assert "whose is it?" in out and "Undoing" in out
    assert root.changes() == before
    root.sh("rm /usr/lib/sendmail.postern-orig; mkdir /etc/postern;"
            "echo '# mine' >/etc/postern/header_checks")
    out = install(root, "--mode", "replace")
    assert "use /etc/postern/header_checks as it is" in out
    root.run("postern", "uninstall")
    assert root.read("/etc/postern/header_checks") == "# mine\n"


@pytest.mark.parametrize("words,why", [
    ("--mode beside", "usage"), ("--mode all", "usage"), ("", "usage"),
    ("--mode send-only --address 127.0.0.2", "usage"),
    ("--mode replace --address 127.0.0.2", "usage"),
    ("--mode beside --address mail.example", "IP address"),
    ("--mode replace --hostname a;b", "host name"),
    ("--mode replace --drain soon", "seconds"),
])
def test_mistakes(root, words, why):
    before = root.changes()
    assert why in install(root, *words.split(), status=1)
    assert root.changes() == before


def test_a_mistake_in_main_cf_undoes_all(root):
    root.write("/etc/postern/main.cf", "smtpd_recipient_limit = many\n")
    before = root.changes()
    out = install(root, "--mode", "replace", status=1)
    assert "cannot be used" in out and "smtpd_recipient_limit" in out
    assert root.changes() == before


def test_of_another_root(layer, root):
    """An image of a system, which does not run."""
    image = "/srv/image"
    root.sh(f"mkdir -p {image}/usr {image}/etc {image}/var/lib &&"
            f"mkdir -p {image}/var/spool {image}/tmp &&"
            f"mkdir {image}/dev && for d in usr etc dev; do mount --bind /$d {image}/$d; done &&"
            f"for d in bin sbin lib lib64; do ln -s usr/$d {image}/$d; done")
    out = install(root, "--mode", "send-only", "--root", image)
    assert "start Postern" not in out
    assert root.there(image + "/var/spool/postern/maildrop")
    assert root.sh("ss -Hltn") == ""
    assert not root.there("/var/spool/postern")
    root.run("postern", "uninstall", "--root", image)
    assert not root.there(image + "/var/spool/postern")
    assert not root.there(image + "/etc/postern")


def test_update_alternatives(root):
    root.sh("rm /usr/sbin/sendmail; cp /bin/true /usr/sbin/sendmail.other;"
            "update-alternatives --quiet --install /usr/sbin/sendmail mta "
            "/usr/sbin/sendmail.other 30")
    before = root.changes()
    assert "update-alternatives: mta becomes" in install(
        root, "--mode", "replace")
    assert ours(root, "/usr/sbin/sendmail")
    assert ours(root, "/usr/lib/sendmail")
    root.run("update-alternatives", "--quiet", "--auto", "mta")
    assert not ours(root, "/usr/sbin/sendmail")
    assert "update-alternatives: mta becomes" in repair(root)
    assert ours(root, "/usr/sbin/sendmail")
    root.run("postern", "uninstall")
    assert root.changes() == before
    assert "auto mode" in root.run("update-alternatives", "--display", "mta")


def test_mailer_conf(root):
    """BSD: all the commands are one wrapper, with one file."""
    root.write("/etc/mail/mailer.conf", "sendmail /usr/libexec/sendmail\n")
    before = root.changes()
    install(root, "--mode", "replace")
    assert root.read("/etc/mail/mailer.conf").split() == [
        "sendmail", OURS + "sendmail", "mailq", OURS + "mailq",
        "newaliases", OURS + "newaliases"]
    assert not ours(root, "/usr/sbin/sendmail")
    # An upgrade brings its own.
    wrote = root.read("/etc/mail/mailer.conf")
    root.write("/etc/mail/mailer.conf", "sendmail /usr/libexec/newer\n")
    assert "write it anew" in repair(root)
    assert root.read("/etc/mail/mailer.conf") == wrote
    assert "nothing to do" in repair(root)
    root.run("postern", "uninstall")
    assert root.read("/etc/mail/mailer.conf") == \
        "sendmail /usr/libexec/newer\n"
    root.write("/etc/mail/mailer.conf", "sendmail /usr/libexec/sendmail\n")
    assert root.changes() == before


# -- sendmail


@pytest.fixture(scope="module")
def sendmail_layer():
    subprocess.run([TOP + "/t/peers/sendmail", "fetch"], check=True)
    d = tempfile.mkdtemp(prefix="postern-layer-", dir="/tmp")
    os.chmod(d, 0o755)
    try:
        shutil.copytree(PEER + "/usr", d + "/usr", symlinks=True)
        libs = d + "/usr/lib/x86_64-linux-gnu"
        os.makedirs(libs, exist_ok=True)
        shutil.copytree(PEER + "/lib/x86_64-linux-gnu", libs, symlinks=True,
                        dirs_exist_ok=True)
        os.makedirs(d + "/etc/mail")
        with open(d + "/etc/mail/sendmail.mc", "w") as f:
            f.write(SENDMAIL_CF)
        cf = d + "/usr/share/sendmail/cf"
        with open(d + "/etc/mail/sendmail.cf", "w") as f:
            subprocess.run(["m4", f"-D_CF_DIR_={cf}/", f"{cf}/m4/cf.m4",
                            d + "/etc/mail/sendmail.mc"], stdout=f,
                           check=True, stderr=subprocess.DEVNULL)
        yield d
    finally:
        shutil.rmtree(d)


@pytest.fixture
def sendmail_root(layer, sendmail_layer):
    with Root(layer, sendmail_layer) as r:
        r.sh("rm -f /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq "
             "/usr/bin/newaliases /etc/init.d/postfix;"
             "update-alternatives --quiet --install /usr/sbin/sendmail "
             "sendmail-mta /usr/libexec/sendmail/sendmail 90;"
             "ln -s ../sbin/sendmail /usr/lib/sendmail;"
             "ln -s ../sbin/sendmail /usr/bin/mailq;"
             "mkdir -m 700 /var/spool/mqueue; mkdir -p /run/sendmail/mta;"
             "getent group smmsp || groupadd --system smmsp")
        r.write("/etc/mail/local-host-names", "# ours\nshop.example.com\n")
        r.write("/etc/mail/relay-domains", "inside.example.com\n")
        r.write("/etc/mail/aliases", "archive: /dev/null\n")
        r.run("/usr/sbin/sendmail", "-bi")
        yield r


@pytest.mark.long
def test_replace_takes_over_sendmail(sendmail_root):
    r = sendmail_root
    r.run("/usr/sbin/sendmail", "-bd", "-q1h")
    wait_for("sendmail", lambda: ":25" in r.sh("ss -Hltn"))
    r.sh("/usr/sbin/sendmail -odq archive@localhost",
         text="Subject: old\n\nx\n")
    assert "Total requests: 1" in r.run("mailq")
    before = r.changes()
    out = install(r, "--mode", "replace")
    assert "Here already: sendmail" in out
    assert "The old queue is empty" in out, out
    assert r.run("mailq") == "Mail queue is empty\n"
    assert r.sh("cat /proc/net/tcp | grep -c ':0019.* 0A '") == "1\n"
    main = r.read("/etc/postern/main.cf")
    assert "# /etc/mail/sendmail.cf:" in main
    assert "myhostname = old.example.com" in main
    assert "relayhost = hub.example.com" in main
    assert "relay_domains = inside.example.com" in main
    assert "alias_maps = hash:/etc/mail/aliases" in main
    assert "localhost, shop.example.com" in main
    r.run("postern", "uninstall")
    after = r.changes()
    assert {p: s for p, s in after.items() if before.get(p) != s} == {}
    wait_for("sendmail", lambda: ":25" in r.sh("ss -Hltn"))
    assert "Total requests: 0" in r.run("mailq")


# -- killed half-way


@pytest.fixture(scope="module")
def counting_layer():
    d = tempfile.mkdtemp(prefix="postern-layer-", dir="/tmp")
    os.chmod(d, 0o755)
    try:
        for path in COUNTED:
            if not os.path.exists("/" + path):
                continue
            os.makedirs(os.path.dirname(f"{d}/{path}"), exist_ok=True)
            shutil.copy2("/" + path, f"{d}/{path}.real")
            with open(f"{d}/{path}", "w") as f:
                f.write(COUNTER.format(real=f"/{path}.real"))
            os.chmod(f"{d}/{path}", 0o755)
        yield d
    finally:
        shutil.rmtree(d)


def until(r, step, *words):
    """Run it until that step, which is not done; True: it never came."""
    r.sh(f"echo 0 >/run/steps; echo {step} >/run/die")
    r.run("setsid", "-w", *words, status=None)
    done = int(r.read("/run/steps")) < step
    r.sh("rm /run/die")
    return done


def kill_everywhere(r, mode, steps, verb):
    """Killed at each of the steps, once to be taken back and once to be done
    again."""
    before = r.changes()
    for step in steps:
        for again in (False, True):
            if verb == "uninstall":
                install(r, "--mode", mode)
            words = ["postern", verb]
            words += ["--mode", mode] if verb == "install" else []
            if until(r, step, *words) and not again and verb == "install":
                assert r.there(JOURNAL), step
            for name in NAMES:      # at no moment without one
                assert r.run("readlink", "-e", name), (step, name)
            if again and (verb == "install" or not r.there(JOURNAL)):
                out = install(r, "--mode", mode, status=None)
                assert "Done." in out or "installed already" in out, \
                    (step, out)
                r.run("postern", "status")
                assert ours(r, NAMES[0]) == (mode == "replace")
            if r.there(JOURNAL):
                r.run("postern", "uninstall")
            after = r.changes()
            left = {p for p in after if before.get(p) != after[p]}
            left |= {p for p in before if p not in after}
            assert left == set(), (step, again)
            assert r.sh("ss -Hltn") == "", step


def count(r, *words):
    assert until(r, 10000, *words)
    return int(r.read("/run/steps"))


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_killed(root, layer, counting_layer, verb):
    with Root(counting_layer, layer) as r:
        n = count(r, "postern", "install", "--mode", "replace")
        m = count(r, "postern", "uninstall")
        assert n > 40 and m > 20
        total = n if verb == "install" else m
        kill_everywhere(r, "replace", [total // 3, total * 2 // 3], verb)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["replace", "send-only"])
@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_killed_at_each_step(root, layer, counting_layer, verb, mode):
    with Root(counting_layer, layer) as r:
        n = count(r, "postern", "install", "--mode", mode)
        m = count(r, "postern", "uninstall")
        total = n if verb == "install" else m
        # twelve of them, or each
        stride = 1 if os.environ.get("EACH_STEP") else max(1, total // 12)
        kill_everywhere(r, mode, range(1, total + 1, stride), verb)
