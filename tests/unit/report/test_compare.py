"""Comparison of runs: settings that differ, paired differences, one page and tables in the terminal."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from scipy import stats

from sde_gen.cli import compare
from sde_gen.cli.overrides import validate_overrides, with_list
from sde_gen.report.compare import RunComparison, difference, distinct_names, write_comparison
from tests.unit.report.test_report import EVIL, Page, log, picture, results, stored


def make(folder: Path, beta: object = 20.0, **more: object) -> Path:
    config = {"sde": {"_target_": "sde_gen.sde.VP", "beta_max": beta}, "run": str(folder), "seed": 0, **more}
    stored(
        folder,
        {"config": config, "validation": 0.25, "command": f"python -m sde_gen.train run={folder.name}"},
    )
    log(folder, *({"images": i, "loss": 1 / i, "error": 2 / i, "images_per_second": 100.0} for i in (1, 2)))
    picture(folder / "previews" / "000000000002.png")
    return folder


def scores(shift: float = 0.0, seed: int = 1) -> list[float]:
    hard = np.random.default_rng(0).normal(2.0, 1.0, 50)
    return [float(x) for x in hard + np.random.default_rng(seed).normal(shift, 0.01, 50)]


def score(folder: Path, values: list[float], **more: object) -> None:
    content = {
        "mean": float(np.mean(values)),
        "standard_error": float(stats.sem(values)),
        "per_image": values,
    }
    results(folder / "evaluation", **content, image=list(range(50)), settings={"data": "abc"}, **more)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    folders = [make(tmp_path / "a", 20.0), make(tmp_path / "b", 10.0, extra={"x": 1})]
    score(folders[0], scores())
    score(folders[1], scores(0.05, seed=2))
    return folders


def test_only_settings_that_differ_are_listed(runs: list[Path]) -> None:
    assert RunComparison.of(runs).differences() == [["extra.x", "-", "1"], ["sde.beta_max", "20.0", "10.0"]]


def test_results_of_the_same_images_are_compared_image_by_image(runs: list[Path]) -> None:
    ((_, (first, second)),) = RunComparison.of(runs).metrics()
    assert first is not None
    assert second is not None
    a, b = (np.array(each.content["per_image"]) for each in (first, second))
    apart, se, paired = difference(second, first)
    test = stats.ttest_rel(b, a)
    assert paired
    assert apart == pytest.approx(float((b - a).mean()))
    assert apart / se == pytest.approx(test.statistic)
    assert se < 0.05 * first.se, "images that are hard for both do not count"


@pytest.mark.parametrize(
    "more", [{"image": [*range(1, 51)]}, {"settings": {"data": "other"}}, {"per_image": None}]
)
def test_other_results_are_compared_by_their_means(runs: list[Path], more: dict[str, object]) -> None:
    path = runs[1] / "evaluation" / "bpd.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    ((_, (first, second)),) = RunComparison.of(runs).metrics()
    assert first is not None
    assert second is not None
    _, se, paired = difference(second, first)
    assert not paired
    assert se == pytest.approx(math.sqrt(first.se**2 + second.se**2))


def test_the_page_shows_all_runs(runs: list[Path], tmp_path: Path) -> None:
    third = make(tmp_path / "deep" / "a", EVIL[0])
    write_comparison(RunComparison.of([*runs, third]), tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    for text in ("Comparison of 3 runs", "deep/a", "sde.beta_max", EVIL[0], "paired by image", "run=b"):
        assert text in page.text, text
    assert page.tags.count("img") == 3
    assert page.tags.count("script") == 1


def test_losses_of_other_data_or_objectives_are_marked_as_incomparable(tmp_path: Path) -> None:
    """Other networks and learning rates leave them comparable."""
    objective = {"_target_": "sde_gen.objective.DSM"}
    same = {"objective": objective, "data": {"name": "a"}}
    alike = [
        make(tmp_path / "a", **same, model={"width": 8}),
        make(tmp_path / "b", **same, model={"width": 16}),
    ]
    comparison = RunComparison.of(alike)
    assert (comparison.loss_differences(), comparison.loss_note()) == ([], "")
    assert comparison.summary()[0][2] == "validation loss"
    others = [
        make(tmp_path / "c", **{**same, "data": {"name": "b"}}),
        make(tmp_path / "d", beta=10.0, **{**same, "objective": {**objective, "weighting": 1}}),
    ]
    comparison = RunComparison.of([*alike, *others])
    assert comparison.loss_differences() == ["data", "objective", "sde"]
    assert comparison.summary()[0][2] == "validation loss (not comparable)"
    write_comparison(comparison, tmp_path / "page.html")
    note = "Losses of these runs are not comparable: other data and objective and sde."
    assert comparison.loss_note() == note
    assert Page(tmp_path / "page.html").text.count(note) == 3, "training, validation, noise"
    assert comparison.loss_note(by_level=True) == "Errors of these runs are not comparable: other data."
    assert RunComparison.of([alike[0], others[1]]).loss_note(by_level=True) == "", (
        "of other processes they are"
    )


def test_results_of_other_data_are_marked_as_incomparable(runs: list[Path], tmp_path: Path) -> None:
    path = runs[1] / "evaluation" / "bpd.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "settings": {"data": "other"}}))
    write_comparison(RunComparison.of(runs), tmp_path / "page.html")
    assert "unpaired; of other data, not comparable" in Page(tmp_path / "page.html").text


def test_names_are_the_shortest_distinct_ones() -> None:
    assert distinct_names(["/runs/a", "/runs/b"]) == ["a", "b"]
    assert distinct_names(["/x/a", "/y/a", "/y/b"]) == ["x/a", "y/a", "y/b"]


def enter(*words: object) -> None:
    GlobalHydra.instance().clear()
    before, sys.argv = sys.argv, ["sde_gen.compare", *map(str, words)]
    try:
        compare.main()
    finally:
        sys.argv = before
        GlobalHydra.instance().clear()


def test_the_command_accepts_positional_folders(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = make(tmp_path / "it's, [1]")
    enter(runs[0], odd, runs[1], f"out={tmp_path / 'deep' / 'page.html'}")
    out = capsys.readouterr().out
    assert "sde.beta_max" in out
    assert "0.25" in out
    assert "it's, [1]" in out
    assert (tmp_path / "deep" / "page.html").is_file()


def test_names_of_earlier_versions_are_no_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = "sde_gen.objective.time_sampler.Stratified"
    one = make(tmp_path / "a", time_sampler={"_target_": target, "law": 1})
    other = make(tmp_path / "b", time_sampler={"_target_": target, "distribution": 1})
    enter(one, other, f"out={tmp_path / 'page.html'}")
    assert "no setting differs" in capsys.readouterr().out
    assert "law" not in (tmp_path / "page.html").read_text()


def test_models_of_the_package_are_compared_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    enter("pretrained/digits-vp", "pretrained/digits-ve")
    assert "sde_gen.sde.VE" in (tmp_path / "comparison.html").read_text()
    assert "digits-ve" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "two or more, each once"),
        (["a", "a"], "two or more, each once"),
        (["a", "nothing"], "there is no run folder"),
        (["a", "runs=[b]"], "give runs once"),
    ],
)
def test_invalid_arguments_are_rejected(
    runs: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(runs[0].parent)
    with pytest.raises(SystemExit) as stop:
        enter(*words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("comparison.html").exists()


def test_positional_arguments_become_a_hydra_list() -> None:
    GlobalHydra.instance().clear()
    words = with_list("runs", ["a b", "out=x", "c\\'d", "-m"])
    assert words == ["out=x", "-m", r"runs=['a b','c\\\'d']"]
    assert validate_overrides("compare", ["runs=['a b','c']"]) == ["runs=['a b','c']"]
