"""Diffusion transformer (DiT)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sde_gen.model.activation import Activation
from sde_gen.model.conditional import NO_CONDITIONS, ConditionalNetwork, Conditions, EmbeddedNetwork
from sde_gen.model.embedding import CosinePositional, NoiseEmbedding
from sde_gen.model.text.encoder import TextFeatures
from sde_gen.model.transformer.modulated import EPS, DiTBlock, Modulation, modulated, norm
from sde_gen.model.transformer.patches import Patches, sincos
from sde_gen.model.unet.blocks import linear


class PatchTransformer(ConditionalNetwork):
    """Base of transformers of patches: from an event of any rank to tokens with places, and back.

    Arguments:
        shape: event shape (C, *sides).
        patch: side of a patch, or one for every axis.
        width: features of a token.
        bottleneck: features of a patch in between, before ``width``; None: none.
        num_classes: number of classes, 0 for none.
        outputs: output channels per channel of the event.
        embedding: features of the noise label; None for 256.
        inputs: sizes of the conditions besides the class.
        stored_positions: whether the table of places belongs to the weights, as that of an imported network.
    """

    positions: Tensor
    embed: nn.Module

    def __init__(
        self,
        *,
        shape: Sequence[int],
        patch: Sequence[int],
        width: int,
        bottleneck: int | None,
        num_classes: int,
        outputs: int,
        embedding: NoiseEmbedding | None,
        inputs: Conditions,
        stored_positions: bool = False,
    ) -> None:
        super().__init__()
        self.patches = Patches(shape, patch)
        if min(width, outputs) < 1 or num_classes < 0 or (bottleneck is not None and bottleneck < 1):
            raise ValueError(
                f"width={width}, outputs={outputs}, bottleneck={bottleneck}, num_classes={num_classes}: expected "
                "positive numbers, and of classes no negative one"
            )
        self.channels = outputs * shape[0]
        self.embedding = CosinePositional(256) if embedding is None else embedding
        self.embed = nn.Sequential(linear(self.embedding.features, width), nn.SiLU(), linear(width, width))
        self.add_conditions(width, num_classes, inputs)
        pixels = (shape[0] + inputs.image) * self.patches.size
        self.stem = nn.Sequential(
            *([] if bottleneck is None else [nn.Linear(pixels, bottleneck, bias=False)]),
            linear(pixels if bottleneck is None else bottleneck, width),
        )
        self.register_buffer("positions", sincos(self.patches.grid, width), persistent=stored_positions)
        self.modulation = Modulation(width, width, 2)
        self.norm: nn.Module = norm(width)
        self.out = linear(width, self.channels * self.patches.size, zero=True)

    def tokens_of(self, x: Tensor) -> Tensor:
        """Return tokens (B, N, width) of noisy samples and condition images."""
        tokens: Tensor = self.stem(self.patches.tokens(x))
        return tokens + self.positions.to(tokens.dtype)

    def event_of(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """Return events (B, outputs * C, *sides) of tokens (B, N, width)."""
        h = self.out(modulated(self.norm(tokens), *self.modulation(embedding)))
        return self.patches.event(h, self.channels)


class DiT(PatchTransformer, EmbeddedNetwork):
    """A transformer of patches, whose layers are scaled, shifted and gated by noise label and conditions (adaLN-zero).

    The tokens of a text are appended to those of the sample. Events of any rank work: sequences (C, L), images
    (C, H, W) and volumes (C, D, H, W).

    Source: Peebles and Xie, 2022, arXiv:2212.09748. Their DiT-XL/2 of latents (4, 32, 32) is patch 2, width 1152,
    depth 28, 16 heads. Patches of pixels by way of a bottleneck: Li and He, 2025, arXiv:2511.13720 (JiT), section 4.

    Arguments:
        shape: event shape (C, *sides).
        patch: side of a patch, or one for every axis.
        width: features of a token, a multiple of the heads and of twice the number of axes.
        depth: number of blocks.
        heads: number of heads of attention.
        hidden: units of the dense layers of a block; None for four times the width.
        qk_norm: normalize queries and keys (Henry et al., 2020, arXiv:2010.04245).
        bottleneck: features of a patch in between, fewer than its pixels; None for none.
        num_classes: number of classes, 0 for none; a further null class stands for "no label given".
        outputs: output channels per channel of the event: 2 with a learned variance.
        embedding: features of the noise label; None for 256 as in the source.
        inputs: sizes of the conditions besides the class.
        activation: function of the dense layers of a block; None for the tanh approximation of GELU.
        eps: epsilon of the normalization before the dense layers of a block.
        stored_positions: whether the table of places belongs to the weights, as that of an imported network.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        patch: Sequence[int] = (2,),
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        hidden: int | None = None,
        qk_norm: bool = False,
        bottleneck: int | None = None,
        num_classes: int = 0,
        outputs: int = 1,
        embedding: NoiseEmbedding | None = None,
        inputs: Conditions = NO_CONDITIONS,
        activation: Activation | None = None,
        eps: float = EPS,
        stored_positions: bool = False,
    ) -> None:
        super().__init__(
            shape=shape,
            patch=patch,
            width=width,
            bottleneck=bottleneck,
            num_classes=num_classes,
            outputs=outputs,
            embedding=embedding,
            inputs=inputs,
            stored_positions=stored_positions,
        )
        units = check_depth(depth, hidden, width)
        self.blocks = nn.ModuleList(
            DiTBlock(width, heads, units, qk_norm=qk_norm, activation=activation, eps=eps)
            for _ in range(depth)
        )

    def apply_blocks(
        self, x: Tensor, image: Tensor | None, embedding: Tensor, text: TextFeatures | None
    ) -> Tensor:
        """Attend to the tokens of sample and text together, and return those of the sample as an event."""
        h, mask = self.tokens_of(self.with_image(x, image)), None
        count = h.shape[1]
        if text is not None:
            mask = torch.cat([text.mask.new_ones(len(x), count), text.mask], 1)
            h = torch.cat([h, text.tokens.to(h.dtype)], 1)
        for block in self.blocks:
            h = block(h, embedding, mask)
        return self.event_of(h[:, :count], embedding)


def check_depth(depth: int, hidden: int | None, width: int) -> int:
    """Return the units of the dense layers of a block.

    Raises:
        ValueError: a number is not positive.
    """
    if depth < 1 or (hidden is not None and hidden < 1):
        raise ValueError(f"depth={depth}, hidden={hidden}: expected positive numbers")
    return 4 * width if hidden is None else hidden
