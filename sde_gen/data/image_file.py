"""Single image files from the user, read like those of an image folder."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from sde_gen.data.image import UNREADABLE, decode_image, fitted, is_animated
from sde_gen.utils.atomic import check_regular
from sde_gen.utils.types import Shape


def load_image(path: Path, *shapes: Shape, background: str | None = "white") -> Tensor:
    """Read an image in the best matching of several shapes, like an image of an image folder.

    The match is by size, then by color or gray, then by the order of the shapes. Images of other sizes are resized and
    cropped; this and the loss of colors are warned about.

    Arguments:
        path: any file that Pillow reads.
        shapes: candidate shapes, each (C, H, W) with C = 1 or 3.
        background: color behind transparent pixels, as for :func:`sde_gen.data.decode_image`.

    Returns:
        uint8 with one of the shapes.

    Raises:
        ValueError: the file is missing or unreadable, or has several frames, or more than 8 bits per channel.
    """
    image = open_image(path, background=background)
    size, channels = (image.height, image.width), 1 if _is_gray(image) else 3
    shape = min(shapes, key=lambda one: (one[1:] != size, one[0] != channels))
    done = (
        [] if shape[1:] == size else [f"resized from {_size(size)} and cropped to {_size(shape[1:])} pixels"]
    )
    done += ["its colors converted to gray"] if shape[0] < channels else []
    if done:
        warnings.warn(f"{path}: {', '.join(done)}", stacklevel=2)
    return fitted(image, shape)


def open_image(path: Path, *, background: str | None = "white") -> Image.Image:
    """Read an image as it is.

    Arguments:
        path: any file that Pillow reads.
        background: color behind transparent pixels, as for :func:`sde_gen.data.decode_image`.

    Raises:
        ValueError: as :func:`load_image`.
    """
    try:
        check_regular(path)
        with Image.open(path) as file:
            animated = is_animated(file)
            image = decode_image(file, background=background)
    except FileNotFoundError as error:
        raise ValueError(f"image not found: {path}") from error
    except UNREADABLE as error:
        raise ValueError(f"{path} is not a readable image ({error})") from error
    if animated:
        raise ValueError(
            f"{path} holds several frames or pages, and one image is needed: save one of them as a file"
        )
    return image


def _size(size: Shape) -> str:
    return f"{size[1]}x{size[0]}"


def _is_gray(image: Image.Image) -> bool:
    """Return True if an image without alpha channel has no colors, also if it is stored as RGB."""
    if image.mode in ("1", "L"):
        return True
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    return bool((red == green).all() and (green == blue).all())
