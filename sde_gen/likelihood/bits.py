"""Conversion from nats to bits per dimension, with standard errors."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.utils.broadcasting import event_numel


class MeanEstimate(NamedTuple):
    """A mean with its standard error over n images."""

    mean: float
    se: float
    n: int


def bits_per_dim(nats: Tensor, x: Tensor, codec: Codec) -> Tensor:
    r"""Convert log-densities in model space to bits per dimension of the data.

    .. math::
        b = -\frac{\log p(x) + \log |dx / dy|}{D \log 2}

    With dequantized levels its expectation is an upper bound on the bits per dimension of the discrete data
    (Theis et al., 2016, arXiv:1511.01844, section 3.1); for continuous data it is the differential entropy's unit.

    Arguments:
        nats: log p(x) with shape (B,).
        x: the samples in model space with shape (B, *event).
        codec: from data to model space.

    Returns:
        Bits per dimension with shape (B,).
    """
    return nats_to_bits(-(nats + codec.log_det(x).to(nats)), x)


def nats_to_bits(nats: Tensor, x: Tensor) -> Tensor:
    """Convert nats per sample with shape (B,) to bits per dimension of the samples x with shape (B, *event)."""
    return nats / (event_numel(x) * math.log(2))


def estimate(values: Tensor) -> MeanEstimate:
    """Return the mean of one number per image, with its standard error (NaN for one image)."""
    n = len(values)
    se = float(values.double().std()) / n**0.5 if n > 1 else math.nan
    return MeanEstimate(float(values.double().mean()), se, n)


class ErrorBudget(NamedTuple):
    """A mean over images with the decomposition of its error.

    Arguments:
        total: the mean, and its standard error from all that varies between images, random draws included.
        random_errors: by name, the part of that standard error caused by random draws; NaN if unknown.
        biases: by name, how far the mean lies above the truth, over the images of which that is known.
    """

    total: MeanEstimate
    random_errors: dict[str, float]
    biases: dict[str, MeanEstimate]

    def significant_biases(self, share: float = 1 / 3) -> dict[str, MeanEstimate]:
        """Return the systematic errors that are not small compared with the standard error of the mean.

        An offset of a third of the standard error would make it 5 % larger, were it another random error; one that
        is itself known to no better than that is not known to be small.

        Arguments:
            share: how much of the standard error is small.
        """
        return {
            name: bias
            for name, bias in self.biases.items()
            if not abs(bias.mean) + (bias.se if bias.n > 1 else 0.0) <= share * self.total.se
        }


def budget(values: Tensor, random_errors: Mapping[str, Tensor], biases: Mapping[str, Tensor]) -> ErrorBudget:
    r"""Compute the mean of one number per image and the decomposition of its error.

    A standard error e_i of every number contributes :math:`\sqrt{\overline{e^2} / n}` to that of the mean.

    Arguments:
        values: numbers with shape (n,).
        random_errors: by name, their standard errors from random draws with shape (n,), NaN where not known.
        biases: by name, their systematic errors with shape (n,), NaN where not known.
    """
    known = {name: errors[~errors.isnan()].double() for name, errors in random_errors.items()}
    return ErrorBudget(
        estimate(values),
        {
            name: float(errors.square().mean().sqrt()) / len(values) ** 0.5 if len(errors) else math.nan
            for name, errors in known.items()
        },
        {
            name: estimate(errors[~errors.isnan()]) if bool((~errors.isnan()).any()) else NOTHING
            for name, errors in biases.items()
        },
    )


NOTHING = MeanEstimate(math.nan, math.nan, 0)
"""The estimate from no image at all."""
