"""Point clouds in the plane, of about unit size."""

import abc
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sde_gen.data.base import Dataset, DatasetSource, Splits


@dataclass(frozen=True, kw_only=True)
class Toy(DatasetSource):
    """Points in the plane, sampled with separate seeds for training and test split.

    Arguments:
        count: number of points of the training split.
        test_count: number of points of the test split.
        seed: random seed.
    """

    count: int = 10_000
    test_count: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.test_count < 1:
            raise ValueError(f"count={self.count}, test_count={self.test_count}: both splits need points")

    def load(self) -> Splits:
        """Sample the points of both splits."""
        train, test = (
            Dataset(
                values=self.draw(count, np.random.default_rng([self.seed, part])).float(),
                labels=None,
                levels=None,
                classes=0,
            )
            for part, count in enumerate((self.count, self.test_count))
        )
        return Splits(train=train, test=test)

    @abc.abstractmethod
    def draw(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draw points with shape (count, 2)."""


@dataclass(frozen=True, kw_only=True)
class Moons(Toy):
    """Two half circles.

    Arguments:
        spread: standard deviation of the noise around them.
    """

    spread: float = 0.05

    def draw(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draw from scikit-learn's moons, centered."""
        from sklearn.datasets import make_moons  # imported lazily: slow to import

        points, _ = make_moons(count, noise=self.spread, random_state=int(rng.integers(2**31)))
        return torch.from_numpy(points) - torch.tensor([0.5, 0.25])


@dataclass(frozen=True, kw_only=True)
class SwissRoll(Toy):
    """A spiral.

    Arguments:
        spread: standard deviation of the noise around it, in units of a tenth.
    """

    spread: float = 0.5

    def draw(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draw from scikit-learn's swiss roll, projected to the plane of the spiral."""
        from sklearn.datasets import make_swiss_roll  # imported lazily: slow to import

        points, _ = make_swiss_roll(count, noise=self.spread, random_state=int(rng.integers(2**31)))
        return torch.from_numpy(points[:, [0, 2]] / 10)


@dataclass(frozen=True, kw_only=True)
class Checkerboard(Toy):
    """The dark fields of a 4x4 board on [-2, 2]^2."""

    def draw(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draw a column, one of the two fields in it, and a point in the field."""
        column = rng.integers(0, 4, count)
        row = 2 * rng.integers(0, 2, count) + column % 2
        return torch.from_numpy(np.stack([column, row], axis=1) + rng.random((count, 2)) - 2)


@dataclass(frozen=True, kw_only=True)
class Ring(Toy):
    """Eight Gaussians on a circle.

    Arguments:
        components: number of Gaussians.
        radius: radius of the circle.
        spread: standard deviation of each Gaussian.
    """

    components: int = 8
    radius: float = 1.5
    spread: float = 0.1

    def draw(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draw a component and a point of it."""
        angle = 2 * math.pi * rng.integers(0, self.components, count) / self.components
        center = self.radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return torch.from_numpy(center + self.spread * rng.standard_normal((count, 2)))
