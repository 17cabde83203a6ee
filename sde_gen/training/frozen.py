"""Parameters that a training leaves as they are."""

from collections.abc import Sequence

from torch import nn

from sde_gen.model.adapter import matching


def freeze(net: nn.Module, patterns: Sequence[str]) -> set[str]:
    """Exclude parameters from the training; they have no gradient, no state of the optimizer and a constant average.

    Arguments:
        net: the network, before its :class:`~sde_gen.training.Trainer` is built.
        patterns: patterns of parameter names, such as ``down_blocks.*``.

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


def trained(net: nn.Module) -> list[str] | None:
    """Return the names of the parameters that are trained where some are not, else None."""
    parameters = dict(net.named_parameters())
    names = [name for name, parameter in parameters.items() if parameter.requires_grad]
    return names if len(names) < len(parameters) else None
