"""A measurement of the user's own."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sde_gen.operator.base import Operator


@dataclass(frozen=True, kw_only=True)
class Function(Operator):
    """Any differentiable function of a batch, every sample by itself.

    Arguments:
        function: (B, *event) -> (B, *measurement), made of PyTorch operations.
        is_linear: whether it is a linear map, which some methods need; they check it no further.
    """

    function: Callable[[Tensor], Tensor]
    is_linear: bool = False

    @property
    def linear(self) -> bool:
        """What the constructor was told."""
        return self.is_linear

    def __call__(self, x: Tensor) -> Tensor:
        """Call the function."""
        return self.function(x)
