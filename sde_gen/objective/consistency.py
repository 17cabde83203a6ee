"""Consistency training and tuning: two points of a trajectory have one end."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser import ConsistencyModel
from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.flow_map import FlowMap
from sde_gen.noise import Noise
from sde_gen.objective.base import Loss, NoiseDraw, Objective
from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.objective.time_sampler.stratified import Stratified
from sde_gen.sde.base import SDE
from sde_gen.utils.broadcasting import broadcast_like, mean_event


@dataclass(frozen=True, kw_only=True)
class Consistency(Objective):
    r"""Easy consistency tuning: the end of x_t is that of x_r on the same path, with r < t.

    .. math::
        E_{t \sim p}\, \frac{1}{\rho_t - \rho_r} \frac{|\Delta|^2 / D}{\sqrt{\mathrm{sg}(|\Delta|^2 / D) + c^2}}, \qquad
        \Delta = f(x_t, t) - \mathrm{sg}[f(x_r, r)], \qquad \rho = \sigma / \alpha

    f maps to t_min, and x_r has the data and the noise of x_t. The second time is

    .. math::
        \rho_r = \rho_t \max\left(0, 1 - \frac{n(\rho_t)}{q^a}\right), \qquad n(\rho) = 1 + \frac{k}{1 + e^{b \rho}},

    at least that of t_min. At the stage a = 0 it is t_min: the regression of the data; higher stages bring both
    times closer.

    Source: Geng et al., 2024, arXiv:2406.14548, section 3 (k = 8, b = 1, q = 2 and the weights).

    Arguments:
        time_sampler: distribution p of the times t.
        stage: a.
        ratio: q.
        stretch: k.
        slope: b.
        offset: c.

    Raises:
        ValueError: a number is out of its range.
    """

    trains: ClassVar[type] = ConsistencyModel

    time_sampler: TimeSampler = field(default_factory=Stratified)
    stage: float = 4.0
    ratio: float = 2.0
    stretch: float = 8.0
    slope: float = 1.0
    offset: float = 1e-3

    def __post_init__(self) -> None:
        if self.stage < 0 or self.ratio <= 1 or min(self.stretch, self.slope) < 0 or self.offset <= 0:
            raise ValueError(
                f"stage={self.stage}, ratio={self.ratio}, stretch={self.stretch}, slope={self.slope}, offset="
                f"{self.offset}: expected no negative stage, stretch or slope, a ratio above 1 and a positive offset"
            )

    def draw(self, sde: SDE, x0: Tensor, noise: Noise) -> NoiseDraw:
        """Draw the times t ~ p and the noise eps ~ N(0, I)."""
        t, density = self.time_sampler(sde, noise.uniform(x0))
        return NoiseDraw(t, density, noise.normal(x0))

    def loss(self, model: Denoiser, /, x0: Tensor, draw: NoiseDraw, **cond: Tensor) -> Loss:
        """Evaluate the loss at the given times and noise; its error is the mean squared difference of the ends."""
        sde, t, eps = model.sde, draw.t, draw.eps
        r = self.earlier(sde, t)
        x_t, x_r = (
            broadcast_like(alpha, x0) * x0 + broadcast_like(sigma, x0) * eps
            for alpha, sigma in map(sde.marginal, (t, r))
        )
        error = mean_event(self.residual(model, x_t, t, x_r, r, **cond) ** 2)
        weight = (1 / (_noise_ratio(sde, t) - _noise_ratio(sde, r))).nan_to_num(
            0.0, 0.0
        )  # 0 / 0 at t = t_min
        return Loss(weight.to(error) * error / (error.detach() + self.offset**2).sqrt(), t, error)

    def earlier(self, sde: SDE, t: Tensor) -> Tensor:
        """Return the second times r with the shape of t."""
        ratio = _noise_ratio(sde, t)
        factor = 1 - (1 + self.stretch * torch.sigmoid(-self.slope * ratio)) / self.ratio**self.stage
        log_snr = sde.log_snr(t) - 2 * torch.log(factor.clamp(min=0))  # infinite at t_min, below
        first = torch.full_like(t, sde.t_min)
        r = sde.t_from_log_snr(torch.where(factor > 0, log_snr, torch.zeros_like(t)))
        return torch.where(factor > 0, torch.minimum(torch.maximum(r, first), t), first)

    def residual(
        self, model: Denoiser, x_t: Tensor, t: Tensor, x_r: Tensor, r: Tensor, **cond: Tensor
    ) -> Tensor:
        """Return the difference of the ends with shape (B, *event); the gradient is that of the first.

        Arguments:
            model: the flow map.
            x_t: samples at times t.
            t: times with shape (B,).
            x_r: samples of the same trajectories at times r.
            r: times with shape (B,).
            **cond: conditioning, one row per sample.
        """
        bound = FlowMap(model.bind(**cond) if cond else model)
        first = torch.full_like(t, model.sde.t_min)
        with torch.no_grad():
            end = bound(x_r, r, first)
        return bound(x_t, t, first) - end


def _noise_ratio(sde: SDE, t: Tensor) -> Tensor:
    alpha, sigma = sde.marginal(t)
    return sigma / alpha
