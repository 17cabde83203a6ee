"""Explicit Runge-Kutta methods on the probability flow: Euler, midpoint, Heun, and the classical method of order 4."""

import abc
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.ode.tableau import RUNGE_KUTTA_4, Tableau
from sde_gen.ode.time_variable import AngleVariable, DiffusionTime, FlowVariable
from sde_gen.sde.base import SDE
from sde_gen.solver._stages import SinglestepSolver, Stage


class RungeKuttaSolver(SinglestepSolver):
    """An explicit Runge-Kutta method on the probability flow in a time variable."""

    tableau: ClassVar[Tableau]

    @abc.abstractmethod
    def time_variable(self, sde: SDE) -> FlowVariable:
        """The variable in which the steps are taken."""

    def prepare(self, sde: SDE, times: Tensor) -> list[list[Stage]]:
        """Return the stages of every step."""
        variable, (c, a, b) = self.time_variable(sde), self.tableau
        u = variable.from_time(times)
        h = u.diff()
        ends = {0.0: times[:-1], 1.0: times[1:]}  # exact, without rounding by u
        evaluated = torch.stack(
            [ends[node] if node in ends else variable.to_time(u[:-1] + node * h) for node in c], dim=1
        )
        scale, x0, eps = (
            part.reshape(evaluated.shape) for part in variable.coefficients(evaluated.flatten())
        )
        after = torch.cat([scale[:, 1:], variable.coefficients(times[1:]).scale.unsqueeze(1)], dim=1)
        x_coef, weight = after / scale[:, :1], h.unsqueeze(1) * after
        columns = zip(*(part.flatten().tolist() for part in (x0, eps, x_coef, weight)), strict=True)
        stages = [
            Stage(t, x0, eps, x_coef, [weight * part for part in row])
            for t, (x0, eps, x_coef, weight), row in zip(
                evaluated.flatten().unbind(), columns, (*a, b) * len(h), strict=True
            )
        ]
        return [stages[n : n + len(c)] for n in range(0, len(stages), len(c))]


@dataclass(frozen=True, kw_only=True)
class Euler(RungeKuttaSolver):
    r"""Follow the probability flow's velocity in time.

    .. math::
        x_s = x_t + (s - t)\, d_t, \qquad d_t = \alpha'_t \hat{x}_0 + \sigma'_t \hat\epsilon

    The sampler of flow matching. Where alpha and sigma are linear in t, as on the linear path, it is DDIM.

    Source: Euler, 1768; the flow: :class:`~sde_gen.denoiser.ProbabilityFlow`.
    """

    order: ClassVar[int] = 1
    stages: ClassVar[int] = 1
    tableau: ClassVar[Tableau] = Tableau(c=(0,), a=(), b=(1,))

    def time_variable(self, sde: SDE) -> FlowVariable:
        """Return the time t as the variable of integration."""
        return DiffusionTime(sde)


@dataclass(frozen=True, kw_only=True)
class Midpoint(RungeKuttaSolver):
    r"""Take a half step of Euler's method, and a whole step by the velocity at its end.

    With d the velocity of the probability flow, h = s - t and m = t + h / 2,

    .. math::
        u = x_t + \tfrac{h}{2}\, d(x_t, t), \qquad x_s = x_t + h\, d(u, m) .

    The middle is that of time. The "DPM2" of other libraries, which evaluates at the geometric mean of two sigmas
    and uses the slope in sigma, is :class:`~sde_gen.solver.DPMSolver2`.

    Source: Runge, 1895; Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, section II.1.
    """

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2
    tableau: ClassVar[Tableau] = Tableau(c=(0, 1 / 2), a=((1 / 2,),), b=(0, 1))

    def time_variable(self, sde: SDE) -> FlowVariable:
        """Return the time t as the variable of integration."""
        return DiffusionTime(sde)


@dataclass(frozen=True, kw_only=True)
class Heun(RungeKuttaSolver):
    r"""The trapezoidal rule with an Euler predictor, on dx/dt = alpha' x_0 + sigma' eps.

    .. math::
        d_t = v(x_t, t), \quad d_s = v(x_t + (s - t) d_t, s), \quad
        x_s = x_t + \tfrac{1}{2} (s - t) (d_t + d_s)

    The last step is one like the others, since grids end at t_min > 0 where the velocity is finite.

    Source: Karras et al., 2022, arXiv:2206.00364, algorithm 1, in t instead of sigma.
    """

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2
    tableau: ClassVar[Tableau] = Tableau(c=(0, 1), a=((1,),), b=(1 / 2, 1 / 2))

    def time_variable(self, sde: SDE) -> FlowVariable:
        """Return the time t as the variable of integration."""
        return DiffusionTime(sde)


@dataclass(frozen=True, kw_only=True)
class RungeKutta4(RungeKuttaSolver):
    r"""The classical Runge-Kutta method in the angle of the linear path.

    Whatever the process, with m the ratio ``middle``,

    .. math::
        y = \frac{x}{\alpha + \sigma / m}, \qquad \tan^2 u = \frac{\sigma}{m\, \alpha}, \qquad
        \frac{dy}{du} = k(y, u) = \sin 2u\, (m\, \hat\epsilon - \hat{x}_0),

    and with h = u_s - u_t

    .. math::
        k_1 &= k(y_t, u_t), \quad k_2 = k(y_t + \tfrac{h}{2} k_1, u_t + \tfrac{h}{2}), \quad
        k_3 = k(y_t + \tfrac{h}{2} k_2, u_t + \tfrac{h}{2}), \quad k_4 = k(y_t + h k_3, u_s) \\
        y_s &= y_t + \tfrac{h}{6} (k_1 + 2 k_2 + 2 k_3 + k_4) .

    In this variable samples at given ratios sigma / alpha are the same on every process, the order does not depend on
    how smooth alpha and sigma are in time, and a start where alpha is zero is the angle pi / 2 (from there steps even
    in t, whose first ones are long in the angle, give order 3). In t, processes that rush through time near noise,
    such as Karras', cost ten times the error and more.

    Source: Kutta, 1901; Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, table II.1.2.

    Arguments:
        middle: the ratio m = sigma / alpha in the middle of the path; scales with the data.

    Raises:
        ValueError: middle is not positive.
    """

    middle: float = 0.3
    order: ClassVar[int] = 4
    stages: ClassVar[int] = 4
    tableau: ClassVar[Tableau] = RUNGE_KUTTA_4

    def __post_init__(self) -> None:
        if not 0 < self.middle < math.inf:
            raise ValueError(
                f"middle={self.middle} must be positive; 0.3 suits data of standard deviation 0.5"
            )

    def time_variable(self, sde: SDE) -> FlowVariable:
        """Return the angle variable with ``tan^2 u = sigma / (m alpha)``."""
        return AngleVariable(sde, self.middle)
