"""Conversion of state dictionaries between naming schemes; every tensor is accounted for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Transform:
    """Invertible map of a tensor between two layouts.

    Arguments:
        forward: from the source's layout to the target's.
        inverse: from the target's layout to the source's.
    """

    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]

    def __call__(self, value: Tensor) -> Tensor:
        """Return the tensor in the target's layout."""
        return self.forward(value)


class WeightMapper:
    """Map of a foreign state dictionary (the source) to the names and layouts of a network of sde_gen (the target).

    Problems are collected and raised together by :meth:`finish`.

    Arguments:
        tensors: source tensors by name.
        net: target network, on any device (the meta device suffices); defines the names and shapes needed.
    """

    def __init__(self, tensors: Mapping[str, Tensor], net: nn.Module) -> None:
        self.tensors = tensors
        self.needed = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
        self.state: dict[str, Tensor] = {}
        self.unused: dict[str, str] = {}
        self.used: set[str] = set()
        self.problems: list[str] = []

    def copy(self, target: str, source: str, transform: Callable[[Tensor], Tensor] | None = None) -> None:
        """Copy a source tensor to a target tensor, transformed (transposed, sliced, scaled) if requested."""
        value = self._transformed(source, transform)
        if value is not None:
            self._set(target, source, value)

    def concat(
        self, target: str, sources: Sequence[str], transform: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Concatenate source tensors along the first dimension into a target tensor."""
        values = [value for name in sources if (value := self._transformed(name, transform)) is not None]
        if len(values) < len(sources):
            return
        if any(value.shape != values[0].shape for value in values):
            shapes = ", ".join(str(tuple(value.shape)) for value in values)
            self.problems.append(f"{', '.join(sources)} give shapes {shapes}, not the same")
            return
        self._set(target, ", ".join(sources), torch.cat(values))

    def _transformed(self, source: str, transform: Callable[[Tensor], Tensor] | None) -> Tensor | None:
        self.used.add(source)
        if source not in self.tensors:
            self.problems.append(f"{source} is missing")
            return None
        value = self.tensors[source]
        try:
            return value if transform is None else transform(value)
        except (RuntimeError, IndexError, ValueError) as error:
            self.problems.append(f"{source} has shape {tuple(value.shape)} ({str(error).splitlines()[0]})")
            return None

    def _set(self, target: str, source: str, value: Tensor) -> None:
        if tuple(value.shape) == self.needed.get(target):
            self.state[target] = value
            return
        self.problems.append(
            f"{source} gives shape {tuple(value.shape)}, but {target} needs {self.needed.get(target)}"
        )

    def copy_layer(
        self, target: str, source: str, transform: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Copy weight and bias of a layer; the transform applies to the weight."""
        self.copy(f"{target}.weight", f"{source}.weight", transform)
        self.copy(f"{target}.bias", f"{source}.bias")

    def zero_layer(self, target: str) -> None:
        """Set weight and bias of a target layer without source counterpart to zero."""
        for name in (f"{target}.weight", f"{target}.bias"):
            self.state[name] = torch.zeros(self.needed[name])

    def ignore(self, source: str, reason: str) -> None:
        """Skip a source tensor on purpose; it may be absent."""
        self.used.add(source)
        if source in self.tensors:
            self.unused[source] = reason

    def finish(self) -> dict[str, Tensor]:
        """Return the target's state dictionary.

        Raises:
            ValueError: a tensor is missing, left over, of the wrong shape, or not finite; the message lists them.
        """
        problems = list(self.problems)
        problems += [f"{name} is not known" for name in self.tensors if name not in self.used]
        problems += (
            [f"{name} has no source" for name in self.needed if name not in self.state]
            if not problems
            else []
        )
        problems += [
            f"{name} holds NaN or infinity"
            for name in sorted(self.used)
            if name in self.tensors and not bool(self.tensors[name].isfinite().all())
        ]
        if problems:
            more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
            raise ValueError(f"the weights do not fit the network: {'; '.join(problems[:8])}{more}")
        return self.state


class InverseWeightMapper:
    """Inverse of :class:`WeightMapper`: a state dictionary of sde_gen to the names and layouts of a foreign network.

    The methods take the same arguments, so that one table of names serves both directions.

    Arguments:
        state: weights by their names in sde_gen.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state
        self.needed = state
        self.tensors: dict[str, Tensor] = {}
        self.used: set[str] = set()

    def copy(self, target: str, source: str, transform: Transform | None = None) -> None:
        """Invert :meth:`WeightMapper.copy`."""
        value = self.state[target]
        self.tensors[source] = (value if transform is None else transform.inverse(value)).contiguous()
        self.used.add(target)

    def concat(self, target: str, sources: Sequence[str], transform: Transform | None = None) -> None:
        """Split a tensor along the first dimension."""
        for name, value in zip(sources, self.state[target].chunk(len(sources)), strict=True):
            self.tensors[name] = (value if transform is None else transform.inverse(value)).contiguous()
        self.used.add(target)

    def ignore(self, source: str, reason: str) -> None:
        """Leave the foreign tensor out."""

    def copy_layer(self, target: str, source: str, transform: Transform | None = None) -> None:
        """Copy weight and bias of a layer; the transform applies to the weight."""
        self.copy(f"{target}.weight", f"{source}.weight", transform)
        self.copy(f"{target}.bias", f"{source}.bias")

    def finish(self) -> dict[str, Tensor]:
        """Return the foreign state dictionary.

        Raises:
            ValueError: a tensor has no counterpart.
        """
        if left := sorted(set(self.state) - self.used):
            raise ValueError(f"no counterpart for {', '.join(left[:8])}")
        return self.tensors
