"""Settings of a training."""

from dataclasses import dataclass

from sde_gen.utils.arguments import Checked


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Checked):
    """Settings of a training; budget and intervals are counted in images.

    Arguments:
        images: length of the training.
        batch_size: images per step, over all processes and micro-batches.
        accumulation: micro-batches per step.
        grad_clip: maximum norm of the gradient.
        seed: random seed; all random numbers are functions of (seed, step, rank).
        log_every: images between two records of the log.
        preview_every: images between two previews.
        checkpoint_every: images between two checkpoints.
        metrics_every: images between two evaluations of metrics of samples, if any; each makes a checkpoint.
        keep: number of recent checkpoints to keep, besides the best one.
        validate: number of held-out images for the validation loss at every checkpoint, repeated with other noise if
            there are fewer; 0 for none.
        channels_last: memory format of image networks; None lets the trainer choose the faster one.

    Raises:
        ValueError: a value is out of range.
    """

    images: int = 150_000
    batch_size: int = 64
    accumulation: int = 1
    grad_clip: float = 1.0
    seed: int = 0
    log_every: int = 10_000
    preview_every: int = 50_000
    checkpoint_every: int = 50_000
    metrics_every: int = 50_000
    keep: int = 2
    validate: int = 256
    channels_last: bool | None = None

    def __post_init__(self) -> None:
        counts = (
            "images",
            "batch_size",
            "accumulation",
            "log_every",
            "preview_every",
            "checkpoint_every",
            "metrics_every",
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
                f"engine.grad_clip={self.grad_clip} must be positive; use a large number to disable clipping"
            )
        if self.validate < 0 or self.seed < 0:
            raise ValueError(
                f"engine.validate={self.validate}, engine.seed={self.seed}: neither may be negative"
            )

    def due(self, every: int, images: int) -> bool:
        """Return whether the step that ends at ``images`` completes an interval of ``every`` images or the training."""
        return images // every > (images - self.batch_size) // every or images >= self.images
