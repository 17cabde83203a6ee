"""Training by the variational bound of a chain, with learned variances."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.chain import step_kl
from sde_gen.denoiser.decoder import Decoder, LastStep
from sde_gen.denoiser.prediction import Prediction
from sde_gen.grid import DDPMLinspace, Grid
from sde_gen.noise import Noise
from sde_gen.objective.base import Loss, NoiseDraw, Objective
from sde_gen.objective.step_sampler.base import StepSampler
from sde_gen.objective.step_sampler.uniform import UniformSteps
from sde_gen.sde.base import SDE
from sde_gen.utils.broadcasting import broadcast, broadcast_like, event_numel, mean_event

Self = TypeVar("Self", bound="VariationalBound")


@dataclass(frozen=True, kw_only=True)
class VariationalBound(Objective):
    r"""The variational bound of a chain in bits per dimension, L_vlb, by one random step per sample.

    .. math::
        L_{vlb} = \sum_{n=1}^T L_n, \qquad
        L_1 = -\log p(x_0 | x_1), \quad
        L_n = KL\big(q(x_{n-1} | x_n, x_0) \,\|\, p(x_{n-1} | x_n)\big)

    The network predicts mean and variance of every step, see
    :class:`~sde_gen.denoiser.parametrization.LearnedVariance`. With n drawn from p_n, the loss of a sample is
    L_n / p_n, an unbiased estimate. The constant term, the KL of the first state from the prior, is left out.

    Sources: Ho et al., 2020, arXiv:2006.11239, eq. 5; Nichol and Dhariwal, 2021, arXiv:2102.09672, section 3.1 and
    eq. 4 to 7; the steps drawn by their losses: section 3.3.

    Arguments:
        codec: between data and model space; that of the training.
        grid: rule for the times of the chain.
        steps: Gaussian steps T - 1; the T-th is the decoder.
        decoder: distribution of the data given the last state; None for :class:`~sde_gen.likelihood.LastStep`.
            Continuous data need :class:`~sde_gen.likelihood.GaussianDecoder`.
        step_sampler: distribution of the steps.

    Raises:
        ValueError: steps is below 1; or later the denoiser predicts no variance, or the data have no levels.
    """

    codec: Codec
    grid: Grid = field(default_factory=DDPMLinspace)
    steps: int = 999
    decoder: Decoder | None = None
    step_sampler: StepSampler = field(default_factory=UniformSteps)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps} must be at least 1: the last step is the decoder's")

    def draw(self, sde: SDE, x0: Tensor, noise: Noise) -> NoiseDraw:
        """Draw the steps and the noise eps ~ N(0, I); the density is T p_n, relative to uniform steps."""
        times = self.times(sde, x0.device)
        index, probability = self.step_sampler(len(times), noise.uniform(x0))
        return NoiseDraw(times[index], len(times) * probability, noise.normal(x0))

    def loss(self, denoiser: Denoiser, /, x0: Tensor, draw: NoiseDraw, **cond: Tensor) -> Loss:
        """Evaluate the loss at the given times and noise."""
        prediction, error = self._predict(denoiser, x0, draw, cond)
        return Loss(self.bits(denoiser.sde, prediction, x0, draw.t) / draw.density, draw.t, error)

    def bits(self, sde: SDE, prediction: Prediction, x0: Tensor, t: Tensor) -> Tensor:
        """Return T L_n in bits per dimension at times t of the chain, float64 with shape (B,).

        Arguments:
            sde: the process.
            prediction: prediction of the denoiser at x_t.
            x0: data in model space with shape (B, *event).
            t: times of the chain with shape (B,).
        """
        chain = self.grid(sde, self.steps).double()
        times = chain.to(t.device)
        index = self._index(times, t)
        last = index == len(times) - 1
        earlier = index.clamp(
            max=len(times) - 2
        )  # a step that exists; its KL is not used where the decoder is
        kl = step_kl(sde, prediction, x0, times[earlier], times[earlier + 1])
        exact = torch.where(broadcast(last, x0), prediction.x0, x0)  # finite gradients where it is not used
        decoder = (self.decoder or LastStep(codec=self.codec)).of_chain(sde, chain, None)
        reconstruction = -decoder.log_prob(replace(prediction, x0=exact), x0)
        if not self.codec.of_latents:  # else the units are those of the latents
            reconstruction = reconstruction - self.codec.log_det(x0)
        return len(times) / (event_numel(x0) * math.log(2)) * torch.where(last, reconstruction, kl)

    def times(self, sde: SDE, device: torch.device) -> Tensor:
        """Return the times of the chain, descending, float64 with shape (T,)."""
        return self.grid(sde, self.steps).double().to(device)

    def observe(self, sde: SDE, losses: Sequence[Loss], gather: Callable[[Tensor], Tensor]) -> None:
        """Pass the losses of the global batch to the distribution of the steps, in the order of the batch."""
        t, per_sample = (
            torch.cat([gather(part) for part in column])
            for column in zip(*((loss.t, loss.per_sample) for loss in losses), strict=True)
        )
        times = self.times(sde, t.device)
        index, count = self._index(times, t), len(times)
        density = count * self.step_sampler.probabilities(count, t.device)[index]
        self.step_sampler.observe(count, index, per_sample * density)

    def state(self) -> dict[str, Tensor]:
        """Return the state of the distribution of the steps."""
        return self.step_sampler.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state of the distribution of the steps."""
        self.step_sampler.load_state(self.steps + 1, tensors)

    @property
    def for_evaluation(self: Self) -> Self:
        """The same loss with uniform steps."""
        return replace(self, step_sampler=UniformSteps())

    def _predict(
        self, denoiser: Denoiser, x0: Tensor, draw: NoiseDraw, cond: Mapping[str, Tensor]
    ) -> tuple[Prediction, Tensor]:
        """Return the prediction at x_t, and the mean squared error of the noise with shape (B,)."""
        alpha, sigma = denoiser.sde.marginal(draw.t)
        x_t = broadcast_like(alpha, x0) * x0 + broadcast_like(sigma, x0) * draw.eps
        prediction = denoiser(x_t, draw.t, **cond)
        return prediction, mean_event((prediction.eps - draw.eps) ** 2)

    def _index(self, times: Tensor, t: Tensor) -> Tensor:
        """Return the indices of times of the chain."""
        return len(times) - 1 - torch.searchsorted(times.flip(0).contiguous(), t.contiguous())


@dataclass(frozen=True, kw_only=True)
class Hybrid(VariationalBound):
    r"""The error of the noise, which trains the mean, and the bound, which trains the variance.

    .. math::
        L_{hybrid} = L_{simple} + w L_{vlb}, \qquad L_{simple} = E |\hat\epsilon - \epsilon|^2 / D

    In the second term the mean counts as a constant: it has no gradient with respect to it.

    Source: Nichol and Dhariwal, 2021, arXiv:2102.09672, eq. 16 (w = 0.001).

    Arguments:
        codec, grid, steps, decoder, step_sampler: as in :class:`VariationalBound`.
        weight: weight w of the bound.

    Raises:
        ValueError: as :class:`VariationalBound`, or the weight is not positive.
    """

    weight: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weight > 0:
            raise ValueError(f"weight={self.weight} must be positive: it alone trains the variance")

    def loss(self, denoiser: Denoiser, /, x0: Tensor, draw: NoiseDraw, **cond: Tensor) -> Loss:
        """Evaluate the loss at the given times and noise."""
        prediction, error = self._predict(denoiser, x0, draw, cond)
        fixed = replace(prediction, x0=prediction.x0.detach(), eps=prediction.eps.detach())
        bits = self.bits(denoiser.sde, fixed, x0, draw.t)
        return Loss((error + self.weight * bits) / draw.density, draw.t, error)
