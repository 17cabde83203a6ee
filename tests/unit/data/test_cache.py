"""Decoded images on the disk: the same as in memory, made once and whole, never of other settings."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sde_gen.data import Dataset, ImageFolder, ImageStream, Sample, Shards, cache
from sde_gen.data.atomic_build import HEADER, build_atomically
from tests.helpers.subprocesses import children, wait_for
from tests.helpers.tar_images import pictures, shards

ROOT = Path(__file__).parents[3]


def folder(path: Path, count: int = 12, side: int = 8) -> Path:
    for index, image in enumerate(pictures(count, (side, side))):
        (path / f"class{index % 3}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / f"class{index % 3}" / f"{index}.png")
    return path


def equal(one: Dataset, other: Dataset) -> bool:
    same_labels = (
        one.labels is other.labels
        if one.labels is None or other.labels is None
        else torch.equal(one.labels, other.labels)
    )
    return (
        torch.equal(one.values[:], other.values[:])
        and same_labels
        and (one.levels, one.classes) == (other.levels, other.classes)
    )


def test_a_cache_holds_what_memory_would(tmp_path):
    source = {"root": str(folder(tmp_path / "images")), "size": 8, "test_fraction": 0.3}
    memory = ImageFolder(**source).load()
    made = ImageFolder(**source, cache=str(tmp_path / "cache")).load()
    for found in (made, ImageFolder(**source, cache=str(tmp_path / "cache")).load()):
        assert equal(memory.train, found.train)
        assert equal(memory.test, found.test)
    assert made.train.fingerprint() != made.test.fingerprint()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [
        HEADER,
        *("test.bytes", "test.labels.npy", "train.bytes", "train.labels.npy"),
    ]


def test_shards_may_be_cached(tmp_path):
    shards(tmp_path)
    source = {"train": str(tmp_path / "train-*.tar"), "size": 8}
    read, cached = Shards(**source).load(), Shards(**source, cache=str(tmp_path / "cache")).load()
    assert equal(read.train, cached.train)
    assert equal(read.test, cached.test)
    for path in tmp_path.glob("*.tar"):  # they are not needed again
        path.unlink()
    again = Shards(**source, cache=str(tmp_path / "cache"), workers=2).load()
    assert equal(again.test, cached.test)


def test_the_fingerprint_is_of_the_content(tmp_path):
    def made(name: str, image: torch.Tensor, label: int = 0) -> Dataset:
        samples = [Sample(torch.zeros(1, 2, 2, dtype=torch.uint8), 0, True), Sample(image, label, False)]
        return cache.open_cache(tmp_path / name, {}, lambda: ImageStream(samples, 2)).train

    image = torch.arange(4, dtype=torch.uint8).reshape(1, 2, 2)
    prints = [
        made("a", image).fingerprint(),
        made("b", image).fingerprint(),
        made("c", image + 1).fingerprint(),
        made("d", image, 1).fingerprint(),
        made("e", image.reshape(1, 1, 4)).fingerprint(),
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_cache_of_version_0_1_with_a_split_without_labels_opens(tmp_path):
    samples = [Sample(torch.zeros(1, 2, 2, dtype=torch.uint8), label, label is None) for label in (0, None)]

    def made() -> Dataset:
        return cache.open_cache(tmp_path / "cache", {}, lambda: ImageStream(samples, 1)).test

    assert made().labels is None
    header = tmp_path / "cache" / HEADER
    header.write_text(header.read_text().replace('"labeled"', '"labelled"'))
    assert made().labels is None


def test_a_cache_of_other_settings_is_refused_with_what_differs(tmp_path):
    source = {"root": str(folder(tmp_path / "images")), "cache": str(tmp_path / "cache")}
    ImageFolder(**source, size=8).load()
    with pytest.raises(ValueError, match=r"with other settings \(size: 8 there, 16 here\); .*delete it"):
        ImageFolder(**source, size=16).load()
    with pytest.raises(ValueError, match="source: ImageFolder there, Shards here"):
        Shards(train="s.tar", cache=source["cache"]).load()


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *(("train.bytes", damage) for damage in (halve, empty, Path.unlink)),  # its content is not read again
        *(("test.labels.npy", damage) for damage in (halve, empty, Path.unlink, zero)),
        *(("members.npz", damage) for damage in (halve, empty, Path.unlink, zero)),
    ],
)
def test_what_is_damaged_is_refused_and_named(tmp_path, file, damage):
    shards(tmp_path)
    keeps = "index" if file == "members.npz" else "cache"
    source = Shards(train=str(tmp_path / "train-*.tar"), size=8, **{keeps: str(tmp_path / "kept")})
    source.load()
    damage(tmp_path / "kept" / file)
    with pytest.raises(ValueError, match=r"kept is damaged \(.*\); delete it to rebuild it"):
        source.load()


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", '{"settings": {}}', ""),
        *(
            '{"settings": %s, "content": {}}',
            '{"settings": %s, "content": {"classes": 0, "train": {"shape": "ab"}}}',
        ),
        '{"settings": %s, "content": {"classes": 0, "train": {"shape": [1, 3, 8, 8], "sha256": ""}}}',
    ],
)
def test_inconsistent_cache_is_refused(tmp_path, content):
    source = ImageFolder(root=str(folder(tmp_path / "images")), size=8, cache=str(tmp_path / "cache"))
    source.load()
    text = content % json.dumps(source.settings()) if "%" in content else content
    (tmp_path / "cache" / HEADER).write_text(text)
    with pytest.raises(ValueError, match=r"cache is damaged \(.*delete it"):
        source.load()


def test_the_current_folder_may_be_one(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert build_atomically(Path("."), {}, lambda _: {"some": 1}) == {"some": 1}
    assert (tmp_path / "here" / HEADER).exists()
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert build_atomically(tmp_path / "link", {}, lambda _: {"some": 1}) == {"some": 1}
    assert (tmp_path / "there" / HEADER).exists()


def test_nothing_of_somebody_else_is_written_over(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name in ("mine", "file"):
        with pytest.raises(ValueError, match="not built by this package"):
            build_atomically(tmp_path / name, {}, lambda _: {})
    assert build_atomically(tmp_path / "empty", {}, lambda _: {"some": 1}) == {"some": 1}
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("samples", "classes", "words"),
    [
        ([Sample(torch.zeros(1, 2, 2, dtype=torch.uint8), 0, False)], 1, "the test split has no image"),
        (
            [Sample(torch.zeros(1, 2, 2, dtype=torch.uint8), 3, False)],
            3,
            "label 3 lies outside the 3 classes",
        ),
        ([Sample(torch.zeros(1, 2, 2, dtype=torch.uint8), -1, False)], 3, "label -1"),
    ],
)
def test_streams_that_will_not_do_leave_nothing(tmp_path, samples, classes, words):
    with pytest.raises(ValueError, match=words):
        cache.open_cache(tmp_path / "cache", {}, lambda: ImageStream(samples, classes))
    assert [path.name for path in tmp_path.iterdir()] == [".cache.lock"]


def test_damaged_images_leave_no_cache(tmp_path):
    root = folder(tmp_path / "images")
    (root / "class0" / "broken.png").write_bytes(b"no picture")
    source = {"root": str(root), "size": 8, "cache": str(tmp_path / "cache")}
    with pytest.raises(ValueError, match=r"1 images cannot be read.*broken\.png"):
        ImageFolder(**source).load()
    assert not list(tmp_path.glob("*cache*/*"))
    with pytest.warns(UserWarning, match=r"broken\.png"):
        ImageFolder(**source, skip_corrupt=True).load()


def test_full_disk_is_reported_and_leaves_nothing(tmp_path):
    """Files that may not grow beyond 4000 bytes stand for a full disk: the system refuses the write as well."""
    source = ImageFolder(root=str(folder(tmp_path / "images", 60)), size=8, cache=str(tmp_path / "cache"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(
            OSError, match=r"File too large; .*cache was not built, and no part of it remains"
        ):
            source.load()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in tmp_path.iterdir()} == {"images", ".cache.lock"}
    assert len(source.load().train) > 40


def _slowly(path: Path, log: Path, seconds: float = 0.3) -> None:
    def fill(growing: Path) -> dict[str, int]:
        with log.open("a") as file:
            file.write("made\n")
        time.sleep(seconds)
        (growing / "content").write_text("whole")
        return {}

    build_atomically(path, {"a": 1}, fill)
    assert (path / "content").read_text() == "whole"


def test_of_several_processes_one_makes_it_and_the_others_wait(tmp_path):
    with children() as begin:
        found = wait_for([begin(_slowly, tmp_path / "it", tmp_path / "log") for _ in range(3)])
    assert [one.code for one in found] == [0, 0, 0], found
    assert (tmp_path / "log").read_text() == "made\n"


def test_all_is_flushed_before_it_has_its_name_and_others_may_read_it(tmp_path, monkeypatch):
    """Else a computer that loses its power then has the name and not the content."""
    done, fsync, rename = [], os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda n: (done.append(Path(os.readlink(f"/proc/self/fd/{n}")).name), fsync(n))
    )
    monkeypatch.setattr(os, "rename", lambda old, new: (done.append("rename"), rename(old, new)))
    build_atomically(
        tmp_path / "it", {}, lambda growing: {"written": (growing / "content").write_text("some")}
    )
    before, after = done[: done.index("rename")], done[done.index("rename") + 1 :]
    assert {"content", HEADER} < set(before)
    assert before[-1].startswith(".it.")
    assert after == [tmp_path.name]
    assert (tmp_path / "it").stat().st_mode & 0o777 == 0o755


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    place = tmp_path / "it[1]"  # a name, no pattern
    with children() as begin:
        child = begin(_slowly, place, tmp_path / "log", 100.0)
        while not (tmp_path / "log").exists():
            assert child.process.exitcode is None, child.text()
            time.sleep(0.01)
    assert list(tmp_path.glob(".it*.new"))  # it was killed
    assert not (place).exists()
    _slowly(place, tmp_path / "log", 0.0)
    assert not list(tmp_path.glob(".it*.new"))


def test_without_locks_the_first_to_be_done_names_the_folder(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("fcntl.flock", refuse)

    def fill(growing: Path) -> dict[str, str]:
        if not (tmp_path / "it").exists():  # the second one begins while the first is at work, and is faster
            build_atomically(tmp_path / "it", {}, lambda _: {"by": "second"})
        return {"by": "first"}

    assert build_atomically(tmp_path / "it", {}, fill) == {"by": "second"}
    assert not list(tmp_path.glob(".it.*.new"))


WATCHED = """
import sys, threading, time
from pathlib import Path
import torch
from sde_gen.data import ImageFolder
from tests.tiny import image_trainer

def held():  # bytes of this process that are no file's
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])

def watch():
    global peak
    while True:
        peak = max(peak, held())
        time.sleep(0.002)

def train(folder, splits, images):
    image_trainer(folder, splits, images=images, batch_size=16, validate=16, checkpoint_every=10**6).run()

torch.set_num_threads(1)
root, few, out, cache = sys.argv[1:]
train(Path(out) / "warm", ImageFolder(root=few, size=96).load(), 800)  # what is allocated once
peak = begin = held()
threading.Thread(target=watch, daemon=True).start()
splits = ImageFolder(root=root, size=96, cache=cache or None).load()
train(Path(out) / "run", splits, 1600)  # of a random order
print("PEAK", peak - begin)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_a_set_larger_than_the_memory_it_may_take_is_cached_and_trained_on(tmp_path):
    quiet = {
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_ARENA_MAX": "1",
    }  # what is freed is given back at once
    size = 5000 * 3 * 96 * 96
    for name, count in (("images", 5000), ("few", 400)):
        (tmp_path / name).mkdir()
        for index in range(count):
            content = np.random.default_rng(index).bytes(3 * 96 * 96)
            (tmp_path / name / f"{index}.ppm").write_bytes(b"P6 96 96 255\n" + content)

    def peak(cache: str) -> int:
        arguments = [tmp_path / "images", tmp_path / "few", tmp_path / f"runs{bool(cache)}", cache]
        done = subprocess.run(
            [sys.executable, "-c", WATCHED, *map(str, arguments)],
            env={**os.environ, **quiet, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        print(done.stdout)
        return int(done.stdout.split()[-1])

    assert peak(str(tmp_path / "cache")) < size / 4  # it is made there, and read in a random order
    assert peak("") > size  # the same without the cache: so the watch does see
