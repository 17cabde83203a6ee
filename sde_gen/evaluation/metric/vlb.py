"""Bits per dimension of the ancestral chain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.evaluation.metric.base import Metric, MetricResult, code_length
from sde_gen.evaluation.metric.data_term import DataTerm, DiscreteData
from sde_gen.grid import Grid
from sde_gen.likelihood import discrete_vlb
from sde_gen.noise import PerSample
from sde_gen.utils.broadcasting import event_numel


@dataclass(frozen=True, kw_only=True)
class ChainBound(Metric):
    """An upper bound on the code length of the data under the chain of finitely many ancestral steps.

    Source: Ho et al., 2020, arXiv:2006.11239, section 3.

    Arguments:
        grid: rule for the times.
        steps: number of steps.
        nu: variance of the steps, 0 the posterior's and 1 the transition's; None if the network predicts it.
        repeats: independent draws of all terms.
        ending: data term at t_min.
    """

    grid: Grid
    steps: int = 100
    nu: float | None = 1.0
    repeats: int = 1
    ending: DataTerm = field(default_factory=DiscreteData)
    what: ClassVar[str] = "ancestral chain, upper bound (finitely many steps)"
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
            times = self.grid(model.sde, self.steps)
            bound = discrete_vlb(
                model, x0, times, decoder=decoder, noise=noise, nu=self.nu, repeats=self.repeats
            )
        return MetricResult(
            value=code_length(bound.nats, log_q, x0, codec),
            random_errors={"draws": bound.se / (event_numel(x0) * math.log(2))},
        )
