"""Non-leaky augmentation: the transformation of every label against matrices and images of numpy."""

import math

import numpy as np
import pytest
import torch

from sde_gen.data.augment import NoAugmentation
from sde_gen.data.edm_augmentation import EDMAugmentation

SIZE = (48, 40)  # rows, columns


def scene(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth image without symmetry, of coordinates in pixels from the middle."""
    return np.sin(0.13 * x + 0.07 * y + 0.3) + 0.6 * np.cos(0.11 * y - 0.05 * x) + 0.01 * x


def coordinates() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SIZE), indexing="ij")
    return x, y


def rotation(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def matrix(a: list[float], scale: float, aniso: float, trans: float) -> np.ndarray:
    """The transformations of table 6 of the paper, one after the other, from pixels to pixels."""
    steps = [
        np.diag([1 - 2 * a[0], 1, 1]),
        np.diag([1, 1 - 2 * a[1], 1]),
        np.diag([scale ** a[2], scale ** a[2], 1]),
        rotation(-a[3]),
        rotation(a[4]) @ np.diag([aniso ** a[5], aniso ** -a[5], 1]) @ rotation(-a[4]),
        np.array([[1, 0, trans * SIZE[1] * a[6]], [0, 1, trans * SIZE[0] * a[7]], [0, 0, 1]]),
    ]
    total = np.eye(3)
    for step in steps:
        total = step @ total
    return total


CASES = {
    "x-flip": [1, 0, 0, 0, 0, 0, 0, 0],
    "y-flip": [0, 1, 0, 0, 0, 0, 0, 0],
    "scaling": [0, 0, 0.8, 0, 0, 0, 0, 0],
    "rotation": [0, 0, 0, 0.4, 0, 0, 0, 0],
    "anisotropy": [0, 0, 0, 0, 0.7, -1.1, 0, 0],
    "translation": [0, 0, 0, 0, 0, 0, 0.5, -0.3],
    "all": [1, 1, -0.5, -2.0, 2.5, 0.6, -0.4, 0.2],
}


@pytest.mark.parametrize("name", CASES)
def test_every_transformation_is_that_of_its_matrix(name: str) -> None:
    a = CASES[name]
    x, y = coordinates()
    image = torch.from_numpy(scene(x, y)).float()[None, None]
    found = EDMAugmentation().apply(image, torch.tensor([a]))[0, 0].double().numpy()
    back = np.linalg.inv(matrix(a, 2**0.2, 2**0.2, 1 / 8))
    source = back @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    expected = scene(*source[:2]).reshape(SIZE)
    inside = np.all(np.abs(source[:2]) < np.array([[SIZE[1] / 2 - 3], [SIZE[0] / 2 - 3]]), axis=0).reshape(
        SIZE
    )
    assert inside.mean() > 0.4
    assert np.abs(found - expected)[inside].max() < 2e-3  # of an image between -1.8 and 1.8
    if "flip" in name:
        assert np.array_equal(found, image[0, 0].flip(-1 if name == "x-flip" else -2).double().numpy())


def test_labels_are_those_of_the_table() -> None:
    a = torch.tensor([CASES["all"]], dtype=torch.float64)
    expected = [
        1,
        1,
        -0.5,
        math.cos(2.0) - 1,
        -math.sin(2.0),
        0.6 * math.cos(2.5),
        0.6 * math.sin(2.5),
        -0.4,
        0.2,
    ]
    torch.testing.assert_close(EDMAugmentation.labels(a)[0], torch.tensor(expected, dtype=torch.float64))


def test_zero_labels_mark_unchanged_images() -> None:
    """So that zeros at sampling ask for images of the data, and for no others."""
    values = torch.randint(
        0, 256, (4000, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    changed, conditioning = EDMAugmentation(probability=0.5).augment(values, torch.Generator().manual_seed(1))
    zero = (conditioning["augment"] == 0).all(1)
    same = (changed == values).flatten(1).all(1)
    assert conditioning["augment"].shape == (4000, 9)
    assert (
        20 < int(zero.sum()) < 200
    )  # 4000 / 2 / 2^5 x-flips and five others, but for y-flips that are drawn as none
    assert torch.equal(same, zero)


def test_probabilities_and_distributions_are_those_given() -> None:
    count, p = 40_000, 0.3
    a = EDMAugmentation(probability=p).draw(count, torch.Generator().manual_seed(0)).double()
    used = a != 0
    spread = 5 * (0.25 / count) ** 0.5
    for column, share in zip(range(8), [0.5, p / 2, p, p, p, p, p, p], strict=True):
        assert float(used[:, column].double().mean()) == pytest.approx(share, abs=spread)
    assert torch.equal(used[:, 4], used[:, 5])
    assert torch.equal(used[:, 6], used[:, 7])
    both = float((used[:, 2] & used[:, 3]).double().mean())
    assert both == pytest.approx(p * p, abs=spread)
    for column in (2, 5, 6, 7):
        given = a[:, column][used[:, column]]
        assert float(given.mean()) == pytest.approx(0, abs=0.05)
        assert float(given.std()) == pytest.approx(1, abs=0.04)
    for column in (3, 4):
        angle = a[:, column][used[:, column]]
        assert float(angle.min()) == pytest.approx(-math.pi, abs=0.01)
        assert float(angle.max()) == pytest.approx(math.pi, abs=0.01)
        assert float(angle.mean()) == pytest.approx(0, abs=0.1)


def test_samples_are_independent_and_probability_zero_changes_none() -> None:
    values = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    whole, conditioning = EDMAugmentation(probability=0.8).augment(values, torch.Generator().manual_seed(3))
    others = values.clone()
    others[1:] = 0  # as where another process reads them
    part, again = EDMAugmentation(probability=0.8).augment(others, torch.Generator().manual_seed(3))
    assert torch.equal(whole[0], part[0])
    assert torch.equal(conditioning["augment"], again["augment"])
    generators = [torch.Generator().manual_seed(4) for _ in range(2)]
    none = EDMAugmentation(probability=0.0, x_flip=False)
    assert torch.equal(none.augment(values, generators[0])[0], NoAugmentation()(values, generators[1]))
    assert torch.equal(torch.rand(3, generator=generators[0]), torch.rand(3, generator=generators[1]))
    assert not none.augment(values, generators[0])[1]["augment"].any()


@pytest.mark.parametrize("settings", [{"probability": 1.1}, {"scale": 0.0}, {"aniso": -1.0}, {"trans": -0.1}])
def test_invalid_settings_are_rejected(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        EDMAugmentation(**settings)


def test_vectors_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"images .* not \(2,\)"):
        EDMAugmentation().augment(torch.zeros(3, 2), torch.Generator())
