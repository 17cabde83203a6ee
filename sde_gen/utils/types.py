"""Shape legend of the whole package.

========== =====================================================================================
``B``      batch
``*event`` shape of one sample: ``(C, H, W)`` for images, ``(d,)`` for vectors, anything else too
``D``      number of dimensions of one sample, the product of ``*event``
``K``      components of a mixture, or classes
``()``     a zero-dimensional tensor, here usually a time or a coefficient in float64 on the CPU
========== =====================================================================================

Times ``t`` run from 0 (data) to 1 (noise); a step goes from ``t`` down to ``s < t``.
"""

from typing import Protocol

from torch import Tensor


class TimeFunction(Protocol):
    """A function of time alone."""

    def __call__(self, t: Tensor) -> Tensor:
        """Its values: shape ``()`` or ``(B,)`` in, the same shape out."""
        ...


Shape = tuple[int, ...]
