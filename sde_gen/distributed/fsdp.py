"""Processes of which each keeps a share of the weights."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from sde_gen.checkpoint.dcp import Reader, Writer
from sde_gen.checkpoint.tensors import TensorSource
from sde_gen.checkpoint.writer import CheckpointWriter
from sde_gen.distributed.blocks import blocks
from sde_gen.distributed.strategy import DDP


class FSDP(DDP):
    """All processes of a ``torchrun``, each with its share of weights, gradients, average and state of the optimizer.

    The weights of a block are put together when it is their turn, forward and again backward, and its gradients are
    averaged into the shares: for networks that are too large to be kept four times over on one device. While
    micro-batches are gathered, the gradients are not shared out but whole in every process.

    Source: Rajbhandari et al., 2020, arXiv:1910.02054 (ZeRO, stage 3); Zhao et al., 2023, arXiv:2304.11277 (PyTorch
    FSDP).
    """

    def __init__(self) -> None:
        super().__init__()
        self._blank: dict[nn.Module, nn.Module] = {}

    def wrap(self, net: nn.Module) -> nn.Module:
        """The network itself, divided."""
        self.shard(net)
        return net

    def shard(self, net: nn.Module) -> None:
        """Divide every block by itself, and what is left as one; the weights are the first process'.

        Raises:
            ValueError: this PyTorch cannot divide networks on the CPU.
        """
        device = next(net.parameters()).device.type
        if device == "cpu" and not hasattr(torch.cpu.Stream, "record_event"):
            raise ValueError(
                f"distributed=fsdp does not work on the CPU with PyTorch {torch.__version__}; use a later one, or a GPU, "
                "or distributed=ddp"
            )
        memo = {
            id(x): nn.Parameter(torch.empty_like(x, device="meta"), x.requires_grad) for x in net.parameters()
        }
        self._blank[net] = copy.deepcopy(net, memo)  # all of it but the weights
        net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for tensor in (*net.parameters(), *net.buffers()):
            dist.broadcast(tensor.data, 0)
        mesh = init_device_mesh(device, (self.size,))
        for part in (*reversed(blocks(net)), net):  # a block within a block comes first
            fully_shard(part, mesh=mesh)

    @contextmanager
    def no_sync(self, net: nn.Module) -> Iterator[None]:
        """Gather gradients in this process."""
        assert isinstance(net, FSDPModule)
        net.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            net.set_requires_gradient_sync(True)

    def full_tensor(self, x: Tensor) -> Tensor:
        """Put the shares together."""
        return x.full_tensor() if isinstance(x, DTensor) else x

    def gather_model(self, net: nn.Module) -> nn.Module:
        """A copy that holds all weights."""
        copied = copy.deepcopy(self._blank[net])
        copied.load_state_dict(
            {name: self.full_tensor(x) for name, x in net.state_dict().items()}, assign=True
        )
        return copied

    @contextmanager
    def reshard_after(self, net: nn.Module) -> Iterator[None]:
        """Put weights together block by block, and let go of those outside of the blocks at the end."""
        assert isinstance(net, FSDPModule)
        try:
            yield
        finally:
            net.reshard()

    def save(self, parts: Mapping[str, Mapping[str, Tensor]], writer: CheckpointWriter) -> None:
        """Every process writes what it keeps, and the first one what all have."""
        named = {f"{part}/{name}": x for part, tensors in parts.items() for name, x in tensors.items()}
        with _causes():
            save(
                named,
                storage_writer=Writer(writer, tuple(parts), rank=self.rank, size=self.size),
                planner=DefaultSavePlanner(
                    flatten_state_dict=False, flatten_sharded_tensors=False, dedup_save_to_lowest_rank=True
                ),
                process_group=self.control,
            )

    def load(self, source: Mapping[str, TensorSource], targets: Mapping[str, Tensor]) -> None:
        """Every process reads what it keeps."""
        with _causes():
            load(
                dict(targets),
                storage_reader=Reader(source),
                planner=DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
                process_group=self.control,
            )


@contextmanager
def _causes() -> Iterator[None]:
    """Raise in every process what went wrong in one."""
    try:
        yield
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        if isinstance(cause, OSError):
            cause = OSError(cause.errno, f"{cause.strerror}, in process {rank}")
        raise cause from error
