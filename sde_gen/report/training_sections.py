"""Sections of a report about a training: curves, previews, configuration and versions."""

import json
import math
import statistics
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from sde_gen.checkpoint.manifest import line
from sde_gen.report.page import Section, Tile, definitions, joined, part
from sde_gen.report.pictures import Budget
from sde_gen.report.plot import PlotLine, line_plot
from sde_gen.report.run_folder import UNKNOWN, RunFolder, as_number

MOST_PREVIEWS = 24
"""Maximum number of previews in the slider, evenly spaced with the first and the last."""

MOST_TEXT = 200_000
"""Maximum number of characters of a configuration."""

IMAGES = "training images"


def tiles(run: RunFolder) -> list[Tile]:
    """Return the tiles of a training."""
    found = []
    seen = int(as_number(run.log[-1]["images"])) if run.log else run.images
    if seen is not None:
        budget = as_number(_engine(run).get("images"))
        state = "" if math.isnan(budget) else "finished" if seen >= budget else f"of {budget:,.0f}"
        found.append(Tile(label="training images", value=f"{seen:,}", detail=state))
    if run.validations:
        images, loss = min(run.validations, key=lambda each: each[1])
        found.append(
            Tile(label="best validation loss", value=f"{loss:.4g}", detail=f"checkpoint at {images:,} images")
        )
    speeds = [speed for speed in column(run, "images_per_second") if math.isfinite(speed)]
    if speeds:
        memory = max((mb for mb in column(run, "peak_memory_mb") if math.isfinite(mb)), default=UNKNOWN)
        detail = "" if math.isnan(memory) else f"peak memory {memory:,.0f} MB"
        found.append(Tile(label="images/s, median", value=f"{statistics.median(speeds):,.0f}", detail=detail))
    return found


def curves(run: RunFolder) -> list[Section]:
    """Return plots of the log by training images."""
    images = column(run, "images")
    validation = PlotLine(
        name="validation, averaged weights",
        x=[images for images, _ in run.validations],
        y=[loss for _, loss in run.validations],
    )
    loss = [PlotLine(name="training", x=images, y=column(run, "loss")), validation]
    by_level = error_by_noise_level(run)
    plots = {
        "Loss": line_plot(loss, x_label=IMAGES, y_label="loss", log_y=True, from_zero=True),
        "Error by noise level": line_plot(
            by_level, x_label=IMAGES, y_label="error of the noise", log_y=True, ordered=True, from_zero=True
        )
        + (part("note", text=LEVELS) if by_level else ""),
    }
    for title, name, label in (
        ("Gradient norm", "grad_norm", "norm before clipping"),
        ("Learning rate", "lr", "learning rate"),
        ("Speed", "images_per_second", "images/s"),
    ):
        line = PlotLine(name="", x=images, y=column(run, name))
        plots[title] = line_plot(
            [line], x_label=IMAGES, y_label=label, log_y=name == "grad_norm", from_zero=True
        )
    for metric in metrics_of_samples(run):
        title = f"{metric.name} of the training"
        plots[title] = line_plot([metric], x_label=IMAGES, y_label=metric.name, markers=True, from_zero=True)
    return [Section(title=title, body=body) for title, body in plots.items()]


def metrics_of_samples(run: RunFolder) -> list[PlotLine]:
    """Return every metric of samples in the log by images."""
    found: dict[str, list[tuple[float, float]]] = {}
    for record in run.log:
        scores = record.get("metrics")
        for name, score in scores.items() if isinstance(scores, dict) else ():
            value = as_number(score.get("value")) if isinstance(score, dict) else UNKNOWN
            if math.isfinite(value) and (name in found or len(found) < MOST_METRICS):
                found.setdefault(name, []).append((as_number(record["images"]), value))
    return [
        PlotLine(name=line(name, 60), x=[x for x, _ in points], y=[y for _, y in points])
        for name, points in found.items()
    ]


MOST_METRICS = 20
"""Metrics of samples that have a plot, at most."""

LEVELS = (
    "Mean squared error of the noise in bins of log-SNR. At strong noise (low log-SNR) the noisy sample reveals "
    "the noise and the error is small; at weak noise it cannot be separated from the data and the error nears 1."
)


def error_by_noise_level(run: RunFolder) -> list[PlotLine]:
    """Return the error of the predicted noise against training images, one series per bin of log-SNR."""
    bins: dict[str, PlotLine] = {}
    rows = [(record["images"], record.get("error_by_log_snr")) for record in run.log]
    named = [(images, row) for images, row in rows if isinstance(row, dict)]
    for label in dict.fromkeys(label for _, row in named for label in row):
        values = [(as_number(images), as_number(row.get(label))) for images, row in named]
        if any(math.isfinite(value) for _, value in values) and len(bins) < 32:
            bins[label] = PlotLine(
                name=f"log-SNR {label}", x=[images for images, _ in values], y=[value for _, value in values]
            )
    return list(bins.values())


def column(run: RunFolder, name: str) -> list[float]:
    """Return a column of the log, NaN where it is missing."""
    return [as_number(record.get(name)) for record in run.log]


def previews(run: RunFolder, pictures: Budget) -> Section:
    """Return the previews of the training with a slider."""
    last = len(run.previews) - 1
    indices = (
        sorted({round(i * last / (MOST_PREVIEWS - 1)) for i in range(MOST_PREVIEWS)}) if last >= 0 else []
    )
    each = min(pictures.left // (2 * max(len(indices), 1)), 2**19)
    frames = [
        (f"after {images:,} images", uri)
        for images, path in (run.previews[index] for index in indices)
        if (uri := pictures.embed(path, each)) is not None
    ]
    return Section(title="Previews", body=part("slider", frames=frames) if frames else Markup(""))


def configuration(run: RunFolder, *, prefix: str = "", folded: bool = False) -> list[Section]:
    """Return command, versions and data of a training, and its configuration, collapsed.

    Arguments:
        run: the run.
        prefix: beginning of the titles.
        folded: True to collapse the first section too.
    """
    about = run.about
    facts: dict[str, str] = {
        **{f"data: {name}": value for name, value in _plain(about.get("facts")).items()},
        **_data(about.get("data")),
        **{name: value for name, value in _plain(about.get("execution")).items()},
        **({"precision": str(about["precision"])} if "precision" in about else {}),
        **_plain(about.get("versions")),
    }
    text = as_yaml(run.config)
    return [
        Section(
            title=f"{prefix}Command and versions",
            folded=folded,
            body=joined(
                part("pre", text=run.command) if run.command else Markup(""),
                definitions(facts) if facts else Markup(""),
            )
            if run.command or facts
            else Markup(""),
        ),
        Section(
            title=f"{prefix}Configuration", body=part("pre", text=text) if text else Markup(""), folded=True
        ),
    ]


def as_yaml(config: Mapping[str, Any]) -> str:
    """Return a configuration as indented text, truncated to :data:`MOST_TEXT` characters."""
    text = "\n".join(_lines(config, 0)) if config else ""
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}\n... ({len(text):,} characters)"


def _lines(node: Mapping[str, Any], depth: int) -> list[str]:
    lines: list[str] = []
    for key, value in node.items():
        if isinstance(value, dict) and value and depth < 20:
            lines += [f"{'  ' * depth}{key}:", *_lines(value, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{key}: {json.dumps(value) if not isinstance(value, str) else value}")
    return lines


def _engine(run: RunFolder) -> dict[str, Any]:
    engine = run.config.get("engine")
    return engine if isinstance(engine, dict) else {}


def _plain(node: Any) -> dict[str, str]:
    """Return the entries of a part of the metadata as text."""
    if not isinstance(node, dict):
        return {}
    return {str(key)[:100]: str(value)[:400] for key, value in [*node.items()][:50]}


def _data(data: Any) -> dict[str, str]:
    """Return sizes and fingerprints of the splits."""
    splits = data if isinstance(data, dict) else {}
    return {
        f"data: {name}": f"{split.get('samples', '?')} samples, fingerprint {split.get('fingerprint', '?')}"[
            :200
        ]
        for name in ("train", "test")
        if isinstance(split := splits.get(name), dict)
    }
