"""Abstract base class of measurement operators."""

import abc

import torch
from torch import Tensor

from sde_gen.inverse.operator.conjugate_gradients import conjugate_gradients
from sde_gen.noise import Noise
from sde_gen.utils.arguments import Checked


class Operator(Checked, abc.ABC):
    """Differentiable measurement y = A(x) of each sample."""

    @property
    def linear(self) -> bool:
        """True if A is a linear map."""
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
            x: samples with shape (B, *event); a linear operator uses only their shape.

        Returns:
            A^T y with shape (B, *event).
        """
        product: Tensor = torch.func.vjp(self, x)[1](y)[0]
        return product

    def noised(self, x: Tensor, std: float, noise: Noise) -> Tensor:
        """Measure samples and add Gaussian noise to the measured values.

        Arguments:
            x: samples with shape (B, *event).
            std: standard deviation of the measurement's noise.
            noise: source of noise.

        Returns:
            Measurements with shape (B, *measurement).
        """
        y = self(x)
        return y + std * noise.normal(y)

    def project(self, x: Tensor, y: Tensor, steps: int = 50) -> Tensor:
        r"""Move samples to the nearest ones that measure y: ``x + A^+ (y - A x)``, for a linear operator.

        Unmeasured values, such as masked ones, are ignored.

        Arguments:
            x: samples with shape (B, *event).
            y: measurements with shape (B, *measurement).
            steps: products of the conjugate gradients with A^T A, at most.
        """
        residual = self.adjoint(y - self(x), x)
        return x + conjugate_gradients(lambda v: self.adjoint(self(v), x), residual, steps, tol=1e-9)
