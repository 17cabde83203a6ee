"""The vector-quantized autoencoder."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.activation import Activation, SiLU
from sde_gen.model.autoencoder.base import LatentPosterior, Reconstruction, widened
from sde_gen.model.autoencoder.coder import CoderLayout, ImageDecoder, ImageEncoder
from sde_gen.model.autoencoder.codes import CodeAutoencoder
from sde_gen.model.autoencoder.distribution import LocationScale, Logistic
from sde_gen.model.norms import GroupNormRule, QuarterGroups
from sde_gen.model.unet.blocks import convolution


class VQAutoencoder(CodeAutoencoder):
    r"""An autoencoder of images whose latents are vectors of a codebook of K.

    .. math::
        z_q = e_k, \quad k = \arg\min_j |z_e(x) - e_j|, \qquad
        L = -\log p(x | z_q) + N \log K + |sg[z_e] - z_q|^2 + \beta |z_e - sg[z_q]|^2

    with N codes per image under a uniform prior; the gradient passes straight through the quantization from z_q to z_e,
    and sg stops it. The posterior is deterministic, so the first two terms are the nats of a code for the image.

    Source: van den Oord et al., 2017, arXiv:1711.00937, eq. 1 to 3; network: Rombach et al., 2022, arXiv:2112.10752.

    Arguments:
        shape: event shape (C, H, W); H and W must be divisible by 2^(levels - 1).
        channels: channels of every level, fine to coarse.
        blocks: residual blocks of every level of the encoder; the decoder has one more.
        latent_channels: channels of encoder output and decoder input.
        codes: number of vectors in the codebook, K.
        code_channels: channels of a vector of the codebook; None for latent_channels.
        commitment: weight of the commitment to the vectors, beta.
        attention_levels: levels with attention after every block, 0 being the finest.
        middle_attention: whether there is attention at the coarsest level, in the middle.
        norms: rule of the normalizations.
        activation: activation of the residual blocks.
        latent_shift: mean of every channel of the latents of the data; None where it is not known.
        latent_scale: standard deviation of every channel of the latents; None where it is not known.
        family: distribution of a number of the data about the decoder's output.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        blocks: int = 1,
        latent_channels: int = 4,
        codes: int = 256,
        code_channels: int | None = None,
        commitment: float = 0.25,
        attention_levels: Sequence[int] = (),
        middle_attention: bool = True,
        norms: GroupNormRule = QuarterGroups(),  # noqa: B008 (frozen)
        activation: Activation = SiLU(),  # noqa: B008 (frozen)
        latent_shift: Sequence[float] | None = None,
        latent_scale: Sequence[float] | None = None,
        family: LocationScale = Logistic(),  # noqa: B008 (frozen)
    ) -> None:
        event = tuple(shape)
        layout = CoderLayout(
            channels=tuple(channels),
            blocks=blocks,
            attention_levels=tuple(attention_levels),
            middle_attention=middle_attention,
            norms=norms,
            activation=activation,
        )
        grid = layout.grid(event)
        size = latent_channels if code_channels is None else code_channels
        if min(latent_channels, size) < 1 or codes < 2 or commitment < 0:
            raise ValueError(
                f"latent_channels={latent_channels}, codes={codes}, code_channels={code_channels}, "
                f"commitment={commitment}: expected positive channels, at least two codes and a weight from 0 on"
            )
        super().__init__(
            shape=event,
            latent=(size, *grid),
            noise=(),
            latent_shift=latent_shift,
            latent_scale=latent_scale,
            family=family,
        )
        self.codes, self.commitment = codes, commitment
        self.encoder = ImageEncoder(layout, inputs=event[0], outputs=latent_channels)
        self.quant = convolution(latent_channels, size, 1)
        self.codebook = nn.Embedding(codes, size)
        nn.init.uniform_(self.codebook.weight, -1 / codes, 1 / codes)
        self.post_quant = convolution(size, latent_channels, 1)
        self.decoder = ImageDecoder(layout, inputs=latent_channels, outputs=event[0])

    def encode(self, x: Tensor) -> LatentPosterior:
        """Return the latents z_e before the quantization, with a standard deviation of 0."""
        z = widened(self.quant(self.encoder(x)))
        return LatentPosterior(z, torch.zeros_like(z))

    def log_probs(self, x: Tensor) -> Tensor:
        """Return log q(k | x) with shape (B, K, h, w): 0 for the nearest vector, minus infinity for the others."""
        z = self.encode(x).mean
        chosen = F.one_hot(self.nearest(z), self.codes).movedim(-1, 1)
        return torch.log(chosen.to(z.dtype))

    def nearest(self, z: Tensor) -> Tensor:
        """Return the numbers k of the nearest vectors, int64 with shape (B, h, w), for z (B, D, h, w)."""
        rows = z.movedim(1, -1)
        distances = torch.cdist(rows.flatten(0, -2), self.codebook.weight.to(z.dtype))
        return distances.argmin(1).view(rows.shape[:-1])

    def embed(self, k: Tensor) -> Tensor:
        """Return the vectors (B, D, h, w) of numbers k with shape (B, h, w)."""
        vectors: Tensor = self.codebook(k)
        return vectors.movedim(-1, 1)

    def quantize(self, z: Tensor) -> Tensor:
        """Return the nearest vectors z_q with the shape of z."""
        return self.embed(self.nearest(z))

    def decode(self, z: Tensor) -> Tensor:
        """Return the location of p(x | z_q), for latents before the quantization or vectors of the codebook."""
        return self.decode_quantized(self.quantize(z))

    def decode_quantized(self, z: Tensor) -> Tensor:
        """Return the location of p(x | z) with shape (B, C, H, W), without quantizing z."""
        out: Tensor = self.decoder(self.post_quant(z))
        return out

    def decode_codes(self, k: Tensor) -> Tensor:
        """Return the location of p(x | k) with shape (B, C, H, W), for numbers of vectors (B, h, w)."""
        return self.decode_quantized(self.embed(k))

    def forward(self, x: Tensor, noise: Tensor) -> Reconstruction:
        """Quantize and decode; no noise is used, and the rate is N log K."""
        del noise
        z = self.encode(x).mean
        vectors = self.quantize(z)
        penalty = (vectors - z.detach()) ** 2 + self.commitment * (vectors.detach() - z) ** 2
        mean = self.decode_quantized(z + (vectors - z).detach())
        nats = math.prod(z.shape[2:]) * math.log(self.codes)
        rate = torch.full((len(x),), nats, dtype=mean.dtype, device=mean.device)
        return Reconstruction(mean, self.log_scale, rate, penalty.flatten(1).sum(1))
