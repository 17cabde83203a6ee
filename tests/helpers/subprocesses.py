"""Processes for tests, none of them a fork of the test's own.

A fork has the locks of its parent's threads but not the threads, so it may wait for ever. Here every process comes from
a server that has imported everything and run nothing, and none outlives its test.
"""

import faulthandler
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.helpers import composition

ROOT = Path(__file__).parents[2]
PRELOADED = ["tests.helpers.commands", "sde_gen.distributed.fsdp", "torch._dynamo"]
"""Modules that the server imports: the commands, and those imported late by the first strategy and optimizer."""


class FinishedProcess(NamedTuple):
    """Exit status and output of a finished process, errors included."""

    code: int
    text: str


class Child(NamedTuple):
    """A process and the file that it prints to."""

    process: ForkServerProcess
    out: Path

    def text(self) -> str:
        """All that it has printed so far."""
        return self.out.read_text() if self.out.exists() else ""


def context() -> ForkServerContext:
    """The server, which begins at the first call."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return found


@contextmanager
def children() -> Iterator[Callable[..., Child]]:
    """Give a function that begins a process: ``begin(work, *arguments)``; kill those left at the end."""
    begun: list[Child] = []
    with tempfile.TemporaryDirectory() as folder:

        def begin(work: Callable[..., object], *arguments: object) -> Child:
            out = Path(folder) / f"{len(begun)}.txt"
            begun.append(Child(context().Process(target=_child, args=(out, work, *arguments)), out))
            begun[-1].process.start()
            return begun[-1]

        try:
            yield begin
        finally:
            for process, _ in begun:
                if process.exitcode is None:
                    process.kill()
                process.join()


def wait_for(waited: Sequence[Child], limit: float = 60) -> list[FinishedProcess]:
    """Wait for all; fail with the stacks of those that do not end in time (seconds)."""
    last = time.monotonic() + limit
    for process, _ in waited:
        process.join(max(0.0, last - time.monotonic()))
    hung = [rank for rank, (process, _) in enumerate(waited) if process.exitcode is None]
    for rank in hung:
        os.kill(waited[rank].process.pid, signal.SIGUSR1)
    if hung:
        time.sleep(0.5)  # while they write their tracebacks
        outputs = (
            f"-- process {i}, ended with {child.process.exitcode}:\n{child.text()}"
            for i, child in enumerate(waited)
        )
        pytest.fail(f"of {len(waited)} processes {hung} hung for {limit} s\n" + "\n".join(outputs))
    return [FinishedProcess(child.process.exitcode, child.text()) for child in waited]


def run_processes(works: Sequence[Sequence[object]], limit: float = 60) -> list[FinishedProcess]:
    """Begin a process for each (function, arguments ...), with the environment that torchrun gives; wait for all."""
    port = free_port()
    with children() as begin:
        return wait_for(
            [begin(_member, rank, len(works), port, *work) for rank, work in enumerate(works)], limit
        )


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def together(size: int, work: Callable[..., object], *arguments: object) -> None:
    """Let processes run the same function as one process group; all must end well."""
    for rank, (code, text) in enumerate(run_processes([(work, *arguments)] * size)):
        assert code == 0, f"process {rank} of {size} ended with {code}:\n{text}"


def _child(out: Path, work: Callable[..., object], *arguments: object) -> None:
    with out.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.register(signal.SIGUSR1)
    torch.set_num_threads(1)
    os.fsync = os.fstat  # type: ignore[assignment]  # as in the tests' own process, tests/conftest.py
    composition.remember(pytest.MonkeyPatch())  # likewise
    work(*arguments)


def _member(rank: int, size: int, port: int, work: Callable[..., object], *arguments: object) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    work(*arguments)
