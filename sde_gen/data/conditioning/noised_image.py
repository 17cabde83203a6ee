"""Images of low resolution, noised to a step of a chain that the network is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sde_gen.data.conditioning.file_image import FileImage
from sde_gen.noise import Noise
from sde_gen.utils.broadcasting import broadcast


@dataclass(frozen=True, kw_only=True)
class NoisedImage(FileImage):
    r"""An image of the size of the latents beside them, and the number of the step to whose level it is noised.

    .. math::
        c' = \bar\alpha_n^{1/2} c + (1 - \bar\alpha_n)^{1/2} \epsilon

    An image of fewer pixels is enlarged by bilinear interpolation first, with corners on corners. Without noise it is
    step 0. The noise hides errors of an image that is itself a sample.

    Sources: Ho et al., 2021, arXiv:2106.15282, section 4.2; Saharia et al., 2022, arXiv:2205.11487, section 2.4.

    Arguments:
        shape: shape (C, h, w) of the images beside the latents.
        betas: the table of the chain.
        factor: how many times fewer pixels a given image has along each side.

    Raises:
        ValueError: the table is empty, or the factor does not divide the sides.
    """

    betas: Sequence[float] = field(repr=False)
    factor: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.betas:
            raise ValueError("betas=[]: expected the table of a chain")
        if self.factor < 1 or any(side % self.factor for side in self.shape[1:]):
            raise ValueError(
                f"factor={self.factor}: expected a divisor of both sides of shape={list(self.shape)}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Return the only name."""
        return ("image",)

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of the image and of its step."""
        return "image", "label"

    @cached_property
    def table(self) -> Tensor:
        """Standard deviations of the noise of all steps, float64 with shape (N,)."""
        betas = torch.tensor([*self.betas], dtype=torch.float64)
        return torch.sqrt(-torch.expm1(torch.cumsum(torch.log1p(-betas), 0)))

    def inputs(self, typed: Mapping[str, Sequence[Any]], at: int) -> dict[str, Tensor]:
        """Return an image, enlarged, and step 0."""
        files, (channels, *sides) = typed["image"], self.shape
        image = self.read(files[at % len(files)], (channels, *(side // self.factor for side in sides)))
        if self.factor > 1:
            image = F.interpolate(image, sides, mode="bilinear", align_corners=True)
        return {"image": image, "label": torch.zeros(1, dtype=torch.int64)}

    def noised(self, given: Mapping[str, Tensor], level: float, noise: Noise) -> dict[str, Tensor]:
        """Add noise of the step whose standard deviation is nearest, and give the network its number.

        Raises:
            ValueError: the level is above that of the last step.
        """
        if not 0 <= level <= float(self.table[-1]):
            raise ValueError(
                f"image_noise={level}: the largest standard deviation of the network's chain is {self.table[-1]:.4f}"
            )
        step = int((self.table - level).abs().argmin())
        image = given["image"]
        sigma = self.table[step].to(image)
        clean = broadcast(torch.sqrt(1 - sigma**2), image) * image
        return {
            **given,
            "image": clean + broadcast(sigma, image) * noise.normal(image),
            "label": torch.full_like(given["label"], step),
        }

    def null(self, count: int) -> dict[str, Tensor]:
        """Return gray images without noise."""
        return {"image": torch.zeros(count, *self.shape), "label": torch.zeros(count, dtype=torch.int64)}
