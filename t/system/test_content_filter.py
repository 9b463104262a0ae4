"""A filter outside: mail goes to it after it was queued, and comes back by a
service of its own, which does not filter again."""
import pytest
from postern import Client, Instance, Sink, free_port, mail, run, wait_for
from test_submit import letter, sendmail

RULES = "/^X-Scanned:/ REJECT was here before\n" \
    "/^Subject: other/ FILTER smtp:[127.0.0.1]:%d\n"


class Outside(Sink):
    """Adds a header that the gateway's own rules refuse, and gives the
    message back."""

    def __init__(self, back):
        self.back, self.said = back, []
        super().__init__(self.come)

    def come(self, verb, got):
        if verb != "DOT":
            return None
        if got.field("Subject") == "worm":
            return "554 5.7.1 a worm"
        with Client(self.back) as c:
            c.ehlo("filter.example")
            r = c.message(got.sender, got.rcpts,
                          b"X-Scanned: yes\r\n" + got.text)
        self.said.append(r.text)
        return r.text


@pytest.fixture
def made():
    back = free_port()
    inside, outside, other = Sink(), Outside(back), Sink()
    gw = Instance(inside, main={
        "content_filter": f"smtp:[127.0.0.1]:{outside.port}",
        "virtual_alias_maps": "inline:{ {first@example.com = user@example.com, "
        "again@example.com} }",
        "header_checks": "pcre:header_checks"}, start=False)
    gw.write("header_checks", RULES % other.port)
    gw.edit("master.cf", lambda t: t + f"127.0.0.1:{back} inet n - n - - "
            "smtpd\n  -o content_filter=\n  -o receive_override_options="
            "no_header_body_checks,no_address_mappings,"
            "no_unknown_recipient_checks\n")
    gw.start()
    yield gw, inside, outside, other
    gw.destroy()
    for s in (inside, outside, other):
        s.close()


def test_goes_out_and_comes_back(made):
    gw, inside, outside, other = made
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "first@example.com",
                         mail("plain")).code == 250
        assert c.message("a@client.example", "user@example.com",
                         b"X-Scanned: yes\r\n" + mail("forged")).text == \
            "550 5.7.1 was here before"
        assert c.message("a@client.example", "user@example.com",
                         mail("other")).code == 250
    # aliases were replaced before, and not once more on the way back
    got = inside.wait_subject("plain")
    assert got.text.startswith(b"Received:") and b"X-Scanned: yes" in got.text
    wait_for("both recipients", lambda: sorted(
        r for m in inside.find("plain") for r in m.rcpts) ==
        ["again@example.com", "user@example.com"])
    # the action of a rule names another one
    other.wait_subject("other")
    # it has a message when it has given it back
    outside.wait(1)
    assert [m.field("Subject") for m in outside.messages] == ["plain"]
    assert not inside.find("other") and not inside.find("forged")


def test_local_submission_goes_through_it(made):
    gw, inside, outside, _ = made
    sendmail(gw, "user@example.com", text=letter("local"))
    assert b"X-Scanned: yes" in inside.wait_subject("local").text
    outside.wait(1)
    wait_for("an empty queue", lambda: not gw.queued())
    assert len(outside.messages) == 1


def test_a_refusal_goes_back_past_the_filter(made):
    gw, inside, outside, _ = made
    with gw.client() as c:
        c.ehlo()
        assert c.message("user@example.com", "user@example.com",
                         mail("worm")).code == 250
    # a notice is ours: nothing in it has to be searched
    notice = inside.wait_subject("Undelivered Mail Returned to Sender")
    assert notice.sender == "" and b"a worm" in notice.text
    assert not outside.messages


def test_filter_down(made):
    """It is a destination as any other: mail waits for it, and none goes
    past it."""
    gw, inside, outside, _ = made
    outside.down()
    with gw.client() as c:
        c.ehlo()
        assert c.message("a@client.example", "user@example.com",
                         mail("later")).code == 250
    wait_for("a deferred message", lambda: gw.queued("deferred"))
    assert not inside.messages
    outside.up()
    gw.command("flush")
    inside.wait_subject("later")


def test_bad_value():
    gw = Instance(main={"content_filter": "[127.0.0.1]"}, start=False)
    try:
        p = run(gw.build + "/bin/postern", "-c", gw.etc, "check",
                check=False)
        assert p.returncode != 0
        assert "content_filter: need transport:destination" in \
            p.stdout + p.stderr
    finally:
        gw.destroy()
