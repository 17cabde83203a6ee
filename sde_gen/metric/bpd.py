"""Bits per dimension of the probability flow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.divergence import Divergence
from sde_gen.integrator.base import Integrator
from sde_gen.likelihood import bits_per_dim, log_prob
from sde_gen.metric.base import Measured, Metric
from sde_gen.noise import PerSample


@dataclass(frozen=True, kw_only=True)
class BitsPerDim(Metric):
    """Bits per dimension by the probability flow, with one uniform dequantisation of every image.

    Source: Song et al., 2021, arXiv:2011.13456, appendix D.2.

    Arguments:
        integrator: method for the ODE.
        divergence: exact or estimated.
    """

    integrator: Integrator
    divergence: Divergence
    what: ClassVar[str] = "probability-flow code length, uniform dequantisation"
    unit: ClassVar[str] = "bits/dim"

    def __call__(self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int]) -> Measured:
        """Dequantise, solve, and convert."""
        noise = PerSample(seeds)
        x = codec.encode(values, noise)
        found = log_prob(denoiser, x, integrator=self.integrator, divergence=self.divergence, noise=noise)
        return Measured(value=bits_per_dim(found.nats, x, codec))
