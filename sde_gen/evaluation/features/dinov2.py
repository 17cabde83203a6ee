"""DINOv2 features."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.evaluation.features import weights
from sde_gen.evaluation.features.base import Extracted, Features

URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
PATCH, SIZE, HEAD = 14, 224, 64
"""Pixels of a patch and of the resized image; channels of an attention head."""


class VisionTransformer(nn.Module):
    """Pre-norm vision transformer with a class token, learned positions and layer scale, sized by the tensors.

    Sources: Dosovitskiy et al., 2021, arXiv:2010.11929, section 3.1; Oquab et al., 2023, arXiv:2304.07193.

    Arguments:
        state: tensors by name, with the names of the released files.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = {name: name.replace(".", "/") for name in state}
        for name, key in self.names.items():
            self.register_buffer(key, state[name])
        self.depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor by its name in the file."""
        return self.get_buffer(self.names[name])

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
class DINOv2(Features):
    """Class token of DINOv2; 1024 features with ViT-L/14, the network of FD-DINOv2.

    Images are resized to 224x224, bicubic with antialiasing, and normalized by ImageNet's mean and standard deviation.

    Source: Stein et al., 2023, arXiv:2306.04675.

    Arguments:
        weights: a released file, such as dinov2_vitl14_pretrain.pth; smaller networks can be loaded too.
        digest: expected first digits of the file's SHA-256; None accepts any file. Results record its hash.
        download: download a missing file of ViT-L/14 from its release (1.2 GB).
    """

    weights: str | None = None
    digest: str | None = None
    download: bool = False
    name: ClassVar[str] = "DINOv2"
    resize: ClassVar[str] = "224x224, bicubic with antialiasing"
    edm2_key: ClassVar[str | None] = "fd_dinov2"

    @property
    def sha256(self) -> str:
        """SHA-256 of the weight file."""
        return hashlib.sha256(self._content).hexdigest()

    @cached_property
    def _content(self) -> bytes:
        path = None if self.weights is None else Path(self.weights)
        if self.download:
            if path is None:
                raise ValueError(
                    "features.download=true needs a place for the file: give features.weights=FILE"
                )
            weights.fetch(URL, path, sha256=self.digest, size="1.2 GB")
        return weights.read(
            path,
            sha256=self.digest,
            what="DINOv2",
            advice=f"give features.weights=FILE, and features.download=true to fetch {URL}",
        )

    @cached_property
    def net(self) -> VisionTransformer:
        """The network with these weights."""
        state = weights.tensors(self._content, what="DINOv2")
        if not {"cls_token", "pos_embed", "norm.weight", "blocks.0.attn.qkv.weight"} <= state.keys():
            raise ValueError(
                f"{self.weights} holds no DINOv2 network: it lacks cls_token, pos_embed or blocks"
            )
        return VisionTransformer(state)

    def extract(self, images: Tensor) -> Extracted:
        """Resize, normalize, extract."""
        x = (
            F.interpolate(images.float(), size=(SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 255)
            / 255
        )
        mean, deviation = (
            x.new_tensor(t).reshape(3, 1, 1) for t in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        return Extracted(self.net.to(images.device)((x - mean) / deviation))
