"""Denoising score matching (DSM)."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.objective.time_sampler.stratified import Stratified
from sde_gen.objective.weighting.base import Weighting
from sde_gen.objective.weighting.simple import Simple
from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import broadcast_like, mean_event


class Loss(NamedTuple):
    """Loss of a batch; every field has shape (B,).

    Arguments:
        per_sample: the loss of every sample, whose mean is minimized.
        t: the times, float64.
        error: the unweighted mean squared error of the noise.
    """

    per_sample: Tensor
    t: Tensor
    error: Tensor


class NoiseDraw(NamedTuple):
    """Random draws of the loss of a batch, one row per sample.

    Arguments:
        t: the times, float64 with shape (B,).
        density: the density they were drawn from, with shape (B,).
        eps: the noise with shape (B, *event).
        s: the second times of a flow map, float64 with shape (B,) and at most t; None without.
    """

    t: Tensor
    density: Tensor
    eps: Tensor
    s: Tensor | None = None

    def select(self, index: slice) -> "NoiseDraw":
        """Return the draws of some samples, such as a process's share of the global batch."""
        return NoiseDraw(
            self.t[index], self.density[index], self.eps[index], None if self.s is None else self.s[index]
        )


class Objective(Protocol):
    """A training objective: random draws, and the loss of a model given these draws."""

    def draw(self, sde: SDE, x0: Tensor, noise: Noise) -> NoiseDraw:
        """Draw times and noise for samples with the shape (B, *event) and dtype of x0."""
        ...

    def loss(self, model: Any, x0: Tensor, draw: NoiseDraw, **cond: Tensor) -> Loss:
        """Evaluate the loss of a model on clean samples (B, *event), with one row of conditioning each."""
        ...


@dataclass(frozen=True, kw_only=True)
class DSM(Checked):
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

    def loss(self, denoiser: Denoiser, x0: Tensor, draw: NoiseDraw, **cond: Tensor) -> Loss:
        """Evaluate the loss at the given times and noise."""
        sde, t, density, eps = denoiser.sde, draw.t, draw.density, draw.eps
        alpha, sigma = sde.marginal(t)
        prediction = denoiser(broadcast_like(alpha, x0) * x0 + broadcast_like(sigma, x0) * eps, t, **cond)
        error = mean_event((prediction.eps - eps) ** 2)
        return Loss((self.weighting(sde, t) / density).to(error.dtype) * error, t, error)
