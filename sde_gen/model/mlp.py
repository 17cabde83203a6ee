"""A residual network for vectors."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.conditional import NO_CONDITIONS, ConditionalNetwork, Conditions
from sde_gen.model.embedding import Fourier
from sde_gen.model.unet.blocks import linear


class MLP(ConditionalNetwork):
    """A residual multi-layer perceptron with a noise embedding in every block.

    Arguments:
        shape: event shape (d,).
        width: hidden features.
        depth: residual blocks.
        num_classes: number of classes, 0 for none.
        fourier_scale: standard deviation of the frequencies of the noise label.
        inputs: sizes of the conditions besides the class; no image.

    Raises:
        ValueError: an impossible shape or setting.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 128,
        depth: int = 3,
        num_classes: int = 0,
        fourier_scale: float = 1.0,
        inputs: Conditions = NO_CONDITIONS,
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
        if inputs.image:
            raise ValueError("a vector has no image beside it as condition; use conditioning=vector")
        self.add_conditions(width, num_classes, inputs)
        self.stem = linear(shape[0], width)
        self.inner = nn.ModuleList(linear(width, width) for _ in range(depth))
        self.outer = nn.ModuleList(linear(width, width) for _ in range(depth))
        self.head = linear(width, shape[0], zero=True)

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        *,
        label: Tensor | None = None,
        vector: Tensor | None = None,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Apply the network.

        Arguments:
            x: vectors with shape (B, d).
            c_noise: noise labels with shape (B,).
            label: classes with shape (B,); None stands for the null class.
            vector: vectors with shape (B, V); None stands for zeros.
            tokens: texts with shape (B, L), padded with zeros; None stands for zeros.
            mask: which of embedded tokens (B, L, inputs.features) are no padding, with shape (B, L); None: all.

        Returns:
            (B, d).
        """
        text = self.encode_text(tokens, mask, x)
        embedding = self.embed_conditions(
            self.embed(self.embedding(c_noise)), label=label, vector=vector, text=text
        )
        h = self.stem(x)
        for inner, outer in zip(self.inner, self.outer, strict=True):
            h = h + outer(F.silu(inner(F.silu(h)) + embedding))
        out: Tensor = self.head(F.silu(h))
        return out
