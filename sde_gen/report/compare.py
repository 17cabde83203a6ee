"""Comparison of runs: settings that differ, estimates with their differences, curves and samples side by side."""

import json
import math
import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from sde_gen.report import result_sections, training_sections
from sde_gen.report.page import Section, joined, part, render, table, write
from sde_gen.report.pictures import Budget
from sde_gen.report.plot import PM, PlotLine, interval_plot, line_plot
from sde_gen.report.run_folder import Result, RunFolder, as_number, read

NOT_COMPARED = ("device", "loggers", "run", "threads")
"""Settings without influence on the model, left out of the comparison."""

OF_THE_LOSS = ("objective", "sde", "codec", "time_sampler", "weighting")
"""Parts of the configuration, besides the data, on which the values of a loss depend."""

OF_THE_ERROR = ("data", "codec")
"""Parts on which the error of the noise at a noise level depends."""

ABSENT = "-"
"""Placeholder for a missing setting or result."""


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Comparison of several runs.

    Arguments:
        names: distinct names of the runs.
        runs: the runs.
    """

    names: list[str]
    runs: list[RunFolder]

    @classmethod
    def of(cls, folders: Sequence[Path]) -> "RunComparison":
        """Read the run folders.

        Raises:
            ValueError: fewer than two folders, a repeated one, or one that is not a run folder.
        """
        places = [os.path.realpath(folder) for folder in folders]
        if len(places) < 2 or len(set(places)) < len(places):
            raise ValueError(f"{len(set(places))} run folder(s) to compare: give two or more, each once")
        return cls(names=distinct_names(places), runs=[read(folder) for folder in folders])

    def differences(self) -> list[list[str]]:
        """Return the settings that differ: name, and the value in every run."""
        settings = [run.settings for run in self.runs]
        names = {name for one in settings for name in one if name.partition(".")[0] not in NOT_COMPARED}
        rows = [[name, *(one.get(name, ABSENT) for one in settings)] for name in sorted(names)]
        return [row for row in rows if len(set(row[1:])) > 1]

    def loss_differences(self) -> list[str]:
        """Return the parts of data, process and objective that differ, so that losses are not comparable."""
        runs = [run for run in self.runs if run.config]
        parts = {"data": [_trained_on(run) for run in runs]}
        parts |= {
            name: [json.dumps(run.config.get(name), default=str) for run in runs] for name in OF_THE_LOSS
        }
        return [name for name, values in parts.items() if len(set(values)) > 1]

    def loss_note(self, *, by_level: bool = False) -> str:
        """Return a sentence about losses that are not comparable; empty if they are.

        Arguments:
            by_level: whether they are errors of the noise at equal log-SNR, which depend on data and codec alone.
        """
        differing = [part for part in self.loss_differences() if part in OF_THE_ERROR or not by_level]
        what = "Errors" if by_level else "Losses"
        return (
            f"{what} of these runs are not comparable: other {' and '.join(differing)}." if differing else ""
        )

    def metrics(self) -> list[tuple[str, list[Result | None]]]:
        """Return the result of every run by metric; None where a run has none."""
        found = [{result.name: result for result in run.results} for run in self.runs]
        names = dict.fromkeys(name for one in found for name in one)
        return [(name, [one.get(name) for one in found]) for name in names]

    def summary(self) -> tuple[list[str], list[list[str]]]:
        """Return a table with a row for every run: its header and its rows."""
        metrics = self.metrics()
        rows = []
        for index, (name, run) in enumerate(zip(self.names, self.runs, strict=True)):
            losses = [loss for _, loss in run.validations]
            speeds = [s for s in training_sections.column(run, "images_per_second") if math.isfinite(s)]
            rows.append(
                [
                    name,
                    ABSENT if run.images is None else f"{run.images:,}",
                    f"{min(losses):.4g}" if losses else ABSENT,
                    f"{statistics.median(speeds):,.0f}" if speeds else ABSENT,
                    *(
                        ABSENT
                        if (result := found[index]) is None
                        else result_sections.estimate(result.mean, result.se)
                        for _, found in metrics
                    ),
                ]
            )
        units = [next(result.unit for result in found if result is not None) for _, found in metrics]
        labels = [
            f"{name} ({unit})" if unit else name for (name, _), unit in zip(metrics, units, strict=True)
        ]
        loss = "validation loss" + (" (not comparable)" if self.loss_differences() else "")
        return ["run", "images", loss, "images/s", *labels], rows


def distinct_names(places: Sequence[str]) -> list[str]:
    """Return the shortest trailing parts of the paths that are distinct."""
    parts = [Path(place).parts for place in places]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(places)


def difference(one: Result, first: Result) -> tuple[float, float, bool]:
    """Return the difference of two results, its standard error, and whether it is paired.

    Results on the same images are compared image by image, which removes the variation between images.
    """
    values, images = [], []
    for result in (one, first):
        numbers, indices = result.content.get("per_image"), result.content.get("image")
        values.append([as_number(value) for value in numbers] if isinstance(numbers, list) else [])
        images.append(indices if isinstance(indices, list) else [])
    data = [_data(result) for result in (one, first)]
    paired = (
        images[0] == images[1] and data[0] == data[1] and len(values[0]) == len(values[1]) == len(images[0])
    )
    if paired and len(images[0]) > 1:
        apart = [a - b for a, b in zip(*values, strict=True)]
        return statistics.fmean(apart), statistics.stdev(apart) / len(apart) ** 0.5, True
    return one.mean - first.mean, math.hypot(one.se, first.se), False


def _data(result: Result) -> object:
    """Return the fingerprint of the data that a result is about, or of the reference of its samples."""
    settings = result.content.get("settings")
    return settings.get("data", settings.get("reference_fingerprint")) if isinstance(settings, dict) else None


def _trained_on(run: RunFolder) -> str:
    """Return what identifies the data of a training: their fingerprint, or else their settings."""
    data = run.about.get("data")
    known = data.get("fingerprint") if isinstance(data, dict) else None
    return json.dumps(known or run.config.get("data"), sort_keys=True, default=str)


def write_comparison(comparison: RunComparison, path: Path) -> None:
    """Write the page of a comparison.

    Arguments:
        comparison: the runs.
        path: the file to write.

    Raises:
        ValueError: the page would be too large.
        OSError: it cannot be written.
    """
    pictures = Budget()
    header, rows = comparison.summary()
    sections = [
        Section(title="Runs", body=table(rows, header, numeric=True), wide=True),
        _settings(comparison),
        *_curves(comparison),
        *_metrics(comparison),
        _solver_errors(comparison),
        _samples(comparison, pictures),
        _commands(comparison),
        _notes(comparison, pictures),  # last: the pictures before it may add notes
    ]
    title = f"Comparison of {len(comparison.runs)} runs"
    write(path, render(title=title, lead=", ".join(comparison.names), tiles=[], sections=sections))


def _settings(comparison: RunComparison) -> Section:
    settings = comparison.differences()
    body = table(settings, ["setting", *comparison.names]) if settings else part("note", text="none")
    return Section(title=f"Settings that differ ({len(settings)})", body=body, wide=True)


def _commands(comparison: RunComparison) -> Section:
    runs = zip(comparison.names, comparison.runs, strict=True)
    rows = [(name, run.command) for name, run in runs if run.command]
    return Section(title="Commands", body=table(rows), folded=True)


def _notes(comparison: RunComparison, pictures: Budget) -> Section:
    runs = zip(comparison.names, comparison.runs, strict=True)
    notes = [f"{name}: {note}" for name, run in runs for note in run.notes] + list(pictures.notes)
    body = joined(*(part("note", text=note) for note in notes))
    return Section(title="What could not be shown", body=body, wide=True)


def _curves(comparison: RunComparison) -> list[Section]:
    named = list(zip(comparison.names, comparison.runs, strict=True))

    def by_images(column: str) -> list[PlotLine]:
        return [
            PlotLine(
                name=name, x=training_sections.column(run, "images"), y=training_sections.column(run, column)
            )
            for name, run in named
        ]

    validation = [
        PlotLine(name=name, x=[x for x, _ in run.validations], y=[y for _, y in run.validations])
        for name, run in named
    ]
    levels = [_last_levels(name, run) for name, run in named]
    errors = by_images("error") if any(_weighted(run) for run in comparison.runs) else []
    images = training_sections.IMAGES
    plots = {
        "Training loss": line_plot(
            by_images("loss"), x_label=images, y_label="loss", log_y=True, from_zero=True
        ),
        "Validation loss": line_plot(
            validation, x_label=images, y_label="loss", log_y=True, markers=True, from_zero=True
        ),
        "Error of the noise": line_plot(errors, x_label=images, y_label="error", log_y=True, from_zero=True),
        "Error by noise level, at the end": line_plot(
            levels, x_label="log-SNR", y_label="error of the noise", log_y=True, markers=True
        ),
    }
    remarks = {
        title: comparison.loss_note(by_level=title.startswith("Error by noise level")) for title in plots
    }
    return [
        Section(title=title, body=joined(body, part("note", text=note)) if body and note else body)
        for (title, body), note in zip(plots.items(), remarks.values(), strict=True)
    ]


def _weighted(run: RunFolder) -> bool:
    """Return whether the loss differs from the error of the noise, as with a weighting."""
    return any(
        abs(as_number(record.get("loss")) - as_number(record.get("error")))
        > 0.01 * as_number(record.get("error"))
        for record in run.log
    )


def _last_levels(name: str, run: RunFolder) -> PlotLine:
    """Return the last known error in every bin of log-SNR, at the middle of the bin."""
    points = []
    for series in training_sections.error_by_noise_level(run):
        edges = [float(edge) for edge in re.findall(r"-?\d+(?:\.\d+)?", series.name)][:2]
        known = [value for value in series.y if math.isfinite(value)]
        if edges and known:
            points.append((statistics.fmean(edges), known[-1]))
    points.sort()
    return PlotLine(name=name, x=[x for x, _ in points], y=[y for _, y in points])


def _metrics(comparison: RunComparison) -> list[Section]:
    """Return the estimates of every metric, and the differences from the first run."""
    sections = []
    for name, found in comparison.metrics():
        rows = [(run, one) for run, one in zip(comparison.names, found, strict=True) if one is not None]
        unit = rows[0][1].unit
        plot = interval_plot([(run, one.mean, one.se) for run, one in rows], label=unit or name)
        first = rows[0]
        lines = []
        for run, one in rows[1:]:
            apart, se, paired = difference(one, first[1])
            how = "paired by image" if paired else "unpaired"
            how += "" if _data(one) == _data(first[1]) else "; of other data, not comparable"
            lines.append((run, result_sections.estimate(apart, se), how))
        apart_table = table(lines, ("run", f"less {first[0]} {PM}s.e.", "compared"))
        sections.append(Section(title=name + (f", {unit}" if unit else ""), body=joined(plot, apart_table)))
    return sections


def _solver_errors(comparison: RunComparison) -> Section:
    rows = []
    for name, run in zip(comparison.names, comparison.runs, strict=True):
        own = run.benchmark.get("rows")
        rows += [
            {**row, "solver": f"{name}: {row.get('solver')}"}
            for row in (own if isinstance(own, list) else [])
            if isinstance(row, dict)
        ]
    return (
        result_sections.solver_errors({"rows": rows, "n": None})
        if rows
        else Section(title="", body=Markup(""))
    )


def _samples(comparison: RunComparison, pictures: Budget) -> Section:
    """Return the samples of every run, from the most common folder name; without samples, the last preview."""
    folders = [
        {
            one.folder.name: one
            for one in run.samples
            if "samples" in one.pictures and "task" not in one.folder.name
        }
        for run in comparison.runs
    ]
    names = [name for each in folders for name in each]
    common = max(names, key=names.count) if names else ""
    shown = []
    for name, run, own in zip(comparison.names, comparison.runs, folders, strict=True):
        chosen = own.get(common) or next(iter(own.values()), None)
        if chosen is not None:
            path, detail = chosen.pictures["samples"], chosen.folder.name
        elif run.previews:
            path, detail = run.previews[-1][1], f"preview after {run.previews[-1][0]:,} images"
        else:
            continue
        uri = pictures.embed(path, pictures.left // len(comparison.runs))
        if uri is not None:
            shown.append({"caption": name, "uri": uri, "detail": detail})
    return Section(title="Samples", body=part("pictures", pictures=shown) if shown else Markup(""), wide=True)
