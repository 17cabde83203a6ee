"""Averages of the weights of several trainings (model soups)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

State = Mapping[str, Tensor]
"""Weights of a network by their names."""


class MeanLoss(NamedTuple):
    """Mean of losses of samples and its standard error.

    Arguments:
        mean: the mean.
        se: its standard error over the samples.
    """

    mean: float
    se: float

    @classmethod
    def of(cls, losses: Tensor) -> "MeanLoss":
        """Return mean and standard error of losses (N,)."""
        found = losses.double()
        return cls(float(found.mean()), float(found.std() / len(found) ** 0.5))


class Segment(NamedTuple):
    """Losses on the segment between two networks, at the shares of the second.

    Arguments:
        shares: the shares, from 0 to 1.
        losses: the mean loss at each.
        barrier: largest excess over the larger of the two ends, of the points between, with its standard error over the
            samples.
    """

    shares: tuple[float, ...]
    losses: tuple[float, ...]
    barrier: MeanLoss

    @property
    def separated(self) -> bool:
        """True if the ends lie in different basins: an average is worse than both, by four standard errors."""
        return self.barrier.mean > 4 * self.barrier.se


def average(states: Sequence[State], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    r"""Return the average of weights, computed in float64 and returned in their own formats.

    .. math::
        \bar\theta = \sum_i w_i \theta_i, \qquad \sum_i w_i = 1

    Without ``weights`` all count equally, and the terms are added in ascending order, so that the order of the networks
    does not matter to the last bit. Integer tensors must be equal.

    Source: Wortsman et al., 2022, arXiv:2203.05482, table 2 (uniform soup).

    Arguments:
        states: weights of at least one network each.
        weights: share of every network; None for equal ones.

    Raises:
        ValueError: there are no networks, their tensors have other names or shapes, or integer tensors differ.
    """
    if not states:
        raise ValueError("states=[] must hold the weights of at least one network")
    first = states[0]
    for number, other in enumerate(states):
        different = [
            name
            for name in sorted({*first, *other})
            if name not in other or name not in first or other[name].shape != first[name].shape
        ]
        if different:
            raise ValueError(
                f"network {number} has other tensors than network 0, such as {different[0]}: an average needs networks "
                "of one architecture"
            )
    return {name: _average(name, [state[name] for state in states], weights) for name in first}


def _average(name: str, tensors: Sequence[Tensor], weights: Sequence[float] | None) -> Tensor:
    """Return the average of tensors of one name."""
    first = tensors[0]
    if not first.is_floating_point():
        if not all(torch.equal(first, other) for other in tensors):
            raise ValueError(f"the integers {name} of the networks differ, and have no average")
        return first.clone()
    stacked = torch.stack([tensor.double() for tensor in tensors])
    if weights is None:
        mean = stacked.sort(0).values.sum(0) / len(tensors)
    else:
        mean = torch.einsum("i,i...->...", torch.tensor(weights, dtype=torch.float64), stacked)
    return mean.to(first.dtype)


def greedy(states: Sequence[State], alone: Sequence[float], loss: Callable[[State], float]) -> list[int]:
    """Return the numbers of the networks of the greedy soup, in the order in which they joined.

    The networks are tried from the least loss on, and join if the uniform average with them has no larger loss than
    before. The soup is thus never worse than the best network, on the samples of this loss.

    Source: Wortsman et al., 2022, arXiv:2203.05482, recipe 1.

    Arguments:
        states: weights of the networks.
        alone: their losses on a validation split.
        loss: loss of weights on the same split.
    """
    order = sorted(range(len(states)), key=lambda number: alone[number])
    chosen, least = order[:1], alone[order[0]]
    for number in order[1:]:
        found = loss(average([states[each] for each in sorted([*chosen, number])]))
        if found <= least:
            chosen, least = [*chosen, number], found
    return chosen


def segment(
    first: State,
    second: State,
    losses: Callable[[State], Tensor],
    shares: Sequence[float] = (0.25, 0.5, 0.75),
) -> Segment:
    """Evaluate the loss on the segment between two networks: a barrier separates basins of the loss.

    Sources: Frankle et al., 2020, arXiv:1912.05671, section 2 (there the excess over the mean of the ends); Wortsman et
    al., 2022, arXiv:2203.05482, section 3.

    Arguments:
        first: weights at share 0.
        second: weights at share 1.
        losses: losses of weights on the same samples with the same noise, with shape (N,).
        shares: the points between the ends.
    """
    points = [0.0, *shares, 1.0]
    found = torch.stack([losses(state).double() for state in _between(first, second, points)])
    means = found.mean(1)
    ends = found[0] if means[0] >= means[-1] else found[-1]
    highest = 1 + int(means[1:-1].argmax())
    return Segment(tuple(points), tuple(means.tolist()), MeanLoss.of(found[highest] - ends))


def _between(first: State, second: State, shares: Sequence[float]) -> Iterator[dict[str, Tensor]]:
    """Return the points of a segment."""
    return (average([first, second], [1 - share, share]) for share in shares)
