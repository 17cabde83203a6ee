"""The abstract solver, and the loop of all solvers with a fixed grid."""

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
    """A numerical integrator of samples along a time grid.

    A subclass declares the properties below as class variables, or computes them from its arguments.
    """

    @property
    @abc.abstractmethod
    def stochastic(self) -> bool:
        """True if the solver draws noise; only deterministic solvers have a likelihood."""

    @property
    def batch_coupled(self) -> bool:
        """True if a sample depends on the others of its batch."""
        return False

    @property
    def needs_denoiser(self) -> bool:
        """False if it needs a flow map or a generator; its samples are then taken without a denoising step."""
        return True

    @property
    def pathwise(self) -> bool:
        """True if a sample is a function of the Brownian path and converges with more steps.

        False where noise is independent of the path: with other steps the sample is another one of the same
        distribution, or the limit is not the process's, and the distance to a fine solution is no error of the solver.
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
        """Integrate samples from the first time to the last.

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
        """Number of evaluations of the denoiser in the given number of steps; None for adaptive solvers."""
        del steps
        return None


class StepSolver(Solver, Generic[State]):
    """A solver with a fixed grid and a state: a frozen dataclass of hyper-parameters."""

    @property
    @abc.abstractmethod
    def order(self) -> int:
        """Global order of convergence, the start of multistep methods included.

        For stochastic solvers the order of the mean and the covariance (weak order).
        """

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> State | Any:
        """Return the state before the first step; None for solvers without one."""
        del model, x, times
        return None

    def reinit(self, model: Denoiser, x: Tensor, times: Tensor, state: State) -> State | Any:
        """Return the state before a step from samples other than those that the last step returned.

        Methods that project, noise or otherwise replace samples between steps call it. Past evaluations of a multistep
        method belong to another trajectory and must not be used. By default the solver starts anew; a state without
        samples may be returned unchanged.

        Arguments:
            model: the denoiser.
            x: samples at times[0] with shape (B, *event).
            times: the grid from here to where samples are replaced next, with shape (n + 1,).
            state: returned by :meth:`init`, this method or the last step.
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
            state: returned by :meth:`init` or the last step.
            noise: source of noise.

        Returns:
            Samples at time s and the new state.
        """

    @abc.abstractmethod
    def nfe(self, steps: int) -> int:
        """Number of evaluations of the denoiser in the given number of steps."""

    def resampling_weights(self, state: State) -> Tensor | None:
        """Return the importance weights by which the last step resampled, with shape (B,); None where it did not."""
        del state
        return None

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
        """Take every step of the grid, and call the hooks after each."""
        check_times(times)
        self.check(model, times)
        state, hooks, steps = self.init(model, x, times), tuple(hooks), len(times) - 1
        for index, (t, s) in enumerate(pairwise(times.unbind())):
            x_s, state = self.step(model, x, t, s, state, noise)
            for hook in hooks:
                hook(StepInfo(index, steps, float(t), float(s), x, x_s, self.resampling_weights(state)))
            x = x_s
        return x


Stepping = Annotated[StepSolver[Any], "an adaptive solver cannot be inside another"]
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
