"""Solvers at the edges: a start without signal, methods of torchdiffeq and torchsde, DDIM's noise."""

import numpy as np
import pytest
import torch

from sde_gen.denoiser import GaussianDenoiser
from sde_gen.grid import Uniform
from sde_gen.noise import IID, PerSample
from sde_gen.solver.callbacks import NFECounter, StopOnNaN
from sde_gen.solver.ddim import DDIM
from sde_gen.solver.euler_maruyama import EulerMaruyama
from sde_gen.solver.ode_solver import torch_diffeq
from sde_gen.solver.torch_sde import TorchSDE
from tests.helpers import oracles
from tests.helpers.catalogue import make, names

FIXED = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}


def rms(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean().sqrt())


@pytest.mark.long
@pytest.mark.parametrize("name", ["ddim", "dpm_solver_pp", "heun", "torch_diffeq"])
def test_starts_where_there_is_no_signal(name: str) -> None:
    """The linear path at t = 1 has alpha = 0 and log_snr = -inf; the orders stay what they are."""
    sde, solver = make("sde", "rectified"), make("solver", name)
    model, grid, x = (
        oracles.denoiser(sde),
        Uniform(t_min=0.05),
        IID.seeded(3).normal(torch.empty(16, 2).double()),
    )
    exact = torch_diffeq(method="dopri8", rtol=1e-11, atol=1e-12).solve(
        model, x, grid(sde, 1), noise=IID.seeded(0)
    )
    errors = [
        rms(solver.solve(model, x, grid(sde, steps), noise=IID.seeded(0), hooks=[StopOnNaN()]), exact)
        for steps in (16, 32, 64, 128)
    ]
    if name == "torch_diffeq":
        assert errors[0] < 1e-4
    else:
        assert np.log2(errors[0] / errors[-1]) / 3 >= solver.order - 0.15, errors


@pytest.mark.parametrize("name", ["dpm_solver_1", "dpm_solver_2", "dpm_solver_3"])
def test_noise_prediction_refuses_to_start_without_signal(name: str) -> None:
    sde, solver = make("sde", "rectified"), make("solver", name)
    x = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="t_max below 1"):
        solver.solve(oracles.denoiser(sde), x, Uniform()(sde, 4), noise=IID.seeded(0))
    solver.solve(
        oracles.denoiser(sde), x, Uniform(t_max=0.999)(sde, 4), noise=IID.seeded(0), hooks=[StopOnNaN()]
    )


@pytest.mark.parametrize("sde", names("sde"))
def test_ddim_and_dpm_solver_1_agree(sde: str) -> None:
    """DDIM without noise and DPM-Solver-1 are one method, written from two papers."""
    process = make("sde", sde)
    model, times = oracles.denoiser(process), oracles.ratio_times(process, 7)
    x = oracles.to_x(process, oracles.starts(), times[0])
    a, b = (
        make("solver", name).solve(model, x, times, noise=IID.seeded(0)) for name in ("ddim", "dpm_solver_1")
    )
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.7, 1.0])
def test_ddim_keeps_the_marginals_of_a_point(eta: float) -> None:
    """Of data at one point all noise is known: what is kept of it and what is drawn have the variance of sigma_s."""
    sde = make("sde", "vp")
    model = GaussianDenoiser(sde=sde, mean=torch.zeros(1), cov=torch.zeros(1, 1))
    t, s = torch.tensor([0.8, 0.3], dtype=torch.float64)
    noise = sde.sigma(t) * torch.tensor([[1.0], [0.0]], dtype=torch.float64)

    class Unit(IID):
        def __call__(self, x: torch.Tensor, u0: float, u1: float) -> torch.Tensor:
            return torch.tensor([[0.0], [1.0]], dtype=torch.float64)

    kept = DDIM(eta=eta).solve(model, noise, torch.stack([t, s]), noise=Unit(torch.Generator()))
    torch.testing.assert_close(kept.square().sum(), sde.sigma(s) ** 2)
    assert (kept[1] == 0) == (eta == 0)


@pytest.mark.parametrize("sde", names("sde"))
def test_ddim_with_all_its_noise_is_ancestral(sde: str) -> None:
    """The posterior q(x_s | x_t, x_0), written once with eps and once with x_t."""
    process = make("sde", sde)
    model, times = oracles.denoiser(process), oracles.ratio_times(process, 5)
    x = oracles.to_x(process, oracles.starts(), times[0])
    seeds = range(len(x))
    ddim = DDIM(eta=1.0).solve(model, x, times, noise=PerSample(seeds))
    ancestral = make("solver", "ancestral", nu=0.0).solve(model, x, times, noise=PerSample(seeds))
    torch.testing.assert_close(ddim, ancestral, rtol=1e-8, atol=1e-8)


def test_ddim_declares_its_noise() -> None:
    assert not DDIM().stochastic
    assert DDIM(eta=0.5).stochastic
    for eta in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="eta="):
            DDIM(eta=eta)
    sde = make("sde", "vp")
    times = oracles.ratio_times(sde, 3).flip(0)
    with pytest.raises(ValueError, match="use eta=0 to encode"):
        DDIM(eta=1.0).solve(oracles.denoiser(sde), torch.zeros(1, 2), times, noise=IID.seeded(0))


@pytest.mark.long
@pytest.mark.parametrize("method", FIXED)
def test_fixed_methods_of_torchdiffeq_step_through_the_grid(method: str) -> None:
    sde, solver = make("sde", "vp"), torch_diffeq(method=method)
    model, errors = oracles.denoiser(sde), []
    for steps in (12, 24, 48, 96):
        times = oracles.ratio_times(sde, steps)
        with NFECounter(model) as counter:
            x = solver.solve(model, oracles.to_x(sde, oracles.starts(), times[0]), times, noise=IID.seeded(0))
        assert counter.calls == solver.nfe(steps)
        errors.append(np.sqrt(np.mean((oracles.to_z(sde, x, times[-1]) - oracles.ends()) ** 2)))
    assert np.log2(errors[0] / errors[-1]) / 3 >= FIXED[method] - 0.15, errors
    assert not solver.batch_coupled


@pytest.mark.parametrize("method", ["dopri5", "dopri8", "bosh3"])
def test_adaptive_methods_of_torchdiffeq_keep_their_tolerance(method: str) -> None:
    sde = make("sde", "vp")
    times = oracles.ratio_times(sde, 1)
    x, errors = oracles.to_x(sde, oracles.starts(), times[0]), []
    for tol in (1e-4, 1e-7):
        solver = torch_diffeq(method=method, rtol=tol, atol=tol)
        end = solver.solve(oracles.denoiser(sde), x, times, noise=IID.seeded(0))
        errors.append(np.sqrt(np.mean((oracles.to_z(sde, end, times[-1]) - oracles.ends()) ** 2)))
        assert solver.batch_coupled
        assert solver.nfe(5) is None
    assert errors[0] < 1e-2
    assert errors[1] < 1e-5


@pytest.mark.parametrize("method", ["euler", "heun", "midpoint"])
def test_torchsde_requests_whole_intervals_only(method: str) -> None:
    """A query a fraction outside the interval sent torchsde's trees into endless recursion (defect 10)."""
    sde, queries = make("sde", "vp"), []

    class Recorded(PerSample):
        def __call__(self, x: torch.Tensor, u0: float, u1: float) -> torch.Tensor:
            queries.append((u0, u1))
            return super().__call__(x, u0, u1)

    times = torch.tensor([1.0, 0.7, 1 / 3, 0.1, 1e-5], dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        queries.clear()
        x = TorchSDE(method=method).solve(
            oracles.denoiser(sde),
            torch.ones(2, 2, dtype=dtype),
            times,
            noise=Recorded([0, 1]),
            hooks=[StopOnNaN()],
        )
        assert x.dtype == dtype
        assert queries == list(zip(times[:-1].tolist(), times[1:].tolist(), strict=True))


def test_torchsde_s_euler_is_euler_maruyama() -> None:
    sde = make("sde", "vp")
    model, times = oracles.denoiser(sde), oracles.ratio_times(sde, 6)
    x = oracles.to_x(sde, oracles.starts(), times[0])
    ours = EulerMaruyama().solve(model, x, times, noise=PerSample(range(len(x))))
    original = TorchSDE(method="euler").solve(model, x, times, noise=PerSample(range(len(x))))
    torch.testing.assert_close(original, ours, rtol=1e-10, atol=1e-10)


def test_adapters_refuse_invalid_settings() -> None:
    for kind in (torch_diffeq, TorchSDE):
        with pytest.raises(ValueError, match="unknown"):
            kind(method="magic")
    with pytest.raises(ValueError, match="positive"):
        torch_diffeq(atol=-1.0)
    with pytest.raises(ValueError, match="torch_diffeq"):
        TorchSDE(eta=0.0)
    sde = make("sde", "rectified")
    with pytest.raises(ValueError, match="infinite"):
        TorchSDE().solve(oracles.denoiser(sde), torch.zeros(1, 2), Uniform()(sde, 3), noise=IID.seeded(0))


class StepImpulses:
    """Zero but for one unit number: in step k and coordinate j, in row 3 + 2 k + j of the batch."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: torch.Tensor, u0: float, u1: float) -> torch.Tensor:
        rows, noise = 3 + 2 * self.calls, torch.zeros_like(x)
        noise[rows, 0] = noise[rows + 1, 1] = 1.0
        self.calls += 1
        return noise

    def normal(self, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the path's own noise is enough")

    def uniform(self, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a solver needs no uniform numbers")


@pytest.mark.long
@pytest.mark.parametrize("sde", ["vp", "ve", "rectified"])
@pytest.mark.parametrize("method", ["euler", "heun", "midpoint"])
def test_torchsde_converges_in_distribution(method: str, sde: str) -> None:
    """On Gaussian data the reverse SDE carries marginal to marginal, whose mean and covariance are known."""
    process, solver, errors = make("sde", sde), TorchSDE(method=method), []
    model = oracles.denoiser(process, oracles.GAUSSIAN)
    mean, cov = torch.tensor(oracles.GAUSSIAN.means[0]), torch.tensor(oracles.GAUSSIAN.covs[0])
    for steps in (16, 32, 64, 128):
        times = process.t_from_log_snr(torch.linspace(-3, 4, steps + 1, dtype=torch.float64))
        (alpha, sigma), (alpha_end, sigma_end) = process.marginal(times[0]), process.marginal(times[-1])
        root = torch.linalg.cholesky(alpha**2 * cov + sigma**2 * torch.eye(2))
        x = (alpha * mean).repeat(3 + 2 * steps, 1)
        x[1:3] += root.T
        x = solver.solve(model, x, times, noise=StepImpulses()) / alpha_end
        columns = x[1:] - x[0]
        gap = columns.T @ columns - (cov + (sigma_end / alpha_end) ** 2 * torch.eye(2))
        errors.append(float(gap.norm() + (x[0] - mean).norm()))
    measured = np.log2(errors[0] / errors[-1]) / 3
    assert measured >= solver.order - 0.15, f"weak order {measured:.2f}: {errors}"
