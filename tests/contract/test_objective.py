"""Contract of the objective: densities of times, weightings, and the loss against quadrature with an exact denoiser."""

import pytest
import torch

from sde_gen.denoiser import Denoiser, MixtureDenoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.noise import IID, PerSample
from sde_gen.objective import DSM
from sde_gen.objective.time_sampler import Importance, Log1pSNR, LogNormal, Mixture, Stratified, UniformTime
from sde_gen.objective.weighting import (
    EDMWeighting,
    Likelihood,
    MinSNR,
    Simple,
    TimeDensity,
    TruncatedSNR,
    VelocityError,
)
from sde_gen.utils.broadcasting import mean_event
from tests.helpers.catalogue import make, names

FINITE = [name for name in names("sde") if name != "rectified"]  # whose log-SNR at t = 1 is finite
DISTRIBUTIONS = {
    "uniform": UniformTime(),
    "importance": Importance(t_max=0.999),
    "information": Log1pSNR(),
    "log_normal": LogNormal(),
    "log_normal_cut_off": LogNormal(mean=4.0, std=1.0),
    "mixture": Mixture(first=UniformTime(), second=Importance(t_max=0.5), share=0.3),
}


def places(n):
    """Midpoints of n equal parts of [0, 1]."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def mixture(sde, event=(2,)):
    dim = torch.Size(event).numel()
    means = torch.linspace(-1, 1, 3 * dim, dtype=torch.float64).reshape(3, *event)
    covs = 0.1 * torch.eye(dim, dtype=torch.float64).expand(3, dim, dim)
    return MixtureDenoiser(sde=sde, means=means, covs=covs, weights=torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", names("sde"))
def test_density_is_that_of_the_times(name, distribution):
    """The share of the times below any s is the integral of the density up to s (trapezoids between the times)."""
    sde, sampler = make("sde", name), DISTRIBUTIONS[distribution]
    n = 1001
    t = sampler(sde, places(n)).t.sort().values
    density = sampler.density(sde, 0.5 * (t[1:] + t[:-1]))
    mass = (density * (t[1:] - t[:-1])).cumsum(0)
    assert sde.t_min <= float(t[0]) < float(t[-1]) <= 1
    # each interval has 1 / n of the times, up to one per component of a mixture
    torch.testing.assert_close(mass, torch.arange(1, n, dtype=torch.float64) / n, rtol=0, atol=6 / n)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_stratified_times_cover_the_distribution_evenly(distribution):
    sde = make("sde", "vp")
    u = torch.rand(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t, density = Stratified(distribution=DISTRIBUTIONS[distribution])(sde, u)
    rotated = (u[0] + torch.linspace(0, 1, 9, dtype=torch.float64)[:8]) % 1
    assert sorted((8 * rotated).long().tolist()) == list(range(8))  # one number in every eighth
    torch.testing.assert_close(t, DISTRIBUTIONS[distribution].times(sde, rotated))
    torch.testing.assert_close(density, DISTRIBUTIONS[distribution].density(sde, t))


def test_every_stratified_time_has_the_marginal_distribution():
    """The distribution function of the last of four times over even u_0."""
    sde = make("sde", "vp")
    last = torch.stack([Stratified()(sde, torch.stack([u] * 4)).t[3] for u in places(200)])
    torch.testing.assert_close(last.sort().values, UniformTime().times(sde, places(200)))


def test_importance_needs_a_finite_log_snr():
    with pytest.raises(ValueError, match="t_max below 1"):
        Importance()(make("sde", "rectified"), places(3))
    with pytest.raises(ValueError, match="above t_min"):
        Importance(t_max=1e-4)(make("sde", "rectified"), places(3))


def test_log_normal_levels_that_the_process_never_has():
    with pytest.raises(ValueError, match="no noise level of VP"):
        LogNormal(mean=60.0)(make("sde", "vp"), places(3))


@pytest.mark.parametrize("name", FINITE)
def test_likelihood_weight_with_uniform_and_with_importance_times_is_one_objective(name):
    """The expectation over u of weight / density * error(t), by quadrature, with the error of a fixed bad guess."""
    sde = make("sde", name)

    def error(t):
        return torch.sigmoid(0.3 * sde.log_snr(t))  # any smooth function of the noise level

    def expectation(sampler):
        t, density = sampler(sde, places(1500))
        return float((Likelihood()(sde, t) / density * error(t)).mean())

    # uniform times need a start away from t_min, where the weight is very large: stretch them by their cube
    u = places(100_000)
    t = sde.t_min + (1 - sde.t_min) * u**3
    by_uniform = float((Likelihood()(sde, t) * error(t) * 3 * (1 - sde.t_min) * u**2).mean())
    assert expectation(Importance()) == pytest.approx(by_uniform, rel=2e-3)
    assert expectation(Mixture(first=UniformTime(), second=Importance())) == pytest.approx(
        by_uniform, rel=2e-3
    )


@pytest.mark.parametrize("name", FINITE)
def test_importance_makes_the_likelihood_weight_constant(name):
    sde = make("sde", name)
    t, density = Importance()(sde, places(100))
    ratio = Likelihood()(sde, t) / density
    torch.testing.assert_close(ratio, ratio[0].expand(100), rtol=1e-6, atol=0)
    spread = sde.log_snr(torch.tensor(sde.t_min).double()) - sde.log_snr(torch.ones(()).double())
    assert float(ratio[0]) == pytest.approx(float(spread) / 2, rel=1e-6)


@pytest.mark.parametrize("name", names("sde"))
def test_weights_are_those_of_the_papers_on_the_error_of_x0(name):
    """Each is published as a weight on |x0 error|^2; a prediction carries the error of eps over to x0."""
    sde, generator = make("sde", name), torch.Generator().manual_seed(0)
    t = sde.t_min + (0.99 - sde.t_min) * places(9)
    x0, eps, wrong = torch.randn(3, 9, 2, generator=generator).double()
    alpha, sigma = sde.marginal(t)
    x_t = alpha[:, None] * x0 + sigma[:, None] * eps
    guess = Prediction.from_eps(x_t, eps + 0.1 * wrong, sde.marginal(t))
    x0_error, eps_error = mean_event((guess.x0 - x0) ** 2), mean_event((guess.eps - eps) ** 2)
    snr, s = torch.exp(sde.log_snr(t)), sigma / alpha
    published = {
        MinSNR(gamma=5.0): snr.clamp(max=5.0),
        TruncatedSNR(): snr.clamp(min=1.0),
        Simple(): snr,
    }
    for weighting, on_x0 in published.items():
        torch.testing.assert_close(weighting(sde, t) * eps_error, on_x0 * x0_error, rtol=1e-6, atol=0)
    on_x0 = (s**2 + 0.4**2) / (s * 0.4) ** 2
    ours = EDMWeighting(sigma_data=0.4)(sde, t) / LogNormal().density(sde, t)
    torch.testing.assert_close(ours * eps_error, on_x0 * x0_error, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", names("sde"))
def test_velocity_weight_measures_the_error_of_the_velocity(name):
    """The velocity is the derivative of alpha x0 + sigma eps in time, here by central differences."""
    sde, h = make("sde", name), 1e-6
    t = sde.t_min + 0.02 + 0.95 * (0.98 - sde.t_min) * places(9)
    after, before = sde.marginal(t + h), sde.marginal(t - h)
    x0_error = -sde.sigma(t) / sde.alpha(t)  # of a noise that is wrong by one
    velocity_error = ((after.alpha - before.alpha) * x0_error + after.sigma - before.sigma) / (2 * h)
    torch.testing.assert_close(VelocityError()(sde, t), velocity_error**2, rtol=1e-5, atol=0)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_density_weights_make_errors_count_equally(distribution):
    sde = make("sde", "sub_vp")
    t, density = DISTRIBUTIONS[distribution](sde, places(50))
    torch.testing.assert_close(
        TimeDensity(times=DISTRIBUTIONS[distribution])(sde, t) / density, torch.ones(50, dtype=torch.float64)
    )


@pytest.mark.parametrize("name", names("weighting"))
@pytest.mark.parametrize("process", names("sde"))
def test_weights_are_finite_and_positive(name, process):
    sde = make("sde", process)
    t = sde.t_min + (0.999 - sde.t_min) * torch.linspace(0, 1, 64, dtype=torch.float64)
    weighting = TimeDensity(times=UniformTime()) if name == "time_density" else make("weighting", name)
    weight = weighting(sde, t)
    assert weight.shape == t.shape
    assert bool((torch.isfinite(weight) & (weight >= 0)).all())


class KnowsTheAnswer(Denoiser):
    """Denoiser with the clean samples, whose eps is 0.5 too large; it stores the true eps."""

    def __init__(self, sde, x0):
        super().__init__()
        self.sde, self.x0 = sde, x0

    def forward(self, x_t, t):
        marginal = self.sde.marginal(t)
        self.eps = Prediction.from_x0(x_t, self.x0, marginal).eps
        return Prediction.from_eps(x_t, self.eps + 0.5, marginal)


@pytest.mark.parametrize("event", [(), (2,), (1, 3, 2), (2, 2, 1, 2)], ids=str)
@pytest.mark.parametrize("name", names("sde"))
def test_loss_is_the_weighted_error_of_the_noise_given(name, event):
    sde, distribution, seeds = make("sde", name), DISTRIBUTIONS["mixture"], range(6)
    x0 = torch.randn(6, *event, generator=torch.Generator().manual_seed(0)).double()
    model = KnowsTheAnswer(sde, x0)
    loss = DSM(time_sampler=distribution, weighting=Likelihood())(model, x0, noise=PerSample(seeds))
    noise = PerSample(seeds)
    t, density = distribution(sde, noise.uniform(x0))
    torch.testing.assert_close(loss.t, t)
    torch.testing.assert_close(model.eps, noise.normal(x0), rtol=1e-6, atol=1e-6)  # of x0 / sigma(t_min)
    torch.testing.assert_close(loss.error, torch.full((6,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(loss.per_sample, 0.25 * Likelihood()(sde, t) / density)


@pytest.mark.parametrize("distribution", ["uniform", "importance", "log_normal", "mixture"])
def test_expected_loss_is_the_error_of_the_exact_denoiser(distribution):
    """Against E|eps_hat - eps|^2 = 1 - E|eps_hat|^2 / D, true of a conditional mean; six standard errors."""
    sde, n = make("sde", "vp"), 20_000
    model, narrow = mixture(sde), LogNormal(mean=-1.0, std=0.5)  # times in the support of every distribution
    x0, again = model.sample(n, noise=IID.seeded(1)), model.sample(n, noise=IID.seeded(3))
    loss = DSM(time_sampler=DISTRIBUTIONS[distribution], weighting=TimeDensity(times=narrow))(
        model, x0, noise=IID.seeded(2)
    )
    t = narrow.times(sde, places(n))
    alpha, sigma = sde.marginal(t, like=again)
    x_t = alpha * again + sigma * IID.seeded(4).normal(again)
    expected = 1 - mean_event(model(x_t, t).eps ** 2)
    gap = loss.per_sample.mean() - expected.mean()
    assert abs(gap) < 6 * (loss.per_sample.var() / n + expected.var() / n) ** 0.5
    assert loss.per_sample.shape == loss.t.shape == loss.error.shape == (n,)


def test_a_sample_does_not_see_its_batch_and_gradients_flow():
    sde = make("sde", "vp")
    model, objective = mixture(sde), DSM(time_sampler=UniformTime(), weighting=Simple())
    x0 = model.sample(3, noise=IID.seeded(1)).requires_grad_()
    together = objective(model, x0, noise=PerSample([1, 2, 3])).per_sample
    alone = objective(model, x0[1:2], noise=PerSample([2])).per_sample
    torch.testing.assert_close(together[1:2], alone)
    together.sum().backward()
    assert bool(x0.grad.abs().sum(1).all())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Importance(t_max=0.0),
        lambda: LogNormal(std=0.0),
        lambda: Mixture(first=UniformTime(), second=UniformTime(), share=1.0),
        lambda: MinSNR(gamma=-1.0),
        lambda: EDMWeighting(sigma_data=0.0),
    ],
)
def test_impossible_settings(wrong):
    with pytest.raises(ValueError, match="must"):
        wrong()
