"""Networks of the authors of DiT are the same functions here."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sde_gen.denoiser.parametrization import LearnedVariance
from sde_gen.interop.dit import reader as dit
from sde_gen.sde import DDPM
from tests.reference.dit import evaluate, random_tensors
from tests.unit.interop.test_diffusers_condition import network

SIZES: dict[str, Any] = {
    "width": 24,
    "depth": 2,
    "patch": 2,
    "channels": 4,
    "grid": 3,
    "classes": 5,
    "outputs": 2,
}


@pytest.mark.parametrize(
    "changes", [{}, {"outputs": 1, "channels": 3, "patch": 1, "grid": 4, "depth": 1}], ids=str
)
def test_network_equals_the_original(changes: dict[str, Any]) -> None:
    sizes = {**SIZES, **changes}
    tensors = random_tensors(**sizes)
    found = dit.read(tensors, {"num_heads": 3})
    net = network(found).double()
    side = sizes["grid"] * sizes["patch"]
    x = torch.randn(2, sizes["channels"], side, side, generator=torch.Generator().manual_seed(1)).double()
    x.requires_grad_()
    t, label = torch.tensor([17.0, 803.0]).double(), torch.tensor([2, 5])  # the null class
    exact = {name: value.double() for name, value in tensors.items()}
    ours, original = net(x, t, label=label), evaluate(exact, 3, x, t, label)
    torch.testing.assert_close(ours, original, rtol=1e-9, atol=1e-9)
    slopes = [torch.autograd.grad(out.square().sum(), x)[0] for out in (ours, original)]
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(net(x, t)[1], original[1], rtol=1e-9, atol=1e-9)
    assert not found.unused


def test_process_and_classes() -> None:
    found = dit.read(random_tensors(**SIZES), {"num_heads": 3})
    assert (found.shape, found.classes, found.levels) == ((4, 6, 6), 5, None)
    assert found.config["parametrization"]["_target_"].endswith(LearnedVariance.__name__)
    assert found.config["sde"]["_target_"].endswith(DDPM.__name__)


def test_file_of_the_original(tmp_path: Path) -> None:
    tensors = random_tensors(**SIZES)
    torch.save(tensors, tmp_path / "DiT-tiny.pt")
    found = dit.load(tmp_path / "DiT-tiny.pt", {"num_heads": 3})
    assert all(
        torch.equal(found.state[key], dit.read(tensors, {"num_heads": 3}).state[key]) for key in found.state
    )


@pytest.mark.parametrize(
    ("changes", "config", "answer"),
    [
        ({}, {}, "number of heads of a DiT of width 24 is not known"),
        ({}, {"heads": 3}, "DiT has no setting heads but num_heads"),
        ({"pos_embed": None}, {"num_heads": 3}, "holds no pos_embed"),
        ({"blocks.1.mlp.fc1.bias": None}, {"num_heads": 3}, "blocks.1.mlp.fc1.bias is missing"),
        ({"pos_embed": torch.zeros(1, 8, 24)}, {"num_heads": 3}, "are no DiT of square images"),
        ({"more": torch.zeros(1)}, {"num_heads": 3}, "more is not known"),
    ],
)
def test_files_that_do_not_fit(changes: dict[str, Any], config: dict[str, Any], answer: str) -> None:
    tensors = {**random_tensors(**SIZES), **changes}
    tensors = {key: value for key, value in tensors.items() if value is not None}
    with pytest.raises(ValueError, match=answer):
        dit.read(tensors, config)
