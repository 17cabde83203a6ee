"""Time the ways of the data to a step: in memory, mapped from a cache, decoded from tar shards.

    python -m benchmarks.data_throughput [--size 64] [--images 4096] [--batch 64] [--steps 50] [--rounds 10]
                                         [--workers 1 2 4] [--compute 0 50] [--kind jpeg] [--out FOLDER]

Random pictures of twice the size are packed into shards, and cached. Then every way feeds the same steps: without
anything to do in between (``--compute 0``), which is the most that it can give, and with a step that takes a number of
milliseconds and leaves the processor alone, as that of a GPU does: there the next step is read meanwhile. Ratios are to
memory in the same round. The shards and the cache have just been written, so they come from the operating system's
memory: this times the work, not a disk. Prints a table and writes JSON with machine, commit and versions.
"""

import argparse
import io
import json
import statistics
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import machine
from sde_gen.cli import console
from sde_gen.data import Batches, Dataset, Shards
from sde_gen.training.batch_loader import BatchLoader


def write_shards(folder: Path, images: int, side: int, kind: str) -> str:
    """Pictures as smooth as photographs are, in tar files of 512."""
    rng = np.random.default_rng(0)
    for first in range(0, images, 512):
        with tarfile.open(folder / f"train-{first // 512:06d}.tar", "w") as archive:
            for index in range(first, min(first + 512, images)):
                coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
                content = io.BytesIO()
                coarse.resize((side, side), Image.Resampling.BICUBIC).save(content, kind)
                member = tarfile.TarInfo(f"{index:08d}.{kind}")
                member.size = content.tell()
                content.seek(0)
                archive.addfile(member, content)
    return str(folder / "train-*.tar")


def images_per_second(data: Dataset, *, batch: int, steps: int, compute: float) -> float:
    """Feed some steps that each take the given seconds."""
    batches = Batches(size=len(data), batch_size=batch, seed=0)
    feed = BatchLoader(
        data=data, batches=batches, accumulation=1, rank=0, size=1, steps=steps + 1, whole=False
    )
    feed(0)
    begin = time.perf_counter()
    for step in range(1, steps + 1):
        time.sleep(compute)
        feed(step)
    return batch * steps / (time.perf_counter() - begin)


def sources(folder: Path, arguments: argparse.Namespace) -> dict[str, Dataset]:
    """The ways, by their names; all hold the same images."""
    pattern = write_shards(folder, arguments.images, 2 * arguments.size, arguments.kind)
    shared = {"train": pattern, "size": arguments.size}
    cached = Shards(**shared, cache=str(folder / "cache")).load().train
    memory = Dataset(values=cached.values[:], labels=None, levels=256, classes=0)
    read = {
        f"shards, {workers} at a time": Shards(**shared, workers=workers).load().train
        for workers in arguments.workers
    }
    return {"memory": memory, "cache": cached, **read}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument(
        "--compute", type=float, nargs="+", default=[0.0, 50.0], help="milliseconds of a step"
    )
    parser.add_argument("--kind", choices=("jpeg", "png", "webp"), default="jpeg")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ways = sources(Path(folder), arguments)
        kinds = [(compute, name) for compute in arguments.compute for name in ways]
        speeds: dict[tuple[float, str], list[float]] = {kind: [] for kind in kinds}
        for _ in range(arguments.rounds):
            for compute, name in kinds:
                speed = images_per_second(
                    ways[name], batch=arguments.batch, steps=arguments.steps, compute=compute / 1000
                )
                speeds[compute, name].append(speed)
    rows: list[dict[str, Any]] = []
    for (compute, name), found in speeds.items():
        ratios = [speed / memory for speed, memory in zip(found, speeds[compute, "memory"], strict=True)]
        rows.append(
            {
                "milliseconds_of_a_step": compute,
                "data": name,
                "images_per_second": statistics.median(found),
                "ratio": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
            }
        )
    about = {
        **machine.about(torch.device("cpu")),
        **{name: getattr(arguments, name) for name in ("size", "images", "batch", "steps", "rounds", "kind")},
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "data_throughput.json"
    path.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    console.print_summary(
        f"{arguments.kind} of {2 * arguments.size} pixels to {arguments.size}, batches of {arguments.batch}",
        ["a step takes", "data", "images/s", "of memory's", "range"],
        [
            [
                f"{row['milliseconds_of_a_step']:g} ms",
                row["data"],
                f"{row['images_per_second']:.0f}",
                f"{row['ratio']:.3f}",
                "{:.3f} to {:.3f}".format(*row["ratio_range"]),
            ]
            for row in rows
        ],
    )
    console.console.print(str(path))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
