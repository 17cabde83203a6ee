"""The numbers of a training."""

from dataclasses import dataclass

from sde_gen.utils.arguments import Checked


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Checked):
    """Numbers of a training; everything that counts is counted in images.

    Arguments:
        images: budget of the whole training.
        batch_size: images of one step, over all processes and micro-batches.
        accumulation: micro-batches of one step.
        grad_clip: largest norm of the gradient.
        seed: everything random follows from (seed, step, rank).
        log_every: images between two records of the log.
        preview_every: images between two previews.
        checkpoint_every: images between two checkpoints.
        keep: how many of the newest checkpoints stay, once a step from the newest one has passed; the best stays too.
        validate: held-out images whose loss is measured at every checkpoint; 0 for none.
        channels_last: memory format of image networks; None leaves it to the trainer's chooser of threads and format.

    Raises:
        ValueError: a number is out of its range.
    """

    images: int = 150_000
    batch_size: int = 64
    accumulation: int = 1
    grad_clip: float = 1.0
    seed: int = 0
    log_every: int = 10_000
    preview_every: int = 50_000
    checkpoint_every: int = 50_000
    keep: int = 2
    validate: int = 256
    channels_last: bool | None = None

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        counts = (
            "images",
            "batch_size",
            "accumulation",
            "log_every",
            "preview_every",
            "checkpoint_every",
            "keep",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"engine.{name}={getattr(self, name)} must be at least 1")
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"engine.batch_size={self.batch_size} is not a multiple of accumulation={self.accumulation}"
            )
        if not self.grad_clip > 0:
            raise ValueError(
                f"engine.grad_clip={self.grad_clip} must be positive; give a large number for no clipping"
            )
        if self.validate < 0 or self.seed < 0:
            raise ValueError(
                f"engine.validate={self.validate}, engine.seed={self.seed}: neither may be negative"
            )
