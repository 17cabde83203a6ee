"""Adams' methods on the straight path: the least error per evaluation of our solvers."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver._multistep import adams, at, combine, window
from sde_gen.solver.base import StepSolver

FULL_ORDER = math.pi / 20
"""Steps of the angle shorter than this, a tenth of the way, use the full order; longer ones less and less."""


class Past(NamedTuple):
    """The number of the step to come, factor of x and weights of the slopes of all steps, and past slopes."""

    number: int
    keep: list[float]
    weights: list[list[float]]
    slopes: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class StraightAdams(StepSolver[Past]):
    r"""Predict by Adams-Bashforth, correct by Adams-Moulton, in the angle of the straight path.

    Whatever the process, with m the ratio ``middle``,

    .. math::
        y = \frac{x}{m\, \alpha + \sigma} = \cos^2\!u\; \frac{x_0}{m} + \sin^2\!u\; \epsilon, \qquad
        \tan^2 u = \frac{\sigma}{m\, \alpha}, \qquad
        \frac{dy}{du} = \sin 2u \; F, \qquad F = \hat\epsilon - \frac{\hat{x}_0}{m} :

    the straight path between data over m and noise, with the angle u as its time. F is smooth and even in u around
    both ends. A step replaces it by the polynomial in u through the last evaluations, and integrates exactly:

    .. math::
        y_s = y_t + \sum_{j=0}^{2} \beta_j F_{t-j}, \qquad
        y_t \leftarrow y_t + \tau \Big(\sum_{j=0}^{3} \gamma_j F_{t-j} - \sum_{j=1}^{3} \beta'_j F_{t-j}\Big)

    The correction of the step before, by the evaluation at its end that this step makes anyway, comes first. Over a
    step of length h the highest difference in beta and gamma, and the correction, are multiplied by
    ``tau = 1 / (1 + (20 h / pi)^4)``, which is 1 up to O(h^4) and takes away what amplifies errors with few steps.

    A start where alpha is zero is the angle pi / 2. The first step, Euler's, is corrected to O(h^3) once, so the
    order is 3; away from it errors are of order 4. Best on the :class:`~sde_gen.grid.angle.Angle` grid of the same
    middle; the page "Few evaluations" of the documentation derives it and says where it wins.

    Sources: Adams' methods with steps of different lengths: Hairer, Norsett and Wanner, 1993, Solving Ordinary
    Differential Equations I, section III.5; correction by an evaluation already paid: Zhao et al., 2023,
    arXiv:2302.04867, section 3.2; the straight path: Liu et al., 2022, arXiv:2209.03003, eq. 1.

    Arguments:
        middle: the ratio m = sigma / alpha in the middle of the path; scales with the data.

    Raises:
        ValueError: middle is not positive.
    """

    order: ClassVar[int] = 3
    stochastic: ClassVar[bool] = False
    middle: float = 0.3

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if not 0 < self.middle < math.inf:
            raise ValueError(
                f"middle={self.middle} must be positive; 0.3 suits data of standard deviation 0.5"
            )

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> Past:
        """Make all coefficients."""
        del x
        return Past(0, *coefficients(model.sde, times, self.middle), ())

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: Past, noise: Noise
    ) -> tuple[Tensor, Past]:
        """One step."""
        del s, noise
        prediction, weights = model(x_t, t), state.weights[state.number]
        slope = torch.add(prediction.eps, prediction.x0, alpha=-1 / self.middle)
        slopes = (slope, *state.slopes)[: len(weights)]
        x_s = combine(state.keep[state.number], x_t, weights, slopes)
        return x_s, Past(state.number + 1, state.keep, state.weights, slopes)

    def nfe(self, steps: int) -> int:
        """One evaluation a step."""
        return steps


def coefficients(sde: SDE, times: Tensor, middle: float) -> tuple[list[float], list[list[float]]]:
    """Factors of x and weights of the slopes, newest first, of every step on a grid.

    Arguments:
        sde: the process.
        times: monotone times with shape (steps + 1,).
        middle: the ratio m.
    """
    alpha, sigma = sde.marginal(times)
    u, scale = torch.atan2(sigma.sqrt(), (middle * alpha).sqrt()), middle * alpha + sigma
    tau = 1 / (1 + (u.diff() / FULL_ORDER) ** 4)
    i = torch.arange(len(times) - 1)
    weights = faded(u, tau, start=i, newest=i, count=3)
    # step i corrects step i - 1, whose prediction used the slopes one place further down
    correction = faded(u, tau, start=i[:-1], newest=i[1:], count=4)
    correction[:, 1:] -= weights[:-1]
    weights = torch.nn.functional.pad(weights, (0, 1))
    weights[1:] += tau[:-1, None] * correction
    rows: list[list[float]] = (scale[1:, None] * weights).tolist()
    keep: list[float] = (scale[1:] / scale[:-1]).tolist()
    return keep, [row[: n + 1] for n, row in enumerate(rows)]


def faded(u: Tensor, tau: Tensor, *, start: Tensor, newest: Tensor, count: int) -> Tensor:
    r"""Adams weights of the steps from u[start], the highest difference multiplied by tau[start].

    .. math::
        w_j = \int_{u_{start}}^{u_{start + 1}} \ell_j(u) \sin 2u\, du

    Arguments:
        u: angles with shape (steps + 1,).
        tau: factors with shape (steps,).
        start: indices of steps with shape (R,).
        newest: indices of their newest node with shape (R,).
        count: number of nodes, fewer near the start.

    Returns:
        Weights with shape (R, count), 0 where there is no node.
    """
    nodes, ends = at(u, window(newest, count)), (u[start], u[start + 1])
    full = adams(lambda v: torch.sin(2 * v), nodes, *ends)
    oldest = (newest + 1).clamp(max=count).unsqueeze(-1) - 1
    fewer = adams(lambda v: torch.sin(2 * v), nodes.scatter(1, oldest, torch.nan), *ends)
    factor = torch.where(oldest > 1, tau[start].unsqueeze(-1), 1.0)  # constants and lines stay
    return factor * full + (1 - factor) * fewer
