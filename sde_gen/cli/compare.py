"""Compare runs: ``sde-gen compare runs/a runs/b``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from sde_gen.cli import console, pretrained
from sde_gen.cli.app import Command, as_list
from sde_gen.cli.renamed import upgrade_about
from sde_gen.report.compare import RunComparison, write_comparison

MOST_SHOWN = 40
"""Maximum number of settings in the terminal; the page lists all."""


def compare(config: DictConfig) -> None:
    """Print the differences of runs and write the page of the comparison."""
    folders = [str(folder) for folder in as_list(config.runs)]
    found = RunComparison.of(
        [pretrained.copy(one) if pretrained.is_name(one) else Path(one) for one in folders]
    )
    comparison = replace(found, runs=[replace(run, config=_upgraded(run.config)) for run in found.runs])
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = comparison.differences()
    if settings:
        rest = f", the first {MOST_SHOWN}" if len(settings) > MOST_SHOWN else ""
        rows = [[name, *(_short(name, value) for value in values)] for name, *values in settings[:MOST_SHOWN]]
        console.print_summary(
            f"settings that differ ({len(settings)}{rest})", ["setting", *comparison.names], rows
        )
    else:
        console.console.print("no setting differs")
    header, rows = comparison.summary()
    console.print_summary("runs (+- is the standard error)", header, rows)
    if note := comparison.loss_note():
        console.console.print(note, soft_wrap=True, markup=False)
    write_comparison(comparison, out)
    console.console.print(f"page  {out}", soft_wrap=True, markup=False)


def _upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the names of this version."""
    upgraded: dict[str, Any] = upgrade_about({"config": config})["config"]
    return upgraded


def _short(name: str, value: str, most: int = 36) -> str:
    """Shorten a value for the terminal: a class without its package, the end of a long text."""
    text = value.rpartition(".")[2] if name.endswith("_target_") else value
    return text if len(text) <= most else f"...{text[3 - most :]}"


main = Command(name="compare", function=compare, positional="runs")
