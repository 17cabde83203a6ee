"""The discrete variational autoencoder."""

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


class DiscreteAutoencoder(CodeAutoencoder):
    r"""A variational autoencoder of images with one of K codes at every place of the latent grid.

    .. math::
        q(k | x) = \mathrm{softmax}(l(x)), \qquad
        -\log p(x) \le E_q[-\log p(x | e_k)] + KL(q(k | x) \,\|\, 1 / K)

    In training k is relaxed to the Gumbel-softmax weights softmax((l + g) / temperature) of standard Gumbel g; in
    evaluation mode it is drawn, k = argmax(l + g), so the bound is one.

    Sources: Ramesh et al., 2021, arXiv:2102.12092, section 2.1; Jang et al., 2017, arXiv:1611.01144.

    Arguments:
        shape: event shape (C, H, W); H and W must be divisible by 2^(levels - 1).
        channels: channels of every level, fine to coarse.
        blocks: residual blocks of every level of the encoder; the decoder has one more.
        codes: number of codes, K.
        code_channels: channels of the vector of a code.
        temperature: temperature of the relaxation.
        attention_levels: levels with attention after every block, 0 being the finest.
        middle_attention: whether there is attention at the coarsest level, in the middle.
        norms: rule of the normalizations.
        activation: activation of the residual blocks.
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
        codes: int = 256,
        code_channels: int = 16,
        temperature: float = 0.5,
        attention_levels: Sequence[int] = (),
        middle_attention: bool = True,
        norms: GroupNormRule = QuarterGroups(),  # noqa: B008 (frozen)
        activation: Activation = SiLU(),  # noqa: B008 (frozen)
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
        if codes < 2 or code_channels < 1 or not temperature > 0:
            raise ValueError(
                f"codes={codes}, code_channels={code_channels}, temperature={temperature}: expected at least two "
                "codes, positive channels and a positive temperature"
            )
        super().__init__(shape=event, latent=(code_channels, *grid), noise=(codes, *grid), family=family)
        self.codes, self.temperature = codes, temperature
        self.encoder = ImageEncoder(layout, inputs=event[0], outputs=codes)
        self.codebook = nn.Embedding(codes, code_channels)
        self.decoder = ImageDecoder(layout, inputs=code_channels, outputs=event[0])

    def log_probs(self, x: Tensor) -> Tensor:
        """Return log q(k | x) with shape (B, K, h, w)."""
        return F.log_softmax(widened(self.encoder(x)), dim=1)

    def embed(self, weights: Tensor) -> Tensor:
        """Return the mean vectors (B, D, h, w) of codes with the given weights (B, K, h, w)."""
        return torch.einsum("bkhw,kd->bdhw", weights, self.codebook.weight.to(weights.dtype))

    def encode(self, x: Tensor) -> LatentPosterior:
        """Return the vectors of the most probable codes, with a standard deviation of 0."""
        z = self.embed(_one_hot(self.log_probs(x)))
        return LatentPosterior(z, torch.zeros_like(z))

    def decode(self, z: Tensor) -> Tensor:
        """Return the location of p(x | z) with shape (B, C, H, W)."""
        out: Tensor = self.decoder(z)
        return out

    def decode_codes(self, k: Tensor) -> Tensor:
        """Return the location of p(x | k) with shape (B, C, H, W), for codes (B, h, w)."""
        return self.decode(self.codebook(k).movedim(-1, 1))

    def forward(self, x: Tensor, noise: Tensor) -> Reconstruction:
        """Draw codes, relaxed in training, and decode; the rate is the divergence from the uniform prior."""
        logs = self.log_probs(x)
        rate = (logs.exp() * (logs + math.log(self.codes))).flatten(1).sum(1)
        gumbel = -torch.log(-torch.special.log_ndtr(noise.to(logs.dtype)))
        if self.training:
            weights = torch.softmax((logs + gumbel) / self.temperature, dim=1)
        else:
            weights = _one_hot(logs + gumbel)
        return Reconstruction(self.decode(self.embed(weights)), self.log_scale, rate, torch.zeros_like(rate))


def _one_hot(logits: Tensor) -> Tensor:
    """Return 1 for the largest of the logits (B, K, h, w), else 0."""
    return F.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1).to(logits.dtype)
