"""Measure what classifier-free guidance buys and costs: how often a classifier agrees, and how samples differ.

    python benchmarks/guidance_scale.py RUN CLASSIFIER [--n 200] [--scales 0 1 2 4 8] [--steps 20] [--out FOLDER]

RUN is a run trained with conditioning=class, CLASSIFIER one of objective=cross_entropy on the same data and process.
Per scale: the share of samples that the classifier, judging at the least noise, finds in the class that was asked for,
with its standard error; the mean distance between samples of one class, as a share of that between held-out images of
one class; and what guidance by the gradient of the classifier itself gives. Prints a table, writes JSON and a picture
with one row per scale.
"""

import argparse
import json
import platform
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from sde_gen.cli import console
from sde_gen.cli.run import Run, load_classifier, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.cli.versions import package_versions
from sde_gen.denoiser import Denoiser, NoisyClassifier
from sde_gen.grid import LogSNR
from sde_gen.guidance import CFG, ClassifierGuidance
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver import DPMSolverPP
from sde_gen.utils.images import save_rows


def draw(run: Run, denoiser: Denoiser, n: int, steps: int) -> Tensor:
    """One sample per class in turn, from the same noise for every denoiser."""
    sampler = Sampler(solver=DPMSolverPP(), grid=LogSNR(), steps=steps)
    parts = []
    for seeds in (spawn_seeds(0, n)[i : i + 100] for i in range(0, n, 100)):
        label = (torch.arange(len(seeds)) + 100 * len(parts)) % run.data_spec.classes
        parts.append(
            sampler(denoiser.bind(label=label), (len(seeds), *run.data_spec.shape), noise=PerSample(seeds))
        )
    return torch.cat(parts)


def agreement(run: Run, classifier: NoisyClassifier, x: Tensor, label: Tensor) -> tuple[float, float]:
    """Share of samples found in their class, with its standard error."""
    right = (
        classifier.log_probs(x, torch.tensor(run.denoiser.sde.t_min).double()).argmax(1) == label
    ).double()
    return float(right.mean()), float(right.std() / len(right) ** 0.5)


def spread(x: Tensor, label: Tensor) -> float:
    """Mean distance between two samples of one class, averaged over classes."""
    found = [torch.pdist(x[label == k].flatten(1)).mean() for k in label.unique()]
    return float(torch.stack(found).mean())


@torch.no_grad()
def main() -> None:
    """Sample at every scale and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.0, 1.0, 2.0, 4.0, 8.0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    run = load_run(OmegaConf.create({"run": str(args.run), "checkpoint": None, "trust": [], "device": "cpu"}))
    classifier = load_classifier(args.classifier, run)
    test = open_data(run).test
    assert test.labels is not None
    label = torch.arange(args.n) % run.data_spec.classes
    real, real_label = run.codec.encode(test.values[:2000]), test.labels[:2000]
    scale_of_data = spread(real, real_label)
    share, se = agreement(run, classifier, real, real_label)
    rows = [{"guidance": "held-out images", "scale": None, "accuracy": share, "se": se, "spread": 1.0}]
    shown = []
    for scale in args.scales:
        guides: dict[str, Denoiser] = {"classifier-free": CFG(denoiser=run.denoiser, scale=scale)}
        if scale > 0:
            guides["classifier"] = ClassifierGuidance(
                denoiser=run.denoiser, classifier=classifier, scale=scale
            )
        for name, denoiser in guides.items():
            x = draw(run, denoiser, args.n, args.steps)
            share, se = agreement(run, classifier, x, label)
            row = {"guidance": name, "scale": scale, "accuracy": share, "se": se}
            rows.append({**row, "spread": spread(x, label) / scale_of_data})
            if name == "classifier-free":
                shown.append(x[: run.data_spec.classes])
    console.print_summary(
        f"guidance of {args.run} by scale ({args.n} samples, {args.steps} steps)",
        ["guidance", "scale", "agreement", "+- s.e.", "distance"],
        [
            [
                str(row["guidance"]),
                "" if row["scale"] is None else f"{row['scale']:g}",
                f"{row['accuracy']:.3f}",
                f"{row['se']:.3f}",
                f"{row['spread']:.3f}",
            ]
            for row in rows
        ],
    )
    args.out.mkdir(parents=True, exist_ok=True)
    about = {
        "machine": platform.processor() or platform.machine(),
        "images": run.images,
        **package_versions(),
    }
    settings = {"n": args.n, "steps": args.steps}
    path, picture = args.out / "guidance_scale.json", args.out / "guidance_scale.png"
    path.write_text(json.dumps({**about, **settings, "rows": rows}, indent=1))
    save_rows([run.codec.decode_image(x) for x in shown], picture)
    print(path, picture, sep="\n")


if __name__ == "__main__":
    main()
