"""Random pairs of times, and the losses of flow maps from their residuals."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser import NetworkFlowMap
from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.flow_map import direction
from sde_gen.noise import Noise
from sde_gen.objective.base import Loss, NoiseDraw, Objective
from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.objective.time_sampler.stratified import Stratified
from sde_gen.objective.time_sampler.uniform import UniformTime
from sde_gen.sde.base import SDE
from sde_gen.utils.broadcasting import broadcast_like, mean_event


@dataclass(frozen=True, kw_only=True)
class TwoTimes(Objective):
    r"""Abstract base class of objectives of flow maps, which are given two times.

    .. math::
        E\left[\frac{|R|^2 / D}{(\mathrm{sg}(|R|^2 / D) + c)^p}\right]

    R is the residual of an identity of the exact flow map at x_t = alpha x0 + sigma eps. With the probability
    ``diagonal`` both times are equal, where the identity is the regression of a denoiser; else they are drawn
    independently and sorted. The draw is the weighting, and no density is divided out.

    Source: Geng et al., 2025, arXiv:2505.13447, section 4.3 (pairs of times, and the adaptive weight).

    A map can have the guidance of its conditions built in: with ``guidance`` other than 1 the direction eps - x0 is
    replaced by

    .. math::
        \omega\, (\epsilon - x_0) + (1 - \omega)\, \mathrm{sg}[u_{t,t}(x_t)]_{uncond},

    whose mean, given conditions, is the guided velocity of that scale, and without any the unconditional velocity. One
    evaluation then samples what classifier-free guidance does; some conditions must be dropped in training.

    Source of the guidance: the same, section 4.2.

    Arguments:
        time_sampler: distribution of the times where both are equal, and of one of them elsewhere.
        second: distribution of the other.
        diagonal: probability that both are equal.
        power: p, how far the squared residual is divided by itself; 0 for the mean squared residual.
        offset: c.
        guidance: omega, the scale as in :class:`~sde_gen.guidance.CFG`.

    Raises:
        ValueError: diagonal or power lies outside [0, 1], or offset is not positive; or, when called, there is guidance
            and no condition.
    """

    trains: ClassVar[type] = NetworkFlowMap

    time_sampler: TimeSampler = field(default_factory=Stratified)
    second: TimeSampler = field(default_factory=UniformTime)
    diagonal: float = 0.5
    power: float = 0.0
    offset: float = 1e-3
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.diagonal <= 1 and 0 <= self.power <= 1 and self.offset > 0):
            raise ValueError(
                f"diagonal={self.diagonal}, power={self.power}, offset={self.offset}: expected a probability, a power "
                "in [0, 1] and a positive offset"
            )

    def draw(self, sde: SDE, x0: Tensor, noise: Noise) -> NoiseDraw:
        """Draw the times t >= s and the noise eps ~ N(0, I)."""
        first, density = self.time_sampler(sde, noise.uniform(x0))
        second, equal = self.second.times(sde, noise.uniform(x0)), noise.uniform(x0) < self.diagonal
        t = torch.where(equal, first, torch.maximum(first, second))
        return NoiseDraw(
            t, density, noise.normal(x0), torch.where(equal, first, torch.minimum(first, second))
        )

    def loss(self, model: Denoiser, /, x0: Tensor, draw: NoiseDraw, **cond: Tensor) -> Loss:
        """Evaluate the loss at the given times and noise; its error is the mean squared residual."""
        t, eps, s = draw.t, draw.eps, draw.s
        assert s is not None  # drawn above
        alpha, sigma = model.sde.marginal(t)
        x_t = broadcast_like(alpha, x0) * x0 + broadcast_like(sigma, x0) * eps
        u = eps - x0 if self.guidance == 1 else self._guided(model, x_t, t, eps - x0, cond)
        error = mean_event(self.residual(model, x_t, t, s, u, **cond) ** 2)
        return Loss(error / (error.detach() + self.offset) ** self.power, t, error)

    def _guided(self, model: Denoiser, x_t: Tensor, t: Tensor, u: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Extrapolate u from the direction of the model without conditions."""
        if not cond:
            raise ValueError(
                f"guidance={self.guidance} needs conditions, some of which are dropped: use conditioning=class, or "
                "guidance=1"
            )
        with torch.no_grad():
            null = direction(model(x_t, t))
        return self.guidance * u + (1 - self.guidance) * null

    @abc.abstractmethod
    def residual(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, u: Tensor, **cond: Tensor
    ) -> Tensor:
        """Return the residual R with shape (B, *event), zero at the exact map along its own flow.

        Arguments:
            model: the flow map.
            x_t: noisy samples with shape (B, *event).
            t: their times with shape (B,).
            s: times to map to with shape (B,).
            u: ``eps - x0`` of the pairs whose noisy samples they are, with the shape of x_t.
            **cond: conditioning, one row per sample.
        """


def forward_derivative(
    function: Callable[..., Any], primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]
) -> tuple[Any, Any]:
    """Return a function of the network and its directional derivative, both in float32 whatever the precision.

    Under autocast on a CPU, PyTorch 2.13 gives the derivative of a group normalization another dtype than its value,
    which the next convolution rejects.
    """
    with torch.autocast(primals[0].device.type, enabled=False):
        found: Any = torch.func.jvp(function, primals, tangents)
    value, derivative = found
    return value, derivative
