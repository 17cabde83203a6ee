"""Terms of the variational bounds."""

import math

import torch
from torch import Tensor

from sde_gen.sde.base import SDE
from sde_gen.utils.broadcasting import broadcast_like, sum_event


def gaussian_kl(gap: Tensor, std_q: Tensor, std_p: Tensor) -> Tensor:
    r"""KL(N(m, std_q^2) || N(m', std_p^2)) in nats, summed over the event, float64 with shape (B,).

    .. math::
        \sum_i \log \frac{\sigma_p}{\sigma_q} + \frac12 \Big( \frac{\sigma_q^2}{\sigma_p^2} - 1 \Big)
        + \frac{(m_i - m'_i)^2}{2 \sigma_p^2}

    Arguments:
        gap: m - m' with shape (B, *event).
        std_q: with shape () or that of the gap.
        std_p: with shape () or that of the gap.
    """
    ratio = std_q / std_p
    widths = 0.5 * (ratio**2 - 1) - torch.log(ratio)
    return sum_event(widths + 0.5 * (gap.double() / std_p) ** 2)


def prior_kl(sde: SDE, x0: Tensor, t: Tensor) -> Tensor:
    """KL(q(x_t | x_0) || N(0, sigma_t^2 I)) at the first time t of shape (), in nats with shape (B,)."""
    alpha, sigma = sde.marginal(t)
    return gaussian_kl(broadcast_like(alpha, x0) * x0, sigma, sigma)


def standard_error(values: Tensor) -> Tensor:
    """Standard error of the mean over rows (R, B) -> (B,); NaN for one row, which shows no spread."""
    rows = len(values)
    return values.std(0, correction=1) / rows**0.5 if rows > 1 else torch.full_like(values[0], math.nan)
