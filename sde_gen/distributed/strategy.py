"""Processes that train one network together, or a process alone."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sde_gen.checkpoint.tensors import TensorShard, TensorSource
from sde_gen.checkpoint.writer import CheckpointWriter
from sde_gen.distributed.launch import is_distributed

T = TypeVar("T")

SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)
"""The argument of DistributedDataParallel; the second name is that of PyTorch before 2.13."""


class Strategy(Protocol):
    """What a training asks of the processes that share its batches.

    Attributes:
        rank: number of this process; the first one saves and tells.
        size: number of processes.
    """

    rank: int
    size: int

    def wrap(self, net: nn.Module) -> nn.Module:
        """Make the network's gradients the mean over all processes, whenever they are synchronized."""
        ...

    def shard(self, net: nn.Module) -> None:
        """Let go of those weights that this process need not keep, as :meth:`wrap` does with the trained ones."""
        ...

    def no_sync(self, net: nn.Module) -> AbstractContextManager[object]:
        """Inside the block gradients of what :meth:`wrap` made stay with each process."""
        ...

    def full_tensor(self, x: Tensor) -> Tensor:
        """All of a tensor of which every process may keep a share; every process asks."""
        ...

    def gather_model(self, net: nn.Module) -> nn.Module:
        """A network with all weights, to be used by one process, from one that was divided; every process asks."""
        ...

    def reshard_after(self, net: nn.Module) -> AbstractContextManager[object]:
        """Inside the block a network that was divided may be used; all processes do, as often."""
        ...

    def save(self, parts: Mapping[str, Mapping[str, Tensor]], writer: CheckpointWriter) -> None:
        """Write a checkpoint's tensors, those by name of each part; every process asks.

        Raises:
            OSError: one of them could not write.
        """
        ...

    def load(self, source: Mapping[str, TensorSource], targets: Mapping[str, Tensor]) -> None:
        """Fill tensors, or what this process keeps of them, with those of the same names; every process asks."""
        ...

    def all_reduce_sum(self, x: Tensor) -> Tensor:
        """The sum over all processes."""
        ...

    def all_gather(self, x: Tensor) -> Tensor:
        """The rows of all processes, in the order of their ranks; all have as many."""
        ...

    def any_rank(self, flag: bool) -> bool:
        """Whether the flag is up in one of them."""
        ...

    def all_gather_object(self, word: T) -> list[T]:
        """What every process has to say, in the order of their ranks."""
        ...


class SingleProcess:
    """One process."""

    rank, size = 0, 1

    def wrap(self, net: nn.Module) -> nn.Module:
        """The network itself."""
        return net

    def shard(self, net: nn.Module) -> None:
        """Nothing to do."""

    def no_sync(self, net: nn.Module) -> AbstractContextManager[object]:
        """Nothing to do."""
        del net
        return nullcontext()

    def full_tensor(self, x: Tensor) -> Tensor:
        """The tensor itself."""
        return x

    def gather_model(self, net: nn.Module) -> nn.Module:
        """The network itself."""
        return net

    def reshard_after(self, net: nn.Module) -> AbstractContextManager[object]:
        """Nothing to do."""
        del net
        return nullcontext()

    def save(self, parts: Mapping[str, Mapping[str, Tensor]], writer: CheckpointWriter) -> None:
        """A file for each part."""
        writer.begin()
        sums: dict[str, str] = {}
        for part, tensors in parts.items():
            sums |= writer.write(part, {name: TensorShard(tensor) for name, tensor in tensors.items()})
        writer.commit(sums)

    def load(self, source: Mapping[str, TensorSource], targets: Mapping[str, Tensor]) -> None:
        """Copy, one after the other."""
        for name, target in targets.items():
            target.copy_(source[name][()])

    def all_reduce_sum(self, x: Tensor) -> Tensor:
        """Its own."""
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        """Its own."""
        return x

    def any_rank(self, flag: bool) -> bool:
        """Its own."""
        return flag

    def all_gather_object(self, word: T) -> list[T]:
        """Its own."""
        return [word]


class DDP(SingleProcess):
    """All processes of a ``torchrun``, each with a copy of the network, on a device of its own where there are enough.

    Gradients are averaged while they are being computed, bucket by bucket.

    Source: Li et al., 2020, arXiv:2006.15704 (PyTorch Distributed).
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        # flags must not wait for what a GPU has in its queue
        self.control = dist.new_group(backend="gloo")

    def wrap(self, net: nn.Module) -> nn.Module:
        """A copy that is kept equal to those of the others; its weights are the first process'."""
        replica = DistributedDataParallel(net, gradient_as_bucket_view=True, **{SYNC_BUFFERS: False})  # type: ignore[arg-type]
        # The last attribute is freed last. Were the reducer the last to hold the group, it would wait for the group's
        # threads with Python's lock held, which they may be waiting for.
        vars(replica)["group"] = dist.group.WORLD
        return replica

    def no_sync(self, net: nn.Module) -> AbstractContextManager[object]:
        """Send nothing."""
        return net.no_sync() if isinstance(net, DistributedDataParallel) else nullcontext()

    def save(self, parts: Mapping[str, Mapping[str, Tensor]], writer: CheckpointWriter) -> None:
        """The first process does: all have the same, and all are told how it went."""
        failure = None
        if self.rank == 0:
            try:
                super().save(parts, writer)
            except OSError as error:
                failure = error.errno, error.strerror
        told = self.all_gather_object(failure)[0]
        if told is not None:
            raise OSError(*told)

    def all_reduce_sum(self, x: Tensor) -> Tensor:
        """Add up, on the device."""
        out = x.detach().clone()
        dist.all_reduce(out)
        return out

    def all_gather(self, x: Tensor) -> Tensor:
        """Put together."""
        parts = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    def any_rank(self, flag: bool) -> bool:
        """Ask all."""
        raised = torch.tensor(int(flag))
        dist.all_reduce(raised, dist.ReduceOp.MAX, group=self.control)
        return bool(raised)

    def all_gather_object(self, word: T) -> list[T]:
        """Ask all."""
        words = [word] * self.size
        dist.all_gather_object(words, word, group=self.control)
        return words


@contextmanager
def init_distributed(strategy: Callable[[], Strategy] = DDP) -> Iterator[Strategy]:
    """The processes that ``torchrun`` or submitit started with this one, or this one alone, which has nothing to share.

    With CUDA every process gets a device of its own, which "cuda" then means.

    Arguments:
        strategy: makes the team once the processes know each other.

    Raises:
        ChildProcessError: another process failed, or was killed, inside the block.
    """
    if not is_distributed():
        yield SingleProcess()
        return
    cuda = torch.cuda.is_available() and torch.cuda.device_count() >= int(
        os.environ.get("LOCAL_WORLD_SIZE", 1)
    )
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield strategy()
    except (dist.DistBackendError, RuntimeError) as error:
        if any(
            word in str(error) for word in ("Connection closed", "Connection reset", "NCCL", "Broken pipe")
        ):
            raise ChildProcessError(
                f"process {dist.get_rank()} of {dist.get_world_size()} lost another one, which failed or was killed; "
                "the last checkpoint is whole, and the same command goes on from it"
            ) from error
        raise
    finally:
        dist.destroy_process_group()
