"""DPM-Solver-2 with ancestral noise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.prediction import Prediction
from sde_gen.solver._ancestral import AncestralTwoStage, Stages, ancestral_step


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
        """The predicted noise."""
        return prediction.eps

    def stages(self, start: Tensor, end: Tensor) -> Stages:
        """To the middle, and through its slope down to rho_d."""
        down, up = ancestral_step(start, end, self.eta)
        middle, one, none = torch.sqrt(start * down), torch.ones_like(up), torch.zeros_like(up)
        return Stages(middle, one, middle - start, none, one, none, down - start, none, up)
