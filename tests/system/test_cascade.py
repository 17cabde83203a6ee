"""Cascades: every stage is given what the one before has drawn."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import sde_gen as sg
from sde_gen.cli.data_spec import DataSpec
from tests.helpers import stored_run
from tests.helpers.commands import enter, mistake

LOW, HIGH = (DataSpec(shape=(1, side, side), levels=17, classes=10) for side in (4, 8))
NETWORK = ("model=ddpmpp", *stored_run.SMALL)


def image(noise: float) -> dict[str, object]:
    """The stored conditioning on images of half the side and on labels."""
    package = "sde_gen.data.conditioning"
    low = {
        "_target_": f"{package}.Superresolution",
        "dropout": 0.0,
        "shape": [1, 8, 8],
        "levels": 17,
        "factor": 2,
    }
    label = {"_target_": f"{package}.Label", "classes": 10, "dropout": 0.1}
    return {"_target_": f"{package}.Several", "parts": {"image": {**low, "noise": noise}, "label": label}}


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base of 4x4 digits of a class, and a stage to 8x8."""
    folder = tmp_path_factory.mktemp("cascade")
    base = stored_run.config_of(*NETWORK, "conditioning=label", "model.multipliers=[1]")
    stored_run.write(folder / "base", base, LOW, spread=0.1)
    stage = {**stored_run.config_of(*NETWORK), "conditioning": image(0.5)}
    stored_run.write(folder / "stage", stage, HIGH, spread=0.1, seed=1)
    return folder


def samples(folder: Path, out: Path, *words: object) -> np.ndarray:
    run = f"run=[{folder / 'base'},{folder / 'stage'}]"
    enter("sample", run, "n=3", "steps=2", "threads=1", f"out={out}", *words)
    with np.load(out / "samples.npz") as file:
        return file["data"]


def test_the_last_stage_is_given_the_images_of_the_first(cascade, tmp_path):
    """The same as sampling the base, and giving its images and labels to the stage; in any batches."""
    found = samples(cascade, tmp_path / "out", "label=[1,2]", "batch_size=2")
    assert found.shape == (3, *HIGH.shape)
    assert (found == samples(cascade, tmp_path / "whole", "label=[1,2]")).all()
    base, stage = sg.load(cascade / "base"), sg.load(cascade / "stage")
    labels, sampler = [1, 2, 1], sg.Sampler(steps=2)
    low = base.decode(base.sample(3, label=labels, sampler=sampler))
    seeds = [sg.noise.spawn_seeds(seed, 2)[0] for seed in sg.noise.spawn_seeds(0, 3)]
    bound = stage.run.bind(stage.run.prompt(3, label=labels, image=low))
    x = sampler(bound, (3, *HIGH.shape), noise=sg.noise.PerSample(seeds))
    assert torch.equal(stage.decode(x), torch.from_numpy(found))


@pytest.mark.slow
def test_noise_and_guidance_of_stages(cascade, tmp_path):
    """Guidance keeps the images and moves away from the labels; noise of the images changes samples."""
    plain = samples(cascade, tmp_path / "plain", "label=1")
    assert (plain != samples(cascade, tmp_path / "noise", "label=1", "image_noise=0.4")).any()
    guided = samples(cascade, tmp_path / "guided", "label=1", "guidance=cfg", "guidance.scale=5")
    assert (plain != guided).any()


def test_mistakes_of_cascades(cascade, tmp_path, capfd):
    def refused(*words: object) -> str:
        return mistake(capfd, "sample", "n=1", "steps=1", f"out={tmp_path / 'no'}", *words)

    base, stage = cascade / "base", cascade / "stage"
    assert "is given no images" in refused(f"run=[{stage},{base}]")
    assert "expected (1, 4, 4)" in refused(f"run=[{base},{stage},{stage}]")
    assert "no stage is given text" in refused(f"run=[{base},{stage}]", "text=two")
    assert "task" in refused(f"run=[{base},{stage}]", "task=vary", "image=0")


def test_values_out_of_range_of_every_stage_are_reported(cascade, tmp_path):
    """Strong guidance of an untrained base leaves the range; what the last stage makes of it need not."""
    with pytest.warns(UserWarning, match=re.escape(f"{cascade / 'base'}: ")):
        samples(cascade, tmp_path / "out", "label=1", "guidance=cfg", "guidance.scale=200")
