"""Fully sharded data parallelism (FSDP): every process keeps a shard of the weights."""

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
from typing_extensions import override

from sde_gen.distributed.dcp import DCPReader, DCPWriter
from sde_gen.distributed.storage import ShardWriter, TensorSource
from sde_gen.distributed.strategy import DDP


class FSDP(DDP):
    """Fully sharded data parallelism: every process keeps a shard of weights, gradients, EMA and optimizer state.

    The weights of a block are gathered just before its forward and backward passes, and its gradients are
    reduce-scattered: for networks whose weights, gradients, EMA and optimizer state do not fit on one device. While
    gradients are accumulated over micro-batches, they are not sharded.

    Source: Rajbhandari et al., 2020, arXiv:1910.02054 (ZeRO, stage 3); Zhao et al., 2023, arXiv:2304.11277 (PyTorch
    FSDP).
    """

    def __init__(self) -> None:
        super().__init__()
        self._without_weights: dict[nn.Module, nn.Module] = {}

    @override
    def wrap(self, net: nn.Module) -> nn.Module:
        self.shard(net)
        return net

    @override
    def shard(self, net: nn.Module) -> None:
        """Shard the weights of rank 0 block by block, then the parameters outside of blocks.

        Raises:
            ValueError: this version of PyTorch cannot shard networks on the CPU.
        """
        device = next(net.parameters()).device.type
        if device == "cpu" and not hasattr(torch.cpu.Stream, "record_event"):
            raise ValueError(
                f"distributed=fsdp does not work on the CPU with PyTorch {torch.__version__}; use a later version, "
                "a GPU, or distributed=ddp"
            )
        memo = {
            id(x): nn.Parameter(torch.empty_like(x, device="meta"), x.requires_grad) for x in net.parameters()
        }
        self._without_weights[net] = copy.deepcopy(net, memo)
        net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for tensor in (*net.parameters(), *net.buffers()):
            dist.broadcast(tensor.data, 0)
        mesh = init_device_mesh(device, (self.size,))
        for module in (
            *reversed(repeated_blocks(net)),
            net,
        ):  # a nested block before the one that contains it
            fully_shard(module, mesh=mesh)

    @override
    @contextmanager
    def no_sync(self, net: nn.Module) -> Iterator[None]:
        assert isinstance(net, FSDPModule)
        net.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            net.set_requires_gradient_sync(True)

    @override
    def full_tensor(self, x: Tensor) -> Tensor:
        return x.full_tensor() if isinstance(x, DTensor) else x

    @override
    def gather_model(self, net: nn.Module) -> nn.Module:
        full = copy.deepcopy(self._without_weights[net])
        full.load_state_dict({name: self.full_tensor(x) for name, x in net.state_dict().items()}, assign=True)
        return full

    @override
    @contextmanager
    def reshard_after(self, net: nn.Module) -> Iterator[None]:
        assert isinstance(net, FSDPModule)
        try:
            yield
        finally:
            net.reshard()

    @override
    def save(self, parts: Mapping[str, Mapping[str, Tensor]], writer: ShardWriter) -> None:
        tensors = {f"{part}/{name}": x for part, named in parts.items() for name, x in named.items()}
        with _raise_cause():
            save(
                tensors,
                storage_writer=DCPWriter(writer, tuple(parts), rank=self.rank, size=self.size),
                planner=DefaultSavePlanner(
                    flatten_state_dict=False, flatten_sharded_tensors=False, dedup_save_to_lowest_rank=True
                ),
                process_group=self.control,
            )

    @override
    def load(self, source: Mapping[str, TensorSource], targets: Mapping[str, Tensor]) -> None:
        with _raise_cause():
            load(
                dict(targets),
                storage_reader=DCPReader(source),
                planner=DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
                process_group=self.control,
            )


def repeated_blocks(net: nn.Module) -> list[nn.Module]:
    """Return the modules with parameters in a network's lists (``nn.ModuleList``), outer ones before nested ones."""
    lists = [module for module in net.modules() if isinstance(module, nn.ModuleList)]
    blocks = (block for modules in lists for block in modules if block not in lists)
    return [block for block in blocks if next(block.parameters(), None) is not None]


@contextmanager
def _raise_cause() -> Iterator[None]:
    """Raise the error of the lowest rank that failed in place of DCP's exception, in every process."""
    try:
        yield
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        if isinstance(cause, OSError):
            cause = OSError(cause.errno, f"{cause.strerror}, in process {rank}")
        raise cause from error
