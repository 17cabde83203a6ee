"""Random access to images in tar files."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sde_gen.data.image import UNREADABLE, Size, in_threads, is_animated, resized, sides
from sde_gen.data.lazy_images import LazyImages
from sde_gen.data.tar import Members, name_of
from sde_gen.utils.hashing import digest
from sde_gen.utils.types import Shape


class TarImages(LazyImages):
    """Images in tar files, decoded on access.

    Arguments:
        shards: the files.
        members: index of the images.
        size: side of a square, or height and width.
        channels: 1 for gray, 3 for color.
        background: color behind transparent pixels, as for :func:`sde_gen.data.decode_image`.
        workers: number of images decoded in parallel.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        members: Members,
        *,
        size: Size,
        channels: int,
        background: str | None,
        workers: int,
    ) -> None:
        self.shards, self.members, self.workers = shards, members, workers
        self.size, self.channels, self.background = size, channels, background
        self._warned = False

    @property
    def shape(self) -> Shape:
        """Return the shape (N, channels, height, width)."""
        return len(self.members.offset), self.channels, *sides(self.size)

    @property
    def fingerprint(self) -> str:
        """Return a hash of shape, background, names of the files and index of the images."""
        names = [path.name for path in self.shards]
        return f"{self.shape}{self.background}{names}{digest(map(torch.from_numpy, self.members))}"

    def read(self, places: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Read and decode images by index."""
        for row, image in zip(out, in_threads(self._read, places.tolist(), self.workers), strict=True):
            row[:] = image.numpy()

    def fault(self, place: int) -> str | None:
        """Return the reason why an image cannot be decoded, or None if it can."""
        try:
            self._decode(place)
        except UNREADABLE as error:
            return f"{self._name(place)} ({error})"
        return None

    def _read(self, place: int) -> Tensor:
        try:
            return self._decode(place)
        except UNREADABLE as error:
            raise ValueError(
                f"{self._name(place)} cannot be decoded ({error}); repair it, or give data.skip_corrupt=true, "
                "which decodes every image once and skips unreadable ones"
            ) from error

    def _decode(self, place: int) -> Tensor:
        with self.shards[self.members.shard[place]].open("rb", buffering=0) as file:
            file.seek(self.members.offset[place])
            content = file.read(self.members.size[place])
        with Image.open(io.BytesIO(content)) as image:
            if is_animated(image) and not self._warned:
                self._warned = True
                warnings.warn(
                    f"{self._name(place)} holds several frames or pages, of which the first is used, as of all such "
                    "images",
                    stacklevel=2,
                )
            return resized(image, size=self.size, channels=self.channels, background=self.background)

    def _name(self, place: int) -> str:
        path = self.shards[self.members.shard[place]]
        return f"{path}: {name_of(path, int(self.members.offset[place]))}"
