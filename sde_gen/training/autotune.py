"""Autotuning: threads and memory format of a network on the CPU, chosen by a short measurement."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

DEFAULT_THREADS = torch.get_num_threads()
"""PyTorch's default number of threads: the cores available to this process, or the value set by the environment."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Threads and memory format, which determine the speed and, by the order of sums, the last bits of results.

    Arguments:
        threads: threads of an operator on the CPU.
        channels_last: memory format of image networks.

    Raises:
        ValueError: threads is not a positive integer.
    """

    threads: int
    channels_last: bool

    def __post_init__(self) -> None:
        if type(self.threads) is not int or self.threads < 1:
            raise ValueError(f"threads={self.threads}: expected an integer of at least 1, or null to measure")

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Return a context that uses ``threads`` threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def record(self, device: torch.device) -> dict[str, Any]:
        """Return the settings that change the last bits of results on a device."""
        return {
            **({"threads": self.threads} if device.type == "cpu" else {}),
            "channels_last": self.channels_last,
        }


class TrialTimeout(Exception):
    """A trial was stopped because it took much longer than the best one."""


TimeCheck = Callable[[], None]
"""Callable that raises :class:`TrialTimeout` when the time is up; a trial calls it repeatedly."""

Trial = Callable[[Execution, TimeCheck], object]
"""Callable that performs a sample of the work with the given execution; its run time is measured."""


class Chooser(Protocol):
    """Strategy that chooses the execution of a training or a network."""

    def __call__(self, formats: Sequence[bool], trial: Trial) -> Execution:
        """Choose the execution.

        Arguments:
            formats: choices of ``channels_last``, the first one wherever nothing is measured.
            trial: the work to time.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class FixedExecution:
    """Fixed choice without measurement.

    Arguments:
        threads: number of threads; None uses PyTorch's current number.
        channels_last: memory format; None uses the first choice.
    """

    threads: int | None = None
    channels_last: bool | None = None

    def __call__(self, formats: Sequence[bool], trial: Trial) -> Execution:
        """Return the given values; a memory format that is not available is replaced by the first choice."""
        del trial
        known = self.channels_last is not None and self.channels_last in formats
        threads = torch.get_num_threads() if self.threads is None else self.threads
        return Execution(threads=threads, channels_last=bool(self.channels_last) if known else formats[0])


@dataclass(frozen=True, kw_only=True)
class Autotune:
    """Autotune execution by the mean time of a trial; fewer threads win ties.

    Candidates are tried in turn, forwards and backwards, so that a varying load affects all of them equally. The
    threads of an operator synchronize at its end; on cores shared with other programs, some trials with several threads
    take tens of times as long as others. Therefore the mean counts instead of the median, trials are repeated for
    ``budget`` seconds, and a trial that takes ``patience`` times the best mean is stopped and counts with the time it
    took.

    Arguments:
        threads: numbers of threads, ascending.
        budget: time in seconds after which no further round starts.
        tie: factor by which more threads must be faster.
        patience: maximum time of a trial, in units of the best mean.
        clock: returns the time in seconds.
    """

    threads: Sequence[int]
    budget: float = 1.0
    tie: float = 1.05
    patience: float = 4.0
    clock: Callable[[], float] = time.perf_counter

    def __call__(self, formats: Sequence[bool], trial: Trial) -> Execution:
        """Time all candidates and return the fastest; a single candidate is returned without measurement."""
        candidates = [
            Execution(threads=threads, channels_last=format) for threads in self.threads for format in formats
        ]
        if len(candidates) == 1:
            return candidates[0]
        best = math.inf
        for execution in candidates:  # warm-up, not counted: allocates memory and starts threads
            best = min(best, self._time(trial, execution, best))
        seconds: dict[Execution, list[float]] = {execution: [] for execution in candidates}
        begin, turn = self.clock(), candidates
        while turn is candidates or self.clock() - begin < self.budget:
            for execution in turn:
                seconds[execution].append(self._time(trial, execution, best))
            best, turn = min(map(statistics.fmean, seconds.values())), turn[::-1]
        return next(
            execution for execution in candidates if statistics.fmean(seconds[execution]) <= self.tie * best
        )

    def _time(self, trial: Trial, execution: Execution, best: float) -> float:
        begin = self.clock()

        def check() -> None:
            if self.clock() - begin > self.patience * best:
                raise TrialTimeout

        with execution.applied(), suppress(TrialTimeout):
            trial(execution, check)
        return self.clock() - begin


def thread_counts(most: int = DEFAULT_THREADS) -> list[int]:
    """Return the numbers of threads to try: the powers of two below ``most``, and ``most``."""
    return [*(2**i for i in range(most.bit_length()) if 2**i < most), most]


@contextmanager
def stoppable(net: nn.Module, check: TimeCheck) -> Iterator[None]:
    """Return a context in which the network calls ``check`` before each module and at each gradient of a weight."""

    def forward(*_: object) -> None:
        check()

    def backward(_: Tensor) -> None:
        check()

    handles = [module.register_forward_pre_hook(forward) for module in net.modules()]
    handles += [weight.register_hook(backward) for weight in net.parameters() if weight.requires_grad]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def set_memory_format(net: nn.Module, execution: Execution) -> None:
    """Convert the weights of an image network to the memory format of the execution."""
    format = torch.channels_last if execution.channels_last else torch.contiguous_format
    for weight in net.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=format)
        weight.grad = None


def trial_samples(event: Sequence[int], most: int) -> int:
    """Return the number of samples of a trial, at most ``most``, of about :data:`ENOUGH` values in total."""
    return max(1, min(most, ENOUGH // math.prod(event)))


ENOUGH = 2**14
"""Values in the samples of a trial; one core evaluates a network on them in less than a second."""
