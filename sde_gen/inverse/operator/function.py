"""Measurement by a user-defined function."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sde_gen.inverse.operator.base import Operator


@dataclass(frozen=True, kw_only=True)
class Function(Operator):
    """Any differentiable function that acts on each sample of a batch independently.

    Arguments:
        function: (B, *event) -> (B, *measurement), made of PyTorch operations.
        is_linear: whether it is a linear map, which some methods need; they check it no further.

    Raises:
        ValueError: when called with gradients, the function is not differentiable.
    """

    function: Callable[[Tensor], Tensor]
    is_linear: bool = False

    @property
    def linear(self) -> bool:
        """The flag given to the constructor."""
        return self.is_linear

    def __call__(self, x: Tensor) -> Tensor:
        """Return the function's value at samples (B, *event)."""
        y = self.function(x)
        if x.requires_grad and not y.requires_grad:
            raise ValueError(
                "the function has no derivative, and thus no adjoint: its result was not computed from its "
                "argument by PyTorch operations"
            )
        return y
