"""Weights mapper from other names: none forgotten, none invented."""

import pytest
import torch
from torch import nn

from sde_gen.interop.weight_mapper import WeightMapper


def linear() -> dict[str, torch.Tensor]:
    return {"w": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


def test_all_tensors_are_moved_and_changed() -> None:
    mapper = WeightMapper({**linear(), "count": torch.tensor(3.0)}, nn.Linear(3, 2))
    mapper.copy("weight", "w", lambda w: 2 * w)
    mapper.copy("bias", "bias")
    mapper.ignore("count", "of the training")
    mapper.ignore("absent", "older files have it")
    state = mapper.finish()
    torch.testing.assert_close(state["weight"], 2 * linear()["w"], rtol=0, atol=0)
    assert set(state) == {"weight", "bias"}
    assert mapper.unused == {"count": "of the training"}


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
    mapper = WeightMapper(tensors, nn.Linear(3, 2))
    mapper.copy("weight", "w")
    mapper.copy("bias", "bias")
    with pytest.raises(ValueError, match=message):
        mapper.finish()


def test_a_parameter_of_ours_without_source_is_named() -> None:
    mapper = WeightMapper({"w": linear()["w"]}, nn.Linear(3, 2))
    mapper.copy("weight", "w")
    with pytest.raises(ValueError, match="bias has no source"):
        mapper.finish()
