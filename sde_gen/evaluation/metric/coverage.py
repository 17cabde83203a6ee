"""Expected coverage of regions of highest posterior density."""

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
class Coverage(PosteriorMetric):
    r"""Expected coverage of the regions of highest density of the model.

    The credibility of the true parameters is the share of draws with a larger density. It is uniform for a calibrated
    posterior; a coverage above the credibility is conservative, one below is overconfident.

    Source: Hermans et al., 2022, arXiv:2110.06581, eq. 4.

    Arguments:
        observations: number of simulations.
        draws: draws per simulation, whose densities are computed.
    """

    observations: int = 200
    draws: int = 50
    what: ClassVar[str] = "area between expected coverage of highest density and credibility"
    needs_density: ClassVar[bool] = True

    def __call__(self, samples: ConditionalSamples, rng: np.random.Generator) -> PosteriorResult:
        """Count the draws of larger density than the true parameters."""
        truth, draws = samples.log_prob_truth, samples.log_prob_draws
        if truth is None or draws is None:
            raise ValueError("coverage needs the densities of truth and draws")
        ties = torch.from_numpy(rng.random(len(truth)))
        u = ((draws > truth[:, None]).sum(1) + ties) / (draws.shape[1] + 1)
        found = Uniformity(u=u.double()[:, None])
        return PosteriorResult(
            quantities=found.quantities("coverage"),
            curves=found.curves(("highest density",)),
            axes=("credibility", "expected coverage"),
            band=found.band,
        )
