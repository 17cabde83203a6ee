"""DPM-Solver with noise: SDE-DPM-Solver (1, 2M), and the ancestral DPM-Solver-2 of k-diffusion."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.denoiser.prediction import Prediction
from sde_gen.solver._ancestral import AncestralTwoStage, Stages, ancestral_step
from sde_gen.solver._lagrange import node_indices
from sde_gen.solver._multistep import StepCoefficients, limit_weights
from sde_gen.solver._sde_multistep import NoiseSDEIntegral, SDEMultistepSolver
from sde_gen.solver._validation import require_order
from sde_gen.solver.multistep_weights import TaylorWeights


@dataclass(frozen=True, kw_only=True)
class DPMSolverSDE(SDEMultistepSolver):
    r"""The exponential integrator of the reverse SDE in noise prediction, of one or of two predictions.

    With lam = log(alpha / sigma), h = lam_s - lam_t and h' the length of the step before,

    .. math::
        D = \hat\epsilon(x_t, t) + \frac{h}{2 h'} \left(\hat\epsilon(x_t, t) - \hat\epsilon^{prev}\right), \quad
        x_s = \frac{\alpha_s}{\alpha_t} x_t - (1 + \eta^2)\, \sigma_s (e^h - 1) D
            + \eta\, \sigma_s \sqrt{e^{2 h} - 1}\, z .

    Mean and covariance are of order 2, with one prediction (D that of this step) of order 1. Where h is many times
    h', the difference is limited as :func:`~sde_gen.solver.limit_extrapolation` does, unless weights are given.

    Source: Lu et al., 2022, arXiv:2211.01095, section 6 (SDE-DPM-Solver-1 and 2M) for eta = 1; other eta by the same
    derivation.

    Arguments:
        eta: 0 is DPM-Solver on the probability flow, 1 the reverse of the forward process.
        weights: a rule for the weights, such as :class:`~sde_gen.solver.TaylorWeights` for the
            authors'; None: this package's, limited in long steps.
        predictions: number of predictions that a step combines, 1 or 2.

    Raises:
        ValueError: eta is negative or not finite, or predictions is neither 1 nor 2.
    """

    predictions: int = 2
    integral = NoiseSDEIntegral

    def __post_init__(self) -> None:
        super().__post_init__()
        require_order((1, 2), predictions=self.predictions)

    @property
    def points(self) -> int:  # type: ignore[override]
        """Number of predictions that a step combines."""
        return self.predictions

    @property
    def order(self) -> int:
        """Order of convergence: the number of predictions."""
        return self.predictions

    def coefficients(self, integral: NoiseSDEIntegral, steps: int) -> list[StepCoefficients]:
        """Return the coefficients of every step."""
        i, nodes = torch.arange(steps), node_indices(torch.arange(steps), self.predictions)
        taylor = TaylorWeights().weights(integral, i, i + 1, nodes)
        weights = limit_weights(integral, i, i + 1, nodes, taylor).tolist()
        keep = integral.x_coef(i, i + 1).tolist()
        return [StepCoefficients(k, w[: n + 1]) for n, (k, w) in enumerate(zip(keep, weights, strict=True))]


@dataclass(frozen=True, kw_only=True)
class DPMSolver2Ancestral(AncestralTwoStage):
    r"""A step of DPM-Solver-2 down to rho_d, then noise up to rho_s: k-diffusion's ``dpm_2_ancestral``.

    In z = x / alpha and rho = sigma / alpha, with rho_d and rho_u of :mod:`~sde_gen.solver._ancestral` and
    rho_m^2 = rho_t rho_d,

    .. math::
        z_m = z_t + (\rho_m - \rho_t)\, \hat\epsilon_t, \qquad
        z_s = z_t + (\rho_d - \rho_t)\, \hat\epsilon_m + \rho_u\, \xi .

    Mean and covariance are of order 2. eta = 0 is the midpoint rule in rho, with the middle in log rho.

    Source: Crowson, k-diffusion, ``sample_dpm_2_ancestral``; the step is that of Karras et al., 2022,
    arXiv:2206.00364, appendix C.2, with the middle of Lu et al., 2022, arXiv:2206.00927, algorithm 1.

    Arguments:
        eta: 0 is the probability flow, 1 puts as much noise in as the posterior has.

    Raises:
        ValueError: eta lies outside [0, 1].
    """

    @staticmethod
    def value(prediction: Prediction) -> Tensor:
        """Return the predicted noise eps."""
        return prediction.eps

    def stages(self, start: Tensor, end: Tensor) -> Stages:
        """Return the stages: from rho_t to rho_m, and by the slope there from rho_t to rho_d."""
        down, up = ancestral_step(start, end, self.eta)
        middle, one, none = torch.sqrt(start * down), torch.ones_like(up), torch.zeros_like(up)
        return Stages(middle, one, middle - start, none, one, none, down - start, none, up)
