"""Metrics accumulated between two records of the log."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

from sde_gen.distributed.strategy import Strategy
from sde_gen.objective import Loss
from sde_gen.sde.base import SDE
from sde_gen.utils.timing import Stopwatch, synchronize

EDGES = (-12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0)
"""Edges of the log-SNR bins of the error."""

LABELS = (
    f"below {EDGES[0]:g}",
    *(f"{low:g} to {high:g}" for low, high in pairwise(EDGES)),
    f"from {EDGES[-1]:g}",
)
"""Names of the bins."""


class Metrics:
    """Means of loss and gradient norm, noise prediction error by noise level, and speed.

    Tensors stay on the device until a record is due, so that steps do not synchronize with a GPU.

    Arguments:
        sde: the process.
        device: the device of the training.
        strategy: the processes whose values are gathered; all call :meth:`record` at the same step.
    """

    def __init__(self, sde: SDE, device: torch.device, strategy: Strategy) -> None:
        self.sde, self.strategy = sde, strategy
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Clear the accumulated values and restart the timers."""
        synchronize(self.device)
        self.losses: list[Loss] = []
        self.norms: list[Tensor] = []
        self.forward_backward_timer = Stopwatch(self.device)
        self.begin = time.perf_counter()

    def step(self, losses: list[Loss], grad_norm: Tensor) -> None:
        """Add a step: the losses of its micro-batches and the norm of its gradient, detached."""
        self.losses += losses
        self.norms.append(grad_norm)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of the block from the speed."""
        synchronize(self.device)
        start = time.perf_counter()
        yield
        synchronize(self.device)
        self.begin += time.perf_counter() - start

    def record(self) -> dict[str, float | dict[str, float | None]]:
        """Return the record of the steps since the last reset, at least one."""
        inside, seconds = self.forward_backward_timer.seconds(), time.perf_counter() - self.begin
        per_sample, t, error = (
            self.strategy.all_gather(torch.cat(part)).double().cpu()
            for part in zip(*self.losses, strict=True)
        )
        place = torch.bucketize(self.sde.log_snr(t), torch.tensor(EDGES, dtype=torch.float64), right=True)
        means = [error[place == i].mean() for i in range(len(LABELS))]
        return {
            "loss": float(per_sample.mean()),
            "error": float(error.mean()),
            "error_by_log_snr": {
                label: None if mean.isnan() else float(mean)
                for label, mean in zip(LABELS, means, strict=True)
            },
            "grad_norm": float(torch.stack(self.norms).double().mean()),
            "images_per_second": len(t) / seconds,
            "share_outside_forward_backward": max(0.0, 1 - inside / seconds),
            "peak_memory_mb": peak_memory_mb(self.device),
        }


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory in MiB: of the device's tensors on CUDA, of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
