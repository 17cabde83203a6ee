"""Pairs of parameters and simulated observations as data, for simulation-based inference."""

import hashlib
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sde_gen.data.atomic_build import build_atomically, checked_read
from sde_gen.data.base import Dataset, DatasetSource, Splits, check_fraction, random_mask
from sde_gen.data.simulator.base import Simulator
from sde_gen.data.simulator.prior import ParameterPrior
from sde_gen.data.simulator.two_moons import TwoMoons
from sde_gen.utils.atomic import create

DIRECTIONS = ("posterior", "likelihood")
"""Distributions that may be learned: p(theta | x) and p(x | theta)."""

SPLITS = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class Simulations(DatasetSource):
    """Simulations of parameters drawn from their prior.

    With ``direction=posterior`` the samples are the parameters theta and the condition ``vector`` is the observation x,
    so the model is p(theta | x); with ``direction=likelihood`` it is the reverse. Simulations that hold numbers that
    are not finite are left out and counted in a warning: the model then is one given that the simulation succeeds.

    Arguments:
        simulator: the simulator with its prior.
        count: number of training simulations.
        test_count: number of test simulations.
        direction: distribution that is learned, posterior or likelihood.
        seed: random seed.
        cache: folder in which the simulations are stored, to be made once; None: made at every start. It is refused if
            simulator, its settings, the source code of its class, counts or seed have changed.

    Raises:
        ValueError: a count is not positive, or the direction is another word.
    """

    simulator: Simulator = field(default_factory=TwoMoons)
    count: int = 9_000
    test_count: int = 1_000
    direction: str = "posterior"
    seed: int = 0
    cache: str | None = None

    places: ClassVar[frozenset[str]] = frozenset({"cache"})

    def __post_init__(self) -> None:
        if self.count < 1 or self.test_count < 1:
            raise ValueError(
                f"count={self.count}, test_count={self.test_count}: both splits need simulations"
            )
        check_direction(self.direction)

    @property
    def prior(self) -> ParameterPrior:
        """Prior of the parameters."""
        return self.simulator.prior

    def reference(self, given: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """Draw from the exact distribution that is learned, given one condition (V,), with shape (count, D).

        Raises:
            ValueError: the simulator has no reference posterior.
        """
        if self.direction == "posterior":
            return self.simulator.posterior(given.double(), count, rng)
        return torch.as_tensor(self.simulator.simulate(given.double().expand(count, -1).clone(), rng))

    def load(self) -> Splits:
        """Simulate, or read the cache."""
        pairs = self._simulated() if self.cache is None else self._cached(Path(self.cache))
        return splits(pairs, self.direction, type(self.simulator).__name__)

    def _simulated(self) -> dict[str, tuple[Tensor, Tensor]]:
        return {name: self._part(number) for number, name in enumerate(SPLITS)}

    def _part(self, number: int) -> tuple[Tensor, Tensor]:
        """Simulate a split."""
        count, simulator = (self.count, self.test_count)[number], self.simulator
        theta = simulator.prior.sample(count, np.random.default_rng([self.seed, number, 0]))
        x = torch.as_tensor(simulator.simulate(theta.clone(), np.random.default_rng([self.seed, number, 1])))
        return theta, x

    def _cached(self, folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
        kind = type(self.simulator)
        settings = {
            "simulator": f"{kind.__module__}.{kind.__qualname__}",
            "settings": str(self.simulator) if type(self.simulator).__repr__ is not object.__repr__ else "",
            "code": source_digest(kind),
            "count": self.count,
            "test_count": self.test_count,
            "seed": self.seed,
        }

        def fill(growing: Path) -> Mapping[str, Any]:
            for name, (theta, x) in self._simulated().items():
                with create(growing / f"{name}.npz") as file:
                    np.savez(file, theta=theta.numpy(), x=x.numpy())
            return {}

        build_atomically(folder, settings, fill)
        pairs = {}
        for name in SPLITS:
            with (
                checked_read(folder.resolve()),
                np.load(folder / f"{name}.npz", allow_pickle=False) as arrays,
            ):
                pairs[name] = torch.from_numpy(arrays["theta"]), torch.from_numpy(arrays["x"])
        return pairs


@dataclass(frozen=True, kw_only=True)
class SimulationTable(DatasetSource):
    """Pairs of parameters and observations in a file .npz, made elsewhere.

    The arrays are ``theta`` (N, D) and ``x`` (N, V); ``test_theta`` and ``test_x`` are the test split, without which a
    share of the rows is held out. Rows that hold numbers that are not finite are left out and counted in a warning.

    Arguments:
        path: the file.
        direction: distribution that is learned, posterior or likelihood.
        test_fraction: share of the test split, where the file has none.
        seed: draws the test split.

    Raises:
        ValueError: test_fraction lies outside (0, 1), or the direction is another word.
    """

    path: str
    direction: str = "posterior"
    test_fraction: float = 0.1
    seed: int = 0

    places: ClassVar[frozenset[str]] = frozenset({"path"})

    def __post_init__(self) -> None:
        check_fraction(self.test_fraction)
        check_direction(self.direction)

    def load(self) -> Splits:
        """Read the file."""
        arrays = self._read(Path(self.path))
        train = as_rows(arrays["theta"], arrays["x"], self.path)
        if len(train[0]) < 2:
            raise ValueError(f"{self.path} has {len(train[0])} simulation; both splits need one")
        if "test_theta" in arrays:
            test = arrays["test_theta"], arrays["test_x"]
        else:
            mask = random_mask(len(train[0]), self.test_fraction, self.seed)
            train, test = ((train[0][rows], train[1][rows]) for rows in (~mask, mask))
        return splits({"train": train, "test": test}, self.direction, self.path)

    def _read(self, path: Path) -> dict[str, Tensor]:
        """Read the arrays."""
        if not path.is_file():
            raise ValueError(f"there is no file {path}; give one with data.path=FILE.npz")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (ValueError, OSError, EOFError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} cannot be read as .npz: {error}") from error
        names = {"theta", "x"}
        if arrays.keys() not in (names, names | {f"test_{name}" for name in names}):
            raise ValueError(
                f"{path} holds {', '.join(arrays) or 'nothing'}; expected theta and x, and both test_theta and test_x "
                "or none"
            )
        for name, array in arrays.items():
            if array.dtype.kind not in "biuf":
                raise ValueError(f"{path}: {name} has dtype {array.dtype}; expected numbers")
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def splits(pairs: Mapping[str, tuple[Tensor, Tensor]], direction: str, what: str) -> Splits:
    """Make data sets of pairs (theta, x) by the name of the split.

    Arguments:
        pairs: parameters (N, D) and observations (N, V), or (N,) for one number, by train and test.
        direction: posterior or likelihood.
        what: origin of the pairs, for messages.

    Raises:
        ValueError: shapes do not match, no simulation is finite, or what is modeled never changes.
    """
    made: dict[str, Dataset] = {}
    modeled = pairs["train"][0]
    for name, (theta, x) in pairs.items():
        theta, x = as_rows(theta, x, what)
        kept = torch.isfinite(theta.float()).all(1) & torch.isfinite(x.float()).all(1)
        lost = int((~kept).sum())
        if lost == len(kept):
            raise ValueError(
                f"all {lost:,} simulations of the {name} split of {what} hold numbers that are not finite"
            )
        if lost:
            warnings.warn(
                f"{lost:,} of {len(kept):,} simulations of the {name} split of {what} hold numbers that are not "
                "finite and are left out: the model is one of successful simulations",
                stacklevel=3,
            )
        values, vector = (theta, x) if direction == "posterior" else (x, theta)
        if name == "train":
            modeled = values[kept]
        made[name] = Dataset(
            values=values[kept].float(), levels=None, conditions={"vector": vector[kept].float()}
        )
    names = ("parameter", "observed number") if direction == "posterior" else ("observed number", "parameter")
    train = made["train"]
    if train.shape != made["test"].shape:
        raise ValueError(
            f"{what} has training and test splits of shapes {train.shape} and {made['test'].shape}"
        )
    fixed = _fixed(modeled)
    if fixed and len(train) > 1:
        raise ValueError(f"{names[0]} {fixed[0]} of {what} is the same in all simulations: remove it")
    for number in _fixed(train.conditions["vector"]) if len(train) > 1 else ():
        warnings.warn(
            f"{names[1]} {number} of {what} is the same in all simulations and tells nothing", stacklevel=3
        )
    return Splits(train=train, test=made["test"])


def as_rows(theta: Tensor, x: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """Return pairs with shapes (N, D) and (N, V); single numbers (N,) get an axis.

    Raises:
        ValueError: they have other shapes.
    """
    theta, x = (part[:, None] if part.ndim == 1 else part for part in (theta, x))
    if theta.ndim != 2 or x.ndim != 2 or len(theta) != len(x) or not theta.shape[1] or not x.shape[1]:
        raise ValueError(
            f"{what} has parameters of shape {tuple(theta.shape)} and observations of shape {tuple(x.shape)}; "
            "expected (N, D) and (N, V)"
        )
    return theta, x


def _fixed(rows: Tensor) -> list[int]:
    """Return the numbers of the columns that never change."""
    return (rows == rows[:1]).all(0).nonzero().flatten().tolist()


def check_direction(direction: str) -> None:
    """Raise ValueError unless a direction is known."""
    if direction not in DIRECTIONS:
        raise ValueError(f"direction={direction}: expected {' or '.join(DIRECTIONS)}")


def source_digest(kind: type) -> str:
    """Return a hash of the source code of a class; empty where it is not known."""
    try:
        return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""
