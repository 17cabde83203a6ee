"""U-Net conditioned on the embedding of an image and on a text: the decoder of unCLIP."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.unet.conditioned_unet import ConditionedUNet


class EmbeddingUNet(nn.Module):
    r"""A U-Net whose vector is the features of a text and the embedding of an image, one after the other.

    Projections of both are added to the embedding of the noise label. The embedding of the image gives further tokens
    before those of the text:

    .. math::
        v = W_t z_t + W_i z_i + b, \qquad
        \mathrm{tokens} = [W_1 z_i, \dots, W_k z_i, \mathrm{LayerNorm}(W_h h_1), \dots, \mathrm{LayerNorm}(W_h h_L)]

    Source: Ramesh et al., 2022, arXiv:2204.06125, section 2.1; in this form von Platen et al., diffusers 0.42,
    pipelines/unclip.

    Arguments:
        net: the U-Net, which takes a vector of ``width`` numbers and tokens of ``context`` features.
        size: length of the embedding of an image, and of the features of a text and of each of its tokens.
        width: length of the vector of ``net``.
        context: features of a token of ``net``.
        extra: tokens k of the embedding of an image.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(self, *, net: ConditionedUNet, size: int, width: int, context: int, extra: int = 4) -> None:
        super().__init__()
        if min(size, width, context, extra) < 1:
            raise ValueError(
                f"size={size}, width={width}, context={context}, extra={extra}: expected positive numbers"
            )
        self.net, self.size, self.extra = net, size, extra
        self.text_vector, self.image_vector = nn.Linear(size, width), nn.Linear(size, width)
        self.image_tokens = nn.Linear(size, extra * context)
        self.text_tokens, self.norm = nn.Linear(size, context), nn.LayerNorm(context)

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
            x: events with shape (B, C, H, W).
            c_noise: noise labels with shape (B,).
            label: as the U-Net takes it.
            vector: features of texts and embeddings of images behind them, with shape (B, 2 size).
            tokens: features of the tokens of texts with shape (B, L, size).
            mask: which of them are attended to, with shape (B, L); None: all.

        Returns:
            (B, outputs * C, H, W).

        Raises:
            ValueError: a condition is missing or has another shape.
        """
        if vector is None or tokens is None or vector.shape[1:] != (2 * self.size,):
            shape = None if vector is None else tuple(vector.shape)
            raise ValueError(
                f"the network needs tokens of a text, and a vector (B, {2 * self.size}) of its features and an "
                f"embedding of an image; the vector is {shape}: give text=... and vector=..."
            )
        text, image = torch.split(vector, self.size, dim=1)
        # the numbers of a token lie `extra` apart
        first = self.image_tokens(image).unflatten(1, (-1, self.extra)).mT
        context = torch.cat([first, self.norm(self.text_tokens(tokens))], dim=1)
        out: Tensor = self.net(
            x,
            c_noise,
            label=label,
            vector=self.text_vector(text) + self.image_vector(image),
            tokens=context,
            mask=None if mask is None else F.pad(mask, (self.extra, 0), value=True),
        )
        return out
