"""Certificates: measured order, bias, law, batch independence and evaluations of a solver on a process."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sde_gen.denoiser import Denoiser
from sde_gen.evaluation.certificate import law, oracles
from sde_gen.noise import PerSample
from sde_gen.sde import SDE
from sde_gen.solver import Solver
from sde_gen.solver.callbacks import NFECounter

SLACK = 0.15
"""How far a slope over three doublings may lie below the declared order."""

COARSE, FINE = (12, 96), (64, 512)
"""Ends of three doublings for deterministic solvers; the second where the first shows less than is declared."""

RANDOM = (16, 128)
"""Ends of three doublings for stochastic solvers, judged by their exact covariance on Gaussian data."""

FIRST, MEETING, LATE = -3.0, 4.0, 7.0
"""First and last log-SNR of stochastic solvers' grids: there noise and signal meet, and g is finite on every
process. Solvers of order 0, which have ranges of their own, go further."""

CLOSE = -1.4, 4.6
"""First and last log-SNR of grids for solvers that refuse few steps from pure noise."""

BUDGET = 24
"""Evaluations at which the bias is given."""


@dataclass(frozen=True, kw_only=True)
class SolverReport:
    """What was measured of a solver on a process.

    Arguments:
        solver: its name.
        sde: name of the process.
        parametrization: what the predictions went through; empty for the exact denoiser itself.
        stochastic: whether it draws noise.
        declared: declared global order; None for a solver that chooses its own steps.
        order: measured order, of the end point or of the covariance; infinite where it is exact, NaN where the solver
            chooses its own steps or depends on the samples otherwise.
        bias: error at 24 evaluations, or as many as the solver chooses: root mean square of the end point in x / alpha,
            or the norm of the covariance's error there.
        mean: error of the mean at the most steps, for stochastic solvers; NaN for others.
        coupling: largest change of a sample when it is alone; NaN where the solver says that it couples them.
        nfe: evaluations in five steps that are declared, and that were counted.
        failures: what does not hold.
    """

    solver: str
    sde: str
    parametrization: str
    stochastic: bool
    declared: int | None
    order: float
    bias: float
    mean: float
    coupling: float
    nfe: tuple[int | None, int]
    failures: list[str] = field(default_factory=list)


Wrap = Callable[[Denoiser], Denoiser]


def certify(
    name: str,
    solver: Solver,
    sde_name: str,
    sde: SDE,
    *,
    parametrization: str = "",
    wrap: Wrap = lambda denoiser: denoiser,
) -> SolverReport:
    """Measure a solver on a process, in float64 against exact answers.

    Arguments:
        name: the solver's name.
        solver: the solver.
        sde_name: the process' name.
        sde: the process.
        parametrization: name of what ``wrap`` puts around exact denoisers.
        wrap: puts it there.
    """
    judge = _Judge(solver, sde, wrap)
    declared: int | None = getattr(solver, "order", None)
    order = bias = mean = coupling = math.nan
    nfe: tuple[int | None, int] = None, 0
    failures = []
    try:
        if not solver.stochastic:
            order, bias = judge.flow(declared)
        elif declared is not None:
            order, bias, mean = judge.law(declared)
        coupling, nfe = judge.coupling(), judge.evaluations()
    except (ValueError, FloatingPointError, law.NotAffine) as error:
        failures.append(str(error))
    if declared and not order >= declared - SLACK:
        failures.append(f"order {order:.2f} instead of {declared}")
    if declared is None and not solver.stochastic and not bias < 1e-3:
        failures.append(f"error {bias:.1e} with steps of its own, expected below 1e-3")
    if declared == 0 and not math.isfinite(mean):
        failures.append("the law is not finite")
    if coupling > 1e-9:
        failures.append(f"a sample alone is another by {coupling:.1e}")
    if nfe[0] is not None and nfe[0] != nfe[1]:
        failures.append(f"{nfe[0]} evaluations declared, {nfe[1]} counted")
    return SolverReport(
        solver=name,
        sde=sde_name,
        parametrization=parametrization,
        stochastic=solver.stochastic,
        declared=declared,
        order=order,
        bias=bias,
        mean=mean,
        coupling=coupling,
        nfe=nfe,
        failures=failures,
    )


@dataclass(frozen=True)
class _Judge:
    """One solver on one process."""

    solver: Solver
    sde: SDE
    wrap: Wrap

    def flow(self, order: int | None) -> tuple[float, float]:
        """Order of the end point on the probability flow of a mixture, and the error within the budget."""
        if order is None:
            return math.nan, self._error(1)
        slope = _slope(*(self._error(steps) for steps in COARSE))
        if slope < order - SLACK:
            slope = _slope(*(self._error(steps) for steps in FINE))
        return slope, self._error(self._affordable())

    def law(self, order: int) -> tuple[float, float, float]:
        """Order of the covariance on Gaussian data, its error within the budget, and that of the mean."""
        last = MEETING if order else LATE
        ends = [self._law(steps, last) for steps in RANDOM]
        return _slope(ends[0][1], ends[1][1]), self._law(self._affordable(), last)[1], ends[1][0]

    def coupling(self) -> float:
        """Largest change of four samples when each is alone."""
        if self.solver.batch_coupled:
            return math.nan
        times = self._few_times()
        x = oracles.to_x(self.sde, oracles.starts(), times[0])[:4]
        model = self.wrap(oracles.denoiser(self.sde))

        def solve(rows: Tensor, seeds: list[int]) -> Tensor:
            return self.solver.solve(model, rows, times, noise=PerSample(seeds))

        together = solve(x, [0, 1, 2, 3])
        alone = torch.cat([solve(x[i : i + 1], [i]) for i in range(4)])
        return float((alone - together).abs().max() / together.abs().max())

    def evaluations(self) -> tuple[int | None, int]:
        """Declared and counted in five steps."""
        times = self._few_times()
        model = self.wrap(oracles.denoiser(self.sde))
        x = oracles.to_x(self.sde, oracles.starts(), times[0])[:2]
        with NFECounter(model) as counter:
            self.solver.solve(model, x, times, noise=PerSample([0, 1]))
        return self.solver.nfe(5), counter.calls

    def _affordable(self) -> int:
        return max((n for n in range(1, BUDGET + 1) if (self.solver.nfe(n) or 0) <= BUDGET), default=1)

    def _times(self, steps: int) -> Tensor:
        return oracles.ratio_times(self.sde, steps)

    def _few_times(self) -> Tensor:
        """Return five steps, between closer ratios where the solver refuses those of the oracles."""
        times = self._times(5)
        if self._works_on(times):
            return times
        return self.sde.t_from_log_snr(torch.linspace(*CLOSE, 6, dtype=torch.float64))

    def _works_on(self, times: Tensor) -> bool:
        try:
            self.solver.check(self.wrap(oracles.denoiser(self.sde)), times)
        except ValueError:
            return False
        return True

    def _error(self, steps: int) -> float:
        times, model = self._times(steps), self.wrap(oracles.denoiser(self.sde))
        x = oracles.to_x(self.sde, oracles.starts(), times[0])
        x = self.solver.solve(model, x, times, noise=PerSample(range(len(x))))
        return float(np.sqrt(np.mean((oracles.to_z(self.sde, x, times[-1]) - oracles.ends()) ** 2)))

    def _law(self, steps: int, last: float) -> tuple[float, float]:
        log_snr = torch.linspace(FIRST, last, steps + 1, dtype=torch.float64)
        times = self.sde.t_from_log_snr(log_snr)
        if last == LATE and not self._works_on(times):
            return math.nan, math.nan  # a solver of order 0 may need more steps
        model = self.wrap(law.denoiser(self.sde))
        end = law.through(self.solver, model, times, law.marginal(self.sde, times[0]))
        return law.gap(self.sde, times[-1], end)


def _slope(first: float, last: float) -> float:
    """Order over three doublings; errors at rounding are those of an exact method."""
    if max(first, last) < 1e-10:
        return math.inf
    return math.log2(first / last) / 3 if last > 0 else math.inf
