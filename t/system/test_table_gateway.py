"""Tables of ldap:, mysql:, pgsql: and sqlite: in a gateway: recipients that
are checked, aliases that are expanded, and what happens without a server."""
import os
import re
import shutil
import sqlite3
import tempfile

import pytest

import test_table_ldap
import test_table_mysql
import test_table_pgsql
from postern import LIBEXEC, mail, wait_for


class Sqlite:
    """A file for a server."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="pt-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.path = self.dir + "/mail.db"
        con = sqlite3.connect(self.path)
        con.execute("CREATE TABLE alias (address TEXT, goto TEXT, active INT)")
        con.executemany("INSERT INTO alias VALUES (?, ?, 1)", [
            ("sales@example.com", "bob@example.com"),
            ("sales@example.com", "carol@example.com"),
            ("bob@example.com", "bob@example.com")])
        con.commit()
        con.close()

    def table(self, **more):
        return {"dbpath": self.path, "query": test_table_mysql.QUERY, **more}

    def stop(self):
        os.rename(self.path, self.path + ".away")

    def start(self):
        os.rename(self.path + ".away", self.path)

    def end(self):
        shutil.rmtree(self.dir)


def sql(server, schema):
    def begin():
        d = server()
        try:
            d.sql(schema)
        except BaseException:
            d.end()
            raise
        return d
    return begin


# What makes the server; the settings that make a list of recipients of the
# table, and those that expand staff@example.com or sales@example.com.
KINDS = {
    "ldap": (test_table_ldap, test_table_ldap.Slapd,
             {"result_format": "OK"}, test_table_ldap.MEMBERS,
             "staff@example.com", {"alice@example.com", "bob@example.com"}),
    "mysql": (test_table_mysql,
              sql(test_table_mysql.Mariadb, test_table_mysql.SCHEMA),
              {"result_format": "OK"}, {}, "sales@example.com",
              {"bob@example.com", "carol@example.com"}),
    "pgsql": (test_table_pgsql,
              sql(test_table_pgsql.Postgres, test_table_pgsql.SCHEMA),
              {"result_format": "OK"}, {}, "sales@example.com",
              {"bob@example.com", "carol@example.com"}),
    "sqlite": (None, Sqlite, {"result_format": "OK"}, {},
               "sales@example.com", {"bob@example.com", "carol@example.com"}),
}


@pytest.fixture(params=KINDS)
def kind(request):
    module, begin, recipients, aliases, group, members = KINDS[request.param]
    if not os.path.exists(os.path.join(LIBEXEC, "lookup-" + request.param)):
        pytest.skip("built without the library")
    if module and module.pytestmark.args[0]:
        pytest.skip(module.pytestmark.kwargs["reason"])
    server = begin()
    where = tempfile.mkdtemp(prefix="pt-", dir="/tmp")
    os.chmod(where, 0o755)
    try:
        for name, more in (("recipients", recipients), ("aliases", aliases)):
            with open(f"{where}/{name}.cf", "w") as f:
                # Only root reads the password.
                os.chmod(f.name, 0o600)
                f.writelines(f"{k} = {v}\n" for k, v in
                             server.table(timeout="2s", **more).items())
        yield request.param, server, where, group, members
    finally:
        server.end()
        shutil.rmtree(where)


def rcpt(gw, to):
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<s@client.example>").code == 250
        return c.cmd(f"RCPT TO:<{to}>").code


def test_gateway(kind, make, sink):
    name, server, where, group, members = kind
    gw = make(sink, main={
        "relay_recipient_maps": f"{name}:{where}/recipients.cf",
        "virtual_alias_maps": f"proxy:{name}:{where}/aliases.cf",
        "smtpd_recipient_limit": "50"})
    known = sorted(members)[0]
    assert rcpt(gw, group) == 250
    assert rcpt(gw, "nobody@example.com") == 550
    assert rcpt(gw, "x'or'1'='1@example.com") == 550
    assert rcpt(gw, "*@example.com") == 550

    with gw.client() as c:
        c.ehlo()
        c.envelope("s@client.example", group)
        assert c.data_cmd(mail()).code == 250
    wait_for("the members", lambda: {r for m in sink.messages for r in m.rcpts}
             >= members)
    assert {r for m in sink.messages for r in m.rcpts} == members

    # No word of the password, in the log or on a command line
    assert "s3cret" not in gw.log() and "ret $x" not in gw.log()
    assert gw.pids("lookup-" + name)

    # Without the server nobody is refused for good.
    server.stop()
    assert rcpt(gw, group) == 451
    assert rcpt(gw, known) == 451
    assert rcpt(gw, "nobody@example.com") == 451
    assert re.search(rf"warning: table {name}:", gw.log())
    server.start()
    wait_for("the server again", lambda: rcpt(gw, group) == 250, 30)
    # the other table has a connection of its own
    wait_for("a refusal", lambda: rcpt(gw, "nobody@example.com") == 550, 30)
