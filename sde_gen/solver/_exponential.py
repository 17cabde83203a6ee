r"""Exponential integrator steps, exact in everything but the network.

With ``lam = log(alpha / sigma)`` the probability flow is, for any alpha and sigma,

.. math::
    \frac{d}{d\lambda} \frac{x}{\alpha} = -e^{-\lambda} \hat\epsilon, \qquad
    \frac{d}{d\lambda} \frac{x}{\sigma} = e^{\lambda} \hat{x}_0 .

Sources: Lu et al., 2022, arXiv:2206.00927, proposition 3.1; arXiv:2211.01095, proposition 4.1.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen.sde.base import SDE
from sde_gen.utils.broadcasting import broadcast_like


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
    """The point at the fraction r between a and b in lam."""
    return point(sde, sde.t_from_log_snr(2 * (a.lam + r * (b.lam - a.lam))))


def move(x: Tensor, a: Point, b: Point, eps: Tensor) -> Tensor:
    r"""Go from a to b with constant noise: ``x_b = (alpha_b / alpha_a) x_a - sigma_b (e^h - 1) eps``."""
    return (
        broadcast_like(b.alpha / a.alpha, x) * x
        - broadcast_like(b.sigma * torch.expm1(b.lam - a.lam), x) * eps
    )


def bend(x: Tensor, a: Point, b: Point, slope: Tensor) -> Tensor:
    r"""Contribution to x_b of noise that grows from zero at a to ``slope`` at b.

    .. math::
        -\sigma_b \int_0^h e^{h - u} \frac{u}{h} du\; \mathrm{slope}
        = -\sigma_b \left(\frac{e^h - 1}{h} - 1\right) \mathrm{slope}
    """
    h = b.lam - a.lam
    return -broadcast_like(b.sigma * (torch.expm1(h) / h - 1), x) * slope
