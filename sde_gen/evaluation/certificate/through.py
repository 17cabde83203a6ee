"""An exact denoiser behind a parametrization."""

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.parametrization.base import Parametrization
from sde_gen.denoiser.prediction import Prediction


class ParametrizedOracle(Denoiser):
    """A denoiser whose predictions go through a parametrization, as those of a perfectly trained network would.

    Arguments:
        denoiser: the exact one.
        parametrization: turns its predictions into a network's output and back.
    """

    def __init__(self, denoiser: Denoiser, parametrization: Parametrization) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.parametrization = parametrization
        self.sde = denoiser.sde

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict, as a network's output and back."""
        exact, marginal = self.denoiser(x_t, t, **cond), self.sde.marginal(t)
        out = self.parametrization.target(exact.x0, exact.eps, marginal)
        return self.parametrization.predict(out, x_t, marginal)

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Go through for these samples."""
        return self.replace_modules(denoiser=self.denoiser.select(index, count))
