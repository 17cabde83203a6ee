"""Solvers of inverse problems against the exact posterior of a Gaussian mixture."""

import pytest
import torch
from torch import Tensor

from sde_gen.denoiser import MixtureDenoiser
from sde_gen.inverse.operator import Function, Mask
from sde_gen.inverse.projection import Projection
from sde_gen.inverse.repaint import RePaint
from sde_gen.inverse.twisted_smc import TwistedSMC, systematic
from sde_gen.noise import IID, PerSample
from sde_gen.sde import SDE
from sde_gen.solver import Heun, Solver
from sde_gen.solver.base import StepSolver
from sde_gen.solver.callbacks import EffectiveSampleSize, NFECounter, StepInfo
from tests.helpers import oracles
from tests.helpers.catalogue import make, names

ROW = torch.tensor([[0.8, -0.6]]).double()
Y, STD = torch.tensor([[0.4]]).double(), 0.15
OPERATOR = Function(function=lambda x: x @ ROW.to(x).T, is_linear=True)


def posterior() -> tuple[Tensor, Tensor]:
    """Exact mean and covariance of x_0 given y: every component's Gaussian posterior, weighed by its evidence."""
    means, covs, weights = (torch.tensor(part) for part in oracles.MIXTURE)
    spread = (ROW @ covs @ ROW.T + STD**2)[:, 0, 0]
    gain = (covs @ ROW.T)[..., 0] / spread[:, None]
    miss = Y[0, 0] - means @ ROW[0]
    evidence = torch.distributions.Normal(0, spread.sqrt()).log_prob(miss)
    r = torch.softmax(weights.log() + evidence, 0)
    center = means + gain * miss[:, None]
    inner = covs - gain[:, :, None] * (ROW @ covs)
    mean = r @ center
    away = center - mean
    return mean, torch.einsum("k,kij->ij", r, inner) + torch.einsum("k,ki,kj->ij", r, away, away)


def times(sde: SDE, steps: int) -> Tensor:
    """Equal steps of the log-SNR, from where alpha is small to where sigma is."""
    return sde.t_from_log_snr(torch.linspace(-6, 8, steps + 1, dtype=torch.float64))


def draw(solver: Solver, model, count: int, steps: int = 60, seed: int = 0) -> Tensor:
    grid = times(model.sde, steps)
    alpha, sigma = model.sde.marginal(grid[0])
    noise = IID.seeded(seed)
    x = torch.sqrt(alpha**2 + sigma**2) * noise.normal(torch.empty(count, 2).double())
    x = solver.solve(model, x, grid, noise=noise)
    return model(x, grid[-1]).x0


def mismatch(x: Tensor) -> tuple[float, float]:
    """Errors of mean and covariance."""
    mean, cov = posterior()
    return float((x.mean(0) - mean).norm()), float((torch.cov(x.T) - cov).norm())


def twisted(gamma: float = 1.0) -> TwistedSMC:
    return TwistedSMC(operator=OPERATOR, y=Y, noise_std=STD, gamma=gamma)


@pytest.mark.long
@pytest.mark.parametrize("gamma", [0.3, 3.0])
def test_smc_samples_the_posterior_whatever_its_twist(gamma: float) -> None:
    """Among runs of 16,000 particles the mean scatters by 0.02 with gamma = 0.3 and by 0.01 with the others."""
    model = oracles.denoiser(make("sde", "vp"))
    assert max(mismatch(draw(twisted(gamma), model, 16_000))) < 0.08


@pytest.mark.long
@pytest.mark.parametrize("sde", names("sde"))
def test_smc_is_the_same_on_every_process(sde: str) -> None:
    """In x / alpha and sigma / alpha the ancestral chain is the same, and so are twists and weights."""
    one, other = (draw(twisted(), oracles.denoiser(make("sde", name)), 200) for name in ("vp", sde))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_systematic_resampling_keeps_shares() -> None:
    weights = torch.tensor([0.1, 0.5, 0.0, 0.4]).repeat(25) / 25
    for u in (0.0, 0.37, 0.999):
        counts = torch.bincount(systematic(weights, u), minlength=100)
        assert bool((counts >= torch.floor(100 * weights - 1e-4)).all())
        assert bool((counts <= torch.ceil(100 * weights + 1e-4)).all())


MASK = Mask(mask=torch.tensor([True, False]))
KNOWN = torch.tensor([[0.7, 0.0]]).double()


@pytest.mark.parametrize("sde", names("sde"))
def test_projection_ends_on_the_measurement(sde: str) -> None:
    model = oracles.denoiser(make("sde", sde))
    x = draw(Projection(operator=MASK, y=KNOWN), model, 200)
    assert float((x[:, 0] - 0.7).abs().max()) < 0.15  # sigma at the last time is 0.02 of alpha


def test_repainting_brings_the_unknown_nearer_to_its_posterior() -> None:
    """Of two spikes in correlated places, the known coordinate determines which; projection hardly uses it."""
    sde = make("sde", "vp")
    model = MixtureDenoiser(
        sde=sde,
        means=torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).double(),
        covs=0.05 * torch.eye(2).double().repeat(2, 1, 1),
        weights=torch.tensor([0.5, 0.5]),
    )
    y = torch.tensor([[0.6, 0.0]]).double()  # the odds are exp(24) for the first spike

    def wrong(repeats: int) -> float:
        x = draw(RePaint(operator=MASK, y=y, repeats=repeats), model, 400, steps=10)
        return float((x[:, 1] < 0).double().mean())

    assert wrong(10) < 0.5 * wrong(1)


class Still(StepSolver[None]):
    """A solver that goes nowhere, and notes where it was asked to start."""

    order = 0
    stochastic = False

    def __init__(self) -> None:
        self.starts: list[Tensor] = []

    def init(self, model, x, times):
        return None

    def step(self, model, x_t, t, s, state, noise):
        self.starts.append(x_t)
        return torch.zeros_like(x_t), None

    def nfe(self, steps: int) -> int:
        return 3 * steps


def test_what_is_projected_on_is_noised_as_the_samples_are() -> None:
    """The known coordinate is distributed as alpha y + sigma z, the other is unchanged, with the inner solver's NFE."""
    sde = make("sde", "vp")
    t, s = sde.t_from_log_snr(torch.tensor([-2.0, 0.0]).double())
    solver = Projection(operator=MASK, y=KNOWN, inner=Still())
    x = torch.zeros(20_000, 2).double()
    x_s, _ = solver.step(oracles.denoiser(sde), x, t, s, None, IID.seeded(0))
    alpha, sigma = map(float, sde.marginal(s))
    assert float(x_s[:, 0].mean()) == pytest.approx(0.7 * alpha, abs=5 * sigma / 20_000**0.5)
    assert float(x_s[:, 0].std()) == pytest.approx(sigma, rel=0.03)
    assert not x_s[:, 1].any()
    assert solver.nfe(7) == 21
    assert RePaint(operator=MASK, y=KNOWN, inner=Still(), repeats=2).nfe(7) == 42


def test_repainting_goes_back_by_the_process_own_transition() -> None:
    sde = make("sde", "vp")
    t, s = sde.t_from_log_snr(torch.tensor([-2.0, 0.0]).double())
    still = Still()
    solver = RePaint(operator=MASK, y=KNOWN, inner=still, repeats=2)
    x = torch.zeros(20_000, 2).double()
    solver.step(oracles.denoiser(sde), x, t, s, None, IID.seeded(0))
    again = still.starts[1]
    scale, std = map(float, sde.transition(s, t))
    alpha, sigma = map(float, sde.marginal(s))
    assert float(again[:, 1].std()) == pytest.approx(std, rel=0.03)  # from zero
    assert float(again[:, 0].mean()) == pytest.approx(0.7 * alpha * scale, abs=0.03)
    assert float(again[:, 0].std()) == pytest.approx(float(sde.sigma(t)), rel=0.03)
    assert scale**2 * sigma**2 + std**2 == pytest.approx(float(sde.sigma(t)) ** 2)


def test_smc_weighs_the_particles_it_is_given() -> None:
    """From samples of p_t at a log-SNR of 2, where the measurement says much of the first particles already."""
    model = oracles.denoiser(make("sde", "vp"))
    grid = model.sde.t_from_log_snr(torch.linspace(2, 8, 31, dtype=torch.float64))
    noise = IID.seeded(0)
    alpha, sigma = model.sde.marginal(grid[0])
    x0 = model.sample(16_000, noise=noise).double()
    x = twisted().solve(model, alpha * x0 + sigma * noise.normal(x0), grid, noise=noise)
    assert max(mismatch(model(x, grid[-1]).x0)) < 0.03


def test_systematic_resampling_is_unbiased() -> None:
    weights = torch.tensor([0.1, 0.5, 0.0, 0.4]).repeat(25) / 25
    counts = [
        torch.bincount(systematic(weights, u), minlength=100) for u in torch.arange(0.005, 1, 0.01).tolist()
    ]
    mean = torch.stack(counts).double().mean(0)
    torch.testing.assert_close(mean, 100 * weights.double(), rtol=0, atol=0.02)


def test_repaint_once_is_projection_and_counts_its_evaluations() -> None:
    model = oracles.denoiser(make("sde", "vp"))
    a, b = (
        draw(solver, model, 8)
        for solver in (Projection(operator=MASK, y=KNOWN), RePaint(operator=MASK, y=KNOWN, repeats=1))
    )
    assert torch.equal(a, b)
    for solver in (
        RePaint(operator=MASK, y=KNOWN, repeats=3),
        TwistedSMC(operator=OPERATOR, y=Y, noise_std=STD),
    ):
        grid = times(model.sde, 5)
        with NFECounter(model) as counter:
            solver.solve(model, torch.zeros(4, 2).double(), grid, noise=IID.seeded(0))
        assert counter.calls == solver.nfe(5)


def test_projected_samples_are_independent_of_their_batch() -> None:
    model, grid = oracles.denoiser(make("sde", "vp")), times(make("sde", "vp"), 6)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).double()
    solver = RePaint(operator=MASK, y=KNOWN, repeats=2)
    together = solver.solve(model, x, grid, noise=PerSample(range(4)))
    alone = torch.cat([solver.solve(model, x[i : i + 1], grid, noise=PerSample([i])) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)


def test_impossible_settings_are_refused() -> None:
    bent = Function(function=lambda x: x**2)
    for build, words in [
        (lambda: Projection(operator=bent, y=Y), "not linear"),
        (lambda: RePaint(operator=MASK, y=KNOWN, repeats=0), "repeats=0"),
        (lambda: TwistedSMC(operator=bent, y=Y, noise_std=0.0), "noise_std"),
        (lambda: TwistedSMC(operator=bent, y=Y, noise_std=1.0, gamma=-1.0), "gamma"),
        (lambda: TwistedSMC(operator=bent, y=Y.repeat(2, 1), noise_std=1.0), "share one measurement"),
    ]:
        with pytest.raises(ValueError, match=words):
            build()
    model = oracles.denoiser(make("sde", "rectified"))
    grid = torch.linspace(1, 0.01, 4).double()
    with pytest.raises(ValueError, match="t_max below 1"):
        TwistedSMC(operator=OPERATOR, y=Y, noise_std=STD).solve(
            model, torch.zeros(4, 2).double(), grid, noise=IID.seeded(0)
        )


def test_the_effective_sample_size_is_that_of_the_weights_of_the_steps() -> None:
    """A measurement that says nothing keeps all particles, and an exact one that is far away about one of them."""
    model, grid = oracles.denoiser(make("sde", "vp")), torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sizes = {}
    for std in (1e6, 1e-4):
        solver = TwistedSMC(operator=OPERATOR, y=Y + 3, noise_std=std, gamma=0.0)
        size = EffectiveSampleSize()
        assert size.smallest is None
        solver.solve(model, x, grid, noise=IID.seeded(0), hooks=[size])
        sizes[std] = size.smallest
    assert sizes[1e6] == pytest.approx(50, abs=0.01)
    assert sizes[1e-4] == pytest.approx(1, abs=0.5)
    size = EffectiveSampleSize()
    Heun().solve(model, x, grid, hooks=[size])
    assert size.smallest is None
    for weights in ([0.5, 0.5, 0.0], [1.0, 1.0, 2.0], [3.0, 3.0, 3.0]):
        info = StepInfo(0, 1, 1.0, 0.0, x, x, weights=torch.tensor(weights) / sum(weights))
        size(info)
    assert size.smallest == pytest.approx(2)
