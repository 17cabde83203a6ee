"""A training that is killed, for real and at a random moment, goes on to the very same weights."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUDGET = 1024
COMMAND = (
    "-m sde_gen.train model.width=8 model.dropout=0.1 engine.batch_size=32 engine.accumulation=2 "
    f"engine.images={BUDGET} engine.log_every=128 engine.checkpoint_every=64 engine.preview_every=1024 "
    "engine.validate=8 preview.n=1 preview.sampler.steps=2"
).split()
FILES = ("net.safetensors", "ema.safetensors", "optimizer.safetensors")


def start(run: Path) -> subprocess.Popen[str]:
    """The command; always the same for the same run."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *COMMAND, f"run={run}"],
        env=environment,
        cwd=run.parent,
        text=True,
        stdout=-1,
        stderr=-2,
    )


def saved(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("[0-9]*"))


def wait_for_progress(process: subprocess.Popen[str], run: Path) -> None:
    """Return when another checkpoint than those of before has appeared."""
    before = saved(run)
    while saved(run) == before:
        if process.poll() is not None:
            pytest.fail(f"it ended too early, with {process.returncode}: {process.communicate()[0]}")
        time.sleep(0.005)


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    return output


def weights(run: Path) -> dict[str, bytes]:
    folder = run / "checkpoints" / saved(run)[-1]
    return {name: (folder / name).read_bytes() for name in FILES}


def test_killed_and_stopped_trainings_end_in_the_weights_of_the_unbroken_one(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    unbroken = start(whole)

    delay = random.uniform(0, 0.3)  # truly random: any moment must do; shown if the test fails
    print("delay", delay)
    process = start(broken)
    wait_for_progress(process, broken)
    time.sleep(delay)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    at_kill = saved(broken)
    assert at_kill
    assert int(at_kill[-1]) < BUDGET

    process = start(broken)
    wait_for_progress(process, broken)
    process.send_signal(signal.SIGTERM)
    assert "stopped by a signal" in " ".join(finish(process).split())
    at_stop = saved(broken)
    assert int(at_kill[-1]) < int(at_stop[-1]) < BUDGET

    finish(start(broken))
    finish(unbroken)
    assert int(saved(whole)[-1]) == int(saved(broken)[-1]) == BUDGET
    assert weights(whole) == weights(broken)
    assert not list(broken.glob("checkpoints/.*"))
    assert weights(whole) != {
        name: (broken / "checkpoints" / saved(broken)[-2] / name).read_bytes() for name in FILES
    }
