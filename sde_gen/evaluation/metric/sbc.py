"""Simulation-based calibration."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from sde_gen.evaluation.metric.posterior_metric import (
    ConditionalSamples,
    PosteriorMetric,
    PosteriorResult,
    Uniformity,
)


@dataclass(frozen=True, kw_only=True)
class SBC(PosteriorMetric):
    r"""Simulation-based calibration: ranks of the true parameters among posterior draws.

    With (theta, x) simulated and draws of p(theta | x), the rank of every number of theta among L draws is uniform on
    0 to L. The metric is the mean area between the distribution function of the ranks and the diagonal; ties are broken
    at random. Calibration is necessary and not sufficient: the prior is calibrated, too.

    Source: Talts et al., 2018, arXiv:1804.06788, theorem 1.

    Arguments:
        observations: number of simulations.
        draws: draws L per simulation.
    """

    observations: int = 300
    draws: int = 200
    what: ClassVar[str] = "area between ranks' distribution and diagonal"

    def __call__(self, samples: ConditionalSamples, rng: np.random.Generator) -> PosteriorResult:
        """Rank the true parameters among the draws."""
        truth, draws = samples.truth[:, None], samples.draws
        below, equal = (draws < truth).sum(1), (draws == truth).sum(1)
        ties = torch.from_numpy(rng.random(tuple(below.shape)))
        u = (below + ties * (equal + 1)) / (draws.shape[1] + 1)
        found = Uniformity(u=u.double())
        return PosteriorResult(
            quantities=found.quantities("SBC"),
            curves=found.curves(tuple(f"number {i}" for i in range(u.shape[1]))),
            axes=("rank of the true parameter / number of draws", "share of simulations"),
            band=found.band,
        )
