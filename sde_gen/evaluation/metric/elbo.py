"""Bits per dimension of the reverse-time SDE."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from sde_gen.evaluation.metric.data_term import BoundMetric, DataTerm, DequantizedData, ReconstructionInputs
from sde_gen.likelihood import ELBO
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True)
class ContinuousBound(BoundMetric):
    """An upper bound on the code length of the data under the SDE model, in continuous time.

    The SDE's density is another than that of the probability flow of the same network: neither this number nor
    the flow's has to be the smaller one.

    Source: Song et al., 2021, arXiv:2101.09258, theorem 3.

    Arguments:
        bound: draws of times and noise.
        data_term: data term at t_min.
    """

    bound: ELBO = field(default_factory=ELBO)
    data_term: DataTerm = field(default_factory=DequantizedData)
    what: ClassVar[str] = "SDE model, upper bound (continuous time)"

    def evaluate(self, inputs: ReconstructionInputs, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return the bound in nats and its standard error."""
        bound = self.bound(inputs.denoiser, inputs.x0, decoder=inputs.decoder, noise=noise)
        return bound.nats, bound.se
