"""Data that have changed or moved since the training: noticed, refused where labels would shift, found again."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from sde_gen import build, evaluate, train
from sde_gen.data import Identity, ImageFolder, Shards
from sde_gen.engine import checkpoint
from sde_gen.run import open_run
from tests.packed import shards
from tests.system.test_doors import DOORS, enter, mistake

SMALL = [
    *("model.width=8", "model.blocks=1", "model.attention_levels=[]", "engine.batch_size=32"),
    *("engine.images=64", "engine.log_every=32", "engine.preview_every=1000000", "engine.checkpoint_every=64"),
    *("engine.validate=4", "preview.n=2", "preview.sampler.steps=2", "lr_schedule.warmup=32"),
    *("data=image_folder", "data.size=8", "data.channels=1"),
]
FEW = ["n=3", "integrator=runge_kutta", "integrator.steps=2", "metric.bpd.closer=null"]


def images(folder: Path, *classes: str, count: int = 10, seed: int = 0) -> Path:
    """Random grey images in a folder for each class."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds d/cat, d/dog and a run on them, named from there."""
    home = tmp_path_factory.mktemp("home")
    images(home / "d", "cat", "dog")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        enter("train", *SMALL, "data.root=d", "conditioning=class", "run=runs/g")
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, where nothing leads back to the first."""
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    shutil.rmtree(trained / "d")
    yield tmp_path / "home"
    images(trained / "d", "cat", "dog")


def evaluated(*words: str) -> tuple[dict, list[str]]:
    """The report of an evaluation, and what it warned of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        enter("evaluate", "run=runs/g", "out=out", "fresh=true", *FEW, *words)
    return json.loads(Path("out/bpd.json").read_text()), [str(one.message) for one in told]


def about(run: str) -> dict:
    return checkpoint.about(checkpoint.paths(Path(run) / "checkpoints")[-1])


def without(run: str, *keys: str) -> None:
    """Make the run one of an earlier version, which said less."""
    import hashlib

    for path in checkpoint.paths(Path(run) / "checkpoints"):
        told = json.loads((path / "checkpoint.json").read_text())
        for key in keys:
            del told["about"][key]
        text = json.dumps(told).encode()
        (path / "checkpoint.json").write_bytes(text)
        (path / "checkpoint.json.sha256").write_text(hashlib.sha256(text).hexdigest())


# --- what a checkpoint knows


def test_the_checkpoint_knows_its_data(home):
    told = about("runs/g")["data"]
    splits = ImageFolder(root="d", size=8, channels=1).load()
    assert told["class_names"] == ["cat", "dog"]
    assert told["train"]["samples"] + told["test"]["samples"] == 20
    assert told["train"]["fingerprint"] == splits.train.fingerprint()
    assert Identity.read(told) == Identity.of(splits, told["places"])
    assert Path(told["places"]["root"]).is_absolute()


def test_a_cache_and_memory_have_one_fingerprint(tmp_path):
    source = {"root": str(images(tmp_path / "d", "cat", "dog")), "size": 8, "channels": 1}
    memory, cached = (ImageFolder(**source, cache=cache).load() for cache in (None, str(tmp_path / "cache")))
    assert not Identity.of(memory).differences(Identity.of(cached))
    assert cached.test.class_names == ("cat", "dog")


def test_shards_are_known_by_what_their_headers_say(tmp_path):
    for name in "ab":
        shards(tmp_path / name)
    first, again = (Identity.of(Shards(train=f"{tmp_path / name}/train-*.tar", size=8).load()) for name in "ab")
    assert not first.differences(again)
    shards(tmp_path / "b", count=4)
    more = Identity.of(Shards(train=f"{tmp_path / 'b'}/train-*.tar", size=8).load())
    assert "samples" in str(first.differences(more))


@pytest.mark.parametrize(
    "bad",
    [7, [], {}, {"class_names": 3}, {"class_names": [], "train": {}, "test": {}, "places": {}}],
)
def test_a_description_of_data_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="description of the data"):
        Identity.read(bad)


# --- evaluation


def test_data_of_the_training_are_said_to_be(home, capfd):
    found, told = evaluated()
    assert found["data_of_the_training"] is True
    assert not [one for one in told if "not those" in one]
    assert {label: one["name"] for label, one in found["classes"].items()}.items() <= {
        "0": "cat",
        "1": "dog",
    }.items()
    assert "as it was in training" in capfd.readouterr().out


@pytest.mark.parametrize("more", [["ant"], ["ant", "bee"], ["zebra"]])
def test_other_classes_are_refused(home, capfd, more):
    images(home / "d", *more)
    said = mistake(capfd, "evaluate", "run=runs/g", *FEW)
    assert f"3 classes (ant, cat, dog)" in said or "zebra" in said or "bee" in said
    assert "2 classes (cat, dog)" in said


def test_a_class_of_another_name_in_its_place_is_refused(home, capfd):
    (home / "d" / "cat").rename(home / "d" / "ant")
    assert "(ant, dog)" in mistake(capfd, "evaluate", "run=runs/g", *FEW)


def test_more_images_are_said(home):
    images(home / "d", "cat", count=30, seed=0)
    found, told = evaluated("split=train")
    assert found["data_of_the_training"] is False
    assert any("not those that runs/g was trained on" in one and "samples" in one for one in told)


def test_one_changed_pixel_is_said(home):
    splits = ImageFolder(root="d", size=8, channels=1).load()
    for path in sorted((home / "d").rglob("*.png")):
        image = np.asarray(Image.open(path)).copy()
        image[0, 0] ^= 1
        Image.fromarray(image).save(path)
    _, told = evaluated()
    assert any(splits.test.fingerprint() in one for one in told)


def test_a_run_of_an_earlier_version_still_opens(home, capfd):
    without("runs/g", "data")
    found, _ = evaluated()
    assert found["data_of_the_training"] is None
    enter("sample", "run=runs/g", "n=2", "steps=2", "label=[1,0]", "out=s")
    assert "classes are 0 to 1" in mistake(capfd, "sample", "run=runs/g", "label=dog")
    images(home / "d", "ant")
    assert "3 classes (ant, cat, dog)" in mistake(capfd, "evaluate", "run=runs/g", *FEW)


# --- moved data


def test_data_may_be_given_from_elsewhere(home, capfd):
    before, _ = evaluated()
    (home / "d").rename(home / "d2")
    assert "data.root" in mistake(capfd, "evaluate", "run=runs/g", *FEW)
    for word in ("data.root=d2", "++data.root=d2", f"data.root={home / 'd2'}"):
        found, told = evaluated(word)
        assert found["data_of_the_training"] is True
        assert found["per_image"] == before["per_image"]
        assert not [one for one in told if "data" in one]
    images(home / "d3", "cat", "dog", seed=1)
    found, told = evaluated("data.root=d3")
    assert found["data_of_the_training"] is False
    assert any("not those" in one for one in told)


@pytest.mark.parametrize("word", ["+data.size=9", "+data.nosuch=1", "data.path=d2", "+data.test_fraction=0.5"])
def test_what_decides_over_the_data_stays(home, capfd, word):
    said = mistake(capfd, "evaluate", "run=runs/g", *FEW, word)
    assert word.lstrip("+").partition("=")[0] in said
    assert "data.root" in said


def test_data_are_found_from_another_working_directory(home, monkeypatch, tmp_path):
    home.rename(tmp_path / "again")  # the place of the training must be this one
    home = tmp_path / "again"
    monkeypatch.chdir(home)
    enter("train", *SMALL, "data.root=d", "conditioning=class", "run=runs/h")
    elsewhere = tmp_path / "elsewhere"
    images(elsewhere / "d", "cat", "dog", seed=5)  # a folder of the same name
    monkeypatch.chdir(elsewhere)
    shutil.copytree(home / "runs" / "h", "runs/g")
    found, told = evaluated()
    assert found["data_of_the_training"] is True
    assert any(f"data.root={home / 'd'}" in one for one in told)
    found, told = evaluated("data.root=d")
    assert found["data_of_the_training"] is False


def test_a_cache_is_found_from_another_working_directory(home, monkeypatch, tmp_path):
    enter("train", *SMALL, "data.root=d", "data.cache=c", "run=runs/c")
    run = (home / "runs" / "c").resolve()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found, _ = evaluated(f"run={run}")
    assert found["data_of_the_training"] is True
    assert not Path("c").exists()
    shutil.rmtree(home / "d")  # it is not read
    assert evaluated(f"run={run}")[0]["per_image"] == found["per_image"]


def test_shards_and_their_index_move(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    shards(Path("s"))
    words = [word for word in SMALL if not word.startswith("data")]
    enter(
        "train",
        *words,
        *("data=shards", "data.train=s/train-*.tar", "data.index=i", "data.size=8", "run=runs/g"),
        *("conditioning=class", "data.channels=1"),
    )
    before, _ = evaluated()
    Path("s").rename("t")
    found, _ = evaluated("data.train=t/train-{000..002}.tar")
    assert found["per_image"] == before["per_image"]
    assert found["data_of_the_training"] is True
    Path("t").rename("s")
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "two")
    found, told = evaluated("run=../one/runs/g")
    assert found["per_image"] == before["per_image"]
    assert any("data.train=" in one for one in told)


def test_a_held_out_image_of_moved_data(home, capfd):
    task = ["run=runs/g", "task=superres", "factor=2", "n=1", "steps=2", "label=dog"]
    enter("sample", *task, "image=0", "out=a")
    (home / "d").rename(home / "d2")
    assert "data.root" in mistake(capfd, "sample", *task, "image=0")
    enter("sample", *task, "image=0", "data.root=d2", "out=b")
    given = [np.load(Path(out) / "samples.npz")["given"] for out in "ab"]
    np.testing.assert_array_equal(*given)
    assert "no effect" in mistake(capfd, "sample", "run=runs/g", "data.root=d2")
    assert "no effect" in mistake(capfd, "sample", *task, "image=d2/cat/0.png", "data.root=d2")


# --- names of classes


def test_classes_by_name(home, capfd):
    drawn = {}
    for word in ("label=1", "label=dog", "label=[dog,0]", "label=[1,cat]"):
        enter("sample", "run=runs/g", "n=3", "steps=2", word, f"out={word}")
        drawn[word] = np.load(Path(word) / "samples.npz")["model_space"]
        assert "1 dog" in capfd.readouterr().out
    np.testing.assert_array_equal(drawn["label=1"], drawn["label=dog"])
    np.testing.assert_array_equal(drawn["label=[dog,0]"], drawn["label=[1,cat]"])
    for bad in ("cow", "[cat,cow]", "2", "1.5", "true"):
        assert "0 to 1 (cat, dog)" in mistake(capfd, "sample", "run=runs/g", f"label={bad}")


def test_a_number_that_is_also_another_class_s_name(home, capfd):
    images(home / "numbers", "1", "10", "2")
    enter("train", *SMALL, "data.root=numbers", "conditioning=class", "run=runs/n")
    capfd.readouterr()
    with pytest.warns(UserWarning, match="not the one of this name, which is number 2"):
        enter("sample", "run=runs/n", "n=1", "steps=2", "label=2", "out=a")  # '2' is number 2
        enter("sample", "run=runs/n", "n=1", "steps=2", "label=1", "out=a")
    capfd.readouterr()
    enter("sample", "run=runs/n", "n=1", "steps=2", "label='10'", "out=a")
    assert "1 10" in capfd.readouterr().out


# --- training that goes on


def test_going_on_with_more_images_is_said_and_with_other_classes_refused(home, capfd):
    words = [*SMALL, "data.root=d", "conditioning=class", "run=runs/g", "engine.images=96"]
    images(home / "d", "cat", count=30)
    with pytest.warns(UserWarning, match=r"data.train.samples: .*data.train.fingerprint"):
        enter("train", *words)
    images(home / "d", "ant")
    capfd.readouterr()
    said = mistake(capfd, "train", *words, "engine.images=128")
    assert "(ant, cat, dog)" in said
    assert "would mean other classes" in said


def test_a_training_of_an_earlier_version_goes_on_without_a_word_of_data(home):
    without("runs/g", "data")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        enter("train", *SMALL, "data.root=d", "conditioning=class", "run=runs/g", "engine.images=96")
    assert not [one for one in told if "data" in str(one.message)]
    assert about("runs/g")["data"]["class_names"] == ["cat", "dog"]


def test_a_finished_training_says_what_it_does_not_do(home, capfd):
    words = [*SMALL, "data.root=d", "conditioning=class", "run=runs/g"]
    capfd.readouterr()
    enter("train", *words, "device=cpu", "engine.log_every=16")
    assert "was finished before, and nothing is trained" in " ".join(capfd.readouterr().out.split())
    said = mistake(capfd, "train", *words, "optimizer.lr=0.1")
    assert "finished" in said
    assert "optimizer.lr: " in said
    assert "-> 0.1" in said
    assert "run=..." in said
    assert "engine.images" in said
    images(home / "d2", "cat", "dog", seed=4)
    assert "other samples" in mistake(capfd, "train", *words, "data.root=d2")
    (home / "d").rename(home / "d3")
    enter("train", *words, "data.root=d3")  # the same data


def test_every_root_has_a_default_folder_of_its_own(home, capfd):
    for name in ("x/cats", "dogs"):
        images(home / name, "a", "b")
        enter("train", *SMALL, f"data.root={name}")
    assert sorted(path.name for path in Path("runs").glob("image*")) == [
        "image_folder-vp-ncsnpp-cats",
        "image_folder-vp-ncsnpp-dogs",
    ]
    images(home / "y" / "cats", "a", "b", seed=1)
    said = mistake(capfd, "train", *SMALL, "data.root=y/cats", "engine.images=96")
    assert "other data" in said
    assert "x/cats" in said
    assert "run=..." in said
