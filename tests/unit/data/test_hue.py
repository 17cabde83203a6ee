"""Hue of pictures: pure colors, rotation, and the score of the benchmark on pictures of known hue."""

import colorsys

import pytest
import torch

from benchmarks.hue_adherence import score
from sde_gen.data.hue import COLORS, distance, hue, rotate


def plain(*colors: tuple[float, float, float]) -> torch.Tensor:
    """Pictures of one color each, with a white half."""
    pictures = torch.full((len(colors), 3, 4, 4), 255, dtype=torch.uint8)
    for picture, color in zip(pictures, colors, strict=True):
        picture[:, :2] = torch.tensor([round(255 * part) for part in color])[:, None, None]
    return pictures


@pytest.mark.parametrize("degrees", [0, 60, 137, 350])
def test_the_hue_of_a_plain_picture_is_that_of_its_color(degrees) -> None:
    found = hue(plain(colorsys.hsv_to_rgb(degrees / 360, 0.8, 0.9)))
    assert float(distance(found.angle, torch.tensor([float(degrees)]))) < 1
    assert float(found.agreement) == pytest.approx(1, abs=1e-6)
    assert float(found.chroma) == pytest.approx(0.8 * 0.9 / 2, abs=0.01)


def test_opposite_colors_have_no_common_hue_and_gray_no_chroma() -> None:
    both = torch.cat([plain((1, 0, 0))[:, :, :2], plain((0, 1, 1))[:, :, :2]], 2)
    assert float(hue(both).agreement) < 1e-6
    assert float(hue(plain((0.5, 0.5, 0.5))).chroma) == 0


def test_rotation_adds_to_the_hue_and_keeps_value_and_white() -> None:
    first = plain(colorsys.hsv_to_rgb(0.1, 0.8, 0.9), colorsys.hsv_to_rgb(0.95, 1, 0.5))
    turned = rotate(first, torch.tensor([90.0, 30.0]))
    expected = plain(
        colorsys.hsv_to_rgb(0.1 + 0.25, 0.8, 0.9), colorsys.hsv_to_rgb((0.95 + 30 / 360) % 1, 1, 0.5)
    )
    assert int((turned.int() - expected.int()).abs().max()) <= 1
    assert torch.equal(turned.amax(1), first.amax(1))


def test_the_score_is_right_on_pure_colors_and_by_chance_on_others() -> None:
    colors = torch.arange(600) % len(COLORS)
    pictures = plain(*(colorsys.hsv_to_rgb(number / 6, 1, 1) for number in range(6)))[colors]
    right, wrong = score(pictures, colors), score(pictures, colors.roll(1, 0))
    assert (right["error"], right["hits"]) == (pytest.approx(0, abs=1e-6), 1)
    assert (wrong["error"], wrong["hits"]) == (pytest.approx(60, abs=1e-6), 0)
    assert distance(torch.tensor(350.0), torch.tensor(20.0)) == 30
