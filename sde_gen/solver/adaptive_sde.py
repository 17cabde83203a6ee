"""The adaptive solver of the reverse SDE, with a step size per sample."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.dynamics import ReverseSDE
from sde_gen.noise import NO_NOISE, Noise
from sde_gen.solver._brownian_bisection import BrownianBisection
from sde_gen.solver._validation import require_descent, require_finite_diffusion
from sde_gen.solver.base import Solver, check_times
from sde_gen.solver.callbacks import Hook, call_hooks
from sde_gen.utils.broadcasting import broadcast, broadcast_like, mean_event

SAFETY, EXPONENT, FIRST = 0.9, 0.9, 0.01
"""The paper's safety factor, exponent of the error, and length of the first attempt."""

SMALLEST = 2.0**-24
"""Length of a step, as a part of t, below which it is given up, and as a part of a step what no longer counts.

It is the rounding of float32. Rates of a process grow at most like 1 / t, so a shorter step would move a sample by
less than its rounding."""


class SDETrial(NamedTuple):
    """Ends of a step from t by both methods, and the error of the first relative to the tolerance (B,)."""

    s: Tensor
    euler: Tensor
    heun: Tensor
    error: Tensor


class SDEState(NamedTuple):
    """The samples between attempts, each at its own time.

    Arguments:
        x: samples at times t with shape (B, *event).
        previous: ends of their last steps by Euler-Maruyama, which scale the tolerance, with shape (B, *event).
        t: times, float64 on the CPU with shape (B,).
        h: lengths of the next steps, float64 on the CPU with shape (B,).
        rejected: samples whose last step was rejected, booleans with shape (B,).
    """

    x: Tensor
    previous: Tensor
    t: Tensor
    h: Tensor
    rejected: Tensor

    def after(self, trial: SDETrial, accepted: Tensor, rejected: Tensor, length: Tensor) -> "SDEState":
        """Return the state after a trial with steps of some lengths (B,), accepted for some samples."""
        moved = broadcast(accepted, self.x).to(self.x.device)
        return SDEState(
            x=torch.where(moved, trial.heun, self.x),
            previous=torch.where(moved, trial.euler, self.previous),
            t=torch.where(accepted, trial.s, self.t),
            h=torch.where(trial.error > 0, SAFETY * length * trial.error**-EXPONENT, self.h),
            rejected=rejected,
        )

    def passing(self, time: Tensor, trial: SDETrial, accepted: Tensor, known: Tensor) -> Tensor:
        """Return the samples at a time: interpolated linearly where an accepted step passes it, else as known."""
        here = broadcast(accepted & (trial.s <= time) & (time < self.t), self.x).to(self.x.device)
        part = broadcast_like(
            ((self.t - time) / (self.t - trial.s)).nan_to_num(), self.x
        )  # 0 / 0 of finished ones
        return torch.where(here, self.x.lerp(trial.heun, part.expand_as(self.x)), known)  # heun itself at 1


@dataclass(frozen=True, kw_only=True)
class AdaptiveSDE(Solver):
    r"""Euler-Maruyama, controlled and improved by the stochastic Heun method, with a step size per sample.

    With the drift a and the diffusion g of the reverse SDE, s = t - h and one Brownian increment w of N(0, h I),

    .. math::
        x' &= x_t - h\, a(x_t, t) + g(t)\, w, \qquad \tilde{x} = x_t - h\, a(x', s) + g(s)\, w, \qquad
        x'' = \tfrac{1}{2} (x' + \tilde{x}) \\
        E &= \left\| \frac{x' - x''}{\max(\mathrm{atol},\, \mathrm{rtol} \max(|x'|, |x'_{prev}|))} \right\|_{rms},
        \qquad h \leftarrow 0.9\, h\, E^{-0.9} .

    Where E <= 1 the step ends in x''. Elsewhere the paper draws anew with the new h, which makes small noise too
    likely, as large noise is more often rejected; here the step is halved and the noise of its first half drawn
    given the whole (:class:`~sde_gen.solver.BrownianBisection`).

    The solver goes from the grid's first time to its last adaptively, evaluates the denoiser at times of
    shape (B,), and takes two evaluations an attempt until the last sample is finished. Hooks are called at the end,
    with samples interpolated linearly at the grid's times.

    Source: Jolicoeur-Martineau et al., 2021, arXiv:2105.14080, algorithm 1; defaults as in the paper for
    images in [-1, 1], where atol is one of 256 levels.

    Arguments:
        rtol: relative tolerance.
        atol: absolute tolerance.

    Raises:
        ValueError: a tolerance is not positive.
    """

    rtol: float = 0.02
    atol: float = 0.0078
    stochastic: ClassVar[bool] = True
    pathwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (0 < self.rtol < math.inf and 0 < self.atol < math.inf):
            raise ValueError(f"rtol={self.rtol}, atol={self.atol}: tolerances must be positive and finite")

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError where times ascend, or g is infinite at the start."""
        require_descent(type(self).__name__, times)
        require_finite_diffusion(type(self).__name__, model, times[0])

    @torch.no_grad()
    def solve(
        self,
        model: Denoiser,
        x: Tensor,
        times: Tensor,
        *,
        noise: Noise = NO_NOISE,
        hooks: Iterable[Hook] = (),
    ) -> Tensor:
        """Integrate from the first time to the last.

        Raises:
            FloatingPointError: no step is small enough, as where the denoiser returns NaN.
        """
        check_times(times)
        self.check(model, times)
        hooks, reverse, path, end = tuple(hooks), ReverseSDE(model), BrownianBisection(x), times[-1]
        knots = [x] * len(times) if hooks else []
        state = SDEState(
            x=x,
            previous=x,
            t=times[0].repeat(len(x)),
            h=torch.full((len(x),), FIRST).double(),
            rejected=torch.zeros(len(x), dtype=torch.bool),
        )
        while bool((running := state.t > end).any()):
            z = noise.normal(
                state.x
            )  # one draw an attempt for every sample, so that none depends on the others
            if bool(state.rejected.any()):
                path.bisect(state.rejected, z)
            path.extend((path.length == 0) & running, torch.minimum(state.h, state.t - end), z)
            trial = self.attempt(reverse, state.x, state.t, end, path, state.previous)
            accepted, rejected = (
                running & (trial.error <= 1),
                running & ~(trial.error <= 1),
            )  # NaN is rejected
            self._require_progress(state.t, rejected & (path.length < SMALLEST * state.t))
            for k in range(1, len(knots)):
                knots[k] = state.passing(times[k], trial, accepted, knots[k])
            state = state.after(trial, accepted, rejected, path.length)
            path.advance(accepted)
        if hooks:
            call_hooks(hooks, times, knots)
        return state.x

    def _require_progress(self, t: Tensor, stuck: Tensor) -> None:
        """Raise FloatingPointError where the steps of some samples have become too small."""
        if bool(stuck.any()):
            raise FloatingPointError(
                f"AdaptiveSDE gave up at t={float(t[stuck][0]):.6g}, in samples "
                f"{stuck.nonzero().flatten().tolist()[:8]}: no step is small enough for rtol={self.rtol}, "
                f"atol={self.atol}; is the denoiser finite there?"
            )

    def attempt(
        self,
        reverse: ReverseSDE,
        x: Tensor,
        t: Tensor,
        end: Tensor,
        path: BrownianBisection,
        previous: Tensor,
    ) -> SDETrial:
        """Attempt the next step of the samples x at times t (B,); one of length 0 leaves its sample unchanged."""
        s = t - path.length
        s = torch.where(s - end < SMALLEST * path.length, end, s)  # rounding of a sum of halves
        h, w = broadcast_like(t - s, x), path.increment
        euler = x - h * reverse.drift(x, t) + broadcast_like(reverse.diffusion(t), x) * w
        tilde = x - h * reverse.drift(euler, s) + broadcast_like(reverse.diffusion(s), x) * w
        heun = 0.5 * (euler + tilde)
        scale = (self.rtol * torch.maximum(euler.abs(), previous.abs())).clamp(min=self.atol)
        error = torch.sqrt(mean_event(((euler - heun) / scale).square()))
        return SDETrial(s, euler, heun, error.double().cpu())
