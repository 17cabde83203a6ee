"""Checkpoints of a training: resuming, saving, and pruning once a later step has confirmed the newest."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.resume import resume
from sde_gen.checkpoint.state_dict import finite
from sde_gen.checkpoint.store import Checkpoint
from sde_gen.distributed.strategy import Strategy
from sde_gen.training import nonfinite


class CheckpointManager:
    """Write checkpoints, and delete older ones only after the newest is known to be good.

    Finite weights may still give an infinite loss. Older checkpoints therefore stay until :meth:`confirm` reports a
    finite step from the newest.

    Arguments:
        folder: the folder of checkpoints.
        keep: number of checkpoints to keep, besides the best.
        strategy: the processes; rank 0 deletes files.
    """

    def __init__(self, folder: Path, *, keep: int, strategy: Strategy) -> None:
        self.folder, self.keep, self.strategy = folder, keep, strategy
        self._unconfirmed: Path | None = None

    def resume(
        self,
        *,
        net: nn.Module,
        ema_model: nn.Module,
        adam: torch.optim.Optimizer,
        about: dict[str, Any],
        batch_size: int,
        upgrade: Callable[[dict[str, Any]], dict[str, Any]],
        load_objective: Callable[[Mapping[str, Tensor]], None],
    ) -> int | None:
        """Load the last checkpoint; a collective operation in a locked run folder.

        Arguments and exceptions are those of :func:`sde_gen.checkpoint.resume.resume`.

        Returns:
            Images seen, or None without a checkpoint.
        """
        if self.strategy.rank == 0:
            checkpoint.clear(self.folder)
        images = resume(
            self.folder,
            net=net,
            ema_model=ema_model,
            adam=adam,
            strategy=self.strategy,
            about=about,
            batch_size=batch_size,
            upgrade=upgrade,
            load_objective=load_objective,
        )
        if images is not None:
            self._unconfirmed = self.folder / f"{images:012d}"
        return images

    def save(self, saved: Checkpoint) -> Path:
        """Write a checkpoint atomically; a collective operation.

        Raises:
            FloatingPointError: a tensor is not finite; nothing is written.
            OSError: the checkpoint could not be written; earlier ones are untouched.
        """
        for what, tensors in (
            ("weights", saved.net),
            ("averaged weights", saved.ema),
            ("numbers of the optimizer", saved.optimizer),
        ):
            if not finite(tensors.values(), self.strategy):
                raise FloatingPointError(
                    f"the {what} at {saved.images:,} images are not finite, so they are not saved; "
                    f"{self.advice(None)}{nonfinite.REMEDIES}"
                )
        self._unconfirmed = checkpoint.save(self.folder, saved, self.strategy)
        return self._unconfirmed

    def confirm(self) -> None:
        """Delete checkpoints that are older than the newest and not to be kept."""
        newest, self._unconfirmed = self._unconfirmed, None
        if newest is not None and self.strategy.rank == 0:
            checkpoint.prune(self.folder, newest, keep=self.keep)

    def advice(self, images: int | None) -> str:
        """Return advice on the checkpoint to resume from.

        Arguments:
            images: number of images at which the weights have failed; None if no checkpoint can hold them.
        """
        found = checkpoint.paths(self.folder)
        if not found:
            return "there is no checkpoint yet; "
        *older, newest = found
        if images is None or newest.name != f"{images:012d}":
            return f"the same command goes on from {newest}; "
        back = f"go on from {older[-1]}" if older else "begin anew"
        return f"the same command goes on from {newest}, which holds these weights: to {back}, delete it; "
