"""Contract of all integrators: closed-form answers in both directions, and states of several tensors."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sde_gen.ode import (
    RK4,
    Adams,
    DormandPrince,
    Field,
    FunctionField,
    Integrator,
    ScipyODE,
    TorchDiffEq,
)
from sde_gen.ode.torch_diffeq import FIXED
from sde_gen.utils.broadcasting import broadcast
from tests.helpers.catalogue import make, names

INTEGRATORS = names("integrator")
ORDERS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}
State = tuple[Tensor, ...]


def spiral(t: Tensor, y: State) -> State:
    """y0 turns by cos t and y1 is the integral of its first coordinate; closed form below."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=y[0].dtype)
    return broadcast(torch.cos(t), y[0]).to(y[0].dtype) * y[0] @ turn.T, 2 * t * y[1]


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
    result = integrator.integrate(FunctionField(spiral), start(), t0, t1)
    return max(float((a - b).abs().max()) for a, b in zip(result, solution(start(), t0, t1), strict=True))


@pytest.mark.parametrize("ends", [(1e-5, 1.0), (1.0, 1e-5), (0.7, 0.2), (0.0, 1.0)])
@pytest.mark.parametrize("name", INTEGRATORS)
def test_solves_in_both_directions(name: str, ends: tuple[float, float]) -> None:
    assert error(make("integrator", name), *ends) < 1e-4


@pytest.mark.parametrize("name", INTEGRATORS)
def test_keeps_dtypes_and_asks_inside(name: str) -> None:
    asked = []

    def field(t: Tensor, y: State) -> State:
        assert t.shape in ((), (len(y[0]),))
        assert t.dtype == torch.float64
        assert t.device.type == "cpu"
        assert [part.dtype for part in y] == [torch.float32, torch.float64]
        asked.extend(t.reshape(-1).tolist())
        return spiral(t, y)

    for t0, t1 in [(0.1, 0.9), (0.9, 0.1)]:
        result = make("integrator", name).integrate(FunctionField(field), start(torch.float32), t0, t1)
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
            asked.extend(t.reshape(-1).tolist())  # noqa: B023 - called before the loop goes on
            return (1e-3 * y[0],)

        make("integrator", name).integrate(FunctionField(field), (torch.ones(2, 2),), t0, t1)
        assert 0.99 <= min(asked) <= max(asked) <= 1.0


@pytest.mark.parametrize("name", INTEGRATORS)
def test_batch_of_one_is_batch_of_many(name: str) -> None:
    integrator = make("integrator", name)
    together = integrator.integrate(FunctionField(spiral), start(), 0.1, 0.9)
    alone = integrator.integrate(FunctionField(spiral), tuple(part[:1] for part in start()), 0.1, 0.9)
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

    TorchDiffEq(method=method, steps=3).integrate(FunctionField(field), start(), 0.1, 0.9)
    assert len(asked) == 3 * FIXED[method]


@pytest.mark.parametrize("ends", [(0.9, 0.1), (0.1, 0.9)])
def test_adams_is_of_order_three_and_asks_once_a_step(ends: tuple[float, float]) -> None:
    errors = [error(Adams(steps=steps), *ends) for steps in (24, 48, 96, 192)]
    assert math.log2(errors[0] / errors[-1]) / 3 >= 2.85
    for steps in (1, 2, 3, 7):
        asked: list[float] = []

        def field(t: Tensor, y: State) -> State:
            asked.append(float(t))  # noqa: B023 - called before the loop goes on
            return spiral(t, y)

        Adams(steps=steps).integrate(FunctionField(field), start(), *ends)
        assert len(asked) == steps + 1
    with pytest.raises(ValueError, match="at least one step"):
        Adams(steps=0)


def test_runge_kutta_is_of_order_four() -> None:
    errors = [error(RK4(steps=steps), 0.9, 0.1) for steps in (24, 48, 96, 192)]
    assert math.log2(errors[0] / errors[-1]) / 3 >= 3.85


@pytest.mark.parametrize("method", ["RK45", "RK23", "DOP853"])
def test_methods_of_scipy_keep_their_tolerance(method: str) -> None:
    loose, tight = (error(ScipyODE(method=method, rtol=tol, atol=tol), 0.9, 0.1) for tol in (1e-3, 1e-7))
    assert loose < 1e-2
    assert tight < 1e-6


@pytest.mark.long
@pytest.mark.parametrize("name", ["dormand_prince", "bogacki_shampine"])
def test_own_steps_keep_their_tolerance_in_every_part(name: str) -> None:
    """One fast number beside a thousand slow ones decides over the steps; a norm over all would not see it."""

    def field(t: Tensor, y: State) -> State:
        return torch.zeros_like(y[0]), 40 * broadcast(torch.cos(40 * t), y[1])

    for tol in (1e-2, 1e-4, 1e-5):
        slow, fast = make("integrator", name, rtol=tol, atol=tol).integrate(
            FunctionField(field), (torch.ones(2, 1000).double(), torch.zeros(2, 1).double()), 0.0, 1.0
        )
        assert bool((slow == 1).all())
        assert abs(float(fast[0]) - math.sin(40)) < 20 * tol


@pytest.mark.parametrize("name", ["dormand_prince", "bogacki_shampine"])
def test_own_steps_are_asked_of_those_under_way(name: str) -> None:
    """A slow sample is done in few steps; a fast one goes on alone, with what the field holds for it."""

    @dataclass(frozen=True)
    class Turning(Field):
        speed: Tensor
        asked: list[int]

        def __call__(self, t: Tensor, y: State) -> State:
            assert len(self.speed) == len(t) == len(y[0])
            self.asked.append(len(t))
            return (broadcast(self.speed * torch.cos(self.speed * t), y[0]).expand_as(y[0]),)

        def select(self, index: Tensor, count: int) -> "Turning":
            assert count == 3
            return Turning(field.speed[index], self.asked)

    speed = torch.tensor([1.0, 60.0, 0.1]).double()
    field = Turning(speed, [])
    (y,) = make("integrator", name).integrate(field, (torch.zeros(3, 2).double(),), 0.0, 1.0)
    torch.testing.assert_close(y, torch.sin(speed)[:, None].expand(3, 2), rtol=1e-3, atol=1e-4)
    assert set(field.asked) >= {3, 1}
    assert field.asked.count(1) > 2 * field.asked.count(3)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_says_whether_gradients_flow(name: str) -> None:
    integrator = make("integrator", name)
    y = tuple(part.requires_grad_() for part in start())
    end = integrator.integrate(FunctionField(spiral), y, 0.1, 0.9)
    assert end[1].requires_grad == integrator.differentiable
    if integrator.differentiable:
        (slope,) = torch.autograd.grad(end[1].sum(), y[1])
        torch.testing.assert_close(slope, torch.full((3,), math.exp(0.8)).double(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_finer_errs_many_times_less(name: str) -> None:
    integrator = make("integrator", name, **({"steps": 4} if name in ("runge_kutta", "adams") else {}))
    exact = integrator.refine().refine().integrate(FunctionField(spiral), start(), 0.1, 0.9)
    coarse, fine = (
        max(
            float((a - b).abs().max())
            for a, b in zip(one.integrate(FunctionField(spiral), start(), 0.1, 0.9), exact, strict=True)
        )
        for one in (integrator, integrator.refine())
    )
    assert fine < coarse / 3


@pytest.mark.parametrize("name", INTEGRATORS)
def test_field_that_is_not_finite_does_not_hang(name: str) -> None:
    try:
        (y,) = make("integrator", name).integrate(
            FunctionField(lambda t, y: (y[0] * float("nan"),)), (torch.ones(2, 2),), 1.0, 0.1
        )
    except FloatingPointError as problem:
        assert any(word in str(problem) for word in ("gave up", "finite"))  # noqa: PT017 - raising is one of two right answers
    else:
        assert torch.isnan(y).all()


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown"):
        TorchDiffEq(method="dopri4")
    with pytest.raises(ValueError, match="positive"):
        TorchDiffEq(rtol=0.0)
    with pytest.raises(ValueError, match="has adaptive steps"):
        TorchDiffEq(steps=5)
    for steps in (None, 0):
        with pytest.raises(ValueError, match="number of steps"):
            TorchDiffEq(method="rk4", steps=steps)
    with pytest.raises(ValueError, match="at least one"):
        RK4(steps=0)
    with pytest.raises(ValueError, match="unknown"):
        ScipyODE(method="LSODA")
    for kind in (ScipyODE, DormandPrince):
        with pytest.raises(ValueError, match="positive"):
            kind(atol=0.0)
