"""Compressed sensing: a few random combinations are known."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sde_gen.inverse.operator.base import Operator
from sde_gen.utils.broadcasting import event_numel


@dataclass(frozen=True, kw_only=True)
class CompressedSensing(Operator):
    """Products with a random matrix of entries N(0, 1 / rows): (B, *event) -> (B, rows).

    Source: Candes and Tao, 2006, IEEE Transactions on Information Theory 52, 5406.

    Arguments:
        rows: number of measurements.
        seed: of the matrix; one seed is one matrix.

    Raises:
        ValueError: rows is below 1.
    """

    rows: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows={self.rows}: at least one measurement is needed")

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply the flattened samples."""
        entries = np.random.default_rng(self.seed).standard_normal((self.rows, event_numel(x)))
        matrix = torch.from_numpy(entries / self.rows**0.5).to(x)
        return x.flatten(1) @ matrix.T
