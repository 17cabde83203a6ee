"""Metrics: one number per image that depends on its seed alone, right on a model whose answer is known."""

import math

import pytest
import torch

from sde_gen.codec import Affine, Uniform
from sde_gen.denoiser import GaussianDenoiser
from sde_gen.divergence import Exact
from sde_gen.integrator import TorchDiffEq
from sde_gen.metric import BitsPerDim
from sde_gen.noise import IID, PerSample
from tests.catalogue import make, names

EVENT = (1, 2, 2)
MEAN = torch.tensor([0.3, -0.2, 0.1, 0.0], dtype=torch.float64)
ROOT = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
COV = 0.02 * ROOT @ ROOT.mT + 0.02 * torch.eye(4, dtype=torch.float64)
CODEC = Uniform(levels=17)


def model():
    """On the process whose ends are nearest to data and prior."""
    return GaussianDenoiser(sde=make("sde", "cosine"), mean=MEAN.reshape(EVENT), cov=COV)


def values(count=5):
    """Levels that the model finds likely."""
    return CODEC.decode(model().sample(count, noise=IID.seeded(1))).to(torch.uint8)


STEPS = {"_target_": "sde_gen.integrator.RungeKutta4", "steps": 8, "power": 3.0}
PROBES = {"_target_": "sde_gen.divergence.Hutchinson", "probes": 2}


@pytest.mark.parametrize("name", names("metric"))
def test_one_number_per_image_whatever_the_batch(name):
    metric, data = make("metric", name, integrator=STEPS, divergence=PROBES), values()
    together = metric(model(), data, CODEC, [3, 1, 4, 1, 5])
    assert together.shape == (5,)
    assert together.dtype == torch.float64
    assert bool(torch.isfinite(together).all())
    alone = metric(model(), data[2:3], CODEC, [4])
    torch.testing.assert_close(together[2:3], alone, rtol=0, atol=1e-5)  # float32 sums in another order
    other = metric(model(), data, CODEC, [30, 10, 40, 10, 50])
    assert (together - other).abs().min() > 1e-4
    assert metric.what
    assert metric.unit


def test_bits_of_a_gaussian():
    """The closed form in units of levels, with the dequantisation that the seeds stand for."""
    data, seeds = values(), [3, 1, 4, 1, 5]
    metric = BitsPerDim(integrator=TorchDiffEq(rtol=1e-6, atol=1e-6), divergence=Exact())
    levels = (CODEC.encode(data, PerSample(seeds)).double().flatten(1) + 1) * 8.5
    assert torch.equal(levels.floor().long(), data.flatten(1).long())
    law = torch.distributions.MultivariateNormal((MEAN + 1) * 8.5, COV * 8.5**2)  # of the levels themselves
    found = metric(model(), data, CODEC, seeds)
    torch.testing.assert_close(found, -law.log_prob(levels) / 4 / math.log(2), rtol=0, atol=1e-3)


def test_bits_of_continuous_data_are_in_their_own_units():
    data = MEAN.float() + torch.randn(3, 4, generator=torch.Generator().manual_seed(2)) * 0.2
    data = (5 + 3 * data).reshape(3, *EVENT)
    metric = BitsPerDim(integrator=TorchDiffEq(rtol=1e-6, atol=1e-6), divergence=Exact())
    law = torch.distributions.MultivariateNormal(5 + 3 * MEAN, 9 * COV)
    found = metric(model(), data, Affine(shift=5.0, scale=3.0), [0, 1, 2])
    torch.testing.assert_close(
        found, -law.log_prob(data.double().flatten(1)) / 4 / math.log(2), rtol=0, atol=1e-3
    )
