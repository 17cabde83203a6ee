"""Any image file as 8 bits a channel: upright, without transparency, resized and cropped."""

import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageColor, ImageOps
from torch import Tensor

from sde_gen.data.depth import deep
from sde_gen.utils.types import Shape

UNREADABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, RuntimeError),
    *(LookupError, EOFError, OverflowError, struct.error, Image.DecompressionBombError),
)
"""What Pillow raises for a file that is no image, or a damaged one."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to undo an Orientation of EXIF."""

In = TypeVar("In")
Out = TypeVar("Out")


def square(image: Image.Image, *, size: int, channels: int, background: str | None = "white") -> Tensor:
    """Turn an image upright, resize its shorter side and crop the center.

    Arguments:
        image: the image; it is decoded here.
        size: side of the square.
        channels: 1 for grey, 3 for color.
        background: as for :func:`plain`.

    Returns:
        uint8 with shape (channels, size, size).

    Raises:
        ValueError: it has more than 8 bits a channel.
        OSError: it is damaged; Pillow raises further ones of UNREADABLE.
    """
    return fitted(plain(image, background=background), (channels, size, size))


def plain(image: Image.Image, *, background: str | None = "white") -> Image.Image:
    """Decode an image, turn it upright and take its transparency away.

    Arguments:
        image: an image file that is opened; more than 8 bits a channel are known by the file alone.
        background: the color on which transparent pixels are laid, by a name or as #rrggbb; None leaves out the
            transparency, so that the colors show that are stored under it.

    Raises:
        ValueError: it has more than 8 bits a channel, of grey or of color.
        OSError: it is damaged; Pillow raises further ones of UNREADABLE.
    """
    if deep(image):
        raise ValueError(f"more than 8 bits a channel, mode {image.mode}; convert it to 8")
    found = upright(image)
    if not found.has_transparency_data:
        return found
    drawn = found.convert("RGBA")
    if background is not None:
        drawn = Image.alpha_composite(Image.new("RGBA", drawn.size, background), drawn)
    return drawn.convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as the Orientation of its EXIF says; no other tag is looked at, whatever it holds."""
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except UNREADABLE:  # of the EXIF alone: the picture was decoded
        orientation = None
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def fitted(image: Image.Image, shape: Shape) -> Tensor:
    """Resize an image without transparency until it covers a shape, and crop the center.

    Arguments:
        image: the image.
        shape: (C, H, W), C = 1 for grey or 3 for color.

    Returns:
        uint8 with that shape.
    """
    channels, height, width = shape
    colors = image.convert("L" if channels == 1 else "RGB")
    cropped = ImageOps.fit(colors, (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(cropped)).reshape(height, width, channels).permute(2, 0, 1)


def check_square(size: int, channels: int, background: str | None) -> None:
    """Refuse squares that :func:`square` cannot make.

    Raises:
        ValueError: size or channels is out of its range, or the background is no color.
    """
    if size < 1 or channels not in (1, 3):
        raise ValueError(f"size={size}, channels={channels}: expected a positive size and 1 or 3 channels")
    check_background(background)


def check_background(background: str | None) -> None:
    """Refuse backgrounds that are no color.

    Raises:
        ValueError: it is none.
    """
    try:
        color = (0, 0, 0) if background is None else ImageColor.getrgb(background)
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"background={background!r} is no color; expected a name such as white, '#rrggbb', or null to leave "
            "out the transparency"
        ) from error
    if len(color) != 3:
        raise ValueError(f"background={background!r} is transparent itself; expected a color as '#rrggbb'")


def in_threads(work: Callable[[In], Out], items: Iterable[In], threads: int | None = None) -> Iterator[Out]:
    """Do the same work on images for all items, some of them at a time, and yield the results in their order.

    No more results wait to be asked for than a few for every thread, so memory is bounded however many items there
    are. Pillow decodes without Python's lock.

    Arguments:
        work: what to do.
        items: what to do it for.
        threads: how many at a time; None for one per core.

    Raises:
        Exception: what ``work`` raised, when it is that item's turn.
    """
    Image.init()  # a thread that finds another one loading Pillow's formats would do without them
    threads = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Out]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 4 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
