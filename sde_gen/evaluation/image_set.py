"""Sets of images for metrics: folders, and a simple model of a data set as a baseline."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sde_gen.data.image import UNREADABLE, decode_image, in_threads, is_animated
from sde_gen.utils.hashing import digest

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})

MOST_PIXELS = 4096
"""Maximum number of values per image for a covariance."""


def read_folder(folder: Path) -> Tensor:
    """Read all images of a folder and its subfolders, in the order of their paths; of animations the first frames.

    Returns:
        uint8 with shape (n, C, H, W), C = 1 if all images are gray and 3 otherwise.

    Raises:
        ValueError: there is no image in it, one is damaged, or they have several sizes.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    found = list(in_threads(_read, paths))
    arrays = [array for array, _ in found]
    animated = [path.name for path, (_, several) in zip(paths, found, strict=True) if several]
    if animated:
        warnings.warn(
            f"{folder}: {len(animated)} of {len(paths)} images hold several frames, of which the first is used, such "
            f"as {animated[0]}",
            stacklevel=2,
        )
    sizes = {array.shape[:2]: path for array, path in zip(arrays, paths, strict=True)}
    if len(sizes) > 1:
        listing = ", ".join(f"{w}x{h} ({path.name})" for (h, w), path in sorted(sizes.items())[:3])
        subfolder = folder / "images"  # of the samples of a command
        advice = f"name the folder {subfolder}" if subfolder.is_dir() else "resize them to one"
        raise ValueError(f"the images of {folder} have several sizes: {listing}; {advice}")
    if any(array.ndim == 3 for array in arrays):
        arrays = [array if array.ndim == 3 else np.repeat(array[..., None], 3, 2) for array in arrays]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return torch.from_numpy(np.stack(arrays)).unsqueeze(1)


def _read(path: Path) -> tuple[np.ndarray, bool]:
    try:
        with Image.open(path) as file:
            several = is_animated(file)
            image = decode_image(file)
        return np.array(image.convert("L" if image.mode in ("1", "L") else "RGB")), several
    except UNREADABLE as error:
        raise ValueError(f"{path} is no image that can be read ({error})") from error


def fingerprint(images: Tensor) -> str:
    """Return a hash of images, 16 hexadecimal digits."""
    return digest([images])


class FittedGaussian:
    """Images of a Gaussian with the mean and covariance of the pixels of a set, rounded to 8 bits.

    A model of the first two moments of the pixels only, the null of sample metrics.

    Arguments:
        images: uint8 with shape (n, C, H, W).

    Raises:
        ValueError: the images have too many pixels for a covariance.
    """

    def __init__(self, images: Tensor) -> None:
        x = images.flatten(1).double()
        if x.shape[1] > MOST_PIXELS:
            raise ValueError(
                f"images of {x.shape[1]} numbers have too large a covariance; at most {MOST_PIXELS}"
            )
        self.shape = images.shape[1:]
        self.mean = x.mean(0)
        values, vectors = torch.linalg.eigh((x - self.mean).mT @ (x - self.mean) / max(len(x) - 1, 1))
        self.root: Tensor = vectors * values.clamp(min=0).sqrt()

    def draw(self, count: int, seed: int) -> Tensor:
        """Draw uint8 images with shape (count, C, H, W)."""
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(count, self.root.shape[1], generator=generator, dtype=torch.float64)
        x: Tensor = self.mean + z @ self.root.mT
        return x.round().clamp(0, 255).to(torch.uint8).reshape(count, *self.shape)
