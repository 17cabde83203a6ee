"""Canny's edges: exact places of constructed edges, thin lines, symmetry, and weak parts that strong ones keep."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from sde_gen.data.conditioning import CannyEdges

EIGHT = np.ones((3, 3))
SIZE = 40
Y, X = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2


def edges(image: np.ndarray, **settings: float) -> np.ndarray:
    """Edges of a gray image in [0, 1] with shape (H, W)."""
    found = CannyEdges(**settings).degrade(torch.from_numpy(image).float()[None, None])
    assert found.shape == (1, 1, *image.shape)
    assert set(found.unique().tolist()) <= {0.0, 1.0}
    return found[0, 0].numpy() > 0


def area(distance: np.ndarray) -> np.ndarray:
    """Share of a pixel inside, for the distance of its center from a border that is straight across the pixel."""
    return np.clip(0.5 - distance, 0, 1)


@pytest.mark.parametrize("column", [5, 12, 33])
def test_a_step_is_a_line_of_one_pixel_beside_it(column: int) -> None:
    image = np.zeros((SIZE, SIZE))
    image[:, column:] = 1
    for sigma in (0.0, 1.0, 2.0):
        found = edges(image, sigma=sigma)
        assert (found.sum(1) == 1).all()
        assert set(np.nonzero(found)[1]) < {column - 1, column}
        assert (edges(image.T, sigma=sigma).sum(0) == 1).all()
    assert not edges(image, high=1.2, low=1.1).any()  # a step smoothed is below it
    assert not edges(np.full((SIZE, SIZE), 0.7)).any()


@pytest.mark.parametrize("angle", [0.0, 0.2, 0.7, math.pi / 4, 1.3, 2.0, 2.9])
def test_a_rotated_half_plane_has_its_border_as_edge(angle: float) -> None:
    distance = X * math.cos(angle) + Y * math.sin(angle) - 0.3
    found = edges(area(distance))
    inside = np.abs(X) + np.abs(Y) < SIZE / 2
    assert np.abs(distance[found & inside]).max() < 1.1
    along = -X * math.sin(angle) + Y * math.cos(angle)
    count = (found & (np.abs(along) < 10)).sum() / 20
    across, down = abs(math.cos(angle)), abs(math.sin(angle))
    assert max(across, down) - 0.1 < count < across + down + 0.1  # pixels that share corners, or sides


def test_the_edge_of_a_disc_is_a_closed_circle_of_its_radius() -> None:
    for radius in (6.3, 11.0, 15.5):
        distance = np.hypot(X, Y)
        found = edges(0.2 + 0.6 * area(distance - radius))
        assert np.abs(distance[found] - radius).max() < 1
        assert ndimage.label(found, EIGHT)[1] == 1
        holes = ndimage.label(~found)[0]
        assert holes[SIZE // 2, SIZE // 2] != holes[0, 0]  # closed
        assert 8 / math.sqrt(2) * 0.9 < found.sum() / radius < 8 * 1.1  # pixels that share corners, or sides


def test_edges_turn_with_the_image() -> None:
    image = np.random.default_rng(0).random((21, 32))
    found = edges(image)
    assert 0.05 < found.mean() < 0.4
    for turn in (np.fliplr, np.flipud, np.rot90, np.transpose):
        assert np.array_equal(edges(np.ascontiguousarray(turn(image))), turn(found))


def test_images_of_a_batch_and_channels_do_not_mix() -> None:
    images = torch.rand(3, 3, 16, 20, generator=torch.Generator().manual_seed(1))
    canny = CannyEdges()
    together = canny.degrade(images)
    for one, found in zip(images, together, strict=True):
        assert torch.equal(canny.degrade(one[None])[0], found)
        assert torch.equal(canny.degrade(one.mean(0, keepdim=True)[None])[0], found)


def test_a_weak_edge_is_kept_where_a_strong_one_continues_it() -> None:
    image = np.zeros((SIZE, SIZE))
    image[10:] = np.linspace(0.6, 0.2, SIZE)  # a line, strong on the left and weak on the right
    image[30:] += 0.2  # a line that is weak all along

    def lines(low: float, high: float) -> list[int]:
        found = edges(image, sigma=0.0, low=low, high=high)[
            :, 1:-1
        ]  # the gradient across changes at the border
        assert found[8:12].sum() + found[28:32].sum() == found.sum()
        return [found[8:12].any(0).sum(), found[28:32].any(0).sum()]

    assert lines(low=0.15, high=0.4) == [SIZE - 2, 0]
    assert lines(low=0.4, high=0.4) == [SIZE // 2 - 1, 0]
    assert lines(low=0.1, high=0.15) == [SIZE - 2, SIZE - 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": -1.0}, r"sigma=-1\.0: expected"),
        ({"low": 0.0}, r"low=0\.0, high=0\.2: expected 0 < low <= high"),
        ({"low": 0.3}, r"low=0\.3, high=0\.2: expected 0 < low <= high"),
        ({"high": 1.5}, r"low=0\.1, high=1\.5: expected"),
        ({"noise": 0.1}, r"hints are clean"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CannyEdges(**settings)
