"""Whatever is written appears whole or not at all, and what a killed process left is deleted."""

import ast
import errno
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

import sde_gen
from sde_gen.utils import atomic
from tests.helpers.subprocesses import children

PACKAGE = Path(sde_gen.__file__).parent


@contextmanager
def small_disk(size: int = 4000) -> Iterator[None]:
    """Files that may not grow beyond a size stand for a full disk: the system refuses the write as well."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic.write(path, "old")
    with atomic.writing(path) as file:
        file.write(b"n")
        assert path.read_text() == "old"
        file.write(b"ew")
    assert path.read_text() == "new"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_long_name_does(tmp_path: Path) -> None:
    long = tmp_path / ("\u00e4" * 127)
    atomic.write(long, "x")
    assert long.read_text() == "x"


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    """A run folder of somebody else may hold links to any file of the user."""
    mine, link = tmp_path / "mine", tmp_path / "run" / "config.yaml"
    mine.write_text("x")
    link.parent.mkdir()
    for target in (mine, tmp_path / "nowhere", link):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        atomic.write(link, "y")
        assert not link.is_symlink()
        assert link.read_text() == "y"
        assert os.listdir(link.parent) == [link.name]
    assert mine.read_text() == "x"
    assert sorted(os.listdir(tmp_path)) == ["mine", "run"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path, folder = tmp_path / "a.txt", tmp_path / "folder"
    atomic.write(path, "old")

    def fail(place: AbstractContextManager[Any]) -> None:
        with place as aside:
            aside.write(b"new") if place is file else atomic.put(aside / "a", b"new")
            raise error

    for place in (file := atomic.writing(path), atomic.folder(folder)):
        with pytest.raises(error):
            fail(place)
    assert os.listdir(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


def test_a_full_disk_names_the_file_and_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic.write(path, "old")
    with small_disk(), pytest.raises(OSError, match="File too large") as failure:
        atomic.write(path, b"x" * 10_000)
    assert (failure.value.errno, failure.value.filename) == (errno.EFBIG, str(path))
    assert os.listdir(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("made", [atomic.folder, atomic.scratch])
def test_a_full_disk_names_the_folder_and_not_the_temporary_one(tmp_path: Path, made: Any) -> None:
    path = tmp_path / "folder"
    with small_disk(), pytest.raises(OSError, match="File too large") as failure, made(path) as aside:
        atomic.put(aside / "a", b"x" * 10_000)
    assert (failure.value.errno, failure.value.filename) == (errno.EFBIG, str(path))
    with pytest.raises(FileNotFoundError) as failure, made(path):
        (tmp_path / "no" / "a").write_text("x")
    assert failure.value.filename == str(tmp_path / "no" / "a")
    assert not os.listdir(tmp_path)


def test_all_is_flushed_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, fsync, rename = [], os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda n: (done.append(Path(os.readlink(f"/proc/self/fd/{n}")).name), fsync(n))
    )
    monkeypatch.setattr(os, "rename", lambda old, new: (done.append("rename"), rename(old, new)))
    atomic.write(tmp_path / "a", "x")
    assert [done[0].startswith(".a."), *done[1:]] == [True, "rename", tmp_path.name]


def write_and_hang(path: Path, started: Path) -> None:
    with atomic.writing(path / "a.txt") as file, atomic.folder(path / "folder") as aside:
        file.write(b"half")
        atomic.put(aside / "x", b"half")
        started.touch()
        time.sleep(100)


def test_what_a_killed_process_left_is_deleted_and_what_another_is_writing_is_not(tmp_path: Path) -> None:
    place, started = tmp_path / "place", tmp_path / "started"
    place.mkdir()
    for name in (".a.txt.note", ".000000000064.new"):  # of the user; of a training, which knows by itself
        (place / name).touch()
    with children() as begin:
        child = begin(write_and_hang, place, started)
        while not started.exists():
            assert child.process.exitcode is None, child.text()
            time.sleep(0.01)
        atomic.write(place / "a.txt", "whole")
        with atomic.folder(place / "folder") as aside:
            atomic.put(aside / "x", b"whole")
        assert len(list(place.glob(".*.new"))) == 3, "the other process is at work"
        os.kill(child.process.pid, signal.SIGKILL)
        child.process.join()
    assert len(list(place.glob(".*.new"))) == 3
    atomic.write(place / "b.txt", "other")
    assert sorted(os.listdir(place)) == [".000000000064.new", ".a.txt.note", "a.txt", "b.txt", "folder"]
    assert (place / "folder" / "x").read_bytes() == b"whole"


def test_without_locks_only_what_is_old_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    for name, age in (("0" * 8, 2 * atomic.ABANDONED), ("1" * 8, 60)):
        (tmp_path / f".a.{name}.new").touch()
        os.utime(tmp_path / f".a.{name}.new", (time.time() - age,) * 2)
    atomic.write(tmp_path / "a", "x")
    assert sorted(os.listdir(tmp_path)) == [".a.11111111.new", "a"]


def test_nothing_that_hangs_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".a.00000000.new")
    (tmp_path / ".a.00000001.new").symlink_to("/dev/zero")
    atomic.write(tmp_path / "a", "x")
    assert len(os.listdir(tmp_path)) == 3


WRITES_A_PATH = {
    "write_text",
    "write_bytes",
    "save_file",
    "imwrite",
    "mkstemp",
    "NamedTemporaryFile",
    "tofile",
    "copyfile",
    "copytree",
}
"""Calls that write to their own path."""

WRITES_ITS_ARGUMENT = {"savefig", "save", "savez", "savez_compressed", "savetxt", "dump"}
"""Calls that write to the file or the path that they are given."""

HARMLESS = {
    "safetensors.torch.save",  # gives bytes
    "checkpoint.save",  # by CheckpointWriter, whose files are put
    "self.checkpoints.save",  # likewise
    "strategy.save",
    "self.strategy.save",
    "super().save",
    "save",  # PyTorch's distributed checkpoint, whose writer is CheckpointWriter
}


def faults(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Calls that write to a final path."""
    aside = {"io.BytesIO()"}
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            for item in node.items:
                if item.optional_vars is not None and ast.unparse(item.context_expr).split("(")[0] in (
                    "atomic.writing",
                    "atomic.folder",
                    "writing",
                    "create",
                    "io.BytesIO",
                ):
                    aside.add(ast.unparse(item.optional_vars))
        elif isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("io.BytesIO("):
            aside |= {ast.unparse(target) for target in node.targets}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        whole = ast.unparse(node.func)
        name = whole.rpartition(".")[2]
        if aside & {ast.unparse(argument) for argument in node.args}:
            continue
        if name in WRITES_A_PATH or (name in WRITES_ITS_ARGUMENT and whole not in HARMLESS):
            yield node.lineno, whole
        elif name in ("open", "fdopen", "memmap"):
            words = [
                arg.value
                for arg in [*node.args, *(key.value for key in node.keywords)]
                if isinstance(arg, ast.Constant)
            ]
            modes = [word for word in words if isinstance(word, str) and set(word) <= set("rwxabt+") and word]
            if any(set(mode) & set("wx") or (mode.startswith("r") and "+" in mode) for mode in modes):
                yield node.lineno, f"{whole} {modes}"
            if any("O_WRONLY" in ast.unparse(arg) or "O_RDWR" in ast.unparse(arg) for arg in node.args):
                yield node.lineno, whole


@pytest.mark.long
def test_everything_is_written_by_one_module() -> None:
    """Files that only grow, line by line, may be opened to append."""
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {what}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).as_posix() != "utils/atomic.py"
        for line, what in faults(ast.parse(path.read_text()))
    ]
    assert not found, "write by sde_gen.utils.atomic instead:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "path.write_text('x')",
        "open(path, 'w')",
        "path.open('r+b')",
        "os.open(path, os.O_CREAT | os.O_WRONLY)",
        "figure.savefig(path)",
        "np.savez(path, x=x)",
        "image.save(path)",
        "torch.save(x, path)",
        "OmegaConf.save(config, path)",
        "np.memmap(path, mode='w+')",
        "json.dump(x, open(path, 'w'))",
        "safetensors.torch.save_file(x, path)",
    ],
)
def test_what_is_written_in_place_is_seen(line: str) -> None:
    assert list(faults(ast.parse(line)))
