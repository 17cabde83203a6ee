"""Conditions in files: their arrays, padding and mistakes in a line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sde_gen.data.conditioning import GivenTensors
from sde_gen.noise import IID

TEXT = GivenTensors(name="text", features={"tokens": [-1, 3], "vector": [2]})


def file(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_files_in_turn_padded_and_masked(tmp_path: Path) -> None:
    one = file(tmp_path / "one.npz", tokens=np.ones((2, 3)), vector=np.zeros(2))
    save_file(
        {
            "tokens": torch.full((1, 4, 3), 2.0),
            "vector": torch.ones(1, 2),
            "mask": torch.tensor([1, 1, 0, 0]),
        },
        tmp_path / "two.safetensors",
    )
    cond = TEXT.prompt({"text": [str(one), str(tmp_path / "two.safetensors")]}, 3)
    assert cond["tokens"].shape == (3, 4, 3)
    assert cond["tokens"][:, 0, 0].tolist() == [1, 2, 1]
    assert cond["mask"].tolist() == [[True, True, False, False]] * 2 + [[True, True, False, False]]
    assert cond["vector"].tolist() == [[0, 0], [1, 1], [0, 0]]
    assert TEXT.keys == ("tokens", "vector", "mask")
    assert TEXT.drops("tokens")
    assert not GivenTensors(name="image", features={"image": [1, 2, 2]}).drops("image")


@pytest.mark.parametrize(
    ("arrays", "answer"),
    [
        (
            {"tokens": np.ones((2, 4)), "vector": np.ones(2)},
            r"tokens has shape \(2, 4\); expected \(any, 3\)",
        ),
        ({"tokens": np.ones((2, 3))}, r"lacks vector, an array of shape \(2,\)"),
        (
            {"tokens": np.ones((2, 3)), "vector": np.ones(2), "more": np.ones(1)},
            "holds more; the network takes",
        ),
        ({"tokens": np.full((2, 3), np.nan), "vector": np.ones(2)}, "tokens holds NaN"),
        ({"tokens": np.ones((0, 3)), "vector": np.ones(2)}, "or nothing"),
        (
            {"tokens": np.ones((2, 3)), "vector": np.ones(2), "mask": np.ones(3)},
            "mask has shape .* each of 2 tokens",
        ),
        ({"tokens": np.array(["a"]), "vector": np.ones(2)}, "other things than numbers"),
    ],
)
def test_arrays_that_do_not_fit(arrays: dict[str, Any], answer: str, tmp_path: Path) -> None:
    path = file(tmp_path / "given.npz", **arrays)
    with pytest.raises(ValueError, match=answer) as caught:
        TEXT.prompt({"text": str(path)}, 1)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK no archive")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    for value, answer in (
        (None, "the network needs text=FILE"),
        (3, "text=3: expected a file"),
        (str(tmp_path / "none.npz"), "there is no file"),
        (str(tmp_path / "broken.npz"), "cannot be read as arrays"),
        (str(tmp_path / "broken.safetensors"), "cannot be read as arrays"),
    ):
        with pytest.raises(ValueError, match=answer):
            TEXT.prompt({"text": value}, 1)
    with pytest.raises(ValueError, match="can sample, given text=FILE"):
        TEXT({"text": torch.zeros(1)}, IID.seeded(0))


def test_an_example_has_the_shapes() -> None:
    features = {"tokens": [-2, 3], "vector": [-4]}
    null = GivenTensors(name="text", features=features).null(5)
    assert {key: tuple(value.shape) for key, value in null.items()} == {
        "tokens": (5, 2, 3),
        "vector": (5, 4),
        "mask": (5, 2),
    }
    assert null["mask"].all()
