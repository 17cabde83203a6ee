"""Multimodal diffusion transformer (MM-DiT)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sde_gen.model.conditional import NO_CONDITIONS, Conditions, EmbeddedNetwork
from sde_gen.model.embedding import NoiseEmbedding
from sde_gen.model.text.encoder import TextFeatures
from sde_gen.model.transformer.dit import PatchTransformer, check_depth
from sde_gen.model.transformer.modulated import DiTBlock, JointBlock


class MMDiT(PatchTransformer, EmbeddedNetwork):
    """A transformer of patches and of text, with separate weights for each, and attention over both together.

    Without texts it is a DiT.

    Source: Esser et al., 2024, arXiv:2403.03206, section 4; normalized queries and keys: section 5.3.2. Their smallest
    model has depth 15, width 64 depth and as many heads as layers.

    Arguments:
        shape: event shape (C, *sides).
        patch: side of a patch, or one for every axis.
        width: features of a token, a multiple of the heads and of twice the number of axes.
        depth: number of blocks.
        heads: number of heads of attention.
        hidden: units of the dense layers of a block; None for four times the width.
        qk_norm: normalize queries and keys.
        bottleneck: features of a patch in between, fewer than its pixels; None for none.
        num_classes: number of classes, 0 for none; a further null class stands for "no label given".
        outputs: output channels per channel of the event: 2 with a learned variance.
        embedding: features of the noise label; None for 256.
        inputs: sizes of the conditions besides the class.

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
        qk_norm: bool = True,
        bottleneck: int | None = None,
        num_classes: int = 0,
        outputs: int = 1,
        embedding: NoiseEmbedding | None = None,
        inputs: Conditions = NO_CONDITIONS,
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
        )
        units = check_depth(depth, hidden, width)
        self.joint, self.blocks = nn.ModuleList(), nn.ModuleList()
        for index in range(depth):
            if inputs.text:
                last = index == depth - 1
                self.joint.append(JointBlock(width, heads, units, qk_norm=qk_norm, last=last))
            else:
                self.blocks.append(DiTBlock(width, heads, units, qk_norm=qk_norm))

    def apply_blocks(
        self, x: Tensor, image: Tensor | None, embedding: Tensor, text: TextFeatures | None
    ) -> Tensor:
        """Attend to the tokens of sample and text by separate weights, and return those of the sample as an event."""
        h = self.tokens_of(self.with_image(x, image))
        if text is not None:
            mask = torch.cat([text.mask.new_ones(h.shape[:2]), text.mask], 1)
            words = text.tokens.to(h.dtype)
            for block in self.joint:
                h, words = block(h, words, embedding, mask)
        for block in self.blocks:
            h = block(h, embedding, None)
        return self.event_of(h, embedding)
