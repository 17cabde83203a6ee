"""Multimodal diffusion transformer whose texts were embedded outside of it (Stable Diffusion 3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.conditional import NO_CONDITIONS
from sde_gen.model.embedding import NoiseEmbedding
from sde_gen.model.transformer.dit import PatchTransformer, check_depth
from sde_gen.model.transformer.modulated import JointBlock
from sde_gen.model.unet.condition_inputs import two_layers


class JointTransformer(PatchTransformer):
    """A transformer of patches and of embedded tokens, with separate weights for each, and attention over both.

    All conditions must be given: there is no null, but the features of the empty text.

    Source: Esser et al., 2024, arXiv:2403.03206, section 4. Stable Diffusion 3 medium has depth 24, width 1536, 24
    heads, tokens of 4096 features and vectors of 2048 numbers; 3.5 has normalized queries and keys, and in the first 13
    blocks a second attention.

    Arguments:
        shape: event shape (C, *sides).
        text: features of a token.
        vector: length of the vector, the features of the whole text.
        patch: side of a patch, or one for every axis.
        width: features of a token inside, a multiple of the heads and of twice the number of axes.
        depth: number of blocks.
        heads: number of heads of attention.
        hidden: units of the dense layers of a block; None for four times the width.
        qk_norm: normalize queries and keys.
        second: blocks in which the tokens of the sample also attend to each other alone.
        outputs: output channels per channel of the event: 2 with a learned variance.
        embedding: features of the noise label; None for 256.
        stored_positions: whether the table of places belongs to the weights, as that of an imported network.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        text: int,
        vector: int,
        patch: Sequence[int] = (2,),
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        hidden: int | None = None,
        qk_norm: bool = False,
        second: Sequence[int] = (),
        outputs: int = 1,
        embedding: NoiseEmbedding | None = None,
        stored_positions: bool = False,
    ) -> None:
        super().__init__(
            shape=shape,
            patch=patch,
            width=width,
            bottleneck=None,
            num_classes=0,
            outputs=outputs,
            embedding=embedding,
            inputs=NO_CONDITIONS,
            stored_positions=stored_positions,
        )
        if min(text, vector) < 1 or any(not 0 <= index < depth for index in second):
            raise ValueError(
                f"text={text}, vector={vector}, second={list(second)}: expected positive sizes, and blocks 0 to "
                f"{depth - 1}"
            )
        units = check_depth(depth, hidden, width)
        self.sizes = {"text": text, "vector": vector}
        self.text_in = nn.Linear(text, width)
        self.vector_in = two_layers(vector, width, F.silu)
        self.joint = nn.ModuleList(
            JointBlock(width, heads, units, qk_norm=qk_norm, last=index == depth - 1, second=index in second)
            for index in range(depth)
        )

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
            x: events with shape (B, C, *sides).
            c_noise: noise labels with shape (B,).
            label: not known, None.
            vector: features of the whole texts with shape (B, V).
            tokens: features of the tokens of texts with shape (B, L, W).
            mask: which tokens are attended to, with shape (B, L); None: all.

        Returns:
            (B, outputs * C, *sides).

        Raises:
            ValueError: a condition is missing, is not known to the network, or has another shape.
        """
        if tokens is None or vector is None:
            raise ValueError(
                "the network needs tokens and vector of a text: give text=FILE with both (also not_text=FILE with "
                "those of the empty text, for guidance)"
            )
        if label is not None:
            raise ValueError("a label was given to a network without classes")
        if tokens.shape[2:] != (self.sizes["text"],) or vector.shape[1:] != (self.sizes["vector"],):
            raise ValueError(
                f"tokens have shape {tuple(tokens.shape)}, the vector {tuple(vector.shape)}; expected "
                f"(B, L, {self.sizes['text']}) and (B, {self.sizes['vector']})"
            )
        embedding = F.silu(self.embed(self.embedding(c_noise)) + self.vector_in(vector))
        h, words = self.tokens_of(x), self.text_in(tokens)
        visible = words.new_ones(words.shape[:2], dtype=torch.bool) if mask is None else mask > 0.5
        visible = torch.cat([visible.new_ones(h.shape[:2]), visible], 1)
        for block in self.joint:
            h, words = block(h, words, embedding, visible)
        return self.event_of(h, embedding)
