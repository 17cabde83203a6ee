"""Variational bounds against exact mixtures, Gaussians and distributions on levels, with expectations by quadrature."""

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from sklearn.datasets import load_digits

from sde_gen.data.codec import Affine, UniformCodec
from sde_gen.denoiser import Denoiser, GaussianDenoiser, MixtureDenoiser
from sde_gen.denoiser.decoder import Decoder
from sde_gen.denoiser.prediction import Prediction
from sde_gen.grid import LogSNR
from sde_gen.likelihood import (
    ELBO,
    Categorical,
    DiscretizedGaussian,
    GaussianDecoder,
    bits_per_dim,
    discrete_vlb,
    estimate,
)
from sde_gen.noise import IID, PerSample
from sde_gen.objective.time_sampler import Importance, Log1pSNR, LogNormal, Mixture
from sde_gen.sde import VP
from sde_gen.solver import Ancestral
from tests.helpers import gaussian, oracles
from tests.helpers.catalogue import make, names
from tests.helpers.quadrature import Nodes, Shared

POINTS = torch.tensor([[0.4, 0.3], [-0.5, 0.6], [1.8, -0.9]], dtype=torch.float64)
STRATA = 200
MIDPOINT = 0.5 / STRATA
FINE = ELBO(times=Shared(Log1pSNR()), strata=STRATA, repeats=1)
FINITE = [name for name in names("sde") if name != "rectified"]  # whose log-SNR at t = 1 is finite


def log_density(x, alpha, sigma):
    """log p_t of the mixture by SciPy, from its definition."""
    parts = [
        math.log(weight)
        + multivariate_normal(alpha * mean, alpha**2 * cov + sigma**2 * np.eye(2)).logpdf(x.numpy())
        for mean, cov, weight in zip(*oracles.MIXTURE, strict=True)
    ]
    return torch.from_numpy(logsumexp(np.stack(parts), axis=0))


class TrueDecoder(Decoder):
    """q(x_0 | x_t) of the mixture, by Bayes' rule."""

    def log_prob(self, prediction, x0):
        alpha, sigma, x_t = float(prediction.alpha), float(prediction.sigma), prediction.x_t
        forward = torch.from_numpy(norm(0, sigma).logpdf((x_t - alpha * x0).numpy())).sum(1)
        return log_density(x0, 1.0, 0.0) + forward - log_density(x_t, alpha, sigma)


def prior_error(sde, noise):
    """E log p_1(x_1) / prior(x_1) given x_0: what a bound with the Gaussian prior is loose by."""
    alpha, sigma = (float(part) for part in sde.marginal(torch.ones(())))
    x0 = noise.repeat(POINTS)
    x_1 = alpha * x0 + sigma * noise.normal(x0)
    return noise.mean(
        log_density(x_1, alpha, sigma) - torch.from_numpy(norm(0, sigma).logpdf(x_1.numpy()).sum(1))
    )


@pytest.mark.parametrize("name", names("sde"))
def test_bound_of_an_exact_model_is_exact(name):
    """For every single x_0, once the prior's own error is taken out."""
    sde, noise = make("sde", name), Nodes(len(POINTS), u=MIDPOINT)
    bound = FINE(oracles.denoiser(sde), noise.repeat(POINTS), decoder=TrueDecoder(), noise=noise)
    found = noise.mean(bound.nats) + prior_error(sde, noise)
    torch.testing.assert_close(found, log_density(POINTS, 1.0, 0.0), rtol=0, atol=5e-4)
    assert bound.nfe == STRATA + 1


@pytest.mark.parametrize("name", names("sde"))
def test_gaussian_decoder_is_right_up_to_the_noise_at_its_time(name):
    """Its error is of the order of (sigma / alpha)^2 in units of the smallest variance, 1/4 of ours."""
    sde, noise = make("sde", name), Nodes(len(POINTS))
    once, model, x0 = replace(FINE, strata=1), oracles.denoiser(sde), noise.repeat(POINTS)
    true = once(model, x0, decoder=TrueDecoder(), noise=noise)
    found = once(model, x0, decoder=GaussianDecoder(), noise=noise)
    ratio = float(torch.exp(-sde.log_snr(torch.tensor(sde.t_min, dtype=torch.float64))))
    gap = noise.mean(found.reconstruction) - noise.mean(true.reconstruction)
    assert float(gap.abs().max()) < 40 * ratio + 1e-8
    torch.testing.assert_close(found.diffusion, true.diffusion)
    torch.testing.assert_close(found.prior, true.prior)


TIME_SAMPLERS = {
    "importance": Importance(),
    "log_normal": LogNormal(mean=-1.0, std=6.0),
    "mixture": Mixture(first=Importance(), second=Log1pSNR(), share=0.3),
}


@cache
def mean_diffusion(name, times):
    """The part of the bound between the ends, by many strata of a distribution of times."""
    noise = Nodes(len(POINTS), u=0.5 / 500, count=6)  # of any noise the part is the same by all times
    bound = replace(FINE, times=Shared(times), strata=500)
    model, x0 = oracles.denoiser(make("sde", name)), noise.repeat(POINTS)
    return noise.mean(bound(model, x0, decoder=GaussianDecoder(), noise=noise).diffusion)


@pytest.mark.parametrize("times", TIME_SAMPLERS)
@pytest.mark.parametrize(
    "name", ["vp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ve", "edm"))]
)
def test_density_of_times_divides_out(name, times):
    usual, other = mean_diffusion(name, Log1pSNR()), mean_diffusion(name, TIME_SAMPLERS[times])
    torch.testing.assert_close(other, usual, rtol=0, atol=2e-3)


class Shifted(Denoiser):
    """A denoiser whose noise is off by a constant, or has the wrong sign."""

    def __init__(self, model, shift=0.0, sign=1.0):
        super().__init__()
        self.sde, self.model, self.shift, self.sign = model.sde, model, shift, sign

    def forward(self, x_t, t, **cond):
        right = self.model(x_t, t, **cond)
        return Prediction.from_eps(x_t, self.sign * right.eps + self.shift, self.sde.marginal(t))


def gaussian_data():
    """Three nodes per dimension for the noise and for the data, exact for what is quadratic in both."""
    noise = Nodes(9, u=MIDPOINT, count=3)
    return noise, gaussian.DATA.mean + noise.nodes @ torch.linalg.cholesky(gaussian.DATA.cov).T


@pytest.mark.parametrize("name", FINITE)
def test_a_wrong_prediction_costs_half_its_square_per_log_snr(name):
    """On average over Gaussian data, where all is quadratic, so few nodes are exact; see Song et al., theorem 1."""
    sde = make("sde", name)
    inner, data = gaussian_data()
    bound = replace(FINE, times=Shared(Importance()), strata=4)  # the difference is the same at all times
    right, wrong, swapped = (
        bound(model, inner.repeat(data), decoder=GaussianDecoder(), noise=inner).diffusion
        for model in (
            gaussian.denoiser(sde),
            Shifted(gaussian.denoiser(sde), shift=0.1),
            Shifted(gaussian.denoiser(sde), sign=-1),
        )
    )
    spread = sde.log_snr(torch.tensor(sde.t_min).double()) - sde.log_snr(torch.ones(()).double())
    cost = (inner.mean(wrong - right) * inner.weights).sum()
    assert float(cost) == pytest.approx(0.5 * 2 * 0.1**2 * float(spread), rel=1e-6)
    assert float((inner.mean(swapped - right) * inner.weights).sum()) > 10


def chain_density(model, times, nu):
    """The distribution of the ancestral solver with the Gaussian decoder, measured by impulse responses."""
    sde = model.sde
    start = gaussian.GaussianMoments(
        torch.zeros(2, dtype=torch.float64), sde.sigma(times[0]) ** 2 * torch.eye(2, dtype=torch.float64)
    )
    end = gaussian.propagate(Ancestral(nu=nu), model, times, start)
    alpha, sigma = sde.marginal(times[-1])
    probes = torch.cat([torch.zeros(1, 2), torch.eye(2)]).double()
    seen = model(probes, times[-1]).x0
    shift, matrix = seen[0], (seen[1:] - seen[0]).T
    cov = matrix @ end.cov @ matrix.T + (sigma / alpha) ** 2 * torch.eye(2, dtype=torch.float64)
    return multivariate_normal(shift + matrix @ end.mean, cov)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "nu"), [*((name, 0.0) for name in names("sde")), ("vp", 1.0), ("rectified", 1.0)]
)
def test_discrete_bound_lies_below_its_chain_and_rises_to_the_data(name, nu):
    """On Gaussian data: below the density of what the solver samples; on average it rises to the data's, at order 1."""
    sde, (noise, data) = make("sde", name), gaussian_data()
    model, x0 = gaussian.denoiser(sde), noise.repeat(data)
    entropy = multivariate_normal(gaussian.DATA.mean, gaussian.DATA.cov).entropy()
    t_min = max(sde.t_min, float(sde.t_from_log_snr(torch.tensor(8.0, dtype=torch.float64))))
    gaps = []
    for steps in (32, 64, 128):
        times = LogSNR(t_min=t_min)(sde, steps)
        vlb = discrete_vlb(model, x0, times, decoder=GaussianDecoder(), noise=noise, nu=nu)
        found = noise.mean(vlb.nats)
        gaps.append(-entropy - float(found @ noise.weights))
        if steps == 32:
            sampled = torch.from_numpy(chain_density(model, times, nu).logpdf(data))
            assert bool((found <= sampled + 1e-9).all())
            assert vlb.nfe == steps + 1
            assert vlb.steps.shape == (len(x0), steps)
            torch.testing.assert_close(-(vlb.prior + vlb.steps.sum(1) + vlb.reconstruction), vlb.nats)
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert abs(gaps[0] - 6 * gaps[1] + 8 * gaps[2]) / 3 < 0.02  # extrapolated to no step at all, twice


def test_learned_variance_is_a_nu_per_pixel():
    sde, noise = make("sde", "vp"), Nodes(len(POINTS), count=3)
    model, x0, times = gaussian.denoiser(sde), noise.repeat(POINTS), LogSNR()(sde, 4)

    class Learned(Shifted):
        def forward(self, x_t, t, **cond):
            return replace(super().forward(x_t, t, **cond), aux=torch.full_like(x_t, 0.3))

    found = discrete_vlb(Learned(model), x0, times, decoder=GaussianDecoder(), noise=noise, nu=None)
    fixed = discrete_vlb(model, x0, times, decoder=GaussianDecoder(), noise=noise, nu=0.3)
    torch.testing.assert_close(found.steps, fixed.steps)
    with pytest.raises(ValueError, match="predicts none"):
        discrete_vlb(model, x0, times, decoder=GaussianDecoder(), noise=noise, nu=None)


class Cubature:
    """Nodes +-sqrt(D) e_i, whose mean is the Gaussian expectation of everything quadratic."""

    def __init__(self, samples, dim):
        self.nodes = (dim**0.5 * torch.cat([torch.eye(dim), -torch.eye(dim)]).double()).repeat(samples, 1)

    def normal(self, x):
        return self.nodes.reshape(x.shape)

    def uniform(self, x):
        return torch.full((len(x),), MIDPOINT, dtype=torch.float64)


def test_bits_of_a_gaussian_fitted_to_digits():
    """The bound with the analytic score of N(mu, C) is the closed form on the same dequantized digits, to 1e-3 bits."""
    codec = UniformCodec(levels=17)
    x = codec.encode(torch.from_numpy(load_digits().images).unsqueeze(1)[:200], IID.seeded(0)).double()
    flat, few = x.flatten(1), 3
    cov = torch.cov(flat.T) + 1e-4 * torch.eye(64, dtype=torch.float64)
    model = GaussianDenoiser(sde=make("sde", "sub_vp"), mean=flat.mean(0).reshape(1, 8, 8), cov=cov)
    rows = x[:few].repeat_interleave(128, 0)
    found = (
        FINE(model, rows, decoder=GaussianDecoder(), noise=Cubature(few, 64)).nats.reshape(few, 128).mean(1)
    )
    closed = torch.from_numpy(multivariate_normal(flat.mean(0), cov).logpdf(flat[:few]))
    torch.testing.assert_close(
        bits_per_dim(found, x[:few], codec), bits_per_dim(closed, x[:few], codec), rtol=0, atol=1e-3
    )


CODEC = UniformCodec(levels=4)
LEVELS = torch.tensor([[0, 1], [2, 2], [3, 0], [3, 3]])
SHARES = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)


def distribution_on_levels(sde):
    """A distribution on integer levels, the centers of their bins, with known entropy."""
    return MixtureDenoiser(
        sde=sde, means=CODEC.encode(LEVELS).double(), covs=torch.zeros(4, 2, 2), weights=SHARES
    )


@pytest.mark.long
@pytest.mark.parametrize("name", names("sde"))
def test_bits_of_a_distribution_on_levels(name):
    """No dequantization: the bound is the code length itself, -log2 of the share."""
    sde, noise = make("sde", name), Nodes(4, u=MIDPOINT, count=20)
    x0 = noise.repeat(CODEC.encode(LEVELS).double())
    bound = FINE(distribution_on_levels(sde), x0, decoder=Categorical(codec=CODEC), noise=noise)
    end = torch.tensor(sde.t_min, dtype=torch.float64)
    x_t = sde.alpha(end) * x0 + sde.sigma(end) * noise.normal(x0)
    cut = DiscretizedGaussian(codec=CODEC).log_prob(distribution_on_levels(sde)(x_t, end), x0)
    for reconstruction in (bound.reconstruction, -cut):  # the level is certain
        assert noise.mean(reconstruction - CODEC.log_det(x0)).abs().max() < 1e-6
    prior = 0.5 * x0.square().sum(1) * torch.exp(sde.log_snr(torch.ones((), dtype=torch.float64)))
    torch.testing.assert_close(bound.prior, prior)
    found = bits_per_dim(noise.mean(bound.nats + bound.prior), LEVELS, CODEC)
    torch.testing.assert_close(found, -torch.log2(SHARES) / 2, rtol=0, atol=5e-4)


@pytest.mark.parametrize(
    "decoder", [DiscretizedGaussian(codec=CODEC), Categorical(codec=CODEC)], ids=lambda d: type(d).__name__
)
@pytest.mark.parametrize("noise_level", [-8.0, 0.0, 6.0])
def test_decoders_of_levels_are_distributions_on_levels(decoder, noise_level):
    """The probabilities of all pairs of levels sum to one, however much noise there is."""
    sde = VP()
    t = sde.t_from_log_snr(torch.tensor(noise_level, dtype=torch.float64))
    pairs = torch.tensor(list(itertools.product(range(4), repeat=2)))
    x_t = torch.tensor([[0.3, -5.0]]).double().expand(16, 2)
    prediction = oracles.denoiser(sde)(x_t, t)
    mass = torch.exp(decoder.log_prob(prediction, CODEC.encode(pairs)) + CODEC.log_det(pairs))
    assert float(mass.sum()) == pytest.approx(1, rel=1e-12)
    if isinstance(decoder, DiscretizedGaussian):
        edges = norm(prediction.x0[0], float(prediction.sigma / prediction.alpha)).cdf(
            np.array([[-np.inf], [-0.5], [0.0], [0.5], [np.inf]])
        )
        each = np.diff(edges, axis=0)
        np.testing.assert_allclose(mass, each[pairs[:, 0], 0] * each[pairs[:, 1], 1], rtol=1e-6, atol=1e-15)


def test_mass_of_a_bin_in_the_far_tail_is_tiny_not_nothing():
    """Against the leading term of Mills' ratio, right to 1 / z^2."""
    sde, x0 = VP(), torch.full((1, 1), 0.25, dtype=torch.float64)
    for codec_level, sign in ((0.25, 1.0), (-0.25, -1.0)):
        x0 = torch.full((1, 1), codec_level, dtype=torch.float64)
        t = sde.t_from_log_snr(torch.tensor(2 * math.log(40), dtype=torch.float64))
        prediction = Prediction.from_x0(x0, torch.full_like(x0, -sign), sde.marginal(t))
        found = float(DiscretizedGaussian(codec=CODEC).log_prob(prediction, x0)) + CODEC.log_det(x0).item()
        z = 40.0  # the nearer edge lies one unit from the mean, 40 standard deviations of 1 / 40
        assert found == pytest.approx(-0.5 * z**2 - math.log(z * math.sqrt(2 * math.pi)), abs=2 / z**2)


def test_levels_of_continuous_data_are_refused():
    sde, noise = VP(), Nodes(len(POINTS))
    for decoder in (DiscretizedGaussian(codec=Affine()), Categorical(codec=Affine())):
        with pytest.raises(ValueError, match="continuous data, which have no levels"):
            ELBO()(oracles.denoiser(sde), noise.repeat(POINTS), decoder=decoder, noise=noise)


def test_reported_error_is_the_spread_of_the_estimate():
    """Four standard errors and a quarter of the spread of 300 estimates; right on average, whatever the strata."""
    sde = make("sde", "sub_vp")
    model, exact = oracles.denoiser(sde), Nodes(1, u=MIDPOINT)
    known = exact.mean(FINE(model, exact.repeat(POINTS[:1]), decoder=GaussianDecoder(), noise=exact).nats)
    spread = []
    for strata in (1, 4):
        bound = ELBO(strata=strata, repeats=2)(
            model, POINTS[:1].expand(300, 2), decoder=GaussianDecoder(), noise=PerSample(range(300))
        )
        mean, se, _ = estimate(bound.nats)
        assert abs(mean - float(known)) < 4 * se
        assert 0.75 < float(bound.se.square().mean().sqrt()) / (se * 300**0.5) < 1.3
        spread.append(se)
    assert spread[1] < 0.55 * spread[0]  # four times spread evenly are better than half


def test_reported_error_of_the_discrete_bound():
    sde, times = make("sde", "vp"), LogSNR()(make("sde", "vp"), 8)
    vlb = discrete_vlb(
        oracles.denoiser(sde),
        POINTS[:1].expand(300, 2),
        times,
        decoder=GaussianDecoder(),
        noise=PerSample(range(300)),
        repeats=2,
    )
    spread = float(vlb.nats.std())
    assert 0.75 < float(vlb.se.square().mean().sqrt()) / spread < 1.3
    assert vlb.nfe == 18


@pytest.mark.parametrize("event", [(2,), (1, 2), (2, 1, 1)], ids=str)
def test_a_sample_does_not_see_its_batch_and_gradients_flow(event):
    model = oracles.denoiser(VP(), event=event)
    x0 = POINTS.reshape(3, *event).clone().requires_grad_()

    def both(x, seeds):
        bound = ELBO(strata=2, repeats=1)(model, x, decoder=GaussianDecoder(), noise=PerSample(seeds))
        vlb = discrete_vlb(model, x, LogSNR()(VP(), 3), decoder=GaussianDecoder(), noise=PerSample(seeds))
        assert bool(bound.se.isnan().all() & vlb.se.isnan().all())  # one repeat shows no spread
        return torch.stack([bound.nats, vlb.nats])

    together = both(x0, [7, 8, 9])
    torch.testing.assert_close(both(x0[1:2], [8]), together[:, 1:2])
    (gradient,) = torch.autograd.grad(together[0].sum(), x0)
    step = torch.zeros_like(x0).flatten(1)
    step[:, 1] = 1e-6
    step = step.reshape(x0.shape)
    slope = (both(x0 + step, [7, 8, 9]) - both(x0 - step, [7, 8, 9]))[0] / 2e-6
    torch.testing.assert_close(gradient.flatten(1)[:, 1], slope, rtol=1e-5, atol=1e-5)


def test_times_that_leave_out_a_part_are_refused():
    model = oracles.denoiser(VP())
    for times in (Importance(t_max=0.9), Mixture(first=Importance(t_max=0.5), second=Importance(t_max=0.6))):
        with pytest.raises(ValueError, match="a part of the bound"):
            ELBO(times=times)(model, POINTS, decoder=GaussianDecoder(), noise=IID.seeded(0))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda **k: ELBO(strata=0), "at least 1"),
        (lambda **k: ELBO(repeats=0), "at least 1"),
        (lambda **k: discrete_vlb(times=torch.tensor([0.1, 0.5]), **k), "descending"),
        (lambda **k: discrete_vlb(times=torch.tensor([0.5]), **k), "descending"),
        (lambda **k: discrete_vlb(times=torch.tensor([0.5, 0.1]), nu=1.5, **k), "nu=1.5"),
        (lambda **k: discrete_vlb(times=torch.tensor([0.5, 0.1]), repeats=0, **k), "repeats=0"),
    ],
)
def test_impossible_settings(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong(denoiser=oracles.denoiser(VP()), x0=POINTS, decoder=GaussianDecoder(), noise=IID.seeded(0))
