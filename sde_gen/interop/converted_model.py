"""Network of another project, converted to sde_gen."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ConvertedModel:
    """Converted network with configuration and weights, from which a run folder is written.

    Arguments:
        config: configuration as stored by a training: ``model``, ``sde``, ``parametrization``, ``codec`` and
            ``conditioning``, each a ``_target_`` with the keywords of its constructor. Plain JSON.
        shape: event shape (C, H, W) of the data.
        levels: number of integer levels of the data, None for continuous data.
        classes: number of classes, 0 for a network without labels.
        state: weights by name.
        unused: tensors of the file that are ignored on purpose, each with the reason.
        notes: further differences from the original, a sentence each.
    """

    config: dict[str, Any]
    shape: tuple[int, ...]
    levels: int | None
    classes: int
    state: dict[str, Tensor]
    unused: dict[str, str]
    notes: tuple[str, ...] = ()
