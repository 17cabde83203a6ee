"""Errors of solvers on a given denoiser, per sample, on any grids."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sde_gen.data.codec import Codec, OutOfRange
from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Brownian
from sde_gen.sde import SDE
from sde_gen.solver import DPMSolverPP3M, Solver
from sde_gen.solver.callbacks import NFECounter, StopOnNaN
from sde_gen.utils.arguments import Checked
from sde_gen.utils.types import Shape

TimeInterval = tuple[float, float]
"""First and last time of a grid."""

DEPTH = 20
"""Depth of the Brownian paths: a million equal steps."""


class ReferenceSolution(NamedTuple):
    """A fine solution.

    Arguments:
        x: samples at the last time with shape (B, *event).
        error: their median error per dimension, by the distance to a solution in half as many steps; None where a
            solver chooses its own.
    """

    x: Tensor
    error: float | None


class SolverErrors(NamedTuple):
    """A solver on a grid.

    Arguments:
        errors: root mean square error per dimension of every sample, model space, float64 with shape (B,); None
            where the noise is fresh, so that no finer solution is nearer to the truth.
        reference_error: that of the reference, as far as it is known.
        nfe: network evaluations per sample.
        seconds: time for all samples.
        outside: values that no data and no noise explain; None if the data's limits are unknown.
    """

    errors: Tensor | None
    reference_error: float | None
    nfe: float
    seconds: float
    outside: OutOfRange | None = None


@dataclass(kw_only=True)
class Comparison(Checked):
    """Measure solvers by where they take the same noise along some grids.

    A deterministic solver is compared with a fine solution of the probability flow, one driven by Brownian paths with
    itself on the same paths in many more steps. Either reference begins and ends where the grid does, which with some
    grids depends on the number of steps.

    Arguments:
        denoiser: the model, conditioning bound.
        network: whose evaluations to count.
        shape: event shape of a sample.
        grids: times of every grid, each float64 with shape (steps + 1,).
        seeds: one seed per sample.
        device: where to work.
        reference: deterministic solver of the flow.
        reference_steps: least number of its steps; without effect on one that chooses its own.
        stochastic_steps: least number of steps of a stochastic solver's reference.
        progress: called with a description before every solution.
        codec: between data and model space, whose limits samples should keep; None to leave that unknown.

    Raises:
        ValueError: the reference solver draws noise.
    """

    denoiser: Denoiser
    network: nn.Module
    shape: Shape
    grids: Sequence[Tensor]
    seeds: Sequence[int]
    device: torch.device | str = "cpu"
    reference: Solver = DPMSolverPP3M()  # noqa: RUF009 (frozen)
    reference_steps: int = 500
    stochastic_steps: int = 256
    progress: Callable[[str], None] = lambda note: None
    codec: Codec | None = None

    def __post_init__(self) -> None:
        if self.reference.stochastic:
            raise ValueError(
                f"reference={self.reference} draws noise; the flow's end needs a deterministic solver"
            )
        self._flow: dict[TimeInterval, ReferenceSolution] = {}

    def check(self, solver: Solver) -> None:
        """Raise ValueError where a solver, or its reference, cannot work on one of the grids."""
        for times in self.grids:
            solver.check(self.denoiser, times)
            self.reference.check(self.denoiser, times)

    def measure(self, solver: Solver) -> Iterator[SolverErrors]:
        """Errors, evaluations and time on every grid.

        Raises:
            ValueError: the solver cannot work on the process and a grid.
            FloatingPointError: a sample is not finite.
        """
        own: dict[TimeInterval, ReferenceSolution] = {}
        for times in self.grids:
            reference = None
            if solver.pathwise:
                known = own if solver.stochastic else self._flow
                if endpoints(times) not in known:
                    self.progress("reference")
                    known[endpoints(times)] = self._fine(solver, endpoints(times))
                reference = known[endpoints(times)]
            self.progress(f"{len(times) - 1} steps")
            with NFECounter(self.network) as counter:
                begin = time.perf_counter()
                x = self.solve(solver, times).cpu()
                seconds = time.perf_counter() - begin
            errors, known_to = (
                (None, None) if reference is None else (_distance(x, reference.x), reference.error)
            )
            outside = None
            if self.codec is not None:
                sigma = float(self.denoiser.sde.sigma(times[-1]))
                outside = OutOfRange.of(x, self.codec, sigma=sigma)
            yield SolverErrors(errors, known_to, counter.samples / len(self.seeds), seconds, outside)

    @torch.no_grad()
    def solve(self, solver: Solver, times: Tensor) -> Tensor:
        """Take the samples of the prior along a grid: samples at its last time with shape (B, *event)."""
        noise = Brownian(self.seeds, depth=DEPTH)  # the same start and path at every call
        start = torch.empty(len(self.seeds), *self.shape, device=self.device)
        x = float(self.denoiser.sde.sigma(times[0])) * noise.normal(start)
        return solver.solve(self.denoiser, x, times, noise=noise, hooks=[StopOnNaN()])

    def _fine(self, solver: Solver, between: TimeInterval) -> ReferenceSolution:
        """The reference of a solver between two times: on the finest grid that has them as ends, made finer."""
        times = max((grid for grid in self.grids if endpoints(grid) == between), key=len)
        method, steps = (
            (solver, self.stochastic_steps) if solver.stochastic else (self.reference, self.reference_steps)
        )
        if method.nfe(1) is None:
            return ReferenceSolution(self.solve(method, times[[0, -1]]).cpu(), None)
        fine = refine_grid(self.denoiser.sde, times, steps)
        x, coarser = (self.solve(method, grid).cpu() for grid in (fine, fine[::2]))
        return ReferenceSolution(x, float(_distance(x, coarser).median()))


def endpoints(times: Tensor) -> TimeInterval:
    """First and last time of a grid."""
    return float(times[0]), float(times[-1])


def refine_grid(sde: SDE, times: Tensor, steps: int) -> Tensor:
    r"""Cut every step of a grid into parts, an even number of at least four.

    The parts are equal in :math:`\mathrm{arsinh}(\alpha / \sigma)`: half the log-SNR near the data, and finite where
    there is only noise.

    Arguments:
        sde: the process.
        times: descending times with shape (n + 1,).
        steps: least number of steps of the result.

    Returns:
        Times with shape (parts n + 1,), the given ones among them.
    """
    count = len(times) - 1
    parts = max(4, 2 * math.ceil(steps / count / 2))
    place = torch.asinh(torch.exp(0.5 * sde.log_snr(times)))
    fraction = torch.arange(parts, dtype=torch.float64) / parts
    places = torch.cat([(place[:-1, None] + place.diff()[:, None] * fraction).flatten(), place[-1:]])
    fine = sde.t_from_log_snr(2 * torch.log(torch.sinh(places)))
    fine[::parts] = times
    return fine


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).double().flatten(1).square().mean(1).sqrt()
