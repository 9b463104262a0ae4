"""A changed rule file is in force without any command, a broken one never,
and no connection is dropped by either."""
import re
import threading
import time

import pytest
from postern import Closed, mail, wait_for


def subject_rule(word, code="550 5.7.9 refused"):
    return f"/^Subject: .*{word}/ {code} {word}\n"


@pytest.fixture
def gw(make, sink):
    gw = make(sink, main={"header_checks": "regexp:rules"}, start=False)
    gw.write("rules", "# none yet\n")
    gw.start()
    return gw


def try_subject(gw, subject):
    with gw.client() as c:
        c.ehlo()
        return c.message("a@client.example", "user@example.com",
                         mail(subject))


def test_new_rule_without_any_command(gw, sink):
    kept = gw.client()
    kept.ehlo()
    assert kept.message("a@client.example", "user@example.com",
                        mail("new worm 1")).code == 250
    gw.write("rules", subject_rule("worm"))
    # "Edit the file, next message uses it": a moment for the eye, no more.
    wait_for("the new rule to refuse",
             lambda: try_subject(gw, "new worm 2").code == 550)
    # the connection that was open all the time is still open, and what it
    # sends now is judged by the new rule too
    r = kept.message("a@client.example", "user@example.com",
                     mail("new worm 3"))
    assert r.code == 550, r
    assert kept.message("a@client.example", "user@example.com",
                        mail("clean")).code == 250
    assert kept.cmd("QUIT").code == 221
    gw.write("rules", "# none again\n")
    wait_for("the rule to be gone",
             lambda: try_subject(gw, "new worm 4").code == 250)


def test_file_written_in_place(gw, sink):
    """Not every editor renames."""
    with open(gw.path("rules"), "a") as f:
        f.write(subject_rule("inplace"))
    wait_for("the new rule to refuse",
             lambda: try_subject(gw, "inplace").code == 550)


def test_broken_file_changes_nothing(gw, sink):
    gw.write("rules", subject_rule("worm"))
    wait_for("the rule to refuse",
             lambda: try_subject(gw, "worm").code == 550)
    gw.expect_log(r"rules|filter|cleanup")
    gw.write("rules", "# first\n/^Subject: other/ REJECT\n"
             "/^Subject: (broken/ REJECT\n")
    gw.wait_log(re.escape(gw.path("rules")) + r":3: ")
    assert try_subject(gw, "worm").code == 550
    assert try_subject(gw, "other").code == 250
    assert try_subject(gw, "clean").code == 250
    # mended: in force at once
    gw.write("rules", subject_rule("other"))
    wait_for("the mended rule to refuse",
             lambda: try_subject(gw, "other").code == 550)
    assert try_subject(gw, "worm").code == 250


def test_reload_under_load(gw, sink):
    """Clients that never pause see neither a refused connection nor a broken
    one, through rule changes and `postern reload`."""
    stop = threading.Event()
    trouble, sent = [], []

    def one_shot(n):
        i = 0
        while not stop.is_set():
            i += 1
            try:
                with gw.client(timeout=20) as c:
                    if c.banner.code != 220:
                        trouble.append(c.banner.text)
                        continue
                    c.ehlo()
                    subject = f"load {n}.{i}"
                    r = c.message("a@client.example", "user@example.com",
                                  mail(subject))
                    if r.code != 250:
                        trouble.append(r.text)
                    else:
                        sent.append(subject)
                    c.cmd("QUIT")
            except (OSError, Closed, AssertionError) as e:
                trouble.append(repr(e))

    def long_session(n):
        i = 0
        try:
            with gw.client(timeout=20) as c:
                c.ehlo()
                while not stop.is_set():
                    i += 1
                    subject = f"kept {n}.{i}"
                    r = c.message("a@client.example", "user@example.com",
                                  mail(subject))
                    if r.code == 250:
                        sent.append(subject)
                    else:
                        trouble.append(r.text)
                    time.sleep(0.01)
        except (OSError, Closed, AssertionError) as e:
            trouble.append(repr(e))
    threads = [threading.Thread(target=one_shot, args=(n,)) for n in range(4)]
    threads += [threading.Thread(target=long_session, args=(n,))
                for n in range(3)]
    for t in threads:
        t.start()
    try:
        for i in range(5):
            time.sleep(0.7)
            if i % 2:
                gw.write("rules", subject_rule(f"nothing{i}"))
            else:
                gw.command("reload")
        wait_for("some load", lambda: len(sent) > 50, 60)
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not trouble, trouble[:5]
    wait_for("all to arrive", lambda: len(sink.messages) >= len(sent), 30)
    arrived = [m.field("Subject") for m in sink.messages]
    assert sorted(arrived) == sorted(sent)


def test_main_cf_change_by_reload(make, sink):
    gw = make(sink)
    with gw.client() as old:
        old.ehlo()
        gw.set(message_size_limit="60000")
        gw.command("reload")

        def announced():
            with gw.client() as c:
                return "SIZE 60000" in c.ehlo().text
        wait_for("the new limit", announced)
        assert old.message("a@client.example", "user@example.com",
                           mail("old session")).code == 250


def test_broken_main_cf_changes_nothing(make, sink):
    gw = make(sink)
    gw.expect_log("main.cf")
    gw.write("main.cf.good", "")
    with open(gw.path("main.cf")) as f:
        good = f.read()
    gw.write("main.cf", good + "message_size_limit = a lot\n")
    p = gw.command("reload", check=False)
    assert p.returncode != 0
    assert re.search(r"main\.cf:\d+|message_size_limit",
                     p.stdout + p.stderr)
    assert try_subject(gw, "still here").code == 250
    gw.write("main.cf", good)
    gw.command("reload")
    assert try_subject(gw, "and now").code == 250
