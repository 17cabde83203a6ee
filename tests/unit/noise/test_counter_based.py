"""Random numbers as functions of a key: the published generator, and the distributions derived from it."""

import math

import numpy as np
import pytest
from scipy import stats

from sde_gen.noise import counter_based

SEED, OUTPUTS = 1234567, [6457827717110365317, 3203168211198807973, 9817491932198370423]
"""First outputs of SplitMix64 from a seed: https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64."""


def draws(rows: int, count: int, first: int = 0) -> np.ndarray:
    out = np.empty((rows, count), dtype=np.float32)
    counter_based.normals(np.arange(first, first + rows, dtype=np.uint64), out)
    return out


def test_scrambling_is_that_of_splitmix64() -> None:
    """The key of n is the n-th output of SplitMix64, whose state grows by one step an output."""
    seed = np.array([SEED], dtype=np.uint64)
    found = [int(counter_based.derive_keys(seed, counter_based.as_key(n))[0]) for n in range(3)]
    assert found == OUTPUTS


def test_keys_of_seeds_and_paths_differ() -> None:
    seeds, level, number = (np.arange(n, dtype=np.uint64) for n in (50, 30, 40))
    keys = counter_based.derive_keys(seeds, level[:, None], number[:, None, None])
    assert keys.shape == (40, 30, 50)
    assert len(np.unique(keys)) == keys.size


def test_normals_are_normal_to_the_tails() -> None:
    z = draws(400, 5001).ravel().astype(np.float64)
    assert stats.kstest(z, "norm").pvalue > 1e-6
    beyond = stats.binomtest(int((np.abs(z) > 4.5).sum()), z.size, 2 * stats.norm.sf(4.5))
    assert beyond.pvalue > 1e-6
    for power in (1, 2, 3, 4):  # variances of powers from the moments of a normal
        moments = [float(stats.norm.moment(k)) for k in (power, 2 * power)]
        assert abs((z**power).mean() - moments[0]) < 5 * math.sqrt((moments[1] - moments[0] ** 2) / z.size)


def test_rows_of_neighboring_keys_have_nothing_in_common() -> None:
    z = draws(64, 40_000).astype(np.float64)
    assert np.abs(np.corrcoef(z) - np.eye(64)).max() < 5.5 / math.sqrt(40_000)
    assert np.abs(np.corrcoef(z**2) - np.eye(64)).max() < 5.5 / math.sqrt(40_000)
    lagged = np.corrcoef(z[:, :-7].ravel(), z[:, 7:].ravel())[0, 1]
    assert abs(lagged) < 5 / math.sqrt(z.size)
    assert abs(np.corrcoef(z[:, :20_000].ravel(), z[:, 20_000:].ravel())[0, 1]) < 5 / math.sqrt(z.size / 2)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 33, 100, 3072])
def test_a_row_does_not_depend_on_the_others(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    together = draws(37, count)
    for first, rows in [(0, 1), (5, 2), (30, 7)]:
        assert np.array_equal(draws(rows, count, first), together[first : first + rows])
    monkeypatch.setattr(counter_based, "CHUNK", 5)
    assert np.array_equal(draws(37, count), together)


def test_largest_and_smallest_words_are_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    for word in (0, 2**64 - 1):
        monkeypatch.setattr(counter_based, "_mix", lambda words, spare, word=word: words.fill(word))
        assert np.isfinite(draws(2, 4)).all()
