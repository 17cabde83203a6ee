"""Quality, coverage and speed of samplers and models on digits of 8x8 pixels: the generative trilemma in one plot.

    python -m benchmarks.trilemma [--samples 300] [--out benchmarks/results/trilemma.json] [--picture FILE.png]

Quality is precision, coverage is recall (Kynkaanniemi et al., 2019, arXiv:1904.06991), both of features of the shipped
classifier and against training images; speed is the number of network evaluations per sample. The null is a Gaussian
fitted to the pixels, the ceiling are held-out images, as many of both as samples. A further model or sampler is an
:class:`Entry` of ``entries``. Rows that the file of results holds already are not measured again.

Source of the name: Xiao et al., 2022, arXiv:2112.07804.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import sde_gen as sg
from benchmarks.row_metrics import levels
from sde_gen.cli.loaded_run import LoadedRun
from sde_gen.data import Splits
from sde_gen.evaluation.features import Classifier, FeatureSet, extract
from sde_gen.evaluation.image_set import FittedGaussian
from sde_gen.evaluation.metric import FrechetDistance, PrecisionRecall
from sde_gen.sampler import Sampler
from sde_gen.solver import DDIM, Ancestral, EulerMaruyama, Solver, StraightAdams
from sde_gen.utils import atomic

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = 1000
RUNS = ("pretrained/digits-vp",)
SOLVERS: dict[str, tuple[Solver, tuple[int, ...]]] = {
    "straight_adams": (StraightAdams(), (2, 4, 9, 20)),
    "ddim": (DDIM(), (2, 4, 9, 20, 50)),
    "ancestral": (Ancestral(), (4, 9, 20, 50)),
    "euler_maruyama": (EulerMaruyama(), (20, 50)),
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One point of the plot.

    Arguments:
        model: name of the model.
        sampler: name of the sampler, which is the color of the plot.
        nfe: evaluations of a network per sample.
        draw: draws a number of images, uint8 with shape (n, 1, 8, 8).
    """

    model: str
    sampler: str
    nfe: float
    draw: Callable[[int], Tensor]


def draw(run: LoadedRun, sampler: Sampler, n: int) -> Tensor:
    """Draw images of a run."""
    return run.codec.decode_image(run.sample(n, sampler=sampler))


def entries(runs: Sequence[str], most_steps: int, splits: Splits) -> Iterator[Entry]:
    """Yield all models with all samplers, the null and the ceiling."""
    train, test = levels(splits.train, len(splits.train)), levels(splits.test, len(splits.test))
    yield Entry(model="held-out images", sampler="ceiling", nfe=0, draw=lambda n: test[:n])
    null = FittedGaussian(train)
    yield Entry(model="Gaussian of the pixels", sampler="null", nfe=0, draw=lambda n: null.draw(n, 0))
    for name in runs:
        run = sg.load(name)
        for solver, (how, counts) in SOLVERS.items():
            for steps in (count for count in counts if count <= most_steps):
                sampler = Sampler(solver=how, steps=steps)
                assert sampler.nfe is not None
                yield Entry(model=name, sampler=solver, nfe=sampler.nfe, draw=partial(draw, run, sampler))


def measure(entry: Entry, n: int, reference: FeatureSet) -> dict[str, Any]:
    """Compare the images of an entry with the reference."""
    features = Classifier(weights="digits")
    found = extract(features, entry.draw(n), what=entry.model)
    pair = PrecisionRecall(features=features, k=3).checked(found, reference).quantities
    frechet = FrechetDistance(features=features).checked(found, reference)
    row: dict[str, Any] = {"model": entry.model, "sampler": entry.sampler, "nfe": entry.nfe, "n": n}
    for name, quantity in pair.items():
        row[name.split()[0]], row[f"{name.split()[0]}_se"] = quantity.value, quantity.se
    return {**row, "fd": frechet.value, "fd_se": frechet.se}


def picture(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw precision and recall against the number of evaluations, a color a sampler and a marker a model."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    markers = dict(zip(dict.fromkeys(row["model"] for row in rows if row["nfe"]), "os^Dv*P", strict=False))
    colors = {
        name: f"C{i}" for i, name in enumerate(dict.fromkeys(row["sampler"] for row in rows if row["nfe"]))
    }
    panels = figure.subplots(1, 2, sharex=True)
    for axes, what, title in zip(panels, ("precision", "recall"), ("quality", "coverage"), strict=True):
        for row in rows:
            if row["nfe"]:
                axes.errorbar(
                    row["nfe"],
                    row[what],
                    row[f"{what}_se"],
                    marker=markers[row["model"]],
                    color=colors[row["sampler"]],
                    markersize=4,
                    elinewidth=0.7,
                )
            else:
                style = "--" if row["sampler"] == "null" else "-"
                axes.axhline(row[what], color="black", linewidth=0.8, linestyle=style)
                axes.annotate(row["model"], (55, row[what]), fontsize=7, ha="right", va="bottom")
        for sampler, color in colors.items():
            for model in markers:
                line = [row for row in rows if (row["sampler"], row["model"]) == (sampler, model)]
                axes.plot([r["nfe"] for r in line], [r[what] for r in line], color=color, linewidth=0.7)
        axes.set(title=f"{title}: {what}", xlabel="network evaluations per sample", xscale="log")
        ticks = [3, 5, 10, 21, 51]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
    for sampler, color in colors.items():
        panels[0].plot([], [], color=color, label=sampler)
    for model, marker in markers.items():
        panels[0].plot([], [], color="gray", marker=marker, linestyle="", label=model.split("/")[-1])
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=8, loc="outside right center")
    figure.savefig(path, dpi=90)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all entries, print a table, and write results and plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--runs", nargs="+", default=list(RUNS))
    parser.add_argument("--most-steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "trilemma.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "_static" / "learn_trilemma.png")
    args = parser.parse_args(arguments)
    splits = sg.load(args.runs[0]).data
    reference = extract(Classifier(weights="digits"), levels(splits.train, REFERENCE), what="training images")
    rows: list[dict[str, Any]] = json.loads(args.out.read_text())["rows"] if args.out.exists() else []
    for entry in entries(args.runs, args.most_steps, splits):
        key = {"model": entry.model, "sampler": entry.sampler, "nfe": entry.nfe, "n": args.samples}
        if any(key.items() <= row.items() for row in rows):
            continue
        row = measure(entry, args.samples, reference)
        rows.append(row)
        print(
            f"{row['model']:26} {row['sampler']:15} {row['nfe']:5g} precision {row['precision']:.3f} +- "
            f"{row['precision_se']:.3f} recall {row['recall']:.3f} +- {row['recall_se']:.3f} "
            f"FD {row['fd']:.2f} +- {row['fd_se']:.2f}",
            flush=True,
        )
        atomic.write(args.out, json.dumps({"reference": REFERENCE, "rows": rows}, indent=1))
    picture(rows, args.picture)


if __name__ == "__main__":
    main()
