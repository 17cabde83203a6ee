"""The abstract autoencoder."""

import abc
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sde_gen.model.autoencoder.distribution import LocationScale, Logistic

INITIAL_SCALE = 0.1
"""Scale of the decoder's distribution at the start of a training, for data on [-1, 1]."""


class LatentPosterior(NamedTuple):
    """A Gaussian q(z | x) with independent dimensions; of a deterministic encoder the standard deviation is 0.

    Arguments:
        mean: the mean with shape (B, *latent).
        std: the standard deviation with shape (B, *latent).
    """

    mean: Tensor
    std: Tensor

    def sample(self, eps: Tensor) -> Tensor:
        """Return mean + std eps for standard normal eps with shape (B, *latent)."""
        return self.mean + self.std * eps

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log q(z | x) in nats with shape (B,); infinite where the standard deviation is 0."""
        u = (z - self.mean) / self.std
        return (-0.5 * u**2 - torch.log(self.std) - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def kl(self) -> Tensor:
        r"""Return the Kullback-Leibler divergence from N(0, I) in nats with shape (B,).

        .. math:: \tfrac12 \sum_i (\mu_i^2 + \sigma_i^2 - 1 - \log \sigma_i^2)

        Source: Kingma and Welling, 2014, arXiv:1312.6114, appendix B.
        """
        terms = self.mean**2 + self.std**2 - 1 - 2 * torch.log(self.std)
        return 0.5 * terms.flatten(1).sum(1)


class Reconstruction(NamedTuple):
    """The terms of the bound of a batch.

    Arguments:
        mean: location of the decoder's distribution, in model space with shape (B, *event).
        log_scale: logarithm of its scale, broadcastable against the mean.
        rate: nats that the latents cost under their fixed prior, with shape (B,).
        penalty: terms of the training that are no part of the bound, with shape (B,).
    """

    mean: Tensor
    log_scale: Tensor
    rate: Tensor
    penalty: Tensor


class Autoencoder(nn.Module, abc.ABC):
    """A map from data to latents and back, with the scale of the decoder's distribution.

    Arguments:
        shape: event shape of the data.
        latent: event shape of the latents.
        noise: event shape of the standard normal noise that :meth:`forward` needs.
        latent_shift: mean of every channel of the latents of the data; None where it is not known.
        latent_scale: standard deviation of every channel of the latents; None where it is not known.
        family: distribution of a number of the data about the decoder's output.

    Raises:
        ValueError: shift and scale are not one number per channel each, the scale a positive one.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        latent: tuple[int, ...],
        noise: tuple[int, ...],
        latent_shift: Sequence[float] | None = None,
        latent_scale: Sequence[float] | None = None,
        family: LocationScale = Logistic(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        for name, given, positive in (
            ("latent_shift", latent_shift, False),
            ("latent_scale", latent_scale, True),
        ):
            if given is not None and (len(given) != latent[0] or (positive and not min(given) > 0)):
                raise ValueError(
                    f"{name}={list(given)}: expected a {'positive ' * positive}number for each of the {latent[0]} "
                    "channels of the latents, or null"
                )
        self.shape, self.latent, self.noise = shape, latent, noise
        self.latent_shift, self.latent_scale, self.family = latent_shift, latent_scale, family
        scale = torch.full((shape[0], *[1] * (len(shape) - 1)), math.log(INITIAL_SCALE))
        self.log_scale = nn.Parameter(scale)

    @abc.abstractmethod
    def encode(self, x: Tensor) -> LatentPosterior:
        """Return q(z | x) of data in model space with shape (B, *event)."""

    @abc.abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Return the location of p(x | z) with shape (B, *event), for latents with shape (B, *latent)."""

    @abc.abstractmethod
    def forward(self, x: Tensor, noise: Tensor) -> Reconstruction:
        """Encode, draw latents and decode.

        Arguments:
            x: data in model space with shape (B, *event).
            noise: standard normal numbers with shape (B, *self.noise).
        """


def widened(x: Tensor) -> Tensor:
    """Return x in float32 or a wider dtype: the nats of latents need it under autocast too."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
