"""Weights taken over from another network: by name and shape, everything else reported."""

import warnings

import pytest
import torch
from torch import nn

from sde_gen.checkpoint.matching import load_matching


class Net(nn.Module):
    def __init__(self, classes: int = 3, extra: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.classes = nn.Embedding(classes, 4)
        if extra:
            self.head = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))


def test_takes_what_fits_and_names_the_rest() -> None:
    original, ours = Net(classes=5), Net(classes=3, extra=True)
    original.calls += 7
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    given = {**original.state_dict(), "other.weight": torch.ones(2)}
    found = load_matching(ours, given, what="there")
    after = ours.state_dict()
    assert found.taken == ("calls", "stem.bias", "stem.weight")
    assert found.new == ("head.bias", "head.weight")
    assert found.reshaped == {"classes.weight": ((5, 4), (3, 4))}
    assert found.left_over == ("other.weight",)
    assert all(torch.equal(after[name], given[name]) for name in found.taken)
    kept = set(after) - set(found.taken)
    assert all(torch.equal(after[name], before[name]) for name in kept)


def test_numbers_are_rounded_to_the_format_of_the_network() -> None:
    original, ours = Net().double(), Net()
    load_matching(ours, original.state_dict(), what="there")
    assert ours.stem.weight.dtype == torch.float32
    assert torch.equal(ours.stem.weight, original.stem.weight.float())


def test_nothing_that_fits_is_refused_and_changes_nothing() -> None:
    ours = Net()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(ValueError, match=r"no tensor of there fits this network.*model="):
        load_matching(ours, {"a": torch.ones(2), "stem.weight": torch.ones(4, 1, 5, 5)}, what="there")
    bad = Net().state_dict()
    bad["stem.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"there holds numbers that are not finite: stem\.weight"):
        load_matching(ours, bad, what="there")
    kinds = {**Net().state_dict(), "calls": torch.tensor(1.5)}
    with pytest.raises(ValueError, match=r"calls.*float32.*int64"):
        load_matching(ours, kinds, what="there")
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_weights_that_hardly_fit_are_warned_of() -> None:
    wide, narrow = (torch.nn.Sequential(torch.nn.Linear(n, n), torch.nn.Linear(n, 1)) for n in (9, 3))
    with pytest.warns(UserWarning, match="1 of 100 numbers .* the rest begin at random"):
        load_matching(wide, narrow.state_dict(), what="narrow")


@pytest.mark.parametrize(("count", "warned"), [(49, True), (50, False)])
def test_less_than_half_of_the_numbers_is_warned_of(count: int, warned: bool) -> None:
    net = nn.ParameterDict({"there": torch.zeros(count), "new": torch.zeros(100 - count)})
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        load_matching(net, {"there": torch.ones(count)}, what="a run")
    assert [f"only {count} of 100 numbers" in str(one.message) for one in found] == [True] * warned
