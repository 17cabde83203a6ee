"""Control of a trained network by hints: trained, sampled, scaled, and refused where it does not fit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sde_gen as sg
from tests.helpers.commands import enter, mistake
from tests.system.test_conditions import CROSS, SHORT

DATA = ("data=digit_grids", "data.count=64", "data.test_count=16")
TEXT = "text=seven bottom right"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with texts, its control by edges, and a drawing of edges."""
    folder = tmp_path_factory.mktemp("controlled")
    enter("train", *SHORT, *DATA, *CROSS, "conditioning=text", f"run={folder / 'base'}")
    enter("train", *SHORT, *DATA, *control(folder / "base"), f"run={folder / 'edges'}")
    drawing = np.zeros((16, 16), np.uint8)
    drawing[4:12, 4:12] = 255
    Image.fromarray(drawing).save(folder / "square.png")
    return folder


def control(base: Path) -> tuple[str, ...]:
    return ("model=controlled", f"model.run={base}", "model.widths=[4]", "conditioning=text_control")


def drawn(runs: Path, run: str, out: Path, *words: str) -> np.ndarray:
    enter("sample", f"run={runs / run}", f"out={out}", "steps=2", "n=2", "device=cpu", "threads=1", *words)
    return np.load(out / "samples.npz")["model_space"]


@pytest.mark.long
def test_samples_of_a_control(runs: Path, tmp_path: Path) -> None:
    """Without a hint, and at scale 0, they are those of its network to the bit; a hint changes them."""
    hint = f"control={runs / 'square.png'}"
    base = drawn(runs, "base", tmp_path / "0", TEXT)
    assert np.array_equal(drawn(runs, "edges", tmp_path / "1", TEXT), base)
    off = ("guidance@control_strength=control_strength", "control_strength.scale=[0]")
    assert np.array_equal(drawn(runs, "edges", tmp_path / "2", TEXT, hint, *off), base)
    controlled = drawn(runs, "edges", tmp_path / "3", TEXT, hint)
    assert np.abs(controlled - base).max() > 1e-6
    early = ("guidance@control_strength=control_strength", "control_strength.t_min=[0.9]")
    assert np.abs(drawn(runs, "edges", tmp_path / "4", TEXT, hint, *early) - controlled).max() > 1e-6
    guess = (
        "guidance@control_strength=control_strength",
        "control_strength.ramp=0.1",
        "guidance=cfg",
        "guidance.scale=2",
    )
    assert np.isfinite(drawn(runs, "edges", tmp_path / "5", hint, *guess)).all()


def test_a_checkpoint_holds_the_branch_alone(runs: Path) -> None:
    run = sg.load(runs / "edges")
    names = run.denoiser.net.state_dict()
    assert names
    assert all(name.startswith("branches.0.") for name in names)


@pytest.mark.long
def test_controls_that_do_not_fit_are_refused(
    runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    base, out = runs / "base", f"run={tmp_path / 'out'}"
    for words, answer in (
        ((*control(base), "sde=cosine"), "was trained with sde="),
        (
            (*control(base), "conditioning=text"),
            "Controlled is controlled by hints: use conditioning=control",
        ),
        ((*control(base), "conditioning=control"), "reads other conditions than those"),
        (
            (*CROSS, "conditioning=control"),
            "UNetCross takes no control as condition; choose model=controlled",
        ),
        (control(tmp_path / "none"), "of the network that model=controlled controls"),
        (
            ("model=controlled", "conditioning=text_control"),
            "model.run must name the run folder of the network",
        ),
    ):
        assert answer in mistake(capfd, "train", *SHORT, *DATA, *words, out)
    typed = (f"run={base}", f"control={runs / 'square.png'}", "n=1")
    assert "trained without hints; train one" in mistake(capfd, "sample", *typed)
