"""Bits per dimension of the reverse-time SDE."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.evaluation.metric.base import Metric, MetricResult, code_length
from sde_gen.evaluation.metric.data_term import DataTerm, DequantizedData
from sde_gen.likelihood import ELBO
from sde_gen.noise import PerSample
from sde_gen.utils.broadcasting import event_numel


@dataclass(frozen=True, kw_only=True)
class ContinuousBound(Metric):
    """An upper bound on the code length of the data under the SDE model, in continuous time.

    The SDE's density is another than that of the probability flow of the same network: neither this number nor
    the flow's has to be the smaller one.

    Source: Song et al., 2021, arXiv:2101.09258, theorem 3.

    Arguments:
        bound: draws of times and noise.
        ending: data term at t_min.
    """

    bound: ELBO = field(default_factory=ELBO)
    ending: DataTerm = field(default_factory=DequantizedData)
    what: ClassVar[str] = "SDE model, upper bound (continuous time)"
    unit: ClassVar[str] = "bits/dim"

    @property
    def uses_dequantization(self) -> bool:
        """Return whether the data term uses dequantization."""
        return self.ending.uses_dequantization

    def __call__(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int]
    ) -> MetricResult:
        """Return the bound in bits per dimension."""
        noise = PerSample(seeds)
        with torch.no_grad():
            model, x0, log_q, decoder = self.ending(denoiser, values, codec, noise)
            bound = self.bound(model, x0, decoder=decoder, noise=noise)
        return MetricResult(
            value=code_length(bound.nats, log_q, x0, codec),
            random_errors={"draws": bound.se / (event_numel(x0) * math.log(2))},
        )
