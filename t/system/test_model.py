"""The model of queue/STATES.md (t/model): spin looks at every state there is;
and every mistake that can be put into the model is found."""
import os
import re
import shutil
import subprocess

import pytest

from postern import TOP

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not shutil.which("spin"), reason="needs spin")]
MODELS = {"states.pml": ["-DONE -DRCPTS=2 -DCRASHES=3",
                         "-DRCPTS=1 -DCRASHES=1"],
          "handover.pml": [""], "parts.pml": [""]}


def source(name):
    return os.path.join(TOP, "t/model", name)


def mistakes(name):
    with open(source(name)) as f:
        return sorted(set(re.findall(r"\bM_[A-Z0-9_]+", f.read())))


def spin(tmp_path, name, options, limit):
    """Output of an exhaustive search."""
    for cmd, seconds in (
            (["spin", *options.split(), "-a", source(name)], 60),
            (["cc", "-O2", "-DSAFETY", "-DNOREDUCE", "-DHC4",
              "-DMEMLIM=4000", "-o", "pan", "pan.c"], 120),
            (["./pan", "-m1000000", "-w25"], limit)):
        out = subprocess.run(cmd, cwd=tmp_path, timeout=seconds, check=False,
                             capture_output=True, text=True).stdout
    return out


@pytest.mark.parametrize("name,options", [
    (n, o) for n, each in MODELS.items() for o in each])
def test_every_state(tmp_path, name, options):
    out = spin(tmp_path, name, options, 1200)
    assert "errors: 0" in out and "not completed" not in out, out
    assert "max search depth too small" not in out, out
    states = int(re.search(r"(\d+) states, stored", out).group(1))
    depth = re.search(r"depth reached (\d+)", out).group(1)
    print(f"{name} {options}: {states} states, depth {depth}")
    assert states > 100


@pytest.mark.parametrize("name,mistake", [
    (n, m) for n in MODELS for m in mistakes(n)])
def test_the_model_can_fail(tmp_path, name, mistake):
    """With this mistake in it."""
    options = "-DONE -DRCPTS=2 -DCRASHES=2" if name == "states.pml" else ""
    out = spin(tmp_path, name, f"{options} -D{mistake}", 600)
    assert "assertion violated" in out, out
