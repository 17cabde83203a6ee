"""The reader of digits on canvases: right on real ones, by chance beside other captions."""

from benchmarks.text_adherence import Reader, cells_of, score
from sde_gen.data import DigitGrids


def test_the_reader_is_right_on_held_out_canvases() -> None:
    splits = DigitGrids(count=1000, test_count=400).load()
    expected = splits.test.conditions["cells"]
    found = Reader(splits.train, 1000)(splits.test.values)
    real, shuffled = score(found, expected), score(found, expected.roll(1, 0))
    assert real["cells"] > 0.95
    assert abs(shuffled["cells"] - 1 / 11) < 6 * shuffled["cells_se"]
    assert real["all_four"] > 0.8 > 0.01 > shuffled["all_four"]


def test_cells_are_those_of_the_caption() -> None:
    data = DigitGrids(count=3, test_count=1).load().train
    cells = cells_of(data.values).view(3, 4, 8, 8)
    assert bool((cells[:, 1] == data.values[:, 0, :8, 8:]).all())
    assert bool((cells[:, 2] == data.values[:, 0, 8:, :8]).all())
