"""A training that is killed, for real and at a random moment, goes on to the very same weights."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sde_gen.cli import train
from tests.helpers.subprocesses import Child, children, wait_for
from tests.helpers.tar_images import shards

BUDGET = 1024
COMMAND = (
    "sde_gen.train model.width=8 model.blocks=1 model.dropout=0.1 engine.batch_size=32 engine.accumulation=2 "
    f"engine.images={BUDGET} engine.log_every=128 engine.checkpoint_every=64 engine.preview_every=1024 "
    "engine.validate=8 preview.n=1 preview.sampler.steps=2"
).split()
FILES = ("net.safetensors", "ema.safetensors", "optimizer.safetensors")


def command(run: Path, *words: str) -> None:
    """Run the command in a separate process."""
    os.chdir(run.parent)
    sys.argv = [*COMMAND, *words, f"run={run}"]
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


def finish(child: Child, code: int = 0) -> str:
    """Wait for the end; what it said."""
    (found,) = wait_for([child], limit=100)
    assert found.code == code, found.text
    return " ".join(found.text.split())


def weights(run: Path) -> dict[str, bytes]:
    folder = run / "checkpoints" / saved(run)[-1]
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def begin():
    """Begin the command; always the same for the same run."""
    with children() as begun:
        yield lambda run, words=(): begun(command, run, *words)


def check(tmp_path: Path, begin: Callable[..., Child], *words: str) -> None:
    """Kill a training, stop it, let it end; it ends in the weights of the unbroken one."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    unbroken = begin(whole, words)

    delay = random.uniform(0, 0.3)  # truly random: any moment must do; shown if the test fails
    print("delay", delay)
    child = begin(broken, words)
    wait_for_progress(child, broken)
    time.sleep(delay)
    child.process.kill()
    child.process.join()
    assert child.process.exitcode == -signal.SIGKILL
    at_kill = saved(broken)
    assert at_kill
    assert int(at_kill[-1]) < BUDGET

    child = begin(broken, words)
    wait_for_progress(child, broken)
    child.process.terminate()
    assert "stopped by a signal" in finish(child, 128 + signal.SIGTERM)
    at_stop = saved(broken)
    assert int(at_kill[-1]) < int(at_stop[-1]) < BUDGET

    finish(begin(broken, words))
    finish(unbroken)
    assert int(saved(whole)[-1]) == int(saved(broken)[-1]) == BUDGET
    assert weights(whole) == weights(broken)
    assert not list(broken.glob("checkpoints/.*"))
    assert weights(whole) != {
        name: (broken / "checkpoints" / saved(broken)[-2] / name).read_bytes() for name in FILES
    }


def test_killed_and_stopped_trainings_end_in_the_weights_of_the_unbroken_one(tmp_path, begin):
    check(tmp_path, begin)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["data.cache=cache"]])
def test_so_do_trainings_from_shards(tmp_path, begin, more):
    """Decoded from tar files a step ahead, or cached by whichever of the processes comes first."""
    shards(tmp_path, count=4, images=32)
    pattern = f"data.train='{tmp_path}/train-{{000..003}}.tar'"
    check(tmp_path, begin, "data=shards", pattern, "data.size=8", "augmentation=horizontal_flip", *more)
