"""Classifier of vectors."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.conditional import NO_CONDITIONS, check_vector_shape
from sde_gen.model.embedding import Fourier
from sde_gen.model.unet.blocks import linear


class VectorEncoder(nn.Module):
    """A residual multi-layer perceptron with a noise embedding in every block: vectors to class logits.

    Arguments:
        shape: event shape (d,).
        num_classes: number of classes, at least 2.
        width: hidden features.
        depth: residual blocks.
        fourier_scale: standard deviation of the frequencies of the noise label.

    Raises:
        ValueError: an impossible shape or setting.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        num_classes: int,
        width: int = 128,
        depth: int = 3,
        fourier_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_vector_shape("the encoder of vectors", shape, NO_CONDITIONS)
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}: a classifier needs at least two classes")
        if width < 1 or depth < 1:
            raise ValueError(f"width={width}, depth={depth}: expected at least 1")
        self.embedding = Fourier(width // 2 + 1, fourier_scale)
        self.embed = nn.Sequential(linear(self.embedding.features, width), nn.SiLU(), linear(width, width))
        self.stem = linear(shape[0], width)
        self.inner = nn.ModuleList(linear(width, width) for _ in range(depth))
        self.outer = nn.ModuleList(linear(width, width) for _ in range(depth))
        self.out = linear(width, num_classes)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Map vectors (B, d) with noise labels (B,) to logits (B, num_classes)."""
        embedding = self.embed(self.embedding(c_noise))
        h = self.stem(x)
        for inner, outer in zip(self.inner, self.outer, strict=True):
            h = h + outer(F.silu(inner(F.silu(h)) + embedding))
        logits: Tensor = self.out(F.silu(h))
        return logits
