"""Checkpoints that every process of a team writes a share of."""

import errno
import os
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint import writer as draft
from sde_gen.checkpoint.store import Checkpoint
from sde_gen.distributed.fsdp import FSDP
from sde_gen.distributed.strategy import DDP, Strategy, init_distributed
from tests.helpers.subprocesses import FinishedProcess, run_processes, together
from tests.helpers.tiny_run import points, read, same, trainer
from tests.system.test_distributed_training import SETTINGS, Double, double

SHAPES = {
    "many": (7, 3),
    "few": (2, 5),
    "one": (1, 2),
    "images": (6, 3, 2, 2),
    "vector": (5,),
    "none": (0, 3),
}
"""Of three processes some keep less than others, and of some tensors nothing."""


def numbers(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return {**found, "low": found["many"].bfloat16(), "count": torch.tensor(seed)}


def divided(whole: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    mesh = init_device_mesh("cpu", (size,))
    return {name: distribute_tensor(x, mesh, [Shard(0)]) if x.ndim else x for name, x in whole.items()}


def parts(images: int, size: int) -> Checkpoint:
    tensors = {part: divided(numbers(images + seed), size) for seed, part in enumerate(checkpoint.PARTS)}
    return Checkpoint(images=images, about={"validation": None}, **tensors)


class Largest(TorchDispatchMode):
    """The most numbers in a tensor that an operation gives; plans are sent as bytes, which are none."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and not isinstance(out, DTensor) and out.is_floating_point():
            self.count = max(self.count, out.numel())
        return out


def write(folder: Path) -> None:
    with init_distributed(FSDP) as strategy:
        found = parts(64, strategy.size)
        with Largest() as largest:
            checkpoint.save(folder, found, strategy)
        assert largest.count <= max(
            x.to_local().numel() if isinstance(x, DTensor) else x.numel() for x in found.net.values()
        )


def reread(folder: Path) -> None:
    """Read as the first process sees the folder, whatever the others' file system says of it yet."""
    with init_distributed(FSDP) as strategy, pytest.MonkeyPatch.context() as patch:
        if strategy.rank:
            patch.setattr(checkpoint, "paths", lambda folder: [])
        found = checkpoint.latest(folder, strategy=strategy)
        assert found is not None
        for seed, part in enumerate(checkpoint.PARTS):
            mine = divided(
                {name: torch.zeros_like(x) for name, x in numbers(64 + seed).items()}, strategy.size
            )
            strategy.load(getattr(found, part), mine)
            assert same({name: strategy.full_tensor(x) for name, x in mine.items()}, numbers(64 + seed))


def test_three_processes_write_what_any_number_reads(tmp_path: Path) -> None:
    together(3, write, tmp_path)
    (path,) = checkpoint.paths(tmp_path)
    assert len(list(path.glob("net.*-of-3.safetensors"))) == 3
    found = checkpoint.load(path)
    for seed, part in enumerate(checkpoint.PARTS):
        assert same(read(getattr(found, part)), numbers(64 + seed))
    assert not list(path.glob(".*"))
    together(2, reread, tmp_path)
    together(1, reread, tmp_path)


def test_no_process_has_all_of_it_while_saving(tmp_path: Path) -> None:
    together(2, save_without_uniting, tmp_path / "run")
    found = [path.name for path in checkpoint.paths(tmp_path / "run" / "checkpoints")]
    assert found == ["000000000016", "000000000032", "000000000040"]  # no step has confirmed the last one yet


def save_without_uniting(folder: Path) -> None:
    """Validate and save where nobody may put a tensor together, as previews do."""
    with init_distributed(FSDP) as strategy:
        settings = {**SETTINGS, "checkpoint_every": 16, "keep": 2}
        training = trainer(folder, settings=settings, net=double(), codec=Double(), strategy=strategy)
        training.stop = lambda: training.images == 40
        uniting = strategy.full_tensor

        def refused(x: Tensor) -> Tensor:
            assert x.ndim == 0, "more than the norm of the gradient"
            return uniting(x)

        strategy.full_tensor = refused  # type: ignore[method-assign]
        training.run()


def full(folder: Path, kind: Callable[[], Strategy], where: int) -> None:
    """The disk of one process is full."""
    with init_distributed(kind) as strategy:
        checkpoint.save(folder, parts(64, strategy.size), strategy)
        if strategy.rank == where:

            def no_room(path: Path, shards: object) -> str:
                path.write_bytes(b"its first bytes")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            draft.put_shards = no_room
        with pytest.raises(OSError, match=r"128 images was not written \(No space left") as failure:
            checkpoint.save(folder, parts(128, strategy.size), strategy)
        assert failure.value.errno == errno.ENOSPC
        assert ("in process 1" in str(failure.value)) == (kind is FSDP and where == 1)
        strategy.any_rank(False)
        assert [path.name for path in folder.iterdir()] == ["000000000064"]


@pytest.mark.parametrize(("kind", "where"), [(FSDP, 0), (FSDP, 1)])
def test_a_full_disk_of_one_is_an_error_of_all(
    tmp_path: Path, kind: Callable[[], Strategy], where: int
) -> None:
    together(2, full, tmp_path, kind, where)
    assert same(read(checkpoint.load(tmp_path / "000000000064").ema), numbers(65))


def full_of_the_first(folder: Path) -> None:
    with init_distributed() as strategy:
        folder.touch()  # a file where a folder should be
        strategy.any_rank(False)
        with pytest.raises(OSError, match="was not written"):
            checkpoint.save(folder, Checkpoint(images=1, net={}, ema={}, optimizer={}, about={}), strategy)


def test_replicas_raise_what_stopped_the_first(tmp_path: Path) -> None:
    together(2, full_of_the_first, tmp_path / "file")


def damaged(folder: Path, kind: Callable[[], Strategy], file: str) -> None:
    """Every process verifies a share of the files, and all go back together."""
    with init_distributed(kind) as strategy:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = checkpoint.latest(folder, strategy=strategy)
        assert found is not None
        assert found.images == 64
        assert any(file in str(warning.message) for warning in caught)


def unreadable(folder: Path) -> None:
    """The disk of process 1 fails while it verifies its share of the newest checkpoint."""
    with init_distributed(FSDP) as strategy, pytest.MonkeyPatch.context() as patch:
        if strategy.rank:
            digest = checkpoint._digest

            def fail(path: Path) -> object:
                if path.parent.name == "000000000128":
                    raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
                return digest(path)

            patch.setattr(checkpoint, "_digest", fail)
        with pytest.warns(UserWarning, match=r"cannot be read: Input/output error, .*; going back"):
            found = checkpoint.latest(folder, strategy=strategy)
        assert found is not None
        assert found.images == 64


def test_all_go_back_from_what_one_cannot_read(tmp_path: Path) -> None:
    for images in (64, 128):
        whole = Checkpoint(images=images, net=numbers(1), ema=numbers(2), optimizer=numbers(3), about={})
        checkpoint.save(tmp_path, whole)
    together(2, unreadable, tmp_path)


def test_all_go_back_from_what_one_finds_damaged(tmp_path: Path) -> None:
    together(2, write, tmp_path / "one")
    for file in ("net.0-of-2.safetensors", "optimizer.1-of-2.safetensors"):
        folder = tmp_path / file
        shutil.copytree(tmp_path / "one", folder)
        shutil.copytree(folder / "000000000064", folder / "000000000128")
        content = bytearray((folder / "000000000128" / file).read_bytes())
        content[-1] ^= 1
        (folder / "000000000128" / file).write_bytes(content)
    together(2, damaged, tmp_path / "net.0-of-2.safetensors", FSDP, "net.0-of-2.safetensors")
    together(2, damaged, tmp_path / "optimizer.1-of-2.safetensors", DDP, "optimizer.1-of-2.safetensors")


def lose(folder: Path, how: str, kind: Callable[[], Strategy] = FSDP) -> None:
    """Process 1 fails, or is killed, after the checkpoint at 48 images."""
    with init_distributed(kind) as strategy:
        training = trainer(
            folder, settings=SETTINGS, net=double(), codec=Double(), train=points(50), strategy=strategy
        )

        def fail() -> bool:
            if strategy.rank == 1 and training.images == 64:
                if how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise ArithmeticError("of process 1")
            return False

        training.stop = fail
        training.run()


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_a_lost_process_ends_the_others_with_a_one_line_error(tmp_path: Path, how: str) -> None:
    first, second = run_processes([(lose, tmp_path / "run", how)] * 2)
    assert "ChildProcessError: process 0 of 2 lost the connection" in first.text
    assert second.code == -signal.SIGKILL or "ArithmeticError: of process 1" in second.text
    found = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found.images == 48


def save_and_die(folder: Path, where: int, count: int) -> None:
    """Save over an older checkpoint; one process is killed at its count-th touch of the disk."""
    with init_distributed(FSDP) as strategy:
        checkpoint.save(folder, parts(64, strategy.size), strategy)
        touched = 0

        def counted(real: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **more: object) -> object:
                nonlocal touched
                touched += 1
                if touched == count:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **more)

            return call

        strategy.any_rank(False)
        if strategy.rank == where:
            for place, name in (
                (os, "fsync"),
                (os, "rename"),
                (os, "mkdir"),
                (draft, "put"),
                (os, "rmdir"),
            ):
                setattr(place, name, counted(getattr(place, name)))
        checkpoint.save(folder, parts(128, strategy.size), strategy)


def killed(folder: Path, where: int, count: int) -> bool:
    """Return whether the saving got as far; the checkpoint that it left is complete."""
    ended: list[FinishedProcess] = run_processes([(save_and_die, folder, where, count)] * 2)
    found = checkpoint.latest(folder)
    assert found is not None
    assert found.images in (64, 128)
    assert same(read(found.ema), numbers(found.images + 1))
    together(2, write_over, folder)
    assert [path.name for path in folder.iterdir()] == ["000000000128"]
    assert same(read(checkpoint.load(folder / "000000000128").net), numbers(128))
    if ended[where].code == 0:
        return False
    other = ended[1 - where]
    assert other.code == 0 or "lost the connection" in other.text, other.text
    return True


def write_over(folder: Path) -> None:
    """The next processes do not stumble over what lies there."""
    with init_distributed(FSDP) as strategy:
        path = checkpoint.save(folder, parts(128, strategy.size), strategy)
        if strategy.rank == 0:
            checkpoint.prune(folder, path, keep=1)


@pytest.mark.parametrize(("where", "count"), [(0, 4), (1, 3)])
def test_a_kill_while_they_write(tmp_path: Path, where: int, count: int) -> None:
    assert killed(tmp_path / "run", where, count)


@pytest.mark.slow
@pytest.mark.parametrize("where", [0, 1])
def test_a_kill_at_any_moment_of_saving_leaves_a_whole_checkpoint(tmp_path: Path, where: int) -> None:
    count = 1
    while killed(tmp_path / str(count), where, count):
        count += 1
    assert count > 6
