"""Strategies of data-parallel training: a single process, and DistributedDataParallel (DDP)."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from sde_gen.distributed.launch import is_distributed
from sde_gen.distributed.storage import ShardWriter, TensorShard, TensorSource

T = TypeVar("T")

SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)
"""The argument of DistributedDataParallel; its name before PyTorch 2.13 is ``broadcast_buffers``."""

CONNECTION_ERRORS = ("Connection closed", "Connection reset", "NCCL", "Broken pipe")
"""Phrases by which an error of PyTorch reveals that another process has ended."""


class Strategy(Protocol):
    """Collective operations of the processes that train one network.

    All methods are collective: every process must call them, in the same order.

    Attributes:
        rank: rank of this process; rank 0 writes files and reports.
        size: number of processes.
    """

    rank: int
    size: int

    def wrap(self, net: nn.Module) -> nn.Module:
        """Return a network whose gradients are averaged over all processes whenever they are synchronized."""
        ...

    def shard(self, net: nn.Module) -> None:
        """Shard the weights of a network that is not trained as :meth:`wrap` does those of the trained one."""
        ...

    def no_sync(self, net: nn.Module) -> AbstractContextManager[object]:
        """Return a context in which the gradients of a network of :meth:`wrap` are not synchronized."""
        ...

    def full_tensor(self, x: Tensor) -> Tensor:
        """Gather a tensor that may be sharded."""
        ...

    def gather_model(self, net: nn.Module) -> nn.Module:
        """Gather the weights of a network that may be sharded into one that a single process can use."""
        ...

    def reshard_after(self, net: nn.Module) -> AbstractContextManager[object]:
        """Return a context in which a sharded network may be evaluated, equally often in every process."""
        ...

    def save(self, parts: Mapping[str, Mapping[str, Tensor]], writer: ShardWriter) -> None:
        """Write the tensors of a checkpoint, given by part and name.

        Raises:
            OSError: in every process, if one of them could not write.
        """
        ...

    def load(self, source: Mapping[str, TensorSource], targets: Mapping[str, Tensor]) -> None:
        """Copy tensors, or the shards that this process keeps, into the targets of the same names."""
        ...

    def all_reduce_sum(self, x: Tensor) -> Tensor:
        """Return the sum over all processes."""
        ...

    def all_gather(self, x: Tensor) -> Tensor:
        """Concatenate the rows of all processes by rank; every process passes equally many."""
        ...

    def any_rank(self, flag: bool) -> bool:
        """Return whether the flag is true in any process."""
        ...

    def all_gather_object(self, obj: T) -> list[T]:
        """Return the objects of all processes by rank."""
        ...


class SingleProcess:
    """A strategy of one process, without communication."""

    rank, size = 0, 1

    def wrap(self, net: nn.Module) -> nn.Module:
        """Return the network itself."""
        return net

    def shard(self, net: nn.Module) -> None:
        """Leave the network unsharded."""

    def no_sync(self, net: nn.Module) -> AbstractContextManager[object]:
        """Return an empty context."""
        del net
        return nullcontext()

    def full_tensor(self, x: Tensor) -> Tensor:
        """Return the tensor itself."""
        return x

    def gather_model(self, net: nn.Module) -> nn.Module:
        """Return the network itself."""
        return net

    def reshard_after(self, net: nn.Module) -> AbstractContextManager[object]:
        """Return an empty context."""
        del net
        return nullcontext()

    def save(self, parts: Mapping[str, Mapping[str, Tensor]], writer: ShardWriter) -> None:
        """Write one file for each part."""
        writer.begin()
        checksums: dict[str, str] = {}
        for part, tensors in parts.items():
            checksums |= writer.write(part, {name: TensorShard(tensor) for name, tensor in tensors.items()})
        writer.commit(checksums)

    def load(self, source: Mapping[str, TensorSource], targets: Mapping[str, Tensor]) -> None:
        """Copy tensor by tensor."""
        for name, target in targets.items():
            target.copy_(source[name][()])

    def all_reduce_sum(self, x: Tensor) -> Tensor:
        """Return the tensor itself."""
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        """Return the tensor itself."""
        return x

    def any_rank(self, flag: bool) -> bool:
        """Return the flag itself."""
        return flag

    def all_gather_object(self, obj: T) -> list[T]:
        """Return a list of the one object."""
        return [obj]


class DDP(SingleProcess):
    """Data parallelism: every process of a ``torchrun`` holds a replica of the network, on a separate GPU if possible.

    Gradients are averaged bucket by bucket during the backward pass.

    Source: Li et al., 2020, arXiv:2006.15704 (PyTorch Distributed).
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        # a separate group on the CPU: flags must not wait for the queue of a GPU
        self.control = dist.new_group(backend="gloo")

    @override
    def wrap(self, net: nn.Module) -> nn.Module:
        replica = DistributedDataParallel(net, gradient_as_bucket_view=True, **{SYNC_BUFFERS: False})  # type: ignore[arg-type]
        # The last attribute is freed last. Were the reducer the last to hold the group, it would wait for the group's
        # threads while holding the GIL, for which these threads may be waiting.
        vars(replica)["group"] = dist.group.WORLD
        return replica

    @override
    def no_sync(self, net: nn.Module) -> AbstractContextManager[object]:
        return net.no_sync() if isinstance(net, DistributedDataParallel) else nullcontext()

    @override
    def save(self, parts: Mapping[str, Mapping[str, Tensor]], writer: ShardWriter) -> None:
        failure = None
        if self.rank == 0:
            try:
                super().save(parts, writer)
            except OSError as error:
                failure = error.errno, error.strerror
        failure = self.all_gather_object(failure)[0]
        if failure is not None:
            raise OSError(*failure)

    @override
    def all_reduce_sum(self, x: Tensor) -> Tensor:
        out = x.detach().clone()
        dist.all_reduce(out)
        return out

    @override
    def all_gather(self, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @override
    def any_rank(self, flag: bool) -> bool:
        result = torch.tensor(int(flag))
        dist.all_reduce(result, dist.ReduceOp.MAX, group=self.control)
        return bool(result)

    @override
    def all_gather_object(self, obj: T) -> list[T]:
        objects = [obj] * self.size
        dist.all_gather_object(objects, obj, group=self.control)
        return objects


@contextmanager
def init_distributed(strategy: Callable[[], Strategy] = DDP) -> Iterator[Strategy]:
    """Initialize the process group of ``torchrun`` or submitit, if there is one, and destroy it after the block.

    With enough CUDA devices every process gets a separate one as its current device.

    Arguments:
        strategy: makes the strategy, once the process group is initialized; a single process uses
            :class:`SingleProcess`.

    Raises:
        ChildProcessError: another process failed, or was killed, inside the block.
    """
    if not is_distributed():
        yield SingleProcess()
        return
    use_cuda = torch.cuda.is_available() and torch.cuda.device_count() >= int(
        os.environ.get("LOCAL_WORLD_SIZE", 1)
    )
    if use_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if use_cuda else "gloo")
    try:
        yield strategy()
    except (dist.DistBackendError, RuntimeError) as error:
        if any(phrase in str(error) for phrase in CONNECTION_ERRORS):
            raise ChildProcessError(
                f"process {dist.get_rank()} of {dist.get_world_size()} lost the connection to another process, which "
                "failed or was killed; the last checkpoint is complete: run the same command again to resume from it"
            ) from error
        raise
    finally:
        dist.destroy_process_group()
