"""Class labels, some of them dropped."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.data.conditioning.base import Conditioning
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Label(Conditioning):
    """The network is told the class of a sample, or, now and then, only that there is one.

    A dropped label becomes the null class, which a network also takes for no label at all: one network is then
    conditional and unconditional model, as classifier-free guidance needs.

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
                f"dropout={self.dropout} must lie in [0, 1]: the share of labels that are dropped"
            )

    def __call__(self, labels: Tensor | None, noise: Noise) -> dict[str, Tensor]:
        """Drop labels."""
        if labels is None:
            raise ValueError("the data have no labels to condition on; use conditioning=none")
        if self.dropout == 0:
            return {"label": labels}
        dropped = noise.uniform(labels) < self.dropout
        return {"label": torch.where(dropped, self.classes, labels)}
