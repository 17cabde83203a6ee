"""The KL autoencoder of latent diffusion."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sde_gen.model.activation import Activation, SiLU
from sde_gen.model.autoencoder.base import Autoencoder, LatentPosterior, Reconstruction, widened
from sde_gen.model.autoencoder.coder import CoderLayout, ImageDecoder, ImageEncoder
from sde_gen.model.autoencoder.distribution import LocationScale, Logistic
from sde_gen.model.norms import GroupNormRule, QuarterGroups
from sde_gen.model.unet.blocks import convolution

LOG_VARIANCE = (-30.0, 20.0)
"""Bounds of the logarithm of the posterior's variance (Rombach et al., 2022, their code)."""


class KLAutoencoder(Autoencoder):
    r"""A variational autoencoder of images with a Gaussian posterior on a grid of latents.

    .. math::
        q(z | x) = N(z;\; \mu(x),\; \sigma(x)^2), \qquad
        -\log p(x) \le E_q[-\log p(x | z)] + KL(q(z | x) \,\|\, N(0, I))

    Source: Rombach et al., 2022, arXiv:2112.10752, section 3.1. Stable Diffusion's has channels
    (128, 256, 512, 512), 2 blocks, 32 groups and 4 latent channels: 83.7 million parameters.

    Arguments:
        shape: event shape (C, H, W); H and W must be divisible by 2^(levels - 1).
        channels: channels of every level, fine to coarse.
        blocks: residual blocks of every level of the encoder; the decoder has one more.
        latent_channels: channels of the latents.
        attention_levels: levels with attention after every block, 0 being the finest.
        middle_attention: whether there is attention at the coarsest level, in the middle.
        quant_convolution: whether a 1x1 convolution follows the encoder.
        post_quant_convolution: whether a 1x1 convolution precedes the decoder.
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
        attention_levels: Sequence[int] = (),
        middle_attention: bool = True,
        quant_convolution: bool = True,
        post_quant_convolution: bool = True,
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
        if latent_channels < 1:
            raise ValueError(f"latent_channels={latent_channels} must be at least 1")
        latent = (latent_channels, *grid)
        super().__init__(
            shape=event,
            latent=latent,
            noise=latent,
            latent_shift=latent_shift,
            latent_scale=latent_scale,
            family=family,
        )
        moments = 2 * latent_channels
        self.encoder = ImageEncoder(layout, inputs=event[0], outputs=moments)
        self.quant = convolution(moments, moments, 1) if quant_convolution else nn.Identity()
        self.post_quant = (
            convolution(latent_channels, latent_channels, 1) if post_quant_convolution else nn.Identity()
        )
        self.decoder = ImageDecoder(layout, inputs=latent_channels, outputs=event[0])

    def encode(self, x: Tensor) -> LatentPosterior:
        """Return q(z | x) of images with shape (B, C, H, W)."""
        mean, log_variance = widened(self.quant(self.encoder(x))).chunk(2, dim=1)
        # beyond these bounds the exponential leaves the range of float16, in which the original is used
        return LatentPosterior(mean, torch.exp(0.5 * log_variance.clamp(*LOG_VARIANCE)))

    def decode(self, z: Tensor) -> Tensor:
        """Return the location of p(x | z) with shape (B, C, H, W)."""
        out: Tensor = self.decoder(self.post_quant(z))
        return out

    def forward(self, x: Tensor, noise: Tensor) -> Reconstruction:
        """Draw latents and decode; the rate is the divergence of the posterior from N(0, I)."""
        posterior = self.encode(x)
        rate = posterior.kl()
        mean = self.decode(posterior.sample(noise.to(posterior.mean.dtype)))
        return Reconstruction(mean, self.log_scale, rate, torch.zeros_like(rate))
