"""Rows of the results table as CSV and as Markdown."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from sde_gen.report.plot import PM
from sde_gen.report.result_sections import estimate

BUDGETS = (10, 50)
"""Network evaluations per sample."""

COLUMNS = (
    "row", "data", "process", "network", "parameters", "images", "bits_per_dim", "bits_per_dim_se",
    *(f"{name}_{nfe}{end}" for nfe in BUDGETS for name in ("fd_efflite0", "kid") for end in ("", "_se")),
    "cpu_minutes", "command",
)  # fmt: skip


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table of Markdown, values with two digits of their standard errors."""
    header = ["row", "process, network", "parameters", "training images", "bits/dim"]
    header += [f"{name}, {nfe} NFE" for nfe in BUDGETS for name in ("FD-EffLite0", "KID")] + ["CPU min"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for one in rows:
        cells = [
            str(one["row"]),
            ", ".join(str(one[key]) for key in ("process", "network") if key in one),
            *(f"{one[key]:,}" if key in one else "" for key in ("parameters", "images")),
            _value(one, "bits_per_dim"),
            *(_value(one, f"{name}_{nfe}") for nfe in BUDGETS for name in ("fd_efflite0", "kid")),
            f"{one['cpu_minutes']:.1f}" if "cpu_minutes" in one else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _value(one: Mapping[str, Any], key: str) -> str:
    return estimate(one[key], one[f"{key}_se"]).replace(PM, "+- ") if key in one else ""


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as CSV."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
