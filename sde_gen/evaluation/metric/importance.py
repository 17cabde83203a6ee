"""Bits per dimension of the probability flow by several dequantizations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser, TruncatedProcess
from sde_gen.evaluation.metric.base import Metric, MetricResult, code_length
from sde_gen.likelihood import log_prob
from sde_gen.likelihood.dequantization import Dequantization, importance_bound
from sde_gen.likelihood.divergence import Divergence
from sde_gen.noise import PerSample
from sde_gen.ode.base import Integrator


@dataclass(frozen=True, kw_only=True)
class ImportanceBits(Metric):
    """An upper bound on the code length under the probability flow, from K draws of a dequantization.

    With one draw it is the flow's code length by any dequantization. With more it falls to the flow's own
    -log P(k); that needs an exact divergence, see :func:`~sde_gen.likelihood.dequantization.importance_bound`.

    Source: Burda et al., 2016, arXiv:1509.00519, theorem 1.

    Arguments:
        dequantization: distribution of the draws.
        draws: their number K.
        integrator: method for the ODE.
        divergence: exact or estimated.

    Raises:
        ValueError: draws is not positive; or there are several and the divergence is estimated, whose errors raise the
            mean of weights: the result would lie below what it is to bound.
    """

    dequantization: Dequantization
    integrator: Integrator
    divergence: Divergence
    draws: int = 1
    what: ClassVar[str] = "probability flow, upper bound (K dequantizations)"
    unit: ClassVar[str] = "bits/dim"
    uses_dequantization: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"draws={self.draws} must be at least 1")
        if self.draws > 1 and self.divergence.random:
            raise ValueError(
                f"draws={self.draws} with an estimated divergence would be no upper bound, but some bits too few; "
                "take divergence=exact, or draws=1"
            )

    @property
    def batch_coupled(self) -> bool:
        """Return whether the integrator couples the samples of a batch."""
        return self.integrator.batch_coupled

    def __call__(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int]
    ) -> MetricResult:
        """Dequantize, solve, and average the weights."""
        noise = PerSample(seeds)
        log_weights = []
        for _ in range(self.draws):
            with torch.no_grad():
                x, log_q, t = self.dequantization(denoiser, values, codec, noise)
                found = log_prob(
                    TruncatedProcess(denoiser, t),
                    x,
                    integrator=self.integrator,
                    divergence=self.divergence,
                    noise=noise,
                )
            log_weights.append(found.nats - log_q)
        bound = importance_bound(torch.stack(log_weights))
        return MetricResult(value=code_length(bound, torch.zeros_like(bound), x, codec))
