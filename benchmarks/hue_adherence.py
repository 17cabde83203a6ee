"""Measure how near the hue of samples is to the color in their captions, for pairs of emoji and color never seen.

    python benchmarks/hue_adherence.py RUN [--n 200] [--scales 1 3] [--steps 20] [--out FOLDER]

RUN is a run of data=emoji data.recolored=true and a conditioning on text. Per scale of classifier-free guidance: the
circular distance in degrees between the measured hue and that of the color, in the mean with its standard error, and
the share of samples whose nearest color it is. Null: the same samples beside shuffled captions (90 degrees and a sixth
are chance). Ceiling: the held-out pictures. Prints a table, writes JSON and a picture.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from benchmarks.text_adherence import draw
from sde_gen.cli import console
from sde_gen.cli.run import load_run
from sde_gen.cli.run_data import open_data
from sde_gen.cli.versions import package_versions
from sde_gen.data.hue import COLORS, distance, hue
from sde_gen.utils.images import save_samples


def score(pictures: Tensor, colors: Tensor) -> dict[str, float]:
    """Return the mean distance of the hue of pictures (N, 3, H, W) to that of colors (N,), and the share of hits."""
    found = hue(pictures).angle
    angles = 360 / len(COLORS) * torch.arange(len(COLORS)).double()
    error = distance(found, angles[colors])
    hit = (distance(found[:, None], angles).argmin(1) == colors).double()
    count = len(colors) ** 0.5
    return {
        "error": float(error.mean()),
        "error_se": float(error.std() / count),
        "hits": float(hit.mean()),
        "hits_se": float(hit.std() / count),
    }


@torch.no_grad()
def main() -> None:
    """Sample at every scale and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    run = load_run(OmegaConf.create({"run": str(args.run), "checkpoint": None, "trust": [], "device": "cpu"}))
    test = open_data(run).test
    if "color" not in test.conditions:
        raise SystemExit(f"{args.run} was not trained with data=emoji data.recolored=true")
    count = min(args.n, len(test))
    colors, real = test.conditions["color"][:count], test.values[:count]
    assert isinstance(real, Tensor)
    rows: list[dict[str, Any]] = [{"samples": "held-out pictures", **score(real, colors)}]
    found = real
    for scale in args.scales:
        found = draw(run, test, scale, count, args.steps)
        rows.append({"samples": f"scale {scale:g}", **score(found, colors)})
        rows.append({"samples": f"scale {scale:g}, shuffled captions", **score(found, colors.roll(1, 0))})
    keys = ("error", "error_se", "hits", "hits_se")
    console.print_summary(
        f"hues of {args.run} ({count} pairs never seen, {args.steps} steps)",
        ["samples", "degrees", "+- s.e.", "nearest color", "+- s.e."],
        [[row["samples"], *(f"{row[key]:.3g}" for key in keys)] for row in rows],
    )
    args.out.mkdir(parents=True, exist_ok=True)
    about = {
        "machine": platform.processor() or platform.machine(),
        "images": run.images,
        **package_versions(),
    }
    path, picture = args.out / "hue_adherence.json", args.out / "hue_adherence.png"
    path.write_text(json.dumps({**about, "n": count, "steps": args.steps, "rows": rows}, indent=1))
    save_samples(found[:64], picture)
    print(path, picture, sep="\n")


if __name__ == "__main__":
    main()
