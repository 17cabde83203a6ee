"""Posteriors of simulation-based inference: exact conditional Gaussians against closed forms, and what is refused."""

import math

import pytest
import torch

from sde_gen.data.codec import Standardized
from sde_gen.data.conditioning import Unconditional, Vector
from sde_gen.data.simulator import NormalPrior, UniformPrior
from sde_gen.denoiser import Denoiser, GaussianDenoiser, Prediction
from sde_gen.inverse import AmortizedPosterior, ConditionalDensity, LikelihoodPosterior
from sde_gen.ode import Adams
from sde_gen.sde import VP

A = torch.tensor([[1.0, 0.4, -0.3], [0.2, -0.8, 0.5]], dtype=torch.float64)
PRIOR = NormalPrior([0.5, -1.0], [[2.0, 0.6], [0.6, 1.0]])
NOISE = 0.3 * torch.eye(3, dtype=torch.float64) + 0.05
X = torch.tensor([0.7, 0.4, -1.2])


def joint():
    """Mean and covariance of (theta, x) with x = A^T theta + noise."""
    full = torch.cat([torch.eye(2, dtype=torch.float64), A.mT])
    cov = full @ PRIOR.cov @ full.mT
    cov[2:, 2:] += NOISE
    return full @ PRIOR.mean, cov


def conditional(of, given, value):
    """Mean and covariance of some numbers of a Gaussian given others."""
    mean, cov = joint()
    gain = cov[of][:, given] @ torch.linalg.inv(cov[given][:, given])
    return mean[of] + gain @ (value - mean[given]), cov[of][:, of] - gain @ cov[given][:, of], gain


class ConditionalGaussian(Denoiser):
    """The exact denoiser of standardized numbers given the standardized others: its mean is affine in them."""

    def __init__(self, of, given, codec, conditioning):
        super().__init__()
        self.sde = VP(t_min=1e-5)
        mean, std = (
            torch.tensor(part, dtype=torch.float64) for part in (conditioning.mean, conditioning.std)
        )
        shift, scale = (torch.tensor(part, dtype=torch.float64) for part in (codec.mean, codec.std))
        center, cov, gain = conditional(of, given, mean)
        self.constant, self.gain = (center - shift) / scale, gain * std / scale[:, None]
        self.centered = GaussianDenoiser(
            sde=self.sde, mean=torch.zeros(len(of)), cov=cov / scale.outer(scale)
        )

    def forward(self, x_t, t, *, vector):
        shift = self.constant + vector[:, :-1].double() @ self.gain.mT
        p = self.centered(x_t.double() - self.sde.alpha(t) * shift, t)
        parts = (part.to(x_t.dtype) for part in (p.x0 + shift, p.eps, p.alpha, p.sigma))
        return Prediction(x_t, *parts)


THETA, OBSERVED = [0, 1], [2, 3, 4]


def density(of=THETA, given=OBSERVED, steps=48, **more):
    """The exact density, in units that are not those of the standardized numbers."""
    mean, cov = joint()
    std = cov.diagonal().sqrt()
    codec = Standardized(mean=(mean[of] + 0.3).tolist(), std=(1.5 * std[of]).tolist())
    conditioning = Vector(dropout=0.0, mean=mean[given].tolist(), std=std[given].tolist())
    denoiser = ConditionalGaussian(of, given, codec, conditioning)
    return ConditionalDensity(
        denoiser=denoiser,
        codec=codec,
        conditioning=conditioning,
        dim=len(of),
        integrator=Adams(steps=steps),
        **more,
    )


def exact():
    mean, cov, _ = conditional(THETA, OBSERVED, X.double())
    return torch.distributions.MultivariateNormal(mean, cov)


def test_mean_and_covariance_of_samples_are_those_of_the_posterior():
    """Within 2 % of the standard deviations: 60,000 draws have errors of 0.6 %."""
    draws = AmortizedPosterior(density()).sample((60_000,), X, seed=1).double()
    std = exact().stddev
    assert bool(((draws.mean(0) - exact().mean).abs() < 0.02 * std).all())
    torch.testing.assert_close(
        draws.T.cov() / std.outer(std), exact().covariance_matrix / std.outer(std), rtol=0, atol=0.02
    )


def test_log_density_is_that_of_the_posterior_in_units_of_theta():
    theta = exact().sample((50,)).float()
    found = AmortizedPosterior(density(), PRIOR).log_prob(theta, X)
    torch.testing.assert_close(found, exact().log_prob(theta.double()), rtol=0, atol=0.02)


def test_posterior_of_a_likelihood_by_importance_sampling():
    """The exact density of x given theta and Bayes' rule give the same posterior."""
    torch.manual_seed(0)
    posterior = LikelihoodPosterior(density(OBSERVED, THETA, steps=24), PRIOR, proposals=3000)
    theta = exact().sample((20,)).float()
    size = posterior.effective_sample_size(X)
    assert 30 < size < 3000
    found = posterior.log_prob(theta, X)
    torch.testing.assert_close(found, exact().log_prob(theta.double()), rtol=0, atol=6 / size**0.5)
    draws = posterior.sample((5000,), X).double()
    error = 6 * exact().stddev / size**0.5
    assert bool(((draws.mean(0) - exact().mean).abs() < error).all())
    relative = draws.T.cov().diagonal() / exact().variance
    assert bool(((relative - 1).abs() < 6 * (2 / size) ** 0.5).all())


def test_few_effective_samples_are_warned_of():
    posterior = LikelihoodPosterior(density(OBSERVED, THETA), PRIOR, proposals=60)
    with pytest.warns(UserWarning, match="effective sample size is .* of 60 proposals: give more proposals"):
        posterior.sample((100,), X)
    with pytest.raises(ValueError, match="proposals=0"):
        LikelihoodPosterior(density(OBSERVED, THETA), PRIOR, proposals=0)


def test_shapes_default_observation_and_seeds():
    posterior = AmortizedPosterior(density(batch_size=12))
    assert posterior.default_x is None
    with pytest.raises(ValueError, match=r"give x=\.\.\., or set one by set_default_x"):
        posterior.sample((3,))
    assert posterior.set_default_x(X[None]) is posterior
    torch.testing.assert_close(posterior.default_x, X[None])
    draws = posterior.sample((4, 5))
    assert draws.shape == (4, 5, 2)
    assert draws.dtype == torch.float32
    assert torch.equal(draws, posterior.sample((4, 5), X, show_progress_bars=False))
    assert not torch.equal(draws, posterior.sample((4, 5), seed=1))
    assert posterior.sample().shape == (2,)
    assert posterior.log_prob(draws[0]).shape == (5,)
    torch.testing.assert_close(posterior.log_prob(draws[0, 0])[0], posterior.log_prob(draws[0])[0])
    both = posterior.sample_batched((6,), torch.stack([X, X + 1]))
    assert both.shape == (6, 2, 2)
    assert torch.equal(both[:, 0], posterior.sample((6,), X))
    assert not torch.equal(both[:, 0], both[:, 1])


def test_samples_outside_the_prior_are_drawn_again_and_counted():
    mean = exact().mean
    prior = UniformPrior(mean.tolist(), (mean + 10).tolist())  # a quadrant
    posterior = AmortizedPosterior(density(), prior)
    with pytest.warns(UserWarning, match=r"of [\d,]+ samples lie outside the support of the prior") as found:
        draws = posterior.sample((500,), X)
    assert draws.shape == (500, 2)
    assert bool(prior.contains(draws).all())
    lost, drawn = (int(word.replace(",", "")) for word in str(found[0].message).split()[:3:2])
    assert drawn - lost == 500
    inside = prior.contains(AmortizedPosterior(density()).sample((4000,), X)).double().mean()
    assert abs(500 / drawn - inside) < 0.1
    far = UniformPrior((mean + 50).tolist(), (mean + 60).tolist())
    with pytest.raises(ValueError, match=r"3 of 3 samples lie outside the support .* after 100 rounds"):
        AmortizedPosterior(density(), far).sample((3,), X)


def test_parameters_outside_the_prior_have_no_density_and_are_counted():
    mean = exact().mean
    prior = UniformPrior(mean.tolist(), (mean + 10).tolist())
    theta = torch.stack([mean + 0.1, mean - 0.1, mean + 0.2]).float()
    with pytest.warns(UserWarning, match="1 of 3 parameters lie outside the support of the prior"):
        found = AmortizedPosterior(density(), prior).log_prob(theta, X)
    assert found[1] == -math.inf
    torch.testing.assert_close(found[[0, 2]], exact().log_prob(theta[[0, 2]].double()), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(2), r"x has shape \(2,\); expected \(3,\), as in training"),
        (torch.zeros(2, 3), r"x has shape \(2, 3\)"),
        (torch.tensor([0.0, math.nan, 0.0]), "not finite"),
    ],
)
def test_observations_that_do_not_fit_are_refused(x, words):
    for posterior in (AmortizedPosterior(density()), LikelihoodPosterior(density(OBSERVED, THETA), PRIOR)):
        for ask in (posterior.set_default_x, lambda x, one=posterior: one.sample((2,), x)):
            with pytest.raises(ValueError, match=words):
                ask(x)


def test_parameters_of_another_shape_are_refused():
    for prior in (PRIOR, None):
        with pytest.raises(ValueError, match=r"shape \(4, 3\); expected"):
            AmortizedPosterior(density(), prior).log_prob(torch.zeros(4, 3), X)


def test_models_that_read_no_vector_are_refused():
    parts = {
        "codec": Standardized(),
        "dim": 2,
        "denoiser": GaussianDenoiser(sde=VP(), mean=torch.zeros(2), cov=torch.eye(2)),
    }
    with pytest.raises(ValueError, match="conditions none; train one with conditioning=vector"):
        ConditionalDensity(conditioning=Unconditional(), **parts)
    with pytest.raises(ValueError, match="dim=0"):
        ConditionalDensity(conditioning=Vector(), **{**parts, "dim": 0})
