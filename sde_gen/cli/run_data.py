"""The data of a trained run, from where they lay in training or where they lie now."""

import inspect
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sde_gen.cli import conditions, instantiate
from sde_gen.cli.app import cli_overrides
from sde_gen.cli.data_spec import check_classes, source_class
from sde_gen.cli.run import Run
from sde_gen.data import DataIdentity, Splits
from sde_gen.data.atomic_build import HEADER
from sde_gen.data.identity import there


def open_data(run: Run, moved: Mapping[str, Any] = MappingProxyType({})) -> Splits:
    """Load the data that a run was trained on, from where they lay then, or from where they lie now.

    Of images of several sizes, those of the size of the run's samples are returned. Data that are not those of the
    training, by :class:`~sde_gen.data.DataIdentity`, are warned of.

    Arguments:
        run: the run.
        moved: settings of where the data lie now, by name, such as ``root``.

    Raises:
        ValueError: the data are missing or have another shape or, if the network is given classes, other classes; or
            a setting is given that decides over the data.
    """
    if "data" not in run.config:
        raise ValueError(f"{run.folder} was converted without data; convert it again with data=...")
    splits: Splits = instantiate.make(_node(run, moved)).load()
    if splits.train.shape != run.data_spec.shape or splits.train.levels != run.data_spec.levels:
        raise ValueError(
            f"the data have shape {splits.train.shape} and {splits.train.levels} levels, "
            f"but the run was trained on shape {run.data_spec.shape} and {run.data_spec.levels} levels"
        )
    if "label" in run.conditioning.names:
        check_classes(splits, run.data_spec.classes, run.data.class_names, run.folder)
    changed = run.data.differences(DataIdentity.of(splits)) + conditions.differences(run.fingerprint, splits)
    if changed:
        warnings.warn(
            f"the data are not those that {run.folder} was trained on: {'; '.join(changed)}", stacklevel=2
        )
    return Splits(train=splits.train.of_one_size(), test=splits.test.of_one_size())


def _node(run: Run, moved: Mapping[str, Any]) -> DictConfig:
    """Return the configuration of the data with the paths where they lie."""
    node: DictConfig = run.config.data.copy()
    source = source_class(node)
    free = {str(key) for key in node} & (source.places | source.idle)
    for key in moved:
        if key not in free:
            listing = ", ".join(f"data.{name}" for name in sorted(free)) or "nothing"
            raise ValueError(
                f"data.{key}: {source.__name__} data of a trained run stay as they were; what may be given is {listing}"
            )
        if moved[key] is None and inspect.signature(source).parameters[key].default is not None:
            raise ValueError(
                f"data.{key}=null: expected where the data lie, or leave it out for where they lay"
            )
    numbers = {
        key: str(moved[key]) for key in source.places & moved.keys() if type(moved[key]) in (int, float)
    }
    node.update({**moved, **numbers})  # a folder may be called 2026
    elsewhere = {
        key: place
        for key, place in run.data.places.items()
        if key in free - moved.keys()
        and isinstance(node[key], str)
        and place != os.path.abspath(node[key])
        and there(place)
    }
    cache = elsewhere.get("cache", node.get("cache"))
    if cache is not None and (Path(cache) / HEADER).exists():
        elsewhere = {key: place for key, place in elsewhere.items() if key == "cache"}  # all that is read
    if "index" in free - moved.keys() and (moved.keys() | elsewhere.keys()) - {"index", "cache"}:
        node.index = None  # it holds the old names of the files
        elsewhere.pop("index", None)
    node.update(elsewhere)
    if elsewhere:
        where = " ".join(f"data.{key}={place}" for key, place in elsewhere.items())
        warnings.warn(f"the data are read from where they lay in training: {where}", stacklevel=3)
    return node


def moved_data(config: DictConfig) -> dict[str, Any]:
    """Return the settings of the command line for where the data lie now.

    Raises:
        ValueError: all of them are given at once, which would leave out others.
    """
    words = cli_overrides()
    if "data" in words:
        raise ValueError(
            f"{words['data']}: set where the data lie now by one setting after the other, data.root=..."
        )
    keys = [key for key in words if key.startswith("data.")]
    return {key.removeprefix("data."): OmegaConf.select(config, key) for key in keys}
