"""Latents of images that an autoencoder has encoded beforehand."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sde_gen.data.base import Dataset, DatasetSource, Splits

HEADER = "header.json"
"""Name of the file that says how latents were encoded."""


@dataclass(frozen=True, kw_only=True)
class Latents(DatasetSource):
    """Means and standard deviations of latents, in shards that ``python -m sde_gen.encode`` has written.

    A sample is the posterior of an image with shape (2 C, H, W): the means of its C channels, then the standard
    deviations. With ``codec=latent`` latents are drawn from it anew in every step; of the training split mirrored
    images may stand beside the others.

    Arguments:
        root: the folder.
    """

    root: str

    places: ClassVar[frozenset[str]] = frozenset({"root"})

    def load(self) -> Splits:
        """Read the shards."""
        folder = Path(self.root)
        about = header(folder)
        return Splits(train=self._part(folder, "train", about), test=self._part(folder, "test", about))

    def _part(self, folder: Path, split: str, about: dict[str, Any]) -> Dataset:
        """Return a split."""
        paths = sorted(folder.glob(f"{split}-*.safetensors"))
        if len(paths) != about["shards"][split]:
            raise ValueError(
                f"{folder} holds {len(paths)} shards of the {split} split, and {HEADER} names "
                f"{about['shards'][split]}: encode the data again"
            )
        parts = [_read(path) for path in paths]
        values = torch.cat([torch.cat([part["mean"], part["std"]], 1) for part in parts])
        labels = torch.cat([part["label"] for part in parts]) if "label" in parts[0] else None
        return Dataset(
            values=values,
            labels=labels,
            levels=None,
            classes=int(about["classes"]),
            class_names=tuple(map(str, about["class_names"])),
        )


def header(folder: Path) -> dict[str, Any]:
    """Return how the latents in a folder were encoded.

    Raises:
        ValueError: it is no folder of latents.
    """
    path = folder / HEADER
    if not path.is_file():
        raise ValueError(
            f"there is no {path}; write latents with python -m sde_gen.encode run=AUTOENCODER data=... out={folder}"
        )
    try:
        found = json.loads(path.read_text())
        known = found["shards"], found["classes"], found["class_names"], found["sha256"], found["shape"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}): encode the data again") from error
    del known
    return dict(found)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a complete safetensors file: encode the data again") from error
    if not {"mean", "std"} <= found.keys() or found["mean"].shape != found["std"].shape:
        raise ValueError(f"{path} holds {', '.join(found)}; expected mean and std of one shape")
    return found
