"""Processes that share tasks: each done once, nobody waits for ever, one failure ends all."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from sde_gen.distributed.work_queue import PeerFailed, WorkQueue


def together(work: Callable[[WorkQueue], object], size: int = 3) -> list[object]:
    """What every member of a crew made, or the exception it raised; threads stand for processes."""
    store = HashStore()

    def member(rank: int) -> object:
        try:
            return work(WorkQueue(store=store, rank=rank, size=size))
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(member, range(size)))


def test_every_task_goes_to_one_process_however_long_it_takes() -> None:
    def work(crew: WorkQueue) -> list[int]:
        mine = []
        for task in crew.take("a", range(20, 40)):
            time.sleep(0.02 if crew.rank == 1 else 0.001)
            mine.append(task)
            crew.store.add("done", 1)
        if crew.is_main:
            for _ in crew.wait_all("a"):
                pass
            assert crew.store.add("done", 0) == 20, "the leader waits for the slow ones"
        return mine

    parts = together(work)
    assert sorted(task for part in parts for task in part) == list(range(20, 40))  # type: ignore[attr-defined]
    assert len(parts[1]) < 10, "the slow one got fewer"  # type: ignore[arg-type]


def test_the_leader_decides_for_all() -> None:
    made = threading.Event()

    def work(crew: WorkQueue) -> object:
        def make() -> dict[str, list[int]]:
            assert not made.is_set(), "made once"
            made.set()
            return {"todo": [1, 2]}

        return crew.broadcast_object("plan", make)

    assert together(work) == [{"todo": [1, 2]}] * 3


@pytest.mark.parametrize("where", ["in a task", "before sharing"])
def test_one_failure_ends_all(where: str) -> None:
    def work(crew: WorkQueue) -> None:
        with crew.propagate_failure():
            if where == "before sharing":
                crew.broadcast_object("plan", lambda: 1 / 0)
            for _ in crew.take("a", range(10**6)):
                if crew.rank == 1:
                    raise OSError("disk full")

    found = together(work)
    failed = 0 if where == "before sharing" else 1
    assert [type(one) for one in found] == [
        (ZeroDivisionError if failed == 0 else OSError) if rank == failed else PeerFailed for rank in range(3)
    ]
    assert f"process {failed} of 3 failed" in str(found[2])


def test_a_process_alone_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    crew = WorkQueue.init()
    assert crew.is_main
    assert list(crew.take("a", [5, 7])) == [5, 7]
    assert list(crew.wait_all("a")) == []
