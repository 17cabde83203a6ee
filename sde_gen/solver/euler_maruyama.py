"""Euler-Maruyama on the reverse-time SDE."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen._tensor import like
from sde_gen.denoiser.base import Denoiser
from sde_gen.dynamics import ReverseSDE
from sde_gen.noise import Noise
from sde_gen.solver._check import require_descent, require_finite_diffusion
from sde_gen.solver.base import StepSolver


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama(StepSolver[None]):
    r"""Euler-Maruyama on the reverse-time SDE of strength eta.

    .. math::
        x_s = x_t + (s - t) \left[f x_t - \tfrac{1 + \eta^2}{2} g^2 \nabla \log p_t\right]
            + \eta\, g(t) \sqrt{t - s}\, \epsilon

    Weak order 1, and strong order 1 as well: the noise does not depend on x.
    Source: Song et al., 2021, arXiv:2011.13456, section 4.1 and appendix E.

    Arguments:
        eta: 0 is Euler on the probability flow, 1 the reverse of the forward process.

    Raises:
        ValueError: eta is negative or not finite.
    """

    eta: float = 1.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if not 0 <= self.eta < math.inf:
            raise ValueError(f"eta={self.eta} must be finite and not negative; 0 puts no noise back")

    @property
    def stochastic(self) -> bool:
        """Whether eta is positive."""
        return self.eta > 0

    def check(self, model: Denoiser, times: Tensor) -> None:
        """With noise, refuse to go up and a start where g is infinite; the flow is finite there."""
        if self.eta > 0:
            require_descent(type(self).__name__, times)
            require_finite_diffusion(type(self).__name__, model, times[0])

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """One step."""
        reverse = ReverseSDE(model, self.eta)
        x_s = x_t + (s - t) * reverse.drift(x_t, t)
        if self.eta > 0:
            x_s = x_s + like(reverse.diffusion(t) * torch.sqrt(t - s), x_t) * noise(x_t, float(t), float(s))
        return x_s, state

    def nfe(self, steps: int) -> int:
        """One evaluation a step."""
        return steps
