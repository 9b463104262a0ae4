"""pgsql: tables, over a PostgreSQL server of the test's own."""
import glob
import os
import signal
import socket

import pytest

from engine_help import (Between, Daemon, Query, Silent, ask, certificates,
                         check_commands, check_rows, run)
from postern import BUILD, free_port, wait_for

POSTGRES = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1:]
pytestmark = pytest.mark.skipif(
    not os.path.exists(os.path.join(BUILD, "t/tools/query-pgsql"))
    or not POSTGRES, reason="no PostgreSQL")

QUERY = "SELECT goto FROM alias WHERE address = '%s' AND active = 1"
SCHEMA = r"""
CREATE TABLE alias (address TEXT, goto TEXT, active INT);
INSERT INTO alias VALUES
  ('info@example.com', 'alice@example.com', 1),
  ('sales@example.com', 'bob@example.com', 1),
  ('sales@example.com', 'carol@example.com', 1),
  ('old@example.com', 'gone@example.com', 0),
  ('null@example.com', NULL, 1),
  ('empty@example.com', '', 1),
  ('o''brien@example.com', 'quote@example.com', 1),
  ('back\slash@example.com', 'backslash@example.com', 1),
  ('jürgen@example.com', 'jürgen@inside.example', 1);
CREATE TABLE many AS SELECT 'user' || n || '@example.com' AS goto
  FROM generate_series(1, 300000) AS n;
CREATE FUNCTION find(k TEXT) RETURNS SETOF TEXT LANGUAGE sql AS
  $$ SELECT goto FROM alias WHERE address = k AND active = 1 $$;
CREATE USER reader PASSWORD 'sec''ret $x';
GRANT SELECT, DELETE ON alias, many TO reader;
"""


class Postgres(Daemon):
    user = "postgres"

    def prepare(self):
        self.data = os.path.join(self.dir, "data")
        certificates(self.dir)
        if self.become:
            run("chown", self.user, self.dir + "/key.pem")
        self.run(POSTGRES[0] + "/initdb", "-D", self.data, "-U", "postgres",
                 "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8")
        with open(self.data + "/pg_hba.conf", "w") as f:
            f.write("local all postgres trust\n"
                    "local all all scram-sha-256\n"
                    "host all all 127.0.0.1/32 scram-sha-256\n")

    def command(self):
        return [POSTGRES[0] + "/postgres", "-D", self.data, "-k", self.dir,
                "-h", "127.0.0.1", "-p", str(self.port), "-F",
                "-c", "shared_buffers=8MB", "-c", "max_connections=20",
                "-c", "ssl=on", "-c", f"ssl_cert_file={self.dir}/cert.pem",
                "-c", f"ssl_key_file={self.dir}/key.pem"]

    def ready(self):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(f"{self.dir}/.s.PGSQL.{self.port}")
            return self.sql("SELECT 1").strip() == "1"
        except (OSError, AssertionError):
            return False

    def sql(self, text):
        return self.run(POSTGRES[0] + "/psql", "-X", "-q", "-A", "-t", "-v",
                        "ON_ERROR_STOP=1", "-h", self.dir, "-p",
                        str(self.port), "-U", "postgres", "-d", "postgres",
                        input=text)

    def stop(self, how=signal.SIGINT):
        # SIGTERM would wait for the clients to go.
        super().stop(how)

    def pause(self):
        # Each connection has a process of its own.
        self.children = [int(p) for t in glob.glob(
            f"/proc/{self.proc.pid}/task/*/children")
            for p in open(t).read().split()]
        super().pause()
        for pid in self.children:
            os.kill(pid, signal.SIGSTOP)

    def go_on(self):
        for pid in self.children:
            os.kill(pid, signal.SIGCONT)
        super().go_on()

    def table(self, **more):
        return {"hosts": f"127.0.0.1:{self.port}", "user": "reader",
                "password": "sec'ret $x", "dbname": "postgres",
                "query": QUERY, **more}


@pytest.fixture(scope="module")
def db():
    d = Postgres()
    try:
        d.sql(SCHEMA)
        yield d
    finally:
        d.end()


def wait_found(q):
    wait_for("the server again", lambda: q.ask("info@example.com") ==
             "found alice@example.com")


CASES = [
    ({}, {
        "info@example.com": "found alice@example.com",
        "sales@example.com": "found bob@example.com,carol@example.com",
        "old@example.com": "none",
        "nobody@example.com": "none",
        "null@example.com": "none",
        "empty@example.com": "none",
        "o'brien@example.com": "found quote@example.com",
        "back\\slash@example.com": "found backslash@example.com",
        "jürgen@example.com": "found jürgen@inside.example",
        "j\\xfcrgen@example.com": "none",
        "info@example.com\\x00": "none",
        "": "none",
        "' OR '1'='1": "none",
        "\\' OR 1=1 -- ": "none",
        "\\xbf' OR 1=1 -- ": "none",
        "x' UNION SELECT usename FROM pg_user -- ": "none",
        "x'; DELETE FROM alias; -- ": "none",
        "%": "none",
    }),
    ({"domain": "example.com"}, {
        "info@example.com": "found alice@example.com",
        "info@example.org": "none",
        "info": "none",
    }),
    ({"query": "SELECT goto FROM alias WHERE address = '%u@%d'",
      "result_format": "smtp:[%d]"}, {
        "info@example.com": "found smtp:[example.com]",
        "info": "none",
    }),
    ({"expansion_limit": 1}, {
        "info@example.com": "found alice@example.com",
        "sales@example.com": "temporary",
    }),
    ({"query": "SELECT goto FROM many WHERE '%s' <> ''"}, {
        "a": "temporary", "b": "temporary",
    }),
    ({"query": "SELECT * FROM find('%s')"}, {
        "info@example.com": "found alice@example.com",
        "o'brien@example.com": "found quote@example.com",
        "nobody@example.com": "none",
    }),
    ({"query": "SELECT 1; DELETE FROM alias WHERE '%s' <> ''"},
     {"a": "temporary"}),
    ({"query": "DELETE FROM many WHERE goto = '%s'"}, {"a": "temporary"}),
    ({"query": "SELECT nothing FROM alias WHERE address = '%s'"},
     {"a": "temporary", "b": "temporary"}),
    ({"query": "SELECT pg_sleep(30), '%s'", "timeout": "1s"},
     {"a": "temporary"}),
    ({"password": "wrong"}, {"info@example.com": "temporary"}),
    ({"dbname": "other"}, {"info@example.com": "temporary"}),
    ({"encoding": "LATIN1"}, {"info@example.com": "found alice@example.com",
                              "jürgen@example.com": "none"}),
]
OLD = [
    ({"table": "alias", "select_field": "goto", "where_field": "address",
      "additional_conditions": "AND active = 1"}, {
          "info@example.com": "found alice@example.com",
          "old@example.com": "none",
    }),
    ({"select_function": "find"}, {
        "info@example.com": "found alice@example.com",
        "old@example.com": "none",
    }),
]


def test_answers(db):
    check_rows("pgsql", db.table(), CASES)
    plain = {k: v for k, v in db.table().items() if k != "query"}
    check_rows("pgsql", plain, OLD)
    assert db.sql("SELECT count(*) FROM alias").strip() == "9"


def test_no_memory_for_rows_unread(db):
    with Query("pgsql", db.table(query="SELECT repeat('x', 1000) FROM many "
                                 "WHERE '%s' <> ''")) as q:
        q.ask("nobody")
        before = q.memory()
        assert q.ask("a").startswith("temporary")
        assert q.memory() - before < 20000


@pytest.mark.parametrize("hosts", [
    "unix:{dir}", "unix:{dir}/.s.PGSQL.{port}", "inet:127.0.0.1:{port}",
    "[127.0.0.1]:{port}",
    "postgresql://reader@127.0.0.1:{port}/postgres",
    "postgresql://127.0.0.1:{port}/?connect_timeout=5",
    "127.0.0.1:{closed}, 127.0.0.1:{port}",
    "unix:/nowhere 127.0.0.1:{port}",
])
def test_hosts(db, hosts):
    settings = db.table(hosts=hosts.format(dir=db.dir, port=db.port,
                                           closed=free_port()))
    if "unix:{dir}" == hosts:
        # A directory alone means the usual port.
        assert ask("pgsql", settings, "info@example.com").startswith(
            "temporary")
        return
    with Query("pgsql", settings) as q:
        for _ in range(5):
            assert q.ask("info@example.com") == "found alice@example.com"


def test_first_server_hangs(db):
    with Silent() as silent:
        with Query("pgsql", db.table(
                hosts=f"127.0.0.1:{silent.port}, 127.0.0.1:{db.port}",
                timeout="1s", idle_interval="1000s")) as q:
            for _ in range(20):
                assert q.ask("info@example.com") == "found alice@example.com"
        # One of both by chance, until there is a connection to one.
        assert silent.count <= 1
        with Query("pgsql", db.table(
                hosts=f"127.0.0.1:{silent.port}", timeout="1s")) as q:
            assert q.ask("info@example.com").startswith("temporary")


def no_tls(client, server):
    """Nothing but an answer to SSLRequest."""
    client.recv(8)
    client.sendall(b"N")


TLS = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND '%s' <> ''"


@pytest.mark.parametrize("host,mode,ca,good", [
    ("127.0.0.1", "verify-full", "ca", True),
    ("127.0.0.1", "require", "ca", True),
    ("127.0.0.1", "verify-full", "other", False),
    ("127.0.0.1", "verify-ca", "other", False),
    # Not the name in the certificate
    ("localhost", "verify-full", "ca", False),
])
def test_tls(db, host, mode, ca, good):
    settings = db.table(query=TLS, hosts=f"postgresql://{host}:{db.port}/"
                        f"?sslmode={mode}&sslrootcert={db.dir}/{ca}.pem")
    got = ask("pgsql", settings, "info@example.com")
    assert got == "found t" if good else got.startswith("temporary"), got


def test_tls_is_not_talked_out_of(db):
    with Between(db.port, no_tls) as between:
        uri = f"postgresql://127.0.0.1:{between.port}/?sslmode="
        assert ask("pgsql", db.table(hosts=uri + "prefer", query=TLS),
                   "info@example.com") == "found f"
        got = ask("pgsql", db.table(hosts=uri + "require", query=TLS),
                  "info@example.com")
        assert got.startswith("temporary") and "SSL" in got, got


def test_silence_instead_of_a_handshake(db):
    def agree(client, server):
        client.recv(8)
        client.sendall(b"S")
        while client.recv(65536):
            pass
    with Between(db.port, agree) as between:
        uri = f"postgresql://127.0.0.1:{between.port}/?sslmode=require"
        got = ask("pgsql", db.table(hosts=uri, timeout="1s"), "a@b")
        assert got.startswith("temporary"), got


@pytest.mark.parametrize("settings,word", [
    ({"hosts": "unix:"}, "unix:"), ({"hosts": "127.0.0.1:x"}, "127.0.0.1:x"),
    ({"query": "SELECT '%q'"}, "%q"),
    ({"query": "SELECT goto FROM alias WHERE address = %s"}, "single quotes"),
    ({"query": "SELECT goto FROM alias WHERE \"%s\" = ''"}, "single quotes"),
    # A backslash would leave the string.
    ({"query": "SELECT goto FROM alias WHERE address = E'%s'"},
     "single quotes"),
    ({"timeout": "soon"}, "timeout"),
])
def test_mistakes(db, settings, word):
    got = ask("pgsql", db.table(**settings), "")
    assert got.startswith("not opened") and word in got


def test_stopped_hung_restarted(db):
    with Query("pgsql", db.table(timeout="3s")) as q:
        assert q.ask("info@example.com") == "found alice@example.com"
        db.pause()
        try:
            assert q.ask("info@example.com").startswith("temporary")
            # Left alone for a second: this does not wait.
            assert "lately" in q.ask("info@example.com")
        finally:
            db.go_on()
        wait_found(q)
        db.stop()
        assert q.ask("info@example.com").startswith("temporary")
        db.start()
        wait_found(q)
        # An old connection that the server ended meanwhile
        db.stop()
        db.start()
        assert q.ask("info@example.com") == "found alice@example.com"


def test_commands(db):
    check_commands("pgsql", db.table(), "info@example.com",
                   "alice@example.com")
