"""What is told of TLS sessions: levels, for each peer its own, and traces."""
import os
import re
import ssl
import stat

import pytest

from conftest import need_root
from postern import Instance, mail, wait_for
from role_driver import u32, view
from test_relay import SENT, Server
from test_relay_tls import Relay, conf, context, starttls
from tls_help import Keys, TlsClient
from tls_help import context as client

SECRET = "nobody.shall.read.this"
HEX = r"0000 16 03 01"


@pytest.fixture(scope="module")
def keys():
    k = Keys()
    k.cert("ca", "Test Authority", is_ca=True)
    k.cert("gw", "gw.example.com")
    k.cert("client", "mail.client.example")
    yield k
    k.destroy()


def tls(keys, **more):
    return {"smtpd_tls_security_level": "may", "smtpd_tls_ask_ccert": "yes",
            "smtpd_tls_chain_files": keys.path("gw.pem"), **more}


def talk(gw, keys, **kw):
    """A session that says the secret, which has to be in its log line alone;
    what it has logged."""
    since = len(gw.log())
    with TlsClient(gw.port, client(keys.path("client.pem"), **kw)) as c:
        assert c.ehlo(SECRET).code == 250
        assert c.message("a@client.example", "user@example.com",
                         mail("s", SECRET.encode() * 20)).code == 250
        assert c.cmd("QUIT").code == 221
    gw.wait_log("disconnect from", since=since)
    return gw.log()[since:]


def traces(gw):
    path = os.path.join(gw.spool, "tlstrace")
    names = sorted(os.listdir(path)) if os.path.exists(path) else []
    return [os.path.join(path, n) for n in names]


def read(path):
    with open(path, "rb") as f:
        return f.read().decode()


# -- levels -------------------------------------------------------------------

@pytest.mark.parametrize("level,tells", [
    ("0", ""), ("none", ""), ("1", "S"), ("2", "SPH"), ("3", "SPHD"),
    ("4", "SPHDB"), ("9", "SPHDB"), ("peercert", "P"), ("Summary", "S"),
    ("ssl-debug", "H"), ("1, ssl-handshake-packet-dump", "SD")])
def test_levels(make, sink, keys, level, tells):
    """Summary, Peer's certificate, steps of the Handshake, Dump of it, all
    Bytes."""
    gw = make(sink, main=tls(keys, smtpd_tls_loglevel=level))
    text = talk(gw, keys)
    found = {"S": "TLS connection established from unknown",
             "P": r"subject_CN=mail\.client\.example",
             "H": r"unknown\[127\.0\.0\.1\]: SSL_accept: TLSv1\.3 read "
                  "client certificate verify|SSL_accept: .*finished",
             "D": r"unknown\[127\.0\.0\.1\]: read \d+ bytes\n.*" + HEX}
    for letter, pattern in found.items():
        assert bool(re.search(pattern, text)) == (letter in tells), letter
    # after the handshake: the bytes on the wire, of which nobody makes mail
    dumps = re.findall(r"(?:read|write) \d+ bytes", text)
    if "B" in tells:
        assert len(dumps) > 10
    elif "D" in tells:
        assert 2 <= len(dumps) <= 15, dumps
    else:
        assert not dumps
    assert SECRET not in re.sub(r"helo=<[^>]*>", "", text)
    assert not traces(gw)


def test_a_dump_has_an_end(make, sink, keys):
    gw = make(sink, main=tls(keys, smtpd_tls_loglevel="4",
                             smtpd_tls_trace_size_limit="1000"))
    text = talk(gw, keys)
    assert text.count("no more bytes are shown") == 1
    assert sum(int(n) for n in re.findall(r"(?:read|write) (\d+) bytes",
                                          text)) == 1000


def test_levels_of_relay(keys):
    seen = {}
    for level in ("0", "1", "2", "3", "4"):
        with Server(starttls(context(keys, "gw"))) as server, \
                Relay(**{**conf(keys, "encrypt"),
                         "smtp_tls_loglevel": level}) as relay:
            assert relay.send(server.hop).status == SENT
            relay.settle()
            seen[level] = relay.log()
    for n, pattern in enumerate((
            "TLS connection established to", "subject_CN=gw.example.com",
            HEX, r"write \d+ bytes"), 1):
        for level, text in seen.items():
            want = int(level) >= (n if n < 3 else 3)
            assert bool(re.search(pattern, text)) == want, (level, pattern)
    assert re.search(r"SSL_connect: TLSv1\.3 read encrypted extensions",
                     seen["2"])
    count = {k: len(re.findall(r"(?:read|write) \d+ bytes", v))
             for k, v in seen.items()}
    assert count["4"] > count["3"] + 4, count


@pytest.mark.parametrize("table,tells", [
    ("{127.0.0.1 = 1}", True), ("{127.0 = 1}", True),
    ("{127.0.0.2 = 1}", False), ("{127.0.0.1 = DUNNO}, {127 = 1}", False),
    ("{unknown = 1}", False)])
def test_by_address(make, sink, keys, table, tells):
    gw = make(sink, main=tls(keys, smtpd_tls_loglevel_maps="inline:{%s}"
                             % table))
    assert ("TLS connection established" in talk(gw, keys)) == tells


@pytest.mark.parametrize("more,tells", [
    ({"smtpd_tls_loglevel_maps": "inline:{{localhost = 1}}"}, True),
    ({"smtpd_tls_loglevel_maps": "inline:{{localhost = 0}, {127 = 1}}"},
     False),
    # a table behind it is asked as well, and levels may be taken away
    ({"smtpd_tls_loglevel": "1", "smtpd_tls_loglevel_maps":
        "inline:{{x = 1}}, cidr:{{127.0.0.0/8 none}}"}, False)])
def test_by_name(make, sink, keys, more, tells):
    gw = make(sink, main=tls(keys, smtpd_peername_lookup="yes", **more))
    assert ("TLS connection established" in talk(gw, keys)) == tells


@pytest.mark.parametrize("entry,tells", [
    ("127.0.0.1 = 1", True), ("127.0.0 = 1", True), ("127.0.0.2 = 1", False)])
def test_by_server(keys, entry, tells):
    settings = {**conf(keys, "encrypt"), "smtp_tls_loglevel": "0",
                "smtp_tls_loglevel_maps": "inline:{{%s}}" % entry}
    with Server(starttls(context(keys, "gw"))) as server, \
            Relay(**settings) as relay:
        assert relay.send(server.hop).status == SENT
        relay.settle()
        assert ("TLS connection established" in relay.log()) == tells


# -- traces -------------------------------------------------------------------

@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2,
                                     ssl.TLSVersion.TLSv1_3])
def test_trace(make, sink, keys, version):
    gw = make(sink, main=tls(keys, smtpd_tls_loglevel="1,trace"))
    text = talk(gw, keys, version=version)
    m = re.search(r"smtpd\[\d+\]: TLS protocol trace for unknown\[127\.0\.0\.1"
                  r"\] saved to (tlstrace/smtpd-\d{14}\.\d{6}-127\.0\.0\.1-"
                  r"\w{6})\n", text)
    assert m, text
    path = os.path.join(gw.spool, m.group(1))
    assert traces(gw) == [path]
    for p, mode in (path, 0o600), (os.path.dirname(path), 0o700):
        s = os.stat(p)
        assert (s.st_uid, stat.S_IMODE(s.st_mode)) == (os.geteuid(), mode)
    wait_for("its end", lambda: "close notify" in
             read(path))
    trace = read(path)
    for word in ("ClientHello", "ServerHello", "Certificate", "Finished",
                 "Content Type = ApplicationData (23)", "Level=warning(1)"):
        assert word in trace, (word, trace)
    # what was said inside is not in it, in no form
    raw = trace.replace(" ", "").replace("\n", "").lower()
    for word in (SECRET, "a@client.example", "EHLO"):
        assert word not in trace
        assert word.encode().hex() not in raw
    assert "PRIVATE KEY" not in trace


def test_trace_has_no_keys(make, sink, keys, tmp_path):
    """Those that would open what was recorded on the wire."""
    gw = make(sink, main=tls(keys, smtpd_tls_loglevel="trace"))
    log = tmp_path / "keys"
    for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
        ctx = client(keys.path("client.pem"), version=version)
        ctx.keylog_filename = str(log)
        with TlsClient(gw.port, ctx) as c:
            assert c.ehlo(SECRET).code == 250
            c.cmd("QUIT")
        gw.set(tls_trace_rate_limit="0")
        gw.command("reload")
    wait_for("both", lambda: len(traces(gw)) >= 1)
    raw = "".join(read(t) for t in traces(gw))
    raw = re.sub(r"[^0-9a-f]", "", raw.lower())
    for line in log.read_text().splitlines():
        if line and line[0] != "#":
            assert line.split()[2].lower() not in raw


def test_one_for_all_processes(make, sink, keys):
    """tls_trace_rate_limit, whoever asks, and after a reload."""
    gw = make(sink, main=tls(keys, smtpd_tls_loglevel="1,trace",
                             anvil_rate_time_unit="3600s"))
    assert "saved to tlstrace/" in talk(gw, keys)
    assert re.search(r"no TLS trace for unknown\[127\.0\.0\.1\], nor for "
                     r"others within \d+ s", talk(gw, keys))
    talk(gw, keys)
    gw.set(smtpd_banner="$myhostname new")
    gw.command("reload")
    talk(gw, keys)
    assert len(traces(gw)) == 1
    assert gw.log().count("saved to") == 1
    # asked once, and then not again so soon
    assert gw.log().count("no TLS trace for") <= 4
    gw.set(tls_trace_rate_limit="3")
    gw.command("reload")
    for _ in range(3):
        talk(gw, keys)
    assert len(traces(gw)) == 3


def test_any_number(make, sink, keys):
    gw = make(sink, main=tls(keys, tls_trace_rate_limit="-1",
                             smtpd_tls_loglevel_maps=
                             "inline:{{127.0.0.1 = trace}}"))
    for n in range(1, 6):
        text = talk(gw, keys)
        assert "TLS connection established" not in text
        assert len(traces(gw)) == n
    assert len({os.path.basename(t) for t in traces(gw)}) == 5


def test_size(make, sink, keys):
    gw = make(sink, main=tls(keys, smtpd_tls_loglevel="trace",
                             tls_trace_rate_limit="0",
                             smtpd_tls_trace_size_limit="3000"))
    talk(gw, keys)
    path = traces(gw)[0]
    note = "\n(the trace ends here, by smtpd_tls_trace_size_limit)\n"
    wait_for("its end", lambda: read(path).endswith(note))
    assert len(read(path)) == 3000 + len(note)
    gw.set(smtpd_tls_trace_size_limit="0")
    gw.command("reload")
    talk(gw, keys)
    assert traces(gw) == [path]


def test_a_failed_handshake(make, keys):
    """That is what one wants a trace of."""
    gw = make(main=tls(keys, smtpd_tls_loglevel="1,trace",
                       smtpd_tls_protocols=">=TLSv1.3"))
    with pytest.raises((ssl.SSLError, OSError)):
        TlsClient(gw.port, client(version=ssl.TLSVersion.TLSv1_2))
    gw.expect_log("unsupported protocol")
    gw.wait_log("SSL_accept error")
    path = wait_for("the file", lambda: traces(gw))[0]
    wait_for("the alert", lambda: "description=protocol version(70)" in
             read(path))


@need_root
@pytest.mark.parametrize("how", ["link", "other"])
def test_the_directory_is_ours(make, sink, keys, how, tmp_path):
    """What does not belong to master is not written to; mail goes on."""
    gw = make(sink, main=tls(keys, smtpd_tls_loglevel="trace"))
    place = os.path.join(gw.spool, "tlstrace")
    if how == "link":
        os.symlink(tmp_path, place)
    else:
        os.mkdir(place, 0o700)
        os.chown(place, 65534, 65534)
    gw.expect_log("tlstrace: ")
    talk(gw, keys)
    gw.wait_log(r"warning: tlstrace: ")
    gw.wait_log("no TLS trace for")
    assert os.listdir(tmp_path) == []
    assert os.listdir(place) == []


def test_the_directory_is_full(make, sink, keys):
    gw = make(sink, main=tls(keys, smtpd_tls_loglevel="trace"))
    place = os.path.join(gw.spool, "tlstrace")
    os.mkdir(place, 0o700)
    for n in range(1000):
        open(f"{place}/{n}", "w").close()
    gw.expect_log("no TLS trace: there are 1000 files")
    talk(gw, keys)
    gw.wait_log("warning: no TLS trace: there are 1000 files in tlstrace")
    assert len(os.listdir(place)) == 1000


def ask(relay):
    f = relay.control.expect("TLS_TRACE")
    tag, address = f.u32(), f.view()
    f.done()
    assert address == bytes([127, 0, 0, 1])
    return tag


def test_trace_of_relay(keys, tmp_path):
    """The file comes late: what was before is in it all the same."""
    settings = {**conf(keys, "encrypt"), "smtp_tls_loglevel": "1,trace",
                "smtp_tls_trace_size_limit": "50000",
                "smtp_connection_cache_on_demand": "no"}
    path = tmp_path / "trace"
    with Server(starttls(context(keys, "gw"))) as server, \
            Relay(**settings) as relay:
        assert relay.send(server.hop).status == SENT
        tag = ask(relay)
        fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        relay.control.send("TLS_TRACE_FILE", u32(tag) + view("tlstrace/x"),
                           [fd])
        os.close(fd)
        wait_for("the trace", lambda: "ServerHello" in read(path))
        assert "Finished" in read(path) and "MAIL" not in read(path)
        relay.wait_log("TLS protocol trace for 127\\.0\\.0\\.1\\[127\\.0\\.0"
                       "\\.1\\]:\\d+ saved to tlstrace/x")
        # not now: nobody asks again, and mail goes
        relay.send(server.hop)
        ask_again = relay.control
        tag = ask(relay)
        ask_again.send("TLS_TRACE_NONE", u32(tag) + u32(3600000))
        relay.wait_log("no TLS trace for .*, nor for others within 3600 s")
        for _ in range(2):
            assert relay.send(server.hop).status == SENT
        relay.settle()
        # an answer to nothing
        relay.control.send("TLS_TRACE_NONE", u32(99) + u32(1))
        relay.settle()


def test_gateway_relays_with_a_trace(make, keys):
    """Both ends through master, jails and all."""
    with Server(starttls(context(keys, "gw"))) as server:
        gw = make(relay=f"127.0.0.1:{server.port}", main=tls(
            keys, smtp_tls_security_level="encrypt",
            smtp_tls_loglevel="1,trace", tls_trace_rate_limit="5"))
        with gw.client() as c:
            c.ehlo()
            assert c.message("a@client.example", "user@example.com",
                             mail("x")).code == 250
        gw.wait_log("status=sent")
        path = wait_for("the file", lambda: traces(gw))[0]
        assert re.match(r"smtp-\d{14}\.\d{6}-127\.0\.0\.1-\w{6}$",
                        os.path.basename(path))
        wait_for("what it says", lambda: "ServerHello" in read(path))


# -- mistakes -----------------------------------------------------------------

@pytest.mark.parametrize("settings,says", [
    ({"smtpd_tls_loglevel": "loud"},
     "smtpd_tls_loglevel: loud is no level of TLS logging"),
    ({"smtp_tls_loglevel": "1,traces"}, "smtp_tls_loglevel: traces is no"),
    ({"smtpd_tls_loglevel_maps": "inline:{{a = 1}, {b = 11}}"}, "11 is no"),
    ({"smtp_tls_loglevel_maps": "inline:{{a = 1,x}}"}, "x is no level"),
    ({"smtpd_tls_loglevel_maps": "ldap:/etc/none.cf"},
     "a table behind a connection cannot be asked here"),
    ({"smtp_tls_loglevel_maps": "tcp:127.0.0.1:1"},
     "a table behind a connection cannot be asked here"),
    ({"tls_trace_rate_limit": "-2"}, "tls_trace_rate_limit"),
])
def test_mistakes(keys, settings, says):
    gw = Instance(main=tls(keys, **settings), start=False)
    try:
        p = gw.command("check", check=False)
        assert p.returncode == 1 and says in p.stderr, p.stderr
    finally:
        gw.destroy(check=False)
