"""Noise (epsilon) prediction."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.denoiser.parametrization.base import LinearCoefficients, LinearParametrization
from sde_gen.denoiser.parametrization.label import LogSigma, NoiseLabel
from sde_gen.sde.base import Marginal


@dataclass(frozen=True, kw_only=True)
class Eps(LinearParametrization):
    """The network predicts the noise: ``out = eps``.

    Source: Ho et al., 2020, arXiv:2006.11239, eq. 14.

    Arguments:
        label: the noise label given to the network.
    """

    label: NoiseLabel = LogSigma(scale=0.25)

    def linear(self, marginal: Marginal) -> LinearCoefficients:
        """Return the coefficients of ``eps = out`` and ``x0 = (x_t - sigma out) / alpha``."""
        alpha, sigma = marginal
        return LinearCoefficients(x0_x=1 / alpha, x0_out=-sigma / alpha, eps_x=0.0, eps_out=1.0)

    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """Return the noise eps."""
        del x0, marginal
        return eps
