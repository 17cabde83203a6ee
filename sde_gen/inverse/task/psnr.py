"""Peak signal-to-noise ratio (PSNR)."""

import torch
from torch import Tensor


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    r"""Peak signal-to-noise ratio ``10 log10(255^2 / mean squared error)`` in decibels, infinite for equal images.

    Arguments:
        images: uint8 with shape (B, C, H, W).
        reference: uint8 with shape (1, C, H, W) or (B, C, H, W).

    Returns:
        float64 with shape (B,).
    """
    error = (images.double() - reference.double()).square().mean((1, 2, 3))
    return 10 * torch.log10(255**2 / error)
