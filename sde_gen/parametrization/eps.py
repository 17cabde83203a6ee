"""Noise prediction."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.parametrization.base import Parametrization
from sde_gen.parametrization.label import Label, LogSigma
from sde_gen.prediction import Prediction
from sde_gen.sde.base import Marginal


@dataclass(frozen=True, kw_only=True)
class Eps(Parametrization):
    """The network predicts the noise: ``out = eps``.

    Source: Ho et al., 2020, arXiv:2006.11239, eq. 14.

    Arguments:
        label: the noise label given to the network.
    """

    label: Label = LogSigma(scale=0.25)

    def inputs(self, x_t: Tensor, marginal: Marginal, t: Tensor) -> tuple[Tensor, Tensor]:
        """The sample as it is, and its label."""
        return x_t, self.label(marginal, t)

    def predict(self, out: Tensor, x_t: Tensor, marginal: Marginal) -> Prediction:
        """``eps = out``."""
        return Prediction.from_eps(x_t, out, marginal)

    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """The noise."""
        del x0, marginal
        return eps
