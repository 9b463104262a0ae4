"""mysql: tables, over a MariaDB server of the test's own."""
import os
import shutil
import socket

import pytest

from engine_help import (Between, Daemon, Query, Silent, ask, certificates,
                         check_commands, check_rows, run)
from postern import BUILD, free_port, wait_for

pytestmark = pytest.mark.skipif(
    not os.path.exists(os.path.join(BUILD, "t/tools/query-mysql"))
    or not shutil.which("mariadbd"), reason="no MariaDB")

QUERY = "SELECT goto FROM alias WHERE address = '%s' AND active = 1"
SCHEMA = """
CREATE DATABASE mail CHARACTER SET utf8mb4;;
USE mail;;
CREATE TABLE alias (address VARCHAR(255), goto VARCHAR(255), active INT);;
INSERT INTO alias VALUES
  ('info@example.com', 'alice@example.com', 1),
  ('sales@example.com', 'bob@example.com', 1),
  ('sales@example.com', 'carol@example.com', 1),
  ('old@example.com', 'gone@example.com', 0),
  ('null@example.com', NULL, 1),
  ('empty@example.com', '', 1),
  ('o''brien@example.com', 'quote@example.com', 1),
  ('back\\\\slash@example.com', 'backslash@example.com', 1),
  ('jürgen@example.com', 'jürgen@inside.example', 1),
  ('nul@example.com', 'a\\0b', 1);;
CREATE TABLE many (goto VARCHAR(255));;
INSERT INTO many SELECT concat('user', seq, '@example.com')
  FROM seq_1_to_300000;;
CREATE PROCEDURE find(k VARCHAR(255))
  SELECT goto FROM alias WHERE address = k AND active = 1;;
CREATE PROCEDURE twice(k VARCHAR(255))
  BEGIN SELECT 'one'; SELECT 'two'; END;;
CREATE PROCEDURE silent(k VARCHAR(255)) SET @x = k;;
CREATE USER reader@'%' IDENTIFIED BY 'sec"ret $x';;
GRANT SELECT, EXECUTE ON mail.* TO reader@'%';;
"""


class Mariadb(Daemon):
    user = "mysql"

    def prepare(self):
        self.socket = os.path.join(self.dir, "s")
        certificates(self.dir)
        if self.become:
            run("chown", self.user, self.dir + "/key.pem")
        self.run("mariadb-install-db", "--no-defaults",
                 "--datadir=" + self.dir + "/data", "--skip-test-db",
                 "--auth-root-authentication-method=normal")

    def command(self):
        return ["mariadbd", "--no-defaults", "--datadir=" + self.dir + "/data",
                "--socket=" + self.socket, "--bind-address=127.0.0.1",
                f"--port={self.port}", "--innodb-flush-method=fsync",
                "--innodb-buffer-pool-size=8M", "--skip-name-resolve",
                "--pid-file=" + self.dir + "/pid",
                "--innodb-log-file-size=4M",
                *(f"--ssl-{k}={self.dir}/{k}.pem"
                  for k in ("ca", "cert", "key"))]

    def ready(self):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(self.socket)
            return True
        except OSError:
            return False

    def sql(self, text):
        """Statements, ";;" between them."""
        return run("mariadb", "--no-defaults", "-uroot", "-S", self.socket,
                   "--default-character-set=utf8mb4", "--delimiter=;;", "-N",
                   input=text)

    def table(self, **more):
        return {"hosts": "unix:" + self.socket, "user": "reader",
                "password": 'sec"ret $x', "dbname": "mail", "query": QUERY,
                **more}


@pytest.fixture(scope="module")
def db():
    d = Mariadb()
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
        "nul@example.com": "wrong",
        "o'brien@example.com": "found quote@example.com",
        "back\\slash@example.com": "found backslash@example.com",
        "jürgen@example.com": "found jürgen@inside.example",
        "j\\xfcrgen@example.com": "none",
        "info@example.com\\x00": "none",
        "": "none",
        "' OR '1'='1": "none",
        "\\' OR 1=1 -- ": "none",
        "\\xbf' OR 1=1 -- ": "none",
        "x' UNION SELECT user FROM mysql.user -- ": "none",
        "x'; DELETE FROM alias; -- ": "none",
        "%": "none",
        '" OR 1=1 -- ': "none",
    }),
    ({"query": "SELECT goto FROM alias WHERE address = \"%s\""}, {
        "info@example.com": "found alice@example.com",
        '" OR "1"="1': "none",
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
    ({"query": "CALL find('%s')"}, {
        "info@example.com": "found alice@example.com",
        "nobody@example.com": "none",
        "o'brien@example.com": "found quote@example.com",
        "sales@example.com": "found bob@example.com,carol@example.com",
    }),
    ({"query": "CALL twice('%s')"}, {"a": "temporary", "b": "temporary"}),
    ({"query": "CALL silent('%s')"}, {"a": "temporary"}),
    ({"query": "CALL silent('%s')", "require_result_set": "no"},
     {"a": "none", "b": "none"}),
    ({"query": "SELECT 1; SELECT '%s'"}, {"a": "temporary"}),
    ({"query": "SELECT nothing FROM alias WHERE address = '%s'"},
     {"a": "temporary"}),
    ({"query": "SELECT sleep(30), '%s'", "timeout": "1s"},
     {"a": "temporary"}),
    ({"password": "wrong"}, {"info@example.com": "temporary"}),
    ({"dbname": "other"}, {"info@example.com": "temporary"}),
    ({"charset": "latin1"}, {"jürgen@example.com": "none",
                             "info@example.com": "found alice@example.com"}),
    ({"query": "", "table": "alias", "select_field": "goto",
      "where_field": "address", "additional_conditions": "AND active = 1"}, {
          "info@example.com": "found alice@example.com",
          "old@example.com": "none",
    }),
]


def test_answers(db):
    rows = [({k: v for k, v in s.items()}, a) for s, a in CASES]
    old = [r for r in rows if r[0].get("query") == ""]
    check_rows("mysql", db.table(), [r for r in rows if r not in old])
    plain = {k: v for k, v in db.table().items() if k != "query"}
    check_rows("mysql", plain, [({k: v for k, v in s.items() if v}, a)
                                for s, a in old])
    assert db.sql("SELECT count(*) FROM mail.alias").strip() == "10"


def test_server_without_backslash_escapes(db):
    """Quoting there is another one."""
    old = db.sql("SELECT @@global.sql_mode").strip()
    db.sql(f"SET GLOBAL sql_mode = '{old},NO_BACKSLASH_ESCAPES'")
    try:
        with Query("mysql", db.table()) as q:
            assert q.ask("o'brien@example.com") == "found quote@example.com"
            assert q.ask("\\' OR 1=1 -- ") == "none"
            assert q.ask("' OR 1=1 -- ") == "none"
            assert q.ask('" OR 1=1 -- ').startswith("temporary")
    finally:
        db.sql(f"SET GLOBAL sql_mode = '{old}'")


def test_no_memory_for_rows_unread(db):
    with Query("mysql", db.table(query="SELECT repeat('x', 1000) FROM many "
                                 "WHERE '%s' <> ''")) as q:
        q.ask("nobody")
        before = q.memory()
        assert q.ask("a").startswith("temporary")
        assert q.memory() - before < 20000


@pytest.mark.parametrize("hosts", [
    "unix:{socket}", "127.0.0.1:{port}", "inet:127.0.0.1:{port}",
    "[127.0.0.1]:{port}",
    # The first is not there
    "unix:/nowhere {socket_too}", "127.0.0.1:{closed}, 127.0.0.1:{port}",
])
def test_hosts(db, hosts):
    hosts = hosts.format(socket=db.socket, port=db.port, closed=free_port(),
                         socket_too="unix:" + db.socket)
    with Query("mysql", db.table(hosts=hosts)) as q:
        for _ in range(5):
            assert q.ask("info@example.com") == "found alice@example.com"


def test_first_server_hangs(db):
    with Silent() as silent:
        # A socket is asked before a port.
        with Query("mysql", db.table(
                hosts=f"127.0.0.1:{silent.port}, 127.0.0.1:{db.port}",
                timeout="1s", idle_interval="1000s")) as q:
            for _ in range(20):
                assert q.ask("info@example.com") == "found alice@example.com"
        # One of both by chance, until there is a connection to one.
        assert silent.count <= 1
        with Query("mysql", db.table(
                hosts=f"127.0.0.1:{silent.port}", timeout="1s")) as q:
            assert q.ask("info@example.com").startswith("temporary")


def no_tls(client, server):
    """The server's greeting without the capability."""
    greeting = bytearray(server.recv(65536))
    at = greeting.index(0, 5) + 1 + 4 + 8 + 1
    assert greeting[at + 1] & 0x08
    greeting[at + 1] &= ~0x08
    client.sendall(greeting)


@pytest.mark.parametrize("host,ca,verify,good", [
    ("127.0.0.1", "ca", "yes", True),
    ("127.0.0.1", "ca", "no", True),
    ("127.0.0.1", "other", "yes", False),
    # Not the name in the certificate
    ("localhost", "ca", "yes", False),
])
def test_tls(db, host, ca, verify, good):
    settings = db.table(hosts=f"{host}:{db.port}", tls_verify_cert=verify,
                        tls_CAfile=f"{db.dir}/{ca}.pem",
                        query="SELECT variable_value <> '' FROM "
                        "information_schema.session_status WHERE "
                        "variable_name = 'Ssl_cipher' AND '%s' <> ''")
    got = ask("mysql", settings, "info@example.com")
    assert got == "found 1" if good else got.startswith("temporary"), got


def test_tls_is_not_talked_out_of(db):
    with Between(db.port, no_tls) as between:
        settings = db.table(hosts=f"127.0.0.1:{between.port}")
        assert ask("mysql", settings, "info@example.com") == \
            "found alice@example.com"
        got = ask("mysql", {**settings, "tls_verify_cert": "yes",
                            "tls_CAfile": db.dir + "/ca.pem"},
                  "info@example.com")
        assert got.startswith("temporary") and "SSL" in got, got


def test_silence_instead_of_a_handshake(db):
    """The server greets, takes what comes, and says nothing any more."""
    def greet(client, server):
        client.sendall(server.recv(65536))
        while client.recv(65536):
            pass
    with Between(db.port, greet) as between:
        settings = db.table(hosts=f"127.0.0.1:{between.port}", timeout="1s")
        assert ask("mysql", settings, "a@b").startswith("temporary")
        assert ask("mysql", {**settings, "tls_verify_cert": "yes",
                             "tls_CAfile": db.dir + "/ca.pem"},
                   "a@b").startswith("temporary")


@pytest.mark.parametrize("settings,word", [
    ({"hosts": "unix:"}, "unix:"), ({"hosts": "127.0.0.1:x"}, "127.0.0.1:x"),
    ({"hosts": " ,"}, "hosts"), ({"query": ""}, "query"),
    ({"query": "SELECT goto FROM alias WHERE address = %s"}, "single quotes"),
    ({"query": "SELECT '%q'"}, "%q"), ({"timeout": "soon"}, "timeout"),
    ({"tls_verify_cert": "yes"}, "tls_CAfile"),
])
def test_mistakes(db, settings, word):
    got = ask("mysql", db.table(**settings), "")
    assert got.startswith("not opened") and word in got


def test_option_file(db, tmp_path):
    path = tmp_path / "my.cnf"
    path.write_text("[client]\nuser=nobody\n"
                    "[postern]\nuser=reader\npassword='sec\"ret $x'\n")
    path.chmod(0o644)
    settings = {"hosts": "unix:" + db.socket, "dbname": "mail",
                "query": QUERY, "option_file": str(path)}
    assert ask("mysql", {**settings, "option_group": "postern"},
               "info@example.com") == "found alice@example.com"
    assert ask("mysql", settings, "info@example.com").startswith("temporary")


def test_stopped_hung_restarted(db):
    with Query("mysql", db.table(timeout="3s")) as q:
        assert q.ask("info@example.com") == "found alice@example.com"
        db.pause()
        try:
            assert q.ask("info@example.com").startswith("temporary")
            # Left alone for a second: this does not wait.
            assert "lately" in q.ask("info@example.com")
        finally:
            db.go_on()
        q.send("info@example.com")
        q.reply()
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
    check_commands("mysql", db.table(), "info@example.com",
                   "alice@example.com")
