"""Dequantization with the noise of t_min."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.denoiser.decoder import Decoder, GaussianDecoder
from sde_gen.likelihood.dequantization.base import Dequantization, Dequantized
from sde_gen.likelihood.dequantization.uniform import UniformDequantization
from sde_gen.noise import Noise
from sde_gen.sde.base import Prior


@dataclass(frozen=True, kw_only=True)
class Noised(Dequantization):
    r"""Points of another dequantization with the noise of the process at t_min.

    .. math::
        \log p(x_0) \ge E_{q(x_t | x_0)} [\log p_t(x_t) - \log q(x_t | x_0) + \log p(x_0 | x_t)]

    The density is thus evaluated at noisy points x_t of the process, not at clean points. The decoder needs one
    more evaluation of the denoiser.

    Source: Song et al., 2021, arXiv:2101.09258.

    Arguments:
        of: dequantization of the clean points.
        decoder: p(x_0 | x_t).
    """

    of: Dequantization = field(default_factory=UniformDequantization)
    decoder: Decoder = field(default_factory=GaussianDecoder)

    def __call__(self, denoiser: Denoiser, values: Tensor, codec: Codec, noise: Noise) -> Dequantized:
        """Dequantize and add noise, with the decoder's log-density in log_q."""
        x0, log_q = self.of.clean(values, codec, noise)
        t = torch.tensor(denoiser.sde.t_min, dtype=torch.float64)
        alpha, sigma = denoiser.sde.marginal(t)
        shift = sigma * noise.normal(x0)
        x_t = alpha * x0 + shift
        returned = self.decoder.log_prob(denoiser(x_t, t), x0)
        return Dequantized(x_t, log_q + Prior(float(sigma)).log_prob(shift) - returned, denoiser.sde.t_min)
