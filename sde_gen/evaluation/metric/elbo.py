"""Bits per dimension of the reverse-time SDE."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.evaluation.metric._bits import code_length
from sde_gen.evaluation.metric.base import Measured, Metric
from sde_gen.evaluation.metric.ending import Density, Ending
from sde_gen.likelihood import ELBO
from sde_gen.noise import PerSample
from sde_gen.utils.broadcasting import event_dim


@dataclass(frozen=True, kw_only=True)
class ContinuousBound(Metric):
    """An upper bound on the code length of the data under the SDE model, in continuous time.

    The SDE's density is another than that of the probability flow of the same network: neither this number nor
    the flow's has to be the smaller one.

    Source: Song et al., 2021, arXiv:2101.09258, theorem 3.

    Arguments:
        bound: draws of times and noise.
        ending: how the data meet the clean end of the process.
    """

    bound: ELBO = field(default_factory=ELBO)
    ending: Ending = field(default_factory=Density)
    what: ClassVar[str] = "SDE model, upper bound (continuous time)"
    unit: ClassVar[str] = "bits/dim"

    def __call__(self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int]) -> Measured:
        """Prepare, bound, and convert."""
        noise = PerSample(seeds)
        with torch.no_grad():
            model, x0, log_q, decoder = self.ending(denoiser, values, codec, noise)
            found = self.bound(model, x0, decoder=decoder, noise=noise)
        return Measured(
            value=code_length(found.nats, log_q, x0, codec),
            spread={"draws": found.se / (event_dim(x0) * math.log(2))},
        )
