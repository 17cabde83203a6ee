"""U-Net whose conditions were computed outside of it: Stable Diffusion, SDXL, GLIDE and DeepFloyd IF."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sde_gen.model.unet.blocks import convolution
from sde_gen.model.unet.conditioned_blocks import DoublingConvolution, doubled
from sde_gen.model.unet.conditioned_encoder import ConditionedEncoder, ConditionedLevel
from sde_gen.model.unet.encoder_features import Encoded


class ConditionedUNet(ConditionedEncoder):
    """A U-Net of residual blocks and attention, whose levels may all differ, also between encoder and decoder path.

    Label and vector are added to the embedding of the noise label; pixels attend to the tokens of a text, whose
    features another network has computed. All conditions that the network has must be given, but for the class, which
    has a null.

    Source: Rombach et al., 2022, arXiv:2112.10752, section 3.3. The network of Stable Diffusion 1.5 is that of levels
    with 320, 640, 1280 and 1280 channels, two blocks each, transformer blocks with 8 heads at all but the coarsest.

    Arguments:
        up: levels of the decoder path, fine to coarse, each with a block more than in the encoder path.
        outputs: output channels per channel of the event: 2 with a learned variance.
        kernel_out: side of the kernel of the last convolution, odd.
        of_encoder: settings of :class:`ConditionedEncoder`.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(
        self,
        *,
        up: Sequence[ConditionedLevel],
        outputs: int = 1,
        kernel_out: int = 3,
        **of_encoder: Any,
    ) -> None:
        super().__init__(**of_encoder)
        shape, down = of_encoder["shape"], of_encoder["down"]
        expected = [(level.channels, level.blocks + 1) for level in down]
        if [(level.channels, level.blocks) for level in up] != expected:
            raise ValueError(
                "up: expected as many levels as down, with the same channels and a block more at every level"
            )
        if outputs < 1 or kernel_out < 1 or kernel_out % 2 == 0:
            raise ValueError(
                f"outputs={outputs}, kernel_out={kernel_out}: expected a positive and an odd number"
            )
        self.reads_text = self.reads_text or any(
            level.attention is not None and level.attention.reads_text for level in up
        )
        self.up, skips, channels = nn.ModuleList(), list(self.channels), self.channels[-1]
        for number, level in reversed(list(enumerate(up))):
            for index in range(level.blocks):
                last = index == level.blocks - 1
                change = self._doubling(level) if number and last else None
                self.up.append(self.stage(level, channels + skips.pop(), index, change))
                channels = level.channels
        self.norm = self.norms.block(channels)
        self.activation = self.of_block["activation"]
        self.out = convolution(channels, outputs * shape[0], kernel_out, zero=True)

    def _doubling(self, level: ConditionedLevel) -> nn.Module:
        return self.changing_block(level, doubled) if level.inside else DoublingConvolution(level.channels)

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        *,
        label: Tensor | None = None,
        vector: Tensor | None = None,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
        image: Tensor | None = None,
    ) -> Tensor:
        """Apply the network.

        Arguments:
            x: events with shape (B, C, H, W).
            c_noise: noise labels with shape (B,).
            label: classes, or noise levels of the condition image, with shape (B,); None for the null class.
            vector: vectors with shape (B, V).
            tokens: features of the tokens of texts with shape (B, L, W).
            mask: which tokens are attended to, with shape (B, L); None: all.
            image: condition images with shape (B, image, H, W).

        Returns:
            (B, outputs * C, H, W).

        Raises:
            ValueError: a condition is missing, is not known to the network, or has another shape.
        """
        return self.decode(
            self.encode(x, c_noise, label=label, vector=vector, tokens=tokens, mask=mask, image=image)
        )

    def decode(self, encoded: Encoded) -> Tensor:
        """Apply the decoder path, with the features of the encoder path as skip connections."""
        h, skips = encoded.middle, list(encoded.skips)
        for stage in self.up:
            joined = torch.cat([h, skips.pop()], dim=1)
            h = stage(joined, encoded.embedding, *encoded.text, skips[-1].shape[2:] if skips else ())
        out: Tensor = self.out(self.activation(self.norm(h)))
        return out
