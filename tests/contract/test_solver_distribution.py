"""Distributions of stochastic solvers: mean and covariance of the process, at the declared order, exactly judged."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from sde_gen.grid import Uniform
from sde_gen.noise import IID, Brownian, PerSample
from sde_gen.sde import SDE
from sde_gen.solver import (
    DDIM,
    AffineLangevin,
    Ancestral,
    AnnealedLangevin,
    BatchLangevin,
    Corrector,
    DPMSolverPPSDE2M,
    DPMSolverPPSDE3M,
    EDMChurn,
    EulerMaruyama,
    Heun,
    Langevin,
    PredictorCorrector,
    Restart,
    ReverseDiffusion,
    Solver,
    StepSolver,
    TorchSDE,
)
from sde_gen.solver._multistep import adams_coefficients
from sde_gen.solver.callbacks import NFECounter, StopOnNaN
from sde_gen.solver.ode_solver import torch_diffeq
from tests.helpers import gaussian, oracles
from tests.helpers.catalogue import first, integrators, make, names

SDES = names("sde")
FEW_SDES = first("sde", "vp", "ve", "rectified")
"""All processes, those but three in slow runs."""
STOCHASTIC = [name for name in integrators() if make("solver", name).stochastic]
STEPPING = [name for name in STOCHASTIC if hasattr(make("solver", name), "order")]
"""An adaptive solver has no order, and is not affine: what it does depends on the samples."""
CASES: dict[str, StepSolver] = {name: make("solver", name) for name in STEPPING}
CASES |= {
    "euler_maruyama eta=0": EulerMaruyama(eta=0.0),
    "euler_maruyama eta=0.5": EulerMaruyama(eta=0.5),
    "reverse_diffusion eta=0": ReverseDiffusion(eta=0.0),
    "reverse_diffusion eta=0.5": ReverseDiffusion(eta=0.5),
    "ancestral nu=1": Ancestral(nu=1.0),
    "ddim eta=1": DDIM(eta=1.0),
    "dpm_solver_pp_sde_2m eta=0.5": DPMSolverPPSDE2M(eta=0.5),
    "dpm_solver_pp_sde_3m eta=0": DPMSolverPPSDE3M(eta=0.0),
    "dpm_solver_pp_sde_3m eta=0.5": DPMSolverPPSDE3M(eta=0.5),
    "edm_churn s_churn=0": EDMChurn(s_churn=0.0),
    "edm_churn in the middle": EDMChurn(s_min=0.4, s_max=2.0),
    "predictor_corrector ddim": PredictorCorrector(
        predictor=DDIM(), corrector=AffineLangevin(eta=1.4, steps=2)
    ),
}
BIASED: dict[str, Callable[[int], StepSolver]] = {
    "annealed_langevin": lambda steps: AnnealedLangevin(kappa=4 / steps, moves=steps),
    "restart": lambda steps: Restart(ratio_min=0.3, ratio_max=2.0, steps=steps // 4),
    "restart of two steps' memory": lambda steps: Restart(
        inner=make("solver", "dpm_solver_pp"), ratio_min=0.3, ratio_max=2.0, steps=steps // 4
    ),
}
"""Solvers of order 0: the grid's steps alone do not make them exact, their own settings refined with them do."""
STEPS = (16, 128)
"""The ends of three doublings."""


def log_snr_times(sde: SDE, steps: int) -> Tensor:
    """Equal steps of the log-SNR where noise and signal meet: g is finite there on every process."""
    return sde.t_from_log_snr(torch.linspace(-3, 4, steps + 1, dtype=torch.float64))


def weak_orders(solver: StepSolver, sde: SDE) -> list[tuple[float, tuple[float, float]]]:
    """Slope over three doublings, and errors at its ends, of mean and of covariance; exact is infinite."""
    ends = zip(*(gaussian.errors(solver, sde, log_snr_times(sde, steps)) for steps in STEPS), strict=True)
    return [(np.log2(a / b) / 3 if max(a, b) > 1e-10 else np.inf, (a, b)) for a, b in ends]


@pytest.mark.long
@pytest.mark.parametrize("sde", FEW_SDES)
@pytest.mark.parametrize("case", [case for case, solver in CASES.items() if solver.order > 0])
def test_converges_in_distribution_at_declared_order(case: str, sde: str) -> None:
    (mean, _), (cov, errors) = found = weak_orders(CASES[case], make("sde", sde))
    assert min(mean, cov) >= CASES[case].order - 0.15, f"weak orders and errors {found}"
    assert errors[0] < 0.5, "an order says nothing of an error that starts anywhere"


def test_every_solver_of_order_zero_says_what_refines_it() -> None:
    assert {name for name in STEPPING if CASES[name].order == 0} <= set(BIASED)


@pytest.mark.long
@pytest.mark.parametrize("sde", ["vp", "rectified"])
@pytest.mark.parametrize("case", BIASED)
def test_order_zero_is_a_bias_that_finer_settings_remove(case: str, sde: str) -> None:
    """Annealed Langevin dynamics at first order, restarts at the order of the flow's solver."""
    process, of = make("sde", sde), BIASED[case]
    ends = [gaussian.errors(of(steps), process, log_snr_times(process, steps))[1] for steps in (8, 32)]
    expected = 1 if case == "annealed_langevin" else 2
    assert np.log2(ends[0] / ends[1]) / 2 >= expected - 0.15, ends
    assert of(8).order == 0


def test_error_of_restarts_stays_where_their_steps_do() -> None:
    sde = make("sde", "vp")
    errors = [gaussian.errors(BIASED["restart"](8), sde, log_snr_times(sde, steps))[1] for steps in STEPS]
    assert errors[1] > 0.5 * errors[0], errors


@pytest.mark.parametrize(("kappa", "moves", "sde"), [(0.124, 500, "vp"), *((1.0, 50, sde) for sde in SDES)])
def test_bias_of_annealed_langevin_is_the_stated_one(kappa: float, moves: int, sde: str) -> None:
    """Moves that have forgotten their start leave noise of variance sigma^2 / (1 - kappa / 4) on data at a point."""
    process = make("sde", sde)
    times, solver = log_snr_times(process, 1), AnnealedLangevin(kappa=kappa, moves=moves)
    start = gaussian.marginal(process, times[0], gaussian.POINT)
    end = gaussian.propagate(solver, gaussian.denoiser(process, gaussian.POINT), times, start)
    stated = process.sigma(times[-1]) ** 2 / (1 - kappa / 4) * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(end.cov, stated, rtol=1e-12, atol=0)


def mean_error(solver: Solver, sde: SDE, times: Tensor, eta: float) -> float:
    """Error of the mean given a start off the data's mean, in x / alpha, by the reverse SDE's closed form.

    On Gaussian data the drift is linear: along a principal axis of variance v a distance to the mean shrinks by
    ((v + rho_1^2) / (v + rho_0^2))^((1 + eta^2) / 2), which is the flow's own shrinking for eta = 0.
    """
    (rho0, rho1), (variances, axes) = (
        (torch.exp(-0.5 * sde.log_snr(times[[0, -1]]))).tolist(),
        np.linalg.eigh(oracles.GAUSSIAN.covs[0]),
    )
    away = np.array([1.5, -0.7])
    shrink = ((variances + rho1**2) / (variances + rho0**2)) ** ((1 + eta**2) / 2)
    exact = gaussian.DATA.mean + torch.tensor((away @ axes * shrink) @ axes.T)
    point = gaussian.GaussianMoments(
        sde.alpha(times[0]) * (gaussian.DATA.mean + torch.tensor(away)), gaussian.POINT.cov
    )
    end = gaussian.propagate(solver, gaussian.denoiser(sde), times, point)
    return float((end.mean / sde.alpha(times[-1]) - exact).norm())


def mean_order(solver: Solver, sde: SDE, eta: float) -> float:
    errors = [mean_error(solver, sde, log_snr_times(sde, steps), eta) for steps in STEPS]
    return np.log2(errors[0] / errors[1]) / 3 if max(errors) > 1e-10 else np.inf


MEANS: dict[str, tuple[StepSolver, float, int]] = {
    "euler_maruyama": (EulerMaruyama(), 1, 1),
    "reverse_diffusion": (ReverseDiffusion(eta=0.5), 0.5, 1),
    "ancestral": (Ancestral(), 1, 1),
    "dpm_solver_pp_sde_2m": (DPMSolverPPSDE2M(), 1, 2),
    "dpm_solver_pp_sde_2m eta=0.5": (DPMSolverPPSDE2M(eta=0.5), 0.5, 2),
    "dpm_solver_pp_sde_3m": (DPMSolverPPSDE3M(), 1, 3),
    "dpm_solver_pp_sde_3m eta=0.5": (DPMSolverPPSDE3M(eta=0.5), 0.5, 3),
    "edm_churn": (EDMChurn(s_churn=0.0), 0, 2),
    "torch_sde": (TorchSDE(method="heun"), 1, 2),
}


@pytest.mark.long
@pytest.mark.parametrize("sde", FEW_SDES)
@pytest.mark.parametrize("case", MEANS)
def test_mean_given_the_start_converges(case: str, sde: str) -> None:
    """Any consistent solver has the marginal's mean; the mean given a start detects a solver of another SDE.

    For eta = 1 the clean sample's expectation is a martingale, so methods that hold it constant are exact.
    """
    solver, eta, order = MEANS[case]
    assert mean_order(solver, make("sde", sde), eta) >= order - 0.15


def test_third_order_shows_the_sign_of_the_parabola() -> None:
    """A sign slip in the last difference of sde-dpmsolver++ stands in diffusers; in the covariance it hardly shows."""

    class Slipped(DPMSolverPPSDE3M):
        """The parabola bent to the other side."""

        def coefficients(self, integral, steps):  # type: ignore[no-untyped-def]
            right, straight = adams_coefficients(integral, 3, steps), adams_coefficients(integral, 2, steps)
            bent = [
                row._replace(
                    weights=[2 * a - b for a, b in zip([*line.weights, 0.0], row.weights, strict=True)]
                )
                for row, line in zip(right[2:], straight[2:], strict=True)
            ]
            return [*right[:2], *bent]

    sde = make("sde", "vp")
    assert mean_order(Slipped(eta=0.5), sde, 0.5) < 2.3
    assert weak_orders(Slipped(eta=0.5), sde)[1][0] > 1.85


@pytest.mark.long
@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize(
    "case",
    [
        "annealed_langevin",
        "dpm_solver_pp_sde_2m",
        "dpm_solver_pp_sde_3m",
        "dpm_solver_sde",
        "dpm_solver_2_ancestral",
        "dpm_solver_pp_2s_ancestral",
        "dpm_solver_pp_sde",
        "edm_churn",
    ],
)
def test_in_signal_to_noise_every_process_is_the_same(case: str, sde: str) -> None:
    """Solvers that work in x / alpha and sigma / alpha: samples of any process are those of EDM's at equal ratios."""

    steps = 32 if case == "annealed_langevin" else 9

    def end(name: str) -> Tensor:
        process = make("sde", name)
        times = oracles.ratio_times(process, steps)
        x = oracles.to_x(process, oracles.starts(), times[0])
        noise = PerSample(range(len(x)))
        x = make("solver", case).solve(oracles.denoiser(process), x, times, noise=noise)
        return x / process.alpha(times[-1])

    torch.testing.assert_close(end(sde), end("edm"), rtol=1e-6, atol=1e-6)


def test_paper_s_langevin_needs_many_dimensions() -> None:
    """Why it is not the default: its random step is heavy-tailed in few dimensions, on every process alike.

    200 chains have a standard error of 1 % in 64 dimensions and 3 % in 2 (4000 chains).
    """

    def variance(corrector: Corrector, sde: SDE, dim: int, count: int) -> float:
        white = gaussian.GaussianMoments(torch.zeros(dim).double(), torch.eye(dim).double())
        times = log_snr_times(sde, 64)
        (_, start), (_, end) = (
            gaussian.marginal(sde, times[0], white),
            gaussian.marginal(sde, times[-1], white),
        )
        x = torch.sqrt(start[0, 0]) * IID.seeded(0).normal(torch.empty(count, dim).double())
        solver = PredictorCorrector(corrector=corrector)
        x = solver.solve(gaussian.denoiser(sde, white), x, times, noise=IID.seeded(1))
        return float(x.square().mean() / end[0, 0])

    for name in ("vp", "sub_vp"):
        sde = make("sde", name)
        assert variance(Langevin(), sde, 2, 4000) > 1.3
        assert abs(variance(Langevin(), sde, 64, 200) - 1) < 0.1
        assert abs(variance(AffineLangevin(), sde, 2, 4000) - 1) < 0.1


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    "solver",
    [Ancestral(), DDIM(eta=0.5), PredictorCorrector(predictor=DDIM(), corrector=AffineLangevin(eta=2.0))],
    ids=["ancestral", "ddim", "predictor_corrector"],
)
def test_exact_for_data_at_a_point(solver: Solver, steps: int, sde: str) -> None:
    """The posterior's variance is that of the reverse step when x_0 is known."""
    process = make("sde", sde)
    times = log_snr_times(process, steps)
    assert max(gaussian.errors(solver, process, times, gaussian.POINT)) < 1e-12


@pytest.mark.parametrize("sde", ["vp", "ddpm"])
def test_ancestral_with_transition_variance_is_exact_for_white_data(sde: str) -> None:
    """Where the data is N(0, I) and the process keeps variances, reverse and forward step are one."""
    process = make("sde", sde)
    assert max(gaussian.errors(Ancestral(nu=1.0), process, log_snr_times(process, 2), gaussian.WHITE)) < 1e-12


def test_oracle_sees_an_error_of_two_percent() -> None:
    """The oracle itself: noise two percent too strong makes a converging solver one that does not."""

    class Loud:
        """Noise of another solver's, scaled."""

        def __init__(self, noise: gaussian.Impulses) -> None:
            self.inner = noise

        def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
            return 1.02 * self.inner(x, u0, u1)

    class Wrong(Ancestral):
        """Ancestral sampling with too much noise."""

        def step(self, model, x_t, t, s, state, noise):  # type: ignore[no-untyped-def]
            return super().step(model, x_t, t, s, state, Loud(noise))  # type: ignore[arg-type]

    assert weak_orders(Wrong(nu=1.0), make("sde", "vp"))[1][0] < 0.5


def along_the_path(solver: Solver, sde: str, steps: int) -> Tensor:
    """Samples of Gaussian data at the end of one Brownian path each."""
    process, count = make("sde", sde), 4
    times = log_snr_times(process, steps)
    mean, cov = gaussian.marginal(process, times[0])
    x = mean + PerSample(range(count)).normal(torch.empty(count, 2, dtype=torch.float64)) @ (
        torch.linalg.cholesky(cov).T
    )
    return solver.solve(gaussian.denoiser(process), x, times, noise=Brownian(range(count), depth=26))


@cache
def end_of_the_path(sde: str) -> Tensor:
    return along_the_path(EulerMaruyama(), sde, 384)


@pytest.mark.long
@pytest.mark.parametrize(
    ("case", "sde"),
    [("euler_maruyama", sde) for sde in SDES]
    + [(name, "vp") for name in ("reverse_diffusion", "ancestral", "torch_sde")]
    + [(f"dpm_solver_pp_sde_{which}", sde) for which in ("2m", "3m") for sde in ("vp", "edm")],
)
def test_converges_along_the_path(case: str, sde: str) -> None:
    """The noise is additive, so the solvers are of strong order 1: one Brownian path, coarse and fine grids."""
    ends = [along_the_path(CASES[case], sde, steps) for steps in (6, 48)]
    errors = [float((end - end_of_the_path(sde)).square().mean().sqrt()) for end in ends]
    assert np.log2(errors[0] / errors[1]) / 3 >= 0.85, errors


@pytest.mark.parametrize("sde", SDES)
def test_euler_maruyama_without_noise_is_euler_on_the_flow(sde: str) -> None:
    """score_sde's crashes as a flow (defect 2); ours begins at t = 1 even where g is infinite there."""
    process, solver = make("sde", sde), EulerMaruyama(eta=0.0)
    model, times = oracles.denoiser(process), Uniform()(process, 5)
    x = process.prior.std * IID.seeded(0).normal(torch.empty(6, 2, dtype=torch.float64))
    ours = solver.solve(model, x, times, noise=IID.seeded(0), hooks=[StopOnNaN()])
    theirs = torch_diffeq(method="euler").solve(model, x, times, noise=IID.seeded(0))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert not solver.stochastic


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 5, 19])
def test_reverse_diffusion_is_finite_with_few_steps(steps: int, eta: float) -> None:
    """score_sde's gives NaN below 20 steps, where its beta_i exceeds 1."""
    sde = make("sde", "vp")
    x = IID.seeded(0).normal(torch.empty(8, 2))
    ReverseDiffusion(eta=eta).solve(
        oracles.denoiser(sde), x, Uniform()(sde, steps), noise=IID.seeded(1), hooks=[StopOnNaN()]
    )


@pytest.mark.parametrize("solver", [EulerMaruyama(), ReverseDiffusion(), PredictorCorrector()])
def test_refuses_to_start_where_g_is_infinite(solver: Solver) -> None:
    sde = make("sde", "rectified")
    model, x = oracles.denoiser(sde), torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"infinite.*t_max below 1"):
        solver.solve(model, x, Uniform()(sde, 4), noise=IID.seeded(0))
    solver.solve(model, x, Uniform(t_max=0.999)(sde, 4), noise=IID.seeded(0), hooks=[StopOnNaN()])


@pytest.mark.parametrize(
    "solver",
    [
        Ancestral(),
        Ancestral(nu=0.5),
        Ancestral(nu=1.0),
        DPMSolverPPSDE2M(),
        DPMSolverPPSDE3M(),
    ],
)
def test_starts_where_there_is_no_signal(solver: StepSolver) -> None:
    """The linear path at t = 1, where log_snr is infinite; orders stay what they are."""
    sde = make("sde", "rectified")
    x = IID.seeded(0).normal(torch.empty(8, 2))
    solver.solve(oracles.denoiser(sde), x, Uniform()(sde, 5), noise=IID.seeded(1), hooks=[StopOnNaN()])
    grid = Uniform(t_min=0.1)
    ends = [gaussian.errors(solver, sde, grid(sde, steps))[1] for steps in STEPS]
    assert np.log2(ends[0] / ends[1]) / 3 >= solver.order - 0.15, ends


@pytest.mark.parametrize("solver", [AnnealedLangevin(), EDMChurn(), EDMChurn(s_churn=0.0), Restart()])
def test_refuses_to_start_where_there_is_no_signal(solver: Solver) -> None:
    sde = make("sde", "rectified")
    with pytest.raises(ValueError, match=r"t_max below 1|within the grid"):
        solver.solve(
            oracles.denoiser(sde), torch.zeros(1, 2), Uniform(t_min=0.5)(sde, 4), noise=IID.seeded(0)
        )


@pytest.mark.parametrize("name", STOCHASTIC)
def test_refuses_to_draw_noise_on_the_way_up(name: str) -> None:
    sde = make("sde", "vp")
    times = log_snr_times(sde, 3).flip(0)
    with pytest.raises(ValueError, match="to encode"):
        make("solver", name).solve(oracles.denoiser(sde), torch.zeros(1, 2), times, noise=IID.seeded(0))


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [EulerMaruyama, ReverseDiffusion, DPMSolverPPSDE2M, DPMSolverPPSDE3M])
def test_refuses_a_strength_that_is_none(kind: type, value: float) -> None:
    with pytest.raises(ValueError, match="eta="):
        kind(eta=value)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_refuses_a_variance_outside_the_two(value: float) -> None:
    with pytest.raises(ValueError, match="nu="):
        Ancestral(nu=value)


@pytest.mark.parametrize("sde", SDES)
def test_predictor_corrector_works_on_every_process(sde: str) -> None:
    """score_sde's Langevin corrector reads a table that its sub-VP process does not have (defect 1)."""
    process, solver = make("sde", sde), PredictorCorrector(corrector=Langevin(steps=2))
    times, model = oracles.ratio_times(process, 6), oracles.denoiser(process)
    x = oracles.to_x(process, oracles.starts(), times[0])
    with NFECounter(model) as counter:
        end = solver.solve(model, x, times, noise=PerSample(range(len(x))), hooks=[StopOnNaN()])
    assert counter.calls == solver.nfe(6) == 18
    alone = solver.solve(model, x[3:4], times, noise=PerSample([3]))
    torch.testing.assert_close(alone, end[3:4], rtol=1e-12, atol=1e-12)


def test_predictor_goes_first() -> None:
    """The paper's algorithm 1 ends every step with the corrector, score_sde's begins with it (defect 5)."""
    sde, asked = make("sde", "vp"), []
    model, times = oracles.denoiser(sde), oracles.ratio_times(sde, 2)
    model.register_forward_pre_hook(lambda _, args: asked.append(float(args[1])))
    PredictorCorrector().solve(model, torch.ones(2, 2), times, noise=IID.seeded(0))
    t0, t1, t2 = times.tolist()
    assert asked == [t0, t1, t1, t2]


def test_predictor_corrector_is_what_its_parts_are() -> None:
    exact = AffineLangevin()
    assert PredictorCorrector(predictor=Heun(), corrector=exact).order == 1
    assert PredictorCorrector(corrector=Langevin()).order == 0
    assert not PredictorCorrector().batch_coupled
    assert PredictorCorrector(corrector=BatchLangevin()).batch_coupled
    assert PredictorCorrector(predictor=Heun(), corrector=exact).stochastic
