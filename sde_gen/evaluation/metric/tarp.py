"""Tests of accuracy with random points."""

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
class TARP(PosteriorMetric):
    r"""Coverage of balls around random points.

    For a random point r the credibility f is the share of posterior draws that are nearer to r than the true
    parameters. It is uniform for a calibrated posterior, and the curve is the expected coverage of the balls by their
    credibility. Every number is divided by its range over the true parameters, and r is uniform in that box,
    independent of x; so the prior is calibrated, too.

    Source: Lemos et al., 2023, arXiv:2302.03026, algorithm 2.

    Arguments:
        observations: number of simulations.
        draws: draws per simulation.
    """

    observations: int = 300
    draws: int = 200
    what: ClassVar[str] = "area between expected coverage and credibility"

    def __call__(self, samples: ConditionalSamples, rng: np.random.Generator) -> PosteriorResult:
        """Count the draws nearer than the true parameters."""
        low, high = samples.truth.amin(0), samples.truth.amax(0)
        truth, draws = ((part - low) / (high - low) for part in (samples.truth, samples.draws))
        points = torch.from_numpy(rng.random(tuple(truth.shape))).to(truth)
        distance = (truth - points).norm(dim=1)
        nearer = ((draws - points[:, None]).norm(dim=2) < distance[:, None]).sum(1)
        ties = torch.from_numpy(rng.random(len(truth)))
        u = (nearer + ties) / (draws.shape[1] + 1)
        found = Uniformity(u=u.double()[:, None])
        return PosteriorResult(
            quantities=found.quantities("TARP"),
            curves=found.curves(("TARP",)),
            axes=("credibility", "expected coverage"),
            band=found.band,
        )
