"""Detection and diagnosis of non-finite losses, gradients and weights."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import safetensors.torch
import torch
from torch import Tensor

from sde_gen.objective import Loss
from sde_gen.sde.base import SDE
from sde_gen.utils import atomic

REMEDIES = (
    "usual remedies: a lower learning rate, a longer warm-up, a smaller engine.grad_clip, "
    "precision=float32, a larger sde.t_min"
)


EXPLODED = 1e4
"""Ratio to the loss of the first step (at least 1 per sample) above which the loss counts as exploded."""


class NonFiniteGuard:
    """Record of the first step with a non-finite loss or gradient, kept on the device.

    From that step on the optimizer skips its updates. The host therefore need not synchronize after every step:
    whenever the record is read, the weights are still those before that step, which can be repeated.

    Arguments:
        device: the device of the training.
    """

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((), -1, dtype=torch.int64, device=device)

    def update(self, step: int, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """Check the loss and the gradient norm of a step, both with shape ().

        Returns:
            float32 with shape (): 1 if this or an earlier step was non-finite, else 0.
        """
        bad = ~(torch.isfinite(loss) & torch.isfinite(grad_norm))
        self._first = torch.where(bad & (self._first < 0), step, self._first)
        return (self._first >= 0).float()

    def first(self) -> int | None:
        """Return the first non-finite step, or None; synchronizes with the device."""
        step = int(self._first)
        return None if step < 0 else step


def raise_nonfinite(
    folder: Path | None,
    sde: SDE,
    *,
    step: int,
    seed: int,
    batches: Sequence[tuple[Tensor, Loss]],
    net: Mapping[str, Tensor],
    about: Mapping[str, Any],
    taken: bool,
    go_on: str,
) -> NoReturn:
    """Raise an error that explains a non-finite step, and save its batch and weights.

    Arguments:
        folder: folder for ``not_finite.safetensors`` and ``not_finite.json``; None writes no files.
        sde: the process, for the noise levels.
        step: number of the step.
        seed: seed of the training, which with the step determines the noise.
        batches: the micro-batches in model space, each with shape (B, *event), and their losses.
        net: the weights with which these losses were computed.
        about: metadata of the training.
        taken: True for the weights after the step, False for those before it.
        go_on: advice on the checkpoint to resume from.

    Raises:
        FloatingPointError: always; names the samples with non-finite loss, or else those with the largest loss.
    """
    x0 = torch.cat([x for x, _ in batches]).detach().cpu().contiguous()
    t = torch.cat([loss.t for _, loss in batches]).cpu()
    per_sample = torch.cat([loss.per_sample for _, loss in batches]).detach().cpu()
    bad = (~torch.isfinite(per_sample)).nonzero().flatten()
    rows = bad[:8] if len(bad) else per_sample.argsort(descending=True)[:3]
    levels = [
        {
            "row": int(row),
            "t": float(t[row]),
            "log_snr": float(sde.log_snr(t[row])),
            "sigma": float(sde.sigma(t[row])),
        }
        for row in rows
    ]
    saved = ""
    if folder is not None:
        tensors = {f"net.{name}": x.detach().cpu().contiguous() for name, x in net.items()}
        tensors |= {"x0": x0, "t": t, "per_sample": per_sample}
        metadata = {
            "step": step,
            "seed": seed,
            "weights": f"{'after' if taken else 'before'} the step",
            "samples": levels,
            "about": about,
        }
        saved = _reproducer(folder, tensors, metadata)
    what = f"{_problem(per_sample, taken)} {'with the weights after' if taken else 'in'} step {step}"
    before = "" if taken else "the weights are those before it; "
    listing = _listing(levels, len(bad), len(per_sample))
    raise FloatingPointError(f"{what} ({listing}); {before}{saved}{go_on}{REMEDIES}")


def _problem(per_sample: Tensor, taken: bool) -> str:
    """Return what is wrong with the losses (B,) of a step, or with its gradient."""
    if not bool(torch.isfinite(per_sample).all()):
        return "the loss is not finite"
    if taken:
        return (
            f"the loss has exploded to {float(per_sample.mean()):.3g} (the samples of largest loss are shown)"
        )
    return "the gradient (the samples of largest loss are shown) is not finite"


def _listing(levels: Sequence[Mapping[str, float]], bad: int, count: int) -> str:
    """Return the first samples with their noise levels, and the number of the others."""
    shown = "; ".join(
        f"row {at['row']}: t={at['t']:.4g}, log-SNR {at['log_snr']:.3g}, sigma {at['sigma']:.4g}"
        for at in levels[:3]
    )
    return f"{shown}; and {bad - 3} more of {count}" if bad > 3 else shown


def _reproducer(folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Save batch and weights, and return a message with their path."""
    path = folder / "not_finite.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write(path, safetensors.torch.save(dict(tensors)))
        atomic.write(path.with_suffix(".json"), json.dumps(metadata, indent=1))
    except OSError as error:  # must not hide the original error
        return f"batch and weights could not be written ({error}); "
    return f"batch and weights are in {path}; "
