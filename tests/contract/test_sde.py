"""The contract of a process, for every file in conf/sde."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from sde_gen.noise import IID
from sde_gen.sde import SDE, Linear
from sde_gen.sde.base import derivative
from tests.helpers.catalogue import make, names

SDES = names("sde")
INTERIOR = torch.tensor([0.013, 0.1, 0.25, 0.3777, 0.5, 0.62, 0.85, 0.97], dtype=torch.float64)
PRIOR_GAP = 1e-7
"""Nats per dimension between q(x_1) of standard normal data and the prior; the largest is VE's 4e-8."""


@pytest.fixture(params=SDES)
def sde(request: pytest.FixtureRequest) -> SDE:
    return make("sde", request.param)


def times(sde: SDE, *, last: bool = True) -> Tensor:
    """Times from t_min to 1, dense near both ends."""
    near = sde.t_min + torch.logspace(-6, -2, 9, dtype=torch.float64)
    ends = torch.tensor([sde.t_min] + [1.0] * last, dtype=torch.float64)
    far = 1 + sde.t_min - near
    return torch.cat([near, INTERIOR[INTERIOR > float(near[-1])], far, ends]).sort().values


def relative(a: Tensor, b: Tensor) -> float:
    return float(((a - b).abs() / b.abs().clamp(min=1e-300)).max())


def test_log_snr_decreases(sde: SDE) -> None:
    log_snr = sde.log_snr(times(sde))
    assert (log_snr.diff() < 0).all()
    assert torch.isfinite(log_snr[:-1]).all()


def test_coefficients_are_finite_and_positive(sde: SDE) -> None:
    t = times(sde)
    assert (sde.alpha(t[:-1]) > 0).all()
    assert (sde.sigma(t) > 0).all()
    assert (sde.diffusion(t[:-1]) > 0).all()
    for coefficient in (sde.alpha, sde.sigma, sde.alpha_dot, sde.sigma_dot):
        assert torch.isfinite(coefficient(t)).all()


@pytest.mark.parametrize("name", ["log_snr", "drift_rate", "diffusion", "alpha_dot", "sigma_dot"])
def test_override_equals_derivation(sde: SDE, name: str) -> None:
    t = times(sde, last=False)
    override, derived = getattr(sde, name)(t), getattr(SDE, name)(sde, t)
    torch.testing.assert_close(override, derived, rtol=2e-9, atol=1e-11)


def test_derivation_equals_finite_differences(sde: SDE) -> None:
    """Forward-mode differentiation itself against a five-point stencil."""
    t, h = INTERIOR, 1e-4
    for function in (sde.alpha, sde.sigma, sde.log_snr):
        far, near = function(t + 2 * h) - function(t - 2 * h), function(t + h) - function(t - h)
        stencil = (8 * near - far) / (12 * h)
        torch.testing.assert_close(derivative(function, t), stencil, rtol=1e-6, atol=1e-7)


def test_time_from_log_snr(sde: SDE) -> None:
    t = times(sde)
    inverse = sde.t_from_log_snr(sde.log_snr(t))
    torch.testing.assert_close(inverse, t, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(SDE.t_from_log_snr(sde, sde.log_snr(t)), t, rtol=1e-9, atol=1e-13)


def test_float32_near_t_min(sde: SDE) -> None:
    t = (sde.t_min + torch.cat([torch.zeros(1), torch.logspace(-7, -1, 31)]).double()).float()
    for name in ("alpha", "sigma", "drift_rate", "diffusion", "alpha_dot", "sigma_dot"):
        low, high = getattr(sde, name)(t), getattr(sde, name)(t.double())
        assert low.dtype == torch.float32
        assert relative(low.double(), high) <= 3e-6, name
    assert float((sde.log_snr(t).double() - sde.log_snr(t.double())).abs().max()) <= 1e-5


@pytest.mark.parametrize("shape", [(), (1,), (5,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_dtypes(sde: SDE, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    t, s = torch.full(shape, 0.7, dtype=dtype), torch.full(shape, 0.4, dtype=dtype)
    functions = (
        sde.alpha,
        sde.sigma,
        sde.alpha_dot,
        sde.sigma_dot,
        sde.log_snr,
        sde.drift_rate,
        sde.diffusion,
    )
    results = [function(t) for function in functions] + [*sde.transition(s, t), *sde.posterior(t, s)]
    results.append(sde.t_from_log_snr(sde.log_snr(t)))
    for result in results:
        assert result.shape == shape
        assert result.dtype == dtype


@pytest.mark.parametrize("event", [(), (3,), (2, 3, 4)])
def test_marginal_broadcasts(sde: SDE, event: tuple[int, ...]) -> None:
    t, x = torch.linspace(0.2, 0.9, 5), torch.randn(5, *event, generator=torch.Generator().manual_seed(0))
    marginal, drift = sde.marginal(t, like=x), sde.drift(x, t)
    assert (marginal.alpha * x + marginal.sigma * x).shape == drift.shape == x.shape
    assert drift.dtype == marginal.sigma.dtype == torch.float32
    for i in range(5):
        one = sde.marginal(t[i].double())
        torch.testing.assert_close(marginal.sigma[i].squeeze(), one.sigma.float())
        torch.testing.assert_close(drift[i], sde.drift_rate(t[i].double()).float() * x[i])
        torch.testing.assert_close(sde.drift(x, t[i].double())[i], drift[i])


def test_transition_composes(sde: SDE) -> None:
    r, s, t = (torch.tensor(u, dtype=torch.float64) for u in (max(sde.t_min, 1e-4), 0.3, 0.8))
    first, second, both = sde.transition(r, s), sde.transition(s, t), sde.transition(r, t)
    torch.testing.assert_close(second.scale * first.scale, both.scale, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        (second.scale * first.std) ** 2 + second.std**2, both.std**2, rtol=1e-11, atol=0
    )


def test_transition_carries_the_marginal(sde: SDE) -> None:
    grid = times(sde)
    s, t = grid[:-1], grid[1:]
    (alpha, sigma), (scale, std) = sde.marginal(s), sde.transition(s, t)
    torch.testing.assert_close(scale * alpha, sde.alpha(t), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close((scale * sigma) ** 2 + std**2, sde.sigma(t) ** 2, rtol=1e-11, atol=0)


def test_transition_of_a_short_step(sde: SDE) -> None:
    """The std of a step much shorter than its time is g sqrt(t - s), without cancellation."""
    t = torch.tensor(0.5, dtype=torch.float64)
    s = t - 1e-9
    g = sde.diffusion(t) * torch.sqrt(t - s)
    torch.testing.assert_close(sde.transition(s, t).std, g, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("s", "t"), [(0.02, 0.03), (0.1, 0.6), (0.5, 0.999)])
def test_posterior_is_the_conditional_of_the_joint(sde: SDE, s: float, t: float) -> None:
    """Bayes by the joint covariance of (x_s, x_t) given x_0, from moments that scipy integrates."""
    (alpha_s, var_s), (alpha_t, var_t) = moments(sde, s), moments(sde, t)
    cov = alpha_t / alpha_s * var_s
    posterior = sde.posterior(torch.tensor(t, dtype=torch.float64), torch.tensor(s, dtype=torch.float64))
    gain = cov / var_t
    expected = [gain, alpha_s - gain * alpha_t, math.sqrt(var_s - gain * cov)]
    np.testing.assert_allclose([float(c) for c in posterior], expected, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.999])
def test_marginals_solve_the_moment_equations(sde: SDE, t: float) -> None:
    alpha, variance = moments(sde, t)
    marginal = sde.marginal(torch.tensor(t, dtype=torch.float64))
    np.testing.assert_allclose(float(marginal.alpha), alpha, rtol=1e-7)
    np.testing.assert_allclose(float(marginal.sigma) ** 2, variance, rtol=1e-7)


def moments(sde: SDE, t: float) -> tuple[float, float]:
    """Alpha and sigma^2 at t from drift and diffusion: alpha' = f alpha, (sigma^2)' = 2 f sigma^2 + g^2."""

    def field(u: float, y: np.ndarray) -> list[float]:
        time = torch.tensor(u, dtype=torch.float64)
        f, g = float(sde.drift_rate(time)), float(sde.diffusion(time))
        return [f * y[0], 2 * f * y[1] + g * g]

    start = torch.tensor(sde.t_min, dtype=torch.float64)
    y0 = [float(sde.alpha(start)), float(sde.sigma(start)) ** 2]
    solution = solve_ivp(field, (sde.t_min, t), y0, method="DOP853", rtol=1e-11, atol=1e-16)
    return float(solution.y[0, -1]), float(solution.y[1, -1])


@pytest.mark.parametrize("name", SDES)
def test_prior_gap(name: str, record_property: Callable[[str, object], None]) -> None:
    """KL(q(x_1) || prior) for standard normal data, nats per dimension."""
    sde = make("sde", name)
    one = torch.ones((), dtype=torch.float64)
    q = torch.distributions.Normal(0.0, torch.sqrt(sde.alpha(one) ** 2 + sde.sigma(one) ** 2))
    p = torch.distributions.Normal(0.0, torch.tensor(sde.prior.std, dtype=torch.float64))
    gap = float(torch.distributions.kl_divergence(q, p))
    record_property("prior_gap", gap)
    assert 0 <= gap <= PRIOR_GAP


@pytest.mark.parametrize("event", [(4,), (3, 2, 2)])
def test_prior_density(sde: SDE, event: tuple[int, ...]) -> None:
    x = sde.prior.sample((6, *event), noise=IID.seeded(3))
    assert x.shape == (6, *event)
    distribution = torch.distributions.Normal(0.0, float(sde.sigma(torch.ones((), dtype=torch.float64))))
    torch.testing.assert_close(sde.prior.log_prob(x), distribution.log_prob(x.double()).flatten(1).sum(1))


def test_prior_samples_have_its_distribution(sde: SDE) -> None:
    x = sde.prior.sample((40000, 1), noise=IID.seeded(5), dtype=torch.float64)
    assert x.dtype == torch.float64
    assert abs(float(x.std()) / sde.prior.std - 1) < 4 / math.sqrt(2 * 40000)


def test_restated_by_drift_and_diffusion_alone(sde: SDE) -> None:
    """Linear, given a process' f and g and nothing else, finds the process again."""
    sigma0 = float(sde.sigma(torch.zeros((), dtype=torch.float64)))
    chains = [make("sde", name) for name in ("ddpm", "ddpm_cosine")]
    knots = [n / 1000 for n in range(1, 1000)] if sde in chains else getattr(sde, "breakpoints", ())
    given = {"drift_rate": sde.drift_rate, "diffusion": sde.diffusion, "sigma0": sigma0, "breakpoints": knots}
    if torch.isinf(sde.diffusion(torch.ones(()))):
        with pytest.raises(ValueError, match="too rough"):
            Linear(**given)
        return
    again = Linear(**given, t_min=max(sde.t_min, 1e-5))
    t = times(again)
    torch.testing.assert_close(again.sigma(t), sde.sigma(t), rtol=1e-10, atol=0)
    scale = float(sde.alpha(torch.zeros((), dtype=torch.float64)))
    torch.testing.assert_close(scale * again.alpha(t), sde.alpha(t), rtol=1e-10, atol=0)
