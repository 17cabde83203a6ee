"""Gray image as measurement, for colorization."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.inverse.operator.base import Operator


@dataclass(frozen=True, kw_only=True)
class Gray(Operator):
    """The mean over the channels: (B, C, H, W) -> (B, 1, H, W).

    Source: Song et al., 2021, arXiv:2011.13456, appendix I.3, whose first decoupled channel it is, up to scale.

    Raises:
        ValueError: when called, the samples are no images of several channels.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return the mean over the channels, (B, 1, H, W)."""
        if x.ndim != 4 or x.shape[1] < 2:
            raise ValueError(f"colorization needs images (C, H, W) with C > 1, got {tuple(x.shape[1:])}")
        return x.mean(1, keepdim=True)
