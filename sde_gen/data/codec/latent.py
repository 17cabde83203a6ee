"""Latents of an autoencoder as the model space of images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sde_gen.data.codec.base import Codec, LatentBound, Lossy
from sde_gen.data.codec.observation import Observation
from sde_gen.model.autoencoder.base import Autoencoder, LatentPosterior
from sde_gen.noise import Noise
from sde_gen.utils.arguments import Checked
from sde_gen.utils.types import Shape

PART = 2**20
"""Numbers of images that are decoded at once, at least one image: its layers have some hundred channels."""


class TrainedAutoencoder(Checked):
    """An autoencoder with the map from data to its model space; no dataclass, which Hydra takes for a configuration.

    Arguments:
        net: the network, in evaluation mode.
        codec: the map from data to the model space of the network.
    """

    def __init__(self, *, net: Autoencoder, codec: Codec) -> None:
        self.net, self.codec = net, codec

    def encode(self, values: Tensor) -> LatentPosterior:
        """Return q(z | data) of data with shape (B, *event)."""
        return self.net.encode(self.codec.encode(values).to(self.dtype))

    def log_likelihood(self, values: Tensor, z: Tensor) -> Tensor:
        """Return log p(data | z) in nats with shape (B,), in units of the data."""
        return self.log_prob(values, self.net.decode(z.to(self.dtype)))

    def log_prob(self, values: Tensor, mean: Tensor) -> Tensor:
        """Return log p(data | location) in nats with shape (B,), in units of the data."""
        observation = Observation(codec=self.codec, family=self.net.family)
        return observation.log_prob(self.codec.encode(values), mean, self.net.log_scale)

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the network."""
        return next(self.net.parameters()).dtype


@dataclass(frozen=True, kw_only=True)
class Latent(Lossy):
    r"""Latents of an autoencoder, shifted and scaled to unit variance: ``x = (z - shift) / scale``, z ~ q(z | data).

    The weights of the autoencoder are no part of the model: its run folder and their SHA-256 name them.

    Source: Rombach et al., 2022, arXiv:2112.10752, sections 3 and D.1.

    Arguments:
        autoencoder: the autoencoder, opened from the run.
        run: its run folder.
        sha256: of its weights; None until a training begins.
        shift: of every channel of the latents; None takes that of the network or measures it.
        scale: of every channel of the latents, positive; None takes that of the network or measures it.
        encoded: whether the data are the posteriors of :class:`~sde_gen.data.Latents`, and not what they encode.

    Raises:
        ValueError: shift and scale are not one number per channel.
    """

    of_latents: ClassVar[bool] = True

    autoencoder: TrainedAutoencoder
    run: str
    sha256: str | None = None
    shift: Sequence[float] | None = None
    scale: Sequence[float] | None = None
    encoded: bool = False

    def __post_init__(self) -> None:
        channels = self.autoencoder.net.latent[0]
        for name, given in (("shift", self.shift), ("scale", self.scale)):
            if given is not None and (len(given) != channels or (name == "scale" and not min(given) > 0)):
                raise ValueError(
                    f"{name}={list(given)}: expected a number for each of the {channels} channels of the latents of "
                    f"{self.run}{', a positive one' * (name == 'scale')}"
                )

    def event(self, shape: Shape) -> Shape:
        """Return the shape of the latents of data with a shape.

        Raises:
            ValueError: the autoencoder is for data of another shape.
        """
        net = self.autoencoder.net
        channels, *grid = net.latent
        expected = (2 * channels, *grid) if self.encoded else net.shape
        if tuple(shape) != expected:
            raise ValueError(
                f"the autoencoder in {self.run} is for data of shape {expected}, the data have {tuple(shape)}: train "
                "one on data of this shape, or give data of that size"
            )
        return net.latent

    @torch.no_grad()
    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Draw latents of data; without noise, return their mean."""
        return self.standardize(self.posterior(values), noise)

    def posterior(self, values: Tensor) -> LatentPosterior:
        """Return q(z | data) of data with shape (B, *event)."""
        return LatentPosterior(*values.chunk(2, 1)) if self.encoded else self.autoencoder.encode(values)

    def standardize(self, posterior: LatentPosterior, noise: Noise | None = None) -> Tensor:
        """Draw latents of a posterior in model space, float32; without noise, return their mean."""
        z = posterior.mean if noise is None else posterior.sample(noise.normal(posterior.mean))
        shift, scale = self._affine(z)
        return ((z - shift) / scale).float()

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Map latents to data: the decoder's location in levels, or numbers for continuous data."""
        return self.autoencoder.codec.decode(self.decode_continuous(x))

    @torch.no_grad()
    def decode_unrounded(self, x: Tensor) -> Tensor:
        """Map latents to numbers in units of the data that are not rounded to levels."""
        return self.autoencoder.codec.decode_unrounded(self.decode_continuous(x))

    @torch.no_grad()
    def decode_image(self, x: Tensor) -> Tensor:
        """Map latents to displayable values."""
        return self.autoencoder.codec.decode_image(self.decode_continuous(x))

    def decode_continuous(self, x: Tensor) -> Tensor:
        """Map latents to the model space of the autoencoder, differentiably."""
        count = max(1, PART // math.prod(self.autoencoder.net.shape))
        parts = [self._decode(part) for part in torch.split(x, count)]
        return torch.cat(parts).to(x.device)

    def _decode(self, x: Tensor) -> Tensor:
        weight = next(self.autoencoder.net.parameters())
        z = x.to(weight.device)
        shift, scale = self._affine(z)
        return self.autoencoder.net.decode((z * scale + shift).to(weight.dtype))

    def mask(self, mask: Tensor) -> Tensor:
        """Map a boolean mask of known pixels (..., H, W) to latents, known where all pixels of their cells are."""
        side = [size // latent for size, latent in zip(mask.shape[-2:], self._grid, strict=True)]
        planes = mask.reshape(-1, 1, *mask.shape[-2:])
        return ~F.max_pool2d((~planes).float(), side).bool().reshape(*mask.shape[:-2], *self._grid)

    def bound(self, values: Tensor, noise: Noise) -> LatentBound:
        r"""Return the terms of the bound for a draw of the latents, to which log p(z) of the model adds.

        .. math:: \log p(\mathrm{data}) \ge E_q[\log p(\mathrm{data} | z) - \log q(z | \mathrm{data}) + \log p(z)]

        Source: Vahdat et al., 2021, arXiv:2106.05931, eq. 1.

        Raises:
            ValueError: the encoder is deterministic, so there is no density of latents; or the data are encoded.
        """
        if self.encoded:
            raise ValueError(
                "the data are latents, whose images are not at hand; train with the images as data for this bound"
            )
        posterior = self.autoencoder.encode(values)
        if not bool((posterior.std > 0).all()):
            raise ValueError(
                f"the autoencoder in {self.run} encodes without noise, so its latents have no density given the data: "
                "this bound needs a KL autoencoder"
            )
        z = posterior.sample(noise.normal(posterior.mean))
        shift, scale = self._affine(z)
        volume = scale.double().log().expand(z.shape[1:]).sum()
        return LatentBound(
            z=(z - shift) / scale,
            log_q=posterior.log_prob(z).double() + volume,
            log_likelihood=self.autoencoder.log_likelihood(values, z),
        )

    @property
    def _grid(self) -> Shape:
        return tuple(self.autoencoder.net.latent[1:])

    def _affine(self, z: Tensor) -> tuple[Tensor, Tensor]:
        net = self.autoencoder.net
        known = (self.shift or net.latent_shift, self.scale or net.latent_scale)
        fill = (1,) * (z.ndim - 2)
        return tuple(  # type: ignore[return-value]
            z.new_tensor([value] * z.shape[1] if each is None else list(each)).reshape(-1, *fill)
            for each, value in zip(known, (0.0, 1.0), strict=True)
        )
