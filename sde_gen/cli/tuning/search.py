"""Try all settings, move the times of the best, and judge on other noise."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sde_gen.cli import console, instantiate, threads
from sde_gen.cli.app import as_list
from sde_gen.cli.config_files import load
from sde_gen.cli.run import load_run
from sde_gen.cli.sample_conditions import examples
from sde_gen.cli.tuning.choice import evaluate_selection
from sde_gen.cli.tuning.report import report
from sde_gen.cli.tuning.setting import write
from sde_gen.evaluation.solver_tuning import SolverSetting, Tuner, candidate_settings
from sde_gen.noise import spawn_seeds
from sde_gen.sde import SDE


def tune(config: DictConfig) -> None:
    """Try all settings, move the times of the best, judge on other noise, and leave table, plot and settings."""
    budgets, moved = _budgets(config.tuning)
    run, out = load_run(config), Path(config.out)
    conditions, described = examples(run, config.n)
    found, defaults = _settings(config.tuning, run.denoiser.sde, budgets)
    out.mkdir(parents=True, exist_ok=True)  # better now than after the work
    seeds = spawn_seeds(config.seed, 2 * config.n)
    with threads.in_use(config, run) as summary, console.progress() as bar:
        task = bar.add_task("solutions", total=None, note="")
        tuner = Tuner(
            denoiser=run.bind(conditions),
            shape=run.event,
            settings=[setting for settings in found.values() for setting in settings],
            seeds=seeds[: config.n],
            device=run.device,
            progress=lambda: bar.advance(task),
        )
        other = replace(tuner, seeds=seeds[config.n :])
        tried, choices = [], []
        for nfe in budgets:
            bar.update(task, note=f"{nfe} evaluations")
            medians = [float(tuner.errors(setting).median()) for setting in found[nfe]]
            tried += list(zip(found[nfe], medians, strict=True))
            best = found[nfe][medians.index(min(medians))]
            best = tuner.optimize(best) if nfe in moved else best
            choices.append(evaluate_selection(other, nfe, best, defaults[nfe]))
            write(choices[-1].setting, out / f"tuned-{nfe}.yaml")
    report(config, tried, choices, max(tuner.reference.error, other.reference.error), described)
    if run.device.type == "cpu":
        console.console.print(f"threads {summary}", soft_wrap=True)


def _budgets(wishes: DictConfig) -> tuple[list[int], list[int]]:
    """Numbers of evaluations, and those of them at which times are moved."""
    budgets, moved = as_list(wishes.nfe), as_list(wishes.optimize)
    if not budgets or any(type(nfe) is not int or nfe < 1 for nfe in [*budgets, *moved]):
        raise ValueError(f"tuning.nfe={budgets}, optimize={moved}: give lists of positive whole numbers")
    if strange := sorted(set(moved) - set(budgets)):
        raise ValueError(
            f"tuning.optimize={strange}: times are moved at numbers in tuning.nfe={budgets} only"
        )
    return sorted(set(budgets)), moved


def _settings(
    wishes: DictConfig, sde: SDE, budgets: Sequence[int]
) -> tuple[dict[int, list[SolverSetting]], dict[int, SolverSetting]]:
    """By number of evaluations, what to try, and the default among it."""
    against = wishes.against
    solvers = _made("solver", [*as_list(wishes.solvers), against.solver])
    grids = _made("grid", [*as_list(wishes.grids), against.grid])
    found = {nfe: list(candidate_settings(sde, solvers, grids, nfe)) for nfe in budgets}
    defaults = {}
    for nfe, settings in found.items():
        mine = [
            setting
            for setting in settings
            if (setting.solver, setting.grid) == (against.solver, against.grid)
        ]
        if not mine:
            raise ValueError(
                f"tuning.nfe={nfe} is too few for a step of {against.solver}, which the choice must beat; "
                "give more, or another tuning.against.solver"
            )
        (defaults[nfe],) = mine
    return found, defaults


def _made(kind: str, names: Sequence[object]) -> dict[str, Any]:
    """Objects of conf/<kind> by name, each once."""
    made = {}
    for name in dict.fromkeys(map(str, names)):
        config = load(kind, name)
        if missing := OmegaConf.missing_keys(config):
            raise ValueError(f"tuning.{kind}s=[{name}] needs {', '.join(sorted(missing))}; leave it out")
        made[name] = instantiate.make(config)
    return made
