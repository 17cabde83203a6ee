"""Time the training step: images/s by number format, and the share of the step outside forward and backward.

    python benchmarks/train_step.py [--recipe fashion_mnist_cpu] [--images 1920] [--device auto] [--out FOLDER]

Prints a table and writes JSON with machine, commit and versions. Rounds alternate between the formats, so that
a change of the machine's load meets all of them.
"""

import argparse
import json
import platform
import statistics
import tempfile
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from sde_gen import build, show
from sde_gen.door import CONF
from sde_gen.engine import Listener
from sde_gen.engine.listener import Record


class Records(Listener):
    """Keep what is logged."""

    def __init__(self) -> None:
        self.records: list[dict[str, object]] = []

    def log(self, record: Record) -> None:
        """Keep a record."""
        self.records.append(dict(record))


def measure(recipe: str, precision: str, images: int, device: str) -> dict:
    """Train a little and return the last record of the log; the first images warm up."""
    overrides = [
        f"recipe={recipe}",
        f"precision={precision}",
        f"engine.images={2 * images}",
        f"device={device}",
    ]
    overrides += [f"engine.log_every={images}", "engine.validate=0", "engine.preview_every=1000000000"]
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*overrides, f"run={folder}/run", "engine.checkpoint_every=1000000000"])
        records = Records()
        build.trainer(config, instantiate(config.data).load(), listeners=[records]).run()
    return records.records[-1]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="fashion_mnist_cpu")
    parser.add_argument("--images", type=int, default=1920)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    found: dict[str, list[dict]] = {"float32": [], "bfloat16": []}
    for _ in range(arguments.rounds):
        for precision, records in found.items():
            records.append(measure(arguments.recipe, precision, arguments.images, arguments.device))
    rows = []
    for precision, records in found.items():
        speeds = [record["images_per_second"] for record in records]
        rows.append(
            {
                "precision": precision,
                "images_per_second": statistics.median(speeds),
                "least": min(speeds),
                "most": max(speeds),
                "share_outside": statistics.median(r["share_outside_forward_backward"] for r in records),
                "peak_memory_mb": max(record["peak_memory_mb"] for record in records),
            }
        )
    about = {
        "recipe": arguments.recipe,
        "batches": arguments.images,
        "rounds": arguments.rounds,
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": build.versions(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"train_step_{arguments.recipe}.json"
    path.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    show.sheet(
        f"training step of {arguments.recipe}, {about['processor']}, {about['threads']} threads",
        ["format", "images/s", "least..most", "ratio", "outside fwd+bwd", "peak MB"],
        [
            [
                row["precision"],
                f"{row['images_per_second']:.1f}",
                f"{row['least']:.1f}..{row['most']:.1f}",
                f"{row['images_per_second'] / rows[0]['images_per_second']:.2f}",
                f"{100 * row['share_outside']:.1f} %",
                f"{row['peak_memory_mb']:.0f}",
            ]
            for row in rows
        ],
    )
    show.console.print(str(path))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
