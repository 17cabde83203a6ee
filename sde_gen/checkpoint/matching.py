"""Take over the weights of another network, as far as they fit."""

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sde_gen.checkpoint.manifest import line
from sde_gen.distributed.storage import TensorSource
from sde_gen.model.adapter import merged, plain_name


class LoadReport(NamedTuple):
    """Tensors of a network by their origin; names are sorted.

    Attributes:
        taken: those that were copied.
        new: those that the source does not have, which keep their initial values.
        reshaped: those that have another shape there, which keep their initial values: (shape there, shape here).
        left_over: tensors of the source that the network does not have.
    """

    taken: tuple[str, ...]
    new: tuple[str, ...]
    reshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    left_over: tuple[str, ...]


def load_matching(net: nn.Module, tensors: Mapping[str, TensorSource], *, what: str) -> LoadReport:
    """Copy the tensors of the same name and shape into a network; nothing is copied before all are compared.

    Low-rank additions (:class:`~sde_gen.model.LoRA`) of the source are added to its weights; those of the network are
    new, and its weights below them are taken.

    Arguments:
        net: the network.
        tensors: those of the source by name, in memory or on the disk.
        what: the source, for messages.

    Less than half of the network's numbers is warned of.

    Raises:
        ValueError: no tensor fits, or one that does holds numbers that are not finite or of another kind.
    """
    source = merged(tensors)
    own = {plain_name(name): value for name, value in net.state_dict().items()}
    both = sorted(own.keys() & source.keys())
    reshaped = {
        name: (tuple(source[name].shape), tuple(own[name].shape))
        for name in both
        if source[name].shape != own[name].shape
    }
    taken = tuple(name for name in both if name not in reshaped)
    if not any(own[name].is_floating_point() for name in taken):
        there = ", ".join(f"{line(name, 80)} {tuple(source[name].shape)}" for name in sorted(source)[:3])
        raise ValueError(
            f"no tensor of {what} fits this network (it has {there or 'none'}, ...): give the settings of that "
            "network with model=... and model.width=..."
        )
    count, whole = (sum(own[name].numel() for name in names) for names in (taken, own))
    if 2 * count < whole:
        warnings.warn(
            f"only {count:,} of {whole:,} numbers of the network are those of {what}; the rest begin at random: give "
            "the settings of that network with model=... and model.width=..., unless that is intended",
            stacklevel=2,
        )
    values = {name: source[name][()] for name in taken}
    _check(values, own, what)
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    return LoadReport(
        taken=taken,
        new=tuple(sorted(own.keys() - source.keys())),
        reshaped=reshaped,
        left_over=tuple(sorted(source.keys() - own.keys())),
    )


def _check(values: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str) -> None:
    for name, value in values.items():
        if value.is_floating_point() != own[name].is_floating_point():
            raise ValueError(
                f"the tensor {name} of {what} is {_kind(value)}, but this network's is {_kind(own[name])}"
            )
    bad = [name for name, value in values.items() if not bool(value.isfinite().all())]
    if bad:
        raise ValueError(f"{what} holds numbers that are not finite: {', '.join(bad[:3])}")


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
