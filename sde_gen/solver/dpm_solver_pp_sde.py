"""DPM-Solver++ with noise: SDE-DPM-Solver++ (2M, 3M), and the ancestral two-stage methods of k-diffusion."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.prediction import Prediction
from sde_gen.solver._ancestral import AncestralTwoStage, Stages, ancestral_step
from sde_gen.solver._multistep import MAX_WEIGHT_SUM, StepCoefficients, adams_coefficients
from sde_gen.solver._sde_multistep import SDEIntegral, SDEMultistepSolver


@dataclass(frozen=True, kw_only=True)
class DPMSolverPPSDE(AncestralTwoStage):
    r"""An ancestral step to the fraction r of the step in lam, and one with the prediction there.

    This is k-diffusion's ``dpmpp_sde``. In z = x / alpha and rho = sigma / alpha, with rho_m = rho_t^{1 - r} rho_s^r,
    f = 1 / (2 r), and rho_d, rho_u of :mod:`~sde_gen.solver._ancestral` for the steps from t to m and from t to s,

    .. math::
        z_m &= \frac{\rho_{d, m}}{\rho_t} z_t + \left(1 - \frac{\rho_{d, m}}{\rho_t}\right) \hat{x}_{0, t}
            + \rho_{u, m}\, \xi_1 \\
        z_s &= \frac{\rho_{d, s}}{\rho_t} z_t + \left(1 - \frac{\rho_{d, s}}{\rho_t}\right)
            \left[(1 - f)\, \hat{x}_{0, t} + f\, \hat{x}_{0, m}\right]
            + \rho_{u, s} \left(\sqrt{q}\, \xi_1 + \sqrt{1 - q}\, \xi_2\right), \qquad
            q = \frac{\rho_t - \rho_m}{\rho_t - \rho_s} .

    Both stages share the noise xi_1: one Brownian path in rho, as there.

    Source: Crowson, k-diffusion, ``sample_dpmpp_sde``; after Lu et al., 2022, arXiv:2211.01095, section 6.

    Arguments:
        eta: 0 is DPM-Solver++ (2S) on the probability flow, 1 puts as much noise in as the posterior has.
        r: where the second stage lies in lam = log(alpha / sigma), in (0, 1].

    Raises:
        ValueError: eta lies outside [0, 1], or r outside (0, 1].
    """

    r: float = 0.5
    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.r <= 1:
            raise ValueError(f"r={self.r} must lie in (0, 1]: the fraction of the step at the second stage")

    @staticmethod
    def value(prediction: Prediction) -> Tensor:
        """Return the predicted clean sample."""
        return prediction.x0

    def stages(self, start: Tensor, end: Tensor) -> Stages:
        """An ancestral step to the middle, and one to the end."""
        middle = start * (end / start) ** self.r
        (down_m, up_m), (down, up) = (ancestral_step(start, to, self.eta) for to in (middle, end))
        share, f = (start - middle) / (start - end), 1 / (2 * self.r)
        clean = 1 - down / start
        return Stages(
            ratio=middle,
            keep=down_m / start,
            weight=1 - down_m / start,
            noise=up_m,
            last_keep=down / start,
            first_weight=(1 - f) * clean,
            second_weight=f * clean,
            first_noise=up * torch.sqrt(share),
            second_noise=up * torch.sqrt((1 - share).clamp(min=0)),  # rounding at r = 1
        )


@dataclass(frozen=True, kw_only=True)
class DPMSolverPP2SAncestral(AncestralTwoStage):
    r"""A step of DPM-Solver++ (2S) down to rho_d, then noise up to rho_s: k-diffusion's ``dpmpp_2s_ancestral``.

    In z = x / alpha and rho = sigma / alpha, with rho_d and rho_u of :mod:`~sde_gen.solver._ancestral` and
    rho_m^2 = rho_t rho_d,

    .. math::
        z_m = \frac{\rho_m}{\rho_t} z_t + \left(1 - \frac{\rho_m}{\rho_t}\right) \hat{x}_{0, t}, \qquad
        z_s = \frac{\rho_d}{\rho_t} z_t + \left(1 - \frac{\rho_d}{\rho_t}\right) \hat{x}_{0, m} + \rho_u\, \xi .

    Mean and covariance are of order 2. eta = 0 is :class:`~sde_gen.solver.DPMSolverPP2S`.

    Source: Crowson, k-diffusion, ``sample_dpmpp_2s_ancestral``; the step: Lu et al., 2022, arXiv:2211.01095,
    algorithm 1 with r = 1/2.

    Arguments:
        eta: 0 is the probability flow, 1 puts as much noise in as the posterior has.

    Raises:
        ValueError: eta lies outside [0, 1].
    """

    @staticmethod
    def value(prediction: Prediction) -> Tensor:
        """Return the predicted clean sample."""
        return prediction.x0

    def stages(self, start: Tensor, end: Tensor) -> Stages:
        """To the middle, and with its clean sample down to rho_d."""
        down, up = ancestral_step(start, end, self.eta)
        middle, none = torch.sqrt(start * down), torch.zeros_like(up)
        to_middle, to_end = middle / start, down / start
        return Stages(middle, to_middle, 1 - to_middle, none, to_end, none, 1 - to_end, none, up)


@dataclass(frozen=True, kw_only=True)
class DPMSolverPPSDE2M(SDEMultistepSolver):
    r"""The two-step exponential integrator of the reverse SDE in data prediction.

    With lam = log(alpha / sigma), h = lam_s - lam_t and h' the length of the step before,

    .. math::
        D = \hat{x}_0(x_t, t) + \frac{h}{2 h'} \left(\hat{x}_0(x_t, t) - \hat{x}_0^{prev}\right), \quad
        x_s = \frac{\sigma_s}{\sigma_t} e^{-\eta^2 h} x_t + \alpha_s (1 - e^{-(1 + \eta^2) h}) D
            + \sigma_s \sqrt{1 - e^{-2 \eta^2 h}}\, z .

    Mean and covariance are of order 2, a path of order 1; the first step takes D = x_0. The difference has the
    paper's weight: that of the exact integral agrees to order 2, and has 3 to 6 times the error in the covariance.
    Where h is many times h', the difference is limited as :func:`~sde_gen.solver.limit_extrapolation` does.

    Source: Lu et al., 2022, arXiv:2211.01095, section 6 for eta = 1; other eta by the same derivation.

    Arguments:
        eta: 0 is DPM-Solver++ (2M) on the probability flow, 1 the reverse of the forward process.
        weights: a rule for the weights, such as :class:`~sde_gen.solver.TaylorWeights` for the
            authors'; None: this package's, limited in long steps.

    Raises:
        ValueError: eta is negative or not finite.
    """

    order: ClassVar[int] = 2
    points: ClassVar[int] = 2

    def coefficients(self, integral: SDEIntegral, steps: int) -> list[StepCoefficients]:
        """Return the coefficients of every step."""
        i, h = torch.arange(steps), integral.lam.diff()
        data = integral.alpha[1:] * -torch.expm1(-(1 + self.eta**2) * h)
        slope = torch.minimum(
            0.5 * h[1:] / h[:-1] * data[1:], 0.5 * (MAX_WEIGHT_SUM * integral.alpha[2:] - data[1:])
        )
        keep, first = integral.x_coef(i, i + 1).tolist(), float(data[0])
        pairs = torch.stack([data[1:] + slope, -slope], dim=1).tolist()
        return [StepCoefficients(k, w) for k, w in zip(keep, [[first], *pairs], strict=True)]


@dataclass(frozen=True, kw_only=True)
class DPMSolverPPSDE3M(SDEMultistepSolver):
    r"""The three-step exponential integrator of the reverse SDE in data prediction.

    The clean sample along the step is the parabola through three predictions, integrated exactly. The second step
    first corrects the first by the prediction at its end, which needs no further evaluation. So the mean given the
    start is of order 3; the covariance stays of order 2, for the last prediction is independent of the last step's
    noise, and 2 is declared where there is noise.

    Source: Lu et al., 2022, arXiv:2211.01095, section 6, with the weights of exponential Adams methods
    (:mod:`sde_gen.solver._sde_multistep`).

    Arguments:
        eta: 0 is the probability flow, of order 3; 1 the reverse of the forward process.
        weights: a rule for the weights, such as :class:`~sde_gen.solver.TaylorWeights` for the
            authors'; None: this package's, limited in long steps and with a corrected start.

    Raises:
        ValueError: eta is negative or not finite.
    """

    points: ClassVar[int] = 3

    @property
    def order(self) -> int:
        """Order 3 without noise, else 2; with other weights, the order of these."""
        return 2 if self.eta > 0 else 3 if self.weights is None else self.weights.order(self.points)

    def coefficients(self, integral: SDEIntegral, steps: int) -> list[StepCoefficients]:
        """Return the coefficients of every step."""
        return adams_coefficients(integral, min(3, steps + 1), steps)
