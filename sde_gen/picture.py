"""Pictures as files: grids of images, clouds of points, films of a trajectory, and one image read."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from sde_gen._typing import Shape
from sde_gen.data.image import UNREADABLE, fitted, plain


def save_samples(samples: Tensor, path: Path) -> None:
    """Save samples as one PNG: a grid of images, or a scatter plot of vectors.

    Arguments:
        samples: images uint8 with shape (B, C, H, W), C = 1 or 3, or vectors with shape (B, d), d >= 2.
        path: the file to write.
    """
    _frame(samples).save(path)


def save_rows(rows: Sequence[Tensor], path: Path) -> None:
    """Save rows of images below each other as one PNG.

    Arguments:
        rows: images uint8, all rows with the same shape (N, C, H, W), C = 1 or 3.
        path: the file to write.

    Raises:
        ValueError: the samples are no images.
    """
    if rows[0].ndim != 4:
        raise ValueError(f"rows are made of images (N, C, H, W), got shape {tuple(rows[0].shape)}")
    _grid(torch.cat([row.cpu() for row in rows]), columns=len(rows[0]), smallest=64 * len(rows[0])).save(path)


def save_film(frames: Sequence[Tensor], path: Path, *, milliseconds: int = 80) -> None:
    """Save a trajectory as an animated GIF that rests on its last frame.

    Arguments:
        frames: one batch per frame, as for :func:`save_samples`.
        path: the file to write.
        milliseconds: how long a frame is shown.
    """
    pictures = [_frame(frame) for frame in frames]
    rests = [milliseconds] * (len(pictures) - 1) + [2000]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=rests, loop=0)


def load_image(path: Path, *shapes: Shape, background: str | None = "white") -> Tensor:
    """Read one image in that of several shapes which is nearest to its own, by the rule of image folders.

    Its size decides first, then whether it has colors, then the order of the shapes. Where the size is another, it is
    resized and cropped, which a warning says, as it says that colors are lost.

    Arguments:
        path: any file that Pillow reads.
        shapes: what it may become, each (C, H, W) with C = 1 or 3.
        background: color on which transparent pixels are laid, as for :func:`sde_gen.data.image.plain`.

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


def _frame(samples: Tensor) -> Image.Image:
    return _grid(samples.cpu()) if samples.ndim == 4 else _scatter(samples.cpu())


def _grid(images: Tensor, *, columns: int | None = None, gap: int = 1, smallest: int = 256) -> Image.Image:
    """Tile images row by row, enlarged by a whole number until the picture is about ``smallest`` pixels wide."""
    if images.dtype != torch.uint8 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"a grid needs uint8 images with 1 or 3 channels, got {images.dtype} with shape {tuple(images.shape)}"
        )
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    canvas = np.full(
        (rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 96, dtype=np.uint8
    )
    for index, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        top, left = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    picture = Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)
    zoom = max(1, round(smallest / picture.width))
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def _scatter(points: Tensor) -> Image.Image:
    """Plot the first two coordinates of vectors."""
    if points.ndim != 2 or points.shape[1] < 2:
        raise ValueError(
            f"a picture needs images (B, C, H, W) or vectors (B, d >= 2), got shape {tuple(points.shape)}"
        )
    figure = Figure(figsize=(5, 5), dpi=100, layout="tight")
    axes = figure.add_subplot()
    axes.scatter(points[:, 0], points[:, 1], s=2)
    axes.set_aspect("equal")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())  # type: ignore[no-untyped-call]
