"""Objects of configurations, their arguments held against the annotations of the constructors."""

from collections.abc import Collection
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig

from sde_gen.cli.targets import target
from sde_gen.utils.arguments import Planned, check_arguments


def make(config: DictConfig, **given: Any) -> Any:
    """Build what a configuration describes, every argument held against the constructor's annotations before.

    Arguments:
        config: a node with a ``_target_``.
        given: further arguments; and settings of Hydra's ``instantiate``.

    Raises:
        ValueError: an argument is of another kind than annotated; the message names the setting.
    """
    check(config, **given)
    return instantiate(config, **given)


def check(config: DictConfig, **given: Any) -> None:
    """Hold the settings of a node, and of those inside it, against the annotations of the constructors.

    Arguments:
        config: a node with a ``_target_``.
        given: arguments that replace those of the node.

    Raises:
        ValueError: as :func:`make`.
    """
    if isinstance(config, DictConfig):
        _planned(config, {key for key in given if not key.startswith("_")})


def _planned(node: Any, elsewhere: Collection[str] = ()) -> Any:
    """Return the value of a node, or a placeholder of its object, whose arguments are checked."""
    if isinstance(node, ListConfig):
        return [_planned(_followed(node._get_node(index))) for index in range(len(node))]
    if not isinstance(node, DictConfig):
        return node._value()
    if node._is_none():
        return None
    settings = {key: _followed(node._get_node(key)) for key in node if key not in elsewhere}
    known = {key: child for key, child in settings.items() if child is not None and not child._is_missing()}
    if "_target_" not in known:
        return {key: _planned(child) for key, child in known.items()}
    arguments = {str(key): child for key, child in known.items() if not str(key).startswith("_")}
    made = target(node)
    check_arguments(
        made,
        {key: _planned(child) for key, child in arguments.items()},
        {key: child._get_full_key(None) for key, child in arguments.items()},
    )
    return Planned(made, partial=bool(node.get("_partial_", False)))


def _followed(node: Any) -> Any:
    """Return the node that an interpolation names, under whose name the user sets it."""
    return node._maybe_dereference_node(throw_on_resolution_failure=True)
