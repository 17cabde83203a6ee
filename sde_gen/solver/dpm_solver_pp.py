"""DPM-Solver++ (2M)."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen._tensor import like
from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver.base import StepSolver


class Past(NamedTuple):
    """What the last step left: its predicted clean sample and its length in lam."""

    x0: Tensor
    h: Tensor


@dataclass(frozen=True, kw_only=True)
class DPMSolverPP(StepSolver[Past | None]):
    r"""The two-step exponential integrator of the probability flow in data prediction.

    With lam = log(alpha / sigma), h = lam_s - lam_t and h' the length of the step before,

    .. math::
        D = \hat{x}_0(x_t, t) + \frac{h}{2 h'} \left(\hat{x}_0(x_t, t) - \hat{x}_0^{prev}\right), \qquad
        x_s = \frac{\sigma_s}{\sigma_t} x_t + \alpha_s (1 - e^{-h}) D .

    The first step takes D = x_0. Its error is of order 2 and made once, so the method is of order 2.
    A start where alpha is zero is a step with h infinite: it keeps the noise and takes x_0 as predicted.

    Source: Lu et al., 2022, arXiv:2211.01095, algorithm 2.
    """

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> Past | Any:
        """Start without a past."""
        del model, x, times
        return None

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: Past | None, noise: Noise
    ) -> tuple[Tensor, Past | None]:
        """One step."""
        del noise
        sde, x0 = model.sde, model(x_t, t).x0
        h = 0.5 * (sde.log_snr(s) - sde.log_snr(t))
        data = x0 if state is None else x0 + like(0.5 * h / state.h, x0) * (x0 - state.x0)
        keep, add = sde.sigma(s) / sde.sigma(t), -sde.alpha(s) * torch.expm1(-h)
        return like(keep, x_t) * x_t + like(add, x_t) * data, Past(x0, h)

    def nfe(self, steps: int) -> int:
        """One evaluation a step."""
        return steps
