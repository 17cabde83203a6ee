"""Command lines: configuration by Hydra, and one line for every mistake of the user."""

import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sde_gen import __version__
from sde_gen.cli import options, pretrained
from sde_gen.cli.config_files import CONF, printable
from sde_gen.cli.help import command_help, print_page
from sde_gen.cli.overrides import validate_overrides, with_list
from sde_gen.distributed.launch import should_report
from sde_gen.training.precision import exact_float32


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line ``python -m sde_gen.NAME``, configured by conf/NAME.yaml.

    A mistake of the user (ValueError, a missing file, a full disk, numbers that are not finite) ends the
    process with one line and exit status 2; HYDRA_FULL_ERROR=1 shows the traceback instead.

    Arguments:
        name: name of the command and of its file.
        function: the task, given the composed configuration; a function of a module, so that launchers of sweeps
            can pickle it.
        positional: setting that takes the words without ``=`` as a list; None if there is none.
    """

    name: str
    function: Callable[[DictConfig], None]
    positional: str | None = None

    def __call__(self) -> None:
        """Read the command line, compose the configuration and run."""
        argv = sys.argv
        if {"-h", "--help"} & set(argv[1:]):
            print_page(command_help(self.name, argv[1:]))
            raise SystemExit(0)
        if "--version" in argv[1:]:
            print(f"sde_gen {__version__}")
            raise SystemExit(0)
        try:
            words = argv[1:] if self.positional is None else with_list(self.positional, argv[1:])
            overrides = validate_overrides(self.name, words)
        except MISTAKES as error:
            exit_with_error(format_error(error))
        with _one_line_warnings(), _sweep_folder(overrides) as sweep_overrides:
            sys.argv = [argv[0], *overrides, *sweep_overrides]
            try:
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=self.name)(
                    self.run_or_exit
                )()
            finally:
                sys.argv = argv

    def run(self, config: DictConfig) -> None:
        """Check the options and run the task; mistakes are raised."""
        options.check(config, self.name)
        pretrained.replace_names(config)
        self.function(config)

    def run_or_exit(self, config: DictConfig) -> None:
        """Run the task; a mistake of the user ends the process with one line."""
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs from here on cleans up
        try:
            exact_float32()
            self.run(config)
        except MISTAKES as error:
            if os.environ.get("HYDRA_FULL_ERROR"):
                raise
            exit_with_error(format_error(error), consequence=isinstance(error, ChildProcessError))
        except (MemoryError, RuntimeError) as error:
            if os.environ.get("HYDRA_FULL_ERROR") or not _out_of_memory(error):
                raise
            exit_with_error(
                "out of memory: try a smaller batch_size (in training a larger engine.accumulation)"
            )
        except KeyboardInterrupt:
            raise SystemExit(130) from None


MISTAKES = (ValueError, OSError, FloatingPointError, ImportError, HydraException, OmegaConfBaseException)
"""Exceptions that a mistake of the user raises."""


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Show a warning for users in one line, without the line of source that raised it."""
    before = warnings.formatwarning

    def one_line(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> str:
        del category, args, kwargs
        return f"warning: {' '.join(printable(str(message)).split())}\n"

    warnings.formatwarning = one_line
    # complaints of EXIF alone: the picture is read, and they do not name it
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextmanager
def _sweep_folder(overrides: list[str]) -> Iterator[list[str]]:
    """Give Hydra a folder for the record of a sweep that ends with it; launchers of processes keep their logs."""
    chosen = any(word.startswith(("hydra/launcher", "hydra.sweep.dir")) for word in overrides)
    if chosen or not {"-m", "--multirun"} & set(overrides):
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="sde_gen-") as folder:
        yield [f"hydra.sweep.dir='{folder}'"]


def _out_of_memory(error: BaseException) -> bool:
    """Return whether memory is exhausted: PyTorch has a class for a GPU's, on the CPU a message only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def exit_with_error(message: str, *, consequence: bool = False) -> NoReturn:
    """End the process after a mistake of the user; of the processes of a ``torchrun`` one prints it.

    Arguments:
        message: what was wrong.
        consequence: whether another process has failed before and prints the reason.
    """
    if should_report(message, consequence=consequence):
        print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(2)


def format_error(error: BaseException) -> str:
    """Return the message of the mistake itself in one line, without the exceptions around it."""
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}=... must be given"
    if isinstance(error, InstantiationException):
        message, _, where = (
            str(error).rpartition("full_key: ") if "full_key: " in str(error) else (str(error), "", "")
        )
        text = " ".join(message.split()) if error.__cause__ is None else format_error(error.__cause__)
        return printable(f"{where}: {text}" if where else text)
    text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        text = f"{error.full_key}: {text}"
    return printable(text)


def require_int(config: DictConfig, *keys: str, least: int = 1) -> None:
    """Check that settings are whole numbers that are large enough.

    Raises:
        ValueError: one of them is not; the message names it.
    """
    for key in keys:
        value = config[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{key}={value}: expected a whole number of at least {least}")


def cli_overrides() -> dict[str, str]:
    """Overrides of the command line by the setting: ``reference.solver`` for ``solver@reference.solver=heun``."""
    overrides = HydraConfig.get().overrides.task
    return {word.lstrip("+~").partition("=")[0].rpartition("@")[2]: word for word in overrides}


def reject_unused(reason: str, *keys: str) -> None:
    """Reject settings on the command line that have no effect.

    Arguments:
        reason: why they have none, for the message.
        keys: the settings.

    Raises:
        ValueError: one of them, or something below it, is given; the message names it.
    """
    for key, word in cli_overrides().items():
        if key in keys or key.startswith(tuple(f"{other}." for other in keys)):
            raise ValueError(f"{word} has no effect because {reason}")


def as_list(value: Any) -> list[Any]:
    """Return a list, also where the user gave its only element alone."""
    return list(value) if isinstance(value, ListConfig) else [value]
