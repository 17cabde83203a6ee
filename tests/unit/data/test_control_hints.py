"""Hints of controlled networks: edges as SciPy finds them, drawings, and a scale in the last channel."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from sde_gen.data import Dataset
from sde_gen.data.conditioning import Edges, Hint

LEVELS = torch.randint(0, 17, (5, 3, 7, 6), generator=torch.Generator().manual_seed(0))
DATA = Dataset(values=LEVELS, levels=17, conditions={"image": LEVELS})


def test_edges_are_where_the_gradient_of_scipy_is_steep() -> None:
    edges = Edges(threshold=0.3).fit(DATA)
    found = edges.given({"control": LEVELS})["control"]
    gray = (LEVELS.double() / 16).mean(1).numpy()
    along = [[ndimage.sobel(one, axis=axis, mode="nearest") / 4 for one in gray] for axis in (0, 1)]
    exact = np.hypot(*along) >= 0.3
    assert 0 < exact.mean() < 1
    assert np.array_equal(found[:, 0].numpy(), exact.astype(np.float32))
    assert bool((found[:, 1] == 1).all())


def test_a_drawing_is_read_as_its_white_pixels(tmp_path: Path) -> None:
    drawing = np.zeros((7, 6), np.uint8)
    drawing[2, 1:4] = 255
    Image.fromarray(drawing).save(tmp_path / "line.png")
    found = Edges().fit(DATA).prompt({"control": str(tmp_path / "line.png")}, 2)["control"]
    assert found.shape == (2, 2, 7, 6)
    assert torch.equal(found[1, 0], torch.from_numpy(drawing / 255).float())


def test_images_of_the_data_are_hints_between_zero_and_one() -> None:
    hint = Hint().fit(DATA)
    found = hint.given({"image": LEVELS})["control"]
    torch.testing.assert_close(found[:, :3], LEVELS.float() / 16)
    assert bool((found[:, 3] == 1).all())
    assert not hint.null(2)["control"].any()
    assert hint.sizes == {"control": 3}


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"noise=0\.1: hints are clean"):
        Hint(noise=0.1)
    for threshold in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"threshold=.* expected a number between"):
            Edges(threshold=threshold)
