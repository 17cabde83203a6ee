"""Sources of noise: distributions, streams, and the Brownian path."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from sde_gen.noise import IID, Brownian, Noise, PerSample, spawn_seeds

ALPHA = 1e-6
SOURCES = {
    "iid": lambda n: IID.seeded(7),
    "per_sample": lambda n: PerSample(spawn_seeds(7, n)),
    "brownian": lambda n: Brownian(spawn_seeds(7, n), depth=20),
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Noise:
    return SOURCES[request.param](4)


def random_walk(noise: Noise, x: Tensor, times: list[float]) -> list[Tensor]:
    """Unnormalized increments along the times."""
    return [math.sqrt(abs(v - u)) * noise(x, u, v).double() for u, v in pairwise(times)]


def test_seeds_do_not_depend_on_their_number() -> None:
    assert spawn_seeds(3, 100)[:10] == spawn_seeds(3, 10)
    assert len(set(spawn_seeds(3, 1000) + spawn_seeds(4, 1000))) == 2000


@pytest.mark.parametrize("event", [(), (3,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes(source: Noise, event: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.empty(4, *event, dtype=dtype)
    for draw in (source(x, 0.9, 0.3), source.normal(x)):
        assert draw.shape == x.shape
        assert draw.dtype == dtype
        assert draw.unique().numel() == draw.numel()
    uniform = source.uniform(x)
    assert uniform.shape == (4,)
    assert uniform.dtype == torch.float64
    assert ((uniform >= 0) & (uniform < 1)).all()


@pytest.mark.parametrize("name", SOURCES)
def test_distributions(name: str) -> None:
    noise, x = SOURCES[name](4), torch.empty(4, 2500, dtype=torch.float64)
    assert stats.kstest(noise(x, 0.71, 0.3).flatten(), "norm").pvalue > ALPHA
    assert stats.kstest(noise.normal(x).flatten(), "norm").pvalue > ALPHA
    many = SOURCES[name](2000)
    assert stats.kstest(many.uniform(torch.empty(2000, 1)), "uniform").pvalue > ALPHA


@pytest.mark.parametrize("name", SOURCES)
def test_draws_are_independent(name: str) -> None:
    """Fresh draws, the increments of disjoint intervals and the samples of a batch are uncorrelated."""
    noise, x = SOURCES[name](4), torch.empty(4, 20_000, dtype=torch.float64)
    draws = torch.stack([noise.normal(x), noise.normal(x), noise(x, 1.0, 0.37), noise(x, 0.37, 1e-3)])
    correlation = np.corrcoef(draws.reshape(16, -1)) - np.eye(16)
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)


@pytest.mark.parametrize("kind", [PerSample, Brownian])
def test_a_sample_depends_on_its_seed_alone(kind: type[PerSample]) -> None:
    seeds, x = spawn_seeds(1, 5), torch.empty(5, 2, 3)
    together, alone = kind(seeds), kind(seeds[3:4])
    for draw in (lambda n, x: n(x, 0.8, 0.1), lambda n, x: n.normal(x), lambda n, x: n.uniform(x)):
        assert torch.equal(draw(together, x)[3:4], draw(alone, x[:1]))
    shuffled = kind(seeds[::-1])
    assert torch.equal(shuffled.normal(x), kind(seeds).normal(x).flip(0))


@pytest.mark.parametrize("kind", [PerSample, Brownian])
def test_precision_does_not_change_the_draws(kind: type[PerSample]) -> None:
    low, high = kind([5, 6]), kind([5, 6])
    x = torch.empty(2, 9)
    assert torch.equal(low(x, 0.5, 0.2), high(x.double(), 0.5, 0.2).float())
    assert torch.equal(low.normal(x), high.normal(x.double()).float())


@pytest.mark.parametrize("kind", [PerSample, Brownian])
def test_all_bits_of_a_seed_count(kind: type[PerSample]) -> None:
    """The generators of PyTorch take the lower 32 bits and make equal images of different seeds."""
    x = torch.empty(4, 3)
    noise = kind([1, 1 + 2**32, 1 + 2**63, 2])
    for draw in (noise(x, 1.0, 0.5), noise.normal(x)):
        assert draw.unique().numel() == 12


@pytest.mark.parametrize("kind", [PerSample, Brownian])
def test_noise_refuses_invalid_seeds_and_batch_sizes(kind: type[PerSample]) -> None:
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="seed"):
            kind([seed])
    for draw in (lambda n, x: n(x, 0.8, 0.1), lambda n, x: n.normal(x), lambda n, x: n.uniform(x)):
        with pytest.raises(ValueError, match="2 seeds but the batch has 3"):
            draw(kind([1, 2]), torch.empty(3, 1))


def test_path_is_refined_consistently() -> None:
    """The sum of fine increments is the coarse one to float32, down and up, for times that are no dyadic numbers."""
    x = torch.empty(3, 50, dtype=torch.float64)
    fine = np.linspace(1, 1e-5, 41).tolist()
    coarse = fine[::8]
    sums = torch.stack(random_walk(Brownian([1, 2, 3]), x, fine)).unflatten(0, (5, 8)).sum(1)
    torch.testing.assert_close(
        torch.stack(random_walk(Brownian([1, 2, 3]), x, coarse)), sums, rtol=0, atol=1e-6
    )
    up = random_walk(Brownian([1, 2, 3]), x, coarse[::-1])
    torch.testing.assert_close(torch.stack(up), -sums.flip(0), rtol=0, atol=1e-6)


def test_path_does_not_depend_on_the_times_requested() -> None:
    x = torch.empty(2, 6)
    asked = [(0.3, 0.1), (1.0, 0.77), (0.77, 0.3), (0.123456, 0.9), (1.0, 0.0)]
    noise = Brownian([8, 9])
    first = {pair: noise(x, *pair) for pair in asked}
    for pair in asked[::-1]:
        noise.normal(x)
        noise.uniform(x)
        assert torch.equal(noise(x, *pair), first[pair])
        assert torch.equal(Brownian([8, 9])(x, *pair), first[pair])


@pytest.mark.parametrize(
    ("depth", "u"),
    [
        (10, [1e-6, 1e-3, 0.124, 0.125, 0.3, 0.301, 0.5, 0.86, 0.999, 1.0]),
        (
            3,
            [0.017, 0.05, 0.1, 0.2, 0.27, 0.5, 0.6, 0.74, 0.76, 0.9, 1.0],
        ),  # one in every smallest cell
        (40, [1e-6, 1e-3, 0.3, 0.3 + 1e-10, 0.5, 1.0]),
    ],
)
def test_path_has_the_covariance_of_brownian_motion(depth: int, u: list[float]) -> None:
    """E[W(u) W(v)] = min(u, v), at times near, far, dyadic and at the ends."""
    n = 40_000
    x = torch.empty(2, n // 2, dtype=torch.float64)
    noise = Brownian(spawn_seeds(11, 2), depth=depth)
    path = torch.stack([math.sqrt(v) * noise(x, 0.0, v).flatten() for v in u])
    expected = torch.minimum(*torch.meshgrid(torch.tensor(u), torch.tensor(u), indexing="ij")).double()
    variances = expected.diag()
    spread = torch.sqrt((variances[:, None] * variances + expected**2) / n)
    assert ((path @ path.T / n - expected).abs() < 5 * spread).all()


@pytest.mark.parametrize(
    ("u", "v"), [(1e-5, 1.1e-5), (0.5, 0.5 - 1e-8), (1.0, 1 - 2e-9), (0.25, 0.75), (1.0, 0.0)]
)
def test_increments_are_standard_normal_at_every_scale(u: float, v: float) -> None:
    draws = Brownian(spawn_seeds(2, 2), depth=32)(torch.empty(2, 5000, dtype=torch.float64), u, v).flatten()
    assert stats.kstest(draws, "norm").pvalue > ALPHA


def test_increments_of_a_grid_are_independent() -> None:
    n = 20_000
    x = torch.empty(1, n, dtype=torch.float64)
    for noise, grid in [
        (Brownian([5]), np.geomspace(1, 1e-5, 12)),
        (Brownian([5], depth=4), np.linspace(1, 0.01, 15)),
    ]:
        draws = torch.cat([noise(x, u, v) for u, v in pairwise(grid)])
        away = torch.from_numpy(np.corrcoef(draws)) - torch.eye(len(draws))
        assert away.abs().max() < 5 / math.sqrt(n)


def test_times_of_one_smallest_cell_are_refused() -> None:
    """There the path is one bridge at a time, and increments would be dependent."""
    noise, x = Brownian([3], depth=4), torch.empty(1, 2)
    for u, v in [(0.51, 0.56), (0.56, 0.51), (0.0651, 0.0702)]:
        with pytest.raises(ValueError, match="depth above 4"):
            noise(x, u, v)
    for u, v in [(0.5, 0.56), (0.5625, 0.51), (0.56, 0.57), (0.0651, 0.1)]:
        noise(x, u, v)


def test_brownian_paths_serve_grids_of_a_thousand_steps() -> None:
    noise, x = Brownian([3]), torch.empty(1, 1)
    for grid in (
        np.linspace(1, 1e-5, 1001),
        np.geomspace(1, 1e-5, 1001),
    ):
        for u, v in pairwise(grid):
            assert torch.isfinite(noise(x, u, v)).all()


def test_deeper_path_meets_the_coarser_one() -> None:
    x, u = torch.empty(2, 5, dtype=torch.float64), [0.0, 1 / 16, 0.25, 0.6875, 1.0]
    shallow, deep = (torch.stack(random_walk(Brownian([1, 2], depth=d), x, u)) for d in (4, 20))
    torch.testing.assert_close(deep, shallow, rtol=0, atol=1e-6)


def test_events_of_several_shapes_share_a_path_object() -> None:
    noise, wide, narrow = Brownian([1, 2]), torch.empty(2, 3, 4), torch.empty(2, 5)
    first = noise(wide, 0.9, 0.4)
    noise(narrow, 0.4, 0.2)
    assert torch.equal(noise(wide, 0.9, 0.4), first)
    assert noise(torch.empty(2, 0), 0.9, 0.4).shape == (2, 0)


def test_draws_are_shared_between_sources() -> None:
    """A later question must not write into what an earlier one was answered."""
    noise, x = Brownian([1, 2]), torch.empty(2, 3)
    first = noise(x, 0.9, 0.4)
    kept = first.clone()
    noise(x, 0.4, 0.1)
    assert torch.equal(first, kept)


def test_path_ends() -> None:
    noise, x = Brownian([4]), torch.empty(1, 5)
    assert torch.equal(noise(x, 1 + 5e-10, -5e-10), noise(x, 1.0, 0.0))
    for u, v in [(1.0, -1e-6), (1 + 1e-6, 0.5), (float("nan"), 0.5), (0.5, float("inf"))]:
        with pytest.raises(ValueError, match=r"defined on \[0, 1\]"):
            noise(x, u, v)
    with pytest.raises(ValueError, match="must differ"):
        noise(x, 0.5, 0.5)
    for depth in (0, 53):
        with pytest.raises(ValueError, match="depth"):
            Brownian([4], depth=depth)
