"""The reason given for the number of threads."""

import pytest
import torch

from sde_gen.cli.threads import THREAD_VARS, choice
from sde_gen.training.autotune import DEFAULT_THREADS


@pytest.mark.parametrize("decisive", THREAD_VARS)
def test_the_variable_that_decides_is_named(monkeypatch, decisive):
    for name in THREAD_VARS:
        monkeypatch.setenv(name, str(DEFAULT_THREADS if name == decisive else DEFAULT_THREADS + 1))
    assert choice(None, torch.device("cpu")).why == f"{decisive}={DEFAULT_THREADS}"
