"""The floors of the house: imports go down, and only the top floor knows Hydra."""

import ast
from pathlib import Path

from importlinter.cli import lint_imports

import sde_gen

ROOT = Path(__file__).parent.parent
PACKAGE = Path(sde_gen.__file__).parent
TOP = {
    *("train", "train_classifier", "sample", "evaluate", "benchmark", "verify", "convert", "encode"),
    *("run", "training", "tuning", "steering", "evaluation", "build", "door", "show"),
}


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            found.add(node.module.partition(".")[0])
    return found


def library() -> list[Path]:
    """Every file below the top floor, those included that no contract lists by name."""
    return [
        path
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in TOP
    ]


def test_floors(capfd):
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0, (
        capfd.readouterr().out
    )


def test_only_the_top_floor_knows_hydra():
    assert len(library()) > 30
    offenders = {path.name for path in library() if imported(path) & {"hydra", "omegaconf"}}
    assert not offenders


def test_doors_do_know_hydra():
    """The search above can find what it looks for."""
    assert "hydra" in imported(PACKAGE / "build.py")


def test_library_neither_prints_nor_shows_progress():
    offenders = {
        (path.name, node.lineno)
        for path in library()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    offenders |= {(path.name, 0) for path in library() if imported(path) & {"tqdm", "rich"}}
    assert not offenders
