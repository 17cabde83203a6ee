"""Callbacks of the solvers."""

import pytest
import torch
from torch import nn

from sde_gen.denoiser import NetworkDenoiser
from sde_gen.noise import IID
from sde_gen.solver.callbacks import NFECounter, Progress, StepInfo, StopOnNaN, Trajectory
from sde_gen.solver.ddim import DDIM
from sde_gen.solver.runge_kutta import Heun
from tests.helpers import oracles
from tests.helpers.catalogue import make


def info(index: int, x_t: torch.Tensor, x_s: torch.Tensor) -> StepInfo:
    return StepInfo(index, 3, 0.9 - 0.2 * index, 0.7 - 0.2 * index, x_t, x_s)


def test_trajectory_keeps_copies_and_starts_again() -> None:
    path, x = Trajectory(), torch.zeros(2, 3)
    for _ in range(2):  # the second run replaces the first
        path(info(0, x, x + 1))
        path(info(1, x + 1, x + 2))
    x += 100
    assert path.times == pytest.approx([0.9, 0.7, 0.5])
    assert [float(state.mean()) for state in path.states] == [0, 1, 2]


def test_stop_on_nan_names_step_and_samples() -> None:
    x = torch.zeros(4, 2, 2)
    StopOnNaN()(info(0, x, x))
    for bad in (float("nan"), float("inf")):
        broken = x.clone()
        broken[1, 0, 1] = broken[3, 1, 1] = bad
        with pytest.raises(
            FloatingPointError, match=r"step 2 of 3, from t=0.7 to s=0.5, in samples \[1, 3\]"
        ):
            StopOnNaN()(info(1, x, broken))


def test_stop_on_nan_stops_the_solver_at_once() -> None:
    """A network that fails from the third evaluation on is not asked a fifth time."""

    class Failing(nn.Module):
        calls = 0

        def forward(self, x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return x if self.calls < 3 else x * float("nan")

    sde, net = make("sde", "vp"), Failing()
    model = NetworkDenoiser(net=net, sde=sde, parametrization=make("parametrization", "eps"))
    with pytest.raises(FloatingPointError, match="step 3 of 8"):
        DDIM().solve(
            model,
            torch.zeros(1, 2) + 1,
            oracles.ratio_times(sde, 8),
            noise=IID.seeded(0),
            hooks=[StopOnNaN()],
        )
    assert net.calls == 3


def test_progress_counts_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    hook, x = Progress(lambda done, of: seen.append((done, of))), torch.zeros(1, 1)
    for index in range(3):
        hook(info(index, x, x))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_counter_counts_the_network_inside_only() -> None:
    sde, net = make("sde", "vp"), nn.Identity()

    class Net(nn.Module):
        def forward(self, x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
            first: torch.Tensor = net(x)
            return first - net(-x)  # two calls, as guidance makes

    model = NetworkDenoiser(net=Net(), sde=sde, parametrization=make("parametrization", "eps"))
    times, x = oracles.ratio_times(sde, 3), torch.ones(5, 2)
    with NFECounter(net) as counter:
        Heun().solve(model, x, times, noise=IID.seeded(0))
    assert (counter.calls, counter.samples) == (12, 60)
    Heun().solve(model, x, times, noise=IID.seeded(0))
    assert counter.calls == 12, "counting ends with the block"
    with pytest.raises(RuntimeError, match="on purpose"), counter:
        raise RuntimeError("on purpose")
    Heun().solve(model, x, times, noise=IID.seeded(0))
    assert counter.calls == 0
