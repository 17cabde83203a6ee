"""Times along a cosine."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.grid.base import Curve
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class CosineGrid(Curve):
    r"""Times along the cosine of an angle in equal steps, from 0 at noise to ``phi = pi half_turns`` at data.

    .. math::
        t = t_{max} + \frac{1 - \cos(\phi u)}{1 - \cos \phi} (t_{min} - t_{max})

    A half turn gives Chebyshev's points, small steps at both ends (Trefethen, 2019, Approximation Theory and
    Approximation Practice, chapter 2). A quarter turn has small steps at noise alone, t = cos(pi u / 2) between
    1 and 0: the cosine schedule of flow matching for speech (Du et al., 2024, arXiv:2407.05407, CosyVoice;
    Chen et al., 2024, arXiv:2410.06885, eq. 7 with s = -1; their times run from noise to data).

    Arguments:
        half_turns: the angle at data in half turns, in (0, 1]; toward 0 the rule is u^2.

    Raises:
        ValueError: half_turns lies outside (0, 1].
    """

    half_turns: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.half_turns <= 1:
            raise ValueError(
                f"half_turns={self.half_turns} must lie in (0, 1]: 1 gives Chebyshev's points, 0.5 a quarter turn"
            )

    def times(self, sde: SDE, t_max: Tensor, t_min: Tensor, u: Tensor) -> Tensor:
        """Interpolate by 1 - cos(phi u) = 2 sin^2(phi u / 2)."""
        del sde
        half = 0.5 * math.pi * self.half_turns
        return t_max + (torch.sin(half * u) / math.sin(half)) ** 2 * (t_min - t_max)
