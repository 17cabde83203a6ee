"""Image sets of the Hugging Face hub."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sde_gen.data.base import Dataset, Source, Splits, last_after_shuffle, split


@dataclass(frozen=True, kw_only=True)
class HuggingFace(Source):
    """An image set by its name on the hub, or by the local folder of one; downloaded once, by the library datasets.

    Needs the extra ``hf``. The image column is the one of type Image, the label column the one of type
    ClassLabel.

    Arguments:
        path: name on the hub, such as uoft-cs/cifar10, or a local folder.
        name: configuration of the set, None for its only one.
        size: side of square images; others are resized and cropped.
        channels: 1 for grey, 3 for colour.
        train: name of the training split.
        test: name of the test split; None takes a share of the training split.
        test_fraction: that share.
        seed: draws that share.
    """

    path: str
    name: str | None = None
    size: int = 32
    channels: int = 3
    train: str = "train"
    test: str | None = "test"
    test_fraction: float = 0.1
    seed: int = 0

    def load(self) -> Splits:
        """Read the set."""
        try:
            import datasets
        except ImportError as error:
            raise ValueError(
                "Hugging Face sets need the library datasets: pip install 'sde_gen[hf]'"
            ) from error
        try:
            parts = datasets.load_dataset(self.path, self.name)
        except (OSError, ValueError, ConnectionError) as error:
            raise ValueError(f"cannot load {self.path!r}: {error}") from error
        train = self._read(parts, self.train)
        if self.test is not None:
            return Splits(train=train, test=self._read(parts, self.test))
        mask = last_after_shuffle(len(train), self.test_fraction, self.seed)
        return split(train.values, train.labels, levels=256, classes=train.classes, test=mask)

    def _read(self, parts: Any, name: str) -> Dataset:
        if name not in parts:
            raise ValueError(f"{self.path!r} has no split {name!r}; it has {', '.join(parts)}")
        part = parts[name]
        kinds = {column: type(feature).__name__ for column, feature in part.features.items()}
        images = [column for column, kind in kinds.items() if kind == "Image"]
        if len(images) != 1:
            raise ValueError(f"{self.path!r} needs exactly one image column, its columns are {kinds}")
        labels = [column for column, kind in kinds.items() if kind == "ClassLabel"]
        values = torch.stack(list(self._images(part[images[0]])))
        return Dataset(
            values=values,
            labels=torch.tensor(list(part[labels[0]])) if labels else None,
            levels=256,
            classes=part.features[labels[0]].num_classes if labels else 0,
        )

    def _images(self, column: Any) -> Iterator[Tensor]:
        for image in column:
            picture = image.convert("L" if self.channels == 1 else "RGB")
            if picture.size != (self.size, self.size):
                picture = ImageOps.fit(picture, (self.size, self.size), Image.Resampling.LANCZOS)
            yield (
                torch.from_numpy(np.array(picture))
                .reshape(self.size, self.size, self.channels)
                .permute(2, 0, 1)
            )
