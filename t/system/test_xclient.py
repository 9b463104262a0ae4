"""XCLIENT: the session is that of the client that a proxy names."""
import pytest
from milters import Milter
from postern import Instance, Sink, mail


@pytest.fixture
def made():
    sink, milter, gw = Sink(), Milter(), None
    try:
        gw = Instance(sink, main={
            "smtpd_authorized_xclient_hosts": "127.0.0.1",
            "smtpd_milters": milter.where,
            "smtpd_sasl_authenticated_header": "yes", "mynetworks": "127.0.0.0/8"})
        yield gw, sink, milter
    finally:
        if gw:
            gw.destroy()
        milter.close()
        sink.close()


def test_everybody_knows_the_new_client_only(made):
    gw, sink, milter = made
    with gw.client() as c:
        c.ehlo("proxy.example")
        assert c.cmd("XCLIENT NAME=client.example ADDR=IPV6:2001:db8::7 "
                     "PORT=4711 DESTADDR=192.0.2.25 DESTPORT=25").code == 220
        c.ehlo("said.example")
        r = c.message("a@client.example", "user@example.com", mail("as"))
        assert r.code == 250
        c.cmd("QUIT")
    got = sink.wait_subject("as")
    assert "from said.example (client.example [IPv6:2001:db8::7])" in \
        " ".join(got.text.decode().split())
    assert b"proxy.example" not in got.text and b"127.0.0.1" not in got.text
    gw.wait_log(r"client=client\.example\[2001:db8::7\]")
    gw.wait_log(r"disconnect from client\.example\[2001:db8::7\].* xclient=1 ")
    told = milter.last()
    assert told.args("connect") == [(b"client.example",
                                     b"6\x12g2001:db8::7\0")]
    assert told.args("helo") == [b"said.example"]


def test_login(made):
    """Everybody knows it, and AUTH has nothing to add."""
    gw, sink, milter = made
    with gw.client() as c:
        c.ehlo("proxy.example")
        assert c.cmd("XCLIENT LOGIN=joe ADDR=192.0.2.7").code == 220
        c.ehlo("said.example")
        assert c.message("a@client.example", "user@example.com",
                         mail("login")).code == 250
        c.cmd("RSET")
        assert c.cmd("XCLIENT LOGIN=x").code == 550
        c.cmd("QUIT")
    text = sink.wait_subject("login").text.decode()
    assert "(Authenticated sender: joe)" in text and " ESMTPA id " in text
    gw.wait_log(r"client=unknown\[192\.0\.2\.7\], sasl_method=XCLIENT, "
                r"sasl_username=joe")
    assert "joe" in str(milter.last().macros["mail"])


def test_ahead_of_the_new_greeting(made):
    """What a client pipelines behind XCLIENT was said before anybody knew."""
    gw, _, milter = made
    with gw.client() as c:
        c.ehlo("proxy.example")
        c.send(b"XCLIENT ADDR=192.0.2.7\r\nMAIL FROM:<a@client.example>\r\n")
        assert c.reply().text == "554 5.5.0 Error: SMTP protocol " \
            "synchronization"
        assert c.closed()


def test_many_of_them(made):
    """One connection after another, each with its own client."""
    gw, sink, milter = made
    for i in range(20):
        with gw.client() as c:
            for part in (f"ADDR=192.0.2.{i}", f"NAME=c{i}.example"):
                assert c.cmd("XCLIENT " + part).code == 220
            c.ehlo()
            assert c.message("a@client.example", "user@example.com",
                             mail(f"m{i}")).code == 250
    for i in range(20):
        text = sink.wait_subject(f"m{i}").text.decode()
        assert f"(c{i}.example [192.0.2.{i}])" in text
