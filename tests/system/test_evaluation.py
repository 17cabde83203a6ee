"""An evaluation that is killed, resumed and shared out leaves the same numbers, each image's once."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sde_gen.evaluation import plan
from tests.system.test_doors import TINY, enter, mistake

ROOT = Path(__file__).parents[2]
FEW = ["n=13", "batch_size=3", "integrator.steps=2", "metric.bpd.closer=4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation") / "digits"
    enter("train", *TINY, "conditioning=class", f"run={folder}")
    return folder


@pytest.fixture(scope="module")
def whole(run: Path) -> dict[str, object]:
    """What an evaluation in one go finds."""
    out = run / "whole"
    enter("evaluate", f"run={run}", f"out={out}", *FEW)
    return report(out)


def report(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "bpd.json").read_text())
    return found


def same(one: dict[str, object], other: dict[str, object]) -> bool:
    keys = ("mean", "standard_error", "spread", "offset", "classes", "image", "per_image")
    return all(one[key] == other[key] for key in keys)


def test_plan_covers_every_image_once() -> None:
    for n in (1, 12, 13, 100):
        batches = plan(100, n, seed=3, batch_size=4)
        images = [image for batch in batches for image in batch]
        assert len(set(images)) == len(images) == n
        assert images == [image for batch in plan(100, 100, seed=3, batch_size=4) for image in batch][:n]


def test_report_tells_parts_and_classes(whole: dict[str, object]) -> None:
    assert whole["images"] == 13
    assert set(whole["spread"]) == {"dequantisation", "probes"}  # type: ignore[call-overload]
    ode = whole["offset"]["ODE"]  # type: ignore[index]
    assert 0 < ode["images"] < 13
    classes = whole["classes"]
    assert sum(one["images"] for one in classes.values()) == 13  # type: ignore[attr-defined]
    assert sum(one["images"] * one["mean"] for one in classes.values()) / 13 == pytest.approx(whole["mean"])  # type: ignore[attr-defined]


def test_a_cut_ledger_goes_on_to_the_same_numbers(
    run: Path, whole: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill leaves it: some batches, half a batch, half a line."""
    from sde_gen.metric import BitsPerDim

    lines = (run / "whole" / "bpd.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "bpd.jsonl").write_bytes(
        b"".join(lines[:6]) + lines[6][:20]
    )  # batch 0, two of batch 1, a half
    measured, ask = [], BitsPerDim.__call__

    def counted(self: BitsPerDim, denoiser: object, values: torch.Tensor, *rest: object) -> object:
        measured.append(len(values))
        return ask(self, denoiser, values, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(BitsPerDim, "__call__", counted)
    with pytest.warns(UserWarning, match="damaged"):
        enter("evaluate", f"run={run}", f"out={tmp_path}", *FEW)
    assert same(report(tmp_path), whole)
    assert sum(measured) == 10, "the three images of the whole batch are not done again"
    measured.clear()
    enter("evaluate", f"run={run}", f"out={tmp_path}", *FEW)
    assert not measured
    assert same(report(tmp_path), whole)


def test_more_images_keep_what_is_done(run: Path, whole: dict[str, object], tmp_path: Path) -> None:
    enter("evaluate", f"run={run}", f"out={tmp_path}", *FEW, "n=6")
    enter("evaluate", f"run={run}", f"out={tmp_path}", *FEW)
    assert same(report(tmp_path), whole)


def test_other_settings_are_refused_until_fresh(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    enter("evaluate", f"run={run}", f"out={tmp_path}", *FEW, "n=3")
    changed = [f"run={run}", f"out={tmp_path}", *FEW, "n=3", "integrator.steps=3"]
    assert re.search(r"steps: 2.*3.*fresh=true", mistake(capfd, "evaluate", *changed))
    enter("evaluate", *changed, "fresh=true")
    assert report(tmp_path)["settings"]["metric"]["integrator"]["steps"] == 3  # type: ignore[index]


def test_a_full_disk_is_said_and_loses_nothing(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sde_gen.engine.ledger import Ledger

    enter("evaluate", f"run={run}", f"out={tmp_path}", *FEW, "n=3")
    before = (tmp_path / "bpd.jsonl").read_bytes()

    def full(self: Ledger, rows: object) -> None:
        raise OSError(28, "No space left on device", str(self.path))

    monkeypatch.setattr(Ledger, "append", full)
    assert "No space left" in mistake(capfd, "evaluate", f"run={run}", f"out={tmp_path}", *FEW)
    assert (tmp_path / "bpd.jsonl").read_bytes() == before


def launched(run: Path, out: Path, processes: int) -> subprocess.CompletedProcess[str]:
    """As torchrun starts them: the same command with ranks in the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    command += [f"--master-port={port}", "-m", "sde_gen.evaluate", f"run={run}", f"out={out}", *FEW]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_any_number_of_processes_finds_the_same(
    run: Path, whole: dict[str, object], tmp_path: Path, processes: int
) -> None:
    done = launched(run, tmp_path, processes)
    assert done.returncode == 0, done.stderr
    found = report(tmp_path)
    assert found["image"] == whole["image"]
    torch.testing.assert_close(
        found["per_image"], whole["per_image"], rtol=0, atol=1e-5
    )  # threads sum otherwise
    assert found["mean"] == pytest.approx(whole["mean"], abs=1e-6)
    lines = (tmp_path / "bpd.jsonl").read_text().splitlines()[1:]
    assert len(lines) == 13, "no image twice"
    assert done.stdout.count("evaluation of") == 1, "one process speaks"
