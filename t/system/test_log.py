"""Tools that read Postfix's log read ours."""
import re
import shutil

import pytest
from postern import mail, mail_with, run


def test_pflogsumm_counts_what_happened(make, sink):
    if not shutil.which("pflogsumm"):
        pytest.fail("pflogsumm is missing: t/deps check installs it")
    gw = make(sink)
    # it does not know "tls="
    gw.set(smtp_log_tls_feature_status="no")
    gw.command("reload")
    with gw.client() as c:
        c.ehlo()
        for i in range(3):
            assert c.message("a@client.example", "user@example.com",
                             mail(f"m{i}")).code == 250
        assert c.message("a@client.example", "user@example.com",
                         mail("ILOVEYOU")).code == 550
        assert c.message("a@client.example", "user@example.com",
                         mail_with("invoice.pdf.exe")).code == 550
    sink.wait(3)
    gw.wait_log(r"(?s)(removed.*){3}")
    gw.wait_log(r"(?s)(: reject: .*){2}")
    out = run("pflogsumm", "--syslog_name=postern", gw.log_path).stdout

    def total(what):
        return int(re.search(rf"(?m)^\s*(\d+)\s+{what}\b", out).group(1))
    assert total("delivered") == 3, out
    assert total("deferred") == 0 and total("bounced") == 0, out
    assert total("rejected") == 2, out
    assert total("senders") == 1 and total("recipients") == 1, out
