"""Measure how often samples show what their captions say: four digits on a canvas, in combinations never seen.

    python benchmarks/text_adherence.py RUN [--n 500] [--scales 0 1 3] [--steps 20] [--out FOLDER]

RUN is a run of data=digit_grids and conditioning=text. A classifier of 8x8 cells, trained on the cells of the training
canvases, reads the samples for captions of the held-out canvases. Per scale of classifier-free guidance: the share of
cells, and of canvases with all four cells, that are read as the caption says, with standard errors. Null: the same
samples beside shuffled captions. Ceiling: the held-out canvases. Prints a table, writes JSON and a picture.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from sde_gen.cli import console
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.cli.versions import package_versions
from sde_gen.data import Dataset
from sde_gen.guidance import CFG
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.utils.images import save_samples


class Reader:
    """A support-vector classifier of the digit in every cell of a canvas, 10 for an empty one.

    Arguments:
        data: canvases and the digits of their cells.
        count: number of canvases that it is trained on.
    """

    def __init__(self, data: Dataset, count: int = 2000) -> None:
        from sklearn.svm import SVC

        values = data.values[:count]
        assert isinstance(values, Tensor)
        self.model = SVC(gamma=0.001).fit(
            cells_of(values).numpy(), data.conditions["cells"][:count].flatten().numpy()
        )

    def __call__(self, values: Tensor) -> Tensor:
        """Return the digits (N, 4) of canvases (N, 1, 16, 16) of levels."""
        found: Tensor = torch.from_numpy(self.model.predict(cells_of(values).numpy()))
        return found.view(-1, 4)


def cells_of(values: Tensor) -> Tensor:
    """Return the cells of canvases (N, 1, 16, 16) as rows (4 N, 64)."""
    return values.view(-1, 2, 8, 2, 8).transpose(2, 3).reshape(-1, 64).double()


def score(found: Tensor, expected: Tensor) -> dict[str, float]:
    """Return the shares of cells and of canvases that are right, with standard errors over canvases."""
    right = (found == expected).double()
    parts = {"cells": right.mean(1), "all_four": right.prod(1)}
    return {
        **{name: float(part.mean()) for name, part in parts.items()},
        **{f"{name}_se": float(part.std() / len(part) ** 0.5) for name, part in parts.items()},
    }


def draw(run: Run, data: Dataset, scale: float, n: int, steps: int) -> Tensor:
    """Sample levels for the captions of the first canvases, from the same noise at every scale."""
    seeds, parts = spawn_seeds(0, n), []
    for start in range(0, n, 100):
        index = range(start, min(start + 100, n))
        model = run.bind(run.conditioning.given(data.given(index)), CFG(denoiser=run.denoiser, scale=scale))
        noise = PerSample(seeds[start : start + 100])
        x = Sampler(steps=steps)(model, (len(index), *run.data_spec.shape), noise=noise, device=run.device)
        parts.append(run.codec.decode(x).cpu())
    return torch.cat(parts)


@torch.no_grad()
def main() -> None:
    """Sample at every scale and read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.0, 1.0, 3.0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    run = load_run(OmegaConf.create({"run": str(args.run), "checkpoint": None, "trust": [], "device": "cpu"}))
    splits = open_data(run)
    reader, test = Reader(splits.train), splits.test
    expected = test.conditions["cells"][: args.n]
    shuffled = expected.roll(1, 0)
    real = test.values[: args.n]
    assert isinstance(real, Tensor)
    rows: list[dict[str, Any]] = [{"samples": "held-out canvases", **score(reader(real), expected)}]
    for scale in args.scales:
        found = reader(draw(run, test, scale, args.n, args.steps))
        rows.append({"samples": f"scale {scale:g}", **score(found, expected)})
        rows.append({"samples": f"scale {scale:g}, shuffled captions", **score(found, shuffled)})
    console.print_summary(
        f"captions of {args.run} ({args.n} combinations never seen, {args.steps} steps)",
        ["samples", "cells", "+- s.e.", "all four", "+- s.e."],
        [
            [row["samples"], *(f"{row[key]:.3f}" for key in ("cells", "cells_se", "all_four", "all_four_se"))]
            for row in rows
        ],
    )
    args.out.mkdir(parents=True, exist_ok=True)
    about = {
        "machine": platform.processor() or platform.machine(),
        "images": run.images,
        **package_versions(),
    }
    path, picture = args.out / "text_adherence.json", args.out / "text_adherence.png"
    path.write_text(json.dumps({**about, "n": args.n, "steps": args.steps, "rows": rows}, indent=1))
    levels = draw(run, test, args.scales[-1], min(64, args.n), args.steps)
    save_samples((levels * 255 // 16).to(torch.uint8), picture)
    print(path, picture, sep="\n")


if __name__ == "__main__":
    main()
