"""Divergences against automatic differentiation, and Hutchinson's estimate without Monte Carlo."""

import itertools

import pytest
import torch

from sde_gen.divergence import Exact, Gaussian, Hutchinson, Rademacher
from sde_gen.noise import IID
from tests.catalogue import make, names


def field(x):
    """A field with a full Jacobian, every sample by itself."""
    flat = x.flatten(1)
    mixed = torch.sin(flat @ MATRIX[: flat.shape[1], : flat.shape[1]]) + flat.prod(1, keepdim=True)
    return mixed.reshape(x.shape)


MATRIX = torch.randn(12, 12, generator=torch.Generator().manual_seed(0)).double()


def trace(x):
    """The diagonal of the whole Jacobian, one sample at a time."""
    return torch.stack(
        [
            torch.autograd.functional.jacobian(field, one.unsqueeze(0)).reshape(one.numel(), -1).trace()
            for one in x
        ]
    )


@pytest.mark.parametrize("event", [(1,), (3,), (3, 2, 2)], ids=str)
@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_exact(event, chunk):
    x = torch.randn(4, *event, generator=torch.Generator().manual_seed(1)).double()
    value, found = Exact(chunk=chunk).prepare(x, IID.seeded(0))(field, x)
    torch.testing.assert_close(value, field(x))
    torch.testing.assert_close(found, trace(x).unsqueeze(1))


class Given:
    """Noise that hands out given vectors."""

    def __init__(self, vectors):
        self.vectors = iter(vectors)

    def fresh(self, x):
        return next(self.vectors).expand_as(x).to(x.dtype)


def test_rademacher_is_unbiased_over_all_signs():
    """The average over all 2^3 sign vectors is the trace, exactly; and the spread is the known variance."""
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
    signs = [torch.tensor(one) for one in itertools.product((-1.0, 1.0), repeat=3)]
    _, found = Hutchinson(probes=8).prepare(x, Given(signs))(field, x)
    torch.testing.assert_close(found.mean(1), trace(x))
    jacobian = torch.stack([torch.autograd.functional.jacobian(field, one[None]).reshape(3, 3) for one in x])
    symmetric = (jacobian + jacobian.mT) / 2
    off = symmetric.square().sum((1, 2)) - symmetric.diagonal(dim1=1, dim2=2).square().sum(1)
    torch.testing.assert_close(found.var(1, correction=0), 2 * off)


@pytest.mark.parametrize("law", [Rademacher(), Gaussian()], ids=lambda law: type(law).__name__)
def test_probes_have_the_unit_covariance(law):
    """Six standard errors of the mean and of the covariance of 40,000 pairs; those of signs are smaller."""
    v = law(torch.empty(40_000, 2), IID.seeded(0))
    assert v.mean(0).abs().max() < 6 / 40_000**0.5
    assert (v.T @ v / 40_000 - torch.eye(2)).abs().max() < 6 * (2 / 40_000) ** 0.5
    if isinstance(law, Rademacher):
        assert set(v.flatten().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("name", names("divergence"))
def test_field_and_shapes(name):
    x = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    value, found = make("divergence", name).prepare(x, IID.seeded(0))(field, x)
    torch.testing.assert_close(value, field(x))
    assert found.shape == (3, 1)


def test_gaussian_probes_on_average():
    """Six standard errors of 4,000 probes; the variance is 2 |S|^2."""
    x = torch.randn(1, 3, generator=torch.Generator().manual_seed(1)).double()
    _, found = Hutchinson(probes=4000, law=Gaussian()).prepare(x, IID.seeded(3))(field, x)
    assert (found.mean() - trace(x)).abs() < 6 * found.std() / 4000**0.5


@pytest.mark.parametrize("wrong", [lambda: Exact(chunk=0), lambda: Hutchinson(probes=0)])
def test_impossible_settings(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        wrong()
