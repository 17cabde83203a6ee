"""Reports of metrics of samples: a JSON file per metric, and rows of a table."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sde_gen.cli.quality import QualityResults
from sde_gen.cli.run import Run
from sde_gen.evaluation.metric import Quantity, SampleResult
from sde_gen.report.plot import PM
from sde_gen.report.result_sections import estimate
from sde_gen.utils import atomic
from sde_gen.utils.hashing import digest


def path_of(out: Path, found: QualityResults) -> Path:
    """Return the file of a result, named by the metric and a hash of all settings."""
    settings = json.dumps([found.settings, found.draws[0].n, len(found.draws)], sort_keys=True, default=str)
    return out / f"{found.name}-{digest([], settings)[:12]}.json"


def write(out: Path, run: Run, found: QualityResults) -> Path:
    """Write a result as JSON, atomically, and return the file."""
    values = [draw.value for draw in found.draws]
    best = max(values) if found.metric.larger_is_better else min(values)
    report = {
        "metric": found.name,
        "name": found.draws[0].name,
        "what": found.metric.what,
        "mean": sum(values) / len(values),
        "standard_error": _number(spread(found.draws)),
        ("maximum_of_draws" if found.metric.larger_is_better else "minimum_of_draws"): best,
        "draws": [
            {"seeds": [first, last], **_plain(draw)}
            for (first, last), draw in zip(found.seeds, found.draws, strict=True)
        ],
        "baselines": {what: _plain(result) for what, result in found.baselines.items()},
        "conditions": found.conditions,
        "network_evaluations_per_sample": found.nfe,
        "seconds": found.seconds,
        "trained_on_images": run.images,
        "settings": found.settings,
    }
    path = path_of(out, found)
    atomic.write(path, json.dumps(report, indent=1, allow_nan=False, default=str))
    return path


def rows(found: QualityResults) -> dict[str, str]:
    """Return the rows of a table: of every quantity the draws, their mean and best value, and the baselines."""
    first, several = found.draws[0], len(found.draws[0].quantities) > 1
    mean = f"mean of {len(found.draws)} draws"
    table = {f"{first.name}: {found.metric.what}": ""}
    for index in range(len(first.quantities)):
        label = f"{found.name}: {re.split('@| k=', [*first.quantities][index])[0]}" if several else found.name
        drawn = [[*draw.quantities.values()][index] for draw in found.draws]
        for (start, end), quantity in zip(found.seeds, drawn, strict=True):
            table[f"  {label}, seeds {start} to {end}"] = _text(quantity)
        if len(drawn) > 1:
            larger = found.metric.larger_is_better
            best = (max if larger else min)(drawn, key=lambda quantity: quantity.value)
            extreme = f"; {'largest' if larger else 'smallest'} of them {_text(best)}" if index == 0 else ""
            table[f"  {label}, {mean}"] = _text(_mean(drawn)) + extreme
        for what, result in found.baselines.items():
            count = "" if result.n == first.n else f" ({result.n:,} images)"
            table[f"  {label}, {what}{count}"] = _text([*result.quantities.values()][index])
    table[f"  {found.name}, standard error"] = first.quantities[first.name].how
    features = first.settings
    weights = f", weights SHA-256 {features['sha256'][:16]}" if features["sha256"] else ""
    table[f"  {found.name}, features"] = f"{features['features']}{weights}, resize {features['resize']}"
    table[f"  {found.name}, images"] = (
        f"{first.n:,} samples a draw, {first.n_reference:,} of the reference"
        if first.n_reference
        else f"{first.n:,} samples a draw"
    )
    for index, note in enumerate(first.notes):
        table[f"  {found.name}, note {index + 1}"] = note
    return table


def spread(draws: list[SampleResult]) -> float:
    """Return the standard error of the mean of independent draws from their standard errors."""
    return _mean([draw.quantities[draw.name] for draw in draws]).se


def _plain(result: SampleResult) -> dict[str, Any]:
    return {
        "quantities": {
            name: {
                "value": _number(quantity.value),
                "standard_error": _number(quantity.se),
                "how": quantity.how,
            }
            for name, quantity in result.quantities.items()
        },
        "samples": result.n,
        "reference_images": result.n_reference,
        "settings": dict(result.settings),
        "notes": list(result.notes),
    }


def _text(quantity: Quantity) -> str:
    return estimate(quantity.value, quantity.se).replace(PM, "+- ")


def _mean(quantities: Sequence[Quantity]) -> Quantity:
    """Return the mean of a number over independent draws, with its standard error."""
    count = len(quantities)
    se = math.sqrt(sum(quantity.se**2 for quantity in quantities)) / count
    return Quantity(sum(quantity.value for quantity in quantities) / count, se, quantities[0].how)


def _number(x: float) -> float | None:
    """Replace NaN and infinity, which JSON lacks, by None."""
    return x if math.isfinite(x) else None
