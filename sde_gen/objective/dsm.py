"""Denoising score matching (DSM)."""

from dataclasses import dataclass, field

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.objective.base import Loss, NoiseDraw, Objective
from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.objective.time_sampler.stratified import Stratified
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
    """

    time_sampler: TimeSampler = field(default_factory=Stratified)
    weighting: Weighting = field(default_factory=Simple)

    def __call__(self, denoiser: Denoiser, x0: Tensor, *, noise: Noise, **cond: Tensor) -> Loss:
        """Evaluate the loss on clean samples x0 of shape (B, *event), with one row of conditioning each."""
        return self.loss(denoiser, x0, self.draw(denoiser.sde, x0, noise), **cond)

    def draw(self, sde: SDE, x0: Tensor, noise: Noise) -> NoiseDraw:
        """Draw the times t ~ p and the noise eps ~ N(0, I)."""
        t, density = self.time_sampler(sde, noise.uniform(x0))
        return NoiseDraw(t, density, noise.normal(x0))

    def loss(self, denoiser: Denoiser, /, x0: Tensor, draw: NoiseDraw, **cond: Tensor) -> Loss:
        """Evaluate the loss at the given times and noise."""
        sde, t, density, eps = denoiser.sde, draw.t, draw.density, draw.eps
        alpha, sigma = sde.marginal(t)
        prediction = denoiser(broadcast_like(alpha, x0) * x0 + broadcast_like(sigma, x0) * eps, t, **cond)
        error = mean_event((prediction.eps - eps) ** 2)
        return Loss((self.weighting(sde, t) / density).to(error.dtype) * error, t, error)
