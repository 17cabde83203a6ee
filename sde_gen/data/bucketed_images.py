"""Images of several sizes in memory."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sde_gen.data.base import contents
from sde_gen.data.lazy_images import LazyImages
from sde_gen.utils.hashing import digest
from sde_gen.utils.types import Shape


class BucketedImages(LazyImages):
    """Images of several sizes, of which rows of one size are read together.

    Arguments:
        images: the images, uint8 with shape (C, H, W) each.
        shapes: their shapes; bucket k holds those of shape k. The first one is that of the set.
    """

    def __init__(self, images: Sequence[Tensor], shapes: Sequence[Shape]) -> None:
        numbers = {tuple(shape): k for k, shape in enumerate(shapes)}
        self.shapes = list(numbers)
        self._buckets = torch.tensor([numbers[tuple(image.shape)] for image in images])
        self._parts = []
        self._row = torch.zeros(len(images), dtype=torch.int64)
        for k, shape in enumerate(self.shapes):
            rows = (self._buckets == k).nonzero().flatten()
            self._row[rows] = torch.arange(len(rows))
            part = [images[index] for index in rows.tolist()]
            self._parts.append(torch.stack(part) if part else torch.empty(0, *shape, dtype=torch.uint8))

    @property
    def shape(self) -> Shape:
        """Return the number of images and the shape of the first bucket, (N, C, H, W)."""
        return len(self._buckets), *self.shapes[0]

    @property
    def buckets(self) -> Tensor:
        """Return the bucket of every image, int64 with shape (N,)."""
        return self._buckets

    @property
    def fingerprint(self) -> str:
        """Return a hash of all images and of their order."""
        return digest([self._buckets], "".join(map(contents, self._parts)))

    def event(self, places: NDArray[np.int64]) -> Shape:
        """Return the shape of the images at some indices.

        Raises:
            ValueError: they have several shapes.
        """
        found = sorted(set(self._buckets[torch.from_numpy(places)].tolist()))
        if len(found) > 1:
            names = " and ".join("{}x{}".format(*self.shapes[k][-2:]) for k in found[:2])
            raise ValueError(
                f"images of {names} cannot be used together here; to use images of one size, give data=image_folder"
            )
        return self.shapes[found[0] if found else 0]

    def read(self, places: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Copy images of one size."""
        if len(places):
            index = torch.from_numpy(places)
            out[...] = self._parts[int(self._buckets[index[0]])][self._row[index]].numpy()
