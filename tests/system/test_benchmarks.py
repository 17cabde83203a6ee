"""The scripts that time run from end to end, on the smallest settings; their figures mean nothing here."""

import json
import sys

import pytest
import torch

from benchmarks import import_weights, likelihood_cost, sample_overhead
from sde_gen.interop import guided_diffusion


def run(script, monkeypatch, tmp_path, *arguments):
    monkeypatch.setattr(sys, "argv", [script.__name__, "--device", "cpu", "--out", str(tmp_path), *arguments])
    script.main()
    (path,) = tmp_path.glob("*.json")
    return json.loads(path.read_text())


@pytest.mark.slow
def test_the_overhead_of_sampling(monkeypatch, tmp_path, capsys):
    found = run(sample_overhead, monkeypatch, tmp_path, "--rounds", "2", "--steps", "3", "--batches", "2")
    calls = {(row["solver"], row["calls"]) for row in found["rows"]}
    assert calls == {("dpm_solver_pp", 4), ("heun", 7), ("euler_maruyama", 4), ("straight_adams", 4)}
    assert all(0 < share < 1 for row in found["rows"] for share in row["in_the_walk"])
    assert torch.__version__.startswith(found["versions"]["torch"].partition("+")[0])
    assert "share of the time outside the network" in capsys.readouterr().out


@pytest.mark.slow
def test_the_cost_of_the_likelihood(monkeypatch, tmp_path):
    """Every contestant answers what ours does, or the script ends."""
    found = run(likelihood_cost, monkeypatch, tmp_path, "--rounds", "2", "--batch", "2", "--probes", "1", "2")
    assert [(row["probes"], row["way"].partition(",")[0]) for row in found["rows"]] == [
        (1, "ours"),
        (1, "a pass for each"),
        (2, "ours"),
        (2, "ours"),
        (2, "batch repeated"),
        (2, "a pass for each"),
    ]


def test_who_answers_something_else_is_not_timed():
    with pytest.raises(SystemExit, match="wrong answers something else"):
        likelihood_cost.check("wrong", (torch.ones(3),), (torch.ones(3) * 1.1,))


def test_a_network_to_import_is_made(monkeypatch):
    """Of the names and shapes that its reader asks for, of which there are none before."""
    small = {
        "model_channels": 8,
        "num_head_channels": 8,
        "channel_mult": [1],
        "attention_resolutions": [1],
        "num_res_blocks": 1,
    }
    config = {**import_weights.CONFIG, **small}
    monkeypatch.setattr(import_weights, "CONFIG", config)
    tensors = import_weights.their_tensors()
    assert tensors["input_blocks.0.0.weight"].shape == (8, 3, 3, 3)
    assert guided_diffusion.read(tensors, config).shape == (3, 64, 64)
