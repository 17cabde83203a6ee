"""What a network repeats."""

from torch import nn


def blocks(net: nn.Module) -> list[nn.Module]:
    """The modules with parameters that a network holds in lists (``nn.ModuleList``), outer ones before inner ones."""
    lists = [module for module in net.modules() if isinstance(module, nn.ModuleList)]
    held = (block for blocks in lists for block in blocks if block not in lists)
    return [block for block in held if next(block.parameters(), None) is not None]
