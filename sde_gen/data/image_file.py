"""Images given by a person, read by the rule of image folders."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from sde_gen.data.image import UNREADABLE, fitted, plain
from sde_gen.utils.types import Shape


def load_image(path: Path, *shapes: Shape, background: str | None = "white") -> Tensor:
    """Read one image in that of several shapes which is nearest to its own, by the rule of image folders.

    Its size decides first, then whether it has colors, then the order of the shapes. Where the size is another, it is
    resized and cropped, which a warning says, as it says that colors are lost.

    Arguments:
        path: any file that Pillow reads.
        shapes: what it may become, each (C, H, W) with C = 1 or 3.
        background: color on which transparent pixels are laid, as for :func:`sde_gen.data.plain`.

    Returns:
        uint8 with one of the shapes.

    Raises:
        ValueError: there is no such file, it cannot be read, or it has more than 8 bits a channel.
    """
    try:
        with Image.open(path) as file:
            image = plain(file, background=background)
    except FileNotFoundError as error:
        raise ValueError(f"there is no image {path}") from error
    except UNREADABLE as error:
        raise ValueError(f"{path} is no image that can be read ({error})") from error
    size, channels = (image.height, image.width), 1 if _is_grey(image) else 3
    shape = min(shapes, key=lambda one: (one[1:] != size, one[0] != channels))
    done = (
        [] if shape[1:] == size else [f"resized from {_size(size)} and cropped to {_size(shape[1:])} pixels"]
    )
    done += ["its colors made grey"] if shape[0] < channels else []
    if done:
        warnings.warn(f"{path}: {', '.join(done)}", stacklevel=2)
    return fitted(image, shape)


def _size(size: Shape) -> str:
    return f"{size[1]}x{size[0]}"


def _is_grey(image: Image.Image) -> bool:
    """Whether there is no color in an image without transparency, however it is stored."""
    if image.mode in ("1", "L"):
        return True
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    return bool((red == green).all() and (green == blue).all())
