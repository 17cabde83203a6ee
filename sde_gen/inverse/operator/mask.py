"""Inpainting: some coordinates are known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.inverse.operator.base import Operator
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True, eq=False)
class Mask(Operator):
    """Keep the coordinates where the mask is true, and zero in the others.

    Arguments:
        mask: boolean with the shape of the event, or one that broadcasts to it, such as (1, H, W).

    Raises:
        ValueError: the mask is not boolean or, when called, does not fit the event.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        if self.mask.dtype != torch.bool:
            raise ValueError(
                f"mask has dtype {self.mask.dtype}; expected bool, true where the sample is known"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Set unknown values to zero."""
        try:
            known = self.mask.to(x.device).expand(x.shape[1:])
        except RuntimeError as error:
            raise ValueError(
                f"the mask has shape {tuple(self.mask.shape)}, the samples {tuple(x.shape[1:])}; they must be one"
            ) from error
        return torch.where(known, x, 0.0)

    def noised(self, x: Tensor, std: float, noise: Noise) -> Tensor:
        """Measure and add noise to known values; the rest stays zero."""
        return self(x + std * noise.normal(x))
