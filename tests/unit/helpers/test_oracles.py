"""The oracles are right: held against closed forms and another library."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from tests.helpers import oracles


@pytest.mark.parametrize("rho", [20.0, 1.0, 0.02])
def test_score_is_gradient_of_torch_distributions(rho: float) -> None:
    z = torch.tensor(oracles.starts() / oracles.RATIOS[0] * max(rho, 1), requires_grad=True)
    means, covs, weights = (torch.tensor(part) for part in oracles.MIXTURE)
    distribution = MixtureSameFamily(
        Categorical(weights), MultivariateNormal(means, covs + rho**2 * torch.eye(2).double())
    )
    (gradient,) = torch.autograd.grad(distribution.log_prob(z).sum(), z)
    np.testing.assert_allclose(
        oracles.score(z.detach().numpy(), rho), gradient.numpy(), rtol=1e-10, atol=1e-12
    )


def test_flow_of_gaussian_is_closed_form() -> None:
    z = oracles.starts()
    result = oracles.flow(z, *oracles.RATIOS, mixture=oracles.GAUSSIAN)
    np.testing.assert_allclose(result, oracles.gaussian_flow(z, *oracles.RATIOS), atol=1e-10)


def test_flow_does_not_depend_on_tolerance() -> None:
    np.testing.assert_allclose(
        oracles.ends(), oracles.flow(oracles.starts(), *oracles.RATIOS, rtol=1e-10), atol=1e-9
    )


def test_flow_is_reversible() -> None:
    first, last = oracles.RATIOS
    np.testing.assert_allclose(
        oracles.flow(oracles.ends(), last, first), oracles.starts(), rtol=1e-8, atol=1e-8
    )
