"""Reports: an HTML page for a run, an evaluation or a folder of samples."""

import math
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from sde_gen.report import result_sections, training_sections
from sde_gen.report.page import Section, Tile, definitions, joined, part, render, write
from sde_gen.report.pictures import Budget
from sde_gen.report.run_folder import RunFolder, as_number, flatten, read, results, sample_folder

REPORT_NAME = "report.html"
"""File of a report in its folder."""

OF_SAMPLES = {
    "n": "samples",
    "nfe": "NFE per sample",
    "seconds": "seconds",
    "images_per_second": "samples/s",
    "seed": "seed",
    "trained_on_images": "training images",
}
"""Entries of samples.json shown as tiles, with their labels."""


def write_run(folder: Path | str) -> Path:
    """Write the report of a run: training, previews, samples, metrics, errors of solvers, configuration.

    Arguments:
        folder: the run folder.

    Returns:
        The file written, ``report.html`` in the folder.

    Raises:
        ValueError: there is no such folder, or the page would be too large.
        OSError: it cannot be written.
    """
    folder = Path(folder)
    run, pictures = read(folder), Budget()
    sections = [
        *training_sections.curves(run)[:2],
        training_sections.previews(run, pictures),
        result_sections.solver_errors(run.benchmark),
        result_sections.samples(run.samples, pictures),
        result_sections.overview(run.results),
        *result_sections.budgets(run.results, pictures, details=False),
        *training_sections.curves(run)[2:],
        *training_sections.configuration(run),
        _notes([*run.notes, *pictures.notes]),
    ]
    return _write(
        folder,
        run.name,
        _lead(run),
        [*training_sections.tiles(run), *result_sections.tiles(run.results)],
        sections,
    )


def write_evaluation(folder: Path, run: Path) -> Path:
    """Write the report of an evaluation.

    Arguments:
        folder: the folder with its results.
        run: the run folder.

    Returns:
        The file written.

    Raises:
        ValueError: there is no such run folder, or the page would be too large.
        OSError: it cannot be written.
    """
    about, pictures, notes = read(run), Budget(), list[str]()
    found = results(folder, notes)
    sections = [
        result_sections.overview(found),
        *result_sections.budgets(found, pictures, details=True),
        *training_sections.configuration(about, prefix="Training: ", folded=True),
        _notes([*notes, *pictures.notes]),
    ]
    return _write(folder, f"Evaluation of {about.name}", _lead(about), result_sections.tiles(found), sections)


def write_samples(folder: Path, run: Path) -> Path:
    """Write the report of a folder of samples.

    Arguments:
        folder: the folder, with ``samples.json`` and pictures.
        run: the run folder.

    Returns:
        The file written.

    Raises:
        ValueError: there is no such run folder, or the page would be too large.
        OSError: it cannot be written.
    """
    about, pictures, notes = read(run), Budget(), list[str]()
    samples = sample_folder(folder, notes)
    numbers = {key: as_number(samples.about.get(key)) for key in OF_SAMPLES}
    shown = [
        Tile(label=label, value=f"{numbers[key]:,.4g}" if numbers[key] < 1000 else f"{numbers[key]:,.0f}")
        for key, label in OF_SAMPLES.items()
        if math.isfinite(numbers[key])
    ]
    command, details, settings = (samples.about.get(key) for key in ("command", "details", "settings"))
    text = training_sections.as_yaml(settings) if isinstance(settings, dict) else ""
    sections = [
        *result_sections.all_pictures(samples, pictures),
        Section(
            title="Command",
            body=joined(
                part("pre", text=command) if isinstance(command, str) else Markup(""),
                definitions(dict(flatten(details))) if isinstance(details, dict) else Markup(""),
            )
            if command or details
            else Markup(""),
        ),
        Section(title="Settings", body=part("pre", text=text) if text else Markup(""), folded=True),
        *training_sections.configuration(about, prefix="Training: ", folded=True),
        _notes([*notes, *pictures.notes]),
    ]
    return _write(folder, f"Samples of {about.name}", _lead(about), shown, sections)


def _lead(run: RunFolder) -> str:
    """Return process, network, data and date of a run in a line."""
    targets = {
        key: run.settings.get(f"{key}._target_", "").rpartition(".")[2]
        for key in ("data", "sde", "model", "encoder")
    }
    parts = [name for name in targets.values() if name]
    versions = run.about.get("versions")
    if isinstance(versions, dict) and "sde_gen" in versions:
        parts.append(f"sde_gen {str(versions['sde_gen'])[:40]}")
    return ", ".join(parts)


def _notes(lines: Sequence[str]) -> Section:
    body = joined(*(part("note", text=text) for text in lines)) if lines else Markup("")
    return Section(title="What could not be shown", body=body, wide=True)


def _write(folder: Path, title: str, lead: str, tiles: Sequence[Tile], sections: Sequence[Section]) -> Path:
    path = folder / REPORT_NAME
    write(path, render(title=title, lead=lead, tiles=tiles, sections=sections))
    return path
