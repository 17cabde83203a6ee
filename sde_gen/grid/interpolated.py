"""Times between the steps of a discrete chain."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.grid.base import Grid
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class DDPMInterpolated(Grid):
    r"""Times at equal distances from n = N to n = 1 of a chain, with fractions.

    Between two of the chain's times sigma / alpha is interpolated linearly, or its logarithm:

    .. math::
        r(n) = (1 - f)\, r_{\lfloor n \rfloor} + f\, r_{\lfloor n \rfloor + 1}, \qquad
        f = n - \lfloor n \rfloor .

    Source: Katherine Crowson, k-diffusion, external.py, ``t_to_sigma``, which diffusers' EulerDiscreteScheduler has,
    too (``interpolation_type``).

    Arguments:
        chain: steps N of the chain.
        logarithmic: whether log(sigma / alpha) is interpolated.

    Raises:
        ValueError: fewer than 2 steps.
    """

    chain: int = 1000
    logarithmic: bool = False

    def __post_init__(self) -> None:
        if self.chain < 2:
            raise ValueError(f"chain={self.chain}: expected at least 2 steps")

    def make(self, sde: SDE, steps: int) -> Tensor:
        """Return the times of the interpolated ratios."""
        numbers = torch.linspace(self.chain, 1, steps + 1, dtype=torch.float64)
        below = numbers.floor().clamp(max=self.chain - 1)
        logs = [-0.5 * sde.log_snr(n / self.chain) for n in (below, below + 1)]
        if not self.logarithmic:
            logs = [torch.exp(log) for log in logs]
        ratio = torch.lerp(logs[0], logs[1], numbers - below)
        log_snr = -2 * (ratio if self.logarithmic else torch.log(ratio))
        exact = numbers == numbers.floor()
        return torch.where(exact, numbers / self.chain, sde.t_from_log_snr(log_snr))
