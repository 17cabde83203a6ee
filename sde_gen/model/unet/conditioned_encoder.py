"""Encoder path of U-Nets whose conditions were computed outside of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.activation import Activation, ActivationLayer
from sde_gen.model.embedding import CosinePositional, NoiseEmbedding
from sde_gen.model.norms import FixedGroups
from sde_gen.model.unet.blocks import convolution
from sde_gen.model.unet.condition_inputs import ConditionInputs, InputEmbedding
from sde_gen.model.unet.conditioned_blocks import (
    ChangingBlock,
    ConditionedBlock,
    ConditionedStage,
    HalvingConvolution,
    halved,
)
from sde_gen.model.unet.encoder_features import Encoded
from sde_gen.model.unet.level_attention import LevelAttention


@dataclass(frozen=True, kw_only=True)
class ConditionedLevel:
    """Residual blocks at one resolution, in one direction.

    Arguments:
        channels: output channels.
        blocks: residual blocks.
        attention: attention after each of them; None for none.
        inside: whether the resolution changes inside a residual block, or by a convolution.
        scale: factor of the sum of the two branches of a block.
        activated: whether a block applies the activation to the embedding.

    Raises:
        ValueError: a number is not positive.
    """

    channels: int
    blocks: int = 2
    attention: LevelAttention | None = None
    inside: bool = False
    scale: float = 1.0
    activated: bool = True

    def __post_init__(self) -> None:
        if min(self.channels, self.blocks) < 1:
            raise ValueError(
                f"channels={self.channels}, blocks={self.blocks}: expected positive numbers at every level"
            )


class TextTokens(NamedTuple):
    """Tokens that pixels attend to.

    Attributes:
        tokens: features with shape (B, L, W).
        mask: which of them are attended to, with shape (B, L); None: all.
    """

    tokens: Tensor | None
    mask: Tensor | None


class ConditionedEncoder(nn.Module):
    """Embedding of the conditions, encoder path and middle of a U-Net.

    Source: Rombach et al., 2022, arXiv:2112.10752, section 3.3; the settings are those of the networks of Stable
    Diffusion (ibid.), SDXL (Podell et al., 2023, arXiv:2307.01952), GLIDE (Nichol et al., 2021, arXiv:2112.10741) and
    DeepFloyd IF, as the encoder of ControlNet has them, too (Zhang et al., 2023, arXiv:2302.05543).

    Arguments:
        shape: event shape (C, H, W).
        down: levels, fine to coarse.
        middle: blocks at the coarsest level, with attention between two of them; None for none.
        image: channels of the condition image.
        features: features of the embedding; None for four times the channels of the finest level.
        embedding: features of the noise label; None for sinusoids, as many as the channels of the finest level.
        conditions: class, noise level and vector.
        text: features of a token that is given, and of one after a linear map; empty for no map.
        modulated: whether the embedding scales and shifts normalizations, or is added to features.
        activation: activation of the layers.
        post_activation: activation after the dense layers of the noise label; None for none.
        embedding_activation: activation of the sum of all embeddings; None for none.
        norms: rule of the normalizations.
        dropout: dropout rate of the residual blocks.
        padded: whether halving convolutions are padded on all sides, or at the right and at the bottom alone.
        kernel: side of the kernel of the first convolution, odd.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        down: Sequence[ConditionedLevel],
        middle: ConditionedLevel | None = None,
        image: int = 0,
        features: int | None = None,
        embedding: NoiseEmbedding | None = None,
        conditions: ConditionInputs = ConditionInputs(),  # noqa: B008 (frozen)
        text: Sequence[int] = (),
        modulated: bool = False,
        activation: Activation = F.silu,
        post_activation: Activation | None = None,
        embedding_activation: Activation | None = None,
        norms: FixedGroups = FixedGroups(),  # noqa: B008 (frozen)
        dropout: float = 0.0,
        padded: bool = True,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1 or min(shape[1:]) < 2 ** (len(down) - 1) or image < 0:
            raise ValueError(
                f"shape={tuple(shape)}, image={image}: expected (C, H, W) with sides of at least {2 ** (len(down) - 1)}"
            )
        if not down or len(text) not in (0, 2) or kernel < 1 or kernel % 2 == 0:
            raise ValueError(
                f"{len(down)} levels, text={list(text)}, kernel={kernel}: expected at least one level, two numbers or "
                "none, and an odd side"
            )
        self.image = image
        self.reads_text = conditions.pooling_heads > 0 or any(
            level is not None and level.attention is not None and level.attention.reads_text
            for level in (*down, middle)
        )
        width = down[0].channels
        features = 4 * width if features is None else features
        self.embedding = CosinePositional(width) if embedding is None else embedding
        self.embed = nn.Sequential(
            nn.Linear(self.embedding.features, features),
            ActivationLayer(activation),
            nn.Linear(features, features),
            *([] if post_activation is None else [ActivationLayer(post_activation)]),
        )
        self.conditions = InputEmbedding(conditions, features, activation)
        self.embedding_activation = embedding_activation
        self.project = nn.Linear(text[0], text[1]) if text else None
        self.norms = norms
        self.of_block: dict[str, Any] = {
            "embedding": self.conditions.features,
            "dropout": dropout,
            "norms": norms,
            "activation": activation,
            "modulated": modulated,
        }
        self.stem = convolution(shape[0] + image, width, kernel)
        self.down, self.middle, self.channels = nn.ModuleList(), nn.ModuleList(), [width]
        for number, level in enumerate(down):
            for index in range(level.blocks):
                self.down.append(self.stage(level, self.channels[-1], index))
                self.channels.append(level.channels)
            if number < len(down) - 1:
                self.down.append(
                    ConditionedStage(
                        change=self.changing_block(level, halved)
                        if level.inside
                        else HalvingConvolution(level.channels, padded=padded)
                    )
                )
                self.channels.append(level.channels)
        if middle is not None:
            for index in range(middle.blocks):
                last = index == middle.blocks - 1
                self.middle.append(self.stage(middle, self.channels[-1], index, attends=not last))

    def stage(
        self,
        level: ConditionedLevel,
        inputs: int,
        index: int,
        change: nn.Module | None = None,
        *,
        attends: bool = True,
    ) -> ConditionedStage:
        """Build a residual block of a level with its attention, and a change of resolution after it.

        Arguments:
            level: the level.
            inputs: input channels.
            index: number of the block in its level.
            change: the change of resolution; None for none.
            attends: whether attention follows.
        """
        block = ConditionedBlock(
            inputs, level.channels, scale=level.scale, activated=level.activated, **self.of_block
        )
        attention = (
            level.attention.layer(level.channels, index, self.norms.groups)
            if attends and level.attention is not None
            else None
        )
        return ConditionedStage(block, attention, change)

    def changing_block(self, level: ConditionedLevel, change: Activation) -> ChangingBlock:
        """Build a residual block that changes the resolution of a level."""
        return ChangingBlock(
            level.channels,
            level.channels,
            scale=level.scale,
            activated=level.activated,
            change=change,
            **self.of_block,
        )

    def embed_inputs(
        self, c_noise: Tensor, label: Tensor | None, vector: Tensor | None, tokens: Tensor | None
    ) -> Tensor:
        """Embed noise label and conditions with shape (B, features)."""
        embedding = self.conditions(self.embed(self.embedding(c_noise)), label, vector, tokens)
        out: Tensor = embedding if self.embedding_activation is None else self.embedding_activation(embedding)
        return out

    def text_of(self, tokens: Tensor | None, mask: Tensor | None) -> TextTokens:
        """Map the tokens; where all tokens of a text are masked, it attends to all.

        Raises:
            ValueError: tokens are missing, or the network attends to none.
        """
        if tokens is None:
            if self.reads_text:
                raise ValueError(
                    "the network needs the tokens of a text: give text=FILE with their features (also not_text=FILE "
                    "with those of the empty text, for guidance)"
                )
            if mask is not None:
                raise ValueError("a mask was given without tokens")
            return TextTokens(None, None)
        if not self.reads_text:
            raise ValueError("a text was given to a network without")
        if tokens.ndim != 3 or not tokens.is_floating_point():
            raise ValueError(
                f"tokens have shape {tuple(tokens.shape)} and dtype {tokens.dtype}; expected features (B, L, W)"
            )
        if mask is not None:
            mask = mask > 0.5
            mask = mask | ~mask.any(1, keepdim=True)
        return TextTokens(tokens if self.project is None else self.project(tokens), mask)

    def with_image(self, x: Tensor, image: Tensor | None) -> Tensor:
        """Append the channels of a condition image to (B, C, H, W).

        Raises:
            ValueError: the image is missing, or the network takes none.
        """
        channels = 0 if image is None else image.shape[1]
        if channels != self.image:
            raise ValueError(f"the condition image has {channels} channels; the network takes {self.image}")
        return x if image is None else torch.cat([x, image.to(x.dtype)], dim=1)

    def encode(
        self,
        x: Tensor,
        c_noise: Tensor,
        *,
        label: Tensor | None = None,
        vector: Tensor | None = None,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
        image: Tensor | None = None,
        added: Tensor | None = None,
    ) -> Encoded:
        """Apply embeddings, encoder path and middle.

        Arguments:
            x: events with shape (B, C, H, W).
            c_noise: noise labels with shape (B,).
            label: classes, or noise levels of the condition image, with shape (B,); None for the null class.
            vector: vectors with shape (B, V).
            tokens: features of the tokens of texts with shape (B, L, W).
            mask: which tokens are attended to, with shape (B, L); None: all.
            image: condition images with shape (B, image, H, W).
            added: features to be added after the first convolution; None for none.

        Raises:
            ValueError: a condition is missing, is not known to the network, or has another shape.
        """
        text = self.text_of(tokens, mask)
        embedding = self.embed_inputs(c_noise, label, vector, tokens)
        h = self.stem(self.with_image(x, image))
        h = h if added is None else h + added
        skips = [h]
        for stage in self.down:
            h = stage(h, embedding, *text)
            skips.append(h)
        for stage in self.middle:
            h = stage(h, embedding, *text)
        return Encoded(skips, h, embedding, text)
