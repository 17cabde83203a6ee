"""Data sets: shapes, ranges, determinism, disjoint splits and shards, and every way for files to be wrong."""

import gzip
import hashlib
import io
import re
import struct
import sys
import warnings
import zlib
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, features

from sde_gen.data import (
    Batches,
    Dataset,
    Digits,
    Emoji,
    FashionMNIST,
    HorizontalFlip,
    HuggingFace,
    ImageFolder,
    Shards,
)
from sde_gen.data import fashion_mnist as module
from sde_gen.data.bit_depth import is_deep
from sde_gen.data.conditioning import Label
from sde_gen.data.idx import read_idx
from sde_gen.data.image import decode_image
from sde_gen.data.image_file import load_image
from tests.helpers.catalogue import make, names
from tests.helpers.tar_images import pack

OF_FILES = (
    *("fashion_mnist", "emoji", "image_folder", "image_buckets", "hugging_face", "cifar10", "shards"),
    *("arrays", "series", "table", "pairs", "simulation_table", "latents", "checkpoints"),
)
ON_DISK = [name for name in names("data") if name not in OF_FILES]


@pytest.mark.parametrize("name", ON_DISK)
def test_source(name):
    first, second = make("data", name).load(), make("data", name).load()
    for part, other in ((first.train, second.train), (first.test, second.test)):
        assert torch.equal(part.values, other.values)
        assert len(part) == len(part.values)
        assert part.shape == tuple(part.values.shape[1:])
        if part.levels is None:
            assert part.values.dtype == torch.float32
            assert 0.3 < float(part.values.std()) < 3
        else:
            assert 0 <= int(part.values.min()) <= int(part.values.max()) == part.levels - 1
            assert set(() if part.labels is None else part.labels.tolist()) == set(range(part.classes))
        assert part.conditions.keys() == other.conditions.keys()
        assert all(torch.equal(rows, other.conditions[key]) for key, rows in part.conditions.items())
    assert first.train.shape == first.test.shape
    assert first.train.levels == first.test.levels
    seen = set(map(tuple, first.train.values.flatten(1).tolist()))
    assert seen.isdisjoint(map(tuple, first.test.values.flatten(1).tolist()))


@pytest.mark.parametrize("name", [name for name in ON_DISK if "digit" not in name])
def test_toy_splits_of_one_size_differ(name):
    splits = make("data", name, count=50, test_count=50).load()
    first, other = (map(tuple, part.values.flatten(1).tolist()) for part in (splits.train, splits.test))
    assert set(first).isdisjoint(other)


def test_toys_have_their_shapes():
    board = make("data", "checkerboard").load().train.values
    assert float(board.abs().max()) <= 2
    assert len({tuple(field) for field in board.floor().int().tolist()}) == 8
    assert not (board.floor().sum(1) % 2).any()  # fields of one color
    ring = make("data", "ring").load().train.values
    assert float((ring.norm(dim=1) - 1.5).abs().max()) < 0.6  # six spreads
    angles = torch.atan2(ring[:, 1], ring[:, 0]) / (torch.pi / 4)
    assert torch.bincount(angles.round().long() % 8).min() > 1000
    roll = make("data", "swiss_roll", spread=0.0).load().train.values
    angle = roll.norm(dim=1) * 10  # a spiral: its radius is its angle, up to a tenth
    torch.testing.assert_close(
        roll, torch.stack([angle.cos(), angle.sin()], 1) * angle[:, None] / 10, atol=1e-4, rtol=0
    )
    moons = make("data", "moons", spread=0.0).load().train.values + torch.tensor([0.5, 0.25])
    upper, lower = moons.norm(dim=1), (moons - torch.tensor([1.0, 0.5])).norm(dim=1)
    assert float(torch.minimum((upper - 1).abs(), (lower - 1).abs()).max()) < 1e-5


def test_digits_are_all_there_and_split():
    splits = Digits().load()
    both = torch.cat([splits.train.values, splits.test.values]).flatten(1)
    assert (len(splits.train), len(splits.test)) == (1497, 300)
    assert splits.train.levels == 17
    from sklearn.datasets import load_digits

    everything = sorted(map(tuple, load_digits().data.astype(int).tolist()))
    assert sorted(map(tuple, both.tolist())) == everything
    assert not torch.equal(Digits(seed=1).load().test.values, splits.test.values)


# --- the order of batches


def test_an_epoch_sees_every_sample_once_and_epochs_differ():
    batches = Batches(size=30, batch_size=12, seed=0)  # batches span epochs
    order = torch.cat([batches.indices(step) for step in range(5)])
    epochs = order.split(30)
    assert all(sorted(epoch.tolist()) == list(range(30)) for epoch in epochs)
    assert not torch.equal(*epochs)
    assert torch.equal(Batches(size=30, batch_size=12, seed=0).indices(4), batches.indices(4))
    assert not torch.equal(Batches(size=30, batch_size=12, seed=1).indices(0), batches.indices(0))


def test_a_batch_larger_than_the_data():
    assert torch.bincount(Batches(size=5, batch_size=15, seed=0).indices(2)).tolist() == [3] * 5


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"size": 0}])
def test_impossible_batches(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Batches(**{"size": 10, "batch_size": 4, "seed": 0, **wrong})


def test_flip_mirrors_about_half_by_the_generator_alone():
    values = torch.arange(2 * 3).reshape(1, 1, 2, 3).repeat(400, 1, 1, 1)
    flip = HorizontalFlip()
    out = flip(values, torch.Generator().manual_seed(0))
    mirrored = (out == values.flip(-1)).flatten(1).all(1)
    assert ((out == values).flatten(1).all(1) ^ mirrored).all()
    assert 140 < int(mirrored.sum()) < 260  # six standard deviations
    assert torch.equal(out, flip(values, torch.Generator().manual_seed(0)))
    assert flip(torch.zeros(5, 2), torch.Generator()).shape == (5, 2)


# --- broken data


def test_data_that_are_no_data():
    ok = {"values": torch.zeros(3, 2), "labels": None, "levels": None, "classes": 0}
    with pytest.raises(ValueError, match="1 of 3 samples hold numbers that are not finite"):
        Dataset(**{**ok, "values": torch.tensor([[0.0, 1.0], [float("nan"), 1.0], [0.0, 0.0]])})
    with pytest.raises(ValueError, match="outside the 17 levels"):
        Dataset(**{**ok, "values": torch.full((3, 2), 17), "levels": 17})
    with pytest.raises(ValueError, match="at least one sample"):
        Dataset(**{**ok, "values": torch.zeros(0, 2)})
    with pytest.raises(ValueError, match="2 labels for 3 samples"):
        Dataset(**{**ok, "labels": torch.zeros(2)})
    with pytest.raises(ValueError, match="outside the 3 classes"):
        Dataset(**{**ok, "labels": torch.tensor([0, 3, 1]), "classes": 3})
    with pytest.raises(ValueError, match="outside the 3 classes"):
        Dataset(**{**ok, "labels": torch.tensor([0, -1, 1]), "classes": 3})
    with pytest.raises(ValueError, match="integer dtype"):
        Dataset(**{**ok, "levels": 4})


# --- IDX files


def idx(array: np.ndarray) -> bytes:
    return (
        b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    )


def scrambled(packed: bytes) -> bytes:
    """A gzip file with an intact header and nonsense behind it."""
    return packed[:12] + b"\xff" * 30 + packed[42:]


def family(folder: Path, packed: bool = True) -> dict[str, np.ndarray]:
    """Write the four files of a small MNIST-like set."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, count in (("train", 7), ("t10k", 4)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 5, 5)).astype(np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = (np.arange(count) % 3).astype(np.uint8)
    for name, array in arrays.items():
        content = idx(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(
            gzip.compress(content) if packed else content
        )
    return arrays


@pytest.mark.parametrize("packed", [True, False])
def test_idx_family(tmp_path, packed):
    arrays = family(tmp_path, packed)
    splits = FashionMNIST(root=str(tmp_path)).load()
    assert splits.train.shape == (1, 5, 5)
    np.testing.assert_array_equal(splits.test.values[:, 0].numpy(), arrays["t10k-images-idx3-ubyte"])
    assert splits.train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert (splits.train.levels, splits.train.classes) == (256, 3)
    name = next(path for path in tmp_path.iterdir() if path.name.startswith("train-labels"))
    content = idx(np.zeros(7, np.uint8))  # a class that only the test split has
    name.write_bytes(gzip.compress(content) if packed else content)
    splits = FashionMNIST(root=str(tmp_path)).load()
    assert splits.train.classes == splits.test.classes == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (idx(np.zeros((3, 4), np.uint8))[:-1], "holds 11 bytes"),
        (b"PNG....", "not an IDX file"),
        (b"\x00\x00\x08\x03\x00", "is truncated"),
        (gzip.compress(idx(np.zeros((3, 4), np.uint8)), mtime=0)[:-9], "damaged"),
        (scrambled(gzip.compress(idx(np.arange(99, dtype=np.uint8)), mtime=0)), "damaged"),
        (b"", "not an IDX file"),
    ],
)
def test_damaged_idx(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_idx(tmp_path / "file")


def test_download_is_explicit_checked_and_leaves_nothing_wrong(tmp_path, monkeypatch):
    arrays = family(tmp_path / "server")
    sums = {f"{name}.gz": hashlib.sha256(idx(array)).hexdigest() for name, array in arrays.items()}
    monkeypatch.setattr(module, "CONTENT", sums)
    there = {"root": str(tmp_path / "here"), "url": (tmp_path / "server").as_uri()}
    with pytest.raises(ValueError, match="download=true"):
        FashionMNIST(**there).load()
    assert len(FashionMNIST(**there, download=True).load().train) == 7
    monkeypatch.setattr(module, "CONTENT", dict.fromkeys(sums, "0" * 64))
    other = {**there, "root": str(tmp_path / "other")}
    with pytest.raises(ValueError, match="SHA-256"):
        FashionMNIST(**other, download=True).load()
    with pytest.raises(ValueError, match="manually"):
        FashionMNIST(**{**other, "url": (tmp_path / "nowhere").as_uri()}, download=True).load()
    for file in (tmp_path / "server").iterdir():
        file.write_bytes(scrambled(file.read_bytes()))
    with pytest.raises(ValueError, match="cannot fetch"):
        FashionMNIST(**other, download=True).load()
    assert not list((tmp_path / "other").iterdir())
    with pytest.raises(ValueError, match=r"data\.root"):
        FashionMNIST(download=True)


@pytest.mark.skipif(
    not module.DEBIAN.exists(), reason="Debian's package dataset-fashion-mnist is not installed"
)
def test_the_real_fashion_mnist():
    splits = FashionMNIST().load()
    assert (len(splits.train), len(splits.test), splits.train.shape) == (60_000, 10_000, (1, 28, 28))
    assert torch.bincount(splits.test.labels).tolist() == [1000] * 10


# --- folders of images


def chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def deep_color(channels: int = 3) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write."""
    kind = {2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", 9, 9, 16, kind, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(9 * 2 * channels)) * 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def pictures(folder: Path, count: int = 12) -> None:
    rng = np.random.default_rng(0)
    for index in range(count):
        place = folder / ("cats" if index % 3 else "dogs")
        place.mkdir(parents=True, exist_ok=True)
        side = (20, 31) if index % 2 else (40, 16)
        Image.fromarray(rng.integers(0, 256, (*side, 3)).astype(np.uint8)).save(place / f"{index:02d}.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_image_folder(tmp_path, channels):
    pictures(tmp_path)
    splits = ImageFolder(root=str(tmp_path), size=16, channels=channels, test_fraction=0.3).load()
    assert splits.train.shape == (channels, 16, 16)
    assert len(splits.train) + len(splits.test) == 12
    assert splits.train.classes == 2
    assert torch.bincount(torch.cat([splits.train.labels, splits.test.labels])).tolist() == [8, 4]


def test_images_stay_upright(tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[1, 6] = (10, 20, 30)
    for name in ("a", "b"):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    values = ImageFolder(root=str(tmp_path), size=8).load().train.values
    np.testing.assert_array_equal(values[0].permute(1, 2, 0).numpy(), picture)


def test_image_folder_keeps_an_image_in_its_split_when_more_come(tmp_path):
    pictures(tmp_path, 12)
    before = ImageFolder(root=str(tmp_path), size=8, test_fraction=0.4).load()
    pictures(tmp_path, 20)
    after = ImageFolder(root=str(tmp_path), size=8, test_fraction=0.4).load()
    assert len(after.test) == 5  # the same in every process
    kept = {tuple(image.flatten().tolist()) for image in after.test.values}
    assert {tuple(image.flatten().tolist()) for image in before.test.values} <= kept


@pytest.mark.parametrize("fraction", [1e-9, 0.999])
def test_both_splits_of_a_small_folder_have_an_image(tmp_path, fraction):
    pictures(tmp_path)
    splits = ImageFolder(root=str(tmp_path), size=8, test_fraction=fraction).load()
    assert (len(splits.train), len(splits.test)) == (11, 1)


def test_corrupt_images_are_named_and_left_out_only_when_asked(tmp_path):
    pictures(tmp_path)
    (tmp_path / "cats" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "cats" / "short.png").write_bytes((tmp_path / "cats" / "01.png").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"2 images cannot be read.*broken.png.*short.png"):
        ImageFolder(root=str(tmp_path)).load()
    with pytest.warns(UserWarning, match=r"broken\.png"):
        splits = ImageFolder(root=str(tmp_path), skip_corrupt=True).load()
    assert len(splits.train) + len(splits.test) == 12


def test_images_of_many_levels_are_not_cut_off(tmp_path):
    pictures(tmp_path)
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tmp_path / "cats" / "deep.png")
    (tmp_path / "cats" / "odd.ppm").write_bytes(b"P6 two 2 255\n" + bytes(12))
    with pytest.raises(ValueError, match=r"2 images cannot be read.*deep\.png.*8 bits.*odd\.ppm"):
        ImageFolder(root=str(tmp_path)).load()


def painted(place: Path, level: int, side: int = 8) -> None:
    """A gray image of one level, which identifies it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (side, side), level).save(place)


def grouped(root: Path, **more) -> dict[int, tuple[bool, int | None]]:
    """Split and label of every image of a folder, by its level."""
    splits = ImageFolder(root=str(root), size=8, channels=1, **more).load()
    found = {}
    for part in (splits.train, splits.test):
        labels = [None] * len(part) if part.labels is None else part.labels.tolist()
        levels = part.values[:, 0, 0, 0].tolist()
        assert not found.keys() & set(levels)
        found |= {level: (part is splits.test, label) for level, label in zip(levels, labels, strict=True)}
    assert splits.train.classes == splits.test.classes == len({label for _, label in found.values()} - {None})
    return found


def labels_of(root: Path, **more) -> dict[int, int | None]:
    return {level: label for level, (_, label) in grouped(root, **more).items()}


def test_links_of_classes_are_followed_and_lead_nowhere_twice(tmp_path):
    for level, name in enumerate(("cats/a.png", "cats/deep/b.png", "dogs/a.png")):
        painted(tmp_path / "elsewhere" / name, level)
    root = tmp_path / "root"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "elsewhere" / "cats")
    (root / "dog").symlink_to("../elsewhere/dogs")
    expected = {0: 0, 1: 0, 2: 1}
    assert labels_of(root) == expected
    cats = tmp_path / "elsewhere" / "cats"
    (cats / "self").symlink_to(cats)
    (cats / "deep" / "up").symlink_to("..")
    (cats / "again").symlink_to(cats / "deep")
    (root / "all").symlink_to(root)
    (tmp_path / "elsewhere" / "dogs" / "above").symlink_to(tmp_path)
    painted(root / "link" / "c.png", 3)
    (root / "link" / "round").symlink_to(root)
    (tmp_path / "elsewhere" / "dogs" / "above").unlink()
    assert labels_of(root) == {**expected, 3: 2}
    (tmp_path / "way").symlink_to(root)
    assert labels_of(tmp_path / "way") == {**expected, 3: 2}
    (root / "link" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(ValueError, match=r"gone\.png \(not a file, or a broken link\)"):
        labels_of(root)


def test_hidden_names_are_left_out_at_every_depth(tmp_path):
    for level, name in enumerate(("cat/a.png", "cat/in/b.png", "dog/a.png")):
        painted(tmp_path / name, level)
    for name in (
        ".hidden.png",
        ".ipynb_checkpoints/a.png",
        "cat/.ipynb_checkpoints/a.png",
        "cat/in/.old/x/a.png",
    ):
        painted(tmp_path / name, 99)
    for name in ("._a.png", "cat/._a.png", "dog/._a.png"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7 of a Macintosh")
    assert labels_of(tmp_path) == {0: 0, 1: 0, 2: 1}
    painted(tmp_path / ".cache" / "set" / "x" / "a.png", 7)
    painted(tmp_path / ".cache" / "set" / "y" / "a.png", 8)
    assert labels_of(tmp_path / ".cache" / "set") == {7: 0, 8: 1}  # asked for by its name


@pytest.mark.parametrize(
    ("first", "second"),
    [("train", name) for name in ("test", "val", "valid", "validation")] + [("Training", "Testing")],
)
def test_folders_of_splits_are_no_classes(tmp_path, first, second):
    for level, name in enumerate(
        (f"{first}/cat/a.png", f"{first}/dog/a.png", f"{second}/cat/b.png", f"{first}/dog/b.png")
    ):
        painted(tmp_path / name, level)
    with pytest.warns(UserWarning, match=rf"{first} and {second} are taken as the splits, not as classes"):
        found = grouped(tmp_path)
    assert found == {0: (False, 0), 1: (False, 1), 2: (True, 0), 3: (False, 1)}
    painted(tmp_path / second / "elk" / "a.png", 4)
    with pytest.warns(UserWarning, match="are taken as the splits"):
        splits = ImageFolder(root=str(tmp_path), size=8, channels=1).load()
    (found,) = Label(classes=3).unseen(splits.train, splits.test)
    assert "no training sample of elk (1 of 2 test samples)" in found
    assert splits.train.class_names == ("cat", "dog", "elk")
    assert sorted(splits.test.labels.tolist()) == [0, 2]


def test_splits_by_name_and_splits_without_classes(tmp_path):
    names = ("train/a.png", "train/b.png", "val/a.png", "test/a.png")
    for level, name in enumerate(names):
        painted(tmp_path / name, level)
    with pytest.warns(
        UserWarning, match=r"train and test are taken as the splits.*; val left out \(data\.test="
    ):
        assert grouped(tmp_path) == {0: (False, None), 1: (False, None), 3: (True, None)}
    assert grouped(tmp_path, train="train", test="val") == {
        0: (False, None),
        1: (False, None),
        2: (True, None),
    }
    painted(tmp_path / "other" / "a.png", 5)
    with pytest.raises(
        ValueError, match=r"train, test, val of splits beside other; name the splits with data\.train=train"
    ):
        grouped(tmp_path)
    assert grouped(tmp_path, train="other", test="test") == {5: (False, None), 3: (True, None)}
    assert set(grouped(tmp_path, train="train")) == {0, 1}
    for wrong, words in (
        ({"train": "trains"}, "trains is not there; the folders of .* are other, test, train, val"),
        ({"test": "test"}, "needs another folder"),
        ({"train": "test", "test": "test"}, "needs another folder"),
    ):
        with pytest.raises(ValueError, match=words):
            grouped(tmp_path, **wrong)
    painted(tmp_path / "stray.png", 6)
    with pytest.warns(UserWarning, match=r"stray\.png beside the splits left out"):
        assert set(grouped(tmp_path, train="other", test="test")) == {5, 3}


def test_a_split_alone_and_a_class_of_trains(tmp_path):
    for level, name in enumerate(("cat/a.png", "dog/a.png", "dog/b.png")):
        painted(tmp_path / "train" / name, level)
    with pytest.warns(UserWarning, match="train is taken as the training split, not as a class"):
        assert labels_of(tmp_path) == {0: 0, 1: 1, 2: 1}
    painted(tmp_path / "bus" / "a.png", 3)
    assert labels_of(tmp_path) == {0: 1, 1: 1, 2: 1, 3: 0}
    (tmp_path / "test").mkdir()  # no image in it
    assert labels_of(tmp_path) == {0: 1, 1: 1, 2: 1, 3: 0}


def test_an_image_beside_the_classes_is_named(tmp_path):
    for level, name in enumerate(("cat/a.png", "dog/a.png", "stray.png")):
        painted(tmp_path / name, level)
    with pytest.warns(
        UserWarning, match=r"stray\.png in no folder of a class, beside cat and 1 more: so no image has a"
    ):
        assert labels_of(tmp_path) == {0: None, 1: None, 2: None}
    for name in ("train/cat/a.png", "train/dog/a.png", "train/in.png", "test/cat/a.png"):
        painted(tmp_path / "split" / name, len(name))
    with pytest.warns(UserWarning, match=r"train/in\.png in no folder of a class"):
        ImageFolder(root=str(tmp_path / "split")).load()


# --- files of every kind


TRANSPARENT = {
    "RGBA": Image.new("RGBA", (8, 8), (200, 100, 0, 0)),
    "LA": Image.new("LA", (8, 8), (40, 0)),
    "palette": Image.new("P", (8, 8), 0),
    "RGB": Image.new("RGB", (8, 8), (10, 20, 30)),
    "L": Image.new("L", (8, 8), 90),
}


def transparent(kind: str) -> tuple[bytes, tuple[int, int, int]]:
    """A PNG of which nothing is to be seen, and the color stored in it."""
    image, out = TRANSPARENT[kind].copy(), io.BytesIO()
    stored = {
        "RGBA": (200, 100, 0),
        "LA": (40,) * 3,
        "palette": (1, 2, 3),
        "RGB": (10, 20, 30),
        "L": (90,) * 3,
    }[kind]
    more = {"palette": {"transparency": 0}, "RGB": {"transparency": (10, 20, 30)}, "L": {"transparency": 90}}
    if kind == "palette":
        image.putpalette([1, 2, 3, 9, 9, 9])
    image.save(out, "PNG", **more.get(kind, {}))
    return out.getvalue(), stored


def through(content: bytes, kind: str, folder: Path, hub, **more) -> torch.Tensor:
    """An image as it comes from a folder, from shards, from a Hugging Face set, or is given to a task."""
    if kind == "folder":
        for name in "ab":
            (folder / f"{name}.png").write_bytes(content)
        source = ImageFolder(root=str(folder), size=8, **more)
    elif kind == "shards":
        pack(folder / "s.tar", {"a.png": content, "b.png": content})
        source = Shards(train=str(folder / "s.tar"), test=str(folder / "s.tar"), size=8, **more)
    elif kind == "hugging_face":
        rows = LazyImages([{"image": {"bytes": content, "path": None}}], image=feature("Image"))
        hub({"train": rows, "test": rows})
        source = HuggingFace(path="set", size=8, **more)
    else:
        (folder / "a.png").write_bytes(content)
        return load_image(folder / "a.png", (3, 8, 8), **more)
    return source.load().train.values[0]


PLACES = ["folder", "shards", "hugging_face", "task"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparency_is_laid_on_the_same_background_everywhere(tmp_path, hub, kind, place):
    content, hidden = transparent(kind)
    for more, color in (
        ({}, (255, 255, 255)),
        ({"background": "black"}, (0, 0, 0)),
        ({"background": "#0a141e"}, (10, 20, 30)),
        ({"background": None}, hidden),
    ):
        image = through(content, place, tmp_path, hub, **more)
        assert image.shape == (3, 8, 8)
        assert (image == torch.tensor(color)[:, None, None]).all(), more


def test_what_lies_under_transparent_pixels_does_not_bleed_into_others(tmp_path):
    """Laid on the background before it is made smaller: half of white is seen of hidden red, not of red."""
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, ::2] = (255, 0, 0, 0)
    pixels[:, 1::2] = (0, 0, 255, 255)
    for name in "ab":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    image = ImageFolder(root=str(tmp_path), size=2).load().train.values[0].double()
    torch.testing.assert_close(image[0], image[1])
    assert (image[2] > 250).all()


@pytest.mark.parametrize("background", ["no color", "#12345678", 3])
def test_backgrounds_that_are_no_color(background):
    for source in (
        partial(ImageFolder, root="."),
        partial(Shards, train="s.tar"),
        partial(HuggingFace, path="set"),
        Emoji,
    ):
        with pytest.raises(ValueError, match=rf"background={background!r} (is|must be text) "):
            source(background=background)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_refused_in_color_as_in_gray_everywhere(tmp_path, hub, channels, place):
    if channels == 1:
        out = io.BytesIO()
        Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(out, "PNG")
    content = out.getvalue() if channels == 1 else deep_color(channels)
    with pytest.raises(ValueError, match="more than 8 bits per channel"):
        through(content, place, tmp_path, hub)


def test_files_of_many_bits_are_known_by_their_headers():
    gray, color = np.zeros((4, 4), np.uint16), np.zeros((4, 4, 3), np.uint8)

    def saved(array, kind, **more):
        out = io.BytesIO()
        Image.fromarray(array).save(out, kind, **more)
        return out.getvalue()

    tiff = saved(color, "TIFF")
    bits = tiff.index(struct.pack("<3H", 8, 8, 8))
    files = {
        "P6 of 1000 levels": b"P6 2 2 1000\n" + bytes(24),
        "P5 of 65536 levels": b"P5 2 2 65535\n" + bytes(8),
        "P3 of 1000 levels": b"P3 1 1 1000\n1 2 3\n",
        "TIFF": tiff[:bits] + struct.pack("<3H", 16, 16, 16) + tiff[bits + 6 :],
        "gray TIFF": saved(gray, "TIFF"),
        "gray SGI": b"\x01\xda\0\2\0\2\0\4\0\4\0\1" + bytes(500 + 32),
    }
    shallow = {
        "P6 of 16 levels": b"P6 2 2 15\n" + bytes(12),
        "TIFF": tiff,
        **{kind: saved(color, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "SGI")},
    }
    if features.check("jpg_2000"):
        code = saved(color, "JPEG2000", no_jp2=True)
        depth = code.index(b"\xff\x51") + 40
        shallow["JPEG 2000"] = code
        files["JPEG 2000"] = code[:depth] + b"\x0f" + code[depth + 1 :]
        files["gray JPEG 2000"] = saved(gray, "JPEG2000")
    if features.check("avif"):
        code = saved(color, "AVIF")
        shallow["AVIF"], flags = code, code.index(b"av1C") + 6
        ten = code[:flags] + bytes([code[flags] | 0x40]) + code[flags + 1 :]
        files["AVIF"] = ten.replace(b"\3\x08\x08\x08", b"\3\x0a\x0a\x0a")  # said twice
    for found, expected in ((files, True), (shallow, False)):
        for name, content in found.items():
            with Image.open(io.BytesIO(content)) as image:
                assert is_deep(image) is expected, name
    for name, content in shallow.items():  # that it was looked at does not harm it
        with Image.open(io.BytesIO(content)) as image:
            assert decode_image(image).size in ((2, 2), (4, 4)), name


def exif(*, orientation: int | None, odd: bool = True) -> bytes:
    """EXIF with a tag of the wrong type, as cameras write it: a text where a fraction is due."""
    entries = [] if orientation is None else [struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)]
    entries += [
        struct.pack("<HHI4s", 0x011A, 2, 4, b"72\0\0"),
        struct.pack("<HHI4s", 0x0128, 7, 4, b"\2\0\0\0"),
    ] * odd
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


@pytest.mark.filterwarnings("ignore:.*resized from 16x16")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8, 9])
def test_an_image_is_turned_by_its_orientation_whatever_other_tags_hold(
    tmp_path, hub, place, kind, orientation
):
    pixels, out = np.zeros((16, 16, 3), np.uint8), io.BytesIO()
    pixels[:8, :8] = 255  # the upper left
    lossless = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}, "PNG": {}}[kind]
    Image.fromarray(pixels).save(out, kind, exif=exif(orientation=orientation), **lossless)
    quarter = np.rot90(pixels, {3: 2, 6: -1, 8: 1}.get(orientation, 0))[::2, ::2, 0] > 127
    image = through(out.getvalue(), place, tmp_path, hub)
    np.testing.assert_array_equal(image[0].numpy() > 127, quarter)


def test_exif_that_is_none_does_not_matter(tmp_path, hub):
    for odd in (b"Exif\0\0", b"Exif\0\0nonsense", exif(orientation=6)[:20], b"Exif\0\0II*\0\xff\xff\xff\xff"):
        out = io.BytesIO()
        Image.new("RGB", (8, 8), (9, 9, 9)).save(out, "PNG", exif=odd)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own
            assert (through(out.getvalue(), "task", tmp_path, hub) == 9).all()


def test_folders_that_will_not_do(tmp_path):
    with pytest.raises(ValueError, match="folder not found"):
        ImageFolder(root=str(tmp_path / "nowhere")).load()
    with pytest.raises(ValueError, match="at least 2"):
        ImageFolder(root=str(tmp_path)).load()
    with pytest.raises(ValueError, match="channels"):
        ImageFolder(root=".", channels=2)


def test_a_class_without_images_is_said(tmp_path):
    """An empty folder is no class; one whose images are all unreadable, or held out, has none to train on."""
    for name in ("ants", "bees", "wasps"):
        (tmp_path / name).mkdir()
    for i in range(12):
        Image.new("L", (8, 8), i).save(tmp_path / "bees" / f"{i}.png")
    source = partial(ImageFolder, root=str(tmp_path), size=8, channels=1, skip_corrupt=True)
    with pytest.warns(UserWarning, match="no image in ants and 1 more, so that they are no classes"):
        assert source().load().train.class_names == ("bees",)
    for i in range(3):
        (tmp_path / "ants" / f"{i}.png").write_bytes(b"junk")
    with pytest.warns(UserWarning, match="skipped 3 unreadable images"):
        splits = source().load()
    assert splits.train.class_names == ("ants", "bees")
    assert "no training sample of ants" in Label(classes=2).unseen(splits.train, splits.test)[0]


# --- Hugging Face


@pytest.fixture
def local(tmp_path, monkeypatch):
    """A set of the library datasets in a folder, and the first of its images."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 3)):
        images = [Image.fromarray(rng.integers(0, 256, (10, 12, 3)).astype(np.uint8)) for _ in range(count)]
        rows = datasets.Dataset.from_dict(
            {"img": images, "label": [i % 2 for i in range(count)]}, features=features
        )
        if part == "train":
            first = np.asarray(images[0].crop((1, 0, 11, 10)))
        rows.to_parquet(tmp_path / "set" / "data" / f"{part}-00000-of-00001.parquet")
    return str(tmp_path / "set"), first


def test_hugging_face_reads_a_local_set(local):
    path, first = local
    splits = HuggingFace(path=path, size=8).load()
    assert (len(splits.train), len(splits.test), splits.train.shape) == (6, 3, (3, 8, 8))
    assert splits.train.labels.tolist() == [0, 1] * 3
    assert splits.test.class_names == ("a", "b")
    whole = HuggingFace(path=path, size=10).load().train.values[0]
    np.testing.assert_array_equal(whole.permute(1, 2, 0).numpy(), first)
    with pytest.raises(ValueError, match="no split"):
        HuggingFace(path=path, test="validation").load()
    shared = HuggingFace(path=path, size=8, test=None, test_fraction=0.34).load()
    assert (len(shared.train), len(shared.test)) == (4, 2)


def test_hugging_face_streams_into_a_cache(local, tmp_path):
    path, _ = local
    whole = HuggingFace(path=path, size=8).load()
    source = HuggingFace(path=path, size=8, streaming=True, cache=str(tmp_path / "images"))
    for splits in (source.load(), source.load()):
        for part, expected in ((splits.train, whole.train), (splits.test, whole.test)):
            assert torch.equal(part.values[:], expected.values)
            assert torch.equal(part.labels, expected.labels)
            assert part.classes == expected.classes


class LazyImages(list):
    """What load_dataset gives for a split, as far as we ask."""

    def __init__(self, rows, known=True, **features):
        super().__init__(rows)
        self.features = features or {"image": feature("Image"), "label": feature("ClassLabel", num_classes=2)}
        self.info = SimpleNamespace(
            splits={"train": SimpleNamespace(num_examples=len(rows))} if known else None
        )

    def cast_column(self, column, feature):
        assert feature.decode is False
        return self

    def unique(self, column):
        return list({row[column]: None for row in self})

    def select_columns(self, columns):
        return LazyImages([{name: row[name] for name in columns} for row in self])


def feature(kind, **more):
    return type(kind, (), more)()


@pytest.fixture
def hub(monkeypatch):
    """The library stands aside: give the splits of a set for a module that opens and streams them as it does."""

    def serve(splits):
        def load_dataset(path, name, *, streaming):
            return splits(path) if callable(splits) else splits

        module = SimpleNamespace(
            load_dataset=load_dataset, Image=lambda decode: SimpleNamespace(decode=decode)
        )
        monkeypatch.setitem(sys.modules, "datasets", module)

    return serve


def stored(level, side=8):
    """An image as a file in a row."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), (level, level, level)).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": None}


def plain_column(dtype):
    return feature("Value", dtype=dtype)


def test_a_share_is_drawn_while_a_set_streams_if_it_tells_its_size(tmp_path, hub):
    rows = [{"image": stored(i), "label": i % 2} for i in range(10)]
    hub(lambda path: {"train": LazyImages(rows, known=path == "counted")})
    source = {"size": 8, "test": None, "test_fraction": 0.3}
    whole = HuggingFace(path="counted", **source).load()
    splits = HuggingFace(path="counted", **source, streaming=True, cache=str(tmp_path / "cache")).load()
    assert (len(splits.train), len(splits.test)) == (7, 3)
    assert torch.equal(splits.test.values[:], whole.test.values)
    assert splits.train.labels.tolist() == [int(value) % 2 for value in splits.train.values[:][:, 0, 0, 0]]
    with pytest.raises(ValueError, match=r"number of rows of .* is unknown"):
        HuggingFace(path="uncounted", **source, streaming=True).load()


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("dtype", "values", "classes"),
    [
        ("int64", [3, 7, 3, 10], [0, 1, 0, 2]),
        ("string", ["dog", "cat", "dog", "ant"], [2, 1, 2, 0]),
        ("bool", [True, False, True, False], [1, 0, 1, 0]),
    ],
)
def test_plain_columns_of_labels(hub, streaming, dtype, values, classes):
    columns = {"image": feature("Image"), "label": plain_column(dtype)}
    train, test = (
        LazyImages([{"image": stored(0), "label": value} for value in part], **columns)
        for part in (values[:3], values[3:])
    )
    hub({"train": train, "test": test})
    splits = HuggingFace(path="set", size=8, streaming=streaming).load()
    assert splits.train.labels.tolist() + splits.test.labels.tolist() == classes
    assert splits.train.classes == splits.test.classes == max(classes) + 1
    assert splits.test.class_names == tuple(map(str, sorted(set(values))))


def test_columns_are_asked_for_where_several_would_do(hub):
    columns = {
        **{name: feature("Image") for name in ("photo", "mask")},
        **{name: feature("ClassLabel", num_classes=10 * n) for n, name in enumerate(("fine", "coarse"), 1)},
        **{"count": plain_column("int64"), "weight": plain_column("float64")},
    }
    row = {"photo": stored(1), "mask": stored(2), "fine": 4, "coarse": 15, "count": 70, "weight": 0.5}
    hub({"train": LazyImages([row], **columns), "test": LazyImages([row], **columns)})

    def load(**more):
        return HuggingFace(path="set", size=8, **more).load().train

    with pytest.raises(ValueError, match=r"2 columns of type Image; name one with data\.image="):
        load(label="fine")
    with pytest.raises(
        ValueError, match=r"2 columns of labels, fine, coarse; name one with data\.label=fine"
    ):
        load(image="photo")
    for wrong, words in (
        ({"image": "photos"}, r"data\.image=photos: 'set' has no such column; it has photo, mask, fine"),
        ({"image": "photo", "label": "Fine"}, r"data\.label=Fine: 'set' has no such column"),
        ({"image": "photo", "label": "weight"}, "expected ClassLabel, integers or strings"),
    ):
        with pytest.raises(ValueError, match=words):
            load(**wrong)
    found = [load(image=image, label=label) for image, label in (("photo", "fine"), ("mask", "coarse"))]
    assert [int(part.values.max()) for part in found] == [1, 2]
    assert [(part.labels.item(), part.classes) for part in found] == [(4, 10), (15, 20)]
    assert load(image="photo", label="count").labels.item() == 0


def test_a_set_of_columns_without_a_known_name_says_that_it_has_no_labels(hub):
    columns = {"image": feature("Image"), "species": plain_column("string")}
    rows = LazyImages([{"image": stored(0), "species": "cat"}], **columns)
    hub({"train": rows, "test": rows})
    with pytest.warns(UserWarning, match=r"loaded without labels; data\.label=.*species"):
        assert HuggingFace(path="set", size=8).load().train.labels is None
    assert HuggingFace(path="set", size=8, label="species").load().train.classes == 1


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("missing", [-1, None])
def test_missing_labels_are_named_and_leave_the_images(hub, tmp_path, missing, cached):
    whole, part = (
        LazyImages([{"image": stored(i), "label": labels[i]} for i in range(3)])
        for labels in ([0, 1, 0], [1, missing, 0])
    )
    more = {"cache": str(tmp_path / "cache")} if cached else {}
    words = rf"'set', split 'test': 1 rows have no label, the first is row 1 \({missing}\)"
    hub({"train": whole, "test": part})
    with pytest.warns(UserWarning, match=words):
        splits = HuggingFace(path="set", size=8, **more).load()
    assert splits.train.labels.tolist() == [0, 1, 0]
    assert splits.train.class_names == ("0", "1")
    assert (splits.train.classes, len(splits.test), splits.test.labels) == (2, 3, None)
    more = {"cache": str(tmp_path / "other")} if cached else {}
    hub({"train": part, "test": whole})
    with pytest.warns(UserWarning, match=words.replace("test", "train")):
        splits = HuggingFace(path="set", size=8, **more).load()
    for part in (splits.train, splits.test):
        assert (part.classes, len(part), part.labels, part.class_names) == (0, 3, None, ())


def test_rows_that_will_not_do_are_named(hub):
    good = {"image": stored(0), "label": 0}
    for bad, words in (
        ({"image": None, "label": 0}, "the image in column 'image' cannot be read (the value is empty)"),
        ({"image": {"bytes": None, "path": None}, "label": 0}, "the value is empty"),
        ({"image": {"bytes": b"no picture", "path": None}, "label": 0}, "cannot identify image file"),
        ({"label": 0}, "the value is empty"),
        ({**good, "label": 2}, "label 2 is not one of the 2 classes"),
    ):
        for name, splits in (("train", ([good, bad], [good])), ("test", ([good], [good, bad]))):
            hub(dict(zip(("train", "test"), map(LazyImages, splits), strict=True)))
            with pytest.raises(ValueError, match=f"'set', split '{name}', row 1.*{re.escape(words)}"):
                HuggingFace(path="set", size=8).load()


class Torn(LazyImages):
    """A split whose second row cannot be read."""

    def __iter__(self):
        yield self[0]
        raise RuntimeError("the file\n is cut short")


def test_a_split_that_tears_while_it_streams_is_named(hub):
    good = {"image": stored(0), "label": 0}
    hub({"train": LazyImages([good]), "test": Torn([good])})
    with pytest.raises(ValueError, match=r"'set', split 'test', row 1 cannot be read: the file is cut short"):
        HuggingFace(path="set", size=8, streaming=True).load()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_corrupt_file_of_a_set_is_named_by_its_split(local, streaming):
    path, _ = local
    file = next((Path(path) / "data").glob("test*"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"split 'test', row 0.*Parquet"):
        HuggingFace(path=path, size=8, streaming=streaming).load()


def test_files_of_different_columns_are_named(local, tmp_path):
    del local  # the library is there, and its cache aside
    folder = tmp_path / "tables"
    folder.mkdir()
    for name, text in (("0", "image,label\na.png,1\nb.png,0\n"), ("1", "image,kind\na.png,1\n")):
        (folder / f"train-{name}.csv").write_text(text)
    with pytest.raises(
        ValueError, match=r"split 'train', row 2 \(other columns than before: kind, label\).*columns"
    ):
        HuggingFace(path=str(folder), test=None).load()


def test_16_bits_of_a_row_are_not_cut_to_8(hub):
    rows = [{"image": stored(0), "label": 0}, {"image": {"bytes": deep_color(), "path": None}, "label": 0}]
    hub({"train": LazyImages(rows), "test": LazyImages(rows[:1])})
    with pytest.raises(ValueError, match=r"split 'train', row 1.*more than 8 bits"):
        HuggingFace(path="set", size=8).load()


def test_without_download_nothing_is_fetched(hub, tmp_path, monkeypatch):
    """Neither a set of the hub, nor files at addresses that a folder names, nor images at addresses in its rows."""
    asked = []

    def serve(path):
        asked.append(path)
        return {part: LazyImages([{"image": stored(0), "label": 0}]) for part in ("train", "test")}

    hub(serve)
    for path in ("uoft-cs/cifar10", "hf://datasets/a/b", "buckets/a/b", "csv", str(tmp_path / "nowhere")):
        with pytest.raises(ValueError, match=r"data\.download=true"):
            HuggingFace(path=path, download=False).load()
        with pytest.raises(ValueError, match=r"data\.download=true"):
            HuggingFace(path=path, download=False, streaming=True).load()
    folder = tmp_path / "csv"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    page = "---\nconfigs:\n- data_files: {}\n---\nSee https://here\n"
    for name, text in (
        ("README.md", page.format("http://127.0.0.1:9/x.csv")),
        ("README.md", " " + page.format("'zip://a::http://127.0.0.1:9/x.zip'")),
        ("README.md", page.format('"http:\\u002f\\u002f127.0.0.1:9/x.csv"').replace("\n", "\r\n")),
        ("README.md", "---\n- [\n---\n"),
        (".huggingface.yaml", "configs: [{data_files: {train: [hf://datasets/a/b]}}]"),
    ):
        (folder / name).write_text(text)
        with pytest.raises(ValueError, match=rf"{re.escape(name)}.*address.*data\.download=true"):
            HuggingFace(path="csv", download=False).load()
        (folder / name).unlink()
    assert asked == []
    (folder / "README.md").write_text("---\nlicense: mit\n---\nSee https://here\n")
    assert len(HuggingFace(path="csv", size=8, download=False).load().train) == 1
    assert asked == [str(folder)], "a folder, not the reader of the same name"
    away = [{"image": {"bytes": None, "path": "http://127.0.0.1:9/x.png"}, "label": 0}]
    hub({"train": LazyImages(away), "test": LazyImages(away)})
    with pytest.raises(ValueError, match=r"row 0.*address.*data\.download=true"):
        HuggingFace(path="csv", size=8, download=False).load()


def test_a_library_that_is_offline_reads_its_copies_of_a_set(hub):
    hub({part: LazyImages([{"image": stored(0), "label": 0}]) for part in ("train", "test")})
    sys.modules["datasets"].config = SimpleNamespace(HF_HUB_OFFLINE=True)
    assert len(HuggingFace(path="a/b", size=8, download=False).load().train) == 1


def test_columns_of_labels_that_are_numbers_with_fractions_are_said(hub):
    rows = LazyImages(
        [{"image": stored(0), "Label": 0.5}], image=feature("Image"), Label=plain_column("float32")
    )
    hub({"train": rows, "test": rows})
    with pytest.warns(UserWarning, match=r"Label.*float32"):
        assert HuggingFace(path="set", size=8).load().train.labels is None


def test_values_of_labels_in_the_test_split_alone_are_said(hub):
    columns = {"image": feature("Image"), "label": plain_column("int64")}
    train, test = (
        LazyImages([{"image": stored(0), "label": label} for label in labels], **columns)
        for labels in ([3, 7], [7, 9])
    )
    hub({"train": train, "test": test})
    splits = HuggingFace(path="set", size=8).load()
    assert splits.train.class_names == ("3", "7", "9")
    (found,) = Label(classes=3).unseen(splits.train, splits.test)
    assert "no training sample of 9 (1 of 2 test samples)" in found


def test_an_image_that_cannot_be_read_is_described_without_addresses_of_memory(hub):
    rows = [{"image": {"bytes": b"junk", "path": None}, "label": 0}]
    hub({"train": LazyImages(rows), "test": LazyImages(rows)})
    with pytest.raises(ValueError, match="row 0") as found:
        HuggingFace(path="set", size=8).load()
    assert "0x" not in str(found.value)


def test_hugging_face_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"sde_gen\[hf\]"):
        HuggingFace(path="somewhere").load()


def test_the_first_images_of_a_folder_are_of_all_classes(tmp_path):
    """An evaluation of n images takes the first n: they must not be one class."""
    for name in ("ants", "bees"):
        (tmp_path / name).mkdir()
        for i in range(40):
            Image.new("L", (8, 8), i).save(tmp_path / name / f"{i}.png")
    splits = ImageFolder(root=str(tmp_path), size=8, channels=1, test_fraction=0.5).load()
    for part in (splits.train, splits.test):
        assert set(part.labels[:12].tolist()) == {0, 1}
