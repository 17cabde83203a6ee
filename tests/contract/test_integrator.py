"""What every integrator owes: closed-form answers in both directions, and states of several tensors."""

import math

import pytest
import torch
from torch import Tensor

from sde_gen.integrator import Integrator, RungeKutta4, TorchDiffEq
from sde_gen.integrator.torch_diffeq import FIXED
from tests.catalogue import make, names

INTEGRATORS = names("integrator")
ORDERS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}
State = tuple[Tensor, ...]


def spiral(t: Tensor, y: State) -> State:
    """y0 turns by cos t and y1 is the integral of its first coordinate; closed form below."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=y[0].dtype)
    return torch.cos(t) * y[0] @ turn.T, 2 * t * y[1]


def solution(y: State, t0: float, t1: float) -> State:
    """The spiral's solution: a turn by sin t1 - sin t0, and growth by exp(t1^2 - t0^2)."""
    angle = math.sin(t1) - math.sin(t0)
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
    )
    return y[0] @ turn.T, y[1] * math.exp(t1**2 - t0**2)


def start(dtype: torch.dtype = torch.float64) -> State:
    """Three points of the plane and three numbers."""
    return torch.tensor([[1.0, 0.0], [0.5, -2.0], [3.0, 1.0]], dtype=dtype), torch.tensor(
        [1.0, -1.0, 2.0]
    ).double()


def error(integrator: Integrator, t0: float, t1: float) -> float:
    """Largest error at t1."""
    result = integrator.integrate(spiral, start(), t0, t1)
    return max(float((a - b).abs().max()) for a, b in zip(result, solution(start(), t0, t1), strict=True))


@pytest.mark.parametrize("ends", [(1e-5, 1.0), (1.0, 1e-5), (0.7, 0.2), (0.0, 1.0)])
@pytest.mark.parametrize("name", INTEGRATORS)
def test_solves_in_both_directions(name: str, ends: tuple[float, float]) -> None:
    assert error(make("integrator", name), *ends) < 1e-4


@pytest.mark.parametrize("name", INTEGRATORS)
def test_keeps_dtypes_and_asks_inside(name: str) -> None:
    asked = []

    def field(t: Tensor, y: State) -> State:
        assert t.shape == ()
        assert t.dtype == torch.float64
        assert t.device.type == "cpu"
        assert [part.dtype for part in y] == [torch.float32, torch.float64]
        asked.append(float(t))
        return spiral(t, y)

    for t0, t1 in [(0.1, 0.9), (0.9, 0.1)]:
        result = make("integrator", name).integrate(field, start(torch.float32), t0, t1)
        assert [part.dtype for part in result] == [torch.float32, torch.float64]
        assert [part.shape for part in result] == [part.shape for part in start()]
    assert min(asked) >= 0.1
    assert max(asked) <= 0.9


@pytest.mark.parametrize("name", INTEGRATORS)
def test_first_trial_step_stays_inside(name: str) -> None:
    """A slow field invites a first step longer than the interval, outside of which there may be nothing."""
    for t0, t1 in [(1.0, 0.99), (0.99, 1.0)]:
        asked = []

        def field(t: Tensor, y: State) -> State:
            asked.append(float(t))  # noqa: B023 - called before the loop goes on
            return (1e-3 * y[0],)

        make("integrator", name).integrate(field, (torch.ones(2, 2),), t0, t1)
        assert 0.99 <= min(asked) <= max(asked) <= 1.0


@pytest.mark.parametrize("name", INTEGRATORS)
def test_batch_of_one_is_batch_of_many(name: str) -> None:
    integrator = make("integrator", name)
    together = integrator.integrate(spiral, start(), 0.1, 0.9)
    alone = integrator.integrate(spiral, tuple(part[:1] for part in start()), 0.1, 0.9)
    tolerance = 1e-4 if integrator.batch_coupled else 1e-14
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b[:1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", ["dopri5", "dopri8", "bosh3"])
def test_tolerance_is_kept(method: str) -> None:
    loose, tight = (error(TorchDiffEq(method=method, rtol=tol, atol=tol), 0.9, 0.1) for tol in (1e-4, 1e-8))
    assert loose < 1e-3
    assert tight < 1e-7


@pytest.mark.parametrize("method", FIXED)
def test_fixed_methods_have_their_order_and_count(method: str) -> None:
    errors = [error(TorchDiffEq(method=method, steps=steps), 0.9, 0.1) for steps in (8, 16, 32, 64)]
    assert math.log2(errors[0] / errors[-1]) / 3 == pytest.approx(ORDERS[method], abs=0.3)
    asked: list[float] = []

    def field(t: Tensor, y: State) -> State:
        asked.append(float(t))
        return spiral(t, y)

    TorchDiffEq(method=method, steps=3).integrate(field, start(), 0.1, 0.9)
    assert len(asked) == 3 * FIXED[method]


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_runge_kutta_is_of_order_four(power: float) -> None:
    errors = [error(RungeKutta4(steps=steps, power=power), 0.9, 0.1) for steps in (24, 48, 96, 192)]
    assert math.log2(errors[0] / errors[-1]) / 3 >= 3.85


def test_clock_resolves_what_is_fast_near_zero() -> None:
    """The root of t solves dy/dt = y / (2 t); from 1 to 1e-4, steps that shrink towards zero help."""

    def error_at(power: float) -> float:
        integrator = RungeKutta4(steps=24, power=power)
        (y,) = integrator.integrate(lambda t, y: (0.5 * y[0] / t,), (torch.ones(1, 1).double(),), 1.0, 1e-4)
        return abs(float(y) - 1e-2)

    assert error_at(4.0) < 0.1 * error_at(1.0)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_field_that_is_not_finite_does_not_hang(name: str) -> None:
    try:
        (y,) = make("integrator", name).integrate(
            lambda t, y: (y[0] * float("nan"),), (torch.ones(2, 2),), 1.0, 0.1
        )
    except FloatingPointError as problem:
        assert "gave up" in str(problem)  # noqa: PT017 - raising is one of two right answers
    else:
        assert torch.isnan(y).all()


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="unknown"):
        TorchDiffEq(method="dopri4")
    with pytest.raises(ValueError, match="positive"):
        TorchDiffEq(rtol=0.0)
    with pytest.raises(ValueError, match="its own steps"):
        TorchDiffEq(steps=5)
    for steps in (None, 0):
        with pytest.raises(ValueError, match="number of steps"):
            TorchDiffEq(method="rk4", steps=steps)
    with pytest.raises(ValueError, match="at least one"):
        RungeKutta4(steps=0)
    with pytest.raises(ValueError, match="at least 1"):
        RungeKutta4(power=0.5)
    with pytest.raises(ValueError, match="not negative"):
        RungeKutta4().integrate(spiral, start(), -0.1, 1.0)
