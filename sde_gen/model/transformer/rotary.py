"""Rotary position embeddings of image tokens."""

import abc
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class TokenGrid(NamedTuple):
    """Tokens in rows and columns.

    Arguments:
        height: number of rows.
        width: number of columns.
        aspect: height of a token, in units of its width.
    """

    height: int
    width: int
    aspect: float

    def places(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Middles of rows and of columns, the longer side of the image being [-1, 1]: (H,) and (W,)."""
        tall = self.height * self.aspect
        longer = max(tall, self.width)
        rows, columns = (
            (2 * torch.arange(n, dtype=like.dtype, device=like.device) + 1) / n - 1
            for n in (self.height, self.width)
        )
        return tall / longer * rows, self.width / longer * columns


class Rotary(nn.Module, abc.ABC):
    r"""Rotate pairs of features by angles proportional to the place: inner products depend on relative positions only.

    Feature i of the first and i of the second part of a head are one pair, rotated by
    :math:`\theta_i = \omega_i y` for the first half of the pairs and :math:`\omega_i x` for the other; features that
    belong to no pair stay.

    Source: Su et al., 2021, arXiv:2104.09864, section 3.2; along both axes of an image: Crowson et al., 2024,
    arXiv:2401.11605, section 4.

    Arguments:
        grid: the tokens.
    """

    def __init__(self, grid: TokenGrid) -> None:
        super().__init__()
        self.grid = grid

    @abc.abstractmethod
    def both(self) -> Tensor:
        """Frequencies of rows and of columns, with shape (2, heads, n)."""

    def forward(self, x: Tensor) -> Tensor:
        """Rotate queries or keys (B, heads, H, W, head), in float32 or finer."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        omega = self.both().to(dtype)
        rows, columns = self.grid.places(omega)
        angle = torch.cat(
            [
                (rows[:, None] * omega[0, :, None])[:, :, None].expand(-1, -1, len(columns), -1),
                (columns[:, None] * omega[1, :, None])[:, None].expand(-1, len(rows), -1, -1),
            ],
            dim=-1,
        )
        cos, sin, many = angle.cos(), angle.sin(), angle.shape[-1]
        first, second, rest = x[..., :many].to(dtype), x[..., many : 2 * many].to(dtype), x[..., 2 * many :]
        turned = (first * cos - second * sin, second * cos + first * sin)
        return torch.cat([part.to(x.dtype) for part in turned] + [rest], dim=-1)


class Rotation(abc.ABC):
    """A rule for the rotations of a level."""

    @abc.abstractmethod
    def __call__(self, heads: int, head: int, grid: TokenGrid) -> Rotary:
        """Build them.

        Arguments:
            heads: number of heads.
            head: features of a head.
            grid: the tokens.

        Raises:
            ValueError: a head has no such number of features.
        """


@dataclass(frozen=True, kw_only=True)
class SpreadRotation(Rotation):
    """Half of the features of a head; frequencies from pi to 10 pi, no two alike, spread over the heads in turn.

    Source: Crowson et al., 2024, arXiv:2401.11605 (in their code).
    """

    def __call__(self, heads: int, head: int, grid: TokenGrid) -> Rotary:
        """Build the rotary embedding of the heads."""
        return _SpreadRotary(heads, _part(head, 8), grid)


@dataclass(frozen=True, kw_only=True)
class LearnedRotation(Rotation):
    """All features of a head; frequencies that are learned, from pi to 5 pi at first, the same for every head.

    Source: Crowson, 2023, k-diffusion 0.1.1, ``image_transformer_v1`` (in its code).
    """

    def __call__(self, heads: int, head: int, grid: TokenGrid) -> Rotary:
        """Build the rotary embedding of the heads."""
        return _LearnedRotary(heads, _part(head, 4), grid)


def _part(head: int, share: int) -> int:
    if head % share:
        raise ValueError(f"heads of {head} features cannot be rotated; expected a multiple of {share}")
    return head // share


class _SpreadRotary(Rotary):
    frequencies: Tensor

    def __init__(self, heads: int, count: int, grid: TokenGrid) -> None:
        super().__init__(grid)
        ends = math.log(math.pi), math.log(10 * math.pi)
        line = torch.linspace(*ends, heads * count + 1, dtype=torch.float64)[:-1].exp()
        self.register_buffer(
            "frequencies", line.view(count, heads).T.contiguous().to(torch.get_default_dtype())
        )

    def both(self) -> Tensor:
        return torch.stack([self.frequencies, self.frequencies])


class _LearnedRotary(Rotary):
    def __init__(self, heads: int, count: int, grid: TokenGrid) -> None:
        super().__init__(grid)
        line = torch.linspace(math.log(math.pi), math.log(5 * math.pi), count).expand(heads, count)
        self.log_rows, self.log_columns = (nn.Parameter(line.clone()) for _ in range(2))

    def both(self) -> Tensor:
        return torch.stack([self.log_rows, self.log_columns]).exp()
