"""Error per evaluation of the solvers of sde_gen and of peers, on random mixtures, whose flow is known.

    python benchmarks/solver_error.py [--seed 0] [--draws 2] [--samples 64] [--out FOLDER]
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
import contextlib
import importlib.metadata
import io
import json
import math
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from sde_gen.cli import build, console
from sde_gen.denoiser import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.grid import Angle, Grid, Karras, LogSNR, Quadratic, Uniform
from sde_gen.noise import IID
from sde_gen.sde import SDE, VP, EDMProcess
from sde_gen.solver import (
    DEISTAB,
    DPMSolver3M,
    DPMSolverPP,
    DPMSolverPP3M,
    Heun,
    Solver,
    StepSolver,
    StraightAdams,
    UniPCBH2,
)

Array = NDArray[np.float64]
NFES = (5, 8, 10, 15, 20, 30, 50)
OURS = "ours StraightAdams, angle"


# --- data -----------------------------------------------------------------------------------------------------------


class Mixture:
    """Gaussians with diagonal covariances: means and variances (K, d), weights (K,)."""

    def __init__(self, means: Array, variances: Array, weights: Array) -> None:
        self.means, self.variances = means, variances
        self.log_weights = np.log(weights / weights.sum())

    def log_joint(self, z: Array, r: float) -> Array:
        """Log of weight times density of every component at ratio r, but for a constant: (B, d) -> (B, K)."""
        spread = self.variances + r * r
        inverse = 1 / spread
        squares = (z * z) @ inverse.T - 2 * z @ (self.means * inverse).T + (self.means**2 * inverse).sum(1)
        return self.log_weights - 0.5 * (squares + np.log(spread).sum(1))

    def denoise(self, z: Array, r: float) -> Array:
        """E[x_0 | z]."""
        log_joint = self.log_joint(z, r)
        p = np.exp(log_joint - log_joint.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        shrink = self.variances / (self.variances + r * r)
        return p @ (self.means * (1 - shrink)) + (p @ shrink) * z

    def flow(self, z: Array, first: float, last: float) -> Array:
        """The end of the probability flow."""

        def slope(log_r: float, flat: Array) -> Array:
            here = flat.reshape(z.shape)
            return (here - self.denoise(here, math.exp(log_r))).ravel()

        ends = math.log(first), math.log(last)
        return (
            solve_ivp(slope, ends, z.ravel(), method="DOP853", rtol=1e-10, atol=1e-11)
            .y[:, -1]
            .reshape(z.shape)
        )


def ring(rng: np.random.Generator) -> Mixture:
    """Narrow Gaussians on a circle in the plane."""
    k = int(rng.integers(4, 11))
    angle, radius = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(k) / k, rng.uniform(0.6, 1.1)
    deviations = np.repeat(rng.uniform(0.04, 0.2, (k, 1)), 2, axis=1)
    return Mixture(
        radius * np.stack([np.cos(angle), np.sin(angle)], 1), deviations**2, rng.uniform(0.3, 1, k)
    )


def plane(rng: np.random.Generator) -> Mixture:
    """Scattered, elongated Gaussians in the plane."""
    k = int(rng.integers(3, 9))
    deviations = np.exp(rng.uniform(math.log(0.05), math.log(0.4), (k, 2)))
    return Mixture(0.7 * rng.standard_normal((k, 2)), deviations**2, rng.uniform(0.3, 1, k))


def power(rng: np.random.Generator, dim: int) -> Mixture:
    """Variances that fall like a power of an index, in an order of its own for every component."""
    k, fall, index = int(rng.integers(4, 13)), rng.uniform(0.5, 2), np.arange(1, dim + 1)
    variances = [rng.permutation(0.25 * index**-fall * 2 ** rng.uniform(-1, 1, dim)) for _ in range(k)]
    means = rng.uniform(0.25, 0.6) * rng.standard_normal((k, dim))
    return Mixture(means, np.stack(variances), rng.uniform(0.3, 1, k))


def manifold(rng: np.random.Generator) -> Mixture:
    """64 dimensions whose variances fall fast in one common order, as those of images: nearly of few dimensions."""
    k, fall, index = int(rng.integers(4, 13)), rng.uniform(1.5, 2.5), np.arange(1, 65)
    variances = index**-fall * 2 ** rng.uniform(-1, 1, (k, 64)) + 1e-5
    return Mixture(rng.standard_normal((k, 64)) * index**-0.5, variances, rng.uniform(0.3, 1, k))


def broad(rng: np.random.Generator) -> Mixture:
    """Few wide, overlapping Gaussians in 16 dimensions."""
    k = int(rng.integers(2, 6))
    deviations = np.exp(rng.uniform(math.log(0.15), math.log(0.7), (k, 16)))
    return Mixture(0.4 * rng.standard_normal((k, 16)), deviations**2, rng.uniform(0.3, 1, k))


FAMILIES: Mapping[str, Callable[[np.random.Generator], Mixture]] = {
    "ring 2": ring,
    "plane 2": plane,
    "power 16": lambda rng: power(rng, 16),
    "power 64": lambda rng: power(rng, 64),
    "manifold 64": manifold,
    "broad 16": broad,
}


# --- methods --------------------------------------------------------------------------------------------------------

Model = Callable[[Tensor, float], Tensor]
"""(z, r) -> E[x_0 | z]."""


class Method(NamedTuple):
    """A way from ratio to ratio: ``run(model, z, ratios, path)`` with ratios (steps + 1,), nfe = steps * per_step."""

    name: str
    run: Callable[[Model, Tensor, Tensor, "Track"], Tensor]
    per_step: int = 1


class Track(NamedTuple):
    """A process, its grids, and the names of those."""

    sde: SDE
    grids: Mapping[str, Grid]


PATHS = {
    "EDM": Track(EDMProcess(), {"karras": Karras(), "log_snr": LogSNR(), "angle": Angle()}),
    "VP": Track(
        VP(),
        {
            "uniform": Uniform(t_min=1e-3),
            "quadratic": Quadratic(t_min=1e-3),
            "karras": Karras(t_min=1e-3),
            "log_snr": LogSNR(t_min=1e-3),
            "angle": Angle(t_min=1e-3),
        },
    ),
}


class Exact(Denoiser):
    """Our interface to a model in z and r."""

    def __init__(self, sde: SDE, model: Model) -> None:
        super().__init__()
        self.sde, self.model = sde, model

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict in x."""
        del cond
        alpha, sigma = self.sde.marginal(t)
        return Prediction.from_x0(x_t, self.model(x_t / alpha, float(sigma / alpha)), self.sde.marginal(t))


def own(solver: StepSolver[Any]) -> Method:
    """One of our solvers."""

    def run(model: Model, z: Tensor, ratios: Tensor, path: Track) -> Tensor:
        times = path.sde.t_from_log_snr(-2 * ratios.log())
        x = path.sde.alpha(times[0]) * z
        assert isinstance(solver, Solver)
        x = solver.solve(Exact(path.sde, model), x, times, noise=IID.seeded(0))
        return x / path.sde.alpha(times[-1])

    return Method(f"ours {type(solver).__name__}", run, solver.nfe(2) // 2)


def k_diffusion() -> Iterable[Method]:
    """Samplers of k-diffusion, without their last step to zero, as all here."""
    from k_diffusion import sampling as k

    def method(name: str, sample: Callable[..., Tensor], per_step: int = 1, **options: Any) -> Method:
        def run(model: Model, z: Tensor, ratios: Tensor, path: Track) -> Tensor:
            del path
            return sample(lambda x, r: model(x, float(r[0])), z, ratios, disable=True, **options)

        return Method(f"k-diffusion {name}", run, per_step)

    def quiet(*_: Any) -> float:
        return 0.0

    yield method("euler", k.sample_euler)
    yield method("heun", k.sample_heun, 2)
    yield method("dpm_2", k.sample_dpm_2, 2)
    yield method("dpmpp_2s", k.sample_dpmpp_2s_ancestral, 2, eta=0.0)
    yield method("dpmpp_2m", k.sample_dpmpp_2m)
    yield method(
        "dpmpp_2m_sde heun eta 0", k.sample_dpmpp_2m_sde, eta=0.0, solver_type="heun", noise_sampler=quiet
    )
    yield method("dpmpp_3m_sde eta 0", k.sample_dpmpp_3m_sde, eta=0.0, noise_sampler=quiet)
    for order in (2, 3, 4):
        yield method(f"lms {order}", k.sample_lms, order=order)


def azula() -> Iterable[Method]:
    """Samplers of azula, their schedule a table of the grid."""
    from azula import sample
    from azula.denoise import Denoiser as AzulaDenoiser
    from azula.denoise import DiracPosterior
    from azula.noise import Schedule

    class Table(Schedule):
        def __init__(self, ratios: Tensor, path: Track) -> None:
            marginal = path.sde.marginal(path.sde.t_from_log_snr(-2 * ratios.log()))
            self.alphas, self.sigmas = marginal

        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            index = torch.round((1 - t) * (len(self.alphas) - 1)).long()
            return self.alphas[index], self.sigmas[index]

    class Wrapped(AzulaDenoiser):
        def __init__(self, schedule: Table, model: Model) -> None:
            super().__init__()
            self.schedule, self.model = schedule, model

        def forward(self, x_t: Tensor, t: Tensor) -> DiracPosterior:
            alpha, sigma = self.schedule(t)
            return DiracPosterior(mean=self.model(x_t / alpha, float(sigma / alpha)))

    def method(name: str, kind: Callable[..., Any], per_step: int = 1, **options: Any) -> Method:
        def run(model: Model, z: Tensor, ratios: Tensor, path: Track) -> Tensor:
            table = Table(ratios, path)
            steps = len(ratios) - 1
            sampler = kind(Wrapped(table, model), steps=steps, silent=True, dtype=torch.float64, **options)
            return sampler(z * table.alphas[0]) / table.alphas[-1]

        return Method(f"azula {name}", run, per_step)

    yield method("DDIM", sample.DDIMSampler)
    yield method("Euler", sample.EulerSampler)
    yield method("Heun", sample.HeunSampler, 2)
    for name in ("zAB", "vAB", "zEAB", "xEAB", "REAB"):
        for order in (2, 3, 4):
            yield method(f"{name} {order}", getattr(sample, f"{name}Sampler"), order=order)


def diffusers() -> Iterable[Method]:
    """Schedulers of diffusers that read their times from ``sigmas``, which are r."""
    import diffusers as d

    def method(name: str, make: Callable[[], Any]) -> Method:
        def run(model: Model, z: Tensor, ratios: Tensor, path: Track) -> Tensor:
            del path
            scheduler, steps = make(), len(ratios) - 1
            scheduler.set_timesteps(steps)
            alpha = torch.rsqrt(1 + ratios**2)
            if hasattr(scheduler, "betas") and hasattr(scheduler, "ets"):  # iPNDM keeps sigma as betas
                scheduler.betas, scheduler.alphas = alpha * ratios, alpha
            else:
                scheduler.sigmas = ratios
            scheduler.timesteps = torch.arange(999, 999 - steps, -1)
            scheduler.num_inference_steps = steps
            scheduler.set_begin_index(0)
            x = alpha[0] * z
            for i, t in enumerate(scheduler.timesteps):
                clean = model(x / alpha[i], float(ratios[i]))
                output = clean
                if hasattr(scheduler, "ets"):  # iPNDM asks for v
                    output = (alpha[i] * x - clean) / (alpha[i] * ratios[i])
                x = scheduler.step(output, t, x, return_dict=False)[0].double()
            return x / alpha[-1]

        return Method(f"diffusers {name}", run)

    sample = {"prediction_type": "sample", "lower_order_final": False}
    for order in (2, 3):
        for kind in ("dpmsolver", "dpmsolver++"):
            # float64 beats their default type in the last digits only
            options = {
                **sample,
                "solver_order": order,
                "algorithm_type": kind,
                "final_sigmas_type": "sigma_min",
            }
            yield method(
                f"DPMSolverMultistep {kind} {order}", lambda o=options: d.DPMSolverMultistepScheduler(**o)
            )
            yield method(
                f"DPMSolverSinglestep {kind} {order}", lambda o=options: d.DPMSolverSinglestepScheduler(**o)
            )
        for kind in ("bh1", "bh2"):
            options = {"prediction_type": "sample", "solver_order": order, "solver_type": kind}
            yield method(f"UniPC {kind} {order}", lambda o=options: d.UniPCMultistepScheduler(**o))
        options = {**sample, "solver_order": order}
        yield method(f"DEIS {order}", lambda o=options: d.DEISMultistepScheduler(**o))
        options = {**sample, "predictor_order": order, "corrector_order": order, "tau_func": lambda t: 0}
        yield method(f"SASolver tau 0 {order}", lambda o=options: d.SASolverScheduler(**o))
    yield method("iPNDM", d.IPNDMScheduler)


PEERS = {"k-diffusion": k_diffusion, "azula": azula, "diffusers": diffusers}


def methods() -> tuple[list[Method], dict[str, str]]:
    """Our solvers and those of the peers that are installed, with the peers' versions."""
    found = [own(StraightAdams())]
    found += [own(s) for s in (DPMSolverPP(), DPMSolverPP3M(), DPMSolver3M(), UniPCBH2(), DEISTAB(), Heun())]
    versions = {}
    for package, make in PEERS.items():
        try:
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                found += list(make())
            versions[package] = importlib.metadata.version(package)
        except ImportError as error:
            console.console.print(f"{package} is left out: {error}")
    return found, versions


# --- measurement ----------------------------------------------------------------------------------------------------


class Score(NamedTuple):
    """Of a method on a grid, by path: medians and flips with shape (problems, NFEs); NaN where it cannot run."""

    medians: Array
    flips: Array


def measure(
    seed: int, draws: int, samples: int
) -> tuple[dict[str, dict[str, Score]], dict[str, str], list[str]]:
    """Run everything: path -> method and grid -> score, the peers' versions, and the problems."""
    runners, versions = methods()
    found: dict[str, dict[str, Score]] = {}
    problems = [f"{family} #{draw}" for family in FAMILIES for draw in range(draws)]
    failed: dict[str, str] = {}
    for number, (path_name, path) in enumerate(PATHS.items()):
        scores: dict[str, Score] = {}
        for index, problem in enumerate(problems):
            began = time.perf_counter()
            family = problem.partition(" #")[0]
            rng = np.random.default_rng([seed, index])
            mixture = FAMILIES[family](rng)
            ends = path.grids["angle"](path.sde, 1)
            first, last = torch.exp(-0.5 * path.sde.log_snr(ends)).tolist()
            z = first * rng.standard_normal((samples, mixture.means.shape[1]))
            exact = mixture.flow(z, first, last)
            mode = mixture.log_joint(exact, last).argmax(1)

            def model(x: Tensor, r: float, mixture: Mixture = mixture) -> Tensor:
                return torch.from_numpy(mixture.denoise(x.numpy(), r))

            for grid_name, grid in path.grids.items():
                for column, nfe in enumerate(NFES):
                    for method in runners:
                        key = f"{method.name}, {grid_name}"
                        if key not in scores:
                            shape = (len(problems), len(NFES))
                            scores[key] = Score(np.full(shape, np.nan), np.full(shape, np.nan))
                        if nfe < method.per_step:
                            continue
                        times = grid(path.sde, nfe // method.per_step)
                        ratios = torch.exp(-0.5 * path.sde.log_snr(times))
                        try:
                            with torch.no_grad(), warnings.catch_warnings():
                                warnings.simplefilter("ignore")
                                end = method.run(model, torch.from_numpy(z), ratios, path).double().numpy()
                        except (
                            Exception
                        ) as error:  # of a peer at few steps: reported below, counted as no result
                            failed.setdefault(f"{key}, {nfe} evaluations", f"{type(error).__name__}: {error}")
                            continue
                        away = np.sqrt(np.mean((end - exact) ** 2, axis=1))
                        scores[key].medians[index, column] = np.median(away)
                        flipped = mixture.log_joint(np.nan_to_num(end), last).argmax(1) != mode
                        scores[key].flips[index, column] = flipped.mean()
            seconds = time.perf_counter() - began
            console.console.print(
                f"{path_name}: {problem} ({number * len(problems) + index + 1}), {seconds:.0f} s"
            )
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
    about = {
        "seed": arguments.seed,
        "draws": arguments.draws,
        "samples": arguments.samples,
        "problems": problems,
        "nfes": NFES,
        "machine": platform.machine(),
        "processor": _processor(),
        "seconds": round(time.perf_counter() - began),
        "versions": {**build.versions(), **versions},
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
