"""Bits of the data from densities at dequantized points."""

from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.likelihood import bits_per_dim


def code_length(nats: Tensor, log_q: Tensor, x: Tensor, codec: Codec) -> Tensor:
    """Bits per dimension of log p(x) - log q(x | data), both nats in model space with shape (B,).

    A uniform q has -log_q for log-determinant, which leaves :func:`~sde_gen.likelihood.bits_per_dim` of log p.
    """
    return bits_per_dim(nats - log_q - codec.log_det(tuple(x.shape[1:])), x, codec)
