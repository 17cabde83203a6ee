"""Several processes train as one: the same batches, noise, gradients and checkpoints."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from sde_gen.checkpoint import store as checkpoint
from sde_gen.data import Augmentation, Batches, Shards
from sde_gen.data.codec import Affine
from sde_gen.data.image import resized
from sde_gen.denoiser import Denoiser
from sde_gen.distributed.fsdp import FSDP
from sde_gen.distributed.strategy import DDP, SingleProcess, Strategy, init_distributed
from sde_gen.noise import Noise
from sde_gen.objective import DSM, Loss, NoiseDraw
from sde_gen.objective.time_sampler import UniformTime
from sde_gen.objective.weighting import Simple
from sde_gen.training import Callback
from tests.contract import test_model
from tests.helpers import tar_images
from tests.helpers.commands import TINY, enter
from tests.helpers.subprocesses import together
from tests.helpers.tiny_run import Net, image_trainer, points, read, trainer, weights

ROOT = Path(__file__).parents[2]


def double() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(dropout=0.0, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Double(Affine):
    """Continuous data in float64, so that sums in another order agree closely."""

    def encode(self, values: torch.Tensor, noise: Noise | None = None) -> torch.Tensor:
        return super().encode(values, noise).double()


@dataclass(frozen=True, kw_only=True)
class Poisoned(Affine):
    """A map that fails on sample 7."""

    def encode(self, values: torch.Tensor, noise: Noise | None = None) -> torch.Tensor:
        bad = (values == points(50).values[7]).all(1, keepdim=True)
        return torch.where(bad, torch.nan, super().encode(values, noise))


@dataclass(frozen=True, kw_only=True)
class Mirror(Augmentation):
    """Change the sign of about half of the samples."""

    def __call__(self, values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.where(torch.rand(len(values), 1, generator=generator) < 0.5, values, -values)


class Seen(Callback):
    """Callback of the first process."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_log(self, record: dict[str, float]) -> None:
        self.losses.append(record["loss"])


def train(
    folder: Path,
    out: Path,
    settings: dict[str, int],
    stop_at: int = 10**9,
    kind: Callable[[], Strategy] = DDP,
) -> None:
    """Train, and leave what came of it; the last process is the only one to be asked to stop."""
    seen = Seen()
    with init_distributed(kind) as strategy:
        parts = {"net": double(), "augmentation": Mirror(), "train": points(50), "codec": Double()}
        training = trainer(folder, settings=settings, callbacks=[seen], strategy=strategy, **parts)
        training.stop = lambda: strategy.rank == strategy.size - 1 and training.images >= stop_at
        training.run()
        results = {
            "losses": torch.tensor(seen.losses),
            "validation": torch.tensor(training.validation_loss()),
        }
        state = {name: strategy.full_tensor(value) for name, value in weights(training).items()}
        torch.save({**state, **results}, out.with_suffix(f".{strategy.rank}"))


SETTINGS = {"images": 96, "batch_size": 8, "accumulation": 2, "validate": 10}


KINDS = DDP, FSDP

SHARED = [
    (step, share, row)
    for step in range(12)
    for share, part in enumerate(Batches(size=50, batch_size=8, seed=0).indices(step).chunk(4))
    for row, index in enumerate(part.tolist())
    if index == 7
]
"""Position of sample 7: step; micro-batch and process, four shares in all; index within the share."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("alone")
    train(folder / "run", folder / "out", SETTINGS)
    return torch.load(folder / "out.0")


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_are_one(
    tmp_path: Path, alone: dict[str, torch.Tensor], kind: Callable[[], Strategy]
) -> None:
    """Twelve steps of Adam in float64: samples, times, noise and labels are those of one process."""
    together(2, train, tmp_path / "run", tmp_path / "out", SETTINGS, 10**9, kind)
    first, second = (torch.load(tmp_path / f"out.{rank}") for rank in range(2))
    for name, value in alone.items():
        if not name.endswith("calls"):  # every process counts its own
            torch.testing.assert_close(first[name], value, rtol=1e-9, atol=1e-11)
            if name != "losses":  # only the first process has callbacks
                assert torch.equal(first[name], second[name]), name
    assert len(checkpoint.paths(tmp_path / "run" / "checkpoints")) == 2


GOING_ON = [
    pytest.param((2, FSDP), (2, FSDP), marks=pytest.mark.slow),  # one shard by two processes is tried below
    ((2, FSDP), (2, DDP)),
    ((2, FSDP), (0, SingleProcess)),
    pytest.param((2, DDP), (2, FSDP), marks=pytest.mark.slow),  # writes and is read as in two others
    ((2, DDP), (0, SingleProcess)),
    ((0, SingleProcess), (2, FSDP)),
    ((0, SingleProcess), (2, DDP)),
    ((1, FSDP), (2, FSDP)),
]
"""Processes that begin and processes that go on; none are started for a process alone, which is this one."""


def start_or_resume(
    who: tuple[int, Callable[[], Strategy]], folder: Path, out: str, *arguments: object
) -> None:
    size, kind = who
    work = folder / "run", folder / out, SETTINGS, *arguments, kind
    together(size, train, *work) if size else train(*work)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[int, Callable[[], Strategy]]], Path]:
    """The folder of a training that processes of a kind have begun, once for all that go on from it."""

    @cache
    def half(who: tuple[int, Callable[[], Strategy]]) -> Path:
        folder = tmp_path_factory.mktemp("begun")
        start_or_resume(who, folder, "half", 40)
        assert [path.name for path in checkpoint.paths(folder / "run" / "checkpoints")] == [f"{40:012d}"]
        return folder / "run"

    return half


@pytest.mark.parametrize(("before", "after"), GOING_ON)
def test_checkpoint_resumes_with_other_processes(
    tmp_path: Path,
    alone: dict[str, torch.Tensor],
    begun: Callable[[tuple[int, Any]], Path],
    before: tuple[int, Any],
    after: tuple[int, Any],
) -> None:
    shutil.copytree(begun(before), tmp_path / "run")
    start_or_resume(after, tmp_path, "out", 10**9)
    found = torch.load(tmp_path / "out.0")
    for name in (name for name in alone if name.startswith(("net", "ema")) and not name.endswith("calls")):
        torch.testing.assert_close(found[name], alone[name], rtol=1e-9, atol=1e-11)


def load_from_disk(folder: Path, out: Path, cached: bool) -> None:
    """Leave what this process goes on with of four steps, and how many images it decodes for them."""
    decoded = 0
    with init_distributed() as strategy, pytest.MonkeyPatch.context() as patch:

        def count(*arguments: Any, **settings: Any) -> torch.Tensor:
            nonlocal decoded
            decoded += 1
            return resized(*arguments, **settings)

        patch.setattr("sde_gen.data.tar_images.resized", count)
        cache = str(folder / "cache") if cached else None
        splits = Shards(train=str(folder / "train-*.tar"), size=8, workers=1, cache=cache).load()
        settings = {"accumulation": 2, "images": 32, "validate": 0}
        training = image_trainer(out.with_suffix(""), splits, strategy, **settings)
        seen = [
            training.train_step.compute_gradients(
                training.ddp_model, step, training.metrics.forward_backward_timer
            )
            for step in range(4)
        ]
        found = [
            torch.stack(part)
            for part in zip(*((x0, loss.t) for step in seen for x0, loss in step), strict=True)
        ]
        torch.save((*found, decoded), out.with_suffix(f".{strategy.rank}"))


@pytest.mark.parametrize("cached", [False, True])
def test_processes_read_their_shares_from_the_disk_and_together_make_the_batch(
    tmp_path: Path, cached: bool
) -> None:
    """To the bit: samples, mirrored and dequantized, and times. Of two processes one makes the cache."""
    tar_images.shards(tmp_path)
    together(2, load_from_disk, tmp_path, tmp_path / "two", cached)
    load_from_disk(tmp_path, tmp_path / "one", cached)
    x0, t, _ = torch.load(tmp_path / "one.0")
    (x0_0, t_0, count_0), (x0_1, t_1, count_1) = (torch.load(tmp_path / f"two.{rank}") for rank in range(2))
    assert torch.equal(x0, torch.cat([x0_0, x0_1], 1))
    assert torch.equal(t, torch.cat([t_0, t_1], 1))
    assert sorted([count_0, count_1]) == (
        [0, 24] if cached else [16, 16]
    )  # of 24 images, and 32 of four steps


def evaluate_selection(out: Path, kind: Callable[[], Strategy]) -> None:
    """The held-out loss of the average after each of three steps."""
    with init_distributed(kind) as strategy:
        training = trainer(out, settings=SETTINGS, net=double(), codec=Double(), strategy=strategy)
        found = []
        for step in range(3):
            training.step(step)
            found.append(training.validation_loss())
        torch.save(torch.tensor(found, dtype=torch.float64), out.with_suffix(f".{strategy.rank}"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_average_is_judged_as_it_stands(tmp_path: Path, kind: Callable[[], Strategy]) -> None:
    """Processes share the held-out samples, ten in micro-batches of four; weights put together are let go of."""
    evaluate_selection(tmp_path / "alone", SingleProcess)
    together(2, evaluate_selection, tmp_path / "two", kind)
    alone = torch.load(tmp_path / "alone.0")
    assert len(set(alone.tolist())) == 3
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"two.{rank}"), alone, rtol=1e-9, atol=0)


class Scattered(TorchDispatchMode):
    """Count how often FSDP reduces gradients; DDP sends from C++, unseen."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "reduce_scatter" in str(func)
        return func(*args, **(kwargs or {}))


def to_device(kind: Callable[[], Strategy], out: Path) -> None:
    """Count the reductions of gradients in three steps of four micro-batches each."""
    buckets: list[int] = []

    def hook(state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        buckets.append(bucket.index())
        dist.all_reduce(bucket.buffer())
        # finished here: a future of gloo's would let its threads wait for Python while Python waits for them to end
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer().div_(strategy.size))
        return done

    with init_distributed(kind) as strategy:
        training = trainer(
            out, settings={**SETTINGS, "accumulation": 4}, net=double(), codec=Double(), strategy=strategy
        )
        if isinstance(training.ddp_model.net, DistributedDataParallel):
            training.ddp_model.net.register_comm_hook(None, hook)
        training.denoiser.train()
        with Scattered() as scattered:
            for step in range(3):
                training.step(step)
        torch.save(
            {"buckets": len(buckets), "scattered": scattered.count}, out.with_suffix(f".{strategy.rank}")
        )


@pytest.mark.parametrize(("kind", "how"), [(DDP, "buckets"), (FSDP, "scattered")])
def test_gradients_are_sent_once_a_step(tmp_path: Path, kind: Callable[[], Strategy], how: str) -> None:
    """The small network is one bucket and one group."""
    together(2, to_device, kind, tmp_path / "out")
    assert torch.load(tmp_path / "out.0")[how] == 3


def divided(out: Path) -> None:
    """Share out every network, blocks within blocks too, and take its gradients."""
    with init_distributed(FSDP) as strategy:
        for name in test_model.MODELS:
            net = test_model.randomize(test_model.build(name))
            x, c_noise = test_model.batch(name)
            exact = net(x, c_noise)
            strategy.wrap(net)
            found = net(x, c_noise)
            torch.testing.assert_close(found, exact)
            found.square().sum().backward()
    out.write_text("done")


@pytest.mark.slow
def test_every_network_can_be_shared_out(tmp_path: Path) -> None:
    together(1, divided, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "done"


def drop_replica_early(seen: Path) -> None:
    """Drop a replica while a thread of gloo is busy with something that needs Python's lock at its end."""
    with init_distributed() as strategy:
        net = strategy.wrap(torch.nn.Linear(2, 2))
        begun = threading.Event()

        def linger(_: object) -> None:
            begun.set()
            time.sleep(0.3)

        time.sleep(0.1 * strategy.rank)  # so that the first process has asked before the numbers come
        dist.all_reduce(torch.ones(2), async_op=True).get_future().then(linger)
        assert begun.wait(10)
    del net
    seen.with_suffix(f".{strategy.rank}").touch()


def test_a_replica_that_outlives_the_process_group_can_be_dropped(tmp_path: Path) -> None:
    """Its reducer must not be the last to hold the group: it would wait for that thread with the lock held."""
    together(2, drop_replica_early, tmp_path / "left")
    assert len(list(tmp_path.iterdir())) == 2


def train_by_command(folder: Path, *more: str) -> None:
    with warnings.catch_warnings():  # of gloo, which has no device to name
        warnings.simplefilter("ignore")
        enter(
            "train",
            *TINY,
            "model.dropout=0",
            "engine.images=128",
            "precision=float32",
            f"run={folder}",
            *more,
        )


@pytest.mark.slow
def test_a_sharded_training_leaves_an_ordinary_run(tmp_path: Path) -> None:
    """One of convolutions in channels_last, blocks and filters, as one process leaves it, and usable at every command.

    Commands need neither the last weights nor the optimizer. The training goes on with one process and with replicas.
    """
    train_by_command(tmp_path / "one")
    together(2, train_by_command, tmp_path / "two", "distributed=fsdp")
    one, two = (checkpoint.latest(tmp_path / name / "checkpoints") for name in ("one", "two"))
    assert one is not None
    assert two is not None
    for part in ("net", "ema", "optimizer"):
        expected, found = read(getattr(one, part)), read(getattr(two, part))
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-5, msg=f"{part} {name}")
    assert (tmp_path / "two" / "previews").is_dir() == (tmp_path / "one" / "previews").is_dir()
    shutil.copytree(tmp_path / "two", tmp_path / "lean")
    for part in ("net", "optimizer"):
        for file in (tmp_path / "lean").glob(f"checkpoints/*/{part}.*"):
            file.unlink()
    run = f"run={tmp_path / 'lean'}"
    for name in ("null", "best"):
        enter("sample", run, "n=2", "steps=2", f"checkpoint={name}", f"out={tmp_path / name}")
    enter("evaluate", run, "n=4", "integrator.steps=2", f"out={tmp_path / 'evaluation'}")
    enter(
        "benchmark",
        run,
        "n=2",
        "solvers=ddim",
        "steps=2",
        "reference.steps=8",
        f"out={tmp_path / 'benchmark'}",
    )
    train_by_command(tmp_path / "two", "engine.images=192")
    together(2, train_by_command, tmp_path / "two", "engine.images=256", "distributed=ddp")
    assert [path.name for path in checkpoint.paths(tmp_path / "two" / "checkpoints")][-1] == f"{256:012d}"


class Heavy(DSM):
    """An objective that finds sample 7 infinitely wrong, with a finite gradient."""

    def loss(self, denoiser: Denoiser, /, x0: torch.Tensor, draw: NoiseDraw, **cond: torch.Tensor) -> Loss:
        found = super().loss(denoiser, x0, draw, **cond)
        bad = (x0 == points(50).values[7]).all(1)
        return found._replace(per_sample=found.per_sample + torch.where(bad, torch.inf, 0.0))


SPOILT: dict[str, dict[str, Any]] = {
    "sample": {"codec": Poisoned()},
    "loss": {"objective": Heavy(time_sampler=UniformTime(), weighting=Simple())},
}


def spoil(folder: Path, what: str) -> None:
    """Something that is not finite lies in the share of one process."""
    with init_distributed() as strategy:
        training = trainer(folder, settings=SETTINGS, strategy=strategy, train=points(50), **SPOILT[what])
        with pytest.raises(FloatingPointError, match=f"not finite in step {SHARED[0][0]} ") as stop:
            training.run()
        assert ("not_finite.safetensors" in str(stop.value)) == (strategy.rank == 0)
        _, share, row = SHARED[0]
        assert f"row {2 * share + row}:" in str(stop.value), "among all processes"


@pytest.mark.parametrize("what", SPOILT)
def test_all_stop_at_what_is_not_finite_in_one(tmp_path: Path, what: str) -> None:
    together(2, spoil, tmp_path / "run", what)
    assert (tmp_path / "run" / "not_finite.safetensors").is_file()


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    strategy = SingleProcess()
    strategy.size = 3
    with pytest.raises(
        ValueError, match="batch_size=8 is not a multiple of accumulation=2 times 3 processes"
    ):
        trainer(tmp_path, settings=SETTINGS, strategy=strategy)


@contextmanager
def torchrun(folder: Path, *more: str, restarts: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Start a training by torchrun; every restart has its own store, so that processes can start again."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [f"--max-restarts={restarts}", "-m", "sde_gen.train", *TINY, f"run={folder}", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield running
    finally:
        running.terminate()  # torchrun ends its processes, and kills those that do not
        running.communicate(timeout=60)


def await_checkpoints(running: subprocess.Popen[str], folder: Path, count: int) -> None:
    while len(checkpoint.paths(folder / "checkpoints")) < count:
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)


def kill_a_process(running: subprocess.Popen[str]) -> None:
    """One of those that torchrun started."""
    children = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_the_command_trains_together_and_survives_a_lost_process(tmp_path: Path, kind: str) -> None:
    words = "engine.checkpoint_every=64", f"distributed={kind}"
    with torchrun(tmp_path, "engine.images=1000000", *words) as running:
        await_checkpoints(running, tmp_path, 2)
        kill_a_process(running)
        out, err = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "lost the connection" in err or "SIGTERM" in err or "SIGKILL" in err, err
    found = checkpoint.latest(tmp_path / "checkpoints")
    assert found is not None
    images = found.images // 64 * 64 + 256
    with torchrun(tmp_path, f"engine.images={images}", *words) as running:
        out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert len(re.findall("training of", out)) == 1, "one process speaks"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_torchrun_resumes_after_a_lost_process(tmp_path: Path, kind: str) -> None:
    words = (
        "engine.images=3200",
        "engine.checkpoint_every=64",
        "engine.preview_every=3200",
        f"distributed={kind}",
    )
    with torchrun(tmp_path, *words, restarts=1) as running:
        await_checkpoints(running, tmp_path, 2)
        kill_a_process(running)
        out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert "3,200 of 3,200" in out
    records = [json.loads(line)["images"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert records.count(64) == 1, "it did not begin again"
    assert records[-1] == 3200


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_sigterm_to_all_saves_where_they_stand(tmp_path: Path, kind: str) -> None:
    words = (
        "engine.images=1000000",
        "engine.checkpoint_every=1000000",
        "engine.log_every=64",
        f"distributed={kind}",
    )
    with torchrun(tmp_path, *words) as running:
        log = tmp_path / "log.jsonl"
        while not log.exists() or not log.read_text():
            assert running.poll() is None, running.communicate()
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)  # torchrun forwards it
        out, err = running.communicate(timeout=120)
    assert "the same command continues" in out, err
    found = checkpoint.latest(tmp_path / "checkpoints")
    assert found is not None
    assert found.images >= 64
