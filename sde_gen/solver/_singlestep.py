"""Exponential Runge-Kutta methods by polynomials through their stages, the base of singlestep DPM-Solvers."""

from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.sde.base import SDE
from sde_gen.solver._integrals import FlowIntegral, X0Integral
from sde_gen.solver._stages import SinglestepSolver, Stage


class ExponentialSolver(SinglestepSolver):
    r"""A singlestep method, exact where the predicted clean sample, or noise, is a polynomial.

    Every stage is an exact step (:class:`~sde_gen.solver.FlowIntegral`) for the polynomial through some of the
    predictions before. Stages lie at given fractions of the step in lam = log(alpha / sigma); on a grid with
    alpha = 0, where lam is infinite and its steps do not become short, in ``e^lam`` for alpha < sigma.

    Sources: Lu et al., 2022, arXiv:2211.01095, section 4; Hochbruck and Ostermann, 2010, Exponential integrators, Acta
    Numerica 19, section 2.3.

    Attributes:
        integral: data prediction, or noise prediction.
        fractions: where the stages after the first lie, between 0 and 1.
        through: the stages whose predictions the polynomial goes through, for every stage after the first and
            for the step.
    """

    integral: ClassVar[type[FlowIntegral]] = X0Integral
    fractions: ClassVar[tuple[float, ...]]
    through: ClassVar[tuple[tuple[int, ...], ...]]

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError for grids on which the integral does not exist."""
        self.integral.check(type(self).__name__, model, times)

    def prepare(self, sde: SDE, times: Tensor) -> list[list[Stage]]:
        """Return the stages of every step."""
        count = len(self.through)
        evaluated = torch.stack(
            [times[:-1], *(between(sde, times, r) for r in self.fractions)], dim=1
        ).flatten()
        integral = self.integral(sde, torch.cat([evaluated, times[-1:]]))
        start = torch.arange(0, len(evaluated), count)
        steps: list[list[Stage]] = [[] for _ in start]
        for k, sources in enumerate(self.through):
            end = start + k + 1
            nodes = start.unsqueeze(-1) + torch.tensor(sources)
            weights = torch.zeros(len(start), k + 1, dtype=torch.float64)
            weights[:, list(sources)] = integral.weights(start, end, nodes)
            rows = zip(
                evaluated[start + k], integral.x_coef(start, end).tolist(), weights.tolist(), strict=True
            )
            for stages, (t, x_coef, row) in zip(steps, rows, strict=True):
                stages.append(Stage(t, *self.integral.combination, x_coef, row))
        return steps


def between(sde: SDE, times: Tensor, r: float) -> Tensor:
    """Times at the fraction r of every step in lam, or in e^lam next to where that is zero."""
    lam = 0.5 * sde.log_snr(times)
    t, s = lam[:-1], lam[1:]
    lam_r = t + r * (s - t)
    if bool(lam.isinf().any()):
        noisy = torch.minimum(t, s) < 0
        lam_r = torch.where(noisy, torch.log(t.exp() + r * (s.exp() - t.exp())), lam_r)
    return sde.t_from_log_snr(2 * lam_r)
