"""Products of vectors with the Jacobian of a field, all from one evaluation of the field."""

import torch
from torch import Tensor

from sde_gen.likelihood.divergence.base import Map


class Products:
    """A field at x, and the products ``v^T J`` there.

    One evaluation with one product costs 2 to 2.9 evaluations of our networks on a CPU, another product one more.

    Arguments:
        field: the field.
        x: samples with shape (B, *event).

    Attributes:
        value: the field at x, with shape (B, *event).
    """

    def __init__(self, field: Map, x: Tensor) -> None:
        self.value, self._vjp = torch.func.vjp(field, x)[:2]

    def __call__(self, vectors: Tensor) -> Tensor:
        """Products of vectors with shape (n, B, *event), with the same shape; n > 1 are made at once."""
        products: Tensor
        if len(vectors) == 1:  # fields that cannot be batched are differentiable still
            (products,) = self._vjp(vectors[0])
            return products.unsqueeze(0)
        (products,) = torch.func.vmap(self._vjp)(vectors)
        return products
