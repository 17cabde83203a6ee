"""ODE integrators of torchdiffeq."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torchdiffeq
from torch import Tensor

from sde_gen.ode.base import Field, Integrator, Slope, State

ADAPTIVE = ("dopri5", "dopri8", "bosh3", "adaptive_heun", "fehlberg2")
"""Methods with adaptive step sizes."""

FIXED = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}
"""Methods with fixed steps, and their evaluations per step."""


@dataclass(frozen=True, kw_only=True)
class TorchDiffEqMethod:
    """A method of torchdiffeq with its tolerances; its steps are given at every call.

    Arguments:
        method: name of the method.
        rtol: relative tolerance of adaptive methods.
        atol: absolute tolerance of adaptive methods.

    Raises:
        ValueError: unknown method, or a tolerance that is not positive.
    """

    method: str
    rtol: float
    atol: float

    def __post_init__(self) -> None:
        if self.method not in ADAPTIVE and self.method not in FIXED:
            raise ValueError(
                f"method={self.method!r} is unknown; choose one of {', '.join([*ADAPTIVE, *FIXED])}"
            )
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"rtol={self.rtol}, atol={self.atol}: tolerances must be positive")

    def paths(
        self,
        field: Slope,
        y: State,
        times: Tensor,
        knots: Tensor,
        *,
        adjoint: Sequence[Tensor] | None = None,
        first_step: float | None = None,
    ) -> State:
        """Integrate through times and return the states at the knots.

        Arguments:
            field: the vector field.
            y: the state at times[0].
            times: monotone times, float64 with shape (N + 1,), where fixed methods step.
            knots: some of the times, the first and the last among them, with shape (M + 1,).
            adjoint: parameters whose gradients are computed by the adjoint equation, solved backwards; None
                differentiates through every step.
            first_step: length of the first step that adaptive methods try; None leaves it to torchdiffeq, whose choice
                depends on y and bends gradients, by 1 % in a test.

        Returns:
            For every tensor of y the states with shape (M + 1, B, *event), in its dtype.

        Raises:
            FloatingPointError: the field is not finite, or no step is small enough.
        """
        device, low, high = y[0].device, float(times.min()), float(times.max())

        def inside(t: Tensor, z: State) -> State:
            # torchdiffeq rounds times to the state's dtype, and its first trial step may leave the interval
            t = t.detach().double().cpu().clamp(low, high)
            return field(t, tuple(part.to(first.dtype) for part, first in zip(z, y, strict=True)))

        solve, options = torchdiffeq.odeint, {}
        if adjoint is not None:
            back = {**self._options(times.flip(0), first_step, device), "norm": "seminorm"}
            solve, options = (
                torchdiffeq.odeint_adjoint,
                {"adjoint_params": tuple(adjoint), "adjoint_options": back},
            )
        try:
            path = solve(
                inside,
                y,
                knots.to(device),
                method=self.method,
                rtol=self.rtol,
                atol=self.atol,
                options=self._options(times, first_step, device),
                **options,
            )
        except (
            AssertionError
        ) as error:  # torchdiffeq asserts that states are finite and that steps do not vanish
            raise FloatingPointError(
                f"torchdiffeq's {self.method} gave up between t={times[0]:g} and t={times[-1]:g} "
                f"({error}); try larger tolerances, float64 or a smaller t_max"
            ) from error
        return tuple(states.to(first.dtype) for states, first in zip(path, y, strict=True))

    def _options(self, times: Tensor, first_step: float | None, device: torch.device) -> dict[str, Any]:
        """Return the times at which the method must step: the last one, or all for fixed step sizes."""
        if self.method in ADAPTIVE:
            return {"step_t": times[-1:].to(device), "first_step": first_step}
        return {"grid_constructor": lambda *_: times.to(device)}


@dataclass(frozen=True, kw_only=True)
class TorchDiffEq(Integrator):
    """A Runge-Kutta method of the torchdiffeq package.

    Adaptive methods control one norm over the whole batch, so a sample's result depends, within the
    tolerance, on the others of its batch. No method evaluates the field outside [t0, t1], where a process
    may be undefined.

    Sources: Chen, 2018, https://github.com/rtqichen/torchdiffeq; dopri5: Dormand and Prince, 1980; the adjoint: Chen et
    al., 2018, arXiv:1806.07366, algorithm 1, with the tolerance for the state alone: Kidger et al., 2021,
    arXiv:2009.09457.

    Arguments:
        method: dopri5, dopri8, bosh3, adaptive_heun or fehlberg2; or, in equal steps of t, euler, midpoint,
            heun2, heun3 or rk4.
        rtol: relative tolerance of adaptive methods.
        atol: absolute tolerance of adaptive methods.
        steps: number of steps of the other methods; None for adaptive ones.
        adjoint: whether gradients come by a second solve, backwards, of the adjoint equation. It stores nothing of the
            first one, so memory does not grow with the number of steps, and errs by the tolerance; without it
            gradients are those of the very steps taken, all of which are kept.
        first_step: size of the first step that adaptive methods attempt, relative to the interval; None leaves it to
            torchdiffeq.

    Raises:
        ValueError: unknown method, tolerance not positive, or steps that do not fit the method.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    steps: int | None = None
    adjoint: bool = False
    first_step: float | None = 0.05

    def __post_init__(self) -> None:
        self._method()
        if self.batch_coupled and self.steps is not None:
            raise ValueError(
                f"{self.method} has adaptive steps, but steps={self.steps}; give rtol, atol and no steps"
            )
        if not self.batch_coupled and (self.steps is None or self.steps < 1):
            raise ValueError(f"{self.method} needs a number of steps of at least 1, got steps={self.steps}")

    def _method(self) -> TorchDiffEqMethod:
        return TorchDiffEqMethod(method=self.method, rtol=self.rtol, atol=self.atol)

    @property
    def batch_coupled(self) -> bool:
        """True for methods that adapt the step size."""
        return self.adaptive

    @property
    def nfe(self) -> int | None:
        """Evaluations of the field; None for adaptive methods."""
        return None if self.steps is None else self.steps * FIXED[self.method]

    @property
    def adaptive(self) -> bool:
        """True for methods that adapt the step size."""
        return self.method in ADAPTIVE

    def refine(self) -> "TorchDiffEq":
        """Return the method with twice the steps, or a tenth of the tolerances."""
        if self.steps is not None:
            return replace(self, steps=2 * self.steps)
        return replace(self, rtol=self.rtol / 10, atol=self.atol / 10)

    def integrate(self, field: Field, y: State, t0: float, t1: float) -> State:
        """Integrate from t0 to t1."""
        times = torch.linspace(t0, t1, (self.steps or 1) + 1, dtype=torch.float64)
        return tuple(states[-1] for states in self._paths(field, y, times, times[[0, -1]]))

    def trajectory(self, field: Field, y: State, times: Tensor) -> list[State]:
        """Integrate through monotone times; adaptive methods interpolate between the two ends."""
        if not self.adaptive:
            return super().trajectory(field, y, times)
        return list(zip(*self._paths(field, y, times, times), strict=True))

    def _paths(self, field: Field, y: State, times: Tensor, knots: Tensor) -> State:
        length = float((times[-1] - times[0]).abs())
        return self._method().paths(
            field,
            y,
            times,
            knots,
            adjoint=field.parameters() if self.adjoint else None,
            first_step=None if self.first_step is None else self.first_step * length,
        )
