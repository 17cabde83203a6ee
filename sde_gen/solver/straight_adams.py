"""Adams' methods on the linear path: a predictor-corrector of order 3 for few evaluations."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver._lagrange import quadrature
from sde_gen.solver._multistep import combine
from sde_gen.solver._table import History, TableSolver

PREDICTOR, CORRECTOR = 4, 5
"""Largest number of evaluations combined by a prediction and by a correction."""

BALANCE_RATIO, TIME_RATIO, LONG_STEP = 1 / 5, 2.5, math.pi / 20
"""Ratios n of the path and of its time, in units of ``middle``, and the angle of a long step. Found on mixtures
drawn for the purpose; none of them matters much: benchmarks/solver_error.py draws others."""


class StraightAdamsCoefficients(NamedTuple):
    """Factor of x and weights of the slopes, newest first."""

    x: float
    weights: list[float]


@dataclass(frozen=True, kw_only=True)
class StraightAdams(TableSolver[StraightAdamsCoefficients]):
    r"""Predict by Adams-Bashforth, correct by Adams-Moulton, on a linear path between data and noise.

    Whatever the process, with n = m / 5 and m the ratio ``middle``,

    .. math::
        y = \frac{x}{n \alpha + \sigma} = (1 - p_n) \frac{x_0}{n} + p_n\, \epsilon, \qquad
        p_n = \frac{\sigma}{n \alpha + \sigma}, \qquad
        \frac{dy}{dp_n} = -\frac{F}{n}, \qquad F = \hat{x}_0 - n\, \hat\epsilon .

    F is data prediction where there is noise, and tends to it slowly enough below sigma / alpha = n to stay smooth.
    It is interpolated by a polynomial in the time p of a longer linear path, ``p = sigma / (2.5 m alpha + sigma)``,
    and integrated exactly. With ``I_r^s[F_t ... F_{t-k}]`` the integral over the step from r to s of the polynomial
    through those evaluations, times counted in steps, the step from t - 1 to t is corrected by the evaluation at its
    end, which the step from t to s makes anyway, before that is predicted:

    .. math::
        y_t \leftarrow y_t + \tfrac{1 + \tau}{2}
        \left(I_{t-1}^t[F_t \dots F_{t-4}] - I_{t-1}^t[F_{t-1} \dots F_{t-4}]\right), \qquad
        y_s = y_t + I_t^s[F_t \dots F_{t-3}] .

    With h the length of a step in the angle ``arctan sqrt(sigma / (m alpha))``, differences of third and higher degree
    in its integrals are multiplied by ``tau = 1 / (1 + (20 h / pi)^6)``, the second by ``(1 + tau) / 2``; tau of the
    correction is that of the step corrected. That is full order with short steps, no overshooting with long ones.

    The first step, Euler's, is corrected to O(h^3) once, so the order is 3; what is measured is higher. A start
    where alpha is zero is p = 1. Use it on the :class:`~sde_gen.grid.Angle` grid of the same middle. The page
    "Few evaluations" of the documentation derives the method and compares it with others.

    Sources: Adams' methods with steps of different lengths: Hairer, Norsett and Wanner, 1993, Solving Ordinary
    Differential Equations I, section III.5; correction by an evaluation already paid: Zhao et al., 2023,
    arXiv:2302.04867, section 3.2; the linear path: Liu et al., 2022, arXiv:2209.03003, eq. 1.

    Arguments:
        middle: the ratio m = sigma / alpha in the middle of the grid; scales with the data.

    Raises:
        ValueError: middle lies outside [1e-4, 1e4].
    """

    order: ClassVar[int] = 3
    stochastic: ClassVar[bool] = False
    multistep: ClassVar[bool] = True
    middle: float = 0.3

    def __post_init__(self) -> None:
        if not 1e-4 <= self.middle <= 1e4:
            raise ValueError(
                f"middle={self.middle} must lie in [1e-4, 1e4], about 0.6 times the data's standard deviation in "
                "model space; 0.3 suits images on [-1, 1]"
            )

    def prepare(self, sde: SDE, times: Tensor) -> list[StraightAdamsCoefficients]:
        """Return the coefficients of every step."""
        return list(map(StraightAdamsCoefficients, *coefficients(sde, times, self.middle)))

    def apply(
        self,
        model: Denoiser,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        row: StraightAdamsCoefficients,
        history: History,
        noise: Noise,
    ) -> tuple[Tensor, History]:
        """Combine the slope at t and those before."""
        del s, noise
        prediction = model(x_t, t)
        slope = torch.add(prediction.x0, prediction.eps, alpha=-BALANCE_RATIO * self.middle)
        slopes = (slope, *history)[: len(row.weights)]
        return combine(row.x, x_t, row.weights, slopes), slopes


def coefficients(sde: SDE, times: Tensor, middle: float) -> tuple[list[float], list[list[float]]]:
    """Return factors of x and weights of the slopes, newest first, of every step on a grid.

    Arguments:
        sde: the process.
        times: monotone times with shape (steps + 1,).
        middle: the ratio m.
    """
    alpha, sigma = sde.marginal(times)
    angle = torch.atan2(sigma.sqrt(), (middle * alpha).sqrt())
    scale, p = BALANCE_RATIO * middle * alpha + sigma, sigma / (TIME_RATIO * middle * alpha + sigma)
    tau = 1 / (1 + (angle.diff() / LONG_STEP) ** 6)
    steps = len(tau)
    i = torch.arange(steps)
    # steps are predicted from their begin; all but the last are corrected from their end
    start, newest = torch.cat([i, i[:-1]]), torch.cat([i, i[1:]])
    nodes = newest.unsqueeze(-1) - torch.arange(CORRECTOR)
    nodes[:steps, PREDICTOR:] = -1
    both = damped_weights(p, tau[start], start, nodes)
    weights, correction = both[:steps], both[steps:]
    correction[:, 1:] -= weights[:-1, :-1]  # a prediction used the slopes one place further down
    weights[1:] += 0.5 * (1 + tau[:-1, None]) * correction
    rows: list[list[float]] = (scale[1:, None] / middle * weights).tolist()
    keep: list[float] = (scale[1:] / scale[:-1]).tolist()
    return keep, [row[: n + 1] for n, row in enumerate(rows)]


def damped_weights(p: Tensor, tau: Tensor, start: Tensor, nodes: Tensor) -> Tensor:
    r"""Return the weights of slopes in the integral of a step, by Newton's interpolation with damped differences.

    .. math::
        \int_{p_t}^{p_s} k(p) \sum_d c_d\, F[p_0 \dots p_d] \prod_{i < d} (p - p_i)\, dp, \qquad
        F[p_0 \dots p_d] = \sum_{j \le d} F_j \prod_{i \le d, i \ne j} \frac{1}{p_j - p_i}

    with ``k(p) dp = -(m / n) dp_n`` and c = 1, 1, (1 + tau) / 2, tau, tau, ...

    Arguments:
        p: times of the path with shape (steps + 1,).
        tau: factors with shape (R,).
        start: indices of steps with shape (R,).
        nodes: indices of nodes with shape (R, k), -1 or less where there is none.

    Returns:
        Weights with shape (R, k); 0 where there is no node.
    """
    count, missing = nodes.shape[1], nodes < 0
    places = torch.where(missing, 2 + torch.arange(count), p[nodes.clamp(min=0)])  # outside [0, 1] if missing
    tau = tau.unsqueeze(-1)
    damping = torch.cat(
        [torch.ones_like(tau).expand(-1, 2), 0.5 + 0.5 * tau, tau.expand(-1, count - 3)], dim=1
    )
    v, dv = quadrature(p[start], p[start + 1])
    kernel = -TIME_RATIO / (BALANCE_RATIO + (TIME_RATIO - BALANCE_RATIO) * v) ** 2
    factors = torch.cat([torch.ones_like(v).unsqueeze(-1), v.unsqueeze(-1) - places[:, None, :-1]], dim=-1)
    terms = torch.einsum("rq,rqd->rd", kernel * dv, factors.cumprod(-1)) * damping.masked_fill(missing, 0)
    gaps = places[:, :, None] - places[:, None, :] + torch.eye(count, dtype=p.dtype)  # (R, j, i)
    return torch.einsum("rd,rjd->rj", terms, torch.triu(1 / gaps.cumprod(-1)))
