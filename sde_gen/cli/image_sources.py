"""Images and their features in batches: shared among processes, resumable after a kill."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sde_gen.cli import console
from sde_gen.distributed.work_queue import WorkQueue
from sde_gen.evaluation.features import Features, FeatureSet
from sde_gen.utils import atomic


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """A batch of images and its cost.

    Arguments:
        images: uint8 with shape (B, C, H, W).
        evaluations: network evaluations, summed over the batch.
        seconds: time of drawing.
    """

    images: Tensor
    evaluations: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Images by index, drawn in fixed batches.

    Arguments:
        what: name of the images in messages and progress.
        folder: folder of the batches; its name hashes everything on which the images depend.
        batches: indices of the images of each batch.
        draw: function that returns the images of a batch.
        keep: True to store the images too, as drawing them is expensive.
    """

    what: str
    folder: Path
    batches: Sequence[range]
    draw: Callable[[range], ImageBatch]
    keep: bool = False

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(map(len, self.batches))

    def images_file(self, batch: range) -> Path:
        """File of the images of a batch."""
        return self.folder / f"{batch.start:09d}-{len(batch)}.safetensors"

    def features_file(self, batch: range, features: Features) -> Path:
        """File of the features of a batch."""
        return self.folder / f"{batch.start:09d}-{len(batch)}.{key(features)}.safetensors"

    def missing(self, extractors: Sequence[Features]) -> list[int]:
        """Return the indices of the batches with missing files."""
        return [
            index
            for index, batch in enumerate(self.batches)
            if any(not self.features_file(batch, one).exists() for one in extractors)
            or (self.keep and not self.images_file(batch).exists())
        ]

    def work(self, batch: range, extractors: Sequence[Features], device: torch.device, part: int) -> None:
        """Draw a batch unless its images are stored, and extract missing features."""
        stored = self.images_file(batch)
        if self.keep and stored.exists():
            drawn = ImageBatch(images=load(stored)["images"])
        else:
            drawn = self.draw(batch)
            if self.keep:
                tensors = {
                    "images": drawn.images.cpu(),
                    "evaluations": torch.tensor(drawn.evaluations),
                    "seconds": torch.tensor(drawn.seconds, dtype=torch.float64),
                }
                atomic.write(stored, safetensors.torch.save(tensors))
        for features in extractors:
            path = self.features_file(batch, features)
            if path.exists():
                continue
            parts = [features(images.to(device)) for images in torch.split(drawn.images, part)]
            tensors = {"features": torch.cat([one.features.cpu() for one in parts])}
            logits = [one.logits.cpu() for one in parts if one.logits is not None]
            if logits:
                tensors["logits"] = torch.cat(logits)
            atomic.write(path, safetensors.torch.save(tensors))

    def features(self, features: Features, batches: Sequence[range], what: str | None = None) -> FeatureSet:
        """Read the features of batches, in their order."""
        parts = [load(self.features_file(batch, features)) for batch in batches]
        return FeatureSet(
            what=what or self.what,
            features=torch.cat([part["features"] for part in parts]),
            logits=torch.cat([part["logits"] for part in parts]) if "logits" in parts[0] else None,
            about=features.about(),
        )


def key(features: Features) -> str:
    """Return a file name part for an extractor and its weights."""
    about = json.dumps(features.about(), sort_keys=True)
    return f"{features.name}-{hashlib.sha256(about.encode()).hexdigest()[:12]}"


def load(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a batch.

    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        atomic.check_regular(path)
        return safetensors.torch.load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); delete it, and the same command makes it again"
        ) from error


def ranges(start: int, count: int, size: int) -> list[range]:
    """Split ``count`` indices beginning at ``start`` into batches."""
    whole = range(start, start + count)
    return [whole[first : first + size] for first in range(0, count, size)]


def complete(
    sources: Sequence[ImageSource],
    extractors: Sequence[Features],
    queue: WorkQueue,
    *,
    device: torch.device,
    batch_size: int,
) -> None:
    """Compute the missing batches of all sources: this process's share, then wait for the others."""
    if queue.is_main:
        for source in sources:
            source.folder.mkdir(parents=True, exist_ok=True)
            atomic.sweep(source.folder)
    for number, source in enumerate(sources):
        name = f"{number} {source.folder.resolve()}"
        todo = queue.broadcast_object(name, partial(source.missing, extractors))
        if not todo:
            continue
        with console.progress() if queue.is_main else nullcontext() as bar:
            left = sum(len(source.batches[index]) for index in todo)
            total = sum(map(len, source.batches))
            task = (
                None
                if bar is None
                else bar.add_task(
                    source.what, total=total, completed=total - left, begun=total - left, note=""
                )
            )
            for index in queue.take(name, todo):
                batch = source.batches[index]
                source.work(batch, extractors, device, batch_size)
                done = queue.store.add(f"{name} images", len(batch))
                if bar is not None and task is not None:
                    bar.update(task, completed=total - left + int(done))
            if bar is not None:
                for _ in queue.wait_all(name):
                    pass
