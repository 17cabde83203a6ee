"""What the doors share: configuration by Hydra, and user mistakes answered in one line."""

import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sde_gen.engine.precision import exact_float32

PACKAGE = Path(__file__).resolve().parent
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""The configuration: inside the package in a wheel, beside it in a checkout."""


def door(name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Turn ``task(config)`` into a command line configured by conf/<name>.yaml.

    A mistake of the user (ValueError, a missing file, a full disk, numbers that are not finite) ends the
    process with one line and exit status 2; HYDRA_FULL_ERROR=1 shows the traceback instead.
    """

    def decorate(function: Callable[[DictConfig], None]) -> Callable[[], None]:
        task = _Task(function)

        def guarded(config: DictConfig) -> None:
            try:
                exact_float32()
                task(config)
            except (
                ValueError,
                OSError,
                FloatingPointError,
                ImportError,
                HydraException,
                OmegaConfBaseException,
            ) as error:
                if os.environ.get("HYDRA_FULL_ERROR"):
                    raise
                fail(explain(error))
            except (MemoryError, RuntimeError) as error:
                if os.environ.get("HYDRA_FULL_ERROR") or not _out_of_memory(error):
                    raise
                fail(
                    "the memory did not suffice; try a smaller batch_size (in training a larger engine.accumulation)"
                )
            except KeyboardInterrupt:
                raise SystemExit(130) from None

        guarded.__module__ = function.__module__

        def main() -> None:
            preflight(name, sys.argv[1:])
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(guarded)()

        vars(main)["task"] = task
        return main

    return decorate


class _Task:
    """What a door does; a process of another machine, where launchers of sweeps send it, finds it by its name."""

    def __init__(self, function: Callable[[DictConfig], None]) -> None:
        self.function = function

    def __call__(self, config: DictConfig) -> None:
        self.function(config)

    def __reduce__(self) -> tuple[Callable[[str, str], "_Task"], tuple[str, str]]:
        module = vars(sys.modules[self.function.__module__])[
            "__spec__"
        ].name  # "__main__" is another one there
        return _task, (module, self.function.__name__)


def _task(module: str, name: str) -> _Task:
    found: _Task = vars(getattr(importlib.import_module(module), name))["task"]
    return found


def _out_of_memory(error: BaseException) -> bool:
    """Whether memory is what lacks: PyTorch has a class for a GPU's, and on the CPU a message only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def fail(message: str) -> NoReturn:
    """End the process as after a user's mistake."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def explain(error: BaseException) -> str:
    """The message of the mistake itself in one line, without the layers around it."""
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}=... must be given"
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        where = str(error).rpartition("full_key: ")[2]
        return f"{where}: {explain(error.__cause__)}"
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def check_counts(config: DictConfig, *keys: str, least: int = 1) -> None:
    """Refuse settings that are no whole numbers, or too small ones.

    Raises:
        ValueError: one of them is; the message names it.
    """
    for key in keys:
        value = config[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{key}={value}: expected a whole number of at least {least}")


def check_switches(config: DictConfig, *keys: str) -> None:
    """Refuse settings that are neither true nor false; any word counts as true in Python.

    Raises:
        ValueError: one of them is; the message names it.
    """
    for key in keys:
        if not isinstance(config[key], bool):
            raise ValueError(f"{key}={config[key]}: expected true or false")


def given() -> dict[str, str]:
    """The words of the command line by what they set: ``reference.solver`` for ``solver@reference.solver=heun``."""
    words = HydraConfig.get().overrides.task
    return {word.lstrip("+~").partition("=")[0].rpartition("@")[2]: word for word in words}


def refuse(instead: str, *keys: str) -> None:
    """Refuse settings on the command line that nobody would read.

    Arguments:
        instead: what decides in their place, or what to do, for the message.
        keys: the settings.

    Raises:
        ValueError: one of them, or something below it, is given; the message names it.
    """
    for key, word in given().items():
        if key in keys or key.startswith(tuple(f"{other}." for other in keys)):
            raise ValueError(f"{word} would have no effect: {instead}")


def several(value: Any) -> list[Any]:
    """A list, also where the user gave its only element bare."""
    return list(value) if isinstance(value, ListConfig) else [value]


def names(kind: str) -> list[str]:
    """Names to choose from in conf/<kind>."""
    return sorted(path.stem for path in (CONF / kind).glob("*.yaml"))


def load(kind: str, name: str) -> DictConfig:
    """Read conf/<kind>/<name>.yaml.

    Raises:
        ValueError: there is no such file; the message names the nearest.
    """
    if name not in names(kind):
        raise ValueError(f"{kind}={name} is unknown; {nearest(name, names(kind))}")
    config = OmegaConf.load(CONF / kind / f"{name}.yaml")
    assert isinstance(config, DictConfig)
    return config


def nearest(word: str, known: list[str]) -> str:
    """A hint: the names most like the word, or all of them."""
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"


def preflight(name: str, argv: list[str]) -> None:
    """Answer misspelt groups and keys before Hydra does, with the nearest valid names."""
    words = [word for word in argv if not word.startswith("-")]
    if any(word.startswith(("--config", "--help", "--hydra-help", "-c")) for word in argv):
        return  # another configuration than ours, or only a question
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            overrides = OverridesParser.create().parse_overrides(words)
            if not {"-m", "--multirun"} & set(argv):
                _refuse_sweeps(overrides)
            compose(name, [_first_of_sweep(override) for override in overrides])
        except (HydraException, OmegaConfBaseException) as error:
            base = compose(name, [word for word in words if _chooses(name, word)])
            for word in words:
                _explain_override(name, word, base)
            fail(str(error).splitlines()[0])


def _refuse_sweeps(overrides: list[Override]) -> None:
    for override in overrides:
        if override.is_sweep_override():
            key, _, value = str(override.input_line).partition("=")
            fail(f"{key}={value} is a sweep: write {key}=[{value}] for a list, or -m to run once for each")


def _first_of_sweep(override: Override) -> str:
    if not override.is_sweep_override():
        assert override.input_line is not None
        return override.input_line
    return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"


def _explain_override(door: str, word: str, base: DictConfig) -> None:
    key, equals, value = word.partition("=")
    if not equals:
        fail(f"{word!r} is not an override; write key=value")
    if key.startswith(("+", "~")):
        return
    group = key.partition("@")[0]
    if (CONF / group).is_dir():
        for choice in value.split(","):
            if choice not in names(group):
                fail(f"{key}={choice} is unknown; {nearest(choice, names(group))}")
        if not _composes(door, word):
            fail(f"{door} takes no {key}: what a run was trained with stays; --help lists what to choose")
    elif key not in (known := _keys(base)):
        fail(f"there is no setting {key!r}; {nearest(key, known)}")


def _chooses(door: str, word: str) -> bool:
    """Whether the word takes another file of a kind than the door does, with settings of its own."""
    return (CONF / re.split("[@=]", word)[0]).is_dir() and _composes(door, word)


def _composes(door: str, word: str) -> bool:
    try:
        compose(door, [word])
    except (HydraException, OmegaConfBaseException):
        return False
    return True


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key in config:
        name = f"{prefix}{key!s}"
        keys.append(name)
        child = config._get_node(key)
        if isinstance(child, DictConfig) and not child._is_missing() and not child._is_interpolation():
            keys += _keys(child, name + ".")
    return [key for key in keys if not key.rpartition(".")[2].startswith("_")]
