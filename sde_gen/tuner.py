"""Find the solver, grid and number of steps that err least on a denoiser at hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen._typing import Shape
from sde_gen.denoiser.base import Denoiser
from sde_gen.grid import Grid, ListedLogSNRs
from sde_gen.hooks import StopOnNaN
from sde_gen.noise import PerSample
from sde_gen.solver import DPMSolverPP3M, StepSolver


class Candidate(NamedTuple):
    """A setting to try.

    Arguments:
        solver: name of the solver.
        grid: name of the grid.
        steps: number of its steps.
        nfe: evaluations of the denoiser, without the last step to clean samples.
        times: the times, float64 with shape (steps + 1,).
    """

    solver: str
    grid: str
    steps: int
    nfe: int
    times: Tensor


class Reference(NamedTuple):
    """Where the probability flow takes a batch.

    Arguments:
        x: samples at the last time with shape (B, *event).
        error: their median error per dimension, by the difference to a solution in half as many steps.
        steps: number of steps taken.
    """

    x: Tensor
    error: float
    steps: int


@dataclass(kw_only=True)
class Tuner:
    r"""Measure settings by where they take the same noise, against a converged solution of the probability flow.

    The error of a sample is the root mean square over its dimensions, in model space; settings are compared by the
    median over samples, which single samples that end in another mode do not move.

    Arguments:
        denoiser: the model, conditioning bound.
        shape: event shape of a sample.
        solvers: deterministic solvers that step, by name.
        grids: rules for times, by name.
        seeds: one seed per sample.
        device: where to work.
        progress: told after every solution of a batch.

    Raises:
        ValueError: a solver draws noise or does not step.
    """

    denoiser: Denoiser
    shape: Shape
    solvers: Mapping[str, StepSolver]  # type: ignore[type-arg]
    grids: Mapping[str, Grid]
    seeds: Sequence[int]
    device: torch.device | str = "cpu"
    progress: Callable[[], None] = lambda: None
    _references: dict[tuple[float, float], Reference] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        for name, solver in self.solvers.items():
            if solver.stochastic or not hasattr(solver, "step"):
                raise ValueError(f"{name} draws noise or chooses its own steps; a tuner compares others")

    def candidates(self, nfe: int) -> list[Candidate]:
        """All solvers on all grids, with as many steps as the evaluations allow."""
        found = []
        for name, solver in self.solvers.items():
            steps = max((n for n in range(1, nfe + 1) if solver.nfe(n) <= nfe), default=0)
            for grid, rule in self.grids.items() if steps else ():
                times = rule(self.denoiser.sde, steps)
                found.append(Candidate(name, grid, steps, solver.nfe(steps), times))
        return found

    def errors(self, candidate: Candidate) -> Tensor:
        """Errors per dimension of the samples' ends, float64 with shape (B,).

        Raises:
            ValueError: the solver cannot work on the process and grid.
            FloatingPointError: a sample is not finite.
        """
        reference = self.reference(candidate.times)
        x = self._solve(self.solvers[candidate.solver], candidate.times)
        return _distance(x, reference.x)

    def reference(self, times: Tensor, tol: float = 1e-5) -> Reference:
        """The flow between the ends of a grid, by a method of order 3 in ever more steps.

        Arguments:
            times: the grid.
            tol: median error per dimension at which to stop; after 1,600 steps the last solution is taken.
        """
        ends = float(times[0]), float(times[-1])
        if ends not in self._references:
            log_snrs = [float(self.denoiser.sde.log_snr(t)) for t in times[[0, -1]]]
            fine = [
                max(log_snrs[0], log_snrs[1] - 40),
                log_snrs[1],
            ]  # where there is no signal, from a little later
            steps, x, error = 100, None, float("inf")
            while error > tol and steps <= 1600:
                inner = self.denoiser.sde.t_from_log_snr(
                    torch.linspace(fine[0], fine[1], steps + 1, dtype=torch.float64)
                )
                inner[0], inner[-1] = times[0], times[-1]
                finer = self._solve(DPMSolverPP3M(), inner)
                error = float("inf") if x is None else float(_distance(finer, x).median())
                x, steps = finer, 2 * steps
            assert x is not None
            self._references[ends] = Reference(x, error, steps // 2)
        return self._references[ends]

    def optimise(self, candidate: Candidate, rounds: int = 3) -> Candidate:
        """Move the inner times of a setting, one after the other, as long as the error falls.

        A time moves by a fraction of its distance to its neighbour in log-SNR, in either direction; the fraction is
        halved where neither direction helps. The error is the mean logarithm over samples. Every trial solves the batch
        once: rounds times (steps - 1) times up to three of them.

        Arguments:
            candidate: the setting to begin with.
            rounds: how often every time has its turn.
        """
        knots = self.denoiser.sde.log_snr(candidate.times)
        reach = torch.full_like(knots, 0.4)
        best = self._cost(candidate, knots)
        for _ in range(rounds):
            for i in range(1, len(knots) - 1):
                for way in (1, -1):
                    moved = knots.clone()
                    moved[i] += way * reach[i] * (knots[i + way] - knots[i]).abs()
                    cost = self._cost(candidate, moved)
                    if cost < best:
                        knots, best = moved, cost
                        break
                else:
                    reach[i] /= 2
        grid = ListedLogSNRs(log_snrs=tuple(knots.tolist()))
        return candidate._replace(grid="listed_log_snrs", times=grid(self.denoiser.sde, candidate.steps))

    def _cost(self, candidate: Candidate, knots: Tensor) -> float:
        times = self.denoiser.sde.t_from_log_snr(knots)
        times[0], times[-1] = candidate.times[0], candidate.times[-1]
        return float(self.errors(candidate._replace(times=times)).clamp(min=1e-12).log().mean())

    @torch.no_grad()
    def _solve(self, solver: StepSolver, times: Tensor) -> Tensor:  # type: ignore[type-arg]
        noise = PerSample(self.seeds)  # the same start at every call
        start = torch.empty(len(self.seeds), *self.shape, device=self.device)
        x = float(self.denoiser.sde.sigma(times[0])) * noise.fresh(start)
        x = solver.solve(self.denoiser, x, times, noise=noise, hooks=[StopOnNaN()])
        self.progress()
        return x


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).double().flatten(1).square().mean(1).sqrt().cpu()
