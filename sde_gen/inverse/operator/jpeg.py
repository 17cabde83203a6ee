"""Removal of JPEG's artifacts: the compressed image is known."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sde_gen.inverse.operator.base import Operator


@dataclass(frozen=True, kw_only=True)
class JPEG(Operator):
    r"""Compress and decompress: images (B, C, H, W) in [-1, 1], gray or RGB, to 256 levels of the same shape.

    JPEG rounds the cosine coefficients of blocks, so that its derivative is zero almost everywhere.
    It is replaced by the identity, which is the derivative of rounding on average over where a bin begins,

    .. math::
        E_u[\lfloor c + u \rfloor] = c, \qquad u \sim U[0, 1).

    With it :class:`~sde_gen.inverse.DPS` leans toward images that compress to y; particles of
    :class:`~sde_gen.inverse.TwistedSMC` are moved by it, but weighed by the compressed images
    themselves, and so stay exact in the limit. Methods for linear operators do not support it.

    Colors are not subsampled. Source: Wallace, 1991, Communications of the ACM 34, 30; the identity in place of the
    derivative: Bengio et al., 2013, arXiv:1308.3432, section 4.

    Arguments:
        quality: 1 is the smallest file, 95 the best image.

    Raises:
        ValueError: quality is out of its range or, when called, the samples are no images with 1 or 3 channels.
    """

    quality: int = 25

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality={self.quality}: expected 1, the smallest file, to 95, the best image")

    @property
    def linear(self) -> bool:
        """False: rounding is not linear."""
        return False

    def __call__(self, x: Tensor) -> Tensor:
        """Compress, with the identity for derivative."""
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(f"JPEG needs images (C, H, W) with 1 or 3 channels, got {tuple(x.shape[1:])}")
        levels = torch.floor((x.detach() + 1) * 128).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        decoded = torch.from_numpy(np.stack([self._through(image) for image in levels])).to(x)
        y = (decoded.reshape(x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2) + 0.5) / 128 - 1
        return y + (x - x.detach())  # y and a zero whose derivative is the identity

    def adjoint(self, y: Tensor, x: Tensor) -> Tensor:
        """Return y, the transposed identity applied to it."""
        return y

    def _through(self, image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
            file, "JPEG", quality=self.quality, subsampling=0
        )
        return np.asarray(Image.open(file))
