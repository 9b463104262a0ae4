"""Tables behind connections: tcp: socketmap: memcache: redis:, and the way to
them from restrictions, rewriting, routing and the SMTP client."""
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading

import pytest
from postern import BIN, LIBEXEC, Instance, Sink, free_port, mail, wait_for
from test_submit import sendmail


@pytest.fixture(autouse=True)
def gateways(monkeypatch):
    """What a failed test leaves running ends with it."""
    made = []
    begin = Instance.__init__

    def init(self, *args, **kw):
        made.append(self)
        begin(self, *args, **kw)
    monkeypatch.setattr(Instance, "__init__", init)
    yield
    for gw in made:
        if os.path.exists(gw.dir):
            gw.destroy(check=False)


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


class TableServer:
    """tcp_table(5) or socketmap; on(key) gives the answer's bytes, or the
    text of what is found, None: not found, or "hang", "close"."""

    def __init__(self, entries=None, socketmap=False):
        self.entries = entries or {}
        self.socketmap = socketmap
        self.port = free_port()
        self.asked = []
        self.connections = 0
        self.open = set()
        self.listener = None
        self.up()

    @property
    def spec(self):
        return (f"socketmap:inet:127.0.0.1:{self.port}:users"
                if self.socketmap else f"tcp:127.0.0.1:{self.port}")

    def up(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(64)
        threading.Thread(target=self.accept, args=(self.listener,),
                         daemon=True).start()

    def down(self):
        if self.listener:
            try:
                self.listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.listener.close()
            self.listener = None
        for s in list(self.open):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    close = down

    def accept(self, listener):
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.add(s)
            threading.Thread(target=self.serve, args=(s,),
                             daemon=True).start()

    def serve(self, s):
        f = s.makefile("rb")
        try:
            while True:
                key = self.request(f)
                if key is None:
                    break
                self.asked.append(key)
                answer = self.entries.get(key)
                if answer == "hang":
                    s.recv(1)   # until somebody gives up
                    break
                if answer == "close":
                    break
                s.sendall(answer if isinstance(answer, bytes)
                          else self.reply(answer))
        except OSError:
            pass
        finally:
            self.open.discard(s)
            f.close()
            s.close()

    def request(self, f):
        if not self.socketmap:
            line = f.readline()
            assert line == b"" or line[:4] == b"get ", line
            return re.sub("%(..)", lambda m: chr(int(m.group(1), 16)),
                          line[4:-1].decode()) if line else None
        head = b""
        while not head.endswith(b":"):
            c = f.read(1)
            if not c:
                return None
            head += c
        text = f.read(int(head[:-1]))
        assert f.read(1) == b","
        name, _, key = text.decode().partition(" ")
        assert name == "users"
        return key

    def reply(self, answer):
        if not self.socketmap:
            return (b"500 none\n" if answer is None else
                    b"200 " + re.sub("[ %]", lambda m: "%%%02X" % ord(
                        m.group()), answer).encode() + b"\n")
        text = "NOTFOUND " if answer is None else "OK " + answer
        return f"{len(text)}:{text},".encode()


@pytest.fixture(params=["tcp", "socketmap"])
def server(request):
    s = TableServer(socketmap=request.param == "socketmap")
    yield s
    s.close()


def rcpt(gw, to, sender="s@client.example", code=250):
    with gw.client() as c:
        c.ehlo()
        assert c.cmd(f"MAIL FROM:<{sender}>").code == 250
        r = c.cmd(f"RCPT TO:<{to}>")
        assert r.code == code, r
        return r


def closing(gw):
    wait_for("an empty queue", lambda: not gw.queued())
    gw.destroy()


def test_restrictions(server, sink):
    server.entries = {"bad@client.example": "REJECT not you",
                      "inside@example.com": "OK"}
    gw = Instance(sink, main={
        "smtpd_recipient_restrictions":
        f"check_sender_access proxy:{server.spec}, permit",
        "relay_recipient_maps": f"unionmap:{{{server.spec}}}"})
    r = rcpt(gw, "inside@example.com", "bad@client.example", 554)
    assert "not you" in r.text
    rcpt(gw, "inside@example.com")
    rcpt(gw, "nobody@example.com", code=550)
    # connections are kept
    assert server.connections <= 4 + 1, server.connections
    assert "bad@client.example" in server.asked
    assert gw.pids("lookup-socketmap"[:15] if server.socketmap else "lookup-tcp")
    closing(gw)


def test_not_there_and_back(server, sink):
    server.entries = {"inside@example.com": "x"}
    gw = Instance(sink, main={"relay_recipient_maps": server.spec})
    rcpt(gw, "inside@example.com")
    server.down()
    # never "unknown user"
    for _ in range(8):
        rcpt(gw, "inside@example.com", code=451)
        rcpt(gw, "nobody@example.com", code=451)
    assert len(re.findall(r"warning: table .*(connect|read|closed)",
                          gw.log())) == 1, gw.log()
    server.up()

    def works():
        with gw.client() as c:
            c.ehlo()
            c.cmd("MAIL FROM:<s@client.example>")
            return c.cmd("RCPT TO:<inside@example.com>").code == 250
    wait_for("the table to work again", works, 40)
    gw.wait_log("table .*: works again")
    rcpt(gw, "nobody@example.com", code=550)
    closing(gw)


LIES = {
    False: {"garbage": b"\0\xff\x80 what\n", "huge": b"200 " + b"x" * 300000,
            "early": b"200 hal", "code": b"250 yes\n", "coded": b"200 %zz\n",
            "hard": b"400 not now\n"},
    True: {"garbage": b"\0\xff\x80 what\n", "huge": b"299999:OK xxxx",
           "early": b"20:OK hal", "code": b"3:YES,", "digits": b"9" * 5000,
           "noend": b"4:OK xy", "hard": b"8:TEMP why,"},
}


@pytest.mark.parametrize("kind", ["tcp", "socketmap"])
def test_server_that_lies(kind, sink):
    s = TableServer(socketmap=kind == "socketmap")
    gw = Instance(sink, main={"relay_recipient_maps": s.spec,
                              "lookup_table_time_limit": "3s"})
    for name, raw in LIES[s.socketmap].items():
        s.entries[name + "@example.com"] = raw
        # an answer that is cut and then silence ends with the time limit
        s.entries["good@example.com"] = "x"
        rcpt(gw, name + "@example.com", code=451)

        def good():
            with gw.client() as c:
                c.ehlo()
                c.cmd("MAIL FROM:<s@client.example>")
                return c.cmd("RCPT TO:<good@example.com>").code == 250
        wait_for("an honest answer", good, 30)
    s.close()
    closing(gw)


def test_hung_table_does_not_hold_dns_or_others(sink):
    """One table that never answers; names are found and other tables asked
    meanwhile."""
    hung, good = TableServer({"slow@example.com": "hang"}), TableServer(
        {"q@client.example": "REJECT quick"}, socketmap=True)
    gw = Instance(sink, main={
        "smtpd_sender_restrictions": f"check_sender_access {good.spec}",
        "relay_recipient_maps": hung.spec})
    waiting = gw.client()
    waiting.ehlo()
    waiting.cmd("MAIL FROM:<s@client.example>")
    waiting.send(b"RCPT TO:<slow@example.com>\r\n")
    wait_for("the question", lambda: "slow@example.com" in hung.asked)
    for _ in range(5):
        r = rcpt(gw, "other@example.com", "q@client.example", 554)
        assert "quick" in r.text
        rcpt(gw, "other@example.com", code=550)
    # it is still waiting
    waiting.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        waiting.sock.recv(1)
    waiting.close()
    hung.close()
    good.close()
    closing(gw)


def test_rewriting_routing_generic(server, sink):
    """filter, qmgr and relay ask too."""
    other = Sink()
    ways, names = (TableServer(socketmap=server.socketmap) for _ in "12")
    server.entries = {
        "alias@example.com": "one@example.com, two@example.org"}
    ways.entries = {
        # asked for with whole addresses only, as Postfix does
        "two@example.org": f"smtp:[127.0.0.1]:{other.port}"}
    names.entries = {
        "hide@client.example": "shown@client.example"}
    gw = Instance(sink, main={
        "virtual_alias_maps": server.spec,
        "transport_maps": ways.spec,
        "smtp_generic_maps": names.spec})
    with gw.client() as c:
        c.ehlo()
        r = c.message("hide@client.example", "alias@example.com",
                      mail("ways"))
        assert r.code == 250, r
    a = sink.wait_subject("ways")
    b = other.wait_subject("ways")
    assert (a.rcpts, b.rcpts) == (["one@example.com"], ["two@example.org"])
    assert a.sender == b.sender == "shown@client.example"
    for each in (other, ways, names):
        each.close()
    closing(gw)


def test_rewriting_table_down(server, sink):
    """No mail is lost or goes the wrong way."""
    gw = Instance(sink, main={"virtual_alias_maps": server.spec,
                              "relay_recipient_maps": ""})
    server.down()
    gw.expect_log("message not accepted, try again later")
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<s@client.example>")
        r = c.cmd("RCPT TO:<a@example.com>")
        if r.code == 250:
            r = c.data_cmd(mail("down"))
        assert r.code == 451, r
    assert not sink.messages
    closing(gw)


def test_transport_table_down_defers(server, sink):
    server.entries = {}
    gw = Instance(sink, main={"transport_maps": server.spec,
                              "minimal_backoff_time": "1s",
                              "queue_run_delay": "1s"})
    server.down()
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<s@client.example>").code == 250
        assert c.cmd("RCPT TO:<a@example.com>").code == 451
    # what is in the queue already waits
    sendmail(gw, "a@example.com", text=b"Subject: later\n\ntext\n")
    gw.wait_log(r"status=deferred \(address routing failed: table lookup")
    assert not sink.messages
    server.up()
    sink.wait_subject("later", 60)
    closing(gw)


def test_stop_while_routing_waits(server, sink):
    """What waits for a table when all stops is delivered after the start."""
    server.entries = {"a@example.com": "hang"}
    gw = Instance(sink, main={"transport_maps": server.spec})
    sendmail(gw, "a@example.com", text=b"Subject: kept\n\ntext\n")
    wait_for("the question", lambda: "a@example.com" in server.asked)
    gw.stop()
    assert not sink.messages
    server.entries = {}
    gw.start()
    sink.wait_subject("kept", 30)
    closing(gw)


def test_role_dies(server, sink):
    server.entries = {"inside@example.com": "x"}
    gw = Instance(sink, main={"relay_recipient_maps": server.spec})
    gw.expect_log("killed by signal 9")
    rcpt(gw, "inside@example.com")
    role = "lookup-socketmap"[:15] if server.socketmap else "lookup-tcp"
    for _ in range(2):
        old = gw.kill(role)

        def again():
            if old in gw.pids(role) or not gw.pids(role):
                return False
            with gw.client() as c:
                c.ehlo()
                c.cmd("MAIL FROM:<s@client.example>")
                r = c.cmd("RCPT TO:<inside@example.com>")
                assert r.code in (250, 451), r
                return r.code == 250
        wait_for("the next one", again, 30)
    closing(gw)


def test_postmap_and_check(server, sink):
    server.entries = {"a@example.com": "found it", "slow": b"400 later\n"
                      if not server.socketmap else b"8:TEMP why,"}
    gw = Instance(sink, start=False,
                  main={"relay_recipient_maps": server.spec})

    def postmap(*args):
        p = subprocess.run([BIN + "/postmap", "-c", gw.etc, *args],
                           capture_output=True, text=True, timeout=60,
                           stdin=subprocess.DEVNULL)
        return p.returncode, p.stdout, p.stderr
    assert postmap("-q", "a@example.com", "proxy:" + server.spec)[:2] == (
        0, "found it\n")
    assert postmap("-q", "b@example.com", server.spec)[:2] == (1, "")
    status, out, err = postmap("-q", "slow", server.spec)
    assert (status, out) == (1, "") and "query error" in err, err
    assert gw.command("check", check=False).returncode == 0
    gw.set(virtual_alias_maps="memcache:$config_directory/m.cf")
    p = gw.command("check", check=False)
    assert p.returncode != 0 and "m.cf: No such file" in p.stderr, p.stderr
    gw.write("m.cf", "ttl = soon\n")
    p = gw.command("check", check=False)
    assert p.returncode != 0 and "ttl: need a number" in p.stderr, p.stderr
    gw.destroy()


def test_missing_program(sink):
    gw = Instance(sink, start=False, main={
        "relay_recipient_maps": "pgsql:/nowhere.cf",
        "daemon_directory": "$config_directory/libexec"})
    os.mkdir(gw.path("libexec"))
    for name in os.listdir(LIBEXEC):
        if not name.startswith("lookup-"):
            os.symlink(os.path.join(LIBEXEC, name),
                       gw.path("libexec/" + name))
    p = gw.command("check", check=False)
    assert p.returncode != 0
    assert "lookup-pgsql" in p.stderr
    assert "tables of this type are configured" in p.stderr
    p = gw.command("start", check=False)
    assert p.returncode != 0
    gw.destroy()


def test_bad_parameters(sink):
    """A mistake in the parameters keeps the old generation."""
    if not os.path.exists(f"{LIBEXEC}/lookup-redis"):
        pytest.skip("no hiredis")
    gw = Instance(sink, start=False, main={
        "relay_recipient_maps": "redis:$config_directory/r.cf"})
    gw.write("r.cf", "host = localhost\nport = many\n")
    p = gw.command("start", check=False)
    assert p.returncode != 0
    assert "port: need a number" in gw.log() + p.stderr
    gw.expect_log("port: need a number|cannot be used|exit status")
    gw.destroy()


# -- real servers -------------------------------------------------------------


class Daemon:
    def __init__(self, *cmd):
        self.dir = tempfile.mkdtemp(prefix="postern-table-", dir="/tmp")
        self.cmd = cmd
        self.process = None
        self.up()

    def up(self):
        self.process = subprocess.Popen(
            self.cmd, cwd=self.dir, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def down(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.down()
        shutil.rmtree(self.dir, ignore_errors=True)


def talk(port, *lines):
    """Each line, and what is answered to it."""
    def connect():
        try:
            return socket.create_connection(("127.0.0.1", port), 5)
        except OSError:
            return None
    s = wait_for("a server", connect)
    with s:
        out = []
        for line in lines:
            s.sendall(line.encode() + b"\r\n")
            out.append(s.recv(4096).decode())
        return out


@pytest.fixture
def redis():
    port = free_port()
    d = Daemon("redis-server", "--port", str(port), "--bind", "127.0.0.1",
               "--requirepass", "sesame", "--save", "", "--databases", "4")
    d.port = port

    def fill():
        out = talk(port, "AUTH sesame", "SELECT 2",
                   "SET rcpt:inside@example.com yes",
                   "RPUSH group:all@example.com a b",
                   "HSET users hash@example.com deliver")
        assert out[0].startswith("+OK"), out
    d.fill = fill
    fill()
    yield d
    d.close()


def redis_cf(gw, port, name="r.cf", **more):
    settings = {"host": "127.0.0.1", "port": port, "password": "sesame",
                "database": 2, "query": "GET rcpt:%s", **more}
    gw.write(name, "".join(f"{k} = {v}\n" for k, v in settings.items()))
    os.chmod(gw.path(name), 0o600)


@pytest.mark.skipif(not os.path.exists(f"{LIBEXEC}/lookup-redis"),
                    reason="no hiredis")
def test_redis(sink, redis):
    gw = Instance(sink, start=False, main={
        "relay_recipient_maps": "redis:$config_directory/r.cf",
        "virtual_alias_maps": "redis:$config_directory/g.cf"})
    redis_cf(gw, redis.port)
    redis_cf(gw, redis.port, "g.cf", query="LRANGE group:%s 0 -1",
             result_format="%s@example.com")
    gw.start()
    rcpt(gw, "inside@example.com")
    rcpt(gw, "INSIDE@example.com")
    rcpt(gw, "nobody@example.com", code=550)
    # a key is one word of a command
    rcpt(gw, '"x y"@example.com', code=550)
    with gw.client() as c:
        c.ehlo()
        assert c.message("s@client.example", "all@example.com",
                         mail("group")).code == 250
    assert sorted(sink.wait_subject("group").rcpts) == [
        "a@example.com", "b@example.com"]
    redis.down()
    rcpt(gw, "inside@example.com", code=451)
    redis.up()
    redis.fill()

    def works():
        with gw.client() as c:
            c.ehlo()
            c.cmd("MAIL FROM:<s@client.example>")
            return c.cmd("RCPT TO:<inside@example.com>").code == 250
    wait_for("redis again", works, 40)
    # the parameters are edited: in force without a command
    redis_cf(gw, redis.port, query="HGET users %s")
    wait_for("the new query", lambda: "yes" if try_rcpt(
        gw, "hash@example.com") == 250 else None, 30)
    rcpt(gw, "inside@example.com", code=550)
    closing(gw)


@pytest.mark.skipif(not os.path.exists(f"{LIBEXEC}/lookup-redis"),
                    reason="no hiredis")
def test_as_many_recipients_as_one_may_have(sink, redis):
    """Several thousand answers about one message."""
    names = ("canonical", "virtual_alias", "transport", "smtp_generic")
    gw = Instance(sink, start=False, main={
        f"{n}_maps": f"redis:$config_directory/{n}.cf" for n in names})
    for n in names:
        redis_cf(gw, redis.port, n + ".cf", query=f"GET {n}:%s")
    gw.start()
    rcpts = [f"u{i}@example.com" for i in range(1000)]
    with gw.client(timeout=120) as c:
        c.ehlo()
        c.send(b"MAIL FROM:<s@client.example>\r\n" + b"".join(
            b"RCPT TO:<%s>\r\n" % r.encode() for r in rcpts))
        for _ in range(1001):
            assert c.reply().code == 250
        assert c.data_cmd(mail("many")).code == 250
    wait_for("all of them", lambda: sorted(
        r for m in sink.find("many") for r in m.rcpts) == sorted(rcpts), 60)
    closing(gw)


def test_asked_side_by_side(sink):
    """What is asked about one recipient does not wait for another's."""
    class Two(TableServer):
        both = threading.Barrier(2)
        met = False

        def reply(self, answer):
            if not self.met:
                try:
                    self.both.wait(10)
                    self.met = True
                except threading.BrokenBarrierError:
                    pass
            return super().reply(answer)
    server = Two()
    gw = Instance(sink, main={"virtual_alias_maps": server.spec,
                              "smtpd_reject_unlisted_recipient": "no"})
    try:
        with gw.client() as c:
            c.ehlo()
            assert c.message("s@client.example",
                             [f"u{i}@example.com" for i in range(4)],
                             mail("two")).code == 250
        assert server.met
        assert len(sink.wait_subject("two").rcpts) == 4
        closing(gw)
    finally:
        server.close()


def try_rcpt(gw, to):
    with gw.client() as c:
        c.ehlo()
        c.cmd("MAIL FROM:<s@client.example>")
        return c.cmd(f"RCPT TO:<{to}>").code


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists(
    f"{LIBEXEC}/lookup-redis"), reason="needs root and hiredis")
def test_password_is_the_roles_alone(sink, redis):
    """It is in the memory of lookup-redis and of nobody else."""
    gw = Instance(sink, start=False, main={
        "relay_recipient_maps": "redis:$config_directory/r.cf"})
    redis_cf(gw, redis.port)
    gw.start()
    rcpt(gw, "inside@example.com")

    def has(pid):
        with open(f"/proc/{pid}/maps") as maps, \
                open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for line in maps:
                m = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
                if not m:
                    continue
                lo, hi = (int(x, 16) for x in m.groups())
                if hi - lo > 256 << 20:
                    continue
                try:
                    mem.seek(lo)
                    if b"sesame" in mem.read(hi - lo):
                        return True
                except (OSError, ValueError):
                    pass
        return False
    roles = gw.processes()
    assert {r for p, r in roles.items() if has(p)} == {"lookup-redis"}
    closing(gw)


@pytest.fixture
def memcached():
    port = free_port()
    d = Daemon("memcached", "-u", "nobody", "-l", "127.0.0.1", "-p",
               str(port), "-U", "0")
    d.port = port
    wait_for("memcached", lambda: talk(port, "version"))
    yield d
    d.close()


def test_memcache(sink, memcached):
    gw = Instance(sink, start=False, main={
        "relay_recipient_maps": "memcache:$config_directory/m.cf"})
    gw.write("b", "backup@example.com yes\n")
    gw.write("m.cf", f"memcache = inet:127.0.0.1:{memcached.port}\n"
             "key_format = rcpt:%s\nretry_pause = 0\n"
             f"backup = texthash:{gw.path('b')}\n")
    out = talk(memcached.port, "set rcpt:cached@example.com 0 0 3\r\nyes")
    assert out == ["STORED\r\n"]
    gw.start()
    rcpt(gw, "cached@example.com")
    rcpt(gw, "backup@example.com")
    rcpt(gw, "nobody@example.com", code=550)
    # what the backup knew is in the cache now
    wait_for("it in the cache", lambda: "VALUE rcpt:backup@example.com 0 3"
             in talk(memcached.port, "get rcpt:backup@example.com")[0])
    memcached.down()
    # the backup has all there is
    rcpt(gw, "backup@example.com")
    rcpt(gw, "cached@example.com", code=550)
    closing(gw)


def test_memcache_down_without_backup(sink, memcached):
    gw = Instance(sink, start=False, main={
        "relay_recipient_maps": "memcache:$config_directory/m.cf"})
    gw.write("m.cf", f"memcache = inet:127.0.0.1:{memcached.port}\n"
             "max_try = 1\n")
    gw.start()
    rcpt(gw, "nobody@example.com", code=550)
    memcached.down()
    rcpt(gw, "nobody@example.com", code=451)
    closing(gw)


def test_name_of_the_server_is_resolved_in_the_jail(server, sink):
    server.entries = {"inside@example.com": "x"}
    gw = Instance(sink, main={"relay_recipient_maps": server.spec.replace(
        "127.0.0.1", "localhost")})
    rcpt(gw, "inside@example.com")
    rcpt(gw, "nobody@example.com", code=550)
    pid, = gw.pids("lookup-socketmap"[:15] if server.socketmap
                   else "lookup-tcp")
    with open(f"/proc/{pid}/status") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    if os.geteuid() == 0:
        assert "0" not in status["Uid"].split()
        assert int(status["CapEff"], 16) == 0
    server.down()
    gw.set(relay_recipient_maps=server.spec.replace(
        "127.0.0.1", "no-such-host.invalid"))
    gw.command("reload")
    wait_for("a failure", lambda: try_rcpt(gw, "inside@example.com") == 451)
    closing(gw)
