"""The log-density of the flow against exact mixtures on every process, and bits per dim against closed forms."""

import math

import pytest
import torch
from sklearn.datasets import load_digits

from sde_gen.data.codec import UniformCodec
from sde_gen.denoiser import GaussianDenoiser, MixtureDenoiser
from sde_gen.likelihood import bits_per_dim, estimate, log_prob
from sde_gen.likelihood.divergence import Exact, Hutchinson, HutchPlusPlus
from sde_gen.noise import IID, PerSample
from sde_gen.ode import RK4, DormandPrince, ScipyODE, TorchDiffEq
from sde_gen.ode.time_variable import DiffusionTime
from tests.helpers.catalogue import make, names

FINE = TorchDiffEq(method="dopri8", rtol=1e-7, atol=1e-7)
ONE = torch.ones((), dtype=torch.float64)


def mixture(sde, event=(2,)):
    """Three Gaussians with full covariances in model space of about unit size."""
    dim = math.prod(event)
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, dim, dim, generator=generator).double()
    return MixtureDenoiser(
        sde=sde,
        means=0.5 * torch.randn(3, *event, generator=generator).double(),
        covs=0.1 * root @ root.mT + 0.05 * torch.eye(dim),
        weights=torch.tensor([1.0, 2.0, 3.0]),
    )


class AtOne:
    """The mixture's own marginal at t = 1."""

    def __init__(self, model):
        self.model = model

    def log_prob(self, x):
        return self.model.log_prob(x, ONE)


@pytest.mark.parametrize("name", names("sde"))
def test_flow_gives_the_density_of_a_mixture(name):
    """Within 1e-5 nats if the prior is exact; with the Gaussian prior off by 0 (rectified) to 0.043 nats (VE)."""
    model = mixture(make("sde", name))
    x = model.sample(8, noise=IID.seeded(1))
    exact = model.log_prob(x, torch.tensor(model.sde.t_min, dtype=torch.float64))
    with torch.no_grad():
        usual = log_prob(model, x, integrator=FINE, divergence=Exact(), noise=IID.seeded(2))
    gap = model.sde.prior.log_prob(usual.z) - model.log_prob(usual.z, ONE)
    assert gap.abs().max() < 0.06
    torch.testing.assert_close(usual.nats - gap, exact, rtol=0, atol=1e-5)
    with torch.no_grad():
        found = log_prob(
            model, x, integrator=RK4(steps=8), divergence=Exact(), noise=IID.seeded(2), prior=AtOne(model)
        )
        other = log_prob(model, x, integrator=RK4(steps=8), divergence=Exact(), noise=IID.seeded(2))
    gap = model.sde.prior.log_prob(other.z) - model.log_prob(other.z, ONE)
    torch.testing.assert_close(
        other.nats - found.nats, gap, rtol=0, atol=1e-10
    )  # the prior given is the one used


@pytest.mark.long
@pytest.mark.parametrize("event", [(3,), (1, 2, 2), (2, 1, 1, 2)], ids=str)
def test_any_event_shape(event):
    model = mixture(make("sde", "vp"), event)
    x = model.sample(4, noise=IID.seeded(1))
    exact = model.log_prob(x, torch.tensor(model.sde.t_min, dtype=torch.float64))
    found = log_prob(
        model, x, integrator=FINE, divergence=Exact(chunk=3), noise=IID.seeded(2), prior=AtOne(model)
    )
    torch.testing.assert_close(found.nats, exact, rtol=0, atol=1e-5)
    assert found.z.shape == x.shape


def test_hutchinson_is_right_on_average_and_knows_its_error():
    """Four standard errors: a false alarm in 16,000 runs; the seed is fixed."""
    model = mixture(make("sde", "sub_vp"), (4,))
    x = model.sample(1, noise=IID.seeded(1)).expand(64, 4)
    exact = float(model.log_prob(x[:1], torch.tensor(model.sde.t_min, dtype=torch.float64)))
    found = log_prob(
        model,
        x,
        integrator=TorchDiffEq(rtol=1e-6, atol=1e-6),
        divergence=Hutchinson(probes=4),
        noise=PerSample(range(64)),
        prior=AtOne(model),
    )
    mean, se, _ = estimate(found.nats)
    assert se > 1e-4
    assert abs(mean - exact) < 4 * se
    reported = float(found.probe_se.square().mean().sqrt())  # of one sample; se is of the mean of 64
    assert 0.7 < reported / (se * 8) < 1.4


@pytest.mark.long
@pytest.mark.parametrize(
    "integrator",
    [
        RK4(steps=64),
        TorchDiffEq(rtol=1e-6, atol=1e-6),
        DormandPrince(rtol=1e-6, atol=1e-6),
        ScipyODE(method="DOP853", rtol=1e-8, atol=1e-8),
    ],
    ids=lambda integrator: type(integrator).__name__,
)
@pytest.mark.parametrize("sde", ["vp", "ve", "rectified"])
def test_integrators_agree(integrator, sde):
    """In the angle all of them reach the density of the mixture, on processes with and without rough ends in time."""
    model = mixture(make("sde", sde))
    x = model.sample(4, noise=IID.seeded(1))
    exact = model.log_prob(x, torch.tensor(model.sde.t_min, dtype=torch.float64))
    with torch.no_grad():
        found = log_prob(
            model, x, integrator=integrator, divergence=Exact(), noise=IID.seeded(2), prior=AtOne(model)
        )
    torch.testing.assert_close(found.nats, exact, rtol=0, atol=1e-4)


def test_diffusion_time_is_a_time_variable():
    model = mixture(make("sde", "sub_vp"))
    x = model.sample(4, noise=IID.seeded(1))
    angle, time = (
        log_prob(model, x, integrator=FINE, divergence=Exact(), noise=IID.seeded(2), variable=variable)
        for variable in (None, DiffusionTime(model.sde))
    )
    torch.testing.assert_close(angle.nats, time.nats, rtol=0, atol=1e-5)
    torch.testing.assert_close(angle.z, time.z, rtol=0, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("sde", ["vp", "sub_vp", "ve", "edm", "cosine"])
def test_steps_in_the_angle_err_less_than_steps_in_time(sde):
    """Sixteen steps each; the linear path alone is as smooth in t."""
    model = mixture(make("sde", sde))
    x = model.sample(8, noise=IID.seeded(1))
    exact = model.log_prob(x, torch.tensor(model.sde.t_min, dtype=torch.float64))
    errors = []
    for variable in (None, DiffusionTime(model.sde)):
        found = log_prob(
            model,
            x,
            integrator=RK4(steps=16),
            divergence=Exact(),
            noise=IID.seeded(2),
            prior=AtOne(model),
            variable=variable,
        )
        assert found.nfe == 64
        errors.append(float((found.nats - exact).abs().max()))
    assert errors[0] < 5e-4
    assert errors[0] < 0.1 * errors[1]


def test_fresh_probes_err_less():
    """Several times the deviation is saved over 32 steps, and none of the mean; five standard errors, fixed seed."""
    model = mixture(make("sde", "vp"), (8,))
    x = model.sample(1, noise=IID.seeded(1)).expand(512, 8)
    exact = float(model.log_prob(x[:1], torch.tensor(model.sde.t_min, dtype=torch.float64)))
    spread = []
    for fresh in (False, None):
        with torch.no_grad():
            found = log_prob(
                model,
                x,
                integrator=RK4(steps=32),
                divergence=Hutchinson(fresh=fresh),
                noise=IID.seeded(3),
                prior=AtOne(model),
            )
        mean, se, _ = estimate(found.nats)
        assert abs(mean - exact) < 5 * se
        spread.append(se)
    assert spread[0] > 2.5 * spread[1]


def test_hutch_plus_plus_is_right_on_average_and_knows_its_error():
    model = mixture(make("sde", "vp"), (8,))
    x = model.sample(1, noise=IID.seeded(1)).expand(256, 8)
    exact = float(model.log_prob(x[:1], torch.tensor(model.sde.t_min, dtype=torch.float64)))
    with torch.no_grad():
        found = log_prob(
            model,
            x,
            integrator=RK4(steps=32),
            divergence=HutchPlusPlus(sketch=2, probes=3),
            noise=IID.seeded(3),
            prior=AtOne(model),
        )
    mean, se, _ = estimate(found.nats)
    assert abs(mean - exact) < 5 * se
    reported = float(found.probe_se.square().mean().sqrt())
    assert reported < 1.4 * se * 16  # the draws of the subspace move nothing but the spread


def test_refuses_what_cannot_be():
    model = mixture(make("sde", "vp"))
    x = model.sample(2, noise=IID.seeded(1))
    with pytest.raises(
        ValueError, match=r"integrator=Heun\(\) must be an object of Integrator, such as Adams\(\)"
    ):
        log_prob(model, x, integrator=make("solver", "heun"), divergence=Exact(), noise=IID.seeded(0))
    for integrator in (TorchDiffEq(), DormandPrince(), ScipyODE()):
        with pytest.raises(ValueError, match="fresh=false"):
            log_prob(model, x, integrator=integrator, divergence=Hutchinson(fresh=True), noise=IID.seeded(0))
    for integrator in (DormandPrince(), ScipyODE()):
        with pytest.raises(ValueError, match="no gradients flow through"):
            log_prob(
                model, x.requires_grad_(), integrator=integrator, divergence=Exact(), noise=IID.seeded(0)
            )


@pytest.mark.long
def test_a_sample_does_not_depend_on_its_batch():
    model = mixture(make("sde", "vp"))
    x = model.sample(3, noise=IID.seeded(1))
    for integrator in (RK4(steps=16), DormandPrince(rtol=1e-3, atol=1e-3)):
        for divergence in (Hutchinson(), Hutchinson(fresh=False), HutchPlusPlus(sketch=1)):
            every = log_prob(
                model, x, integrator=integrator, divergence=divergence, noise=PerSample([5, 6, 7])
            )
            alone = log_prob(
                model, x[1:2], integrator=integrator, divergence=divergence, noise=PerSample([6])
            )
            torch.testing.assert_close(every.nats[1:2], alone.nats, rtol=0, atol=1e-10)


def test_bits_of_a_gaussian_fitted_to_digits():
    """The analytic score of N(mu, C) on dequantized digits returns the closed form on the same draw to 1e-3 bits."""
    levels = torch.from_numpy(load_digits().images).unsqueeze(1)[:200]
    codec = UniformCodec(levels=17)
    x = codec.encode(levels, IID.seeded(0)).double()
    flat = x.flatten(1)
    cov = torch.cov(flat.T) + 1e-4 * torch.eye(64, dtype=torch.float64)
    model = GaussianDenoiser(sde=make("sde", "sub_vp"), mean=flat.mean(0).reshape(1, 8, 8), cov=cov)
    found = log_prob(model, x[:3], integrator=TorchDiffEq(), divergence=Exact(chunk=64), noise=IID.seeded(1))
    distribution = torch.distributions.MultivariateNormal(flat.mean(0), cov)
    # the closed form in units of levels y, whose density is p(x) |dx / dy|
    closed = -(distribution.log_prob(flat[:3]) + 64 * math.log(2 / 17)) / (64 * math.log(2))
    torch.testing.assert_close(bits_per_dim(found.nats, x[:3], codec), closed, rtol=0, atol=1e-3)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0)])
def test_uniform_density_costs_the_logarithm_of_the_levels(levels, low, high):
    x = torch.zeros(2, 3, 4)
    nats = torch.full((2,), -12 * math.log(high - low))
    bits = bits_per_dim(nats, x, UniformCodec(levels=levels, low=low, high=high))
    torch.testing.assert_close(bits, torch.full((2,), math.log2(levels)))


def test_standard_error():
    mean, se, n = estimate(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert (mean, n) == (3.0, 4)
    assert se == pytest.approx((14 / 3) ** 0.5 / 2)
    assert math.isnan(estimate(torch.ones(1)).se)
