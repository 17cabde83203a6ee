"""Measured order, bias, moments, batch independence and evaluations of a solver on a process."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sde_gen.denoiser import Denoiser
from sde_gen.evaluation.verification import exact_gaussian, oracles
from sde_gen.noise import PerSample
from sde_gen.sde import SDE
from sde_gen.solver import Solver
from sde_gen.solver.callbacks import NFECounter

SLACK = 0.15
"""Tolerance of the order measured over three doublings, below the declared one."""

COARSE, FINE = (12, 96), (64, 512)
"""Ends of three doublings for deterministic solvers; the second if the first measures less than is declared."""

RANDOM = (16, 128)
"""Ends of three doublings for stochastic solvers, by their exact covariance on Gaussian data."""

LOG_SNR_FIRST, LOG_SNR_LAST, LOG_SNR_LAST_ORDER_0 = -3.0, 4.0, 7.0
"""First and last log-SNR of the grids of stochastic solvers, where g is finite on every process; solvers of order 0
go further."""

CLOSE = -1.4, 4.6
"""First and last log-SNR of grids for solvers that do not support few steps from pure noise."""

BUDGET = 24
"""Evaluations at which the bias is measured."""


@dataclass(frozen=True, kw_only=True)
class SolverReport:
    """Measurements of a solver on a process.

    Arguments:
        solver: name of the solver.
        sde: name of the process.
        parametrization: parametrization of the oracle's predictions; empty for the exact denoiser.
        stochastic: whether the solver draws noise.
        declared: declared global order; None for adaptive step sizes.
        order: measured order, of the end point or of the covariance; infinite where it is exact, NaN for
            adaptive step sizes and other dependence on the samples.
        bias: error at 24 evaluations, or at as many as an adaptive solver takes: root mean square of the end point in
            x / alpha, or norm of the covariance error there.
        mean: error of the mean at the most steps, for stochastic solvers; NaN for others.
        coupling: largest relative difference between a sample solved in a batch and alone; NaN for solvers
            declared ``batch_coupled``.
        nfe: declared and counted evaluations in five steps.
        failures: messages of the failed checks.
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


def verify_solver(
    name: str,
    solver: Solver,
    sde_name: str,
    sde: SDE,
    *,
    parametrization: str = "",
    wrap: Wrap = lambda denoiser: denoiser,
) -> SolverReport:
    """Measure a solver on a process in float64, against exact solutions.

    Arguments:
        name: name of the solver.
        solver: the solver.
        sde_name: name of the process.
        sde: the process.
        parametrization: name of the parametrization that ``wrap`` applies.
        wrap: wrapper of the exact denoisers, such as :class:`ParametrizedOracle`.
    """
    measurement = _Measurement(solver, sde, wrap)
    declared: int | None = getattr(solver, "order", None)
    order = bias = mean = coupling = math.nan
    nfe: tuple[int | None, int] = None, 0
    failures = []
    try:
        if not solver.stochastic:
            order, bias = measurement.flow(declared)
        elif declared is not None:
            order, bias, mean = measurement.gaussian(declared)
        coupling, nfe = measurement.coupling(), measurement.evaluations()
    except (ValueError, FloatingPointError, exact_gaussian.NotAffineError) as error:
        failures.append(str(error))
    if declared and not order >= declared - SLACK:
        failures.append(f"order {order:.2f} instead of {declared}")
    if declared is None and not solver.stochastic and not bias < 1e-3:
        failures.append(f"error {bias:.1e} with adaptive steps, expected below 1e-3")
    if declared == 0 and not math.isfinite(mean):
        failures.append("the covariance is not finite")
    if coupling > 1e-9:
        failures.append(f"result depends on the batch: max difference {coupling:.1e}")
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
class _Measurement:
    """One solver on one process."""

    solver: Solver
    sde: SDE
    wrap: Wrap

    def flow(self, order: int | None) -> tuple[float, float]:
        """Return the order of the end point on the probability flow of a mixture, and the error within the budget."""
        if order is None:
            return math.nan, self._error(1)
        slope = _slope(*(self._error(steps) for steps in COARSE))
        if slope < order - SLACK:
            slope = _slope(*(self._error(steps) for steps in FINE))
        return slope, self._error(self._affordable())

    def gaussian(self, order: int) -> tuple[float, float, float]:
        """Return the order of the covariance on Gaussian data, its error within the budget, and that of the mean."""
        last = LOG_SNR_LAST if order else LOG_SNR_LAST_ORDER_0
        ends = [self._moment_errors(steps, last) for steps in RANDOM]
        return _slope(ends[0][1], ends[1][1]), self._moment_errors(self._affordable(), last)[1], ends[1][0]

    def coupling(self) -> float:
        """Return the largest relative difference of four samples solved together and one by one."""
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
        """Return the declared and the counted evaluations in five steps."""
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
        """Return five steps, between closer ratios where the solver does not support those of the oracles."""
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

    def _moment_errors(self, steps: int, last: float) -> tuple[float, float]:
        log_snr = torch.linspace(LOG_SNR_FIRST, last, steps + 1, dtype=torch.float64)
        times = self.sde.t_from_log_snr(log_snr)
        if last == LOG_SNR_LAST_ORDER_0 and not self._works_on(times):
            return math.nan, math.nan  # a solver of order 0 may need more steps
        model = self.wrap(exact_gaussian.denoiser(self.sde))
        end = exact_gaussian.propagate(self.solver, model, times, exact_gaussian.marginal(self.sde, times[0]))
        return exact_gaussian.moment_errors(self.sde, times[-1], end)


def _slope(first: float, last: float) -> float:
    """Order over three doublings; infinite for errors at the rounding level."""
    if max(first, last) < 1e-10:
        return math.inf
    return math.log2(first / last) / 3 if last > 0 else math.inf
