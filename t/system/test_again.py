"""t/check --again: what failed beside the other tests is tried once alone."""
import os
import re
import shutil
import subprocess

import pytest
from postern import TOP

# Each test finds out by a file whether it was run before.
TEST = '''import os

def fails(name, times):
    path = os.path.join(os.path.dirname(__file__), name)
    with open(path, "a+") as f:
        f.write(".")
    assert os.path.getsize(path) > times, "failure %d of %s" % (
        os.path.getsize(path), name)

'''


def check(tmp_path, files, *args):
    """t/check over these files; its exit status and what it printed."""
    os.makedirs(tmp_path / "t/system")
    shutil.copy(os.path.join(TOP, "t/check"), tmp_path / "t")
    (tmp_path / "Makefile").write_text("all units tools:\n")
    for name, text in files.items():
        (tmp_path / "t/system" / name).write_text(text)
    p = subprocess.run(
        [str(tmp_path / "t/check"), "--build", "CC=gcc", "--only", "system",
         *args], capture_output=True, text=True, timeout=120)
    return p.returncode, p.stdout


def check_tests(tmp_path, tests, *args):
    """Over tests that fail so often; also how often each was run."""
    files = {}
    for name, times in tests.items():
        file, name = name.split("::")
        files[file] = files.get(file, TEST) + \
            f"def {name}():\n    fails('{name}', {times})\n\n"
    return *check(tmp_path, files, *args), [os.path.getsize(
        tmp_path / "t/system" / name.split("::")[1]) for name in tests]


def last(out, n=1):
    return out.splitlines()[-n:]


def test_passes_alone(tmp_path):
    status, out, runs = check_tests(tmp_path, {
        "test_a.py::test_once": 1, "test_a.py::test_good": 0,
        "test_b.py::test_other": 0}, "--again", "3")
    assert status == 0, out
    assert runs == [2, 1, 1]
    assert last(out, 3) == [
        "UNSTEADY test_a.py::test_once (gcc): failed once, passed alone",
        "1 unsteady", "3 passed, 0 failed"]
    # what it said when it failed
    assert "failure 1 of test_once" in out
    assert "FAIL  test_a.py (gcc)" in out
    assert "ok    alone: test_a.py::test_once (gcc)" in out
    assert not re.search(r"(?m)^failed: ", out)


def test_fails_alone_too(tmp_path):
    status, out, runs = check_tests(tmp_path, {
        "test_a.py::test_twice": 2, "test_a.py::test_once": 1},
        "--again", "3")
    assert status == 1
    assert runs == [2, 2]
    assert "failure 1 of test_twice" in out
    assert "failure 2 of test_twice" in out
    assert "FAIL  alone: test_a.py::test_twice (gcc)" in out
    assert "failed: test_a.py (gcc)" in out
    assert "UNSTEADY test_a.py::test_twice" not in out
    assert last(out) == ["1 passed, 1 failed"]


@pytest.mark.parametrize("more", [(), ("--again", "3"), ("--again", "0")])
def test_not_run_again(tmp_path, more):
    """Nobody asked for it, or there are too many."""
    status, out, runs = check_tests(tmp_path, {
        f"test_a.py::test_{n}": 1 for n in range(4 if "3" in more else 1)},
        *more)
    assert status == 1
    assert set(runs) == {1}
    assert "UNSTEADY" not in out and "alone" not in out
    assert last(out) == [f"0 passed, {len(runs)} failed"]


def test_no_test_that_could_be_named(tmp_path):
    """A file that is no Python, and one that ends the interpreter."""
    status, out = check(tmp_path, {
        "test_bad.py": "(\n",
        "test_end.py": "import os\n\ndef test_end():\n    os._exit(3)\n"},
        "--again", "3")
    assert status == 1
    assert "UNSTEADY" not in out
    assert last(out) == ["0 passed, 2 failed"]
