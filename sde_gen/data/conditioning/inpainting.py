"""Images with a hole as conditions."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sde_gen.data.conditioning.restoration import Restoration
from sde_gen.data.image import UNREADABLE, fitted, upright
from sde_gen.noise import Noise
from sde_gen.utils.broadcasting import broadcast
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True)
class Inpainting(Restoration):
    """Images with a rectangular hole, and a channel that is one where the image is known.

    In training every image has a hole of random place and sides, both between a quarter and three quarters of those of
    the image; in evaluation the hole is the middle half of either side. In a file the hole is what is transparent.

    Source: Saharia et al., 2021, arXiv:2111.05826 (Palette), section 4.2.

    Arguments:
        dropout: probability that an image is dropped.
        shape: shape (C, H, W) of the samples; None: that of the training split.
        levels: number of integer levels, 0 for numbers in [-1, 1]; None: that of the data.
        noise: largest standard deviation of the noise of the condition, at most 1; 0 for none.
    """

    @property
    def channels(self) -> int:
        """Channels of the image, and one of what is known."""
        return 1 + self.colors

    @property
    def colors(self) -> int:
        """Channels of the image."""
        return self._shape()[0]

    def check_event(self, event: Shape) -> None:
        """Raise ValueError if the image is too small for a hole in its middle."""
        if min(event[1:]) < 4:
            raise ValueError(f"images of {event[1]}x{event[2]} have no middle; expected at least 4x4")

    def degrade(self, images: Tensor) -> Tensor:
        """Cut out a square in the middle, of half the sides."""
        quarter = images.new_full((len(images),), 0.25)
        return self._cut(images, (quarter, quarter), (2 * quarter, 2 * quarter))

    def draw(self, rows: Tensor, noise: Noise) -> Tensor:
        """Cut out a random rectangle, and add noise to what is known."""
        images = self.scaled(rows)
        places, sides = [], []
        for _ in range(2):
            side = 0.25 + 0.5 * noise.uniform(images)
            places.append((1 - side) * noise.uniform(images))
            sides.append(side)
        clean = self.described(self._cut(images, (places[0], places[1]), (sides[0], sides[1])))
        return self._noised(clean, self.noise * noise.uniform(clean), noise) if self.noise else clean

    def _cut(self, images: Tensor, place: tuple[Tensor, Tensor], side: tuple[Tensor, Tensor]) -> Tensor:
        """Cut rectangles out, whose first pixels and sides are fractions of those of the images."""
        hidden = torch.ones_like(images[:, :1], dtype=torch.bool)
        for axis, start, share in zip((2, 3), place, side, strict=True):
            length = images.shape[axis]
            at = torch.arange(length, device=images.device).view([-1 if n == axis else 1 for n in range(4)])
            first = broadcast((start * length).round(), images)
            hidden = hidden & (at >= first) & (at < first + broadcast((share * length).round(), images))
        return self._known(images, ~hidden)

    def _known(self, images: Tensor, known: Tensor) -> Tensor:
        """Set the hole to zero, and append the channel of what is known."""
        return torch.cat([images * known, known.to(images.dtype)], dim=1)

    def of_images(self, images: Tensor) -> Tensor:
        """Raise an error: images without transparency have no hole.

        Raises:
            ValueError: always.
        """
        raise ValueError("the condition is an image with a hole: give image=FILE with transparent pixels")

    def read(self, path: Path) -> Tensor:
        """Read an image whose transparent pixels are the hole.

        Raises:
            ValueError: the file cannot be read, or has no transparent pixels.
        """
        shape = self._shape()
        images = self.scaled(self.levels_of(path, shape))
        try:
            with Image.open(path) as file:
                turned = upright(file)
                alpha = turned.convert("RGBA").getchannel("A") if turned.has_transparency_data else None
        except UNREADABLE as error:
            raise ValueError(f"{path} is not a readable image ({error})") from error
        known = None if alpha is None else fitted(alpha, (1, *shape[1:])) > 127
        if known is None or bool(known.all()):
            raise ValueError(
                f"image={path} has no transparent pixels; the part that is to be filled must be transparent, as in "
                "a PNG with an alpha channel"
            )
        return self.described(self._known(images, known.unsqueeze(0)))
