"""Data sets of pairs of images: what is given, and what is to be made of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from sde_gen.data.base import Dataset, DatasetSource, Splits, check_fraction, hash_fraction
from sde_gen.data.folder_layout import SUFFIXES, files
from sde_gen.data.image import UNREADABLE, Size, check_resized, decode_image, fitted, in_threads, sides
from sde_gen.utils.types import Shape

MOST_LISTED = 5
"""Files that a message names."""


@dataclass(frozen=True, kw_only=True)
class Pairs(DatasetSource):
    """Pairs of images in two folders, ``input`` and ``target``, with the same relative names but for their suffix.

    The target is a sample; the input is its condition ``image``, for ``conditioning=image``. Both are resized to cover
    the same size and cropped at the center. Pairs are assigned to the test split by a hash of their names, so that
    adding pairs moves none between the splits.

    Arguments:
        root: folder of both folders.
        input: name of the folder of the inputs.
        target: name of the folder of the targets.
        size: side of a square, or height and width.
        channels: 1 for gray targets, 3 for color.
        input_channels: 1 for gray inputs, 3 for color; None: as the targets.
        test_fraction: fraction of the test split.
        background: color behind transparent pixels, by name or as #rrggbb; None drops the alpha channel and uses the
            stored colors.

    Raises:
        ValueError: a size, a number of channels, a color or the fraction is out of range.
    """

    root: str
    input: str = "input"
    target: str = "target"
    size: Size = 32
    channels: int = 3
    input_channels: int | None = None
    test_fraction: float = 0.1
    background: str | None = "white"

    places: ClassVar[frozenset[str]] = frozenset({"root"})

    def __post_init__(self) -> None:
        check_fraction(self.test_fraction)
        for channels in (self.channels, self.input_channels or self.channels):
            check_resized(self.size, channels, self.background)
        if self.input == self.target:
            raise ValueError(f"input={self.input} is the folder of the targets, too; expected two folders")

    def load(self) -> Splits:
        """Read all pairs."""
        inputs, targets = (self._named(Path(self.root) / folder) for folder in (self.input, self.target))
        for mine, others, folder in ((inputs, targets, self.target), (targets, inputs, self.input)):
            alone = [mine[name] for name in sorted(mine.keys() - others.keys())]
            if alone:
                raise ValueError(
                    f"{_listed(alone)} has no partner in {Path(self.root) / folder}; pairs have the same name but "
                    "for the suffix: add it, or move the file away"
                )
        names = sorted(targets, key=lambda name: (hash_fraction(name), name))
        if len(names) < 2:
            raise ValueError(
                f"{self.root} holds {len(names)} pairs; at least 2 are needed, one for each split"
            )
        images, broken = [], []
        for pair in in_threads(self._read, [(inputs[name], targets[name]) for name in names]):
            if isinstance(pair, str):
                broken.append(pair)
            else:
                images.append(pair)
        if broken:
            raise ValueError(
                f"{len(broken)} pairs cannot be read: {_listed(broken)}; repair them or move them away"
            )
        given, made = (torch.stack(part) for part in zip(*images, strict=True))
        test = torch.tensor([hash_fraction(name) < self.test_fraction for name in names])
        test[0], test[-1] = True, False  # both splits need a pair, in a small folder too
        train, held_out = (
            Dataset(values=made[mask], levels=256, conditions={"image": given[mask]})
            for mask in (~test, test)
        )
        return Splits(train=train, test=held_out)

    def _named(self, folder: Path) -> dict[str, Path]:
        """Return the images of a folder by their relative names without suffix."""
        if not folder.is_dir():
            raise ValueError(
                f"folder not found: {folder}; data.root=... needs the folders {self.input} and {self.target}"
            )
        found: dict[str, Path] = {}
        for path in files(folder):
            if path.suffix.lower() not in SUFFIXES:
                continue
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise ValueError(
                    f"{found[name]} and {path} differ by their suffix only; expected one image of a name"
                )
            found[name] = path
        return found

    def _read(self, paths: tuple[Path, Path]) -> tuple[Tensor, Tensor] | str:
        """Return input and target, or the reason why they cannot be read."""
        opened: list[Image.Image] = []
        for path in paths:
            try:
                with Image.open(path) as file:
                    opened.append(decode_image(file, background=self.background))
            except UNREADABLE as error:
                return f"{path} ({str(error) or type(error).__name__})"
        (width, height), (other_width, other_height) = (image.size for image in opened)
        if (
            abs(width * other_height - other_width * height)
            > max(width * other_height, other_width * height) / 50
        ):
            return (
                f"{paths[0]} ({width}x{height} pixels, {paths[1]} {other_width}x{other_height}: another aspect ratio, "
                "so that cropping would move one against the other)"
            )
        shapes: Sequence[Shape] = [
            (channels, *sides(self.size))
            for channels in (self.input_channels or self.channels, self.channels)
        ]
        first, second = (fitted(image, shape) for image, shape in zip(opened, shapes, strict=True))
        return first, second


def _listed(items: Sequence[object]) -> str:
    """Abbreviate a list to its first items and their number."""
    rest = f" and {len(items) - MOST_LISTED} more" if len(items) > MOST_LISTED else ""
    return "; ".join(map(str, items[:MOST_LISTED])) + rest
