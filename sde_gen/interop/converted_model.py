"""A network of another project, in our terms."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ConvertedModel:
    """What a foreign file says, ready to become a run folder.

    Arguments:
        config: what a training would have stored: ``model``, ``sde``, ``parametrization``, ``codec`` and
            ``conditioning``, each a ``_target_`` with the keywords of its constructor. Plain JSON.
        shape: event shape (C, H, W) of the data.
        levels: number of integer levels of the data, None for continuous data.
        classes: number of classes, 0 for a network without labels.
        state: weights by the names of our network.
        unused: tensors of the file that are left out on purpose, each with the reason.
        notes: what else is not as it was, in a sentence each.
    """

    config: dict[str, Any]
    shape: tuple[int, ...]
    levels: int | None
    classes: int
    state: dict[str, Tensor]
    unused: dict[str, str]
    notes: tuple[str, ...] = ()
