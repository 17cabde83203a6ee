"""An exact denoiser in the form of a perfectly trained network."""

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.parametrization.base import Parametrization
from sde_gen.denoiser.prediction import Prediction


class ParametrizedOracle(Denoiser):
    """A denoiser whose predictions pass through a parametrization, like those of a perfectly trained network.

    Arguments:
        denoiser: the exact denoiser.
        parametrization: parametrization that converts its predictions to a network's output and back.
    """

    def __init__(self, denoiser: Denoiser, parametrization: Parametrization) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.parametrization = parametrization
        self.sde = denoiser.sde

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Return the prediction of the parametrized output."""
        exact, marginal = self.denoiser(x_t, t, **cond), self.sde.marginal(t)
        out = self.parametrization.target(exact.x0, exact.eps, marginal)
        return self.parametrization.predict(out, x_t, marginal)

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Select the samples of the inner denoiser."""
        return self.replace_modules(denoiser=self.denoiser.select(index, count))
