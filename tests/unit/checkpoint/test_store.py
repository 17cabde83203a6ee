"""Checkpoints survive kills, full disks and damage."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import warnings

import pytest
import torch

from sde_gen.checkpoint import manifest
from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint import writer as draft
from sde_gen.checkpoint.store import Checkpoint


def made(images, validation=None):
    generator = torch.Generator().manual_seed(images)
    image_weights = torch.randn(4, 3, 2, 2, generator=generator).to(memory_format=torch.channels_last)
    return Checkpoint(
        images=images,
        net={"a.weight": image_weights, "count": torch.tensor(images)},
        ema={"a.weight": torch.randn(4, 3, generator=generator, dtype=torch.float64)},
        optimizer={"0.step": torch.tensor(float(images)), "0.exp_avg": torch.randn(2, generator=generator)},
        about={"config": {"x": [1, None, "y"]}, "validation": validation},
    )


def same(a, b):
    def parts(c):
        return {(part, name): x[()] for part in checkpoint.PARTS for name, x in getattr(c, part).items()}

    one, two = parts(a), parts(b)
    return (
        (a.images, a.about) == (b.images, b.about)
        and one.keys() == two.keys()
        and all(one[key].dtype == two[key].dtype and torch.equal(one[key], two[key]) for key in one)
    )


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_round_trip_and_no_code_inside(tmp_path):
    path = checkpoint.save(tmp_path / "new" / "folder", made(64))
    assert path.name == "000000000064"
    assert same(checkpoint.load(path), made(64))
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json", ".sha256"}
    assert checkpoint.latest(tmp_path / "none") is None
    assert checkpoint.latest(tmp_path) is None


FILES = (
    "net.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "checkpoint.json",
    "checkpoint.json.sha256",
)


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [flip, lambda file: os.truncate(file, 3), lambda file: os.truncate(file, 0), os.remove]
)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(tmp_path, file, damage):
    for images in (64, 128, 192):
        checkpoint.save(tmp_path, made(images))
    damage(tmp_path / "000000000192" / file)
    with pytest.warns(
        UserWarning, match=rf"000000000192.*{file.removesuffix('.sha256')}.*going back to .*000000000128"
    ):
        assert same(checkpoint.latest(tmp_path), made(128))
    shutil.rmtree(tmp_path / "000000000064")
    damage(tmp_path / "000000000128" / file)
    with pytest.raises(ValueError, match=r"every checkpoint is damaged.*192.*128"):
        checkpoint.latest(tmp_path)


WRITING = ((os, "fsync"), (os, "rename"), (os, "mkdir"), (draft, "put_shards"))
REMOVING = ((shutil, "rmtree"), (os, "unlink"), (os, "rmdir"))


def interrupt(monkeypatch, count, action, places):
    """Do something in place of the count-th call that touches the disk."""
    calls = 0

    def counted(real):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == count:
                action()
            return real(*args, **kwargs)

        return call

    for module, name in places:
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    return lambda: calls


@pytest.mark.long
@pytest.mark.parametrize("again", [False, True], ids=["new", "same counter"])
def test_a_kill_at_any_moment_of_saving_leaves_a_whole_checkpoint(tmp_path, again):
    """The process really dies, at every call that touches the disk; nothing of its clean-up runs."""
    outcomes = set()
    for count in range(1, 40):
        folder = tmp_path / str(count)
        checkpoint.save(folder, made(64))
        if again:
            checkpoint.save(folder, made(128, validation=5.0))
        child = os.fork()
        if child == 0:
            with pytest.MonkeyPatch.context() as patch:
                interrupt(patch, count, lambda: os._exit(9), WRITING + REMOVING)
                checkpoint.prune(folder, checkpoint.save(folder, made(128)), keep=1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = checkpoint.latest(folder)
        outcomes.add(found.images)
        assert same(found, made(found.images, 5.0 if found.about["validation"] else None))
        newest = checkpoint.save(folder, made(128))  # the next process does not stumble over what lies there
        checkpoint.prune(folder, newest, keep=1)
        assert [path.name for path in folder.iterdir()] == ["000000000128"]
        assert same(checkpoint.latest(folder), made(128))
        if os.waitstatus_to_exitcode(status) == 0:
            break
    else:
        pytest.fail("the child never came to the end")
    assert outcomes == {64, 128}


def test_all_is_flushed_before_it_has_its_name(tmp_path, monkeypatch):
    """Else a computer that loses its power then has the name and not the content."""
    done, fsync, rename = [], os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda n: (done.append(os.readlink(f"/proc/self/fd/{n}").rpartition("/")[2]), fsync(n))
    )
    monkeypatch.setattr(os, "rename", lambda old, new: (done.append("rename"), rename(old, new)))
    checkpoint.save(tmp_path, made(64))
    assert sorted(done[:5]) == sorted(FILES)
    assert done[5:] == [".000000000064.new", "rename", tmp_path.name]


def attempt(folder):
    """Save; return what went wrong."""
    try:
        checkpoint.save(folder, made(128))
    except OSError as error:
        return error
    return None


def test_a_full_disk_at_any_moment_harms_nothing(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, made(64))
    before = contents(tmp_path)

    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for count in range(1, 40):
        with monkeypatch.context() as patch:
            calls = interrupt(patch, count, full, WRITING)
            failure = attempt(tmp_path)
            if calls() < count:
                break
        whole = checkpoint.latest(tmp_path)
        if failure is None:  # there was nothing to make: the folder stood already
            assert whole.images == 128
        else:
            assert failure.errno == errno.ENOSPC
            assert "128 images was not written (No space left on device); older ones are untouched" in str(
                failure
            )
        assert same(whole, made(whole.images))
        shutil.rmtree(tmp_path / "000000000128", ignore_errors=True)  # the last call syncs what is in place
        assert contents(tmp_path) == before
        assert [path.name for path in tmp_path.iterdir()] == ["000000000064"]
    else:
        pytest.fail("saving never came to its end")


def test_a_disk_that_is_really_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("a small file system can only be made by root")
    try:
        checkpoint.save(disk / "checkpoints", made(64))
        before = contents(disk)
        large = Checkpoint(images=128, net={"w": torch.ones(10**6)}, ema={}, optimizer={}, about={})
        with pytest.raises(OSError, match="No space left on device"):
            checkpoint.save(disk / "checkpoints", large)
        assert contents(disk) == before
        assert same(checkpoint.latest(disk / "checkpoints"), made(64))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_last_ones_and_the_best_stay(tmp_path):
    for images, validation in ((1, 0.5), (2, 0.1), (3, float("nan")), (4, 0.3), (5, None)):
        checkpoint.save(tmp_path, made(images, validation))
    (tmp_path / ".000000000006.new").mkdir()  # of a killed process
    (tmp_path / "notes").mkdir()  # of the user
    assert checkpoint.best_path(tmp_path).name == "000000000002"
    checkpoint.prune(tmp_path, tmp_path / "000000000005", keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000000000002",
        "000000000004",
        "000000000005",
        "notes",
    ]
    checkpoint.prune(tmp_path, checkpoint.save(tmp_path, made(6, 0.05)), keep=1)
    assert [path.name for path in checkpoint.paths(tmp_path)] == ["000000000006"]


def test_a_damaged_one_takes_no_place_of_a_whole_one(tmp_path):
    """Back behind it, and stopped before it is reached again."""
    for images, validation in ((64, 0.2), (192, 0.1)):
        checkpoint.save(tmp_path, made(images, validation))
    flip(tmp_path / "000000000192" / "ema.safetensors")
    checkpoint.prune(tmp_path, checkpoint.save(tmp_path, made(128, 0.3)), keep=1)
    assert [path.name for path in checkpoint.paths(tmp_path)] == [f"{n:012d}" for n in (64, 128, 192)]
    checkpoint.prune(tmp_path, checkpoint.save(tmp_path, made(192, 0.4)), keep=1)
    assert [path.name for path in checkpoint.paths(tmp_path)] == [f"{n:012d}" for n in (64, 192)]
    assert same(checkpoint.latest(tmp_path), made(192, 0.4))


def write_header(path, text):
    """Let a checkpoint say something else, with a checksum made to fit."""
    (path / "checkpoint.json").write_bytes(text)
    (path / "checkpoint.json.sha256").write_text(hashlib.sha256(text).hexdigest())


LIES = {
    "images": "64",
    "images ": -64,
    "images  ": 64.0,
    "about": [],
    "about ": None,
    "about  ": {"validation": "small"},
    "sha256": [],
    "sha256 ": {"../net.safetensors": ""},
    "sha256  ": {"net.\0": ""},
    "sha256   ": {"net.safetensors": 1},
    "sha256    ": {"net." + "x" * 300: ""},
}


@pytest.mark.parametrize(
    "damaged",
    [
        *({name.strip(): lie} for name, lie in LIES.items()),
        b"[]",
        b"null",
        b"[" * 100_000,
        b"{\xff",
        b"9" * 5000,
    ],
    ids=lambda damaged: str(damaged)[:30],
)
def test_inconsistent_checkpoint_is_rejected(tmp_path, damaged):
    checkpoint.save(tmp_path, made(64, 0.2))
    path = checkpoint.save(tmp_path, made(128, 0.1))
    if isinstance(damaged, dict):
        damaged = json.dumps({**json.loads((path / "checkpoint.json").read_bytes()), **damaged}).encode()
    write_header(path, damaged)
    with pytest.raises(ValueError, match="000000000128"):
        checkpoint.load(path)
    with pytest.warns(UserWarning, match=r"000000000128.*going back to .*000000000064"):
        assert same(checkpoint.latest(tmp_path), made(64, 0.2))
    checkpoint.prune(tmp_path, path, keep=1)
    assert path.is_dir()


def test_what_a_damaged_header_says_is_not_believed(tmp_path):
    checkpoint.save(tmp_path, made(64, 0.2))
    file = checkpoint.save(tmp_path, made(128, 0.5)) / "checkpoint.json"
    file.write_text(file.read_text().replace("0.5", "0.1"))
    assert checkpoint.best_path(tmp_path).name == "000000000064"
    assert checkpoint.about(file.parent) == {}


@pytest.mark.parametrize("name", FILES)
def test_what_cannot_be_read_is_damaged(tmp_path, name):
    """A disk that fails says so by an OSError of another kind; a folder in the place of a file gives one."""
    checkpoint.save(tmp_path, made(64))
    path = checkpoint.save(tmp_path, made(128))
    (path / name).unlink()
    (path / name).mkdir()
    with pytest.warns(UserWarning, match=rf"000000000128 cannot be read: Is a directory, {name}; going back"):
        assert same(checkpoint.latest(tmp_path), made(64))


def test_nothing_is_run_when_a_checkpoint_is_read(tmp_path):
    """A pickle under our name, with checksums made to fit, is refused."""
    path = checkpoint.save(tmp_path, made(64))
    evil = tmp_path / "evil"

    class Evil:
        def __reduce__(self):
            return evil.mkdir, ()

    torch.save({"w": Evil()}, path / "net.safetensors")
    manifest = json.loads((path / "checkpoint.json").read_text())
    manifest["sha256"]["net.safetensors"] = hashlib.sha256(
        (path / "net.safetensors").read_bytes()
    ).hexdigest()
    text = json.dumps(manifest)
    (path / "checkpoint.json").write_text(text)
    (path / "checkpoint.json.sha256").write_text(hashlib.sha256(text.encode()).hexdigest())
    with pytest.raises(ValueError, match="not written by this package"):
        checkpoint.load(path)
    assert not evil.exists()


@pytest.mark.parametrize("stage", ["read", "verify_checksum", "open_shards"])
@pytest.mark.parametrize("look", ["latest", "best"])
def test_checkpoint_deleted_by_a_training_is_searched_again(tmp_path, monkeypatch, stage, look):
    """At every moment of reading it; the training keeps one, and has written a newer one."""
    checkpoint.save(tmp_path, made(64, 0.2))
    place = checkpoint if stage == "open_shards" else manifest
    real = getattr(place, stage)
    reading = []

    def beside(*arguments):
        if not reading:
            reading.append(1)
            checkpoint.prune(tmp_path, checkpoint.save(tmp_path, made(128, 0.1)), keep=1)
        return real(*arguments)

    monkeypatch.setattr(place, stage, beside)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(getattr(checkpoint, look)(tmp_path), made(128, 0.1))


def test_checkpoints_set_aside_are_removed(tmp_path):
    path = checkpoint.save(tmp_path, made(64))
    for name in (".000000000064.old", ".000000000128.new"):
        shutil.copytree(path, tmp_path / name)
    checkpoint.clear(tmp_path)
    assert os.listdir(tmp_path) == [path.name]
    checkpoint.clear(tmp_path / "nowhere")
