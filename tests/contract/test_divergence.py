"""Divergences against automatic differentiation, and Hutchinson's estimate without Monte Carlo."""

import itertools

import pytest
import torch

from sde_gen.likelihood.divergence import Exact, GaussianProbe, Hutchinson, HutchPlusPlus, Rademacher
from sde_gen.noise import IID, PerSample
from tests.helpers.catalogue import make, names


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

    def normal(self, x):
        return next(self.vectors).expand_as(x).to(x.dtype)


def jacobians(x):
    """The whole Jacobian of every sample, (B, D, D)."""
    dim = x[0].numel()
    return torch.stack([torch.autograd.functional.jacobian(field, one[None]).reshape(dim, dim) for one in x])


def variance(matrices):
    """That of v^T J v over random signs: twice the squares off the diagonal of the symmetric part."""
    symmetric = (matrices + matrices.mT) / 2
    return 2 * (symmetric.square().sum((1, 2)) - symmetric.diagonal(dim1=1, dim2=2).square().sum(1))


def all_signs(dim):
    """All 2^dim sign vectors."""
    return [torch.tensor(one) for one in itertools.product((-1.0, 1.0), repeat=dim)]


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_rademacher_is_unbiased_over_all_signs(chunk):
    """The average over all 2^3 sign vectors is the trace, exactly; and the spread is the known variance."""
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
    _, found = Hutchinson(probes=8, chunk=chunk).prepare(x, Given(all_signs(3)))(field, x)
    torch.testing.assert_close(found.mean(1), trace(x))
    torch.testing.assert_close(found.var(1, correction=0), variance(jacobians(x)))


@pytest.mark.parametrize("sketch", [1, 2, 4])
def test_hutch_plus_plus_is_unbiased_over_all_signs(sketch):
    """Whatever the subspace, the average over the probes is the trace; the spread is that of what lies outside."""
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)).double()
    drawn = list(torch.randn(sketch, 5, 4, generator=torch.Generator().manual_seed(2)).double())
    divergence = HutchPlusPlus(sketch=sketch, probes=16, chunk=5, distribution=GaussianProbe())
    value, found = divergence.prepare(x, Given([*drawn, *all_signs(4)]))(field, x)
    torch.testing.assert_close(value, field(x))
    torch.testing.assert_close(found.mean(1), trace(x))
    jacobian = jacobians(x)
    image = jacobian.mT @ torch.stack(drawn, dim=2)
    outside = torch.eye(4).double() - image @ torch.linalg.pinv(image)
    torch.testing.assert_close(found.var(1, correction=0), variance(outside @ jacobian @ outside))


def test_hutch_plus_plus_is_exact_where_few_directions_are_stretched():
    """A Jacobian of rank 2 needs a subspace of 2."""
    left, right = torch.randn(2, 12, 2, generator=torch.Generator().manual_seed(3)).double()
    x = torch.randn(3, 12, generator=torch.Generator().manual_seed(1)).double()
    for sketch, exact in [(2, True), (1, False)]:
        divergence = HutchPlusPlus(sketch=sketch, probes=3).prepare(x, IID.seeded(0))
        _, found = divergence(lambda y: y @ left @ right.T, x)
        assert bool((found - (left * right).sum()).abs().max() < 1e-10) is exact


def test_fresh_probes_differ_between_evaluations_and_others_do_not():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).double()
    for asked, smooth, fresh in [
        (None, True, False),
        (None, False, True),
        (True, False, True),
        (False, False, False),
    ]:
        evaluate = Hutchinson(probes=2, fresh=asked).prepare(x, IID.seeded(0), smooth=smooth)
        first, second = evaluate(field, x)[1], evaluate(field, x)[1]
        assert bool((first == second).all()) is not fresh


@pytest.mark.parametrize(
    "divergence", [Exact(), Hutchinson(probes=3), HutchPlusPlus()], ids=lambda d: type(d).__name__
)
def test_rows_go_on_with_their_own_probes(divergence):
    x = torch.randn(6, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    evaluate, index = divergence.prepare(x, PerSample(range(6))), torch.tensor([4, 1])
    every, some = evaluate(field, x), evaluate.select(index)(field, x[index])
    for a, b in zip(every, some, strict=True):
        torch.testing.assert_close(a[index], b)


@pytest.mark.parametrize("name", names("divergence"))
def test_gradients_flow_to_what_the_field_depends_on(name):
    """The derivative of the average over all signs, by a weight and by x, is that of the trace."""
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def weighed(y):
        return torch.sin(weight * y @ MATRIX[:3, :3])

    settings = {} if name == "exact" else {"probes": 8}
    subspace = [torch.randn(3, generator=torch.Generator().manual_seed(2)) for _ in range(2)]
    given = Given([*(subspace if name == "hutch_plus_plus" else []), *all_signs(3)])
    found = make("divergence", name, **settings).prepare(x, given)(weighed, x)[1].mean(1).sum()
    slopes = weight * torch.cos(weight * x @ MATRIX[:3, :3])
    exact = (slopes * MATRIX[:3, :3].diagonal()).sum()
    for a, b in zip(
        *(torch.autograd.grad(y, [weight, x], retain_graph=True) for y in (found, exact)), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", names("divergence"))
def test_nothing_is_kept_where_no_gradient_is_wanted(name):
    x = torch.randn(2, 3).double()
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    evaluate = make("divergence", name).prepare(x, IID.seeded(0))
    with torch.no_grad():
        held = evaluate(lambda y: weight * y.sin(), x)
    free = evaluate(lambda y: weight.detach() * y.sin(), x)
    assert not any(part.requires_grad for part in (*held, *free))


def test_a_constant_field_has_no_divergence():
    x = torch.randn(2, 3)
    for divergence in (Exact(), Hutchinson()):
        value, found = divergence.prepare(x, IID.seeded(0))(lambda y: torch.ones_like(y), x)
        assert bool((value == 1).all())
        assert bool((found == 0).all())


@pytest.mark.parametrize("probe", [Rademacher(), GaussianProbe()], ids=lambda probe: type(probe).__name__)
def test_probes_have_the_unit_covariance(probe):
    """Six standard errors of the mean and of the covariance of 40,000 pairs; those of signs are smaller."""
    v = probe(torch.empty(40_000, 2), IID.seeded(0))
    assert v.mean(0).abs().max() < 6 / 40_000**0.5
    assert (v.T @ v / 40_000 - torch.eye(2)).abs().max() < 6 * (2 / 40_000) ** 0.5
    if isinstance(probe, Rademacher):
        assert set(v.flatten().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("name", names("divergence"))
def test_field_and_shapes(name):
    x = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    value, found = make("divergence", name).prepare(x, IID.seeded(0))(field, x)
    torch.testing.assert_close(value, field(x))
    assert found.shape == (3, make("divergence", name).num_probes)
    assert found.dtype == torch.float64


def test_gaussian_probes_on_average():
    """Six standard errors of 4,000 probes; the variance is 2 |S|^2."""
    x = torch.randn(1, 3, generator=torch.Generator().manual_seed(1)).double()
    _, found = Hutchinson(probes=4000, distribution=GaussianProbe()).prepare(x, IID.seeded(3))(field, x)
    assert (found.mean() - trace(x)).abs() < 6 * found.std() / 4000**0.5


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Exact(chunk=0),
        lambda: Hutchinson(probes=0),
        lambda: Hutchinson(chunk=0),
        lambda: HutchPlusPlus(sketch=0),
    ],
)
def test_impossible_settings(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        wrong()


def test_a_subspace_larger_than_space():
    with pytest.raises(ValueError, match="exceeds the 3 dimensions"):
        HutchPlusPlus(sketch=4).prepare(torch.zeros(2, 3), IID.seeded(0))
