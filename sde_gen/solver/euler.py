"""Euler's method."""

from dataclasses import dataclass
from typing import ClassVar

from sde_gen.clock import Clock, InTime
from sde_gen.sde.base import SDE
from sde_gen.solver._runge_kutta import RungeKuttaSolver
from sde_gen.tableau import Tableau


@dataclass(frozen=True, kw_only=True)
class Euler(RungeKuttaSolver):
    r"""Follow the probability flow's velocity in time.

    .. math::
        x_s = x_t + (s - t)\, d_t, \qquad d_t = \alpha'_t \hat{x}_0 + \sigma'_t \hat\epsilon

    The sampler of flow matching. Where alpha and sigma are linear in t, as on the straight path, it is DDIM.

    Source: Euler, 1768; the flow: :class:`~sde_gen.dynamics.ProbabilityFlow`.
    """

    order: ClassVar[int] = 1
    stages: ClassVar[int] = 1
    tableau: ClassVar[Tableau] = Tableau(c=(0,), a=(), b=(1,))

    def clock(self, sde: SDE) -> Clock:
        """Time."""
        return InTime(sde)
