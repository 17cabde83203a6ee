"""What a network's output means, as a hub (the prediction) and spokes (the parametrizations)."""

import abc

from torch import Tensor

from sde_gen.prediction import Prediction
from sde_gen.sde.base import Marginal


class Parametrization(abc.ABC):
    """The meaning of a network's input, noise label and output.

    Marginals are float64 with shape () or (B,); implementations broadcast them with ``_tensor.like``.
    """

    @abc.abstractmethod
    def inputs(self, x_t: Tensor, marginal: Marginal, t: Tensor) -> tuple[Tensor, Tensor]:
        """What the network sees.

        Arguments:
            x_t: noised samples with shape (B, *event).
            marginal: alpha and sigma with shape () or (B,).
            t: times with shape () or (B,).

        Returns:
            ``c_in * x_t`` with shape (B, *event) and the noise label ``c_noise`` with the shape of t.
        """

    @abc.abstractmethod
    def predict(self, out: Tensor, x_t: Tensor, marginal: Marginal) -> Prediction:
        """What the network's output (B, *event) says about x_0 and eps."""

    @abc.abstractmethod
    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """The output (B, *event) of a network that knows x_0 and eps: ``predict`` of it returns them."""
