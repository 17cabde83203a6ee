"""Conversion of image files to 8 bits per channel: rotated by EXIF, without alpha, resized and cropped."""

import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageColor, ImageOps
from torch import Tensor

from sde_gen.data.bit_depth import is_deep
from sde_gen.utils.types import Shape

UNREADABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, RuntimeError),
    *(LookupError, EOFError, OverflowError, struct.error, Image.DecompressionBombError),
)
"""Exceptions of Pillow for a file that is not an image or is damaged."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Inverse transformations of the EXIF orientations."""

ANIMATED = frozenset({"AVIF", "GIF", "PNG", "TIFF", "WEBP"})
"""Formats whose files may hold several frames or pages."""

In = TypeVar("In")
Out = TypeVar("Out")


Size = int | Sequence[int]
"""Side of a square, or height and width."""


def sides(size: Size) -> tuple[int, int]:
    """Return height and width of a size.

    Raises:
        ValueError: it is no side and no pair of sides, or one of them is not positive.
    """
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"size={size}: expected a positive side, or height and width such as [24, 40]")
    return pair


def resized(image: Image.Image, *, size: Size, channels: int, background: str | None = "white") -> Tensor:
    """Rotate an image by its EXIF orientation, resize it to cover a rectangle and crop the center.

    Arguments:
        image: the opened image; this function decodes it.
        size: side of a square, or height and width.
        channels: 1 for gray, 3 for color.
        background: as for :func:`plain`.

    Returns:
        uint8 with shape (channels, height, width).

    Raises:
        ValueError: the image has more than 8 bits per channel.
        OSError: the image is damaged; Pillow also raises the other exceptions of UNREADABLE.
    """
    return fitted(decode_image(image, background=background), (channels, *sides(size)))


def decode_image(image: Image.Image, *, background: str | None = "white") -> Image.Image:
    """Decode an image, rotate it by its EXIF orientation and remove the alpha channel.

    Arguments:
        image: an opened image file; the bit depth is checked from the file.
        background: color behind transparent pixels, by name or as #rrggbb; None drops the alpha channel and uses the
            stored colors.

    Raises:
        ValueError: the image has more than 8 bits per channel.
        OSError: the image is damaged; Pillow also raises the other exceptions of UNREADABLE.
    """
    if is_deep(image):
        raise ValueError(f"more than 8 bits per channel, mode {image.mode}; convert it to 8")
    rotated = upright(image)
    if not rotated.has_transparency_data:
        return (
            rotated.convert("RGB") if rotated.mode == "LAB" else rotated
        )  # Pillow converts LAB to sRGB only
    drawn = rotated.convert("RGBA")
    if background is not None:
        drawn = Image.alpha_composite(Image.new("RGBA", drawn.size, background), drawn)
    return drawn.convert("RGB")


def is_animated(image: Image.Image) -> bool:
    """Return True if an opened but not yet decoded image file holds several frames, of which only the first is decoded.

    The further images of an MPO file (a photo's previews and gain maps) and the layers of a PSD file are no frames.
    """
    return image.format in ANIMATED and bool(getattr(image, "is_animated", False))


def upright(image: Image.Image) -> Image.Image:
    """Rotate an image by its EXIF orientation; all other tags are ignored."""
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except UNREADABLE:  # of the EXIF only: the image was decoded before
        orientation = None
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def fitted(image: Image.Image, shape: Shape) -> Tensor:
    """Resize an image without alpha channel to cover a shape, and crop the center.

    Arguments:
        image: the image.
        shape: (C, H, W), C = 1 for gray or 3 for color.

    Returns:
        uint8 with that shape.
    """
    channels, height, width = shape
    colors = image.convert("L" if channels == 1 else "RGB")
    cropped = ImageOps.fit(colors, (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(cropped)).reshape(height, width, channels).permute(2, 0, 1)


def check_resized(size: Size, channels: int, background: str | None) -> None:
    """Check the arguments of :func:`resized`.

    Raises:
        ValueError: size or channels is out of range, or the background is not a color.
    """
    sides(size)
    if channels not in (1, 3):
        raise ValueError(f"channels={channels}: expected 1 or 3 channels")
    check_background(background)


def check_background(background: str | None) -> None:
    """Check the background color.

    Raises:
        ValueError: the background is not a color.
    """
    try:
        color = (0, 0, 0) if background is None else ImageColor.getrgb(background)
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"background={background!r} is not a color; expected a name such as white, '#rrggbb', or null to "
            "drop the alpha channel"
        ) from error
    if len(color) != 3:
        raise ValueError(f"background={background!r} is transparent; expected a color as '#rrggbb'")


def in_threads(work: Callable[[In], Out], items: Iterable[In], threads: int | None = None) -> Iterator[Out]:
    """Map a function over items in a thread pool and yield the results in order.

    Only a few results per thread are pending at a time, so that memory is bounded. Pillow releases the global
    interpreter lock while it decodes.

    Arguments:
        work: function of an item.
        items: the items.
        threads: number of threads; None for one per core.

    Raises:
        Exception: exception of ``work``, raised at the position of its item.
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
