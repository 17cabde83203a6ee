"""The guard of speed sees a loss of 15 % and nothing else."""

import json
import time

import pytest
import torch

from benchmarks.frozen_step import FrozenStep
from benchmarks.guard import (
    ATTEMPTS,
    COUNTED,
    FILE,
    ROUNDS,
    SIDE,
    TIMED,
    counts,
    excess,
    ratio,
    slower,
    trainer,
)
from sde_gen.model.norms import GroupNorm
from sde_gen.solver import DPMSolverPP

BUDGET = json.loads(FILE.read_text())


def printed(folder) -> list[str]:
    return excess(dict(counts(trainer(str(folder), **COUNTED))), BUDGET["counts"])


@pytest.mark.slow
def test_counts_are_the_same_every_time(tmp_path):
    """Whatever is random, and whatever else this process has done."""
    first, second = (dict(counts(trainer(str(tmp_path / part), **COUNTED))) for part in ("a", "b"))
    assert first == second


@pytest.mark.slow
def test_needless_copies_in_the_network_are_seen(tmp_path, monkeypatch):
    """Before every normalization: by the training and the likelihood; solvers are not to blame."""
    normalize = GroupNorm.forward
    monkeypatch.setattr(GroupNorm, "forward", lambda self, x: normalize(self, x.clone().clone().clone()))
    words = printed(tmp_path)
    assert {line.partition(":")[0] for line in words} == {"training step", "likelihood, an evaluation"}
    assert all("megabytes" in line for line in words)


@pytest.mark.slow
def test_needless_copies_in_a_solver_are_seen(tmp_path, monkeypatch):
    step = DPMSolverPP.step
    monkeypatch.setattr(
        DPMSolverPP, "step", lambda self, model, x_t, *rest: step(self, model, x_t.clone().clone(), *rest)
    )
    (words,) = printed(tmp_path)
    assert words.startswith("dpm_solver_pp, a step outside the network:")
    assert "megabytes" in words


@pytest.mark.slow
def test_a_loop_over_the_weights_is_seen(tmp_path):
    """In the average and in the optimizer, whose share of the whole step is too small to show it."""
    training = trainer(str(tmp_path), **COUNTED)
    follower = training.ema_updater

    def update(decay):
        for target, source in zip(follower.target, follower.source, strict=True):
            target.lerp_(source, 1 - decay)

    follower.update = torch.no_grad()(update)
    training.adam = torch.optim.Adam(training.weights, foreach=False, fused=False)
    training.adam.step = lambda step=training.adam.step: (vars(training.adam).update(found_inf=None), step())
    words = excess(dict(counts(training)), BUDGET["counts"])
    parts = {"training step, its optimizer", "training step, its average"}
    assert parts <= {line.partition(":")[0] for line in words}


def test_a_timing_without_a_budget_is_reported():
    assert excess({"new": {"operators": 1.0}}, {}) == ["new: not in the budget"]
    assert excess({"a": {"bytes": 2.0}}, {"a": {"bytes": 0.0}}) == ["a: 2 bytes, none before (budget 0)"]
    assert excess({"a": {"bytes": 0.0}}, {"a": {"bytes": 0.0}}) == []


@pytest.mark.parametrize(
    ("found", "alarms"),
    [([2.0, 2.0], 0), ([2.3, 2.0, 2.1], 0), ([2.3, 2.0, 2.4], 1), ([2.0, 2.3, 2.4], 1), ([2.3, 2.4], 1)],
)
def test_an_alarm_needs_most_attempts(found, alarms):
    """The outcome is known after as many attempts as are listed."""
    asked = iter(found)
    assert len(slower(lambda: next(asked), 2.0, 3)) == alarms
    assert not list(asked)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [0.0, 0.15])
def test_a_slower_step_is_caught(tmp_path, loss):
    """As it is, the step passes; with 15 % more work of the processor it does not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        training, frozen = trainer(str(tmp_path), **TIMED), FrozenStep(side=SIDE, **TIMED)

        def step():
            begin = time.process_time()
            training.step(1)
            end = begin + (1 + loss) * (time.process_time() - begin)
            while time.process_time() < end:
                pass

        ratio(step, frozen, 3)
        words = slower(lambda: ratio(step, frozen, ROUNDS), BUDGET["ratio"], ATTEMPTS)
    finally:
        torch.set_num_threads(threads)
    assert len(words) == (1 if loss else 0)


def test_the_frozen_step_is_a_training_step():
    """Every weight moves and its average after it; with the noise always the same the loss falls."""
    torch.manual_seed(0)
    frozen = FrozenStep(width=8, side=8, batch=32)
    frozen.adam.param_groups[0]["lr"] = 1e-2
    before = [[weight.clone() for weight in part] for part in (frozen.weights, frozen.means)]
    losses = []
    for _ in range(12):
        torch.manual_seed(1)
        losses.append(float(frozen()))
    assert losses[-1] < 0.8 * losses[0]
    for old, new in zip(before, (frozen.weights, frozen.means), strict=True):
        assert not any(torch.equal(a, b) for a, b in zip(old, new, strict=True))
