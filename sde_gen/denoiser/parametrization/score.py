"""Score prediction of a network."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.denoiser.parametrization.base import LinearCoefficients, LinearParametrization
from sde_gen.denoiser.parametrization.label import LogSigma, NoiseLabel
from sde_gen.sde.base import Marginal
from sde_gen.utils.broadcasting import broadcast_like


@dataclass(frozen=True, kw_only=True)
class Score(LinearParametrization):
    r"""The network predicts the score: ``out = -eps / sigma``.

    Source: Song et al., 2021, arXiv:2011.13456, eq. 7.

    Arguments:
        label: the noise label given to the network.
    """

    label: NoiseLabel = LogSigma(scale=1.0)

    def linear(self, marginal: Marginal) -> LinearCoefficients:
        """``eps = -sigma out``."""
        alpha, sigma = marginal
        return LinearCoefficients(x0_x=1 / alpha, x0_out=sigma**2 / alpha, eps_x=0.0, eps_out=-sigma)

    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """The score of q(x_t | x_0)."""
        del x0
        return -eps / broadcast_like(marginal.sigma, eps)
