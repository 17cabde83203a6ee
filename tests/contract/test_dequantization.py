"""Dequantizations: weights that average to the probability of a level, bounds from below, draws inside the bin."""

import math

import pytest
import torch
from scipy.stats import multivariate_normal, norm

from sde_gen.data.codec import Affine, Lossy
from sde_gen.data.codec import UniformCodec as Uniform
from sde_gen.denoiser import GaussianDenoiser
from sde_gen.likelihood import ELBO, GaussianDecoder
from sde_gen.likelihood.dequantization import (
    Noised,
    TruncatedNormal,
    Variational,
    fit,
    importance_bound,
    load,
)
from sde_gen.likelihood.dequantization import UniformDequantization as UniformDequantization
from sde_gen.noise import IID, PerSample
from sde_gen.sde import VP
from tests.helpers.catalogue import make, names

CODEC = Uniform(levels=4)
LEVELS = torch.arange(4).unsqueeze(1)  # (4, 1): every level of one pixel
MEAN, STD = 0.1, 0.3


def bent(shape, width=8):
    """A variational dequantization that has not stayed uniform."""
    torch.manual_seed(0)
    flow = Variational(shape=shape, width=width, depth=2)
    for coupling in flow.couplings:
        torch.nn.init.normal_(coupling.net[-1].weight, std=0.5)
    return flow.requires_grad_(False)


def built(name, path=None, shape=(1,)):
    """The object of a yaml; a variational one is written and read."""
    if name != "variational":
        return make("dequantization", name)
    bent(shape).save(path / "flow.safetensors")
    return make("dequantization", name, path=str(path / "flow.safetensors"))


def gaussian(sde, dim=1):
    cov = STD**2 * torch.eye(dim, dtype=torch.float64)
    return GaussianDenoiser(sde=sde, mean=torch.full((dim,), MEAN, dtype=torch.float64), cov=cov)


def places(n):
    """Gaussian numbers at n even quantiles."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)


class Quantiles:
    """n^2 Gaussian numbers for every level: at even quantiles in one draw, or a grid of quantiles in two."""

    def __init__(self, n, draws):
        grid = [places(n).repeat(n), places(n).repeat_interleave(n)]
        self.draws = iter([places(n * n)] if draws == 1 else grid)

    def normal(self, x):
        return next(self.draws).repeat(len(LEVELS)).unsqueeze(1).to(x.dtype)


def log_weights(found, model):
    return model.log_prob(found.x, torch.tensor(found.t, dtype=torch.float64)) - found.log_q


@pytest.mark.parametrize("process", ["vp", "ve", "rectified"])
@pytest.mark.parametrize("name", names("dequantization"))
def test_weights_average_to_the_probability_of_every_level(name, process, tmp_path):
    """E_q[p / q] = P(k), by quadrature over the draws, against the Gaussian's distribution function."""
    model, n = gaussian(make("sde", process)), 150
    found = built(name, tmp_path)(
        model, LEVELS.repeat_interleave(n * n, 0), CODEC, Quantiles(n, 2 if name == "noised" else 1)
    )
    assert found.log_q.dtype == torch.float64
    logs = log_weights(found, model).reshape(4, n * n)
    mass = (torch.logsumexp(logs, 1) - math.log(n * n)).exp()
    scale, sigma = (float(part) for part in model.sde.marginal(torch.tensor(found.t, dtype=torch.float64)))
    edges = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])  # of the bins, in data space
    if name == "truncated_normal":  # whose points lie in the bins as the process carries them
        distribution = norm(MEAN, (STD**2 + (sigma / scale) ** 2) ** 0.5)
    elif name == "noised":  # whose decoder leads back to data space
        distribution = norm(MEAN, STD)
    else:
        distribution = norm(scale * MEAN, (scale**2 * STD**2 + sigma**2) ** 0.5)
    closed = torch.tensor(distribution.cdf(edges)).diff()
    torch.testing.assert_close(mass, closed, rtol=0, atol=5e-4)
    assert bool((logs.mean(1) < closed.log()).all())  # one draw is a bound from below


@pytest.mark.long
@pytest.mark.parametrize("name", names("dequantization"))
def test_importance_bound_rises_to_the_probability(name, tmp_path):
    """1,500 values of each level: never falls by four standard errors, and on average ends at the entropy."""
    model, draws, values = gaussian(VP()), built(name, tmp_path), LEVELS.repeat(1500, 1)
    bounds, errors = [], []
    for count in (1, 4, 32, 512):
        noise = IID.seeded(count)
        weights = torch.stack([log_weights(draws(model, values, CODEC, noise), model) for _ in range(count)])
        bound = importance_bound(weights).reshape(-1, 4)
        bounds.append(bound.mean(0))
        errors.append(bound.std(0) / len(bound) ** 0.5)
    for i in range(3):
        assert bool((bounds[i + 1] > bounds[i] - 4 * (errors[i] ** 2 + errors[i + 1] ** 2).sqrt()).all())
    found = draws(model, values[:4], CODEC, IID.seeded(0))
    spread = STD
    if name == "truncated_normal":
        spread = (STD**2 + math.exp(-float(VP().log_snr(torch.tensor(found.t).double())))) ** 0.5
    closed = torch.tensor(norm(MEAN, spread).cdf([-1.0, -0.5, 0.0, 0.5, 1.0])).diff()
    first, *_, last = (float(closed @ (closed.log() - bound)) for bound in bounds)
    assert first > 0.04  # one draw is far from it, so the rise is real
    assert last == pytest.approx(0, abs=0.01)


def test_a_missing_log_k_would_flatter():
    """Equal weights: K of them say no more than one."""
    weights = torch.randn(1, 5, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(importance_bound(weights.expand(20, 5)), weights[0])


@pytest.mark.parametrize("levels", [2, 17, 256, 4096])
@pytest.mark.parametrize("name", names("dequantization"))
def test_any_number_of_levels_and_any_event(name, levels, tmp_path):
    """Draws depend on their seed alone, and clean or little noised points stay in their bins."""
    codec, event = Uniform(levels=levels, low=0.0), (2, 1, 3)
    model = GaussianDenoiser(sde=VP(), mean=torch.zeros(event).double(), cov=torch.eye(6).double())
    k = torch.randint(levels, (5, *event), generator=torch.Generator().manual_seed(0))
    draws = built(name, tmp_path, event)
    found = draws(model, k, codec, PerSample(range(5)))
    alone = draws(model, k[2:3], codec, PerSample([2]))
    torch.testing.assert_close(alone.x, found.x[2:3])
    torch.testing.assert_close(alone.log_q, found.log_q[2:3])
    if name != "noised":
        at = found.x / float(VP().alpha(torch.tensor(found.t))) if name == "truncated_normal" else found.x
        assert torch.equal(codec.decode(at), k)


@pytest.mark.parametrize("tau", [0.5, 3.0])
def test_entropy_of_the_truncated_normal(tau):
    """E log q in closed form (Zheng et al., 2023, arXiv:2305.03935), against the mean over even quantiles."""
    model, n = gaussian(VP()), 100
    found = TruncatedNormal(tau=tau)(model, LEVELS.repeat_interleave(n * n, 0), CODEC, Quantiles(n, 1))
    alpha, sigma = (float(part) for part in model.sde.marginal(torch.tensor(found.t, dtype=torch.float64)))
    assert alpha / sigma * 0.25 == pytest.approx(tau)
    z = math.erf(tau / math.sqrt(2))
    closed = (
        -0.5 * (1 + math.log(2 * math.pi * sigma**2))
        - math.log(z)
        + tau / (math.sqrt(2 * math.pi) * z) * math.exp(-(tau**2) / 2)
    )
    assert float(found.log_q.mean()) == pytest.approx(closed, abs=1e-5)


def test_truncated_normal_stays_within_the_process():
    """DiscreteData so fine that the process ends before: the noise of t_min, hardly cut."""
    found = TruncatedNormal()(gaussian(make("sde", "ve")), LEVELS, Uniform(levels=4096), IID.seeded(0))
    assert found.t == make("sde", "ve").t_min


def test_continuous_data_pass_uniform_dequantization_unchanged():
    codec, values = Affine(shift=1.0, scale=2.0), torch.randn(3, 2)
    found = UniformDequantization()(gaussian(VP(), 2), values, codec, IID.seeded(0))
    torch.testing.assert_close(found.x, (values - 1) / 2)
    torch.testing.assert_close(found.log_q, torch.full((3,), 2 * math.log(2.0)).double())
    for draws in (TruncatedNormal(), bent((2,))):
        with pytest.raises(ValueError, match="continuous data"):
            draws(gaussian(VP(), 2), values, codec, IID.seeded(0))


class Rounded(Lossy):
    """Keeps the sign."""

    def encode(self, values, noise=None):
        return values.sign().float()

    def decode(self, x):
        return x

    def decode_image(self, x):
        return x


def test_lossy_codecs_are_refused():
    for draws in (UniformDequantization(), Noised()):
        with pytest.raises(ValueError, match="Rounded loses information"):
            draws(gaussian(VP()), LEVELS, Rounded(), IID.seeded(0))


def test_bounds_that_add_noise_themselves_refuse_noised_points():
    for draws in (TruncatedNormal(), Noised()):
        with pytest.raises(ValueError, match="dequantization=uniform or variational"):
            draws.clean(LEVELS, CODEC, IID.seeded(0))
    with pytest.raises(ValueError, match="dequantization=uniform or variational"):
        Noised(of=TruncatedNormal())(gaussian(VP()), LEVELS, CODEC, IID.seeded(0))


CORRELATED = torch.tensor([[0.09, 0.06], [0.06, 0.08]], dtype=torch.float64)


def probabilities(pairs):
    """P of pairs of levels under the correlated Gaussian, by SciPy's distribution function."""
    distribution = multivariate_normal([MEAN, -MEAN], CORRELATED)
    edges = [-1.0, -0.5, 0.0, 0.5, 1.0]
    return torch.tensor(
        [
            distribution.cdf([edges[i + 1], edges[j + 1]], lower_limit=[edges[i], edges[j]])
            for i, j in pairs.tolist()
        ]
    )


@pytest.mark.long
def test_variational_begins_uniform_and_ends_near_the_best():
    """On a correlated Gaussian in wide bins it closes four fifths of the gap from uniform to log P(k)."""
    sde = make("sde", "cosine")
    mean = torch.tensor([MEAN, -MEAN], dtype=torch.float64)
    model = GaussianDenoiser(sde=sde, mean=mean, cov=CORRELATED)
    values = CODEC.decode(model.sample(2000, noise=IID.seeded(0)))
    end = torch.tensor(sde.t_min, dtype=torch.float64)
    torch.manual_seed(1)
    flow = Variational(shape=(2,), width=32, depth=4)

    def gap(draws):
        """Mean of log P(k) - bound, with one draw each of the same noise."""
        with torch.no_grad():
            found = draws(model, values, CODEC, IID.seeded(3))
        log_p = torch.log(probabilities(torch.tensor([[i, j] for i in range(4) for j in range(4)])))
        return float((log_p[4 * values[:, 0] + values[:, 1]] - log_weights(found, model)).mean())

    uniform = gap(UniformDequantization())
    assert gap(flow) == pytest.approx(uniform, abs=1e-5)
    fit(flow, lambda x, rows: model.log_prob(x, end), values, CODEC, noise=IID.seeded(4), steps=600)
    assert 0 < gap(flow) < 0.2 * uniform


@pytest.mark.long
def test_variational_learns_from_a_bound_of_the_model():
    """From noisy estimates by the bound alone it does not end worse than uniform, and better than half way."""
    model = gaussian(make("sde", "cosine"), 2)
    values = CODEC.decode(model.sample(1000, noise=IID.seeded(0)))
    torch.manual_seed(1)
    flow, noise = Variational(shape=(2,), width=32, depth=2), IID.seeded(4)
    bound = ELBO(strata=4, repeats=1)
    losses = fit(
        flow,
        lambda x, rows: bound(model, x, decoder=GaussianDecoder(), noise=noise).nats,
        values,
        CODEC,
        noise=noise,
        steps=300,
        batch_size=128,
    )
    assert len(losses) == 300
    uniform, learned = (
        float(log_weights(draws(model, values, CODEC, IID.seeded(3)), model).detach().mean())
        for draws in (UniformDequantization(), flow)
    )
    best = torch.tensor(norm(MEAN, STD).cdf([-1.0, -0.5, 0.0, 0.5, 1.0])).diff().log()
    assert learned - uniform > 0.5 * (float(best[values].sum(1).mean()) - uniform)


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="file not found"):
        load(tmp_path / "nothing")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match="contains no dequantization"):
        load(tmp_path / "other")


def test_impossible_settings():
    with pytest.raises(ValueError, match="tau=0"):
        TruncatedNormal(tau=0.0)
    with pytest.raises(ValueError, match="depth=1"):
        Variational(shape=(2,), depth=1)
    with pytest.raises(ValueError, match="of shape"):
        bent((3,)).clean(LEVELS, CODEC, IID.seeded(0))
