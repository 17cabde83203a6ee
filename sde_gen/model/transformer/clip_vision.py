"""CLIP's encoder of images."""

import torch
from torch import Tensor, nn

from sde_gen.model.text.clip import Activation, CLIPBlock


class CLIPVision(nn.Module):
    """A transformer of patches and a learned token, whose features, projected, stand for the image.

    Source: Radford et al., 2021, arXiv:2103.00020, section 2.4 (the ViT of Dosovitskiy et al., 2020,
    arXiv:2010.11929, with a normalization before the first layer).

    Arguments:
        channels: channels of an image.
        side: height and width of an image.
        patch: height and width of a patch, at most those of the image; what is left over at the end is not seen.
        width: features W of a token.
        depth: number of layers.
        heads: number of heads, which divides the features.
        hidden: units of the dense layers.
        activation: function between them.
        projection: features P of the image.
        eps: epsilon of the normalizations.

    Raises:
        ValueError: a size is not positive, or heads do not divide the features.
    """

    def __init__(
        self,
        *,
        channels: int,
        side: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        activation: Activation,
        projection: int,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "patch": patch, "width": width, "depth": depth, "heads": heads}
        if min(*sizes.values(), hidden, projection) < 1 or width % heads or side < patch:
            listed = ", ".join(f"{name}={size}" for name, size in sizes.items())
            raise ValueError(
                f"side={side}, {listed}, hidden={hidden}, projection={projection}: expected positive numbers, a side "
                "of at least a patch, and heads that divide the width"
            )
        self.channels, self.side, self.projection = channels, side, projection
        self.patches = nn.Conv2d(channels, width, patch, patch, bias=False)
        self.first = nn.Parameter(0.02 * torch.randn(width))
        self.positions = nn.Parameter(0.02 * torch.randn(1 + (side // patch) ** 2, width))
        self.norm_in, self.norm = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.blocks = nn.ModuleList(CLIPBlock(width, heads, hidden, activation, eps) for _ in range(depth))
        self.project = nn.Linear(width, projection, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the features (B, P) of images (B, C, side, side).

        Raises:
            ValueError: images have another shape.
        """
        expected = (self.channels, self.side, self.side)
        if image.shape[1:] != expected:
            raise ValueError(f"images have shape {tuple(image.shape)}; expected (B, {expected})")
        patches = self.patches(image).flatten(2).mT
        h = torch.cat([self.first.expand(len(image), 1, -1), patches], dim=1)
        h = self.norm_in(h + self.positions)
        all_visible = h.new_zeros(1, 1, 1, 1)
        for block in self.blocks:
            h = block(h, all_visible)
        out: Tensor = self.project(self.norm(h[:, 0]))
        return out
