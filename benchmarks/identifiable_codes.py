"""Do networks trained independently give an image the same code? The probability flow says so: it belongs to the data.

    python benchmarks/identifiable_codes.py --runs runs/first runs/second [--images 64] [--steps 40] [--out FOLDER]

Both networks encode the same dequantized test images. A code is compared with the other network's code of the same
image and, for control, of another one: by the correlation over dimensions, as codes and less the mean code, for
whatever all codes share says nothing of an image. Codes of the first network are also decoded by the second. The error
of the solver's steps is that of a network's own way there and back. Prints a table and writes JSON.

Source: Song et al., 2021, arXiv:2011.13456, section D.5.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor

from sde_gen.cli import console
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.cli.versions import package_versions
from sde_gen.grid import Angle
from sde_gen.inverse.editing import Editor
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver import RungeKutta4


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Over the dimensions of every sample, with shape (B,)."""
    a, b = (v.flatten(1) - v.flatten(1).mean(1, keepdim=True) for v in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def distance(a: Tensor, b: Tensor) -> float:
    """Root mean square over samples and dimensions."""
    return float((a - b).square().mean().sqrt())


def summary(values: Tensor) -> dict[str, float]:
    """Mean, its standard error, and the least."""
    return {
        "mean": float(values.mean()),
        "standard_error": float(values.std()) / len(values) ** 0.5,
        "least": float(values.min()),
    }


def compare(runs: list[Run], images: int, steps: int) -> dict[str, Any]:
    """Encode by both, and compare."""
    data = open_data(runs[0]).test
    x = runs[0].codec.encode(data.values[:images], PerSample(spawn_seeds(0, images)))
    models = [run.bind(run.conditioning.given(data.given(range(images)))) for run in runs]
    editor = Editor(sampler=Sampler(solver=RungeKutta4(), grid=Angle(), steps=steps, denoise_final=False))
    first, second = (editor.round_trip(model, x) for model in models)
    a, b, other = first.latents, second.latents, second.latents.roll(1, 0)
    crossed, control = (editor.decode(models[1], z) for z in (a, other))
    return {
        "codes, same image": summary(correlation(a, b)),
        "codes, another image (control)": summary(correlation(a, other)),
        "codes less the mean code, same image": summary(correlation(a - a.mean(0), b - b.mean(0))),
        "codes less the mean code, another image (control)": summary(
            correlation(a - a.mean(0), other - b.mean(0))
        ),
        "distances in units of the data": {
            "there and back by the first": distance(first.reconstruction, x),
            "there and back by the second": distance(second.reconstruction, x),
            "there by the first, back by the second": distance(crossed, x),
            "back by the second from the code of another image (control)": distance(control, x),
        },
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, nargs=2, required=True, help="run folders trained on the same data"
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40, help="of the solver, four evaluations each")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    asked = {"checkpoint": None, "trust": [], "device": "cpu"}
    runs = [load_run(OmegaConf.create({"run": str(folder), **asked})) for folder in arguments.runs]
    found = compare(runs, arguments.images, arguments.steps)
    report = {
        "runs": [
            {"run": run.folder.name, "sde": run.config.sde._target_, "seed": run.config.engine.seed}
            for run in runs
        ],
        "images": arguments.images,
        "steps": arguments.steps,
        "machine": platform.machine(),
        "versions": package_versions(),
        "correlations": {name: row for name, row in found.items() if "mean" in row},
        "distances": found["distances in units of the data"],
    }
    console.print_summary(
        f"codes of {arguments.images} images by two networks",
        ["correlation over dimensions", "mean +- s.e.", "least"],
        [
            [name, f"{row['mean']:.3f} +- {row['standard_error']:.3f}", f"{row['least']:.3f}"]
            for name, row in report["correlations"].items()
        ],
    )
    console.print_summary(
        "images from codes",
        ["root mean square distance from the image", "units of the data"],
        [[name, f"{value:.4f}"] for name, value in report["distances"].items()],
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "identifiable_codes.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    console.console.print(str(path))


if __name__ == "__main__":
    main()
