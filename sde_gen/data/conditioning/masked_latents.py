"""Latents of a masked image beside the noisy ones: inpainting by conditioning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sde_gen.data.conditioning.file_image import FileImage
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True)
class MaskedLatents(FileImage):
    """The mask of the unknown part of an image, and the latents of the image with that part gray.

    The mask is 1 where the image is unknown, at the first pixel of every cell of the latents; a mask file is white
    where the image is known, as in all tasks here.

    Source: Rombach et al., 2022, arXiv:2112.10752, section 4.5; the order of the channels is that of diffusers.

    Arguments:
        shape: shape (C, H, W) of the images.
        latent: shape (c, h, w) of the latents.
    """

    latent: Sequence[int]

    @property
    def names(self) -> tuple[str, ...]:
        """Return image and mask."""
        return "image", "mask"

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the key of the mask and the latents."""
        return ("image",)

    def inputs(self, typed: Mapping[str, Sequence[Any]], at: int) -> dict[str, Tensor]:
        """Return mask and latents of files, without noise of the encoder."""
        image, mask = (typed[name][at % len(typed[name])] for name in self.names)
        pixels = self.read(image, tuple(self.shape))
        return {"image": self.masked(pixels, self.read(mask, (1, *self.shape[1:])) > 0)}

    @torch.no_grad()
    def masked(self, pixels: Tensor, known: Tensor, noise: Noise | None = None) -> Tensor:
        """Return mask and latents with shape (B, 1 + c, h, w).

        Arguments:
            pixels: images on [-1, 1] with shape (B, C, H, W).
            known: boolean with shape (B, 1, H, W).
            noise: noise of the encoder's draw; None takes its mean.
        """
        codec: Any = self.codec  # of latents
        weight = next(codec.autoencoder.net.parameters())
        gray = (pixels * known).to(weight)
        latents = codec.standardize(codec.autoencoder.net.encode(gray), noise)
        unknown = F.interpolate((~known).to(latents), size=latents.shape[2:])
        return torch.cat([unknown, latents], 1)

    def null(self, count: int) -> dict[str, Tensor]:
        """Return an image that is unknown everywhere."""
        channels, *sides = self.latent
        image = torch.zeros(count, 1 + channels, *sides)
        image[:, 0] = 1
        return {"image": image}
