"""Pictures of reconstructions during the training of an autoencoder."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from sde_gen.data import Dataset
from sde_gen.data.codec import Codec
from sde_gen.training import Callback, Trainer
from sde_gen.utils.images import attempt, save_rows


def previews(config: DictConfig, trainer: Trainer) -> list[Callback]:
    """Build the pictures of reconstructions of held-out images; of other data there are none."""
    data = trainer.held_out
    if len(data.shape) != 3:
        return []
    return [ReconstructionPreview(_first(data, config.preview.n), trainer.codec, Path(config.run))]


def _first(data: Dataset, n: int) -> Tensor:
    """Return the first samples of a split, n at most, on the host."""
    count = min(n, len(data))
    count -= count % ROW if count > ROW else 0  # whole rows
    return data.values[torch.arange(count)].cpu()


class ReconstructionPreview(Callback):
    """Save a picture of images above their reconstructions; its failure does not stop a training.

    Arguments:
        values: images with shape (n, C, H, W), as the data set has them.
        codec: from data to model space.
        folder: the run folder.
    """

    def __init__(self, values: Tensor, codec: Codec, folder: Path) -> None:
        self.values, self.codec, self.folder = values, codec, folder / "previews"

    def on_preview(self, denoiser: Any, images: int) -> None:
        """Save the picture of the averaged model."""
        path = self.folder / f"{images:012d}.png"
        attempt(partial(self._save, denoiser.net, path), path)

    @torch.no_grad()
    def _save(self, net: Any, path: Path) -> None:
        device = next(net.parameters()).device
        x = self.codec.encode(self.values.to(device))
        y = net.decode(net.encode(x).mean)
        self.folder.mkdir(parents=True, exist_ok=True)
        rows: list[Tensor] = []
        for first in range(0, len(x), ROW):
            part = slice(first, first + ROW)
            rows += [self.codec.decode_image(x[part]), self.codec.decode_image(y[part])]
        save_rows(rows, path)


ROW = 16
"""Images of a row of the picture."""
