import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from milter_mta import mta, server  # noqa: E402,F401
from postern import Instance, Sink  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "long: minutes; in check-long only")
    config.addinivalue_line("markers", "ours: not a matter for Postfix, "
                            "which is asked the others of its file too")


def pytest_collection_modifyitems(items):
    items[:] = [i for i in items if not (
        i.get_closest_marker("ours") and
        i.callspec.params.get("server") == "postfix")]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.failed_call = outcome.get_result().failed


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


@pytest.fixture
def make(request):
    """make(sink, main={...}): a gateway that is stopped and checked after the
    test; the log of one that failed is shown."""
    made = []

    def make(*args, **kw):
        made.append(Instance(*args, **kw))
        return made[-1]
    yield make
    failed = getattr(request.node, "failed_call", False)
    trouble = []
    for gw in reversed(made):
        if failed:
            print(f"--- log of {gw.dir}\n" + "".join(
                gw.log().splitlines(True)[-60:]))
        try:
            gw.destroy(check=not failed)
        except AssertionError as e:
            trouble.append(str(e))
    assert not trouble, "\n".join(trouble)


@pytest.fixture
def gw(make, sink):
    """A gateway with a sink behind it."""
    return make(sink)


need_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
