"""The log-density of the probability flow."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.divergence.base import Divergence
from sde_gen.dynamics import ProbabilityFlow
from sde_gen.integrator.base import Integrator
from sde_gen.noise import Noise


class Density(Protocol):
    """Anything with a log-density."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats with shape (B,)."""
        ...


class LogProb(NamedTuple):
    """What the flow says of samples.

    Arguments:
        nats: log p_{t_min}(x) in nats, summed over the event, float64 with shape (B,).
        probe_se: standard error of nats that the divergence's probes cause, with shape (B,); NaN with one
            probe, which shows no spread.
        z: the latent codes, the samples carried to t = 1, with shape (B, *event).
        nfe: evaluations of the denoiser.
    """

    nats: Tensor
    probe_se: Tensor
    z: Tensor
    nfe: int


def log_prob(
    denoiser: Denoiser,
    x: Tensor,
    *,
    integrator: Integrator,
    divergence: Divergence,
    noise: Noise,
    prior: Density | None = None,
) -> LogProb:
    r"""Evaluate the log-density of samples at t_min under the probability flow.

    .. math::
        \log p_{t_{min}}(x) = \log p_1(x_1) + \int_{t_{min}}^1 \nabla \cdot u(x_t, t)\, dt, \qquad
        \dot x = u = \alpha' \hat x_0 + \sigma' \hat\epsilon

    x is taken as a sample at t_min, un-noised: with sigma(t_min) well below the width of a quantisation bin
    this is the density of the data; a larger t_min blurs it.

    Gradients flow to x and to the denoiser's parameters; call it under ``torch.no_grad()`` where none are
    wanted, or the graph of every evaluation is kept.

    Source: Song et al., 2021, arXiv:2011.13456, eq. 39.

    Arguments:
        denoiser: the model, conditioning bound.
        x: samples in model space with shape (B, *event).
        integrator: method for the ODE, carrying x and the integral together.
        divergence: exact or estimated.
        noise: source of the divergence's probes.
        prior: the law of x_1; None takes that of the process.
    """
    sde = denoiser.sde
    flow = ProbabilityFlow(denoiser)
    evaluate = divergence.prepare(x, noise)
    nfe = 0

    def field(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        nonlocal nfe
        nfe += 1
        velocity, div = evaluate(lambda y: flow(y, t), state[0])
        return velocity, div.double()

    columns = evaluate(lambda y: y, x)[1]
    start = (x, torch.zeros_like(columns, dtype=torch.float64))
    z, gain = integrator.integrate(field, start, sde.t_min, 1.0)
    density = sde.prior if prior is None else prior
    probes = gain.shape[1]
    nats = density.log_prob(z) + gain.mean(1)
    return LogProb(
        nats,
        gain.std(1, correction=1) / probes**0.5 if probes > 1 else torch.full_like(nats, torch.nan),
        z,
        nfe,
    )
