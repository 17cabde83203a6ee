"""DPM-Solver++ (2S) with ancestral noise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.prediction import Prediction
from sde_gen.solver._ancestral import AncestralTwoStage, Stages, ancestral_step


@dataclass(frozen=True, kw_only=True)
class DPMSolverPP2SAncestral(AncestralTwoStage):
    r"""A step of DPM-Solver++ (2S) down to rho_d, then noise up to rho_s: k-diffusion's ``dpmpp_2s_ancestral``.

    In z = x / alpha and rho = sigma / alpha, with rho_d and rho_u of :mod:`~sde_gen.solver._ancestral` and
    rho_m^2 = rho_t rho_d,

    .. math::
        z_m = \frac{\rho_m}{\rho_t} z_t + \left(1 - \frac{\rho_m}{\rho_t}\right) \hat{x}_{0, t}, \qquad
        z_s = \frac{\rho_d}{\rho_t} z_t + \left(1 - \frac{\rho_d}{\rho_t}\right) \hat{x}_{0, m} + \rho_u\, \xi .

    Mean and covariance are of order 2. eta = 0 is :class:`~sde_gen.solver.dpm_solver_pp_2s.DPMSolverPP2S`.

    Source: Crowson, k-diffusion, ``sample_dpmpp_2s_ancestral``; the step: Lu et al., 2022, arXiv:2211.01095,
    algorithm 1 with r = 1/2.

    Arguments:
        eta: 0 is the probability flow, 1 puts as much noise in as the posterior has.

    Raises:
        ValueError: eta lies outside [0, 1].
    """

    @staticmethod
    def value(prediction: Prediction) -> Tensor:
        """The predicted clean sample."""
        return prediction.x0

    def stages(self, start: Tensor, end: Tensor) -> Stages:
        """To the middle, and with its clean sample down to rho_d."""
        down, up = ancestral_step(start, end, self.eta)
        middle, none = torch.sqrt(start * down), torch.zeros_like(up)
        to_middle, to_end = middle / start, down / start
        return Stages(middle, to_middle, 1 - to_middle, none, to_end, none, 1 - to_end, none, up)
