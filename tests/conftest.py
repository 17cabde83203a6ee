"""Fixtures that all tests share: configurations and trainings, made once in a session."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import composition


def pytest_configure() -> None:
    """Collect no garbage while tests are collected, which leave next to none: a fourth of that time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave modules and collected tests out of every later collection of garbage: half a second each."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _remembered_configurations() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        composition.remember(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def _files_in_memory() -> Iterator[None]:
    """No test takes the power away, so none waits for the disk; that files are flushed in order, some tests watch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which still refuses what is no open file
        yield


@pytest.fixture(scope="session")
def trained(
    _remembered_configurations: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Copy the run of ``train`` with TINY and some words to a folder; the training itself runs once for all tests."""
    from tests.helpers.commands import (  # with the library, which few tests of a package need whole
        TINY,
        enter,
    )

    runs: dict[tuple[str, ...], Path] = {}

    def copy(folder: Path, *words: str) -> Path:
        if words not in runs:
            runs[words] = tmp_path_factory.mktemp("trained") / "run"
            enter("train", *TINY, *words, f"run={runs[words]}")
        return Path(shutil.copytree(runs[words], folder))

    return copy
