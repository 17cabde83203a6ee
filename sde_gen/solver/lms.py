"""The linear multistep method in rho = sigma / alpha."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.solver._integrals import EpsIntegral, FlowIntegral
from sde_gen.solver._lagrange import adams_weights, values_at
from sde_gen.solver._multistep import MultistepSolver
from sde_gen.solver._validation import require_order


class RatioIntegral(EpsIntegral):
    r"""Noise prediction, polynomials in rho: ``x_s = alpha_s/alpha_t x_t + alpha_s int eps d rho``."""

    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        """Integrate the interpolating polynomials in rho = sigma / alpha, exactly."""
        rho, alpha = torch.exp(-self.lam), self.alpha[end].unsqueeze(-1)
        return adams_weights(lambda u: alpha.expand_as(u), values_at(rho, nodes), rho[start], rho[end])


@dataclass(frozen=True, kw_only=True)
class LMS(MultistepSolver):
    r"""Adams-Bashforth on steps of any lengths, for d(x / alpha) / d rho = eps with rho = sigma / alpha.

    .. math::
        x_s = \frac{\alpha_s}{\alpha_t} x_t + \alpha_s \sum_j \hat\epsilon_j \int_{\rho_t}^{\rho_s} \ell_j(u)\, du

    Order 1 is DDIM without noise. Order 4 has one more evaluation at the start.

    Sources: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, section III.5; the
    variables: Karras et al., 2022, arXiv:2206.00364, appendix B.2; the use: Crowson, 2022, k-diffusion.

    Arguments:
        order: 1 to 4.

    Raises:
        ValueError: the order is none of these.
    """

    order: int = 4
    integral: ClassVar[type[FlowIntegral]] = RatioIntegral

    def __post_init__(self) -> None:
        require_order((1, 2, 3, 4), order=self.order)
