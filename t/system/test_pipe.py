"""The transport pipe: commands of the administrator's, uux among them."""
import glob
import os
import re
import shutil

import pytest

from postern import HOSTNAME, mail, wait_for
from test_local import Host, ROOT, me, needs_root, users  # noqa: F401

SHOW = """#!/bin/sh
exec > "$0.out.$$" 2>&1
echo "$(id -un):$(id -gn) $(pwd)"
for a; do echo "arg=$a"; done
env | sort
echo "--"
cat
mv "$0.out.$$" "$0.done.$$"
exit 0
"""


class Piped(Host):
    """All mail for p.example goes to a command."""

    def __init__(self, attributes, argv="SHOW", **main):
        self.attributes, self.argv = attributes, argv
        super().__init__(**{
            "transport_maps": "inline:{ p.example=show:next.example }",
            "minimal_backoff_time": "1s", "queue_run_delay": "1s",
            "maximal_backoff_time": "1s", **main})

    def start(self):
        os.mkdir(self.dir + "/cmd")
        os.chmod(self.dir + "/cmd", 0o777)
        with open(self.dir + "/cmd/show", "w") as f:
            f.write(SHOW)
        os.chmod(self.dir + "/cmd/show", 0o755)
        argv = self.argv.replace("SHOW", self.dir + "/cmd/show")
        self.edit("master.cf", lambda t: t + f"\nshow unix - n n - - pipe\n"
                  f"  {self.attributes} argv={argv}\n")
        super().start()

    def shown(self, n=1):
        names = wait_for(f"{n} runs", lambda: len(
            glob.glob(self.dir + "/cmd/*.done.*")) >= n and glob.glob(
            self.dir + "/cmd/*.done.*"))
        out = []
        for name in names:
            with open(name, "rb") as f:
                out.append(f.read().decode())
            os.unlink(name)
        return out if n > 1 else out[0]


def who(users):
    return "nobody" if ROOT else me(users)


def args(shown):
    return re.findall(r"^arg=(.*)$", shown, re.M)


def test_macros(users):
    """Each name, in each form; once for each recipient where they differ."""
    u = who(users)
    with Piped(f"user={u}", "SHOW ${sender} $(nexthop) $queue_id a${user}b "
               "${extension} ${mailbox} ${domain} $recipient "
               "$original_recipient ${size} ${client_address} $client_helo "
               "$$x { two words }", recipient_delimiter="+") as h:
        h.send(["Ann+x@P.example", "bob@p.example"])
        s = h.shown()
        a = args(s)
        assert a[:2] == ["sender@client.example", "next.example"]
        assert re.fullmatch(r"[0-9A-F]{11}", a[2])
        assert sorted(a[3:5]) == ["aAnnb", "abobb"]
        assert sorted(a[5:7]) == ["", "x"]
        assert sorted(a[7:9]) == ["Ann+x", "bob"]
        assert sorted(a[9:11]) == ["P.example", "p.example"]
        assert sorted(a[11:13]) == ["Ann+x@P.example", "bob@p.example"]
        assert sorted(a[13:15]) == ["Ann+x@P.example", "bob@p.example"]
        assert int(a[15]) > 100
        assert a[16:] == ["127.0.0.1", "client.example", "$x", "two words"]
        assert s.startswith(f"{u}:")
        env = set(re.findall(r"^([A-Z_]+)=", s.split("--\n")[0], re.M))
        assert env <= {"PATH", "LANG", "MAIL_CONFIG", "TZ", "PWD", "SHLVL",
                       "_", "OLDPWD"}
        text = s.split("--\n", 1)[1]
        # nothing in front of it but what the gateway wrote
        assert text.startswith("Received: ")
        assert text.endswith("\n\ntext\n")
        assert h.status("bob@p.example", "sent") == \
            "delivered via show service"


def test_flags(users):
    u = who(users)
    with Piped(f"user={u} flags=BDFORhqu.>") as h:
        h.send("Ann+x@P.example", mail("one", b".dot\r\nFrom x\r\n"))
        text = h.shown().split("--\n", 1)[1]
        lines = text.split("\n")
        assert lines[0].startswith("From sender@client.example  ")
        assert lines[1:4] == ["Return-Path: <sender@client.example>",
                              "X-Original-To: Ann+x@P.example",
                              "Delivered-To: Ann+x@P.example"]
        assert text.endswith("\n..dot\n>From x\n\n")
    with Piped(f"user={u} flags=hqu eol=\\r\\n null_sender=nobody@here",
               "SHOW $sender $recipient") as h:
        h.send('"Ann B"@P.Example', sender="")
        s = h.shown()
        assert args(s) == ["nobody@here", '"ann b"@p.example']
        assert "\r\n\r\ntext\r\n" in s


def test_no_option(users):
    """What a stranger writes is no option of a command, and no other
    argument."""
    u = who(users)
    with Piped(f"user={u}", "SHOW -f${sender} -- ${recipient}") as h:
        h.send("-oQ/tmp@p.example", sender="")
        assert "would take this for an option" in h.status(
            "-oQ/tmp@p.example", "bounced")
        h.send('"a b; touch /tmp/x"@p.example', sender="-x@client.example")
        assert args(h.shown()) == ["-f-x@client.example", "--",
                                   "a b; touch /tmp/x@p.example"]
        assert len(glob.glob(h.dir + "/cmd/*")) == 1


def test_limits(users):
    """size=, TRANSPORT_time_limit, exit status."""
    u = who(users)
    with Piped(f"user={u} size=1000") as h:
        h.send("a@p.example", mail("large", b"x" * 900 + b"\r\n"), sender="")
        assert "exceeds size limit 1000 of service show" in h.status(
            "a@p.example", "bounced")
        assert "dsn=5.3.4" in h.log()
    with Piped(f"user={u}", "/bin/sleep 100", show_time_limit="1s") as h:
        h.send("a@p.example")
        assert "Command time limit exceeded" in h.status(
            "a@p.example", "deferred")
    with Piped(f"user={u}", "/bin/sh -c { echo 5.7.9 not you; exit 77 }",
               show_destination_recipient_limit="10") as h:
        h.send(["a@p.example", "b@p.example"], sender="")
        for n in "ab":
            assert "not you" in h.status(f"{n}@p.example", "bounced")
        assert h.log().count("dsn=5.7.9") == 2


@pytest.mark.parametrize("attributes", [
    "", "user=nobodysuch", "user=root", "user=postern", "user=nobody flags=Z",
    "user=nobody chroot=/tmp", "user=nobody what=else",
    "user=nobody:root"] if ROOT else ["", "user=root", "user=nobodysuch"])
def test_bad_settings(users, attributes):
    """A mistake of the administrator's returns no mail, and is in the log."""
    with Piped(attributes) as h:
        h.expect_log("error: master.cf:")
        h.expect_log("configuration error: user=")
        h.send("a@p.example")
        got = h.status("a@p.example", "deferred")
        assert "configuration error" in got or "only root" in got
        assert not glob.glob(h.dir + "/cmd/*.done.*")


@needs_root
def test_process(users):
    """No other group, no rights, no descriptor, no network; with
    delivery_network, the network."""
    with Piped("user=nobody:mail directory=/usr", "/bin/sh -c { id; pwd; "
               "grep Cap /proc/self/status; ls /proc/self/fd; "
               "grep -c : /proc/net/dev; exit 67 }") as h:
        h.send("a@p.example", sender="")
        got = h.status("a@p.example", "bounced")
        assert re.search(r"uid=\d+\(nobody\) gid=\d+\(mail\) "
                         r"groups=\d+\(mail\) /usr CapInh: 0+ CapPrm:\s0+ "
                         r"CapEff:\s0+", re.sub(r"\s+", " ", got)), got
        assert re.search(r" 0 1 2 3 1$", re.sub(r"\s+", " ", got)), got
    with Piped("user=nobody", "/bin/sh -c { readlink /proc/self/ns/net; "
               "exit 67 }", delivery_network="yes") as h:
        h.send("a@p.example", sender="")
        assert os.readlink("/proc/self/ns/net") in h.status(
            "a@p.example", "bounced")


@needs_root
def test_notice(users):
    """Success is told as far as it is known: handed on, or with flag X
    delivered."""
    for flags, word in (("", "relayed"), ("flags=X", "delivered")):
        with Piped(f"user=nobody {flags}", mydestination="p.example",
                   alias_maps="inline:{ back=/tmp/none }",
                   local_transport="local") as h:
            h.set(alias_maps=f"inline:{{ {{ back = {h.dir}/mail/back }} }}",
                  transport_maps="inline:{ a@p.example=show: }")
            h.wait_log("generation 2 is in service")
            with h.client() as c:
                c.ehlo()
                assert c.cmd("MAIL FROM:<back@p.example>").code == 250
                assert c.cmd("RCPT TO:<a@p.example> NOTIFY=SUCCESS"
                             ).code == 250
                assert c.data_cmd(mail()).code == 250
            h.has(h.dir + "/mail/back", f"Action: {word}".encode())


@needs_root
@pytest.mark.skipif(not shutil.which("uux"), reason="no UUCP here")
def test_uux(users):
    """Mail for a neighbour by UUCP: the job that uux makes is the rmail of
    the message, for all recipients."""
    with Piped("flags=Fqhu user=uucp", "uux -I CONF -r -n -z -a$sender - "
               "$nexthop!rmail ($recipient)", transport_maps=
               "inline:{ p.example=show:neighbour }") as h:
        top = h.dir + "/uucp"
        os.makedirs(top + "/spool")
        shutil.chown(top + "/spool", "uucp", "uucp")
        with open(top + "/sys", "w") as f:
            f.write("system neighbour\ntime any\nport tcp\n")
        with open(top + "/config", "w") as f:
            f.write(f"nodename here\nspool {top}/spool\nsysfile {top}/sys\n"
                    f"logfile {top}/spool/Log\nstatfile {top}/spool/Stats\n"
                    f"debugfile {top}/spool/Debug\npubdir {top}/spool\n"
                    f"lockdir {top}/spool\n")
        h.edit("master.cf", lambda t: t.replace("CONF", top + "/config"))
        h.wait_log("generation 2 is in service")
        h.send(["Ann@P.Example", '"b c"@p.example'],
               mail("by uucp", b"From here\r\n"))
        assert h.status("Ann@P.Example", "sent") == \
            "delivered via show service"
        texts = []
        for p in glob.glob(top + "/spool/neighbour/?.*/**", recursive=True):
            if os.path.isfile(p):
                with open(p, "rb") as f:
                    texts.append(f.read())
        data, = [t for t in texts if b"Subject: by uucp" in t]
        assert data.startswith(b"From sender@client.example  ")
        assert data.endswith(b"\n\nFrom here\n")
        # the command: in a file of its own, or in the job's
        work = b"".join(texts)
        assert re.search(rb"rmail .*ann@p\.example", work), work
        assert b"b c" in work
        assert b"sender@client.example" in work
