"""Callbacks of a training on the command line: configuration file, progress bar, and a shutdown on a signal."""

import signal
from pathlib import Path
from types import FrameType

from omegaconf import DictConfig, OmegaConf
from rich.progress import Progress

from sde_gen.training import Callback
from sde_gen.training.callbacks import Record
from sde_gen.utils import atomic


class WasFinished(Callback):
    """Record whether the training was finished before it began."""

    finished = False
    """True if the budget was reached before."""

    def on_train_start(self, images: int, budget: int) -> None:
        """Compare the images seen with the budget."""
        self.finished = images >= budget


class GracefulShutdown:
    """Record SIGTERM and SIGINT inside the block; a second SIGINT interrupts at once."""

    def __enter__(self) -> "GracefulShutdown":
        self.arrived = False
        self.number = int(signal.SIGTERM)  # or that of another process of the training
        self.before = {
            number: signal.signal(number, self._arrive) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.arrived and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.arrived, self.number = True, number

    def __call__(self) -> bool:
        """Return whether a signal arrived."""
        return self.arrived


class SaveConfig(Callback):
    """Save the configuration beside the checkpoints, once the training holds the lock of the folder."""

    def __init__(self, config: DictConfig, folder: Path) -> None:
        self.config, self.folder = config, folder

    def on_train_start(self, images: int, budget: int) -> None:
        """Save the configuration unless the training is finished."""
        if images < budget:  # else nothing is trained with it
            atomic.write(self.folder / "config.yaml", OmegaConf.to_yaml(self.config, resolve=True))


class ProgressCallback(Callback):
    """Show progress, loss and speed."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar

    def on_train_start(self, images: int, budget: int) -> None:
        """Add the progress bar, starting at ``images``."""
        self.task = self.bar.add_task("images", total=budget, completed=images, begun=images, note="")

    def on_step_end(self, images: int) -> None:
        """Advance the progress bar to ``images``."""
        self.bar.update(self.task, completed=images)

    def on_log(self, record: Record) -> None:
        """Show loss and speed."""
        self.bar.update(
            self.task, note=f"loss {record['loss']:.4f}  {record['images_per_second']:.0f} images/s"
        )

    def on_checkpoint(self, path: Path, images: int) -> None:
        """Show the images of the last checkpoint."""
        del path
        self.bar.update(self.task, description=f"images (saved at {images:,})")
