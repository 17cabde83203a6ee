"""Vectors with random dropout."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.conditioning.base import SingleConditioning, check_dropout, require


@dataclass(frozen=True, kw_only=True)
class Vector(SingleConditioning):
    r"""Vectors of numbers, standardized and randomly replaced by the null.

    The input of the network is :math:`((v - \mathrm{mean}) / \mathrm{std}, 1)` with one number more than the vector,
    and the null is zero: a linear layer of it without bias then adds nothing, as without a vector.

    Arguments:
        dropout: probability that a vector is dropped.
        mean: mean of every number with shape (V,); None: that of the training split.
        std: standard deviation of every number with shape (V,); None: that of the training split.

    Raises:
        ValueError: dropout lies outside [0, 1], or mean and std have other lengths, or a std is not positive.
    """

    dropout: float = 0.1
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    name: ClassVar[str] = "vector"
    key: ClassVar[str] = "vector"
    learned: ClassVar[tuple[str, ...]] = ("mean", "std")

    def __post_init__(self) -> None:
        check_dropout(self.dropout, "vectors")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std) or not self.mean:
                raise ValueError(
                    f"mean has {len(self.mean)} numbers, std {len(self.std)}; expected as many as a vector has"
                )
            if min(self.std) <= 0:
                raise ValueError(f"std={min(self.std)} must be positive")

    @property
    def sizes(self) -> dict[str, int]:
        """Return the length of the network's input."""
        return {"vector": 1 + self._size()}

    def fit(self, train: Dataset) -> "Vector":
        """Compute mean and standard deviation of every number; those that never change keep their unit."""
        rows = require(self.name, train.conditions)
        if rows.ndim != 2 or not rows.shape[1]:
            raise ValueError(f"the condition vector has shape {tuple(rows.shape)}; expected (N, V)")
        mean, std = rows.double().mean(0), rows.double().std(0, unbiased=False)
        std = torch.where(std > 0, std, 1.0)
        return replace(
            self,
            mean=mean.tolist() if self.mean is None else self.mean,
            std=std.tolist() if self.std is None else self.std,
        )

    def prepare(self, data: Dataset) -> Dataset:
        """Return the data with transformed vectors."""
        return replace(data, conditions={self.name: self.transform(require(self.name, data.conditions))})

    def transform(self, rows: Tensor) -> Tensor:
        """Standardize, and append a one: (B, V) to (B, V + 1) in float32; prepared vectors stay as they are."""
        size = self._size()
        if rows.ndim == 2 and rows.shape[1] == size + 1:
            return rows
        if rows.ndim != 2 or rows.shape[1] != size:
            raise ValueError(f"the condition vector has shape {tuple(rows.shape)}; expected (B, {size})")
        mean, std = (
            torch.tensor(part, device=rows.device, dtype=torch.float64) for part in (self.mean, self.std)
        )
        standard = ((rows.double() - mean) / std).float()
        return torch.cat([standard, torch.ones_like(standard[:, :1])], dim=1)

    def null_row(self) -> Tensor:
        """Return the null vector, zeros."""
        return torch.zeros(1, 1 + self._size())

    def parse(self, values: Sequence[Any], class_names: Sequence[str]) -> Tensor:
        """Transform one vector, or a list of vectors."""
        del class_names
        size, vectors = self._size(), values if values and isinstance(values[0], list | tuple) else [values]
        for vector in vectors:
            numbers = isinstance(vector, list | tuple) and all(
                type(number) in (int, float) for number in vector
            )
            if not numbers or len(vector) != size or not bool(torch.tensor(vector).isfinite().all()):
                raise ValueError(f"vector={vector}: expected {size} finite number{'s' * (size > 1)}")
        return self.transform(torch.tensor(vectors, dtype=torch.float64))

    def _size(self) -> int:
        if self.mean is None or self.std is None:
            raise ValueError("mean and std of the vectors are not known; give them, or call fit(train)")
        return len(self.mean)
