"""Data sets of the weights of networks, for diffusion of network parameters."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sde_gen.data.base import DatasetSource, Splits, check_fraction, random_mask, split
from sde_gen.data.columns import Column

Layout = tuple[Column, ...]
"""Names and shapes of the tensors that a vector of weights joins."""


@dataclass(frozen=True, kw_only=True)
class Checkpoints(DatasetSource):
    """Weights of networks of one architecture, one file .safetensors each, as vectors (D,) of all their numbers.

    The tensors of a file are joined in the order of their names. Their names and shapes are the columns of the data
    set, by which the codec ``principal`` standardizes every tensor and returns networks.

    Source: Wang et al., 2024, arXiv:2402.13144, section 3.

    Arguments:
        root: the folder.
        pattern: which files of the folder and its subfolders are networks, as a glob.
        test_fraction: share of the networks in the test split.
        seed: draws the test split.

    Raises:
        ValueError: test_fraction lies outside (0, 1).
    """

    root: str
    pattern: str = "**/*.safetensors"
    test_fraction: float = 0.1
    seed: int = 0

    places: ClassVar[frozenset[str]] = frozenset({"root"})

    def __post_init__(self) -> None:
        check_fraction(self.test_fraction)

    def load(self) -> Splits:
        """Read the networks.

        Raises:
            ValueError: there are fewer than two files, one is damaged, or two have other tensors.
        """
        root = Path(self.root)
        paths = sorted(path for path in root.glob(self.pattern) if path.is_file())
        if len(paths) < 2:
            raise ValueError(
                f"{root} holds {len(paths)} networks {self.pattern}; both splits need one: write each network to a "
                "file .safetensors, or give data.pattern"
            )
        rows, layout = [], _layout(first := _read(paths[0]))
        for path in paths:
            tensors = first if path == paths[0] else _read(path)
            _check_layout(path, _layout(tensors), paths[0], layout)
            rows.append(torch.cat([tensors[column.name].float().flatten() for column in layout]))
        mask = random_mask(len(rows), self.test_fraction, self.seed)
        return split(torch.stack(rows), None, levels=None, classes=0, test=mask, columns=layout)


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, all of them finite numbers of floating point."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{path}: {name} is {tensor.dtype}; expected weights of floating point only")
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path}: {name} holds numbers that are not finite; remove this network")
    if not tensors:
        raise ValueError(f"{path} holds no tensors; expected the weights of a network")
    return tensors


def _layout(tensors: dict[str, Tensor]) -> Layout:
    return tuple(Column(name=name, shape=tuple(tensors[name].shape)) for name in sorted(tensors))


def _check_layout(path: Path, layout: Layout, first: Path, expected: Layout) -> None:
    """Raise ValueError, which names a tensor, if two files hold other tensors."""
    found, known = ({column.name: column.shape for column in each} for each in (layout, expected))
    for name in sorted(found.keys() | known.keys()):
        if found.get(name) != known.get(name):
            this, other = (str(each[name]) if name in each else "missing" for each in (found, known))
            raise ValueError(
                f"{name} is {this} in {path} and {other} in {first}; expected networks of one architecture: give "
                "another data.pattern or folder"
            )
