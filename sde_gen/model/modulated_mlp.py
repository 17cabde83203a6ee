"""A residual network for vectors, modulated by noise label and conditions."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.conditional import NO_CONDITIONS, Conditions, EmbeddedNetwork, check_vector_shape
from sde_gen.model.embedding import Fourier
from sde_gen.model.text.encoder import TextFeatures
from sde_gen.model.unet.blocks import linear


class ModulatedBlock(nn.Module):
    """Two dense layers, whose input is scaled and shifted and whose output is gated by an embedding.

    Source: Peebles and Xie, 2022, arXiv:2212.09748, section 3.2 (adaLN-zero), without attention.

    Arguments:
        width: features of the vector, and of the embedding.
        hidden: units between the layers.
        dropout: probability that a unit between the layers is dropped in training.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.modulation = linear(width, 3 * width, zero=True)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.inner = linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.outer = linear(hidden, width)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Apply the block to (B, width), given an embedding (B, width) after SiLU."""
        shift, scale, gate = self.modulation(embedding).chunk(3, dim=1)
        inner = self.inner(self.norm(h) * (1 + scale) + shift)
        out: Tensor = h + (1 + gate) * self.outer(self.dropout(F.silu(inner)))
        return out


class ModulatedMLP(EmbeddedNetwork):
    """A residual multi-layer perceptron, every block modulated by noise label and conditions.

    Noise label and conditions are mixed by a small network first, so the modulation is no sum of functions of each:
    what a posterior needs, whose shape depends on the observation.

    Arguments:
        shape: event shape (d,).
        width: features.
        depth: residual blocks.
        num_classes: number of classes, 0 for none.
        fourier_scale: standard deviation of the frequencies of the noise label.
        dropout: probability that a hidden unit is dropped in training.
        inputs: sizes of the conditions besides the class; no image.

    Raises:
        ValueError: an impossible shape or setting.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 128,
        depth: int = 4,
        num_classes: int = 0,
        fourier_scale: float = 1.0,
        dropout: float = 0.0,
        inputs: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__()
        check_vector_shape("the modulated MLP", shape, inputs)
        if width < 1 or depth < 1 or num_classes < 0 or not 0 <= dropout < 1:
            raise ValueError(
                f"width={width}, depth={depth}, num_classes={num_classes}, dropout={dropout}: expected positive, "
                "positive, not negative, in [0, 1)"
            )
        self.embedding = Fourier(width // 2 + 1, fourier_scale)
        self.embed = nn.Sequential(linear(self.embedding.features, width), nn.SiLU(), linear(width, width))
        self.add_conditions(width, num_classes, inputs)
        self.mix = nn.Sequential(nn.SiLU(), linear(width, width), nn.SiLU(), linear(width, width), nn.SiLU())
        self.stem = linear(shape[0], width)
        self.blocks = nn.ModuleList(ModulatedBlock(width, 2 * width, dropout) for _ in range(depth))
        self.head_modulation = linear(width, 2 * width, zero=True)
        self.head_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.head = linear(width, shape[0], zero=True)

    def activate(self, embedding: Tensor) -> Tensor:
        """Mix noise label and conditions by dense layers."""
        out: Tensor = self.mix(embedding)
        return out

    def apply_blocks(
        self, x: Tensor, image: Tensor | None, embedding: Tensor, text: TextFeatures | None
    ) -> Tensor:
        """Apply stem, modulated blocks and head."""
        del text
        h = self.stem(self.with_image(x, image))
        for block in self.blocks:
            h = block(h, embedding)
        shift, scale = self.head_modulation(embedding).chunk(2, dim=1)
        out: Tensor = self.head(self.head_norm(h) * (1 + scale) + shift)
        return out
