"""Processes that share tasks: each done once, nobody waits for ever, one failure ends all."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from sde_gen.distributed.work_queue import PeerFailed, WorkQueue


def together(work: Callable[[WorkQueue], object], size: int = 3) -> list[object]:
    """Return the result or the exception of every process; threads stand for processes."""
    store = HashStore()

    def member(rank: int) -> object:
        try:
            return work(WorkQueue(store=store, rank=rank, size=size))
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(member, range(size)))


def test_work_queue_gives_each_task_to_one_process() -> None:
    def work(queue: WorkQueue) -> list[int]:
        mine = []
        for task in queue.take("a", range(20, 40)):
            time.sleep(0.02 if queue.rank == 1 else 0.001)
            mine.append(task)
            queue.store.add("done", 1)
        if queue.is_main:
            for _ in queue.wait_all("a"):
                pass
            assert queue.store.add("done", 0) == 20, "the main process waits for the slow ones"
        return mine

    parts = together(work)
    assert sorted(task for part in parts for task in part) == list(range(20, 40))  # type: ignore[attr-defined]
    assert len(parts[1]) < 10, "the slow one got fewer"  # type: ignore[arg-type]


def test_broadcast_object_of_main_process() -> None:
    made = threading.Event()

    def work(queue: WorkQueue) -> object:
        def make() -> dict[str, list[int]]:
            assert not made.is_set(), "made once"
            made.set()
            return {"todo": [1, 2]}

        return queue.broadcast_object("plan", make)

    assert together(work) == [{"todo": [1, 2]}] * 3


@pytest.mark.parametrize("where", ["in a task", "before sharing"])
def test_failure_propagates_to_all_processes(where: str) -> None:
    def work(queue: WorkQueue) -> None:
        with queue.propagate_failure():
            if where == "before sharing":
                queue.broadcast_object("plan", lambda: 1 / 0)
            for _ in queue.take("a", range(10**6)):
                if queue.rank == 1:
                    raise OSError("disk full")

    found = together(work)
    failed = 0 if where == "before sharing" else 1
    assert [type(one) for one in found] == [
        (ZeroDivisionError if failed == 0 else OSError) if rank == failed else PeerFailed for rank in range(3)
    ]
    assert f"process {failed} of 3 failed" in str(found[2])


def test_work_queue_of_single_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    queue = WorkQueue.init()
    assert queue.is_main
    assert list(queue.take("a", [5, 7])) == [5, 7]
    assert list(queue.wait_all("a")) == []
