"""The variational bound of the reverse-time SDE, in continuous time."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.chain import gaussian_kl
from sde_gen.denoiser.decoder import Decoder
from sde_gen.noise import Noise
from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.objective.time_sampler.log1p_snr import Log1pSNR
from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked, checked
from sde_gen.utils.broadcasting import broadcast_like, sum_event


def prior_kl(sde: SDE, x0: Tensor, t: Tensor) -> Tensor:
    """KL(q(x_t | x_0) || N(0, sigma_t^2 I)) at the first time t of shape (), in nats with shape (B,)."""
    alpha, sigma = sde.marginal(t)
    return gaussian_kl(broadcast_like(alpha, x0) * x0, sigma, sigma)


def standard_error(values: Tensor) -> Tensor:
    """Standard error of the mean over rows (R, B) -> (B,); NaN for one row, which shows no spread."""
    rows = len(values)
    return values.std(0, correction=1) / rows**0.5 if rows > 1 else torch.full_like(values[0], math.nan)


class Bound(NamedTuple):
    """A lower bound on the log-density of samples in model space; every tensor is float64 with shape (B,).

    Arguments:
        nats: the bound on log p(x_0), that is -(prior + diffusion + reconstruction), in nats.
        se: standard error of nats that the draws of times and noise cause; NaN with one repeat.
        prior: KL of x_1 given the data from the prior.
        diffusion: weighted error of the predicted noise.
        reconstruction: -log p(x_0 | x_{t_min}), negative where a density exceeds one.
        nfe: evaluations of the denoiser per sample.
    """

    nats: Tensor
    se: Tensor
    prior: Tensor
    diffusion: Tensor
    reconstruction: Tensor
    nfe: int


@dataclass(frozen=True, kw_only=True)
class ELBO(Checked):
    r"""Evaluate the bound that the reverse-time SDE and a decoder give on log p(x_0).

    .. math::
        -\log p(x_0) \le KL(q(x_1 | x_0) \| N(0, \sigma_1^2 I))
        + \frac12 \int_{t_{min}}^1 \frac{g^2}{\sigma^2} E \| \hat\epsilon(x_t, t) - \epsilon \|^2\, dt
        + E[-\log p(x_0 | x_{t_{min}})], \qquad x_t = \alpha x_0 + \sigma \epsilon

    All noise is added to the clean x_0, so the model is never evaluated at clean data. With the exact
    score, the exact distribution of x_1 as prior and the exact p(x_0 | x_{t_min}) it is an equality for every x_0; so
    on an exact model it is loose only by the errors of the prior and the decoder, which are measured.

    The integral is estimated without bias. Every repeat spreads ``strata`` times evenly over the distribution of times
    by one uniform number of the sample, every time with fresh noise; the repeats are independent, and their
    spread is the reported error. Gradients flow to x0 and to the denoiser's parameters; evaluate under
    ``torch.no_grad()`` where none are wanted.

    Sources: Song et al., 2021, arXiv:2101.09258, theorem 3 and section 4.3; Kingma et al., 2021,
    arXiv:2107.00630, sections 3 to 5 (the same with t_min and decoder, in terms of the noise).

    Arguments:
        times: distribution of the times; its density must be positive on all of [t_min, 1).
        strata: times per repeat.
        repeats: independent repeats.

    Raises:
        ValueError: strata or repeats is not positive, or later the density of times is zero somewhere.
    """

    times: TimeSampler = field(default_factory=Log1pSNR)
    strata: int = 8
    repeats: int = 2

    def __post_init__(self) -> None:
        if self.strata < 1 or self.repeats < 1:
            raise ValueError(f"strata={self.strata}, repeats={self.repeats}: both must be at least 1")

    @checked
    def __call__(self, denoiser: Denoiser, x0: Tensor, *, decoder: Decoder, noise: Noise) -> Bound:
        """Evaluate a batch.

        Arguments:
            denoiser: the model, conditioning bound.
            x0: data in model space with shape (B, *event): continuous, or dequantized levels.
            decoder: distribution of the data given x_t at t_min.
            noise: source of times and noise.
        """
        self._check_times(denoiser.sde)
        prior = prior_kl(denoiser.sde, x0, torch.ones((), dtype=torch.float64))
        diffusion = torch.stack([self._diffusion(denoiser, x0, noise) for _ in range(self.repeats)])
        reconstruction = torch.stack(
            [_reconstruction(denoiser, x0, decoder, noise) for _ in range(self.repeats)]
        )
        total = prior + diffusion + reconstruction
        return Bound(
            -total.mean(0),
            standard_error(total),
            prior,
            diffusion.mean(0),
            reconstruction.mean(0),
            self.repeats * (self.strata + 1),
        )

    def _diffusion(self, denoiser: Denoiser, x0: Tensor, noise: Noise) -> Tensor:
        """Return a stratified estimate of the integral, with shape (B,)."""
        sde, start = denoiser.sde, noise.uniform(x0)
        total = torch.zeros_like(start)
        for index in range(self.strata):
            t, density = self.times(sde, torch.remainder(start + index / self.strata, 1.0))
            alpha, sigma = sde.marginal(t)
            eps = noise.normal(x0)
            prediction = denoiser(broadcast_like(alpha, x0) * x0 + broadcast_like(sigma, x0) * eps, t)
            error = sum_event((prediction.eps - eps).double() ** 2)
            total = total + 0.5 * (sde.diffusion(t) / sigma) ** 2 / density * error
        return total / self.strata

    def _check_times(self, sde: SDE) -> None:
        near = torch.tensor([sde.t_min, 1 - 1e-9], dtype=torch.float64)
        density = self.times.density(sde, near)
        if not bool((density > 0).all()):
            raise ValueError(
                f"the distribution of times has densities {density.tolist()} at t={near.tolist()}: where it is zero a "
                "part of the bound would be missing; Log1pSNR covers all times of every process"
            )


def _reconstruction(denoiser: Denoiser, x0: Tensor, decoder: Decoder, noise: Noise) -> Tensor:
    """Return a single-draw estimate of E[-log p(x_0 | x_{t_min})], with shape (B,)."""
    t = torch.tensor(denoiser.sde.t_min, dtype=torch.float64)
    alpha, sigma = denoiser.sde.marginal(t)
    return -decoder.log_prob(denoiser(alpha * x0 + sigma * noise.normal(x0), t), x0)
