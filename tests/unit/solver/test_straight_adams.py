"""The linear path and its grid: what they are exact for, that the process does not matter, what they gain."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.interpolate import KroghInterpolator
from torch import Tensor

from sde_gen.denoiser import Denoiser, GaussianDenoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.grid import Angle, Uniform
from sde_gen.noise import IID
from sde_gen.sde import SDE
from sde_gen.solver.base import Solver
from sde_gen.solver.callbacks import StopOnNaN
from sde_gen.solver.ode_solver import torch_diffeq
from sde_gen.solver.straight_adams import StraightAdams
from tests.contract.test_solver import MIDDLE, error
from tests.helpers import oracles
from tests.helpers.catalogue import make, names

SDES = names("sde")


@pytest.mark.parametrize("middle", [0.1, 0.3, 2.0])
@pytest.mark.parametrize("sde", SDES)
def test_one_point_is_exact_in_any_steps(sde: str, middle: float) -> None:
    """Data of one point: the path from noise is straight, so its slope is constant."""
    process, mean = make("sde", sde), torch.tensor([0.7, -0.4], dtype=torch.float64)
    model = GaussianDenoiser(sde=process, mean=mean, cov=torch.zeros(2, 2, dtype=torch.float64))
    eps = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for steps in (1, 2, 7):
        times = oracles.ratio_times(process, steps)
        (alpha, end_alpha), (sigma, end_sigma) = (part[[0, -1]] for part in process.marginal(times))
        x = StraightAdams(middle=middle).solve(model, alpha * mean + sigma * eps, times, noise=IID.seeded(0))
        torch.testing.assert_close(x, end_alpha * mean + end_sigma * eps, rtol=0, atol=1e-9)


def test_the_process_does_not_matter() -> None:
    """On the same ratios sigma / alpha all processes are one linear path: the same errors, not just the order."""

    def end(sde: str) -> oracles.Array:
        process = make("sde", sde)
        times = oracles.ratio_times(process, 6)
        x = oracles.to_x(process, oracles.starts(), times[0])
        x = StraightAdams().solve(oracles.denoiser(process), x, times, noise=IID.seeded(0))
        return oracles.to_z(process, x, times[-1])

    first = end(SDES[0])
    assert np.abs(first - oracles.ends()).max() > 1e-2  # nothing that everyone gets right
    for sde in SDES[1:]:
        np.testing.assert_allclose(end(sde), first, rtol=0, atol=1e-7)


class Scripted(Denoiser):
    """A denoiser whose k-th answer is the k-th row of a table, whatever it is asked."""

    def __init__(self, sde: SDE, x0: Tensor, eps: Tensor) -> None:
        super().__init__()
        self.sde, self.rows = sde, iter(zip(x0, eps, strict=True))

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        x0, eps = next(self.rows)
        return Prediction(x_t, x0.expand_as(x_t), eps.expand_as(x_t), *self.sde.marginal(t))


@pytest.mark.parametrize("steps", [1, 2, 3, 6, 9, 18])
def test_is_the_page_s_predictor_and_corrector(steps: int) -> None:
    """Polynomials by SciPy's interpolation and integrals by its quadrature, on steps short, long and uneven."""
    m, n, clock = 0.4, 0.4 / 5, 0.4 * 2.5
    sde, rng = make("sde", "edm"), np.random.default_rng(steps)
    angle = np.linspace(1.45, 0.1, steps + 1) + 0.02 * rng.uniform(-1, 1, steps + 1)
    ratio = m * np.tan(angle) ** 2
    x0, eps = rng.standard_normal((2, steps))
    slope = x0 - n * eps
    places, path = ratio / (clock + ratio), ratio / (n + ratio)

    def integral(i: int, nodes: list[int]) -> float:
        """Over step i, of the polynomial through the slopes at nodes with differences that fade, dy/dp_n = -F/n."""
        tau = 1 / (1 + (20 * (angle[i] - angle[i + 1]) / np.pi) ** 6)
        through = [
            KroghInterpolator(places[nodes[:count]], slope[nodes[:count]])
            for count in range(1, 1 + len(nodes))
        ]
        fades = [1, 1, (1 + tau) / 2, tau, tau]

        def integrand(p_n: float) -> float:
            r = n * p_n / (1 - p_n)
            values = [float(polynomial(r / (clock + r))) for polynomial in through]
            return -float(np.dot(fades[: len(values)], np.diff(values, prepend=0))) / n

        return float(quad(integrand, path[i], path[i + 1], epsabs=1e-12, epsrel=1e-12)[0])

    y = 0.7 / (n + ratio[0])
    for i in range(steps):
        if i:  # correct the step before by the evaluation at its end
            tau = 1 / (1 + (20 * (angle[i - 1] - angle[i]) / np.pi) ** 6)
            known = list(range(i, -1, -1))
            y += (1 + tau) / 2 * (integral(i - 1, known[:5]) - integral(i - 1, known[1:5]))
        y += integral(i, list(range(i, -1, -1))[:4])

    model = Scripted(sde, torch.tensor(x0), torch.tensor(eps))
    times = sde.t_from_log_snr(-2 * torch.tensor(ratio).log())
    x = torch.full((1, 1), 0.7, dtype=torch.float64)
    end = StraightAdams(middle=m).solve(model, x, times, noise=IID.seeded(0))
    assert float(end) == pytest.approx(y * (n + ratio[-1]), rel=1e-8)


def test_measures_more_than_its_order_from_a_straight_start() -> None:
    """Above 4, as its page says, where the flow is straight at first; the start decides where it is not."""
    coarse, fine = (error(StraightAdams(), "vp", steps) for steps in (24, 192))
    assert np.log2(coarse / fine) / 3 > 4.5
    coarse, fine = (error(StraightAdams(), "vp", steps, ratios=MIDDLE) for steps in (48, 384))
    assert 2.85 < np.log2(coarse / fine) / 3 < 3.5


def test_starts_where_there_is_no_signal() -> None:
    """The straight process at t = 1 has alpha = 0: the angle pi / 2."""
    sde, grid = make("sde", "rectified"), Uniform(t_min=0.05)
    model, x = oracles.denoiser(sde), IID.seeded(3).normal(torch.empty(16, 2).double())
    exact = torch_diffeq(method="dopri8", rtol=1e-11, atol=1e-12).solve(
        model, x, grid(sde, 1), noise=IID.seeded(0)
    )
    errors = []
    for steps in (16, 32, 64, 128):
        end = StraightAdams().solve(model, x, grid(sde, steps), noise=IID.seeded(0), hooks=[StopOnNaN()])
        errors.append(float((end - exact).square().mean().sqrt()))
    assert np.log2(errors[0] / errors[-1]) / 3 >= StraightAdams.order - 0.15, errors


@pytest.mark.parametrize("sde", SDES)
def test_the_grid_is_even_in_its_angle(sde: str) -> None:
    process, grid = make("sde", sde), Angle(middle=0.7)
    alpha, sigma = process.marginal(grid(process, 11))
    steps = torch.atan(torch.sqrt(sigma / (0.7 * alpha))).diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-6, atol=1e-9)


def test_the_grid_of_the_straight_process_is_chebyshev_s() -> None:
    """With m = 1 and all of [0, 1], t = sin^2 u: the extrema of a Chebyshev polynomial."""
    times = Angle(middle=1.0, ratio_max=1e12)(make("sde", "rectified", t_min=1e-12), 8)
    chebyshev = 0.5 + 0.5 * torch.cos(torch.pi * torch.arange(9, dtype=torch.float64) / 8)
    torch.testing.assert_close(times, chebyshev, rtol=0, atol=1e-5)


RING = oracles.MixtureParameters(
    means=np.stack([np.cos(2 * np.pi * np.arange(8) / 8), np.sin(2 * np.pi * np.arange(8) / 8)], 1),
    covs=np.stack([(0.05 * (1 + k % 3)) ** 2 * np.eye(2) for k in range(8)]),
    weights=np.arange(1, 9) / 36,
)
"""Eight narrow Gaussians on a circle: harder than the smooth mixture on which orders are measured."""


@pytest.mark.parametrize(
    ("steps", "factor", "others"),
    [
        (10, 2.0, ["dpm_solver_pp", "dpm_solver_3m", "unipc_bh2"]),
        (20, 3.0, ["dpm_solver_pp", "dpm_solver_3m", "unipc_bh2"]),
        (40, 3.0, ["dpm_solver_pp", "dpm_solver_3m", "unipc_bh2"]),
    ],
)
def test_errs_less_than_the_others_on_their_best_grid(steps: int, factor: float, others: list[str]) -> None:
    """Median over samples, with the same number of evaluations: what makes it worth a file."""
    sde = make("sde", "edm")
    rng, model = np.random.default_rng(7), oracles.denoiser(sde, RING)
    z = 80.0 * rng.standard_normal((64, 2))
    exact = oracles.flow(z, 80.0, 0.002, RING, rtol=1e-9)

    def error(solver: Solver, grid: str) -> float:
        times = make("grid", grid)(sde, steps)
        x = solver.solve(model, oracles.to_x(sde, z, times[0]), times, noise=IID.seeded(0))
        return float(np.median(np.sqrt(np.mean((oracles.to_z(sde, x, times[-1]) - exact) ** 2, axis=1))))

    best = min(
        error(make("solver", name), grid) for name in others for grid in ("karras", "log_snr", "angle")
    )
    assert error(StraightAdams(), "angle") < best / factor


@pytest.mark.parametrize("middle", [0.0, -1.0, float("nan"), float("inf")])
def test_invalid_settings_are_refused(middle: float) -> None:
    for kind in (StraightAdams, Angle):
        with pytest.raises(ValueError, match=r"middle=.* must"):
            kind(middle=middle)
