"""Reports of metrics of conditional samples: a JSON file and a plot per metric, and rows of a table."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sde_gen.cli import reports
from sde_gen.cli.run import Run
from sde_gen.evaluation.metric import ConditionalSamples, PosteriorMetric, PosteriorResult, Quantity
from sde_gen.report.plot import PM
from sde_gen.report.result_sections import estimate
from sde_gen.utils.hashing import digest


@dataclass(frozen=True, kw_only=True)
class PosteriorQualityResult:
    """Result of a metric with its baselines.

    Arguments:
        name: name of the metric in the configuration.
        metric: the metric.
        samples: what it was computed of.
        result: its result.
        baselines: its results of other samples, by name.
        settings: all settings on which it depends.
        seconds: time of drawing and evaluation.
    """

    name: str
    metric: PosteriorMetric
    samples: ConditionalSamples
    result: PosteriorResult
    baselines: Mapping[str, PosteriorResult]
    settings: Mapping[str, Any]
    seconds: float

    @property
    def key(self) -> str:
        """Hash of the settings."""
        return digest([], json.dumps(self.settings, sort_keys=True, default=str))[:12]

    def plain(self, run: Run) -> dict[str, Any]:
        """Return the result as plain JSON."""
        n = len(self.samples.truth)
        return {
            "metric": self.name,
            "name": self.result.name,
            "what": self.metric.what,
            "mean": self.result.value,
            "standard_error": _number(self.result.se),
            "quantities": _plain(self.result),
            "baselines": {what: {"quantities": _plain(one)} for what, one in self.baselines.items()},
            "observations": n,
            "draws_per_observation": self.samples.draws.shape[1],
            "seconds": self.seconds,
            "trained_on_images": run.images,
            "command": reports.command_line("evaluate"),
            "settings": self.settings,
        }

    def rows(self) -> dict[str, str]:
        """Return the rows of a table."""
        first = self.result.name
        table = {f"{first}: {self.metric.what}": _text(self.result.quantities[first])}
        for what, quantity in list(self.result.quantities.items())[1:]:
            table[f"  {self.name}, {what}"] = _text(quantity)
        for what, one in self.baselines.items():
            p_value = one.quantities.get("p-value of uniformity")
            more = "" if p_value is None else f"; p = {p_value.value:.3g}"
            table[f"  {self.name}, {what}"] = _text(one.quantities[one.name]) + more
        n, draws = len(self.samples.truth), self.samples.draws.shape[1]
        table[f"  {self.name}, of"] = f"{n:,} conditions, {draws:,} draws of each"
        return table

    def figure(self) -> Figure:
        """Return the plot: distribution functions beside the diagonal, or samples beside exact ones."""
        if not self.result.curves:
            return self._scatter()
        figure = Figure(figsize=(5, 4.4), dpi=110, layout="tight")
        axes = figure.subplots()
        grid = self.result.curves[0].x.numpy()
        band = self.result.band
        axes.fill_between(
            grid,
            np.clip(grid - band, 0, 1),
            np.clip(grid + band, 0, 1),
            color="0.85",
            label="95 % of calibrated",
        )
        axes.plot([0, 1], [0, 1], color="0.4", linewidth=1)
        for curve in self.result.curves:
            axes.plot(curve.x, curve.y, label=curve.name, linewidth=1.4)
        for what, one in self.baselines.items():
            if what.startswith("null"):
                axes.plot(one.curves[0].x, one.curves[0].y, "--", label=what, linewidth=1)
        axes.set(xlabel=self.result.axes[0], ylabel=self.result.axes[1], xlim=(0, 1), ylim=(0, 1))
        axes.legend(fontsize=7)
        return figure

    def _scatter(self) -> Figure:
        figure = Figure(figsize=(9, 3.2), dpi=110, layout="tight")
        count = min(3, len(self.samples.draws))
        for i, axes in enumerate(figure.subplots(1, count, squeeze=False)[0]):
            for what, points in (("exact", self.samples.reference), ("model", self.samples.draws)):
                assert points is not None
                rows = points[i, :500].numpy()
                second = rows[:, 1] if rows.shape[1] > 1 else np.zeros(len(rows))
                axes.plot(rows[:, 0], second, ".", markersize=3, alpha=0.5, label=what)
            axes.set(title=f"condition {i}", xlabel="number 0", ylabel="number 1" if i == 0 else "")
            axes.legend(fontsize=7)
        return figure


def _plain(result: PosteriorResult) -> dict[str, Any]:
    return {
        name: {"value": _number(one.value), "standard_error": _number(one.se), "how": one.how}
        for name, one in result.quantities.items()
    }


def _text(quantity: Quantity) -> str:
    return estimate(quantity.value, quantity.se).replace(PM, "+- ")


def _number(x: float) -> float | None:
    """Replace NaN and infinity, which JSON lacks, by None."""
    return x if math.isfinite(x) else None
