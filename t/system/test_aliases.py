"""Names that stand for others: aliases and .forward files."""
import os
import pwd
import re
import shutil
import stat

import pytest

from postern import HOSTNAME, mail, wait_for
from test_local import Host, ROOT, me, needs_root, users  # noqa: F401

# what the tests call from commands
CATCH = """#!/bin/sh
exec >> "$1" 2>&1
echo "== $(id -un) $(pwd)"
env | sort
cat
"""


class Names(Host):
    """With an alias file of its own."""

    def __init__(self, aliases="", services="", **main):
        self.aliases = aliases
        super().__init__(services, **{
            "alias_maps": "hash:$config_directory/aliases",
            "minimal_backoff_time": "1s", "queue_run_delay": "1s",
            "maximal_backoff_time": "1s", **main})

    def start(self):
        with open(self.path("aliases"), "w") as f:
            f.write(self.aliases.replace("DIR", self.dir))
        os.mkdir(self.dir + "/out")
        os.chmod(self.dir + "/out", 0o1777)
        with open(self.dir + "/catch", "w") as f:
            f.write(CATCH)
        os.chmod(self.dir + "/catch", 0o755)
        super().start()

    def out(self, name, what=b""):
        return self.has(f"{self.dir}/out/{name}", what)


def to(name):
    return f"{name}@{HOSTNAME}"


def header(text, name):
    head = text.split(b"\n\n")[0].decode()
    return re.findall(rf"^{name}: (.*)$", head, re.M)


def test_addresses(users):
    """A name that stands for others: each gets the message, in a new one
    that was durable before the old one went."""
    name = me(users)
    with Names(f"list: one, two,\n  {name}\none: {name}\n"
               f"two: \"{name}\"@{HOSTNAME}, \"Me\" <{name}@{HOSTNAME}>\n"
               "# a comment\nfirst.last: one\n") as h:
        h.send(to("first.last"))
        text = h.has(f"{h.dir}/mail/{name}", b"Subject: hello")
        assert header(text, "Delivered-To") == [
            to(name), to("one"), to("first.last")]
        assert header(text, "X-Original-To") == [to("first.last")]
        assert header(text, "Return-Path") == ["<sender@client.example>"]
        assert "forwarded as " in h.status(to("first.last"), "sent")
        assert "forwarded as " in h.status(to("one"), "sent")
        h.send("List@" + HOSTNAME, mail("many"))
        # one, two and the name itself; two's own two are one
        wait_for("three", lambda: h.box(name).count(b"Subject: many") == 3)
        wait_for("an empty queue", lambda: not h.queued())
        assert h.box(name).count(b"Subject: many") == 3


def test_loop(users):
    """What leads back ends, in one message or over several."""
    name = me(users)
    with Names(f"{name}: {name}\na: b\nb: c\nc: a\n") as h:
        h.send(to(name))
        h.has(f"{h.dir}/mail/{name}", b"Subject: hello")
        h.send(to("a"), sender="")
        assert h.status(to("a"), "bounced") == \
            f"mail forwarding loop for {to('a')}"
        wait_for("an empty queue", lambda: not h.queued())


@needs_root
def test_self_and_others(users):
    """The user's own mailbox beside others; and \\name past an alias."""
    alice, bob = users
    with Names(f"{alice.name}: \\{alice.name}, {bob.name}\n") as h:
        h.send(to(alice.name))
        for u in users:
            h.has(f"{h.dir}/mail/{u.name}", b"Subject: hello")
        wait_for("an empty queue", lambda: not h.queued())
        for u in users:
            assert h.box(u.name).count(b"Subject: hello") == 1


def test_owner(users):
    """A list with an owner: what comes back goes there; an empty sender
    stays."""
    name = me(users)
    with Names(f"list: {name}\nowner-list: boss@else.example\n") as h:
        h.send(to("list"))
        text = h.has(f"{h.dir}/mail/{name}", b"Subject: hello")
        assert header(text, "Return-Path") == [f"<owner-list@{HOSTNAME}>"]
        h.send(to("list"), mail("empty"), sender="")
        text = h.has(f"{h.dir}/mail/{name}", b"Subject: empty")
        assert b"\nReturn-Path: <>\n" in text
    with Names(f"list: {name}\nowner-list: boss@else.example\n",
               expand_owner_alias="yes") as h:
        h.send(to("list"))
        text = h.has(f"{h.dir}/mail/{name}", b"Subject: hello")
        assert header(text, "Return-Path") == ["<boss@else.example>"]


def test_files(users):
    """/file, a maildir, /dev/null; as default_privs."""
    who = "nobody" if ROOT else me(users)
    with Names("file: DIR/out/box\ndir: DIR/out/dir/\nnull: /dev/null\n"
               "both: /dev/null, DIR/out/box\n") as h:
        for name in ("file", "dir", "null", "both"):
            h.send(to(name))
            h.status(to(name), "sent")
        text = h.out("box")
        assert text.count(b"\nSubject: hello\n") == 2
        assert text.count(b"From sender@client.example  ") == 2
        assert os.stat(h.dir + "/out/box").st_uid == pwd.getpwnam(who).pw_uid
        assert len(os.listdir(h.dir + "/out/dir/new")) == 1
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        assert "delivered to file: " in h.status(to("file"), "sent")


def test_commands(users):
    """|command: as default_privs, without a network, with what there is to
    know of the message in its environment, defanged."""
    who = "nobody" if ROOT else me(users)
    with Names('cmd: "|DIR/catch DIR/out/env"\n'
               "bare: |DIR/catch DIR/out/bare\n"
               'sh: "|cat > DIR/out/sh; id -un >> DIR/out/sh"\n'
               'net: "|cat /proc/net/dev > DIR/out/net"\n'
               'fds: "|ls -l /proc/self/fd > DIR/out/fds"\n',
               recipient_delimiter="+") as h:
        h.send(to("cmd+a$b`c"), sender="x$`id`@client.example")
        text = h.out("env", b"Subject: hello")
        env = dict(line.split("=", 1) for line in text.decode().split("\n")
                   if re.match(r"[A-Z_]+=", line))
        assert text.startswith(f"== {who} /\n".encode())
        assert env["SENDER"] == "x__id_@client.example"
        assert env["RECIPIENT"] == f"cmd+a_b_c@{HOSTNAME}"
        assert env["EXTENSION"] == "a_b_c"
        assert (env["LOCAL"], env["DOMAIN"]) == ("cmd+a_b_c", HOSTNAME)
        assert env["CLIENT_ADDRESS"] == "127.0.0.1"
        assert env["PATH"] == "/usr/bin:/bin"
        assert set(env) - {"TZ"} == {
            "SENDER", "RECIPIENT", "ORIGINAL_RECIPIENT", "EXTENSION",
            "LOCAL", "DOMAIN", "USER", "LOGNAME", "HOME", "SHELL", "PATH",
            "LANG", "MAIL_CONFIG", "CLIENT_ADDRESS", "CLIENT_HELO",
            "CLIENT_HOSTNAME", "CLIENT_PROTOCOL", "SASL_USERNAME", "PWD"
            } | (set(env) & {"SHLVL", "_", "OLDPWD"})
        assert b"\nDelivered-To: cmd+a$b`c@" in text
        assert h.status("cmd+a$b`c@" + HOSTNAME, "sent").startswith(
            "delivered to command: ")
        h.send(to("bare"))
        h.out("bare", b"Subject: hello")
        h.send(to("sh"))
        assert h.out("sh", who.encode()).startswith(b"From sender@client")
        h.send(to("fds"))
        h.status(to("fds"), "sent")
        fds = re.findall(r" (\d+) -> ", h.out("fds").decode())
        assert sorted(fds) == ["0", "1", "2", "3"]    # 3 is ls's own
        if ROOT:
            h.send(to("net"))
            h.status(to("net"), "sent")
            names = re.findall(r"^ *(\S+):", h.out("net").decode(), re.M)
            assert names == ["lo"]


@pytest.mark.parametrize("code,status,said", [
    (64, "bounced", "command line usage error"),
    (67, "bounced", "user unknown"),
    (69, "bounced", "service unavailable"),
    (71, "deferred", "system resource problem"),
    (75, "deferred", "temporary failure"),
    (77, "bounced", "permission denied"),
    (78, "bounced", "local configuration error"),
    (1, "bounced", 'Command died with status 1: "'),
    (127, "deferred", "command not found"),
])
def test_exit_status(users, code, status, said):
    """sysexits.h, and what the command said, for the sender."""
    with Names(f'cmd: "|echo so sorry; exit {code}"\n') as h:
        h.send(to("cmd"), sender="")
        got = h.status(to("cmd"), status)
        assert got.startswith(said), got
        assert got.endswith("Command output: so sorry"), got


def test_commands_end(users):
    """A status of its own; a signal; too long; a child that stays; nothing
    read; no such program."""
    with Names('own: "|echo 4.2.2 come again; exit 1"\n'
               'gone: "|echo 5.1.6 moved; exit 75"\n'
               'sig: "|kill -9 $$"\nlong: "|sleep 100"\n'
               'stays: "|sleep 100 & cat > /dev/null"\n'
               "deaf: |/bin/true\nnone: |/nowhere/such\n"
               'loud: "|yes | head -c 1000000; exit 67"\n',
               command_time_limit="2s") as h:
        for name in ("own", "gone", "sig", "long", "none", "loud"):
            h.send(to(name), sender="")
        assert "come again" in h.status(to("own"), "deferred")
        assert "moved" in h.status(to("gone"), "bounced")
        assert h.status(to("sig"), "deferred").startswith(
            "Command died with signal 9")
        assert h.status(to("long"), "deferred").startswith(
            "Command time limit exceeded")
        assert "No such file" in h.status(to("none"), "deferred")
        assert len(h.status(to("loud"), "bounced")) < 1100
        h.send([to("deaf"), to("stays")],
               mail("large", b"0123456789\r\n" * 60000))
        h.status(to("deaf"), "sent")
        h.status(to("stays"), "sent")
        assert "dsn=5.1.6" in h.log() and "dsn=4.2.2" in h.log()


def test_not_allowed(users):
    """Commands and files where they may not stand: refused, and not done."""
    with Names("inc: :include:DIR/list\nfile: DIR/out/file\n"
               'cmd: "|touch DIR/out/cmd"\n',
               allow_mail_to_commands="forward",
               allow_mail_to_files="include") as h:
        with open(h.dir + "/list", "w") as f:
            f.write(f'"|touch {h.dir}/out/included"\n')
        os.chmod(h.dir + "/list", 0o644)
        for name in ("inc", "file", "cmd"):
            h.send(to(name), sender="")
            assert "is not allowed" in h.status(to(name), "bounced")
        assert os.listdir(h.dir + "/out") == []


def test_include(users):
    """:include:/file, read as the owner of the table; one that everybody can
    write to, or that is not there, is waited for."""
    name = me(users)
    with Names("inc: :include:DIR/list\nbad: :include:DIR/bad\n"
               "none: :include:DIR/none\nself: :include:DIR/self\n"
               "dev: :include:/dev/zero\n"
               "secret: :include:DIR/secret\n") as h:
        files = {"list": f"# ours\n{name}\n  , other@else.example (x, y)\n"
                 '"a b"@else.example\n', "bad": name + "\n",
                 "self": f":include:{h.dir}/self\n", "secret": name + "\n"}
        for f, text in files.items():
            with open(f"{h.dir}/{f}", "w") as out:
                out.write(text)
            os.chmod(f"{h.dir}/{f}", 0o644)
        os.chmod(h.dir + "/bad", 0o646)
        os.chmod(h.dir + "/secret", 0o600 if ROOT else 0)
        h.send(to("inc"))
        h.has(f"{h.dir}/mail/{name}", b"Subject: hello")
        h.wait_log(r"to=<other@else\.example>, orig_to=<inc@")
        h.wait_log(r"to=<a b@else\.example>, orig_to=<inc@")
        for f, why in (("bad", "can be written by everybody"),
                       ("none", "No such file"),
                       ("self", "Too many levels"),
                       ("dev", "is not a regular file"),
                       ("secret", "Permission denied")):
            h.send(to(f))
            assert why in h.status(to(f), "deferred")


def test_no_table(users):
    """Without its aliases no local name is delivered to; a table that comes
    is used, without a command."""
    name = me(users)
    with Names("x: y\n", alias_maps="hash:$config_directory/none") as h:
        h.expect_log("none")
        h.expect_log("alias_maps: ")
        h.send(to(name))
        assert h.status(to(name), "deferred") == "alias database unavailable"
        h.write("none", "x: y\n")
        h.has(f"{h.dir}/mail/{name}", b"Subject: hello", 60)


def test_new_table(users):
    """A changed text is in force by itself."""
    name = me(users)
    with Names("one: /dev/null\n") as h:
        h.send(to("one"))
        h.status(to("one"), "sent")
        h.write("aliases", f"one: {name}\n")
        h.wait_log("generation 2 is in service")
        h.send(to("one"), mail("later"))
        h.has(f"{h.dir}/mail/{name}", b"Subject: later")


def test_reload_under_load(users):
    """Mail goes on while the table changes: nothing is deferred, nothing
    twice."""
    name = me(users)
    with Names(f"one: {name}\n", minimal_backoff_time="300s",
               maximal_backoff_time="300s", queue_run_delay="300s") as h:
        for i in range(30):
            if i % 10 == 5:
                h.write("aliases", f"one: {name}\nn{i}: x\n")
            h.send(to("one"), mail(f"number-{i}-"))
        wait_for("all", lambda: h.log().count(
            f"to=<{to(name)}>") >= 30 and not h.queued())
        assert "status=deferred" not in h.log()
        text = h.has(f"{h.dir}/mail/{name}")
        for i in range(30):
            assert text.count(b"Subject: number-%d-" % i) == 1


def test_bad_alias(users):
    """What is no address waits until somebody has looked."""
    with Names('bad: "unfinished, x@y\n') as h:
        h.send(to("bad"))
        assert "is not valid" in h.status(to("bad"), "deferred")


# -- .forward ----------------------------------------------------------------


def forward(user, text, name=".forward", mode=0o644, uid=None):
    path = f"{user.home}/{name}"
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)
    os.chown(path, user.uid if uid is None else uid, user.gid)
    return path


@needs_root
def test_forward(users):
    """.forward: elsewhere, and one's own mailbox too; by extension; empty."""
    alice, bob = users
    with Names(recipient_delimiter="+") as h:
        box = {u: f"{h.dir}/mail/{u.name}" for u in users}
        forward(alice, f"{bob.name}\n")
        h.send(to(alice.name))
        text = h.has(box[bob], b"Subject: hello")
        assert header(text, "Delivered-To") == [to(bob.name), to(alice.name)]
        assert not os.path.exists(box[alice])
        forward(alice, f"\\{alice.name}, {bob.name}\n", ".forward+both")
        h.send(to(alice.name + "+both"), mail("two"))
        for u in users:
            h.has(box[u], b"Subject: two")
        # an extension cannot lead to another directory
        h.send(f'"{alice.name}+/../x"@{HOSTNAME}', mail("three"))
        h.has(box[bob], b"Subject: three")
        forward(alice, "# nothing\n\n")
        h.send(to(alice.name), mail("four"))
        h.has(box[alice], b"Subject: four")
        # back and forth
        forward(alice, bob.name)
        forward(bob, alice.name)
        h.send(to(alice.name), sender="")
        assert "mail forwarding loop" in h.status(to(alice.name), "bounced")
        os.unlink(bob.home + "/.forward")


@needs_root
def test_forward_command(users):
    """A command of a user runs as the user, at home, in no group of mailboxes
    and without a network."""
    alice = users[0]
    with Names(recipient_delimiter="+") as h:
        shutil.chown(h.dir + "/mail", "root", "mail")
        os.chmod(h.dir + "/mail", 0o2775)
        forward(alice, f'"|{h.dir}/catch {h.dir}/out/env", '
                f'"|id > {h.dir}/out/id; grep Cap /proc/self/status >> '
                f'{h.dir}/out/id", {h.dir}/out/box, \\{alice.name}\n')
        h.send(to(alice.name + "+ext"))
        h.has(f"{h.dir}/mail/{alice.name}", b"Subject: hello")
        text = h.out("env", b"Subject: hello").decode()
        assert text.startswith(f"== {alice.name} {alice.home}\n")
        for line in (f"HOME={alice.home}", f"USER={alice.name}",
                     "SHELL=/bin/sh", "EXTENSION=ext"):
            assert f"\n{line}\n" in text
        ids = h.out("id").decode()
        assert ids.startswith(
            f"uid={alice.uid}({alice.name}) gid={alice.gid}({alice.name}) "
            f"groups={alice.gid}({alice.name})\n")
        for kind in ("Prm", "Eff", "Inh", "Amb"):
            assert re.search(rf"Cap{kind}:\s*0{{16}}$", ids, re.M)
        assert os.stat(h.dir + "/out/box").st_uid == alice.uid
        forward(alice, "|exit 75\n")
        h.send(to(alice.name))
        h.status(to(alice.name), "deferred")
        os.unlink(alice.home + "/.forward")


@needs_root
def test_forward_unsafe(users):
    """What others may have written is not followed; what cannot be read now
    is waited for."""
    alice, bob = users
    with Names() as h:
        for kw in ({"mode": 0o666}, {"uid": bob.uid}):
            forward(alice, f'"|touch {h.dir}/out/bad"\n', **kw)
            h.send(to(alice.name), mail(str(kw)[2:5]))
            h.has(f"{h.dir}/mail/{alice.name}", str(kw)[2:5].encode())
        assert os.listdir(h.dir + "/out") == []
        assert h.log().count(".forward is not used: it ") >= 2
        # a secret that the user may not read is no list of his
        os.unlink(alice.home + "/.forward")
        os.symlink("/etc/shadow", alice.home + "/.forward")
        h.send(to(alice.name), mail("shadow"))
        h.has(f"{h.dir}/mail/{alice.name}", b"shadow")
        os.unlink(alice.home + "/.forward")
        os.symlink(".forward", alice.home + "/.forward")
        h.send(to(alice.name))
        assert "Too many levels" in h.status(to(alice.name), "deferred")
        os.unlink(alice.home + "/.forward")


@needs_root
def test_mailbox_command(users):
    """All mail of users through one program, as each of them; not root's."""
    alice = users[0]
    with Names() as h:
        h.set(mailbox_command=f"{h.dir}/catch {h.dir}/out/$USER")
        h.wait_log("generation 2 is in service")
        h.send(to(alice.name))
        assert f"== {alice.name} ".encode() in h.out(
            alice.name, b"Subject: hello")
        h.send(to("root"))
        assert "not run as root" in h.status(to("root"), "deferred")


def test_transports(users):
    """mailbox_transport, fallback_transport, luser_relay."""
    name = me(users)
    with Names(mailbox_transport="discard:in the mailbox") as h:
        h.send(to(name))
        assert "passed on as" in h.status(to(name), "sent")
        h.wait_log(r"to=<[^>]*>.*status=sent \(in the mailbox\)")
    with Names(fallback_transport="error:5.1.6 nobody") as h:
        h.send(to("nobodysuch"), sender="")
        h.wait_log(r"dsn=5\.1\.6, status=bounced \(nobody\)")
    with Names(luser_relay=f"{name}+$user", recipient_delimiter="+") as h:
        h.send(to("nobodysuch"))
        text = h.has(f"{h.dir}/mail/{name}", b"Subject: hello")
        assert header(text, "Delivered-To") == [
            to(name + "+nobodysuch"), to("nobodysuch")]


def test_notices(users):
    """Who asked for a notice of success gets one: of a list, that it was
    expanded; of one address, from there."""
    name = me(users)
    with Names(f"list: {name}, x@void.example\none: {name}\n"
               f"back: DIR/out/back\n", transport_maps=
               "inline:{ void.example=discard: }") as h:
        for n in ("list", "one"):
            with h.client() as c:
                c.ehlo()
                assert c.cmd(f"MAIL FROM:<{to('back')}>").code == 250
                assert c.cmd(f"RCPT TO:<{to(n)}> NOTIFY=SUCCESS").code == 250
                assert c.data_cmd(mail(n)).code == 250
            text = h.out("back", b"Action: " + (
                b"expanded" if n == "list" else b"delivered"))
            assert to(n).encode() in text
        assert h.out("back").count(b"\nAction: ") == 2
