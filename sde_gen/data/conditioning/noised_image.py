"""Images of low resolution, noised to a step of a chain that the network is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.conditioning.file_image import FileImage
from sde_gen.noise import Noise
from sde_gen.utils.broadcasting import broadcast


@dataclass(frozen=True, kw_only=True)
class NoisedImage(FileImage):
    r"""An image of the size of the latents beside them, and the number of the step to whose level it is noised.

    .. math::
        c' = \bar\alpha_n^{1/2} c + (1 - \bar\alpha_n)^{1/2} \epsilon

    Without noise it is step 0. The noise hides errors of an image that is itself a sample.

    Sources: Ho et al., 2021, arXiv:2106.15282, section 4.2; Saharia et al., 2022, arXiv:2205.11487, section 2.4.

    Arguments:
        shape: shape (C, h, w) of the images.
        betas: the table of the chain.

    Raises:
        ValueError: the table is empty.
    """

    betas: Sequence[float] = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.betas:
            raise ValueError("betas=[]: expected the table of a chain")

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
        """Return the image of a file, and step 0."""
        files = typed["image"]
        image = self.read(files[at % len(files)], tuple(self.shape))
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
