"""Networks of the authors of JiT are the same functions here, and predict images on rectified flow."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sde_gen.cli import build
from sde_gen.cli.data_spec import DataSpec
from sde_gen.interop.jit import reader as jit
from tests.helpers.stored_run import read_back
from tests.reference.jit import evaluate, random_tensors
from tests.unit.interop.test_diffusers_condition import network

SIZES: dict[str, Any] = {
    "width": 24,
    "depth": 3,
    "heads": 3,
    "patch": 4,
    "grid": 3,
    "classes": 5,
    "bottleneck": 7,
    "tokens": 2,
}
CONFIG = {"num_heads": 3, "in_context_start": 1}


@pytest.mark.parametrize("start", [0, 1, 2])
def test_network_equals_the_original(start: int) -> None:
    tensors = random_tensors(**SIZES)
    found = jit.read(tensors, {**CONFIG, "in_context_start": start})
    net = network(found).double()
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    t, label = torch.tensor([0.2, 0.9]).double(), torch.tensor([2, 5])  # the null class
    exact = {name: value.double() for name, value in tensors.items()}
    ours, original = net(x, t, label=label), evaluate(exact, 3, start, x, t, label)
    torch.testing.assert_close(ours, original, rtol=1e-9, atol=1e-9)
    slopes = [torch.autograd.grad(out.square().sum(), x)[0] for out in (ours, original)]
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(net(x, t)[1], original[1], rtol=1e-9, atol=1e-9)
    assert not found.unused


@torch.no_grad()
def test_the_prediction_is_the_image_and_time_runs_from_noise_to_it() -> None:
    tensors = random_tensors(**SIZES)
    found = jit.read(tensors, CONFIG)
    spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    denoiser = build.model(read_back(found.config), spec)
    denoiser.net.load_state_dict(found.state)
    x, label = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)), torch.tensor([2, 0])
    ours = denoiser.eval()(x, torch.tensor(0.3, dtype=torch.float64), label=label)
    original = evaluate(tensors, 3, 1, x, torch.tensor([0.7, 0.7]), label)
    torch.testing.assert_close(ours.x0, original, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.eps - ours.x0, (x - original) / 0.3, rtol=1e-3, atol=1e-3)


def test_checkpoint_of_the_original(tmp_path: Path) -> None:
    """Averages are taken, and rotations that a file holds are not."""
    tensors = random_tensors(**SIZES)
    averages = {f"net.{name}": value for name, value in tensors.items()} | {
        "net.feat_rope.freqs_cos": torch.ones(9, 8)
    }
    spoiled = {name: torch.zeros_like(value) for name, value in averages.items()}
    torch.save({"model": spoiled, "model_ema1": averages, "epoch": 3}, tmp_path / "checkpoint-last.pth")
    found = jit.load(tmp_path / "checkpoint-last.pth", CONFIG)
    expected = jit.read(tensors, CONFIG).state
    assert all(torch.equal(value, expected[name]) for name, value in found.state.items())
    assert list(found.unused) == ["feat_rope.freqs_cos"]


@pytest.mark.parametrize(
    ("changes", "config", "answer"),
    [
        ({}, {}, "heads of a JiT of width 24 are not known"),
        ({}, {**CONFIG, "depth": 3}, "JiT has no setting depth but num_heads"),
        ({"pos_embed": None}, CONFIG, "holds no pos_embed"),
        ({"blocks.1.mlp.w3.bias": None}, CONFIG, r"blocks\.1\.mlp\.w3\.bias is missing"),
        ({"pos_embed": torch.zeros(1, 8, 24)}, CONFIG, "are no JiT of square images"),
        ({"more": torch.zeros(1)}, CONFIG, "more is not known"),
    ],
)
def test_files_that_do_not_fit(changes: dict[str, Any], config: dict[str, Any], answer: str) -> None:
    tensors = {**random_tensors(**SIZES), **changes}
    tensors = {key: value for key, value in tensors.items() if value is not None}
    with pytest.raises(ValueError, match=answer):
        jit.read(tensors, config)
