"""Stopwatch of the computing time of a device, without synchronization."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Add up the time of blocks: by the clock on a CPU, by events in its queue on CUDA.

    Arguments:
        device: the device that works.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add the time of the block."""
        if self.device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            stream = torch.cuda.current_stream(self.device)  # an event records on the first device by default
            begin.record(stream)
            yield
            end.record(stream)
            self._events.append((begin, end))
        else:
            start = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - start

    def seconds(self) -> float:
        """Return the total time; waits for the device."""
        synchronize(self.device)
        self._seconds += sum(begin.elapsed_time(end) for begin, end in self._events) / 1000
        self._events = []
        return self._seconds


def synchronize(device: torch.device) -> None:
    """Wait for all work queued on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
