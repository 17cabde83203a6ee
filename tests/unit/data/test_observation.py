"""Distributions of data about a decoder's output, against SciPy, sums over all levels and finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sde_gen.data.codec import Affine, Observation, Scaled, UniformCodec
from sde_gen.model import Gaussian, Logistic

ORACLES = {Gaussian: stats.norm, Logistic: stats.logistic}


@pytest.mark.parametrize("family", ORACLES)
def test_densities_and_masses_are_those_of_scipy(family):
    u = torch.linspace(-9, 9, 31, dtype=torch.float64)
    oracle = ORACLES[family]
    np.testing.assert_allclose(family().log_density(u), oracle.logpdf(u.numpy()), rtol=1e-12)
    low, high = u[:-1], u[1:]
    left = high <= 0  # where SciPy's difference of distribution functions keeps its digits
    expected = np.log(oracle.cdf(high[left].numpy()) - oracle.cdf(low[left].numpy()))
    np.testing.assert_allclose(family().log_mass(low, high)[left], expected, rtol=1e-9)
    torch.testing.assert_close(family().log_mass(low, high), family().log_mass(-high, -low))


@pytest.mark.parametrize("codec", [UniformCodec(levels=7), Scaled(levels=7), UniformCodec(levels=7, low=0.0)])
@pytest.mark.parametrize("family", ORACLES)
@pytest.mark.parametrize("log_scale", [-4.0, 0.0, 3.0])
def test_probabilities_of_all_levels_add_up_to_one(codec, family, log_scale):
    x = codec.middles().float().reshape(7, 1, 1, 1)
    observation = Observation(codec=codec, family=family())
    nats = observation.log_prob(x, torch.full_like(x, 0.1), torch.tensor(log_scale))
    torch.testing.assert_close(nats.exp().sum(), torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("family", ORACLES)
def test_density_of_continuous_data_is_in_their_units(family):
    y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    codec = Affine(shift=0.3, scale=2.0)
    mean, log_scale = torch.zeros(5, 3), torch.tensor(0.7)
    nats = Observation(codec=codec, family=family()).log_prob(codec.encode(y), mean, log_scale)
    expected = ORACLES[family].logpdf(y.numpy(), loc=0.3, scale=2 * math.exp(0.7)).sum(1)
    np.testing.assert_allclose(nats, expected, rtol=1e-6)  # model space is float32


@pytest.mark.parametrize("codec", [UniformCodec(levels=256), Affine()])
@pytest.mark.parametrize("family", ORACLES)
def test_gradients_of_location_and_scale(codec, family):
    """At inner levels and at both ends, where a bin reaches to infinity."""
    values = torch.tensor([[0.0, 3.0, 255.0]]) if codec.limits else torch.tensor([[-1.0, 0.2, 4.0]])
    x, observation = codec.encode(values), Observation(codec=codec, family=family())
    mean = torch.tensor([[-0.9, 0.1, 0.95]], dtype=torch.float64, requires_grad=True)
    log_scale = torch.tensor([-2.0, -1.0, 0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, s: observation.log_prob(x, m, s), (mean, log_scale))
