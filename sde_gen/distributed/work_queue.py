"""Work queue: processes take tasks one at a time from a shared list, without collective operations."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed import HashStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from sde_gen.distributed.launch import is_distributed


class PeerFailed(Exception):
    """Error of the other processes after one process has failed."""


@dataclass(frozen=True, kw_only=True)
class WorkQueue:
    """A queue of tasks shared by the processes of one ``torchrun``, or of a single process.

    A counter in the store of torchrun distributes tasks one at a time. Without collective operations no process waits
    for another's task, however unequal their lengths (such as ODEs with different numbers of steps).

    Arguments:
        store: key-value store shared by the processes.
        rank: rank of this process.
        size: number of processes.
    """

    store: Store
    rank: int
    size: int

    @classmethod
    def init(cls) -> "WorkQueue":
        """Connect to the processes of ``torchrun``, if one started this process.

        With CUDA every process gets a separate device as its current one, as far as there are enough.
        """
        if not is_distributed():
            return cls(store=HashStore(), rank=0, size=1)
        store, rank, size = next(rendezvous("env://"))
        if size > 1 and torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())
        return cls(store=store, rank=rank, size=size)

    @property
    def is_main(self) -> bool:
        """Return whether this is the main process, of rank 0."""
        return self.rank == 0

    def broadcast_object(self, name: str, make: Callable[[], Any]) -> Any:
        """Return in every process the JSON-serializable object that the main process makes."""
        if self.is_main:
            self.store.set(f"{name} made", json.dumps(make()))
        while not self.store.check([f"{name} made"]):
            self._poll()
        return json.loads(self.store.get(f"{name} made"))

    def take(self, name: str, tasks: Sequence[int]) -> Iterator[int]:
        """Yield tasks for this process, one at a time, until none is left; each task goes to one process."""
        while (taken := self.store.add(f"{name} dealt", 1)) <= len(tasks):
            self._check()
            yield tasks[taken - 1]
        self.store.add(f"{name} finished", 1)

    def wait_all(self, name: str) -> Iterator[None]:
        """Yield about every 50 ms until every process has finished its tasks."""
        while self.store.add(f"{name} finished", 0) < self.size:
            yield
            self._poll()

    @contextmanager
    def propagate_failure(self) -> Iterator[None]:
        """Propagate an exception inside the block to all processes.

        Raises:
            PeerFailed: in the other processes, when they next take a task or wait.
        """
        try:
            yield
        except PeerFailed:
            raise
        except Exception as error:
            self.store.set("failed", f"process {self.rank} of {self.size} failed: {error}")
            raise

    def _poll(self) -> None:
        self._check()
        time.sleep(0.05)

    def _check(self) -> None:
        if self.store.check(["failed"]):
            raise PeerFailed(self.store.get("failed").decode())
