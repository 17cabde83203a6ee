"""Data sets from a folder of images."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL import Image
from torch import Tensor

from sde_gen.data.base import check_fraction, hash_fraction
from sde_gen.data.folder_layout import SUFFIXES, ImageEntry, find_images
from sde_gen.data.image import UNREADABLE, Size, check_resized, in_threads, is_animated, resized
from sde_gen.data.streaming import ImageStream, Sample, StreamingSource


@dataclass(frozen=True, kw_only=True)
class ImageFolder(StreamingSource):
    """All images below a folder, resized and cropped to one size; first-level sub-folders are the classes.

    If the sub-folders are exactly train and test (or val, valid, validation), they are the splits, and their
    sub-folders the classes. Hidden names (leading dot) are ignored at every depth. Links are followed, each folder once
    per class. If an image lies directly in the folder, beside sub-folders of classes, all labels are dropped.

    Transparent pixels are composited over the background, images are rotated by their EXIF orientation, and images of
    more than 8 bits per channel are rejected: :func:`sde_gen.data.decode_image`. Of an animation or several pages the
    first frame is used, with a warning.

    Without splits, images are assigned to the test split by a hash of their relative path, so that adding images
    moves none between the splits. A cache does not include images added later: delete it to rebuild it.

    Arguments:
        root: the folder.
        size: side of a square, or height and width; the image is resized to cover it, then the center is cropped.
        channels: 1 for gray, 3 for color.
        test_fraction: fraction of the test split, if no folder is one.
        train: name of the sub-folder of the training split, if not one of the above; other sub-folders are ignored.
        test: name of the sub-folder of the test split.
        background: color behind transparent pixels, by name or as #rrggbb; None drops the alpha channel and uses the
            stored colors.
        skip_corrupt: skip unreadable images with a warning; otherwise they are an error.
        cache: folder for a copy of the decoded images, for sets larger than memory; None keeps them in memory.
    """

    root: str
    size: Size = 32
    channels: int = 3
    test_fraction: float = 0.1
    train: str | None = None
    test: str | None = None
    background: str | None = "white"
    skip_corrupt: bool = False

    places: ClassVar[frozenset[str]] = frozenset({"root", "cache"})

    def __post_init__(self) -> None:
        check_resized(self.size, self.channels, self.background)
        check_fraction(self.test_fraction)

    def stream(self) -> ImageStream:
        """List the images and stream them in order of their hashes, so that the first n are a random subset."""
        root = Path(self.root)
        if not root.is_dir():
            raise ValueError(f"folder not found: {root}; give the folder of your images with data.root=...")
        images, labels, notes = find_images(root, train=self.train, test=self.test)
        if notes:
            warnings.warn(f"{root}: {'; '.join(notes)}", stacklevel=2)
        images.sort(key=lambda image: (hash_fraction(image.name.as_posix()), image.name))
        return ImageStream(
            self._samples(root, images, {name: i for i, name in enumerate(labels)}),
            len(labels),
            tuple(labels),
        )

    def _samples(self, root: Path, images: list[ImageEntry], classes: dict[str, int]) -> Iterator[Sample]:
        corrupt: list[str] = []
        animated: list[str] = []
        counts = {False: 0, True: 0}
        drawn = [hash_fraction(entry.name.as_posix()) < self.test_fraction for entry in images]
        every = all(drawn)
        paths = (root / entry.name for entry in images)
        for entry, small, (image, several) in zip(images, drawn, in_threads(self._read, paths), strict=True):
            if isinstance(image, str):
                corrupt.append(f"{root / entry.name} ({image})")
                continue
            if several:
                animated.append(entry.name.as_posix())
            # both splits need an image, in a small folder too: the first one goes to the test split
            test = not any(counts.values()) or (small and not every) if entry.test is None else entry.test
            yield Sample(image, classes.get(entry.label) if entry.label else None, test)
            counts[test] += 1
        if corrupt:
            self._report_corrupt(sorted(corrupt))
        if animated:
            listing = ", ".join(sorted(animated)[:3]) + (", ..." if len(animated) > 3 else "")
            warnings.warn(
                f"{root}: {len(animated)} of {sum(counts.values())} images hold several frames or pages, of which the "
                f"first is used: {listing}",
                stacklevel=2,
            )
        if not all(counts.values()):
            count = f"{counts[False]} readable images to train on and {counts[True]} to test"
            raise ValueError(
                f"{root} holds {count} ({', '.join(sorted(SUFFIXES))}); at least 2 are needed, one for each"
            )

    def fit(self, image: Image.Image) -> Tensor:
        """Decode an image, resize it to cover the size and crop the center."""
        return resized(image, size=self.size, channels=self.channels, background=self.background)

    def _read(self, path: Path) -> tuple[Tensor | str, bool]:
        """Return the image or the reason why it cannot be read, and whether the file holds several frames."""
        if not path.is_file():
            return "not a file, or a broken link", False
        try:
            with Image.open(path) as image:
                several = is_animated(image)
                return self.fit(image), several
        except UNREADABLE as error:
            return str(error) or type(error).__name__, False

    def _report_corrupt(self, corrupt: list[str]) -> None:
        listing = "; ".join(corrupt[:10])
        listing += f"; and {len(corrupt) - 10} more" if len(corrupt) > 10 else ""
        if not self.skip_corrupt:
            raise ValueError(
                f"{len(corrupt)} images cannot be read: {listing}; repair them or give data.skip_corrupt=true"
            )
        warnings.warn(f"skipped {len(corrupt)} unreadable images: {listing}", stacklevel=2)
