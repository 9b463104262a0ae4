"""postconf, beside the one of an installed Postfix where there is one."""
import json
import os
import random
import shutil
import stat
import subprocess

import pytest

from postern import BIN, SLOW, TOP

POSTFIX = "/usr/sbin/postconf"
need_postfix = pytest.mark.skipif(not os.path.exists(POSTFIX),
                                  reason="Postfix is not installed")


class Result:
    def __init__(self, program, args, env=None):
        p = subprocess.run([program] + args, capture_output=True, text=True,
                           timeout=20 * SLOW, env=env)
        self.status, self.out, self.err = p.returncode, p.stdout, p.stderr
        self.lines = p.stdout.splitlines()


@pytest.fixture
def conf(tmp_path):
    """conf(text, args...): postconf on a main.cf, which is kept if None."""
    (tmp_path / "master.cf").write_text(
        "smtp inet n - y - - smtpd\nrelay unix - - y - - smtp\n")

    def run(text, *args, program=os.path.join(BIN, "postconf")):
        if text is not None:
            (tmp_path / "main.cf").write_text(text)
            # Postfix rereads what may still be written, for a second
            os.utime(tmp_path / "main.cf", (1577836800, 1577836800))
        return Result(program, ["-c", str(tmp_path), *args])
    run.dir = tmp_path
    run.main = tmp_path / "main.cf"
    run.master = tmp_path / "master.cf"
    return run


def test_manual_page_is_made_from_the_parameters():
    made = subprocess.run([os.path.join(TOP, "man/params")],
                          capture_output=True, text=True, check=True).stdout
    with open(os.path.join(TOP, "man/main.cf.5")) as f:
        assert made == f.read(), "run man/params > man/main.cf.5"


def test_all_parameters_are_printed(conf):
    r = conf("relayhost = [10.0.0.1]\n")
    assert r.status == 0 and r.err == ""
    assert "relayhost = [10.0.0.1]" in r.lines
    assert "smtpd_timeout = 300s" in r.lines
    names = [line.split(" =")[0] for line in r.lines]
    assert names == sorted(names) and len(names) == len(set(names)) > 100
    assert conf(None, "-d", "relayhost").lines == ["relayhost ="]
    assert len(conf(None, "-d").lines) == len(names)


def test_forms(conf):
    text = "relayhost = a\nmydestination = $mydomain  b\nmydomain = x.y\n"
    assert conf(text, "-h", "relayhost", "mydomain").lines == ["a", "x.y"]
    assert conf(None, "-H", "relayhost", "mydomain").lines == [
        "relayhost", "mydomain"]
    assert conf(None, "mydestination").lines == [
        "mydestination = $mydomain b"]
    assert conf(None, "-x", "mydestination").lines == [
        "mydestination = x.y b"]
    assert conf(None, "-o", "mydomain=q", "-xh", "mydestination").lines == [
        "q b"]
    assert conf(None, "-n").lines == [
        f"config_directory = {conf.dir}", "mydestination = $mydomain b",
        "mydomain = x.y", "relayhost = a"]
    assert conf(None, "-q", "-C", "user").lines == []
    assert conf(None, "relay_destination_concurrency_limit").lines == [
        "relay_destination_concurrency_limit = "
        "$default_destination_concurrency_limit"]
    env = dict(os.environ, MAIL_CONFIG=str(conf.dir))
    assert Result(os.path.join(BIN, "postconf"), ["relayhost"], env).lines == [
        "relayhost = a"]


def test_json(conf):
    r = conf('smtpd_banner = a "b" \\ \x01 ü\n', "-j", "smtpd_banner")
    assert json.loads(r.out) == {"name": "smtpd_banner",
                                 "value": 'a "b" \\ \x01 ü'}
    conf.main.write_bytes(b"smtpd_banner = \xff\xc0\xaf\xed\xa0\x80\n")
    assert json.loads(conf(None, "-jn", "smtpd_banner").out)["value"] == (
        "�" * 6)
    rows = [json.loads(line) for line in conf("", "-j").lines]
    assert {"name": "hopcount_limit", "value": "50"} in rows
    rows = [json.loads(line) for line in conf(None, "-jM").lines]
    assert rows[0]["service"] == "smtp" and rows[0]["command"] == "smtpd"


def test_warnings(conf):
    r = conf("foo = 1\nrelayhos = x\nbiff = no\nsun_mailtool_compatibility = no\n"
             "check_recipient_access = hash:access\n"
             "relayhost = a # b\nmyorigin = $bar.foo.com\n", "-n")
    assert r.status == 0
    for text in (":1: unused parameter: foo=1",
                 "relayhos=x (did you mean relayhost?)",
                 "not used by Postern: biff, sun_mailtool_compatibility",
                 "smtpd_recipient_restrictions = ... check_recipient_access",
                 ":6: #comment after other text is not allowed: # b",
                 ":7: undefined parameter: bar"):
        assert text in r.err
    for line in r.err.splitlines():
        assert line.startswith("postconf: warning: ")
    assert "biff = no" in r.lines and "foo = 1" not in r.lines
    assert conf(None, "-q", "-n").err == ""
    assert conf(None, "-xh", "myorigin").lines == [".foo.com"]
    r = conf("", "nosuch", "biff", "reject_rbl_client", "relayhos")
    assert r.status == 0 and r.out == ""
    assert r.err.splitlines()[0] == (
        "postconf: warning: nosuch: unknown parameter")
    assert "biff: not used by Postern" in r.err
    assert "for smtpd_client_restrictions" in r.err
    assert "did you mean relayhost?" in r.err


def test_errors(conf):
    r = conf("x\nhopcount_limit = 0\nsmtpd_timeout = 3q\n", "-n")
    assert r.status == 1 and r.out == ""
    assert f"{conf.main}:1: missing '='" in r.err
    assert f"{conf.main}:2: hopcount_limit = 0: not in the range 1 to" in r.err
    assert f"{conf.main}:3: smtpd_timeout = 3q: not a time" in r.err
    conf.main.unlink()
    r = conf(None, "-n")
    assert r.status == 1 and "No such file" in r.err
    assert conf(None, "-Z").status == 1
    assert conf(None, "-hH").status == 1


EDITED = ("# c1\nrelayhost = a\n  b\n# c2\n   c\nmydomain = z\n relayhost\n"
          "relayhost=3\n\n# end\n")


@pytest.mark.parametrize("args, want", [
    (["-e", "relayhost = q w", "foo=bar"],
     "# c1\nrelayhost = q w\n# c2\nmydomain = z\n relayhost\n"
     "relayhost = q w\n\n# end\nfoo = bar\n"),
    (["relayhost="], "# c1\nrelayhost =\n# c2\nmydomain = z\n relayhost\n"
     "relayhost =\n\n# end\n"),
    (["-X", "relayhost"], "# c1\n# c2\nmydomain = z\n relayhost\n\n# end\n"),
    (["-#", "relayhost"], "# c1\n#relayhost = a\n#  b\n# c2\n#   c\n"
     "mydomain = z\n relayhost\n#relayhost=3\n\n# end\n"),
    (["-X", "nosuch"], EDITED),
])
def test_edit(conf, args, want):
    r = conf(EDITED, *args)
    assert r.status == 0, r.err
    assert conf.main.read_text() == want
    assert sorted(os.listdir(conf.dir)) == ["main.cf", "master.cf"]


@pytest.mark.parametrize("args", [
    ["-e", "relayhost"], ["-e", "#relayhost=a"], ["-e", "relayhost=a\nb=c"],
    ["-e", "a b=c"], ["-e", "=c"], ["-X", "relayhost=b"], ["-e"],
    ["-e", "-X", "relayhost"]])
def test_bad_edit_changes_nothing(conf, args):
    r = conf(EDITED, *args)
    assert r.status == 1 and r.err != ""
    assert conf.main.read_text() == EDITED


def test_edit_keeps_the_file(conf):
    conf("relayhost = a", "-h", "relayhost")
    real = conf.dir / "real.cf"
    conf.main.rename(real)
    conf.main.symlink_to("real.cf")
    os.chmod(real, 0o640)
    if os.getuid() == 0:
        os.chown(real, 1, 2)
    # left by a killed one
    (conf.dir / "real.cf.tmp").write_text("x" * 10000)
    r = conf(None, "-e", "hopcount_limit=0")
    assert r.status == 0
    assert "hopcount_limit = 0: not in the range" in r.err
    assert conf.main.is_symlink()
    assert real.read_text() == "relayhost = a\nhopcount_limit = 0\n"
    st = real.stat()
    assert stat.S_IMODE(st.st_mode) == 0o640
    if os.getuid() == 0:
        assert (st.st_uid, st.st_gid) == (1, 2)


def test_edits_at_a_time(conf):
    conf("", "relayhost")
    jobs = [subprocess.Popen([os.path.join(BIN, "postconf"), "-c",
                              str(conf.dir), "-e", f"user_{i}={i}"])
            for i in range(20)]
    assert [p.wait(20 * SLOW) for p in jobs] == [0] * 20
    assert sorted(conf.main.read_text().splitlines()) == sorted(
        f"user_{i} = {i}" for i in range(20))


MASTER = """\
smtp      inet  n       -       y       -       -       smtpd
  -o { smtpd_banner = a   b c } -o relayhost=bar
# comment
   -v -v -D
127.0.0.1:10025_very_long_name inet n - - - 10 smtpd -o message_size_limit= \
-o mynetworks=127.0.0.0/8,10.0.0.0/8
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d {a b} ${recipient}
pickup    unix  n       -       n       60?      1       pickup
"""


def test_services(conf):
    conf("")
    conf.master.write_text(MASTER + "x unix - - - - - smtp -o nosuch=1\n")
    r = conf(None, "-M", "pickup", "nothing")
    assert r.lines == [
        "pickup     unix  n       -       n       60?     1       pickup"]
    assert 'warning: unmatched request: "nothing"' in r.err
    assert "master.cf:9: unused parameter: nosuch=1" in r.err
    assert conf(None, "-qP", "*/inet/relayhost").lines == [
        "smtp/inet/relayhost = bar"]
    assert conf(None, "-qFh", "pickup/unix/wakeup").lines == ["60?"]
    conf.master.write_text("a inet q - - - - smtpd\n")
    r = conf(None, "-M")
    assert r.status == 1 and "invalid private field" in r.err


@need_postfix
@pytest.mark.parametrize("option", ["-M", "-Mf", "-F", "-P", "-Ph", "-FH"])
def test_services_as_postfix(conf, option):
    conf("")
    conf.master.write_text(MASTER)
    want = conf(None, option, program=POSTFIX)
    assert want.status == 0
    # Postfix prints the parameters of one service in no order
    assert sorted(conf(None, option).lines) == sorted(want.lines)


def test_table_types(conf):
    assert {"static", "inline", "texthash", "cidr", "regexp", "pcre"} <= set(
        conf("", "-m").lines)


EXPRESSIONS = """\
a = A
empty =
full = $empty
via = $$a
order = $later
relayhost = $a ${a} $(a) ${ a } $a.b-c $$a $$$$x $via $order|
myorigin = ${a?yes} ${a:no}| ${full?yes} ${empty:no} ${empty?no}|
mydestination = ${a?{x}:{y}} ${empty ? {x} : {y}} ${a?x:y} ${a ? x}|
  ${empty?{x}:y} ${a?{${full?{$a$a}}}} $(a?{x}:{y})
# comment
   # another
  ${a}}{${a}
smtpd_banner = ${{a}=={a}?{x}:{y}} ${{a} != {a} ? {x} : {y}} ${{b}<{a}}|
  ${{2}<{10}?{x}:{y}} ${{9a}<{10}?{x}:{y}} ${{003}=={3}?{x}:{y}} ${{b}>={a}}
  ${{ 3 }=={3}?{x}:{y}} ${{}<{1}?{x}:{y}} ${{3.7}<=level {3.10}?{x}:{y}}
  $({$a}=={A}?{$a}) ${{a}=={b}:no}
smtp_helo_name =   first
later = 1   2
smtp_helo_name=last
"""


@need_postfix
def test_expressions_as_postfix(conf):
    names = ["relayhost", "myorigin", "mydestination", "smtpd_banner",
             "smtp_helo_name"]
    want = conf(EXPRESSIONS, "-x", *names, program=POSTFIX)
    assert want.status == 0, want.err
    assert conf(None, "-qx", *names).out == want.out
    want = conf(None, *names, program=POSTFIX)
    assert conf(None, "-q", *names).out == want.out


def made_up(rng, depth=0):
    """A value with references, all well-formed."""
    def space():
        return rng.choice(["", "", " "])

    def inner():
        return made_up(rng, depth + 1)
    parts = []
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice(["relayhost", "a", "b", "empty", "mydomain"])
        form = rng.randrange(4 if depth > 2 else 8)
        if form < 2:
            parts.append(rng.choice(["x", " y z ", "10", "9", "$$"]))
        elif form == 2:
            parts.append(rng.choice(["$%s ", "${%s}", "$(%s)"]) % name)
        elif form == 3:
            parts.append("\n" + rng.choice(["", "# c\n", "  # c\n\n"]) + "  ")
        elif form == 4:
            parts.append("${%s%s%s%s}" % (name, space(), rng.choice("?:"),
                                          inner()))
        elif form == 5:
            parts.append("${%s?%s{%s}%s:%s{%s}}" % (
                name, space(), inner(), space(), space(), inner()))
        else:
            op = rng.choice(["==", "!=", "<", "<=", ">", ">="])
            parts.append("${{%s}%s%s%s{%s}?{%s}:{%s}}" % (
                inner(), space(), op, space(), inner(), inner(), inner()))
    return "".join(parts)


@need_postfix
@pytest.mark.parametrize("seed", range(15))
def test_made_up_files_as_postfix(conf, seed):
    rng = random.Random(seed)
    # b may name a, the others both; a names only what is set
    values = {"mydomain": "d.e", "empty": "", "relayhost": "r",
              "a": made_up(rng), "b": made_up(rng), "myorigin": made_up(rng),
              "smtp_helo_name": made_up(rng), "smtpd_banner": made_up(rng)}
    for name in "ab":
        for other in "ab"[:"ab".index(name) + 1][::-1]:
            for form in ("$%s ", "${%s", "$(%s"):
                if name == "a" or other == name:
                    values[name] = values[name].replace(form % other,
                                                        form % "mydomain")
        if name == "a":
            for form in ("$%s ", "${%s", "$(%s"):
                values["a"] = values["a"].replace(form % "b",
                                                  form % "relayhost")
    text = "".join(f"{k} = {v}\n" for k, v in rng.sample(
        sorted(values.items()), len(values)))
    names = ["myorigin", "smtp_helo_name", "smtpd_banner"]
    want = conf(text, "-x", *names, program=POSTFIX)
    assert want.status == 0, text + want.err
    got = conf(None, "-qx", *names)
    assert got.out == want.out, text + got.err
    shutil.rmtree(conf.dir)
