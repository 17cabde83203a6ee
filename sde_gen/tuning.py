"""Tune the solver for a run: what ``python -m sde_gen.benchmark tune=true`` does."""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

from sde_gen import build, show
from sde_gen.door import load, several
from sde_gen.noise import sample_seeds
from sde_gen.run import open_run
from sde_gen.tuner import Candidate, Tuner


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The best setting at a number of evaluations, and the default there, on noise that chose neither.

    Arguments:
        nfe: evaluations that were allowed.
        solver: name of the chosen solver.
        grid: name of its grid.
        steps: number of its steps.
        error: median error per dimension in model space.
        default: that of the default setting.
        gain: mean over samples of log(default's error / error), in nepers.
        se: its standard error.
        seconds: time of the chosen setting for all samples.
    """

    nfe: int
    solver: str
    grid: str
    steps: int
    error: float
    default: float
    gain: float
    se: float
    seconds: float


def tune(config: DictConfig) -> None:
    """Try all settings, move the times of the best, judge on other noise, and leave table, plot and settings."""
    run, wishes = open_run(config), config.tuning
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)  # better now than after the work
    budgets, moved = several(wishes.nfe), several(wishes.optimise)
    if not budgets or any(not isinstance(nfe, int) or nfe < 1 for nfe in [*budgets, *moved]):
        raise ValueError(f"nfe={budgets}, optimise={moved}: give lists of positive whole numbers")
    names, against = several(wishes.solvers), wishes.against
    solvers = {name: instantiate(load("solver", name)) for name in dict.fromkeys([*names, against.solver])}
    grids = {
        name: instantiate(load("grid", name))
        for name in dict.fromkeys([*several(wishes.grids), against.grid])
    }
    seeds = sample_seeds(config.seed, 2 * config.n)
    with show.progress() as bar:
        task = bar.add_task("solutions", total=None, note="")
        tuner = Tuner(
            denoiser=run.conditioned(run.labels(config.n)),
            shape=run.facts.shape,
            solvers=solvers,
            grids=grids,
            seeds=seeds[: config.n],
            device=run.device,
            progress=lambda: bar.advance(task),
        )
        judge = replace(tuner, seeds=seeds[config.n :])
        rows, choices, chosen = [], [], []
        for nfe in sorted(set(budgets)):
            bar.update(task, note=f"{nfe} evaluations")
            tried = [(c, tuner.errors(c)) for c in tuner.candidates(nfe)]
            rows += [
                {
                    "nfe": c.nfe,
                    "solver": c.solver,
                    "grid": c.grid,
                    "steps": c.steps,
                    "median": float(e.median()),
                }
                for c, e in tried
            ]
            best = min(tried, key=lambda pair: float(pair[1].median()))[0]
            best = tuner.optimise(best) if nfe in moved else best
            default = next(c for c, _ in tried if (c.solver, c.grid) == (against.solver, against.grid))
            choices.append(_judge(judge, nfe, best, default))
            chosen.append(best)
    _save(config, out, rows, choices, chosen, tuner)


def _judge(judge: Tuner, nfe: int, best: Candidate, default: Candidate) -> Choice:
    usual = judge.errors(default)
    begin = time.perf_counter()
    errors = judge.errors(best)
    seconds = time.perf_counter() - begin
    gain = torch.log(usual.clamp(min=1e-12) / errors.clamp(min=1e-12))
    return Choice(
        nfe=nfe,
        solver=best.solver,
        grid=best.grid,
        steps=best.steps,
        error=float(errors.median()),
        default=float(usual.median()),
        gain=float(gain.mean()),
        se=float(gain.std() / len(gain) ** 0.5) if len(gain) > 1 else float("nan"),
        seconds=seconds,
    )


def _settings(choice: Choice, best: Candidate, tuner: Tuner) -> DictConfig:
    """The setting as the door sample takes it."""
    grid = (
        {
            "_target_": "sde_gen.grid.listed.ListedLogSNRs",
            "log_snrs": tuner.denoiser.sde.log_snr(best.times).tolist(),
        }
        if best.grid == "listed_log_snrs"
        else load("grid", best.grid)
    )
    return OmegaConf.create({"solver": load("solver", best.solver), "grid": grid, "steps": choice.steps})


def _save(
    config: DictConfig,
    out: Path,
    rows: list[dict[str, object]],
    choices: list[Choice],
    chosen: list[Candidate],
    tuner: Tuner,
) -> None:
    reference = tuner.reference(chosen[0].times)
    for choice, best in zip(choices, chosen, strict=True):
        OmegaConf.save(_settings(choice, best, tuner), out / f"tuned-{choice.nfe}.yaml")
    about = {"run": str(config.run), "n": config.n, "seed": config.seed, "reference_error": reference.error}
    found = {"choices": [asdict(choice) for choice in choices], "tried": rows}
    (out / "tuning.json").write_text(json.dumps({**about, **found}, indent=1))
    _plot(choices, rows, out / "tuning.png")
    against = config.tuning.against
    show.sheet(
        f"settings that err least on {config.run}, judged on {config.n} other samples",
        ["NFE", "solver", "grid", "error", "default's", "times less", "+- s.e."],
        [
            [
                f"{choice.nfe}",
                choice.solver,
                "moved" if choice.grid == "listed_log_snrs" else choice.grid,
                f"{choice.error:.1e}",
                f"{choice.default:.1e}",
                f"{_ratio(choice.gain):.2f}",
                f"{_ratio(choice.gain) * choice.se:.2f}",
            ]
            for choice in choices
        ],
    )
    worse = [choice.nfe for choice in choices if choice.gain <= 0]
    show.console.print(
        f"errors are medians per dimension in model space; the reference's own is {reference.error:.0e} "
        f"({reference.steps} steps); the default is {against.solver} on {against.grid}\n"
        + (f"nothing beats the default at {worse} evaluations\n" if worse else "")
        + f"to use one: python -m sde_gen.sample run={config.run} settings={out}/tuned-{choices[0].nfe}.yaml",
        soft_wrap=True,
    )


def _ratio(gain: float) -> float:
    return float(torch.exp(torch.tensor(gain)))


def _plot(choices: list[Choice], rows: list[dict[str, object]], path: Path) -> None:
    figure = Figure(figsize=(6, 4), dpi=120, layout="tight")
    axes = figure.add_subplot()
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        points.setdefault(f"{row['solver']}, {row['grid']}", []).append((row["nfe"], row["median"]))  # type: ignore[arg-type]
    for name, line in points.items():
        axes.loglog(*zip(*sorted(line), strict=True), "-", linewidth=0.8, alpha=0.7, label=name)
    axes.loglog([c.nfe for c in choices], [c.error for c in choices], "ko-", label="chosen, on other noise")
    axes.set(xlabel="network evaluations per sample", ylabel="median error per dimension (model space)")
    axes.legend(fontsize=5)
    figure.savefig(path)


def settings(path: Path, trust: tuple[str, ...]) -> tuple[DictConfig, DictConfig, int]:
    """Read solver, grid and number of steps that tuning left.

    Raises:
        ValueError: the file is not to be read or trusted, or does not hold them.
    """
    if not path.is_file():
        raise ValueError(
            f"there are no settings {path}; python -m sde_gen.benchmark tune=true leaves such a file"
        )
    found = OmegaConf.load(path)
    if not isinstance(found, DictConfig) or not {"solver", "grid", "steps"} <= set(found):
        raise ValueError(f"{path} holds no solver, grid and steps; benchmark tune=true writes such files")
    build.check_targets(OmegaConf.to_container(found), trust)
    return found.solver, found.grid, found.steps
