"""Solvers that take one step of an explicit Runge-Kutta method per step of the grid."""

import abc
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.ode.tableau import Tableau
from sde_gen.ode.time_variable import FlowVariable
from sde_gen.sde.base import SDE
from sde_gen.solver._stages import SinglestepSolver, Stage


class RungeKuttaSolver(SinglestepSolver):
    """An explicit Runge-Kutta method on the probability flow in a time variable."""

    tableau: ClassVar[Tableau]

    @abc.abstractmethod
    def clock(self, sde: SDE) -> FlowVariable:
        """The variable in which the steps are taken."""

    def prepare(self, sde: SDE, times: Tensor) -> list[list[Stage]]:
        """Return the stages of every step."""
        clock, (c, a, b) = self.clock(sde), self.tableau
        u = clock.read(times)
        h = u.diff()
        ends = {0.0: times[:-1], 1.0: times[1:]}  # exact, without rounding by u
        evaluated = torch.stack(
            [ends[node] if node in ends else clock.time(u[:-1] + node * h) for node in c], dim=1
        )
        scale, x0, eps = (part.reshape(evaluated.shape) for part in clock.rates(evaluated.flatten()))
        after = torch.cat([scale[:, 1:], clock.rates(times[1:]).scale.unsqueeze(1)], dim=1)
        x_coef, weight = after / scale[:, :1], h.unsqueeze(1) * after
        columns = zip(*(part.flatten().tolist() for part in (x0, eps, x_coef, weight)), strict=True)
        stages = [
            Stage(t, x0, eps, x_coef, [weight * part for part in row])
            for t, (x0, eps, x_coef, weight), row in zip(
                evaluated.flatten().unbind(), columns, (*a, b) * len(h), strict=True
            )
        ]
        return [stages[n : n + len(c)] for n in range(0, len(stages), len(c))]
