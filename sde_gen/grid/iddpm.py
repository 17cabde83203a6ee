"""The levels of iDDPM's chain."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sde_gen.grid.base import Grid
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class IDDPM(Grid):
    r"""Noise levels of a discrete chain with a squared sine as alpha-bar, at equal steps of its index.

    With M levels, :math:`u_M = 0` and

    .. math::
        u_{j-1} = \sqrt{\frac{u_j^2 + 1}{\max(\bar\alpha_{j-1} / \bar\alpha_j,\, C_1)} - 1}, \qquad
        \bar\alpha_j = \sin^2 \frac{\pi j}{2 M (C_2 + 1)},

    the ratios sigma / alpha are :math:`u_{j_0}, ..., u_{M-1}`, thinned out to
    :math:`j = \lfloor j_0 + (M - 1 - j_0) i / n + 1/2 \rfloor`, i = 0, ..., n. Levels that the process does not reach
    are left out before.

    Sources: Karras et al., 2022, arXiv:2206.00364, table 1, column iDDPM; Nichol and Dhariwal, 2021,
    arXiv:2102.09672, eq. 17.

    Arguments:
        levels: levels M of the chain.
        first: the index :math:`j_0` of the first level used, in [0, M - 2].
        c_1: least quotient of neighboring alpha-bars.
        c_2: offset of the sine.

    Raises:
        ValueError: an argument out of its range; or later more steps than there are levels.
    """

    levels: int = 1000
    first: int = 8
    c_1: float = 0.001
    c_2: float = 0.008

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.levels - 2:
            raise ValueError(f"first={self.first} must lie in [0, levels - 2 = {self.levels - 2}]")
        if not (0 < self.c_1 < 1 and 0 <= self.c_2 < math.inf):
            raise ValueError(
                f"c_1={self.c_1} must lie in (0, 1) and c_2={self.c_2} be at least 0; the paper's are 0.001 and 0.008"
            )

    def make(self, sde: SDE, steps: int) -> Tensor:
        """Times of the thinned-out levels."""
        log_snr = -2 * torch.log(torch.from_numpy(self.ratios()[self.first : self.levels]))
        ends = torch.tensor([1.0, sde.t_min], dtype=torch.float64)
        noisiest, cleanest = sde.log_snr(ends)
        log_snr = log_snr[(log_snr >= noisiest) & (log_snr <= cleanest)]
        most = len(log_snr) - 1
        if steps > most:
            raise ValueError(
                f"steps={steps}: the chain has {most + 1} levels that {sde} reaches; take {most}"
            )
        index = torch.linspace(0, most, steps + 1, dtype=torch.float64).add(0.5).floor().long()
        return sde.t_from_log_snr(log_snr[index]).clamp(sde.t_min, 1.0)  # rounding

    def ratios(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The ratios u_0, ..., u_M."""
        j = np.arange(self.levels + 1)
        alpha_bar = np.sin(0.5 * math.pi * j / (self.levels * (self.c_2 + 1))) ** 2
        quotient = np.maximum(alpha_bar[:-1] / alpha_bar[1:], self.c_1)
        log_alpha_bar = np.cumsum(np.log(quotient[::-1]))[::-1]  # u^2 + 1 = 1 / the product of the quotients
        return np.append(np.sqrt(np.expm1(-log_alpha_bar)), 0.0)
