"""Weights moved from names of another project to ours, none forgotten."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Change:
    """What is done to a tensor on its way to us, and how it is undone.

    Arguments:
        forth: from theirs to ours.
        back: from ours to theirs.
    """

    forth: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]

    def __call__(self, value: Tensor) -> Tensor:
        """Do it."""
        return self.forth(value)


class WeightMapper:
    """Moves tensors one by one, and in the end says what was missing, left over or of another shape.

    Arguments:
        tensors: tensors by their names.
        net: our network, on any device (the meta device will do); it says which tensors are needed, of which shape.
    """

    def __init__(self, tensors: Mapping[str, Tensor], net: nn.Module) -> None:
        self.tensors = tensors
        self.needed = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
        self.state: dict[str, Tensor] = {}
        self.unused: dict[str, str] = {}
        self.seen: set[str] = set()
        self.faults: list[str] = []

    def move(self, ours: str, theirs: str, change: Callable[[Tensor], Tensor] | None = None) -> None:
        """Give our tensor the values of theirs, as they are or changed (transposed, a part of them, scaled)."""
        value = self._changed(theirs, change)
        if value is not None:
            self._take(ours, theirs, value)

    def join(
        self, ours: str, theirs: Sequence[str], change: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Give our tensor the values of several of theirs, one after the other along the first dimension."""
        values = [value for name in theirs if (value := self._changed(name, change)) is not None]
        if len(values) < len(theirs):
            return
        if any(value.shape != values[0].shape for value in values):
            shapes = ", ".join(str(tuple(value.shape)) for value in values)
            self.faults.append(f"{', '.join(theirs)} give shapes {shapes}, not the same")
            return
        self._take(ours, ", ".join(theirs), torch.cat(values))

    def _changed(self, theirs: str, change: Callable[[Tensor], Tensor] | None) -> Tensor | None:
        self.seen.add(theirs)
        if theirs not in self.tensors:
            self.faults.append(f"{theirs} is missing")
            return None
        value = self.tensors[theirs]
        try:
            return value if change is None else change(value)
        except (RuntimeError, IndexError, ValueError) as error:
            self.faults.append(f"{theirs} has shape {tuple(value.shape)} ({str(error).splitlines()[0]})")
            return None

    def _take(self, ours: str, theirs: str, value: Tensor) -> None:
        if tuple(value.shape) == self.needed.get(ours):
            self.state[ours] = value
            return
        self.faults.append(
            f"{theirs} gives shape {tuple(value.shape)}, but {ours} needs {self.needed.get(ours)}"
        )

    def layer(self, ours: str, theirs: str, change: Callable[[Tensor], Tensor] | None = None) -> None:
        """Move weight and bias of a layer; the change is of the weight."""
        self.move(f"{ours}.weight", f"{theirs}.weight", change)
        self.move(f"{ours}.bias", f"{theirs}.bias")

    def zero(self, ours: str) -> None:
        """Give weight and bias of a layer of ours, which they do not have, the value zero."""
        for name in (f"{ours}.weight", f"{ours}.bias"):
            self.state[name] = torch.zeros(self.needed[name])

    def leave(self, theirs: str, why: str) -> None:
        """Leave a tensor of the file out on purpose; it need not be there."""
        self.seen.add(theirs)
        if theirs in self.tensors:
            self.unused[theirs] = why

    def finish(self) -> dict[str, Tensor]:
        """All of our tensors.

        Raises:
            ValueError: a tensor is missing, left over, of another shape, or not finite; the message lists them.
        """
        faults = list(self.faults)
        faults += [f"{name} is not known" for name in self.tensors if name not in self.seen]
        faults += (
            [f"our {name} got nothing" for name in self.needed if name not in self.state]
            if not faults
            else []
        )
        faults += [
            f"{name} holds NaN or infinity"
            for name in sorted(self.seen)
            if name in self.tensors and not bool(self.tensors[name].isfinite().all())
        ]
        if faults:
            more = f" and {len(faults) - 8} more" if len(faults) > 8 else ""
            raise ValueError(f"the weights do not fit the network: {'; '.join(faults[:8])}{more}")
        return self.state


class InverseWeightMapper:
    """Moves tensors of ours to the names of another project: the way of a :class:`WeightMapper`, backward.

    Arguments:
        state: weights by the names of our network.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state
        self.needed = state
        self.tensors: dict[str, Tensor] = {}
        self.seen: set[str] = set()

    def move(self, ours: str, theirs: str, change: Change | None = None) -> None:
        """Give their tensor the values of ours, as they are or changed back."""
        value = self.state[ours]
        self.tensors[theirs] = (value if change is None else change.back(value)).contiguous()
        self.seen.add(ours)

    def join(self, ours: str, theirs: Sequence[str], change: Change | None = None) -> None:
        """Give each of their tensors its share of ours along the first dimension."""
        for name, value in zip(theirs, self.state[ours].chunk(len(theirs)), strict=True):
            self.tensors[name] = (value if change is None else change.back(value)).contiguous()
        self.seen.add(ours)

    def leave(self, theirs: str, why: str) -> None:
        """Leave a tensor of theirs out, which need not be there."""

    def layer(self, ours: str, theirs: str, change: Change | None = None) -> None:
        """Move weight and bias of a layer; the change is of the weight."""
        self.move(f"{ours}.weight", f"{theirs}.weight", change)
        self.move(f"{ours}.bias", f"{theirs}.bias")

    def finish(self) -> dict[str, Tensor]:
        """All tensors of theirs.

        Raises:
            ValueError: a tensor of ours found no place.
        """
        if left := sorted(set(self.state) - self.seen):
            raise ValueError(f"there is no place for {', '.join(left[:8])}")
        return self.tensors
