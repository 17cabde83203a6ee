"""Conditions with every solver, under guidance and in the likelihood: a sample sees its own and no other's."""

import pytest
import torch
from torch import Tensor

from sde_gen.denoiser import Denoiser, GaussianDenoiser, NetworkDenoiser
from sde_gen.denoiser.parametrization import Eps
from sde_gen.denoiser.prediction import Prediction
from sde_gen.guidance import CFG
from sde_gen.likelihood import log_prob
from sde_gen.likelihood.divergence import Exact
from sde_gen.noise import IID, PerSample
from sde_gen.ode import Adams
from sde_gen.sde import SDE
from sde_gen.utils.broadcasting import broadcast_like
from tests.contract.test_solver import UNCOUPLED, course, range_of
from tests.helpers.catalogue import make

COV = torch.tensor([[0.30, 0.08], [0.08, 0.20]]).double()
MEANS = torch.tensor([[1.0, 0.2], [-0.6, 0.9], [0.1, -1.1]]).double()


class Moved(Denoiser):
    """The exact denoiser of N(vector, COV), of N(0, COV) without a vector."""

    def __init__(self, sde: SDE) -> None:
        super().__init__()
        self.sde = sde
        self.centered = GaussianDenoiser(sde=sde, mean=torch.zeros(2).double(), cov=COV)

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        mean = cond.get("vector", torch.zeros_like(x_t))
        found = self.centered(x_t - broadcast_like(self.sde.alpha(t), x_t) * mean, t)
        return Prediction(x_t, found.x0 + mean, found.eps, found.alpha, found.sigma)


@pytest.mark.long
@pytest.mark.parametrize("name", UNCOUPLED)
def test_every_solver_guides_every_sample_by_its_own_condition(name: str) -> None:
    """A line through Gaussians of one covariance is the Gaussian of the mean on the line."""
    solver, (_, times) = make("solver", name), course("vp", 5, range_of(name))
    sde = make("sde", "vp")
    guided = CFG(denoiser=Moved(sde), scale=2.0)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).double()
    together = solver.solve(guided.bind(vector=MEANS), x, times, noise=PerSample(range(3)))
    for row in range(3):
        alone = GaussianDenoiser(sde=sde, mean=2 * MEANS[row], cov=COV)
        expected = solver.solve(alone, x[row : row + 1], times, noise=PerSample([row]))
        torch.testing.assert_close(together[row : row + 1], expected, rtol=1e-9, atol=1e-9)


def test_the_likelihood_is_that_of_every_sample_s_own_condition() -> None:
    """With the distributions at both ends in closed form, so that the prior leaves no gap."""
    sde = make("sde", "vp")
    guided = CFG(denoiser=Moved(sde), scale=2.0).bind(vector=MEANS)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).double()

    def log_density(values: Tensor, t: float) -> Tensor:
        alpha, sigma = sde.marginal(torch.tensor(t).double())
        cov = alpha**2 * COV + sigma**2 * torch.eye(2)
        return torch.distributions.MultivariateNormal(2 * alpha * MEANS, cov).log_prob(values)

    found = log_prob(guided, x, integrator=Adams(steps=200), divergence=Exact(), noise=IID.seeded(0))
    nats = found.nats - sde.prior.log_prob(found.z) + log_density(found.z, 1.0)
    torch.testing.assert_close(nats, log_density(x, sde.t_min), rtol=0, atol=1e-3)


def test_conditions_of_floating_point_have_the_dtype_of_the_network() -> None:
    """A float64 sample of a float32 network, with float64 vectors and whole labels."""
    seen = {}

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor, c_noise: Tensor, **cond: Tensor) -> Tensor:
            seen.update({name: value.dtype for name, value in cond.items()}, x=x.dtype)
            return self.scale * x

    denoiser = NetworkDenoiser(net=Net(), sde=make("sde", "vp"), parametrization=Eps())
    cond = {"vector": MEANS, "label": torch.arange(3), "mask": torch.ones(3, dtype=torch.bool)}
    for t in (torch.tensor(0.5).double(), torch.full((3,), 0.5).double()):
        assert denoiser(MEANS, t, **cond).x0.dtype == torch.float64
        assert seen == {"vector": torch.float32, "label": torch.int64, "mask": torch.bool, "x": torch.float32}
