"""The U-Net of EDM."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.unet.base import UNet, refuse_label, with_augmentation
from sde_gen.model.unet.blocks import linear


class SongUNet(UNet):
    """A U-Net whose class and augmentation are added to the features of the noise label, before their two layers.

    Source: Karras et al., 2022, arXiv:2206.00364, appendices F.1 and F.2 (DDPM++ and NCSN++ as they trained them);
    conditional augmentation: Karras et al., 2020, arXiv:2006.06676, with the augmentation parameters as input.

    Arguments:
        num_classes: number of classes, 0 for none; "no label given" adds nothing but the bias of the classes.
        augmentations: number of augmentation labels, zeros for an unaugmented sample; 0 for none.
        of_unet: what else a :class:`~sde_gen.model.UNet` takes.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(self, *, num_classes: int = 0, augmentations: int = 0, **of_unet: Any) -> None:
        super().__init__(num_classes=0, **of_unet)
        if num_classes < 0 or augmentations < 0:
            raise ValueError(
                f"num_classes={num_classes}, augmentations={augmentations}: must not be negative; 0 means none"
            )
        features = self.embedding.features
        self.class_features = linear(num_classes, features) if num_classes else None
        self.augmentation = nn.Linear(augmentations, features, bias=False) if augmentations else None

    def forward(
        self, x: Tensor, c_noise: Tensor, *, label: Tensor | None = None, augment: Tensor | None = None
    ) -> Tensor:
        """Apply the network.

        Arguments:
            x: images with shape (B, C, H, W).
            c_noise: noise labels with shape (B,).
            label: classes with shape (B,); None, or the number of classes, stands for no label.
            augment: descriptions of the augmentation with shape (B, augmentations); None stands for zeros.

        Returns:
            Images with the shape of x.
        """
        features = self.embedding(c_noise)
        if self.class_features is None:
            refuse_label(label)
        else:
            features = features + self._classes(label, features)
        features = with_augmentation(features, self.augmentation, augment)
        return self._apply_blocks(x, self.activation(self.embed(features)))

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
