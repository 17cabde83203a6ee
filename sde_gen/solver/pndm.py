"""iPNDM."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._integrals import EpsIntegral, FlowIntegral
from sde_gen.solver._lagrange import adams, window
from sde_gen.solver._multistep import MultistepSolver, Past, Row, combine


class EqualStepsIntegral(EpsIntegral):
    """Noise prediction, polynomials in the number of the step: Adams-Bashforth for equal steps, DDIM for the rest."""

    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        r"""Of the mean noise over the step, times what DDIM has of noise, ``sigma_s - sigma_t alpha_s / alpha_t``."""
        places = torch.where(nodes < 0, torch.nan, nodes.double())
        sums = adams(torch.ones_like, places, start.double(), end.double())
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
    form: ClassVar[type[FlowIntegral]] = EqualStepsIntegral

    def rows(self, form: FlowIntegral, steps: int) -> list[Row]:
        """Four nodes from the fourth step on."""
        i = torch.arange(steps)
        weights = form.weights(i, i + 1, window(i, min(4, steps))).tolist()
        keep = form.keep(i, i + 1).tolist()
        return [Row(k, w[: n + 1]) for n, (k, w) in enumerate(zip(keep, weights, strict=True))]


@dataclass(frozen=True, kw_only=True)
class PNDM(IPNDM):
    r"""Pseudo numerical methods: three steps of Runge-Kutta's kind, then :class:`~sde_gen.solver.IPNDM`.

    The first three steps have four evaluations each, at t, twice at m = (t + s) / 2 and at s. With phi DDIM's step,

    .. math::
        \epsilon_1 = \hat\epsilon(x_t, t), \quad
        \epsilon_2 = \hat\epsilon(\phi_{t \to m}(x_t, \epsilon_1), m), \quad
        \epsilon_3 = \hat\epsilon(\phi_{t \to m}(x_t, \epsilon_2), m), \quad
        \epsilon_4 = \hat\epsilon(\phi_{t \to s}(x_t, \epsilon_3), s),

    .. math::
        x_s = \phi_{t \to s}\left(x_t, \tfrac{1}{6} (\epsilon_1 + 2 \epsilon_2 + 2 \epsilon_3 + \epsilon_4)\right) .

    It is of order 2, as the paper proves, for the reason given at iPNDM. Where a first step is long and there is
    hardly a signal yet, as on the grids ``angle`` and ``log_snr`` in few steps, phi magnifies what eps_2 to eps_4
    differ by and the samples are lost: iPNDM has no such steps.

    Source: Liu et al., 2022, arXiv:2202.09778, eq. 11 to 13 and algorithm 2.
    """

    def rows(self, form: FlowIntegral, steps: int) -> list[Row]:
        """Two rows for each of the first three steps, phi to the middle and to the end; then iPNDM's."""
        first = min(steps, 3)
        ends = form.times[: first + 1]
        i = torch.arange(first) * 2
        start, end = i.repeat_interleave(2), torch.stack([i + 1, i + 2], dim=1).flatten()
        halves = torch.stack([ends[:-1], ends[:-1] + 0.5 * ends.diff()], dim=1).flatten()
        finer = EqualStepsIntegral(form.sde, torch.cat([halves, ends[-1:]]))
        phi = finer.keep(start, end).tolist(), finer.weights(start, end, start.unsqueeze(-1)).tolist()
        return [*(Row(k, w) for k, w in zip(*phi, strict=True)), *super().rows(form, steps)[first:]]

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> Past:
        """Make all coefficients, and let the model learn of the middles of the first steps."""
        model.precompute(torch.cat([times, (times[:-1] + 0.5 * times.diff())[:3]]))
        return super().init(model, x, times)

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: Past, noise: Noise
    ) -> tuple[Tensor, Past]:
        """One step."""
        if state.number >= 6:
            return super().step(model, x_t, t, s, state, noise)
        half, whole = state.rows[state.number : state.number + 2]
        m, (w,) = t + 0.5 * (s - t), whole.weights
        e_1 = model(x_t, t).eps
        e_2 = model(combine(half.keep, x_t, half.weights, (e_1,)), m).eps
        e_3 = model(combine(half.keep, x_t, half.weights, (e_2,)), m).eps
        e_4 = model(combine(whole.keep, x_t, whole.weights, (e_3,)), s).eps
        x_s = combine(whole.keep, x_t, (w / 6, w / 3, w / 3, w / 6), (e_1, e_2, e_3, e_4))
        return x_s, Past(state.number + 2, state.rows, (e_1, *state.values))

    def nfe(self, steps: int) -> int:
        """Four evaluations in each of the first three steps, then one."""
        return steps + 3 * min(steps, 3)
