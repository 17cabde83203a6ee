"""Stochastic solvers, each beyond the contract: what it becomes at its limits, and what only it can get wrong."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from sde_gen.denoiser import Denoiser, GaussianDenoiser
from sde_gen.denoiser.dynamics import ReverseSDE
from sde_gen.denoiser.prediction import Prediction
from sde_gen.grid import Uniform
from sde_gen.noise import IID, Brownian, PerSample
from sde_gen.sde import SDE
from sde_gen.solver import (
    PNDM,
    AdaptiveSDE,
    Ancestral,
    AnnealedLangevin,
    DPMSolverPP,
    DPMSolverPP3M,
    DPMSolverPPSDE2M,
    DPMSolverPPSDE3M,
    EDMChurn,
    EulerMaruyama,
    Heun,
    Restart,
    Solver,
    StepSolver,
)
from sde_gen.solver._brownian_bisection import BrownianBisection
from sde_gen.solver.adaptive_sde import SDETrial
from sde_gen.solver.callbacks import NFECounter, StopOnNaN, Trajectory
from tests.helpers import gaussian, oracles
from tests.helpers.catalogue import make, names

SDES = names("sde")


class Counted(PerSample):
    """Noise that counts what is drawn."""

    def __init__(self, count: int) -> None:
        super().__init__(range(count))
        self.fresh_draws = self.path_draws = 0

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        self.path_draws += 1
        return super().normal(x)

    def normal(self, x: Tensor) -> Tensor:
        self.fresh_draws += 1
        return super().normal(x)


def chain(solver: Solver, sde: str | SDE, steps: int = 9) -> Tensor:
    """Samples of the mixture."""
    process = make("sde", sde) if isinstance(sde, str) else sde
    times = oracles.ratio_times(process, steps)
    x = oracles.to_x(process, oracles.starts(), times[0])
    return solver.solve(
        oracles.denoiser(process), x, times, noise=PerSample(range(len(x))), hooks=[StopOnNaN()]
    )


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize(
    ("ours", "original", "steps"),
    [
        (DPMSolverPPSDE2M(eta=0.0), DPMSolverPP(), 9),
        (DPMSolverPPSDE3M(eta=0.0), DPMSolverPP3M(), 9),
        (DPMSolverPPSDE2M(), Ancestral(), 1),
        (DPMSolverPPSDE3M(), Ancestral(), 1),
        (Restart(repeats=0), Heun(), 9),
        (Restart(repeats=0, inner=DPMSolverPP3M()), DPMSolverPP3M(), 9),
    ],
    ids=["2m", "3m", "2m first step", "3m first step", "restart", "restart of multistep"],
)
def test_limits_are_other_solvers(ours: Solver, original: Solver, steps: int, sde: str) -> None:
    torch.testing.assert_close(chain(ours, sde, steps), chain(original, sde, steps), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [3, 7, 20])
@pytest.mark.parametrize("sde", ["vp", "edm", "rectified"])
@pytest.mark.parametrize("order", [2, 3])
def test_without_noise_it_is_the_flow_s_on_uneven_grids_too(order: int, sde: str, steps: int) -> None:
    """Last steps many times as long as the one before, and at the begin of rectified no signal."""
    process = make("sde", sde)
    times = Uniform()(process, steps)
    x = float(process.sigma(times[0])) * IID.seeded(0).normal(torch.empty(8, 2).double())
    pair = (DPMSolverPPSDE2M, DPMSolverPP) if order == 2 else (DPMSolverPPSDE3M, DPMSolverPP3M)
    ours, original = (
        solver.solve(oracles.denoiser(process), x, times, noise=IID.seeded(0))
        for solver in (pair[0](eta=0.0), pair[1]())
    )
    torch.testing.assert_close(ours, original, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sde", ["vp", "rectified"])
@pytest.mark.parametrize("solver", [DPMSolverPPSDE2M(), DPMSolverPPSDE3M()], ids=["2m", "3m"])
def test_long_last_steps_leave_the_spread_of_the_data(solver: Solver, sde: str) -> None:
    """Data of standard deviation 0.2, equal steps of time: without holding back, 2M ends at 0.38 to 0.45."""
    process = make("sde", sde)
    model = GaussianDenoiser(sde=process, mean=torch.zeros(1), cov=0.04 * torch.eye(1).double())
    for steps in (10, 20):
        times = Uniform()(process, steps)
        x = float(process.sigma(times[0])) * IID.seeded(0).normal(torch.empty(4000, 1).double())
        assert 0.05 < float(solver.solve(model, x, times, noise=IID.seeded(1)).std()) < 0.25


def test_without_churn_it_is_heun_in_sigma_over_alpha() -> None:
    """Which is the time of EDM's process, up to a factor."""
    heun = chain(Heun(), "edm")
    for solver in (EDMChurn(s_churn=0.0), EDMChurn(s_min=1e3), EDMChurn(s_max=1e-3)):
        torch.testing.assert_close(chain(solver, "edm"), heun, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(chain(EDMChurn(), "edm"), heun, atol=1e-3)


@pytest.mark.parametrize("sde", ["vp", "edm"])
def test_churns_between_its_bounds_only(sde: str) -> None:
    process = make("sde", sde)
    times = oracles.ratio_times(process, 12)
    ratio = torch.exp(-0.5 * process.log_snr(times[:-1]))
    x = oracles.to_x(process, oracles.starts(), times[0])
    for s_min, s_max in ((0.1, 5.0), (0.0, math.inf)):
        noise = Counted(len(x))
        solver = EDMChurn(s_min=s_min, s_max=s_max)
        solver.solve(oracles.denoiser(process), x, times, noise=noise)
        inside = (ratio >= s_min) & (ratio <= s_max) & (ratio < ratio[0])  # the first time is the top already
        assert (noise.fresh_draws, noise.path_draws) == (int(inside.sum()), 0)


@pytest.mark.parametrize("sde", ["vp", "edm"])
def test_churn_doubles_the_variance_at_most(sde: str) -> None:
    """However much is asked for, and never above the grid's first ratio."""
    process, asked = make("sde", sde), []
    times, model = oracles.ratio_times(process, 12), oracles.denoiser(process)
    model.register_forward_pre_hook(lambda _, args: asked.append(args[1]))
    x = oracles.to_x(process, oracles.starts(), times[0])
    EDMChurn(s_churn=1e3).solve(model, x, times, noise=PerSample(range(len(x))))
    variance, up = (torch.exp(-process.log_snr(t)) for t in (times[:-1], torch.stack(asked[::2])))
    torch.testing.assert_close(up, (2 * variance).clamp(max=float(variance[0])), rtol=1e-9, atol=0)


def test_churn_says_when_it_is_biased() -> None:
    sde = make("sde", "vp")
    assert EDMChurn(s_noise=1.007).order == 0
    assert EDMChurn(s_noise=1.007, s_churn=0.0).order == 2
    times = oracles.ratio_times(sde, 256)
    exact, biased = (gaussian.errors(EDMChurn(s_noise=factor), sde, times)[1] for factor in (1.0, 1.007))
    assert biased > 10 * exact


@pytest.mark.parametrize("inner", [Heun(), DPMSolverPP()])
@pytest.mark.parametrize(("steps", "repeats", "grid"), [(1, 1, 1), (3, 2, 7), (4, 5, 16)])
def test_restarts_the_given_number_of_times(inner: StepSolver, steps: int, repeats: int, grid: int) -> None:
    sde = make("sde", "vp")
    solver, times = Restart(inner=inner, steps=steps, repeats=repeats), oracles.ratio_times(sde, grid)
    model, x, noise = oracles.denoiser(sde), oracles.to_x(sde, oracles.starts(), times[0]), Counted(24)
    before, path = Trajectory(), Trajectory()
    with NFECounter(model) as counter:
        end = solver.solve(model, x, times, noise=noise, hooks=[path])
    assert counter.calls == solver.nfe(grid)
    assert (noise.fresh_draws, noise.path_draws) == (repeats, 0)
    inner.solve(model, x, times, noise=noise, hooks=[before])
    ratio = torch.exp(-0.5 * sde.log_snr(times))
    for time, a, b in zip(ratio, before.states, path.states, strict=True):
        assert torch.equal(a, b) == bool(time > 0.06)
    assert not torch.allclose(end, before.states[-1], atol=1e-3)


def test_restarts_correct_a_wrong_distribution() -> None:
    """Restarts contract errors that the flow would keep to the end: the paper's reason for them."""
    sde = make("sde", "vp")
    times = sde.t_from_log_snr(torch.linspace(-3, 4, 129, dtype=torch.float64))
    exact = gaussian.marginal(sde, times[0])
    wrong = gaussian.GaussianMoments(exact.mean, 1.5 * exact.cov)
    gaps = [
        gaussian.moment_errors(
            sde, times[-1], gaussian.propagate(solver, gaussian.denoiser(sde), times, wrong)
        )[1]
        for solver in (
            Heun(),
            Restart(ratio_min=0.3, ratio_max=3.0, steps=64, repeats=1),
            Restart(ratio_min=0.3, ratio_max=3.0, steps=64, repeats=3),
        )
    ]
    assert gaps[1] < 0.3 * gaps[0]
    assert gaps[2] < 0.1 * gaps[1]


def test_restart_refuses_invalid_settings() -> None:
    for inner in (EulerMaruyama(), Restart()):
        with pytest.raises(ValueError, match="draws noise"):
            Restart(inner=inner)
    with pytest.raises(ValueError, match="proportional"):
        Restart(inner=Costly())
    for wrong in ({"ratio_min": 0.0}, {"ratio_min": 0.5}, {"ratio_max": 0.001}):
        with pytest.raises(ValueError, match="ratio_min="):
            Restart(**wrong)
    for wrong in ({"steps": 0}, {"repeats": -1}):
        with pytest.raises(ValueError, match="whole number"):
            Restart(**wrong)
    for wrong in ({"ratio_min": 0.01}, {"ratio_max": 30.0}):
        with pytest.raises(ValueError, match="within the grid"):
            chain(Restart(**wrong), "vp")


class Costly(Heun):
    """A solver with a separate start."""

    def nfe(self, steps: int) -> int:
        return 2 * steps + 1


def test_other_invalid_settings_are_refused() -> None:
    for wrong in ({"kappa": 0.0}, {"kappa": 4.0}, {"kappa": float("nan")}, {"moves": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AnnealedLangevin(**wrong)
    for wrong in ({"s_churn": -1.0}, {"s_min": 2.0, "s_max": 1.0}, {"s_noise": 0.0}, {"s_noise": math.inf}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            EDMChurn(**wrong)
    for wrong in ({"rtol": 0.0}, {"atol": -1.0}):
        with pytest.raises(ValueError, match="positive"):
            AdaptiveSDE(**wrong)
    sde = make("sde", "rectified")
    with pytest.raises(ValueError, match="infinite"):
        AdaptiveSDE().solve(
            oracles.denoiser(sde), torch.zeros(1, 2), torch.tensor([1.0, 0.5]).double(), noise=IID.seeded(0)
        )


def standard_normal(sde: str) -> GaussianDenoiser:
    """The exact denoiser of data N(0, 1)."""
    return GaussianDenoiser(sde=make("sde", sde), mean=torch.zeros(1), cov=torch.eye(1))


class Unchecked:
    """Run a solver on grids that it refuses."""

    def check(self, model: Denoiser, times: Tensor) -> None:
        pass


class UncheckedLangevin(Unchecked, AnnealedLangevin):
    pass


class UncheckedPNDM(Unchecked, PNDM):
    pass


@pytest.mark.long
@pytest.mark.parametrize("grid", ["uniform", "log_snr"])
@pytest.mark.parametrize("steps", [20, 50, 200])
def test_std_gain_of_annealed_langevin_is_that_of_its_samples(steps: int, grid: str) -> None:
    """Samples of data N(0, 1): what 20 levels leave is refused, 200 are enough."""
    model = standard_normal("vp")
    sde, noise = model.sde, IID.seeded(0)
    times = make("grid", grid)(sde, steps)
    start, end = (torch.sqrt(sde.alpha(t) ** 2 + sde.sigma(t) ** 2) for t in times[[0, -1]])
    x = start * noise.normal(torch.empty(4000, 1, dtype=torch.float64))
    std = UncheckedLangevin().solve(model, x, times, noise=noise).std() / end
    gain = AnnealedLangevin().std_gain(torch.exp(-0.5 * sde.log_snr(times)).tolist())
    assert float(std) == pytest.approx(gain, rel=0.05)  # five standard errors
    assert (gain > 3) == (steps == 20)
    assert steps < 200 or gain < 1.2


@pytest.mark.parametrize("up", [False, True], ids=["down", "up"])
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize(("sde", "grid"), [("vp", "angle"), ("cosine", "uniform"), ("ve", "log_snr")])
def test_std_gain_of_pndm_is_that_of_its_samples(sde: str, grid: str, steps: int, up: bool) -> None:
    """The first three steps are linear on Gaussian data, so one sample is enough."""
    model = standard_normal(sde)
    times = make("grid", grid, sde=sde)(model.sde, steps)
    times = times.flip(0) if up else times
    std = [torch.sqrt(a**2 + b**2) for a, b in (model.sde.marginal(t) for t in times[[0, -1]])]
    x = UncheckedPNDM().solve(model, std[0].reshape(1, 1), times, noise=IID.seeded(0)) / std[1]
    ratio = [torch.exp(-0.5 * model.sde.log_snr(t)) for t in (times, times[:-1] + 0.5 * times.diff())]
    gain = PNDM.std_gain(ratio[0][:-1], ratio[1], ratio[0][1:]).prod()
    assert float(x.abs()) == pytest.approx(float(gain), rel=1e-6)


def test_pndm_is_refused_where_its_samples_diverge() -> None:
    """Twenty uniform steps of the cosine process gave a standard deviation of 1e5; VP has none of it."""
    solver, refused = make("solver", "pndm"), make("sde", "cosine")
    with pytest.raises(ValueError, match="PNDM is unstable on this grid"):
        solver.check(oracles.denoiser(refused), Uniform()(refused, 20))
    sde = make("sde", "vp")
    solver.check(oracles.denoiser(sde), Uniform()(sde, 20))
    make("solver", "ipndm").check(oracles.denoiser(refused), Uniform()(refused, 20))


def shaken(count: int, redraw: bool) -> tuple[Tensor, int]:
    """W(1) of many paths whose steps are rejected where their own noise is large, and the number of rejections."""
    x, noise = torch.zeros(count, 1, dtype=torch.float64), IID.seeded(0)
    path, w, t = BrownianBisection(x), torch.zeros(count, 1).double(), torch.zeros(count).double()
    rejected, rejections = torch.zeros(count, dtype=torch.bool), 0
    while bool((t < 1).any()):
        z = noise.normal(x)
        if redraw:  # what not to do: forget the rejected noise, and draw for half the length
            half = 0.5 * path.length
            path.advance(rejected)
            path.extend(rejected, half, z)
        else:
            path.bisect(rejected, z)
        path.extend((path.length == 0) & (t < 1), torch.minimum(torch.tensor(0.25), 1 - t), z)
        large = path.increment[:, 0].abs() > 1.2 * torch.sqrt(path.length)
        rejected = large & (path.length > 1 / 64) & (t < 1)
        rejections += int(rejected.sum())
        accepted = ~rejected & (t < 1)
        w = torch.where(accepted[:, None], w + path.increment, w)
        t = torch.where(accepted, t + path.length, t)
        path.advance(accepted)
    assert bool((t == 1).all()), "the lengths must add up"
    return w[:, 0], rejections


def test_rejection_keeps_the_distribution_of_the_path() -> None:
    """Steps are rejected by their noise, some several times; W(1) stays N(0, 1) to a test of 20,000 paths."""
    w, rejections = shaken(20_000, redraw=False)
    assert rejections > 20_000
    assert stats.kstest(w, "norm").pvalue > 1e-6
    assert abs(float(w.square().mean()) - 1) < 5 * (2 / len(w)) ** 0.5
    spoilt, _ = shaken(20_000, redraw=True)
    assert float(spoilt.square().mean()) < 0.9, "the paper's way is seen by this test"


@pytest.mark.long
@pytest.mark.parametrize("sde", ["vp", "ve", "edm"])
def test_adaptive_steps_keep_the_distribution(sde: str) -> None:
    """Mean and covariance of 4,000 Gaussian samples: five standard errors and the tolerance."""
    process, count = make("sde", sde), 4000
    times = process.t_from_log_snr(torch.tensor([-3.0, 4.0], dtype=torch.float64))
    (mean, cov), exact = gaussian.marginal(process, times[0]), gaussian.marginal(process, times[1])
    noise = IID.seeded(0)
    x = mean + noise.normal(torch.empty(count, 2).double()) @ torch.linalg.cholesky(cov).T
    model = gaussian.denoiser(process)
    with NFECounter(model) as counter:
        end = AdaptiveSDE(rtol=0.02, atol=0.02).solve(model, x, times, noise=noise)
    scale = torch.linalg.cholesky(exact.cov)
    white = torch.linalg.solve_triangular(scale, (end - exact.mean).T, upper=False)
    assert float(white.mean(1).norm()) < 5 / count**0.5 + 0.01
    assert float((white @ white.T / count - torch.eye(2)).abs().max()) < 5 * (2 / count) ** 0.5 + 0.02
    assert counter.calls < 600


def test_errors_are_relative_to_the_larger_of_two_samples() -> None:
    """The larger of the samples before and after the step, both by Euler-Maruyama, as in the paper's algorithm."""
    sde = make("sde", "vp")
    times, model = oracles.ratio_times(sde, 1), oracles.denoiser(sde)
    x = oracles.to_x(sde, oracles.starts(), times[0])[:1]
    seen: list[tuple[Tensor, SDETrial]] = []

    class Spied(AdaptiveSDE):
        def attempt(self, reverse: ReverseSDE, x: Tensor, *rest: Tensor) -> SDETrial:
            found = super().attempt(reverse, x, *rest)
            if len(seen) == 3:  # of one attempt, what another sample before it would make of the error
                for size in (0.0, 100.0, 200.0):
                    sizes.append(super().attempt(reverse, x, *rest[:-1], torch.full_like(x, -size)).error)
            seen.append((rest[-1], found))
            return found

    sizes: list[Tensor] = []
    solver = Spied(rtol=0.05, atol=1e-9)
    solver.solve(model, x, times, noise=PerSample([0]))
    none, hundred, twice = sizes
    assert hundred < 0.5 * none
    torch.testing.assert_close(twice, 0.5 * hundred)
    before = x
    for previous, attempt in seen:
        assert torch.equal(previous, before)
        before = attempt.euler if attempt.error <= 1 else before
    assert len(seen) > 20


def test_finer_tolerance_takes_more_steps_and_every_sample_its_own() -> None:
    sde = make("sde", "vp")
    times, model = oracles.ratio_times(sde, 1), oracles.denoiser(sde)
    x, calls, asked = oracles.to_x(sde, oracles.starts(), times[0]), [], []
    model.register_forward_pre_hook(lambda _, args: asked.append(args[1]))
    for tol in (0.1, 0.02, 0.004):
        with NFECounter(model) as counter:
            AdaptiveSDE(rtol=tol, atol=tol).solve(model, x, times, noise=PerSample(range(len(x))))
        calls.append(counter.calls)
    assert calls == sorted(set(calls)), calls
    assert all(t.shape == (len(x),) for t in asked)
    assert len(torch.stack(asked)[len(asked) // 2].unique()) > 1


def test_adaptive_samples_are_shown_at_the_times_of_the_grid() -> None:
    """On a path with hooks and without: the same end, knots in order, each between its neighbors."""
    sde = make("sde", "vp")
    model, path = oracles.denoiser(sde), Trajectory()
    times = oracles.ratio_times(sde, 6)
    x = oracles.to_x(sde, oracles.starts(), times[0])
    end = AdaptiveSDE().solve(model, x, times, noise=PerSample(range(24)), hooks=[path])
    assert torch.equal(end, path.states[-1])
    fine = times.repeat_interleave(2)[:-1].clone()
    fine[1::2] = 0.5 * (times[:-1] + times[1:])
    other = Trajectory()
    AdaptiveSDE().solve(model, x, fine, noise=PerSample(range(24)), hooks=[other])
    for a, b in zip(path.states, other.states[::2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    spread = [float(state.std() / sde.marginal(t).sigma) for state, t in zip(path.states, times, strict=True)]
    assert spread[0] < spread[-1], "noise goes, data comes"


class Broken(Denoiser):
    """NaN below a time."""

    def __init__(self, inner: Denoiser, t: float) -> None:
        super().__init__()
        self.inner, self.sde, self.t = inner, inner.sde, t

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        prediction = self.inner(x_t, t)
        hurt = torch.where((t < self.t).expand(len(x_t))[:, None], torch.nan, prediction.x0)
        return replace(prediction, x0=hurt)


def test_adaptive_solver_gives_up_where_the_model_is_not_finite() -> None:
    sde = make("sde", "vp")
    times = oracles.ratio_times(sde, 1)
    x = oracles.to_x(sde, oracles.starts(), times[0])
    with pytest.raises(FloatingPointError, match=r"gave up at t=0\.5"):
        AdaptiveSDE().solve(Broken(oracles.denoiser(sde), 0.5), x, times, noise=PerSample(range(24)))


@pytest.mark.parametrize("solver", [DPMSolverPPSDE2M(), DPMSolverPPSDE3M(), EulerMaruyama()])
def test_same_path_at_any_number_of_steps(solver: Solver) -> None:
    """On the mixture, where solvers are not affine: with one Brownian path the samples approach at order 1."""
    sde, count, ends = make("sde", "vp"), 16, []
    model, noise = oracles.denoiser(sde), IID.seeded(3)
    for steps in (8, 32, 128):
        times = sde.t_from_log_snr(torch.linspace(-3, 4, steps + 1, dtype=torch.float64))
        if not ends:
            x0 = model.sample(count, noise=noise)
            x = sde.alpha(times[0]) * x0 + sde.sigma(times[0]) * noise.normal(x0)
        ends.append(solver.solve(model, x, times, noise=Brownian(range(count), depth=26)))
    coarse, fine = (float((end - ends[-1]).square().mean().sqrt()) for end in ends[:2])
    assert np.log2(coarse / fine) / 2 > 0.8, (coarse, fine)
