"""sqlite: tables, over real databases."""
import os
import shutil
import sqlite3
import time

import pytest

from engine_help import Query, ask, check_commands, check_rows
from postern import BUILD

pytestmark = pytest.mark.skipif(
    not os.path.exists(os.path.join(BUILD, "t/tools/query-sqlite")),
    reason="built without SQLite")

QUERY = "SELECT goto FROM alias WHERE address = '%s' AND active = 1"
ROWS = [
    ("info@example.com", "alice@example.com", 1),
    ("sales@example.com", "bob@example.com", 1),
    ("sales@example.com", "carol@example.com", 1),
    ("old@example.com", "gone@example.com", 0),
    ("null@example.com", None, 1),
    ("empty@example.com", "", 1),
    ("o'brien@example.com", "quote@example.com", 1),
    ("jürgen@example.com", "jürgen@inside.example", 1),
    ("@example.org", "all@example.org", 1),
    ("example.net", "relay:[192.0.2.1]", 1),
    ("number@example.com", 42, 1),
    ("nul@example.com", "a\0b", 1),
    ("alice", "al", 1),
]


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("sqlite") / "mail.db")
    con = sqlite3.connect(path)
    con.execute("CREATE TABLE alias (address TEXT, goto, active INT)")
    con.executemany("INSERT INTO alias VALUES (?, ?, ?)", ROWS)
    con.executemany("INSERT INTO alias VALUES (?, ?, 1)",
                    [("many@example.com", f"user{i}@example.com")
                     for i in range(20000)])
    con.commit()
    con.close()
    return path


CASES = [
    ({"query": QUERY}, {
        "info@example.com": "found alice@example.com",
        "sales@example.com": "found bob@example.com,carol@example.com",
        "old@example.com": "none",
        "nobody@example.com": "none",
        "null@example.com": "none",
        "empty@example.com": "none",
        "number@example.com": "found 42",
        "nul@example.com": "wrong",
        "o'brien@example.com": "found quote@example.com",
        "jürgen@example.com": "found jürgen@inside.example",
        # Not UTF-8, and a NUL: in no table
        "j\\xfcrgen@example.com": "none",
        "info@example.com\\x00": "none",
        "": "none",
        # Keys that want to be something else
        "' OR '1'='1": "none",
        "x' UNION SELECT sql FROM sqlite_master --": "none",
        "x'; DELETE FROM alias; --": "none",
        "x\\' OR 1=1 --": "none",
        "\\xbf' OR 1=1 --": "none",
        "%": "none",
        # More than fits
        "many@example.com": "temporary",
    }),
    ({"query": QUERY, "domain": "example.com, example.org"}, {
        "info@example.com": "found alice@example.com",
        "alice": "none",
        "example.net": "none",
        "@example.org": "none",
    }),
    ({"query": "SELECT goto FROM alias WHERE address = '%u@%d'"}, {
        "info@example.com": "found alice@example.com",
        "alice": "none",
    }),
    ({"query": "SELECT '%2' || '/' || '%1' || '/' || '%u'"}, {
        "info@mail.example.com": "found example/com/info",
        "info@com": "none",
    }),
    ({"query": QUERY, "result_format": "smtp:[%d]:25"}, {
        "info@example.com": "found smtp:[example.com]:25",
        "number@example.com": "none",
    }),
    ({"query": QUERY, "result_format": "%s (for %S)"}, {
        "info@example.com": "found alice@example.com (for info@example.com)",
    }),
    ({"query": QUERY, "expansion_limit": 2}, {
        "sales@example.com": "found bob@example.com,carol@example.com",
        "many@example.com": "temporary",
    }),
    ({"query": QUERY, "expansion_limit": 1}, {
        "info@example.com": "found alice@example.com",
        "sales@example.com": "temporary",
    }),
    # The form of before "query"
    ({"table": "alias", "select_field": "goto", "where_field": "address",
      "additional_conditions": "AND active = 1"}, {
          "info@example.com": "found alice@example.com",
          "old@example.com": "none",
          "o'brien@example.com": "found quote@example.com",
    }),
    # Only one statement, only a SELECT, only this database
    ({"query": "SELECT 1 WHERE '%s' <> ''; SELECT 2"}, {"x": "temporary"}),
    ({"query": "DELETE FROM alias WHERE address = '%s'"}, {"x": "temporary"}),
    ({"query": "ATTACH '/tmp/%s' AS other"}, {"x": "temporary"}),
    ({"query": "SELECT load_extension('%s')"}, {"x": "temporary"}),
    ({"query": "SELECT nothing FROM alias WHERE address = '%s'"},
     {"x": "temporary"}),
    # A query that does not end
    ({"query": "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 "
      "FROM c) SELECT max(x) FROM c WHERE '%s' <> ''", "timeout": "1s"},
     {"x": "temporary"}),
]


@pytest.mark.parametrize("settings,answers", CASES)
def test_answers(db, settings, answers):
    check_rows("sqlite", {"dbpath": db}, [(settings, answers)])
    con = sqlite3.connect(db)
    assert con.execute("SELECT count(*) FROM alias").fetchone()[0] == \
        len(ROWS) + 20000
    con.close()


@pytest.mark.parametrize("settings,word", [
    ({"query": QUERY}, "dbpath"),
    ({"query": QUERY, "dbpath": "relative.db"}, "dbpath"),
    ({"dbpath": "/x"}, "query"),
    ({"dbpath": "/x", "query": 'SELECT goto FROM a WHERE b = "%s"'},
     "single quotes"),
    ({"dbpath": "/x", "query": "SELECT goto FROM a WHERE b = %s"},
     "single quotes"),
    ({"dbpath": "/x", "query": "SELECT '%z'"}, "%z"),
    ({"dbpath": "/x", "query": QUERY, "expansion_limit": "many"},
     "expansion_limit"),
    ({"dbpath": "/x", "query": QUERY, "timeout": "0"}, "timeout"),
])
def test_mistakes(settings, word):
    got = ask("sqlite", settings, "")
    assert got.startswith("not opened") and word in got


def test_file_comes_goes_changes(db, tmp_path):
    path = str(tmp_path / "x.db")
    with Query("sqlite", {"dbpath": path, "query": QUERY}) as q:
        assert q.ask("info@example.com").startswith("temporary")
        shutil.copy(db, path)
        # A file that failed is left alone for a second.
        time.sleep(1.1)
        assert q.ask("info@example.com") == "found alice@example.com"
        con = sqlite3.connect(path)
        con.execute("UPDATE alias SET goto = 'new@example.com' "
                    "WHERE address = 'info@example.com'")
        assert q.ask("info@example.com") == "found alice@example.com"
        con.commit()
        con.close()
        assert q.ask("info@example.com") == "found new@example.com"
        # Put in place of the old one, as a tool that is careful does it
        shutil.copy(db, path + ".new")
        os.rename(path + ".new", path)
        assert q.ask("info@example.com") == "found alice@example.com"
        with open(path, "r+b") as f:
            f.write(b"this is no database" * 1000)
        assert q.ask("info@example.com").startswith("temporary")


def test_locked(db, tmp_path):
    path = str(tmp_path / "x.db")
    shutil.copy(db, path)
    con = sqlite3.connect(path, isolation_level=None)
    con.execute("BEGIN EXCLUSIVE")
    with Query("sqlite", {"dbpath": path, "query": QUERY,
                          "timeout": "1s"}) as q:
        assert "locked" in q.ask("info@example.com")
        con.execute("COMMIT")
        assert q.ask("info@example.com") == "found alice@example.com"
    con.close()


def test_commands(db):
    check_commands("sqlite", {"dbpath": db, "query": QUERY}, "info@example.com",
                   "alice@example.com")
