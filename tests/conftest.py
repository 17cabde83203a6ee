"""Fixtures that all tests share: configurations and trainings, made once in a session."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import composition


@pytest.fixture(scope="session", autouse=True)
def _remembered_configurations() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        composition.remember(patch)
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
