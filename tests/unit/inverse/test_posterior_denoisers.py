"""Denoisers of inverse problems against the exact denoiser of the posterior, which for Gaussian data is Gaussian."""

import pytest
import torch
from torch import Tensor

from sde_gen.denoiser import GaussianDenoiser
from sde_gen.inverse import DPS, MMPS, DiffPIR, PiGDM
from sde_gen.inverse.operator import Function
from sde_gen.inverse.operator.conjugate_gradients import conjugate_gradients
from sde_gen.sde import SDE
from sde_gen.solver.callbacks import NFECounter
from tests.helpers.catalogue import make, names

SDES = names("sde")
TIMES = (0.05, 0.4, 0.8)
MEAN = torch.tensor([0.3, -0.5, 0.2]).double()
COV = torch.tensor([[0.5, 0.2, 0.1], [0.2, 0.4, -0.1], [0.1, -0.1, 0.3]]).double()
ROWS = torch.tensor([[1.0, 0.5, 0.0], [0.0, -0.3, 0.8]]).double()
UNIT = torch.tensor([[0.6, 0.8, 0.0]]).double()
STD = 0.2
Y = torch.tensor([[0.9, 0.4]]).double()


def measuring(rows: Tensor) -> Function:
    """The operator of a matrix."""
    return Function(function=lambda x: x @ rows.to(x).T, is_linear=True)


def prior(sde: SDE, cov: Tensor = COV) -> GaussianDenoiser:
    """The exact denoiser of the data."""
    return GaussianDenoiser(sde=sde, mean=MEAN, cov=cov)


def posterior(sde: SDE, rows: Tensor, y: Tensor, cov: Tensor = COV) -> GaussianDenoiser:
    """The exact denoiser of the data given y: Gaussian, with the precisions added."""
    precision = torch.linalg.inv(cov) + rows.T @ rows / STD**2
    spread = torch.linalg.inv(precision)
    mean = spread @ (torch.linalg.solve(cov, MEAN) + rows.T @ y[0] / STD**2)
    return GaussianDenoiser(sde=sde, mean=mean, cov=0.5 * (spread + spread.T))


def samples(sde: SDE, t: Tensor) -> Tensor:
    """Samples about where p_t is, float64."""
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha, sigma = sde.marginal(t)
    return torch.sqrt(alpha**2 + sigma**2) * z


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("sde", SDES)
def test_mmps_is_exact_for_gaussian_data(sde: str, t: float) -> None:
    process, time = make("sde", sde), torch.tensor(t).double()
    x = samples(process, time)
    found = MMPS(denoiser=prior(process), operator=measuring(ROWS), y=Y, noise_std=STD)(x, time)
    exact = posterior(process, ROWS, Y)(x, time)
    torch.testing.assert_close(found.x0, exact.x0, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found.score, exact.score, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("sde", SDES)
def test_the_cheaper_methods_are_exact_where_their_assumption_holds(sde: str, t: float) -> None:
    process, time, s = make("sde", sde), torch.tensor(t).double(), 0.7
    white = s**2 * torch.eye(3).double()
    x, y = samples(process, time), Y[:, :1]
    alpha, sigma = process.marginal(time)
    exact = posterior(process, UNIT, y, white)(x, time).x0
    signal, noise = float((s * alpha) ** 2), float(sigma**2)
    given = {"denoiser": prior(process, white), "operator": measuring(UNIT), "y": y, "noise_std": STD}
    for method in (
        PiGDM(**given, data_std=s),
        DiffPIR(**given, trust=(signal + noise) / signal),
        DPS(**given, gamma=signal / (signal + noise)),
    ):
        torch.testing.assert_close(method(x, time).x0, exact, rtol=1e-7, atol=1e-7)


def test_every_sample_has_its_own_time_and_measurement() -> None:
    process = make("sde", "vp")
    t = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]).double()
    x, y = samples(process, torch.tensor(0.5).double()), torch.linspace(-1, 1, 10).double().reshape(5, 2)
    for method, more in [(MMPS, {}), (PiGDM, {}), (DiffPIR, {}), (DPS, {})]:
        given = {"denoiser": prior(process), "operator": measuring(ROWS), "noise_std": STD, **more}
        together = method(**given, y=y)(x, t).x0
        alone = torch.cat([method(**given, y=y[i : i + 1])(x[i : i + 1], t[i]).x0 for i in range(5)])
        torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)


def test_each_costs_one_evaluation_and_leaves_no_graph() -> None:
    process, t = make("sde", "vp"), torch.tensor(0.4).double()
    model, x = prior(process), samples(process, t).float()
    for method in (MMPS, PiGDM, DiffPIR, DPS):
        guided = method(denoiser=model, operator=measuring(ROWS), y=Y.float(), noise_std=STD)
        with torch.no_grad(), NFECounter(model) as counter:
            found = guided(x, t)
        assert counter.calls == 1
        assert found.x0.dtype == torch.float32
        assert not found.x0.requires_grad
        assert not found.eps.requires_grad


def test_conjugate_gradients_solve_every_row_to_its_own_end() -> None:
    a = COV + torch.eye(3)
    b = torch.stack([MEAN, torch.zeros(3).double(), 1e6 * MEAN])
    found = conjugate_gradients(lambda v: v @ a, b, steps=10)
    torch.testing.assert_close(found, torch.linalg.solve(a, b.T).T, rtol=1e-10, atol=1e-10)
    assert float(conjugate_gradients(lambda v: v @ a, b, steps=1)[0].sub(found[0]).abs().max()) > 1e-4


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_conjugate_gradients_do_not_diverge_where_a_is_not_symmetric(steps: int) -> None:
    """A = I + 5 S with skew S has p . A p = |p|^2, and the iteration still diverges: no residual is larger than b.

    So are the products with the derivative of a trained network, where one step enlarged the residual 10^5 times.
    """
    random = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a = torch.eye(6, dtype=torch.float64) + 5 * (random - random.mT)
    b = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = conjugate_gradients(lambda v: v @ a.mT, b, steps=steps)
    residual = (b - found @ a.mT).norm(dim=1)
    assert bool((residual <= b.norm(dim=1) * (1 + 1e-12)).all())
    positive = a @ a.mT
    exact = torch.linalg.solve(positive, b.mT).mT
    torch.testing.assert_close(
        conjugate_gradients(lambda v: v @ positive, b, steps=60), exact, rtol=1e-6, atol=1e-9
    )


def test_impossible_settings_are_refused() -> None:
    model = prior(make("sde", "rectified"))
    given = {"denoiser": model, "operator": measuring(ROWS), "y": Y}
    for method in (MMPS, PiGDM, DiffPIR, DPS):
        with pytest.raises(ValueError, match="noise_std=0"):
            method(**given, noise_std=0.0)
    for method in (MMPS, PiGDM, DPS):
        with pytest.raises(ValueError, match="t_max below 1"):
            method(**given, noise_std=STD)(torch.zeros(1, 3).double(), torch.ones(()).double())
    bent = Function(function=lambda x: x**2)
    for method in (MMPS, PiGDM, DiffPIR):
        with pytest.raises(ValueError, match="not linear"):
            method(denoiser=model, operator=bent, y=Y, noise_std=STD)
    with pytest.raises(ValueError, match="data_std"):
        PiGDM(**given, noise_std=STD, data_std=0.0)
    with pytest.raises(ValueError, match="trust"):
        DiffPIR(**given, noise_std=STD, trust=0.0)
    with pytest.raises(ValueError, match="gamma"):
        DPS(**given, noise_std=STD, gamma=-1.0)
    with pytest.raises(ValueError, match="steps"):
        MMPS(**given, noise_std=STD, steps=0)
