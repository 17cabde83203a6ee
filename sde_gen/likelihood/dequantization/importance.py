"""Importance-weighted bound from several dequantizations."""

import math

import torch
from torch import Tensor


def importance_bound(log_weights: Tensor) -> Tensor:
    r"""Bound log P(k) from below by the mean of K weights p(x_i) / q(x_i | k).

    .. math::
        \log P(k) \ge E \log \frac{1}{K} \sum_{i=1}^K \frac{p(x_i)}{q(x_i | k)}

    Its expectation increases with K to log P(k). Without the log K the sum is not a bound, but too large by log K nats.
    log p must be exact: an estimate with variance s^2, such as with a random probe of the divergence, increases the
    mean of exponentials by up to s^2 / 2 nats.

    Source: Burda et al., 2016, arXiv:1509.00519, theorem 1.

    Arguments:
        log_weights: log p(x_i) - log q(x_i | k) in nats with shape (K, B).

    Returns:
        The bound in nats with shape (B,).
    """
    return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))
