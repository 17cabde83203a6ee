"""Any folder of images."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL import Image
from torch import Tensor

from sde_gen.data.base import check_fraction, share
from sde_gen.data.image import UNREADABLE, check_square, in_threads, square
from sde_gen.data.stream import Sample, Stream
from sde_gen.data.streamed import Streamed

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Streamed):
    """All images below a folder, resized and cropped to squares; sub-folders of the first level are classes.

    Whether an image belongs to the test split depends on its path inside the folder alone, so that adding
    images moves none from one split to the other. A cache does not know of images that come later: delete it.

    Arguments:
        root: the folder.
        size: side of the square; the shorter side is resized to it, then the centre is cropped.
        channels: 1 for grey, 3 for colour.
        test_fraction: share of the test split.
        skip_corrupt: leave out, with a warning, images that cannot be read; otherwise they are an error.
        cache: folder of a copy of the decoded images, for sets larger than memory; None keeps them in memory.
    """

    root: str
    size: int = 32
    channels: int = 3
    test_fraction: float = 0.1
    skip_corrupt: bool = False

    places: ClassVar[frozenset[str]] = frozenset({"root", "cache"})

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        check_square(self.size, self.channels)
        check_fraction(self.test_fraction)

    def stream(self) -> Stream:
        """List the images, and read them in the order of their hashes: the first n are a fair sample."""
        root = Path(self.root)
        if not root.is_dir():
            raise ValueError(f"there is no folder {root}; give the folder of your images with data.root=...")
        names = [
            path.relative_to(root)
            for path in root.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file()
        ]
        names.sort(key=lambda name: (share(name.as_posix()), name))
        labelled = all(len(name.parts) > 1 for name in names)
        classes = sorted({name.parts[0] for name in names}) if labelled else []
        return Stream(
            self._samples(root, names, {name: i for i, name in enumerate(classes)}),
            len(classes),
            tuple(classes),
        )

    def _samples(self, root: Path, names: list[Path], classes: dict[str, int]) -> Iterator[Sample]:
        corrupt: list[str] = []
        seen = 0
        every = all(share(name.as_posix()) < self.test_fraction for name in names)
        for name, image in zip(names, in_threads(self._read, (root / name for name in names)), strict=True):
            if isinstance(image, str):
                corrupt.append(f"{root / name} ({image})")
                continue
            # in a small folder, too: both splits need an image
            test = seen == 0 or (not every and share(name.as_posix()) < self.test_fraction)
            yield Sample(image, classes.get(name.parts[0]), test)
            seen += 1
        if corrupt:
            self._complain(sorted(corrupt))
        if seen < 2:
            raise ValueError(
                f"{root} holds {seen} readable images ({', '.join(sorted(SUFFIXES))}); at least 2 are needed"
            )

    def _read(self, path: Path) -> Tensor | str:
        """The image, or why there is none."""
        try:
            with Image.open(path) as image:
                return square(image, size=self.size, channels=self.channels)
        except UNREADABLE as error:
            return str(error)

    def _complain(self, corrupt: list[str]) -> None:
        listing = "; ".join(corrupt[:10])
        listing += f"; and {len(corrupt) - 10} more" if len(corrupt) > 10 else ""
        if not self.skip_corrupt:
            raise ValueError(
                f"{len(corrupt)} images cannot be read: {listing}; mend them or give data.skip_corrupt=true"
            )
        warnings.warn(f"left out {len(corrupt)} images that cannot be read: {listing}", stacklevel=2)
