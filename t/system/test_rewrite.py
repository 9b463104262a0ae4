"""Rewriting in a whole gateway: what the cases do not show."""
import re

import pytest
from postern import Instance, Sink, mail, wait_for
from test_submit import sendmail

LOCAL = "permit_mynetworks"


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


def gateway(sink, **main):
    return Instance(sink, main=main)


def closing(gw):
    wait_for("an empty queue", lambda: not gw.queued())
    gw.destroy()


def test_expansion_to_500(sink):
    gw = Instance(sink, start=False, main={
        "virtual_alias_maps": "texthash:$config_directory/v"})
    gw.write("v", "all@example.com " + ", ".join(
        f"u{i}@example.com" for i in range(500)) + "\n")
    gw.start()
    with gw.client() as c:
        c.ehlo()
        r = c.message("s@client.example", "all@example.com", mail("all"))
        assert r.code == 250
    wait_for("500 recipients", lambda: sum(
        len(m.rcpts) for m in sink.find("all")) == 500, 30)
    rcpts = {r for m in sink.find("all") for r in m.rcpts}
    assert rcpts == {f"u{i}@example.com" for i in range(500)}
    gw.wait_log(r"from=<s@client.example>, size=\d+, nrcpt=500 ")
    gw.wait_log(r"to=<u7@example.com>, orig_to=<all@example.com>, relay=")
    closing(gw)


def test_loop_and_failing_table_refuse(sink):
    gw = gateway(sink, virtual_alias_maps="inline:{ "
                 "{a@example.com=b@example.com} {b@example.com=a@example.com}"
                 " {bad@example.com=,} }")
    gw.expect_log("message not accepted, try again later")
    with gw.client() as c:
        c.ehlo()
        for rcpt, status in (("a", "4.6.0"), ("bad", "4.3.0")):
            r = c.message("s@client.example", rcpt + "@example.com",
                          mail("loop"))
            assert r.code == 451 and status in r.text, r
        r = c.message("s@client.example", "ok@example.com", mail("ok"))
        assert r.code == 250
    sink.wait_subject("ok")
    assert not sink.find("loop")
    gw.wait_log("unreasonable virtual_alias_maps map nesting for a@")
    closing(gw)


def test_signed_headers_of_remote_clients(sink):
    """Without local_header_rewrite_clients not a byte changes."""
    text = (b"DKIM-Signature: v=1; h=from:to; b=xx\r\n"
            b"From:  joe (Joe)\r\nTo: a!b ,\r\n\t <x@sub.example.com>\r\n"
            b"Cc: list@example.com\r\nSubject: signed\r\n\r\ntext\r\n")
    gw = gateway(sink, local_header_rewrite_clients="",
                 canonical_maps="inline:{ {list@example.com=l@example.com} }",
                 masquerade_domains="example.com",
                 virtual_alias_maps="inline:{ {u@example.com=v@example.com}}")
    with gw.client() as c:
        c.ehlo()
        r = c.message("s@sub.example.com", ["list@example.com",
                                            "u@example.com"], text)
        assert r.code == 250
    m = sink.wait_subject("signed")
    assert m.text.endswith(text)
    assert m.sender == "s@example.com"
    assert sorted(m.rcpts) == ["l@example.com", "v@example.com"]
    closing(gw)


def test_rules_and_rewriting(sink):
    """What header_checks made of a header is rewritten; BCC is mapped."""
    gw = gateway(sink, local_header_rewrite_clients=LOCAL,
                 header_checks="pcre:{ {/^To: (.*)/ REPLACE To: new$$1} "
                 "{/^Cc:/ IGNORE} {/^Subject: copy/ BCC copy@example.com} }",
                 canonical_maps="inline:{ {newme@example.com=you@example.com}"
                 " {cc@example.com=x@example.com} }",
                 virtual_alias_maps="inline:{ "
                 "{copy@example.com=c1@example.com, c2@example.com} }")
    with gw.client() as c:
        c.ehlo()
        r = c.message("s@client.example", "u@example.com",
                      b"To: me@example.com\r\nCc: cc@example.com\r\n"
                      b"Subject: copy\r\n\r\ntext\r\n")
        assert r.code == 250
    m = sink.wait_subject("copy")
    assert m.field("To") == "you@example.com"
    assert m.field("Cc") is None
    assert sorted(m.rcpts) == ["c1@example.com", "c2@example.com",
                               "u@example.com"]
    closing(gw)


def test_attached_headers_stay(sink):
    inner = b"From: joe@example.com\r\nTo: joe@example.com\r\n\r\ninside\r\n"
    text = (b"From: joe@example.com\r\nSubject: forwarded\r\n"
            b"MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n"
            + inner)
    gw = gateway(sink, local_header_rewrite_clients=LOCAL,
                 canonical_maps="inline:{ {joe@example.com=j@example.com} }")
    with gw.client() as c:
        c.ehlo()
        assert c.message("s@client.example", "u@example.com",
                         text).code == 250
    m = sink.wait_subject("forwarded")
    assert m.field("From") == "j@example.com"
    assert m.body == inner
    closing(gw)


def test_bounce_goes_to_the_alias(sink):
    """Mail of our own is mapped too, and gets no copies."""
    sink.on = lambda verb, arg: (
        "550 5.1.1 no" if verb == "RCPT" and arg.startswith("gone") else None)
    gw = gateway(sink, always_bcc="archive@example.com",
                 virtual_alias_maps="inline:{ "
                 "{sales@example.com=sam@example.com} "
                 "{gone@example.com=gone2@example.com} }")
    with gw.client() as c:
        c.ehlo()
        assert c.message("sales@example.com", "gone@example.com",
                         mail("to nobody")).code == 250
    wait_for("a bounce", lambda: [m for m in sink.messages
                                  if m.sender == ""])
    bounce = [m for m in sink.messages if m.sender == ""][0]
    assert bounce.rcpts == ["sam@example.com"]
    assert re.search(rb"(?i)original-recipient: *rfc822; *gone@example.com",
                     bounce.text)
    assert re.search(rb"(?i)final-recipient: *rfc822; *gone2@example.com",
                     bounce.text)
    gw.wait_log(r"to=<gone2@example.com>, orig_to=<gone@example.com>, .*"
                r"status=bounced")
    closing(gw)


def test_generic_with_edits_and_body(sink):
    """smtp_generic_maps applies to headers that rules have changed."""
    body = b"joe@example.com\r\n" * 8000
    gw = gateway(sink, smtp_generic_maps="inline:{ "
                 "{joe@example.com=joe@out.example} "
                 "{u@example.com=u@out.example} }",
                 header_checks="pcre:{ {/^Subject:/ PREPEND X-Cc: "
                 "joe@example.com} {/^To:/ REPLACE Cc: joe@example.com} "
                 "{/^X-Drop:/ IGNORE} }")
    with gw.client() as c:
        c.ehlo()
        assert c.message(
            "joe@example.com", "u@example.com",
            b"From: Joe <joe@example.com>\r\nTo: x@example.com\r\n"
            b"X-Drop: y\r\nSubject: generic\r\n\r\n" + body).code == 250
    m = sink.wait_subject("generic")
    assert m.sender == "joe@out.example" and m.rcpts == ["u@out.example"]
    assert m.field("From") == "Joe <joe@out.example>"
    assert m.field("Cc") == "joe@out.example"
    assert m.field("X-Cc") == "joe@example.com"
    assert m.field("X-Drop") is None and m.body == body
    gw.wait_log(r"to=<u@example.com>, relay=")
    closing(gw)


def test_fallback_relay(sink):
    other = Sink()
    gw = gateway(sink, relayhost="", transport_maps="inline:{ "
                 "{example.com=smtp:[127.0.0.1]:1} }",
                 smtp_fallback_relay=f"[127.0.0.1]:{other.port}")
    try:
        with gw.client() as c:
            c.ehlo()
            assert c.message("s@client.example", "u@example.com",
                             mail("fallback")).code == 250
        assert other.wait_subject("fallback").rcpts == ["u@example.com"]
        closing(gw)
    finally:
        other.close()


def test_relocated(sink):
    gw = gateway(sink, relocated_maps="inline:{ "
                 "{old@example.com=new@else.example} }")
    with gw.client() as c:
        c.ehlo()
        assert c.cmd("MAIL FROM:<s@example.com>").code == 250
        assert c.cmd("RCPT TO:<old@example.com>").text == (
            "550 5.1.6 <old@example.com>: Recipient address rejected: "
            "User has moved to new@else.example")
    # a program of this host has no reply to read
    sendmail(gw, "-f", "s@example.com", "old@example.com",
             text=b"Subject: moved\n\ntext\n")
    gw.wait_log(r"to=<old@example.com>, .*dsn=5.1.6, status=bounced "
                r"\(User has moved to new@else.example\)")
    wait_for("a bounce", lambda: [m for m in sink.messages
                                  if m.sender == ""])
    closing(gw)


def test_sender_dependent_relayhost(sink):
    other = Sink()
    gw = gateway(sink, transport_maps="", relay_domains="",
                 relayhost=f"[127.0.0.1]:{sink.port}",
                 sender_dependent_relayhost_maps="inline:{ "
                 f"{{@b.example=[127.0.0.1]:{other.port}}} }}")
    try:
        with gw.client() as c:
            c.ehlo()
            for d in ("a", "b"):
                assert c.message(f"s@{d}.example", "u@example.com",
                                 mail(d)).code == 250
        sink.wait_subject("a")
        other.wait_subject("b")
        closing(gw)
    finally:
        other.close()


def test_no_header_body_checks(sink):
    gw = gateway(sink, header_checks="pcre:{ {/./ REJECT} }",
                 receive_override_options="no_header_body_checks")
    with gw.client() as c:
        c.ehlo()
        assert c.message("s@example.com", "u@example.com",
                         mail("passed")).code == 250
    sink.wait_subject("passed")
    closing(gw)


def test_broken_settings_keep_the_old(sink):
    gw = gateway(sink)
    gw.set(masquerade_classes="nonsense", masquerade_domains="example.com")
    r = gw.command("check", check=False)
    assert r.returncode != 0
    assert re.search(r"main.cf:\d+: masquerade_classes = nonsense: unknown",
                     r.stdout + r.stderr), r.stdout + r.stderr
    gw.expect_log("masquerade_classes")
    gw.destroy()
