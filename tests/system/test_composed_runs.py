"""Runs that name other runs: every command on a model of latents, and parts that were moved or changed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sde_gen as sg
from sde_gen.checkpoint import manifest
from sde_gen.checkpoint import store as checkpoint
from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.demo import Demo
from sde_gen.report.run_folder import read
from tests.helpers import stored_run
from tests.helpers.commands import enter, mistake

DIGITS = DataSpec(shape=(1, 8, 8), levels=17, classes=10)
LATENT = (2, 4, 4)
AUTOENCODER = (
    "objective=autoencoding",
    "model=kl_autoencoder",
    "model.channels=[8,8]",
    "model.latent_channels=2",
    "model.middle_attention=false",
)
NETWORK = ("conditioning=label", "model=ddpmpp", *stored_run.SMALL)


def write_autoencoder(folder: Path, *, seed: int = 0) -> Path:
    stored_run.write(folder, stored_run.config_of(*AUTOENCODER), DIGITS, seed=seed)
    return folder


def sha256_of(folder: Path) -> str:
    newest = checkpoint.paths(folder / "checkpoints")[-1]
    return manifest.part_digest(manifest.read(newest).sha256, "ema")


def write_latents(
    folder: Path, autoencoder: Path, *words: str, run: str | None = None, seed: int = 1
) -> Path:
    given = (f"codec.run={run or autoencoder}", f"codec.sha256='{sha256_of(autoencoder)}'")
    config = stored_run.config_of("codec=latent", *given, *NETWORK, *words)
    stored_run.write(folder, config, DIGITS, event=LATENT, seed=seed, spread=0.1)
    return folder


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of an autoencoder, of a model of its latents, and of another such model."""
    folder = tmp_path_factory.mktemp("runs")
    write_latents(folder / "latents", write_autoencoder(folder / "autoencoder"))
    write_latents(folder / "weak", folder / "autoencoder", seed=2)
    return folder


def samples(folder: Path, *words: object) -> np.ndarray:
    """Samples in model space and in data, side by side."""
    enter("sample", f"run={folder}", "n=2", "steps=2", "threads=1", f"out={folder / 'out'}", *words)
    with np.load(folder / "out" / "samples.npz") as file:
        assert file["data"].shape == (2, *DIGITS.shape)
        assert file["model_space"].shape == (2, *LATENT)
        return file["data"]


@pytest.mark.slow
def test_guidance_changes_samples_of_latents(composed):
    run = composed / "latents"
    plain = samples(run, "label=3")
    assert (plain != samples(run, "label=3", "guidance=cfg", "guidance.scale=4")).any()
    guided = samples(
        run, "label=3", "guidance=autoguidance", f"guidance.weak={composed / 'weak'}", "guidance.scale=3"
    )
    assert (plain != guided).any()


@pytest.mark.slow
def test_a_classifier_of_latents_guides(composed, tmp_path):
    codec = stored_run.config_of(
        "codec=latent",
        f"codec.run={composed / 'autoencoder'}",
        f"codec.sha256='{sha256_of(composed / 'autoencoder')}'",
        "objective=cross_entropy",
        "model=encoder",
        "conditioning=target",
    )
    stored_run.write(tmp_path / "classifier", codec, DIGITS, event=LATENT, spread=0.1)
    words = ("guidance=classifier", f"guidance.classifier={tmp_path / 'classifier'}", "guidance.scale=20")
    assert (
        samples(composed / "latents", "label=1") != samples(composed / "latents", "label=1", *words)
    ).any()


@pytest.mark.slow
def test_tasks_on_latents(composed, tmp_path, capfd):
    run, mask = composed / "latents", tmp_path / "mask.png"
    Image.fromarray(np.repeat([[255, 0]], 4, axis=1).repeat(8, 0).astype(np.uint8)).save(mask)
    for words in (
        ("task=inpaint", "image=0", f"mask={mask}", "method=repaint"),
        ("task=vary", "image=0"),
        ("task=interpolate", "a=0", "b=1"),
    ):
        assert samples(run, *words).shape == (2, 1, 8, 8)
    refused = mistake(capfd, "sample", f"run={run}", "task=superres", "image=0")
    assert "model of latents" in refused


@pytest.mark.slow
def test_metrics_benchmark_and_comparison_of_latents(composed):
    run = composed / "latents"
    words = ("n=4", "threads=1", "steps=2", "draws=1", "baselines=false")
    enter("evaluate", f"run={run}", "metrics=[energy_distance]", "features=pixels", *words)
    enter("benchmark", f"run={run}", "solvers=[heun]", "steps=[2]", "reference.steps=4", "n=2", "threads=1")
    assert json.loads((run / "benchmark" / "benchmark.json").read_text())["rows"][0]["median"] > 0
    enter("compare", run, composed / "weak", f"out={composed / 'page.html'}")
    (result,) = read(run).results
    assert result.mean > 0
    assert (composed / "page.html").stat().st_size > 1000


def test_the_page_draws_latents(composed):
    picture, _ = Demo(run=stored_run.opened(composed / "latents")).draw(0, 2, "heun", "angle", 2)
    assert min(picture.size) >= 8


def test_export_of_latents_names_what_is_missing(composed, tmp_path, capfd):
    words = ("to=diffusers", f"out={tmp_path / 'out'}")
    assert "latent" in mistake(capfd, "convert", f"run={composed / 'latents'}", *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_parts_are_found_where_they_are(composed, tmp_path, capfd):
    """Beside the run, inside it, in the working directory, and where parts=... says; else an error names them."""
    autoencoder = tmp_path / "autoencoder"
    run = write_latents(tmp_path / "latents", write_autoencoder(autoencoder), run="/nowhere/autoencoder")
    expected = samples(run)  # beside
    inside = run / "parts" / "codec"
    inside.parent.mkdir()
    autoencoder.rename(inside)
    assert "there is no run folder /nowhere/autoencoder of the autoencoder" in mistake(
        capfd, "sample", f"run={run}"
    )
    assert (samples(run, f"parts=[{inside}]") == expected).all()
    loaded = sg.load(run, parts=[inside])
    assert torch.equal(
        loaded.decode(loaded.sample(2, sampler=sg.Sampler(steps=2))), torch.from_numpy(expected)
    )
    shutil.rmtree(run / "checkpoints")
    write_latents(run, inside, run="parts/codec")
    assert (samples(run) == expected).all()  # relative to the run
    for folder in (tmp_path / "other", inside):
        shutil.rmtree(folder, ignore_errors=True)
        write_autoencoder(folder, seed=5)
    refused = mistake(capfd, "sample", f"run={run}", f"parts=[{tmp_path / 'other'}]")
    assert "have changed" in refused
    assert "parts=[FOLDER]" in refused
    assert "there is no run folder" in mistake(capfd, "sample", f"run={run}", "parts=[nowhere]")


@pytest.mark.slow
def test_the_weights_of_the_training_are_taken_of_a_part_that_was_trained_on(composed, tmp_path):
    """A newer checkpoint of the autoencoder does not change a model of the latents of an older one."""
    autoencoder = write_autoencoder(tmp_path / "autoencoder")
    run = write_latents(tmp_path / "latents", autoencoder)
    expected = samples(run)
    other = write_autoencoder(tmp_path / "other", seed=5)
    newer = autoencoder / "checkpoints" / f"{128:012d}"
    shutil.copytree(checkpoint.paths(other / "checkpoints")[-1], newer)
    stored_run.write_header(newer, {**stored_run.header_of(newer), "images": 128})
    assert (samples(run) == expected).all()


@pytest.mark.slow
def test_a_training_goes_on_with_a_moved_autoencoder(tmp_path, capfd):
    """Interrupted after two steps, its autoencoder moved, it ends with the weights of the training in one go."""
    autoencoder = write_autoencoder(tmp_path / "autoencoder")
    short = ("engine.batch_size=8", "engine.log_every=8", "engine.checkpoint_every=16", "threads=1")
    words = ("codec=latent", f"codec.run={autoencoder}", *NETWORK, *short, "engine.validate=0", "preview.n=2")
    words += ("engine.preview_every=1000", "lr_schedule=constant")
    enter("train", *words, "engine.images=32", f"run={tmp_path / 'whole'}")
    enter("train", *words, "engine.images=16", f"run={tmp_path / 'parts'}")
    autoencoder.rename(tmp_path / "moved")
    words = (f"run={tmp_path / 'parts'}", "engine.images=32")
    assert "parts=[FOLDER]" in mistake(capfd, "train", *words)
    enter("train", *words, f"parts=[{tmp_path / 'moved'}]")
    assert sha256_of(tmp_path / "parts") == sha256_of(tmp_path / "whole")


def test_a_bundle_stands_alone(composed, tmp_path, capfd):
    """Moved away from the runs that it was made of, it samples what they sample; nothing is left of a failed one."""
    run = write_latents(tmp_path / "latents", write_autoencoder(tmp_path / "autoencoder"))
    expected = samples(run)
    enter("bundle", f"run={run}", f"out={tmp_path / 'made'}")
    assert "already exists" in mistake(capfd, "bundle", f"run={run}", f"out={tmp_path / 'made'}")
    shutil.rmtree(run)
    shutil.rmtree(tmp_path / "autoencoder")
    (tmp_path / "elsewhere").mkdir()
    bundle = (tmp_path / "made").rename(tmp_path / "elsewhere" / "bundle")
    assert (samples(bundle) == expected).all()
    assert {path.name for path in bundle.rglob("*.safetensors")} == {"ema.safetensors"}
    shutil.rmtree(bundle / "parts")
    assert "of the autoencoder" in mistake(capfd, "bundle", f"run={bundle}", f"out={tmp_path / 'again'}")
    assert not (tmp_path / "again").exists()


@pytest.mark.slow
def test_an_autoencoder_trains_with_features_of_a_classifier(tmp_path, capfd):
    """The classifier is named and needed in training alone; one of other data is refused."""
    config = stored_run.config_of("objective=cross_entropy", "model=encoder", "conditioning=target")
    stored_run.write(tmp_path / "classifier", config, DIGITS, spread=0.1)
    short = ("engine.images=32", "engine.batch_size=16", "engine.validate=0", "preview.n=2", "threads=1")
    words = (*AUTOENCODER, *short, "objective.perceptual=10", f"objective.run={tmp_path / 'classifier'}")
    enter("train", *words, f"run={tmp_path / 'autoencoder'}")
    stored = read(tmp_path / "autoencoder").config["objective"]
    assert stored["sha256"] == sha256_of(tmp_path / "classifier")
    shutil.rmtree(tmp_path / "classifier")
    enter("evaluate", f"run={tmp_path / 'autoencoder'}", "metrics=[autoencoder_bound]", "n=4", "threads=1")
    write_latents(tmp_path / "latents", tmp_path / "autoencoder")
    assert stored_run.opened(tmp_path / "latents").event == LATENT
    assert "of the perceptual term" in mistake(capfd, "train", *words, f"run={tmp_path / 'no'}")
