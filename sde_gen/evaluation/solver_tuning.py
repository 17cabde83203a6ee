"""Search for the solver, grid and steps with the smallest error on a given denoiser."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.grid import Angle, Grid
from sde_gen.noise import PerSample
from sde_gen.sde import SDE
from sde_gen.solver import Solver, StepSolver, StraightAdams
from sde_gen.solver.callbacks import StopOnNaN
from sde_gen.utils.arguments import Checked
from sde_gen.utils.types import Shape


class SolverSetting(NamedTuple):
    """A setting to try.

    Arguments:
        solver: name of the solver.
        grid: name of the grid.
        method: the solver.
        times: the times, float64 with shape (steps + 1,).
    """

    solver: str
    grid: str
    method: StepSolver[Any]
    times: Tensor

    @property
    def steps(self) -> int:
        """Number of steps of the grid."""
        return len(self.times) - 1

    @property
    def nfe(self) -> int:
        """Evaluations of the denoiser, without the last one that leads to clean samples."""
        return self.method.nfe(self.steps)


def candidate_settings(
    sde: SDE, solvers: Mapping[str, Solver], grids: Mapping[str, Grid], nfe: int
) -> Iterator[SolverSetting]:
    """All solvers on all grids, with as many steps as the evaluations allow.

    Arguments:
        sde: the process.
        solvers: deterministic solvers that step, by name; one that cannot take a step is left out.
        grids: rules for times, by name.
        nfe: number of evaluations, without the final denoising step.

    Raises:
        ValueError: a solver draws noise or does not step, or a grid does not support the number of steps.
    """
    for name, solver in solvers.items():
        if solver.stochastic or solver.nfe(1) is None:
            raise ValueError(
                f"{name} is stochastic or adaptive; tuning needs deterministic solvers with fixed steps"
            )
        method = cast(StepSolver[Any], solver)
        steps = max((n for n in range(1, nfe + 1) if method.nfe(n) <= nfe), default=0)
        for grid, rule in grids.items() if steps else ():
            yield SolverSetting(name, grid, method, rule(sde, steps))


class TuningReference(NamedTuple):
    """Reference solution of the probability flow for a batch.

    Arguments:
        x: clean samples with shape (B, *event).
        error: their median error per dimension, by the distance to a solution in half as many steps.
        steps: number of steps taken.
    """

    x: Tensor
    error: float
    steps: int


@dataclass(kw_only=True)
class Tuner(Checked):
    r"""Measure settings by the clean samples that they make of the same noise, against those of the exact flow.

    Grids may begin and end at different times. So every setting is taken to the end, by the step that the sampler
    takes there, :math:`E[x_0 | x_t]` at the last time, and one reference stands for all: the probability flow from
    the noisiest first time to the cleanest last time of all settings, in ever more steps, and the same step from
    there. A grid that ends early pays with the error of a long last step, one that begins late with the signal
    that its first noise lacks.

    The error of a sample is the root mean square over its dimensions, in model space; settings are compared by the
    median over samples, which single samples that end in another mode do not move. Over all samples it is the
    error of one coupling of two distributions, and so bounds their Wasserstein distance from above.

    Arguments:
        denoiser: the model, conditioning bound.
        shape: event shape of a sample.
        settings: all that are to be compared.
        seeds: one seed per sample.
        device: where to work.
        tol: the reference's error per dimension at which to stop refining it.
        most_steps: the reference's steps at which to stop in any case.
        progress: called after every solution of a batch.

    Raises:
        ValueError: there is no setting, or a solver cannot work on the process and its grid.
    """

    denoiser: Denoiser
    shape: Shape
    settings: Sequence[SolverSetting]
    seeds: Sequence[int]
    device: torch.device | str = "cpu"
    tol: float = 1e-5
    most_steps: int = 1600
    progress: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        if not self.settings:
            raise ValueError("settings=[]: give at least one to compare")
        for setting in self.settings:
            setting.method.check(self.denoiser, setting.times)

    @cached_property
    def reference(self) -> TuningReference:
        """The exact flow, by a method of order 3 in 50, 100, ... steps of equal angle."""
        sde, steps = self.denoiser.sde, 50
        first = torch.stack([setting.times[0] for setting in self.settings]).max()
        last = torch.stack([setting.times[-1] for setting in self.settings]).min()

        def solution() -> Tensor:
            times = Angle().times(sde, first, last, torch.linspace(0, 1, steps + 1, dtype=torch.float64))
            times[0], times[-1] = first, last
            return self._clean(StraightAdams(), times)

        x, error = solution(), float("inf")
        while error > self.tol and steps < self.most_steps:
            steps *= 2
            finer = solution()
            error, x = float(_distance(finer, x).median()), finer
        return TuningReference(x, error, steps)

    def errors(self, setting: SolverSetting) -> Tensor:
        """Errors per dimension of the clean samples, float64 with shape (B,).

        Raises:
            FloatingPointError: a sample is not finite.
        """
        return _distance(self._clean(setting.method, setting.times), self.reference.x)

    def optimize(self, setting: SolverSetting, rounds: int = 3) -> SolverSetting:
        """Move the inner times of a setting, one after the other, as long as the error falls.

        A time moves by a fraction of its distance to its neighbor, in either direction; the fraction is halved
        where neither direction helps. The error is the mean logarithm over samples. Every trial solves the batch
        once: rounds times (steps - 1) times up to two of them.

        Arguments:
            setting: initial setting.
            rounds: how often every time has its turn.

        Returns:
            The setting with its grid called ``listed``; as it was where no move helps.
        """
        times, least = setting.times, self._cost(setting)
        reach = torch.full_like(times, 0.4)
        for _ in range(rounds):
            for i in range(1, setting.steps):
                for direction in (1, -1):
                    moved = times.clone()
                    moved[i] += reach[i] * (times[i + direction] - times[i])
                    cost = self._cost(setting._replace(times=moved))
                    if cost < least:
                        times, least = moved, cost
                        break
                else:
                    reach[i] /= 2
        return setting if times is setting.times else setting._replace(grid="listed", times=times)

    def _cost(self, setting: SolverSetting) -> float:
        return float(self.errors(setting).clamp(min=1e-12).log().mean())

    @torch.no_grad()
    def _clean(self, solver: StepSolver[Any], times: Tensor) -> Tensor:
        """Clean samples, from the same noise at every call."""
        noise = PerSample(self.seeds)
        start = torch.empty(len(self.seeds), *self.shape, device=self.device)
        x = float(self.denoiser.sde.sigma(times[0])) * noise.normal(start)
        x = solver.solve(self.denoiser, x, times, noise=noise, hooks=[StopOnNaN()])
        x = self.denoiser(x, times[-1]).x0
        self.progress()
        return x


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).double().flatten(1).square().mean(1).sqrt().cpu()
