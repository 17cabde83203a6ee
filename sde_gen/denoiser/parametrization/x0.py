"""Data (x_0) prediction."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.denoiser.parametrization.base import LinearCoefficients, LinearParametrization
from sde_gen.denoiser.parametrization.label import LogSigma, NoiseLabel
from sde_gen.sde.base import Marginal


@dataclass(frozen=True, kw_only=True)
class X0(LinearParametrization):
    """The network predicts the clean sample: ``out = x0``.

    Source: Ho et al., 2020, arXiv:2006.11239, section 3.2.

    Arguments:
        label: the noise label given to the network.
    """

    label: NoiseLabel = LogSigma(scale=0.25)

    def linear(self, marginal: Marginal) -> LinearCoefficients:
        """Return the coefficients of ``x0 = out`` and ``eps = (x_t - alpha out) / sigma``."""
        alpha, sigma = marginal
        return LinearCoefficients(x0_x=0.0, x0_out=1.0, eps_x=1 / sigma, eps_out=-alpha / sigma)

    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """Return the clean sample x0."""
        del eps, marginal
        return x0
