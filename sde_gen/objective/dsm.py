"""Denoising score matching (DSM)."""

from dataclasses import dataclass, field

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.objective.base import Loss, NoiseDraw, Objective
from sde_gen.objective.pointwise_loss.base import PointwiseLoss
from sde_gen.objective.pointwise_loss.squared import SquaredError
from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.objective.time_sampler.stratified import Stratified
from sde_gen.objective.training_noise.base import TrainingNoise
from sde_gen.objective.training_noise.independent import IndependentNoise
from sde_gen.objective.weighting.base import Weighting
from sde_gen.objective.weighting.simple import Simple
from sde_gen.sde.base import SDE
from sde_gen.utils.broadcasting import broadcast_like, mean_event


@dataclass(frozen=True, kw_only=True)
class DSM(Objective):
    r"""Denoising score matching in terms of the noise.

    .. math::
        \int w(t)\, E |\hat\epsilon(x_t, t) - \epsilon|^2 / D\; dt
        = E_{t \sim p} \left[\frac{w(t)}{p(t)} |\hat\epsilon - \epsilon|^2 / D\right],
        \qquad x_t = \alpha x_0 + \sigma \epsilon

    Sources: Vincent, 2011; Song et al., 2021, arXiv:2011.13456, eq. 7 (there with lambda = w sigma^2).

    Arguments:
        time_sampler: the density p of the times.
        weighting: the weight w.
        pointwise_loss: loss of the error of the noise, in place of its square.
        training_noise: the noise eps.
    """

    time_sampler: TimeSampler = field(default_factory=Stratified)
    weighting: Weighting = field(default_factory=Simple)
    pointwise_loss: PointwiseLoss = field(default_factory=SquaredError)
    training_noise: TrainingNoise = field(default_factory=IndependentNoise)

    @property
    def batch_coupled(self) -> bool:
        """Return whether the noise of a sample depends on the other samples of the batch."""
        return self.training_noise.batch_coupled

    def draw(self, sde: SDE, x0: Tensor, noise: Noise) -> NoiseDraw:
        """Draw the times t ~ p and the noise eps."""
        t, density = self.time_sampler(sde, noise.uniform(x0))
        return NoiseDraw(t, density, self.training_noise(x0, noise))

    def loss(self, denoiser: Denoiser, /, x0: Tensor, draw: NoiseDraw, **cond: Tensor) -> Loss:
        """Evaluate the loss at the given times and noise."""
        sde, t, density, eps = denoiser.sde, draw.t, draw.density, draw.eps
        alpha, sigma = sde.marginal(t)
        prediction = denoiser(broadcast_like(alpha, x0) * x0 + broadcast_like(sigma, x0) * eps, t, **cond)
        difference = prediction.eps - eps
        error = mean_event(difference.detach() ** 2)
        weight = (self.weighting(sde, t) / density).to(error.dtype)
        return Loss(weight * self.pointwise_loss(difference), t, error)
