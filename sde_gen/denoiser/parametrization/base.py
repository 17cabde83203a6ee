"""The abstract parametrization: conversion between network outputs and predictions."""

import abc
from typing import ClassVar, NamedTuple

from torch import Tensor

from sde_gen.denoiser.parametrization.label import NoiseLabel
from sde_gen.denoiser.prediction import Prediction
from sde_gen.sde.base import Marginal
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import broadcast_like


class Parametrization(Checked, abc.ABC):
    """Input scaling, noise label and prediction type of a network.

    Marginals are float64 with shape () or (B,); implementations broadcast them with ``_tensor.like``.
    """

    outputs: ClassVar[int] = 1
    """Output channels of the network per channel of the event."""

    @abc.abstractmethod
    def inputs(self, x_t: Tensor, marginal: Marginal, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of the network.

        Arguments:
            x_t: noisy samples with shape (B, *event).
            marginal: alpha and sigma with shape () or (B,).
            t: times with shape () or (B,).

        Returns:
            ``c_in * x_t`` with shape (B, *event) and the noise label ``c_noise`` with the shape of t.
        """

    @abc.abstractmethod
    def predict(self, out: Tensor, x_t: Tensor, marginal: Marginal) -> Prediction:
        """Convert the network's output (B, *event) to a prediction."""

    @abc.abstractmethod
    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """Return the regression target (B, *event): the output for which ``predict`` returns x_0 and eps."""

    def linear(self, marginal: Marginal) -> "LinearCoefficients | None":
        """Return the linear coefficients, to precompute them for a whole grid; None if the map is not linear."""
        del marginal
        return None


class LinearCoefficients(NamedTuple):
    """``x0 = x0_x x_t + x0_out out`` and ``eps = eps_x x_t + eps_out out``.

    All have the shape of t, or are the number 0 or 1.
    """

    x0_x: Tensor | float
    x0_out: Tensor | float
    eps_x: Tensor | float
    eps_out: Tensor | float


class LinearParametrization(Parametrization):
    """A parametrization that is linear in the sample and the output.

    Attributes:
        label: the noise label given to the network.
    """

    label: NoiseLabel

    @abc.abstractmethod
    def linear(self, marginal: Marginal) -> LinearCoefficients:
        """Return the coefficients of x0 and eps in terms of x_t and the output, each with the shape of t."""

    def c_in(self, marginal: Marginal) -> Tensor | float:
        """Return the input scaling c_in."""
        del marginal
        return 1.0

    def inputs(self, x_t: Tensor, marginal: Marginal, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``c_in x_t`` and the noise label."""
        return scale(self.c_in(marginal), x_t), self.label(marginal, t)

    def predict(self, out: Tensor, x_t: Tensor, marginal: Marginal) -> Prediction:
        """Combine sample and output linearly to x0 and eps."""
        return combine(self.linear(marginal), out, x_t, marginal)


def combine(linear: LinearCoefficients, out: Tensor, x_t: Tensor, marginal: Marginal) -> Prediction:
    """Return the prediction with the given linear coefficients."""
    x0 = _axpy(linear.x0_x, x_t, linear.x0_out, out)
    eps = _axpy(linear.eps_x, x_t, linear.eps_out, out)
    return Prediction(x_t, x0, eps, broadcast_like(marginal.alpha, x_t), broadcast_like(marginal.sigma, x_t))


def scale(a: Tensor | float, x: Tensor) -> Tensor:
    """Return ``a x`` with shape (B, *event), for a of the shape of t or a number."""
    if isinstance(a, Tensor):
        return broadcast_like(a, x) * x
    return x if a == 1 else a * x


def _axpy(a: Tensor | float, x: Tensor, b: Tensor | float, y: Tensor) -> Tensor:
    """``a x + b y``, omitting a term whose coefficient is zero."""
    if isinstance(a, float) and a == 0:
        return scale(b, y)
    return (broadcast_like(a, x) * x if isinstance(a, Tensor) else a * x).add_(scale(b, y))
