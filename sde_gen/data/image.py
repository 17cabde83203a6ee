"""Any image as a square of bytes."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

UNREADABLE = OSError, SyntaxError, ValueError, Image.DecompressionBombError
"""What Pillow raises for a file that is no image, or a damaged one."""

In = TypeVar("In")
Out = TypeVar("Out")


def square(image: Image.Image, *, size: int, channels: int) -> Tensor:
    """Turn an image upright, resize its shorter side and crop the centre.

    Arguments:
        image: the image; it is decoded here.
        size: side of the square.
        channels: 1 for grey, 3 for colour.

    Returns:
        uint8 with shape (channels, size, size).

    Raises:
        ValueError: it has more than 8 bits a channel.
        OSError: it is damaged; Pillow raises further ones of UNREADABLE.
    """
    if image.mode.startswith(("I", "F")):  # Pillow would cut their levels off at 255
        raise ValueError(f"more than 8 bits a channel, mode {image.mode}; convert it to 8")
    upright = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    fitted = ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).reshape(size, size, channels).permute(2, 0, 1)


def check_square(size: int, channels: int) -> None:
    """Refuse squares that :func:`square` cannot make.

    Raises:
        ValueError: size or channels is out of its range.
    """
    if size < 1 or channels not in (1, 3):
        raise ValueError(f"size={size}, channels={channels}: expected a positive size and 1 or 3 channels")


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
