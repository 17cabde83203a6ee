"""Compare solvers on a run: ``python -m sde_gen.benchmark run=runs/... solvers=[heun,ddim] steps=[5,10,20]``."""

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig
from torch import Tensor

from sde_gen import show, tuning
from sde_gen.door import check_counts, door, load, several
from sde_gen.grid.base import Grid
from sde_gen.hooks import NFECounter, StopOnNaN
from sde_gen.noise import Brownian, sample_seeds
from sde_gen.run import Run, open_run
from sde_gen.sampler import Sampler
from sde_gen.solver.base import Solver


@dataclass(frozen=True, kw_only=True)
class Row:
    """One solver at one number of steps.

    Arguments:
        solver: its name.
        steps: steps of the grid.
        nfe: network evaluations per sample.
        median: median over samples of the error per dimension (root mean square, model space).
        mean: mean over samples of the same.
        se: standard error of that mean.
        seconds: time for all samples.
    """

    solver: str
    steps: int
    nfe: float
    median: float
    mean: float
    se: float
    seconds: float


@door("benchmark")
def main(config: DictConfig) -> None:
    """Measure error against a fine reference, and time, by number of evaluations."""
    check_counts(config, "n")
    check_counts(config, "seed", least=0)
    if config.tune:
        tuning.tune(config)
        return
    step_counts = several(config.steps)
    if not step_counts or any(not isinstance(steps, int) or steps < 1 for steps in step_counts):
        raise ValueError(f"steps={step_counts}: give a list of positive whole numbers")
    run = open_run(config)
    Path(config.out).mkdir(parents=True, exist_ok=True)  # better now than after the work
    grid: Grid = instantiate(config.grid)
    solvers: dict[str, Solver] = {name: instantiate(load("solver", name)) for name in several(config.solvers)}
    reference_solver: Solver = instantiate(config.reference.solver)
    reference_steps = config.reference.steps or (1 if reference_solver.nfe(1) is None else 500)
    rows = []
    with show.progress() as bar:
        task = bar.add_task("reference", total=len(solvers) * (len(step_counts) + 1), note="")
        flow = None
        for name, solver in solvers.items():
            bar.update(task, description=name, note="reference")
            if solver.stochastic:  # its own path, driven by the same Brownian motion, in many more steps
                reference = _solve(run, config, solver, grid, config.reference.stochastic_steps)[0]
            else:
                flow = (
                    _solve(run, config, reference_solver, grid, reference_steps)[0] if flow is None else flow
                )
                reference = flow
            bar.advance(task)
            for steps in step_counts:
                bar.update(task, note=f"{steps} steps")
                x, nfe, seconds = _solve(run, config, solver, grid, steps)
                rows.append(_row(name, steps, nfe, seconds, x, reference))
                bar.advance(task)
    _save(config, run, rows)


def _solve(
    run: Run, config: DictConfig, solver: Solver, grid: Grid, steps: int
) -> tuple[Tensor, float, float]:
    """Samples at t_min, evaluations per sample and seconds."""
    sampler = Sampler(solver=solver, grid=grid, steps=steps, denoise_final=False)
    shape = (config.n, *run.facts.shape)
    with NFECounter(run.denoiser.net) as counter:
        begin = time.perf_counter()
        noise = Brownian(sample_seeds(config.seed, config.n))
        denoiser = run.conditioned(run.labels(config.n))
        x = sampler(denoiser, shape, noise=noise, hooks=[StopOnNaN()], device=run.device).cpu()
        seconds = time.perf_counter() - begin
    return x, counter.samples / config.n, seconds


def _row(name: str, steps: int, nfe: float, seconds: float, x: Tensor, reference: Tensor) -> Row:
    errors = torch.sqrt((x - reference).double().flatten(1).square().mean(1)).tolist()
    se = statistics.stdev(errors) / len(errors) ** 0.5 if len(errors) > 1 else float("nan")
    return Row(
        solver=name,
        steps=steps,
        nfe=nfe,
        median=statistics.median(errors),
        mean=statistics.fmean(errors),
        se=se,
        seconds=seconds,
    )


def _save(config: DictConfig, run: Run, rows: list[Row]) -> None:
    out = Path(config.out)
    numbers, picture = out / "benchmark.json", out / "benchmark.png"
    about = {
        "run": str(run.folder),
        "images": run.images,
        "n": config.n,
        "seed": config.seed,
        "grid": config.grid._target_,
    }
    numbers.write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1))
    _plot(rows, picture)
    show.sheet(
        f"error against a fine reference, per dimension in model space ({config.n} samples of {run.folder})",
        ["solver", "steps", "NFE", "median error", "mean error", "+- s.e.", "seconds"],
        [
            [
                row.solver,
                f"{row.steps}",
                f"{row.nfe:g}",
                f"{row.median:.2e}",
                f"{row.mean:.2e}",
                f"{row.se:.0e}",
                f"{row.seconds:.2f}",
            ]
            for row in rows
        ],
    )
    show.console.print(f"table {numbers}\nplot  {picture}", soft_wrap=True)


def _plot(rows: list[Row], path: Path) -> None:
    figure = Figure(figsize=(9, 4), dpi=120, layout="tight")
    by_nfe, by_time = figure.subplots(1, 2, sharey=True)
    for name in dict.fromkeys(row.solver for row in rows):
        mine = [row for row in rows if row.solver == name]
        by_nfe.loglog([row.nfe for row in mine], [row.median for row in mine], "o-", label=name)
        by_time.loglog([row.seconds for row in mine], [row.median for row in mine], "o-", label=name)
    by_nfe.set(xlabel="network evaluations per sample", ylabel="median error per dimension")
    by_time.set(xlabel="seconds")
    by_nfe.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
