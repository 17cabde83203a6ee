"""Self-contained HTML pages: one file with style sheet, script and pictures, written atomically.

Jinja escapes all values; only plots and tables of this package are markup. A content security policy forbids the page
to load anything and to run any script but its own.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sde_gen.utils import atomic

LARGEST = 5 * 10**6
"""Maximum size of a page in bytes."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Figure at the top of a page.

    Arguments:
        label: name of the figure.
        value: the figure.
        detail: a line below it.
    """

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Part of a page.

    Arguments:
        title: its heading.
        body: its content.
        wide: True for the whole width of the page.
        folded: True if it is collapsed at first; then it has the whole width too.
    """

    title: str
    body: Markup
    wide: bool = False
    folded: bool = False


def render(*, title: str, lead: str, tiles: Sequence[Tile], sections: Sequence[Section]) -> str:
    """Return the HTML of a page; sections without content are left out."""
    environment = _environment()
    style, script = (environment.loader.get_source(environment, name)[0] for name in ("page.css", "page.js"))  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        title=title,
        lead=lead,
        tiles=tiles,
        sections=[section for section in sections if section.body],
        style=Markup(style),
        script=Markup(script),
        digest=digest,
    )


def write(path: Path, html: str) -> None:
    """Write a page atomically.

    Raises:
        ValueError: it is too large.
        OSError: it cannot be written.
    """
    content = html.encode(errors="replace")
    if len(content) > LARGEST:
        raise ValueError(f"it would have {len(content):,} bytes, expected at most {LARGEST:,}")
    atomic.write(path, content)


def part(name: str, **values: object) -> Markup:
    """Return a block of the page from the template ``name.html``."""
    return Markup(
        _environment().get_template(f"{name}.html").render(values)
    )  # autoescaped by the environment


def table(rows: Sequence[Sequence[object]], header: Sequence[str] = (), *, numeric: bool = False) -> Markup:
    """Return a table.

    Arguments:
        rows: cells of every row.
        header: names of the columns; empty for no header.
        numeric: whether all columns but the first are numbers, aligned at the right.
    """
    return part("table", rows=rows, header=header, numeric=numeric) if rows else Markup("")


def definitions(values: Mapping[str, object]) -> Markup:
    """Return names and values as a table of two columns."""
    return table([*values.items()])


def joined(*blocks: Markup) -> Markup:
    """Return blocks below each other."""
    return Markup("\n").join(blocks)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("sde_gen.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
