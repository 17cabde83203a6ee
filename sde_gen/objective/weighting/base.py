"""Abstract base class of weightings of the training loss over time."""

import abc

from torch import Tensor

from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked


class Weighting(Checked, abc.ABC):
    """A weight w(t) on the squared error of the noise, |eps_hat - eps|^2."""

    @abc.abstractmethod
    def __call__(self, sde: SDE, t: Tensor) -> Tensor:
        """The weight at times t of shape (B,), float64 with the same shape."""
