"""Restrictions inside another mail server, in postern-milter: what the gateway
says to an envelope, sendmail and Postfix say."""
import os
import re

import pytest
from pmilter_help import (HAVE_POSTFIX, HAVE_SENDMAIL, Mta, Postfix,
                          PosternMilter, Sendmail)
from postern import BIN, Client, Instance, Sink, mail, wait_for
from test_lookup import NameServer, ip, mx
from test_policy import Daemon

pytestmark = pytest.mark.skipif(
    not os.path.exists(f"{BIN}/postern-milter"), reason="no libmilter-dev")
need_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
A, MX, TXT = 1, 15, 16
LISTS = ("smtpd_client_restrictions smtpd_helo_restrictions "
         "smtpd_sender_restrictions smtpd_relay_restrictions "
         "smtpd_recipient_restrictions smtpd_data_restrictions "
         "smtpd_end_of_data_restrictions")
ZONE = {
    ("client.example", A): [ip("192.0.2.1")],
    ("mxed.example", MX): [mx(10, "mail.mxed.example")],
    ("nullmx.example", MX): [mx(0, "")],
    ("badmx.example", MX): [mx(10, "mail.badmx.example")],
    ("mail.badmx.example", A): [ip("192.0.2.66")],
    ("later.example", MX): "servfail", ("later.example", A): "servfail",
    ("later.example", 28): "servfail",
    ("6.0.0.127.bl.example", A): [ip("127.0.0.2")],
    ("6.0.0.127.bl.example", TXT): [b"\x0dlisted, sorry"],
    ("spam.example.rhs.example", A): [ip("127.0.0.2")],
    ("spam.example", A): [ip("192.0.2.1")],
    ("helo.example", A): [ip("192.0.2.1")],
}
FILES = {
    "client": "127.0.0.4 REJECT not from there\n127.0.0.7 OK\n"
              "127.0.0.8 450 4.7.99 come later\n127.0.0.9 WARN look\n",
    "helo": "/^bad\\.helo/ REJECT bad name\n/^warn\\.helo/ WARN odd name\n",
    "sender": "/^no@/ REJECT no, 100% sure\n/^five@/ 554 5.7.8 five\n"
              "/^ifpermit@/ DEFER_IF_PERMIT perhaps\n"
              "/^discard@/ DISCARD\n/^ok@/ OK\n/^strict@/ strict\n",
    "mx": "/^192\\.0\\.2\\.66$/ REJECT bad server\n",
    "rcpt": "/^never@/ REJECT\n/^soon@/ DEFER soon\n/^five@/ 550 go away\n"
            "/^hold@/ HOLD look at it\n/^discard@/ DISCARD\n"
            "/^(pre.?)@/ PREPEND X-Pre: $1 yes\n/^redirect@/ REDIRECT "
            "other@example.com\n/^copy@/ BCC archive@example.com\n"
            "/^info@/ INFO seen\n/^warn@/ WARN seen\n/^ok@/ OK\n"
            "/^ifpermit@/ DEFER_IF_PERMIT perhaps\n/^strict@/ strict\n"
            "/^words@/ reject_non_fqdn_sender, reject\n",
    "late": "/^data@/ REJECT no data\n",
    "headers": "/^X-Pre: pre2 / REJECT not what is prepended\n"
               "/^X-Pre: (pre3) / REPLACE X-Pre: new $1\n"
               "/^X-Pre: pre4 / IGNORE\n"
               "/^X-Pre: pre5 / PREPEND X-Above: pre5\n"
               "/^X-Pre: pre6 / HOLD\n",
    "end": "/^end@/ REJECT no end\n/^endhold@/ HOLD at the end\n",
    "listed": "".join(f"{u}@listed.example x\n" for u in ("user", "ok")),
}


def settings(dns, service, **more):
    return {
        "dns_resolvers": dns.address,
        "relay_domains": "example.com, listed.example",
        "relay_recipient_maps": "texthash:$config_directory/listed, "
                                "regexp:{{/@example\\.com$$/ x}}",
        "mynetworks": "127.0.0.7",
        "smtpd_restriction_classes": "strict",
        "strict": "reject_non_fqdn_sender, reject_unknown_sender_domain, "
                  "reject",
        "smtpd_client_restrictions": "check_client_access "
        "texthash:$config_directory/client, reject_rbl_client bl.example",
        "smtpd_helo_restrictions": "permit_mynetworks, check_helo_access "
        "regexp:$config_directory/helo, reject_non_fqdn_helo_hostname, "
        "reject_unknown_helo_hostname",
        "smtpd_sender_restrictions": "check_sender_access "
        "regexp:$config_directory/sender, reject_non_fqdn_sender, "
        "reject_unknown_sender_domain, reject_rhsbl_sender rhs.example, "
        "check_sender_mx_access regexp:$config_directory/mx",
        "smtpd_relay_restrictions": "permit_mynetworks, "
        "permit_sasl_authenticated, reject_unauth_destination",
        "smtpd_recipient_restrictions": "check_recipient_access "
        "regexp:$config_directory/rcpt, warn_if_reject "
        "reject_non_fqdn_helo_hostname, permit_mynetworks, "
        "reject_unlisted_recipient, check_policy_service " + service.spec,
        "smtpd_data_restrictions": "reject_multi_recipient_bounce, "
        "check_sender_access regexp:$config_directory/late",
        "smtpd_end_of_data_restrictions": "check_sender_access "
        "regexp:$config_directory/end",
        "header_checks": "regexp:$config_directory/headers",
        "smtpd_reject_unlisted_recipient": "no", "role_processes": "2",
        "address_verify_map": "", **more}


def case(rcpt="user@example.com", sender="a@client.example",
         helo="helo.example", source="127.0.0.5", more=()):
    return source, helo, sender, (rcpt, *more)


CASES = [
    case(), case("pre@example.com"), case("hold@example.com"),
    # the client
    case(source="127.0.0.4"), case(source="127.0.0.6"),
    case(source="127.0.0.7"), case("user@else.example", source="127.0.0.7"),
    case("nobody@listed.example", source="127.0.0.7"),
    case(source="127.0.0.8"), case(source="127.0.0.9"),
    # HELO
    case(helo="bad.helo.example"), case(helo="warn.helo.example"),
    case(helo="localname"), case(helo="unknown.example"),
    case(helo="later.example"), case(helo="[127.0.0.5]"),
    case(helo="localname", source="127.0.0.7"),
    # the sender
    case(sender="no@client.example"), case(sender="five@client.example"),
    case(sender="ifpermit@client.example"),
    case("never@example.com", sender="ifpermit@client.example"),
    case(sender="discard@client.example"), case(sender="ok@nothing.example"),
    case(sender="a@nothing.example"), case(sender="a@mxed.example"),
    case(sender="a@nullmx.example"), case(sender="a@later.example"),
    case(sender="a@badmx.example"), case(sender="a@spam.example"),
    case(sender=""), case(sender="", more=["other@example.com"]),
    case(sender="strict@client.example"), case(sender='"a b"@client.example'),
    case(sender="strict@nothing.example"),
    # the recipient
    case("never@example.com"), case("soon@example.com"),
    case("five@example.com"), case("discard@example.com"),
    case("redirect@example.com"), case("copy@example.com"),
    case("info@example.com"), case("warn@example.com"),
    case("ok@example.com"), case("ifpermit@example.com"),
    case("strict@example.com"), case("words@example.com"),
    case("user@else.example"), case("never@else.example"),
    case("user@listed.example"), case("nobody@listed.example"),
    case("User@EXAMPLE.com"), case('"a b"@example.com'),
    case("grey@example.com"), case("service@example.com"),
    case("servicepre@example.com"), case("servicehold@example.com"),
    # headers that restrictions prepend are headers
    *(case(f"pre{n}@example.com") for n in range(1, 7)),
    case("pre3@example.com", more=["pre5@example.com", "pre4@example.com"]),
    case("pre@example.com", more=["pre2@example.com"]),
    # some of them
    case(more=["never@example.com", "soon@example.com", "b@example.com"]),
    case("never@example.com", more=["pre@example.com", "x@else.example"]),
    # later
    case(sender="data@client.example"), case(sender="end@client.example"),
    case(sender="endhold@client.example"),
    case(sender="end@client.example", more=["never@example.com"]),
]


def test_there_are_enough():
    assert len(CASES) >= 60 and len(set(CASES)) == len(CASES)


def service_says(attributes):
    words = {"grey": "DEFER_IF_PERMIT greylisted", "service": "REJECT no",
             "servicepre": "PREPEND X-Service: here",
             "servicehold": "HOLD by the service"}
    return words.get(attributes["recipient"].split("@")[0], "DUNNO")


def said(reply):
    """sendmail puts the address in front of some."""
    return "250" if reply.code == 250 else re.sub(
        r"^(\d+ \S+ )<.*?>\.\.\. ", r"\1", reply.text)


def one(port, number, source, helo, sender, rcpts):
    """All replies to it, in order; the first refusal of the client, HELO or
    sender ends it."""
    out = []
    with Client(port, source=source) as c:
        # a filter can say no with the next command at the earliest
        if c.banner.code != 220:
            return [c.banner.text]
        for command in (f"EHLO {helo}", f"MAIL FROM:<{sender}> SIZE=500"):
            r = c.cmd(command)
            out.append(said(r))
            if r.code != 250:
                return out
        out += [said(c.cmd(f"RCPT TO:<{r}>")) for r in rcpts]
        if "250" not in out[2:]:
            return out
        r = c.cmd("DATA")
        if r.code != 354:
            return out + [r.text]
        c.send(mail(f"number {number}") + b".\r\n")
        return out + [said(c.reply())]


def all_of(port):
    return [one(port, i, *c) for i, c in enumerate(CASES)]


def same(ours, theirs):
    """Postfix says 250 to EHLO whatever a filter says, and that to MAIL."""
    return ours == theirs or (len(ours) == 1 and theirs == ["250", *ours])


def relayed(sink):
    """number: (sender, recipients, headers of the rules), of each copy"""
    out = {}
    for m in sink.messages:
        number = int(re.search(rb"Subject: number (\d+)", m.header).group(1))
        out.setdefault(number, []).append((m.sender, sorted(
            m.rcpts), re.findall(rb"(?m)^X-\w+: .*?(?=\r?$)", m.header)))
    return {n: sorted(v) for n, v in out.items()}


def whole(copies):
    """For all recipients, however they were grouped."""
    return (copies[0][0], sorted(r for c in copies for r in c[1]),
            copies[0][2])


@pytest.fixture(scope="module")
def world():
    """Name server, policy service, and the gateway, with what it said."""
    dns, service, sink = NameServer(ZONE), Daemon(service_says), Sink()
    gws = {}
    try:
        for delay in ("yes", "no"):
            gw = gws[delay] = Instance(sink if delay == "yes" else Sink(),
                                       start=False)
            for name, text in FILES.items():
                gw.write(name, text)
            gw.set(**settings(dns, service, smtpd_delay_reject=delay,
                              body_checks="",
                              attachment_checks="", transport_maps="",
                              relay_transport="smtp",
                              relayhost=f"[127.0.0.1]:{gw.sink.port}"))
            gw.start()
            gw.told = all_of(gw.port)
            wait_for("all that is not held", lambda g=gw: not g.queued(
                "incoming", "active", "deferred"))
        yield dns, service, gws
    finally:
        for gw in gws.values():
            gw.sink.close()
            gw.destroy(check=False)
        dns.s.close()
        service.close()


def milter(world, delay="yes", mode=None, **main):
    dns, service, _ = world
    return PosternMilter(files=FILES, main={**settings(
        dns, service, smtpd_delay_reject=delay,
        postern_milter_restrictions=LISTS), **main}, start=False, mode=mode)


def test_gateway_refuses_many(world):
    """Or the comparison would say little."""
    last = [t[-1][:3] for t in world[2]["yes"].told]
    assert last.count("250") > 20
    assert last.count("554") > 8 and last.count("550") > 3
    assert last.count("450") > 3
    assert len(set(t[-1] for t in world[2]["yes"].told)) > 25
    at_helo = [t[0] for t in world[2]["no"].told]
    assert sum(t != "250" for t in at_helo) >= 4


class Relay(Sendmail):
    """For whom our relay restrictions decide."""
    lines = ["FEATURE(`promiscuous_relay')dnl"]


SERVERS = [
    pytest.param(Relay, marks=pytest.mark.skipif(
        not HAVE_SENDMAIL, reason="no sendmail (t/peers/sendmail fetch)")),
    pytest.param(Postfix, marks=pytest.mark.skipif(
        not HAVE_POSTFIX, reason="no Postfix"))]


@pytest.mark.parametrize("delay", [
    "yes", pytest.param("no", marks=pytest.mark.long)])
@pytest.mark.parametrize("server", SERVERS)
@need_root
def test_same_verdicts(server, delay, world):
    sink, gw = Sink(), world[2][delay]
    m, peer = milter(world, delay), None
    try:
        m.start()
        peer = server(m, sink)
        told = all_of(peer.port)
        different = [(CASES[i], gw.told[i], told[i])
                     for i in range(len(CASES))
                     if not same(gw.told[i], told[i])]
        assert not different, "\n".join(map(str, different))
        want = relayed(gw.sink)
        wait_for("all messages", lambda: set(relayed(sink)) >= set(want))
        got = relayed(sink)
        assert set(got) == set(want)
        assert {n: whole(c) for n, c in got.items()} == \
            {n: whole(c) for n, c in want.items()}
        assert len(peer.held()) == len(gw.queued("hold")) > 2
    finally:
        if peer:
            peer.destroy()
        sink.close()
        m.destroy()


# -- the protocol by hand ----------------------------------------------------------


@pytest.fixture
def made():
    out = []
    yield out
    for m in reversed(out):
        m.destroy()


def small(made, mode=None, start=True, **main):
    """One without a name server."""
    made.append(PosternMilter(mode=mode, start=start, main={
        "role_processes": "1",
        "postern_milter_restrictions": "smtpd_recipient_restrictions",
        "smtpd_recipient_restrictions": "check_recipient_access "
        "regexp:$config_directory/rcpt", **main}, files={
            "rcpt": FILES["rcpt"].replace("/^strict@/ strict\n", ""),
            "header_checks": "/^Subject: bad/ REJECT bad\n"
            "/^X-Pre: pre9/ REJECT prepended\n"}))
    return made[-1]


def rcpt(mta, address):
    """A letter, or the text of a reply."""
    mta.send(b"R<" + address.encode() + b">\0")
    kind, data = mta.packet()
    return data.rstrip(b"\0").decode() if kind == b"y" else kind.decode()


def test_refusals_and_log(made):
    m = small(made)
    mta = Mta(m)
    mta.connect()
    assert not mta.protocol & 0x8000        # RCPT is answered
    assert mta.protocol & 0x4000
    mta.begin(rcpts=())
    assert rcpt(mta, "never@example.com") == \
        "554 5.7.1 <never@example.com>: Recipient address rejected: " \
        "Access denied"
    assert rcpt(mta, "soon@example.com").startswith("450 4.7.1 ")
    assert rcpt(mta, "user@example.com") == "c"
    mta.text(mail("fine"))
    assert mta.end() == [(b"c", b"")]
    assert re.search(
        r"/smtpd\[\d+\]: QID1: reject: RCPT from mail\.client\.example"
        r"\[192\.0\.2\.7\]: 554 5\.7\.1 <never@example\.com>: Recipient "
        r"address rejected: Access denied; from=<a@client\.example> "
        r"to=<never@example\.com> proto=ESMTP helo=<client\.example> "
        r"rule=\S+/rcpt:1\n", m.log())
    # what the filter says of the text counts as well
    assert mta.message(mail("x"), ["discard@example.com"])[-1][0] == b"d"
    assert mta.message(mail("x"), ["hold@example.com"]) == [
        (b"q", b"look at it\0"), (b"c", b"")]


def test_what_filter_and_restrictions_say_together(made):
    m = small(made, header_checks="regexp:$config_directory/header_checks")
    mta = Mta(m)
    mta.connect()
    for who in ("discard", "hold", "pre", "copy"):
        assert mta.message(mail("bad"), [f"{who}@example.com"])[-1] == \
            (b"y", b"550 5.7.1 bad\0")
    assert mta.message(mail("x"), ["pre@example.com", "copy@example.com"]) \
        == [(b"i", b"\0\0\0\0X-Pre\0 pre yes\0"),
            (b"+", b"<archive@example.com>\0"), (b"c", b"")]
    # also what is prepended
    assert mta.message(mail("x"), ["pre9@example.com"])[-1] == \
        (b"y", b"550 5.7.1 prepended\0")
    # nothing of it is left for the next one
    assert mta.message(mail("x")) == [(b"c", b"")]


def test_tag(made):
    m = small(made, mode="tag")
    mta = Mta(m)
    mta.connect()
    assert mta.message(mail("x"), ["user@example.com", "five@example.com",
                                   "never@example.com"]) == [
        (b"i", b"\0\0\0\0X-Postern\0 reject; 550 5.7.1 <five@example.com>: "
         b"Recipient address rejected: go away\0"), (b"c", b"")]
    assert mta.message(mail("x"), ["soon@example.com"])[0][1].startswith(
        b"\0\0\0\0X-Postern\0 tempfail; 450 4.7.1 ")
    assert mta.message(mail("x"), ["hold@example.com"])[0][1] == \
        b"\0\0\0\0X-Postern\0 hold; look at it\0"
    assert mta.message(mail("x"), ["pre@example.com"]) == [
        (b"i", b"\0\0\0\0X-Postern\0 ok\0"), (b"c", b"")]
    assert m.log().count(": reject_warning: RCPT from ") == 3
    assert ": reject: " not in m.log()


def test_quarantine(made):
    m = small(made, mode="quarantine")
    mta = Mta(m)
    mta.connect()
    assert mta.message(mail("x"), ["user@example.com",
                                   "five@example.com"]) == [
        (b"q", b"<five@example.com>: Recipient address rejected: go away\0"),
        (b"c", b"")]
    mta.begin(rcpts=())
    assert rcpt(mta, "soon@example.com").startswith("450 4.7.1 ")
    assert ": reject_warning: RCPT from " in m.log()


def test_stages_without_delay(made):
    m = small(made, smtpd_delay_reject="no", postern_milter_restrictions=LISTS,
              smtpd_client_restrictions="check_client_access "
              "inline:{192.0.2.9=REJECT}",
              smtpd_helo_restrictions="check_helo_access "
              "inline:{bad.example=REJECT}",
              smtpd_sender_restrictions="check_sender_access "
              "inline:{{a@bad.example=450 later}}",
              smtpd_relay_restrictions="",
              smtpd_data_restrictions="check_sender_access "
              "inline:{data@client.example=REJECT}")
    mta = Mta(m)
    for helo, answer in ((b"bad.example", b"y"), (b"good.example", b"c")):
        if answer == b"y":
            mta.send(b"Cx\0" + b"4\x09\xdd192.0.2.7\0")
            assert mta.packet()[0] == b"c"
        mta.send(b"H" + helo + b"\0")
        assert mta.packet()[0] == answer
    mta.send(b"M<a@bad.example>\0")
    assert mta.packet() == (b"y", b"450 4.7.1 <a@bad.example>: Sender address "
                            b"rejected: later\0")
    mta.send(b"M<data@client.example>\0")
    assert mta.packet()[0] == b"c"
    assert rcpt(mta, "user@example.com") == "c"
    mta.send(b"T")
    assert mta.packet()[1].startswith(
        b"554 5.7.1 <data@client.example>: Sender address rejected: ")
    mta.close()
    # a client is refused with what can be answered
    mta = Mta(m)
    mta.send(b"Cx\0" + b"4\x09\xdd192.0.2.9\0")
    assert mta.packet()[0] == b"c"
    for command in (b"Hgood.example\0", b"M<a@client.example>\0"):
        mta.send(command)
        assert mta.packet() == (b"y", b"554 5.7.1 <x[192.0.2.9]>: Client host "
                                b"rejected: Access denied\0")
    assert "reject: CONNECT from x[192.0.2.9]: 554 " in m.log()


def test_nothing_unless_named(made):
    m = small(made, postern_milter_restrictions="",
              smtpd_relay_restrictions="reject", relay_domains="")
    mta = Mta(m)
    mta.connect()
    assert mta.protocol & 0x8000
    assert mta.message(mail("x"), ["never@example.com"]) == [(b"c", b"")]
    assert re.search(r"main\.cf:\d+: smtpd_recipient_restrictions is not "
                     "evaluated here: postern_milter_restrictions does not "
                     "name it", m.warned)
    assert m.children("policy") == m.children("lookup") == []
    # and of a list that is named not what goes with it in a gateway
    m = small(made, relay_domains="example.com",
              relay_recipient_maps="inline:{x=y}")
    mta = Mta(m)
    mta.connect()
    assert mta.message(mail("x"), ["user@example.com"]) == [(b"c", b"")]
    assert mta.message(mail("x"), ["user@else.example"]) == [(b"c", b"")]
    assert len(m.children("policy")) == len(m.children("lookup")) == 1


@pytest.mark.parametrize("value, why", [
    ("reject_unverified_recipient", "reject_unverified_recipient cannot be "
     "used inside another mail server: needs a queue of our own"),
    ("permit, warn_if_reject reject_unauth_pipelining", "does not say whether "
     "its client waited"),
    ("class", "strict: permit_tls_clientcerts cannot be used"),
    ("check_policy_service unix:private/x", "its sockets are in a queue"),
    ("check_recipient_access tcp:127.0.0.1:1", "smtpd_recipient_restrictions: "
     "tcp:127.0.0.1:1: postern-milter has no tables behind a connection"),
    ("reject_unknown_recipient", "unknown restriction"),
    ("check_recipient_access inline:{a=reject_unverified_sender}",
     "needs a queue of our own"),
    ("reject_unlisted_recipient", "relay_recipient_maps"),
])
def test_what_cannot_start(made, value, why):
    more = {"smtpd_restriction_classes": "strict",
            "strict": "permit_tls_clientcerts"} if value == "class" else {}
    if value == "reject_unlisted_recipient":
        more["relay_recipient_maps"] = "tcp:127.0.0.1:2"
    m = small(made, start=False, smtpd_recipient_restrictions=value, **more)
    m.expected += [why, "error", "fatal", "exit status"]
    p = m.start(check=False)
    assert p.returncode == 1
    assert why in p.stderr + m.log()
    if "cannot be used" in why:
        assert re.search(r"main\.cf:\d+: ", p.stderr)


def test_list_names_are_checked(made):
    m = small(made, start=False,
              postern_milter_restrictions="smtpd_etrn_restrictions")
    m.expected += ["no such list here"]
    p = m.start(check=False)
    assert p.returncode == 1
    assert re.search(r"main\.cf:\d+: postern_milter_restrictions: no such "
                     "list here: smtpd_etrn_restrictions", p.stderr)
