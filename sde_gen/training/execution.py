"""Threads and memory format of a network on the CPU, chosen by a short measurement."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

DEFAULT = torch.get_num_threads()
"""What PyTorch takes by itself: the cores that this process may use, or what the environment says."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What decides over speed and, by the order of sums, over the last bits, but not over what is computed.

    Arguments:
        threads: threads of an operator on the CPU.
        channels_last: memory format of image networks.

    Raises:
        ValueError: threads is no positive whole number.
    """

    threads: int
    channels_last: bool

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if type(self.threads) is not int or self.threads < 1:
            raise ValueError(
                f"threads={self.threads}: expected a whole number of at least 1, or null to measure"
            )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Use so many threads inside the block."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


class Overdue(Exception):
    """A trial took longer than what it is compared with, so it was ended."""


Check = Callable[[], None]
"""Raises :class:`Overdue` when the time is up; a trial calls it now and then."""

Trial = Callable[[Execution, Check], object]
"""Does some of the work as it is said; to be timed."""


class Chooser(Protocol):
    """A way to choose the execution of a training or a network."""

    def __call__(self, formats: Sequence[bool], trial: Trial) -> Execution:
        """Choose.

        Arguments:
            formats: choices of ``channels_last``, the first one wherever nothing is measured.
            trial: what may be timed.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Given:
    """No measurement.

    Arguments:
        threads: threads; None takes those that PyTorch has now.
        channels_last: the memory format of before; None takes the first choice.
    """

    threads: int | None = None
    channels_last: bool | None = None

    def __call__(self, formats: Sequence[bool], trial: Trial) -> Execution:
        """What is given, as far as it is among the choices."""
        del trial
        known = self.channels_last is not None and self.channels_last in formats
        threads = torch.get_num_threads() if self.threads is None else self.threads
        return Execution(threads=threads, channels_last=bool(self.channels_last) if known else formats[0])


@dataclass(frozen=True, kw_only=True)
class Fastest:
    """The fastest of some executions, by the mean time of a trial; within a tie the one with fewer threads.

    All are tried in turn, there and back, so that a load that comes and goes meets all alike. Threads of an operator
    wait for each other when it ends; where the cores are shared with other programs, some trials of several threads
    then take tens of times as long as others. So the mean counts and not the median, the trials go on for ``budget``
    seconds, and one that has taken ``patience`` times the best is ended there and counts as long as it took.

    Arguments:
        threads: numbers of threads, ascending.
        budget: no further round of trials begins after so many seconds.
        tie: how much faster, as a factor, one with more threads has to be.
        patience: how many times the best mean a trial may take.
        clock: tells the time in seconds.
    """

    threads: Sequence[int]
    budget: float = 1.0
    tie: float = 1.05
    patience: float = 4.0
    clock: Callable[[], float] = time.perf_counter

    def __call__(self, formats: Sequence[bool], trial: Trial) -> Execution:
        """Measure; a single candidate is not."""
        candidates = [
            Execution(threads=threads, channels_last=format) for threads in self.threads for format in formats
        ]
        if len(candidates) == 1:
            return candidates[0]
        best = math.inf
        for one in candidates:  # the first time memory is allocated and threads are begun: it does not count
            best = min(best, self._time(trial, one, best))
        seconds: dict[Execution, list[float]] = {one: [] for one in candidates}
        begin, turn = self.clock(), candidates
        while turn is candidates or self.clock() - begin < self.budget:
            for one in turn:
                seconds[one].append(self._time(trial, one, best))
            best, turn = min(map(statistics.fmean, seconds.values())), turn[::-1]
        return next(one for one in candidates if statistics.fmean(seconds[one]) <= self.tie * best)

    def _time(self, trial: Trial, one: Execution, best: float) -> float:
        begin = self.clock()

        def check() -> None:
            if self.clock() - begin > self.patience * best:
                raise Overdue

        with one.applied(), suppress(Overdue):
            trial(one, check)
        return self.clock() - begin


def counts(most: int = DEFAULT) -> list[int]:
    """Numbers of threads worth a trial: powers of two below ``most``, and itself."""
    return [*(2**i for i in range(most.bit_length()) if 2**i < most), most]


@contextmanager
def interruptible(net: nn.Module, check: Check) -> Iterator[None]:
    """Inside the block the network checks the time before each of its modules, and with each gradient of a weight."""

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


def in_format(net: nn.Module, execution: Execution) -> None:
    """Lay the weights of a network of images out in the memory format of the execution."""
    format = torch.channels_last if execution.channels_last else torch.contiguous_format
    for weight in net.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=format)
        weight.grad = None


def rows(event: Sequence[int], most: int) -> int:
    """How many samples a trial needs: the threads of an operator meet once for each, however many there are."""
    return max(1, min(most, ENOUGH // math.prod(event)))


ENOUGH = 2**14
"""Numbers in a trial's samples: so few that a network on one core is done in less than a second."""
