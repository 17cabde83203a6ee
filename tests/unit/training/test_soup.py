"""Averages of weights: exact, of any order, no worse than their best, and not across a barrier."""

from fractions import Fraction
from itertools import permutations

import pytest
import torch
from torch import Tensor

from sde_gen.training.soup import MeanLoss, average, greedy, segment


def states(count: int, dtype: torch.dtype = torch.float32) -> list[dict[str, Tensor]]:
    """Weights of very different sizes, and an integer that they share."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(-12, 12, 40, dtype=torch.float64)
    return [
        {
            "weight": (scale * torch.randn(40, generator=generator).double()).to(dtype).reshape(8, 5),
            "bias": torch.randn(3, generator=generator).to(dtype),
            "count": torch.tensor(7),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_average_of_equal_networks_is_the_network_to_the_bit(count: int, dtype: torch.dtype) -> None:
    (state,) = states(1, dtype)
    found = average([state] * count)
    assert found.keys() == state.keys()
    assert all(
        torch.equal(found[name], state[name]) and found[name].dtype == state[name].dtype for name in state
    )


def test_the_average_is_exact_in_float64() -> None:
    """Against fractions, rounded once: to half a unit in the last place."""
    given = states(5)
    found = average(given)["weight"].flatten()
    for place in range(40):
        exact = sum(Fraction(float(state["weight"].flatten()[place])) for state in given) / 5
        assert float(found[place]) == pytest.approx(float(exact), rel=2**-24, abs=0)
    weighted = average(given[:2], [0.25, 0.75])["bias"].double()
    expected = 0.25 * given[0]["bias"].double() + 0.75 * given[1]["bias"].double()
    torch.testing.assert_close(weighted, expected, rtol=2**-24, atol=0)


def test_the_order_of_the_networks_does_not_matter_to_the_bit() -> None:
    given = states(4)
    given[0]["bias"], given[1]["bias"], given[2]["bias"] = (
        torch.full((3,), value, dtype=torch.float64) for value in (1e20, 1.0, -1e20)
    )
    given[3]["bias"] = torch.full((3,), 3.0, dtype=torch.float64)
    first = average(given)
    for order in permutations(given):
        again = average(order)
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_the_greedy_average_is_never_worse_than_the_best_network() -> None:
    """On losses without structure; and it takes what helps, from both sides of the least loss."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        frequency = torch.randn(8, 5, generator=generator)
        given = [{"weight": torch.randn(8, 5, generator=generator)} for _ in range(6)]

        def loss(state: dict[str, Tensor], frequency: Tensor = frequency) -> float:
            return float(torch.sin(3 * frequency * state["weight"]).sum())

        alone = [loss(state) for state in given]
        chosen = greedy(given, alone, loss)  # type: ignore[arg-type]
        assert chosen[0] == alone.index(min(alone))
        assert loss(average([given[number] for number in sorted(chosen)])) <= min(alone)

    def square(state: dict[str, Tensor]) -> float:
        return float(state["weight"].square().sum())

    line = [{"weight": torch.tensor([place])} for place in (1.0, -1.1, 30.0)]
    assert greedy(line, [square(state) for state in line], square) == [0, 1]  # type: ignore[arg-type]


def test_a_barrier_on_the_segment_shows_two_basins() -> None:
    """Of a double well, whose barrier is one; none in a bowl, nor between equal networks."""
    generator = torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(50, generator=generator)
    ends = [{"weight": torch.tensor([place])} for place in (-1.0, 1.0)]

    def well(state: dict[str, Tensor]) -> Tensor:
        return (state["weight"] ** 2 - 1) ** 2 + noise

    def bowl(state: dict[str, Tensor]) -> Tensor:
        return state["weight"] ** 2 + noise

    found = segment(*ends, well)  # type: ignore[arg-type]
    assert found.shares == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert found.barrier.mean == pytest.approx(1.0, abs=1e-6)
    assert found.separated
    assert not segment(*ends, bowl).separated  # type: ignore[arg-type]
    assert not segment(ends[0], ends[0], well).separated  # type: ignore[arg-type]
    assert MeanLoss.of(torch.tensor([1.0, 3.0])) == MeanLoss(2.0, 1.0)


def test_networks_without_an_average_are_refused() -> None:
    first, second = states(2)
    with pytest.raises(ValueError, match="at least one"):
        average([])
    with pytest.raises(ValueError, match="such as bias"):
        average([first, {name: value for name, value in second.items() if name != "bias"}])
    with pytest.raises(ValueError, match="such as weight"):
        average([first, {**second, "weight": second["weight"].flatten()}])
    with pytest.raises(ValueError, match="integers count"):
        average([first, {**second, "count": torch.tensor(8)}])
