"""Simulations as data: directions, cache, tables, and simulations that fail."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from sde_gen.data import Simulations, SimulationTable
from sde_gen.data.simulator import GaussianLinear, NormalPrior, Simulator, UniformPrior


@dataclass(frozen=True, kw_only=True)
class Counted(Simulator):
    """Two parameters, three observed numbers, and a count of calls."""

    failing: float = 0.0
    fixed: bool = False

    calls: ClassVar[list[int]] = []

    @property
    def prior(self):
        return UniformPrior([0.0, 0.0], [1.0, 1.0])

    def simulate(self, theta, rng):
        self.calls.append(len(theta))
        x = torch.cat([theta, torch.from_numpy(rng.random((len(theta), 1)))], 1)
        x[theta[:, 0] < self.failing, 2] = float("nan")
        if self.fixed:
            x[:, 1] = 4.0
        return x


@pytest.fixture(autouse=True)
def _no_calls():
    Counted.calls.clear()


def test_directions_swap_sample_and_condition():
    one, other = (
        Simulations(simulator=Counted(), count=40, test_count=9, direction=direction).load()
        for direction in ("posterior", "likelihood")
    )
    for first, second, count in ((one.train, other.train, 40), (one.test, other.test, 9)):
        assert first.values.shape == (count, 2)
        assert second.values.shape == (count, 3)
        assert torch.equal(first.values, second.conditions["vector"])
        assert torch.equal(second.values, first.conditions["vector"])
        assert torch.equal(first.values, second.values[:, :2])  # what was simulated belongs to its parameters


def test_noise_is_independent_of_the_parameters_and_they_stay_as_they_are():
    """Correlation of theta and x - theta, whose variances are equal; a simulator that writes to its input does not."""
    train = Simulations(simulator=GaussianLinear(dim=2), count=10_000).load().train
    theta, noise = train.values, train.conditions["vector"] - train.values
    correlation = (theta * noise).mean(0) / (theta.std(0) * noise.std(0))
    assert float(correlation.abs().max()) < 0.05  # five deviations

    class Writing(Counted):
        def simulate(self, theta, rng):
            theta *= 2
            return theta

    train = Simulations(simulator=Writing(), count=9).load().train
    assert torch.equal(train.conditions["vector"], 2 * train.values)


def test_more_simulations_and_other_seeds():
    first, second, other = (
        Simulations(simulator=GaussianLinear(dim=2), count=count, seed=seed).load().train.values
        for count, seed in ((30, 0), (30, 0), (30, 1))
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_cache_simulates_once_and_knows_its_simulator(tmp_path):
    settings = {"count": 20, "test_count": 5, "cache": str(tmp_path / "cache")}
    first = Simulations(simulator=Counted(), **settings).load()
    assert Counted.calls == [20, 5]
    second = Simulations(simulator=Counted(), **settings, direction="likelihood").load()
    assert Counted.calls == [20, 5]
    assert torch.equal(first.train.values, second.train.conditions["vector"])
    for changed in (
        {"seed": 1},
        {"count": 21},
        {"simulator": Counted(failing=0.1)},
        {"simulator": GaussianLinear()},
    ):
        with pytest.raises(ValueError, match="was built with other settings"):
            Simulations(**{"simulator": Counted(), **settings, **changed}).load()


def test_a_cache_is_refused_after_the_code_has_changed(tmp_path, monkeypatch):
    settings = {"simulator": Counted(), "count": 20, "test_count": 5, "cache": str(tmp_path / "cache")}
    Simulations(**settings).load()
    monkeypatch.setattr("sde_gen.data.simulations.source_digest", lambda kind: "other")
    with pytest.raises(ValueError, match=r"other settings \(code: "):
        Simulations(**settings).load()


def test_a_damaged_cache_is_named(tmp_path):
    settings = {"simulator": Counted(), "count": 20, "test_count": 5, "cache": str(tmp_path / "cache")}
    Simulations(**settings).load()
    path = tmp_path / "cache" / "test.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cache is damaged .* delete it to rebuild it"):
        Simulations(**settings).load()


def test_simulations_that_fail_are_left_out_and_counted():
    whole = Simulations(simulator=Counted(), count=200, test_count=50).load()
    with pytest.warns(UserWarning, match=r"\d+ of 200 simulations of the train split of Counted") as found:
        kept = Simulations(simulator=Counted(failing=0.3), count=200, test_count=50).load()
    failed = int((whole.train.values[:, 0] < 0.3).sum())
    assert str(found[0].message).startswith(f"{failed} of 200")
    assert torch.equal(kept.train.values, whole.train.values[whole.train.values[:, 0] >= 0.3])
    with pytest.raises(ValueError, match="all 200 simulations of the train split"):
        Simulations(simulator=Counted(failing=2.0), count=200).load()


def test_an_observed_number_that_never_changes_is_named():
    with pytest.warns(UserWarning, match="observed number 1 of Counted is the same in all simulations"):
        Simulations(simulator=Counted(fixed=True), count=20).load()
    with pytest.raises(
        ValueError, match="observed number 1 of Counted is the same in all simulations: remove it"
    ):
        Simulations(simulator=Counted(fixed=True), count=20, direction="likelihood").load()


@dataclass(frozen=True, kw_only=True)
class Wrong(Simulator):
    """A simulator whose observations have another shape than declared."""

    shape: tuple[int, ...] = (3,)

    @property
    def prior(self):
        return NormalPrior([0.0], [[1.0]])

    def simulate(self, theta, rng):
        return np.zeros(self.shape)


@pytest.mark.parametrize("shape", [(3, 2), (20, 2, 2), (20, 0), ()])
def test_observations_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"parameters of shape \(20, 1\) and observations of shape"):
        Simulations(simulator=Wrong(shape=shape), count=20).load()


def table(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def pairs(count=30):
    draw = np.random.default_rng(0)
    return {"theta": draw.random((count, 2)), "x": draw.random((count, 3))}


def test_a_table_is_read_in_both_directions_with_or_without_a_test_split(tmp_path):
    arrays = pairs()
    path = table(tmp_path / "a.npz", **arrays)
    splits = SimulationTable(path=path, test_fraction=0.2).load()
    assert (len(splits.train), len(splits.test)) == (24, 6)
    back = torch.cat([splits.train.values, splits.test.values])
    assert sorted(back.tolist()) == sorted(torch.from_numpy(arrays["theta"]).float().tolist())
    for row, x in zip(splits.train.values.tolist(), splits.train.conditions["vector"].tolist(), strict=True):
        place = np.abs(arrays["theta"] - row).sum(1).argmin()
        np.testing.assert_allclose(arrays["x"][place], x, rtol=1e-6)
    path = table(tmp_path / "b.npz", **arrays, test_theta=arrays["theta"][:4], test_x=arrays["x"][:4])
    splits = SimulationTable(path=path, direction="likelihood").load()
    assert (splits.train.shape, len(splits.test)) == ((3,), 4)
    flat = table(tmp_path / "c.npz", theta=np.arange(5.0), x=np.arange(5.0) ** 2)
    assert SimulationTable(path=flat).load().train.shape == (1,)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"theta": np.zeros((4, 2))}, "expected theta and x"),
        ({**pairs(), "y": np.zeros(3)}, "expected theta and x"),
        ({**pairs(), "test_x": np.zeros((3, 3))}, "expected theta and x"),
        ({"theta": np.array(["a"]), "x": np.zeros(1)}, "expected numbers"),
        ({"theta": np.zeros((4, 2)), "x": np.zeros((3, 2))}, r"expected \(N, D\) and \(N, V\)"),
        ({"theta": np.zeros((1, 2)), "x": np.zeros((1, 2))}, "both splits need one"),
        (
            {"theta": np.zeros((4, 2)), "x": np.random.default_rng(0).random((4, 2))},
            "parameter 0 .* is the same",
        ),
        ({**pairs(), "test_theta": np.zeros((3, 3)), "test_x": np.zeros((3, 3))}, "splits of shapes"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, arrays, words):
    with pytest.raises(ValueError, match=words):
        SimulationTable(path=table(tmp_path / "a.npz", **arrays)).load()


def test_a_file_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"data\.path=FILE"):
        SimulationTable(path=str(tmp_path / "none.npz")).load()
    (tmp_path / "a.npz").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="cannot be read"):
        SimulationTable(path=str(tmp_path / "a.npz")).load()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Simulations(direction="joint"), "direction=joint: expected posterior or likelihood"),
        (lambda: SimulationTable(path="a", direction="x"), "direction=x"),
        (lambda: Simulations(count=0), "count=0"),
        (lambda: SimulationTable(path="a", test_fraction=1.0), "test_fraction"),
    ],
)
def test_impossible_settings(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()
