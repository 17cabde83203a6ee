"""Train the same network in float32 and in bfloat16: is the loss the same?

    python benchmarks/precision_curves.py [--recipe fashion_mnist_cpu] [--images 16000] [--seeds 3] [--out FOLDER]

Two trainings of one seed see the same images, times and noise, whatever their format, and have the same masks of
dropout. So the effect of the format is the difference within a seed; beside it is its standard error over seeds. Losses
are those of the averaged weights on held-out images, with noise of the seed; how far the seeds lie apart is what chance
does. Prints a table, draws the curves, and writes JSON with machine, commit and versions.
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
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sde_gen.cli import build, console
from sde_gen.cli.config_files import CONF
from sde_gen.cli.versions import package_versions
from sde_gen.data import Splits
from sde_gen.training import Callback, Trainer
from sde_gen.training.callbacks import Record
from sde_gen.training.precision import exact_float32

FORMATS = ("float32", "bfloat16")
POINTS = 20
HELD_OUT = 512


class Curve(Callback):
    """Keep the losses; the one on held-out images is measured at every record."""

    def __init__(self) -> None:
        self.images: list[int] = []
        self.train: list[float] = []
        self.held_out: list[float] = []
        self.speed: list[float] = []
        self.trainer: Trainer | None = None

    def on_log(self, record: Record) -> None:
        """Store a record of the log."""
        assert self.trainer is not None
        loss = self.trainer.validation_loss()
        assert loss is not None
        self.images.append(int(record["images"]))  # type: ignore[arg-type]
        self.train.append(float(record["loss"]))  # type: ignore[arg-type]
        self.speed.append(float(record["images_per_second"]))  # type: ignore[arg-type]
        self.held_out.append(loss)


def train(recipe: str, splits: Splits, *, precision: str, seed: int, images: int, device: str) -> Curve:
    """Train, and return the losses."""
    never = 10**12
    numbers = {
        "images": images,
        "seed": seed,
        "log_every": images // POINTS,
        "preview_every": never,
        "checkpoint_every": never,
        "validate": HELD_OUT,
    }
    curve = Curve()
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [f"engine.{key}={value}" for key, value in numbers.items()]
        config = compose(
            "train",
            [
                f"recipe={recipe}",
                f"precision={precision}",
                f"run={folder}/run",
                f"device={device}",
                *overrides,
            ],
        )
        curve.trainer = build.trainer(config, splits, callbacks=[curve])
        curve.trainer.run()
    return curve


def main() -> None:
    """Train all, print, draw and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="fashion_mnist_cpu")
    parser.add_argument("--images", type=int, default=16_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    exact_float32()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        splits = instantiate(compose("train", [f"recipe={arguments.recipe}"]).data).load()
    curves: dict[str, list[Curve]] = {name: [] for name in FORMATS}
    for seed in range(arguments.seeds):
        for name, found in curves.items():
            found.append(
                train(
                    arguments.recipe,
                    splits,
                    precision=name,
                    seed=seed,
                    images=arguments.images,
                    device=arguments.device,
                )
            )
            console.console.print(f"seed {seed}, {name}: {found[-1].held_out[-1]:.5f} on held-out images")
    rows = [row(curves, point) for point in range(len(curves["float32"][0].images))]
    device = build.device(arguments.device)
    about = {
        "recipe": arguments.recipe,
        "images": arguments.images,
        "seeds": arguments.seeds,
        "held_out": HELD_OUT,
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "versions": package_versions(),
    }
    losses = {
        name: [{"train": c.train, "held_out": c.held_out, "images_per_second": c.speed} for c in found]
        for name, found in curves.items()
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"precision_curves_{device.type}.json"
    path.write_text(json.dumps({**about, "rows": rows, "curves": losses}, indent=1) + "\n")
    draw(curves, path.with_suffix(".png"))
    console.print_summary(
        f"loss on {HELD_OUT} held-out images, {arguments.recipe}, {arguments.seeds} seeds",
        ["images", *FORMATS, "bfloat16 - float32", "+-", "between seeds"],
        [
            [
                f"{found['images']:,}",
                *(f"{found[name]:.5f}" for name in FORMATS),
                f"{found['difference']:+.5f}",
                f"{found['standard_error']:.5f}",
                f"{found['between_seeds']:.5f}",
            ]
            for found in rows[3::4]
        ],
    )
    console.console.print(str(path))


def row(curves: dict[str, list[Curve]], point: int) -> dict[str, float]:
    """Means over seeds after a number of images, the mean difference, its standard error, and the spread of seeds."""
    losses = {name: [curve.held_out[point] for curve in found] for name, found in curves.items()}
    differences = [b - a for a, b in zip(losses["float32"], losses["bfloat16"], strict=True)]
    many = len(differences) > 1
    return {
        "images": curves["float32"][0].images[point],
        **{name: statistics.mean(found) for name, found in losses.items()},
        "difference": statistics.mean(differences),
        "standard_error": statistics.stdev(differences) / len(differences) ** 0.5 if many else float("nan"),
        "between_seeds": statistics.stdev(losses["float32"]) if many else float("nan"),
    }


def draw(curves: dict[str, list[Curve]], path: Path) -> None:
    """Draw all curves, and the differences within a seed."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    losses, differences = figure.subplots(1, 2)
    for name, color in zip(FORMATS, ("tab:blue", "tab:orange"), strict=True):
        for seed, curve in enumerate(curves[name]):
            losses.plot(curve.images, curve.held_out, color=color, lw=1, label=name if seed == 0 else None)
    for seed, (a, b) in enumerate(zip(*curves.values(), strict=True)):
        gaps = [mine - original for mine, original in zip(b.held_out, a.held_out, strict=True)]
        differences.plot(a.images, gaps, lw=1, label=f"seed {seed}")
    losses.set(xlabel="images", ylabel="loss on held-out images", yscale="log")
    differences.set(xlabel="images", ylabel="bfloat16 - float32")
    differences.axhline(0, color="black", lw=0.5)
    losses.legend()
    differences.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
