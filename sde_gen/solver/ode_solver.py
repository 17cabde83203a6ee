"""ODE integrators on the probability flow."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import NO_NOISE, Noise
from sde_gen.ode import (
    AngleVariable,
    BogackiShampine,
    DiffusionTime,
    DormandPrince,
    Field,
    FlowVariable,
    Integrator,
    ScipyODE,
    State,
    TorchDiffEq,
)
from sde_gen.ode.torch_diffeq import FIXED
from sde_gen.sde.base import SDE
from sde_gen.solver.base import Solver, check_times
from sde_gen.solver.callbacks import Hook, call_hooks
from sde_gen.utils.broadcasting import broadcast_like


@dataclass(frozen=True, kw_only=True)
class ODESolver(Solver):
    r"""Any ODE integrator on the probability flow, in the angle of the linear path or in t.

    With m the ratio ``middle``, the flow of the scaled samples y in the angle u is

    .. math::
        y = \frac{x}{\alpha + \sigma / m}, \qquad \tan^2 u = \frac{\sigma}{m\, \alpha}, \qquad
        \frac{dy}{du} = \sin 2u\, (m\, \hat\epsilon - \hat{x}_0) ,

    where y has the scale of the data from noise to data, and so have its errors. It is smooth from pure noise, where
    alpha may be zero, to data, and the same for every process, as are the steps.

    Adaptive integrators choose their steps between the two ends of the grid; hooks are called after the integration,
    with samples interpolated at the grid's times. Integrators with a fixed number of steps take that number in every
    step of the grid, so ``TorchDiffEq(method="rk4", steps=1)`` steps through the grid.

    Source: Song et al., 2021, arXiv:2011.13456, section 4.3.

    Arguments:
        integrator: the method.
        middle: the ratio m = sigma / alpha in the middle of the path, which scales with the data; None integrates
            dx/dt in t.

    Raises:
        ValueError: middle is not positive.
    """

    integrator: Annotated[Integrator, "integrators are in sde_gen.ode"] = field(
        default_factory=lambda: DormandPrince(first_step=0.1)
    )
    middle: float | None = 0.3
    stochastic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.middle is not None and not 0 < self.middle < math.inf:
            raise ValueError(
                f"middle={self.middle} must be positive; 0.3 suits data of standard deviation 0.5"
            )

    @property
    def batch_coupled(self) -> bool:
        """True if the integrator couples the samples of a batch."""
        return self.integrator.batch_coupled

    def nfe(self, steps: int) -> int | None:
        """Return the evaluations of an integrator with fixed steps; None for adaptive ones."""
        return None if self.integrator.nfe is None else steps * self.integrator.nfe

    def variable(self, sde: SDE) -> FlowVariable:
        """Return the variable of integration."""
        return DiffusionTime(sde) if self.middle is None else AngleVariable(sde, self.middle)

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
        hooks = tuple(hooks)
        if len(x) == 0:
            call_hooks(hooks, times, [x] * len(times))
            return x
        variable = self.variable(model.sde)
        knots = times[[0, -1]] if self.integrator.adaptive and not hooks else times
        u, scale = variable.from_time(knots), variable.coefficients(knots).scale
        flow = VelocityField(model, variable, u[[0, -1]], times[[0, -1]], torch.arange(len(x)))
        states = self.integrator.trajectory(flow, (x / scale[0],), u)
        samples = [x, *(s * y for s, (y,) in zip(scale[1:], states[1:], strict=True))]
        if hooks:
            call_hooks(hooks, times, samples)
        end: Tensor = samples[-1]
        return end


@dataclass(frozen=True)
class VelocityField(Field):
    """The probability flow dy/du of the scaled samples y in a variable u.

    Arguments:
        model: the denoiser.
        variable: the variable of integration.
        u: its values at the ends of the integration with shape (2,).
        t: the times there with shape (2,), used exactly.
        index: indices of the samples in the batch with shape (b,), for messages.
    """

    model: Denoiser
    variable: FlowVariable
    u: Tensor
    t: Tensor
    index: Tensor

    def __call__(self, t: Tensor, y: State) -> State:
        """Return the velocity with shape (b, *event) at values of the variable with shape () or (b,)."""
        time = self.time(t)
        rates = self.variable.coefficients(time)
        prediction = self.model(broadcast_like(rates.scale, y[0]) * y[0], time)
        x0, eps = prediction.x0, prediction.eps
        velocity = broadcast_like(rates.x0, x0) * x0 + broadcast_like(rates.eps, eps) * eps
        if not bool(torch.isfinite(velocity).all()):
            wrong = (~torch.isfinite(velocity.flatten(1))).any(1).cpu()
            first = float(time[wrong][0]) if time.ndim else float(time)
            raise FloatingPointError(
                f"the velocity is not finite at t={first:.6g} in samples {self.index[wrong].tolist()[:8]}; are the "
                "samples there, and the denoiser's output, or did it return NaN?"
            )
        return (velocity,)

    def time(self, u: Tensor) -> Tensor:
        """Return the times at values of the variable, those of the ends without rounding."""
        inner = self.variable.to_time(u).clamp(self.t.min(), self.t.max())
        return torch.where(u == self.u[0], self.t[0], torch.where(u == self.u[1], self.t[1], inner))

    def select(self, index: Tensor, count: int) -> "VelocityField":
        """Return the flow of some samples."""
        return replace(self, model=self.model.select(index, count), index=index)


def dormand_prince(
    rtol: float = 1e-5, atol: float = 1e-5, max_steps: int = 1000, middle: float = 0.3
) -> ODESolver:
    """Return the solver that version 0.1 stored as ``DormandPrince``."""
    pair = DormandPrince(rtol=rtol, atol=atol, max_steps=max_steps, first_step=0.1)
    return ODESolver(integrator=pair, middle=middle)


def bogacki_shampine(
    rtol: float = 1e-4, atol: float = 1e-4, max_steps: int = 1000, middle: float = 0.3
) -> ODESolver:
    """Return the solver that version 0.1 stored as ``BogackiShampine``."""
    pair = BogackiShampine(rtol=rtol, atol=atol, max_steps=max_steps, first_step=0.1)
    return ODESolver(integrator=pair, middle=middle)


def scipy_ode(method: str = "RK45", rtol: float = 1e-5, atol: float = 1e-5) -> ODESolver:
    """Return the solver that version 0.1 stored as ``ScipyODE``."""
    return ODESolver(integrator=ScipyODE(method=method, rtol=rtol, atol=atol), middle=None)


def torch_diffeq(method: str = "dopri5", rtol: float = 1e-5, atol: float = 1e-5) -> ODESolver:
    """Return the solver that version 0.1 stored as ``TorchDiffEq``."""
    steps = 1 if method in FIXED else None
    pair = TorchDiffEq(method=method, rtol=rtol, atol=atol, steps=steps, first_step=None)
    return ODESolver(integrator=pair, middle=None)
