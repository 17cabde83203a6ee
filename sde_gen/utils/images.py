"""Image files: grids of images, scatter plots, animations of trajectories; reading of images."""

import math
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from sde_gen.utils.atomic import create, scratch, writing


def attempt(make: Callable[[], object], path: Path, what: str = "picture") -> bool:
    """Draw a figure; errors become warnings, so that results are not lost because of a figure.

    Arguments:
        make: writes the picture.
        path: its file, for the message.
        what: what it is, for the message.

    Returns:
        Whether it was made.
    """
    try:
        make()
    except Exception as error:  # of any library that draws
        why = str(error).partition("\n")[0] or type(error).__name__
        older = "; the file of that name is an older one" if path.exists() else ""
        warnings.warn(f"the {what} {path} was not made ({why}){older}", stacklevel=2)
        return False
    return True


def save_samples(samples: Tensor, path: Path) -> None:
    """Save samples as one PNG: a grid of images, lines of series, a scatter plot of vectors, a histogram of numbers.

    Images that are no uint8 are shown between their least and their largest number. Channels that make no color lie
    side by side, each one between its own.

    Arguments:
        samples: images with shape (B, C, H, W), series (B, C, L), of which the first 16 are shown, volumes
            (B, C, D, H, W), by their middle slices, or vectors (B, d), by their first two numbers.
        path: the file to write.

    Raises:
        ValueError: the samples have another shape.
    """
    _save(as_picture(samples), path)


def save_folder(images: Tensor, folder: Path) -> None:
    """Save images as files 000000.png, 000001.png, ... of a folder, in place of what it held.

    Arguments:
        images: uint8 with shape (B, C, H, W), C = 1 or 3.
        folder: the folder, written whole or not at all.

    Raises:
        ValueError: the samples are no such images.
        OSError: the disk is full; what the folder held stays.
    """
    if images.ndim != 4 or images.dtype != torch.uint8 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"format=png needs images with 1 or 3 channels of 8 bits, got {images.dtype} {tuple(images.shape)}; "
            "samples.npz holds the numbers"
        )
    with scratch(folder) as tmp_path:
        for index, image in enumerate(images.cpu().permute(0, 2, 3, 1).numpy()):
            with create(tmp_path / f"{index:06d}.png") as file:
                Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, format="PNG")
        if folder.is_dir():
            shutil.rmtree(folder)
        os.rename(tmp_path, folder)


def save_rows(rows: Sequence[Tensor], path: Path) -> None:
    """Save rows of images below each other as one PNG.

    Arguments:
        rows: images as for :func:`save_samples`, all rows with the same shape (N, C, H, W).
        path: the file to write.

    Raises:
        ValueError: the samples are no images.
    """
    if rows[0].ndim != 4:
        raise ValueError(f"rows are made of images (N, C, H, W), got shape {tuple(rows[0].shape)}")
    images = torch.cat([row.cpu() for row in rows])
    _save(_grid(images, columns=len(rows[0]), smallest=64 * len(rows[0])), path)


def save_panels(rows: Sequence[Sequence[Tensor]], path: Path) -> None:
    """Save panels in rows, each of a whole batch, as a PNG file.

    Arguments:
        rows: batches as for :func:`save_samples`, as many in every row.
        path: the file to write.
    """
    pictures = [[as_picture(batch) for batch in row] for row in rows]
    width, height = pictures[0][0].size
    sheet = Image.new("RGB", (width * len(rows[0]), height * len(rows)), "white")
    for top, row in enumerate(pictures):
        for left, picture in enumerate(row):
            sheet.paste(picture, (left * width, top * height))
    _save(sheet, path)


def save_gif(frames: Sequence[Tensor], path: Path, *, milliseconds: int = 80) -> None:
    """Save a trajectory as an animated GIF that rests on its last frame.

    Arguments:
        frames: one batch per frame, as for :func:`save_samples`.
        path: the file to write.
        milliseconds: how long a frame is shown.
    """
    pictures = [as_picture(frame) for frame in frames]
    rests = [milliseconds] * (len(pictures) - 1) + [2000]
    with writing(path) as file:
        pictures[0].save(
            file, format="GIF", save_all=True, append_images=pictures[1:], duration=rests, loop=0
        )


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure as a PNG."""
    with writing(path) as file:
        figure.savefig(file, format="png")


def _save(picture: Image.Image, path: Path) -> None:
    with writing(path) as file:
        picture.save(file, format="PNG")


def as_picture(samples: Tensor) -> Image.Image:
    """Return the picture of samples that :func:`save_samples` saves."""
    drawings: dict[int, Callable[[Tensor], Image.Image]] = {3: _lines, 4: _grid, 5: _slices}
    return drawings.get(samples.ndim, _plot)(samples.cpu())


def _slices(volumes: Tensor) -> Image.Image:
    """Tile the middle slices of volumes (B, C, D, H, W)."""
    return _grid(volumes[:, :, volumes.shape[2] // 2])


def _lines(series: Tensor, most: int = 16) -> Image.Image:
    """Draw the first sequences (B, C, L), each in a panel, with a line a channel."""
    shown = series[:most].double()
    columns = math.ceil(math.sqrt(len(shown)))
    figure = Figure(figsize=(8, 6), dpi=100, layout="tight")
    panels = figure.subplots(
        math.ceil(len(shown) / columns), columns, sharex=True, sharey=True, squeeze=False
    )
    for panel, sequence in zip(panels.flat, shown, strict=False):
        panel.plot(sequence.T.numpy(), linewidth=0.8)
    return _rendered(figure)


def _grid(images: Tensor, *, columns: int | None = None, gap: int = 1, smallest: int = 256) -> Image.Image:
    """Tile images row by row, enlarged by a whole number until the picture is about ``smallest`` pixels wide."""
    images = _shown(images, gap)
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


def _shown(images: Tensor, gap: int) -> Tensor:
    """Convert images to uint8 with 1 or 3 channels."""
    if images.shape[1] in (1, 3):
        return _bytes(images)
    channels = [_bytes(channel.unsqueeze(1)) for channel in images.unbind(1)]
    between = torch.full((*channels[0].shape[:3], gap), 96, dtype=torch.uint8)
    apart = [part for channel in channels for part in (channel, between)]
    return torch.cat(apart[:-1], 3)


def _bytes(images: Tensor) -> Tensor:
    """The range of the numbers as levels 0 to 255; bytes as they are."""
    if images.dtype == torch.uint8:
        return images
    numbers = images.double()
    least, largest = numbers.min(), numbers.max()
    span = largest - least
    return ((numbers - least) * (255 / span if span > 0 else 0.0)).round().to(torch.uint8)


def _plot(points: Tensor) -> Image.Image:
    """Plot the first two coordinates of vectors, or the frequencies of single numbers."""
    if points.ndim != 2 or points.shape[1] < 1:
        raise ValueError(
            "a picture needs images (B, C, H, W), series (B, C, L), volumes (B, C, D, H, W) or vectors (B, d), got "
            f"shape {tuple(points.shape)}"
        )
    figure = Figure(figsize=(5, 5), dpi=100, layout="tight")
    axes = figure.add_subplot()
    if points.shape[1] == 1:
        axes.hist(points[:, 0].double().numpy(), bins=max(10, min(100, len(points) // 20)))
    else:
        axes.scatter(points[:, 0], points[:, 1], s=2)
        axes.set_aspect("equal")
    return _rendered(figure)


def _rendered(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())  # type: ignore[no-untyped-call]
