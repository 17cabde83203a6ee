"""An evaluation that is killed, resumed and shared out leaves the same numbers, each image's once."""

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from sde_gen.cli import evaluate
from sde_gen.cli.evaluation import plan
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.data import Digits, Splits
from sde_gen.evaluation.metric import BitsPerDim
from sde_gen.likelihood import budget
from sde_gen.likelihood.divergence import Hutchinson
from sde_gen.noise import spawn_seeds
from sde_gen.ode import Adams
from tests.helpers.commands import enter, mistake
from tests.helpers.subprocesses import free_port, run_processes

Report = dict[str, Any]
ROOT = Path(__file__).parents[2]
FEW = ["n=13", "batch_size=3", "integrator.steps=2", "metric.bpd.diagnose_every=4"]


@pytest.fixture(scope="module")
def run(trained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("evaluation") / "digits", "conditioning=class")


@pytest.fixture(scope="module")
def whole(run: Path) -> Report:
    """Return the results of an evaluation without interruption."""
    out = run / "whole"
    enter("evaluate", f"run={run}", f"out={out}", *FEW)
    return report(out)


def report(out: Path) -> Report:
    found: Report = json.loads((out / "bpd.json").read_text())
    return found


def same(one: Report, other: Report) -> bool:
    keys = ("mean", "standard_error", "spread", "offset", "classes", "image", "per_image")
    return all(one[key] == other[key] for key in keys)


def test_plan_covers_every_image_once() -> None:
    for n in (1, 12, 13, 100):
        batches = plan(100, n, seed=3, batch_size=4)
        images = [image for batch in batches for image in batch]
        assert len(set(images)) == len(images) == n
        assert images == [image for batch in plan(100, 100, seed=3, batch_size=4) for image in batch][:n]


def test_report_tells_parts_and_classes(whole: Report) -> None:
    assert whole["images"] == 13
    assert set(whole["spread"]) == {"dequantization", "probes"}
    ode = whole["offset"]["ODE"]
    assert 0 < ode["images"] < 13


def loud(*arguments: Any) -> Run:
    """The run with weights that depend on the label, as those of so short a training do not."""
    opened, generator = load_run(*arguments), torch.Generator().manual_seed(0)
    for parameter in opened.denoiser.net.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return opened


def test_every_image_is_evaluated_with_its_own_class(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the metric by hand, one image at a time with its label; and the table of classes by those labels."""
    monkeypatch.setattr(evaluate, "load_run", loud)
    enter("evaluate", f"run={run}", f"out={tmp_path}", *FEW, "n=7", "metric.bpd.diagnose_every=null")
    found = report(tmp_path)
    opened = loud(OmegaConf.create({"run": str(run), "checkpoint": None, "trust": [], "device": "cpu"}))
    test, seeds = Digits().load().test, spawn_seeds(0, 300)
    assert test.labels is not None
    labels = {image: int(test.labels[image]) for image in found["image"]}
    metric = BitsPerDim(integrator=Adams(steps=2), divergence=Hutchinson(), diagnose_every=None)

    def bits(image: int, label: int) -> float:
        denoiser = opened.bind({"label": torch.tensor([label])})
        return float(metric(denoiser, test.values[[image]], opened.codec, [seeds[image]]).value)

    for image, value in zip(found["image"], found["per_image"], strict=True):
        assert bits(image, labels[image]) == pytest.approx(value, abs=1e-4)
        assert bits(image, (labels[image] + 1) % 10) != pytest.approx(value, abs=1e-3)
    for label, one in found["classes"].items():
        mine = [
            value
            for image, value in zip(found["image"], found["per_image"], strict=True)
            if labels[image] == int(label)
        ]
        assert one["images"] == len(mine)
        assert one["mean"] == pytest.approx(sum(mine) / len(mine))
    assert sum(one["images"] for one in found["classes"].values()) == 7


def test_truncated_results_log_resumes_to_the_same_numbers(
    run: Path, whole: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill leaves it: some batches, half a batch, half a line."""
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


@pytest.mark.long
def test_more_images_keep_whole_batches_and_fill_the_last(run: Path, whole: Report, tmp_path: Path) -> None:
    """An integrator may couple the images of a batch, so one that was not full is done again."""
    enter("evaluate", f"run={run}", f"out={tmp_path}", *FEW, "n=5")
    enter("evaluate", f"run={run}", f"out={tmp_path}", *FEW)
    assert same(report(tmp_path), whole)
    rows = [json.loads(line) for line in (tmp_path / "bpd.jsonl").read_text().splitlines()[1:]]
    last = {row["image"]: (row["batch"], row["of"]) for row in rows}
    batches = plan(300, 13, seed=0, batch_size=3)
    assert last == {image: (index, len(batch)) for index, batch in enumerate(batches) for image in batch}
    assert len(rows) == 13 + 2, "the whole batch is kept"
    enter("evaluate", f"run={run}", f"out={tmp_path}", *FEW, "n=5")
    assert len((tmp_path / "bpd.jsonl").read_text().splitlines()[1:]) == 13 + 2 + 2, "two of a batch of three"


def test_other_settings_are_refused_until_fresh(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    enter("evaluate", f"run={run}", f"out={tmp_path}", *FEW, "n=3")
    first = [f"run={run}", f"out={tmp_path}", *FEW, "n=3"]
    assert re.search(r"seed: 0.*1.*fresh=true", mistake(capfd, "evaluate", *first, "seed=1"))
    changed = [*first, "integrator.steps=3"]
    assert re.search(r"steps: 2.*3.*fresh=true", mistake(capfd, "evaluate", *changed))
    enter("evaluate", *changed, "fresh=true")
    assert report(tmp_path)["settings"]["metric"]["integrator"]["steps"] == 3


def test_other_weights_and_other_data_are_other_settings(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One number changed in either, and nothing that the configuration says."""
    first = [f"run={run}", f"out={tmp_path}", *FEW, "n=3"]
    enter("evaluate", *first)

    def heavier(*arguments: Any) -> Run:
        opened = load_run(*arguments)
        next(opened.denoiser.net.parameters()).data.view(-1)[0] += 1e-3
        return opened

    def brighter(opened: Run, moved: dict[str, Any]) -> Splits:
        splits = open_data(opened, moved)
        splits.test.values.view(-1)[-1] += 1
        return splits

    for name, changed in (("load_run", heavier), ("open_data", brighter)):
        with monkeypatch.context() as patch:
            patch.setattr(evaluate, name, changed)
            what = "model" if name == "load_run" else "data"
            assert re.search(rf"other settings \({what}: ", mistake(capfd, "evaluate", *first))


@pytest.mark.parametrize(
    ("offsets", "expected", "warned"),
    [
        ([], "none of these images", False),
        ([0.3], r"\+0.3000 bits/dim \(one image\)", False),
        ([0.3, 0.31], r"\+0.3050 \+- 0.0050 bits/dim \(2 images\)", True),
        ([0.0, 1e-3], r"\+0.0005", False),
    ],
)
def test_the_error_of_the_ode_is_reported_and_warned_of(
    offsets: list[float], expected: str, warned: bool
) -> None:
    values = torch.linspace(0, 2, 50, dtype=torch.float64)
    offset = torch.full((50,), torch.nan, dtype=torch.float64)
    offset[: len(offsets)] = torch.tensor(offsets, dtype=torch.float64)
    text = evaluate._parts(budget(values, {}, {"ODE": offset}), "bits/dim")["  error of the ODE"]
    assert re.search(expected, text)
    assert ("WARNING" in text) == warned
    assert "nan" not in text


def test_a_process_that_fails_early_leaves_nobody_waiting(run: Path, tmp_path: Path) -> None:
    """Two processes that no torchrun looks after."""
    words = "evaluate", f"run={run}", f"out={tmp_path}", *FEW
    found = run_processes([(enter, *words, f"split={split}") for split in ("test", "nosuch")], limit=30)
    assert [code for code, _ in found] == [2, 2], found


def is_distributed(run: Path, out: Path, processes: int) -> subprocess.CompletedProcess[str]:
    """As torchrun starts them: the same command with ranks in the environment."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    command += [f"--master-port={free_port()}", "-m", "sde_gen.evaluate", f"run={run}", f"out={out}", *FEW]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_any_number_of_processes_finds_the_same(
    run: Path, whole: Report, tmp_path: Path, processes: int
) -> None:
    done = is_distributed(run, tmp_path, processes)
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


def cramped(capacity: int) -> Callable[..., Run]:
    """Open a run on a device whose memory fits the given number of images."""

    def opened(*arguments: Any) -> Run:
        found = loud(*arguments)

        def check(net: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            if len(given[0]) > capacity:
                raise torch.OutOfMemoryError("CUDA out of memory")

        found.denoiser.net.register_forward_pre_hook(check)
        return found

    return opened


@pytest.mark.long
def test_a_batch_that_does_not_fit_is_halved(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same images, same draws, same count of evaluations; the numbers to rounding, as a matrix has other rows."""
    words = [f"run={run}", *FEW, "n=11", "batch_size=8"]
    monkeypatch.setattr(evaluate, "load_run", loud)
    enter("evaluate", *words, f"out={tmp_path / 'whole'}")
    monkeypatch.setattr(evaluate, "load_run", cramped(3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        enter("evaluate", *words, f"out={tmp_path / 'parts'}")
    assert [str(note.message) for note in caught if "memory" in str(note.message)] == [
        "out of memory with a batch of 8 samples; continuing with 4",
        "out of memory with a batch of 4 samples; continuing with 2",
    ]
    whole, parts = (report(tmp_path / name) for name in ("whole", "parts"))
    assert whole["image"] == parts["image"]
    assert whole["network_evaluations_per_image"] == parts["network_evaluations_per_image"]
    assert parts["per_image"] == pytest.approx(whole["per_image"], abs=1e-4)
    rows = [json.loads(line) for line in (tmp_path / "parts" / "bpd.jsonl").read_text().splitlines()[1:]]
    assert {(row["batch"], row["of"]) for row in rows} == {(0, 8), (1, 3)}, "a batch stays a batch"


def test_a_batch_of_coupled_images_is_not_halved(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Steps chosen for a whole batch are others for a half, and so would the numbers be."""
    monkeypatch.setattr(evaluate, "load_run", cramped(2))
    words = [f"run={run}", "integrator=torch_diffeq", "n=4", "batch_size=4", f"out={tmp_path}"]
    assert "try a smaller batch_size" in mistake(capfd, "evaluate", *words)
