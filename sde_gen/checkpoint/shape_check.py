"""Check stored tensors against a network built on the meta device, before memory is allocated."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules import module

from sde_gen.checkpoint.state_dict import compare
from sde_gen.distributed.storage import TensorSource

PARTS_OF_TENSOR = 16
"""Maximum number of modules and parameters per tensor of a network; networks of this package have two."""

FEWEST_PARTS = 1000
"""Number of modules and parameters that is always allowed."""

LARGEST_CONSTANTS = 2**26
"""Maximum number of elements in buffers that are not stored."""


def check(build: Callable[[], nn.Module], tensors: Mapping[str, TensorSource], *, what: str) -> None:
    """Build a network on the meta device and compare it with stored tensors.

    Arguments:
        build: function that builds the network.
        tensors: stored tensors by name.
        what: description of their source, for the message.

    Raises:
        ValueError: the tensors are of another network, or the network is larger than they are.
    """
    with _bounded(PARTS_OF_TENSOR * len(tensors) + FEWEST_PARTS, what):
        net = build()
    expected = net.state_dict()
    compare(expected, tensors, what=what)
    constants = sum(buffer.numel() for name, buffer in net.named_buffers() if name not in expected)
    if constants > LARGEST_CONSTANTS:
        raise ValueError(
            f"{what} is of another network: this one has {constants:,} additional numbers in buffers"
        )


@contextmanager
def _bounded(most: int, what: str) -> Iterator[None]:
    """Return a context on the meta device in which at most ``most`` modules and parameters can be registered."""
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise ValueError(f"{what} is of another network: this one has far more tensors than are stored")

    handles = [
        module.register_module_module_registration_hook(counted),
        module.register_module_parameter_registration_hook(counted),
    ]
    try:
        with torch.device("meta"):
            yield
    finally:
        for handle in handles:
            handle.remove()
