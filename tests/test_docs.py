"""Documentation that runs: Python blocks, commands, links and yaml."""

import re
import shlex
import types
from pathlib import Path

import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra

from sde_gen.cli.config_files import CONF, load
from sde_gen.cli.overrides import validate_overrides
from sde_gen.sde import SDE

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
PAGES = [page for page in PAGES if "_build" not in page.parts]


def title(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Fenced blocks of a language, each with the line where it begins."""
    text = page.read_text()
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [(text[: match.start(1)].count("\n"), match.group(1)) for match in found]


RUNNABLE = [page for page in PAGES if blocks(page, "python")]


FEWER = {"run.sample(64)": "run.sample(2)", "values[:4]": "values[:1]", "range(300)": "range(10)"}
"""Numbers of samples and steps on the first pages, and those that show as well that they run."""


def namespace(page: Path, until: int | None = None) -> dict[str, object]:
    """Run a page's Python blocks in one namespace; line numbers in tracebacks are the page's."""
    module = types.ModuleType(f"page_{page.stem}")
    for line, block in blocks(page, "python")[:until]:
        for many, few in FEWER.items():
            block = block.replace(many, few)
        exec(compile("\n" * line + block, str(page), "exec"), module.__dict__)
    return module.__dict__


@pytest.mark.long
@pytest.mark.parametrize("page", RUNNABLE, ids=title)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace(page)


def test_numbers_of_samples_and_steps_are_still_those_of_the_pages():
    text = "".join(block for page in RUNNABLE for _, block in blocks(page, "python"))
    assert [many for many in FEWER if many not in text] == []


def test_every_page_that_promises_an_example_has_one():
    promising = {"README.md", *(f"docs/extend/{kind}.md" for kind in ("sde", "solver", "model", "data"))}
    assert promising <= {title(page) for page in RUNNABLE}


def test_the_process_of_the_page_agrees_with_its_derivation():
    """The page claims that its override equals what would have been derived."""
    sde = namespace(ROOT / "docs/extend/sde.md", until=2)["sde"]
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    assert isinstance(sde, SDE)
    torch.testing.assert_close(sde.log_snr(t), SDE.log_snr(sde, t))


COMMANDS = [
    pytest.param(match.group(1), match.group(2), id=f"{title(page)}: {match.group(1)} {match.group(2)}")
    for page in PAGES
    for _, block in blocks(page, "sh")
    for match in re.finditer(r"python -m sde_gen\.(\w+) *([^#\n]*)", block.replace("\\\n", " "))
]


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_commands_compose(name, arguments):
    """Every documented command names groups, files and keys that exist, else the command ends the process."""
    GlobalHydra.instance().clear()
    words = shlex.split(arguments)
    validate_overrides(name, words)
    for solver in re.findall(r"solvers=\[(.*?)\]", arguments):
        assert all(load("solver", each) for each in solver.split(","))


def test_there_are_commands():
    assert {name for name, _ in (param.values for param in COMMANDS)} >= {
        "train",
        "sample",
        "evaluate",
        "benchmark",
    }


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=title)
def test_lines_have_at_most_120_characters(page):
    long = [number for number, line in enumerate(page.read_text().splitlines(), 1) if len(line) > 120]
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize(
    "kind",
    [
        "sde",
        "solver",
        "parametrization",
        "weighting",
        "time_sampler",
        "step_sampler",
        "pointwise_loss",
        "training_noise",
    ],
)
def test_every_name_of_a_kind_is_documented(kind):
    """A process, solver, weighting ... that nobody can find in the documents is not there."""
    page = ROOT / "docs" / ("choose_a_solver.md" if kind == "solver" else "math.md")
    named = set(re.findall(r"`(\w+)`", page.read_text()))
    missing = {path.stem for path in (CONF / kind).glob("*.yaml")} - named
    assert not missing


@pytest.mark.parametrize(
    "kind", sorted({path.parent.name for path in CONF.glob("*/*.yaml")} - {"engine", "multistep"})
)
def test_the_readme_lists_what_there_is(kind):
    """Every group of names, but the settings of a training and of parts of solvers."""
    pattern = (
        rf"^\| `{kind}`[^|]* \| (.*) \|\n((?:\| \| .* \|\n)*)"  # a long list continues in rows without a name
    )
    ((first, rest),) = re.findall(pattern, (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", first + rest)) == {path.stem for path in (CONF / kind).glob("*.yaml")}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=title)
def test_yaml_of_a_page_binds_to_its_class(page):
    """The yaml shown is the constructor of the class shown."""
    (_, text), *others = blocks(page, "yaml")
    assert not others
    node = yaml.safe_load(text)
    built = namespace(page, until=1)[node.pop("_target_").rpartition(".")[2]]
    missing = {"shape": (1, 8, 8)}
    built(**{key: missing[key] if value == "???" else value for key, value in node.items()})
