"""Sphinx configuration."""

import re
from typing import Any

from sphinx.application import Sphinx

import sde_gen

project = "sde_gen"
author = "The sde_gen authors"
project_copyright = "The sde_gen authors"
release = version = sde_gen.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_design",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"sde_gen {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath", "smartquotes"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Docstrings are plain text with ``code`` and :math:`formulae`: a star or a bar in them is itself, not markup.
SPECIAL = re.compile(r"(``.*?``|:[\w:]+:`.*?`|`[^`]*`_{0,2})")


def plain(line: str) -> str:
    parts = SPECIAL.split(line)
    parts[::2] = [re.sub(r"(?<!\\)([*|])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def escape(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    del app, what, name, obj, options
    inside: int | None = None  # indent of the directive whose block this is
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.strip() and inside is not None and indent <= inside:
            inside = None
        if line.lstrip().startswith(".. "):
            inside = indent
        elif inside is None:
            lines[number] = plain(line)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", escape, priority=400)  # before napoleon
