"""The sampler: prior, solver and last step."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sde_gen.denoiser import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.grid import LogSNR, Uniform
from sde_gen.noise import PerSample
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import NFECounter, StopOnNaN, Trajectory
from tests.helpers import oracles
from tests.helpers.catalogue import first, integrators, make, names

SDES = names("sde")


class Impulses:
    """Noise that gives zero and the unit vectors of the plane instead of random numbers."""

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        raise AssertionError("a deterministic sampler draws from its prior only")

    def normal(self, x: Tensor) -> Tensor:
        return torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=x.dtype)

    def uniform(self, x: Tensor) -> Tensor:
        raise AssertionError("a sampler needs no uniform numbers")


@pytest.mark.parametrize("denoise_final", [False, True])
@pytest.mark.parametrize("sde", SDES)
def test_distribution_on_gaussian_data_is_exact(sde: str, denoise_final: bool) -> None:
    """On Gaussian data the sampler is affine in its noise: three samples give mean and covariance."""
    process = make("sde", sde)
    sampler = Sampler(
        solver=make("solver", "dpm_solver_3"), grid=LogSNR(), steps=40, denoise_final=denoise_final
    )
    denoiser = oracles.denoiser(process, oracles.GAUSSIAN)
    x = sampler(denoiser, (3, 2), noise=Impulses(), dtype=torch.float64)
    mean, columns = x[0], x[1:] - x[0]
    # to the prior's own error (log_snr(1) is finite), the solver's, and what is left at t_min
    gap = 1.5 * float(torch.exp(0.5 * process.log_snr(LogSNR().begin(process)))) + 2e-3
    torch.testing.assert_close(mean, torch.tensor(oracles.GAUSSIAN.means[0]), rtol=0, atol=gap)
    torch.testing.assert_close(columns.T @ columns, torch.tensor(oracles.GAUSSIAN.covs[0]), rtol=0, atol=gap)


@pytest.mark.parametrize("sde", SDES)
def test_starts_in_the_prior_of_its_first_time(sde: str) -> None:
    process, path = make("sde", sde), Trajectory()
    grid = Uniform(t_max=0.8)
    sampler = Sampler(solver=make("solver", "ddim"), grid=grid, steps=1)
    sampler(oracles.denoiser(process), (3, 2), noise=Impulses(), hooks=[path], dtype=torch.float64)
    sigma = float(process.sigma(torch.tensor(0.8, dtype=torch.float64)))
    torch.testing.assert_close(path.states[0], sigma * Impulses().normal(path.states[0]))


def test_last_step_is_the_posterior_mean() -> None:
    process = make("sde", "vp")
    denoiser, grid = oracles.denoiser(process), LogSNR(t_min=0.05)
    kwargs = {"solver": make("solver", "heun"), "grid": grid, "steps": 6}
    noisy = Sampler(**kwargs, denoise_final=False)(denoiser, (8, 2), noise=PerSample(range(8)))
    clean = Sampler(**kwargs, denoise_final=True)(denoiser, (8, 2), noise=PerSample(range(8)))
    assert torch.equal(clean, denoiser(noisy, torch.tensor(0.05, dtype=torch.float64)).x0)
    assert clean.dtype == torch.float32


@pytest.mark.parametrize("name", integrators())
@pytest.mark.parametrize("denoise_final", [False, True])
def test_declares_its_evaluations(name: str, denoise_final: bool) -> None:
    denoiser, steps = oracles.denoiser(make("sde", "vp")), {"annealed_langevin": 50, "pndm": 6}.get(name, 4)
    sampler = Sampler(solver=make("solver", name), grid=LogSNR(), steps=steps, denoise_final=denoise_final)
    with NFECounter(denoiser) as counter:
        x = sampler(denoiser, (2, 2), noise=PerSample([0, 1]))
    assert not x.requires_grad
    assert sampler.nfe in (None, counter.calls)


@pytest.mark.parametrize("sde", first("sde", "vp"))
@pytest.mark.parametrize("name", integrators())
def test_every_pair_samples_with_the_default_grid(name: str, sde: str) -> None:
    """The commands' default, angle down to t_min in float32: finite, and as wide as the data within a half.

    Orders and distributions are tested exactly elsewhere; the spread of 256 samples has a standard error of 0.05.
    """
    denoiser = oracles.denoiser(make("sde", sde))
    levels_of_its_paper, what_it_needs_on_ve = 232, 60
    steps = {"annealed_langevin": levels_of_its_paper, "euler": what_it_needs_on_ve}.get(name, 30)
    sampler = Sampler(solver=make("solver", name), grid=make("grid", "angle"), steps=steps)
    x = sampler(denoiser, (256, 2), noise=PerSample(range(256)), hooks=[StopOnNaN()])
    means, covs, weights = oracles.MIXTURE
    spread = np.sqrt(np.einsum("k,kii->i", weights, covs) + weights @ means**2 - (weights @ means) ** 2)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x.std(0).numpy(), spread, rtol=0.5)


def test_invalid_settings_are_refused() -> None:
    solver, denoiser = make("solver", "ddim"), oracles.denoiser(make("sde", "vp"))
    for steps in (0, -1):
        with pytest.raises(ValueError, match=f"steps={steps}"):
            Sampler(solver=solver, grid=LogSNR(), steps=steps)
    sampler = Sampler(solver=solver, grid=LogSNR(), steps=2)
    for shape in [(0, 2), (3,), (2, 0), (-1, 2)]:
        with pytest.raises(ValueError, match="shape="):
            sampler(denoiser, shape, noise=PerSample([]))


def test_samples_that_are_not_finite_are_not_returned() -> None:
    class Broken(Denoiser):
        """Predicts NaN for the second sample late on the way."""

        def __init__(self) -> None:
            super().__init__()
            self.sde, self.exact = make("sde", "vp"), oracles.denoiser(make("sde", "vp"))

        def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
            prediction = self.exact(x_t, t)
            if float(t) < 0.01:
                prediction.x0[1] = torch.nan
            return prediction

    sampler = Sampler(solver=make("solver", "ddim"), grid=make("grid", "log_snr"), steps=8)
    with pytest.raises(FloatingPointError, match=r"samples \[1\] are not finite"):
        sampler(Broken(), (3, 2), noise=PerSample(range(3)))
    with pytest.raises(FloatingPointError, match=r"step \d of 8"):
        sampler(Broken(), (3, 2), noise=PerSample(range(3)), hooks=[StopOnNaN()])
