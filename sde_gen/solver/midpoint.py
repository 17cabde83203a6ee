"""The midpoint rule."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.clock import Clock, InTime
from sde_gen.sde.base import SDE
from sde_gen.solver._runge_kutta import RungeKuttaSolver
from sde_gen.tableau import Tableau


@dataclass(frozen=True, kw_only=True)
class Midpoint(RungeKuttaSolver):
    r"""Follow the velocity half-way, and go the whole way by the velocity found there.

    With d the velocity of the probability flow, h = s - t and m = t + h / 2,

    .. math::
        u = x_t + \tfrac{h}{2}\, d(x_t, t), \qquad x_s = x_t + h\, d(u, m) .

    The middle is that of time. The "DPM2" of other libraries, which asks in the geometric mean of two sigmas and goes
    by the slope in sigma, is :class:`~sde_gen.solver.dpm_solver_2.DPMSolver2`.

    Source: Runge, 1895; Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, section II.1.
    """

    order: ClassVar[int] = 2
    stages: ClassVar[int] = 2
    tableau: ClassVar[Tableau] = Tableau(c=(0, 1 / 2), a=((1 / 2,),), b=(0, 1))

    def clock(self, sde: SDE) -> Clock:
        """Time."""
        return InTime(sde)
