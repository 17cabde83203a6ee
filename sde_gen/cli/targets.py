"""Objects by the names that a ``_target_`` holds."""

import importlib
from typing import Any

from omegaconf import DictConfig

from sde_gen.cli.config_files import printable


def import_object(name: str) -> Any:
    """Return the object that Hydra finds under a name: an attribute where there is one, or else a module.

    Raises:
        Exception: whatever the modules on the way raise.
    """
    first, *rest = name.split(".")
    found, path = importlib.import_module(first), first
    for part in rest:
        path = f"{path}.{part}"
        found = getattr(found, part) if hasattr(found, part) else importlib.import_module(path)
    return found


def target(node: DictConfig) -> Any:
    """Return the class or function of a node.

    Raises:
        ValueError: there is none of that name; the message names the setting.
    """
    name = node._target_
    try:
        return import_object(name)
    except Exception as error:  # as above
        place = node._get_full_key("_target_")
        raise ValueError(
            f"{place}={printable(str(name))}: there is no class or function of this name "
            f"({printable(str(error))[:200]})"
        ) from error
