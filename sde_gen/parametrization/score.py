"""Score prediction."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen._tensor import like
from sde_gen.parametrization.base import Parametrization
from sde_gen.parametrization.label import Label, LogSigma
from sde_gen.prediction import Prediction
from sde_gen.sde.base import Marginal


@dataclass(frozen=True, kw_only=True)
class Score(Parametrization):
    r"""The network predicts the score: ``out = -eps / sigma``.

    Source: Song et al., 2021, arXiv:2011.13456, eq. 7.

    Arguments:
        label: the noise label given to the network.
    """

    label: Label = LogSigma(scale=1.0)

    def inputs(self, x_t: Tensor, marginal: Marginal, t: Tensor) -> tuple[Tensor, Tensor]:
        """The sample as it is, and its label."""
        return x_t, self.label(marginal, t)

    def predict(self, out: Tensor, x_t: Tensor, marginal: Marginal) -> Prediction:
        """``eps = -sigma out``."""
        return Prediction.from_eps(x_t, -like(marginal.sigma, x_t) * out, marginal)

    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """The score of q(x_t | x_0)."""
        del x0
        return -eps / like(marginal.sigma, eps)
