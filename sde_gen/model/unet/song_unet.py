"""The U-Net of EDM."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.conditional import NO_CONDITIONS, Conditions, reject_label
from sde_gen.model.embedding import Fourier, Positional
from sde_gen.model.unet.base import UNet, with_augmentation
from sde_gen.model.unet.blocks import linear
from sde_gen.model.unet.progressive import NoInput, NoOutput, ProgressiveInput, ProgressiveOutput
from sde_gen.model.unet.resample import Box, Resampler


class SongUNet(UNet):
    """A U-Net whose class and augmentation are added to the features of the noise label, before their two layers.

    Source: Karras et al., 2022, arXiv:2206.00364, appendices F.1 and F.2 (DDPM++ and NCSN++ as they trained them);
    conditional augmentation: Karras et al., 2020, arXiv:2006.06676, with the augmentation parameters as input.

    Their CIFAR-10 networks are width 128, multipliers (2, 2, 2), 4 blocks, attention at level 1.
    By default it is DDPM++; NCSN++ has a Fourier embedding, a filter for resampling and a residual input.

    Arguments:
        shape: event shape (C, *sides) of one to three axes; sides must be divisible by 2^(levels - 1).
        width: channels of the finest level.
        multipliers: channels of every level, fine to coarse, in units of width.
        blocks: residual blocks a level.
        attention_levels: levels with attention, 0 being the finest.
        dropout: dropout rate.
        num_classes: number of classes, 0 for none; "no label given" adds nothing but the bias of the classes.
        augmentations: number of augmentation labels, zeros for an unaugmented sample; 0 for none.
        input_frequencies: sin and cos of 2^n pi x are given to the network beside x, for these n.
        embedding: features of the noise label, None for ``width`` sinusoids.
        resampler: the change of resolution, None for averages and repeated pixels.
        progressive_input: how the image enters the coarser levels.
        progressive_output: class of how it leaves them.
        embedding_multiplier: features of the embedding of noise label and class, in units of width.
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
        dropout: float = 0.0,
        num_classes: int = 0,
        augmentations: int = 0,
        input_frequencies: Sequence[int] = (),
        embedding: Fourier | Positional | None = None,
        resampler: Resampler | None = None,
        progressive_input: ProgressiveInput = NoInput(),  # noqa: B008 (frozen)
        progressive_output: type[ProgressiveOutput] = NoOutput,
        embedding_multiplier: int = 4,
        inputs: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__(
            shape=shape,
            width=width,
            multipliers=multipliers,
            blocks=blocks,
            attention_levels=attention_levels,
            dropout=dropout,
            num_classes=0,
            input_frequencies=input_frequencies,
            embedding=Positional(width) if embedding is None else embedding,
            resampler=Box() if resampler is None else resampler,
            progressive_input=progressive_input,
            progressive_output=progressive_output,
            embedding_multiplier=embedding_multiplier,
            inputs=inputs,
        )
        if num_classes < 0 or augmentations < 0:
            raise ValueError(
                f"num_classes={num_classes}, augmentations={augmentations}: must not be negative; 0 means none"
            )
        features = self.embedding.features
        self.class_features = linear(num_classes, features) if num_classes else None
        self.augmentation = nn.Linear(augmentations, features, bias=False) if augmentations else None

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
            label: classes with shape (B,); None, or the number of classes, stands for no label.
            vector: vectors with shape (B, V); None stands for zeros, as in all of the following.
            tokens: texts with shape (B, L), padded with zeros, or embedded ones (B, L, inputs.features).
            mask: which of the embedded tokens are no padding, with shape (B, L); None: all.
            image: condition images with shape (B, inputs.image, *sides).
            augment: descriptions of the augmentation with shape (B, augmentations); None stands for zeros.
            until: noise labels of the times to map to with shape (B,); None: those of c_noise.

        Returns:
            Events with the shape of x.
        """
        features = self.embedding(c_noise)
        if self.class_features is None:
            reject_label(label)
        else:
            features = features + self._classes(label, features)
        features = with_augmentation(features, self.augmentation, augment)
        text = self.encode_text(tokens, mask, x)
        embedding = self.embed_conditions(
            self.with_until(self.embed(features), c_noise, until), vector=vector, text=text
        )
        return self.apply_blocks(x, image, self.activate(embedding), text)

    def _classes(self, label: Tensor | None, like: Tensor) -> Tensor:
        """A dense layer of unit vectors, longer the more classes there are, so that its inputs have unit variance."""
        assert self.class_features is not None
        count = self.class_features.in_features
        if label is None:
            cond = like.new_zeros(1, count)
        else:
            cond = count**0.5 * F.one_hot(label, count + 1)[:, :count].to(like.dtype)
        out: Tensor = self.class_features(cond)
        return out
