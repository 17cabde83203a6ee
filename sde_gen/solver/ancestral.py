"""Ancestral sampling: the denoised sample, noised again by the exact posterior."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen._tensor import like
from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._check import require_descent
from sde_gen.solver.base import StepSolver


@dataclass(frozen=True, kw_only=True)
class Ancestral(StepSolver[None]):
    r"""DDPM's ancestral sampling on any process and any grid.

    With the posterior q(x_s | x_t, x_0) = N(c_t x_t + c_0 x_0, tilde beta) and the transition
    q(x_t | x_s) = N(scale x_s, beta),

    .. math::
        x_s = c_t x_t + c_0 \hat{x}_0 + \sqrt{\tilde\beta^{1 - \nu} \beta^\nu}\, \epsilon .

    nu = 0 is exact for data at a single point, nu = 1 on VP for data N(0, I); weak order 1 for all data.

    Sources: Ho et al., 2020, arXiv:2006.11239, section 3.2 (the two variances);
    Nichol and Dhariwal, 2021, arXiv:2102.09672, eq. 15 (interpolation of their logarithms).

    Arguments:
        nu: place of the variance between tilde beta (0) and beta (1), in the logarithm.

    Raises:
        ValueError: nu lies outside [0, 1].
    """

    nu: float = 0.0
    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if not 0 <= self.nu <= 1:
            raise ValueError(
                f"nu={self.nu} must lie in [0, 1]: 0 is the posterior's variance, 1 the transition's"
            )

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Refuse to go up."""
        del model
        require_descent(type(self).__name__, times)

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """One step."""
        c_t, c_0, tilde_std = model.sde.posterior(t, s)
        std = tilde_std ** (1 - self.nu) * model.sde.transition(s, t).std ** self.nu
        mean = like(c_t, x_t) * x_t + like(c_0, x_t) * model(x_t, t).x0
        return mean + like(std, x_t) * noise(x_t, float(t), float(s)), state

    def nfe(self, steps: int) -> int:
        """One evaluation a step."""
        return steps
