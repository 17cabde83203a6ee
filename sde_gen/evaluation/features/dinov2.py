"""DINOv2 features."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sde_gen.evaluation.features.base import Extracted
from sde_gen.evaluation.features.pretrained import DownloadableFeatures, StoredNetwork, resized

URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
PATCH, HEAD = 14, 64
"""Pixels of a patch, and channels of an attention head."""


class VisionTransformer(StoredNetwork):
    """Pre-norm vision transformer with a class token, learned positions and layer scale, sized by the tensors.

    Sources: Dosovitskiy et al., 2021, arXiv:2010.11929, section 3.1; Oquab et al., 2023, arXiv:2304.07193.

    Arguments:
        state: tensors by name, with the names of the released files.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        self.depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))

    def forward(self, x: Tensor) -> Tensor:
        """Map normalized images (B, 3, H, W) to the class token after the last normalization, with shape (B, d)."""
        h = F.conv2d(x, self["patch_embed.proj.weight"], self["patch_embed.proj.bias"], stride=PATCH)
        positions = self.positions(h.shape[2], h.shape[3])
        tokens = torch.cat([self["cls_token"].expand(len(x), -1, -1), h.flatten(2).mT], 1) + positions
        for number in range(self.depth):
            block = f"blocks.{number}"
            tokens = tokens + self[f"{block}.ls1.gamma"] * self.attention(
                self.norm(tokens, f"{block}.norm1"), block
            )
            hidden = F.gelu(self.linear(self.norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1"))
            tokens = tokens + self[f"{block}.ls2.gamma"] * self.linear(hidden, f"{block}.mlp.fc2")
        return self.norm(tokens[:, 0], "norm")

    def positions(self, height: int, width: int) -> Tensor:
        """Resize the learned grid of positions, bicubic; the released code scales by (size + 0.1) / side."""
        first, grid = self["pos_embed"][:, :1], self["pos_embed"][:, 1:]
        side = round(grid.shape[1] ** 0.5)
        if (height, width) == (side, side):
            return self["pos_embed"]
        image = grid.mT.reshape(1, -1, side, side)
        scale = ((height + 0.1) / side, (width + 0.1) / side)
        resized = F.interpolate(image, scale_factor=scale, mode="bicubic")
        return torch.cat([first, resized.flatten(2).mT], 1)

    def attention(self, x: Tensor, block: str) -> Tensor:
        """Attend with heads of 64 channels."""
        batch, count, d = x.shape
        qkv = (
            self.linear(x, f"{block}.attn.qkv")
            .reshape(batch, count, 3, d // HEAD, HEAD)
            .permute(2, 0, 3, 1, 4)
        )
        q, k, v = qkv.unbind(0)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.linear(out.transpose(1, 2).reshape(batch, count, d), f"{block}.attn.proj")

    def norm(self, x: Tensor, name: str) -> Tensor:
        """Normalize each token."""
        return F.layer_norm(x, x.shape[-1:], self[f"{name}.weight"], self[f"{name}.bias"], eps=1e-6)

    def linear(self, x: Tensor, name: str) -> Tensor:
        """Multiply by a matrix and add a bias."""
        return F.linear(x, self[f"{name}.weight"], self[f"{name}.bias"])


@dataclass(frozen=True, kw_only=True)
class DINOv2(DownloadableFeatures):
    """Class token of DINOv2; 1024 features with ViT-L/14, the network of FD-DINOv2.

    Images are resized to 224x224, bicubic with antialiasing, and normalized by ImageNet's mean and standard deviation.

    Source: Stein et al., 2023, arXiv:2306.04675.

    Arguments:
        weights: a released file, such as dinov2_vitl14_pretrain.pth; smaller networks can be loaded too.
        digest: expected first digits of the file's SHA-256; None accepts any file. Results record its hash.
        download: download a missing file of ViT-L/14 from its release (1.2 GB).
    """

    network: ClassVar[str] = "DINOv2"
    url: ClassVar[str] = URL
    size: ClassVar[str] = "1.2 GB"
    advice: ClassVar[str] = f"give features.weights=FILE, and features.download=true to fetch {URL}"
    name: ClassVar[str] = "DINOv2"
    resize: ClassVar[str] = "224x224, bicubic with antialiasing"
    edm2_key: ClassVar[str | None] = "fd_dinov2"

    @cached_property
    def net(self) -> VisionTransformer:
        """The network with these weights."""
        state = self._tensors()
        if not {"cls_token", "pos_embed", "norm.weight", "blocks.0.attn.qkv.weight"} <= state.keys():
            raise ValueError(
                f"{self.weights} holds no DINOv2 network: it lacks cls_token, pos_embed or blocks"
            )
        return VisionTransformer(state)

    def extract(self, images: Tensor) -> Extracted:
        """Resize and normalize images, and return the class token."""
        x = resized(images) / 255
        mean, deviation = (
            x.new_tensor(t).reshape(3, 1, 1) for t in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        return Extracted(self.net.to(images.device)((x - mean) / deviation))
