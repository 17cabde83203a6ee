"""DPM-Solver++ with noise in both stages."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.prediction import Prediction
from sde_gen.solver._ancestral import AncestralTwoStage, Stages, ancestral_step


@dataclass(frozen=True, kw_only=True)
class DPMSolverPPSDE(AncestralTwoStage):
    r"""An ancestral step to the fraction r of the way in lam, and one through what is predicted there.

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
        """Check the constructor's arguments."""
        super().__post_init__()
        if not 0 < self.r <= 1:
            raise ValueError(f"r={self.r} must lie in (0, 1]: the fraction of the step at the second stage")

    @staticmethod
    def value(prediction: Prediction) -> Tensor:
        """The predicted clean sample."""
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
