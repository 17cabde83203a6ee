"""The oracles of all other tests, against autograd, quadrature, Monte Carlo and torch.distributions."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from sde_gen.denoiser import GaussianDenoiser, MixtureDenoiser
from sde_gen.noise import IID, PerSample
from tests.helpers.catalogue import make, names

SDES = names("sde")
TIMES = [
    torch.tensor(0.3, dtype=torch.float64),
    torch.tensor([0.02, 0.1, 0.4, 0.7, 0.95], dtype=torch.float64),
]


def mixture(sde: str, event: tuple[int, ...] = (3,)) -> MixtureDenoiser:
    """Three components with full, unlike covariances, one of them singular."""
    generator = torch.Generator().manual_seed(0)
    dim = math.prod(event)
    means = torch.randn(3, *event, dtype=torch.float64, generator=generator)
    roots = 0.4 * torch.randn(3, dim, dim, dtype=torch.float64, generator=generator)
    roots[2, :, 0] = 0
    weights = torch.tensor([1.0, 2.0, 5.0])
    return MixtureDenoiser(sde=make("sde", sde), means=means, covs=roots @ roots.mT, weights=weights)


def distribution(model: MixtureDenoiser, t: Tensor) -> MixtureSameFamily:
    """The density of x_t by torch.distributions, from what the constructor was given, for one time."""
    alpha, sigma = model.sde.marginal(t)
    covs = model.axes @ torch.diag_embed(model.variances) @ model.axes.mT
    spread = alpha**2 * covs + sigma**2 * torch.eye(covs.shape[-1])
    components = MultivariateNormal(alpha * model.means, spread)
    return MixtureSameFamily(Categorical(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)), components)


def points(event: tuple[int, ...] = (3,), dtype: torch.dtype = torch.float64) -> Tensor:
    return 1.5 * torch.randn(5, *event, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("event", [(3,), (1, 2, 3)])
@pytest.mark.parametrize("t", TIMES, ids=["scalar", "batch"])
def test_log_prob(sde: str, event: tuple[int, ...], t: Tensor) -> None:
    model, x = mixture(sde, event), points(event)
    expected = [distribution(model, u).log_prob(row.flatten()) for row, u in zip(x, t.expand(5), strict=True)]
    torch.testing.assert_close(model.log_prob(x, t), torch.stack(expected))


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("event", [(3,), (1, 2, 3)])
@pytest.mark.parametrize("t", TIMES, ids=["scalar", "batch"])
def test_score_is_the_gradient(sde: str, event: tuple[int, ...], t: Tensor) -> None:
    model, x = mixture(sde, event), points(event).requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_prob(x, t).sum(), x)
    prediction = model(x, t)
    torch.testing.assert_close(prediction.score, gradient, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(prediction.alpha * prediction.x0 + prediction.sigma * prediction.eps, x)


@pytest.mark.parametrize("sde", SDES)
def test_x0_is_the_posterior_mean(sde: str) -> None:
    """In one dimension by the trapezoidal rule over x_0: Bayes, with no Gaussian algebra."""
    process = make("sde", sde)
    means, stds, weights = torch.tensor([[-1.0, 0.8], [0.3, 0.5], [0.3, 0.7]], dtype=torch.float64)
    model = MixtureDenoiser(sde=process, means=means[:, None], covs=(stds**2)[:, None, None], weights=weights)
    x0 = torch.linspace(-6, 6, 24001, dtype=torch.float64)[:, None]
    prior = MixtureSameFamily(Categorical(weights), Normal(means, stds)).log_prob(x0)
    for t in TIMES[1]:
        alpha, sigma = process.marginal(t)
        x_t = alpha * torch.tensor([[-1.7], [-0.4], [0.1], [1.1]], dtype=torch.float64)
        posterior = torch.softmax(prior + Normal(alpha * x0, sigma).log_prob(x_t.mT), dim=0)
        prediction = model(x_t, t)
        torch.testing.assert_close(prediction.x0[:, 0], (posterior * x0).sum(0), rtol=1e-8, atol=1e-8)
        noise = (posterior * (x_t.mT - alpha * x0) / sigma).sum(0)
        torch.testing.assert_close(prediction.eps[:, 0], noise, rtol=1e-8, atol=1e-8)


def test_x0_by_importance_weighting() -> None:
    """In many dimensions by Monte Carlo over samples of the data."""
    model = mixture("vp", (2, 2))
    x0 = model.sample(400_000, noise=IID.seeded(3))
    t = torch.tensor(0.5, dtype=torch.float64)
    alpha, sigma = model.sde.marginal(t)
    x_t = points((2, 2))
    residual = (x_t[:, None] - alpha * x0) / sigma
    weights = torch.softmax(-0.5 * (residual**2).flatten(2).sum(-1), dim=1)
    estimate = torch.einsum("bn,nij->bij", weights, x0)
    spread = torch.sqrt(torch.einsum("bn,bnij->bij", weights**2, (x0 - estimate[:, None]) ** 2))
    assert ((model(x_t, t).x0 - estimate).abs() < 5 * spread).all()


def test_responsibilities() -> None:
    model, x = mixture("vp"), points()
    for t in TIMES:
        r = model.responsibilities(x, t)
        assert r.shape == (5, 3)
        for i, u in enumerate(t.expand(5)):
            q = distribution(model, u)
            joint = q.mixture_distribution.logits + q.component_distribution.log_prob(x[i])
            torch.testing.assert_close(r[i], torch.softmax(joint, 0))


def test_far_away_and_close_to_the_data() -> None:
    """No overflow where all densities underflow, and a mean that stays on a singular component."""
    model = mixture("sub_vp")
    t = torch.tensor(model.sde.t_min, dtype=torch.float64)
    far = model(1e4 * torch.ones(1, 3, dtype=torch.float64), t)
    assert torch.isfinite(far.x0).all()
    assert torch.isfinite(far.score).all()
    data = model.sample(50, noise=IID.seeded(0))
    torch.testing.assert_close(model(model.sde.alpha(t) * data, t).x0, data, rtol=0, atol=1e-5)


@pytest.mark.parametrize("event", [(3,), (1, 2, 2)])
def test_samples_have_the_moments(event: tuple[int, ...]) -> None:
    model, n = mixture("vp", event), 60_000
    x = model.sample(n, noise=IID.seeded(1))
    assert x.shape == (n, *event)
    weights = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64) / 8
    mean = weights @ model.means
    covs = model.axes @ torch.diag_embed(model.variances) @ model.axes.mT
    centered = model.means - mean
    cov = torch.einsum("k,kij->ij", weights, covs + centered[:, :, None] * centered[:, None])
    flat = x.flatten(1)
    assert ((flat.mean(0) - mean).abs() < 5 * torch.sqrt(cov.diag() / n)).all()
    assert ((flat.T.cov() - cov).abs() < 8 * cov.diag().max() / math.sqrt(n)).all()
    counts = torch.bincount(model.responsibilities(x, torch.tensor(0.01)).argmax(1), minlength=3) / n
    assert (counts - weights).abs().max() < 0.15  # components overlap


def test_a_sample_depends_on_its_seed_alone() -> None:
    model = mixture("vp")
    three = model.sample(3, noise=PerSample([1, 2, 3]))
    torch.testing.assert_close(model.sample(1, noise=PerSample([2])), three[1:2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_of_one_is_batch_of_many(dtype: torch.dtype) -> None:
    model, x = mixture("ve"), points(dtype=dtype)
    t = TIMES[1]
    together = model(x, t)
    for i in range(5):
        for one in (model(x[i : i + 1], t[i : i + 1]), model(x[i : i + 1], t[i])):
            assert one.x0.dtype == dtype
            torch.testing.assert_close(one.x0, together.x0[i : i + 1])
            torch.testing.assert_close(one.eps, together.eps[i : i + 1])


def test_gaussian_is_a_mixture_of_one() -> None:
    cov = torch.tensor([[0.5, 0.2], [0.2, 0.3]])
    mean = torch.tensor([1.0, -2.0])
    model = GaussianDenoiser(sde=make("sde", "edm"), mean=mean, cov=cov)
    x, t = points((2,)), torch.tensor(0.01, dtype=torch.float64)
    sigma = model.sde.sigma(t)
    gain = cov.double() @ torch.linalg.inv(cov.double() + sigma**2 * torch.eye(2))
    torch.testing.assert_close(model(x, t).x0, mean + (x - mean) @ gain.mT)
    expected = MultivariateNormal(mean.double(), cov.double() + sigma**2 * torch.eye(2)).log_prob(x)
    torch.testing.assert_close(model.log_prob(x, t), expected)


def test_mixture_denoiser_refuses_invalid_parameters() -> None:
    sde, means, covs = make("sde", "vp"), torch.zeros(2, 3), torch.eye(3).expand(2, 3, 3)
    bad = {
        "shape": {"covs": torch.eye(3)},
        "positive numbers": {"weights": torch.tensor([1.0, 0.0])},
        "2 positive": {"weights": torch.ones(3)},
        "semi-definite": {"covs": -covs},
        "symmetric": {"covs": covs + torch.triu(torch.ones(3, 3))},
        "finite": {"means": means * math.nan},
    }
    for message, wrong in bad.items():
        with pytest.raises(ValueError, match=message):
            MixtureDenoiser(**{"sde": sde, "means": means, "covs": covs, "weights": torch.ones(2), **wrong})
