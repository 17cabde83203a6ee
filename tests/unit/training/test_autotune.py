"""Threads and memory format are chosen by measured time; results do not depend on the measurement."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sde_gen.cli import threads
from sde_gen.cli.threads import choice
from sde_gen.data import Dataset, Splits
from sde_gen.training.autotune import Autotune, Execution, FixedExecution, TimeCheck, stoppable, thread_counts
from tests.helpers.tiny_run import Net, image_trainer, same, weights

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Machine:
    """A simulated clock that advances only with work, in steps of a hundredth of a trial."""

    def __init__(self, seconds: Callable[[Execution, int], float]) -> None:
        self.seconds, self.now, self.trials = seconds, 0.0, list[Execution]()

    def clock(self) -> float:
        return self.now

    def trial(self, execution: Execution, check: TimeCheck) -> None:
        assert torch.get_num_threads() == execution.threads
        self.trials.append(execution)
        takes = self.seconds(execution, self.trials.count(execution))
        for _ in range(100):
            self.now += takes / 100
            check()

    def fastest(
        self, *counted: int, formats: tuple[bool, ...] = (False,), **settings: Any
    ) -> tuple[int, bool]:
        chosen = Autotune(threads=counted, clock=self.clock, **settings)(formats, self.trial)
        return chosen.threads, chosen.channels_last


def test_the_fastest_is_chosen() -> None:
    assert Machine(lambda one, _: {1: 0.1, 2: 0.07, 4: 0.09}[one.threads]).fastest(1, 2, 4) == (2, False)


@pytest.mark.parametrize(("two", "chosen"), [(0.097, 1), (0.094, 2)])
def test_a_tie_goes_to_fewer_threads(two: float, chosen: int) -> None:
    machine = Machine(lambda one, _: 0.1 if one.threads == 1 else two)
    assert machine.fastest(1, 2) == (chosen, False)


def test_the_memory_format_is_measured_with_the_threads() -> None:
    takes = {(1, True): 0.1, (1, False): 0.09, (2, True): 0.06, (2, False): 0.08}
    machine = Machine(lambda one, _: takes[one.threads, one.channels_last])
    assert machine.fastest(1, 2, formats=(True, False)) == (2, True)


def test_the_first_trial_is_a_warm_up() -> None:
    machine = Machine(lambda one, time: 0.1 if one.threads == 1 else 0.35 if time == 1 else 0.07)
    assert machine.fastest(1, 2) == (2, False)


def test_occasionally_blocking_threads_are_not_chosen() -> None:
    """Nine trials out of ten are faster with two threads, and the tenth takes forty times as long."""
    machine = Machine(lambda one, time: 0.01 if one.threads == 1 else 0.4 if time % 10 == 0 else 0.008)
    assert machine.fastest(1, 2) == (1, False)


def test_slow_trials_are_interrupted() -> None:
    machine = Machine(lambda one, _: 0.1 if one.threads == 1 else 10.0)
    assert machine.fastest(1, 2) == (1, False)
    assert machine.now < 2.5


def test_a_growing_load_affects_all_candidates_equally() -> None:
    """Candidates alternate in direction, so that under a linearly growing load all have the same mean: a tie."""
    number = [0]

    def takes(one: Execution, _: int) -> float:
        number[0] += 1
        return 0.1 + 0.001 * number[0]

    assert Machine(takes).fastest(1, 2, tie=1.01) == (1, False)


def test_the_budget_ends_the_measurement() -> None:
    machine = Machine(lambda one, _: 1.0)
    machine.fastest(1, 2, budget=1.5)
    assert machine.now == pytest.approx(4)  # the first time, and one round

    single = Machine(lambda one, _: 1.0)
    assert single.fastest(3) == (3, False)
    assert not single.trials


def test_numbers_of_threads() -> None:
    assert [thread_counts(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
    with pytest.raises(ValueError, match="threads=0: expected an integer of at least 1"):
        Execution(threads=0, channels_last=False)


@pytest.mark.parametrize("checks", [0, 1, 4])
def test_a_network_is_interrupted_at_its_modules_and_gradients(checks: int) -> None:
    class Stop(Exception):
        pass

    net, left = Net(), [checks]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Stop

    with pytest.raises(Stop), stoppable(net, check):
        net(torch.ones(3, 2), torch.ones(3)).sum().backward()
    net(torch.ones(3, 2), torch.ones(3)).sum().backward()
    assert left[0] == -1, "outside the block nothing is checked"


def test_order_of_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting, the environment, the resumed training, a measurement; no measurement on a GPU."""
    for name in threads.THREAD_VARS:
        monkeypatch.delenv(name, raising=False)
    stored = {"threads": 3, "channels_last": False}
    assert choice(None, CPU).chooser == threads.Autotune(threads=thread_counts())
    assert choice(None, CPU, stored).chooser == FixedExecution(threads=3, channels_last=False)
    assert choice(None, CPU, {**stored, "threads": 1}).why == "as the training began"
    assert "more than the" in choice(None, CPU, {**stored, "threads": 10**4}).why
    assert choice(5, CPU, stored).chooser == FixedExecution(threads=5, channels_last=False)
    assert choice(5, CPU).chooser == threads.Autotune(threads=[5])
    assert choice(None, CUDA).chooser == FixedExecution()
    assert choice(None, CUDA, stored).chooser == FixedExecution(channels_last=False)
    assert choice(5, CUDA).chooser == FixedExecution(threads=5)
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    assert choice(None, CPU).chooser == FixedExecution()
    assert choice(None, CPU, stored).chooser == FixedExecution(channels_last=False)
    assert choice(5, CPU).chooser == threads.Autotune(threads=[5])
    assert "MKL_NUM_THREADS=1" in choice(None, CPU).why


def images() -> Splits:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8, generator=generator)
    data = Dataset(values=values, labels=torch.arange(40) % 3, levels=256, classes=3)
    return Splits(train=data, test=data)


class Trying:
    """Go through all trials, then choose."""

    def __init__(self, chosen: Execution) -> None:
        self.chosen, self.formats = chosen, ()

    def __call__(
        self, formats: tuple[bool, ...], trial: Callable[[Execution, TimeCheck], object]
    ) -> Execution:
        self.formats = formats
        for format in (*formats, *formats):
            trial(Execution(threads=1, channels_last=format), lambda: None)
        return self.chosen


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_measurement_does_not_change_the_training(tmp_path, channels_last):
    """Weights and random numbers equal those with the same choice given."""
    chosen = Execution(threads=1, channels_last=channels_last)
    trained = []
    for name, chooser in (("given", FixedExecution(**vars(chosen))), ("measured", trying := Trying(chosen))):
        torch.manual_seed(3)
        training = image_trainer(tmp_path / name, images(), chooser=chooser)
        before, after = copy.deepcopy(weights(training)), torch.rand(())
        training.run()
        trained.append((before, after, weights(training)))
        conv = training.denoiser.net.conv.weight
        assert conv.is_contiguous(memory_format=torch.channels_last) is channels_last
        assert training.about["execution"] == {"threads": 1, "channels_last": channels_last}
    assert trying.formats == (True, False)
    for given, measured in zip(*trained, strict=True):
        assert same(given, measured) if isinstance(given, dict) else torch.equal(given, measured)


def test_a_given_memory_format_is_not_measured(tmp_path):
    trying = Trying(Execution(threads=1, channels_last=False))
    image_trainer(tmp_path, images(), chooser=trying, channels_last=False)
    assert trying.formats == (False,)


def test_threads_are_those_of_the_training_and_only_inside_it(tmp_path):
    seen = []

    def stop() -> bool:
        seen.append(torch.get_num_threads())
        return len(seen) == 2

    before = torch.get_num_threads()
    training = image_trainer(tmp_path, images(), chooser=FixedExecution(threads=before + 1), stop=stop)
    training.run()
    assert seen == [before + 1] * 2
    assert torch.get_num_threads() == before
