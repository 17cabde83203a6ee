"""Loggers and other callbacks of a training, by name or by class."""

import contextlib
from collections.abc import Iterator
from typing import Any

from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from sde_gen.cli import instantiate
from sde_gen.cli.app import format_error
from sde_gen.cli.config_files import suggest
from sde_gen.cli.options import shown
from sde_gen.cli.targets import import_object
from sde_gen.training import Callback

EXPECTED = (
    "expected a class derived from sde_gen.training.Callback, such as "
    "loggers=[{_target_: sde_gen.training.TensorBoard, folder: tb}]"
)


def pop_loggers(config: DictConfig) -> ListConfig:
    """Resolve ``loggers``, by name from ``logging``, and remove ``logging``, which checkpoints do not store.

    Raises:
        ValueError: a logger is unknown; the message suggests the nearest name.
    """
    entries = config.loggers if isinstance(config.loggers, ListConfig) else [config.loggers]
    nodes = []
    for entry in entries:
        if isinstance(entry, str) and entry not in config.logging:
            raise ValueError(
                f"logger {entry!r} is unknown; {suggest(entry, sorted(map(str, config.logging)))}"
            )
        node = config.logging[entry] if isinstance(entry, str) else entry
        nodes.append(OmegaConf.to_container(node, resolve=True))
    with open_dict(config):
        del config["logging"]
    return ListConfig(nodes)


def check_loggers(nodes: ListConfig) -> None:
    """Check that all entries describe callbacks, before anything is built.

    Raises:
        ValueError: an entry is not a callback, or an argument has another type.
    """
    for place, node in _each(nodes):
        name = node._target_
        try:
            found = import_object(name)
        except Exception as error:  # whatever the modules on the way raise
            raise ValueError(
                f"{place}: there is no class {name} ({format_error(error)}); {EXPECTED}"
            ) from error
        if not (isinstance(found, type) and issubclass(found, Callback)):
            raise ValueError(f"{place}: {name} is no callback; {EXPECTED}")
        if node.get("_partial_", False):
            raise ValueError(f"{place}: _partial_=true makes no callback of {name}; {EXPECTED}")
        with _named(place):
            instantiate.check(node)


def make_loggers(nodes: ListConfig) -> list[Callback]:
    """Build the callbacks.

    Raises:
        ValueError: as :func:`check_loggers`.
    """
    check_loggers(nodes)
    found: list[Callback] = []
    for place, node in _each(nodes):
        with _named(place):
            found.append(instantiate.make(node))
    return found


def _each(nodes: ListConfig) -> Iterator[tuple[str, DictConfig]]:
    """Iterate over the entries and their keys in the configuration."""
    plain: Any = OmegaConf.to_container(nodes, resolve=True)
    for index, node in enumerate(plain):
        created = OmegaConf.create(node)
        assert isinstance(created, DictConfig), shown(node)
        yield f"loggers[{index}]", created


@contextlib.contextmanager
def _named(place: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, InstantiationException) as error:
        raise ValueError(f"{place}: {format_error(error)}") from error
