"""Methods of SciPy on the probability flow."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.dynamics import ProbabilityFlow
from sde_gen.noise import NO_NOISE, Noise
from sde_gen.solver._validation import require_finite_velocity
from sde_gen.solver.base import Solver, check_times
from sde_gen.solver.callbacks import Hook, StepInfo

METHODS = ("RK45", "RK23", "DOP853")
"""The explicit methods; implicit ones would need a Jacobian of the whole batch."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ScipyODE(Solver):
    """A Runge-Kutta method of SciPy on the probability flow in t, for comparison.

    The state is one vector of the whole batch in float64 on the CPU, copied from and to the denoiser's device at every
    evaluation: slow. Its error has one norm, so that a sample depends, within the tolerance, on its batch. Hooks see
    the samples interpolated at the grid's times, when the integration is done.

    Sources: Virtanen et al., 2020, Nature Methods 17, 261 (SciPy); Song et al., 2021, arXiv:2011.13456, section 4.3
    and appendix D.1, who sample by RK45 with these tolerances.

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
    stochastic: ClassVar[bool] = False
    batch_coupled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is unknown; choose one of {', '.join(METHODS)}")
        if not (0 < self.rtol < math.inf and 0 < self.atol < math.inf):
            raise ValueError(f"rtol={self.rtol}, atol={self.atol}: tolerances must be positive and finite")

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
            FloatingPointError: the velocity is not finite, or no step is small enough.
        """
        del noise
        check_times(times)
        flow, hooks = ProbabilityFlow(model), tuple(hooks)
        low, high = float(times.min()), float(times.max())

        def samples(flat: Array) -> Tensor:
            return torch.from_numpy(flat.copy()).reshape(x.shape).to(x)

        def velocity(t: float, flat: Array) -> Array:
            # clamped, as trial steps may leave the interval by rounding
            d = flow(samples(flat), torch.tensor(t, dtype=torch.float64).clamp(low, high))
            require_finite_velocity(d, t)
            return d.double().cpu().numpy().ravel()

        require_finite_velocity(flow(x, times[0]), float(times[0]))  # SciPy refuses in other words
        found = solve_ivp(
            velocity,
            (float(times[0]), float(times[-1])),
            x.double().cpu().numpy().ravel(),
            method=self.method,
            dense_output=bool(hooks),
            rtol=self.rtol,
            atol=self.atol,
        )
        if not found.success:
            raise FloatingPointError(
                f"SciPy's {self.method} gave up between t={low:g} and t={high:g} ({found.message}); "
                "try larger tolerances or a larger t_min"
            )
        end, steps = samples(found.y[:, -1]), len(times) - 1
        for index in range(steps if hooks else 0):
            t, s = float(times[index]), float(times[index + 1])
            x_t = samples(found.sol(t)) if index else x
            x_s = samples(found.sol(s)) if index < steps - 1 else end
            for hook in hooks:
                hook(StepInfo(index, steps, t, s, x_t, x_s))
        return end
