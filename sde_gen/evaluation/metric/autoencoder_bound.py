"""Bits per dimension of an autoencoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.data.codec import Codec, Observation
from sde_gen.denoiser import NetworkAutoencoder
from sde_gen.evaluation.metric.base import Metric, MetricResult
from sde_gen.likelihood import nats_to_bits
from sde_gen.noise import Noise, PerSample


@dataclass(frozen=True, kw_only=True)
class AutoencoderBits(Metric):
    r"""The bound on the bits per dimension of an autoencoder with its fixed prior of the latents.

    .. math::
        -\log p(y) \le E_{q(z | y)}[-\log p(y | z)] + \mathrm{rate}(y)

    It is the mean of two draws of the latents, whose difference gives its error.

    Source: Kingma and Welling, 2014, arXiv:1312.6114, eq. 3.
    """

    what: ClassVar[str] = "bound of the autoencoder with its prior"
    unit: ClassVar[str] = "bits/dim"
    trained: ClassVar[type] = NetworkAutoencoder

    def __call__(self, denoiser: Any, values: Tensor, codec: Codec, seeds: Sequence[int]) -> MetricResult:
        """Evaluate a batch of an autoencoder."""
        noise = PerSample(seeds)
        first, second = (self._bits(denoiser, values, codec, noise) for _ in range(2))
        return MetricResult(
            value=0.5 * (first + second), random_errors={"latents": 0.5 * (first - second).abs()}
        )

    @torch.no_grad()
    def _bits(self, model: NetworkAutoencoder, values: Tensor, codec: Codec, noise: Noise) -> Tensor:
        net: Any = model.net
        x = codec.encode(values)
        out = net(x, noise.normal(x.new_empty(len(x), *net.noise)))
        nats = Observation(codec=codec, family=net.family).log_prob(x, out.mean, out.log_scale)
        return nats_to_bits(out.rate.double() - nats, values)
