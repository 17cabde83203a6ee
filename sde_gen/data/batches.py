"""The order of the data: a pure function of (seed, step, rank), so that resuming needs no state."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(kw_only=True)
class Batches:
    """Endless epochs, each a permutation drawn from (seed, epoch); a batch may span two of them.

    The global batch of a step does not depend on the number of processes; each takes its slice.

    Arguments:
        size: number of samples of the data set.
        batch_size: samples of a global batch.
        seed: draws the permutations.
        rank: number of this process.
        world: number of processes; must divide the batch.
    """

    size: int
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1
    _orders: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if self.size < 1 or self.batch_size < 1:
            raise ValueError(f"size={self.size}, batch_size={self.batch_size}: both must be positive")
        if self.batch_size % self.world:
            raise ValueError(f"batch_size={self.batch_size} is not a multiple of the {self.world} processes")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank={self.rank} must lie in 0 to {self.world - 1}")

    def indices(self, step: int) -> Tensor:
        """Indices into the data set, int64 with shape (batch_size / world,)."""
        share = self.batch_size // self.world
        first = step * self.batch_size + self.rank * share
        pieces, place = [], first
        while place < first + share:
            epoch, start = divmod(place, self.size)
            piece = self._order(epoch)[start : start + first + share - place]
            pieces.append(piece)
            place += len(piece)
        return torch.cat(pieces)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {key: value for key, value in self._orders.items() if key == epoch - 1}
            seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0])
            self._orders[epoch] = torch.randperm(self.size, generator=torch.Generator().manual_seed(seed))
        return self._orders[epoch]
