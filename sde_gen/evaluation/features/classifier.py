"""Features of a small classifier shipped with the package."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import safetensors.torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.evaluation.features.base import Extracted, Features
from sde_gen.utils import atomic

SHIPPED = Path(__file__).parent / "shipped"
"""Weights that come with the package, made by ``scripts/train_features.py``."""


class SmallCNN(nn.Module):
    """Four 3x3 convolutions with batch normalization, the second and third with stride 2, averaged over the pixels.

    Arguments:
        channels: channels of the images.
        classes: number of classes.
        width: channels of the first layer; the others have twice as many.
    """

    def __init__(self, *, channels: int, classes: int, width: int = 24) -> None:
        super().__init__()
        widths, strides = (channels, width, 2 * width, 2 * width, 2 * width), (1, 2, 2, 1)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
                for before, after, stride in zip(widths, widths[1:], strides, strict=False)
            )
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, C, H, W) in [-1, 1] to features (B, 2 width) and logits (B, classes)."""
        h = F.adaptive_avg_pool2d(self.layers(x), 1).flatten(1)
        return h, self.head(h)


@dataclass(frozen=True, kw_only=True)
class Classifier(Features):
    """Averaged last layer of a small convolutional classifier of the same data, 48 features.

    ``digits`` (8x8, held-out accuracy in the file) and ``fashion_mnist`` (28x28) come with the package. Distances in
    these features compare models of the same data; they are not FID.

    Arguments:
        weights: name of shipped weights, or a file made by ``scripts/train_features.py``.
    """

    weights: str = "digits"
    name: ClassVar[str] = "classifier"
    resize: ClassVar[str] = "none"
    color: ClassVar[bool] = False

    @property
    def sha256(self) -> str:
        """SHA-256 of the weight file."""
        return hashlib.sha256(self._content).hexdigest()

    @cached_property
    def _content(self) -> bytes:
        shipped = sorted(path.stem for path in SHIPPED.glob("*.safetensors"))
        path = SHIPPED / f"{self.weights}.safetensors" if self.weights in shipped else Path(self.weights)
        if not path.exists():
            raise ValueError(
                f"features.weights={self.weights}: there is no such file; those that come with the package are "
                f"{', '.join(shipped)}"
            )
        atomic.check_regular(path)
        return path.read_bytes()

    @cached_property
    def card(self) -> dict[str, str]:
        """Data, shape, held-out accuracy and training command, as the file states them.

        Raises:
            ValueError: the file is not such a classifier.
        """
        try:
            size = int.from_bytes(self._content[:8], "little")
            found = json.loads(self._content[8 : 8 + size])["__metadata__"]
            return {str(key): str(found[key]) for key in ("data", "shape", "classes", "accuracy", "command")}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"features.weights={self.weights} is no file of scripts/train_features.py ({error})"
            ) from error

    @cached_property
    def net(self) -> SmallCNN:
        """The network in float32, in evaluation mode."""
        channels = int(self.card["shape"].split("x")[0])
        net = SmallCNN(channels=channels, classes=int(self.card["classes"]))
        stored = {name: value.float() for name, value in safetensors.torch.load(self._content).items()}
        counters = {name: value for name, value in net.state_dict().items() if not value.is_floating_point()}
        net.load_state_dict({**counters, **stored})
        return net.eval().requires_grad_(False)

    def extract(self, images: Tensor) -> Extracted:
        """Scale to [-1, 1] and classify."""
        shape = "x".join(map(str, images.shape[1:]))
        if shape != self.card["shape"]:
            raise ValueError(
                f"the classifier of {self.card['data']} takes images of shape {self.card['shape']}, got {shape}; give "
                "features.weights=... of these data, or another features="
            )
        features, logits = self.net.to(images.device)(images.float() / 127.5 - 1)
        return Extracted(features, logits)
