"""Sequences from files: windows that share no time between the splits, columns by name, and mistakes by row."""

import numpy as np
import pytest
import torch

from sde_gen.data import Series


def test_windows_of_one_long_sequence_share_no_time_between_the_splits(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(100.0))
    splits = Series(path=str(tmp_path / "a.npy"), length=8, stride=3, test_fraction=0.2).load()
    train, test = (part.values[:, 0] for part in (splits.train, splits.test))
    assert splits.train.shape == (1, 8)
    assert train[:, 0].tolist() == list(range(0, 73, 3))  # the last window ends at 79, before the cut
    assert test[:, 0].tolist() == [80, 83, 86, 89, 92]
    assert torch.equal(train, train[:, :1] + torch.arange(8))
    assert float(train.max()) < float(test.min())


def test_windows_do_not_overlap_without_a_stride(tmp_path):
    np.save(tmp_path / "a.npy", np.stack([np.arange(40.0), -np.arange(40.0)], 1))
    train = Series(path=str(tmp_path / "a.npy"), length=10).load().train.values
    assert train.tolist() == [[list(range(t, t + 10)), [-u for u in range(t, t + 10)]] for t in (0, 10, 20)]


def test_many_sequences_in_every_format(tmp_path):
    values = np.random.default_rng(0).standard_normal((20, 2, 5))
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", rows=values)
    first, second = (Series(path=str(tmp_path / name)).load() for name in ("a.npy", "a.npz"))
    assert torch.equal(first.train.values, second.train.values)
    assert (len(first.train), len(first.test), first.train.shape) == (18, 2, (2, 5))
    rows = {tuple(row) for row in values.reshape(20, -1).astype("f4").tolist()}
    seen = [tuple(row) for part in (first.train, first.test) for row in part.values.flatten(1).tolist()]
    assert len(seen) == 20
    assert set(seen) == rows
    np.save(tmp_path / "b.npy", values[:, 0])
    assert Series(path=str(tmp_path / "b.npy")).load().train.shape == (1, 5)


def test_columns_of_a_csv_file_are_channels(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time,up,down\n" + "".join(f"{t}, {t}.5,{-t}\n" for t in range(20)))
    both = Series(path=str(path), length=4, columns=["down", "up"]).load().train.values
    assert both[1].tolist() == [[-4, -5, -6, -7], [4.5, 5.5, 6.5, 7.5]]
    path.write_text("".join(f"{t},{2 * t}\n" for t in range(20)))
    assert Series(path=str(path), length=4, columns=["1"]).load().train.values[0].tolist() == [[0, 2, 4, 6]]


@pytest.mark.parametrize(
    ("name", "content", "more", "answer"),
    [
        ("none.csv", None, {"length": 2}, "there is no file"),
        ("a.csv", "a,b\n1,2\n3\n4,5\n", {"length": 1}, "line 3 has 1 cells, the first line 2"),
        ("a.csv", "a,b\n1,2\n3,\n4,5\n", {"length": 1}, "b is empty in row 3; expected a finite number"),
        ("a.csv", "a,b\n1,2\n3,nan\n4,5\n", {"length": 1}, "b holds 'nan' in row 3"),
        ("a.csv", "1,2\nx,2\n4,5\n", {"length": 1}, "0 holds 'x' in row 2"),
        ("a.csv", "a,b\n1,2\n", {"length": 1, "columns": ["c"]}, "no column c; the columns are a, b"),
        ("a.csv", "a,a\n1,2\n", {"length": 1}, "several columns a"),
        ("a.csv", "a,b\n", {"length": 1}, "has a header and no row"),
        ("a.csv", "", {"length": 1}, "is empty"),
        ("a.csv", "1,2\n3,4\n", {}, r"one long sequence; give the times of a window with data\.length"),
        ("a.csv", "1\n2\n3\n", {"length": 2}, "has 3 times; .* a window of length=2: expected at least 4"),
        ("a.npy", np.zeros((2, 3, 4, 5)), {}, r"has shape \(2, 3, 4, 5\); expected sequences \(N, C, L\)"),
        ("a.npy", np.zeros(9), {}, r"one long sequence \(T, C\) or \(T,\) with data\.length"),
        ("a.npy", np.zeros((2, 3, 4)), {"length": 2}, r"expected one long sequence"),
        ("a.npy", np.zeros((9, 3)), {"columns": ["a"]}, "is no CSV file"),
        ("a.npy", np.full((9, 3), np.nan), {}, "not finite"),
        ("a.npz", {"values": np.zeros((9, 3)), "label": np.zeros(9)}, {}, "data=arrays reads conditions, too"),
    ],
)  # fmt: skip
def test_what_is_no_series(tmp_path, name, content, more, answer):
    if isinstance(content, str):
        (tmp_path / name).write_text(content)
    elif isinstance(content, dict):
        np.savez(tmp_path / name, **content)
    elif content is not None:
        np.save(tmp_path / name, content)
    with pytest.raises(ValueError, match=answer):
        Series(path=str(tmp_path / name), **more).load()


@pytest.mark.parametrize("more", [{"length": 0}, {"length": 4, "stride": 0}, {"length": -1}, {"stride": 2}])
def test_settings_that_cut_nothing(more):
    with pytest.raises(ValueError, match="length"):
        Series(path="a.npy", **more)
