"""The abstract solver, and the one loop of all solvers that step."""

import abc
from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Any, Generic, TypeVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import NO_NOISE, Noise
from sde_gen.solver.callbacks import Hook, StepInfo
from sde_gen.utils.arguments import Checked

State = TypeVar("State")


class Solver(Checked, abc.ABC):
    """What moves samples along a time grid.

    A subclass declares the properties below as class variables, or computes them from its arguments.
    """

    @property
    @abc.abstractmethod
    def stochastic(self) -> bool:
        """Whether it draws noise; only solvers that do not have a likelihood."""

    @property
    def batch_coupled(self) -> bool:
        """Whether a sample depends on the others of its batch."""
        return False

    @property
    def pathwise(self) -> bool:
        """Whether a Brownian path alone decides over a sample, so that more steps bring it ever closer to a limit.

        Not so where noise is fresh, not the path's: there other steps mean another sample of the same law, or the
        limit is not the process', and the distance to a fine solution says nothing of the solver.
        """
        return True

    @abc.abstractmethod
    def solve(
        self,
        model: Denoiser,
        x: Tensor,
        times: Tensor,
        *,
        noise: Noise = NO_NOISE,
        hooks: Iterable[Hook] = (),
    ) -> Tensor:
        """Move samples from the first time to the last.

        Arguments:
            model: the denoiser, conditioning bound.
            x: samples at times[0] with shape (B, *event).
            times: monotone times, float64 on the CPU with shape (steps + 1,).
            noise: source of noise; deterministic solvers need none.
            hooks: called after every step.

        Returns:
            Samples at times[-1] with shape (B, *event).
        """

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError where the solver cannot work on this process and grid."""
        del model, times

    def nfe(self, steps: int) -> int | None:
        """Number of evaluations of the denoiser in so many steps; None where the samples decide."""
        del steps
        return None


class StepSolver(Solver, Generic[State]):
    """A solver that goes step by step with a state of its own: a frozen dataclass of hyper-parameters."""

    @property
    @abc.abstractmethod
    def order(self) -> int:
        """Global order of convergence, the start of multistep methods included.

        For stochastic solvers the order of the mean and the covariance (weak order).
        """

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> State | Any:
        """Make the state before the first step; None for solvers without one."""
        del model, x, times
        return None

    def reinit(self, model: Denoiser, x: Tensor, times: Tensor, state: State) -> State | Any:
        """Make the state before a step from samples that are not what the last step returned.

        Whoever projects, noises or otherwise replaces samples between steps calls it. What a state holds of other
        samples, such as the past evaluations of a multistep method, belongs to their trajectory and must not be used.
        Here that is a new start; a state that holds no samples may go on as it is.

        Arguments:
            model: the denoiser.
            x: samples at times[0] with shape (B, *event).
            times: the grid from here to where samples are replaced next, with shape (n + 1,).
            state: what :meth:`init`, this or the last step returned.
        """
        del state
        return self.init(model, x, times)

    @abc.abstractmethod
    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """Go from t to s.

        Arguments:
            model: the denoiser.
            x_t: samples at time t with shape (B, *event).
            t: time before the step, float64 scalar.
            s: time after it.
            state: what :meth:`init` or the last step returned.
            noise: source of noise.

        Returns:
            Samples at time s and the new state.
        """

    @abc.abstractmethod
    def nfe(self, steps: int) -> int:
        """Number of evaluations of the denoiser in the given number of steps."""

    def nfe_reinit(self, steps: int) -> int:
        """Number of evaluations where :meth:`reinit` comes before every step."""
        return steps * self.nfe(1)

    @torch.no_grad()
    def solve(
        self,
        model: Denoiser,
        x: Tensor,
        times: Tensor,
        *,
        noise: Noise = NO_NOISE,
        hooks: Iterable[Hook] = (),
    ) -> Tensor:
        """Step through the grid: the one loop."""
        check_times(times)
        self.check(model, times)
        model.precompute(times)
        try:
            state, hooks, steps = self.init(model, x, times), tuple(hooks), len(times) - 1
            for index, (t, s) in enumerate(pairwise(times.unbind())):
                x_s, state = self.step(model, x, t, s, state, noise)
                for hook in hooks:
                    hook(StepInfo(index, steps, float(t), float(s), x, x_s))
                x = x_s
        finally:
            model.precompute(times[:0])
        return x


Stepping = Annotated[StepSolver[Any], "one that chooses its own steps cannot be inside another"]
"""The annotation of a solver inside another."""


def check_times(times: Tensor) -> None:
    """Raise ValueError unless the times are at least two, finite, strictly monotone and in float64."""
    if not isinstance(times, Tensor):
        raise ValueError(f"times={times} must be a tensor; write torch.tensor({times}, dtype=torch.float64)")
    steps = times.diff()
    monotone = bool((steps < 0).all()) or bool((steps > 0).all())
    if times.ndim != 1 or len(times) < 2 or not monotone or not bool(torch.isfinite(times).all()):
        raise ValueError(
            "times must be at least two finite numbers that descend (or ascend, to encode) without repeats, "
            f"got {times.tolist()}"
        )
    if times.dtype != torch.float64 or times.device.type != "cpu":
        raise ValueError(f"times must be float64 on the CPU, got {times.dtype} on {times.device}")
