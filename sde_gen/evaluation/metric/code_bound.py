"""Bits per dimension of a model of codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import AutoregressiveModel
from sde_gen.evaluation.metric.base import Metric, MetricResult
from sde_gen.likelihood import nats_to_bits
from sde_gen.noise import Noise, PerSample


@dataclass(frozen=True, kw_only=True)
class CodeBits(Metric):
    r"""An upper bound on the bits per dimension of the data, of a discrete autoencoder and a model of its codes.

    .. math::
        -\log p(y) \le E_{q(k | y)}[-\log p(y | k) + \log q(k | y) - \log p(k | \mathrm{text})]

    Everything is of the autoencoder but the last term; the autoencoder's own bound has uniform codes in its place. It
    is the mean of two draws of the codes, whose difference gives its error; VQ codes are not random. Bits of a picture
    are those of a dimension times the number of dimensions.

    Source: Ramesh et al., 2021, arXiv:2102.12092, eq. 1.
    """

    what: ClassVar[str] = "bound with the autoregressive model of codes"
    unit: ClassVar[str] = "bits/dim"
    trained: ClassVar[type] = AutoregressiveModel
    of_latents: ClassVar[bool] = True

    def __call__(self, denoiser: Any, values: Tensor, codec: Codec, seeds: Sequence[int]) -> MetricResult:
        """Evaluate a batch of a model of codes."""
        noise = PerSample(seeds)
        first, second = (self._bits(denoiser, values, codec, noise) for _ in range(2))
        return MetricResult(
            value=0.5 * (first + second), random_errors={"codes": 0.5 * (first - second).abs()}
        )

    @torch.no_grad()
    def _bits(self, model: AutoregressiveModel, values: Tensor, codec: Codec, noise: Noise) -> Tensor:
        terms = codec.bound(values, noise)
        return nats_to_bits(terms.log_q - terms.log_likelihood - model.log_prob(terms.z), values)
