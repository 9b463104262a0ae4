"""reject_unverified_recipient and _sender: what the inside server is asked,
what its answers do, and what is known without asking it again."""
import os
import re
import subprocess
import time

import pytest
from conftest import need_root
from postern import BIN, SLOW, Client, Sink, mail, run, wait_for

REFUSED = "550 5.1.1 no such user"


def server(on_rcpt, **kw):
    """An inside server whose answer to RCPT is on_rcpt(local part)."""
    return Sink(lambda verb, a: on_rcpt(a.split("@")[0])
                if verb == "RCPT" else None, **kw)


def people(local):
    if local.startswith("good"):
        return None
    return "451 4.3.0 later" if local.startswith("later") else REFUSED


@pytest.fixture
def inside():
    s = server(people)
    yield s
    s.close()


SETTINGS = {
    "smtpd_recipient_restrictions": "reject_unverified_recipient",
    "smtpd_error_sleep_time": "0",
    # nobody counts the mistakes of a test
    "smtpd_hard_error_limit": "1000",
    "address_verify_poll_delay": "10s",
    "unverified_recipient_reject_code": "550",
}


@pytest.fixture
def gateway(make):
    def gateway(sink, **main):
        return make(sink, main={**SETTINGS, **main})
    return gateway


def ask(gw, *rcpts, sender="s@client.example"):
    with gw.client() as c:
        c.ehlo()
        assert c.cmd(f"MAIL FROM:<{sender}>").code == 250
        replies = [c.cmd(f"RCPT TO:<{r}@example.com>").text for r in rcpts]
    return replies if len(rcpts) > 1 else replies[0]


def probes(sink, *locals_):
    """How often the server was asked for these (any: all it was asked for,
    but the names that are nobody's)."""
    found = [re.search("<(.*?)@", c).group(1) for c in list(sink.commands)
             if c.upper().startswith("RCPT")]
    return sum(1 for f in found if (f in locals_ if locals_ else
                                    not re.fullmatch("[0-9a-f]{16}", f)))


def status(gw):
    return gw.command("status").stdout


def test_yes_no_and_later(gateway, inside):
    gw = gateway(inside)
    assert ask(gw, "good") == "250 2.1.5 Ok"
    r = ask(gw, "bad")
    assert r.startswith("550 5.1.1 <bad@example.com>: Recipient address "
                        "rejected: undeliverable address: host ")
    assert "no such user" in r
    r = ask(gw, "later")
    assert r.startswith("450 4.1.1 <later@example.com>: Recipient address "
                        "rejected: unverified address: ")
    assert "451 4.3.0 later" in r
    # RCPT and no further, from the address that mail is not answered to
    verbs = {c[:4].upper() for c in inside.commands}
    assert "DATA" not in verbs and "MAIL" in verbs
    assert all("double-bounce@" in c for c in inside.commands
               if c.upper().startswith("MAIL"))
    assert not inside.messages
    gw.wait_log(r"NOQUEUE: to=<bad@example.com>, .*status=undeliverable \(h")
    gw.wait_log(r"NOQUEUE: to=<good@example.com>, .*status=deliverable \(2")
    gw.wait_log(r"NOQUEUE: to=<later@example.com>, .*status=unknown \(h")


@pytest.mark.parametrize("keywords", [(), ("PIPELINING",)])
def test_session_is_used_again(gateway, keywords):
    inside = server(people, keywords=keywords)
    gw = gateway(inside, role_processes="1")

    def at_rest():
        """No probe is under way, and the session can be used."""
        found = dict(re.findall(r"(?m)^\s*(sessions|idle|deliveries) (\d+)$",
                                status(gw)[status(gw).index("relay"):]))
        return found["deliveries"] == "0" and \
            found["idle"] == found["sessions"] != "0"
    for who in ("good1", "bad1", "good2", "bad2", "later1"):
        ask(gw, who)
        wait_for("a session at rest", at_rest)
    with gw.client() as c:
        c.ehlo()
        assert c.message("s@client.example", "good1@example.com",
                         mail("after")).code == 250
    inside.wait_subject("after")
    # one more may have been asked beside the first: for nobody's address
    assert inside.sessions <= 2
    assert any(c.upper() == "RSET" for c in inside.commands)
    # mail to several of them is still refused one by one
    assert len(inside.messages) == 1
    inside.close()


def test_answers_are_kept(gateway, inside):
    gw = gateway(inside)
    for _ in range(5):
        ask(gw, "good", "bad")
    ask(gw, "good", "bad", sender="other@client.example")
    assert probes(inside, "good", "bad") == 2
    assert re.search(r"verify_cached deliverable=1 undeliverable=1 ",
                     status(gw))
    # a domain has no case
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<s@client.example>")
        assert c.cmd("RCPT TO:<good@EXAMPLE.com>").code == 250
    assert probes(inside, "good") == 1


def test_later_is_not_kept(gateway):
    told = []

    def on_rcpt(local):
        told.append(local)
        return "450 4.2.0 later" if told.count(local) == 1 else None
    inside = server(on_rcpt)
    gw = gateway(inside)
    assert ask(gw, "someone").startswith("450 4.1.1")
    assert ask(gw, "someone").startswith("250")
    inside.close()


def test_no_negative_cache(gateway, inside):
    gw = gateway(inside, address_verify_negative_cache="no")
    ask(gw, "good", "bad", "bad", "good")
    assert probes(inside, "good") == 1 and probes(inside, "bad") == 2


def test_refresh_in_the_background(gateway):
    gone = []
    inside = server(lambda local: REFUSED if gone or len(local) == 16
                    else None)
    gw = gateway(inside, address_verify_positive_refresh_time="1s",
                 address_verify_positive_expire_time="1h")
    assert ask(gw, "someone").startswith("250")
    gone.append(1)
    time.sleep(1.1)
    # what is known serves, while it is asked for again
    first = ask(gw, "someone")
    assert first.startswith("250")
    wait_for("the new answer", lambda: ask(gw, "someone").startswith("550"))
    assert probes(inside, "someone") <= 3
    inside.close()


def test_old_answer_outlives_a_server_that_is_down(gateway, inside):
    gw = gateway(inside, address_verify_positive_refresh_time="1s",
                 address_verify_negative_refresh_time="1s")
    ask(gw, "good", "bad")
    inside.down()
    time.sleep(1.1)
    for _ in range(3):
        good, bad, new = ask(gw, "good", "bad", "new")
        assert good.startswith("250") and bad.startswith("550")
        assert new.startswith("450 4.1.1")


def test_server_down_is_no_refusal(gateway, inside):
    inside.down()
    gw = gateway(inside)
    replies = ask(gw, *[f"u{i}" for i in range(12)])
    assert all(r.startswith("450 4.1.1") for r in replies)
    # dead by now: answered at once, nothing is tried
    assert "delivery" not in replies[-1]
    gw.wait_log("is not tried for")
    assert "undeliverable=0 bytes" in status(gw)


@pytest.mark.parametrize("verb, reply", [
    ("CONNECT", "554 5.7.1 not you"), ("MAIL", "550 5.7.1 not from there"),
    ("MAIL", "451 4.7.1 not now"), ("RCPT", "close"),
    ("RCPT", "421 4.3.2 going down"), ("EHLO", "421 4.3.2 going down"),
    ("RCPT", "garbage")])
@pytest.mark.parametrize("keywords", [(), ("PIPELINING",)])
def test_only_rcpt_refuses(gateway, verb, reply, keywords):
    inside = Sink(lambda v, a: reply if v == verb else None,
                  keywords=keywords)
    gw = gateway(inside)
    assert ask(gw, "someone").startswith("450 4.1.1")
    assert "undeliverable=0 bytes" in status(gw)
    inside.close()


def test_silent_server(gateway):
    inside = Sink(lambda v, a: time.sleep(30 * SLOW) if v == "RCPT" else None)
    gw = gateway(inside, address_verify_poll_count="1",
                 address_verify_poll_delay="1s")
    assert ask(gw, "someone") == (
        "450 4.1.1 <someone@example.com>: Recipient address rejected: "
        "unverified address: Address verification in progress")
    inside.close()


def test_one_probe_for_all_who_ask(gateway):
    go = []
    inside = server(lambda local: wait_for("leave", lambda: go) and None)
    gw = gateway(inside)
    clients = [gw.client() for _ in range(10)]
    for c in clients:
        c.ehlo()
        c.cmd("MAIL FROM:<s@client.example>")
        c.send(b"RCPT TO:<someone@example.com>\r\n")
    # one of them does not wait
    clients.pop().close()
    wait_for("the probe", lambda: probes(inside, "someone"))
    wait_for("all questions", lambda: "verify_asked 10\n" in status(gw))
    go.append(1)
    assert [c.reply().code for c in clients] == [250] * 9
    assert probes(inside, "someone") == 1
    for c in clients:
        c.close()
    inside.close()


def test_window_bounds_probes(gateway):
    """Never more connections than the window; the others are told 450 or get
    their turn."""
    busy, most = [], []

    def on(verb, argument):
        if verb == "RCPT":
            busy.append(1)
            most.append(len(busy))
            time.sleep(0.05)
            busy.pop()
            return REFUSED
        return None
    inside = Sink(on)
    gw = gateway(inside, default_destination_concurrency_limit="2",
                 smtpd_client_connection_count_limit="0")
    clients = [gw.client() for _ in range(20)]
    for i, c in enumerate(clients):
        c.ehlo()
        c.cmd("MAIL FROM:<s@client.example>")
        c.send(b"RCPT TO:<random%d@example.com>\r\n" % i)
    assert [c.reply().code for c in clients] == [550] * 20
    assert max(most) <= 2
    for c in clients:
        c.close()
    inside.close()


def test_who_does_not_wait_gives_way(gateway):
    go = []
    inside = Sink(lambda v, a: wait_for("leave", lambda: go, 60) and None
                  if v == "RCPT" else None)
    gw = gateway(inside, smtpd_client_connection_count_limit="0",
                 address_verify_poll_count="1",
                 address_verify_poll_delay=f"{5 * SLOW}s")
    clients = [gw.client() for _ in range(200)]
    for c in clients:
        c.ehlo()
        c.cmd("MAIL FROM:<s@client.example>")
    # all of them, before the first one stops waiting
    for i, c in enumerate(clients):
        c.send(b"RCPT TO:<u%d@example.com>\r\n" % i)
    wait_for("all questions", lambda: "verify_asked 200\n" in status(gw))
    assert "too many addresses" in ask(gw, "more")
    assert all("in progress" in c.reply().text for c in clients)
    for c in clients:
        c.close()
    assert "in progress" in ask(gw, "more")
    go.append(1)
    inside.close()


def test_takes_everything(gateway, make):
    inside = Sink()
    gw = gateway(inside)
    assert ask(gw, "someone").startswith("250")
    gw.wait_log(r"example.com: the server takes every recipient")
    assert ask(gw, "nobody", "someone") == ["250 2.1.5 Ok"] * 2
    assert "verify_domain example.com takes every recipient" in status(gw)
    assert gw.log().count("takes every recipient") == 1
    gw = gateway(inside, address_verify_catchall_action="tempfail")
    ask(gw, "someone")
    gw.wait_log(r"example.com: the server takes every recipient")
    assert ask(gw, "someone") == (
        "450 4.1.1 <someone@example.com>: Recipient address rejected: "
        "unverified address: its server takes every recipient")
    inside.close()


def test_texts_and_codes(gateway, inside):
    gw = gateway(inside, unverified_recipient_reject_code="551",
                 unverified_recipient_reject_reason="nobody",
                 unverified_recipient_defer_code="451",
                 unverified_recipient_tempfail_action="defer")
    assert ask(gw, "bad") == ("551 5.1.1 <bad@example.com>: Recipient "
                              "address rejected: undeliverable address: "
                              "nobody")
    assert ask(gw, "later").startswith("451 4.1.1 ")


def test_defer_only_if_nothing_else_refuses(gateway, inside):
    gw = gateway(inside, smtpd_recipient_restrictions="reject_unverified_"
                 "recipient, check_recipient_access inline:{later2@"
                 "example.com=REJECT}")
    assert ask(gw, "later2").startswith("554 ")
    assert ask(gw, "later1").startswith("450 4.1.1 ")


def test_sender(gateway, inside):
    gw = gateway(inside, smtpd_recipient_restrictions="",
                 smtpd_sender_restrictions="reject_unverified_sender",
                 unverified_sender_reject_code="553")
    r = ask(gw, "user", sender="bad@example.com")
    assert r.startswith("553 5.1.7 <bad@example.com>: Sender address "
                        "rejected: undeliverable address: ")
    assert ask(gw, "user", sender="good@example.com").startswith("250")
    assert ask(gw, "user", sender="later@example.com").startswith(
        "450 4.1.7 <later@example.com>: Sender address rejected: unverified")
    before = probes(inside)
    # the null sender is nobody's address; nor is our own asked for
    assert ask(gw, "user", sender="").startswith("250")
    assert ask(gw, "user", sender="double-bounce@gw.example.com").startswith(
        "250")
    assert probes(inside) == before


def test_aliases_are_followed(gateway, inside):
    gw = gateway(inside, virtual_alias_maps="inline:{info@example.com="
                 "good5@example.com, wrong@example.com=bad5@example.com, "
                 "{both@example.com=good6@example.com bad6@example.com}, "
                 "one@example.com=one@example.com}")
    info, wrong, both, one = ask(gw, "info", "wrong", "both", "one")
    assert info.startswith("250") and wrong.startswith("550 5.1.1 <wrong@")
    # a list is ours
    assert both.startswith("250") and one.startswith("550")
    assert probes(inside, "good5", "bad5", "one") == 3
    assert probes(inside) == 3


def test_sender_of_probes(gateway, inside):
    gw = gateway(inside, address_verify_sender="checker",
                 address_verify_sender_ttl="1h", myorigin="example.com")
    ask(gw, "good")
    sender = next(re.search("<(.*)>", c).group(1) for c in inside.commands
                  if c.upper().startswith("MAIL"))
    assert re.fullmatch(r"checker[0-9b-z]+@example.com", sender)
    # mail to it is taken, and ends here
    with gw.client() as c:
        c.ehlo()
        assert c.message("", sender, mail("back")).code == 250
        assert c.cmd("MAIL FROM:<>").code == 250
        assert c.cmd("RCPT TO:<checker0@example.com>").code == 550
    gw.wait_log(f"to=<{sender}>, relay=none, .*status=sent .mail to the "
                "sender of address probes discarded")
    assert not inside.messages


def test_null_sender_of_probes(gateway, inside):
    gw = gateway(inside, address_verify_sender="<>")
    ask(gw, "good")
    assert any(c.upper().startswith("MAIL FROM:<>") for c in inside.commands)


def test_probes_go_another_way(gateway, inside):
    mailbox = Sink()
    gw = gateway(mailbox, address_verify_relay_transport=f"relay:"
                 f"[127.0.0.1]:{inside.port}",
                 address_verify_transport_maps="")
    assert ask(gw, "good").startswith("250")
    assert ask(gw, "bad").startswith("550")
    with gw.client() as c:
        c.ehlo()
        assert c.message("s@client.example", "good@example.com",
                         mail("this way")).code == 250
    mailbox.wait_subject("this way")
    assert not inside.messages and not probes(mailbox, "bad")
    mailbox.close()


def test_probes_by_their_sender(gateway, inside):
    """The tables by sender of probes are asked with the sender of probes; mail
    goes by its own."""
    mailbox = Sink()
    gw = gateway(mailbox, relayhost="[127.0.0.1]:1", transport_maps="",
                 relay_transport="relay",
                 address_verify_sender="prober@gw.example.com",
                 sender_dependent_relayhost_maps="inline:{s@client.example="
                 f"[127.0.0.1]:{mailbox.port}}}",
                 address_verify_sender_dependent_relayhost_maps="inline:{"
                 f"prober@gw.example.com=[127.0.0.1]:{inside.port}}}")
    assert ask(gw, "good").startswith("250")
    assert ask(gw, "bad").startswith("550")
    with gw.client() as c:
        c.ehlo()
        assert c.message("s@client.example", "good@example.com",
                         mail("this way")).code == 250
    mailbox.wait_subject("this way")
    assert not inside.messages and not probes(mailbox, "bad")
    mailbox.close()


def test_error_transport(gateway, inside):
    gw = gateway(inside, transport_maps="inline:{{closed@example.com="
                 "error:5.2.1 mailbox closed}, {away@example.com="
                 "retry:4.2.1 moving}}")
    assert "mailbox closed" in ask(gw, "closed")
    assert ask(gw, "closed").startswith("550 5.1.1")
    assert ask(gw, "away").startswith("450 4.1.1")
    assert not inside.commands


def test_error_transport_with_soft_bounce(gateway, inside):
    """The answer is put off, what is known of the address is not."""
    gw = gateway(inside, soft_bounce="yes", transport_maps="inline:{"
                 "{closed@example.com=error:5.2.1 mailbox closed}}")
    r = ask(gw, "closed")
    assert r.startswith("450 4.1.1")
    assert "undeliverable address: 5.2.1 mailbox closed" in r


def test_mail_goes_first(gateway, inside):
    """While probes are many, mail still gets through, and the reverse."""
    gw = gateway(inside, default_destination_concurrency_limit="1")
    ask(gw, "good")
    with Client(gw.port) as c, Client(gw.port) as d:
        c.ehlo()
        d.ehlo()
        d.cmd("MAIL FROM:<s@client.example>")
        for i in range(20):
            assert c.message("s@client.example", "good@example.com",
                             mail(f"m{i}")).code == 250
            assert d.cmd(f"RCPT TO:<bad{i}@example.com>").code == 550
    inside.wait(20)


def test_qmgr_dies(gateway):
    go = []
    inside = server(lambda local: wait_for("leave", lambda: go) and None)
    gw = gateway(inside)
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<s@client.example>")
        c.send(b"RCPT TO:<someone@example.com>\r\n")
        wait_for("the probe", lambda: probes(inside, "someone"))
        gw.expect_log("killed by signal|queue manager is gone")
        gw.kill("qmgr")
        assert c.reply().code == 450
    go.append(1)
    wait_for("an answer", lambda: ask(gw, "someone").startswith("250"), 30)
    inside.close()


def test_relay_dies(gateway):
    inside = Sink(lambda v, a: time.sleep(20 * SLOW) if v == "RCPT" else None)
    gw = gateway(inside, role_processes="1")
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<s@client.example>")
        c.send(b"RCPT TO:<someone@example.com>\r\n")
        wait_for("the probe", lambda: probes(inside, "someone"))
        gw.expect_log("killed by signal")
        gw.kill("relay")
        r = c.reply()
    assert r.code == 450 and "relay process ended" in r.text
    inside.close()


def test_reload_while_asking(gateway):
    go = []
    inside = server(lambda local: wait_for("leave", lambda: go) and None)
    gw = gateway(inside)
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<s@client.example>")
        c.send(b"RCPT TO:<someone@example.com>\r\n")
        wait_for("the probe", lambda: probes(inside, "someone"))
        gw.command("reload")
        go.append(1)
        assert c.reply().code == 250
    inside.close()


def test_explain_asks_nobody(gateway, inside):
    gw = gateway(inside)
    out = gw.command("explain", "--client", "192.0.2.1", "--from",
                     "s@client.example", "--to", "bad@example.com").stdout
    assert "taken as deliverable, not asked" in out
    assert out.splitlines()[-1].startswith("250 ")
    assert not inside.commands


# What outlasts the process

def cache_file(gw):
    return gw.dir + "/gw/data/verify_cache.lmdb"


def stored(gw, *locals_):
    """What postmap reads in the file, when these are in it."""
    def look():
        out = run(BIN + "/postmap", "-c", gw.etc, "-s",
                  "lmdb:" + cache_file(gw)[:-5], check=False).stdout
        found = dict(line.split(None, 1) for line in out.splitlines()
                     if "@" in line)
        return all(f"{x}@example.com" in found for x in locals_) and found
    return wait_for(f"{locals_} on disk", look)


@pytest.mark.parametrize("how", ["restart", "kill", "reload"])
def test_known_outlasts_the_process(gateway, inside, how):
    gw = gateway(inside)
    ask(gw, "good", "bad", "later")
    found = stored(gw, "good", "bad")
    assert re.fullmatch(r"0:(\d+):\1:", found["good@example.com"])
    assert re.fullmatch(r"2:(\d+):\1:host .*no such user.*",
                        found["bad@example.com"])
    assert "later@example.com" not in found
    if how == "restart":
        gw.stop()
        inside.commands.clear()
        gw.start()
    elif how == "kill":
        gw.expect_log("killed by signal|queue manager is gone")
        gw.kill("qmgr")
        wait_for("another queue manager", lambda: "verify_cached "
                 "deliverable=1 undeliverable=1" in status(gw), 30)
        inside.commands.clear()
    else:
        inside.commands.clear()
        gw.command("reload")
    inside.down()
    good, bad = ask(gw, "good", "bad")
    assert good.startswith("250")
    assert bad.startswith("550") and "no such user" in bad
    assert not probes(inside, "good", "bad")


@pytest.mark.parametrize("damage", ["garbage", "half", "zeros", "pages"])
def test_damaged_file(gateway, inside, damage):
    gw = gateway(inside)
    ask(gw, *[f"good{i}" for i in range(60)])
    stored(gw, "good59")
    gw.stop()
    path = cache_file(gw)
    size = os.path.getsize(path)
    with open(path, "r+b") as f:
        if damage == "garbage":
            f.write(os.urandom(size))
        elif damage == "half":
            f.truncate(2 * 4096 + 1)
        elif damage == "zeros":
            f.write(bytes(size))
        else:
            f.seek(2 * 4096)
            f.write(os.urandom(size - 2 * 4096))
    gw.start()
    gw.wait_log(r"verify_cache.lmdb is damaged; it is now .*\.damaged")
    assert os.path.getsize(path + ".damaged")
    assert ask(gw, "good1", "bad")[0].startswith("250")
    stored(gw, "good1", "bad")
    assert "verify_map in use lost=0" in status(gw)


def test_file_that_cannot_be_used(gateway, inside):
    gw = gateway(inside)
    gw.stop()
    for name in ("verify_cache.lmdb", "verify_cache.lmdb-lock"):
        os.unlink(f"{gw.dir}/gw/data/{name}")
    os.mkdir(cache_file(gw))
    gw.start()
    gw.wait_log(r"verify_cache.lmdb cannot be used: .*memory only")
    assert ask(gw, "good", "bad")[1].startswith("550")
    assert "verify_map none" in status(gw)


def test_directory_of_others(gateway, inside):
    gw = gateway(inside, address_verify_map="lmdb:/tmp/verify_cache_test")
    gw.wait_log(r"verify_cache_test.lmdb cannot be used: Operation not "
                "permitted")
    assert not os.path.exists("/tmp/verify_cache_test.lmdb")
    assert ask(gw, "good").startswith("250")


def test_file_cut_off_while_in_use(gateway, inside):
    gw = gateway(inside)
    ask(gw, *[f"good{i}" for i in range(60)])
    stored(gw, "good59")
    os.truncate(cache_file(gw), 4096)
    assert ask(gw, "bad").startswith("550")
    gw.wait_log(r"verify_cache.lmdb: .*not stored")
    assert ask(gw, "good1").startswith("250")


def test_memory_only(gateway, inside):
    gw = gateway(inside, address_verify_map="")
    ask(gw, "good", "good")
    assert probes(inside, "good") == 1
    assert not os.path.exists(cache_file(gw))
    assert "verify_map none" in status(gw)


def test_expired_leaves_the_file(gateway, inside):
    gw = gateway(inside, address_verify_negative_expire_time="1s",
                 address_verify_cache_cleanup_interval="1s")
    ask(gw, "good", "bad")
    stored(gw, "good")
    wait_for("bad to expire",
             lambda: "bad@example.com" not in stored(gw, "good"))
    wait_for("its end in memory", lambda: "deliverable=1 undeliverable=0" in
             status(gw))


@need_root
def test_full_disk(make, inside):
    gw = make(inside, main=SETTINGS, start=False)
    data = gw.dir + "/gw/data"
    os.makedirs(data, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=755",
                       "tmpfs", data], check=False).returncode:
        pytest.skip("no mounts here")
    try:
        gw.start()
        for i in range(10):
            ask(gw, *[f"good{i}x{k:050}" for k in range(100)])
            if "not stored" in gw.log():
                break
            time.sleep(0.3)
        gw.wait_log("verify_cache.lmdb: .*not stored")
        assert ask(gw, "bad").startswith("550")
        before = probes(inside, "bad")
        assert ask(gw, "bad").startswith("550")
        assert probes(inside, "bad") == before
        # one line, whatever comes
        ask(gw, *[f"goodz{k}" for k in range(20)])
        assert gw.log().count("not stored") <= 2
        # what is there is no damage
        gw.stop()
        gw.start()
        assert ask(gw, "bad").startswith("550")
        assert "damaged" not in gw.log()
    finally:
        gw.stop()
        subprocess.run(["umount", "-l", data], check=False)
