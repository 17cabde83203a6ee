"""Images of several sizes: assignment to aspect ratios, batches of one size, epochs and trainings of them."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from sde_gen.data import Batches, BucketBatches, Dataset, ImageBuckets, ImageFolder, Splits
from sde_gen.data.image_buckets import computed_sizes, nearest
from sde_gen.training.batch_loader import BatchLoader
from tests.helpers.tiny_run import image_trainer, same, weights

PICTURES = {(24, 40): 14, (40, 24): 7, (32, 32): 22}
"""Number of images by height and width."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of two classes, of one color each."""
    number = 0
    for (height, width), count in PICTURES.items():
        for _ in range(count):
            place = tmp_path / "images" / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2 * width, 2 * height), (number, 0, 200)).save(place / f"{number:03d}.png")
            number += 1
    return tmp_path / "images"


def buckets(folder: Path) -> Splits:
    return ImageBuckets(root=str(folder), size=32, test_fraction=0.2).load()


def test_an_image_goes_to_the_size_of_the_nearest_aspect_ratio() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [(24, 40), (32, 32), (40, 24), (16, 64)]
    for width, height in torch.randint(1, 500, (200, 2), generator=generator).tolist():
        found = nearest((width, height), sizes)
        distance = {size: abs(math.log(width / height) - math.log(size[1] / size[0])) for size in sizes}
        assert distance[found] == min(distance.values())


@pytest.mark.parametrize(
    ("size", "multiple", "ratio"), [(32, 8, 2.0), (64, 8, 2.0), (256, 64, 3.0), (16, 4, 4.0)]
)
def test_computed_sizes_have_about_the_area_and_are_symmetric(size: int, multiple: int, ratio: float) -> None:
    sizes = computed_sizes(size, multiple=multiple, ratio=ratio)
    assert (size, size) in sizes
    assert {(width, height) for height, width in sizes} == set(sizes)
    assert len(set(sizes)) == len(sizes) > 2
    for height, width in sizes:
        assert height % multiple == width % multiple == 0
        assert max(height, width) <= ratio * min(height, width)
        # the longer side is rounded by half a multiple at most
        assert abs(height * width - size**2) <= multiple / 2 * min(height, width)


def test_images_are_those_of_a_folder_of_their_size(folder: Path) -> None:
    splits = buckets(folder)
    assert splits.train.shape == splits.test.shape == (3, 32, 32)  # most of the images
    assert splits.train.classes == 2
    whole = {
        size: ImageFolder(root=str(folder), size=list(size), test_fraction=0.2).load() for size in PICTURES
    }
    for name in ("train", "test"):
        data = getattr(splits, name)
        for index in range(len(data)):
            (image,) = data.values[[index]]
            other = getattr(whole[tuple(image.shape[1:])], name)
            assert torch.equal(image, other.values[index])
            assert data.labels[index] == other.labels[index]
            number = int(image[0, 0, 0])
            assert image.shape[1:] == ((24, 40) if number < 14 else (40, 24) if number < 21 else (32, 32))
    numbers = [
        int(data.values[[i]][0, 0, 0, 0]) for data in (splits.train, splits.test) for i in range(len(data))
    ]
    assert sorted(numbers) == list(range(43))
    assert splits.train.fingerprint() == buckets(folder).train.fingerprint()
    assert splits.train.fingerprint() != whole[32, 32].train.fingerprint()


def test_rows_of_several_sizes_are_refused_together(folder: Path) -> None:
    data = buckets(folder).train
    with pytest.raises(ValueError, match=r"images of 32x32 and 24x40 .*data=image_folder"):
        data.values[torch.tensor([int((data.buckets == k).nonzero()[0]) for k in (0, 1)])]


def test_one_size_is_what_evaluations_compare_with(folder: Path) -> None:
    data = buckets(folder).train
    largest = data.of_one_size()
    assert largest.values.shape == (int((data.buckets == 0).sum()), 3, 32, 32)
    assert torch.equal(largest.labels, data.labels[data.buckets == 0])
    plain = Dataset(values=torch.zeros(3, 2), levels=None)
    assert plain.of_one_size() is plain


# --- batches


def order(sizes: list[int], batch_size: int, seed: int = 0) -> BucketBatches:
    which = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    which = which[torch.randperm(len(which), generator=torch.Generator().manual_seed(5))]
    return BucketBatches(buckets=which, batch_size=batch_size, seed=seed)


def test_a_batch_holds_one_bucket_and_every_image_comes_equally_often() -> None:
    sizes, batch_size = [11, 5, 2, 1], 4
    batches = order(sizes, batch_size)
    seen, steps = torch.zeros(19, dtype=torch.int64), [0] * 4
    for step in range(3 * 19):
        batch = batches.indices(step)
        assert batch.shape == (batch_size,)
        (bucket,) = set(batches.buckets[batch].tolist())
        steps[bucket] += 1
        seen += torch.bincount(batch, minlength=19)
        for k, size in enumerate(sizes):
            of_bucket = seen[batches.buckets == k]
            assert int(of_bucket.max() - of_bucket.min()) <= 1  # each image once before any comes again
            assert abs(steps[k] - (step + 1) * size / 19) <= 1 + len(sizes) * size / 19
        if (step + 1) % 19 == 0:  # batch_size epochs
            assert seen.tolist() == [(step + 1) // 19 * batch_size] * 19


def test_batches_are_a_function_of_seed_and_step() -> None:
    first, second, other = order([11, 5, 2], 4), order([11, 5, 2], 4), order([11, 5, 2], 4, seed=1)
    steps = [40, 3, 0, 17, 18, 3]
    assert all(torch.equal(first.indices(step), second.indices(step)) for step in sorted(steps))
    assert all(torch.equal(first.indices(step), second.indices(step)) for step in steps)
    assert any(not torch.equal(first.indices(step), other.indices(step)) for step in range(5))
    epoch = [first.buckets[first.indices(step)[0]].item() for step in range(18)]
    assert epoch != sorted(epoch)


def test_processes_read_their_shares_of_the_same_batch(folder: Path) -> None:
    data = buckets(folder).train
    for step in range(6):
        parts = []
        for rank in (0, 1):
            loader = BatchLoader(
                data=data,
                batches=data.batches(batch_size=8, seed=0),
                accumulation=2,
                rank=rank,
                size=2,
                steps=7,
                whole=False,
            )
            parts.append(loader(step))
        for one, two in zip(*parts, strict=True):
            assert torch.equal(one.indices, two.indices)
            both = torch.cat([one.values[:2], two.values[2:]])
            assert torch.equal(both, data.values[one.indices])


def test_data_of_one_size_have_the_batches_they_had() -> None:
    data = Dataset(values=torch.zeros(30, 2), levels=None)
    ordinary = Batches(size=30, batch_size=12, seed=3)
    found = data.batches(batch_size=12, seed=3)
    assert all(torch.equal(found.indices(step), ordinary.indices(step)) for step in range(4))
    chunks = data.chunks(50, 20)
    assert torch.equal(torch.cat(chunks), torch.arange(50) % 30)
    assert [len(chunk) for chunk in chunks] == [20, 20, 10]


def test_chunks_are_of_one_size_and_cover_the_first_images(folder: Path) -> None:
    data = buckets(folder).train
    chunks = data.chunks(len(data) + 5, 4)
    assert all(len(chunk) <= 4 and data.values[chunk].shape[0] == len(chunk) for chunk in chunks)
    assert sorted(torch.cat(chunks).tolist()) == sorted((torch.arange(len(data) + 5) % len(data)).tolist())


# --- trainings


@pytest.mark.long
def test_a_stopped_training_resumes_bit_identically(tmp_path: Path, folder: Path) -> None:
    splits = buckets(folder)
    whole, first, second = (
        image_trainer(tmp_path / name, splits, accumulation=2, images=96) for name in ("w", "p", "p")
    )
    assert whole.run()
    first.stop = lambda: first.images >= 56
    assert not first.run()
    assert second.run()
    assert same(weights(whole), weights(second))
    assert whole.validation_loss() == second.validation_loss()


# --- invalid settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 30}, r"size=30 is no multiple of 8"),
        ({"size": [24, 40]}, r"size=\[24, 40\]: expected the side of a square.* sizes="),
        ({"sizes": []}, r"sizes=\[\]: expected"),
        ({"sizes": [[24, 40], [24, 40]]}, r"sizes=.* twice"),
        ({"sizes": [[24]]}, r"expected a positive side, or height and width"),
        ({"ratio": 0.5}, r"ratio=0\.5: expected at least 1"),
        ({"multiple": 0}, r"multiple=0: expected at least 1"),
        ({"cache": "somewhere"}, r"cache=somewhere: .* in memory"),
    ],
)
def test_invalid_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageBuckets(root=".", **settings)
