"""Logins of the relay at other servers, in a whole Postern."""
import json
import os
import pwd
import re
import socket
import threading

import pytest

from postern import Instance, Sink, mail, wait_for
from test_relay_auth import ask, b64, tls_server, unb64
from test_relay_tls import context, keys  # noqa: F401

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


class Lock(Sink):
    """A server that wants a login by AUTH PLAIN; .logins are those that
    came."""

    def __init__(self):
        self.logins, self.refuse = [], None
        super().__init__(on=self.reply, keywords=("AUTH PLAIN LOGIN", "SIZE"))

    def reply(self, verb, argument):
        if verb == "AUTH":
            self.logins.append(unb64(argument.split(" ")[2])[1:])
            return self.refuse or "235 2.7.0 ok"
        return None


@pytest.fixture
def lock():
    s = Lock()
    yield s
    s.close()


@pytest.fixture
def make():
    made = []

    def make(sink=None, relay=None, main=None, start=False, **settings):
        gw = Instance(sink, relay=relay, main=main or {
            "smtp_sasl_auth_enable": "yes",
            "smtp_sasl_security_options": "noanonymous",
            "smtp_connection_cache_on_demand": "no",
            "minimal_backoff_time": "1s", "maximal_backoff_time": "1s",
            "queue_run_delay": "1s", **settings}, start=start)
        made.append(gw)
        return gw
    yield make
    for gw in made:
        gw.destroy()


def secret(gw, name, text):
    with open(gw.path(name + ".new"), "w") as f:
        f.write(text)
    os.chmod(gw.path(name + ".new"), 0o600)
    os.rename(gw.path(name + ".new"), gw.path(name))


def send(gw, subject):
    with gw.client() as c:
        c.ehlo()
        r = c.message("a@client.example", ["user@example.com"], mail(subject))
        assert r.code == 250, r


def hidden(gw, *words):
    """No log, status or explanation shows them."""
    text = gw.log() + gw.command("status").stdout + \
        gw.command("check", check=False).stdout
    for w in words:
        assert w not in text, w


@pytest.mark.parametrize("type", ["texthash", "hash"])
def test_login(make, lock, type):
    gw = make(lock)
    gw.set(smtp_sasl_password_maps=f"{type}:{gw.path('passwd')}")
    secret(gw, "passwd", f"[127.0.0.1]:{lock.port}  joe:s3cret:one\n"
           "other.example  ann:hers\n")
    gw.start()
    send(gw, "first")
    lock.wait_subject("first")
    assert lock.logins == ["joe\0s3cret:one"]
    if type == "hash" and os.getuid() == 0:
        mode = os.stat(gw.path("passwd.lmdb")).st_mode & 0o777
        assert mode == 0o600
    # another password, without a word to anybody
    secret(gw, "passwd", f"127.0.0.1:{lock.port}  joe:s3cret:two\n")

    def changed():
        send(gw, "next")
        return "joe\0s3cret:two" in lock.logins
    wait_for("the new password", changed, 60)
    hidden(gw, "s3cret", "hers", b64("\0joe\0s3cret:one"))


@pytest.mark.parametrize("soft", ["yes", "no"])
def test_a_refused_password_is_not_tried_again(make, lock, soft):
    """By any relay, until there is another."""
    lock.refuse = "535 5.7.8 wrong"
    gw = make(lock, smtp_sasl_auth_cache_name="lmdb:/x",
              smtp_sasl_auth_soft_bounce=soft)
    gw.set(smtp_sasl_password_maps=f"texthash:{gw.path('passwd')}")
    secret(gw, "passwd", f"[127.0.0.1]:{lock.port} joe:canary-77\n")
    gw.start()
    send(gw, "first")
    gw.wait_log(r" \(SASL authentication failed; server .* said: 535 5\.7\.8")
    send(gw, "second")
    word = "deferred" if soft == "yes" else "bounced"
    gw.wait_log(rf"status={word} \(SASL \[CACHED\] authentication failed; "
                r"server .* said: 535 5\.7\.8 wrong\)")
    if soft == "yes":
        # by timer, too
        n = gw.log().count("CACHED")
        wait_for("more tries", lambda: gw.log().count("CACHED") > n + 1)
    assert lock.logins == ["joe\0canary-77"]
    hidden(gw, "canary-77", b64("\0joe\0canary-77"))
    lock.refuse = None
    secret(gw, "passwd", f"[127.0.0.1]:{lock.port} joe:canary-78\n")

    def changed():
        if soft == "no":
            send(gw, "third")
        return "joe\0canary-78" in lock.logins
    wait_for("the new password", changed, 60)
    hidden(gw, "canary-77", "canary-78")


@needs_root
def test_who_has_them(make, lock):
    gw = make(lock)
    gw.set(smtp_sasl_password_maps=f"texthash:{gw.path('passwd')}")
    secret(gw, "passwd", f"[127.0.0.1]:{lock.port} joe:canary-5512\n")
    gw.start()
    send(gw, "first")
    lock.wait_subject("first")
    wait_for("an end", lambda: not gw.queued())
    role, = gw.pids("credentials")
    relays = gw.pids("relay")
    assert relays
    with open(f"/proc/{role}/status") as f:
        uid = int(re.search(r"Uid:\s+(\d+)", f.read())[1])
    assert uid == pwd.getpwnam("postern-auth").pw_uid
    assert os.listdir(f"/proc/{role}/root") == []
    for pid in relays:
        with open(f"/proc/{pid}/status") as f:
            assert int(re.search(r"Uid:\s+(\d+)", f.read())[1]) != uid
        # nor is any of it left there after the login
        assert not memory_has(pid, b"canary-5512"), "in the relay"
        assert not memory_has(pid, b64("\0joe\0canary-5512").encode())
    assert memory_has(role, b"canary-5512"), "the search finds nothing"


def memory_has(pid, word):
    with open(f"/proc/{pid}/maps") as maps, \
            open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if not m:
                continue
            start, end = int(m[1], 16), int(m[2], 16)
            if end - start > 1 << 30:
                continue        # a sanitizer's own
            try:
                mem.seek(start)
                if word in mem.read(end - start):
                    return True
            except (OSError, ValueError):
                continue
    return False


def test_each_service_has_its_own(make, lock):
    gw = make(lock, smtp_sasl_auth_enable="no")
    other = Lock()
    try:
        gw.set(transport_maps="inline:{ {user@example.com = "
               f"a:[127.0.0.1]:{lock.port}}} {{us@example.com = "
               f"b:[127.0.0.1]:{other.port}}} }}")
        gw.edit("master.cf", lambda t: t + "".join(
            f"{n} unix - - y - - smtp\n"
            f" -o smtp_sasl_auth_enable=yes\n"
            f" -o smtp_sasl_password_maps=texthash:{gw.path(n)}\n"
            for n in "ab"))
        secret(gw, "a", f"[127.0.0.1]:{lock.port} joe:a\n")
        secret(gw, "b", f"[127.0.0.1]:{other.port} joe:b\n")
        gw.start()
        assert len(gw.pids("credentials")) == 2
        with gw.client() as c:
            c.ehlo()
            for to in "user", "us":
                assert c.message("a@client.example", [to + "@example.com"],
                                 mail(to)).code == 250
        lock.wait_subject("user")
        other.wait_subject("us")
        assert (lock.logins, other.logins) == (["joe\0a"], ["joe\0b"])
    finally:
        other.close()


def test_table_behind_a_connection(make, lock):
    """tcp: knows it; lookup-tcp asks there."""
    asked = []
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(8)

    def serve():
        while True:
            try:
                s = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=talk, args=(s,), daemon=True).start()

    def talk(s):
        with s, s.makefile("rb") as f:
            for line in f:
                key = line.decode().split(" ", 1)[1].strip()
                asked.append(key)
                s.sendall(b"200 joe:far%20away\n" if key == "127.0.0.1" else
                          b"500 none\n")
    threading.Thread(target=serve, daemon=True).start()
    gw = make(lock)
    try:
        gw.set(smtp_sasl_password_maps="tcp:127.0.0.1:"
               f"{listener.getsockname()[1]}")
        gw.start()
        send(gw, "first")
        lock.wait_subject("first")
        assert lock.logins == ["joe\0far away"]
        assert asked == [f"127.0.0.1:{lock.port}", "127.0.0.1"]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_tokens(make, keys):  # noqa: F811
    """What the file has at the time of the login."""
    ctx = context(keys, "inside")
    now = {"token": "ya29.canary-one"}

    def auth(c, words):
        text = unb64(words[2])
        assert text.startswith("user=joe@example.com\1auth=Bearer ")
        if text.endswith(f" {now['token']}\1\1"):
            return "235 ok"
        ask(c, '{"status":"401"}')
        return "535 5.7.8 expired"
    with tls_server(ctx, auth, "PLAIN", "PLAIN XOAUTH2") as s:
        gw = make(relay=f"127.0.0.1:{s.port}", start=False, main={
            "smtp_sasl_auth_enable": "yes", "smtp_tls_security_level": "secure",
            "smtp_tls_CAfile": keys.path("ca.crt"),
            "smtp_tls_secure_cert_match": "inside.example",
            "smtp_sasl_tls_verified_security_options": "noanonymous",
            "smtp_connection_cache_on_demand": "no",
            "minimal_backoff_time": "1s", "maximal_backoff_time": "1s",
            "queue_run_delay": "1s"})
        tokens = gw.dir + "/tokens"
        os.mkdir(tokens, 0o755)

        def put(text, mode=0o644):
            with open(tokens + "/.new", "w") as f:
                f.write(text)
            os.chmod(tokens + "/.new", mode)
            os.rename(tokens + "/.new", tokens + "/joe")

        def arrived(n):
            wait_for(f"{n} messages", lambda: sum(
                len(c.texts) for c in s.conns) == n, 60)
        gw.set(smtp_sasl_token_directory=tokens, smtp_sasl_token_maps=(
            f"inline:{{ {{[127.0.0.1]:{s.port} = joe@example.com:joe}} }}"))
        gw.expect_log("token joe: |login: |authentication failed")
        gw.start()
        put("ya29.canary-one\n")
        send(gw, "first")
        arrived(1)
        # it is renewed there and here
        now["token"] = "ya29.canary-two"
        put(json.dumps({"access_token": "ya29.canary-two",
                        "expires_in": 3600}))
        send(gw, "second")
        arrived(2)
        # expired; then a good one
        put(json.dumps({"access_token": "ya29.canary-two", "expiry": "1"}))
        send(gw, "third")
        gw.wait_log("token joe: the token has expired")
        put("ya29.canary-old")
        gw.wait_log('535 5.7.8 expired: {"status":"401"}')
        put("ya29.canary-two", 0o666)
        gw.wait_log("token joe: everybody may write to it")
        os.unlink(tokens + "/joe")
        os.symlink("/etc/passwd", tokens + "/joe")
        gw.wait_log("token joe: (Too many levels|No such file)")
        put("ya29.canary-two")
        arrived(3)
        hidden(gw, "canary", b64("ya29.canary")[:12])


def test_mistakes(make, lock):
    gw = make(lock)
    gw.set(smtp_sasl_password_maps=f"texthash:{gw.path('passwd')}")
    secret(gw, "passwd", f"[127.0.0.1]:{lock.port} canary-without-a-colon\n")
    gw.expect_log("is not user:password|login: an entry|lookup error")
    gw.start()
    send(gw, "first")
    gw.wait_log(r"passwd:1: this is not user:password")
    gw.wait_log(r"status=deferred \(SASL login/password lookup error")
    assert "canary" not in gw.log()
    assert not lock.messages
    secret(gw, "passwd", f"[127.0.0.1]:{lock.port} joe:now\n")
    lock.wait_subject("first", 60)
    # a role that dies is replaced, and nothing goes out without it
    wait_for("one", lambda: gw.pids("credentials"))
    gw.expect_log("credentials.*killed by signal|credentials.*signal 9")
    old = gw.pids("credentials")
    gw.kill("credentials")
    send(gw, "second")
    lock.wait_subject("second", 60)
    assert gw.pids("credentials") != old
    assert len(lock.logins) == len(lock.messages) == 2
