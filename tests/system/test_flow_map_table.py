"""Trainings of the table of objectives of flow maps, on the smallest settings."""

import pytest
import torch

from benchmarks import flow_maps
from benchmarks.superresolution import opened
from sde_gen.sampler import Sampler
from sde_gen.solver import Jump


@pytest.mark.slow
def test_every_objective_begins_from_the_run_and_learns_within_its_time(trained, monkeypatch, tmp_path):
    run = opened(str(trained(tmp_path / "digits")))
    monkeypatch.setattr(flow_maps, "BATCH", 4)
    budget = flow_maps.Budget(seconds=1e-3)
    x0 = torch.rand(8, *run.event, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x = torch.randn(2, *run.event, generator=torch.Generator().manual_seed(1))
    for name in ("consistency", "shortcut"):
        first, _ = flow_maps.student(run, name)
        assert torch.equal(first.chord(x, 0.5, first.sde.t_min).x0, run.denoiser(x, 0.5).x0), name
        model, steps = flow_maps.of_objective(run, name, x0, budget)
        assert steps == 1
        jump = Sampler(solver=Jump(renoise=1.0), steps=1)
        assert flow_maps.samples(model, jump, run, 2).shape == (2, 1, 8, 8)
    _, steps = flow_maps.regression(run, 2, budget, Sampler(steps=1))
    assert steps == 1
