"""Arrays in a file: every format gives the same data, conditions by name, and what does not fit is answered."""

import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as torch_save

from sde_gen.data import Arrays, Batches, decode_texts


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
        rows = [int(text.split()[1]) for text in decode_texts(part.conditions["text"])]
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


@pytest.mark.parametrize(
    ("label", "answer"),
    [
        (np.linspace(0, 1, 9), r"label holds 0.125 in row 1; expected whole numbers from 0"),
        (np.full(9, np.nan), "label holds nan in row 0"),
        (np.arange(9) - 1, "label holds -1 in row 0"),
        (np.zeros((9, 2), int), r"label has shape \(9, 2\); expected \(9,\)"),
    ],
)
def test_labels_that_are_no_classes(tmp_path, label, answer):
    np.savez(tmp_path / "a.npz", values=np.zeros((9, 2)), label=label)
    with pytest.raises(ValueError, match=answer):
        Arrays(path=str(tmp_path / "a.npz")).load()
    np.savez(tmp_path / "a.npz", values=np.zeros((9, 2)), label=np.arange(9) % 2 * 1.0)
    assert Arrays(path=str(tmp_path / "a.npz")).load().train.classes == 2  # whole numbers may be floats


def test_a_pickle_is_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read as arrays"):
        Arrays(path=str(tmp_path / "a.npy")).load()


def save(folder, kind: str, made: dict[str, np.ndarray]) -> str:
    path = folder / f"a.{kind}"
    if kind == "npz":
        np.savez(path, **made)
    elif kind == "safetensors":
        save_file(made, path)
    else:
        np.save(path, made["values"])
    return str(path)


@pytest.mark.parametrize("levels", [None, 7])
@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_rows_read_from_the_file_are_those_in_memory(tmp_path, kind, levels):
    path = save(tmp_path, kind, arrays())
    memory, disk = (Arrays(path=path, levels=levels, mmap=mmap).load() for mmap in (False, True))
    for part, other in ((memory.train, disk.train), (memory.test, disk.test)):
        assert not isinstance(other.values, torch.Tensor)
        assert other.values.dtype == part.values.dtype
        assert torch.equal(other.values[:], part.values)
        assert torch.equal(other.values[[3 % len(part), 0]], part.values[[3 % len(part), 0]])
        assert other.fingerprint() == part.fingerprint()
        assert other.conditions.keys() == part.conditions.keys()
        assert all(torch.equal(rows, other.conditions[name]) for name, rows in part.conditions.items())


def test_fortran_order_other_byte_orders_and_a_test_split(tmp_path):
    values = np.random.default_rng(0).standard_normal((9, 4, 3))
    np.savez(tmp_path / "a.npz", values=np.asfortranarray(values).astype(">f8"), test_values=values[:2])
    for mmap in (False, True):
        splits = Arrays(path=str(tmp_path / "a.npz"), mmap=mmap).load()
        np.testing.assert_array_equal(splits.train.values[:].numpy(), values.astype("f4"))
        np.testing.assert_array_equal(splits.test.values[:].numpy(), values[:2].astype("f4"))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_memory_does_not_hold_the_file(tmp_path, kind):
    """Neither NumPy nor PyTorch allocates more than a fraction of the 64 MiB while all rows are read."""
    values = np.random.default_rng(0).standard_normal((2**12, 2**12), dtype=np.float32)
    path, size = save(tmp_path, kind, {"values": values}), values.nbytes
    del values
    tracemalloc.start()
    before, peak = anonymous_memory(), 0
    splits = Arrays(path=path, mmap=True).load()
    total, batches = 0.0, Batches(size=len(splits.train), batch_size=64, seed=0)
    for step in range(len(splits.train) // 64):
        total += float(splits.train.values[batches.indices(step)].sum())
        peak = max(peak, anonymous_memory() - before)
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(total)
    assert max(traced, peak) < size / 3, (traced, peak)


def anonymous_memory() -> int:
    """Bytes of the process that are no pages of files."""
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


@pytest.mark.parametrize(
    ("content", "levels", "answer"),
    [
        (
            {"values": np.array([[0.0], [1.0], [np.nan], [2.0]])},
            None,
            r"a\.npz: row 2 holds nan; expected finite",
        ),
        ({"values": np.array([[0], [1], [9], [2]])}, 9, r"row 2 holds 9; expected levels 0 to 8"),
        ({"values": np.array([[0], [1], [-1], [2]])}, 9, r"row 2 holds -1; expected levels 0 to 8"),
        ({"values": np.zeros((4, 2))}, 9, "integer levels need an integer dtype"),
        ({"values": np.array(["a", "b"])}, None, "expected rows of numbers"),
        (
            {"values": np.zeros((4, 2)), "test_values": np.zeros((4, 3))},
            None,
            r"test_values \(3,\); expected the same",
        ),
    ],
)
def test_rows_that_are_no_data_are_named(tmp_path, content, levels, answer):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(ValueError, match=answer):
        Arrays(path=str(tmp_path / "a.npz"), levels=levels, mmap=True).load()


def test_a_compressed_file_is_not_mapped(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", values=np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"values is compressed.*numpy\.savez instead"):
        Arrays(path=str(tmp_path / "a.npz"), mmap=True).load()


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_a_file_that_was_cut_is_refused(tmp_path, kind):
    path = save(tmp_path, kind, {"values": np.zeros((100, 20))})
    content = open(path, "rb").read()
    for size in (len(content) // 2, 70, 5):
        with open(path, "wb") as file:
            file.write(content[:size])
        with pytest.raises(ValueError, match="cannot be read as arrays"):
            Arrays(path=path, mmap=True).load()


def test_bfloat16_is_refused(tmp_path):
    torch_save({"values": torch.zeros(4, 2, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="has numbers BF16"):
        Arrays(path=str(tmp_path / "a.safetensors"), mmap=True).load()
