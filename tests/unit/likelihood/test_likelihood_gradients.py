"""Gradients of log-densities: against the score, differences and each other; and what is kept for them."""

from functools import cache

import pytest
import torch

from sde_gen.denoiser import MixtureDenoiser, NetworkDenoiser
from sde_gen.denoiser.parametrization import Eps
from sde_gen.likelihood import log_prob
from sde_gen.likelihood.divergence import Exact, Hutchinson
from sde_gen.noise import IID
from sde_gen.ode import RK4, TorchDiffEq
from sde_gen.sde import VP
from tests.helpers import tiny_run

STEPS = RK4(steps=6)


def network() -> NetworkDenoiser:
    torch.manual_seed(0)
    return NetworkDenoiser(net=tiny_run.Net(dtype=torch.float64), sde=VP(), parametrization=Eps()).eval()


def points(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(1)).double()


def mean(model, x, integrator=STEPS, divergence=Hutchinson(probes=2)):  # noqa: B008 - frozen
    """The mean log-density, with the same probes at every call."""
    return log_prob(model, x, integrator=integrator, divergence=divergence, noise=IID.seeded(2)).nats.mean()


def difference(function, place: torch.Tensor, index: int, step: float = 1e-5) -> float:
    """The central difference by one number of a tensor."""
    flat = place.detach().view(-1)
    kept, values = float(flat[index]), []
    for sign in (1, -1):
        flat[index] = kept + sign * step
        values.append(float(function()))
    flat[index] = kept
    return (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize("divergence", [Exact(), Hutchinson(probes=2)], ids=["exact", "hutchinson"])
def test_gradients_are_differences(divergence) -> None:
    """By parameters of either layer and by x, in float64, of the very steps taken."""
    model, x = network(), points().requires_grad_()
    wanted = [model.net.first.weight, model.net.last.bias, x]
    found = torch.autograd.grad(mean(model, x, STEPS, divergence), wanted)
    with torch.no_grad():
        for place, slope in zip(wanted, found, strict=True):
            for index in (0, place.numel() - 1):
                expected = difference(lambda: mean(model, x, STEPS, divergence), place, index)
                assert float(slope.view(-1)[index]) == pytest.approx(expected, rel=1e-6, abs=1e-8)


@cache
def exact_gradients() -> tuple[torch.Tensor, ...]:
    """Gradients by parameters of either layer and by x, through many steps."""
    model, x = network(), points().requires_grad_()
    wanted = [model.net.first.weight, model.net.last.bias, x]
    return torch.autograd.grad(mean(model, x, RK4(steps=64), Exact()), wanted)


@pytest.mark.long
@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize(
    ("method", "tolerance"),
    [({"method": "rk4", "steps": 48}, 1e-3), ({"rtol": 1e-6, "atol": 1e-6}, 1e-4)],
    ids=["rk4", "dopri5"],
)
def test_both_ways_back_agree(method, tolerance, adjoint) -> None:
    """Gradients through the steps equal those of the adjoint equation, for fixed and adaptive steps; size 0.3."""
    model, x = network(), points().requires_grad_()
    wanted = [model.net.first.weight, model.net.last.bias, x]
    exact = exact_gradients()
    found = torch.autograd.grad(mean(model, x, TorchDiffEq(**method, adjoint=adjoint), Exact()), wanted)
    assert max(float(slope.abs().max()) for slope in exact) > 0.3
    for a, b in zip(exact, found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


class AtOne:
    """The model's own marginal at t = 1."""

    def __init__(self, model):
        self.model = model

    def log_prob(self, x):
        return self.model.log_prob(x, torch.ones((), dtype=torch.float64))


@pytest.mark.long
@pytest.mark.parametrize(
    "integrator",
    [RK4(steps=48), TorchDiffEq(rtol=1e-7, atol=1e-7, adjoint=True)],
    ids=["plain", "adjoint"],
)
def test_the_gradient_of_the_log_density_is_the_score(integrator) -> None:
    """An exact denoiser's flow has the data's density, whose gradient it knows."""
    model = MixtureDenoiser(
        sde=VP(),
        means=torch.tensor([[0.8, 0.1], [-0.6, -0.7]]),
        covs=torch.tensor([[[0.3, 0.1], [0.1, 0.2]], [[0.1, 0.0], [0.0, 0.4]]]),
        weights=torch.tensor([1.0, 2.0]),
    )
    x = points().requires_grad_()
    found = log_prob(
        model, x, integrator=integrator, divergence=Exact(), noise=IID.seeded(2), prior=AtOne(model)
    )
    (slope,) = torch.autograd.grad(found.nats.sum(), x)
    score = model(x.detach(), torch.tensor(model.sde.t_min, dtype=torch.float64)).score
    torch.testing.assert_close(slope, score, rtol=1e-4, atol=1e-4)


def kept(integrator) -> tuple[int, float]:
    """Nodes of the graph that waits for the way back, each with what it saved; and evaluations of the way forth."""
    found = log_prob(network(), points(), integrator=integrator, divergence=Exact(), noise=IID.seeded(2))
    seen, rest = set(), [found.nats.grad_fn]
    while rest:
        node = rest.pop()
        if node is not None and node not in seen:
            seen.add(node)
            rest += [before for before, _ in node.next_functions]
    return len(seen), found.nfe


@pytest.mark.long
def test_memory_of_the_adjoint_does_not_grow_with_evaluations() -> None:
    """Ten times the evaluations keep ten times as much, unless it is found again on the way back."""
    few, many = 5, 50
    plain, adjoint = (
        [kept(TorchDiffEq(method="rk4", steps=steps, adjoint=adjoint)) for steps in (few, many)]
        for adjoint in (False, True)
    )
    assert [nfe for _, nfe in adjoint] == [4 * few, 4 * many]
    assert plain[1][0] > 8 * plain[0][0]
    assert adjoint[1][0] == adjoint[0][0] < plain[0][0] / 4
    tolerances = [kept(TorchDiffEq(rtol=tol, atol=tol, adjoint=True)) for tol in (1e-3, 1e-7)]
    assert tolerances[1][1] > 2 * tolerances[0][1]
    assert tolerances[1][0] == tolerances[0][0]


def test_nothing_is_kept_of_a_frozen_model() -> None:
    model = network().requires_grad_(False)
    found = log_prob(model, points(), integrator=STEPS, divergence=Hutchinson(), noise=IID.seeded(2))
    assert not found.nats.requires_grad
    assert not found.z.requires_grad
