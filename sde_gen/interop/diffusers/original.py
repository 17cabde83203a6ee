"""Original tensors of networks of diffusers: what a run keeps of them, and how they are made from its weights again."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from torch import Tensor

from sde_gen.interop.diffusers.unet2d import renamed
from sde_gen.interop.formats import files
from sde_gen.interop.settings import shown

TABLE, LEFT = "tensors.json", "left.safetensors"
"""Files beside the settings of an original network: its tensors' kinds, and those that its weights do not give."""

DTYPES = {str(kind).removeprefix("torch."): kind for kind in files.FLOATS}


class Mapped(Protocol):
    """A mapping of a network."""

    def map_weights(self, mapper: Any) -> None:
        """Copy the tensors."""


class OriginalMapper:
    """Inverse of :class:`~sde_gen.interop.weight_mapper.WeightMapper` for any rearrangement of numbers.

    Every transform is applied to the numbers of the places of the original tensor, which say where each number of the
    result comes from.

    Arguments:
        state: weights by their names in sde_gen.
        shapes: shapes of the original tensors by name.
        take: called with name and value of every original tensor whose numbers are all there.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        shapes: Mapping[str, Sequence[int]],
        take: Callable[[str, Tensor], None],
    ) -> None:
        self.needed = {name: tuple(value.shape) for name, value in state.items()}
        self.tensors: dict[str, Tensor] = {}  # of which a mapping asks for copies of others
        self.values, self.shapes, self.take = state, shapes, take
        self.state: dict[str, Tensor] = {}  # what a mapping computes has no source
        self.problems: list[str] = []

    def copy(self, target: str, source: str, transform: Callable[[Tensor], Tensor] | None = None) -> None:
        """Invert the copy of a tensor."""
        if source not in self.shapes:
            return
        value = self.values[target].detach().cpu()
        if transform is None:
            self.take(source, value)
            return
        shape = torch.Size(self.shapes[source])
        places = transform(torch.arange(1, shape.numel() + 1).reshape(shape))  # 0 is a number from elsewhere
        there = places > 0
        if int(there.sum()) < shape.numel():
            return  # a part of the original is not kept
        flat = value.new_empty(shape.numel())
        flat[places[there] - 1] = value[there]
        self.take(source, flat.reshape(shape))

    def copy_layer(
        self, target: str, source: str, transform: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Invert the copy of weight and bias of a layer."""
        self.copy(f"{target}.weight", f"{source}.weight", transform)
        self.copy(f"{target}.bias", f"{source}.bias")

    def ignore(self, source: str, reason: str) -> None:
        """Make nothing."""


def record(
    stored: Mapping[str, Tensor], weights: Path, layout: Mapped, state: Mapping[str, Tensor]
) -> dict[str, bytes]:
    """Return the files from which, with the weights of the run, :func:`restore` makes the original tensors.

    Arguments:
        stored: the original tensors in their own dtypes.
        weights: their file, or the index of several.
        layout: mapping of the network.
        state: weights of the run.
    """
    names = {new: old for old in stored for new in renamed({old: torch.empty(0)})}
    kinds = {
        old: [str(value.dtype).removeprefix("torch."), list(value.shape)] for old, value in stored.items()
    }
    left = dict(stored)

    def take(name: str, value: Tensor) -> None:
        original = stored[names[name]]
        if torch.equal(value.to(original.dtype), original):
            left.pop(names[name], None)

    layout.map_weights(OriginalMapper(state, {new: stored[old].shape for new, old in names.items()}, take))
    table = {"files": _places(weights, stored), "tensors": kinds}
    found = {TABLE: json.dumps(table, indent=1).encode()}
    if left:
        found[LEFT] = safetensors.torch.save({name: value.contiguous() for name, value in left.items()})
    return found


def _places(weights: Path, stored: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the file of every tensor, by name; those of torch.save become files of safetensors."""
    if files.INDEX in weights.name:
        places: dict[str, str] = files.json_of(weights)["weight_map"]
        return places
    name = weights.name if weights.suffix == ".safetensors" else f"{weights.stem}.safetensors"
    return dict.fromkeys(stored, name)


def restore(folder: Path, layout: Mapped, state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the original tensors by file and name, from the weights of a run.

    Arguments:
        folder: folder with the files of :func:`record`.
        layout: mapping of the network.
        state: weights of the run, trained further or not.

    Raises:
        ValueError: the files are damaged, or a tensor cannot be made.
    """
    table = files.json_of(folder / TABLE)
    kinds, places = table.get("tensors"), table.get("files")
    if not isinstance(kinds, dict) or not isinstance(places, dict) or kinds.keys() != places.keys():
        raise ValueError(f"{folder / TABLE} does not list the original tensors and their files")
    left = files.read(folder / LEFT) if (folder / LEFT).is_file() else {}
    names = {new: old for old in kinds for new in renamed({old: torch.empty(0)})}
    made: dict[str, Tensor] = dict(left)

    def take(name: str, value: Tensor) -> None:
        old = names[name]
        made.setdefault(old, value.to(DTYPES[kinds[old][0]]).contiguous())

    layout.map_weights(OriginalMapper(state, {new: kinds[old][1] for new, old in names.items()}, take))
    if missing := [name for name in kinds if name not in made]:
        raise ValueError(
            f"{folder / TABLE} lists {shown(missing[0])}, which the weights of the run do not give"
        )
    found: dict[str, dict[str, Tensor]] = {}
    for name, place in places.items():
        found.setdefault(str(place), {})[name] = made[name]
    return found
