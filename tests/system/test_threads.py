"""Commands say their threads; a training goes on with those that it began with."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from sde_gen.checkpoint import store as checkpoint
from sde_gen.cli import threads, training
from sde_gen.training.autotune import Execution
from tests.helpers.commands import TINY, enter, mistake

FILES = ("net.safetensors", "ema.safetensors", "optimizer.safetensors")
MORE = [
    *TINY,
    "engine.checkpoint_every=64",
    "lr_schedule.warmup=64",
    "engine.preview_every=1000000",
    "preview.n=1",
]


class Measured:
    """In the place of a measurement: what it finds, as often as it is asked."""

    found: ClassVar[list[Execution]] = []

    def __init__(self, **_: object) -> None:
        pass

    def __call__(self, formats: object, trial: object) -> Execution:
        return self.found.pop()


@pytest.fixture
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment that says nothing of threads, and two of them."""
    for name in threads.THREAD_VARS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "Autotune", Measured)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def last(run: Path) -> Path:
    return checkpoint.paths(run / "checkpoints")[-1]


@pytest.mark.long
@pytest.mark.usefixtures("_quiet")
@pytest.mark.filterwarnings("error::UserWarning")
def test_a_training_resumes_with_its_threads_bit_identically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    one, two = (Execution(threads=count, channels_last=False) for count in (1, 2))
    monkeypatch.setattr(Measured, "found", [one])
    enter("train", *MORE, f"run={whole}")
    assert "measured at the start" in capfd.readouterr().out

    monkeypatch.setattr(Measured, "found", [two, one])  # the second time another one were faster
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(
            training.GracefulShutdown, "__call__", lambda self: len(asked) == 2 or asked.append(self)
        )
        with pytest.raises(SystemExit, match="143"):  # 128 + SIGTERM: not to be taken for a whole training
            enter("train", *MORE, f"run={parts}")
    assert last(parts).name == f"{3 * 64:012d}"
    capfd.readouterr()
    enter("train", *MORE, f"run={parts}")
    assert "1 (as the training began)" in " ".join(capfd.readouterr().out.split())
    assert Measured.found == [two], "it is not measured again"
    assert checkpoint.about(last(parts))["execution"] == {"threads": 1, "channels_last": False}
    for name in FILES:
        assert (last(parts) / name).read_bytes() == (last(whole) / name).read_bytes()


@pytest.mark.long
@pytest.mark.usefixtures("_quiet")
def test_changed_threads_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Measured, "found", [Execution(threads=2, channels_last=False)])
    with monkeypatch.context() as patch:
        patch.setattr(training.GracefulShutdown, "__call__", lambda self: True)
        with pytest.raises(SystemExit, match="143"):
            enter("train", *MORE, f"run={tmp_path}")
    with pytest.warns(
        UserWarning, match=r"execution\.threads: 2 -> 1; .*with another number of threads .* bits may differ"
    ):
        enter("train", *MORE, f"run={tmp_path}", "threads=1")
    assert "threads=1" in capfd.readouterr().out
    assert checkpoint.about(last(tmp_path))["execution"] == {"threads": 1, "channels_last": False}

    for name, more in (
        ("sample", ["n=2", "steps=2"]),
        ("evaluate", ["n=2", "integrator.steps=2", "metric.bpd.diagnose_every=null"]),
        ("benchmark", ["n=2", "solvers=[ddim]", "steps=[2]", "reference.steps=4"]),
    ):
        monkeypatch.setattr(Measured, "found", [Execution(threads=1, channels_last=False)])
        enter(name, f"run={tmp_path}", *more)
        assert "1 (of " in " ".join(capfd.readouterr().out.split())
        assert not Measured.found
        assert torch.get_num_threads() == 2
    for name in ("train", "sample", "evaluate", "benchmark"):
        for bad in ("0", "two", "1.5") if name == "train" else ("0",):
            assert f"threads={bad}: expected a whole number" in mistake(
                capfd, name, f"run={tmp_path}", f"threads={bad}"
            )
    out = tmp_path / "evaluation" / "bpd.json"
    assert "threads" not in json.loads(out.read_text())["settings"]
