"""Feature extractors whose network has its weights in a file."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.evaluation.features import weights
from sde_gen.evaluation.features.base import Features

SIZE = 224
"""Side of the images for networks of ImageNet, in pixels."""


@dataclass(frozen=True, kw_only=True)
class PretrainedFeatures(Features):
    """Base class of extractors with a weight file.

    Arguments:
        weights: the file.
        digest: expected first digits of the file's SHA-256; None accepts any file. Results record its hash.

    Attributes:
        network: name of the network, for messages.
        advice: how to get the file, for messages.
    """

    weights: str | None = None
    digest: str | None = None
    network: ClassVar[str]
    advice: ClassVar[str]

    @property
    def sha256(self) -> str:
        """SHA-256 of the weight file."""
        return hashlib.sha256(self._content).hexdigest()

    @cached_property
    def _content(self) -> bytes:
        return weights.read(self._path(), sha256=self.digest, what=self.network, advice=self.advice)

    def _path(self) -> Path | None:
        """Return the file; None if it is not known."""
        return None if self.weights is None else Path(self.weights)

    def _tensors(self) -> dict[str, Tensor]:
        """Read the tensors of the file.

        Raises:
            ValueError: the file is missing, has another hash, or holds anything but tensors.
        """
        return weights.tensors(self._content, what=self.network)


@dataclass(frozen=True, kw_only=True)
class DownloadableFeatures(PretrainedFeatures):
    """Base class of extractors whose weight file may be downloaded, on request only.

    Arguments:
        weights, digest: as of :class:`PretrainedFeatures`.
        download: download a missing file.

    Attributes:
        url: address of the file.
        size: its size, for messages.
    """

    download: bool = False
    url: ClassVar[str]
    size: ClassVar[str]

    def _path(self) -> Path | None:
        path = super()._path()
        if self.download:
            if path is None:
                raise ValueError(
                    "features.download=true needs a place for the file: give features.weights=FILE"
                )
            weights.fetch(self.url, path, sha256=self.digest, size=self.size)
        return path


class StoredNetwork(nn.Module):
    """Network defined by the tensors of a file, which keep their names.

    Arguments:
        state: tensors by name.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = {name: name.replace(".", "/") for name in state}
        for name, key in self.names.items():
            self.register_buffer(key, state[name])

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor by its name in the file."""
        return self.get_buffer(self.names[name])


def resized(images: Tensor) -> Tensor:
    """Resize 8-bit images (B, C, H, W) to 224x224, bicubic with antialiasing: float32 in [0, 255]."""
    return F.interpolate(images.float(), size=(SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 255)
