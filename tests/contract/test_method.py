"""Contract of all methods for inverse problems with all solvers: samples near the exact posterior of a Gaussian."""

import math
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from sde_gen.denoiser import GaussianDenoiser
from sde_gen.inverse import DPS
from sde_gen.inverse.operator import Mask
from sde_gen.noise import IID
from sde_gen.sampler import Sampler
from sde_gen.sde import SDE
from sde_gen.solver.callbacks import StopOnNaN
from tests.helpers.catalogue import CONF, first, integrators, make, names

MEAN = torch.tensor([0.2, -0.3, 0.1, 0.0]).double()
COV = 0.25 * torch.exp(-(torch.arange(4.0).double()[:, None] - torch.arange(4.0)).abs() / 2)
STD, COUNT = 0.05, 64
KNOWN = torch.tensor([True, True, False, False])
Y = torch.tensor([[0.6, 0.1, 0.0, 0.0]]).double()
LARGEST = 3.0
"""Of 64 samples of the posterior, whose standard deviations are at most 0.4, none is that large in 1e9 draws."""

METHODS = names("method")
OWN_STEPS = {
    "adaptive_sde",
    "bogacki_shampine",
    "dormand_prince",
    "dpm_adaptive",
    "scipy_ode",
    "torch_diffeq",
}
"""Adaptive solvers: projection and repaint refuse them."""
UNABLE = {"annealed_langevin"}
"""Needs 200 levels instead of 20, and refuses fewer."""
LONG_LAST_STEP = {"ddpm_inner": 96, "shifted": 96}
"""Grids whose last of 12 steps removes more noise than the measurement has, and steps that suffice."""
FREE = {"repaint", "projection"}
"""Methods that replace samples between steps."""


def posterior() -> tuple[Tensor, Tensor]:
    """Exact mean and standard deviations of x_0 given y."""
    rows = torch.eye(4).double()[KNOWN]
    gain = COV @ rows.T @ torch.linalg.inv(rows @ COV @ rows.T + STD**2 * torch.eye(2).double())
    return MEAN + gain @ (Y[0, :2] - MEAN[:2]), (COV - gain @ rows @ COV).diagonal().sqrt()


def draw(method: str, solver: str, grid: str = "angle", *, sde: str = "vp", steps: int = 12) -> Tensor:
    """Samples of a Gaussian given y, with the method and solver of conf."""
    config: Any = OmegaConf.create(
        {
            "solver": OmegaConf.load(CONF / "solver" / f"{solver}.yaml"),
            "method": OmegaConf.load(CONF / "method" / f"{method}.yaml"),
            "noise_std": STD,
        }
    )
    if method == "repaint":
        config.method.solver.repeats = 2
    model = GaussianDenoiser(sde=make("sde", sde), mean=MEAN, cov=COV)
    sampler = Sampler(solver=instantiate(config.solver), grid=make("grid", grid, sde=sde), steps=steps)
    denoiser, conditioned = instantiate(config.method)(model, sampler, Mask(mask=KNOWN), Y)
    return conditioned(denoiser, (COUNT, 4), noise=IID.seeded(0), hooks=[StopOnNaN()], dtype=torch.float64)


def check(x: Tensor, least: float = 0.5) -> None:
    """Mean and spread of the samples against the posterior's, in its own standard deviations."""
    mean, std = posterior()
    assert float(x.abs().max()) < LARGEST
    assert float(((x.mean(0) - mean) / std).abs().max()) < 1.5
    ratio = x.std(0) / std
    assert float(ratio[2:].min()) > least, "of what is not measured"
    assert float(ratio.max()) < 2


QUICK = ("straight_adams", "dpm_solver_pp_sde_3m", "pndm", "edm_churn", "restart", "unipc_bh2")
"""Solvers with a memory, with noise, and with jumps."""


def pairs() -> list[Any]:
    """Every method with every solver; most in slow runs."""
    found = []
    for method in METHODS:
        for solver in integrators() if method != "twisted_smc" else ["ddim"]:
            if solver in UNABLE or (solver in OWN_STEPS and method in FREE):
                continue
            quick = method == "twisted_smc" or (solver in QUICK and method in {*FREE, "dps"})
            found.append(pytest.param(method, solver, marks=[] if quick else pytest.mark.slow))
    return found


@pytest.mark.parametrize(("method", "solver"), pairs())
def test_samples_are_near_the_posterior(method: str, solver: str) -> None:
    """In 12 steps, the first of which are long; a midpoint with noise needs 24."""
    check(draw(method, solver, steps=24 if solver == "dpm_solver_sde" else 12))


@pytest.mark.parametrize("grid", first("grid", "uniform"))
@pytest.mark.parametrize("method", METHODS)
def test_samples_are_near_the_posterior_on_every_grid(method: str, grid: str) -> None:
    if grid.startswith("listed"):
        pytest.skip("a list of times is the user's")
    if grid == "ddpm_trailing":
        pytest.skip("it ends at a twelfth of the way, where more noise is left than the measurement has")
    # of the particles one may be left where the last steps are long
    x = draw(method, "straight_adams", grid, steps=LONG_LAST_STEP.get(grid, 12))
    check(x, least=-1 if method == "twisted_smc" else 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("sde", ["ve", "sub_vp", "edm", "cosine"])
@pytest.mark.parametrize("method", METHODS)
def test_samples_are_near_the_posterior_on_every_process(method: str, sde: str) -> None:
    for solver in ("straight_adams", "dpm_solver_pp_3m"):
        check(draw(method, solver, sde=sde), least=-1 if method == "twisted_smc" else 0.5)


@pytest.mark.parametrize("solver", sorted(OWN_STEPS))
@pytest.mark.parametrize("method", sorted(FREE))
def test_solvers_that_choose_their_steps_are_refused(method: str, solver: str) -> None:
    with pytest.raises(Exception, match="adaptive solver cannot be inside another"):
        draw(method, solver)


@pytest.mark.parametrize("gamma", [0.0, 0.1])
def test_dps_never_moves_beyond_the_measurement(gamma: float) -> None:
    """With an identity for data's covariance the exact move of x_0 never passes y; an unlimited one does by 1 / v."""
    sde: SDE = make("sde", "vp")
    model = GaussianDenoiser(sde=sde, mean=torch.zeros(4).double(), cov=torch.eye(4).double())
    guided = DPS(denoiser=model, operator=Mask(mask=KNOWN), y=Y, noise_std=1e-3, gamma=gamma)
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for time in (0.05, 0.2, 0.5):
        t = torch.tensor(time).double()
        before, after = model(x, t).x0[:, :2], guided(x, t).x0[:, :2]
        share = ((after - before) / (Y[:, :2] - before)).flatten()
        assert float(share.min()) > 0.3
        assert float(share.max()) < 1 + 1e-9
        assert math.isclose(float(share.std()), 0, abs_tol=1e-9)  # both coordinates alike
