r"""Exponential Adams methods, the base of deterministic multistep solvers.

A multistep method replaces the m in an :mod:`integral <sde_gen.solver._integrals>` of the flow by the polynomial
through the predictions at past times, and integrates that exactly:

.. math::
    x_s = a\, x_t + \sum_j w_j m_j, \qquad w_j = \int k_s(u)\, \ell_j(u)\, du .

Source: Hochbruck and Ostermann, 2010, Exponential integrators, Acta Numerica 19, section 2.5.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver._integrals import FlowIntegral
from sde_gen.solver._lagrange import node_indices
from sde_gen.solver._table import History, TableSolver


def combine(x_coef: float, x: Tensor, weights: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    """``x_coef x + sum_j w_j m_j`` over as many values as there are weights."""
    out = x_coef * x
    for weight, value in zip(weights, values, strict=False):
        out.add_(value, alpha=weight)
    return out


MAX_WEIGHT_SUM = 3.0
"""Largest sum of absolute weights of an extrapolation: :func:`limit_extrapolation`."""


class StepCoefficients(NamedTuple):
    """Coefficients of a step: ``x_s = x_coef x_t + sum weights values``, newest value first.

    ``repeated`` are the weights of a second evaluation, at the first result, and of the values before it.
    """

    x_coef: float
    weights: list[float]
    repeated: list[float] | None = None


class MultistepSolver(TableSolver[StepCoefficients]):
    r"""A deterministic solver that combines past predictions, of any order from 1 to 4, its start included.

    The m-th step has m predictions, at first fewer than the order. The start is corrected:

    * Order 3. The first step's error is O(h^2). The second step sees the prediction at its end, by which it first
      corrects the first step to O(h^3). That prediction itself is off by O(h^2), its use by O(h^3): enough.
    * Order 4. The first step is corrected at once and predicted at again, one more evaluation; the third step
      corrects all from the start by the polynomial through the three predictions there.

    With steps < order - 1 the highest order that has enough is used. Unlike in the original methods the weights of
    long steps are :func:`limited <limit_extrapolation>`. A corrected start sums several such weights: with order 4 and
    two to five steps, and in noise prediction with two, samples may still have several times the error of DDIM's.

    Sources: correction by the evaluation that the next step pays: Zhao et al., 2023, arXiv:2302.04867, section 3.2;
    errors of starting values: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, section
    III.4.
    """

    stochastic: ClassVar[bool] = False
    multistep: ClassVar[bool] = True
    integral: ClassVar[type[FlowIntegral]]

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise an error for grids on which the integral does not exist."""
        self.integral.check(type(self).__name__, model, times)

    def prepare(self, sde: SDE, times: Tensor) -> list[StepCoefficients]:
        """Return the coefficients of every step."""
        return self.coefficients(self.integral(sde, times), len(times) - 1)

    def coefficients(self, integral: FlowIntegral, steps: int) -> list[StepCoefficients]:
        """Return the coefficients of every step on the grid of an integral."""
        return adams_coefficients(integral, min(self.order, steps + 1), steps)

    def apply(
        self,
        model: Denoiser,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        row: StepCoefficients,
        history: History,
        noise: Noise,
    ) -> tuple[Tensor, History]:
        """Combine the prediction at t and those before."""
        del noise
        values = (self.integral.value(model(x_t, t)), *history)[: len(row.weights)]
        x_s = combine(row.x_coef, x_t, row.weights, values)
        if row.repeated is not None:
            values = (self.integral.value(model(x_s, s)), *values)
            x_s = combine(row.x_coef, x_t, row.repeated, values)
        return x_s, values

    def nfe(self, steps: int) -> int:
        """Return the number of evaluations: one per step, and another at the start for order 4."""
        return steps + int(min(self.order, steps + 1) > 3)


def limit_extrapolation(integral: FlowIntegral, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
    r"""Weights of the predictions at nodes, limited where a long step would overshoot.

    A line through two predictions, followed as far again as they are apart, is ``2 m_0 - m_1``: no step that is as
    long as the one before reaches further, and the absolute values sum up to 3. Where weights sum up to more, in
    the units of :meth:`~sde_gen.solver.FlowIntegral.error_gain`, they move toward that of the first node alone, DDIM's
    step, until they do not:

    .. math::
        w \leftarrow \theta w + (1 - \theta) w^{DDIM}, \qquad \sum_j c_j |w_j| \le 3 .

    Weights tend to zero with the step's length, so the order is unchanged. Limited are steps many times as
    long as the one before, such as the last on grids that are uniform in time, and long steps of noise prediction
    where there is hardly a signal.

    Arguments:
        integral: the flow.
        start: indices with shape (R,).
        end: indices with shape (R,).
        nodes: indices of nodes with shape (R, k), -1 where a row has fewer; the first defines DDIM's step.

    Returns:
        Weights with shape (R, k), 0 where there is no node.
    """
    return limit_weights(integral, start, end, nodes, integral.weights(start, end, nodes))


def limit_weights(integral: FlowIntegral, start: Tensor, end: Tensor, nodes: Tensor, whole: Tensor) -> Tensor:
    """Limit given weights (R, k) as :func:`limit_extrapolation` does those of the integral, with the same arguments."""
    ddim = torch.nn.functional.pad(integral.weights(start, end, nodes[:, :1]), (0, nodes.shape[1] - 1))
    gain = integral.error_gain(start, end, nodes)
    total, ddim_total = (torch.where(w == 0, 0, w.abs() * gain).sum(1) for w in (whole, ddim))
    theta = torch.where(total > MAX_WEIGHT_SUM, (MAX_WEIGHT_SUM - ddim_total) / (total - ddim_total), 1.0)
    return torch.lerp(ddim, whole, theta.unsqueeze(-1))


def adams_coefficients(integral: FlowIntegral, order: int, steps: int) -> list[StepCoefficients]:
    """Coefficients of Adams-Bashforth with the start of :class:`MultistepSolver`; order <= steps + 1."""
    table = adams_bashforth(integral, order, steps)
    if order == 3:
        return correct_start_of_order_3(integral, table)
    if order == 4:
        return correct_start_of_order_4(integral, table)
    return table


def adams_bashforth(integral: FlowIntegral, order: int, steps: int) -> list[StepCoefficients]:
    r"""Integrals of the polynomials through at most ``order`` predictions, as many as there are.

    .. math::
        x_{i+1} = a_i x_i + \sum_{j < \min(order, i + 1)} w_{ij}\, m_{i-j}, \qquad
        w_{ij} = \int_{t_i}^{t_{i+1}} k(u)\, \ell_j(u)\, du
    """
    i = torch.arange(steps)
    weights = limit_extrapolation(integral, i, i + 1, node_indices(i, min(order, steps))).tolist()
    x_coef: list[float] = integral.x_coef(i, i + 1).tolist()
    return [StepCoefficients(a, w[: n + 1]) for n, (a, w) in enumerate(zip(x_coef, weights, strict=True))]


def start_weights(integral: FlowIntegral, end: int) -> list[float]:
    """Weights of the predictions at 0, ..., end in the integral from 0 to end, oldest first."""
    return limit_extrapolation(
        integral, torch.tensor([0]), torch.tensor([end]), torch.arange(end + 1).unsqueeze(0)
    )[0].tolist()


def correct_start_of_order_3(integral: FlowIntegral, table: list[StepCoefficients]) -> list[StepCoefficients]:
    r"""Correct the first step before the second, by the line through the predictions at its two ends.

    With c the weights of that line,

    .. math::
        x_1^c = x_1 + c_1 m_1 + (c_0 - w_{00})\, m_0, \qquad
        x_2 = a_1 x_1^c + w_{10} m_1 + w_{11} m_0 .
    """
    first, second, *later = table
    c_0, c_1 = start_weights(integral, 1)
    (w_00,), (w_10, w_11), a_1 = first.weights, second.weights, second.x_coef
    return [first, StepCoefficients(a_1, [w_10 + a_1 * c_1, w_11 + a_1 * (c_0 - w_00)]), *later]


def correct_start_of_order_4(integral: FlowIntegral, table: list[StepCoefficients]) -> list[StepCoefficients]:
    r"""Correct the first step by a second evaluation, and before the third step all from the start.

    With m_1^* the prediction at the first result of the first step, and weights c of the line and d of the parabola
    through the predictions from the start,

    .. math::
        x_1 &= a_0 x_0 + c_1 m_1^* + c_0 m_0, \qquad x_2 = a_1 x_1 + w_{10} m_1 + w_{11} m_0 \
        x_2^c &= a_1 a_0 x_0 + d_2 m_2 + d_1 m_1 + d_0 m_0 \
              &= x_2 + d_2 m_2 + (d_1 - w_{10})\, m_1 - a_1 c_1 m_1^* + (d_0 - w_{11} - a_1 c_0)\, m_0 \
        x_3 &= a_2 x_2^c + w_{20} m_2 + w_{21} m_1 + w_{22} m_0 .

    The history of the second to fourth steps holds m_1^* between m_1 and m_0.
    """
    first, second, third, *later = table
    (c_0, c_1), (d_0, d_1, d_2) = start_weights(integral, 1), start_weights(integral, 2)
    (w_10, w_11), (w_20, w_21, w_22) = second.weights, third.weights
    a_1, a_2 = second.x_coef, third.x_coef
    correction = [d_2, d_1 - w_10, -a_1 * c_1, d_0 - w_11 - a_1 * c_0]
    w_2 = [w + a_2 * c for w, c in zip([w_20, w_21, 0.0, w_22], correction, strict=True)]
    table = [
        StepCoefficients(first.x_coef, first.weights, [c_1, c_0]),
        StepCoefficients(a_1, [w_10, 0.0, w_11]),
        StepCoefficients(a_2, w_2),
    ]
    if later:
        w_30, w_31, w_32, w_33 = later[0].weights
        later[0] = StepCoefficients(later[0].x_coef, [w_30, w_31, w_32, 0.0, w_33])
    return [*table, *later]
