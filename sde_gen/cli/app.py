"""What the doors share: configuration by Hydra, and user mistakes answered in one line."""

import importlib
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sde_gen.cli import options
from sde_gen.cli.overrides import CONF as CONF
from sde_gen.cli.overrides import names as names
from sde_gen.cli.overrides import suggest as suggest
from sde_gen.cli.overrides import validate_overrides as validate_overrides
from sde_gen.distributed.launch import should_report
from sde_gen.training.precision import exact_float32


def door(name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Turn ``task(config)`` into a command line configured by conf/<name>.yaml.

    A mistake of the user (ValueError, a missing file, a full disk, numbers that are not finite) ends the
    process with one line and exit status 2; HYDRA_FULL_ERROR=1 shows the traceback instead.
    """

    def decorate(function: Callable[[DictConfig], None]) -> Callable[[], None]:
        task = _Task(function, name)

        def guarded(config: DictConfig) -> None:
            if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
                signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs from here on cleans up
            try:
                exact_float32()
                task(config)
            except MISTAKES as error:
                if os.environ.get("HYDRA_FULL_ERROR"):
                    raise
                exit_with_error(format_error(error), consequence=isinstance(error, ChildProcessError))
            except (MemoryError, RuntimeError) as error:
                if os.environ.get("HYDRA_FULL_ERROR") or not _out_of_memory(error):
                    raise
                exit_with_error(
                    "the memory did not suffice; try a smaller batch_size (in training a larger engine.accumulation)"
                )
            except KeyboardInterrupt:
                raise SystemExit(130) from None

        guarded.__module__ = function.__module__

        def main() -> None:
            argv = sys.argv
            try:
                words = validate_overrides(name, argv[1:])
            except MISTAKES as error:
                exit_with_error(format_error(error))
            with _plain_warnings(), _folder_of_sweep(words) as more:
                sys.argv = [argv[0], *words, *more]
                try:
                    hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(guarded)()
                finally:
                    sys.argv = argv

        vars(main)["task"] = task
        return main

    return decorate


MISTAKES = (ValueError, OSError, FloatingPointError, ImportError, HydraException, OmegaConfBaseException)
"""What a user's mistake raises."""


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show a warning for users in one line, without the line of source that raised it."""
    before = warnings.formatwarning

    def plain(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> str:
        if issubclass(category, UserWarning):
            return f"warning: {' '.join(str(message).split())}\n"
        return before(message, category, *where, **more)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextmanager
def _folder_of_sweep(words: list[str]) -> Iterator[list[str]]:
    """Give Hydra a folder for the record of a sweep that ends with it; launchers of processes keep their logs."""
    chosen = any(word.startswith(("hydra/launcher", "hydra.sweep.dir")) for word in words)
    if chosen or not {"-m", "--multirun"} & set(words):
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="sde_gen-") as folder:
        yield [f"hydra.sweep.dir='{folder}'"]


class _Task:
    """What a door does; a process of another machine, where launchers of sweeps send it, finds it by its name."""

    def __init__(self, function: Callable[[DictConfig], None], name: str) -> None:
        self.function, self.name = function, name

    def __call__(self, config: DictConfig) -> None:
        options.check(config, self.name, CONF)
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


def exit_with_error(message: str, *, consequence: bool = False) -> NoReturn:
    """End the process as after a user's mistake; of the processes of a ``torchrun`` one says it.

    Arguments:
        message: what was wrong.
        consequence: whether another process has failed before, and says why.
    """
    if should_report(message, consequence=consequence):
        print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(2)


def format_error(error: BaseException) -> str:
    """The message of the mistake itself in one line, without the layers around it."""
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}=... must be given"
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        where = str(error).rpartition("full_key: ")[2] if "full_key: " in str(error) else ""
        return f"{where}: {format_error(error.__cause__)}" if where else format_error(error.__cause__)
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {line}"
    return line


def require_int(config: DictConfig, *keys: str, least: int = 1) -> None:
    """Refuse settings that are no whole numbers, or too small ones.

    Raises:
        ValueError: one of them is; the message names it.
    """
    for key in keys:
        value = config[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{key}={value}: expected a whole number of at least {least}")


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


def as_list(value: Any) -> list[Any]:
    """A list, also where the user gave its only element bare."""
    return list(value) if isinstance(value, ListConfig) else [value]


def load(kind: str, name: str) -> DictConfig:
    """Read conf/<kind>/<name>.yaml.

    Raises:
        ValueError: there is no such file; the message names the nearest.
    """
    if name not in names(kind):
        raise ValueError(f"{kind}={name} is unknown; {suggest(name, names(kind))}")
    config = OmegaConf.load(CONF / kind / f"{name}.yaml")
    assert isinstance(config, DictConfig)
    return config
