"""Any folder of images."""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sde_gen.data.base import Source, Splits, split

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Source):
    """All images below a folder, resized and cropped to squares; sub-folders of the first level are classes.

    Whether an image belongs to the test split depends on its path inside the folder alone, so that adding
    images moves none from one split to the other.

    Arguments:
        root: the folder.
        size: side of the square; the shorter side is resized to it, then the centre is cropped.
        channels: 1 for grey, 3 for colour.
        test_fraction: share of the test split.
        skip_corrupt: leave out, with a warning, images that cannot be read; otherwise they are an error.
    """

    root: str
    size: int = 32
    channels: int = 3
    test_fraction: float = 0.1
    skip_corrupt: bool = False

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if self.size < 1 or self.channels not in (1, 3):
            raise ValueError(
                f"size={self.size}, channels={self.channels}: expected a positive size and 1 or 3 channels"
            )
        if not 0 < self.test_fraction < 1:
            raise ValueError(f"test_fraction={self.test_fraction} must lie strictly between 0 and 1")

    def load(self) -> Splits:
        """Read the images."""
        root = Path(self.root)
        if not root.is_dir():
            raise ValueError(f"there is no folder {root}; give the folder of your images with data.root=...")
        paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        images: dict[Path, Tensor] = {}
        corrupt: list[str] = []
        for path in paths:
            try:
                images[path] = self._read(path)
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                corrupt.append(f"{path} ({error})")
        if corrupt:
            listing = "; ".join(corrupt[:10]) + (
                f"; and {len(corrupt) - 10} more" if len(corrupt) > 10 else ""
            )
            if not self.skip_corrupt:
                raise ValueError(
                    f"{len(corrupt)} images cannot be read: {listing}; mend them or give data.skip_corrupt=true"
                )
            warnings.warn(f"left out {len(corrupt)} images that cannot be read: {listing}", stacklevel=2)
        if len(images) < 2:
            raise ValueError(
                f"{root} holds {len(images)} readable images ({', '.join(sorted(SUFFIXES))}); at least 2 are needed"
            )
        # in the order of their hashes: the first n of a split are a fair sample of its classes
        images = dict(sorted(images.items(), key=lambda item: self._share(item[0].relative_to(root))))
        classes = sorted(
            {path.relative_to(root).parts[0] for path in images if len(path.relative_to(root).parts) > 1}
        )
        labels = (
            torch.tensor([classes.index(path.relative_to(root).parts[0]) for path in images])
            if self._labelled(root, images)
            else None
        )
        test = torch.tensor([self._share(path.relative_to(root)) < self.test_fraction for path in images])
        if bool(test.all()) or not bool(test.any()):  # a small folder: both splits need an image
            test[:], test[0] = False, True
        return split(
            torch.stack(list(images.values())),
            labels,
            levels=256,
            classes=len(classes) if labels is not None else 0,
            test=test,
        )

    def _labelled(self, root: Path, images: dict[Path, Tensor]) -> bool:
        return all(len(path.relative_to(root).parts) > 1 for path in images)

    def _share(self, path: Path) -> float:
        digest = hashlib.sha256(path.as_posix().encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def _read(self, path: Path) -> Tensor:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):  # Pillow would cut their levels off at 255
                raise ValueError(f"more than 8 bits a channel, mode {image.mode}; convert it to 8")
            upright = ImageOps.exif_transpose(image).convert("L" if self.channels == 1 else "RGB")
        square = ImageOps.fit(upright, (self.size, self.size), Image.Resampling.LANCZOS)
        return (
            torch.from_numpy(np.array(square)).reshape(self.size, self.size, self.channels).permute(2, 0, 1)
        )
