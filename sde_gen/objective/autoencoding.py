"""Training of an autoencoder by the bound of the likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.codec import Codec, Observation
from sde_gen.denoiser import NoisyClassifier
from sde_gen.denoiser.network_autoencoder import NetworkAutoencoder
from sde_gen.model import LocationScale, Logistic
from sde_gen.noise import Noise
from sde_gen.objective.base import Loss, NoiseDraw, Objective
from sde_gen.sde.base import SDE
from sde_gen.utils.broadcasting import mean_event

TINY = 1e-10
"""Number added to lengths of features, which may be zero."""


@dataclass(frozen=True, kw_only=True)
class Autoencoding(Objective):
    r"""The negative bound of the log-likelihood of the data, in nats.

    .. math::
        E_{q(z | x)}[-\log p(x | z)] + w\, \mathrm{rate}(x) + \mathrm{penalty}(x)

    p(x | z) is the probability of the integer levels, or the density of continuous data, with a learned scale. The rate
    is the divergence of the posterior from a fixed prior, in nats: from N(0, I) for a Gaussian posterior, from
    uniform codes for a discrete one. With w = 1 and no penalty the loss is a bound of the code length.

    With a classifier the loss has a perceptual term, too: v times the squared distance of the features that the
    classifier has of data and reconstruction, each of unit length in every pixel, summed over its blocks and averaged
    over the pixels. It is no part of the bound that the metrics of a trained autoencoder report.

    Sources: Kingma and Welling, 2014, arXiv:1312.6114, eq. 3; w: Higgins et al., 2017; latent diffusion takes a small
    w (Rombach et al., 2022, arXiv:2112.10752, section 3.1) and a perceptual term (Zhang et al., 2018, arXiv:1801.03924,
    eq. 1, with unit weights).

    Arguments:
        codec: from data to model space; that of the training.
        noise: event shape of the noise that the network needs, ``net.noise``.
        rate: weight of the rate, w.
        family: distribution of a number of the data about the decoder's output; None for the logistic one.
        perceptual: weight of the perceptual term, v.
        classifier: classifier of the same data whose features it compares, at the first time; None for no term.
        run: run folder of the classifier.
        sha256: of its weights; None until a training begins.

    Raises:
        ValueError: a weight is negative, or the classifier has no weight or the weight no classifier.
    """

    trains: ClassVar[type] = NetworkAutoencoder
    conditional: ClassVar[bool] = False

    codec: Codec
    noise: Sequence[int] = ()
    rate: float = 1.0
    family: LocationScale | None = None
    perceptual: float = 0.0
    classifier: NoisyClassifier | None = None
    run: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.rate < 0 or self.perceptual < 0:
            raise ValueError(f"rate={self.rate}, perceptual={self.perceptual} must not be negative")
        if (self.perceptual > 0) != (self.classifier is not None):
            raise ValueError(
                f"perceptual={self.perceptual}, run={self.run}: the perceptual term needs both a weight and the run of "
                "a classifier, trained with objective=cross_entropy"
            )

    def draw(self, sde: SDE, x0: Tensor, noise: Noise) -> NoiseDraw:
        """Draw the noise of the posterior."""
        t = torch.full((len(x0),), sde.t_min, dtype=torch.float64, device=x0.device)
        eps = noise.normal(x0.new_empty(len(x0), *self.noise))
        return NoiseDraw(t, torch.ones_like(t), eps)

    def loss(  # type: ignore[override]  # without conditions
        self, model: NetworkAutoencoder, x0: Tensor, draw: NoiseDraw
    ) -> Loss:
        """Evaluate the loss with the given noise; its error is the mean squared error."""
        mean, log_scale, rate, penalty = model.net(x0, draw.eps)
        distortion = -Observation(codec=self.codec, family=self.family or Logistic()).log_prob(
            x0, mean, log_scale
        )
        return Loss(
            distortion + self.rate * rate.double() + penalty.double() + self._perceptual(x0, mean),
            draw.t,
            mean_event((mean.to(x0.dtype) - x0) ** 2),
        )

    def _perceptual(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return the perceptual term with shape (B,), zero without a classifier."""
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        if self.classifier is None:
            return total
        features = [self.classifier.features(each.to(x.dtype)) for each in (x, mean)]
        for of_data, of_mean in zip(*features, strict=True):
            unit = [each / (each.norm(dim=1, keepdim=True) + TINY) for each in (of_data, of_mean)]
            total = total + ((unit[0] - unit[1]) ** 2).sum(1).flatten(1).mean(1).double()
        return self.perceptual * total
