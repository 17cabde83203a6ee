"""Order of training data of several sizes, a pure function of (seed, step): a batch holds samples of one size."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sde_gen.data.batches import Batches


@dataclass(kw_only=True)
class BucketBatches:
    """Infinite sequence of batches, each of one bucket, in which all samples come equally often.

    Each of the K buckets has its own epochs, by :class:`Batches`. Of N steps, bucket k of n_k samples gets n_k, at
    random places: its j-th batch is that of the sorted numbers (j + u) / n_k, u ~ U(0, 1). So after any number of steps
    a bucket has had its share n_k / N of them, up to 1 + K n_k / N steps, and after N steps, which are ``batch_size``
    epochs, every sample has been drawn ``batch_size`` times.

    Arguments:
        buckets: bucket of every sample, int64 with shape (N,).
        batch_size: global batch size over all processes.
        seed: seed of the order.
    """

    buckets: Tensor
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        state = np.random.SeedSequence([self.seed, len(self.buckets), int(self.buckets.max()) + 1])
        seeds = [int(word) for word in state.generate_state(int(self.buckets.max()) + 2, np.uint64)]
        self._rows = [(self.buckets == k).nonzero().flatten().cpu() for k in range(len(seeds) - 1)]
        self._parts = [
            Batches(size=len(rows), batch_size=self.batch_size, seed=seed)
            for rows, seed in zip(self._rows, seeds, strict=False)
        ]
        generator = torch.Generator().manual_seed(seeds[-1])
        places = [
            (torch.arange(len(rows)) + torch.rand(len(rows), generator=generator, dtype=torch.float64))
            / len(rows)
            for rows in self._rows
        ]
        turns = [(k, j) for k, rows in enumerate(self._rows) for j in range(len(rows))]
        self._turns = torch.tensor(turns)[torch.cat(places).argsort(stable=True)]

    def indices(self, step: int) -> Tensor:
        """Return the sample indices of a step, of one bucket, int64 with shape (batch_size,)."""
        cycle, turn = divmod(step, len(self._turns))
        bucket, batch = self._turns[turn].tolist()
        rows, part = self._rows[bucket], self._parts[bucket]
        drawn: Tensor = rows[part.indices(cycle * len(rows) + batch)]
        return drawn
