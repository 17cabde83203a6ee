"""Numbers gathered between two records of the log."""

import resource
import sys
import time

import torch


from sde_gen.objective import Loss
from sde_gen.sde.base import SDE

EDGES = (-12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0)
"""Edges of the log-SNR bins of the loss."""


class Meter:
    """Means of loss and gradient norm, the error of the noise by noise level, and speed.

    Arguments:
        sde: the process.
        device: where the numbers are summed, so that nothing waits for them.
    """

    def __init__(self, sde: SDE, device: torch.device) -> None:
        self.sde = sde
        self.edges = torch.tensor(EDGES, dtype=torch.float64, device=device)
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Forget."""
        self.sums = torch.zeros(len(EDGES) + 1, 2, dtype=torch.float64, device=self.device)
        self.loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.grad_norm = 0.0
        self.steps = self.images = 0
        self.begin = time.perf_counter()
        self.inside = 0.0

    def batch(self, loss: Loss) -> None:
        """Add a batch."""
        place = torch.bucketize(self.sde.log_snr(loss.t), self.edges)
        self.sums[:, 0].index_add_(0, place, loss.error.detach().double())
        self.sums[:, 1].index_add_(0, place, torch.ones_like(loss.t))
        self.loss += loss.per_sample.detach().double().sum()
        self.images += len(loss.t)

    def step(self, grad_norm: float, seconds_inside: float) -> None:
        """Add a step: the norm of its gradient, and the time of its forward and backward passes."""
        self.steps += 1
        self.grad_norm += grad_norm
        self.inside += seconds_inside

    def record(self) -> dict[str, float | list[float | None]]:
        """The numbers so far."""
        seconds = time.perf_counter() - self.begin
        error, count = self.sums.cpu().unbind(1)
        return {
            "loss": float(self.loss) / max(self.images, 1),
            "error_by_log_snr": [float(e / n) if n else None for e, n in zip(error, count, strict=True)],
            "grad_norm": self.grad_norm / max(self.steps, 1),
            "images_per_second": self.images / seconds,
            "share_outside_forward_backward": max(0.0, 1 - self.inside / seconds),
            "peak_memory_mb": peak_memory_mb(self.device),
        }


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory so far: of the device's tensors on CUDA, of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


