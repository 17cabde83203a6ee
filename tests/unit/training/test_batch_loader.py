"""Batches of a step: the same samples from memory, a cache and shards, read a step ahead, separate for each process."""

import threading
import time

import numpy as np
import pytest
import torch

from sde_gen.data import Augmentation, Batches, Dataset, HorizontalFlip, LazyImages, Shards, Splits
from sde_gen.data.codec import Affine, Scaled
from sde_gen.data.codec import UniformCodec as Uniform
from sde_gen.noise import IID
from sde_gen.objective import DSM, CrossEntropy
from sde_gen.objective.time_sampler import Stratified
from sde_gen.objective.time_sampler import UniformTime as Times
from sde_gen.objective.weighting import Simple
from sde_gen.sde import VP
from sde_gen.training.batch_loader import BatchLoader
from tests.helpers.catalogue import make, names
from tests.helpers.tar_images import shards
from tests.helpers.tiny_run import image_trainer, same, weights


class Numbers(LazyImages):
    """Row n holds n, and what is read is written down."""

    fingerprint = "numbers"

    def __init__(self, count: int = 30) -> None:
        self.shape = (count, 1, 2, 2)
        self.asked: list[list[int]] = []
        self.threads: set[str] = set()
        self.bad: int | None = None
        self.gate = threading.Event()
        self.gate.set()

    shape = ()

    def read(self, places, out):
        self.gate.wait(10)
        self.asked.append(places.tolist())
        self.threads.add(threading.current_thread().name)
        if self.bad in places:
            raise ValueError(f"row {self.bad} is damaged")
        out[:] = places.astype(np.uint8)[:, None, None, None]


def feed(
    rows: LazyImages, *, rank: int = 0, size: int = 1, whole: bool = False, steps: int = 8
) -> BatchLoader:
    data = Dataset(values=rows, labels=None, levels=256, classes=0)
    batches = Batches(size=len(rows), batch_size=12, seed=0)
    return BatchLoader(
        data=data, batches=batches, accumulation=3, rank=rank, size=size, steps=steps, whole=whole
    )


def settled(rows: Numbers, count: int) -> None:
    end = time.monotonic() + 10
    while len(rows.asked) < count and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(0.01)
    assert len(rows.asked) == count


def test_processes_read_disjoint_shares_that_make_up_the_batch():
    for size in (1, 2, 4):
        for step in range(7):
            wanted = Batches(size=30, batch_size=12, seed=0).indices(step)
            shares, whole = [], []
            for rank in range(size):
                rows = Numbers()
                micros = feed(rows, rank=rank, size=size, steps=step + 1)(step)
                shares += [place for asked in rows.asked for place in asked]
                for indices, values in micros:
                    mine = slice(rank * 4 // size, (rank + 1) * 4 // size)
                    expected = indices[mine].to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
                    assert values.shape == (4, 1, 2, 2)
                    assert torch.equal(values[mine], expected)
                whole.append(torch.cat([indices for indices, _ in micros]))
            assert sorted(shares) == sorted(wanted.tolist())  # each place once
            assert all(torch.equal(one, wanted) for one in whole)


def test_the_whole_batch_where_samples_are_coupled():
    for indices, values in feed(Numbers(), rank=1, size=2, whole=True)(3):
        assert torch.equal(values[:, 0, 0, 0], indices.to(torch.uint8))
    assert Augmentation.batch_coupled  # who does not say that it looks at each sample alone gets them all
    assert not HorizontalFlip().batch_coupled


def test_the_next_step_is_read_meanwhile_and_none_beyond_the_last():
    rows = Numbers()
    feeding = feed(rows, steps=3)
    feeding(0)
    settled(rows, 6)
    assert feeding(1)[0].values[0, 0, 0, 0] == feeding.batches.indices(1)[0]
    settled(rows, 9)
    feeding(2)
    settled(rows, 9)
    assert rows.asked == [
        part.tolist() for step in range(3) for part in feeding.batches.indices(step).chunk(3)
    ]
    assert len(rows.threads) == 2


def test_any_step_may_be_requested_again():
    rows = Numbers()
    feeding = feed(rows)
    for step in (0, 1, 5, 5, 4, 0, 1):
        for indices, values in feeding(step):
            assert torch.equal(values[:, 0, 0, 0], indices.to(torch.uint8))
        assert torch.equal(torch.cat([m.indices for m in feeding(step)]), feeding.batches.indices(step))


def test_errors_of_the_thread_are_raised_where_samples_are_requested():
    rows = Numbers()
    feeding = feed(rows)
    rows.bad = int(next(i for i in feeding.batches.indices(1) if i not in feeding.batches.indices(0)))
    feeding(0)
    with pytest.raises(ValueError, match="damaged"):
        feeding(1)
    with pytest.raises(ValueError, match="damaged"):  # not forgotten
        feeding(1)
    rows.bad = None
    assert len(feeding(1)) == 3


def test_a_feed_that_is_dropped_leaves_no_thread():
    rows = Numbers()
    before = set(threading.enumerate())
    feeding = feed(rows)
    rows.gate.clear()
    threading.Timer(0.05, rows.gate.set).start()
    feeding(0)
    (reader,) = [t for t in set(threading.enumerate()) - before if "ThreadPool" in t.name]
    del feeding
    reader.join(10)
    assert not reader.is_alive()


@pytest.mark.gpu
def test_rows_go_to_a_gpu_from_page_locked_memory():
    rows = Numbers().to("cuda")
    assert rows.fetch([3, 4]).is_pinned()
    for indices, values in feed(rows, rank=1, size=2)(3):
        assert values.device.type == "cuda"
        assert values[2:, 0, 0, 0].tolist() == indices[2:].tolist()


def test_tensors_are_read_by_no_thread():
    data = Dataset(values=torch.arange(30)[:, None], labels=None, levels=30, classes=0)
    batches = Batches(size=30, batch_size=12, seed=0)
    before = set(threading.enumerate())
    feeding = BatchLoader(data=data, batches=batches, accumulation=1, rank=1, size=2, steps=3, whole=False)
    (only,) = feeding(1)
    assert torch.equal(only.values[:, 0], batches.indices(1))
    assert set(threading.enumerate()) == before


# --- whole trainings


@pytest.fixture
def sources(tmp_path) -> dict[str, Splits]:
    shards(tmp_path)
    shared = {"train": str(tmp_path / "train-{000..002}.tar"), "size": 8, "test_fraction": 0.3}
    read = Shards(**shared).load()

    def memory(data: Dataset) -> Dataset:
        return Dataset(values=data.values[:], labels=data.labels, levels=256, classes=3)

    return {
        "memory": Splits(train=memory(read.train), test=memory(read.test)),
        "shards": read,
        "cache": Shards(**shared, cache=str(tmp_path / "cache")).load(),
    }


@pytest.mark.parametrize("kind", ["shards", "cache"])
def test_a_training_from_the_disk_is_one_from_memory_to_the_bit(tmp_path, sources, kind):
    trainings = {
        name: image_trainer(tmp_path / name, sources[name], accumulation=2) for name in ("memory", kind)
    }
    for training in trainings.values():
        assert training.run()
    assert same(*map(weights, trainings.values()))
    assert trainings["memory"].validation_loss() == trainings[kind].validation_loss()
    start = image_trainer(tmp_path / "none", sources[kind])
    assert not torch.equal(start.denoiser.net.conv.weight, trainings[kind].denoiser.net.conv.weight)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["shards", "cache"])
@pytest.mark.parametrize("steps", [1, 7])
def test_stopped_training_from_the_disk_resumes_bit_identically(tmp_path, sources, kind, steps):
    whole, first, second = (
        image_trainer(tmp_path / name, sources[kind]) for name in ("whole", "parts", "parts")
    )
    whole.run()
    first.stop = lambda: first.images >= 8 * steps
    assert not first.run()
    assert second.run()
    assert same(weights(whole), weights(second))


# --- what lets a process do without the samples of others


def halves() -> tuple[torch.Tensor, torch.Tensor]:
    """A batch, and one with the same first half."""
    values = torch.randint(256, (8, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return values, values[:4].repeat(2, 1, 1, 1)


UNCOUPLED = [name for name in names("augmentation") if not make("augmentation", name).batch_coupled]


@pytest.mark.parametrize("name", UNCOUPLED)
def test_an_augmentation_looks_at_each_sample_alone(name):
    augmentation = make("augmentation", name)
    one, other = (augmentation(values, torch.Generator().manual_seed(1)) for values in halves())
    assert torch.equal(one[:4], other[:4])


@pytest.mark.parametrize("codec", [Affine(), Uniform(levels=256), Scaled(levels=256, last=255.0)])
def test_a_codec_looks_at_each_sample_alone(codec):
    one, other = (codec.encode(values, IID.seeded(1)) for values in halves())
    assert torch.equal(one[:4], other[:4])


TIMES = Stratified(distribution=Times())


@pytest.mark.parametrize(
    "objective", [DSM(time_sampler=TIMES, weighting=Simple()), CrossEntropy(time_sampler=TIMES)]
)
def test_objective_draws_do_not_depend_on_the_samples(objective):
    one, other = (objective.draw(VP(), values.float(), IID.seeded(1)) for values in halves())
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(one, other, strict=True))
