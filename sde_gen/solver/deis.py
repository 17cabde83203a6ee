"""DEIS, exponential Adams methods in noise prediction: rho AB and t AB."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.solver._integrals import EpsIntegral, FlowIntegral
from sde_gen.solver._lagrange import lagrange, quadrature, values_at
from sde_gen.solver._multistep import MultistepSolver
from sde_gen.solver._validation import require_order
from sde_gen.solver.lms import LMS


@dataclass(frozen=True, kw_only=True)
class DEISRhoAB(LMS):
    r"""The diffusion exponential integrator sampler with polynomials in rho = sigma / alpha.

    In exact arithmetic it is :class:`~sde_gen.solver.LMS`, derived from the flow's exponential integrator: where
    the linear part is integrated, Adams-Bashforth in rho remains.

    Source: Zhang and Chen, 2022, arXiv:2204.13902, section 3.3 and eq. 18.

    Arguments:
        order: 1 to 3.

    Raises:
        ValueError: the order is none of these.
    """

    order: int = 3

    def __post_init__(self) -> None:
        require_order((1, 2, 3), "; LMS has order 4", order=self.order)


class TimeIntegral(EpsIntegral):
    r"""Noise prediction, polynomials in t: ``x_s = alpha_s/alpha_t x_t + alpha_s int eps (d rho/dt) dt``."""

    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        r"""Integrate by parts, which needs rho = sigma / alpha alone and gives constants exactly.

        .. math::
            \int_t^s \ell_j\, d\rho = [\ell_j \rho]_t^s - \int_t^s \rho\, \ell_j'(u)\, du
        """
        places = values_at(self.times, nodes)
        ends = torch.stack([self.times[start], self.times[end]], dim=-1)
        u, du = quadrature(*ends.unbind(-1))
        poles = (1 / (u.unsqueeze(-1) - places[:, None])).masked_fill(places.isnan()[:, None], 0)
        slopes = lagrange(places, u) * (poles.sum(-1, keepdim=True) - poles)  # l_j'
        rho = torch.exp(-0.5 * self.sde.log_snr(u.flatten())).reshape(u.shape)
        edges = torch.exp(-torch.stack([self.lam[start], self.lam[end]], dim=-1)).unsqueeze(-1)
        jump = (edges * lagrange(places, ends)).diff(dim=1).squeeze(1)
        return self.alpha[end].unsqueeze(-1) * (jump - ((rho * du).unsqueeze(-1) * slopes).sum(1))


@dataclass(frozen=True, kw_only=True)
class DEISTAB(MultistepSolver):
    r"""The diffusion exponential integrator sampler with polynomials in time.

    With rho = sigma / alpha,

    .. math::
        x_s = \frac{\alpha_s}{\alpha_t} x_t + \alpha_s \sum_j \hat\epsilon_j \int_t^s \ell_j(u) \rho'(u)\, du .

    Order 1 is DDIM without noise.

    Source: Zhang and Chen, 2022, arXiv:2204.13902, eq. 13 to 15, for any alpha and sigma.

    Arguments:
        order: 1 to 3.

    Raises:
        ValueError: the order is none of these.
    """

    order: int = 3
    integral: ClassVar[type[FlowIntegral]] = TimeIntegral

    def __post_init__(self) -> None:
        require_order((1, 2, 3), order=self.order)
