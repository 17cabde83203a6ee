"""Pseudo numerical methods, with equal steps in Adams-Bashforth: PNDM and iPNDM."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver._integrals import EpsIntegral, FlowIntegral
from sde_gen.solver._lagrange import adams_weights, node_indices
from sde_gen.solver._multistep import MultistepSolver, StepCoefficients, combine
from sde_gen.solver._table import History, TableSolver
from sde_gen.solver._validation import require_stable


class EqualStepsIntegral(EpsIntegral):
    """Noise prediction, polynomials in the number of the step: Adams-Bashforth for equal steps, DDIM for the rest."""

    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        r"""Mean noise over the step, times DDIM's coefficient of it, ``sigma_s - sigma_t alpha_s / alpha_t``."""
        places = torch.where(nodes < 0, torch.nan, nodes.double())
        sums = adams_weights(torch.ones_like, places, start.double(), end.double())
        noise = -self.sigma[end] * torch.expm1(self.lam[end] - self.lam[start])
        return (noise / (end - start)).unsqueeze(-1) * sums


@dataclass(frozen=True, kw_only=True)
class IPNDM(MultistepSolver):
    r"""DDIM's step with the noise that Adams-Bashforth's fourth order predicts for equal steps.

    .. math::
        \epsilon' = \tfrac{1}{24} (55 \hat\epsilon_t - 59 \hat\epsilon_{t+1} + 37 \hat\epsilon_{t+2} - 9
        \hat\epsilon_{t+3}), \qquad
        x_s = \frac{\alpha_s}{\alpha_t} x_t + \left(\sigma_s - \frac{\alpha_s}{\alpha_t} \sigma_t\right) \epsilon'

    with fewer terms in the first three steps. The mean noise over a step is that in the number of the step, while
    the flow's weight is rho = sigma / alpha: on grids where rho(n) is no straight line the product of the two slopes
    remains, an error of h^3 per step. So it is of order 2 on every smooth grid, though the coefficients alone would
    have 4.

    Sources: Zhang and Chen, 2022, arXiv:2204.13902, section 3.3 (iPNDM); Liu et al., 2022, arXiv:2202.09778, eq. 12.
    """

    order: ClassVar[int] = 2
    integral: ClassVar[type[FlowIntegral]] = EqualStepsIntegral

    def coefficients(self, integral: FlowIntegral, steps: int) -> list[StepCoefficients]:
        """Return Adams-Bashforth's coefficients, with four predictions from the fourth step on."""
        i = torch.arange(steps)
        weights = integral.weights(i, i + 1, node_indices(i, min(4, steps))).tolist()
        x_coef = integral.x_coef(i, i + 1).tolist()
        return [StepCoefficients(a, w[: n + 1]) for n, (a, w) in enumerate(zip(x_coef, weights, strict=True))]


class HalfStep(NamedTuple):
    """Time of the middle of a step, and DDIM's step to it: ``x_m = x_coef x_t + weight eps``."""

    t: Tensor
    x_coef: float
    weight: float


Row = tuple[StepCoefficients, HalfStep | None]
"""A step, and its first half where it is a pseudo Runge-Kutta step."""


@dataclass(frozen=True, kw_only=True)
class PNDM(TableSolver[Row]):
    r"""Pseudo numerical methods: three steps of Runge-Kutta's kind, then :class:`~sde_gen.solver.IPNDM`.

    The first three steps have four evaluations each, at t, twice at m = (t + s) / 2 and at s. With phi DDIM's step,

    .. math::
        \epsilon_1 = \hat\epsilon(x_t, t), \quad
        \epsilon_2 = \hat\epsilon(\phi_{t \to m}(x_t, \epsilon_1), m), \quad
        \epsilon_3 = \hat\epsilon(\phi_{t \to m}(x_t, \epsilon_2), m), \quad
        \epsilon_4 = \hat\epsilon(\phi_{t \to s}(x_t, \epsilon_3), s),

    .. math::
        x_s = \phi_{t \to s}\left(x_t, \tfrac{1}{6} (\epsilon_1 + 2 \epsilon_2 + 2 \epsilon_3 + \epsilon_4)\right) .

    It is of order 2, as the paper proves, for the reason given at iPNDM. Where a step is long and there is hardly a
    signal yet, phi magnifies the differences of eps_2 to eps_4 and the samples diverge: such grids are an error, for
    example five steps of ``angle`` on VP, or ``uniform`` on the cosine process. iPNDM has no such steps.

    With ``runge_kutta=False`` the first step alone is of Heun's kind, and the others iPNDM's, as in PLMS:

    .. math::
        \epsilon_2 = \hat\epsilon(\phi_{t \to s}(x_t, \epsilon_1), s), \qquad
        x_s = \phi_{t \to s}\left(x_t, \tfrac{1}{2} (\epsilon_1 + \epsilon_2)\right) .

    Sources: Liu et al., 2022, arXiv:2202.09778, eq. 11 to 13 and algorithm 2; PLMS: Rombach et al., 2022,
    arXiv:2112.10752, in their code (``plms.py``), which diffusers' PNDMScheduler has with ``skip_prk_steps``.

    Arguments:
        runge_kutta: whether the first three steps are of Runge-Kutta's kind.
    """

    runge_kutta: bool = True
    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False
    multistep: ClassVar[bool] = True

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise an error for grids without signal at one end, and for steps on which the start is unstable."""
        EqualStepsIntegral.check(type(self).__name__, model, times)
        if not self.runge_kutta:
            return
        t, s = times[:-1], times[1:]
        ratios = (torch.exp(-0.5 * model.sde.log_snr(u)) for u in (t, t + 0.5 * (s - t), s))
        remedy = "use more steps, a grid whose first steps are shorter, or IPNDM"
        require_stable(type(self).__name__, float(self.std_gain(*ratios).max()), remedy)

    @staticmethod
    def std_gain(start: Tensor, middle: Tensor, end: Tensor) -> Tensor:
        r"""Standard deviation of data N(0, 1) after a pseudo Runge-Kutta step, relative to the exact one.

        Where the noise is linear, eps = J(rho) x / alpha with J = rho / (1 + rho^2), so is the step.
        Any step may be the first of a new start.

        Arguments:
            start: sigma / alpha before the steps with shape (steps,).
            middle: that at the middles of the steps in time.
            end: that after the steps.
        """
        j_t, j_m, j_s = (rho / (1 + rho**2) for rho in (start, middle, end))
        e_2 = j_m * (1 + (middle - start) * j_t)
        e_3 = j_m * (1 + (middle - start) * e_2)
        e_4 = j_s * (1 + (end - start) * e_3)
        factor = 1 + (end - start) * (j_t + 2 * e_2 + 2 * e_3 + e_4) / 6
        return factor.abs() * torch.sqrt((1 + start**2) / (1 + end**2))

    def prepare(self, sde: SDE, times: Tensor) -> list[Row]:
        """Return iPNDM's steps, the first three replaced by DDIM's step and its first half."""
        steps = len(times) - 1
        if not self.runge_kutta:
            return [(row, None) for row in IPNDM().coefficients(EqualStepsIntegral(sde, times), steps)]
        first = min(steps, 3)
        ends = times[: first + 1]
        middles = ends[:-1] + 0.5 * ends.diff()
        integral = EqualStepsIntegral(
            sde, torch.cat([torch.stack([ends[:-1], middles], 1).flatten(), ends[-1:]])
        )
        t = 2 * torch.arange(first)

        def ddim(end: Tensor) -> tuple[list[float], list[float]]:
            x_coef, weights = integral.x_coef(t, end), integral.weights(t, end, t.unsqueeze(-1))
            return x_coef.tolist(), weights[:, 0].tolist()

        start = [
            (StepCoefficients(x_coef, [weight]), HalfStep(*half))
            for x_coef, weight, *half in zip(*ddim(t + 2), middles, *ddim(t + 1), strict=True)
        ]
        later = IPNDM().coefficients(EqualStepsIntegral(sde, times), steps)[first:]
        return [*start, *((row, None) for row in later)]

    def apply(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, row: Row, history: History, noise: Noise
    ) -> tuple[Tensor, History]:
        """Take a pseudo Runge-Kutta step, or one of Heun's kind, at the start, iPNDM's later."""
        del noise
        (x_coef, weights, _), half = row
        e_1 = model(x_t, t).eps
        if half is None and not history:
            (w,) = weights
            e_2 = model(combine(x_coef, x_t, (w,), (e_1,)), s).eps
            return combine(x_coef, x_t, (w / 2, w / 2), (e_1, e_2)), (e_1,)
        if half is None:
            history = (e_1, *history)[: len(weights)]
            return combine(x_coef, x_t, weights, history), history
        (w,) = weights
        e_2 = model(combine(half.x_coef, x_t, (half.weight,), (e_1,)), half.t).eps
        e_3 = model(combine(half.x_coef, x_t, (half.weight,), (e_2,)), half.t).eps
        e_4 = model(combine(x_coef, x_t, weights, (e_3,)), s).eps
        x_s = combine(x_coef, x_t, (w / 6, w / 3, w / 3, w / 6), (e_1, e_2, e_3, e_4))
        return x_s, (e_1, *history)

    def nfe(self, steps: int) -> int:
        """Four evaluations in each of the first three steps, or two in the first, then one."""
        return steps + (3 * min(steps, 3) if self.runge_kutta else 1)
