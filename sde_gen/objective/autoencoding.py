"""Training of an autoencoder by the bound of the likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.codec import Codec, Observation
from sde_gen.denoiser.network_autoencoder import NetworkAutoencoder
from sde_gen.model import LocationScale, Logistic
from sde_gen.noise import Noise
from sde_gen.objective.dsm import Loss, NoiseDraw
from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import mean_event


@dataclass(frozen=True, kw_only=True)
class Autoencoding(Checked):
    r"""The negative bound of the log-likelihood of the data, in nats.

    .. math::
        E_{q(z | x)}[-\log p(x | z)] + w\, \mathrm{rate}(x) + \mathrm{penalty}(x)

    p(x | z) is the probability of the integer levels, or the density of continuous data, with a learned scale. The rate
    is the divergence of the posterior from a fixed prior, in nats: from N(0, I) for a Gaussian posterior, from
    uniform codes for a discrete one. With w = 1 and no penalty the loss is a bound of the code length.

    Sources: Kingma and Welling, 2014, arXiv:1312.6114, eq. 3; w: Higgins et al., 2017; latent diffusion takes a small
    w (Rombach et al., 2022, arXiv:2112.10752, section 3.1).

    Arguments:
        codec: from data to model space; that of the training.
        noise: event shape of the noise that the network needs, ``net.noise``.
        rate: weight of the rate, w.
        family: distribution of a number of the data about the decoder's output; None for the logistic one.

    Raises:
        ValueError: the weight is negative.
    """

    trains: ClassVar[type] = NetworkAutoencoder
    conditional: ClassVar[bool] = False

    codec: Codec
    noise: Sequence[int] = ()
    rate: float = 1.0
    family: LocationScale | None = None

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"rate={self.rate} must not be negative")

    def __call__(self, model: NetworkAutoencoder, x0: Tensor, *, noise: Noise) -> Loss:
        """Evaluate the loss on data in model space x0 (B, *event); its error is the mean squared error."""
        return self.loss(model, x0, self.draw(model.sde, x0, noise))

    def draw(self, sde: SDE, x0: Tensor, noise: Noise) -> NoiseDraw:
        """Draw the noise of the posterior."""
        t = torch.full((len(x0),), sde.t_min, dtype=torch.float64, device=x0.device)
        eps = noise.normal(x0.new_empty(len(x0), *self.noise))
        return NoiseDraw(t, torch.ones_like(t), eps)

    def loss(self, model: NetworkAutoencoder, x0: Tensor, draw: NoiseDraw) -> Loss:
        """Evaluate the loss with the given noise."""
        mean, log_scale, rate, penalty = model.net(x0, draw.eps)
        distortion = -Observation(codec=self.codec, family=self.family or Logistic()).log_prob(
            x0, mean, log_scale
        )
        return Loss(
            distortion + self.rate * rate.double() + penalty.double(),
            draw.t,
            mean_event((mean.to(x0.dtype) - x0) ** 2),
        )
