"""Tables: columns become numbers and return, and every mistake names column and row."""

import math
import sys
import types

import pytest
import torch

from sde_gen.data import Column, TabularData
from sde_gen.data.codec import Columns
from sde_gen.noise import IID

ROWS = [(i % 7, f"{0.5 * i - 3}", ("red", "green", "blue")[i % 3], ("yes", "no")[i % 2]) for i in range(40)]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("size,weight,color,good\n" + "".join(",".join(map(str, row)) + "\n" for row in ROWS))
    return str(file)


def test_columns_become_numbers(path):
    splits = TabularData(path=path).load()
    assert splits.train.columns == (
        Column(name="size", whole=True),
        Column(name="weight"),
        Column(name="color", categories=("blue", "green", "red")),
        Column(name="good", categories=("no", "yes")),
    )
    assert (len(splits.train), len(splits.test), splits.train.shape) == (36, 4, (7,))
    expected = {
        (size, float(weight), color == "blue", color == "green", color == "red", good == "no", good == "yes")
        for size, weight, color, good in ROWS
    }
    rows = [tuple(row) for part in (splits.train, splits.test) for row in part.values.tolist()]
    assert set(rows) == expected


def test_conditions_are_no_part_of_an_event(path):
    train = TabularData(path=path, label="good", vector=["size"], columns=["color", "weight"]).load().train
    assert [column.name for column in train.columns] == ["color", "weight"]
    assert (train.classes, train.class_names) == (2, ("no", "yes"))
    numbers = [round(2 * (weight + 3)) for weight in train.values[:, 3].tolist()]
    assert train.labels.tolist() == [1 - number % 2 for number in numbers]
    assert train.conditions["vector"].tolist() == [[number % 7] for number in numbers]


def test_a_column_of_numbers_may_be_categorical(path):
    train = TabularData(path=path, columns=["size"], categorical=["size"]).load().train
    assert train.columns[0].categories == tuple("0123456")


def test_parquet_is_the_same_table(path, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import csv, parquet

    parquet.write_table(csv.read_csv(path), tmp_path / "a.parquet")
    one, other = (TabularData(path=str(file)).load() for file in (path, tmp_path / "a.parquet"))
    assert torch.equal(one.train.values, other.train.values)
    assert one.train.columns == other.train.columns
    parquet.write_table(pyarrow.table({"a": [1.0, None], "b": [1.0, 2.0]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="a is empty in row 3"):
        TabularData(path=str(tmp_path / "b.parquet")).load()


class Arrow(types.ModuleType):
    """What is used of pyarrow, which takes 170 MB: a table of columns, and the error of a damaged file."""

    ArrowException = type("ArrowException", (Exception,), {})

    def __init__(self, columns):
        super().__init__("pyarrow")
        self.columns, self.parquet = columns, self

    def read_table(self, path):
        if path.read_bytes() != b"PAR1":
            raise self.ArrowException("Parquet magic bytes not found in footer")
        columns = [types.SimpleNamespace(to_pylist=cells.copy) for cells in self.columns.values()]
        return types.SimpleNamespace(column_names=list(self.columns), columns=columns)


def test_cells_of_parquet_are_those_of_csv(path, tmp_path, monkeypatch):
    """A row of the table per row of the file, None as an empty cell, and the type of a number as pandas has it."""
    file = tmp_path / "a.parquet"
    file.write_bytes(b"PAR1")
    size, weight, color, good = (list(cells) for cells in zip(*ROWS, strict=True))
    columns = {"size": size, "weight": list(map(float, weight)), "color": color, "good": good}
    monkeypatch.setitem(sys.modules, "pyarrow", Arrow(columns))
    one, other = (TabularData(path=str(each)).load() for each in (path, file))
    assert torch.equal(one.train.values, other.train.values)
    assert one.train.columns == other.train.columns
    size[7] = None
    with pytest.raises(ValueError, match="size is empty in row 9"):
        TabularData(path=str(file)).load()
    file.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"a.parquet cannot be read as parquet: Parquet magic bytes"):
        TabularData(path=str(file)).load()


def test_parquet_without_pyarrow_or_a_file(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"there is no file .*a.parquet"):
        TabularData(path=str(tmp_path / "a.parquet")).load()
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        ValueError, match=r'parquet needs pyarrow: pip install "sde_gen\[hf\]"; or save a CSV'
    ):
        TabularData(path=str(tmp_path / "a.parquet")).load()


def test_rows_return_as_the_columns_of_the_file(path):
    splits = TabularData(path=path).load()
    codec = Columns().fit(splits.train)
    assert Columns().restore(codec.stored()) == codec
    for noise in (None, IID.seeded(0)):
        x = codec.encode(splits.train.values, noise)
        torch.testing.assert_close(codec.decode(x), splits.train.values)
        header, *rows = codec.table(x)
        assert header == ["size", "weight", "color", "good"]
        expected = {(str(size), float(weight), color, good) for size, weight, color, good in ROWS}
        found = {(size, round(float(weight), 4), color, good) for size, weight, color, good in rows}
        assert len(found) == len(splits.train)
        assert found <= expected
    assert float(codec.encode(splits.train.values)[:, 1].mean()) == pytest.approx(0, abs=1e-6)
    assert float(codec.encode(splits.train.values)[:, :2].std(0, unbiased=False).mean()) == pytest.approx(1)


def test_whole_numbers_and_bits_are_dequantized_inside_their_bins(path):
    values = TabularData(path=path).load().train.values[:1].repeat(4000, 1)
    codec = Columns().fit(TabularData(path=path).load().train)
    middle, x = codec.encode(values), codec.encode(values, IID.seeded(1))
    width = torch.tensor([1 / codec.std[0], 0, 1, 1, 1, 1, 1])
    assert bool(((x - middle).abs() <= width / 2 + 1e-6).all())
    spread = (x - middle).std(0)
    torch.testing.assert_close(spread, width / math.sqrt(12), rtol=0.06, atol=1e-6)  # 6 standard errors
    assert set(middle[0, 2:].tolist()) == {-0.5, 0.5}


def test_log_det_is_that_of_the_map(path):
    codec = Columns().fit(TabularData(path=path).load().train)
    y = TabularData(path=path).load().train.values[:1]
    jacobian = torch.autograd.functional.jacobian(lambda one: codec.encode(one)[0], y)[:, 0]
    assert codec.log_det(y).item() == pytest.approx(float(jacobian.double().slogdet().logabsdet), rel=1e-5)


@pytest.mark.parametrize(
    ("text", "more", "answer"),
    [
        ("a,b\n1,2\n3\n", {}, "line 3 has 1 cells, the first line 2"),
        ("a,b\n1,2\n3,x\n4,5\n", {}, r"b holds 'x' in row 3, and numbers in others; .* data\.categorical=\[b\]"),
        ("a,b\n1,2\n3,\n4,5\n", {}, "b is empty in row 3"),
        ("a,b\n1,u\n3,\n4,v\n", {}, "b is empty in row 3; name the category"),
        ("a,b\n1,2\n3,nan\n4,5\n", {}, "b holds 'nan' in row 3; expected a finite number"),
        ("a,b\n1,2\n3,1e999\n4,5\n", {}, "b holds '1e999' in row 3"),
        ("a,b\n1,2\n3,2\n4,2\n", {}, "b is 2 in all rows; leave the column out"),
        ("a,b\n1,u\n3,u\n4,u\n", {}, "b is u in all rows; expected at least two categories"),
        ("a,b\n1,u\n3,u\n4,u\n", {"label": "b"}, "b is u in all rows; expected at least two categories"),
        ("a,b\n1,u\n3,v\n", {"label": "c"}, "no column c; the columns are a, b"),
        ("a,b\n1,u\n3,v\n", {"vector": ["b"], "columns": ["a"]}, "b holds 'u' in row 2; expected a finite"),
        ("a,b\n1,2\n3,4\n", {"vector": ["a", "b"]}, "no column that is no condition"),
        ("a,a\n1,2\n3,4\n", {}, "expected a name for every column"),
        ("a,b\n1,2\n", {}, "has 1 rows below its header"),
        ("a\n16777217\n3\n", {}, "which float32 does not hold"),
        ("a\n" + "".join(f"n{i}\n" for i in range(300)), {}, "a has 300 categories; expected at most 256"),
        (b"\xff\xfe\x00", {}, "cannot be read as CSV in UTF-8"),
        ('a,b\n"1,2\n', {}, "cannot be read as CSV"),
    ],
)  # fmt: skip
def test_what_is_no_table(tmp_path, text, more, answer):
    (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=answer):
        TabularData(path=str(tmp_path / "a.csv"), **more).load()


@pytest.mark.parametrize("more", [{"columns": ["a", "a"]}, {"label": "a", "vector": ["a"]}])
def test_a_column_is_named_once(more):
    with pytest.raises(ValueError, match=r"named twice|different columns"):
        TabularData(path="a.csv", **more)


def test_data_without_columns_are_no_table():
    from tests.helpers.tiny_run import points

    with pytest.raises(ValueError, match="no table with columns; use data=table"):
        Columns().fit(points())
