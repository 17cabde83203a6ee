"""Ancestral sampling by the exact posterior of the process."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver._linear import LinearSolver, LinearStepCoefficients, Row
from sde_gen.solver._table import History
from sde_gen.solver._validation import require_descent


@dataclass(frozen=True, kw_only=True)
class Ancestral(LinearSolver):
    r"""DDPM's ancestral sampling on any process and any grid.

    With the posterior q(x_s | x_t, x_0) = N(c_t x_t + c_0 x_0, tilde beta) and the transition
    q(x_t | x_s) = N(scale x_s, beta),

    .. math::
        x_s = c_t x_t + c_0 \hat{x}_0 + \sqrt{\tilde\beta^{1 - \nu} \beta^\nu}\, \epsilon .

    nu = 0 is exact for data at a single point, nu = 1 on VP for data N(0, I); weak order 1 for all data. A network may
    predict nu itself, for every number of the image: then the step has the variance that it was trained to have.

    Sources: Ho et al., 2020, arXiv:2006.11239, section 3.2 (the two variances);
    Nichol and Dhariwal, 2021, arXiv:2102.09672, eq. 15 (interpolation of their logarithms, and learned variances).

    Arguments:
        nu: interpolation weight of the log-variance between tilde beta (0) and beta (1); None uses the predicted one,
            :attr:`Prediction.nu <sde_gen.denoiser.Prediction.nu>`.

    Raises:
        ValueError: nu lies outside [0, 1]; or, when called, nu is None and the denoiser predicts no variance.
    """

    nu: float | None = 0.0
    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.nu is not None and not 0 <= self.nu <= 1:
            raise ValueError(
                f"nu={self.nu} must lie in [0, 1]: 0 is the posterior's variance, 1 the transition's"
            )

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError for ascending times."""
        del model
        require_descent(type(self).__name__, times)

    def coefficients(self, sde: SDE, t: Tensor, s: Tensor) -> LinearStepCoefficients:
        """Return the coefficients of all steps."""
        c_t, c_0, tilde_std = sde.posterior(t, s)
        nu = 0.0 if self.nu is None else self.nu  # of a learned variance the least
        std = tilde_std ** (1 - nu) * sde.transition(s, t).std ** nu
        return LinearStepCoefficients(x=c_t, x0=c_0, noise=std)

    def apply(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, row: Row, history: History, noise: Noise
    ) -> tuple[Tensor, History]:
        """Take a step, with the denoiser's variance where nu is None."""
        if self.nu is not None:
            return super().apply(model, x_t, t, s, row, history, noise)
        x, x0, _, tilde_std = row
        prediction, std = model(x_t, t), float(model.sde.transition(s, t).std)
        std_nu = tilde_std ** (1 - prediction.nu) * std**prediction.nu
        return x * x_t + x0 * prediction.x0 + std_nu * noise(x_t, float(t), float(s)), history
