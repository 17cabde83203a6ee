"""Certify solvers on processes: ``python -m sde_gen.verify solvers=[heun] sdes=[vp,ve]``."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

from sde_gen.cli import console, instantiate
from sde_gen.cli.app import Command, as_list
from sde_gen.cli.config_files import load, names
from sde_gen.cli.versions import package_versions
from sde_gen.denoiser import Denoiser
from sde_gen.evaluation.verification import ParametrizedOracle, SolverReport, verify_solver
from sde_gen.utils.atomic import write
from sde_gen.utils.images import attempt, save_figure


def verify(config: DictConfig) -> None:
    """Measure every solver on every process, and save a table, a JSON and a picture; fail if a certificate does."""
    solvers = {
        _name(name): instantiate.make(_load("solver", name)) for name in _chosen(config.solvers, "solver")
    }
    if config.solvers is None:  # a network makes a flow map, and none is exact on the mixture
        solvers = {name: solver for name, solver in solvers.items() if solver.needs_denoiser}
    sdes = {_name(name): _load("sde", name) for name in _chosen(config.sdes, "sde")}
    parametrizations = ["", *as_list(config.parametrizations)]
    for name in parametrizations[1:]:
        load("parametrization", name)  # better now than after the work
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    reports = []
    with console.progress() as bar:
        task = bar.add_task("certificates", total=len(solvers) * len(sdes) * len(parametrizations), note="")
        for sde_name, sde_config in sdes.items():
            sde = instantiate.make(sde_config)
            for parametrization in parametrizations:
                wrap = {"wrap": _through(parametrization, sde_config)} if parametrization else {}
                for name, solver in solvers.items():
                    bar.update(task, note=f"{name} on {sde_name}")
                    reports.append(
                        verify_solver(name, solver, sde_name, sde, parametrization=parametrization, **wrap)
                    )
                    bar.advance(task)
    _save(out, reports)
    failed = [report for report in reports if report.failures]
    for report in failed:
        where = f"{report.solver} on {report.sde}" + (
            f" through {report.parametrization}" if report.parametrization else ""
        )
        console.console.print(f"FAILED {where}: {'; '.join(report.failures)}", soft_wrap=True)
    if failed:
        raise SystemExit(1)


def _chosen(choice: object, kind: str) -> list[str]:
    return names(kind) if choice is None else as_list(choice)


def _name(name: str) -> str:
    return Path(str(name)).stem


def _load(kind: str, name: str) -> DictConfig:
    """Load a name in conf, or a yaml file of the user."""
    if not str(name).endswith(".yaml"):
        return load(kind, str(name))
    if not Path(name).is_file():
        raise ValueError(
            f"file not found: {name}; give an existing file, or a name: {', '.join(names(kind))}"
        )
    config = OmegaConf.load(name)
    if not isinstance(config, DictConfig) or "_target_" not in config:
        raise ValueError(f"{name} names no _target_; it should name a class and its arguments")
    return config


def _through(name: str, sde: DictConfig) -> Callable[[Denoiser], Denoiser]:
    whole = OmegaConf.create({"sde": sde, "parametrization": load("parametrization", name)})
    parametrization = instantiate.make(whole.parametrization)
    return lambda denoiser: ParametrizedOracle(denoiser, parametrization)


def _save(out: Path, reports: list[SolverReport]) -> None:
    rows = [{key: _plain(value) for key, value in asdict(report).items()} for report in reports]
    write(out / "verify.json", json.dumps({**package_versions(), "certificates": rows}, indent=1))
    sdes = list(dict.fromkeys(report.sde for report in reports))
    for parametrization in dict.fromkeys(report.parametrization for report in reports):
        table = [report for report in reports if report.parametrization == parametrization]
        lines = []
        for name in dict.fromkeys(report.solver for report in table):
            by_sde = {report.sde: report for report in table if report.solver == name}
            first = next(iter(by_sde.values()))
            lines.append(
                [
                    name,
                    "noise" if first.stochastic else "flow",
                    "adaptive" if first.declared is None else str(first.declared),
                    *(_cell(by_sde[sde]) for sde in sdes),
                    f"{max((report.bias for report in by_sde.values()), default=math.nan):.0e}",
                ]
            )
        title = "measured order" + (f", through {parametrization}" if parametrization else "")
        console.print_summary(title, ["solver", "kind", "declared", *sdes, "bias"], lines)
    picture, own = out / "verify.png", [report for report in reports if not report.parametrization]
    made = attempt(lambda: save_figure(_figure(own, sdes), picture), picture)
    console.console.print(
        "order: slope over three doublings, of the end point or of the covariance; bias: the largest error with "
        f"24 evaluations\ntable {out / 'verify.json'}" + (f"\nplot  {picture}" if made else ""),
        soft_wrap=True,
    )


def _cell(report: SolverReport) -> str:
    text = "exact" if math.isinf(report.order) else "" if math.isnan(report.order) else f"{report.order:.2f}"
    return f"{text}!" if report.failures else text or "ok"


def _plain(value: object) -> object:
    """Replace NaN and infinity, which JSON lacks."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "exact"
    return value


def _figure(reports: list[SolverReport], sdes: list[str]) -> Figure:
    solvers = list(dict.fromkeys(report.solver for report in reports))
    gain = np.full((len(solvers), len(sdes)), np.nan)
    for report in reports:
        if report.declared and math.isfinite(report.order):
            gain[solvers.index(report.solver), sdes.index(report.sde)] = report.order - report.declared
    figure = Figure(figsize=(2 + 0.7 * len(sdes), 1.5 + 0.25 * len(solvers)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    colors = axes.imshow(gain, cmap="RdYlGn", vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(len(sdes)), sdes, rotation=45, ha="right")
    axes.set_yticks(range(len(solvers)), solvers)
    figure.colorbar(colors, label="measured less declared order")
    return figure


main = Command(name="verify", function=verify)
