"""Restart sampling: the probability flow with intervals solved again from added noise."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._validation import require_descent, require_int, require_steps
from sde_gen.solver.base import Stepping, StepSolver
from sde_gen.solver.runge_kutta import Heun


class RestartState(NamedTuple):
    """State of the inner solver, index of the next step, index of the step before the restarts, and all times."""

    inner: Any
    step_index: int
    restart_index: int
    times: Tensor


@dataclass(frozen=True, kw_only=True)
class Restart(StepSolver[RestartState]):
    r"""Solve the flow; once below a noise level, add fresh noise and solve again, K times.

    With rho = sigma / alpha, from the grid's first time with rho <= rho_min,

    .. math::
        x_{max} \sim q(x_{max} | x_{min}), \qquad
        x_{min} = \mathrm{flow}(x_{max}) \qquad \text{K times.}

    The noise forgets part of the error made so far; that of the flow between the two levels is made anew. The
    restarts take equal steps of the log-SNR. Their number does not grow with the grid's, so their error remains:
    order 0, and the inner solver's order if ``steps`` grow in proportion.

    Source: Xu et al., 2023, arXiv:2306.14878, algorithm 1; defaults as in the paper for CIFAR-10
    (there 3 times, which are 2 steps).

    Arguments:
        inner: deterministic solver of the flow, whose evaluations are proportional to its steps.
        ratio_min: sigma / alpha below which to restart.
        ratio_max: sigma / alpha to go back to.
        steps: steps of every restart.
        repeats: number of restarts K; 0 is the inner solver without restarts.

    Raises:
        ValueError: the inner solver is stochastic or needs evaluations for its start, or a number is out of its range.
    """

    inner: Stepping = Heun()  # noqa: RUF009 (frozen)
    ratio_min: float = 0.06
    ratio_max: float = 0.3
    steps: int = 2
    repeats: int = 2

    def __post_init__(self) -> None:
        require_steps("inner", self.inner)
        if self.inner.stochastic:
            raise ValueError(f"inner={self.inner} draws noise; Restart solves the flow between its restarts")
        if self.inner.nfe(6) != 6 * self.inner.nfe(1):
            raise ValueError(
                f"inner={self.inner} spends evaluations on its start, which every restart would repeat; "
                "take a solver whose evaluations are proportional to its steps, such as Heun"
            )
        if not 0 < self.ratio_min < self.ratio_max < math.inf:
            raise ValueError(
                f"ratio_min={self.ratio_min}, ratio_max={self.ratio_max}: expected 0 < ratio_min < ratio_max, finite"
            )
        require_int(1, steps=self.steps)
        require_int(0, repeats=self.repeats)

    @property
    def order(self) -> int:
        """Order of the inner solver without restarts, else 0."""
        return 0 if self.stochastic else self.inner.order

    @property
    def stochastic(self) -> bool:
        """True if there are restarts."""
        return self.repeats > 0

    @property
    def pathwise(self) -> bool:
        """True if there are no restarts, whose noise is fresh."""
        return not self.stochastic

    @property
    def batch_coupled(self) -> bool:
        """True if the inner solver couples the samples of a batch."""
        return self.inner.batch_coupled

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise an error for what the inner solver does not support, ascending times, and levels beyond the grid."""
        self.inner.check(model, times)
        if self.stochastic:
            require_descent(type(self).__name__, times)
            first, *_, last = torch.exp(-0.5 * model.sde.log_snr(times)).tolist()
            if not (last <= self.ratio_min * (1 + 1e-9) and self.ratio_max <= first * (1 + 1e-9)):
                raise ValueError(
                    f"ratio_min={self.ratio_min} and ratio_max={self.ratio_max} must lie within the grid's "
                    f"sigma / alpha, which ranges from {first:.3g} to {last:.3g}"
                )

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> RestartState:
        """Return the state, with the step before the restarts."""
        ratio = torch.exp(-0.5 * model.sde.log_snr(times[1:]))
        restart_index = int(
            (ratio > self.ratio_min * (1 + 1e-9)).sum()
        )  # the first step that ends at or below
        return RestartState(self.inner.init(model, x, times), 0, restart_index, times)

    def reinit(self, model: Denoiser, x: Tensor, times: Tensor, state: RestartState) -> RestartState:
        """Reinitialize the inner solver's state; the step of the restart stays."""
        return state._replace(inner=self.inner.reinit(model, x, times, state.inner))

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: RestartState, noise: Noise
    ) -> tuple[Tensor, RestartState]:
        """Take a step of the inner solver, followed by the restarts after the restart index."""
        inner, index, restart_index, times = state
        x_s, inner = self.inner.step(model, x_t, t, s, inner, noise)
        if self.stochastic and index == restart_index:
            sde = model.sde
            top, bottom = torch.tensor(self.ratio_max, dtype=torch.float64).log().mul(-2), sde.log_snr(s)
            again = sde.t_from_log_snr(top + torch.linspace(0, 1, self.steps + 1).double() * (bottom - top))
            again[-1] = s
            scale, std = sde.transition(s, again[0])
            for _ in range(self.repeats):
                x_s = (float(scale) * x_s).add_(noise.normal(x_s), alpha=float(std))
                x_s = self.inner.solve(model, x_s, again, noise=noise)
            rest = times[index + 1 :]
            if len(rest) > 1:
                inner = self.inner.init(model, x_s, rest)
        return x_s, RestartState(inner, index + 1, restart_index, times)

    def nfe(self, steps: int) -> int:
        """The inner solver's evaluations, and those of every restart."""
        return self.inner.nfe(steps) + self.repeats * self.inner.nfe(self.steps)

    def nfe_reinit(self, steps: int) -> int:
        """The same number: the inner solver's are proportional to its steps."""
        return self.nfe(steps)
