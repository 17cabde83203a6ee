"""Simulators: reproducible draws, priors within their supports, and posteriors calibrated by the simulator itself."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from sde_gen.data.simulator import NormalPrior, Simulator, UniformPrior
from tests.helpers.catalogue import make, names

SIMULATORS = names("simulator")
FEW = {"slcp": 25}
"""Simulations where a posterior takes long."""


def rng(*seed):
    return np.random.default_rng([7, *seed])


@pytest.mark.parametrize("name", SIMULATORS)
def test_draws_depend_on_the_generator_alone(name):
    simulator = make("simulator", name)
    theta = simulator.prior.sample(50, rng(0))
    x = simulator.simulate(theta, rng(1))
    assert theta.shape == (50, simulator.prior.dim)
    assert theta.dtype == x.dtype == torch.float64
    assert torch.equal(theta, simulator.prior.sample(50, rng(0)))
    assert torch.equal(x, simulator.simulate(theta, rng(1)))
    assert not torch.equal(x, simulator.simulate(theta, rng(2)))
    draws = simulator.posterior(x[0], 20, rng(3))
    assert torch.equal(draws, simulator.posterior(x[0], 20, rng(3)))
    assert draws.shape == (20, simulator.prior.dim)
    assert bool(simulator.prior.contains(draws).all())


@pytest.mark.long
@pytest.mark.parametrize("name", SIMULATORS)
def test_posterior_is_calibrated(name):
    """With (theta, x) simulated, theta is one more draw of p(theta | x), so its rank among others is uniform.

    That involves the prior and the simulator, and not the likelihood. False alarms: below 1e-6 for every quantity.

    Sources: Talts et al., 2018, arXiv:1804.06788; with the likelihood among the quantities Modrak et al., 2023,
    arXiv:2211.02383.
    """
    simulator, count, draws = make("simulator", name), FEW.get(name, 250), 15
    theta = simulator.prior.sample(count, rng(4))
    x = simulator.simulate(theta, rng(5))
    ranks = []
    for i in range(count):
        others = simulator.posterior(x[i], draws, rng(6, i))
        both = torch.cat([theta[i : i + 1], others])
        log_p = simulator.log_likelihood(both, x[i])
        quantities = torch.cat([both, both.abs(), both[:, :1] * both[:, 1:2], log_p[:, None]], 1)
        ranks.append((quantities[1:] < quantities[:1]).sum(0))
    uniform = (torch.stack(ranks) + torch.from_numpy(rng(8).random((count, len(ranks[0]))))) / (draws + 1)
    smallest = min(stats.kstest(one, "uniform").pvalue for one in uniform.T.numpy())
    assert smallest > 1e-6


@pytest.mark.parametrize("name", [name for name in SIMULATORS if name != "two_moons"])
def test_likelihood_is_that_of_the_simulator(name):
    """The mean of the score over simulations is zero: within six standard errors, for every parameter."""
    simulator = make("simulator", name)
    theta = simulator.prior.sample(2, rng(9))[1:].expand(4000, -1).clone().requires_grad_()
    x = simulator.simulate(theta.detach(), rng(10))
    (score,) = torch.autograd.grad(simulator.log_likelihood(theta, x).sum(), theta)
    error = score.std(0) / len(score) ** 0.5
    assert bool((score.mean(0).abs() < 6 * error).all())
    curvature = torch.autograd.functional.hessian(
        lambda one: simulator.log_likelihood(one.expand(4000, -1), x).mean(), theta[:1].detach()
    )
    information = -curvature.reshape(len(error), -1).diagonal()  # Fisher's: the variance of the score
    torch.testing.assert_close(information, score.var(0), rtol=0.3, atol=1e-6)


def test_density_of_the_moons_is_one_of_points():
    simulator, theta = make("simulator", "two_moons"), torch.tensor([[0.3, -0.5]], dtype=torch.float64)
    side = torch.linspace(-1, 1, 1601, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    density = simulator.log_likelihood(theta, grid).exp()
    cell = float(side[1] - side[0]) ** 2
    assert float(density.sum()) * cell == pytest.approx(1, abs=0.01)
    x = simulator.simulate(theta.expand(20_000, 2), rng(11))
    mean = (density[:, None] * grid).sum(0) * cell
    assert bool(((x.mean(0) - mean).abs() < 0.005).all())


def test_posterior_of_the_moons_holds_no_parameters_that_cannot_have_made_the_point():
    """Where theta_1 + theta_2 is near zero, some of a crescent lies on the other side of the point."""
    simulator, x = make("simulator", "two_moons"), torch.tensor([0.345, 0.05], dtype=torch.float64)
    theta = simulator.posterior(x, 2000, rng(14))
    assert bool(torch.isfinite(simulator.log_likelihood(theta, x)).all())
    sigma = torch.hypot(x[0] - 0.25 + theta.sum(1).abs() / 2**0.5, x[1] - theta.diff(dim=1)[:, 0] / 2**0.5)
    assert float((sigma - 0.1).abs().max()) < 0.06  # the radius is N(0.1, 0.01^2)


def test_posterior_of_the_covariance_is_that_of_importance_sampling():
    """Mean and spread of log |S| given four points, by draws from the prior, weighed by the likelihood."""
    simulator = make("simulator", "slcp")
    x = torch.tensor([0.2, 0.1, 1.4, -0.3, -0.9, 0.8, 0.5, -1.3], dtype=torch.float64)

    def log_det(theta):
        return 4 * theta[:, 2:4].abs().log().sum(1) + torch.log1p(-(torch.tanh(theta[:, 4]) ** 2))

    theta = simulator.prior.sample(400_000, rng(15))
    weight = torch.softmax(simulator.log_likelihood(theta, x), 0)
    few = float(1 / weight.square().sum())
    found, proposed = log_det(simulator.posterior(x, 4000, rng(16))), log_det(theta)
    mean = (weight * proposed).sum()
    std = (weight * (proposed - mean) ** 2).sum().sqrt()
    assert few > 1000
    assert abs(float(found.mean() - mean)) < 5 * float(std) * (1 / few + 1 / 4000) ** 0.5
    assert float(found.std() / std) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("name", ["two_moons", "gaussian_mixture"])
def test_posterior_in_the_plane_is_the_likelihood_in_the_box(name):
    """Counts in cells against the integrated likelihood, by chi square; false alarms below 1e-6."""
    simulator = make("simulator", name)
    theta = torch.tensor([[0.6, 0.55]] if name == "two_moons" else [[9.7, -9.6]], dtype=torch.float64)
    x = simulator.simulate(theta, rng(12))[0]
    draws = simulator.posterior(x, 4000, rng(13))
    low, high = draws.amin(0) - 0.01, draws.amax(0) + 0.01
    low, high = torch.maximum(low, simulator.prior.low), torch.minimum(high, simulator.prior.high)
    fine, cells = 40, 8
    sides = [
        low[i] + (high[i] - low[i]) * (torch.arange(fine * cells) + 0.5) / (fine * cells) for i in (0, 1)
    ]
    density = (
        simulator.log_likelihood(torch.cartesian_prod(*sides), x).exp().reshape(cells, fine, cells, fine)
    )
    expected = density.sum((1, 3)).flatten()
    expected = expected / expected.sum() * len(draws)
    place = ((draws - low) / (high - low) * cells).long().clamp(0, cells - 1)
    found = torch.bincount(place[:, 0] * cells + place[:, 1], minlength=cells**2)
    often = expected > 8
    rest = torch.tensor([float(expected[~often].sum()), float(found[~often].sum())])
    chi2 = float(((found - expected)[often] ** 2 / expected[often]).sum())
    assert stats.chi2.sf(chi2, int(often.sum())) > 1e-6
    assert abs(rest[1] - rest[0]) < 6 * (rest[0] + 10) ** 0.5


def test_posterior_of_the_linear_gaussian_is_that_of_conditioning():
    """Of the joint Gaussian of (theta, x), whose blocks are conditioned by linear algebra."""
    simulator = make("simulator", "gaussian_linear", dim=3, prior_variance=0.5, noise_variance=0.2)
    x = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    joint = np.block([[0.5 * np.eye(3), 0.5 * np.eye(3)], [0.5 * np.eye(3), 0.7 * np.eye(3)]])
    gain = joint[:3, 3:] @ np.linalg.inv(joint[3:, 3:])
    mean, cov = gain @ x.numpy(), joint[:3, :3] - gain @ joint[3:, :3]
    draws = simulator.posterior(x, 200_000, rng(14)).numpy()
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.006)
    np.testing.assert_allclose(np.cov(draws.T), cov, atol=0.005)


def test_prior_of_the_filter_is_that_of_its_roughness():
    """Rows of F as printed: the precision of the filter is F^T F."""
    prior = make("simulator", "bernoulli_glm").prior
    f = np.zeros((9, 9))
    for i in range(1, 10):
        f[i - 1, i - 1] = 1 + math.sqrt((i - 1) / 9)
        if i > 1:
            f[i - 1, i - 2] = -2
        if i > 2:
            f[i - 1, i - 3] = 1
    precision = np.linalg.inv(prior.cov.numpy())
    np.testing.assert_allclose(precision[1:, 1:], f.T @ f, atol=1e-8)
    np.testing.assert_allclose(precision[0], [0.5, *[0] * 9], atol=1e-12)


def test_statistics_of_spikes_are_sufficient():
    """Bins of a neuron that always or never spikes are those of V: its columns, and sums of them."""
    simulator = make("simulator", "bernoulli_glm", length=20)
    always = torch.zeros(1, 10, dtype=torch.float64)
    always[0, 0] = 100.0
    torch.testing.assert_close(simulator.simulate(always, rng(15))[0], simulator.design.sum(0))
    assert not simulator.simulate(-always, rng(15)).any()
    stimulus = simulator.design[:, 1]
    for lag in range(9):
        torch.testing.assert_close(simulator.design[lag:, 1 + lag], stimulus[: 20 - lag])
        assert not simulator.design[:lag, 1 + lag].any()


class InOrder(np.random.Generator):
    """A generator whose permutations change nothing, or reverse."""

    reverse = False

    def permutation(self, count):
        return np.arange(count)[::-1].copy() if self.reverse else np.arange(count)


class Reversed(InOrder):
    reverse = True


def test_draws_of_the_posterior_of_spikes_are_in_random_order():
    """Those that are resampled come by decreasing weights: without a permutation a part of them is no fair part."""
    simulator = make("simulator", "bernoulli_glm", length=20)
    x = simulator.simulate(torch.zeros(1, 10, dtype=torch.float64), rng(17))[0]
    one, other = (simulator.posterior(x, 50, kind(np.random.PCG64(18))) for kind in (InOrder, Reversed))
    assert torch.equal(one, other.flip(0))
    shuffled = simulator.posterior(x, 50, np.random.Generator(np.random.PCG64(18)))
    assert torch.equal(shuffled.sort(0).values, one.sort(0).values)
    assert not torch.equal(shuffled, one)


def test_priors():
    box = UniformPrior([0.0, -1.0], [2.0, 3.0])
    points = torch.tensor([[1.0, 0.0], [2.5, 0.0], [1.0, -1.5]])
    volume, _ = integrate.dblquad(lambda b, a: 1.0, 0, 2, -1, 3)
    assert box.log_prob(points).tolist() == [pytest.approx(-math.log(volume)), -math.inf, -math.inf]
    assert box.contains(points).tolist() == [True, False, False]
    cov = [[2.0, 0.5], [0.5, 1.0]]
    normal = NormalPrior([1.0, -1.0], cov)
    expected = stats.multivariate_normal([1.0, -1.0], cov).logpdf(points.numpy())
    np.testing.assert_allclose(normal.log_prob(points), expected, rtol=1e-6)
    draws = normal.sample(100_000, rng(16))
    np.testing.assert_allclose(np.cov(draws.numpy().T), cov, atol=0.05)
    assert bool(normal.contains(1e9 * points).all())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: UniformPrior([0.0], [1.0, 2.0]), "one length"),
        (lambda: UniformPrior([0.0, 1.0], [1.0, 1.0]), "below its high"),
        (lambda: UniformPrior([0.0], [math.inf]), "finite"),
        (lambda: NormalPrior([0.0], [[1.0, 0.0], [0.0, 1.0]]), r"\(D, D\)"),
        (lambda: NormalPrior([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]), "positive definite"),
        (lambda: make("simulator", "gaussian_linear", noise_variance=0.0), "noise_variance=0.0"),
        (lambda: make("simulator", "bernoulli_glm", length=0), "length=0"),
    ],
)
def test_impossible_settings(wrong, words):
    with pytest.raises(Exception, match=words):
        wrong()


class Unknown(Simulator):
    """A simulator without a likelihood."""

    prior = UniformPrior([0.0], [1.0])

    def simulate(self, theta, rng):
        return theta


def test_a_posterior_that_is_not_known_is_refused():
    for ask in (
        lambda: Unknown().posterior(torch.zeros(1), 2, rng()),
        lambda: Unknown().log_likelihood(None, None),
    ):
        with pytest.raises(
            ValueError, match=r"Unknown has no reference posterior.*metrics=\[sbc,tarp,coverage\]"
        ):
            ask()
