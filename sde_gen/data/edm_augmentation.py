"""Non-leaky augmentation: random transformations of images on which the network is conditioned."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.augment import Augmentation, NoAugmentation
from sde_gen.data.warp import interpolate
from sde_gen.utils.broadcasting import broadcast


@dataclass(frozen=True, kw_only=True)
class EDMAugmentation(Augmentation):
    r"""Random flips, scaling, rotation, anisotropy and translation, with nine labels for the network.

    In this order, about the center of the image, with :math:`R(\cdot)` a rotation, x to the right and y downwards:

    ===========  ======================================  ========================  =======================
    name         matrix                                  parameters                labels
    ===========  ======================================  ========================  =======================
    x-flip       diag(1 - 2 a0, 1)                       a0 in {0, 1}              a0
    y-flip       diag(1, 1 - 2 a1)                       a1 in {0, 1}              a1
    scaling      scale^a2 I                              a2 ~ N(0, 1)              a2
    rotation     R(-a3)                                  a3 ~ U(-pi, pi)           cos(a3) - 1, sin(a3)
    anisotropy   R(a4) diag(aniso^a5, aniso^-a5) R(-a4)  a4 ~ U(-pi, pi), a5 ~ N   a5 cos(a4), a5 sin(a4)
    translation  by trans (W a6, H a7) pixels            a6, a7 ~ N(0, 1)          a6, a7
    ===========  ======================================  ========================  =======================

    Each is applied independently with the same probability; otherwise its parameters are zero. Zero labels thus mark
    unchanged images only, and with them the network samples unaugmented images. (The labels of the anisotropy are those
    of the source, which are equal for (a4, a5) and (a4 + pi, -a5).)

    Flips are exact; the others are one cubic interpolation of the image, mirrored at its edges. The source
    interpolates linearly after doubling the resolution with a wavelet filter.

    Source: Karras et al., 2022, arXiv:2206.00364, appendix F.2, after Karras et al., 2020, arXiv:2006.06676.

    Arguments:
        probability: probability of each transformation except x-flips; the source has 0.12 (CIFAR-10) and 0.15.
        scale: scale factor at a2 = 1.
        aniso: stretch of one axis at a5 = 1.
        trans: shift at a6 = 1, in units of the image size.
        x_flip: True to mirror half of the images left to right.

    Raises:
        ValueError: a number is out of its range.
    """

    batch_coupled: ClassVar[bool] = False
    num_labels: ClassVar[int] = 9

    probability: float = 0.12
    scale: float = 2**0.2
    aniso: float = 2**0.2
    trans: float = 0.125
    x_flip: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability={self.probability} must lie in [0, 1]")
        if not (0 < self.scale < math.inf and 0 < self.aniso < math.inf and 0 <= self.trans < math.inf):
            raise ValueError(
                f"scale={self.scale}, aniso={self.aniso}, trans={self.trans}: expected positive factors, and a shift "
                "that is not negative"
            )

    def __call__(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Transform the images without returning their labels."""
        return self.augment(values, generator)[0]

    def augment(self, values: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Transform images (B, C, H, W); return them with the labels ``augment`` (B, 9).

        The parameters of all images are drawn at once, so that they depend only on the generator and on the number of
        images.
        """
        if values.ndim != 4:
            raise ValueError(f"augmentation=edm transforms images (C, H, W), not {tuple(values.shape[1:])}")
        if self.probability == 0 and not self.x_flip:
            return values, {"augment": values.new_zeros(len(values), self.num_labels, dtype=torch.float32)}
        a = self.draw(len(values), generator).to(values.device)
        return self.apply(values, a), {"augment": self.labels(a)}

    @property
    def for_evaluation(self) -> Augmentation:
        """No augmentation: the loss is measured on unchanged images, with labels of zeros."""
        return NoAugmentation()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the parameters a0 to a7 of images, float32 with shape (count, 8)."""
        device = generator.device
        u = torch.rand(count, 9, generator=generator, device=device)
        a2, a5, a6, a7 = torch.randn(count, 4, generator=generator, device=device).unbind(1)
        y_flip, scaling, rotation, anisotropy, translation = (u[:, :5] < self.probability).float().unbind(1)
        a0, a1 = (u[:, 5:7] < 0.5).float().unbind(1)
        a3, a4 = (math.pi * (2 * u[:, 7:] - 1)).unbind(1)
        return torch.stack(
            [
                a0 * self.x_flip,
                a1 * y_flip,
                a2 * scaling,
                a3 * rotation,
                a4 * anisotropy,
                a5 * anisotropy,
                a6 * translation,
                a7 * translation,
            ],
            dim=1,
        )

    def apply(self, values: Tensor, a: Tensor) -> Tensor:
        """Transform images (B, C, H, W) with the parameters a0 to a7 (B, 8); the result is floating-point."""
        images = values if values.is_floating_point() else values.float()
        for column, axis in ((0, -1), (1, -2)):
            images = torch.where(broadcast(a[:, column] > 0, images), images.flip(axis), images)
        moved = interpolate(images, *self._sources(a, images))
        return torch.where(broadcast((a[:, 2:] != 0).any(1), images), moved, images)

    def _sources(self, a: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the source coordinates, columns and rows (B, H, W), of the pixels of the transformed images."""
        a2, a3, a4, a5, a6, a7 = a[:, 2:].to(images.dtype).unbind(1)
        h, w = images.shape[-2:]
        # the inverse of each transformation, the last one first
        stretch = _diagonal(self.aniso**-a5, self.aniso**a5)
        linear = _rotation(a3) @ _rotation(a4) @ stretch @ _rotation(-a4) * (self.scale**-a2)[:, None, None]
        middle = images.new_tensor([(w - 1) / 2, (h - 1) / 2])
        rows, columns = torch.meshgrid(
            torch.arange(h, device=images.device, dtype=images.dtype),
            torch.arange(w, device=images.device, dtype=images.dtype),
            indexing="ij",
        )
        place = torch.stack([columns, rows], dim=-1) - middle  # (H, W, 2)
        shift = self.trans * torch.stack([w * a6, h * a7], dim=1)
        moved = place - shift[:, None, None]
        x, y = (torch.einsum("bij,bhwj->bhwi", linear, moved) + middle).unbind(-1)
        return x, y

    @staticmethod
    def labels(a: Tensor) -> Tensor:
        """Return the labels (B, 9) of the parameters a0 to a7 (B, 8)."""
        a0, a1, a2, a3, a4, a5, a6, a7 = a.unbind(1)
        return torch.stack(
            [a0, a1, a2, a3.cos() - 1, a3.sin(), a5 * a4.cos(), a5 * a4.sin(), a6, a7],
            dim=1,
        )


def _rotation(angle: Tensor) -> Tensor:
    """Return the rotation matrices (B, 2, 2) from x towards y."""
    c, s = angle.cos(), angle.sin()
    return torch.stack([torch.stack([c, -s], dim=1), torch.stack([s, c], dim=1)], dim=1)


def _diagonal(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y], dim=1))
