"""The weighting of flow matching."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.objective.weighting.base import Weighting
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class VelocityError(Weighting):
    r"""w = g^4 / (4 sigma^2): the loss is the mean squared error of the velocity.

    .. math::
        \hat v - v = \alpha' (\hat x_0 - x_0) + \sigma' (\hat\epsilon - \epsilon)
        = \frac{g^2}{2 \sigma} (\hat\epsilon - \epsilon)

    Source: Lipman et al., 2023, arXiv:2210.02747, eq. 9; here in terms of the error of the noise.
    """

    def __call__(self, sde: SDE, t: Tensor) -> Tensor:
        """Return the square of g^2 / (2 sigma)."""
        return (sde.diffusion(t) ** 2 / (2 * sde.sigma(t))) ** 2
