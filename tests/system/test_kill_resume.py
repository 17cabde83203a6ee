"""A training that is killed, for real and at a random moment, goes on to the very same weights."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from sde_gen import train
from tests.children import Child, children, ended

BUDGET = 1024
COMMAND = (
    "sde_gen.train model.width=8 model.blocks=1 model.dropout=0.1 engine.batch_size=32 engine.accumulation=2 "
    f"engine.images={BUDGET} engine.log_every=128 engine.checkpoint_every=64 engine.preview_every=1024 "
    "engine.validate=8 preview.n=1 preview.sampler.steps=2"
).split()
FILES = ("net.safetensors", "ema.safetensors", "optimizer.safetensors")


def command(run: Path) -> None:
    """What the command does, in a process of its own."""
    os.chdir(run.parent)
    sys.argv = [*COMMAND, f"run={run}"]
    train.main()


def saved(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("[0-9]*"))


def wait_for_progress(child: Child, run: Path) -> None:
    """Return when another checkpoint than those of before has appeared."""
    before = saved(run)
    while saved(run) == before:
        if child.process.exitcode is not None:
            pytest.fail(f"it ended too early, with {child.process.exitcode}: {child.text()}")
        time.sleep(0.005)


def finish(child: Child) -> str:
    """Wait for the end; what it said."""
    (found,) = ended([child], limit=100)
    assert found.code == 0, found.text
    return " ".join(found.text.split())


def weights(run: Path) -> dict[str, bytes]:
    folder = run / "checkpoints" / saved(run)[-1]
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def begin():
    """Begin the command; always the same for the same run."""
    with children() as begun:
        yield lambda run: begun(command, run)


def test_killed_and_stopped_trainings_end_in_the_weights_of_the_unbroken_one(tmp_path, begin):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    unbroken = begin(whole)

    delay = random.uniform(0, 0.3)  # truly random: any moment must do; shown if the test fails
    print("delay", delay)
    child = begin(broken)
    wait_for_progress(child, broken)
    time.sleep(delay)
    child.process.kill()
    child.process.join()
    assert child.process.exitcode == -signal.SIGKILL
    at_kill = saved(broken)
    assert at_kill
    assert int(at_kill[-1]) < BUDGET

    child = begin(broken)
    wait_for_progress(child, broken)
    child.process.terminate()
    assert "stopped by a signal" in finish(child)
    at_stop = saved(broken)
    assert int(at_kill[-1]) < int(at_stop[-1]) < BUDGET

    finish(begin(broken))
    finish(unbroken)
    assert int(saved(whole)[-1]) == int(saved(broken)[-1]) == BUDGET
    assert weights(whole) == weights(broken)
    assert not list(broken.glob("checkpoints/.*"))
    assert weights(whole) != {
        name: (broken / "checkpoints" / saved(broken)[-2] / name).read_bytes() for name in FILES
    }
