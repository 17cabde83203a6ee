"""A residual network for vectors."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.embedding import Fourier
from sde_gen.model.unet.blocks import linear


class MLP(nn.Module):
    """A residual multi-layer perceptron with a noise embedding in every block.

    Arguments:
        shape: event shape (d,).
        width: hidden features.
        depth: residual blocks.
        num_classes: number of classes, 0 for none.
        fourier_scale: standard deviation of the frequencies of the noise label.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 128,
        depth: int = 3,
        num_classes: int = 0,
        fourier_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if len(shape) != 1:
            raise ValueError(f"shape={tuple(shape)}: the MLP takes vectors (d,); for images use model=ncsnpp")
        if width < 1 or depth < 1 or num_classes < 0:
            raise ValueError(
                f"width={width}, depth={depth}, num_classes={num_classes}: expected positive, positive, not negative"
            )
        self.embedding = Fourier(width // 2 + 1, fourier_scale)
        self.embed = nn.Sequential(linear(self.embedding.features, width), nn.SiLU(), linear(width, width))
        self.classes = nn.Embedding(num_classes + 1, width) if num_classes else None
        self.stem = linear(shape[0], width)
        self.inner = nn.ModuleList(linear(width, width) for _ in range(depth))
        self.outer = nn.ModuleList(linear(width, width) for _ in range(depth))
        self.head = linear(width, shape[0], zero=True)

    def forward(self, x: Tensor, c_noise: Tensor, *, label: Tensor | None = None) -> Tensor:
        """Apply the network to vectors x (B, d) with noise labels (B,) and classes (B,) or None."""
        embedding = self.embed(self.embedding(c_noise))
        if self.classes is not None:
            null = self.classes.num_embeddings - 1
            embedding = embedding + self.classes(
                torch.full((len(x),), null, device=x.device) if label is None else label
            )
        elif label is not None:
            raise ValueError(
                "a label was given to a network without classes; train one with conditioning=class"
            )
        h = self.stem(x)
        for inner, outer in zip(self.inner, self.outer, strict=True):
            h = h + outer(F.silu(inner(F.silu(h)) + embedding))
        out: Tensor = self.head(F.silu(h))
        return out
