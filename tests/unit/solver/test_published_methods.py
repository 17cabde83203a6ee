"""Methods as their authors have them: equal to their descriptions step by step, to rounding, and of the order said."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from torch import Tensor

from sde_gen.grid import Uniform
from sde_gen.noise import IID, PerSample
from sde_gen.sde import SDE
from sde_gen.solver import (
    AffineLangevin,
    BatchLangevin,
    DPMSolver2,
    DPMSolver2Ancestral,
    DPMSolver2M,
    DPMSolver3M,
    DPMSolverPP,
    DPMSolverPP2S,
    DPMSolverPP2SAncestral,
    DPMSolverPP3M,
    DPMSolverPPSDE,
    DPMSolverPPSDE2M,
    DPMSolverPPSDE3M,
    DPMSolverSDE,
    EDMChurn,
    PlainWeights,
    PredictorCorrector,
    ReverseDiffusion,
    StepSolver,
    TaylorWeights,
    UniPCBH1,
    UniPCBH2,
)
from sde_gen.solver.callbacks import NFECounter, StopOnNaN
from tests.contract.test_solver import MIDDLE, check_order
from tests.contract.test_solver_distribution import log_snr_times, weak_orders
from tests.helpers import gaussian, oracles
from tests.helpers.catalogue import CONF, make, names
from tests.reference import solvers
from tests.unit.solver.test_multistep import paper_s_unipc

SDES = ["vp", "edm"]


class Listed:
    """Noise that gives out a list of draws, whatever for, and keeps the intervals that they are of."""

    def __init__(self, draws: Tensor) -> None:
        self.draws, self.intervals = iter(draws), []  # type: ignore[var-annotated]

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        self.intervals.append((u0, u1))
        return next(self.draws)

    normal = lambda self, x: next(self.draws)  # noqa: E731
    uniform = normal


def setting(sde: str, steps: int = 7) -> tuple[SDE, Tensor, Tensor, Tensor]:
    """A process, uneven times, a start and draws."""
    process = make("sde", sde)
    grid = torch.tensor([0.0, 0.1, 0.3, 0.35, 0.6, 0.8, 0.85, 1.0], dtype=torch.float64)[: steps + 1]
    times = process.t_from_log_snr(-4 + 9 * grid)
    x = oracles.to_x(process, oracles.starts(6), times[0])
    return process, times, x, torch.stack([IID.seeded(k).normal(x) for k in range(2 * steps)])


def end(solver: StepSolver, sde: SDE, times: Tensor, x: Tensor, draws: Tensor) -> Tensor:
    """Samples of the mixture."""
    return solver.solve(oracles.denoiser(sde), x, times, noise=Listed(draws))


def close(found: Tensor, exact: Tensor) -> None:
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-10)


# Multistep


@pytest.mark.parametrize("last", [None, 1, 2])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("kind", [DPMSolver2M, DPMSolver3M, DPMSolverPP, DPMSolverPP3M])
@pytest.mark.parametrize("sde", SDES)
def test_multistep_dpm_solver_is_the_authors(sde: str, kind: type, half: bool, last: int | None) -> None:
    process, times, x, draws = setting(sde)
    ours = end(kind(weights=TaylorWeights(half_slope=half, last_points=last)), process, times, x, draws)
    data = kind in (DPMSolverPP, DPMSolverPP3M)
    order = 3 if kind in (DPMSolver3M, DPMSolverPP3M) else 2
    original = solvers.dpm_solver(
        oracles.denoiser(process), x, times, order=order, data=data, half=half, last=last
    )
    close(ours, original)


@pytest.mark.parametrize("last", [None, 1, 2])
@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("kind", [UniPCBH1, UniPCBH2])
def test_unipc_is_the_authors_on_any_grid(kind: type, p: int, last: int | None) -> None:
    process, times, x, draws = setting("vp")
    original = paper_s_unipc(oracles.denoiser(process), x, times, p, kind, last)
    close(end(kind(predictor_order=p, limit=False, last_points=last), process, times, x, draws), original)


@pytest.mark.parametrize("predictions", [1, 2])
@pytest.mark.parametrize("sde", SDES)
def test_sde_dpm_solver_is_the_authors(sde: str, predictions: int) -> None:
    process, times, x, draws = setting(sde)
    solver = DPMSolverSDE(predictions=predictions, weights=TaylorWeights())
    original = solvers.dpm_solver(
        oracles.denoiser(process), x, times, order=predictions, data=False, draws=iter(draws)
    )
    close(end(solver, process, times, x, draws), original)


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("points", [2, 3])
@pytest.mark.parametrize("sde", SDES)
def test_multistep_of_the_reverse_sde_is_k_diffusion_s(sde: str, points: int, eta: float) -> None:
    process, times, x, draws = setting(sde)
    weights = TaylorWeights(half_slope=points == 2)
    solver = {2: DPMSolverPPSDE2M, 3: DPMSolverPPSDE3M}[points](eta=eta, weights=weights)
    rhos, (alpha, *_, last) = ratios(process, times), process.alpha(times)
    z = solvers.dpmpp_m_sde(
        solvers.clean_of(oracles.denoiser(process)), x / alpha, rhos, iter(draws), eta**2, points
    )
    # their noise is that of z, ours that of x: the same draws
    close(end(solver, process, times, x, draws) / last, z)


MULTISTEP: dict[str, StepSolver] = {
    f"{kind.__name__} {weights}": kind(weights=weights)
    for kind in (DPMSolver2M, DPMSolver3M, DPMSolverPP, DPMSolverPP3M)
    for weights in (PlainWeights(), TaylorWeights(), TaylorWeights(half_slope=False, last_points=1))
} | {
    f"{kind.__name__} {p} {last}": kind(predictor_order=p, limit=False, last_points=last)
    for kind in (UniPCBH1, UniPCBH2)
    for p, last in ((1, None), (3, None), (3, 2), (3, 1))
}


@pytest.mark.parametrize("name", MULTISTEP)
def test_published_weights_have_the_order_they_declare(name: str) -> None:
    check_order(MULTISTEP[name], "vp", ratios=MIDDLE)


def test_published_weights_say_which_order_is_left() -> None:
    assert DPMSolverPP3M().order == 3
    assert DPMSolverPP3M(weights=PlainWeights()).order == 2
    assert DPMSolverPP3M(weights=TaylorWeights()).order == 2
    assert UniPCBH2(limit=False).order == 3
    assert [UniPCBH2(last_points=n).order for n in (1, 2, 3)] == [2, 3, 3]
    assert DPMSolverPPSDE3M(eta=0.0).order == 3
    assert DPMSolverPPSDE3M(eta=0.0, weights=PlainWeights()).order == 2


@pytest.mark.parametrize("last", [None, 1])
@pytest.mark.parametrize("weights", [PlainWeights, TaylorWeights])
@pytest.mark.parametrize("kind", [DPMSolverPP, DPMSolverPP3M, DPMSolverPPSDE2M, DPMSolverPPSDE3M])
def test_published_weights_start_without_signal(kind: type, weights: type, last: int | None) -> None:
    """The linear path at t = 1, where lam is infinite: the first step takes the clean sample as predicted."""
    sde = make("sde", "rectified")
    x = IID.seeded(0).normal(torch.empty(8, 2).double())
    for steps in (1, 2, 5):
        kind(weights=weights(last_points=last)).solve(
            oracles.denoiser(sde), x, Uniform()(sde, steps), noise=IID.seeded(1), hooks=[StopOnNaN()]
        )


def test_published_weights_are_not_limited() -> None:
    """A last step many times as long as the one before: limited it ends near the data, unlimited far from them."""
    sde = make("sde", "vp")
    times = sde.t_from_log_snr(torch.tensor([0.0, 0.1, 0.2, 8.0], dtype=torch.float64))
    x = oracles.to_x(sde, oracles.starts(6), times[0])

    def largest(solver: StepSolver) -> float:
        return float(solver.solve(oracles.denoiser(sde), x, times, noise=IID.seeded(0)).abs().max())

    for ours, original in (
        (DPMSolverPP3M(), DPMSolverPP3M(weights=PlainWeights())),
        (UniPCBH2(), UniPCBH2(limit=False)),
        (DPMSolver3M(), DPMSolver3M(weights=TaylorWeights())),
    ):
        assert largest(original) > 2 * largest(ours)


# Ancestral, and churn


def ratios(sde: SDE, times: Tensor) -> list[float]:
    """sigma / alpha."""
    return torch.exp(-0.5 * sde.log_snr(times)).tolist()


class Path:
    """Increments of one Brownian motion over rho, from independent draws for the two parts of every step."""

    def __init__(self, rhos: list[float], r: float, draws: Iterator[Tensor]) -> None:
        self.parts, self.middles = {}, {}  # type: ignore[var-annotated]
        for rho, to in itertools.pairwise(rhos):
            self.middles[rho] = middle = math.exp((1 - r) * math.log(rho) + r * math.log(to))
            self.parts[rho] = math.sqrt(rho - middle) * next(draws), math.sqrt(middle - to) * next(draws)

    def __call__(self, rho: float, to: float) -> Tensor:
        first, second = self.parts[rho]
        whole = first if math.isclose(to, self.middles[rho]) else first + second
        return whole / math.sqrt(rho - to)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", [DPMSolver2Ancestral, DPMSolverPP2SAncestral])
@pytest.mark.parametrize("sde", ["vp", "edm"])
def test_ancestral_solvers_are_k_diffusion_s(sde: str, kind: type, eta: float) -> None:
    process, times, x, draws = setting(sde)
    original = {
        DPMSolver2Ancestral: solvers.dpm_2_ancestral,
        DPMSolverPP2SAncestral: solvers.dpmpp_2s_ancestral,
    }[kind]
    alpha, clean = process.alpha(times), solvers.clean_of(oracles.denoiser(process))
    z = original(clean, x / alpha[0], ratios(process, times), iter(draws), eta)
    torch.testing.assert_close(
        end(kind(eta=eta), process, times, x, draws) / alpha[-1], z, rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("r", [0.5, 0.8])
@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("sde", ["vp", "edm"])
def test_noise_in_both_stages_is_k_diffusion_s(sde: str, eta: float, r: float) -> None:
    process, times, x, draws = setting(sde)
    alpha, rhos = process.alpha(times), ratios(process, times)
    clean = solvers.clean_of(oracles.denoiser(process))
    z = solvers.dpmpp_sde(clean, x / alpha[0], rhos, Path(rhos, r, iter(draws)), eta, r)
    torch.testing.assert_close(
        end(DPMSolverPPSDE(eta=eta, r=r), process, times, x, draws) / alpha[-1], z, rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("bounds", [(0.0, math.inf), (0.3, 2.0)])
@pytest.mark.parametrize("sde", ["vp", "edm"])
def test_churn_with_euler_is_k_diffusion_s(sde: str, bounds: tuple[float, float]) -> None:
    """Below the first level, above which ours never asks the network."""
    process, times, x, draws = setting(sde)
    alpha, rhos = process.alpha(times), ratios(process, times)
    low, high = bounds[0], min(bounds[1], 0.99 * rhos[0])
    clean = solvers.clean_of(oracles.denoiser(process))
    z = solvers.euler_with_churn(clean, x / alpha[0], rhos, iter(draws), 2.0, low, high)
    solver = EDMChurn(s_churn=2.0, s_min=low, s_max=high, stages=1)
    # noise of z over the transition's factor is that of x: the same draws
    torch.testing.assert_close(end(solver, process, times, x, draws) / alpha[-1], z, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("sde", ["vp", "edm"])
def test_without_noise_ancestral_solvers_are_those_of_the_flow(sde: str) -> None:
    process, times, x, draws = setting(sde)
    for ours, original in (
        (DPMSolver2Ancestral(eta=0.0), DPMSolver2()),
        (DPMSolverPP2SAncestral(eta=0.0), DPMSolverPP2S()),
        (DPMSolverPPSDE(eta=0.0), DPMSolverPP2S()),
    ):
        assert not ours.stochastic
        torch.testing.assert_close(
            end(ours, process, times, x, draws), end(original, process, times, x, draws), rtol=1e-8, atol=1e-8
        )


@pytest.mark.parametrize(
    "solver",
    [
        DPMSolver2Ancestral(eta=0.5),
        DPMSolverPP2SAncestral(eta=0.5),
        DPMSolverPPSDE(eta=0.5),
        DPMSolverPPSDE(r=0.8),
        DPMSolverSDE(eta=0.5),
        DPMSolverSDE(predictions=1),
        DPMSolverSDE(weights=TaylorWeights()),
        DPMSolverPPSDE2M(weights=TaylorWeights()),
        DPMSolverPPSDE3M(weights=TaylorWeights(half_slope=False)),
        EDMChurn(stages=1),
        PredictorCorrector(corrector_first=True),
    ],
    ids=str,
)
def test_variants_converge_in_distribution_at_declared_order(solver: StepSolver) -> None:
    (mean, _), (cov, errors) = weak_orders(solver, make("sde", "vp"))
    assert min(mean, cov) >= solver.order - 0.15, errors


@pytest.mark.parametrize("kind", [DPMSolver2Ancestral, DPMSolverPP2SAncestral, DPMSolverPPSDE, DPMSolverSDE])
def test_invalid_settings_are_refused(kind: type) -> None:
    with pytest.raises(ValueError, match="eta="):
        kind(eta=-0.1)
    sde = make("sde", "rectified")
    with pytest.raises(ValueError, match="t_max below 1"):
        kind().solve(oracles.denoiser(sde), torch.zeros(1, 2), Uniform()(sde, 3), noise=IID.seeded(0))


def test_wrong_options_are_refused_by_name() -> None:
    for message, make_it in {
        "stages=3 must be 1 or 2": lambda: EDMChurn(stages=3),
        "predictions=3 must be 1 or 2": lambda: DPMSolverSDE(predictions=3),
        "last_points=0 must be a whole number": lambda: TaylorWeights(last_points=0),
        "last_points=0 must be": lambda: UniPCBH2(last_points=0),
        r"r=0.0 must lie in \(0, 1\]": lambda: DPMSolverPPSDE(r=0.0),
        r"eta=1.5 must lie in \[0, 1\]": lambda: DPMSolverPP2SAncestral(eta=1.5),
    }.items():
        with pytest.raises(ValueError, match=message):
            make_it()


# Predictor and corrector


@pytest.mark.parametrize("sde", ["vp", "ve"])
def test_corrector_first_is_score_sde_s_sampler(sde: str) -> None:
    """Langevin at t with norms of the batch, then reverse diffusion, as ``get_pc_sampler`` does on its chains.

    Their chains: x_i = sqrt(1 - beta_i) x_{i-1} + sqrt(beta_i) z on VP, and steps of sigma^2 on VE.
    """
    process, times, x, draws = setting(sde, 6)
    model, draw, y, snr = oracles.denoiser(process), iter(draws), x, 0.16
    for i in range(6):
        t, s = times[i], times[i + 1]
        (alpha_t, sigma_t), (alpha_s, sigma_s) = process.marginal(t), process.marginal(s)
        keep = alpha_t / alpha_s
        beta, spread = 1 - keep**2, sigma_t**2 - keep**2 * sigma_s**2
        if sde == "vp":
            torch.testing.assert_close(spread, beta, rtol=1e-6, atol=1e-9)
        g, z = -model(y, t).eps / sigma_t, next(draw)
        h = 2 * (1 - beta) * (snr * z.norm(dim=1).mean() / g.norm(dim=1).mean()) ** 2
        y = y + h * g + torch.sqrt(2 * h) * z
        g, z = -model(y, t).eps / sigma_t, next(draw)
        forward = keep * y - y
        y = y - forward + spread * g + torch.sqrt(spread) * z
    solver = PredictorCorrector(
        predictor=ReverseDiffusion(), corrector=BatchLangevin(snr=snr, limited=False), corrector_first=True
    )
    close(end(solver, process, times, x, draws), y)


def test_corrector_first_evaluates_at_the_start_of_every_step() -> None:
    sde, asked = make("sde", "vp"), []
    model, times = oracles.denoiser(sde), oracles.ratio_times(sde, 2)
    model.register_forward_pre_hook(lambda _, args: asked.append(float(args[1])))
    PredictorCorrector(corrector_first=True).solve(model, torch.ones(2, 2), times, noise=IID.seeded(0))
    t0, t1, _ = times.tolist()
    assert asked == [t0, t0, t1, t1]


@pytest.mark.parametrize("sde", names("sde"))
def test_corrector_first_leaves_the_marginal_at_the_begin_alone(sde: str) -> None:
    """Affine moves on data at a point are exact whatever their length, at either end of a step."""
    process = make("sde", sde)
    times = log_snr_times(process, 3)
    solver = PredictorCorrector(
        predictor=make("solver", "ddim"), corrector=AffineLangevin(eta=1.4), corrector_first=True
    )
    assert max(gaussian.errors(solver, process, times, gaussian.POINT)) < 1e-12


def test_churn_with_euler_costs_one_evaluation() -> None:
    sde = make("sde", "vp")
    times, model = oracles.ratio_times(sde, 5), oracles.denoiser(sde)
    with NFECounter(model) as counter:
        x = oracles.to_x(sde, oracles.starts(3), times[0])
        EDMChurn(stages=1).solve(model, x, times, noise=PerSample(range(3)))
    assert counter.calls == EDMChurn(stages=1).nfe(5) == 5
    assert np.isclose(EDMChurn(stages=1).order, 1)


@pytest.mark.parametrize(
    "solver", ["dpm_solver_pp_3m", "dpm_solver_3m", "dpm_solver_pp_sde_2m", "dpm_solver_sde"]
)
def test_the_command_takes_published_weights(solver: str) -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = [
            f"solver={solver}",
            "+multistep@solver.weights=taylor",
            "solver.weights.half_slope=false",
            "solver.weights.last_points=1",
        ]
        found = instantiate(compose("sample", words).solver)
    GlobalHydra.instance().clear()
    assert found.weights == TaylorWeights(half_slope=False, last_points=1)
