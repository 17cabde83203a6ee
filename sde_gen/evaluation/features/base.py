"""Abstract base class of feature extractors."""

import abc
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.utils.arguments import Checked


class Extracted(NamedTuple):
    """Features of a batch of images.

    Arguments:
        features: float32 with shape (B, d).
        logits: classifier logits with shape (B, classes), for the inception score; None without a classifier.
    """

    features: Tensor
    logits: Tensor | None = None


class Features(Checked, abc.ABC):
    """Map from 8-bit images to feature vectors, whose distributions are compared.

    Attributes:
        name: name in tables and in names of metrics.
        resize: resizing to the resolution of the network, for tables.
        color: True if the network expects three channels; gray images are then repeated.
        edm2_key: key of the statistics of these features in a reference file of EDM2; None if there is none.
    """

    name: ClassVar[str]
    resize: ClassVar[str]
    color: ClassVar[bool] = True
    edm2_key: ClassVar[str | None] = None

    @property
    def frechet_name(self) -> str:
        """Name of the Frechet distance of these features; only that of Inception is FID."""
        return f"FD-{self.name}"

    @property
    @abc.abstractmethod
    def sha256(self) -> str:
        """SHA-256 of the weights, 64 hexadecimal digits; empty without weights."""

    @abc.abstractmethod
    def extract(self, images: Tensor) -> Extracted:
        """Map images with the expected type and number of channels, on their device."""

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
        """Return notes about the preprocessing of such images, for tables."""
        if self.color and images.shape[1] == 1:
            return (f"gray images are repeated to 3 channels for {self.name}",)
        return ()


def check_images(images: Tensor) -> None:
    """Check that a tensor holds 8-bit images.

    Raises:
        ValueError: the tensor has another type or shape.
    """
    shape = tuple(images.shape)
    if images.dtype != torch.uint8 or images.ndim != 4 or shape[1] not in (1, 3) or not len(images):
        raise ValueError(
            f"images are {images.dtype} with shape {shape}; expected uint8 (B, C, H, W) with C = 1 or 3, such as "
            "codec.decode_image(x)"
        )
