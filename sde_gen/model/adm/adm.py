"""U-Net of ADM (guided-diffusion)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.adm.blocks import ADMBuilder, ADMStage
from sde_gen.model.adm.level_resample import LevelResample
from sde_gen.model.conditional import NO_CONDITIONS, ConditionalNetwork, Conditions
from sde_gen.model.embedding import CosinePositional, NoiseEmbedding
from sde_gen.model.norms import GCDGroups, GroupNormRule
from sde_gen.model.unet.base import RANKS, check_shape, with_augmentation
from sde_gen.model.unet.blocks import convolution_of, initialize, linear
from sde_gen.model.unet.resample import CenteredBox, Resampler
from sde_gen.model.unet.stages import apply_stages, decoder_stages


class ADM(ConditionalNetwork):
    """The U-Net of ablated diffusion models: adaptive normalization, many heads, resolution changed inside blocks.

    Source: Dhariwal and Nichol, 2021, arXiv:2105.05233, sections 3 and 3.1. Their ImageNet 64x64 network is width 192,
    multipliers (1, 2, 3, 4), 3 blocks, attention at levels 1, 2 and 3: 296 million parameters.

    Arguments:
        shape: event shape (C, *sides) of one to three axes; sides must be divisible by 2^(levels - 1).
        width: features of the noise label, and the unit of channels.
        multipliers: channels of every level, fine to coarse, in units of width; the stem has those of the finest.
        blocks: residual blocks a level.
        attention_levels: levels with attention, 0 being the finest.
        head_channels: channels of a head of attention; fewer where a level has no multiple of them.
        heads: number of heads at every level in place of ``head_channels``, None for those.
        modulated: whether the embedding scales and shifts the second normalization of a block, or is added before it.
        change: how the resolution changes between two levels, None for blocks like the others.
        norms: rule of the normalizations.
        dropout: dropout rate.
        num_classes: number of classes, 0 for none; a further null class stands for "no label given".
        outputs: output channels per image channel: 2 with a learned variance.
        embedding_multiplier: features that the blocks see of label and class, in units of width.
        augmentations: number of augmentation labels, zeros for an unaugmented sample; 0 for none.
            They are added to the features of the noise label (Karras et al., 2022, arXiv:2206.00364, in their code).
        middle_attention: whether there is attention at the coarsest level's middle.
        embedding: features of the noise label; None for ``width`` many as in the source.
        resampler: the change of resolution, None for averages and repeated pixels.
        wide_heads: whether heads have ``head_channels`` at least, as many of them as there are, in place of at most;
            fewer channels than that do not attend (Karras et al., 2022, in their code).
        up_heads: number of heads in the decoder path, None for that of the encoder path.
        down_changes: how the resolution changes in the encoder path, one for each pair of neighboring levels, fine to
            coarse; None for ``change`` everywhere.
        up_changes: the same in the decoder path, fine to coarse too.
        inputs: sizes of the conditions besides the class.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 32,
        multipliers: Sequence[float] = (1, 2),
        blocks: int = 2,
        attention_levels: Sequence[int] = (1,),
        head_channels: int = 64,
        dropout: float = 0.0,
        num_classes: int = 0,
        outputs: int = 1,
        heads: int | None = None,
        modulated: bool = True,
        change: LevelResample | None = None,
        norms: GroupNormRule = GCDGroups(),  # noqa: B008 (frozen)
        embedding_multiplier: int = 4,
        augmentations: int = 0,
        middle_attention: bool = True,
        embedding: NoiseEmbedding | None = None,
        resampler: Resampler | None = None,
        wide_heads: bool = False,
        up_heads: int | None = None,
        down_changes: Sequence[LevelResample | None] | None = None,
        up_changes: Sequence[LevelResample | None] | None = None,
        inputs: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__()
        widths = check_shape(shape, width, multipliers, blocks, attention_levels, num_classes, RANKS)
        if up_heads is not None and up_heads < 1:
            raise ValueError(f"up_heads={up_heads} must be at least 1")
        if outputs < 1 or embedding_multiplier < 1 or augmentations < 0:
            raise ValueError(
                f"outputs={outputs}, embedding_multiplier={embedding_multiplier}, augmentations={augmentations}: "
                "the first two must be at least 1, the last not negative; 0 means none"
            )
        for name, changes in (("down_changes", down_changes), ("up_changes", up_changes)):
            if changes is not None and len(changes) != len(widths) - 1:
                raise ValueError(
                    f"{name} has {len(changes)} entries; expected one for each pair of neighboring levels: "
                    f"{len(widths) - 1}"
                )
        hidden, rank = embedding_multiplier * width, len(shape) - 1
        self.resampler = (CenteredBox() if resampler is None else resampler).along(rank)
        builder = ADMBuilder(
            embedding=hidden,
            dropout=dropout,
            modulated=modulated,
            change=change,
            norms=norms,
            attention_levels=attention_levels,
            head_channels=head_channels,
            heads=heads,
            resampler=self.resampler,
            wide_heads=wide_heads,
            down_changes=down_changes,
            up_changes=up_changes,
        )
        self.embedding = CosinePositional(width) if embedding is None else embedding
        features = self.embedding.features
        self.embed = nn.Sequential(linear(features, hidden), nn.SiLU(), linear(hidden, hidden))
        self.add_conditions(hidden, num_classes, inputs)
        self.augmentation = (
            initialize(nn.Linear(augmentations, features, bias=False), zero=True) if augmentations else None
        )
        self.stem = convolution_of(rank, shape[0] + inputs.image, widths[0])
        self.down, _ = builder.down(widths, blocks)
        self.middle = builder.middle(widths[-1], attention=middle_attention)
        self.up = nn.ModuleList()
        for stage in decoder_stages(widths[0], widths, blocks):
            block = builder.block(stage.inputs, stage.outputs)
            finer = [builder.double(stage.level - 1, stage.outputs)] if stage.last and stage.level else []
            attention = builder.attend(stage.level, stage.outputs, up_heads)
            self.up.append(ADMStage(block, attention, *finer))
        self.norm = norms.block(widths[0])
        self.out = convolution_of(rank, widths[0], outputs * shape[0], zero=True)

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
            x: events with shape (B, C, *sides).
            c_noise: noise labels with shape (B,).
            label: classes with shape (B,); None stands for the null class.
            vector: vectors with shape (B, V); None stands for zeros, as in all of the following.
            tokens: texts with shape (B, L), padded with zeros, or embedded ones (B, L, inputs.features).
            mask: which of the embedded tokens are no padding, with shape (B, L); None: all.
            image: condition images with shape (B, inputs.image, *sides).
            augment: descriptions of the augmentation with shape (B, augmentations); None stands for zeros.
            until: noise labels of the times to map to with shape (B,); None: those of c_noise.

        Returns:
            (B, outputs * C, *sides).
        """
        features = with_augmentation(self.embedding(c_noise), self.augmentation, augment)
        text = self.encode_text(tokens, mask, x)
        embedding = self.embed_conditions(
            self.with_until(self.embed(features), c_noise, until), label=label, vector=vector, text=text
        )
        h = apply_stages(
            self.stem(self.with_image(x, image)), self.down, self.middle, self.up, F.silu(embedding)
        )
        out: Tensor = self.out(F.silu(self.norm(h)))
        return out
