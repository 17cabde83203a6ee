"""State dicts: load weights, and convert optimizer states to tensors and back."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from sde_gen.checkpoint.manifest import line
from sde_gen.distributed.storage import TensorSource
from sde_gen.distributed.strategy import SingleProcess, Strategy


def load_into(
    net: nn.Module,
    tensors: Mapping[str, TensorSource],
    *,
    what: str,
    strategy: Strategy = SingleProcess(),  # noqa: B008, without state
) -> None:
    """Load weights, which must match exactly; every process reads its shard.

    Raises:
        ValueError: a tensor is missing, unexpected or of another shape; the message names the first ones.
    """
    state = net.state_dict()
    compare(state, tensors, what=what)
    strategy.load(tensors, state)


def compare(expected: Mapping[str, TensorSource], tensors: Mapping[str, TensorSource], *, what: str) -> None:
    """Compare names and shapes of stored tensors with those of a network.

    Raises:
        ValueError: as :func:`load_into`.
    """
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys())
    other = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & tensors.keys())
        if tensors[name].shape != expected[name].shape
    ]
    if missing or unexpected or other:
        parts = [
            f"{len(keys)} {kind} ({', '.join(line(x, 80) for x in keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", other))
            if keys
        ]
        raise ValueError(
            f"{what} is of another network: tensors {'; '.join(parts)}; "
            "use its own configuration or another run folder"
        )


def finite(tensors: Iterable[Tensor], strategy: Strategy) -> bool:
    """Return whether all values are finite; every process passes the tensors or shards that it holds."""
    zeros = [strategy.full_tensor((x.detach() * 0).sum()) for x in tensors if x.is_floating_point()]
    return all(float(zero) == 0 for zero in zeros)


def to_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the per-parameter state of an optimizer as ``<index>.<name>`` tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def from_tensors(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, TensorSource],
    strategy: Strategy = SingleProcess(),  # noqa: B008, without state
) -> None:
    """Invert :func:`to_tensors`; every process reads its shard.

    Raises:
        ValueError: the tensors do not belong to these parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    groups = optimizer.state_dict()["param_groups"]
    state: dict[int, dict[str, Tensor]] = {}
    shared: dict[str, Tensor] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise ValueError(
                f"the optimizer's state has an entry {key!r}, but there are {len(parameters)} parameters"
            )
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:  # in the parameter's memory format, which fused kernels rely on
            shared[key] = entry_tensor = torch.empty_like(parameter, requires_grad=False)
        else:
            entry_tensor = value[()].clone()
        state.setdefault(int(index), {})[name] = entry_tensor
    strategy.load(tensors, shared)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
