"""postern check: each kind of mistake is told with its place."""
import os
import re

import pytest

from postern import TOP, Instance

with open(os.path.join(TOP, "lib/conf_params.def")) as f:
    PARAMS = re.findall(r"^PARAM_(\w+)\((\w+),", f.read(), re.M)
# Lists of tables, and lists that may name tables.
TABLES = [name for kind, name in PARAMS if kind == "STR" and (
    re.search(r"_(maps|checks|restrictions|networks|exclusions|clientcerts)$",
              name) or name in (
        "mynetworks", "mydestination", "relay_domains",
        "virtual_alias_domains", "virtual_mailbox_domains",
        "local_header_rewrite_clients"))
    # lists of words; and one without patterns: test_tls.py
    and name not in ("mime_ambiguity_checks", "tls_server_sni_maps",
                     "postern_milter_restrictions")]
NUMBERS = [name for kind, name in PARAMS if kind in ("INT", "BOOL", "TIME")]


@pytest.fixture(scope="module")
def gateway():
    i = Instance(start=False)
    i.edit("master.cf", lambda t: re.sub(
        r"^#(local|virtual|lmtp)(?= )", r"\1", t, flags=re.M))
    try:
        yield i
    finally:
        i.destroy(check=False)


def check(gateway, setting, **files):
    """The exit status and what was said; main.cf is as it was after it."""
    with open(gateway.path("main.cf")) as f:
        before = f.read()
    for name, text in files.items():
        gateway.write(name, text)
    try:
        gateway.edit("main.cf", lambda t: t + setting)
        p = gateway.command("check", check=False)
        return p.returncode, p.stderr
    finally:
        gateway.write("main.cf", before)


def last_line(gateway):
    with open(gateway.path("main.cf")) as f:
        return len(f.readlines()) + 1


def test_there_are_parameters():
    assert len(TABLES) > 35 and len(NUMBERS) > 80


@pytest.mark.parametrize("name", TABLES)
def test_broken_file(gateway, name):
    status, said = check(gateway, f"{name} = check_client_access "
                         "regexp:$config_directory/broken\n"
                         if name.endswith("restrictions") else
                         f"{name} = regexp:$config_directory/broken\n",
                         broken="# a comment\n/ok/ OK\n/(/ OK\n")
    assert status != 0
    assert f"{gateway.etc}/broken:3: " in said


@pytest.mark.parametrize("name", TABLES)
def test_broken_sample(gateway, name):
    status, said = check(gateway, f"{name} = check_client_access "
                         "pcre:$config_directory/sample, "
                         "reject_unauth_destination\n"
                         if name.endswith("restrictions") else
                         f"{name} = pcre:$config_directory/sample\n",
                         sample="# pass: example\n/ex?ample/ DUNNO\n")
    assert status != 0
    assert f"{gateway.etc}/sample:1: " in said


@pytest.mark.parametrize("kind,row", [
    ("cidr", "192.0.2.0/24 REJECT"), ("texthash", "a.example REJECT"),
    ("hash", "a.example REJECT"), ("sendmail-access", "a.example\tREJECT")])
@pytest.mark.parametrize("where", [
    "smtpd_client_restrictions = check_client_access {}, permit",
    "smtpd_restriction_classes = mine\nmine = check_client_access {}"])
def test_broken_sample_of_a_row(gateway, kind, row, where):
    setting = where.format(f"{kind}:$config_directory/sample") + "\n"
    good = "# match: 192.0.2.7\n" if kind == "cidr" else \
        "# match: x.a.example\n"
    status, said = check(gateway, setting, sample=good + row + "\n")
    assert status == 0, said
    status, said = check(gateway, setting, sample=good +
                         "# match: 198.51.100.1\n" + row + "\n")
    assert status != 0
    assert f"{gateway.etc}/sample:2: this sample is not answered by line 3" \
        in said


@pytest.mark.parametrize("name", NUMBERS)
def test_broken_value(gateway, name):
    status, said = check(gateway, f"{name} = 12 monkeys\n")
    assert status != 0
    assert f"{gateway.etc}/main.cf:{last_line(gateway)}: " in said


ERRORS = {
    "unknown": ("smtpd_relay_restrictions = reject_unauth_destinatoin\n",
                "unknown restriction (did you mean "
                "reject_unauth_destination?)"),
    "open": ("smtpd_relay_restrictions = permit_mynetworks, permit\n"
             "smtpd_recipient_restrictions = permit\n",
             "specify at least one working instance"),
    "everybody": ("mynetworks = 0.0.0.0/0\n", "an open relay"),
    "every-domain": ("relay_domains = static:all\n", "an open relay"),
    "class": ("a_class = b_class\nb_class = a_class\n"
              "smtpd_restriction_classes = a_class, b_class\n",
              "a restriction class contains itself"),
    "no-class": ("smtpd_restriction_classes = nowhere\n",
                 "restriction class is not defined"),
    "no-source": ("relay_recipient_maps = hash:/nonexistent/users\n",
                  "/nonexistent/users"),
    "table-type": ("transport_maps = hsah:/etc/x\n", "hsah"),
    "no-argument": ("smtpd_sender_restrictions = check_sender_access\n",
                    "nothing follows"),
    "ambiguity": ("mime_ambiguity = perhaps\n",
                  "must be reject, hold, warn or ignore"),
    "condition": ("mime_ambiguity_checks = tenf reject\n",
                  'unknown condition "tenf"'),
    "no-action": ("mime_ambiguity_checks = tnef, yenc warn\n",
                  'unknown action "yenc"'),
    "policy-reject": ("filter_policy_reject_action = perhaps\n",
                      "must be hold, discard, bounce or reject"),
    "class-ambiguity": ("filter_policy_classes = lax\n"
                        "lax_mime_ambiguity = perhaps\n",
                        "must be reject, hold, warn or ignore"),
    "class-size": ("filter_policy_classes = lax\n"
                   "lax_body_checks_size_limit = large\n", "large"),
    "queue-names": ("hash_queue_names = deferred, deferd\n",
                    'unknown word "deferd"'),
    "one-of": ("filter_timeout_action = hope\n",
               "must be tempfail, hold or accept"),
    "some-of": ("notify_classes = bounce, polcy\n",
                'unknown word "polcy"'),
    "not-asked": ("header_checks = ldap:/etc/x.cf\n",
                  "cannot be asked here"),
    "not-asked-list": ("mynetworks = 127.0.0.0/8, !proxy:mysql:/etc/x.cf\n",
                       "cannot be asked here"),
    "not-asked-inside": ("body_checks = unionmap:{pcre:/etc/x, "
                         "tcp:127.0.0.1:7}\n", "cannot be asked here"),
    "class-name": ("canonical_classes = envelope_sendr\n", "unknown word"),
    "service": ("smtpd_client_restrictions = check_policy_service x\n", "x"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(gateway, name):
    setting, text = ERRORS[name]
    status, said = check(gateway, setting)
    assert status != 0
    assert text in said


@pytest.mark.parametrize("name", ["one-of", "some-of", "class-name",
                                  "ambiguity", "policy-reject",
                                  "class-ambiguity", "class-size",
                                  "queue-names"])
def test_place_of_a_word(gateway, name):
    lines = ERRORS[name][0].splitlines()
    _, said = check(gateway, ERRORS[name][0])
    assert f"{gateway.etc}/main.cf:{last_line(gateway) + len(lines) - 1}: " + \
        lines[-1] + ": " in said


@pytest.mark.parametrize("name", ["unknown", "everybody", "every-domain",
                                  "no-argument", "condition", "not-asked",
                                  "not-asked-list"])
def test_place_of_a_parameter(gateway, name):
    _, said = check(gateway, ERRORS[name][0])
    assert f"{gateway.etc}/main.cf:{last_line(gateway)}: " + \
        ERRORS[name][0].split(" ")[0] + ": " in said


FILES = {
    "access": ("smtpd_sender_restrictions = check_sender_access "
               "texthash:$config_directory/t\n", "a OK\nb REJEKT x\n", 2),
    "hash": ("smtpd_sender_restrictions = check_sender_access "
             "hash:$config_directory/t\n", "a OK\nb\n", 2),
    "checks": ("body_checks = pcre:$config_directory/t\n",
               "/a/ OK\n\n/b/ REJEKT\n", 3),
    "cidr": ("smtpd_client_restrictions = check_client_access "
             "cidr:$config_directory/t\n", "10.0.0.1/8 OK\n", 1),
    "duplicate": ("smtpd_client_restrictions = check_client_access "
                  "texthash:$config_directory/t\n", "a OK\na DUNNO\n", 2),
    "if": ("header_checks = regexp:$config_directory/t\n", "if /a/\n", 1),
}


@pytest.mark.parametrize("name", FILES)
def test_line_of_a_file(gateway, name):
    setting, text, line = FILES[name]
    status, said = check(gateway, setting, t=text)
    assert f"{gateway.etc}/t:{line}: " in said
    assert status != 0


WARNINGS = {
    "never-reached": ("smtpd_client_restrictions = permit, reject\n",
                      "what follows \"permit\" is never reached"),
    "ok-relays": ("smtpd_relay_restrictions =\n"
                  "smtpd_recipient_restrictions = check_recipient_access "
                  "inline:{ friend@other.example=OK }, "
                  "reject_unauth_destination\n", "lets strangers relay"),
    "old-name": ("smtpd_client_restrictions = reject_unknown_client\n",
                 "is the name now"),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_warning(gateway, name):
    setting, text = WARNINGS[name]
    status, said = check(gateway, setting)
    assert status == 0, said
    assert text in said


@pytest.mark.parametrize("setting", [
    "",
    "smtpd_relay_restrictions = permit_mynetworks, warn_if_reject reject, "
    "reject_unauth_destination\n",
    # the other list still refuses strangers
    "smtpd_recipient_restrictions = check_sender_access "
    "inline:{ a@b.example=OK }, reject_unauth_destination\n",
    "smtpd_recipient_restrictions = check_recipient_access "
    "inline:{ a@b.example=DUNNO }, reject_unauth_destination\n",
])
def test_nothing_to_say(gateway, setting):
    status, said = check(gateway, setting)
    assert status == 0
    assert "reached" not in said and "relay;" not in said


@pytest.mark.parametrize("name,transport", [
    ("alias_maps", "local"), ("mailbox_command_maps", "local"),
    ("virtual_mailbox_maps", "virtual"), ("virtual_uid_maps", "virtual")])
def test_tables_out_of_reach(gateway, name, transport):
    """Those that deliver have no connections."""
    setting = f"{name} = texthash:$config_directory/there, " \
        "proxy:tcp:127.0.0.1:1\n"
    there = {"there": "user@example.com user/\n"}
    status, said = check(gateway, f"{transport}_transport = {transport}:x\n" +
                         setting, **there)
    assert status == 1
    assert f"{gateway.etc}/main.cf:{last_line(gateway) + 1}: {name}: " \
        "tcp:127.0.0.1:1 is behind a connection" in said
    # Others deliver, and ask it.
    status, said = check(gateway, f"{transport}_transport = "
                         "lmtp:inet:127.0.0.1:24\n" + setting, **there)
    assert status == 0 and "warning" in said and \
        "is behind a connection" in said
    # Nor the start: the same in another place.
    with open(gateway.path("main.cf")) as f:
        before = f.read()
    try:
        gateway.edit("main.cf", lambda t: t + setting +
                     f"{transport}_transport = {transport}\n")
        p = gateway.command("start", check=False)
        assert p.returncode != 0 and "is behind a connection" in p.stderr
    finally:
        gateway.write("main.cf", before)


@pytest.mark.parametrize("rows,missing", [
    ("root: joe\npostmaster: root\nMAILER-DAEMON: root\nhostmaster: root\n",
     None), ("postmaster: joe\n", "mailer-daemon, hostmaster, root")])
def test_required_aliases(gateway, rows, missing):
    status, said = check(gateway, "alias_maps = hash:$config_directory/al\n",
                         al=rows)
    assert status == 0, said
    line = [l for l in said.split("\n") if "to a person" in l]
    assert line == [] if missing is None else \
        f"alias_maps: no alias gives the mail of {missing} to a person" in \
        line[0]
