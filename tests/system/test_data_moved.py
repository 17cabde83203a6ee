"""Data changed or moved since training: detected, rejected if classes differ, located again."""

import dataclasses
import hashlib
import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from sde_gen.checkpoint import store as checkpoint
from sde_gen.cli.data_spec import data_identity
from sde_gen.cli.guidance_setup import choose_conditions
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.data import DataIdentity, ImageFolder, Shards, Splits
from tests.helpers.commands import enter, mistake
from tests.helpers.tar_images import shards

SMALL = [
    *("model.width=8", "model.blocks=1", "model.attention_levels=[]", "engine.batch_size=32"),
    *(
        "engine.images=64",
        "engine.log_every=32",
        "engine.preview_every=1000000",
        "engine.checkpoint_every=64",
    ),
    *("engine.validate=4", "preview.n=2", "preview.sampler.steps=2", "lr_schedule.warmup=32", "data.size=8"),
]
GRAY = ["data=image_folder", "data.channels=1"]
FEW = ["n=3", "integrator=runge_kutta", "integrator.steps=2", "metric.bpd.diagnose_every=null"]


def images(folder: Path, *classes: str, count: int = 10, seed: int = 0) -> Path:
    """Random gray images in a folder for each class."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a run on d/cat and d/dog, named from there; d itself is kept aside."""
    home = tmp_path_factory.mktemp("home")
    images(home / "d", "cat", "dog")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        enter("train", *SMALL, *GRAY, "data.root=d", "conditioning=class", "run=runs/g")
    (home / "d").rename(home / "aside")
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as working directory, without paths to the original."""
    home = tmp_path / "home"
    shutil.copytree(trained / "runs", home / "runs")
    shutil.copytree(trained / "aside", home / "d")
    monkeypatch.chdir(home)
    return home


def opened_run(run: str = "runs/g") -> Run:
    words = {"run": run, "checkpoint": None, "trust": [], "device": "cpu"}
    return load_run(OmegaConf.create(words))


def opened(run: Run | None = None, **moved: Any) -> tuple[Splits, list[str]]:
    """The data of a run, and the warnings."""
    run = run or opened_run()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return open_data(run, moved), [str(one.message) for one in caught]


def about(run: str) -> Any:
    return checkpoint.about(checkpoint.paths(Path(run) / "checkpoints")[-1])


def without(run: str, key: str) -> None:
    """Turn the run into one of an earlier version, with less metadata."""
    for path in checkpoint.paths(Path(run) / "checkpoints"):
        header = json.loads((path / "checkpoint.json").read_text())
        del header["about"][key]
        text = json.dumps(header).encode()
        (path / "checkpoint.json").write_bytes(text)
        (path / "checkpoint.json.sha256").write_text(hashlib.sha256(text).hexdigest())


# --- what a checkpoint knows


def test_the_checkpoint_stores_the_identity_of_its_data(home: Path) -> None:
    identity = about("runs/g")["data"]
    splits = ImageFolder(root="d", size=8, channels=1).load()
    assert identity["class_names"] == ["cat", "dog"]
    assert identity["train"]["samples"] + identity["test"]["samples"] == 20
    assert identity["train"]["fingerprint"] == splits.train.fingerprint()
    assert DataIdentity.read(identity) == DataIdentity.of(splits, identity["places"])
    assert Path(identity["places"]["root"]).is_absolute()


def test_a_cache_and_memory_have_one_fingerprint(tmp_path: Path) -> None:
    source: dict[str, Any] = {"root": str(images(tmp_path / "d", "cat", "dog")), "size": 8, "channels": 1}
    memory, cached = (ImageFolder(**source, cache=cache).load() for cache in (None, str(tmp_path / "cache")))
    assert not DataIdentity.of(memory).differences(DataIdentity.of(cached))
    assert cached.test.class_names == ("cat", "dog")


def test_shards_are_identified_by_their_headers(tmp_path: Path) -> None:
    def identity(name: str) -> DataIdentity:
        return DataIdentity.of(Shards(train=f"{tmp_path / name}/train-*.tar", size=8).load())

    for name in "ab":
        shards(tmp_path / name)
    first = identity("a")
    assert not first.differences(identity("b"))
    shards(tmp_path / "b", count=4)
    assert "samples" in str(first.differences(identity("b")))


@pytest.mark.parametrize(
    "bad", [7, [], {}, {"class_names": 3}, {"class_names": [], "train": {}, "test": {}, "places": {}}]
)
def test_an_invalid_data_identity_is_rejected(bad: object) -> None:
    with pytest.raises(ValueError, match="description of the data"):
        DataIdentity.read(bad)


# --- data that have changed


def test_unchanged_data_open_without_warning(home: Path) -> None:
    splits, caught = opened()
    assert splits.train.class_names == ("cat", "dog")
    assert not caught


@pytest.mark.parametrize("change", ["ant", "zebra", "renamed", "unlabelled"])
def test_other_classes_are_rejected(home: Path, change: str) -> None:
    if change == "renamed":
        (home / "d" / "cat").rename(home / "d" / "ant")
        now = r"2 classes \(ant, dog\)"
    elif change == "unlabelled":
        shutil.copy(home / "d" / "cat" / "0.png", home / "d")
        now = "0 classes|stray|beside"
    else:
        images(home / "d", change)
        now = "3 classes " + (r"\(ant, cat, dog\)" if change == "ant" else r"\(cat, dog, zebra\)")
    with pytest.raises(ValueError, match=now):
        opened()


def test_changed_images_raise_a_warning(home: Path) -> None:
    before = ImageFolder(root="d", size=8, channels=1).load()
    images(home / "d", "cat", count=30)
    _, caught = opened()
    assert len(caught) == 1
    assert "not those that runs/g was trained on" in caught[0]
    assert f"train split {len(before.train)} -> " in caught[0]
    shutil.rmtree(home / "d")
    images(home / "d", "cat", "dog", seed=1)
    _, caught = opened()
    assert f"test split has other samples ({before.test.fingerprint()} -> " in caught[0]


def test_a_run_of_an_earlier_version_still_opens(home: Path) -> None:
    without("runs/g", "data")
    splits, caught = opened()
    assert len(splits.train) + len(splits.test) == 20
    assert not caught
    images(home / "d", "ant")
    with pytest.raises(ValueError, match=r"3 classes \(ant, cat, dog\), but .* with 2 classes,"):
        opened()


def test_an_evaluation_names_classes_and_warns_of_changed_data(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def evaluated(*words: str) -> dict[str, Any]:
        enter("evaluate", "run=runs/g", "out=out", "fresh=true", *FEW, *words)
        found: dict[str, Any] = json.loads(Path("out/bpd.json").read_text())
        return found

    (home / "d").rename(home / "d2")
    found = evaluated("++data.root=d2")
    assert found["data_of_the_training"] is True
    names = {label: one["name"] for label, one in found["classes"].items()}
    assert names
    assert names.items() <= {"0": "cat", "1": "dog"}.items()
    out = capfd.readouterr().out
    assert "as it was in training" in out
    assert f"class {next(iter(names))} ({next(iter(names.values()))})" in out
    said = mistake(capfd, "evaluate", "run=runs/g", *FEW, "+data.size=9")
    assert "data.size" in said
    assert "did you mean data." in said
    assert "data.root" in mistake(capfd, "evaluate", "run=runs/g", *FEW)
    images(home / "d3", "cat", "dog", seed=1)
    with pytest.warns(UserWarning, match="not those that runs/g was trained on"):
        assert evaluated("data.root=d3")["data_of_the_training"] is False


# --- data that have moved


@pytest.mark.parametrize("key", ["size", "nosuch", "path", "test_fraction"])
def test_settings_that_select_the_data_cannot_be_changed(home: Path, key: str) -> None:
    with pytest.raises(ValueError, match=rf"data.{key}: ImageFolder data .* data.cache, data.root"):
        opened(**{key: 9})


def test_a_path_may_look_like_a_number_and_must_exist(home: Path) -> None:
    (home / "d").rename(home / "2026")
    assert opened(root=2026)[0].train.class_names == ("cat", "dog")
    with pytest.raises(ValueError, match=r"data\.root=null"):
        opened(root=None)


def test_data_are_found_from_another_working_directory(
    trained: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(home / "d")
    (trained / "aside").rename(trained / "d")
    try:
        splits, caught = opened()
        assert caught == [f"the data are read from where they lay in training: data.root={trained / 'd'}"]
        images(home / "d", "cat", "dog", seed=5)  # a folder of the same name is not that of the training
        again, caught = opened()
        assert again.train.fingerprint() == splits.train.fingerprint()
        assert len(caught) == 1
        _, caught = opened(root="d")
        assert "not those" in caught[0]
    finally:
        (trained / "d").rename(trained / "aside")


def test_caches_shards_and_their_index_are_found_and_may_move(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = opened_run()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    shards(Path("s"))

    def trained_on(**settings: Any) -> Run:
        """A run on these data, as far as they are opened again."""
        data = {"train": "s/train-*.tar", "test": None, "size": 8, "index": None, "cache": None, **settings}
        config = OmegaConf.create({"data": {"_target_": "sde_gen.data.Shards", **data}})
        splits = Shards(**data).load()
        data_spec = dataclasses.replace(known.data_spec, shape=splits.train.shape, classes=3)
        return dataclasses.replace(
            known, config=config, data_spec=data_spec, data=data_identity(config, splits)
        )

    indexed, cached = trained_on(index="i"), trained_on(cache="c")
    values = Shards(train="s/train-*.tar", size=8).load().train.values[:]

    def expect(run: Run, *expected: str, **moved: Any) -> None:
        splits, warned = opened(run, **moved)
        assert torch.equal(splits.train.values[:], values)
        assert warned == [f"the data are read from where they lay in training: {one}" for one in expected]

    expect(indexed)
    expect(cached)
    monkeypatch.chdir(tmp_path / "two")
    expect(indexed, f"data.train={tmp_path / 'one' / 's' / 'train-*.tar'}")
    expect(cached, f"data.cache={tmp_path / 'one' / 'c'}")
    assert not list(Path().iterdir())  # no index or cache is made anew
    shutil.move(tmp_path / "one" / "s", "t")
    expect(indexed, train="t/train-{000..002}.tar")
    expect(cached, f"data.cache={tmp_path / 'one' / 'c'}")
    shutil.move(tmp_path / "one" / "c", "d")
    expect(cached, cache="d")


def test_a_held_out_image_of_moved_data(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task = ["run=runs/g", "task=superres", "factor=2", "n=1", "steps=2", "label=dog", "out=a"]
    (home / "d").rename(home / "d2")
    enter("sample", *task, "image=0", "data.root=d2")
    assert "1 (dog)" in capfd.readouterr().out
    assert "no effect" in mistake(capfd, "sample", *task, "image=d2/cat/0.png", "data.root=d2")


# --- names of classes


def labels(run: Run, label: Any) -> list[int]:
    """The class of each of three samples."""
    found = choose_conditions(OmegaConf.create({"n": 3, "label": label, "guidance": None, "task": None}), run)
    return found["label"].tolist()


def test_classes_by_name(home: Path) -> None:
    run = opened_run()
    assert labels(run, "dog") == [1, 1, 1]
    assert labels(run, ["dog", 0]) == labels(run, [1, "cat"]) == [1, 0, 1]
    for bad in ("cow", ["cat", "cow"], 2, -1, True, 1.5, [None], []):
        with pytest.raises(ValueError, match=r"label=.*: the classes are 0 to 1 \(cat, dog\)"):
            labels(run, bad)


def test_a_number_that_is_also_another_class_s_name(home: Path) -> None:
    run = dataclasses.replace(opened_run(), data=DataIdentity(class_names=("1", "10")))
    with pytest.warns(UserWarning, match="not the class of this name, which is number 0"):
        assert labels(run, 1) == [1, 1, 1]
    assert labels(run, ["1", "10", 0]) == [0, 1, 0]


# --- training that goes on


def test_resuming_with_more_images_warns_and_with_other_classes_fails(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, *GRAY, "data.root=d", "conditioning=class", "run=runs/g"]
    images(home / "d", "cat", count=30)
    with pytest.warns(UserWarning, match=r"data.train.samples: .*data.train.fingerprint"):
        enter("train", *words, "engine.images=96")
    images(home / "d", "ant")
    said = mistake(capfd, "train", *words, "engine.images=128")
    assert "(ant, cat, dog)" in said
    assert "would mean other classes" in said


def test_a_training_of_an_earlier_version_resumes_without_data_warnings(home: Path) -> None:
    without("runs/g", "data")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        enter("train", *SMALL, *GRAY, "data.root=d", "conditioning=class", "run=runs/g", "engine.images=96")
    assert not [one for one in caught if "data" in str(one.message)]
    assert about("runs/g")["data"]["class_names"] == ["cat", "dog"]


def test_a_finished_training_lists_ignored_settings(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, *GRAY, "conditioning=class", "run=runs/g"]
    (home / "d").rename(home / "d3")
    capfd.readouterr()
    enter("train", *words, "data.root=d3")  # the same data, elsewhere
    unchanged = " ".join(capfd.readouterr().out.split())
    assert "was finished before, and nothing is trained" in unchanged
    assert "change nothing" not in unchanged
    idle = [
        "device=cpu",
        "threads=1",
        "engine.log_every=16",
        "compile=graphs",
        "distributed=fsdp",
        "preview.n=3",
    ]
    enter("train", *words, "data.root=d3", *idle)
    changed = " ".join(capfd.readouterr().out.split())
    assert "was finished before, and nothing is trained" in changed
    ignored = changed.partition("change nothing")[0]
    for word in idle:
        assert re.search(rf"\b{re.escape(word.partition('=')[0])}(\.\w+)*: ", ignored), word
    assert "threads=1" not in changed
    images(home / "d2", "cat", "dog", seed=4)
    said = mistake(capfd, "train", *words, "data.root=d2", "optimizer.lr=0.1")
    expected = "finished", "optimizer.lr: ", "-> 0.1", "run=...", "engine.images", "other samples"
    for word in (*expected, "data.root: d -> d2"):
        assert word in said


def test_every_root_has_a_default_folder_of_its_own(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("x/cats", "dogs"):
        images(home / name, "a", "b")
        enter("train", *SMALL, *GRAY, f"data.root={name}")
    assert sorted(path.name for path in Path("runs").glob("image*")) == [
        "image_folder-vp-ncsnpp-cats",
        "image_folder-vp-ncsnpp-dogs",
    ]
    images(home / "y" / "cats", "a", "b", seed=1)
    said = mistake(capfd, "train", *SMALL, *GRAY, "data.root=y/cats", "engine.images=96")
    for word in ("other data", "x/cats", "y/cats", "run=..."):
        assert word in said
