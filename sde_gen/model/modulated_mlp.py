"""A residual network for vectors, modulated by noise label and conditions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.conditional import NO_CONDITIONS, Conditions, EmbeddedNetwork, check_vector_shape
from sde_gen.model.embedding import Fourier
from sde_gen.model.text.encoder import TextFeatures
from sde_gen.model.transformer.layers import dense
from sde_gen.model.unet.blocks import linear


class ModulatedBlock(nn.Module):
    """A residual block of two dense layers, between which an embedding scales and shifts.

    No layer is normalized: that would hide how far the sample is from what the observation lets expect.

    Source: Perez et al., 2018, arXiv:1709.07871, section 2.1, for scale and shift.

    Arguments:
        width: features of the vector, and of the embedding.
        dropout: probability that a unit between the layers is dropped in training.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.modulation = linear(width, 2 * width, zero=True)
        self.inner = linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.outer = linear(width, width)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Apply the block to (B, width), given an embedding (B, width) after SiLU."""
        scale, shift = self.modulation(embedding).chunk(2, dim=1)
        inner = self.inner(F.silu(h)) * (1 + scale) + shift
        out: Tensor = h + self.outer(self.dropout(F.silu(inner)))
        return out


class ModulatedMLP(EmbeddedNetwork):
    """A residual multi-layer perceptron, every block modulated by noise label and conditions.

    Noise label and conditions are mixed by a small network first, so the modulation is no sum of functions of each:
    what a posterior needs, whose shape depends on the observation. A vector is an input beside the sample, too, so that
    the first layer sees the difference of parameters and observation, however small it is.

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
        self.embed = linear(self.embedding.features, width)
        self.add_conditions(width, num_classes, inputs)
        self.mix = nn.Sequential(nn.SiLU(), linear(width, width), nn.SiLU())
        self.stem = linear(shape[0], width)
        self.beside = dense(inputs.vector, width) if inputs.vector else None
        self.blocks = nn.ModuleList(ModulatedBlock(width, dropout) for _ in range(depth))
        self.head = linear(width, shape[0], zero=True)

    def embed_conditions(
        self,
        embedding: Tensor,
        *,
        label: Tensor | None = None,
        vector: Tensor | None = None,
        text: TextFeatures | None = None,
    ) -> Tensor:
        """Append the features of the vector beside the sample to the embedding: (B, 2 width)."""
        embedding = super().embed_conditions(embedding, label=label, vector=vector, text=text)
        if self.beside is None or vector is None:
            return torch.cat([embedding, torch.zeros_like(embedding)], dim=1)
        return torch.cat([embedding, self.beside(vector.to(embedding.dtype))], dim=1)

    def activate(self, embedding: Tensor) -> Tensor:
        """Mix noise label and conditions by dense layers: (B, 2 width)."""
        embedding, beside = embedding.chunk(2, dim=1)
        return torch.cat([self.mix(embedding), beside], dim=1)

    def apply_blocks(
        self, x: Tensor, image: Tensor | None, embedding: Tensor, text: TextFeatures | None
    ) -> Tensor:
        """Apply stem, modulated blocks and head."""
        del text
        embedding, beside = embedding.chunk(2, dim=1)
        h = self.stem(self.with_image(x, image)) + beside
        for block in self.blocks:
            h = block(h, embedding)
        out: Tensor = self.head(F.silu(h))
        return out
