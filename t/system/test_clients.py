"""Programs of the host that send mail as they always did: PHP, cron; and what
systemd thinks of our unit."""
import os
import re
import shutil
import signal
import subprocess

import pytest
from postern import BIN, SLOW, TOP, Instance, Sink, wait_for

ROOT = os.getuid() == 0


@pytest.fixture(scope="module")
def gw():
    sink = Sink()
    g = Instance(sink, main={"transport_maps":
                             f"inline:{{ *=smtp:[127.0.0.1]:{sink.port} }}"})
    yield g
    g.destroy()
    sink.down()


def wrapper(gw, path):
    """A command named sendmail that needs no environment."""
    with open(path, "w") as f:
        f.write(f"#!/bin/sh\nMAIL_CONFIG={gw.etc} exec {BIN}/sendmail "
                '"$@"\n')
    os.chmod(path, 0o755)
    return str(path)


def php(gw, tmp_path, code, **ini):
    if not shutil.which("php"):
        pytest.fail("php is missing: t/deps check installs it")
    ini = {"sendmail_path": wrapper(gw, tmp_path / "sendmail") + " -t -i",
           **ini}
    p = subprocess.run(["php", "-n"] + [f"-d{k}={v}" for k, v in ini.items()],
                       input="<?php " + code, capture_output=True, text=True,
                       timeout=60 * SLOW, check=False)
    assert p.returncode == 0, p.stdout + p.stderr
    return p.stdout


def test_php_form(gw, tmp_path):
    """As a form on a web page sends it: the sender is a header, or the fifth
    argument; lines end as PHP's programmers think they must."""
    out = php(gw, tmp_path, r'''
        echo var_export(mail("owner@example.com", "form 1", "line\n.\nlast",
            "From: web@example.com\r\nReply-To: a@client.example\r\n" .
            "Cc: second@example.com\r\nBcc: third@example.com"));
        echo var_export(mail("owner@example.com", "form 2", "a\r\nb\r\n",
            ["From" => "web@example.com", "MIME-Version" => "1.0",
             "Content-Type" => "text/plain; charset=utf-8"],
            "-fbounces@example.com"));
        echo var_export(mail("owner@example.com", "form 3",
            str_repeat("x", 5000) . "\n\xc3\xa4 \xe4"));''')
    assert out == "truetruetrue"
    one, two, three = (gw.sink.wait_subject(f"form {n}") for n in (1, 2, 3))
    assert sorted(one.rcpts) == ["owner@example.com", "second@example.com",
                                 "third@example.com"]
    assert one.field("Bcc") is None
    assert one.field("Reply-To") == "a@client.example"
    assert one.body == b"line\r\n.\r\nlast\r\n"
    assert two.sender == "bounces@example.com"
    assert two.field("From") == "web@example.com"
    # what was CRLF has no empty lines between; PHP adds the last line end
    assert two.body == b"a\r\nb\r\n\r\n"
    assert two.field("Content-Type") == "text/plain; charset=utf-8"
    body = three.body.replace(b"\r\n ", b"").replace(b"\r\n", b"\n")
    assert body == b"x" * 5000 + b"\n\xc3\xa4 \xe4\n"
    for m in (one, two, three):
        assert m.field("Date") and m.field("Message-Id") and m.field("From")
        assert b"\r" not in re.sub(rb"\r\n", b"", m.text)


def test_php_hears_of_failure(gw, tmp_path):
    assert php(gw, tmp_path, 'echo var_export(@mail("not an address", "x", '
               '"y", "From: a@b.example"));') == "false"


CRON = """
set -e
for d in /var/spool/cron /run /etc/cron.d; do mount -t tmpfs none $d; done
mkdir -p /var/spool/cron/crontabs
mount --bind $1/empty /etc/crontab
mount --bind $1/sendmail /usr/sbin/sendmail
cp $1/tab /var/spool/cron/crontabs/root
chmod 600 /var/spool/cron/crontabs/root
exec cron -f
"""


@pytest.mark.long
@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.skipif(not os.path.exists("/usr/sbin/sendmail"),
                    reason="nothing that cron could call")
def test_cron(gw, tmp_path):
    """A real cron, in a file system of its own for what it looks at."""
    if not shutil.which("cron"):
        pytest.fail("cron is missing: t/deps check-long installs it")
    wrapper(gw, tmp_path / "sendmail")
    (tmp_path / "empty").write_text("")
    (tmp_path / "tab").write_text(
        "MAILTO=admin@example.com\n"
        "* * * * * printf 'one\\n.\\nh\\344\\303\\244 no end'\n")
    p = subprocess.Popen(["unshare", "--mount", "sh", "-c", CRON, "sh",
                          str(tmp_path)], stdin=subprocess.DEVNULL,
                         start_new_session=True)
    try:
        m = wait_for("cron's mail", lambda: [
            m for m in gw.sink.messages if "Cron" in (
                m.field("Subject") or "")], 90)[0]
    finally:
        os.killpg(p.pid, signal.SIGTERM)
        p.wait(10)
    assert m.rcpts == ["admin@example.com"]
    assert "CronDaemon" in m.field("From") or "Cron" in m.field("From")
    assert b"one\r\n.\r\nh\xe4\xc3\xa4 no end\r\n" in m.body
    assert m.field("Date") and m.field("Message-Id")


# -- the unit ------------------------------------------------------------------

def unit(tmp_path):
    with open(f"{TOP}/contrib/boot/postern.service") as f:
        text = f.read()
    # the programs of this build, and pages that it has not installed
    text = re.sub("^Documentation=.*\n", "", text, flags=re.M)
    path = tmp_path / "postern.service"
    path.write_text(text.replace("@SBIN@", BIN))
    return str(path)


def analyze(*args):
    if not shutil.which("systemd-analyze"):
        pytest.fail("systemd is missing: t/deps check installs it")
    return subprocess.run(["systemd-analyze", *args, "--no-pager"],
                          capture_output=True, text=True, check=False,
                          timeout=60 * SLOW)


def test_unit_is_right(tmp_path):
    p = analyze("verify", unit(tmp_path))
    said = [l for l in p.stderr.splitlines() if "postern.service" in l]
    assert not said and p.returncode == 0, p.stderr


def test_unit_is_a_fence(tmp_path):
    """Less exposed than what systemd calls medium."""
    p = analyze("security", "--offline=yes", "--threshold=45",
                unit(tmp_path))
    assert p.returncode == 0, p.stdout
    level = re.search(r"exposure level for .*: (\d+\.\d+)", p.stdout)
    assert level and float(level.group(1)) < 4.5
    wide = re.sub("^(Protect|Restrict|System|Capab|Private|Lock).*\n", "",
                  open(unit(tmp_path)).read(), flags=re.M)
    (tmp_path / "wide.service").write_text(wide)
    assert analyze("security", "--offline=yes", "--threshold=45",
                   str(tmp_path / "wide.service")).returncode != 0
