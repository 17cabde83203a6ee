"""A training that is killed, for real and at a random moment, goes on to the very same weights."""

import multiprocessing
import os
import random
import signal
import sys
import time
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest
import torch

from sde_gen import train

ROOT = Path(__file__).parents[2]
BUDGET = 1024
COMMAND = (
    "sde_gen.train model.width=8 model.blocks=1 model.dropout=0.1 engine.batch_size=32 engine.accumulation=2 "
    f"engine.images={BUDGET} engine.log_every=128 engine.checkpoint_every=64 engine.preview_every=1024 "
    "engine.validate=8 preview.n=1 preview.sampler.steps=2"
).split()
FILES = ("net.safetensors", "ema.safetensors", "optimizer.safetensors")


@pytest.fixture
def processes(monkeypatch) -> ForkServerContext:
    """Processes that begin with everything imported, which takes longer than the training."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sde_gen.train", "torch._dynamo"])  # the latter is imported by optimisers
    return context


def output(run: Path) -> str:
    return run.with_suffix(".txt").read_text()


def command(run: Path) -> None:
    """What the command does, in a process of its own."""
    with run.with_suffix(".txt").open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(run.parent)
    torch.set_num_threads(1)
    sys.argv = [*COMMAND, f"run={run}"]
    train.main()


def start(processes: ForkServerContext, run: Path) -> ForkServerProcess:
    """The command; always the same for the same run."""
    process = processes.Process(target=command, args=(run,))
    process.start()
    return process


def saved(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("[0-9]*"))


def wait_for_progress(process: ForkServerProcess, run: Path) -> None:
    """Return when another checkpoint than those of before has appeared."""
    before = saved(run)
    while saved(run) == before:
        if process.exitcode is not None:
            pytest.fail(f"it ended too early, with {process.exitcode}: {output(run)}")
        time.sleep(0.005)


def finish(process: ForkServerProcess, run: Path) -> None:
    process.join(timeout=100)
    assert process.exitcode == 0, output(run)


def weights(run: Path) -> dict[str, bytes]:
    folder = run / "checkpoints" / saved(run)[-1]
    return {name: (folder / name).read_bytes() for name in FILES}


def test_killed_and_stopped_trainings_end_in_the_weights_of_the_unbroken_one(tmp_path, processes):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    unbroken = start(processes, whole)

    delay = random.uniform(0, 0.3)  # truly random: any moment must do; shown if the test fails
    print("delay", delay)
    process = start(processes, broken)
    wait_for_progress(process, broken)
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    at_kill = saved(broken)
    assert at_kill
    assert int(at_kill[-1]) < BUDGET

    process = start(processes, broken)
    wait_for_progress(process, broken)
    process.terminate()
    finish(process, broken)
    assert "stopped by a signal" in " ".join(output(broken).split())
    at_stop = saved(broken)
    assert int(at_kill[-1]) < int(at_stop[-1]) < BUDGET

    finish(start(processes, broken), broken)
    finish(unbroken, whole)
    assert int(saved(whole)[-1]) == int(saved(broken)[-1]) == BUDGET
    assert weights(whole) == weights(broken)
    assert not list(broken.glob("checkpoints/.*"))
    assert weights(whole) != {
        name: (broken / "checkpoints" / saved(broken)[-2] / name).read_bytes() for name in FILES
    }
