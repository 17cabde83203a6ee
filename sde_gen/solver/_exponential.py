r"""What exponential integrators share: steps that are exact in everything but the network.

With ``lam = log(alpha / sigma)`` the probability flow is, for any alpha and sigma,

.. math::
    \frac{d}{d\lambda} \frac{x}{\alpha} = -e^{-\lambda} \hat\epsilon, \qquad
    \frac{d}{d\lambda} \frac{x}{\sigma} = e^{\lambda} \hat{x}_0 .

Sources: Lu et al., 2022, arXiv:2206.00927, proposition 3.1; arXiv:2211.01095, proposition 4.1.
"""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen._tensor import like
from sde_gen.denoiser.base import Denoiser
from sde_gen.sde.base import SDE
from sde_gen.solver.base import StepSolver


class Point(NamedTuple):
    """A time with its alpha, sigma and lam = log(alpha / sigma), all float64 with shape ()."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    lam: Tensor


def point(sde: SDE, t: Tensor) -> Point:
    """The point at a time."""
    return Point(t, *sde.marginal(t), 0.5 * sde.log_snr(t))


def between(sde: SDE, a: Point, b: Point, r: float) -> Point:
    """The point at the fraction r of the way from a to b in lam."""
    return point(sde, sde.t_from_log_snr(2 * (a.lam + r * (b.lam - a.lam))))


def move(x: Tensor, a: Point, b: Point, eps: Tensor) -> Tensor:
    r"""Go from a to b with constant noise: ``x_b = (alpha_b / alpha_a) x_a - sigma_b (e^h - 1) eps``."""
    return like(b.alpha / a.alpha, x) * x - like(b.sigma * torch.expm1(b.lam - a.lam), x) * eps


def bend(x: Tensor, a: Point, b: Point, slope: Tensor) -> Tensor:
    r"""What noise that grows from zero at a to ``slope`` at b adds to x_b.

    .. math::
        -\sigma_b \int_0^h e^{h - u} \frac{u}{h} du\; \mathrm{slope}
        = -\sigma_b \left(\frac{e^h - 1}{h} - 1\right) \mathrm{slope}
    """
    h = b.lam - a.lam
    return -like(b.sigma * (torch.expm1(h) / h - 1), x) * slope


class NoisePredictionSolver(StepSolver[None]):
    """A deterministic solver in noise prediction, which cannot start where alpha is zero."""

    stochastic: ClassVar[bool] = False

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Refuse a start without signal.

        Raises:
            ValueError: noise prediction has no exponential integrator from there.
        """
        t = times.max()
        if not bool(torch.isfinite(model.sde.log_snr(t)).all()):
            raise ValueError(
                f"alpha({float(t):g}) of {type(model.sde).__name__} is zero, from where {type(self).__name__} "
                "cannot start: give the grid a t_max below 1, such as 0.999, or use the log_snr grid, or a "
                "solver that can, such as DPMSolverPP, DDIM or Heun"
            )
