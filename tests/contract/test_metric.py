"""Metrics: one number per image that depends on its seed alone, right on a model whose answer is known."""

import math
from dataclasses import replace

import pytest
import torch

from sde_gen.data.codec import Affine
from sde_gen.data.codec import UniformCodec as Uniform
from sde_gen.denoiser import Denoiser, GaussianDenoiser, MixtureDenoiser, NetworkDenoiser, TruncatedProcess
from sde_gen.evaluation.metric import (
    BitsPerDim,
    ContinuousBound,
    DequantizedData,
    DiscreteData,
    ImportanceBits,
)
from sde_gen.likelihood.dequantization import Noised, TruncatedNormal
from sde_gen.likelihood.dequantization import UniformDequantization as Dequantize
from sde_gen.likelihood.divergence import Exact, Hutchinson
from sde_gen.noise import IID, PerSample
from sde_gen.ode import RK4, TorchDiffEq
from tests.helpers.catalogue import make, names, target

EVENT = (1, 2, 2)
MEAN = torch.tensor([0.3, -0.2, 0.1, 0.0], dtype=torch.float64)
ROOT = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
COV = 0.02 * ROOT @ ROOT.mT + 0.02 * torch.eye(4, dtype=torch.float64)
CODEC = Uniform(levels=17)


def model():
    """On the process whose ends are nearest to data and prior."""
    return GaussianDenoiser(sde=make("sde", "cosine"), mean=MEAN.reshape(EVENT), cov=COV)


def values(count=5):
    """DiscreteData that the model finds likely."""
    return CODEC.decode(model().sample(count, noise=IID.seeded(1))).to(torch.uint8)


STEPS = {"_target_": "sde_gen.ode.RK4", "steps": 8}
PROBES = {"_target_": "sde_gen.likelihood.divergence.Hutchinson", "probes": 2}
DENSITY = {
    "data_term": {"dequantization": {"_target_": "sde_gen.likelihood.dequantization.UniformDequantization"}}
}
PARTS = {
    "bpd": {"integrator": STEPS, "divergence": PROBES},
    "importance": {
        "integrator": STEPS,
        "divergence": {"_target_": "sde_gen.likelihood.divergence.Exact"},
        **DENSITY["data_term"],
        "draws": 2,
    },
    "elbo": DENSITY,
    "elbo_levels": {},
    "vlb": {"steps": 8},
    "vlb_density": {"steps": 8, **DENSITY},
    "vlb_last_step": {"steps": 8},
}


OF_DATA = [
    name
    for name in names("metric")
    if not (target("metric", name).of_samples or target("metric", name).of_posteriors)
    and not target("metric", name).of_latents
    and target("metric", name).trained is NetworkDenoiser
]
"""Metrics of the density of data; the others need an autoencoder (tests/unit/data/test_latent.py)."""


@pytest.mark.parametrize("name", OF_DATA)
def test_one_number_per_image_whatever_the_batch(name):
    metric, data = make("metric", name, **PARTS[name]), values()
    measured = metric(model(), data, CODEC, [3, 1, 4, 1, 5])
    together = measured.value
    for part in (*measured.random_errors.values(), *measured.biases.values()):
        assert part.shape == (5,)
        assert part.dtype == torch.float64
    assert together.shape == (5,)
    assert together.dtype == torch.float64
    assert bool(torch.isfinite(together).all())
    alone = metric(model(), data[2:3], CODEC, [4]).value
    torch.testing.assert_close(together[2:3], alone, rtol=0, atol=1e-5)  # float32 sums in another order
    other = metric(model(), data, CODEC, [30, 10, 40, 10, 50]).value
    assert (together - other).abs().min() > 1e-4
    assert metric.what
    assert metric.unit


def test_bits_of_a_gaussian():
    """The closed form in units of levels, with the dequantization that the seeds stand for."""
    data, seeds = values(), [3, 1, 4, 1, 5]
    metric = BitsPerDim(integrator=TorchDiffEq(rtol=1e-6, atol=1e-6), divergence=Exact())
    levels = (CODEC.encode(data, PerSample(seeds)).double().flatten(1) + 1) * 8.5
    assert torch.equal(levels.floor().long(), data.flatten(1).long())
    distribution = torch.distributions.MultivariateNormal(
        (MEAN + 1) * 8.5, COV * 8.5**2
    )  # of the levels themselves
    found = metric(model(), data, CODEC, seeds).value
    torch.testing.assert_close(found, -distribution.log_prob(levels) / 4 / math.log(2), rtol=0, atol=1e-3)


def test_error_of_the_ode_is_reported():
    """Few steps on a Gaussian: the offset is the distance to the closed form."""
    data = MEAN.float() + torch.randn(5, 4, generator=torch.Generator().manual_seed(2)) * 0.2
    metric = BitsPerDim(integrator=RK4(steps=4), divergence=Exact(), diagnose_every=1)
    found = metric(model(), data.reshape(5, *EVENT).double(), Affine(shift=0.0, scale=1.0), range(5))
    distribution = torch.distributions.MultivariateNormal(MEAN, COV)
    offset = found.value + distribution.log_prob(data.double()) / 4 / math.log(2)
    assert float(offset.abs().max()) > 1e-3, "the discretization error is visible with these steps"
    torch.testing.assert_close(found.biases["ODE"], offset, rtol=0.15, atol=1e-3)


def test_spread_of_probes_is_that_of_repeats():
    """Continuous data have no dequantization: what differs between equal images are their probes."""
    image = (MEAN + 0.1).reshape(1, *EVENT).expand(400, *EVENT)
    metric = BitsPerDim(integrator=RK4(steps=6), divergence=Hutchinson(), diagnose_every=1)
    found = metric(model(), image, Affine(shift=0.0, scale=1.0), range(400))
    assert found.value.std() > 1e-2
    torch.testing.assert_close(
        found.random_errors["probes"].square().mean().sqrt(), found.value.std(), rtol=0.15, atol=0
    )
    torch.testing.assert_close(
        found.random_errors["dequantization"], torch.zeros(400).double(), rtol=0, atol=1e-12
    )


def test_spread_of_dequantization_is_that_of_repeats():
    """With the exact divergence nothing else is random."""
    image, seeds = values(1).expand(1200, *EVENT), range(1200)
    metric = BitsPerDim(integrator=RK4(steps=6), divergence=Exact(), diagnose_every=3)
    found = metric(model(), image, CODEC, seeds)
    near = torch.arange(1200) % 3 == 0
    assert bool((found.random_errors["dequantization"].isfinite() == near).all())
    assert bool((found.biases["ODE"].isfinite() == near).all())
    assert found.random_errors["probes"][near].abs().max() == 0
    torch.testing.assert_close(
        found.random_errors["dequantization"][near].square().mean().sqrt(),
        found.value.std(),
        rtol=0.15,
        atol=0,
    )


def test_error_of_the_ode_bears_no_noise_of_probes():
    """Coarse and fine have the same probes for the whole solve: fresh or other ones would differ by 0.01 and more."""
    image = (MEAN + 0.1).reshape(1, *EVENT).expand(30, *EVENT)
    metric = BitsPerDim(integrator=RK4(steps=24), divergence=Hutchinson(), diagnose_every=1)
    found = metric(model(), image, Affine(shift=0.0, scale=1.0), range(30))
    assert found.random_errors["probes"].square().mean().sqrt() > 5e-3
    assert found.biases["ODE"].abs().max() < 5e-4


class LabelDependent(Denoiser):
    """Data that lie elsewhere if the label is 1."""

    def __init__(self):
        super().__init__()
        self.one, self.other = (
            GaussianDenoiser(sde=make("sde", "cosine"), mean=mean.reshape(EVENT), cov=COV)
            for mean in (MEAN, -3 * MEAN)
        )
        self.sde = self.one.sde

    def forward(self, x_t, t, *, label):
        first, second = self.one(x_t, t), self.other(x_t, t)
        here = label.view(-1, 1, 1, 1) == 0
        return replace(
            first, x0=torch.where(here, first.x0, second.x0), eps=torch.where(here, first.eps, second.eps)
        )

    def rows(self, index, count):
        return self


def test_error_diagnosis_keeps_the_labels_of_its_images():
    metric = BitsPerDim(integrator=RK4(steps=4), divergence=Exact(), diagnose_every=2)
    data, seeds, labels = values(4), [4, 1, 3, 2], torch.tensor([0, 0, 1, 1])
    found = metric(LabelDependent().bind(label=labels), data, CODEC, seeds)
    for row in (0, 3):
        alone = metric(
            LabelDependent().bind(label=labels[row : row + 1]),
            data[row : row + 1],
            CODEC,
            seeds[row : row + 1],
        )
        torch.testing.assert_close(found.value[row], alone.value[0], rtol=0, atol=1e-5)
        mine, its = (one.random_errors["dequantization"] for one in (found, alone))
        torch.testing.assert_close(mine[row], its[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(found.biases["ODE"][row], alone.biases["ODE"][0], rtol=0, atol=1e-5)
    assert (
        abs(found.value[3] - metric(LabelDependent().bind(label=0 * labels), data, CODEC, seeds).value[3])
        > 0.1
    )


def test_several_draws_need_the_exact_divergence():
    parts = {"dequantization": Dequantize(), "integrator": RK4(steps=4)}
    with pytest.raises(ValueError, match="no upper bound"):
        ImportanceBits(**parts, divergence=Hutchinson(), draws=2)
    ImportanceBits(**parts, divergence=Exact(), draws=2)


def test_error_diagnosis_changes_no_value():
    options = {"integrator": RK4(steps=4), "divergence": Hutchinson()}
    with_parts, without = (
        BitsPerDim(**options, diagnose_every=diagnose_every)(model(), values(), CODEC, range(5))
        for diagnose_every in (1, None)
    )
    assert torch.equal(with_parts.value, without.value)
    assert not without.random_errors
    for diagnose_every in (0, 1.5, True):
        with pytest.raises(ValueError, match="diagnose_every="):
            BitsPerDim(**options, diagnose_every=diagnose_every)


def test_bits_of_continuous_data_are_in_their_own_units():
    data = MEAN.float() + torch.randn(3, 4, generator=torch.Generator().manual_seed(2)) * 0.2
    data = (5 + 3 * data).reshape(3, *EVENT)
    metric = BitsPerDim(integrator=TorchDiffEq(rtol=1e-6, atol=1e-6), divergence=Exact())
    distribution = torch.distributions.MultivariateNormal(5 + 3 * MEAN, 9 * COV)
    found = metric(model(), data, Affine(shift=5.0, scale=3.0), [0, 1, 2]).value
    torch.testing.assert_close(
        found, -distribution.log_prob(data.double().flatten(1)) / 4 / math.log(2), rtol=0, atol=1e-3
    )


LEVELS = Uniform(levels=4)
PAIRS = torch.tensor([[0, 1], [2, 2], [3, 0], [3, 3]])
SHARES = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)


@pytest.mark.parametrize("name", ["elbo_levels", "vlb"])
def test_bounds_of_a_distribution_on_levels(name):
    """-log2 of the share for every pair of levels, from above: by the chain's steps only, else within four errors."""
    model = MixtureDenoiser(
        sde=make("sde", "vp"), means=LEVELS.encode(PAIRS), covs=torch.zeros(4, 2, 2), weights=SHARES
    )
    parts = {"vlb": {"steps": 256, "nu": 0.0}, "elbo_levels": {}}[name]
    metric = make("metric", name, **parts, data_term={"width": 0.1})
    found = metric(model, PAIRS.repeat(200, 1), LEVELS, range(800)).value.reshape(200, 4)
    gap = found.mean(0) + torch.log2(SHARES) / 2
    error = found.std(0) / 200**0.5
    chain = 0.1 if name == "vlb" else 0.0
    assert bool((gap > -4 * error).all())
    assert bool((gap < 4 * error + chain).all())


def test_continuous_data_have_bounds_of_their_density_only():
    """Mean and error over many seeds of one point, against the Gaussian's density in the data's own units."""
    codec = Affine(shift=5.0, scale=3.0)
    point = (5 + 3 * (MEAN + 0.1)).float().reshape(1, *EVENT).expand(300, *EVENT)
    metric = ContinuousBound(data_term=DequantizedData())
    distribution = torch.distributions.MultivariateNormal(5 + 3 * MEAN, 9 * COV)
    closed = -float(distribution.log_prob(point[0].double().flatten())) / 4 / math.log(2)
    found = metric(model(), point, codec, range(300)).value
    assert abs(float(found.mean()) - closed) < 4 * float(found.std()) / 300**0.5
    for name in ("elbo_levels", "vlb"):
        with pytest.raises(ValueError, match=r"metrics=\[elbo\]"):
            make("metric", name)(model(), point[:2], codec, [0, 1])


def test_one_draw_of_uniform_dequantization_is_the_flow_itself():
    data, seeds = values(), [3, 1, 4, 1, 5]
    parts = {"integrator": TorchDiffEq(rtol=1e-6, atol=1e-6), "divergence": Exact()}
    found = ImportanceBits(dequantization=Dequantize(), **parts)(model(), data, CODEC, seeds).value
    torch.testing.assert_close(found, BitsPerDim(**parts)(model(), data, CODEC, seeds).value)


@pytest.mark.long
def test_several_draws_fall_to_the_code_length_of_the_level():
    """One pixel of wide bins, where one draw costs much: against the mass of the bin."""
    codec, k = Uniform(levels=3), torch.ones(40, 1).long()
    gaussian = GaussianDenoiser(sde=make("sde", "cosine"), mean=torch.zeros(1), cov=torch.full((1, 1), 0.01))
    steps = RK4(steps=16)
    closed = -math.log2(math.erf(1 / 3 / 0.1 / math.sqrt(2)))
    gaps = []
    for draws in (1, 24):
        metric = ImportanceBits(
            dequantization=Dequantize(), integrator=steps, divergence=Exact(), draws=draws
        )
        found = metric(gaussian, k, codec, range(40)).value
        gaps.append((float(found.mean()) - closed, float(found.std()) / 40**0.5))
    assert gaps[0][0] > 4 * gaps[0][1]
    assert -4 * gaps[1][1] - 0.01 < gaps[1][0] < 4 * gaps[1][1] + 0.1


def test_a_noised_start_knows_its_time():
    """Points of t are asked for the density at t: against the exact densities of the same draws."""
    data, seeds = values(), [3, 1, 4, 1, 5]
    exact = model()
    for draws in (TruncatedNormal(), Noised()):
        metric = ImportanceBits(
            dequantization=draws, integrator=TorchDiffEq(rtol=1e-6, atol=1e-6), divergence=Exact()
        )
        x, log_q, t = draws(exact, data, CODEC, PerSample(seeds))
        log_p = exact.log_prob(x, torch.tensor(t, dtype=torch.float64))
        closed = (log_q - log_p) / 4 / math.log(2)
        torch.testing.assert_close(metric(exact, data, CODEC, seeds).value, closed, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: DiscreteData(width=0.0), "width=0"),
        (
            lambda: ImportanceBits(
                dequantization=Dequantize(), integrator=RK4(), divergence=Exact(), draws=0
            ),
            "draws=0",
        ),
        (lambda: TruncatedProcess(model(), 1.0), "t_min=1"),
        (lambda: DiscreteData(width=1e12)(model(), values(), CODEC, IID.seeded(0)), "t_min=1"),
    ],
)
def test_impossible_settings(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()
