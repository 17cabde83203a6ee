"""The abstract metric of a model on data."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.codec import Codec
from sde_gen.denoiser import Denoiser


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number per image, and what is known of its error; all in the metric's unit, float64 with shape (B,).

    NaN in a part says that it is not known of this image: a metric may look at some images more closely.

    Arguments:
        value: the numbers.
        spread: by name, standard errors of the value from random draws, independent between images.
        offset: by name, estimates of how far the value lies above the truth, which no mean over images takes away.
    """

    value: Tensor
    spread: Mapping[str, Tensor] = field(default_factory=dict)
    offset: Mapping[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def join(found: Sequence["Measured"]) -> "Measured":
        """Put batches of one metric together."""
        return Measured(
            value=torch.cat([one.value for one in found]),
            spread={name: torch.cat([one.spread[name] for one in found]) for name in found[0].spread},
            offset={name: torch.cat([one.offset[name] for one in found]) for name in found[0].offset},
        )


class Metric(abc.ABC):
    """A number per image whose mean over a data set is reported with its standard error.

    Attributes:
        what: what the number is, for tables.
        unit: its unit.
    """

    what: ClassVar[str]
    unit: ClassVar[str]

    @abc.abstractmethod
    def __call__(self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int]) -> Measured:
        """Evaluate a batch.

        Arguments:
            denoiser: the model, conditioning bound.
            values: data with shape (B, *event), integer levels or continuous.
            codec: from data to model space.
            seeds: one seed per image, so that its number does not depend on its batch.

        Returns:
            One float64 number per image with shape (B,), with the parts of its error; the names of the parts
            are the same for every batch.
        """
