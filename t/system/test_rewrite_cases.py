"""Address rewriting: what must come out, here and from Postfix.

RECORD=1 writes what Postfix does into the case files."""
import os
import shutil
import signal
import subprocess
import tempfile

import pytest
import rewrite_cases
from postern import TOP, Instance, Sink, free_port, wait_for

PEER = f"{TOP}/t/peers/postfix"


def routes(port):
    """Everything goes to the sink, whatever its class."""
    hop = f"[127.0.0.1]:{port}"
    return {"relayhost": hop, "local_transport": "smtp:" + hop,
            "relay_transport": "smtp:" + hop,
            "virtual_transport": "smtp:" + hop, "relay_domains": "",
            "mydestination": "", "transport_maps": "",
            "mynetworks": "127.0.0.0/8",
            "smtpd_reject_unlisted_recipient": "no"}


@pytest.mark.parametrize("name", rewrite_cases.names())
def test_cases(name):
    file = rewrite_cases.File(name)
    sink = Sink()
    gw = Instance(sink, main={
        "local_header_rewrite_clients": "permit_inet_interfaces",
        **routes(sink.port), **file.conf})
    try:
        gw.expect_log("message not accepted, try again later")
        gw.expect_log("overriding earlier entry")
        refused = rewrite_cases.send(gw.port, file.cases)
        wait_for("an empty queue", lambda: not gw.queued())
    finally:
        gw.destroy()
        sink.close()
    got = rewrite_cases.results(file.cases, refused, sink.messages)
    for case, lines in zip(file.cases, got):
        assert lines == case.expected, "\n".join(case.lines)


def peer_stop(directory):
    """Its master; "postfix stop" may wait for a logger that is gone."""
    try:
        with open(directory + "/spool/pid/master.pid") as f:
            os.kill(int(f.read()), signal.SIGTERM)
    except (OSError, ValueError):
        pass


def peer_empty(directory):
    p = subprocess.run(["postqueue", "-c", directory + "/etc", "-p"],
                       capture_output=True, text=True)
    return "Mail queue is empty" in p.stdout


# What Postfix said is in the case files, too.
@pytest.mark.long
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("postfix"),
                    reason="needs root and Postfix")
@pytest.mark.parametrize("name", rewrite_cases.names())
def test_postfix_agrees(name):
    file = rewrite_cases.File(name)
    sink = Sink()
    port = free_port()
    directory = tempfile.mkdtemp(prefix="postern-peer-", dir="/tmp")
    os.chmod(directory, 0o755)
    conf = {**routes(sink.port), "virtual_mailbox_domains": "",
            # its own logger sometimes keeps it waiting at start and stop
            "virtual_mailbox_maps": "", "maillog_file": "",
            "smtp_dns_support_level": "disabled",
            "smtp_host_lookup": "native", **file.conf}
    try:
        subprocess.run([PEER, "start", directory, str(port)], check=True,
                       text=True, timeout=60, input="".join(
                           f"{k} = {v}\n" for k, v in conf.items()))
        refused = rewrite_cases.send(port, file.cases)
        wait_for("Postfix to deliver", lambda: peer_empty(directory), 60)
    finally:
        peer_stop(directory)
        shutil.rmtree(directory, ignore_errors=True)
        sink.close()
    got = rewrite_cases.results(file.cases, refused, sink.messages)
    if os.environ.get("RECORD"):
        file.record(got)
        return
    for case, lines in zip(file.cases, got):
        assert lines == case.expected, "\n".join(case.lines)
