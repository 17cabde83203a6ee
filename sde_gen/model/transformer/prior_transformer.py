"""Transformer of an embedding and of the text it belongs to: the prior of unCLIP."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.activation import Activation, ActivationLayer
from sde_gen.model.conditional import reject_label
from sde_gen.model.embedding import Sinusoids
from sde_gen.model.text.clip import CLIPBlock

MASKED = -1e4
"""Added to the weight of attention of what is not attended to, before the softmax."""


class PriorTransformer(nn.Module):
    r"""A causal transformer of tokens: of a text, its vector, the noise label, the noisy embedding, and a learned one.

    The prediction is read from the last. Tokens of a text are attended to as the mask says; without a mask all tokens
    attend to all, as in the original.

    Source: Ramesh et al., 2022, arXiv:2204.06125, section 2.2; in this form von Platen et al., diffusers 0.42,
    models/transformers/prior_transformer.py.

    Arguments:
        shape: event shape (d,) of the embeddings.
        vector: features of the vector of a text.
        text: features of a token of a text; None for no texts, or tokens that are not projected.
        places: number of learned positions; fewer than tokens are those of the text alone.
        width: features of a token in between.
        depth: number of layers.
        heads: number of heads, which divides the width.
        hidden: units of the layers that embed the noise label; None for the width.
        activation: activation between these.
        norm_in: whether tokens are normalized before the first layer.
        norm_vector: whether the vector is normalized.
        last: whether there is a learned token, or the prediction is read from the noisy embedding.

    Raises:
        ValueError: an impossible shape or setting.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        vector: int,
        text: int | None,
        places: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int | None = None,
        activation: Activation = F.silu,
        norm_in: bool = False,
        norm_vector: bool = False,
        last: bool = True,
    ) -> None:
        super().__init__()
        if len(shape) != 1 or min(shape[0], vector, places, width, depth, heads) < 1 or width % heads:
            raise ValueError(
                f"shape={tuple(shape)}, vector={vector}, places={places}, width={width}, depth={depth}, heads={heads}: "
                "expected (d,), positive numbers, and heads that divide the width"
            )
        units = width if hidden is None else hidden
        self.embedding = Sinusoids(width)
        self.embed = nn.Sequential(
            nn.Linear(width, units), ActivationLayer(activation), nn.Linear(units, width)
        )
        self.stem = nn.Linear(shape[0], width)
        self.norm_vector = nn.LayerNorm(vector) if norm_vector else nn.Identity()
        self.vector = nn.Linear(vector, width)
        self.text = nn.Identity() if text is None else nn.Linear(text, width)
        self.reads_text = text is not None
        self.places = nn.Parameter(0.02 * torch.randn(places, width))
        self.last = nn.Parameter(0.02 * torch.randn(width)) if last else None
        self.norm_in = nn.LayerNorm(width) if norm_in else nn.Identity()
        self.blocks = nn.ModuleList(CLIPBlock(width, heads, 4 * width, F.gelu, 1e-5) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, shape[0])

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
            x: noisy embeddings with shape (B, d).
            c_noise: noise labels with shape (B,).
            label: None, as there are no classes.
            vector: vectors of texts with shape (B, V).
            tokens: features of the tokens of texts with shape (B, L, W).
            mask: which of them are attended to, with shape (B, L); None: all, and those after a token, too.

        Returns:
            (B, d).

        Raises:
            ValueError: a condition is missing, is not known to the network, or has another shape.
        """
        reject_label(label)
        if vector is None or (tokens is None and self.reads_text):
            raise ValueError(
                "the prior needs the vector of a text, and the features of its tokens: give text=FILE with both"
            )
        rows = [self.vector(self.norm_vector(vector)), self.embed(self.embedding(c_noise)), self.stem(x)]
        if self.last is not None:
            rows.append(self.last.expand(len(x), -1))
        added = torch.stack(rows, dim=1)
        h = added if tokens is None else torch.cat([self.text(tokens), added], dim=1)
        h = self.norm_in(h + self._places(h.shape[1]))
        weights = self._weights(h, mask)
        for block in self.blocks:
            h = block(h, weights)
        out: Tensor = self.out(self.norm(h[:, -1]))
        return out

    def _places(self, count: int) -> Tensor:
        """Return the positions of as many tokens, zeros where positions are those of other tokens alone.

        Raises:
            ValueError: there are fewer tokens than positions.
        """
        known = len(self.places)
        if known > count:
            raise ValueError(f"there are {count} tokens with those of the text; expected at least {known}")
        after = int(self.last is not None)
        padding = (0, 0, count - known - after, after)
        return self.places if known == count else F.pad(self.places, padding)

    def _weights(self, h: Tensor, mask: Tensor | None) -> Tensor:
        """Return what is added to the weights of attention, with shape (B or 1, 1, N, N)."""
        count = h.shape[1]
        if mask is None:
            return h.new_zeros(1, 1, 1, 1)
        later = h.new_full((count, count), MASKED).triu(1)
        hidden = F.pad(MASKED * (1 - mask.to(h.dtype)), (0, count - mask.shape[1]))
        return (hidden[:, None] + later)[:, None]
