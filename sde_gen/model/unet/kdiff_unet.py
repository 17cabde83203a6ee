"""U-Net of k-diffusion (image_v1)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.adm.level_resample import PlainResample
from sde_gen.model.conditional import NO_CONDITIONS, ConditionalNetwork, Conditions, check_image_shape
from sde_gen.model.embedding import Fourier
from sde_gen.model.unet.blocks import convolution, linear
from sde_gen.model.unet.mapped_blocks import KDiffusionStage
from sde_gen.model.unet.resample import MirroredFIR


class KDiffusionUNet(ConditionalNetwork):
    """A U-Net whose every normalization is scaled and shifted by the conditioning: noise label, class and augmentation.

    A mapping network turns them into features; the image enters and leaves in patches; resolution changes by a filter
    without aliasing, and nothing is skipped but one feature map a level.

    Source: Crowson, 2023, k-diffusion 0.1.1, ``image_v1`` (in its code); adaptive normalization: Dhariwal and Nichol,
    2021, arXiv:2105.05233, section 3.1; mapping network: Karras et al., 2019, arXiv:1812.04948, section 2; conditional
    augmentation: Karras et al., 2020, arXiv:2006.06676, with the augmentation parameters as input.

    Arguments:
        shape: event shape (C, H, W); in patches H and W must be divisible by 2^(levels - 1), and at least twice that.
        width: channels before the first level and after the last one.
        channels: channels of every level, fine to coarse.
        blocks: residual blocks of every level.
        attention_levels: levels with attention after every block, 0 being the finest.
        features: features of the mapping network, even.
        patch: side of the squares of pixels that enter as one.
        dropout: rate of dropout, of whole channels in blocks and of weights in attention.
        num_classes: number of classes, 0 for none; a further null class stands for "no label given".
        augmentations: number of augmentation labels, zeros for an unaugmented sample; 0 for none.
        inputs: sizes of the conditions besides the class.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 32,
        channels: Sequence[int] = (32, 64),
        blocks: Sequence[int] = (2, 2),
        attention_levels: Sequence[int] = (1,),
        features: int = 128,
        patch: int = 1,
        dropout: float = 0.0,
        num_classes: int = 0,
        augmentations: int = 0,
        inputs: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__()
        _check(shape, channels, blocks, attention_levels, patch)
        if (
            min(width, features) < 1
            or features % 2
            or min(num_classes, augmentations) < 0
            or not 0 <= dropout < 1
        ):
            raise ValueError(
                f"width={width}, features={features}, dropout={dropout}, num_classes={num_classes}, "
                f"augmentations={augmentations}: expected a positive width, an even number of features, a rate in "
                "[0, 1) and numbers of classes and augmentations that are not negative"
            )
        self.patch = patch
        self.embedding = Fourier(features // 2, scale=1.0)
        self.add_conditions(features, num_classes, inputs)
        self.augmentation = nn.Linear(augmentations, features, bias=False) if augmentations else None
        self.mapping = nn.Sequential(
            linear(features, features), nn.GELU(), linear(features, features), nn.GELU()
        )
        self.stem = convolution((shape[0] + inputs.image) * patch**2, width, 1)
        change, resampler, last = PlainResample(), MirroredFIR(), len(channels) - 1
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (inner, depth) in enumerate(zip(channels, blocks, strict=True)):
            outer = channels[level - 1] if level else width
            options: dict[str, Any] = {
                "depth": depth,
                "attends": level in attention_levels,
                "features": features,
                "dropout": dropout,
            }
            self.down.append(
                KDiffusionStage(
                    outer, inner, inner, before=change.down(outer, resampler) if level else None, **options
                )
            )
            joined = inner if level == last else 2 * inner
            self.up.insert(
                0,
                KDiffusionStage(
                    joined, inner, outer, after=change.up(outer, resampler) if level else None, **options
                ),
            )
        self.out = convolution(width, shape[0] * patch**2, 1, zero=True)

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
        augment: Tensor | None = None,
        until: Tensor | None = None,
    ) -> Tensor:
        """Apply the network.

        Arguments:
            x: images with shape (B, C, H, W).
            c_noise: noise labels with shape (B,).
            label: classes with shape (B,); None stands for the null class.
            vector: vectors with shape (B, V); None stands for zeros, as in all of the following.
            tokens: texts with shape (B, L), padded with zeros, or embedded ones (B, L, inputs.features).
            mask: which of the embedded tokens are no padding, with shape (B, L); None: all.
            image: condition images with shape (B, inputs.image, H, W).
            augment: descriptions of the augmentation with shape (B, augmentations); None stands for zeros.
            until: noise labels of the times to map to with shape (B,); None: those of c_noise.

        Returns:
            Images with the shape of x.

        Raises:
            ValueError: a label or an augmentation was given to a network without.
        """
        text = self.encode_text(tokens, mask, x)
        cond = self.embed_conditions(
            self.with_until(self.embedding(c_noise), c_noise, until), label=label, vector=vector, text=text
        )
        if augment is not None:
            if self.augmentation is None:
                raise ValueError("augment was given to a network without augmentations")
            cond = cond + self.augmentation(augment.to(cond.dtype))
        embedding = self.mapping(cond)
        h, skips = self.stem(F.pixel_unshuffle(self.with_image(x, image), self.patch)), []
        for stage in self.down:
            h = stage(h, embedding)
            skips.append(h)
        h = skips.pop()
        for stage in self.up:
            h = stage(h, embedding)
            if skips:
                h = torch.cat([h, skips.pop()], dim=1)
        return F.pixel_shuffle(self.out(h), self.patch)


def _check(
    shape: Sequence[int],
    channels: Sequence[int],
    blocks: Sequence[int],
    attention_levels: Sequence[int],
    patch: int,
) -> None:
    """Raise ValueError if the sizes define no network."""
    levels = len(channels)
    check_image_shape("KDiffusionUNet", shape)
    if levels < 1 or len(blocks) != levels or min(*channels, *blocks) < 1 or patch < 1:
        raise ValueError(
            f"channels={list(channels)}, blocks={list(blocks)}, patch={patch}: expected a positive number of channels "
            "and of blocks for every level, of at least one, and a positive side"
        )
    factor = patch * 2 ** (levels - 1)
    least = 2 * factor if levels > 1 else factor
    if any(side % factor or side < least for side in shape[1:]):
        raise ValueError(
            f"images of {shape[1]}x{shape[2]} in patches of {patch}x{patch} do not halve {levels - 1} times: sides "
            f"must be multiples of {factor}, at least {least}; or give fewer channels than {list(channels)}"
        )
    if any(not 0 <= level < levels for level in attention_levels):
        raise ValueError(f"attention_levels={list(attention_levels)}: there are levels 0 to {levels - 1}")
