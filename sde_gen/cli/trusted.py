"""Check of stored configurations: in every place objects of its kind, and nothing else.

A run folder may come from another source, and Hydra builds whatever a ``_target_`` names. So all of the configuration
is checked before anything is built: a place takes the classes of its kind, and the arguments of a class are places
again, whose kinds are the annotations of its constructor.
"""

import collections.abc
import types
import typing
from pathlib import Path
from typing import Any

from torch import nn

from sde_gen.checkpoint.manifest import brief, line
from sde_gen.cli.annotations import (
    NUMBERS,
    Network,
    alternatives,
    fits,
    signature,
)
from sde_gen.cli.targets import import_object
from sde_gen.data import Augmentation, DatasetSource
from sde_gen.data.codec import Codec
from sde_gen.data.conditioning import Conditioning
from sde_gen.denoiser.parametrization import Parametrization
from sde_gen.distributed.strategy import Strategy
from sde_gen.grid.base import Grid
from sde_gen.model import Autoencoder, TokenTransformer
from sde_gen.model.adapter import Adapter
from sde_gen.model.classifier.base import ClassifierNetwork
from sde_gen.objective.base import Objective
from sde_gen.objective.pointwise_loss.base import PointwiseLoss
from sde_gen.objective.step_sampler.base import StepSampler
from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.objective.training_noise.base import TrainingNoise
from sde_gen.objective.weighting.base import Weighting
from sde_gen.sde import SDE
from sde_gen.solver.base import Solver
from sde_gen.training import TrainingConfig
from sde_gen.training.compile import Compiler
from sde_gen.training.ema import EMA
from sde_gen.training.lr_schedule import LRSchedule
from sde_gen.training.optimizer import Optimizer
from sde_gen.training.precision import Precision

PLACES: dict[str, Any] = {
    "adapter": Adapter,
    "augmentation": Augmentation,
    "codec": Codec,
    "compile": Compiler,
    "conditioning": Conditioning,
    "data": DatasetSource,
    "distributed": Strategy,
    "ema": EMA,
    "engine": TrainingConfig,
    "grid": Grid,
    "lr_schedule": LRSchedule,
    "model": Network | ClassifierNetwork | Autoencoder | TokenTransformer,
    "objective": Objective,
    "optimizer": Optimizer,
    "parametrization": Parametrization,
    "pointwise_loss": PointwiseLoss,
    "precision": Precision,
    "sde": SDE,
    "solver": Solver,
    "step_sampler": StepSampler,
    "time_sampler": TimeSampler,
    "training_noise": TrainingNoise,
    "weighting": Weighting,
}
"""Parts of a stored configuration that may be built, and their types; other parts are ignored."""

SIZED = frozenset({"adapter", "codec", "conditioning", "model", "parametrization", "sde"})
"""Parts in which integers are sizes."""

LARGEST = 2**20
"""A size, at most."""

DEEPEST = 16
"""Values within one another, at most."""

MOST = 2**18
"""Values in a part, at most: a table of betas has some thousands."""

MOST_OF_NETWORK = 2**12
"""Values in a part that is a network, at most."""


class _Place(typing.NamedTuple):
    """Place in the configuration, with its constraints."""

    name: str
    trust: tuple[str, ...]
    depth: int = 0

    def inside(self, name: str) -> "_Place":
        return self._replace(name=name, depth=self.depth + 1)


def check(config: Any, trust: tuple[str, ...] = ()) -> dict[str, Any]:
    """Check a stored configuration before anything of it is built.

    Arguments:
        config: the configuration, plain data.
        trust: further packages whose objects may be built, such as your own.

    Returns:
        Its parts that may be built: those of :data:`PLACES`.

    Raises:
        ValueError: a part holds what does not belong there; the message names it.
    """
    if not isinstance(config, dict):
        raise ValueError(f"the stored configuration is {brief(config)}; expected one part for each kind")
    found = {key: config[key] for key in PLACES if config.get(key) is not None}
    for key, node in found.items():
        place = _Place(key, trust)
        _bounded(node, place)
        _check(node, PLACES[key], place)
    return found


def _bounded(node: Any, place: _Place) -> None:
    """Limit depth, count and sizes, without recursion: the numbers may be anybody's."""
    count, layer, depth = 0, [node], 0
    most = MOST_OF_NETWORK if place.name == "model" else MOST
    while layer:
        if depth > DEEPEST:
            raise ValueError(
                f"the stored {place.name} is nested more than {DEEPEST} deep, which no training writes"
            )
        count += len(layer)
        if count > most:
            raise ValueError(
                f"the stored {place.name} holds more than {most:,} values, which no training writes"
            )
        inner: list[Any] = []
        for value in layer:
            if isinstance(value, dict | list):
                inner.extend(value.values() if isinstance(value, dict) else value)
            elif isinstance(value, int) and abs(value) > LARGEST and place.name in SIZED:
                raise ValueError(
                    f"the stored {place.name} has a size of {brief(value)}; the largest is {LARGEST:,}"
                )
        layer, depth = inner, depth + 1


def _check(node: Any, kind: Any, place: _Place) -> None:
    """Raise an error for a value of another kind."""
    if isinstance(node, dict) and any(isinstance(key, str) and key.startswith("_") for key in node):
        _check_object(node, kind, place)
    elif isinstance(node, str) and "${" in node:
        raise ValueError(
            f"the stored configuration holds the interpolation {brief(node)} in {place.name}, which no "
            "training writes; the run folder has been tampered with"
        )
    elif node != "???" and not any(_holds(node, one, place) for one in alternatives(kind)):
        raise ValueError(f"the stored {place.name} is {brief(node)}; expected {_name(kind)}")


def _holds(node: Any, kind: Any, place: _Place) -> bool:
    """Return whether plain data, and all nested values, are of the kind."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if node is None:
        return kind in (Any, types.NoneType)
    if isinstance(node, NUMBERS):  # the constructor distinguishes whole ones
        return kind is Any or kind in NUMBERS
    if isinstance(node, str):
        return kind in (Any, str, Path)
    if isinstance(node, list):
        if kind is not Any and not (
            isinstance(origin, type) and issubclass(origin, collections.abc.Sequence)
        ):
            return False
        if origin is tuple and arguments[-1] is not Ellipsis:
            kinds: Any = arguments
        else:
            kinds = [arguments[0] if arguments else Any] * len(node)
        if len(kinds) != len(node):
            return False
        for number, (value, one) in enumerate(zip(node, kinds, strict=True)):
            _check(value, one, place.inside(f"{place.name}[{number}]"))
        return True
    if isinstance(node, dict):
        if kind is not Any and not (isinstance(origin, type) and issubclass(origin, collections.abc.Mapping)):
            return False
        for key, value in node.items():
            _check(value, arguments[1] if arguments else Any, place.inside(f"{place.name}.{brief(key)}"))
        return True
    return False


def _check_object(node: dict[str, Any], kind: Any, place: _Place) -> None:
    """Reject an object of another group, or with arguments of a wrong type."""
    target, partial = node.get("_target_"), node.get("_partial_", False)
    others = sorted(key for key in node if key.startswith("_") and key not in ("_target_", "_partial_"))
    if not isinstance(target, str) or not isinstance(partial, bool) or others:
        raise ValueError(
            f"the stored {place.name} is {brief(node)}; expected _target_ with the name of a class, and no other word "
            "with an underscore but _partial_ with true or false"
        )
    found, ours = _resolve(target, place)
    kinds_here = PLACES.values() if Any in alternatives(kind) else (kind,)  # without one: those of all places
    if ours and not any(fits(found, partial, one) for one in kinds_here):
        raise ValueError(
            f"the stored configuration names {brief(target)} as {place.name}, where {_name(kind)} is expected"
        )
    names, kinds = signature(found)
    for key, value in node.items():
        if key.startswith("_"):
            continue
        if ours and key not in names:
            raise ValueError(
                f"the stored {place.name} has the argument {brief(key)}, which {_name(found)} does not take"
            )
        _check(value, kinds.get(key, Any), place.inside(f"{place.name}.{key}"))


def _resolve(target: str, place: _Place) -> tuple[Any, bool]:
    """The object of that name, and whether it is ours: else it is one of a trusted package.

    Raises:
        ValueError: it is neither.
    """
    package = target.partition(".")[0]
    if package == "sde_gen" or package in place.trust:
        try:
            found = import_object(target)
        except Exception as error:  # whatever the modules on the way raise
            raise ValueError(
                f"the stored configuration names {brief(target)} as {place.name}, which cannot be imported "
                f"({line(str(error), 200)})"
            ) from error
        home = str(getattr(found, "__module__", "")).partition(".")[0]
        if home in place.trust and callable(found):
            return found, False
        private = any(
            name.startswith("_") for name in (*target.split("."), str(getattr(found, "__name__", "_")))
        )
        if home == "sde_gen" and not private:
            return found, True
    raise ValueError(
        f"the stored configuration names {brief(target)} as {place.name}, which is not part of sde_gen, or no class; "
        f"if you trust that package, add trust=[{line(package, 60)}]"
    )


def _name(kind: Any) -> str:
    """A kind for a message."""
    if kind in (PLACES["model"], Network, nn.Module):
        return "a network"
    if typing.get_origin(kind) is None and isinstance(kind, type):
        return kind.__name__
    return line(str(kind).replace("sde_gen.", "").replace("collections.abc.", "").replace("typing.", ""), 80)


READS = {"download": False}
"""Settings of data under which nothing is downloaded."""

COPIES = "cache", "index"
"""Settings of data that name a folder, which would be made if it is missing."""


def reading(data: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration of data that only reads: it fetches no files, and makes no copies of what it reads.

    A copy that is there already is used.
    """
    target = data.get("_target_")
    taken = {*data, *(signature(import_object(target))[0] if isinstance(target, str) else ())}
    found = {**data, **{key: value for key, value in READS.items() if key in taken}}
    for key in COPIES:
        folder = found.get(key)
        if isinstance(folder, str) and not (Path(folder) / "header.json").is_file():
            found[key] = None
    return found
