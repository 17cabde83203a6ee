"""The data of a training: shape, levels and classes for its configuration, their identity, and a check of classes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sde_gen.cli.targets import target
from sde_gen.data import DataIdentity, DatasetSource, Splits
from sde_gen.data.identity import absolute
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Shape, levels and classes of the data, which fill the keys that a yaml leaves as ``???``.

    Arguments:
        shape: event shape of the data, such as (C, H, W).
        levels: number of integer levels, None for continuous data.
        classes: number of classes, 0 for data without labels.
    """

    shape: Shape
    levels: int | None
    classes: int

    @classmethod
    def of(cls, splits: Splits) -> "DataSpec":
        """Return shape, levels and classes of data."""
        train = splits.train
        return cls(shape=train.shape, levels=train.levels, classes=train.classes)

    def fill(self, config: DictConfig) -> dict[str, Any]:
        """Return the values of the keys that a node leaves open."""
        return {key: value for key, value in vars(self).items() if OmegaConf.is_missing(config, key)}

    def filled(self, config: DictConfig) -> DictConfig:
        """Return a copy of a node with the open keys filled, in the node and in the nodes inside it."""
        node = config.copy()
        node.update(self.fill(node))
        for key in node:
            child = None if OmegaConf.is_missing(node, key) else node[key]
            if isinstance(child, DictConfig):
                node[key] = self.filled(child)
        return node


def data_identity(config: DictConfig, splits: Splits) -> DataIdentity:
    """Return fingerprint and place of the data of a training."""
    settings = OmegaConf.to_container(config.data, resolve=True)
    assert isinstance(settings, dict)
    places = absolute({str(key): value for key, value in settings.items()}, source_class(config.data).places)
    return DataIdentity.of(splits, places)


def source_class(node: DictConfig) -> type[DatasetSource]:
    """Return the class of the data; that of another package declares no settings as paths."""
    found = target(node)
    return found if isinstance(found, type) and issubclass(found, DatasetSource) else DatasetSource


def check_classes(splits: Splits, classes: int, class_names: tuple[str, ...], folder: Path) -> None:
    """Raise an error if labels of the data name other classes than those that a network was trained with.

    Data without names of classes may lack the last ones.

    Raises:
        ValueError: they do; the message names the classes of both.
    """
    now = splits.train
    named = bool(class_names and now.class_names)
    if now.class_names != class_names if named else not 0 < now.classes <= classes:
        before, found = (
            f"{count} classes" + (f" ({', '.join(names)})" if names else "")
            for count, names in ((classes, class_names), (now.classes, now.class_names))
        )
        raise ValueError(
            f"the data have {found}, but the network in {folder} was trained with {before}, and its labels would "
            "mean other classes: give the data as they were, or train another run"
        )
