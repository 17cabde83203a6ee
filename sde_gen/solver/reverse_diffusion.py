"""Reverse diffusion sampling: the reverse SDE in the steps of the forward chain."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen._tensor import like
from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._check import require_descent, require_finite_diffusion
from sde_gen.solver.base import StepSolver


@dataclass(frozen=True, kw_only=True)
class ReverseDiffusion(StepSolver[None]):
    r"""Discretise the reverse SDE as the forward process is discretised.

    The forward chain is x_t = x_s + f_t(x_s) + G_t eps. Ours is the exact transition q(x_t | x_s), so
    f_t(x) = (scale - 1) x and G_t = std, which is the chain of SMLD on VE and that of DDPM on VP:

    .. math::
        x_s = x_t - f_t(x_t) + \tfrac{1 + \eta^2}{2} G_t^2 \nabla \log p_t(x_t) + \eta\, G_t\, \epsilon .

    Exact are f and G as integrals over the step; held at its value in t is the score, and f is applied
    to x_t for x_s. Weak order 1; unlike Euler-Maruyama it never asks for f(t) or g(t) alone.

    Source: Song et al., 2021, arXiv:2011.13456, eq. 46 and appendix E; eta = 0 is their eq. 47 for the
    probability flow, the family in between that of :class:`~sde_gen.dynamics.ReverseSDE`.

    Arguments:
        eta: 0 is a first-order step on the probability flow, 1 the paper's sampler.

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
        """Refuse to go up, and a start where alpha is zero: there x_t and the score do not tell x_s."""
        require_descent(type(self).__name__, times)
        require_finite_diffusion(type(self).__name__, model, times[0])

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """One step."""
        transition = model.sde.transition(s, t)
        scale, std = like(transition.scale, x_t), like(transition.std, x_t)
        score = model(x_t, t).score
        x_s = (2 - scale) * x_t + 0.5 * (1 + self.eta**2) * std**2 * score
        if self.eta > 0:
            x_s = x_s + self.eta * std * noise(x_t, float(t), float(s))
        return x_s, state

    def nfe(self, steps: int) -> int:
        """One evaluation a step."""
        return steps
