"""Sections of a report about results: estimates with their errors, samples, and errors of solvers."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from sde_gen.checkpoint.manifest import line
from sde_gen.report.page import Section, Tile, joined, part, table
from sde_gen.report.pictures import Budget
from sde_gen.report.plot import PM, PlotLine, histogram, interval_plot, line_plot
from sde_gen.report.run_folder import Result, SampleFolder, as_number

MOST_CLASSES = 40
"""Maximum number of classes in a plot."""

DETAILS = (
    "split",
    "seed",
    "batch_size",
    "precision",
    "device",
    "checkpoint",
    "sde_gen",
    "torch",
    "data",
    "model",
)
"""Settings of an evaluation shown beside those of the metric."""


def tiles(results: Sequence[Result]) -> list[Tile]:
    """Return tiles with the first estimates."""
    return [
        Tile(
            label=one.name + (f", {one.unit}" if one.unit else ""),
            value=estimate(one.mean, one.se),
            detail=_of(one),
        )
        for one in results[:4]
    ]


def estimate(mean: float, se: float) -> str:
    """Return an estimate with its standard error, rounded to two digits of the error."""
    if not math.isfinite(se) or se <= 0:
        return f"{mean:.5g}"
    digits = max(0, 1 - math.floor(math.log10(se))) if se < 10 else 0
    return f"{mean:.{digits}f} {PM}{se:.{digits}f}"


def _of(result: Result) -> str:
    images, whole = (as_number(result.content.get(key)) for key in ("images", "of_images"))
    draws = result.content.get("draws")
    if isinstance(draws, list) and draws and isinstance(draws[0], dict):
        return f"{len(draws)} x {as_number(draws[0].get('samples')):,.0f} samples"
    if math.isnan(images):
        return ""
    return (
        f"{images:,.0f} images"
        if math.isnan(whole) or whole == images
        else f"{images:,.0f} of {whole:,.0f} images"
    )


def overview(results: Sequence[Result]) -> Section:
    """Return all estimates in a table."""
    rows = [
        (
            one.name,
            estimate(one.mean, one.se),
            one.unit,
            _of(one),
            _short(one.nfe),
            _short(one.content.get("seconds")),
            line(str(one.content.get("what", "")), 120),
        )
        for one in results
    ]
    header = ("metric", f"estimate {PM}s.e.", "unit", "of", "NFE", "seconds", "what")
    used = [index for index in range(len(header)) if any(row[index] for row in rows)]
    columns = [header[index] for index in used]
    return Section(
        title="Metrics", body=table([[row[index] for index in used] for row in rows], columns), wide=True
    )


def budgets(results: Sequence[Result], pictures: Budget, *, details: bool) -> list[Section]:
    """Return the error budget, draws, plot, classes and distribution over images of every result.

    Arguments:
        results: the results.
        pictures: remaining size of the pictures of the page.
        details: whether to show command and settings, below all else.
    """
    found = []
    for one in results:
        rows = _budget(one)
        if rows:
            body = table(rows, ("component of the error", one.unit or "value", "what it is"))
            found.append(Section(title=f"{one.name}: error budget", body=body))
        header, *draws = _draws(one)
        if draws:
            body = table(draws, header, numeric=True)
            title = f"{one.name}: draws and baselines"
            found.append(Section(title=title, body=body, wide=True))
        plot = one.path.with_suffix(".png")
        uri = pictures.embed(plot) if plot.is_file() else None
        if uri is not None:
            shown = [{"caption": plot.name, "uri": uri, "detail": ""}]
            found.append(Section(title=f"{one.name}: plot", body=part("single", pictures=shown, smooth=True)))
        classes = _classes(one)
        if len(classes) > 1:
            found.append(
                Section(title=f"{one.name} by class", body=interval_plot(classes, label=one.unit or one.name))
            )
        values = one.content.get("per_image")
        if isinstance(values, list) and len(values) > 4:
            body = histogram(
                [as_number(value) for value in values], x_label=one.unit or one.name, y_label="images"
            )
            found.append(Section(title=f"{one.name} of single images", body=body))
    return [*found, *(_details(one) for one in results if details)]


def _draws(result: Result) -> list[list[str]]:
    """Return a table of the draws of samples of a result, or of the model itself, and of the baselines.

    Every quantity has a column, named as in the first row, since names of others contain other numbers of samples. The
    first row is the header.
    """
    draws, baselines = (result.content.get(key) for key in ("draws", "baselines"))
    named = [(f"draw {i + 1}", draw) for i, draw in enumerate(draws if isinstance(draws, list) else [])]
    named = named or [("the model", result.content)]
    named += [
        (line(str(name), 60), one) for name, one in (baselines if isinstance(baselines, dict) else {}).items()
    ]
    found = [(name, one, _quantities(one)) for name, one in named[:MOST_CLASSES]]
    found = [(name, one, quantities) for name, one, quantities in found if quantities]
    if not found:
        return [[]]
    counts = [_short(one.get("samples")) for _, one, _ in found]
    titles = [name for name, _ in found[0][2]]
    rows = [["draw or baseline", *titles, "samples"]]
    for (name, _, quantities), count in zip(found, counts, strict=True):
        values = [text for _, text in quantities[: len(titles)]]
        rows.append([name, *values, *[""] * (len(titles) - len(values)), count])
    return rows if any(counts) else [row[:-1] for row in rows]


def _quantities(one: Any) -> list[tuple[str, str]]:
    """Return names and estimates of the numbers of a draw."""
    quantities = one.get("quantities") if isinstance(one, dict) else None
    found = []
    for name, about in quantities.items() if isinstance(quantities, dict) else ():
        about = about if isinstance(about, dict) else {}
        value, se = as_number(about.get("value")), as_number(about.get("standard_error"))
        found.append((line(str(name), 60), estimate(value, se)))
    return found


def _budget(result: Result) -> list[tuple[str, str, str]]:
    spread, offset = (result.content.get(key) for key in ("spread", "offset"))
    rows = []
    if isinstance(spread, dict) and spread:
        rows.append(
            ("images", f"{PM}{_short(result.se)}", "standard error of the mean; contains those below")
        )
        rows += [
            (line(str(name), 60), f"{PM}{_short(error)}", "random draws: part of that standard error")
            for name, error in spread.items()
        ]
    if isinstance(offset, dict):
        doubts = result.content.get("not_known_to_be_small")
        for name, about in offset.items():
            about = about if isinstance(about, dict) else {}
            mean, se = as_number(about.get("mean")), as_number(about.get("standard_error"))
            small = (
                "NOT small beside the standard error"
                if isinstance(doubts, list) and name in doubts
                else "small"
            )
            rows.append(
                (
                    line(f"discretization of the {name}", 60),
                    estimate(mean, se) if math.isfinite(mean) else "not estimated",
                    f"bias, diagnosed on {_short(about.get('images'))} of the images; {small}",
                )
            )
    return rows


def _classes(result: Result) -> list[tuple[str, float, float]]:
    classes = result.content.get("classes")
    if not isinstance(classes, dict):
        return []
    return [
        (
            line(str(about.get("name", label)), 40),
            as_number(about.get("mean")),
            as_number(about.get("standard_error")),
        )
        for label, about in [*classes.items()][:MOST_CLASSES]
        if isinstance(about, dict)
    ]


def _details(result: Result) -> Section:
    """Return command and settings of an evaluation, folded."""
    settings = result.content.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    rows = [(key, line(str(settings[key]), 200)) for key in DETAILS if key in settings]
    command = result.content.get("command")
    return Section(
        title=f"{result.name}: command and settings",
        body=joined(
            part("pre", text=command) if isinstance(command, str) else Markup(""),
            table(rows),
            part("pre", text=line(str(settings.get("metric", "")), 4000)),
        )
        if settings or isinstance(command, str)
        else Markup(""),
        folded=True,
    )


def samples(folders: Sequence[SampleFolder], pictures: Budget) -> Section:
    """Return the pictures of several folders of samples side by side."""
    shown = []
    for one in folders:
        path = one.pictures.get("samples")
        uri = None if path is None else pictures.embed(path, 2**18)
        if uri is not None:
            shown.append({"caption": one.folder.name, "uri": uri, "detail": _cost(one.about)})
    return Section(title="Samples", body=part("pictures", pictures=shown) if shown else Markup(""), wide=True)


def all_pictures(one: SampleFolder, pictures: Budget) -> list[Section]:
    """Return every picture of a folder of samples in its own section."""
    titles = {"samples": "Samples", "animation": "From noise to samples", "trajectory": "Trajectory"}
    found = []
    for what, title in titles.items():
        path = one.pictures.get(what)
        uri = None if path is None else pictures.embed(path, 2**20)
        if uri is not None:
            shown = [{"caption": path.name if path else "", "uri": uri, "detail": ""}]
            found.append(Section(title=title, body=part("single", pictures=shown, smooth=False)))
    return found


def _cost(about: dict[str, Any]) -> str:
    units = {"nfe": "NFE", "seconds": "s", "trained_on_images": "training images"}
    parts = [
        f"{_short(about[key])} {unit}"
        for key, unit in units.items()
        if math.isfinite(as_number(about.get(key)))
    ]
    return ", ".join(parts)


def solver_errors(benchmark: dict[str, Any]) -> Section:
    """Return the errors of solvers by network evaluations."""
    rows = benchmark.get("rows")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    names = list(dict.fromkeys(line(str(row.get("solver", "")), 60) for row in rows))
    series = []
    for name in names:
        own = [row for row in rows if line(str(row.get("solver", "")), 60) == name]
        points = sorted((as_number(row.get("nfe")), as_number(row.get("median"))) for row in own)
        series.append(PlotLine(name=name, x=[x for x, _ in points], y=[y for _, y in points]))
    plot = line_plot(
        series,
        x_label="network evaluations per sample (NFE)",
        y_label="median error per dimension",
        log_x=True,
        log_y=True,
        markers=True,
    )
    count = _short(benchmark.get("n"))
    text = "Distance to a fine reference in model space" + (f", {count} samples." if count else ".")
    return Section(
        title="Error of solvers by NFE", body=joined(plot, part("note", text=text)) if plot else plot
    )


def _short(value: Any) -> str:
    number = as_number(value)
    if math.isnan(number):
        return "" if value is None or isinstance(value, float) else line(str(value), 40)
    return f"{number:,.0f}" if abs(number) >= 1000 or number == int(number) else f"{number:.4g}"
