"""The script of the results table: budgets, sizes, rows that are kept, and the tables."""

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from benchmarks import results
from benchmarks.peer_trainers import PeerTrainer, nearest
from benchmarks.row_metrics import Judge
from sde_gen.data import Digits
from sde_gen.data.codec import UniformCodec
from sde_gen.denoiser import GaussianDenoiser, NetworkDenoiser
from sde_gen.evaluation.features import Pixels
from sde_gen.sde import VP


@dataclass(frozen=True, kw_only=True)
class Slow(PeerTrainer):
    """A trainer whose step takes CPU time, and whose network counts its steps."""

    package: ClassVar[str] = "none"
    process: ClassVar[str] = "none"

    def network(self) -> nn.Module:
        return nearest(lambda d: nn.Linear(d, 1, bias=False), [(d,) for d in (60, 100)], self.count)

    def steps(self, net: nn.Module) -> tuple[Callable[[Tensor, float], None], Callable[[], nn.Module]]:
        def step(x: Tensor, share: float) -> None:
            assert x.shape == (self.batch, 1, 28, 28)
            assert -1 <= float(x.min()) <= float(x.max()) <= 1
            end = time.process_time() + 0.02
            while time.process_time() < end:
                pass
            with torch.no_grad():
                net.weight += 1  # type: ignore[operator]

        return step, lambda: net

    def denoiser(self, net: nn.Module) -> NetworkDenoiser:
        raise NotImplementedError

    def sample(self, net: nn.Module, n: int, steps: int, seed: int) -> Tensor:
        raise NotImplementedError


def test_a_training_ends_with_its_cpu_seconds_and_leaves_its_weights(tmp_path: Path) -> None:
    trainer = Slow(count=97)
    images = torch.randint(0, 256, (50, 1, 28, 28), dtype=torch.uint8)
    before = trainer.network().weight.sum()
    found = trainer.train(images, 0.2, tmp_path / "weights.safetensors")
    assert 0.2 <= found.cpu_seconds < 0.3
    assert 0 < found.images <= 16 * 10
    assert found.images % 16 == 0
    torch.manual_seed(0)
    begin = trainer.network().weight
    taken = trainer.load(tmp_path / "weights.safetensors").weight - begin
    torch.testing.assert_close(taken, torch.full((1, 100), found.images / 16))
    assert before.ndim == 0


def test_a_network_has_as_many_parameters_within_5_percent() -> None:
    with pytest.raises(
        ValueError, match=r"no size has 80 parameters within 5%; the nearest, \(60,\), has 60"
    ):
        Slow(count=79 + 1).network()
    assert Slow(count=61).network().weight.shape == (1, 60)


def test_metrics_of_exact_data_are_near_the_ceiling(tmp_path: Path) -> None:
    """Held-out digits against training digits, and noise; the bits of a Gaussian model of the pixels."""
    splits = Digits().load()
    judge = Judge(splits=splits, folder=tmp_path, images=8, samples=100, reference=200, features=Pixels())
    test = torch.round(splits.test.values[:100].double() * 255 / 16).to(torch.uint8)
    noise = torch.randint(0, 256, test.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    real, null = judge.quality(test, 10), judge.quality(noise, 10)
    assert real["fd_efflite0_10"] < null["fd_efflite0_10"] / 2
    assert real["kid_10"] + 3 * real["kid_10_se"] < null["kid_10"]
    assert len(list(tmp_path.glob("reference-*.safetensors"))) == 1
    codec = UniformCodec(levels=17, low=-1.0, high=1.0)
    model = GaussianDenoiser(sde=VP(), mean=torch.zeros(1, 8, 8), cov=torch.eye(64))
    found = judge.bits(model, codec)
    assert found["bits_per_dim_n"] == 8
    assert 3 < found["bits_per_dim"] < 5


def rows_made(monkeypatch: pytest.MonkeyPatch, fail: str = "") -> list[str]:
    """Let a row be made up in the place of its process; the names of the rows so made."""
    made: list[str] = []

    def run(words: list[str], **_: object) -> SimpleNamespace:
        given = dict(word[2:].split("=", 1) for word in words if "=" in word)
        name = words[words.index("--one") + 1]
        made.append(name)
        if name == fail:
            return SimpleNamespace(returncode=2)
        path = Path(given["out"]) / "rows" / f"{results.slug(name)}-{float(given['minutes']):g}" / "row.json"
        path.parent.mkdir(parents=True)
        numbers = {"fd_efflite0_10": 1.0, "fd_efflite0_10_se": 0.123, "kid_10": 0.1, "kid_10_se": 0.01}
        path.write_text(json.dumps({"row": name, "data": "digits", **numbers}))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return made


def test_rows_are_made_once_and_the_tables_hold_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["results", "--minutes", "1", "--out", str(tmp_path), "--rows",
                                      results.CEILING, "diffusers"])  # fmt: skip
    made = rows_made(monkeypatch, fail="diffusers")
    with pytest.raises(SystemExit, match="no row of diffusers; the same command makes what is missing"):
        results.main()
    assert made == [results.CEILING, "diffusers"]
    made = rows_made(monkeypatch)
    results.main()
    assert made == ["diffusers"], "the other one is kept"
    with (tmp_path / "results.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["row"] for row in found] == [results.CEILING, "diffusers"]
    assert found[0]["fd_efflite0_10_se"] == "0.123"
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert "1.00 +- 0.12" in lines[-1]
    assert len({line.count("|") for line in lines}) == 1
    assert lines[-1] in capsys.readouterr().out


def test_a_killed_training_of_this_package_continues_with_the_same_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainings that take a second to start and 10 ms an image, of which the long one is killed once."""
    used, given = 0.0, list[dict[str, str]]()

    def run(words: list[str], **_: object) -> None:
        nonlocal used
        one = dict(word.split("=", 1) for word in words if "=" in word)
        given.append(one)
        images, saved = int(one["engine.images"]), Path(one["run"]) / "checkpoints" / "1500"
        used += 1 + 0.01 * (images - 1500 * saved.exists())
        if images > 1024 and not saved.exists():
            saved.mkdir(parents=True)
            raise subprocess.CalledProcessError(-9, words)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(results.resource, "getrusage", lambda _: SimpleNamespace(ru_utime=used, ru_stime=0.0))
    with pytest.raises(subprocess.CalledProcessError):
        results.train_ours(tmp_path, 0.5)
    assert [int(one["engine.images"]) for one in given] == [256, 1024, 2900], "half a minute"
    found = results.train_ours(tmp_path, 0.5)
    assert [int(one["engine.images"]) for one in given[3:]] == [2900], "the speed is not measured again"
    assert given[3] == given[2]
    assert found["images"] == 2900
    assert found["resumed_at"] == 1500
    assert found["cpu_seconds"] == pytest.approx(15 * 2900 / 1400)
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json", "run"}


def test_rows_of_one_data_set_have_as_many_samples_and_a_ceiling() -> None:
    sizes = SimpleNamespace(reference=10_000, images=256, samples=1000, out=Path())
    judge = results.judge_of(Digits().load(), sizes)
    assert (judge.samples, judge.reference, judge.images) == (300, 1497, 256)
    assert {data for data, _, _ in results.BASELINES.values()} == {"fashion_mnist", "digits"}
    assert len({(data, what) for data, _, what in results.BASELINES.values()}) == 4
