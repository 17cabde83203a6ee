"""The abstract feature extractor."""

import abc
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.utils.arguments import Checked


class Extracted(NamedTuple):
    """Features of a batch of images.

    Arguments:
        features: float32 with shape (B, d).
        logits: logits of a classifier with shape (B, classes), for the inception score; None without one.
    """

    features: Tensor
    logits: Tensor | None = None


class Features(Checked, abc.ABC):
    """A map from 8-bit images to vectors, in which sets of images are compared.

    Attributes:
        name: name in tables and in names of metrics.
        resize: how images reach the resolution of the network, for tables.
        color: whether the network takes three channels, to which gray images are repeated.
    """

    name: ClassVar[str]
    resize: ClassVar[str]
    color: ClassVar[bool] = True

    @property
    def frechet_name(self) -> str:
        """Name of the Frechet distance in these features; FID is that of Inception alone."""
        return f"FD-{self.name}"

    @property
    @abc.abstractmethod
    def sha256(self) -> str:
        """SHA-256 of the weights, 64 hexadecimal digits; empty without weights."""

    @abc.abstractmethod
    def extract(self, images: Tensor) -> Extracted:
        """Map images of the right type and number of channels, on their device."""

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Extracted:
        """Extract features.

        Arguments:
            images: uint8 with shape (B, C, H, W), C = 1 or 3.

        Raises:
            ValueError: the images have another type or shape, or the weights are missing.
            FloatingPointError: a feature is not finite.
        """
        check_images(images)
        if self.color and images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        extracted = self.extract(images)
        if not bool(torch.isfinite(extracted.features).all()):
            raise FloatingPointError(
                f"features={self.name} gave numbers that are not finite; check its weights"
            )
        return extracted

    def about(self) -> dict[str, str]:
        """Return name, SHA-256 of the weights and resizing, as results and statistics store them."""
        return {"features": self.name, "sha256": self.sha256, "resize": self.resize}

    def note(self, images: Tensor) -> tuple[str, ...]:
        """Return what is done to images of this kind before the network, for tables."""
        if self.color and images.shape[1] == 1:
            return (f"gray images are repeated to 3 channels for {self.name}",)
        return ()


def check_images(images: Tensor) -> None:
    """Check that a tensor holds 8-bit images.

    Raises:
        ValueError: it does not; the message says what was given.
    """
    shape = tuple(images.shape)
    if images.dtype != torch.uint8 or images.ndim != 4 or shape[1] not in (1, 3) or not len(images):
        raise ValueError(
            f"images are {images.dtype} with shape {shape}; expected uint8 (B, C, H, W) with C = 1 or 3, such as "
            "codec.decode_image(x)"
        )
