"""The abstract metric of a model on data."""

import abc
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from sde_gen.codec import Codec
from sde_gen.denoiser import Denoiser


class Metric(abc.ABC):
    """A number per image whose mean over a data set is reported with its standard error.

    Attributes:
        what: what the number is, for tables.
        unit: its unit.
    """

    what: ClassVar[str]
    unit: ClassVar[str]

    @abc.abstractmethod
    def __call__(self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int]) -> Tensor:
        """Evaluate a batch.

        Arguments:
            denoiser: the model, conditioning bound.
            values: data with shape (B, *event), integer levels or continuous.
            codec: from data to model space.
            seeds: one seed per image, so that its number does not depend on its batch.

        Returns:
            One float64 number per image with shape (B,).
        """
