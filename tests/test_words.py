"""Words of the package, its configuration and its documentation: terms of the field and American spelling."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE, TEXTS = ("sde_gen", "conf"), ("docs", "README.md", "CONTRIBUTING.md", "benchmarks", "scripts")
UNCHECKED = ("_build", "renamed.py", "test_renamed.py", "test_words.py")
"""Built pages, and the table of former names with its test, and this file."""
STEMS = "normal|optim|quant|initial|random|regular|parallel|vector|minim|maxim|discret|standard|parametr|general|serial"
"""Words with -ize and -ization."""
FORBIDDEN = {
    "metaphor": (
        r"\b(barks?|crews?|doors?|(?<!\.)floors?(?!\()|heed(ed|s)?|houses?|laws?|ledgers?|rooms?|stakes?|told|watch-?dogs?)\b",
        (*CODE, *TEXTS),
    ),
    "walk": (r"\b(?<!random )(?<!os\.)(?<!ast\.)walk(s|ed|ing)?\b", (*CODE, *TEXTS)),
    "turn of phrase": (
        r"\b(as ever|of (its|their) own|the one of|so many|straight paths?|own steps?|clean end|noisy end|un-?noised|"
        r"on the way (down|up)|theirs|left the finite numbers|did not suffice|is to be had|half believed)\b",
        (*CODE, *TEXTS),
    ),
    "British spelling": (
        rf"\b\w*(({STEMS})is(e[drs]?|ing|ation)|colour|neighbour|behaviour|favour|centre|artefact|grey)|travelled",
        (*CODE, *TEXTS),
    ),
    "former name": (
        r"^ *(class|def) _?(Alone|Crew|Deserted|Draft|Drawing|Drawn|Ended|Ending|Everywhere|Facts|Feed|Follower|Itself|"
        r"Law|Ledger|Listener|Micro|OwnSteps|Passes|Piece|Pieces|Quarters|Recipe|Room|Team|ToldRMSNorm|Transfer|Walk|"
        r"Walked|Watchdog|bark|doubts|expect|finer|hear|heeded|preflight|sheet|stake|steady|steered|told)\b",
        CODE,
    ),
    "docstring without a noun or a verb": (
        r'"""((What|How|Who|Whose|Whether|Where|When|Why|That|Those|It|They|Theirs|Ours|Our|Their)\b|'
        r"Check the constructor's arguments|[^\s`\"]+\"\"\"$)",
        ("sde_gen",),
    ),
    "metaphor in a name of a test": (
        r"def test_\w*?(?<=_)(told|laws?|ledgers?|doors?|nonsense|theirs|walked)(?![^\W_])",
        ("tests",),
    ),
}
"""Patterns, and the places where they must not occur."""
PLANTED = {
    "metaphor": "# the ledger of results",
    "walk": "# the solver walks along the grid",
    "turn of phrase": "# every sample has a seed of its own",
    "British spelling": "# normalised to one",
    "former name": "class Watchdog:",
    "docstring without a noun or a verb": '    """What the network predicts."""',
    "metaphor in a name of a test": "def test_restart_refuses_nonsense() -> None:",
}


def files(*places: str) -> Iterator[Path]:
    for place in places:
        root = ROOT / place
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.suffix in (".py", ".yaml", ".md") and not set(path.parts) & set(UNCHECKED):
                yield path


@cache
def text_of(path: Path) -> str:
    return path.read_text()


def matches(pattern: str, *places: str) -> list[str]:
    """Each match as file:line: word."""
    found, compiled = [], re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for path in files(*places):
        text = text_of(path)
        for match in compiled.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{path.relative_to(ROOT)}:{line}: {match[0]}")
    return found


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_forbidden_words_do_not_occur(kind: str) -> None:
    pattern, places = FORBIDDEN[kind]
    assert not (found := matches(pattern, *places)), "\n".join(found)


def test_names_of_classes_are_unique() -> None:
    found: dict[str, list[str]] = {}
    for path in files("sde_gen"):
        if path.suffix == ".py":
            for name in re.findall(r"^class (\w+)", text_of(path), re.MULTILINE):
                found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert not {name: paths for name, paths in found.items() if len(paths) > 1}


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_a_planted_word_is_found_with_its_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sde_gen").mkdir()
    (tmp_path / "sde_gen" / "planted.py").write_text(f"import math\n{PLANTED[kind]}\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (found,) = matches(FORBIDDEN[kind][0], "sde_gen")
    assert found.startswith("sde_gen/planted.py:2: ")
