"""Report of a tuning: table, numbers and plot."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from omegaconf import DictConfig

from sde_gen.cli import console
from sde_gen.cli.tuning.choice import Selection, named
from sde_gen.evaluation.solver_tuning import SolverSetting
from sde_gen.utils.atomic import write
from sde_gen.utils.images import attempt, save_figure


def report(
    config: DictConfig,
    tried: Sequence[tuple[SolverSetting, float]],
    choices: Sequence[Selection],
    reference: float,
    conditions: str = "",
) -> None:
    """Leave numbers and plot, and print the table.

    Arguments:
        config: the configuration of the command.
        tried: all settings with their median errors.
        choices: what to use, by number of evaluations.
        reference: the reference's own error.
        conditions: conditions of the samples; empty without any.
    """
    out = Path(config.out)
    about = {"run": str(config.run), "n": config.n, "seed": config.seed, "reference_error": reference}
    about |= {"conditions": conditions} if conditions else {}
    records = {
        "choices": [choice.record() for choice in choices],
        "tried": [{**named(setting), "median": median} for setting, median in tried],
    }
    write(out / "tuning.json", json.dumps({**about, **records}, indent=1))
    picture = out / "tuning.png"
    attempt(lambda: save_figure(_figure(tried, choices), picture), picture)
    console.print_summary(
        f"settings that err least on {config.run}, judged on {config.n} other samples (model space)",
        ["NFE", "solver", "grid", "error", "default's", "gain", "+- s.e."],
        [_row(choice) for choice in choices],
    )
    for line in notes(config, choices, reference):
        console.console.print(line, soft_wrap=True)
    if conditions:
        console.console.print(f"conditions of the samples: {conditions}", soft_wrap=True)


def notes(config: DictConfig, choices: Sequence[Selection], reference: float) -> Iterator[str]:
    """Yield remarks on the table and the command that uses a setting."""
    against = config.tuning.against
    yield f"errors are medians per dimension of clean samples; the reference itself is off by {reference:.0e}"
    yield f"gain: how many times less that is than with the default, {against.solver} on {against.grid}"
    kept = [choice.nfe for choice in choices if choice.errors is choice.usual]
    if kept:
        yield f"nothing beats the default at {kept} evaluations: it stays"
    blurred = [choice.nfe for choice in choices if float(choice.errors.median()) < 3 * reference]
    if blurred:
        yield f"at {blurred} evaluations errors are too near to the reference's own to compare"
    yield f"to use one: python -m sde_gen.sample run={config.run} settings={config.out}/tuned-{choices[0].nfe}.yaml"


def _row(choice: Selection) -> list[str]:
    setting, (gain, se) = choice.setting, choice.gain()
    return [
        f"{choice.nfe}",
        setting.solver,
        "moved" if setting.grid == "listed" else setting.grid,
        f"{float(choice.errors.median()):.1e}",
        f"{float(choice.usual.median()):.1e}",
        f"{math.exp(gain):.2f}",
        "-" if se is None else f"{math.exp(gain) * se:.2f}",
    ]


def _figure(tried: Sequence[tuple[SolverSetting, float]], choices: Sequence[Selection]) -> Figure:
    figure = Figure(figsize=(6, 4), dpi=120, layout="tight")
    axes = figure.add_subplot()
    lines: dict[str, list[tuple[int, float]]] = {}
    for setting, median in tried:
        lines.setdefault(f"{setting.solver}, {setting.grid}", []).append((setting.nfe, median))
    for name, line in lines.items():
        axes.loglog(*zip(*sorted(line), strict=True), "-", linewidth=0.8, alpha=0.7, label=name)
    axes.loglog(
        [choice.nfe for choice in choices],
        [float(choice.errors.median()) for choice in choices],
        "ko-",
        label="chosen, on other noise",
    )
    axes.set(xlabel="network evaluations per sample", ylabel="median error per dimension (model space)")
    axes.legend(fontsize=5)
    return figure
