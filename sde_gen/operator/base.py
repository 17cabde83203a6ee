"""The abstract measurement."""

import abc

import torch
from torch import Tensor

from sde_gen.operator.conjugate_gradients import conjugate_gradients


class Operator(abc.ABC):
    """A differentiable measurement y = A(x), every sample by itself."""

    @property
    def linear(self) -> bool:
        """Whether A is a linear map."""
        return True

    @abc.abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Measure samples.

        Arguments:
            x: samples in model space with shape (B, *event).

        Returns:
            Measurements with shape (B, *measurement).

        Raises:
            ValueError: the operator does not fit the samples.
        """

    def adjoint(self, y: Tensor, x: Tensor) -> Tensor:
        """Apply the transpose of the derivative at x, which for a linear operator is that of A.

        Arguments:
            y: measurements with shape (B, *measurement).
            x: samples with shape (B, *event); a linear operator asks for their shape only.

        Returns:
            A^T y with shape (B, *event).
        """
        product: Tensor = torch.func.vjp(self, x)[1](y)[0]
        return product

    def project(self, x: Tensor, y: Tensor, steps: int = 50) -> Tensor:
        r"""Move samples to the nearest ones that measure y: ``x + A^T (A A^T)^+ (y - A x)``, for a linear operator.

        Arguments:
            x: samples with shape (B, *event).
            y: measurements with shape (B, *measurement).
            steps: products of the conjugate gradients with A A^T, at most.
        """
        u = conjugate_gradients(lambda u: self(self.adjoint(u, x)), y - self(x), steps, tol=1e-6)
        return x + self.adjoint(u, x)
