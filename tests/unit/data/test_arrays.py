"""Arrays in a file: every format gives the same data, conditions by name, and what does not fit is answered."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from sde_gen.data import Arrays, texts


def arrays(count: int = 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "values": rng.integers(0, 7, (count, 1, 2, 3)),
        "label": rng.integers(0, 3, count),
        "vector": rng.standard_normal((count, 2)),
    }


def test_formats_agree_and_conditions_go_with_their_samples(tmp_path):
    made = arrays()
    np.savez(tmp_path / "a.npz", **made, text=np.array([f"number {i}" for i in range(20)]))
    save_file(made, tmp_path / "a.safetensors")
    first, second = (
        Arrays(path=str(tmp_path / f"a.{kind}"), levels=7).load() for kind in ("npz", "safetensors")
    )
    assert (first.train.classes, first.train.levels, len(first.train), len(first.test)) == (3, 7, 18, 2)
    for part, other in ((first.train, second.train), (first.test, second.test)):
        assert torch.equal(part.values, other.values)
        assert torch.equal(part.conditions["vector"], other.conditions["vector"])
        rows = [int(text.split()[1]) for text in texts(part.conditions["text"])]
        assert torch.equal(part.values, torch.from_numpy(made["values"][rows]))
        assert part.labels.tolist() == made["label"][rows].tolist()
        np.testing.assert_allclose(part.conditions["vector"].numpy(), made["vector"][rows], rtol=1e-6)
    assert set(first.train.conditions) == {"label", "vector", "text"}


def test_a_test_split_of_its_own_and_values_alone(tmp_path):
    np.savez(tmp_path / "a.npz", values=np.arange(6.0).reshape(3, 2), test_values=np.ones((1, 2)))
    splits = Arrays(path=str(tmp_path / "a.npz")).load()
    assert splits.train.values.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert splits.test.values.tolist() == [[1, 1]]
    np.save(tmp_path / "b.npy", np.arange(30.0).reshape(10, 3))
    assert Arrays(path=str(tmp_path / "b.npy")).load().train.shape == (3,)


@pytest.mark.parametrize(
    ("name", "content", "answer"),
    [
        ("none.npz", None, "there is no file"),
        ("a.txt", b"1", r"cannot be read as arrays: expected a file \.npy"),
        ("a.npz", b"PK nonsense", "cannot be read as arrays"),
        ("a.npy", b"nonsense", "cannot be read as arrays"),
        ("a.safetensors", b"nonsense", "cannot be read as arrays"),
        ("a.npz", {"x": np.zeros((3, 2)), "y": np.zeros(3)}, "holds x, y; the samples are the array values"),
        ("a.npz", {"values": np.zeros((3, 2)), "label": np.zeros(2, int)}, "label has 2 rows, values 3"),
        ("a.npz", {"values": np.zeros((3, 2)), "name": np.array(["a"] * 3)}, "name has dtype <U1"),
        (
            "a.npz",
            {"values": np.zeros((3, 2)), "test_values": np.ones((1, 2)), "label": np.zeros(3, int)},
            "label in one",
        ),
        ("a.npz", {"values": np.full((4, 2), np.nan), "vector": np.zeros((4, 1))}, "not finite"),
        (
            "a.npz",
            {"values": np.zeros((4, 2)), "vector": np.full((4, 1), np.inf)},
            "condition vector .* not finite",
        ),
    ],
)
def test_what_is_no_data(tmp_path, name, content, answer):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        np.savez(tmp_path / name, **content)
    with pytest.raises(ValueError, match=answer):
        Arrays(path=str(tmp_path / name)).load()


def test_a_pickle_is_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read as arrays"):
        Arrays(path=str(tmp_path / "a.npy")).load()
