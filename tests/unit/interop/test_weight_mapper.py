"""Weights moved from other names: none forgotten, none invented."""

import pytest
import torch
from torch import nn

from sde_gen.interop.weight_mapper import WeightMapper


def linear() -> dict[str, torch.Tensor]:
    return {"w": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


def test_all_tensors_are_moved_and_changed() -> None:
    moved = WeightMapper({**linear(), "count": torch.tensor(3.0)}, nn.Linear(3, 2))
    moved.move("weight", "w", lambda w: 2 * w)
    moved.move("bias", "bias")
    moved.leave("count", "of the training")
    moved.leave("absent", "older files have it")
    state = moved.finish()
    torch.testing.assert_close(state["weight"], 2 * linear()["w"], rtol=0, atol=0)
    assert set(state) == {"weight", "bias"}
    assert moved.unused == {"count": "of the training"}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w": torch.ones(2, 3)}, "bias is missing"),
        ({**linear(), "more": torch.ones(1)}, "more is not known"),
        ({**linear(), "w": torch.ones(3, 2)}, r"w gives shape \(3, 2\), but weight needs \(2, 3\)"),
        ({**linear(), "bias": torch.tensor([1.0, torch.nan])}, "bias holds NaN"),
    ],
)
def test_what_does_not_fit_is_named(tensors: dict[str, torch.Tensor], message: str) -> None:
    moved = WeightMapper(tensors, nn.Linear(3, 2))
    moved.move("weight", "w")
    moved.move("bias", "bias")
    with pytest.raises(ValueError, match=message):
        moved.finish()


def test_a_parameter_of_ours_without_source_is_named() -> None:
    moved = WeightMapper({"w": linear()["w"]}, nn.Linear(3, 2))
    moved.move("weight", "w")
    with pytest.raises(ValueError, match="our bias got nothing"):
        moved.finish()
