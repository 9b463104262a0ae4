"""A process dies, and the one that works with it hears of the successor first.

Both are stopped in turn, so that the order of events is the same each time:
what waits in the sockets of a stopped process, it reads in one go, and it sees
the end of a channel last.
"""
import os
import re
import signal
import threading

import pytest
from postern import DOMAIN, Closed, mail, wait_for
from test_dsn import (ANN, SOON, emptied, gateway,  # noqa: F401
                      hand_in, no_recipient, reports, wait_reports)
from test_submit import letter, sendmail


def stop(gw, role):
    """Its processes, stopped; to be passed to go_on()."""
    pids = gw.pids(role)
    assert pids, role
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        wait_for(f"{role} to stop", lambda: stopped(pid))
    return pids


def stopped(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rpartition(")")[2].split()[0] == "T"


def go_on(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def serving(gw, role):
    return {int(pid) for pid in re.findall(
        rf"(?m)^{role} +pid (\d+) +generation \d+ +serving",
        gw.command("status").stdout)}


def replace(gw, server, user):
    """Kill all of server; the successors are there when user looks again."""
    gw.expect_log("killed by signal 9|queue manager is gone|recovered from|"
                  f"{user}.*ended with")
    users = stop(gw, user)
    old = set(gw.pids(server))
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_for(f"a new {server}",
             lambda: len(serving(gw, server) - old) == len(old))
    go_on(users)


def judging(gw, n=1):
    wait_for("a message at the filter", lambda: re.search(
        rf"(?m)^ *judging {n}$", gw.command("status").stdout))


class Held:
    """A client whose message waits for its verdict; its reply in the end."""

    def __init__(self, gw, subject):
        self.client = gw.client(timeout=90)
        self.client.ehlo()
        self.client.envelope(ANN, f"user@{DOMAIN}")
        self.reply = None
        self.thread = threading.Thread(target=self.wait, args=(subject,))
        self.thread.start()

    def wait(self, subject):
        try:
            self.reply = self.client.data_cmd(mail(subject))
        except (OSError, Closed):
            pass

    def end(self):
        self.thread.join()
        self.client.close()
        return self.reply and self.reply.code


def taken(gw, subject):
    with gw.client() as c:
        c.ehlo()
        return c.message(ANN, [f"user@{DOMAIN}"], mail(subject)).code == 250


@pytest.mark.parametrize("journal", ["yes", "no"])
def test_notice_of_a_bounce_that_died(gateway, sink, journal):  # noqa: F811
    """The order that the dead process had is the next one's."""
    sink.on = no_recipient("550 5.1.1 no")
    gw = gateway(queue_journal=journal)
    hand_in(gw, f"first@{DOMAIN}")
    wait_reports(sink)
    emptied(gw)
    sink.messages.clear()
    stop(gw, "bounce")
    qid = hand_in(gw, f"second@{DOMAIN}")
    gw.wait_log(qid + ".*status=bounced")
    replace(gw, "bounce", "qmgr")
    (to, r), = wait_reports(sink)
    assert to == [ANN] and list(r.recipients) == [f"second@{DOMAIN}"]
    emptied(gw)
    assert len(reports(sink)) == 1


def test_notice_of_an_old_bounce_that_died(gateway, sink):  # noqa: F811
    """Replaced by a reload, it has its order still; then it is killed."""
    sink.on = no_recipient("550 5.1.1 no")
    gw = gateway()
    gw.expect_log("killed by signal 9")
    hand_in(gw, f"first@{DOMAIN}")
    wait_reports(sink)
    emptied(gw)
    sink.messages.clear()
    old, = stop(gw, "bounce")
    qid = hand_in(gw, f"second@{DOMAIN}")
    gw.wait_log(qid + ".*status=bounced")
    gw.command("reload")
    # the new queue manager gets a process of its own
    hand_in(gw, f"third@{DOMAIN}")
    wait_reports(sink)
    os.kill(old, signal.SIGKILL)
    got = wait_reports(sink, 2)
    assert {a for _, r in got for a in r.recipients} == {
        f"second@{DOMAIN}", f"third@{DOMAIN}"}
    emptied(gw)


def test_notice_that_nobody_can_write(gateway, sink):  # noqa: F811
    """Without a master no other comes: the queue manager does not wait."""
    sink.on = no_recipient("550 5.1.1 no")
    gw = gateway()
    gw.expect_log("killed by signal 9|recovered from")
    hand_in(gw, f"first@{DOMAIN}")
    wait_reports(sink)
    emptied(gw)
    sink.messages.clear()
    bounce, = stop(gw, "bounce")
    qid = hand_in(gw, f"second@{DOMAIN}")
    gw.wait_log(qid + ".*status=bounced")
    gw.kill("master")
    wait_for("the lock to be free",
             lambda: gw.command("status", check=False).returncode == 3)
    os.kill(bounce, signal.SIGKILL)
    gw.start()
    wait_reports(sink)
    emptied(gw)


def test_notice_after_the_master_died(gateway, sink):  # noqa: F811
    """Its message was on its way; nothing has asked for a notice before."""
    asked = threading.Event()

    def refuse(verb, argument):
        if verb == "RCPT" and DOMAIN in argument:
            asked.wait(60)
            return "550 5.1.1 no"
        return None
    sink.on = refuse
    gw = gateway()
    gw.expect_log("recovered from")
    qid = hand_in(gw, f"user@{DOMAIN}")
    wait_for("its RCPT", lambda: f"RCPT TO:<user@{DOMAIN}>" in sink.commands)
    gw.kill("master")
    wait_for("the lock to be free",
             lambda: gw.command("status", check=False).returncode == 3)
    asked.set()
    gw.wait_log(qid + ".*status=bounced")
    gw.start()
    wait_reports(sink)
    emptied(gw)


def test_mail_of_a_queue_manager_that_died(gw, sink):
    """pickup had given it away, and does not wait for its next look round."""
    filters = stop(gw, "filter")
    sendmail(gw, f"user@{DOMAIN}", text=letter("dropped"))
    judging(gw)
    replace(gw, "qmgr", "pickup")
    go_on(filters)
    sink.wait_subject("dropped")
    wait_for("an empty maildrop", lambda: not gw.queued("maildrop"))
    assert len(sink.messages) == 1


def test_client_of_a_queue_manager_that_died(gw, sink):
    filters = stop(gw, "filter")
    held = Held(gw, "first")
    judging(gw)
    replace(gw, "qmgr", "smtpd")
    go_on(filters)
    assert held.end() == 451
    wait_for("mail to be taken", lambda: taken(gw, "second"))
    sink.wait_subject("second")
    assert [m.field("Subject") for m in sink.messages] == ["second"]


def test_message_at_a_filter_that_died(gw, sink):
    """It goes to no other filter, and its client is told."""
    stop(gw, "filter")
    held = Held(gw, "first")
    judging(gw)
    replace(gw, "filter", "qmgr")
    assert held.end() == 451
    assert taken(gw, "second")
    sink.wait_subject("second")


def test_delivery_of_a_relay_that_died(gateway, sink):  # noqa: F811
    gw = gateway(transport_retry_time="1s", **SOON)
    stop(gw, "relay")
    hand_in(gw, f"first@{DOMAIN}")
    wait_for("a delivery", lambda: re.search(
        r"(?m)^ *delivering 1$", gw.command("status").stdout))
    replace(gw, "relay", "qmgr")
    sink.wait(1)
    emptied(gw)
    assert len(sink.messages) == 1


def test_name_from_a_lookup_that_died(gateway):  # noqa: F811
    gw = gateway(smtpd_peername_lookup="yes")
    stop(gw, "lookup")
    greeted = []
    thread = threading.Thread(target=lambda: greeted.append(
        gw.client(source="127.0.0.3", timeout=90).banner.code))
    thread.start()
    wait_for("a session", lambda: re.search(
        r"(?m)^ *sessions 1$", gw.command("status").stdout))
    replace(gw, "lookup", "smtpd")
    thread.join()
    assert greeted == [220]
