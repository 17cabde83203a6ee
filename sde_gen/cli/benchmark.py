"""Compare solvers on a run: ``python -m sde_gen.benchmark run=runs/... solvers=[heun,ddim] steps=[5,10,20]``."""

import json
import statistics
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

from sde_gen.cli import console, instantiate, reports, threads, tuning
from sde_gen.cli.app import Command, as_list, reject_unused
from sde_gen.cli.config_files import load
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.sample_conditions import examples
from sde_gen.denoiser import Denoiser
from sde_gen.evaluation.solver_comparison import Comparison, SolverErrors
from sde_gen.grid.base import Grid
from sde_gen.noise import spawn_seeds
from sde_gen.solver.base import Solver
from sde_gen.utils.atomic import write
from sde_gen.utils.images import attempt, save_figure


@dataclass(frozen=True, kw_only=True)
class Row:
    """One solver at one number of steps.

    Arguments:
        solver: its name.
        steps: steps of the grid.
        nfe: network evaluations per sample.
        median: median over samples of the error per dimension (root mean square, model space); None where no finer
            solution is nearer to the truth.
        mean: mean over samples of the same.
        se: standard error of that mean; None for a single sample.
        reference_error: median error of the reference itself, as far as it is known.
        seconds: time for all samples.
        out_of_range: share of values that no data and no noise explain; None where data have no limits.
    """

    solver: str
    steps: int
    nfe: float
    median: float | None
    mean: float | None
    se: float | None
    reference_error: float | None
    seconds: float
    out_of_range: float | None


def benchmark(config: DictConfig) -> None:
    """Measure error against a fine reference, and time, by number of evaluations."""
    if config.tune:
        reject_unused("tune=true reads tuning.* instead", "solvers", "steps", "grid", "reference")
        tuning.tune(config)
        return
    reject_unused("tuning.* is read with tune=true only", "tuning")
    step_counts, names = as_list(config.steps), as_list(config.solvers)
    if not step_counts:
        raise ValueError(f"steps={step_counts}: give a list of positive whole numbers")
    if not names:
        raise ValueError("solvers=[]: give a list of names, such as solvers=[heun,ddim]")
    solvers: dict[str, Solver] = {name: instantiate.make(load("solver", name)) for name in map(str, names)}
    run, grid = load_run(config), instantiate.make(config.grid)
    conditions, described = examples(run, config.n)
    compared = _comparison(config, run, run.bind(conditions), grid, step_counts)
    for solver in solvers.values():
        compared.check(solver)
    Path(config.out).mkdir(parents=True, exist_ok=True)  # better now than after the work
    with threads.in_use(config, run) as summary:
        rows, wild = _rows(config, run, compared, solvers, step_counts, described)
    _report(config, run, rows, described)
    if run.device.type == "cpu":
        console.console.print(f"threads {summary}", soft_wrap=True)
    reports.refresh_around(Path(config.out), run.folder)
    for one in wild:
        warnings.warn(one, stacklevel=2)


def _rows(
    config: DictConfig,
    run: Run,
    compared: Comparison,
    solvers: dict[str, Solver],
    step_counts: list[int],
    conditions: str,
) -> tuple[list[Row], list[str]]:
    """Measure every solver at every number of steps, and name those whose samples are out of range."""
    rows: list[Row] = []
    wild: list[str] = []
    with console.progress() as bar:
        task = bar.add_task("", total=len(solvers) * len(step_counts), note="")
        compared.progress = lambda note: bar.update(task, note=note)
        for name, solver in solvers.items():
            bar.update(task, description=name)
            for steps, measured in zip(step_counts, compared.measure(solver), strict=True):
                rows.append(_row(name, steps, measured))
                if measured.outside is not None and measured.outside.notable:
                    wild.append(f"{name} in {steps} steps: {measured.outside.advice}")
                _write(config, run, rows, conditions)  # at once: the next one may fail
                bar.advance(task)
    return rows, wild


def _comparison(
    config: DictConfig, run: Run, denoiser: Denoiser, grid: Grid, step_counts: list[int]
) -> Comparison:
    return Comparison(
        denoiser=denoiser,
        network=run.denoiser.net,
        shape=run.event,
        grids=[grid(run.denoiser.sde, steps) for steps in step_counts],
        seeds=spawn_seeds(config.seed, config.n),
        device=run.device,
        reference=instantiate.make(config.reference.solver),
        reference_steps=config.reference.steps,
        stochastic_steps=config.reference.stochastic_steps,
        codec=run.codec,
    )


def _row(name: str, steps: int, measured: SolverErrors) -> Row:
    median = mean = se = None
    if measured.errors is not None:
        errors = measured.errors.tolist()
        median, mean = statistics.median(errors), statistics.fmean(errors)
        se = statistics.stdev(errors) / len(errors) ** 0.5 if len(errors) > 1 else None
    return Row(
        solver=name,
        steps=steps,
        nfe=measured.nfe,
        median=median,
        mean=mean,
        se=se,
        reference_error=measured.reference_error,
        seconds=measured.seconds,
        out_of_range=None if measured.outside is None else measured.outside.share,
    )


def _write(config: DictConfig, run: Run, rows: list[Row], conditions: str) -> None:
    about = {
        "run": str(run.folder),
        "images": run.images,
        "n": config.n,
        "seed": config.seed,
        "grid": OmegaConf.to_container(config.grid),
        **({"conditions": conditions} if conditions else {}),
    }
    text = json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1)
    write(Path(config.out) / "benchmark.json", text)


def _report(config: DictConfig, run: Run, rows: list[Row], conditions: str) -> None:
    """Print the table of errors, and save the plot."""
    picture = Path(config.out) / "benchmark.png"
    made = attempt(lambda: save_figure(_figure(rows), picture), picture)
    title = (
        f"error against a fine reference, per dimension in model space ({config.n} samples of {run.folder})"
    )
    _print_table(title, rows)
    if conditions:
        console.console.print(f"conditions of the samples: {conditions}", soft_wrap=True)
    for line in (_reference_errors(rows), _without_error(rows)):
        if line:
            console.console.print(line, soft_wrap=True)
    table = f"table {Path(config.out) / 'benchmark.json'}"
    console.console.print(f"{table}\nplot  {picture}" if made else table, soft_wrap=True)


def _print_table(title: str, rows: list[Row]) -> None:
    columns: dict[str, list[str]] = {
        "solver": [row.solver for row in rows],
        "steps": [f"{row.steps}" for row in rows],
        "NFE": [f"{row.nfe:g}" for row in rows],
        "median": [_number(row.median, ".2e") for row in rows],
        "mean": [_number(row.mean, ".2e") for row in rows],
        "+- s.e.": [_number(row.se, ".0e") for row in rows],
        "seconds": [f"{row.seconds:.2f}" for row in rows],
    }
    if any(row.out_of_range for row in rows):  # else a column of zeros
        columns["out of range"] = [_number(row.out_of_range, ".2%") for row in rows]
    console.print_summary(title, list(columns), [list(row) for row in zip(*columns.values(), strict=True)])


def _reference_errors(rows: list[Row]) -> str:
    """Return the estimated errors of the references, for all solvers with the same one together."""
    solvers: dict[str, list[str]] = {}
    for name in dict.fromkeys(row.solver for row in rows):
        errors = [row.reference_error for row in rows if row.solver == name]
        known = [error for error in errors if error is not None]
        if known:
            solvers.setdefault(f"{max(known):.0e}", []).append(name)
    listing = "; ".join(f"{error} for {', '.join(names)}" for error, names in solvers.items())
    return f"errors of the references themselves: {listing}" if listing else ""


def _without_error(rows: list[Row]) -> str:
    """Return a note on solvers whose error cannot be measured by this command."""
    names = dict.fromkeys(row.solver for row in rows if row.median is None)
    if not names:
        return ""
    return (
        f"- no error of {', '.join(names)}: the noise is fresh, so that more steps give other samples, not better "
        "ones; the error of their distribution is measured by python -m sde_gen.verify"
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _figure(rows: list[Row]) -> Figure:
    figure = Figure(figsize=(9, 4), dpi=120, layout="tight")
    by_nfe, by_time = figure.subplots(1, 2, sharey=True)
    measured = [(row, row.median) for row in rows if row.median is not None]
    for name in dict.fromkeys(row.solver for row, _ in measured):
        nfe, seconds, errors = zip(
            *((row.nfe, row.seconds, error) for row, error in measured if row.solver == name), strict=True
        )
        by_nfe.loglog(nfe, errors, "o-", label=name)
        by_time.loglog(seconds, errors, "o-", label=name)
    by_nfe.set(xlabel="network evaluations per sample", ylabel="median error per dimension")
    by_time.set(xlabel="seconds")
    if measured:
        by_nfe.legend()
    return figure


main = Command(name="benchmark", function=benchmark)
