"""Class labels with random dropout."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.data.conditioning.base import Conditioning
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Label(Conditioning):
    """Class labels, randomly replaced by the null class for classifier-free guidance.

    The null class also stands for a missing label, so that one network is both the conditional and the unconditional
    model.

    Source: Ho and Salimans, 2022, arXiv:2207.12598, algorithm 1.

    Arguments:
        classes: number of classes, also the number of the null class.
        dropout: probability that a label is dropped; the paper's are 0.1 to 0.5.

    Raises:
        ValueError: there are no classes, or dropout lies outside [0, 1].
    """

    classes: int
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError("the data have no labels to condition on; use conditioning=none")
        if not 0 <= self.dropout <= 1:
            raise ValueError(
                f"dropout={self.dropout} must lie in [0, 1]: it is the fraction of dropped labels"
            )

    def __call__(self, labels: Tensor | None, noise: Noise) -> dict[str, Tensor]:
        """Replace random labels by the null class."""
        if labels is None:
            raise ValueError("the data have no labels to condition on; use conditioning=none")
        if self.dropout == 0:
            return {"label": labels}
        dropped = noise.uniform(labels) < self.dropout
        return {"label": torch.where(dropped, self.classes, labels)}
