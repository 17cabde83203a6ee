"""Order of the training data, a pure function of (seed, step), so that resuming needs no state."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(kw_only=True)
class Batches:
    """Infinite sequence of epochs, each a permutation drawn from (seed, epoch); a batch may span two epochs.

    Arguments:
        size: number of samples of the data set.
        batch_size: global batch size over all processes.
        seed: seed of the permutations.
    """

    size: int
    batch_size: int
    seed: int
    _orders: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.size < 1 or self.batch_size < 1:
            raise ValueError(f"size={self.size}, batch_size={self.batch_size}: both must be positive")

    def indices(self, step: int) -> Tensor:
        """Return the sample indices of a step, int64 with shape (batch_size,)."""
        place, end = step * self.batch_size, (step + 1) * self.batch_size
        pieces = []
        while place < end:
            epoch, start = divmod(place, self.size)
            piece = self._order(epoch)[start : start + end - place]
            pieces.append(piece)
            place += len(piece)
        return torch.cat(pieces)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {key: value for key, value in self._orders.items() if key == epoch - 1}
            seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0])
            self._orders[epoch] = torch.randperm(self.size, generator=torch.Generator().manual_seed(seed))
        return self._orders[epoch]
