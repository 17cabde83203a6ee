"""Processes that share a list of tasks and never wait for each other's work."""

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
    """Another process of the crew failed, so the work as a whole is at an end."""


@dataclass(frozen=True, kw_only=True)
class WorkQueue:
    """The processes of one ``torchrun``, or a process alone.

    Tasks are dealt one at a time to whoever asks, by a counter in the store that torchrun's processes share. There
    is no collective operation: tasks of unequal length, such as ODEs that take unequal numbers of steps, leave
    nobody waiting, and nobody hanging.

    Arguments:
        store: what the processes share.
        rank: number of this process.
        size: number of processes.
    """

    store: Store
    rank: int
    size: int

    @classmethod
    def init(cls) -> "WorkQueue":
        """Find the others, if torchrun or the like started this process; otherwise be alone.

        With CUDA every process of several gets a device of its own, which "cuda" then means.
        """
        if not is_distributed():
            return cls(store=HashStore(), rank=0, size=1)
        store, rank, size = next(rendezvous("env://"))
        if size > 1 and torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())
        return cls(store=store, rank=rank, size=size)

    @property
    def is_main(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def broadcast_object(self, name: str, make: Callable[[], Any]) -> Any:
        """Let the leader make something that JSON can say, and give it to all."""
        if self.is_main:
            self.store.set(f"{name} made", json.dumps(make()))
        while not self.store.check([f"{name} made"]):
            self._poll()
        return json.loads(self.store.get(f"{name} made"))

    def take(self, name: str, tasks: Sequence[int]) -> Iterator[int]:
        """Tasks for this process, one at a time, until none is left; every one goes to one process."""
        while (dealt := self.store.add(f"{name} dealt", 1)) <= len(tasks):
            self._check()
            yield tasks[dealt - 1]
        self.store.add(f"{name} finished", 1)

    def wait_all(self, name: str) -> Iterator[None]:
        """Go round, with a rest each time, until every process has finished its tasks."""
        while self.store.add(f"{name} finished", 0) < self.size:
            yield
            self._poll()

    @contextmanager
    def propagate_failure(self) -> Iterator[None]:
        """Make a failure of one process inside the block the failure of all.

        Raises:
            PeerFailed: in the other processes, when they next ask for a task or wait.
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
