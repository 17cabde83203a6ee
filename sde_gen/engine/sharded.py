"""Processes of which each keeps a share of the weights."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from sde_gen.engine.blocks import blocks
from sde_gen.engine.team import Replicated


class Sharded(Replicated):
    """All processes of a ``torchrun``, each with its share of weights, gradients, average and state of the optimiser.

    The weights of a block are put together when it is their turn, forward and again backward, and its gradients are
    averaged into the shares: for networks that are too large to be kept four times over on one device. While
    micro-batches are gathered, the gradients are not shared out but whole in every process.

    Source: Rajbhandari et al., 2020, arXiv:1910.02054 (ZeRO, stage 3); Zhao et al., 2023, arXiv:2304.11277 (PyTorch
    FSDP).
    """

    def __init__(self) -> None:
        super().__init__()
        self._blank: dict[nn.Module, nn.Module] = {}

    def replicate(self, net: nn.Module) -> nn.Module:
        """The network itself, divided."""
        self.divide(net)
        return net

    def divide(self, net: nn.Module) -> None:
        """Divide every block by itself, and what is left as one; the weights are the first process'."""
        memo = {
            id(x): nn.Parameter(torch.empty_like(x, device="meta"), x.requires_grad) for x in net.parameters()
        }
        self._blank[net] = copy.deepcopy(net, memo)  # all of it but the weights
        net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for tensor in (*net.parameters(), *net.buffers()):
            dist.broadcast(tensor.data, 0)
        mesh = init_device_mesh(next(net.parameters()).device.type, (self.size,))
        for part in (*reversed(blocks(net)), net):  # a block within a block comes first
            fully_shard(part, mesh=mesh)

    @contextmanager
    def apart(self, net: nn.Module) -> Iterator[None]:
        """Gather gradients in this process."""
        assert isinstance(net, FSDPModule)
        net.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            net.set_requires_gradient_sync(True)

    def whole(self, x: Tensor) -> Tensor:
        """Put the shares together."""
        return x.full_tensor() if isinstance(x, DTensor) else x

    def share(self, whole: Tensor, like: Tensor) -> Tensor:
        """Cut out what this process keeps; the numbers are the first process'."""
        if not isinstance(like, DTensor):
            return whole
        return distribute_tensor(whole.to(like.device, like.dtype), like.device_mesh, like.placements)

    def united(self, net: nn.Module) -> nn.Module:
        """A copy that holds all weights."""
        copied = copy.deepcopy(self._blank[net])
        copied.load_state_dict({name: self.whole(x) for name, x in net.state_dict().items()}, assign=True)
        return copied
