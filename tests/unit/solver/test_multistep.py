"""Multistep solvers: their weights, their variants, published forms of them, and defects of others."""

import math
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from torch import Tensor

from sde_gen.denoiser import Denoiser
from sde_gen.grid import Karras, Uniform
from sde_gen.noise import IID
from sde_gen.sde import SDE, EDMProcess
from sde_gen.solver import (
    DDIM,
    DEISTAB,
    IPNDM,
    LMS,
    DEISRhoAB,
    DPMSolver2M,
    DPMSolver3M,
    DPMSolverPP,
    DPMSolverPP3M,
    StepSolver,
    UniPC,
    UniPCBH1,
    UniPCBH2,
)
from sde_gen.solver._integrals import EpsIntegral, FlowIntegral, X0Integral
from sde_gen.solver._lagrange import adams_weights, lagrange, node_indices
from sde_gen.solver._multistep import StepCoefficients
from sde_gen.solver._sde_multistep import SDEIntegral
from sde_gen.solver.callbacks import NFECounter, StopOnNaN
from sde_gen.solver.pndm import EqualStepsIntegral
from tests.contract.test_solver import MIDDLE, check_order, error
from tests.helpers import oracles
from tests.helpers.catalogue import make

VARIANTS: dict[str, StepSolver] = {
    **{f"lms {n}": LMS(order=n) for n in (1, 2, 3)},
    **{f"deis_rhoab {n}": DEISRhoAB(order=n) for n in (1, 2)},
    **{f"deis_tab {n}": DEISTAB(order=n) for n in (1, 2)},
    **{f"unipc_bh1 {p}": UniPCBH1(predictor_order=p) for p in (1, 2)},
    **{f"unipc_bh2 {p}": UniPCBH2(predictor_order=p) for p in (1, 2)},
}


def end(solver: StepSolver, sde: SDE, times: Tensor) -> Tensor:
    x = oracles.to_x(sde, oracles.starts(), times[0])
    return solver.solve(oracles.denoiser(sde), x, times, noise=IID.seeded(0))


def middle_order(solver: StepSolver, up: bool = False) -> float:
    """Slope over three doublings on VP, from where the flow is curved."""
    errors = [error(solver, "vp", steps, up=up, ratios=MIDDLE) for steps in (24, 192)]
    return float(np.log2(errors[0] / errors[1]) / 3)


# Weights


def test_weights_are_exact_for_polynomials() -> None:
    """sum_j w_j q(u_j) is the integral of kernel times q, as SciPy has it, for every q of degree < k."""
    nodes = torch.tensor([[0.3, -0.9, -1.1, -3.0], [0.3, -0.9, torch.nan, torch.nan]]).double()
    start, stop = torch.tensor([0.3, 0.3]).double(), torch.tensor([2.0, -0.5]).double()
    weights = adams_weights(torch.exp, nodes, start, stop)
    assert torch.equal(weights[1, 2:], torch.zeros(2).double())
    for row, count in enumerate([4, 2]):
        for degree in range(count):
            exact = quad(
                lambda u, n=degree: np.exp(u) * u**n, float(start[row]), float(stop[row]), epsabs=1e-13
            )[0]
            ours = (weights[row] * nodes[row] ** degree)[:count].sum()
            assert float(ours) == pytest.approx(exact, rel=1e-12), (row, degree)


def test_long_intervals_are_exact_too() -> None:
    """From log_snr -20 to 20 in one step: int_0^20 e^(u - 20) u^2 du = 400 - 40 + 2 - 2 e^-20."""
    zero = torch.zeros(1).double()
    weights = adams_weights(lambda u: torch.exp(u - 20) * u**2, zero.unsqueeze(-1), zero, zero + 20)
    assert float(weights) == pytest.approx(362 - 2 * math.exp(-20), rel=1e-13)


def test_lagrange_is_one_at_its_node() -> None:
    nodes = torch.tensor([[2.0, 1.0, -1.0]]).double()
    torch.testing.assert_close(lagrange(nodes, nodes), torch.eye(3).double().unsqueeze(0), rtol=0, atol=0)


def test_equal_steps_have_adams_bashforth_s_coefficients() -> None:
    """Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, table III.1.1 and eq. 1.5."""
    for coefficients in (
        [1.0],
        [3 / 2, -1 / 2],
        [23 / 12, -16 / 12, 5 / 12],
        [55 / 24, -59 / 24, 37 / 24, -9 / 24],
    ):
        nodes = -torch.arange(len(coefficients)).double().unsqueeze(0)
        weights = adams_weights(torch.ones_like, nodes, torch.zeros(1).double(), torch.ones(1).double())
        np.testing.assert_allclose(weights[0], coefficients, rtol=1e-12)
    sde = make("sde", "ve")
    integral = EqualStepsIntegral(sde, oracles.ratio_times(sde, 6))
    weights = IPNDM().coefficients(integral, 6)[4].weights
    np.testing.assert_allclose(
        np.array(weights) / float(integral.sigma[5] - integral.sigma[4]), np.array([55, -59, 37, -9]) / 24
    )


@pytest.mark.parametrize("sde", ["vp", "linear", "rectified"])
def test_time_weights_are_integrals_over_the_ratio(sde: str) -> None:
    """DEIS' weights int l_j (d rho / dt) dt, by SciPy's ODE solver instead of by parts and Gauss."""
    process = make("sde", sde)
    times = torch.linspace(0.9, 0.2, 5, dtype=torch.float64)
    integral = DEISTAB.integral(process, times)
    weights = integral.weights(torch.tensor([3]), torch.tensor([4]), torch.tensor([[3, 2, 1]]))[0]

    def slope(t: float, _: np.ndarray) -> np.ndarray:
        u = torch.tensor(t, dtype=torch.float64)
        rho = torch.exp(-process.log_snr(u) / 2)
        basis = lagrange(times[[3, 2, 1]].unsqueeze(0), u.reshape(1, 1))[0, 0]
        return (rho * process.diffusion(u) ** 2 / (2 * process.sigma(u) ** 2) * basis).numpy()

    span = (float(times[3]), float(times[4]))
    exact = (
        float(process.alpha(times[4])) * solve_ivp(slope, span, np.zeros(3), rtol=1e-11, atol=1e-13).y[:, -1]
    )
    np.testing.assert_allclose(weights, exact, rtol=1e-5 if sde == "linear" else 1e-9)  # linear: kinks of g


# Variants


@pytest.mark.parametrize("sde", ["vp", "ve", "rectified", "linear"])
@pytest.mark.parametrize("name", VARIANTS)
def test_variants_converge_at_their_order(name: str, sde: str) -> None:
    check_order(VARIANTS[name], sde)


@pytest.mark.parametrize("up", [False, True], ids=["down", "up"])
@pytest.mark.parametrize("name", VARIANTS)
def test_variants_start_and_encode_at_their_order(name: str, up: bool) -> None:
    check_order(VARIANTS[name], "vp", up=up, ratios=MIDDLE)


@pytest.mark.parametrize("steps", range(1, 6))
@pytest.mark.parametrize("name", VARIANTS)
def test_variants_declare_their_evaluations(name: str, steps: int) -> None:
    sde = make("sde", "vp")
    model, times = oracles.denoiser(sde), oracles.ratio_times(sde, steps)
    with NFECounter(model) as counter:
        x = oracles.to_x(sde, oracles.starts(), times[0])
        x = VARIANTS[name].solve(model, x, times, noise=IID.seeded(0), hooks=[StopOnNaN()])
    assert counter.calls == VARIANTS[name].nfe(steps)


def test_fourth_order_pays_one_evaluation_for_its_start() -> None:
    assert [LMS().nfe(steps) for steps in (1, 2, 3, 4, 50)] == [1, 2, 4, 5, 51]
    assert [DPMSolver3M().nfe(steps) for steps in (1, 2, 3, 50)] == [1, 2, 3, 50]
    assert [make("solver", "pndm").nfe(steps) for steps in (1, 2, 3, 4, 50)] == [4, 8, 12, 13, 59]


def test_refuse_orders_that_do_not_exist() -> None:
    for solver, order in ((LMS, 5), (LMS, 0), (DEISRhoAB, 4), (DEISTAB, 4)):
        with pytest.raises(ValueError, match=f"order={order} must be"):
            solver(order=order)
    for kind in (UniPCBH1, UniPCBH2):
        with pytest.raises(ValueError, match="predictor_order=4 must be"):
            kind(predictor_order=4)


# The same method twice


@pytest.mark.parametrize("sde", ["vp", "ve", "rectified", "linear"])
def test_methods_that_are_one_agree(sde: str) -> None:
    process = make("sde", sde)
    times = oracles.ratio_times(process, 7)

    def agree(a: StepSolver, b: StepSolver) -> None:
        torch.testing.assert_close(end(a, process, times), end(b, process, times), rtol=1e-9, atol=1e-9)

    for order in (1, 2, 3):
        agree(LMS(order=order), DEISRhoAB(order=order))
    for first in (LMS(order=1), DEISTAB(order=1)):
        agree(first, DDIM())


def paper_s_unipc(
    model: Denoiser, x: Tensor, times: Tensor, p: int, b: type[UniPC], last: int | None = None
) -> Tensor:
    """Zhao et al., 2023, arXiv:2302.04867, algorithms 7 and 8: correct, then predict, each by a linear system.

    ``last`` is the order of the last step's predictor, the one before has one more, as in the authors' code.
    """
    sde = model.sde
    alpha, sigma = sde.marginal(times)
    lam, values = sde.log_snr(times) / 2, []

    def update(x: Tensor, i: int, r: list[Tensor], values: list[Tensor], half: bool) -> Tensor:
        """From times[i] by the value there and those at lam[i] + r h."""
        hh = lam[i] - lam[i + 1]
        big_b = {UniPCBH1: hh, UniPCBH2: torch.expm1(hh)}[b]
        x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * torch.expm1(hh) * values[0]
        if not r:
            return x
        phi, right = torch.expm1(hh) / hh - 1, []
        for n in range(1, len(r) + 1):
            right.append(phi * math.factorial(n) / big_b)
            phi = phi / hh - 1 / math.factorial(n + 1)
        rows = torch.stack([torch.stack(r) ** n for n in range(len(r))])
        a = torch.tensor([0.5]) if half else torch.linalg.solve(rows, torch.stack(right))
        slopes = [(m - values[0]) / s for m, s in zip(values[1:], r, strict=True)]
        return x - alpha[i + 1] * big_b * sum(c * d for c, d in zip(a, slopes, strict=True))

    def order(i: int) -> int:
        return p if last is None else min(p, last + len(times) - 2 - i)

    corrected = x
    for i in range(len(times) - 1):
        values.append(model(x, times[i]).x0)
        if i > 0:
            back = range(i - 2, i - 1 - min(i, order(i - 1)), -1)
            r = [(lam[k] - lam[i - 1]) / (lam[i] - lam[i - 1]) for k in back] + [torch.ones_like(lam[0])]
            used = [values[i - 1], *(values[k] for k in back), values[i]]
            corrected = update(corrected, i - 1, r, used, half=len(r) == 1)
        back = range(i - 1, i - min(i + 1, order(i)), -1)
        r = [(lam[k] - lam[i]) / (lam[i + 1] - lam[i]) for k in back]
        x = update(corrected, i, r, [values[i], *(values[k] for k in back)], half=len(r) == 1)
    return x


@pytest.mark.parametrize("sde", ["vp", "edm"])
@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("kind", [UniPCBH1, UniPCBH2])
def test_unipc_is_the_paper_s_predictor_and_corrector(kind: type[UniPC], p: int, sde: str) -> None:
    """One combination of predictions per step is the whole method."""
    process = make("sde", sde)
    times = oracles.ratio_times(process, 7)
    model, x = oracles.denoiser(process), oracles.to_x(process, oracles.starts(), times[0])
    paper = paper_s_unipc(model, x, times, p, kind)
    torch.testing.assert_close(end(kind(predictor_order=p), process, times), paper, rtol=1e-9, atol=1e-9)


# Defects of others


@dataclass(frozen=True, kw_only=True)
class Published(DPMSolver3M):
    """The third-order update as published in code, with a factor at its second difference."""

    factor: float = 1.0
    integral: type[FlowIntegral] = field(default=EpsIntegral)

    def coefficients(self, integral: FlowIntegral, steps: int) -> list[StepCoefficients]:
        """The published update from the third step on."""
        rows, lam = super().coefficients(integral, steps), integral.lam
        sign, scale = (1, integral.alpha) if self.integral is X0Integral else (-1, -integral.sigma)
        for i in range(2, steps):
            h, h_0, h_1 = lam[i + 1] - lam[i], lam[i] - lam[i - 1], lam[i - 1] - lam[i - 2]
            r_0, r_1 = h_0 / h, h_1 / h
            phi_1 = -sign * torch.expm1(-sign * h)  # int e^(sign (u - h)) or e^(h - u), ...
            phi_2 = sign * (1 - phi_1 / h)
            phi_3 = sign * (0.5 - phi_2 / h)
            d_0, d_1 = np.array([1, -1, 0]) / float(r_0), np.array([0, 1, -1]) / float(r_1)
            d = (d_0 - d_1) / float(r_0 + r_1)
            slope, bend = d_0 + float(r_0) * d, self.factor * d
            w = float(phi_1) * np.array([1, 0, 0]) + float(phi_2) * slope + float(phi_3) * bend
            rows[i] = StepCoefficients(rows[i].x_coef, (float(scale[i + 1]) * w).tolist())
        return rows


@pytest.mark.parametrize("integral", [EpsIntegral, X0Integral])
def test_third_order_needs_its_factor_two(integral: type[FlowIntegral]) -> None:
    """Published multistep code of order 3, in noise and in data prediction, converges at order 2."""
    assert middle_order(Published(factor=1.0, integral=integral)) < 2.3
    sde = make("sde", "vp")
    flow, solver = integral(sde, oracles.ratio_times(sde, 8)), DPMSolver3M()
    for ours, original in zip(
        solver.coefficients(flow, 8),
        Published(factor=2.0, integral=integral).coefficients(flow, 8),
        strict=True,
    ):
        np.testing.assert_allclose(ours.weights, original.weights, rtol=1e-9)


@pytest.mark.parametrize("kind", [DPMSolver3M, DPMSolverPP3M, LMS])
def test_order_is_lost_without_a_proper_start(kind: type[StepSolver]) -> None:
    """A first step of order 1 leaves an error of h^2: azula's order 3 tends to 2.3."""

    class FunctionField(kind):  # type: ignore[misc, valid-type]
        def coefficients(self, integral: FlowIntegral, steps: int) -> list[StepCoefficients]:
            i = torch.arange(steps)
            w = integral.weights(i, i + 1, node_indices(i, min(self.order, steps))).tolist()
            return [
                StepCoefficients(k, v[: n + 1])
                for n, (k, v) in enumerate(zip(integral.x_coef(i, i + 1).tolist(), w, strict=True))
            ]

    assert middle_order(FunctionField()) < 2.5


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("kind", [UniPCBH1, UniPCBH2])
def test_unipc_survives_a_last_step_to_almost_no_noise(kind: type[UniPC], p: int) -> None:
    """diffusers' UniPC gave NaN with bh1 and a final sigma of zero, and a singular system at order 3 without a
    low-order end."""
    sde = EDMProcess(sigma_min=1e-12, sigma_max=80.0)
    log_snr = torch.cat(
        [torch.linspace(-2 * math.log(80), 8, 10), torch.tensor([24 * math.log(10)])]
    ).double()
    times = sde.t_from_log_snr(log_snr)
    assert torch.isfinite(end(kind(predictor_order=p), sde, times)).all()
    times = Karras()(EDMProcess(), 4)
    assert torch.isfinite(end(kind(predictor_order=p), EDMProcess(), times)).all()


# Starts and ends without signal


@cache
def straight_flow() -> tuple[Tensor, Tensor]:
    """Noise, and the data that the flow of the linear path makes of it down to t = 0.05."""
    sde, noise = make("sde", "rectified"), IID.seeded(3).normal(torch.empty(16, 2).double())
    exact = make("solver", "torch_diffeq", integrator={"method": "dopri8", "rtol": 1e-11, "atol": 1e-12})
    times = Uniform(t_min=0.05)(sde, 1)
    return noise, exact.solve(oracles.denoiser(sde), noise, times, noise=IID.seeded(0))


@pytest.mark.long
@pytest.mark.parametrize("up", [False, True], ids=["down", "up"])
@pytest.mark.parametrize(
    "solver",
    [DPMSolverPP3M(), *(kind(predictor_order=p) for kind in (UniPCBH1, UniPCBH2) for p in (1, 2, 3))],
    ids=lambda s: f"{type(s).__name__}-{s.order}",
)
def test_keeps_its_order_where_there_is_no_signal(solver: StepSolver, up: bool) -> None:
    """The linear path at t = 1 has alpha = 0 and log_snr = -inf."""
    sde, grid = make("sde", "rectified"), Uniform(t_min=0.05)
    model, (noise, data) = oracles.denoiser(sde), straight_flow()

    def off(steps: int) -> float:
        times, x, exact = grid(sde, steps), noise, data
        if up:
            times, x, exact = times.flip(0), data, noise
        x = solver.solve(model, x, times, noise=IID.seeded(0), hooks=[StopOnNaN()])
        return float((x - exact).square().mean().sqrt())

    orders = (np.log2(off(steps) / off(8 * steps)) / 3 for steps in (64, 256))
    assert any(order >= solver.order - 0.15 for order in orders)  # the second where the first is too coarse


@pytest.mark.parametrize(
    "name", ["dpm_solver_2m", "dpm_solver_3m", "lms", "deis_rhoab", "deis_tab", "ipndm", "pndm"]
)
def test_noise_prediction_refuses_to_start_without_signal(name: str) -> None:
    sde, solver = make("sde", "rectified"), make("solver", name)
    model, x = oracles.denoiser(sde), torch.zeros(1, 2)
    with pytest.raises(ValueError, match="t_max below 1"):
        solver.solve(model, x, Uniform()(sde, 4), noise=IID.seeded(0))
    t_max = 0.9 if name == "pndm" else 0.999  # whose start is unstable in few steps from pure noise
    solver.solve(model, x, Uniform(t_max=t_max)(sde, 4), noise=IID.seeded(0), hooks=[StopOnNaN()])


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("i", [0, 1, 4, 5, 6], ids=lambda i: f"step {i}")
@pytest.mark.parametrize("up", [False, True], ids=["down", "up"])
def test_weights_where_the_grid_has_no_signal(i: int, eta: float, up: bool) -> None:
    """By SciPy, for every polynomial of the degree: in y = alpha / sigma before alpha = sigma, in lam from there on."""
    sde = make("sde", "rectified")
    times = torch.tensor([1.0, 0.9, 0.8, 0.7, 0.6, 0.45, 0.2, 0.1], dtype=torch.float64)
    integral = SDEIntegral(sde, times, eta)
    start, end, nodes = (i + 1, i, [i + 1, i]) if up else (i, i + 1, [i, i - 1, i - 2][: i + 1])
    w = integral.weights(torch.tensor([start]), torch.tensor([end]), torch.tensor([nodes]))[0]
    y, sigma = (integral.alpha / integral.sigma).tolist(), float(integral.sigma[end])
    noisy = min(y[start], y[end]) < 1
    assert noisy == (i < 5)  # between 0.6 and 0.45 the signal becomes stronger than the noise
    if up and y[end] == 0 and eta > 0:
        return  # no noise is drawn while encoding
    for degree in range(len(nodes)):

        def kernel(v: float, degree: int = degree) -> float:
            return (
                (1 + eta**2)
                * sigma
                * (v / y[end] if eta else 1) ** eta**2
                * (v**degree if noisy else math.log(v) ** degree)
            )

        exact = quad(kernel, y[start], y[end], epsabs=1e-13)[0]
        places = [y[n] if noisy else math.log(y[n]) for n in nodes]
        ours = sum(float(a) * place**degree for a, place in zip(w, places, strict=True))
        assert ours == pytest.approx(exact, rel=1e-10, abs=1e-12), degree


def test_a_prediction_without_signal_is_left_out_where_there_is_more_signal_than_noise() -> None:
    sde = make("sde", "rectified")
    integral = X0Integral(sde, torch.tensor([1.0, 0.4, 0.2], dtype=torch.float64))
    index = torch.tensor([1]), torch.tensor([2])
    w = integral.weights(*index, torch.tensor([[1, 0]]))
    assert torch.equal(w, torch.nn.functional.pad(integral.weights(*index, torch.tensor([[1]])), (0, 1)))


@cache
def exact_end(sde: str, start: float, end: float) -> Tensor:
    """Return the end points of the flow of the mixture from the starts between two times."""
    process, times = make("sde", sde), torch.tensor([start, end], dtype=torch.float64)
    x = oracles.to_x(process, oracles.starts(), times[0])
    return make("solver", "dormand_prince").solve(oracles.denoiser(process), x, times, noise=IID.seeded(0))


@pytest.mark.long
@pytest.mark.parametrize("steps", [3, 10])
@pytest.mark.parametrize("grid", ["uniform", "quadratic", "cosine", "karras", "angle", "log_snr"])
@pytest.mark.parametrize("sde", ["vp", "cosine", "rectified"])
def test_no_grid_throws_samples_far_off(sde: str, grid: str, steps: int) -> None:
    """Unlimited, the worst of these steps of very different lengths ends 10^11 times as far off as DDIM."""
    process = make("sde", sde)
    times = make("grid", grid)(process, steps)
    model, x = oracles.denoiser(process), oracles.to_x(process, oracles.starts(), times[0])
    exact = exact_end(sde, float(times[0]), float(times[-1]))

    def off(name: str) -> float:
        y = make("solver", name).solve(model, x, times, noise=IID.seeded(0))
        return float((y - exact).square().mean().sqrt())

    names = ["dpm_solver_pp", "dpm_solver_pp_3m", "unipc_bh1", "unipc_bh2"]
    if process.alpha(times[0]) > 0:  # noise prediction needs it
        names += ["dpm_solver_2m", "dpm_solver_3m", "lms", "deis_rhoab", "deis_tab", "ipndm"]
    ratios = {name: off(name) / off("ddim") for name in names}
    assert max(ratios.values()) < 8, ratios


# Others agree in the limit of small steps; here how ours compare where it matters


def test_more_order_is_less_error_at_twenty_evaluations() -> None:
    """On the smooth mixture of the contract tests, on VP: a claim of docs/choose_a_solver.md."""
    second, third = error(DPMSolverPP(), "vp", 20), error(DPMSolverPP3M(), "vp", 20)
    corrected = error(UniPCBH2(), "vp", 20)
    assert corrected < third < second
    assert error(DPMSolver3M(), "vp", 20) < error(DPMSolver2M(), "vp", 20)
