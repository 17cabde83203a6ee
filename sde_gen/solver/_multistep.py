r"""What multistep solvers share: exponential Adams methods, whose weights are made before the first step.

A multistep method replaces the m of a :mod:`form <sde_gen.solver._integrals>` of the flow by the polynomial through the
predictions at past times, and integrates that exactly:

.. math::
    x_s = \mathrm{keep}\, x_t + \sum_j w_j m_j, \qquad w_j = \int k_s(u)\, \ell_j(u)\, du .

Source: Hochbruck and Ostermann, 2010, Exponential integrators, Acta Numerica 19, section 2.5.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._integrals import FlowIntegral
from sde_gen.solver._lagrange import window
from sde_gen.solver.base import StepSolver


def combine(keep: float, x: Tensor, weights: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    """``keep x + sum_j w_j m_j`` over as many values as there are weights."""
    out = keep * x
    for weight, value in zip(weights, values, strict=False):
        out.add_(value, alpha=weight)
    return out


MAX_WEIGHT_SUM = 3.0
"""How far predictions are extrapolated at most: :func:`held`."""


class Row(NamedTuple):
    """One step: ``x_s = keep x_t + sum weights values``, newest value first.

    ``again`` are the weights of a second evaluation at the first result, and of the values before it.
    """

    keep: float
    weights: list[float]
    again: list[float] | None = None


class Past(NamedTuple):
    """The number of the step to come, the coefficients of all, and past predictions, newest first."""

    number: int
    rows: list[Row]
    values: tuple[Tensor, ...]


class MultistepSolver(StepSolver[Past]):
    r"""A deterministic solver that combines past predictions, of any order from 1 to 4, its start included.

    The m-th step has m predictions, and fewer than the order at first. What is lost there is made good:

    * Order 3. The first step's error is O(h^2). The second step sees the prediction at its end, by which it first
      corrects the first step to O(h^3). That prediction itself is off by O(h^2), its use by O(h^3): enough.
    * Order 4. The first step is corrected at once and predicted at again, one more evaluation; the third step
      corrects all from the start by the polynomial through the three predictions there.

    With steps < order - 1 the highest order that has enough is used. What the methods' authors do not have: long
    steps are :func:`held back <held>`. What a start corrects is a sum of several such rows: with order 4 and two to
    five steps, and in noise prediction with two, samples may still end several times further off than DDIM's.

    Sources: correction by the evaluation that the next step pays: Zhao et al., 2023, arXiv:2302.04867, section 3.2;
    errors of starting values: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, section
    III.4.
    """

    stochastic: ClassVar[bool] = False
    form: ClassVar[type[FlowIntegral]]

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Refuse grids on which the form does not exist."""
        self.form.check(type(self).__name__, model, times)

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> Past:
        """Make all coefficients."""
        del x
        return Past(0, self.rows(self.form(model.sde, times), len(times) - 1), ())

    def rows(self, form: FlowIntegral, steps: int) -> list[Row]:
        """The coefficients of all steps."""
        return adams_rows(form, min(self.order, steps + 1), steps)

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: Past, noise: Noise
    ) -> tuple[Tensor, Past]:
        """One step."""
        del noise
        row = state.rows[state.number]
        values = (self.form.value(model(x_t, t)), *state.values)[: len(row.weights)]
        x_s = combine(row.keep, x_t, row.weights, values)
        if row.again is not None:
            values = (self.form.value(model(x_s, s)), *values)
            x_s = combine(row.keep, x_t, row.again, values)
        return x_s, Past(state.number + 1, state.rows, values)

    def nfe(self, steps: int) -> int:
        """One evaluation a step; order 4 has one more at the start."""
        return steps + int(min(self.order, steps + 1) > 3)


def held(form: FlowIntegral, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
    r"""Weights of the predictions at nodes, held back where a long step would overshoot.

    A line through two predictions, followed as far again as they are apart, is ``2 m_0 - m_1``: no step that is as
    long as the one before reaches further, and the absolute values sum up to 3. Where weights sum up to more, in
    the units of :meth:`~sde_gen.solver.FlowIntegral.stake`, they move toward that of the first node alone, DDIM's
    step, until they do not:

    .. math::
        w \leftarrow \theta w + (1 - \theta) w^{DDIM}, \qquad \sum_j c_j |w_j| \le 3 .

    Weights tend to zero with the step's length, so that the order is not touched. Held back are steps many times as
    long as the one before, such as the last on grids that are uniform in time, and long steps of noise prediction
    where there is hardly a signal.

    Arguments:
        form: the flow.
        start: indices with shape (R,).
        end: indices with shape (R,).
        nodes: indices of nodes with shape (R, k), -1 where a row has fewer; the first stands for DDIM's step.

    Returns:
        Weights with shape (R, k), 0 where there is no node.
    """
    return limited(form, start, end, nodes, form.weights(start, end, nodes))


def limited(form: FlowIntegral, start: Tensor, end: Tensor, nodes: Tensor, whole: Tensor) -> Tensor:
    """Limit given weights (R, k) as :func:`held` does those of the form, with the same arguments."""
    alone = torch.nn.functional.pad(form.weights(start, end, nodes[:, :1]), (0, nodes.shape[1] - 1))
    stake = form.error_gain(start, end, nodes)
    reach, least = (torch.where(w == 0, 0, w.abs() * stake).sum(1) for w in (whole, alone))
    theta = torch.where(reach > MAX_WEIGHT_SUM, (MAX_WEIGHT_SUM - least) / (reach - least), 1.0)
    return torch.lerp(alone, whole, theta.unsqueeze(-1))


def adams_rows(form: FlowIntegral, order: int, steps: int) -> list[Row]:
    """Coefficients of Adams-Bashforth with the start of :class:`MultistepSolver`; order <= steps + 1."""
    i, j = torch.arange(steps), torch.arange(1, max(order - 1, 1))
    count = min(order, steps)
    first = torch.arange(count).expand(len(j), -1)
    weights = held(
        form,
        torch.cat([i, torch.zeros_like(j)]),
        torch.cat([i + 1, j]),
        torch.cat([window(i, count), first.masked_fill(first > j.unsqueeze(-1), -1)]),
    ).tolist()
    keep: list[float] = form.keep(i, i + 1).tolist()
    w: list[list[float]] = [row[: n + 1] for n, row in enumerate(weights[:steps])]
    again = None
    if order > 2:  # from 0 to 1 and to 2, through the prediction there
        (a0, a1, *_), *more = weights[steps:]
        if order == 3:
            w[1] = [w[1][0] + keep[1] * a1, w[1][1] + keep[1] * (a0 - w[0][0])]
        else:  # values: 1, 1 as first predicted, 0; 2, 1, ...
            (b1, b0), (c0, c1, c2, *_) = w[1], more[0]
            gain = [c2, c1 - b1, -keep[1] * a1, c0 - b0 - keep[1] * a0]
            again, w[1] = [a1, a0], [b1, 0.0, b0]
            w[2] = [u + keep[2] * v for u, v in zip([*w[2][:2], 0.0, w[2][2]], gain, strict=True)]
            if steps > 3:
                w[3] = [*w[3][:3], 0.0, w[3][3]]
    return [Row(keep[0], w[0], again), *(Row(k, v) for k, v in zip(keep[1:], w[1:], strict=True))]
