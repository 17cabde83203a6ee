"""Hooks of solvers: trajectories, progress, detection of NaN, number of evaluations."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor, nn

from sde_gen.utils.arguments import Checked


@dataclass(frozen=True)
class StepInfo:
    """Description of a solver's step, passed to hooks.

    Arguments:
        index: number of the step, from 0.
        steps: number of steps in all.
        t: time before the step.
        s: time after it.
        x_t: samples before with shape (B, *event).
        x_s: samples after.
        weights: importance weights with sum 1 and shape (B,) by which the step resampled; None where it did not.
    """

    index: int
    steps: int
    t: float
    s: float
    x_t: Tensor
    x_s: Tensor
    weights: Tensor | None = None


class Hook(Protocol):
    """A function called after every step."""

    def __call__(self, info: StepInfo) -> None:
        """Process the step described by info."""
        ...


class Trajectory:
    """Keep the samples after every step, on the CPU.

    Attributes:
        times: the times, first the start's.
        states: the samples at these times, each with shape (B, *event).
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.states: list[Tensor] = []

    def __call__(self, info: StepInfo) -> None:
        """Store x_s, and x_t before the first step."""
        if info.index == 0:
            self.times, self.states = [info.t], [info.x_t.detach().cpu().clone()]
        self.times.append(info.s)
        self.states.append(info.x_s.detach().cpu().clone())


class StopOnNaN:
    """Raise FloatingPointError that names the first step whose samples are not finite.

    On a CPU each step is checked at once. On other devices results are collected without synchronization and
    checked after the last step.
    """

    def __init__(self) -> None:
        self._found: list[tuple[str, Tensor]] = []

    def __call__(self, info: StepInfo) -> None:
        """Record which samples of x_s are finite."""
        if info.index == 0:
            self._found = []
        where = f"in step {info.index + 1} of {info.steps}, from t={info.t:.6g} to s={info.s:.6g}"
        self._found.append((where, torch.isfinite(info.x_s.flatten(1)).all(1)))
        if info.x_s.device.type == "cpu" or info.index + 1 == info.steps:
            found, self._found = self._found, []
            self._look(found)

    def _look(self, found: list[tuple[str, Tensor]]) -> None:
        for (where, _), finite in zip(found, torch.stack([row for _, row in found]).cpu(), strict=True):
            if not bool(finite.all()):
                rows = (~finite).nonzero().flatten().tolist()
                raise FloatingPointError(
                    f"sampling produced non-finite values {where}, in samples {rows[:8]}; "
                    "try more steps, another grid or a smaller t_max"
                )


class EffectiveSampleSize:
    """Smallest effective sample size of all steps that resample particles, ``1 / sum_i w_i^2``.

    Equal weights of B particles give B, a single particle with all weight 1.

    Source: Kong, Liu, and Wong, 1994, Journal of the American Statistical Association 89, 278-288.
    """

    def __init__(self) -> None:
        self._sizes: list[Tensor] = []

    def __call__(self, info: StepInfo) -> None:
        """Record the effective sample size of a step."""
        if info.weights is not None:
            self._sizes.append(1 / (info.weights.double() ** 2).sum())

    @property
    def smallest(self) -> float | None:
        """Smallest effective sample size; None where no step resampled."""
        return float(torch.stack(self._sizes).min()) if self._sizes else None

    @staticmethod
    def collapsed(size: float, particles: int) -> bool:
        """Return whether it is below 2, or below a tenth of the particles: too few ancestors for a posterior."""
        return size < max(2.0, particles / 10)


@dataclass(frozen=True)
class Progress(Checked):
    """Report every step to a callback: ``callback(steps done, steps in all)``."""

    callback: Callable[[int, int], None]

    def __call__(self, info: StepInfo) -> None:
        """Report the number of finished steps."""
        self.callback(info.index + 1, info.steps)


class NFECounter(Checked):
    """Count a module's forward calls, and the samples in them, inside a ``with`` block.

    Arguments:
        module: module whose calls are counted; for a network, the network itself, so that guidance counts twice.

    Attributes:
        calls: number of forward calls.
        samples: number of samples in them.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.calls = 0
        self.samples = 0

    def _count(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        del module
        self.calls += 1
        self.samples += len(args[0])

    def __enter__(self) -> "NFECounter":
        """Start counting from zero."""
        self.calls = self.samples = 0
        self._handle = self.module.register_forward_pre_hook(self._count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the forward hook."""
        self._handle.remove()


def call_hooks(hooks: Iterable[Hook], times: Tensor, states: Sequence[Tensor]) -> None:
    """Call hooks for every step of a grid, from samples known at all of its times.

    Arguments:
        hooks: the hooks.
        times: the grid with shape (steps + 1,).
        states: samples at its times with shape (B, *event).
    """
    steps = len(times) - 1
    for index in range(steps):
        info = StepInfo(
            index, steps, float(times[index]), float(times[index + 1]), states[index], states[index + 1]
        )
        for hook in hooks:
            hook(info)
