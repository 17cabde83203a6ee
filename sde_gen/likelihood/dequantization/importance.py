"""The bound of several dequantizations at once."""

import math

import torch
from torch import Tensor


def importance_bound(log_weights: Tensor) -> Tensor:
    r"""Bound log P(k) from below by the mean of K weights p(x_i) / q(x_i | k).

    .. math::
        \log P(k) \ge E \log \frac{1}{K} \sum_{i=1}^K \frac{p(x_i)}{q(x_i | k)}

    Its expectation rises with K to log P(k). The log K matters: without it the sum is no bound and flatters by
    log K nats. So does an exact log p: an estimate of it with variance s^2, as by one random probe of the
    divergence, raises the mean of exponentials by up to s^2 / 2 nats.

    Source: Burda et al., 2016, arXiv:1509.00519, theorem 1.

    Arguments:
        log_weights: log p(x_i) - log q(x_i | k) in nats with shape (K, B).

    Returns:
        The bound in nats with shape (B,).
    """
    return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))
