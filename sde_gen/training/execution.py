"""Threads and memory format of a network on the CPU, chosen by a short measurement."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

DEFAULT = torch.get_num_threads()
"""What PyTorch takes by itself: the cores that this process may use, or what the environment says."""


@dataclass(frozen=True, kw_only=True, order=True)
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
    """The fastest of some executions, by their medians; within a tie the one with fewer threads.

    All are tried in turn, there and back, so that a load that comes and goes meets all alike. Threads of an operator
    wait for each other after each of its parts; where the cores are shared with other programs that may take tens of
    times as long as one thread, so a trial that has taken ``patience`` times the best so far is ended and is out.

    Arguments:
        threads: numbers of threads, ascending.
        rounds: trials of each, after one that does not count; at most.
        budget: no further round begins after so many seconds.
        tie: how much faster, as a factor, one with more threads has to be.
        patience: how many times slower one has to be to be out at once.
        clock: tells the time in seconds.
    """

    threads: Sequence[int]
    rounds: int = 5
    budget: float = 1.5
    tie: float = 1.05
    patience: float = 3.0
    clock: Callable[[], float] = time.perf_counter

    def __call__(self, formats: Sequence[bool], trial: Trial) -> Execution:
        """Measure; a single candidate is not."""
        left = [
            Execution(threads=threads, channels_last=format) for threads in self.threads for format in formats
        ]
        if len(left) == 1:
            return left[0]
        begin = self.clock()
        warm: dict[Execution, float] = {}  # the first time memory is allocated and threads are begun
        for one in left:
            self._time(trial, one, min(warm.values(), default=math.inf), warm)
        medians = dict(warm)
        seconds: dict[Execution, list[float]] = {one: [] for one in warm}
        for number in range(self.rounds):
            if len(medians) == 1 or (number and self.clock() - begin > self.budget):
                break
            best = min(medians.values())
            for one in sorted(medians, reverse=number % 2 == 0):
                found: dict[Execution, float] = {}
                self._time(trial, one, best, found)
                seconds[one] += found.values()
                if not found and len(medians) > 1:
                    del medians[one]
            medians = {one: statistics.median(seconds[one] or [medians[one]]) for one in medians}
        fast = [one for one in left if one in medians and medians[one] <= self.tie * min(medians.values())]
        return fast[0]

    def _time(self, trial: Trial, one: Execution, best: float, found: dict[Execution, float]) -> None:
        begin = self.clock()

        def check() -> None:
            if self.clock() - begin > self.patience * best:
                raise Overdue

        try:
            with one.applied():
                trial(one, check)
                check()
        except Overdue:
            return
        found[one] = self.clock() - begin


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
