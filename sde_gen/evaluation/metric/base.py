"""The abstract metric of a model on data."""

import abc
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser, NetworkDenoiser
from sde_gen.likelihood import bits_per_dim
from sde_gen.utils.arguments import Checked


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """Value per image with estimates of its error; all in the metric's unit, float64 with shape (B,).

    NaN means not estimated: error components are computed on a subset of images only.

    Arguments:
        value: the numbers.
        random_errors: by name, standard errors of the value from random draws, independent between images.
        biases: by name, estimates of how far the value lies above the truth, which no mean over images takes away.
    """

    value: Tensor
    random_errors: Mapping[str, Tensor] = field(default_factory=dict)
    biases: Mapping[str, Tensor] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Convert to one JSON record per image, with null for unknown parts."""
        value = self.value.tolist()
        spread, offset = (
            {name: [x if math.isfinite(x) else None for x in part.tolist()] for name, part in parts.items()}
            for parts in (self.random_errors, self.biases)
        )
        return [
            {
                "value": value[i],
                "spread": {name: part[i] for name, part in spread.items()},
                "offset": {name: part[i] for name, part in offset.items()},
            }
            for i in range(len(value))
        ]

    @staticmethod
    def of_rows(rows: Sequence[Mapping[str, Any]]) -> "MetricResult":
        """Put rows of one metric together, of any batches."""

        def column(values: Iterable[float | None]) -> Tensor:
            return torch.tensor([math.nan if x is None else x for x in values], dtype=torch.float64)

        return MetricResult(
            value=column(row["value"] for row in rows),
            random_errors={name: column(row["spread"][name] for row in rows) for name in rows[0]["spread"]},
            biases={name: column(row["offset"][name] for row in rows) for name in rows[0]["offset"]},
        )


class Metric(Checked, abc.ABC):
    """A number per image whose mean over a data set is reported with its standard error.

    Attributes:
        what: description of the number, for tables.
        unit: its unit.
        of_samples: whether samples are compared, as by :class:`~sde_gen.evaluation.metric.SampleMetric`.
        of_posteriors: whether conditional samples are, as by :class:`~sde_gen.evaluation.metric.PosteriorMetric`.
        trained: class of the model that is measured.
        of_latents: whether the codec of the model must be one of latents.
    """

    what: ClassVar[str]
    unit: ClassVar[str]
    of_samples: ClassVar[bool] = False
    of_posteriors: ClassVar[bool] = False
    trained: ClassVar[type] = NetworkDenoiser
    of_latents: ClassVar[bool] = False

    @property
    def uses_dequantization(self) -> bool:
        """Return whether the number depends on a choice of dequantization."""
        return False

    @property
    def batch_coupled(self) -> bool:
        """Return whether a value depends on the rest of the batch, as with step sizes shared by a batch."""
        return False

    @abc.abstractmethod
    def __call__(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int]
    ) -> MetricResult:
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


def code_length(nats: Tensor, log_q: Tensor, x: Tensor, codec: Codec) -> Tensor:
    """Bits per dimension of log p(x) - log q(x | data), both nats in model space with shape (B,).

    A uniform q has -log_q for log-determinant, which leaves :func:`~sde_gen.likelihood.bits_per_dim` of log p.
    """
    return bits_per_dim(nats - log_q - codec.log_det(x).to(nats), x, codec)
