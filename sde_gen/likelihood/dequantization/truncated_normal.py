"""Dequantization by the process's noise, truncated to the bin."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.likelihood.dequantization.base import Dequantization, Dequantized
from sde_gen.noise import Noise
from sde_gen.utils.broadcasting import sum_event


@dataclass(frozen=True, kw_only=True)
class TruncatedNormal(Dequantization):
    r"""The noise of the process at a time t, truncated to the bin, without trainable parameters.

    .. math::
        x_t = \alpha_t c_k + \sigma_t e, \qquad e \sim N(0, 1) \text{ on } [-\tau', \tau'], \qquad
        \tau' = \frac{\alpha_t}{\sigma_t} \frac{\mathrm{width}}{2}

    with the center c_k of the bin. t is the time with tau' = tau, or the process's t_min if that is later. So x_t has
    the distribution of the process except for the truncation, and no clean point is evaluated.

    Source: Zheng et al., 2023, arXiv:2305.03935 (there t is t_min, with tau about 3).

    Arguments:
        tau: half a bin in standard deviations of the noise.

    Raises:
        ValueError: tau is not positive; or later the data are continuous, or t would not lie below 1.
    """

    tau: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.tau < math.inf:
            raise ValueError(f"tau={self.tau} must be positive and finite")

    def __call__(self, denoiser: Denoiser, values: Tensor, codec: Codec, noise: Noise) -> Dequantized:
        """Invert the truncated distribution function in float64."""
        first, second = codec.middles()[:2]
        half = 0.5 * (second - first)
        sde = denoiser.sde
        t = sde.t_from_log_snr(2 * torch.log(self.tau / half)).clamp(min=sde.t_min)
        alpha, sigma = sde.marginal(t)
        tau = alpha / sigma * half
        mass = torch.special.erf(tau / math.sqrt(2))
        middle = codec.encode(values)
        u = torch.special.ndtr(noise.normal(middle).double())
        e = torch.special.ndtri(0.5 * (1 - mass) + mass * u)
        log_q = -0.5 * e**2 - torch.log(mass * sigma) - 0.5 * math.log(2 * math.pi)
        x = (alpha * middle.double() + sigma * e).to(middle.dtype)
        return Dequantized(x, sum_event(log_q), float(t))
