"""postern import postfix: real-world main.cf and master.cf, t/import/postfix.

Each directory has the files of a Postfix (@SRC@: its own path) and `expect`:
	main NAME = VALUE	a setting of the new main.cf
	unset NAME		not set there
	master REGEX, nomaster REGEX	in the new master.cf
	file NAME, nofile NAME	in the new directory
	report REGEX		in a line of the report, without directories
	check ok|bad		what the final check says
"""
import os
import re
import shutil

import pytest

from postern import BIN, TOP, run

CASES = os.path.join(TOP, "t/import/postfix")
POSTERN = os.path.join(BIN, "postern")


class Import:
    def __init__(self, case, tmp_path, *args):
        self.src, self.dst = str(tmp_path / "src"), str(tmp_path / "dst")
        shutil.copytree(os.path.join(CASES, case), self.src)
        self.expect = self.read(self.src + "/expect").splitlines()
        os.unlink(self.src + "/expect")
        for top, _, names in os.walk(self.src):
            for name in names:
                text = self.read(os.path.join(top, name))
                with open(os.path.join(top, name), "w") as f:
                    f.write(text.replace("@SRC@", self.src))
        self.before = self.tree()
        self.run(*args)

    def run(self, *args):
        p = run(POSTERN, "import", "postfix", self.src, "--to", self.dst,
                *args, check=False)
        self.status, self.out, self.err = p.returncode, p.stdout, p.stderr

    def read(self, path):
        with open(path) as f:
            return f.read()

    def tree(self):
        return {os.path.join(t, n): (self.read(os.path.join(t, n)),
                                     os.stat(os.path.join(t, n)).st_mtime_ns)
                for t, _, names in os.walk(self.src) for n in names}

    @property
    def settings(self):
        """name: value, with blanks in one form."""
        text = re.sub(r"(?m)^#.*\n", "", self.read(self.dst + "/main.cf"))
        text = re.sub(r"\n[ \t]+", " ", text)
        found = {}
        for line in text.splitlines():
            if line:
                name, _, value = line.partition("=")
                assert name.strip() not in found, line
                found[name.strip()] = " ".join(value.split())
        return found

    @property
    def report(self):
        text = self.read(self.dst + "/import-report.txt")
        return text.replace(self.src + "/", "")

    def lines(self, name):
        """Numbers of the logical lines of a file."""
        return [i for i, line in enumerate(
            self.read(f"{self.src}/{name}").splitlines(), 1)
            if line.strip() and line[0] not in "# \t"]


@pytest.mark.parametrize("case", sorted(os.listdir(CASES)))
def test_case(case, tmp_path):
    i = Import(case, tmp_path)
    assert i.status in (0, 2), i.err
    settings, report = i.settings, i.report
    master = i.read(i.dst + "/master.cf")
    for line in i.expect:
        what, _, text = line.partition(" ")
        if what == "main":
            name, _, value = text.partition("=")
            assert settings.get(name.strip()) == " ".join(value.split()), line
        elif what == "unset":
            assert text not in settings, line
        elif what == "master":
            assert re.search(text, master, re.M), (line, master)
        elif what == "nomaster":
            assert not re.search(text, master, re.M), (line, master)
        elif what in ("file", "nofile"):
            assert os.path.exists(f"{i.dst}/{text}") == (what == "file"), line
        elif what == "report":
            assert re.search("(?m)^" + text.replace("^", ""), report), (
                line, report)
        else:
            assert what == "check", line
            assert i.status == {"ok": 0, "bad": 2}[text], i.err
    # nothing is dropped silently: each line is in the report
    for name in ("main.cf", "master.cf"):
        for n in i.lines(name):
            assert f"\n{name}:{n}: " in report, (name, n, report)
    # a setting names the line it comes from
    for m in re.finditer(r"(?m)^# \S+/main\.cf:(\d+)\n(?:#.*\n)*(\w\S*) =",
                         i.read(i.dst + "/main.cf")):
        assert int(m.group(1)) in i.lines("main.cf")
    assert i.tree() == i.before
    # our own reader agrees that nothing in it is unknown
    p = run(os.path.join(BIN, "postconf"), "-c", i.dst, "-n", check=False)
    assert "unused" not in p.stderr and "error" not in p.stderr, p.stderr


def test_what_is_said_of_parameters():
    """Nothing is said not to be here that is."""
    def rows(path, *kinds):
        with open(os.path.join(TOP, path)) as f:
            return re.findall(r"(?m)^(?:" + "|".join(kinds) + r")\((\w+)",
                              f.read())
    declared = set(rows("lib/conf_params.def", r"PARAM_\w+"))
    known = set(rows("lib/conf_known.def", r"KNOWN\w*"))
    table = "proxy/import_postfix.def"
    for prefix in rows(table, "NOT_HERE"):
        names = [n for n in known | declared if n.startswith(prefix)]
        assert set(names) - declared, (prefix, names)
    for name in rows(table, "DIFFERS", "DEFAULT", "STRICTER"):
        assert name in declared, name
    # what goes by the parameter of SMTP: there is one
    with open(os.path.join(TOP, table)) as f:
        same = re.findall(r"NOT_HERE\(lmtp_(\w+), \"LMTP goes by", f.read())
    assert same
    for rest in same:
        assert any(n.startswith("smtp_" + rest) for n in declared), rest


def test_nothing_is_overwritten(tmp_path):
    i = Import("isp-relay", tmp_path)
    assert i.status == 0, i.err
    path = i.dst + "/transport"
    with open(path, "w") as f:
        f.write("mine mine:\n")
    i.run()
    assert i.status == 1 and "exists; --force replaces it" in i.err
    assert i.read(path) == "mine mine:\n"
    i.run("-n", "--force")
    assert i.status == 0 and f"would replace {path}" in i.out
    assert i.read(path) == "mine mine:\n"
    i.run("--force")
    assert i.status == 0 and i.read(path) != "mine mine:\n"
    # never into what is read, by no name
    os.symlink(i.src, str(tmp_path / "link"))
    for to in (i.src, i.src + "/new", str(tmp_path / "link"),
               str(tmp_path / "link/x")):
        p = run(POSTERN, "import", "postfix", i.src, "--to", to, "--force",
                check=False)
        assert p.returncode == 1 and "is in what is read" in p.stderr
    assert i.tree() == i.before


def test_only_the_report(tmp_path):
    i = Import("debian", tmp_path)
    p = run(POSTERN, "import", "postfix", i.src)
    assert p.stdout == i.read(i.dst + "/import-report.txt")


def test_secrets_stay_secret(tmp_path):
    i = Import("dovecot-mysql", tmp_path)
    os.chmod(i.src + "/sql/domains.cf", 0o640)
    i.run("--force")
    assert os.stat(i.dst + "/sql-domains.cf").st_mode & 0o777 == 0o600
    assert os.stat(i.dst + "/sql-aliases.cf").st_mode & 0o777 == 0o644
    assert "swordfish" not in i.report + i.read(i.dst + "/main.cf")


@pytest.mark.parametrize("main,pattern", [
    ("no equals sign\n", r"main\.cf:1: unknown: "),
    ("  begins with a blank = 1\n", r"main\.cf:1: unknown: "),
    ("a = $b\nb = $a\nrelayhost = $a\n", r"main\.cf:3: .*relayhost = \$a"),
    ("relayhost = [x\nalias_maps = hash:\n", r"main\.cf:2: .*alias_maps"),
    ("transport_maps = unionmap:{hash:@SRC@/no, {inline:{a=b}}}\n",
     r"unknown: transport_maps: hash:\S*no"),
    ("mynetworks = @SRC@/../src/main.cf\n", r"mynetworks = "),
    ("x" * 3000 + " = 1\n", r"main\.cf:1: unknown"),
])
def test_odd_lines(tmp_path, main, pattern):
    i = Import("null-client", tmp_path)
    with open(i.src + "/main.cf", "w") as f:
        f.write(main.replace("@SRC@", i.src))
    i.run("--force")
    assert i.status in (0, 2), i.err
    assert re.search(pattern, i.report), i.report
    assert "panic" not in i.err


def test_odd_services(tmp_path):
    i = Import("null-client", tmp_path)
    with open(i.src + "/master.cf", "w") as f:
        f.write("smtp inet n - y - -\nfoo unix - - y - - frobnicate -x\n"
                "smtp inet n - y - - smtpd -o\n  { a = b\n")
    i.run("--force")
    assert i.status in (0, 1, 2), i.err
    for pattern in (r"master\.cf:1: unknown: smtp inet n",
                    r"master\.cf:2: unknown: foo unix frobnicate"):
        assert re.search(pattern, i.report), i.report
    os.unlink(i.src + "/master.cf")
    i.run("--force")
    assert i.status == 1 and "master.cf: No such file" in i.err
