"""Error per evaluation of the solvers of sde_gen and of peers, on random mixtures, whose flow is known.

    python -m benchmarks.solver_error [--seed 0] [--draws 2] [--samples 64] [--out FOLDER]
    pip install diffusers==0.42.1 k-diffusion==0.1.1.post1 azula==0.11.1      # the peers; any may be missing

In z = x / alpha and r = sigma / alpha the probability flow is one for every process; a path is the range of r and
the grids that belong to it. Every method starts from the same noise, runs on every grid of the path and on ours,
with every evaluation counted, and is asked for the exact denoiser at exact r. The error of a sample is its distance
from the flow's end per dimension (root mean square), that of a method on a mixture the median over samples; a sample
has flipped if another component than the exact end's is the likeliest. The reference is SciPy's DOP853 at 1e-10.

Two standards: the best peer (one package, method and grid for all mixtures, chosen in hindsight for every path and
number of evaluations) and the envelope (the best choice for every mixture by itself, which nobody can make).
Prints tables, writes JSON and a plot.
"""

import argparse
import json
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks import machine
from benchmarks.mixtures import FAMILIES, Array, Mixture
from benchmarks.peer_solvers import PATHS, Method, Track, methods
from sde_gen.cli import console
from sde_gen.grid import Grid

NFES = (5, 8, 10, 15, 20, 30, 50)
OURS = "ours StraightAdams, angle"


class Score(NamedTuple):
    """Of a method on a grid, by path: medians and flips with shape (problems, NFEs); NaN where it cannot run."""

    medians: Array
    flips: Array


class Problem(NamedTuple):
    """A mixture, starting points, and the ends of their exact flow.

    Arguments:
        mixture: the mixture.
        path: the process.
        z: starting points with shape (samples, d).
        exact: ends of the flow with shape (samples, d).
        last: ratio at the end.
    """

    mixture: Mixture
    path: Track
    z: Array
    exact: Array
    last: float

    @classmethod
    def draw(cls, family: str, path: Track, rng: np.random.Generator, samples: int) -> "Problem":
        """Draw a mixture of a family and the starting points."""
        mixture = FAMILIES[family](rng)
        first, last = torch.exp(-0.5 * path.sde.log_snr(path.grids["angle"](path.sde, 1))).tolist()
        z = first * rng.standard_normal((samples, mixture.means.shape[1]))
        return cls(mixture, path, z, mixture.flow(z, first, last), last)

    def solve(self, method: Method, grid: Grid, nfe: int) -> Array:
        """Return the ends of a method."""
        times = grid(self.path.sde, nfe // method.per_step)
        ratios = torch.exp(-0.5 * self.path.sde.log_snr(times))

        def model(x: Tensor, r: float) -> Tensor:
            return torch.from_numpy(self.mixture.denoise(x.numpy(), r))

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return method.run(model, torch.from_numpy(self.z), ratios, self.path).double().numpy()

    def errors(self, ends: Array) -> tuple[float, float]:
        """Return the median error per dimension, and the share of samples in another component."""
        distance = np.sqrt(np.mean((ends - self.exact) ** 2, axis=1))
        found, exact = (
            self.mixture.log_joint(z, self.last).argmax(1) for z in (np.nan_to_num(ends), self.exact)
        )
        return float(np.median(distance)), float((found != exact).mean())


def calls(path: Track, runners: Iterable[Method]) -> Iterator[tuple[str, Method, Grid, int]]:
    """Iterate over methods, grids and columns of NFEs, with the name of method and grid."""
    for grid_name, grid in path.grids.items():
        for column, nfe in enumerate(NFES):
            for method in runners:
                if nfe >= method.per_step:
                    yield f"{method.name}, {grid_name}", method, grid, column


def measure(
    seed: int, draws: int, samples: int
) -> tuple[dict[str, dict[str, Score]], dict[str, str], list[str]]:
    """Run everything: path -> method and grid -> score, the peers' versions, and the problems."""
    runners, versions = methods()
    problems = [f"{family} #{draw}" for family in FAMILIES for draw in range(draws)]
    shape = len(problems), len(NFES)
    found: dict[str, dict[str, Score]] = {}
    failed: dict[str, str] = {}
    for number, (path_name, path) in enumerate(PATHS.items()):
        scores = {
            f"{method.name}, {grid}": Score(np.full(shape, np.nan), np.full(shape, np.nan))
            for grid in path.grids
            for method in runners
        }
        for index, name in enumerate(problems):
            began, rng = time.perf_counter(), np.random.default_rng([seed, index])
            problem = Problem.draw(name.partition(" #")[0], path, rng, samples)
            for key, method, grid, column in calls(path, runners):
                try:
                    ends = problem.solve(method, grid, NFES[column])
                except Exception as error:  # of a peer at few steps: reported below, counted as no result
                    failed.setdefault(
                        f"{key}, {NFES[column]} evaluations", f"{type(error).__name__}: {error}"
                    )
                    continue
                score = scores[key]
                score.medians[index, column], score.flips[index, column] = problem.errors(ends)
            seconds, done = time.perf_counter() - began, number * len(problems) + index + 1
            console.console.print(f"{path_name}: {name} ({done}), {seconds:.0f} s")
        found[path_name] = scores
    for key, error in failed.items():
        console.console.print(f"no result: {key}: {error.splitlines()[0] if error else error}")
    return found, versions, problems


def typical(values: Array) -> Array:
    """Geometric mean over problems, infinite where one is missing."""
    return np.exp(np.mean(np.log(np.where(np.isfinite(values), values, np.inf)), axis=0))


def select_rows(scores: dict[str, Score], problems: list[str]) -> list[dict[str, Any]]:
    """Compare on one path: a row per number of evaluations."""
    peers = {key: score for key, score in scores.items() if not key.startswith("ours")}
    others = {key: score for key, score in scores.items() if key.startswith("ours") and key != OURS}
    ours, rows = scores[OURS], []
    for column, nfe in enumerate(NFES):
        row: dict[str, Any] = {"nfe": nfe, "median": float(typical(ours.medians)[column])}
        row["flips"] = float(ours.flips[:, column].mean())
        if others:
            key = min(others, key=lambda k: typical(others[k].medians)[column])
            row["our_next"] = {"name": key, "median": float(typical(others[key].medians)[column])}
        if peers:
            ranked = sorted(peers, key=lambda k: typical(peers[k].medians)[column])
            best, envelope = ranked[0], np.nanmin([s.medians[:, column] for s in peers.values()], axis=0)
            native = next(key for key in ranked if not key.endswith(", angle"))
            ratio, ratios = (
                ours.medians[:, column] / peers[best].medians[:, column],
                ours.medians[:, column] / envelope,
            )
            row["best_peer"] = {
                "name": best,
                "median": float(typical(peers[best].medians)[column]),
                "flips": float(peers[best].flips[:, column].mean()),
            }
            row["best_peer_on_its_own_grids"] = {
                "name": native,
                "median": float(typical(peers[native].medians)[column]),
                "flips": float(peers[native].flips[:, column].mean()),
            }
            row["fewest_flips_of_a_peer"] = float(min(np.nanmean(s.flips[:, column]) for s in peers.values()))
            row["ratio"] = float(typical(ratio))
            row["ratio_worst_mixture"] = float(ratio.max())
            row["ratio_to_envelope"] = float(typical(ratios))
            row["ratio_by_family"] = {
                family: round(float(typical(ratio[[p.startswith(f"{family} #") for p in problems]])), 3)
                for family in FAMILIES
            }
        rows.append(row)
    return rows


def print_rows(path: str, rows: list[dict[str, Any]]) -> None:
    """Print the comparison of a path."""
    columns = ["NFE", "ours", "best peer", "its", "ratio", "flips"]
    table = []
    for row in rows:
        cells = [str(row["nfe"]), f"{row['median']:.1e}", "-", "-", "-", f"{100 * row['flips']:.1f} %"]
        if "best_peer" in row:
            peer = row["best_peer"]
            cells[2:5] = [peer["name"], f"{peer['median']:.1e}", f"{row['ratio']:.2f}"]
            cells[5] = f"{100 * row['flips']:.1f} / {100 * peer['flips']:.1f} %"
        table.append(cells)
    console.print_summary(f"{path}: {OURS}, and the peers, each also on our grid", columns, table)


def draw(found: dict[str, dict[str, Score]], rows: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Plot error against evaluations: ours, and all methods that are the best peer somewhere."""
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(found), sharey=True)
    for axis, (name, scores) in zip(axes, found.items(), strict=True):
        keys = [
            row[kind]["name"]
            for row in rows[name]
            for kind in ("best_peer", "best_peer_on_its_own_grids")
            if kind in row
        ]
        keys += ["k-diffusion dpmpp_2m, karras", "diffusers UniPC bh2 2, karras", "ours DPMSolverPP, log_snr"]
        for key in dict.fromkeys(key for key in keys if key in scores):
            axis.loglog(NFES, typical(scores[key].medians), marker=".", linewidth=1, alpha=0.7, label=key)
        axis.loglog(NFES, typical(scores[OURS].medians), "k", marker="o", linewidth=2, label=OURS)
        axis.set(title=name, xlabel="evaluations", xticks=NFES, xticklabels=[str(nfe) for nfe in NFES])
        axis.minorticks_off()
        axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.14), ncols=2)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("median error, geometric mean over mixtures")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of mixtures and noise")
    parser.add_argument("--draws", type=int, default=2, help="mixtures per family")
    parser.add_argument("--samples", type=int, default=64, help="per mixture")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    found, versions, problems = measure(arguments.seed, arguments.draws, arguments.samples)
    rows = {path: select_rows(scores, problems) for path, scores in found.items()}
    for path, each in rows.items():
        print_rows(path, each)
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem = arguments.out / f"solver_error_seed{arguments.seed}"
    facts = machine.about(torch.device("cpu"))
    about = {
        "seed": arguments.seed,
        "draws": arguments.draws,
        "samples": arguments.samples,
        "problems": problems,
        "nfes": NFES,
        **facts,
        "seconds": round(time.perf_counter() - began),
        "versions": {**facts["versions"], **versions},
    }
    medians = {
        path: {key: [float(f"{v:.2e}") for v in typical(score.medians)] for key, score in scores.items()}
        for path, scores in found.items()
    }
    stem.with_suffix(".json").write_text(
        json.dumps({**about, "rows": rows, "medians": medians}, indent=1) + "\n"
    )
    draw(found, rows, stem.with_suffix(".png"))
    console.console.print(f"{stem}.json, {stem}.png; {about['seconds']} s")


if __name__ == "__main__":
    main()
