"""The table of initial weights: origin of the tensors, and settings in which the trainings differ."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from sde_gen.checkpoint.matching import load_matching
from sde_gen.cli import initialization
from sde_gen.cli.initialization import Source


def test_the_table_counts_tensors_and_names_settings_that_differ(capfd: pytest.CaptureFixture[str]) -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    given = {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(3), "1.weight": torch.ones(1, 4)}
    there = {"sde": {"beta": 1}, "parametrization": {"sigma": 3}, "codec": {"levels": 17}, "ema": {"rate": 1}}
    here = {"sde": {"beta": 2}, "parametrization": {"sigma": 4}, "codec": {"levels": 17}, "ema": {"rate": 2}}
    source = Source(path=Path("run"), sha256="", tensors={**given, "old": torch.ones(2)}, config=there)
    taken = load_matching(net, source.tensors, what="run")
    net[0].requires_grad_(False)
    initialization._show(OmegaConf.create(here), source, taken, net)
    text = " ".join(capfd.readouterr().out.replace("\u2502", " ").split())
    for words in (
        "taken 2 tensors, 9 numbers",
        "new 1: 1.bias (1,)",
        "1: 1.weight (1, 4) for (1, 3)",
        "left over 1: old",
        "trained 4 of 13 parameters",
        "not as there sde.beta: 1 -> 2; parametrization.sigma: 3 -> 4",
    ):
        assert words in text, words
    assert "levels" not in text
    assert "rate" not in text
