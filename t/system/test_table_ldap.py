"""ldap: tables, over a slapd of the test's own with a tree as Active
Directory has it."""
import base64
import os
import shutil
import socket
import threading
import time
import urllib.parse

import pytest

from engine_help import (Between, Daemon, Query, Silent, ask, certificates,
                         check_commands, check_rows, run)
from postern import BUILD, SLOW, free_port, wait_for

pytestmark = pytest.mark.skipif(
    not os.path.exists(os.path.join(BUILD, "t/tools/query-ldap"))
    or not shutil.which("slapd"), reason="no slapd")

CONF = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.3.6.1.4.1.4203.666.990.1.1 NAME 'proxyAddresses'
  EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.4203.666.990.1.2 NAME 'sAMAccountName'
  EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.4203.666.990.1.3 NAME 'maildrop'
  EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.4203.666.990.1.4 NAME 'mailacceptinggeneralid'
  EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.4203.666.990.1.5 NAME 'memberURL'
  EQUALITY caseExactMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.4203.666.990.2.1 NAME 'exchangeUser'
  SUP inetOrgPerson STRUCTURAL MAY ( proxyAddresses $ sAMAccountName $
  maildrop $ mailacceptinggeneralid ) )
objectclass ( 1.3.6.1.4.1.4203.666.990.2.2 NAME 'exchangeGroup'
  SUP top STRUCTURAL MUST cn MAY ( proxyAddresses $ member $ mail $
  maildrop $ memberURL $ description ) )
modulepath /usr/lib/ldap
moduleload back_mdb.so
pidfile {dir}/pid
argsfile {dir}/args
TLSCACertificateFile {dir}/ca.pem
TLSCertificateFile {dir}/cert.pem
TLSCertificateKeyFile {dir}/key.pem
authz-regexp "gidNumber=.*,cn=peercred,cn=external,cn=auth"
  "cn=gateway,dc=corp,dc=example"
database mdb
suffix dc=corp,dc=example
rootdn cn=admin,dc=corp,dc=example
rootpw admin
directory {dir}/data
dbnosync
maxsize 33554432
sizelimit 500
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=gateway,dc=corp,dc=example" read
  by dn.exact="cn=open,dc=corp,dc=example" read by * none
"""

PEOPLE = "ou=People,dc=corp,dc=example"
GROUPS = "ou=Groups,dc=corp,dc=example"


def person(cn, mail, *proxies, **more):
    lines = [f"dn: cn={cn},{PEOPLE}", "objectClass: exchangeUser",
             f"cn: {cn}", f"sn: {cn}", f"mail: {mail}"]
    lines += [f"proxyAddresses: {p}" for p in proxies]
    lines += [f"{k}: {v}" for k, v in more.items()]
    return "\n".join(lines) + "\n"


def group(cn, mail, members=(), urls=(), **more):
    lines = [f"dn: cn={cn},{GROUPS}", "objectClass: exchangeGroup",
             f"cn: {cn}", f"mail: {mail}", f"proxyAddresses: SMTP:{mail}"]
    lines += [f"member: cn={m}" for m in members]
    lines += [f"memberURL: {u}" for u in urls]
    lines += [f"{k}: {v}" for k, v in more.items()]
    return "\n".join(lines) + "\n"


def people(*names):
    return [f"{n},{PEOPLE}" for n in names]


LDIF = "\n".join([
    "dn: dc=corp,dc=example\nobjectClass: dcObject\n"
    "objectClass: organization\no: corp\ndc: corp\n",
    *(f"dn: ou={ou},dc=corp,dc=example\nobjectClass: organizationalUnit\n"
      f"ou: {ou}\n" for ou in ("People", "Groups", "Domains")),
    "dn: cn=gateway,dc=corp,dc=example\nobjectClass: person\n"
    "cn: gateway\nsn: gateway\nuserPassword: s3cret, \"x\"\n",
    "dn: ou=example.com,ou=Domains,dc=corp,dc=example\n"
    "objectClass: organizationalUnit\nou: example.com\n",
    "dn: cn=Ann,ou=example.com,ou=Domains,dc=corp,dc=example\n"
    "objectClass: exchangeUser\ncn: Ann\nsn: Ann\nmail: ann@example.com\n",
    person("Alice", "alice@example.com", "SMTP:alice@example.com",
           "smtp:a.liddell@example.com", "smtp:alice@example.net",
           "X400:c=US;o=corp", sAMAccountName="alice", maildrop="alice@in",
           mailacceptinggeneralid="alice"),
    person("Bob", "bob@example.com", "SMTP:bob@example.com",
           "smtp:robert@example.com", sAMAccountName="bob"),
    person("Carol", "carol@example.com", "SMTP:carol@example.com"),
    person("Star", "star*@example.com", "SMTP:star*@example.com"),
    person("Paren", "(x)@example.com", "SMTP:(x)@example.com"),
    person("Back", "back\\slash@example.com",
           "SMTP:back\\slash@example.com"),
    person("Jürgen", "juergen@example.com", "SMTP:jürgen@example.com"),
    person("Two", "two@example.com", "SMTP:two@example.com",
           mobile="1\nmobile: 2"),
    group("Staff", "staff@example.com", people("Alice", "Bob", "Gone")),
    group("All", "all@example.com",
          people("Carol", "Bob") + [f"Staff,{GROUPS}"]),
    # Each is a member of the other.
    group("Left", "left@example.com", [f"Right,{GROUPS}"]
          + people("Alice")),
    group("Right", "right@example.com", [f"Left,{GROUPS}"]
          + people("Carol")),
    group("Routed", "routed@example.com", people("Alice"),
          maildrop="routed@lists.example.com"),
    group("Dynamic", "dynamic@example.com", urls=[
        f"ldap:///{PEOPLE}?mail?one?(cn=B*)",
        f"ldap:///{PEOPLE}??one?(cn=Carol)",
        f"ldap:///{PEOPLE}?description?one?(cn=Alice)"]),
    group("Empty", "empty@example.com"),
    *(group(f"Deep{i}", f"deep{i}@example.com", [f"Deep{i + 1},{GROUPS}"])
      for i in range(6)),
    group("Deep6", "deep6@example.com", people("Alice")),
    *(person(f"U{i:04}", f"u{i:04}@example.com", f"smtp:u{i}@big.example",
             description="many") for i in range(1200)),
    group("Big", "big@example.com",
          people(*(f"U{i:04}" for i in range(1200)))),
])


class Slapd(Daemon):
    user = "openldap"

    def prepare(self):
        os.mkdir(self.dir + "/data")
        certificates(self.dir)
        with open(self.dir + "/slapd.conf", "w") as f:
            f.write(CONF.replace("{dir}", self.dir))
        ldif = []
        for entry in LDIF.split("\n\n"):
            ldif.append("\n".join(self.ldif_line(x)
                                  for x in entry.strip().split("\n")))
        with open(self.dir + "/tree.ldif", "w") as f:
            f.write("\n\n".join(ldif) + "\n")
        run("slapadd", "-q", "-f", self.dir + "/slapd.conf", "-l",
            self.dir + "/tree.ldif", "-d", "0")
        if self.become:
            run("chown", "-R", self.user, self.dir)
        self.tls_port = free_port()
        self.ldapi = "ldapi://" + urllib.parse.quote(
            self.dir + "/s", safe="")

    @staticmethod
    def ldif_line(line):
        name, _, value = line.partition(": ")
        if value.isascii():
            return line
        return name + ":: " + base64.b64encode(value.encode()).decode()

    def command(self):
        return ["slapd", "-f", self.dir + "/slapd.conf", "-d", "0", "-h",
                f"ldap://127.0.0.1:{self.port} {self.ldapi} "
                f"ldaps://127.0.0.1:{self.tls_port}"]

    def ready(self):
        try:
            with socket.create_connection(("127.0.0.1", self.tls_port)):
                return True
        except OSError:
            return False

    def table(self, **more):
        return {"server_host": "127.0.0.1", "server_port": self.port,
                "bind_dn": "cn=gateway,dc=corp,dc=example",
                "bind_pw": 's3cret, "x"', "timeout": "5s",
                "search_base": "dc=corp,dc=example",
                "query_filter": "(proxyAddresses=smtp:%s)",
                "result_attribute": "mail", **more}


@pytest.fixture(scope="module")
def db():
    d = Slapd()
    try:
        yield d
    finally:
        d.end()


def wait_found(q):
    wait_for("the server again", lambda: q.ask("alice@example.com") ==
             "found alice@example.com")


MEMBERS = {"query_filter": "(mail=%s)", "result_attribute": "",
           "leaf_result_attribute": "mail",
           "special_result_attribute": "member, memberURL"}
CASES = [
    ({}, {
        "alice@example.com": "found alice@example.com",
        "A.Liddell@Example.COM": "found alice@example.com",
        "alice@example.net": "found alice@example.com",
        "staff@example.com": "found staff@example.com",
        "nobody@example.com": "none",
        "": "none",
        "jürgen@example.com": "found juergen@example.com",
        "j\\xfcrgen@example.com": "none",
        "alice@example.com\\x00": "none",
        # What has a meaning in a filter has none in a key.
        "star*@example.com": "found star*@example.com",
        "(x)@example.com": "found (x)@example.com",
        "back\\slash@example.com": "found back\\slash@example.com",
        "*": "none",
        "a*": "none",
        "alice@example.com)(mail=*": "none",
        "x)(|(cn=*": "none",
        "*)(objectClass=*))(|(cn=*": "none",
        "\\2a": "none",
    }),
    # The usual one of Exchange: who is there at all?
    ({"query_filter": "(&(|(objectClass=exchangeUser)(objectClass="
      "exchangeGroup))(proxyAddresses=smtp:%s))", "result_format": "OK",
      "result_attribute": "proxyAddresses", "size_limit": 1}, {
        "alice@example.com": "found OK,OK,OK,OK",
        "all@example.com": "found OK",
        "x@example.com": "none",
    }),
    ({"query_filter": "(&(cn=%u)(mail=*@%d))", "result_attribute":
      "cn sn", "result_format": "%s.%d"}, {
        "alice@example.com": "none",
    }),
    ({"query_filter": "(&(cn=%u)(mail=*@%d))",
      "result_format": "%u@[%d]/%U/%1"}, {
        "alice@example.com": "found alice@[example.com]/alice/com",
        "alice": "none",
    }),
    ({"domain": "example.net"}, {
        "alice@example.net": "found alice@example.com",
        "alice@example.com": "none",
        "alice": "none",
    }),
    ({"query_filter": "(cn=Two)", "result_attribute": "mobile"}, {
        "x": "found 1,2"}),
    ({"query_filter": "(cn=Two)", "result_attribute": "mobile",
      "expansion_limit": 1}, {"x": "temporary"}),
    # Base, scope
    ({"search_base": PEOPLE, "scope": "one"}, {
        "alice@example.com": "found alice@example.com",
        "staff@example.com": "none"}),
    ({"scope": "one"}, {"alice@example.com": "none"}),
    ({"search_base": f"cn=Alice,{PEOPLE}", "scope": "base",
      "query_filter": "(objectClass=*)"}, {
          "x": "found alice@example.com"}),
    ({"search_base": "ou=%d,ou=Domains,dc=corp,dc=example",
      "query_filter": "(mail=%s)"}, {
        "ann@example.com": "found ann@example.com",
        "ann@example.org": "none",
        # What has a meaning in a DN has none in a key.
        "ann@example.com,ou=Domains": "none",
        "alice@example.com,cn=Alice": "none",
        "alice@ ": "none", "alice@#x": "none", "alice@a+b=c": "none",
    }),
    ({"search_base": "dc=nowhere,dc=example"}, {"x": "temporary"}),
    ({"search_base": "no base"}, {"x": "temporary"}),
    ({"query_filter": "(cn=%s"}, {"x": "wrong"}),
    # More than one, and more than the limit
    ({"query_filter": "(description=many)", "size_limit": 10},
     {"x": "temporary", "y": "temporary"}),
    ({"query_filter": "(cn=u000%u)", "size_limit": 1},
     {"1": "found u0001@example.com"}),
    ({"query_filter": "(description=many)"}, {"x": "temporary"}),
    # Members, groups in groups, who is gone, groups without end
    (MEMBERS, {
        "alice@example.com": "found alice@example.com",
        "staff@example.com": "found alice@example.com,bob@example.com",
        "all@example.com":
            "found carol@example.com,bob@example.com,alice@example.com",
        "left@example.com": "found alice@example.com,carol@example.com",
        "empty@example.com": "found empty@example.com",
        "dynamic@example.com":
            "found bob@example.com,back\\slash@example.com,"
            "carol@example.com",
        "deep0@example.com": "found alice@example.com",
        "big@example.com": "found " + ",".join(
            f"u{i:04}@example.com" for i in range(1200)),
    }),
    ({**MEMBERS, "recursion_limit": 3}, {
        "staff@example.com": "found alice@example.com,bob@example.com",
        "deep4@example.com": "found alice@example.com",
        "deep0@example.com": "temporary",
    }),
    ({**MEMBERS, "expansion_limit": 2, "size_limit": 0}, {
        "staff@example.com": "found alice@example.com,bob@example.com",
        "all@example.com": "temporary",
        "big@example.com": "temporary",
    }),
    ({**MEMBERS, "terminal_result_attribute": "maildrop"}, {
        "routed@example.com": "found routed@lists.example.com",
        "staff@example.com": "found alice@in,bob@example.com",
    }),
    # An ordinary attribute of a group is a result, too.
    ({**MEMBERS, "result_attribute": "mail", "leaf_result_attribute": ""}, {
        "staff@example.com":
            "found staff@example.com,alice@example.com,bob@example.com",
    }),
    # Defaults of the names
    ({"query_filter": "(mailacceptinggeneralid=%s)", "result_attribute":
      "maildrop"}, {"alice": "found alice@in"}),
    # Who may ask
    ({"bind": "no"}, {"alice@example.com": "temporary"}),
    ({"bind_pw": "wrong"}, {"alice@example.com": "temporary"}),
    ({"bind_dn": "cn=nobody"}, {"alice@example.com": "temporary"}),
    ({"bind": "simple"}, {"alice@example.com": "found alice@example.com"}),
]


@pytest.mark.parametrize("settings,answers", CASES)
def test_answers(db, settings, answers):
    check_rows("ldap", db.table(), [(settings, answers)])


def test_defaults(db):
    settings = {k: v for k, v in db.table().items()
                if k not in ("query_filter", "result_attribute")}
    assert ask("ldap", settings, "alice") == "found alice@in"


@pytest.mark.parametrize("hosts", [
    "ldap://127.0.0.1:{port}", "127.0.0.1:{port}", "127.0.0.1",
    "{ldapi}", "ldaps://127.0.0.1:{tls}",
    # The first are not there
    "127.0.0.1:{closed}, ldap://127.0.0.1:{port}/",
    "ldapi://%2Fnowhere 127.0.0.1",
])
def test_hosts(db, hosts):
    hosts = hosts.format(port=db.port, ldapi=db.ldapi, tls=db.tls_port,
                         closed=free_port())
    with Query("ldap", db.table(server_host=hosts)) as q:
        for _ in range(3):
            assert q.ask("alice@example.com") == "found alice@example.com"


@pytest.mark.parametrize("first,more", [
    ("ldap://", {}), ("ldaps://", {}), ("ldap://", {"start_tls": "yes"}),
])
def test_first_server_hangs(db, first, more):
    with Silent() as silent:
        hosts = f"{first}127.0.0.1:{silent.port} ldap://127.0.0.1:{db.port}"
        with Query("ldap", db.table(server_host=hosts, timeout="1s",
                                    **more)) as q:
            for _ in range(5):
                assert q.ask("alice@example.com") == \
                    "found alice@example.com"
        # It was left alone after that.
        assert silent.count == 1


def test_silence_in_a_handshake(db):
    """A server that speaks TLS, byte by byte, and never to the end; or says
    yes to StartTLS and nothing more."""
    def drip(client, server):
        client.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
        while True:
            client.sendall(b"\x03")
            time.sleep(0.1)

    def agree(client, server):
        client.recv(65536)
        client.sendall(ber(0x30, ber(2, b"\x01"), ber(
            0x78, ber(10, b"\x00"), text(""), text(""))))
        while client.recv(65536):
            pass
    for first, scheme, more in ((drip, "ldaps", {}),
                                (agree, "ldap", {"start_tls": "yes"})):
        with Between(db.port, first) as between:
            got = ask("ldap", db.table(
                server_host=f"{scheme}://127.0.0.1:{between.port}",
                timeout="1s", **more), "alice@example.com")
            assert got.startswith("temporary"), got


@pytest.mark.parametrize("settings,good", [
    ({"server_host": "ldaps://127.0.0.1:{tls}", "tls_require_cert": "yes",
      "tls_ca_cert_file": "{dir}/ca.pem"}, True),
    ({"server_host": "ldaps://127.0.0.1:{tls}", "tls_require_cert": "yes",
      "tls_ca_cert_file": "{dir}/other.pem"}, False),
    # Not the name in the certificate
    ({"server_host": "ldaps://localhost:{tls}", "tls_require_cert": "yes",
      "tls_ca_cert_file": "{dir}/ca.pem"}, False),
    ({"server_host": "ldaps://127.0.0.1:{tls}"}, True),
    ({"server_host": "ldap://127.0.0.1:{port}", "start_tls": "yes",
      "tls_require_cert": "yes", "tls_ca_cert_file": "{dir}/ca.pem"}, True),
    ({"server_host": "ldap://127.0.0.1:{port}", "start_tls": "yes",
      "tls_require_cert": "yes", "tls_ca_cert_file": "{dir}/other.pem"},
     False),
])
def test_tls(db, settings, good):
    settings = {k: v.format(dir=db.dir, port=db.port, tls=db.tls_port)
                for k, v in settings.items()}
    got = ask("ldap", db.table(**settings), "alice@example.com")
    assert got == "found alice@example.com" if good else \
        got.startswith("temporary"), got


def test_sasl_external(db):
    got = ask("ldap", db.table(server_host=db.ldapi, bind="sasl",
                               sasl_mechs="EXTERNAL"), "alice@example.com")
    assert got == "found alice@example.com"


@pytest.mark.parametrize("settings,word", [
    ({"server_host": "http://x"}, "server_host"),
    ({"server_host": " "}, "server_host"),
    ({"server_port": "ldap"}, "server_port"),
    ({"scope": "all"}, "scope"), ({"bind": "perhaps"}, "bind"),
    ({"bind_pw": ""}, "bind_pw"), ({"version": "4"}, "version"),
    ({"version": "2", "start_tls": "yes"}, "start_tls"),
    ({"query_filter": "(cn=%x)"}, "%x"), ({"search_base": "%"}, "search_base"),
    ({"result_attribute": ""}, "result_attribute"),
    ({"tls_ca_cert_file": "/nowhere.pem"}, "tls_"),
    ({"tls_cert": "/nowhere.pem", "tls_key": "/nowhere.pem"}, "tls_"),
    ({"timeout": "0"}, "timeout"), ({"dereference": "9"}, "dereference"),
])
def test_mistakes(db, settings, word):
    got = ask("ldap", db.table(**settings), "")
    assert got.startswith("not opened") and word in got


def test_stopped_hung_restarted(db):
    with Query("ldap", db.table(timeout="3s")) as q:
        assert q.ask("alice@example.com") == "found alice@example.com"
        db.pause()
        try:
            assert q.ask("alice@example.com").startswith("temporary")
            # Left alone for a second: this does not wait.
            assert "lately" in q.ask("alice@example.com")
        finally:
            db.go_on()
        wait_found(q)
        db.stop()
        assert q.ask("alice@example.com").startswith("temporary")
        db.start()
        wait_found(q)
        # An old connection that the server ended meanwhile
        db.stop()
        db.start()
        assert q.ask("alice@example.com") == "found alice@example.com"


# Active Directory's way with large attributes, which slapd has not

def ber(tag, *parts):
    body = b"".join(parts)
    n = len(body)
    size = bytes([n]) if n < 128 else b"\x84" + n.to_bytes(4, "big")
    return bytes([tag]) + size + body


def text(s, tag=4):
    return ber(tag, s if isinstance(s, bytes) else s.encode())


def number(n, tag=2):
    return ber(tag, n.to_bytes(4, "big"))


def unber(data):
    """(tag, contents, rest) of the first element."""
    n, at = data[1], 2
    if n & 128:
        at = 2 + (n & 127)
        n = int.from_bytes(data[2:at], "big")
    return data[0], data[at:at + n], data[at + n:]


def elements(data):
    while data:
        tag, body, data = unber(data)
        yield tag, body


class FakeDirectory:
    """Answers every search, each of which comes in one piece, with answer(base, attributes): a list of (dn,
    {attribute: values}), or raw bytes to be sent, with None for silence."""

    def __init__(self, answer):
        self.answer = answer
        self.searches = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,),
                             daemon=True).start()

    def serve(self, s):
        data = b""
        with s:
            while True:
                try:
                    more = s.recv(65536)
                    if not more:
                        return
                    data += more
                    while data:
                        _, message, data = unber(data)
                        s.sendall(self.reply(message))
                except OSError:
                    return

    def reply(self, message):
        (_, ident), (op, body), *_ = elements(message)
        done = number(0, 10) + text("") + text("")

        def send(tag, *parts):
            return ber(0x30, ber(2, ident), ber(tag, *parts))
        if op == 0x60:
            return send(0x61, done)
        if op != 0x63:
            return b""
        parts = list(elements(body))
        attrs = [a.decode() for _, a in elements(parts[7][1])]
        self.searches.append((parts[0][1].decode(), attrs))
        answer = self.answer(*self.searches[-1])
        if isinstance(answer, bytes):
            return answer
        return b"".join(
            send(0x64, text(dn), ber(0x30, *(
                ber(0x30, text(a), ber(0x31, *map(text, v)))
                for a, v in values.items())))
            for dn, values in answer) + send(0x65, done)

    def close(self):
        self.listener.close()

    def table(self, **more):
        return {"server_host": f"127.0.0.1:{self.port}", "bind": "no",
                "search_base": "dc=corp", "query_filter": "(mail=%s)",
                "timeout": "1s", **MEMBERS, **more}


def ask_fake(answer, key="all@example.com", **settings):
    fake = FakeDirectory(answer)
    try:
        with Query("ldap", fake.table(**settings)) as q:
            return q.ask(key), fake.searches, q.memory()
    finally:
        fake.close()


def test_attribute_in_parts():
    members = [f"cn=u{i}" for i in range(4000)]

    def answer(base, attrs):
        if base.startswith("cn=u"):
            return [(base, {"mail": [base[3:] + "@e.x"]})]
        at = next((int(a[len("member;range="):-2]) for a in attrs
                   if a.startswith("member;range=")), 0)
        part = members[at:at + 1500]
        end = "*" if at + 1500 >= len(members) else at + 1499
        return [("cn=all", {"member;range=%d-%s" % (at, end): part,
                            "member": []} if part else {})]
    got, searches, _ = ask_fake(answer)
    assert got == "found " + ",".join(f"u{i}@e.x" for i in range(4000))
    assert searches[:1] == [("dc=corp", ["mail", "member", "memberURL"])]
    assert ("cn=all", ["member;range=3000-*"]) in searches


def test_directory_that_lies():
    # Parts without end
    n = iter(range(10**9))
    got, searches, _ = ask_fake(lambda base, attrs: [
        ("cn=x", {f"member;range=0-{next(n)}": ["cn=y"]})])
    assert got.startswith("temporary")
    assert len(searches) <= 10000
    # Members of members without end
    got, searches, _ = ask_fake(lambda base, attrs: [
        (base, {"member": [f"cn={next(n)}"]})], recursion_limit=50)
    assert got.startswith("temporary") and len(searches) <= 52
    # A DN that is not one; it is asked for as it is
    assert ask_fake(lambda base, attrs: [
        (base, {"member": ["ldap:///o=x??never?(a=b)"]})])[0].startswith("temporary")
    assert ask_fake(lambda base, attrs: [
        (base, {"member": [b"cn=a\0b"]})])[0].startswith("temporary")
    assert ask_fake(lambda base, attrs: [
        (base, {"mail": [b"a\0b"]})])[0].startswith("temporary")
    # Entries without end, or one that is huge
    got, _, memory = ask_fake(lambda base, attrs: [
        (f"cn={i}", {"mail": ["x" * 1000]}) for i in range(20000)])
    assert got.startswith("temporary")
    # Nonsense, half of an answer, the end
    for raw in (b"nonsense" * 100, b"\x30\x84\x7f\xff\xff\xff\x02\x01",
                b"\x30\x80" * 50, b"\x30\x05\x02\x01\x02", b"\x30\x00", b""):
        assert ask_fake(lambda base, attrs: raw)[0].startswith("temporary")
    # A message of more than 16 MB is not read to its end.
    got, _, memory = ask_fake(
        lambda base, attrs: b"\x30\x84\x40\x00\x00\x00" + b"\x02" * 40000000)
    assert got.startswith("temporary") and memory < 60000 * SLOW, memory


def test_commands(db):
    check_commands("ldap", db.table(), "alice@example.com",
                   "alice@example.com")
