"""Conditions of samples that nobody types: those of metrics and of comparisons of solvers."""

import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sde_gen.cli.run import Run
from sde_gen.cli.run_data import open_data
from sde_gen.data import Dataset
from sde_gen.data.conditioning import Conditioning
from sde_gen.data.conditioning.base import PLURALS


def needs_rows(conditioning: Conditioning) -> bool:
    """Return whether the conditions come from rows of data, as all do but classes, which need none."""
    return bool(set(conditioning.names) - {"label"})


def draw_indices(seeds: Sequence[int], count: int) -> Tensor:
    """Draw a number below ``count`` by each seed, uniformly: int64 with shape (n,)."""
    return torch.tensor([(seed >> 32) % count for seed in seeds])


def draw(conditioning: Conditioning, data: Dataset, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Return a class drawn uniformly by the seed of every sample, or all conditions of a row drawn likewise."""
    if conditioning.keys == ("label",):
        return {"label": draw_indices(seeds, data.classes)}
    return _rows(conditioning, data, draw_indices(seeds, len(data)))


def take(conditioning: Conditioning, data: Dataset, n: int) -> dict[str, Tensor]:
    """Return all classes in turn, or all conditions of the first n rows, in turn too."""
    if not needs_rows(conditioning):
        return conditioning.default(n)
    return _rows(conditioning, data, torch.arange(n) % len(data))


def _rows(conditioning: Conditioning, data: Dataset, indices: Tensor) -> dict[str, Tensor]:
    """Return the conditions of some rows."""
    return conditioning.given(conditioning.prepare(data).given(indices))


def examples(
    run: Run, n: int, moved: Mapping[str, Any] = MappingProxyType({})
) -> tuple[dict[str, Tensor], str]:
    """Return conditions to try a network with, and their description: classes in turn, or those of held-out rows.

    Where the data cannot be read, a network that was trained without conditions too is tried without, and a warning
    says so.

    Raises:
        ValueError: the data cannot be read, and the network was never trained without conditions.
    """
    conditioning = run.conditioning
    if not needs_rows(conditioning):
        return conditioning.default(n), describe(conditioning, "all in turn")
    try:
        data = open_data(run, moved).test
    except ValueError as error:
        if not all(map(conditioning.drops, conditioning.keys)):
            raise
        warnings.warn(
            f"the network is tried without conditions, as the data cannot be read ({error})", stacklevel=2
        )
        return {}, describe(conditioning, "none, the unconditional model")
    return take(conditioning, data, n), describe(conditioning, "of held-out rows")


def describe(conditioning: Conditioning, source: str) -> str:
    """Return the conditions and their source for tables; empty without conditions."""
    names = [PLURALS.get(name, name) for name in conditioning.names]
    return f"{' and '.join(names)}: {source}" if names else ""
