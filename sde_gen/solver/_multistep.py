r"""What multistep solvers share: exponential Adams methods, whose weights are made before the first step.

In every form below the probability flow between two times is

.. math::
    x_s = \mathrm{keep}\, x_t + \int k_s(u)\, m(u)\, du ,

with m the predicted clean sample or noise along the path. A multistep method replaces m by the polynomial through
the predictions at past times, and integrates that exactly:

.. math::
    x_s = \mathrm{keep}\, x_t + \sum_j w_j m_j, \qquad w_j = \int k_s(u)\, \ell_j(u)\, du, \qquad
    \ell_j(u) = \prod_{i \ne j} \frac{u - u_i}{u_j - u_i} .

Sources: Hochbruck and Ostermann, 2010, Exponential integrators, Acta Numerica 19, section 2.5;
the flow: Lu et al., 2022, arXiv:2206.00927, proposition 3.1, and arXiv:2211.01095, proposition 4.1.
"""

import abc
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from numpy.polynomial import legendre
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.prediction import Prediction
from sde_gen.sde.base import SDE
from sde_gen.solver._check import require_signal
from sde_gen.solver.base import StepSolver

_U, _DU = (torch.from_numpy(a) for a in legendre.leggauss(32))
"""Gauss-Legendre rule on [-1, 1]: exact to rounding for e^u times a cubic on intervals of length 40."""


def quadrature(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Points and weights of integrals: (R,), (R,) -> (R, Q), (R, Q); the weights' sign is that of end - start."""
    half = (0.5 * (end - start)).unsqueeze(-1)
    return start.unsqueeze(-1) + half * (1 + _U), half * _DU


def lagrange(nodes: Tensor, u: Tensor) -> Tensor:
    """The polynomials that are 1 at one node and 0 at the others.

    Arguments:
        nodes: distinct nodes with shape (R, k); NaN where a row has fewer.
        u: points with shape (R, Q).

    Returns:
        Their values with shape (R, Q, k), 0 for nodes that are not there.
    """
    k = nodes.shape[1]
    others = torch.tensor([[i for i in range(k) if i != j] for j in range(k)], dtype=torch.long)  # (k, k - 1)
    missing, away = nodes.isnan(), nodes[:, others]
    ratios = (u[:, :, None, None] - away[:, None]) / (nodes.unsqueeze(-1) - away)[:, None]
    return ratios.masked_fill(missing[:, None, others], 1).prod(-1).masked_fill(missing[:, None], 0)


def adams(kernel: Callable[[Tensor], Tensor], nodes: Tensor, start: Tensor, end: Tensor) -> Tensor:
    r"""The weights ``w_j = int_start^end kernel(u) l_j(u) du``, with shape (R, k).

    Arguments:
        kernel: smooth function of u with shape (R, Q), all in the variable of the polynomials.
        nodes: nodes with shape (R, k); NaN where a row has fewer.
        start: lower ends with shape (R,).
        end: upper ends with shape (R,).
    """
    u, du = quadrature(start, end)
    return torch.einsum("rq,rqk->rk", kernel(u) * du, lagrange(nodes, u))


def window(newest: Tensor, count: int) -> Tensor:
    """Indices of nodes, newest first, with shape (R, count): ``newest - j``, and -1 before the grid's begin."""
    return (newest.unsqueeze(-1) - torch.arange(count)).clamp(min=-1)


def at(values: Tensor, index: Tensor) -> Tensor:
    """Pick values along a grid by index; NaN where the index is -1."""
    return torch.where(index < 0, torch.nan, values[index])


def combine(keep: float, x: Tensor, weights: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    """``keep x + sum_j w_j m_j`` over as many values as there are weights."""
    out = keep * x
    for weight, value in zip(weights, values, strict=False):
        out.add_(value, alpha=weight)
    return out


class Form(abc.ABC):
    """The probability flow on a grid, written for one prediction.

    Arguments:
        sde: the process.
        times: monotone times with shape (steps + 1,).

    Attributes:
        alpha: signal coefficients at the times.
        sigma: noise standard deviations.
        lam: log(alpha / sigma).
        share: (1, 0) where the m that is interpolated is x_0, (0, 1) where it is eps.
    """

    share: ClassVar[tuple[float, float]]

    def __init__(self, sde: SDE, times: Tensor) -> None:
        self.sde, self.times = sde, times
        self.alpha, self.sigma = sde.marginal(times)
        self.lam = 0.5 * sde.log_snr(times)

    @classmethod
    def check(cls, solver: str, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError where the form does not exist."""
        del solver, model, times

    @staticmethod
    @abc.abstractmethod
    def value(prediction: Prediction) -> Tensor:
        """The m that is interpolated, with shape (B, *event)."""

    @abc.abstractmethod
    def keep(self, start: Tensor, end: Tensor) -> Tensor:
        """Factors of x from times[start] to times[end], with shape (R,)."""

    @abc.abstractmethod
    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        """Weights of the predictions at nodes, from times[start] to times[end].

        Arguments:
            start: indices with shape (R,).
            end: indices with shape (R,).
            nodes: indices of nodes with shape (R, k), -1 where a row has fewer.

        Returns:
            Weights with shape (R, k), 0 where there is no node.
        """


class DataForm(Form):
    r"""Data prediction, polynomials in lam: ``x_s = sigma_s/sigma_t x_t + alpha_s int e^{u - lam_s} x_0 du``.

    On a grid with alpha = 0, where lam is infinite and steps in lam do not become short, the polynomials are in
    ``y = alpha / sigma = e^lam`` for alpha < sigma: ``x_s = sigma_s/sigma_t x_t + sigma_s int x_0 dy``.
    """

    share: ClassVar[tuple[float, float]] = (1.0, 0.0)

    @staticmethod
    def value(prediction: Prediction) -> Tensor:
        """The predicted clean sample."""
        return prediction.x0

    def keep(self, start: Tensor, end: Tensor) -> Tensor:
        """``sigma_s / sigma_t``."""
        return self.sigma[end] / self.sigma[start]

    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        """Integrate in lam, or in y."""
        alpha, lam = self.alpha[end].unsqueeze(-1), self.lam[end].unsqueeze(-1)
        places = (at(self.lam, nodes), self.lam[start], self.lam[end])
        weights = adams(lambda u: alpha * torch.exp(u - lam), *places)
        if bool(self.lam.isinf().any()):
            y, sigma = self.alpha / self.sigma, self.sigma[end].unsqueeze(-1)
            linear = adams(lambda u: sigma.expand_as(u), at(y, nodes), y[start], y[end])
            noisy = (torch.minimum(places[1], places[2]) < 0) | places[0].isinf().any(-1)
            weights = torch.where(noisy.unsqueeze(-1), linear, weights)
        return weights


class NoiseForm(Form):
    r"""Noise prediction, polynomials in lam: ``x_s = alpha_s/alpha_t x_t - sigma_s int e^{lam_s - u} eps du``."""

    share: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @classmethod
    def check(cls, solver: str, model: Denoiser, times: Tensor) -> None:
        """Refuse a start, or an end, without signal."""
        require_signal(solver, model, times.max())

    @staticmethod
    def value(prediction: Prediction) -> Tensor:
        """The predicted noise."""
        return prediction.eps

    def keep(self, start: Tensor, end: Tensor) -> Tensor:
        """``alpha_s / alpha_t``."""
        return self.alpha[end] / self.alpha[start]

    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        """Integrate in lam."""
        sigma, lam = self.sigma[end].unsqueeze(-1), self.lam[end].unsqueeze(-1)
        places = at(self.lam, nodes), self.lam[start], self.lam[end]
        return adams(lambda u: -sigma * torch.exp(lam - u), *places)


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

    With steps < order - 1 the highest order that has enough is used.

    Sources: correction by the evaluation that the next step pays: Zhao et al., 2023, arXiv:2302.04867, section 3.2;
    errors of starting values: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, section
    III.4.
    """

    stochastic: ClassVar[bool] = False
    form: ClassVar[type[Form]]

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Refuse grids on which the form does not exist."""
        self.form.check(type(self).__name__, model, times)

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> Past:
        """Make all coefficients."""
        del x
        return Past(0, self.rows(self.form(model.sde, times), len(times) - 1), ())

    def rows(self, form: Form, steps: int) -> list[Row]:
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


def adams_rows(form: Form, order: int, steps: int) -> list[Row]:
    """Coefficients of Adams-Bashforth with the start of :class:`MultistepSolver`; order <= steps + 1."""
    i, j = torch.arange(steps), torch.arange(1, max(order - 1, 1))
    count = min(order, steps)
    weights = form.weights(
        torch.cat([i, torch.zeros_like(j)]),
        torch.cat([i + 1, j]),
        torch.cat([window(i, count), window(j, count)]),
    ).tolist()
    keep: list[float] = form.keep(i, i + 1).tolist()
    w: list[list[float]] = [row[: n + 1] for n, row in enumerate(weights[:steps])]
    again = None
    if order > 2:  # from 0 to 1 and to 2, through the prediction there
        (a1, a0, *_), *more = weights[steps:]
        if order == 3:
            w[1] = [w[1][0] + keep[1] * a1, w[1][1] + keep[1] * (a0 - w[0][0])]
        else:  # values: 1, 1 as first predicted, 0; 2, 1, ...
            (b1, b0), (c2, c1, c0, *_) = w[1], more[0]
            gain = [c2, c1 - b1, -keep[1] * a1, c0 - b0 - keep[1] * a0]
            again, w[1] = [a1, a0], [b1, 0.0, b0]
            w[2] = [u + keep[2] * v for u, v in zip([*w[2][:2], 0.0, w[2][2]], gain, strict=True)]
            if steps > 3:
                w[3] = [*w[3][:3], 0.0, w[3][3]]
    return [Row(keep[0], w[0], again), *(Row(k, v) for k, v in zip(keep[1:], w[1:], strict=True))]
