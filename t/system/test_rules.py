"""postern rules: how often each row of a rule file, and each restriction, has
fired; what is counted outlives roles and reloads."""
import json
import os
import time

from postern import mail, wait_for

HEADERS = "# a comment\n" \
    "/^Subject: tri(al)/ WARN would be $1\n" \
    "if /^Subject:/\n" \
    "/worm/\n" \
    "  REJECT it is\n" \
    "  a worm\n" \
    "endif\n" \
    "/^Subject: never/ REJECT\n"
ACCESS = "trial@a.example\tWARN tried\n" \
    "bad@a.example\tREJECT no\n" \
    "fine@a.example\tOK\n"
MAIN = {
    "header_checks": "pcre:header_checks",
    "body_checks": "",
    "smtpd_sender_restrictions": "warn_if_reject "
    "check_sender_access texthash:$config_directory/refuse, "
    "check_sender_access hash:$config_directory/access, "
    "check_client_access cidr:$config_directory/clients, "
    "warn_if_reject reject_non_fqdn_sender",
}


def gateway(make, sink, **main):
    gw = make(sink, main={**MAIN, **main}, start=False)
    gw.write("header_checks", HEADERS)
    gw.write("access", ACCESS)
    gw.write("clients", "127.0.0.0/8 WARN from here\n192.0.2.0/24 REJECT\n")
    gw.write("refuse", "A.example REJECT not yours\n")
    gw.start()
    return gw


def rules(gw, *args, check=True):
    """By (file, line), for main.cf by (file, rule)."""
    p = gw.command("rules", "-j", *args, check=check)
    rows = [json.loads(line) for line in p.stdout.splitlines()]
    found = {}
    for r in rows:
        name = os.path.basename(r["file"])
        key = (name, r["rule"] if name == "main.cf" else r.get("line"))
        assert key not in found, key
        found[key] = r
    return found


def send(gw, subject="x", sender="s@b.example"):
    with gw.client() as c:
        c.ehlo()
        return c.message(sender, "user@example.com", mail(subject))


def hits(gw, *key):
    return rules(gw).get(key, {"hits": -1})["hits"]


def wait_hits(gw, count, *key):
    wait_for(f"{count} hits of {key}", lambda: hits(gw, *key) == count)
    return rules(gw)[key]


def test_rows(make, sink):
    gw = gateway(make, sink)
    # every row is listed before any has fired
    rows = rules(gw)
    assert {k for k in rows if k[0] not in (
            "main.cf", "attachment_checks")} == {
        ("header_checks", 2), ("header_checks", 4), ("header_checks", 8),
        ("access", 1), ("access", 2), ("access", 3), ("clients", 1),
        ("clients", 2), ("refuse", 1)}
    assert all(r["hits"] == 0 and "last" not in r for r in rows.values())
    trials = {k for k, r in rows.items() if r["trial"]}
    sender = "smtpd_sender_restrictions: "
    assert trials == {
        ("header_checks", 2), ("access", 1), ("clients", 1),
        ("refuse", 1), ("main.cf", sender + "reject_non_fqdn_sender")}
    assert rows["header_checks", 4]["rule"] == "/worm/  REJECT it is  a worm"

    began = int(time.time())
    assert send(gw, "trial").code == 250
    assert send(gw, "trial").code == 250
    assert send(gw, "a worm").code == 550
    assert send(gw, sender="trial@a.example").code == 250
    assert send(gw, sender="bare").code == 250
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<bad@a.example>")
        assert c.cmd("RCPT TO:<user@example.com>").code == 554

    r = wait_hits(gw, 2, "header_checks", 2)
    assert r["warned"] == r["hour"] == r["day"] == 2
    assert began <= r["last"] <= time.time()
    assert f"{r['by']}: warning: header Subject: trial" in gw.log()
    r = wait_hits(gw, 1, "header_checks", 4)
    assert r["warned"] == 0
    r = wait_hits(gw, 1, "access", 1)
    assert r["warned"] == 1 and r["by"] == "127.0.0.1"
    r = wait_hits(gw, 1, "access", 2)
    assert r["warned"] == 0
    # the domain of two senders: it would have refused both
    r = wait_hits(gw, 2, "refuse", 1)
    assert r["warned"] == 2
    r = wait_hits(gw, 1, "main.cf", sender + "reject_non_fqdn_sender")
    assert r["warned"] == 1
    with open(gw.path("main.cf")) as f:
        assert f.read().splitlines()[r["line"] - 1].startswith(
            "smtpd_sender_restrictions")
    assert hits(gw, "header_checks", 8) == 0
    # for people
    p = gw.command("rules")
    assert f"{gw.path('header_checks')}:2: /^Subject: tri(al)/ WARN" \
        in p.stdout
    # what is asked for, and nothing else
    assert set(rules(gw, "clients")) == {("clients", 1), ("clients", 2)}
    some = gw.command("rules", "-t", gw.path("header_checks")).stdout
    assert "WARN would be" in some and "never" not in some


def test_other_processes(make, sink):
    gw = gateway(make, sink)
    assert send(gw, "trial").code == 250
    wait_hits(gw, 1, "header_checks", 2)
    # a process that ends of itself has told all
    assert send(gw, "trial").code == 250
    gw.command("reload")
    wait_hits(gw, 2, "header_checks", 2)
    # one that breaks down takes its last second with it, no more
    gw.kill("filter")
    gw.expect_log("filter pid [0-9]+ killed by signal 9")
    gw.expect_log("unjudged")
    wait_for("a filter", lambda: send(gw, "trial").code == 250)
    wait_hits(gw, 3, "header_checks", 2)


def test_edited(make, sink):
    gw = gateway(make, sink)
    assert send(gw, "trial").code == 250
    assert send(gw, "worm").code == 550
    wait_hits(gw, 1, "header_checks", 4)
    wait_hits(gw, 1, "header_checks", 2)
    # one row is changed, the other only moves
    gw.write("header_checks", "# another comment\n" + HEADERS.replace(
        "WARN", "REJECT"))
    gw.command("reload")
    rows = rules(gw)
    assert rows["header_checks", 3]["hits"] == 0
    assert rows["header_checks", 5]["hits"] == 1
    gone = rows["header_checks:2", None]
    assert gone["gone"] and gone["hits"] == 1 and gone["rule"] == ""
    assert send(gw, "worm").code == 550
    wait_hits(gw, 2, "header_checks", 5)


def test_not_running(make, sink):
    gw = gateway(make, sink)
    gw.stop()
    p = gw.command("rules", "-j", check=False)
    assert p.returncode == 3 and "not running" in p.stderr
    assert len(p.stdout.splitlines()) >= 9
    p = gw.command("rules", "-x", check=False)
    assert p.returncode == 1 and "usage" in p.stderr


def test_many_rows(make, sink):
    """Of a large table those that fired are shown."""
    gw = gateway(make, sink)
    gw.write("access", ACCESS + "".join(
        f"u{i}@a.example REJECT\n" for i in range(3000)))
    gw.command("reload")
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<u2999@a.example>")
        assert c.cmd("RCPT TO:<user@example.com>").code == 554
    wait_hits(gw, 1, "access", 3003)
    rows = rules(gw, "access")
    assert set(rows) == {("access", 1), ("access", 3003)}, rows
    out = gw.command("rules", "access").stdout
    assert f"3001 more rows of {gw.path('access')} have no hits" in out
    assert len(rules(gw, "-a", "access")) == 3003
