"""Bits per dimension: the one place where nats become bits."""

import math
from typing import NamedTuple

from torch import Tensor

from sde_gen._tensor import event_dim
from sde_gen.codec import Codec


class Estimate(NamedTuple):
    """A mean with its standard error over n images."""

    mean: float
    se: float
    n: int


def bits_per_dim(nats: Tensor, x: Tensor, codec: Codec) -> Tensor:
    r"""Turn log-densities in model space into bits per dimension of the data.

    .. math::
        b = -\frac{\log p(x) + \log |dx / dy|}{D \log 2}

    With dequantised levels its expectation is an upper bound on the bits per dimension of the discrete data
    (Theis et al., 2016, arXiv:1511.01844, section 3.1); for continuous data it is the differential entropy's unit.

    Arguments:
        nats: log p(x) with shape (B,).
        x: the samples in model space with shape (B, *event), for their size.
        codec: from data to model space.

    Returns:
        Bits per dimension with shape (B,).
    """
    return -(nats + codec.log_det(tuple(x.shape[1:]))) / (event_dim(x) * math.log(2))


def estimate(values: Tensor) -> Estimate:
    """The mean of one number per image, with its standard error (NaN for one image)."""
    n = len(values)
    se = float(values.double().std()) / n**0.5 if n > 1 else math.nan
    return Estimate(float(values.double().mean()), se, n)
