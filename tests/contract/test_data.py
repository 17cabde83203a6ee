"""Data sets: shapes, ranges, determinism, disjoint splits and shards, and every way for files to be wrong."""

import gzip
import hashlib
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sde_gen.data import Batches, Dataset, Digits, FashionMNIST, HorizontalFlip, HuggingFace, ImageFolder
from sde_gen.data import fashion_mnist as module
from sde_gen.data.idx import read_idx
from tests.catalogue import make, names

ON_DISK = [
    name
    for name in names("data")
    if name not in ("fashion_mnist", "emoji", "image_folder", "hugging_face", "cifar10", "shards")
]


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
            assert set(part.labels.tolist()) == set(range(part.classes))
    assert first.train.shape == first.test.shape
    assert first.train.levels == first.test.levels
    seen = set(map(tuple, first.train.values.flatten(1).tolist()))
    assert seen.isdisjoint(map(tuple, first.test.values.flatten(1).tolist()))


@pytest.mark.parametrize("name", [name for name in ON_DISK if name != "digits"])
def test_toy_splits_of_one_size_differ(name):
    splits = make("data", name, count=50, test_count=50).load()
    assert set(map(tuple, splits.train.values.tolist())).isdisjoint(map(tuple, splits.test.values.tolist()))


def test_toys_have_their_shapes():
    board = make("data", "checkerboard").load().train.values
    assert float(board.abs().max()) <= 2
    assert len({tuple(field) for field in board.floor().int().tolist()}) == 8
    assert not (board.floor().sum(1) % 2).any()  # fields of one colour
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
        (b"\x00\x00\x08\x03\x00", "cut short"),
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
    with pytest.raises(ValueError, match="by hand"):
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


def test_folders_that_will_not_do(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        ImageFolder(root=str(tmp_path / "nowhere")).load()
    with pytest.raises(ValueError, match="at least 2"):
        ImageFolder(root=str(tmp_path)).load()
    with pytest.raises(ValueError, match="channels"):
        ImageFolder(root=".", channels=2)


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


class Rows(list):
    """What load_dataset gives for a split, as far as we ask."""

    def __init__(self, rows, known):
        super().__init__(rows)
        self.features = {
            "image": type("Image", (), {})(),
            "label": type("ClassLabel", (), {"num_classes": 2})(),
        }
        self.info = SimpleNamespace(
            splits={"train": SimpleNamespace(num_examples=len(rows))} if known else None
        )


def test_a_share_is_drawn_while_a_set_streams_if_it_tells_its_size(tmp_path, monkeypatch):
    """The library stands aside: a module that streams rows as it does."""
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    rows = [{"image": Image.fromarray(image), "label": i % 2} for i, image in enumerate(images)]

    def load_dataset(path, name, *, streaming):
        return {"train": Rows(rows, known=path == "counted")}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    source = {"size": 8, "test": None, "test_fraction": 0.3}
    whole = HuggingFace(path="counted", **source).load()
    splits = HuggingFace(path="counted", **source, streaming=True, cache=str(tmp_path / "cache")).load()
    assert (len(splits.train), len(splits.test)) == (7, 3)
    assert torch.equal(splits.test.values[:], whole.test.values)
    assert splits.train.labels.tolist() == [int(value) % 2 for value in splits.train.values[:][:, 0, 0, 0]]
    with pytest.raises(ValueError, match="does not say how many rows"):
        HuggingFace(path="uncounted", **source, streaming=True).load()


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
