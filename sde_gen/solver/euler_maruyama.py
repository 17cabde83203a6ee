"""Euler-Maruyama on the reverse-time SDE."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.dynamics import ReverseSDE
from sde_gen.noise import Noise
from sde_gen.solver.base import StepSolver


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama(StepSolver[None]):
    r"""Euler-Maruyama on the reverse-time SDE of strength eta.

    .. math::
        x_s = x_t + (s - t) \left[f x_t - \tfrac{1 + \eta^2}{2} g^2 \nabla \log p_t\right]
            + \eta\, g(t) \sqrt{t - s}\, \epsilon

    Weak order 1. Source: Song et al., 2021, arXiv:2011.13456, section 4.1 and appendix E.

    Arguments:
        eta: 0 is Euler on the probability flow, 1 the reverse of the forward process.
    """

    eta: float = 1.0
    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if not self.eta >= 0:
            raise ValueError(f"eta={self.eta} must not be negative")

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Refuse a start where g is infinite."""
        if self.eta > 0 and not bool(torch.isfinite(model.sde.diffusion(times[0]))):
            raise ValueError(
                f"g({float(times[0]):g}) of {type(model.sde).__name__} is infinite, which Euler-Maruyama needs finite: "
                "give the grid a t_max below 1, such as 0.999, or use eta=0 or an exponential solver such as DDIM"
            )

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """One step."""
        reverse = ReverseSDE(model, self.eta)
        x_s = x_t + (s - t) * reverse.drift(x_t, t)
        if self.eta > 0:
            x_s = x_s + reverse.diffusion(t) * torch.sqrt(t - s) * noise(x_t, float(t), float(s))
        return x_s, state

    def nfe(self, steps: int) -> int:
        """One evaluation a step."""
        return steps
