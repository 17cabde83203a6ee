r"""Weights of published multistep methods: not limited, and without correction of the start.

By default the solvers limit extrapolation in long steps (:func:`~sde_gen.solver.limit_extrapolation`) and correct
the first step by the second prediction. The original methods do neither: step i = 0, 1, ... uses as many predictions
as there are, at most those of the method.
"""

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.solver._integrals import FlowIntegral
from sde_gen.solver._lagrange import node_indices, quadrature
from sde_gen.solver._multistep import MultistepSolver, StepCoefficients, adams_coefficients
from sde_gen.solver._validation import require_int


def points_of_steps(points: int, steps: int, last_points: int | None) -> Tensor:
    """Number of predictions that every step combines, with shape (steps,).

    Arguments:
        points: predictions that the method combines.
        steps: number of steps.
        last_points: predictions in the last step; the one before has one more, and so on. None: no fewer.
    """
    i = torch.arange(steps)
    count = (i + 1).clamp(max=points)
    return count if last_points is None else torch.minimum(count, last_points + steps - 1 - i)


@dataclass(frozen=True, kw_only=True)
class MultistepWeights(abc.ABC):
    """A rule for the weights of past predictions, with a start of growing order.

    The first step is of order 1. Its error of h^2 remains: the global order is 2 at most.

    Arguments:
        last_points: predictions that the last step combines; the one before has one more, and so on
            (``lower_order_final`` of other libraries: 1 if their last step ends at the same time, 2 if it
            goes on to clean data, which here is the sampler's step after the grid). None: no fewer.

    Raises:
        ValueError: last_points is not positive.
    """

    last_points: int | None = None

    def __post_init__(self) -> None:
        if self.last_points is not None:
            require_int(1, last_points=self.last_points)

    def order(self, points: int) -> int:
        """Global order with the given number of predictions."""
        return min(points, 2)

    def coefficients(self, integral: FlowIntegral, points: int, steps: int) -> list[StepCoefficients]:
        """Coefficients of all steps.

        Arguments:
            integral: the process on the grid.
            points: predictions that the method combines.
            steps: number of steps.
        """
        i, counts = torch.arange(steps), points_of_steps(points, steps, self.last_points)
        nodes = node_indices(i, points)
        nodes = nodes.masked_fill(torch.arange(points) >= counts.unsqueeze(-1), -1)
        weights, keep = self.weights(integral, i, i + 1, nodes).tolist(), integral.x_coef(i, i + 1).tolist()
        return [StepCoefficients(k, w[:n]) for k, w, n in zip(keep, weights, counts.tolist(), strict=True)]

    @abc.abstractmethod
    def weights(self, integral: FlowIntegral, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        """Weights of the predictions at nodes, as those of :class:`~sde_gen.solver.FlowIntegral`."""


@dataclass(frozen=True, kw_only=True)
class PlainWeights(MultistepWeights):
    r"""The integral of the polynomial through the predictions.

    .. math::
        w_j = \int k_s(u)\, \ell_j(u)\, du

    Source: Hochbruck and Ostermann, 2010, Exponential integrators, Acta Numerica 19, section 2.5.
    """

    def weights(self, integral: FlowIntegral, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        """Weights of the integral."""
        return integral.weights(start, end, nodes)


@dataclass(frozen=True, kw_only=True)
class TaylorWeights(MultistepWeights):
    r"""The truncated Taylor series of DPM-Solver, its derivatives replaced by differences of predictions.

    With h = lam_s - lam_t, the lengths h' and h'' of the two steps before, and predictions m_0, m_1, m_2, newest first,

    .. math::
        x_s &= a\, x_t + A_0 m_0 + A_1 D_1 + A_2 D_2, \qquad
        A_n = \int_{\lambda_t}^{\lambda_s} k_s(u)\, \frac{((u - \lambda_t) / h)^n}{n!}\, du \\
        D_{1,0} &= \tfrac{h}{h'} (m_0 - m_1), \qquad D_{1,1} = \tfrac{h}{h''} (m_1 - m_2) \\
        D_1 &= D_{1,0} + \tfrac{h'}{h' + h''} (D_{1,0} - D_{1,1}), \qquad
        D_2 = \tfrac{h}{h' + h''} (D_{1,0} - D_{1,1}) .

    D_2 tends to h^2 m'' / 2, not to h^2 m'', so the third order is of order 2. With two predictions D_1 = D_{1,0} and
    D_2 = 0, where the authors' default has A_0 / 2 in place of A_1. Next to alpha = 0, where h is infinite, x_s
    depends only on m_0.

    Sources: Lu et al., 2022, arXiv:2206.00927, eq. 3.4 and their code (``multistep_dpm_solver_third_update``), and
    arXiv:2211.01095, algorithm 2; for SDE-DPM-Solver++ (3M) the code of k-diffusion, which has half_slope=False.

    Arguments:
        half_slope: whether two predictions have A_0 / 2 (``solver_type`` dpmsolver or midpoint) or A_1 (taylor, heun).
    """

    half_slope: bool = True

    def weights(self, integral: FlowIntegral, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        """Sum the coefficients of every prediction over the differences."""
        there = nodes >= 0
        lam, h = integral.lam, integral.lam[end] - integral.lam[start]
        u, du = quadrature(lam[start], lam[end])
        kernel, fraction = integral.kernel(u, end) * du, (u - lam[start].unsqueeze(-1)) / h.unsqueeze(-1)
        a_0 = integral.weights(start, end, nodes[:, :1])[:, 0]
        a_1, a_2 = (kernel * fraction).sum(-1), 0.5 * (kernel * fraction**2).sum(-1)
        out = torch.zeros(nodes.shape, dtype=a_0.dtype)
        out[:, 0] = a_0
        if nodes.shape[1] == 1:
            return out
        finite = h.isfinite() & there[:, 1]
        three = finite & there[:, 2] if nodes.shape[1] > 2 else torch.zeros_like(finite)
        gaps = lam[nodes[:, :-1]] - lam[nodes[:, 1:]]  # h', h''
        slope = torch.where(three, a_1, 0.5 * a_0 if self.half_slope else a_1)
        newest = torch.zeros_like(out)  # of D_{1, 0}
        newest[:, 0], newest[:, 1] = h / gaps[:, 0], -h / gaps[:, 0]
        out = out + torch.where(finite.unsqueeze(-1), slope.unsqueeze(-1) * newest, 0)
        if nodes.shape[1] > 2:
            older = torch.zeros_like(out)  # of D_{1, 1}
            older[:, 1], older[:, 2] = h / gaps[:, 1], -h / gaps[:, 1]
            both = gaps[:, 0] + gaps[:, 1]
            bend = (a_1 * gaps[:, 0] + a_2 * h) / both
            out = out + torch.where(three.unsqueeze(-1), bend.unsqueeze(-1) * (newest - older), 0)
        return out


@dataclass(frozen=True, kw_only=True)
class WeightedMultistep(MultistepSolver):
    """A multistep solver with limited weights and a corrected start, or with published weights.

    Arguments:
        weights: a published rule for the weights; None: this package's.
    """

    weights: MultistepWeights | None = None
    points: ClassVar[int]

    @property
    def order(self) -> int:
        """The number of predictions, or the order of the weights."""
        return self.points if self.weights is None else self.weights.order(self.points)

    def coefficients(self, integral: FlowIntegral, steps: int) -> list[StepCoefficients]:
        """Return the coefficients of every step."""
        if self.weights is None:
            return adams_coefficients(integral, min(self.points, steps + 1), steps)
        return self.weights.coefficients(integral, self.points, steps)
