"""The log-density of the probability flow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple, Protocol

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.likelihood.divergence.base import Divergence, DivergenceEvaluator
from sde_gen.likelihood.divergence.hutchinson import Hutchinson
from sde_gen.noise import NO_NOISE, Noise
from sde_gen.ode.adams import Adams
from sde_gen.ode.base import Field, Integrator, State
from sde_gen.ode.time_variable import AngleVariable, FlowVariable
from sde_gen.utils.arguments import checked
from sde_gen.utils.broadcasting import broadcast_like, event_numel

MIDDLE = 0.3
"""The ratio sigma / alpha in the middle of the path, that of :class:`~sde_gen.grid.Angle`."""


class LogDensity(Protocol):
    """A distribution with a log-density."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats with shape (B,)."""
        ...


class LogProb(NamedTuple):
    """Log-densities of samples under the probability flow.

    Arguments:
        nats: log p_{t_min}(x) in nats, summed over the event, float64 with shape (B,).
        probe_se: standard error of nats that the divergence's probes cause, with shape (B,); NaN with one
            probe, which shows no spread.
        z: the latents, the samples carried to t = 1, with shape (B, *event).
        nfe: evaluations of the denoiser per sample, on average.
    """

    nats: Tensor
    probe_se: Tensor
    z: Tensor
    nfe: float


@checked
def log_prob(
    denoiser: Denoiser,
    x: Tensor,
    *,
    integrator: Annotated[Integrator, "solvers make samples; integrators are in sde_gen.ode"] = Adams(),
    divergence: Divergence = Hutchinson(),
    noise: Noise = NO_NOISE,
    prior: LogDensity | None = None,
    variable: FlowVariable | None = None,
) -> LogProb:
    r"""Evaluate the log-density of samples at t_min under the probability flow.

    .. math::
        \log p_{t_{min}}(x) = \log p_1(x_1) + \int_{t_{min}}^1 \nabla \cdot \dot x\, dt, \qquad
        \dot x = \alpha' \hat x_0 + \sigma' \hat\epsilon

    The integral is taken in a time variable u, of samples y = x / s(u) in units of the data,

    .. math::
        \log p_{t_{min}}(x) = \log p_1(x_1) + D \log \frac{s(u_1)}{s(u_0)}
        + D \int_{u_0}^{u_1} \frac1D \nabla_y \cdot \frac{dy}{du}\, du .

    The integral carried along with y is in nats per dimension, and so are an integrator's tolerances for it.

    x is taken as a sample at t_min: with sigma(t_min) well below the width of a quantization bin
    this is the density of the data; a larger t_min blurs it.

    Gradients flow to x and to the denoiser's parameters; call it under ``torch.no_grad()`` where none are
    wanted, or the graph of every evaluation is kept.

    Source: Song et al., 2021, arXiv:2011.13456, eq. 39; a flow in other variables has the density of the
    transformed samples.

    Arguments:
        denoiser: the model, conditioning bound.
        x: samples in model space with shape (B, *event).
        integrator: method for the ODE, carrying y and the integral together.
        divergence: exact or estimated.
        noise: source of the divergence's probes; an exact divergence needs none.
        prior: distribution of x_1; None uses the prior of the process.
        variable: the time variable of integration; None uses the angle variable, in which the flow is smooth
            from data to noise and the same for every process.

    Raises:
        ValueError: an argument is of another kind than annotated, such as a solver; x holds integers; gradients are
            wanted and the integrator has none; or the divergence does not suit the integrator.
    """
    if not x.is_floating_point():
        raise ValueError(
            f"x has dtype {x.dtype}; expected samples in model space with floating-point numbers: encode levels of "
            "data first, x = codec.encode(values, noise)"
        )
    sde, dim = denoiser.sde, event_numel(x)
    wanted = x.requires_grad or any(parameter.requires_grad for parameter in denoiser.parameters())
    if torch.is_grad_enabled() and wanted and not integrator.differentiable:
        raise ValueError(
            f"no gradients flow through {type(integrator).__name__}; call it under torch.no_grad(), "
            "or take another integrator (adams, runge_kutta, torch_diffeq)"
        )
    variable = AngleVariable(sde, MIDDLE) if variable is None else variable
    ends = torch.tensor([sde.t_min, 1.0], dtype=torch.float64)
    u0, u1 = variable.from_time(ends).tolist()
    s0, s1 = variable.coefficients(ends).scale
    flow = Flow(denoiser, variable, divergence.prepare(x, noise, smooth=integrator.adaptive))
    zero = torch.zeros(len(x), divergence.num_probes, dtype=torch.float64, device=x.device)
    y, gain = integrator.integrate(flow, (x / s0, zero), u0, u1)
    z = s1 * y
    density = sde.prior if prior is None else prior
    nats = density.log_prob(z) + dim * (torch.log(s1 / s0).to(gain.device) + gain.mean(1))
    probes = divergence.num_probes
    spread = dim * gain.std(1, correction=1) / probes**0.5 if probes > 1 else torch.full_like(nats, torch.nan)
    return LogProb(nats, spread, z, flow.count.samples / max(1, len(x)))


@dataclass
class Count:
    """Evaluations made of the denoiser, counted by samples."""

    samples: int = 0


@dataclass(frozen=True)
class Flow(Field):
    """The probability flow in a time variable, and its divergence per dimension.

    Arguments:
        denoiser: the model.
        variable: the time variable.
        divergence: evaluates field and divergence.
        count: of the evaluations.
    """

    denoiser: Denoiser
    variable: FlowVariable
    divergence: DivergenceEvaluator
    count: Count = field(default_factory=Count)

    def __call__(self, t: Tensor, y: State) -> State:
        """Return dy/du with shape (b, *event) and its divergence per dimension with shape (b, P)."""
        self.count.samples += len(y[0])
        slope, divergence = self.divergence(self.at(t), y[0])
        return slope, divergence / event_numel(y[0])

    def at(self, u: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the field y -> dy/du at u with shape () or (b,)."""
        t = self.variable.to_time(u).clamp(self.denoiser.sde.t_min, 1.0)
        scale, x0, eps = self.variable.coefficients(t)

        def slope(y: Tensor) -> Tensor:
            prediction = self.denoiser(broadcast_like(scale, y) * y, t)
            return broadcast_like(x0, y) * prediction.x0 + broadcast_like(eps, y) * prediction.eps

        return slope

    def select(self, index: Tensor, count: int) -> "Flow":
        """Return the flow of some samples, with a shared count of evaluations."""
        return replace(
            self, denoiser=self.denoiser.select(index, count), divergence=self.divergence.select(index)
        )

    def parameters(self) -> Sequence[Tensor]:
        """Return the parameters of the denoiser."""
        return tuple(self.denoiser.parameters())
