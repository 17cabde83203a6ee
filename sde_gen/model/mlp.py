"""A residual network for vectors."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.conditional import NO_CONDITIONS, Conditions, EmbeddedNetwork, check_vector_shape
from sde_gen.model.embedding import Fourier
from sde_gen.model.text.encoder import TextFeatures
from sde_gen.model.unet.blocks import linear


class MLP(EmbeddedNetwork):
    """A residual multi-layer perceptron with a noise embedding in every block.

    Arguments:
        shape: event shape (d,).
        width: hidden features.
        depth: residual blocks.
        num_classes: number of classes, 0 for none.
        fourier_scale: standard deviation of the frequencies of the noise label.
        outputs: outputs per number of the event: 2 with a learned variance.
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
        outputs: int = 1,
        inputs: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__()
        check_vector_shape("the MLP", shape, inputs)
        if min(width, depth, outputs) < 1 or num_classes < 0:
            raise ValueError(
                f"width={width}, depth={depth}, outputs={outputs}, num_classes={num_classes}: expected positive "
                "numbers, and a number of classes that is not negative"
            )
        self.embedding = Fourier(width // 2 + 1, fourier_scale)
        self.embed = nn.Sequential(linear(self.embedding.features, width), nn.SiLU(), linear(width, width))
        self.add_conditions(width, num_classes, inputs)
        self.stem = linear(shape[0], width)
        self.inner = nn.ModuleList(linear(width, width) for _ in range(depth))
        self.outer = nn.ModuleList(linear(width, width) for _ in range(depth))
        self.head = linear(width, outputs * shape[0], zero=True)

    def activate(self, embedding: Tensor) -> Tensor:
        """Return the embedding itself, which the blocks add before their activation."""
        return embedding

    def apply_blocks(
        self, x: Tensor, image: Tensor | None, embedding: Tensor, text: TextFeatures | None
    ) -> Tensor:
        """Apply stem, residual blocks and head."""
        del text
        h = self.stem(self.with_image(x, image))
        for inner, outer in zip(self.inner, self.outer, strict=True):
            h = h + outer(F.silu(inner(F.silu(h)) + embedding))
        out: Tensor = self.head(F.silu(h))
        return out
