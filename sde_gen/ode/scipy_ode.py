"""ODE integrators of SciPy."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from sde_gen.ode.base import Field, Integrator, State

METHODS = ("RK45", "RK23", "DOP853")
"""The explicit methods; implicit ones would need a Jacobian of the whole batch."""


@dataclass(frozen=True, kw_only=True)
class ScipyODE(Integrator):
    """A Runge-Kutta method of SciPy, for comparison and for tight tolerances.

    The state is one vector of the whole batch in float64 on the CPU, copied from and to its device at every
    evaluation. Its error has one norm, in which a few numbers beside a large image hardly count, and a sample depends,
    within the tolerance, on its batch. No gradients flow through it.

    Source: Virtanen et al., 2020, Nature Methods 17, 261; DOP853: Hairer, Norsett and Wanner, 1993, Solving Ordinary
    Differential Equations I, appendix.

    Arguments:
        method: RK45 (order 5), RK23 (order 3) or DOP853 (order 8).
        rtol: relative tolerance.
        atol: absolute tolerance.

    Raises:
        ValueError: unknown method, or a tolerance that is not positive.
    """

    method: str = "RK45"
    rtol: float = 1e-5
    atol: float = 1e-5
    batch_coupled: ClassVar[bool] = True
    adaptive: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    nfe: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is unknown; choose one of {', '.join(METHODS)}")
        if not (0 < self.rtol < math.inf and 0 < self.atol < math.inf):
            raise ValueError(f"rtol={self.rtol}, atol={self.atol}: tolerances must be positive and finite")

    def refine(self) -> "ScipyODE":
        """Return the method with a tenth of the tolerances."""
        return replace(self, rtol=self.rtol / 10, atol=self.atol / 10)

    def integrate(self, field: Field, y: State, t0: float, t1: float) -> State:
        """Integrate from t0 to t1."""
        return self.trajectory(field, y, torch.tensor([t0, t1], dtype=torch.float64))[-1]

    @torch.no_grad()
    def trajectory(self, field: Field, y: State, times: Tensor) -> list[State]:
        """Integrate through monotone times, interpolating between the two ends."""
        t0, *inner, t1 = times.tolist()
        ends = np.cumsum([part.numel() for part in y])

        def state(flat: NDArray[np.float64]) -> State:
            parts = zip(np.split(flat, ends[:-1]), y, strict=True)
            return tuple(torch.from_numpy(part.copy()).reshape(like.shape).to(like) for part, like in parts)

        def vector(parts: State) -> NDArray[np.float64]:
            flat: NDArray[np.float64] = np.concatenate(
                [part.double().cpu().numpy().ravel() for part in parts]
            )
            return flat

        def slope(t: float, flat: NDArray[np.float64]) -> NDArray[np.float64]:
            # clamped, as trial steps may leave the interval by rounding
            velocity = vector(
                field(torch.tensor(min(max(t, min(t0, t1)), max(t0, t1))).double(), state(flat))
            )
            if not np.isfinite(velocity).all():
                raise FloatingPointError(f"SciPy's {self.method} gave up: the field is not finite at {t:.6g}")
            return velocity

        first = vector(y)
        slope(t0, first)  # SciPy's own message for a field that is not finite at t0 names a step size
        result: Any = solve_ivp(
            slope,
            (t0, t1),
            first,
            method=self.method,
            dense_output=bool(inner),
            rtol=self.rtol,
            atol=self.atol,
        )
        if not result.success:
            raise FloatingPointError(
                f"SciPy's {self.method} gave up between {t0:g} and {t1:g} ({result.message}); try larger tolerances"
            )
        return [y, *(state(result.sol(t)) for t in inner), state(result.y[:, -1])]
