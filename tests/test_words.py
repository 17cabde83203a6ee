"""Words of the package and its documentation: terms of the field and American spelling."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE, TEXTS = ("sde_gen", "conf"), ("docs", "README.md", "CONTRIBUTING.md")
UNCHECKED = ("_build", "renamed.py")
"""Built pages, and the table of former names."""
STEMS = "normal|optim|quant|initial|random|regular|parallel|vector|minim|maxim|discret|standard|parametr|general|serial"
"""Words with -ize and -ization."""
DOCSTRINGS = ("denoiser", "grid", "model", "objective", "sampler.py", "sde")
"""Parts of the package where all docstrings begin with a noun or a verb."""
FORBIDDEN = {
    "metaphor": (r"\b(doors?|crews?|heeded|houses?|ledgers?|watch-?dogs?|stakes?)\b", (*CODE, *TEXTS)),
    "walk": (r"(?<!random )(?<!os\.)\bwalk(s|ed|ing)?\b", TEXTS),
    "British spelling": (
        rf"({STEMS})is(e[drs]?|ing|ation)|(colour|neighbour|behaviour|favour|centre)",
        (*CODE, *TEXTS),
    ),
}


def files(*places: str) -> Iterator[Path]:
    for place in places:
        root = ROOT / place
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.suffix in (".py", ".yaml", ".md") and not set(path.parts) & set(UNCHECKED):
                yield path


def matches(pattern: str, *places: str) -> list[str]:
    """Each match as file:line: word."""
    found = []
    for path in files(*places):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for match in re.finditer(pattern, line, re.IGNORECASE):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    return found


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_forbidden_words_do_not_occur(kind: str) -> None:
    pattern, places = FORBIDDEN[kind]
    assert not (found := matches(pattern, *places)), "\n".join(found)


def test_docstrings_begin_with_a_noun_or_a_verb() -> None:
    found = matches(
        r'"""(What|How|Who|Whether|Check the constructor)\b', *(f"sde_gen/{name}" for name in DOCSTRINGS)
    )
    assert not found, "\n".join(found)
