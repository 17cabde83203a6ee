"""Frozen parameters."""

from collections.abc import Sequence

from torch import nn

from sde_gen.model.adapter import matching


def freeze(net: nn.Module, patterns: Sequence[str]) -> set[str]:
    """Freeze parameters: they have no gradient and no optimizer state, and their average is constant.

    Arguments:
        net: the network, before its :class:`~sde_gen.training.Trainer` is built.
        patterns: shell-style patterns of parameter names, such as ``down_blocks.*``.

    Returns:
        The names of the frozen parameters.

    Raises:
        ValueError: a pattern names no parameter.
    """
    parameters = dict(net.named_parameters())
    frozen = matching(patterns, parameters, "parameter")
    for name in frozen:
        parameters[name].requires_grad_(False)
    return frozen


def trainable_names(net: nn.Module) -> list[str] | None:
    """Return the names of the trainable parameters, or None if all are trainable."""
    parameters = dict(net.named_parameters())
    names = [name for name, parameter in parameters.items() if parameter.requires_grad]
    return names if len(names) < len(parameters) else None
