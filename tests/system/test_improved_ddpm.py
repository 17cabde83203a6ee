"""The comparison of improved DDPM's losses: the noise scale against sums by hand, and the script on a tiny network."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import improved_ddpm
from tests.helpers.commands import TINY


def test_the_noise_scale_of_two_gradients_is_the_sum_by_hand() -> None:
    """g = G +- a, each twice, with orthogonal G and a of lengths 5 and 1; V with one degree of freedom less."""
    table = torch.tensor([[5.0, 1.0], [5.0, -1.0]], dtype=torch.float64)
    table = torch.cat([table, table])
    products = table @ table.mT
    variance = 4 / 3
    assert improved_ddpm.scale_of(products, 8).value == pytest.approx(
        8 * variance / (25 - variance / 4), rel=1e-12
    )


def test_the_noise_scale_of_gaussian_gradients_is_found() -> None:
    """tr(S) / |G|^2 = 30 / 9 of gradients of batches of 4, within six of its standard errors."""
    generator = torch.Generator().manual_seed(0)
    mean, spread = torch.tensor([3.0, 0.0, 0.0]).double(), torch.tensor([5.0, 2.0, 1.0]).double()
    table = mean + spread * torch.randn(400, 3, generator=generator).double() / 4**0.5
    found = improved_ddpm.scale_of(table @ table.mT, 4)
    assert abs(found.value - 30 / 9) < 6 * found.se
    assert found.se < 0.5


@pytest.mark.slow
def test_the_script_compares_losses_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in TINY if not word.startswith("engine.images")]
    options = ["--steps", "4", "9", "--n", "4", "--batches", "3", "--batch-size", "4", "--history", "1"]
    arguments = ["", *words, "model.head_channels=8", "engine.images=64", *options, "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    improved_ddpm.main()
    found = json.loads((tmp_path / "improved_ddpm.json").read_text())["rows"]
    assert sum("bits" in row for row in found) == 2 * (3 * 2 + 2 + 1)
    assert [row["step_sampler"] for row in found if "noise_scale" in row] == ["uniform", "second_moment"] * 2
    monkeypatch.setattr(improved_ddpm, "bound", None)
    monkeypatch.setattr(improved_ddpm, "noise_scale", None)
    improved_ddpm.main()  # nothing is computed again
    assert "random weights" in capsys.readouterr().out
