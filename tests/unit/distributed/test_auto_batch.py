"""Work in parts that fit: every sample once, in sequence, and whoever prepares knows the size."""

import warnings

import pytest
import torch

from sde_gen.distributed.auto_batch import AutoBatchSize


def parts(rows: int, size: int, fits: int) -> tuple[list[range], list[int]]:
    """The parts that were made where ``fits`` samples fit, and the sizes prepared for."""
    sizes: list[int] = []

    def work(some: range) -> range:
        if len(some) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return some

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(AutoBatchSize(size=size, on_resize=sizes.append).map(range(rows), work)), sizes


@pytest.mark.parametrize(("rows", "size", "fits"), [(10, 8, 8), (10, 8, 3), (7, 7, 1), (5, 64, 2)])
def test_every_sample_once_in_parts_that_fit(rows: int, size: int, fits: int) -> None:
    made, sizes = parts(rows, size, fits)
    assert [row for some in made for row in some] == list(range(rows))
    assert max(map(len, made)) <= fits
    assert sizes[0] == size
    assert max(map(len, made)) == min(rows, sizes[-1])  # what was made last was prepared for


def test_half_of_what_was_tried_not_of_what_was_hoped_for() -> None:
    """Five samples did not fit at a batch size of 64: the next attempt has three, not 32."""
    _, sizes = parts(5, 64, 2)
    assert sizes == [64, 3, 2]
