"""Columns of a table: numbers are standardized, categories are bits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.codec.base import Codec
from sde_gen.data.codec.standardized import Standardized, statistics
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Columns(Codec):
    r"""Rows of a table, whose numeric columns are standardized, and whose categorical columns are one bit a category.

    A value of a category is 0 or 1. It is dequantized uniformly and mapped to [-1, 1]: 0 becomes -1 to 0, 1 becomes 0
    to 1; without noise -1/2 and 1/2. Whole numbers are dequantized in the same way, :math:`y + u - 1/2`. So the
    density bounds the probability of the categories and whole numbers from below (Theis et al., 2016, arXiv:1511.01844,
    section 3.1). A decoded row has the category of the largest bit.

    Source: Chen et al., 2022, arXiv:2208.04202, for categories as real bits.

    Arguments:
        names: names of the columns; None, as for the others: those of the training split.
        categories: categories of every column, none for numbers.
        whole: whether the numbers of a column are whole.
        mean: mean of every number of a row.
        std: standard deviation of every number of a row.

    Raises:
        ValueError: the lists have other lengths, or a std is not positive.
    """

    names: Sequence[str] | None = None
    categories: Sequence[Sequence[str]] | None = None
    whole: Sequence[bool] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    learned: ClassVar[tuple[str, ...]] = ("names", "categories", "whole", "mean", "std")

    def __post_init__(self) -> None:
        parts = (self.names, self.categories, self.whole)
        if len({len(part) for part in parts if part is not None}) > 1:
            raise ValueError("names, categories and whole have other lengths; expected one of each a column")
        Standardized(mean=self.mean, std=self.std)
        if self.categories is not None and self.mean is not None and len(self.mean) != self._size():
            raise ValueError(f"mean has {len(self.mean)} numbers; expected the {self._size()} of a row")

    def fit(self, train: Dataset) -> "Columns":
        """Take the columns, and compute means and standard deviations of the numbers.

        Raises:
            ValueError: the data are no table.
        """
        if not train.columns:
            raise ValueError("the data are no table with columns; use data=table, or codec=standardized")
        if any(column.shape for column in train.columns):
            raise ValueError("the data are networks; use codec=principal")
        mean, std = statistics(train)
        bits = torch.tensor([bool(column.categories) for column in train.columns for _ in range(column.size)])
        mean, std = torch.where(bits, 0.5, mean), torch.where(bits | (std == 0), 1.0, std)
        return replace(
            self,
            names=[column.name for column in train.columns],
            categories=[[*column.categories] for column in train.columns],
            whole=[column.whole for column in train.columns],
            mean=mean.tolist(),
            std=std.tolist(),
        )

    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Dequantize categories and whole numbers, and standardize."""
        y = values.double()
        if noise is not None:
            u = torch.special.ndtr(noise.normal(values.float()).double()) - 0.5
            edge = 0.5 - 2.0**-20  # as close to the next number as float32 resolves
            discrete = torch.tensor(self._discrete(), device=values.device)
            y = torch.where(discrete, y + u.clamp(-edge, edge), y)
        return self._standardized().encode(y)

    def decode(self, x: Tensor) -> Tensor:
        """Return the numbers of the data: whole ones rounded, and 1 for the largest bit of a category."""
        y, parts = self._standardized().decode(x.double()), []
        for column, (categories, whole) in zip(self._parts(y), self._kinds(), strict=True):
            if categories:
                column = torch.nn.functional.one_hot(column.argmax(1), len(categories)).to(y.dtype)
            parts.append(column.round() if whole else column)
        return torch.cat(parts, dim=1).to(x.dtype)

    def decode_image(self, x: Tensor) -> Tensor:
        """Return the numbers of the data, for a scatter plot."""
        return self.decode(x)

    def table(self, x: Tensor) -> list[list[str]]:
        """Return the header and the rows of the table."""
        columns: list[list[str]] = []
        for column, (categories, whole) in zip(
            self._parts(self.decode(x.double())), self._kinds(), strict=True
        ):
            if categories:
                columns.append([categories[index] for index in column.argmax(1).tolist()])
            else:
                columns.append(
                    [str(int(number)) if whole else f"{number:.7g}" for number in column[:, 0].tolist()]
                )
        assert self.names is not None
        return [[*self.names], *(list(row) for row in zip(*columns, strict=True))]

    def log_det(self, x: Tensor) -> Tensor:
        """Return minus the sum of log s, in nats; that of a bit is zero."""
        return self._standardized().log_det(x)

    def _standardized(self) -> Standardized:
        return Standardized(mean=self.mean, std=self.std)

    def _kinds(self) -> list[tuple[Sequence[str], bool]]:
        if self.categories is None or self.whole is None:
            raise ValueError("the columns are not known; call fit(train)")
        return list(zip(self.categories, self.whole, strict=True))

    def _discrete(self) -> list[bool]:
        return [
            bool(categories) or whole
            for categories, whole in self._kinds()
            for _ in range(len(categories) or 1)
        ]

    def _size(self) -> int:
        assert self.categories is not None
        return sum(len(categories) or 1 for categories in self.categories)

    def _parts(self, y: Tensor) -> tuple[Tensor, ...]:
        """Split rows into columns, each (B, 1) or (B, categories)."""
        return torch.split(y, [len(categories) or 1 for categories, _ in self._kinds()], dim=1)
