"""Events of one, two and three axes: entropy and probability flow of a Gaussian process, exactly."""

import math

import pytest
import torch
from torch import Tensor

from sde_gen.data import Autoregressive
from sde_gen.denoiser import GaussianDenoiser
from sde_gen.likelihood import log_prob
from sde_gen.likelihood.divergence import Exact
from sde_gen.noise import IID
from sde_gen.ode import Adams
from tests.helpers.catalogue import integrators, make

PROCESS = Autoregressive(length=8)
EVENTS = [(1, 8), (2, 2, 2), (1, 2, 2, 2)]
DETERMINISTIC = [name for name in integrators() if not make("solver", name).stochastic]
RATIOS = (4.0, 0.05)
"""Noise in units of the signal between which the flow is followed."""


def model(event: tuple[int, ...]) -> GaussianDenoiser:
    """The exact denoiser of eight numbers of an AR(2) process, in the shape of an event."""
    return GaussianDenoiser(
        sde=make("sde", "vp"), mean=torch.zeros(event, dtype=torch.float64), cov=PROCESS.covariance()
    )


def nodes() -> Tensor:
    """Points of equal weight whose mean of every quadratic form is that of the process."""
    factor = torch.linalg.cholesky(PROCESS.covariance())
    columns = math.sqrt(PROCESS.length) * factor.T
    return torch.cat([columns, -columns])


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_the_likelihood_gives_the_closed_entropy(event) -> None:
    """The mean of -log p over a cubature that is exact for a Gaussian."""
    x = nodes().reshape(-1, *event)
    nats = log_prob(model(event), x, integrator=Adams(steps=100), divergence=Exact()).nats
    assert float(-nats.mean()) == pytest.approx(PROCESS.entropy(), abs=0.01)
    white = 0.5 * PROCESS.length * math.log(2 * math.pi * math.e)
    assert PROCESS.entropy() < white - 1, "numbers that are independent of each other have another entropy"


@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_solvers_follow_the_flow_of_an_event(name, event) -> None:
    """Along an axis of variance v the flow scales x / alpha by ((v + rho_1^2) / (v + rho_0^2))^(1/2)."""
    denoiser = model(event)
    sde, rho = denoiser.sde, torch.tensor(RATIOS, dtype=torch.float64)
    times = sde.t_from_log_snr(torch.linspace(*(-2 * rho.log()).tolist(), 41, dtype=torch.float64))
    variances, axes = torch.linalg.eigh(PROCESS.covariance())
    starts = 3 * torch.randn(4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = ((variances + rho[1] ** 2) / (variances + rho[0] ** 2)).sqrt()
    x = (sde.alpha(times[0]) * starts).reshape(-1, *event)
    found = make("solver", name).solve(denoiser, x, times, noise=IID.seeded(0))
    expected = (sde.alpha(times[-1]) * (starts @ axes * scale) @ axes.T).reshape(x.shape)
    assert float((found - expected).norm() / expected.norm()) < 0.03
