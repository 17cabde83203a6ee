"""The weighting that makes the loss a bound on the likelihood."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.objective.weighting.base import Weighting
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class Likelihood(Weighting):
    r"""w = g^2 / (2 sigma^2): up to a constant, the loss is a bound on -log p in nats per dimension.

    .. math::
        \tfrac{1}{2} g^2 |s_\theta - \nabla \log p_{0t}|^2 = \frac{g^2}{2 \sigma^2} |\hat\epsilon - \epsilon|^2

    Source: Song et al., 2021, arXiv:2101.09258, theorem 1.
    """

    def __call__(self, sde: SDE, t: Tensor) -> Tensor:
        """Half of g^2 / sigma^2."""
        return 0.5 * (sde.diffusion(t) / sde.sigma(t)) ** 2
