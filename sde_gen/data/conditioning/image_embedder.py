"""Encoders of images outside the network: frozen, from files of images to embeddings."""

import abc
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from sde_gen.utils.arguments import Checked


class ImageEmbedder(Checked, abc.ABC):
    """Abstract encoder of images that is not trained."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Length of an embedding."""

    @abc.abstractmethod
    def __call__(self, paths: Sequence[Path]) -> Tensor:
        """Embed the images of files; float32 with shape (B, size).

        Raises:
            ValueError: a file is missing or unreadable, or the files of the encoder are missing or were changed.
        """
