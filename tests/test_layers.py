"""Import layers: a package imports only lower layers, and only the command line imports Hydra."""

import ast
from pathlib import Path

from importlinter.cli import lint_imports

import sde_gen

ROOT = Path(__file__).parent.parent
PACKAGE = Path(sde_gen.__file__).parent


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            names.add(node.module.partition(".")[0])
    return names


def library() -> list[Path]:
    """Every file below the command line, those included that no contract lists by name."""
    return [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "cli"]


def test_packages_import_only_lower_layers(capfd):
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0, (
        capfd.readouterr().out
    )


def test_only_the_command_line_imports_hydra():
    assert len(library()) > 30
    offenders = {path.name for path in library() if imported(path) & {"hydra", "omegaconf"}}
    assert not offenders


def test_the_search_for_imports_finds_hydra_in_the_command_line():
    assert "hydra" in imported(PACKAGE / "cli" / "instantiate.py")


def test_library_neither_prints_nor_shows_progress():
    offenders = {
        (path.name, node.lineno)
        for path in library()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    offenders |= {(path.name, 0) for path in library() if imported(path) & {"tqdm", "rich"}}
    assert not offenders
