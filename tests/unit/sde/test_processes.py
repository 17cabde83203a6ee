"""Properties of single processes beyond the common contract."""

import copy
import itertools
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from sde_gen.sde import (
    DDPM,
    VE,
    VP,
    Cosine,
    EDMProcess,
    Linear,
    Rectified,
    SubVP,
    Table,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    sigmoid_betas,
    zero_snr_betas,
)
from tests.helpers.catalogue import make, names

NAN = math.nan


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (VP, {"beta_min": 3.0, "beta_max": 2.0}),
        (VP, {"beta_min": -0.1}),
        (VP, {"beta_min": NAN}),
        (VP, {"beta_max": math.inf}),
        (VP, {"beta_min": 0.0, "beta_max": 0.0}),
        (VP, {"t_min": 0.0}),
        (SubVP, {"beta_min": 21.0}),
        (SubVP, {"t_min": 1.0}),
        (VE, {"sigma_min": -0.01}),
        (VE, {"sigma_min": 0.0}),
        (VE, {"sigma_max": 0.001}),
        (VE, {"sigma_max": NAN}),
        (VE, {"t_min": -1e-9}),
        (VE, {"t_min": NAN}),
        (Cosine, {"log_snr_min": 30.0}),
        (Cosine, {"log_snr_max": math.inf}),
        (Cosine, {"t_min": 1.5}),
        (EDMProcess, {"sigma_min": 0.0}),
        (EDMProcess, {"sigma_min": 90.0}),
        (EDMProcess, {"sigma_max": NAN}),
        (Rectified, {"t_min": 0.0}),
        (Rectified, {"t_min": NAN}),
        (DDPM, {"betas": (0.1, 0.2, 1.0, 0.3)}),
        (DDPM, {"betas": (0.1, 0.2, NAN, 0.3)}),
        (DDPM, {"betas": (0.1, 0.2, 0.3)}),
        (Table, {"times": (0.0, 0.5, 0.4, 1.0), "values": (1.0,) * 4}),
        (Table, {"times": (0.0, 0.4, 0.5, 0.9), "values": (1.0,) * 4}),
        (Table, {"times": (0.0, 0.4, 0.5, 1.0), "values": (1.0,) * 3}),
        (Table, {"values": (1.0, NAN, 1.0, 1.0), "times": (0.0, 0.4, 0.5, 1.0)}),
    ],
)
def test_impossible_arguments_are_named(kind: Callable[..., Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).rstrip("s")):
        kind(**wrong)


@pytest.mark.parametrize("name", names("sde"))
def test_copies_and_pickles(name: str) -> None:
    sde, t = make("sde", name), torch.tensor(0.3, dtype=torch.float64)
    sde.sigma(t)
    for copied in (copy.deepcopy(sde), pickle.loads(pickle.dumps(sde))):
        assert copied == sde
        assert torch.equal(copied.sigma(t), sde.sigma(t))


@pytest.mark.parametrize("name", sorted(set(names("sde")) - {"linear", "ddpm_cosine"}))
def test_yaml_holds_the_defaults(name: str) -> None:
    sde = make("sde", name)
    assert type(sde)() == sde


@pytest.mark.parametrize("beta_min", [0.0, 20.0])
@pytest.mark.parametrize("kind", [VP, SubVP])
def test_beta_may_start_at_zero_or_be_constant(kind: type[VP] | type[SubVP], beta_min: float) -> None:
    sde = kind(beta_min=beta_min, beta_max=20.0, t_min=1e-3)
    t = torch.linspace(1e-3, 1, 50, dtype=torch.float64)
    torch.testing.assert_close(sde.t_from_log_snr(sde.log_snr(t)), t, rtol=1e-9, atol=0)
    assert sde.t_from_log_snr(torch.tensor(math.inf)) == 0


def test_strong_noise_does_not_overflow() -> None:
    sde, one = VP(beta_max=4000.0), torch.ones((), dtype=torch.float64)
    assert float(sde.log_snr(one)) == pytest.approx(-2000.05)
    assert float(sde.t_from_log_snr(sde.log_snr(one))) == pytest.approx(1)


def test_cosine_is_accurate_in_float32_at_both_ends() -> None:
    """Near t = 1 alpha is small; the cosine of an angle near pi / 2 would lose three digits."""
    sde = Cosine()
    t = torch.cat([torch.linspace(0, 1e-3, 20), 1 - torch.linspace(0, 1e-3, 20)])
    for function in (sde.alpha, sde.sigma):
        torch.testing.assert_close(function(t).double(), function(t.double()), rtol=1e-6, atol=0)


def test_cosine_ends_at_its_log_snr() -> None:
    sde = Cosine(log_snr_max=13.0, log_snr_min=-9.0)
    ends = sde.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([13.0, -9.0], dtype=torch.float64))


TABLES = {
    "linear": linear_betas(),
    "cosine": cosine_betas(),
    "short": linear_betas(steps=10, beta_max=0.7),
    "jumpy": (0.3, 1e-4, 0.9, 1e-3, 0.5, 0.5, 1e-4),
}


def test_a_table_that_ends_in_noise() -> None:
    """Of the signal a straight line is taken off and on: nothing is left at the end, the first step stays as it was."""
    given, rescaled = scaled_linear_betas(), zero_snr_betas(betas=scaled_linear_betas(), beta_limit=1.0)
    before, after = (np.sqrt(np.cumprod(1 - np.array(betas))) for betas in (given, rescaled))
    assert after[0] == pytest.approx(before[0], rel=1e-12)
    assert after[-1] == 0
    np.testing.assert_allclose(
        np.diff(after) / np.diff(before), np.diff(after)[0] / np.diff(before)[0], rtol=1e-9
    )
    kept = zero_snr_betas(betas=given)
    assert kept[:-1] == rescaled[:-1]
    assert kept[-1] == 0.999
    assert np.isfinite(float(DDPM(betas=kept).log_snr(torch.tensor(1.0, dtype=torch.float64))))
    with pytest.raises(ValueError, match="beta_2=1"):
        zero_snr_betas(betas=(0.1, 1.0, 0.1, 0.1))


def test_the_sigmoid_table_is_a_logistic_function() -> None:
    """Its log-odds between the ends are an even grid from -6 to 6."""
    share = (np.array(sigmoid_betas(steps=7, beta_min=0.1, beta_max=0.3)) - 0.1) / 0.2
    np.testing.assert_allclose(np.log(share / (1 - share)), [-6, -4, -2, 0, 2, 4, 6], atol=1e-9)


@pytest.mark.parametrize("betas", TABLES.values(), ids=TABLES)
def test_ddpm_is_the_chain_at_its_times(betas: tuple[float, ...]) -> None:
    """Run the chain's first two moments step by step, and its posterior by conditioning."""
    sde, steps = DDPM(betas=betas), len(betas)
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    scale, variance = 1.0, 0.0
    alphas, variances = [], []
    for beta in betas:
        scale, variance = math.sqrt(1 - beta) * scale, (1 - beta) * variance + beta
        alphas.append(scale)
        variances.append(variance)
    torch.testing.assert_close(sde.alpha(t), torch.tensor(alphas, dtype=torch.float64), rtol=1e-10, atol=0)
    torch.testing.assert_close(
        sde.sigma(t) ** 2, torch.tensor(variances, dtype=torch.float64), rtol=1e-10, atol=0
    )
    kernel = sde.transition(t[:-1], t[1:])
    torch.testing.assert_close(kernel.std**2, torch.tensor(betas[1:], dtype=torch.float64), rtol=1e-9, atol=0)
    posterior = sde.posterior(t[1:], t[:-1])
    for n in range(1, min(steps, 20)):
        precision = 1 / variances[n - 1] + (1 - betas[n]) / betas[n]
        assert float(posterior.std[n - 1]) ** 2 == pytest.approx(1 / precision, rel=1e-8)
    assert sde.t_min == 1 / steps


@pytest.mark.parametrize("betas", TABLES.values(), ids=TABLES)
def test_ddpm_decreases_and_is_smooth_between(betas: tuple[float, ...]) -> None:
    sde, steps = DDPM(betas=betas), len(betas)
    t = torch.linspace(sde.t_min, 1, 4001, dtype=torch.float64)
    assert (sde.log_snr(t).diff() < 0).all()
    assert (sde.diffusion(t) > 0).all()
    torch.testing.assert_close(sde.t_from_log_snr(sde.log_snr(t)), t, rtol=0, atol=1e-9)
    knots = torch.arange(1, steps, dtype=torch.float64) / steps
    left, right = sde.drift_rate(knots - 1e-12), sde.drift_rate(knots + 1e-12)
    torch.testing.assert_close(left, right, rtol=1e-4, atol=0)


def test_ddpm_of_a_fine_table_is_vp() -> None:
    """Ho's betas are beta(t) / N of VP at beta 0.1 to 20, up to 1 / N."""
    t = torch.linspace(0.01, 1, 30, dtype=torch.float64)
    gaps = []
    for steps in (1000, 2000):
        sde = DDPM(betas=linear_betas(steps=steps, beta_min=0.1 / steps, beta_max=20 / steps))
        gaps.append(float((sde.log_snr(t) - VP().log_snr(t)).abs().max()))
    assert gaps[0] < 0.15
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.1)


def test_cosine_table_is_the_papers() -> None:
    """Alpha-bar falls as the squared cosine, but for the betas at the limit of 0.999."""
    sde, n = DDPM(betas=cosine_betas()), np.arange(1, 999)
    alpha = sde.alpha(torch.from_numpy(n / 1000)).numpy()
    angle = (n / 1000 + 0.008) / 1.008 * np.pi / 2
    np.testing.assert_allclose(alpha, np.cos(angle) / np.cos(0.008 / 1.008 * np.pi / 2), rtol=1e-8)
    assert cosine_betas()[-1] == 0.999


def wavy(t: Tensor) -> Tensor:
    return -1 - 3 * t + torch.sin(9 * t)


def noisy(t: Tensor) -> Tensor:
    return 0.5 + torch.exp(t) + 0.3 * torch.cos(7 * t)


def reference(sde: Linear, t: float, kinks: tuple[float, ...] = ()) -> tuple[float, float]:
    """Log alpha and sigma^2 by scipy's adaptive quadrature."""
    inside = [kink for kink in kinks if kink < t] or None
    f, g = (
        lambda u, h=h: float(h(torch.tensor(u, dtype=torch.float64))) for h in (sde.drift_rate, sde.diffusion)
    )
    options = {"epsabs": 1e-13, "epsrel": 1e-12, "limit": 200}

    def log_alpha(u: float) -> float:
        return quad(f, 0, u, points=[kink for kink in kinks if kink < u] or None, **options)[0]

    end = log_alpha(t)
    variance = quad(lambda u: g(u) ** 2 * math.exp(2 * (end - log_alpha(u))), 0, t, points=inside, **options)[
        0
    ]
    return end, variance + sde.sigma0**2 * math.exp(2 * end)


@pytest.mark.parametrize("sigma0", [0.0, 0.3])
@pytest.mark.parametrize("t", [1e-5, 0.017, 0.5, 1.0])
def test_linear_against_adaptive_quadrature(sigma0: float, t: float) -> None:
    sde = Linear(drift_rate=wavy, diffusion=noisy, sigma0=sigma0)
    log_alpha, variance = reference(sde, t)
    time = torch.tensor(t, dtype=torch.float64)
    assert float(torch.log(sde.alpha(time))) == pytest.approx(log_alpha, rel=1e-11)
    assert float(sde.sigma(time)) ** 2 == pytest.approx(variance, rel=1e-11)


def test_linear_with_kinks() -> None:
    kinks = (0.123, 0.61)

    def kinked(t: Tensor) -> Tensor:
        return torch.where(t < 0.123, -torch.ones_like(t), -2 - (t - 0.61).abs())

    with pytest.raises(ValueError, match="breakpoints"):
        Linear(drift_rate=kinked, diffusion=noisy)
    sde = Linear(drift_rate=kinked, diffusion=noisy, breakpoints=kinks)
    for t in (0.1, 0.5, 0.9):
        log_alpha, variance = reference(sde, t, kinks)
        time = torch.tensor(t, dtype=torch.float64)
        assert float(torch.log(sde.alpha(time))) == pytest.approx(log_alpha, rel=1e-9)
        assert float(sde.sigma(time)) ** 2 == pytest.approx(variance, rel=1e-9)


def test_linear_without_its_breakpoints_is_vp_by_hand() -> None:
    """The notebook's ten lines: f and g of VP, and all of VP comes back."""
    vp = VP()
    sde = Linear(drift_rate=lambda t: -0.5 * (0.1 + 19.9 * t), diffusion=lambda t: torch.sqrt(0.1 + 19.9 * t))
    t = torch.cat([torch.logspace(-5, -2, 20), torch.linspace(0.01, 1, 50)]).double()
    for name in ("alpha", "sigma", "alpha_dot", "sigma_dot", "log_snr"):
        torch.testing.assert_close(getattr(sde, name)(t), getattr(vp, name)(t), rtol=1e-10, atol=1e-12)
    for ours, original in zip(sde.posterior(t[1:], t[:-1]), vp.posterior(t[1:], t[:-1]), strict=True):
        torch.testing.assert_close(ours, original, rtol=1e-7, atol=1e-10)


def test_linear_survives_what_overflows() -> None:
    """A signal that ends at e^-1000, where g^2 / alpha^2 is infinite: log-SNR and noise stay as they are."""
    fine = tuple(n / 2000 for n in range(1, 2000))
    given = {"drift_rate": lambda t: -2000 * t, "diffusion": lambda t: torch.sqrt(4000 * t)}
    sde = Linear(**given, breakpoints=fine)
    t = torch.linspace(1e-3, 1, 20, dtype=torch.float64)
    torch.testing.assert_close(sde.sigma(t) ** 2, -torch.expm1(-2000 * t**2), rtol=1e-9, atol=0)
    assert float(sde.log_snr(t)[-1]) == pytest.approx(-2000)


def test_linear_from_table() -> None:
    """A fine table of a smooth process is that process up to the fourth power of its spacing."""
    errors = []
    for n in (21, 41):
        times = np.linspace(0, 1, n)
        f, g = (h(torch.from_numpy(times)).tolist() for h in (wavy, noisy))
        sde, exact = Linear.from_table(times.tolist(), f, g), Linear(drift_rate=wavy, diffusion=noisy)
        t = torch.linspace(0.1, 1, 33, dtype=torch.float64)
        errors.append(float((sde.log_snr(t) - exact.log_snr(t)).abs().max()))
        assert sde.breakpoints == tuple(times[1:-1])
    assert errors[1] < 1e-5
    assert math.log2(errors[0] / errors[1]) > 3.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"drift_rate": lambda t: -1.0}, "drift_rate must return a tensor"),
        ({"diffusion": lambda t: torch.ones(())}, "ones_like"),
        ({"diffusion": lambda t: t - 0.5}, "diffusion must be positive"),
        ({"diffusion": lambda t: 0 * t}, "diffusion must be positive"),
        ({"drift_rate": lambda t: torch.sqrt(0.5 - t)}, "drift_rate is not finite"),
        ({"drift_rate": lambda t: -1 / (1 - t)}, "too rough"),
        ({"diffusion": lambda t: 1 + (t > 0.3).to(t)}, "too rough"),
        ({"breakpoints": (0.0, 0.5)}, "breakpoints"),
        ({"sigma0": -1.0}, "sigma0"),
        ({"sigma0": NAN}, "sigma0"),
        ({"t_min": 0.0}, "t_min"),
    ],
)
def test_linear_refuses(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Linear(**{"drift_rate": wavy, "diffusion": noisy, **wrong})


def test_linear_needs_both_functions() -> None:
    for one in ({"drift_rate": wavy}, {"diffusion": noisy}, {}):
        with pytest.raises(TypeError, match="missing"):
            Linear(**one)  # type: ignore[arg-type]


def test_straight_path_at_its_start() -> None:
    """At t = 1 transition, posterior and velocity are finite though f and g are not."""
    sde = make("sde", "rectified")
    s, t = torch.tensor(0.9, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    assert [float(c) for c in sde.transition(s, t)] == [0.0, 1.0]
    assert [float(c) for c in sde.posterior(t, s)] == pytest.approx([0.0, 0.1, 0.9])
    assert float(sde.t_from_log_snr(torch.tensor(-math.inf))) == 1
    assert all(math.isinf(float(c)) for c in (sde.log_snr(t), sde.drift_rate(t), sde.diffusion(t)))


def test_processes_differ() -> None:
    t = torch.tensor(0.4, dtype=torch.float64)
    sigmas = [float(make("sde", name).log_snr(t)) for name in names("sde")]
    assert all(abs(a - b) > 1e-3 for a, b in itertools.combinations(sigmas, 2))
