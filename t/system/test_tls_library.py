"""The settings of the TLS library: the system's, none, a file of our own."""
import os
import re
import ssl

import pytest

from conftest import need_root
from postern import BIN, Instance, free_port, run, wait_for
from sts_help import WebKeys, WebServer, policy, response
from test_relay import SENT, Server
from test_relay_tls import Relay, conf, context, starttls
from test_sts import FETCH_ERROR, POLICY, Sts
from tls_help import Keys, TlsClient
from tls_help import context as client

CHACHA = "TLS_CHACHA20_POLY1305_SHA256"
ONLY_CHACHA = "Ciphersuites = " + CHACHA


@pytest.fixture(scope="module")
def keys():
    k = Keys()
    k.cert("ca", "Test Authority", is_ca=True)
    k.cert("gw", "gw.example.com")
    yield k
    k.destroy()


def library(keys, *settings, name="postern", file="library.cnf"):
    """A file with these settings for that name."""
    with open(keys.path(file), "w") as f:
        f.write(f"{name} = of_it\n[of_it]\nssl_conf = tls\n[tls]\n"
                "system_default = all\n[all]\n" + "\n".join(settings) + "\n")
    return keys.path(file)


def tls(keys, **more):
    return {"smtpd_tls_security_level": "may",
            "smtpd_tls_chain_files": keys.path("gw.pem"), **more}


def suite(port, **kw):
    with TlsClient(port, client(**kw)) as c:
        c.ehlo()
        return c.sock.cipher()[0]


def test_smtpd(make, keys):
    file = library(keys, ONLY_CHACHA, "MinProtocol = TLSv1.3",
                   "CipherString = AES128-SHA")
    gw = make(main=tls(keys, tls_config_file=file, tls_config_name="postern"))
    assert suite(gw.port) == CHACHA
    # what is ours is not changed: smtpd_tls_protocols, smtpd_tls_ciphers
    assert suite(gw.port, version=ssl.TLSVersion.TLSv1_2).startswith("ECDHE")
    # a service of its own, and the file is watched
    port = free_port()
    gw.edit("master.cf", lambda t: t + f"127.0.0.1:{port} inet n - - - - "
            "smtpd\n  -o tls_config_file=none\n")
    gw.command("reload")
    assert suite(port) != CHACHA
    assert suite(gw.port) == CHACHA
    library(keys, "Ciphersuites = TLS_AES_128_GCM_SHA256")
    wait_for("the new file", lambda: suite(gw.port) ==
             "TLS_AES_128_GCM_SHA256")
    # one that cannot be used: what runs goes on
    library(keys, "Ciphersuites = NO_SUCH")
    gw.expect_log(r"Ciphersuites = NO_SUCH|tls_config_file cannot be used")
    gw.wait_log(r"library\.cnf: \[all\]: Ciphersuites = NO_SUCH: ")
    assert suite(gw.port) == "TLS_AES_128_GCM_SHA256"


def test_groups_of_the_file(make, keys):
    """Both lists of groups empty: the file says which."""
    file = library(keys, "Groups = secp521r1", file="groups.cnf",
                   name="openssl_conf")
    gw = make(main=tls(keys, tls_config_file=file, tls_eecdh_auto_curves="",
                       tls_ffdhe_auto_groups="", smtpd_tls_loglevel="1"))
    assert suite(gw.port)
    gw.wait_log(r"TLSv1\.3 with cipher .* key-exchange .*secp521r1")
    gw.set(tls_config_file="none")
    gw.command("reload")
    assert suite(gw.port)
    gw.wait_log(r"TLSv1\.3 with cipher .* key-exchange X25519")


def test_relay(keys):
    file = library(keys, ONLY_CHACHA, file="relay.cnf")
    settings = dict(conf(keys, "encrypt"), tls_config_name="postern")
    with Server(starttls(context(keys, "gw"))) as server:
        with Relay(**settings, tls_config_file=file) as relay:
            assert relay.send(server.hop).status == SENT
            relay.wait_log("TLSv1.3 with cipher " + CHACHA)
        with Relay(**settings, tls_config_file="none") as relay:
            assert relay.send(server.hop).status == SENT
            relay.wait_log("TLSv1.3 with cipher TLS_AES_")


def test_policies(keys):
    """There are no parameters for protocols with web servers."""
    web_keys = WebKeys()
    web = WebServer(web_keys.context("good", ["mta-sts.example.com"]))
    web.newest = ssl.TLSVersion.TLSv1_2
    web.sites["example.com"] = response(policy("mx.example.com"))
    file = library(keys, "Protocol = -TLSv1.2", file="sts.cnf")
    try:
        for word, answer in (file, FETCH_ERROR), ("none", POLICY):
            with Sts(web_keys, web, tls_config_file=word,
                     tls_config_name="postern") as sts:
                sts.site("example.com")
                assert sts.ask("example.com")[0] == answer
    finally:
        web.close()
        web_keys.destroy()


@need_root
@pytest.mark.parametrize("settings,chacha", [
    ({}, True), ({"tls_config_name": "postern"}, False),
    ({"tls_config_name": "nobody"}, True), ({"tls_config_file": "none"},
                                            False)])
def test_of_the_system(make, keys, settings, chacha):
    """In place of the system's openssl.cnf, for this gateway alone, one that
    has settings for all and others for postern."""
    file = library(keys, ONLY_CHACHA, name="openssl_conf", file="system.cnf")
    with open(file) as f:
        text = f.read()
    with open(file, "w") as f:
        f.write("postern = other\n" + text + "[other]\nssl_conf = o\n[o]\n"
                "system_default = p\n[p]\nCiphersuites = "
                "TLS_AES_256_GCM_SHA384\n")
    system = os.path.realpath(run("openssl", "version", "-d").stdout.split(
        '"')[1] + "/openssl.cnf")
    gw = make(main=tls(keys, **settings), start=False)
    gw.running = True
    run("unshare", "-m", "sh", "-c", f"mount --bind {file} {system} && "
        f"exec {BIN}/postern -c {gw.etc} start")
    assert (suite(gw.port) == CHACHA) == chacha


@pytest.mark.parametrize("text,name,says", [
    (None, "", "/nonexistent.cnf: No such file or directory"),
    ("x", "", "line 1: missing equal sign"),
    ("a = b\n[b]\n", "", 'no line "openssl_conf = SECTION" before the first'),
    ("openssl_conf = a\n[a]\n", "postern", 'no line "postern = SECTION"'),
    ("postern = a\n", "postern", "no section [a]"),
    ("postern = a\n[a]\nssl_conf = b\n", "postern", "no section [b]"),
    ("postern = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n", "postern",
     "no section [c]"),
    ("postern = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n"
     "MinProtocol = TLSv1.2\nMaxiProtocol = 1\n", "postern",
     "[c]: MaxiProtocol = 1: unknown"),
    ("postern = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n"
     "1.MinProtocol = TLSv9\n", "postern", "[c]: 1.MinProtocol = TLSv9: "),
    ("postern = a\n[a]\n", "postern", None),
    ("postern = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n"
     "1.Options = -SessionTicket\n2.Options = PrioritizeChaCha\n", "postern",
     None)])
def test_mistakes(mistakes, keys, text, name, says):
    file = "/nonexistent.cnf"
    if text is not None:
        file = keys.path("mistake.cnf")
        with open(file, "w") as f:
            f.write(text)
    mistakes.set(tls_config_file=file, tls_config_name=name)
    p = mistakes.command("check", check=False)
    assert (p.returncode == 0) == (says is None), p.stderr
    if says is not None:
        assert f"tls_config_file: {file}: " in p.stderr, p.stderr
        assert says in p.stderr
        # nothing begins with it
        p = mistakes.command("start", check=False)
        assert p.returncode != 0 and says in p.stderr, p.stderr


@pytest.mark.parametrize("word", ["", "openssl.cnf", "Default"])
def test_no_path(mistakes, word):
    mistakes.set(tls_config_file=word)
    p = mistakes.command("check", check=False)
    assert p.returncode == 1
    assert re.search("must be default, none or a path from / on", p.stderr)


@pytest.fixture(scope="module")
def mistakes():
    gw = Instance(start=False)
    yield gw
    gw.destroy(check=False)
