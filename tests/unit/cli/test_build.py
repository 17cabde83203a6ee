"""Versions of the code recorded in results."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sde_gen.cli import build, versions
from sde_gen.data import Splits
from tests.helpers.tiny_run import points


def test_a_commit_with_changed_files_says_so(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c", *words], check=True
        )

    (tmp_path / "code.py").write_text("1")
    git("init", "--quiet")
    git("add", "code.py")
    git("commit", "--quiet", "-m", "Begin")
    commit = versions._commit(tmp_path)["commit"]
    assert len(commit) == 40
    (tmp_path / "results.json").write_text("{}")
    assert versions._commit(tmp_path)["commit"] == commit, "a file that is not the project's changes nothing"
    (tmp_path / "code.py").write_text("2")
    assert versions._commit(tmp_path)["commit"] == commit + "+"
    assert versions._commit(tmp_path / "elsewhere") == {}


def test_training_with_classes_needs_those_of_the_test_split_before_it_begins() -> None:
    splits = Splits(train=points(), test=replace(points(), conditions={}))
    label = {"_target_": "sde_gen.data.conditioning.Label", "classes": 3}
    config = OmegaConf.create(
        {"conditioning": label, "objective": {"_target_": "sde_gen.objective.DSM"}, "model": {}}
    )
    with pytest.raises(ValueError, match=r"the test split has no labels.*data\.test=null"):
        build.trainer(config, splits)
