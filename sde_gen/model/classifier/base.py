"""The protocol of classifiers of noisy samples."""

from typing import Protocol

from torch import Tensor


class ClassifierNetwork(Protocol):
    """A network of a classifier of noised samples."""

    def __call__(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        ...
