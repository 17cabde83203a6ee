"""Any folder of images."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL import Image
from torch import Tensor

from sde_gen.data.base import check_fraction, hash_fraction
from sde_gen.data.image import UNREADABLE, check_square, in_threads, square
from sde_gen.data.layout import SUFFIXES, Found, layout
from sde_gen.data.streaming import ImageStream, Sample, StreamingSource


@dataclass(frozen=True, kw_only=True)
class ImageFolder(StreamingSource):
    """All images below a folder, resized and cropped to squares; sub-folders of the first level are classes.

    Sub-folders that are called train and test (or val, valid, validation), and no others, are the splits, and those
    in them the classes. Names that begin with a dot are left out at every depth. Links are followed, each folder once
    in a class. An image right in the folder, beside those of classes, has no class, and then none has.

    An image's transparent pixels are laid on the background, it is turned upright as its EXIF says, and one of more
    than 8 bits a channel, grey or color, cannot be read: :func:`sde_gen.data.plain`.

    Without such splits, whether an image belongs to the test split depends on its path inside the folder alone, so
    that adding images moves none from one split to the other. A cache does not know of images that come later:
    delete it.

    Arguments:
        root: the folder.
        size: side of the square; the shorter side is resized to it, then the center is cropped.
        channels: 1 for grey, 3 for color.
        test_fraction: share of the test split, where no folder is one.
        train: name of the sub-folder that is the training split, for other names; what is in neither is left out.
        test: name of the sub-folder that is the test split.
        background: color on which transparent pixels are laid, by a name or as #rrggbb; None leaves out the
            transparency, so that the colors show that are stored under it.
        skip_corrupt: leave out, with a warning, images that cannot be read; otherwise they are an error.
        cache: folder of a copy of the decoded images, for sets larger than memory; None keeps them in memory.
    """

    root: str
    size: int = 32
    channels: int = 3
    test_fraction: float = 0.1
    train: str | None = None
    test: str | None = None
    background: str | None = "white"
    skip_corrupt: bool = False

    places: ClassVar[frozenset[str]] = frozenset({"root", "cache"})

    def __post_init__(self) -> None:
        check_square(self.size, self.channels, self.background)
        check_fraction(self.test_fraction)

    def stream(self) -> ImageStream:
        """List the images, and read them in the order of their hashes: the first n are a fair sample."""
        root = Path(self.root)
        if not root.is_dir():
            raise ValueError(f"there is no folder {root}; give the folder of your images with data.root=...")
        images, labels, notes = layout(root, train=self.train, test=self.test)
        if notes:
            warnings.warn(f"{root}: {'; '.join(notes)}", stacklevel=2)
        images.sort(key=lambda image: (hash_fraction(image.name.as_posix()), image.name))
        return ImageStream(
            self._samples(root, images, {name: i for i, name in enumerate(labels)}),
            len(labels),
            tuple(labels),
        )

    def _samples(self, root: Path, images: list[Found], classes: dict[str, int]) -> Iterator[Sample]:
        corrupt: list[str] = []
        seen = {False: 0, True: 0}
        drawn = [hash_fraction(found.name.as_posix()) < self.test_fraction for found in images]
        every = all(drawn)
        paths = (root / found.name for found in images)
        for found, small, image in zip(images, drawn, in_threads(self._read, paths), strict=True):
            if isinstance(image, str):
                corrupt.append(f"{root / found.name} ({image})")
                continue
            # drawn in a small folder, too, both splits need an image: the first one is the test split's
            test = not any(seen.values()) or (small and not every) if found.test is None else found.test
            yield Sample(image, classes.get(found.label) if found.label else None, test)
            seen[test] += 1
        if corrupt:
            self._complain(sorted(corrupt))
        if not all(seen.values()):
            count = f"{seen[False]} readable images to train on and {seen[True]} to test"
            raise ValueError(
                f"{root} holds {count} ({', '.join(sorted(SUFFIXES))}); at least 2 are needed, one for each"
            )

    def _read(self, path: Path) -> Tensor | str:
        """The image, or why there is none."""
        if not path.is_file():
            return "no file, or a link to one that is not there"
        try:
            with Image.open(path) as image:
                return square(image, size=self.size, channels=self.channels, background=self.background)
        except UNREADABLE as error:
            return str(error) or type(error).__name__

    def _complain(self, corrupt: list[str]) -> None:
        listing = "; ".join(corrupt[:10])
        listing += f"; and {len(corrupt) - 10} more" if len(corrupt) > 10 else ""
        if not self.skip_corrupt:
            raise ValueError(
                f"{len(corrupt)} images cannot be read: {listing}; mend them or give data.skip_corrupt=true"
            )
        warnings.warn(f"left out {len(corrupt)} images that cannot be read: {listing}", stacklevel=2)
