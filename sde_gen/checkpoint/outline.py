"""Check stored tensors against a network built on the meta device, before memory is allocated."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules import module

from sde_gen.checkpoint.state_dict import compare
from sde_gen.distributed.storage import TensorSource

PARTS_OF_TENSOR = 16
"""Modules and parameters that a network has for each of its tensors, at most; ours have two."""

FEWEST_PARTS = 1000
"""So many are allowed to any network."""

LARGEST_CONSTANTS = 2**26
"""Numbers that a network keeps beside its tensors, at most."""


def check(build: Callable[[], nn.Module], tensors: Mapping[str, TensorSource], *, what: str) -> None:
    """Build a network without memory, and compare it with stored tensors.

    Arguments:
        build: makes the network.
        tensors: the stored ones.
        what: they are of, for the message.

    Raises:
        ValueError: they are of another network, or the network is larger than they say.
    """
    with _bounded(PARTS_OF_TENSOR * len(tensors) + FEWEST_PARTS, what):
        net = build()
    expected = net.state_dict()
    compare(expected, tensors, what=what)
    constants = sum(buffer.numel() for name, buffer in net.named_buffers() if name not in expected)
    if constants > LARGEST_CONSTANTS:
        raise ValueError(
            f"{what} is of another network: beside its tensors this one has {constants:,} numbers"
        )


@contextmanager
def _bounded(most: int, what: str) -> Iterator[None]:
    """Inside the block tensors have no memory, and modules no more than so many parts."""
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
