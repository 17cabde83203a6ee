"""Metrics of samples by the command: killed, resumed and shared out they leave the same numbers."""

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sde_gen.cli import quality
from sde_gen.cli.loaded_run import load
from sde_gen.data import Digits
from sde_gen.evaluation.features import Classifier, Statistics, extract
from sde_gen.evaluation.image_set import read_folder
from sde_gen.evaluation.metric import FrechetDistance
from sde_gen.sampler import Sampler
from tests.helpers.subprocesses import run_processes
from tests.system.test_commands import TINY, enter, mistake

Report = dict[str, Any]
FEW = ["metrics=[fid,memorization]", "features=classifier", "n=60", "draws=2", "batch_size=16", "steps=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality") / "digits"
    enter("train", *TINY, "conditioning=class", f"run={folder}")
    return folder


@pytest.fixture(scope="module")
def whole(run: Path) -> Path:
    """The folder of an evaluation in one go."""
    enter("evaluate", f"run={run}", f"out={run / 'whole'}", *FEW)
    return run / "whole"


def report(out: Path, metric: str = "fid") -> Report:
    (file,) = out.glob(f"{metric}-*.json")
    found: Report = json.loads(file.read_text())
    return found


def same(one: Report, other: Report) -> bool:
    return {**one, "seconds": 0} == {**other, "seconds": 0}


def samples(out: Path) -> list[Path]:
    """Files of the images of the draws."""
    return sorted(path for path in out.glob("samples-*/*.safetensors") if path.name.count(".") == 1)


@pytest.mark.long
def test_report_records_all_settings(run: Path, whole: Path) -> None:
    found = report(whole)
    assert found["name"] == "FD-classifier@60"
    assert [draw["seeds"] for draw in found["draws"]] == [[0, 59], [60, 119]]
    values = [draw["quantities"]["FD-classifier@60"]["value"] for draw in found["draws"]]
    assert found["mean"] == pytest.approx(sum(values) / 2)
    assert found["minimum_of_draws"] == min(values)
    assert len(set(values)) == 2
    assert found["network_evaluations_per_sample"] == 3
    assert found["settings"]["sampling"]["sampler"]["solver"]["_target_"] == "sde_gen.solver.StraightAdams"
    assert found["draws"][0]["reference_images"] == 1497
    assert found["draws"][0]["settings"]["sha256"] == Classifier().sha256
    baselines = {what: one["quantities"] for what, one in found["baselines"].items()}
    assert [what.split(":")[0] for what in baselines] == ["ceiling", "null", "null"]
    assert baselines["ceiling: held-out images"]["FD-classifier@300"]["value"] < min(values) / 3


def test_results_equal_those_in_python(run: Path, whole: Path) -> None:
    """The ceiling by hand from the data, the cached statistics to the bit, and the draws from the stored images."""
    splits = Digits().load()
    train, test = (
        torch.round(part.values.double() * (255 / 16)).to(torch.uint8) for part in (splits.train, splits.test)
    )
    by_hand = FrechetDistance(features=Classifier())(test, train, batch_size=500)
    found = report(whole)["baselines"]["ceiling: held-out images"]["quantities"]["FD-classifier@300"]
    assert found["value"] == pytest.approx(by_hand.value, rel=1e-4)
    assert found["standard_error"] == pytest.approx(by_hand.se, rel=1e-3)
    (stored,) = (whole / "reference" / splits.train.fingerprint()).glob("*.npz")
    assert Statistics.load(stored).about["fingerprint"] == splits.train.fingerprint()
    images = torch.cat([quality.load(path)["images"] for path in samples(whole)])
    assert images.shape == (120, 1, 8, 8)
    draw = FrechetDistance(features=Classifier()).checked(
        extract(Classifier(), images[:60]), extract(Classifier(), train, batch_size=1024)
    )
    assert report(whole)["draws"][0]["quantities"]["FD-classifier@60"]["value"] == pytest.approx(
        draw.value, rel=1e-4
    )


@pytest.mark.slow
def test_labels_are_drawn_uniformly(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each class with its own share of chance, not in turn; the same labels whatever the batch."""
    labels = quality._labels
    drawn = []
    monkeypatch.setattr(quality, "_labels", lambda *given: drawn.append(labels(*given)) or drawn[-1])
    enter("evaluate", f"run={run}", f"out={tmp_path}", *FEW, "baselines=false", "metrics=[energy_distance]")
    labels = drawn[0]["label"]
    counts = torch.bincount(labels, minlength=10)
    assert len(labels) == 120
    assert counts.min() > 0
    assert len(counts.unique()) > 1, "not balanced"


def test_results_after_a_kill_are_identical(
    run: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some batches are there, one has images and no features, the report is not."""
    shutil.copytree(whole, tmp_path / "cut")
    files = samples(tmp_path / "cut")
    files[1].unlink()
    for path in [*files[1].parent.glob(f"{files[1].stem}.*"), *files[2].parent.glob(f"{files[2].stem}.c*")]:
        path.unlink()
    for path in (tmp_path / "cut").glob("*.json"):
        path.unlink()
    drawn = []
    ask = Sampler.__call__
    monkeypatch.setattr(
        Sampler,
        "__call__",
        lambda self, model, shape, **more: drawn.append(shape[0]) or ask(self, model, shape, **more),
    )
    enter("evaluate", f"run={run}", f"out={tmp_path / 'cut'}", *FEW)
    assert drawn == [16], "one batch is drawn again"
    assert same(report(tmp_path / "cut"), report(whole))
    assert same(report(tmp_path / "cut", "memorization"), report(whole, "memorization"))


@pytest.mark.slow
def test_more_samples_reuse_earlier_ones(run: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    ask = Sampler.__call__
    monkeypatch.setattr(
        Sampler,
        "__call__",
        lambda self, model, shape, **more: drawn.append(shape[0]) or ask(self, model, shape, **more),
    )
    enter("evaluate", f"run={run}", f"out={whole}", *FEW, "n=64", "draws=1", "metrics=[energy_distance]")
    assert drawn == [16], "the last batch was not full"
    assert len(list(whole.glob("fid-*.json"))) == 1


@pytest.mark.slow
def test_two_processes_equal_one(run: Path, whole: Path, tmp_path: Path) -> None:
    words = "evaluate", f"run={run}", f"out={tmp_path}", *FEW
    found = run_processes([(enter, *words)] * 2, limit=110)
    assert [code for code, _ in found] == [0, 0], found
    assert "".join(text for _, text in found).count("samples of") == 1, "one process reports"
    assert same(report(tmp_path), report(whole))


@pytest.mark.slow
def test_references(run: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the training images and a file of their statistics give the number of the training split."""
    splits = Digits().load()
    folder = tmp_path / "train"
    folder.mkdir()
    levels = torch.round(splits.train.values.double() * (255 / 16)).to(torch.uint8)
    for index, image in enumerate(levels):
        Image.fromarray(image[0].numpy()).save(folder / f"{index:05d}.png")
    statistics = extract(Classifier(), levels, batch_size=1024).statistics
    np.savez(tmp_path / "edm.npz", mu=statistics.mean.numpy(), sigma=statistics.cov.numpy())
    expected = report(whole)["draws"][0]["quantities"]["FD-classifier@60"]["value"]
    words = [f"run={run}", *FEW, "metrics=[fid]", "draws=1", "baselines=false"]
    edm2 = {"fid": {"mu": statistics.mean.numpy(), "sigma": statistics.cov.numpy()}, "num_images": 1497}
    (tmp_path / "edm2.pkl").write_bytes(pickle.dumps(edm2))
    monkeypatch.setattr(Classifier, "edm2_key", "fid")
    for number, reference in enumerate((folder, tmp_path / "edm.npz", tmp_path / "edm2.pkl")):
        out = tmp_path / f"{number}"
        shutil.copytree(whole, out, ignore=shutil.ignore_patterns("*.json", "reference"))
        enter("evaluate", *words, f"out={out}", f"reference={reference}")
        found = report(out)["draws"][0]["quantities"]["FD-classifier@60"]["value"]
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "part", [slice(0, 3), pytest.param(slice(3, None), marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_invalid_input_is_rejected(
    run: Path, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], part: slice
) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    empty, other = tmp_path / "empty", tmp_path / "other"
    for folder in (empty, other):
        folder.mkdir()
    Image.new("L", (9, 9)).save(other / "a.png")
    wrong = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1)}, wrong)
    np.savez(tmp_path / "inception.npz", mu=np.zeros(2048), sigma=np.eye(2048, dtype=np.float32))
    words = [f"run={run}", f"out={whole}", *FEW]
    cases = (
        (
            ["features=inception"],
            "needs a weight file: give features.weights=FILE, and features.download=true",
        ),
        (["features=inception", f"features.weights={tmp_path / 'no.pth'}"], "there is no weight file"),
        (["features=inception", f"features.weights={wrong}"], "has SHA-256 .* expected 6726825d"),
        (["features=inception", "features.download=true"], "give features.weights=FILE"),
        (["features=classifier", "features.weights=fashion_mnist"], "1x28x28"),
        (["features=classifier", "features.weights=nosuch"], "digits, fashion_mnist"),
        ([f"reference={empty}"], "holds no images"),
        ([f"reference={other}"], r"\(1, 9, 9\).*resize"),
        ([f"reference={tmp_path / 'nosuch'}"], "expected train, test, a folder"),
        ([f"reference={tmp_path / 'no.npz'}"], "there is no file of statistics"),
        ([f"reference={tmp_path / 'inception.npz'}"], "2048 features"),
        (["metrics=[kid]"], "metric.kid.subset_size=30"),
        (["metrics=[nosuch]"], "unknown"),
        (["draws=0"], "draws=0"),
        (["dequantization=noised"], "no effect"),
    )
    for more, expected in cases[part]:
        line = mistake(capfd, "evaluate", *words, *more)
        assert re.search(expected, line), line
    after = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert {path: content for path, content in after.items() if path in before} == before


@pytest.mark.long
def test_what_no_sample_can_change_is_refused_before_sampling(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "other.npz", mu=np.zeros(9), sigma=np.eye(9))
    np.savez(tmp_path / "same.npz", mu=np.zeros(48), sigma=np.eye(48))
    words = [f"run={run}", f"out={tmp_path / 'out'}", *FEW]
    for more, expected in (
        (["metrics=[fid,kid]"], "metric.kid.subset_size=30"),
        (["metrics=[fid,inception_score]", "features=pixels"], "no logits"),
        (["metrics=[precision_recall]", "n=4"], "at least 5 images"),
        (["metrics=[fid]", "n=1"], "n=1 is too small"),
        (["metrics=[fid]", f"reference={tmp_path / 'other.npz'}"], "9 features"),
        (["metrics=[fid,kid]", f"reference={tmp_path / 'same.npz'}"], "needs the images of the reference"),
    ):
        assert expected in mistake(capfd, "evaluate", *words, *more)
        assert not list((tmp_path / "out").glob("samples-*")), more
    words = [*TINY, f"run={tmp_path / 'run'}", "quality.metrics=[fid,kid]", "quality.n=60"]
    assert "metric.kid.subset_size=30" in mistake(capfd, "train", *words)
    words[-2:] = ["quality.metrics=[inception_score]", "features@quality.features=pixels"]
    assert "no logits" in mistake(capfd, "train", *words)
    words[-1] = "quality.features.weights=fashion_mnist"
    assert "1x28x28" in mistake(capfd, "train", *words)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_nan_samples_are_rejected(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    load = quality.Quality._samples.func

    def broken(self: quality.Quality) -> Any:
        next(self.run.denoiser.net.parameters()).data.fill_(torch.nan)
        return load(self)

    monkeypatch.setattr(quality.Quality, "_samples", property(broken))
    line = mistake(
        capfd, "evaluate", f"run={run}", f"out={tmp_path}", *FEW, "draws=1", "metrics=[energy_distance]"
    )
    assert "finite" in line or "NaN" in line
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.slow
def test_training_keeps_the_best_by_a_metric(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each evaluation has a line in the log and a checkpoint; the best stays, and the commands open it by name."""
    folder = tmp_path / "run"
    words = [*TINY, f"run={folder}", "engine.images=512", "engine.metrics_every=128", "engine.keep=1"]
    words += ["quality.metrics=[fid,energy_distance]", "quality.n=60", "engine.checkpoint_every=512"]
    enter("train", *words, "engine.preview_every=512")
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    logged = {line["images"]: line["metrics"] for line in lines if "metrics" in line}
    assert sorted(logged) == [128, 256, 384, 512]
    assert all(set(one) == {"fid", "energy_distance"} for one in logged.values())
    best = {
        name: min(logged, key=lambda images: logged[images][name]["value"])
        for name in ("fid", "energy_distance")
    }
    left = {int(path.name) for path in (folder / "checkpoints").iterdir()}
    assert {512, *best.values()} <= left
    for name, images in best.items():
        opened = load(folder, checkpoint=f"best-{name}", device="cpu")
        assert opened.run.images == images
    assert "no checkpoint best-kid; there are: best, best-energy_distance, best-fid, 0" in mistake(
        capfd, "sample", f"run={folder}", "checkpoint=best-kid"
    )
    fid = FrechetDistance(features=Classifier())
    samples = load(folder, checkpoint=f"{512:012d}", device="cpu")
    x = samples.sample(60, sampler=Sampler(steps=2), seed=0)
    train = torch.round(samples.data.train.values.double() * (255 / 16)).to(torch.uint8)
    with torch.no_grad():
        by_hand = fid(samples.codec.decode_image(x), train, batch_size=500)
    assert logged[512]["fid"]["value"] == pytest.approx(by_hand.value, rel=1e-3)


@pytest.mark.slow
def test_wrong_metrics_of_a_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, f"run={tmp_path / 'run'}"]
    assert "no metric of samples" in mistake(capfd, "train", *words, "quality.metrics=[bpd]")
    assert "unknown" in mistake(capfd, "train", *words, "quality.metrics=[nosuch]")
    assert "compare images" in mistake(
        capfd,
        "train",
        "data=moons",
        "codec=affine",
        "model=mlp",
        f"run={tmp_path / 'm'}",
        "quality.metrics=[fid]",
    )


@pytest.mark.slow
def test_metrics_of_vectors_are_rejected(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "moons"
    enter(
        "train",
        "data=moons",
        "codec=affine",
        "model=mlp",
        f"run={run}",
        "engine.images=128",
        "preview.n=4",
        "preview.sampler.steps=2",
    )
    assert "compare images" in mistake(capfd, "evaluate", f"run={run}", *FEW)


def test_a_folder_of_images_for_other_tools(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The files are the samples to the bit; a second call takes their place."""
    for n in (5, 3):
        enter("sample", f"run={run}", f"n={n}", "steps=2", "format=png", f"out={tmp_path}")
    files = sorted((tmp_path / "images").iterdir())
    assert [file.name for file in files] == ["000000.png", "000001.png", "000002.png"]
    with np.load(tmp_path / "samples.npz") as arrays:
        levels = torch.from_numpy(arrays["data"])
    expected = torch.round(levels * (255 / 16)).to(torch.uint8)
    assert torch.equal(read_folder(tmp_path / "images"), expected)
    with pytest.raises(ValueError, match=rf"several sizes: .*name the folder {tmp_path / 'images'}"):
        read_folder(tmp_path)
    assert "npz or png" in mistake(capfd, "sample", f"run={run}", "format=jpg")
