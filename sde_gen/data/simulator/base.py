"""The abstract simulator of data x from parameters theta."""

import abc

import numpy as np
from torch import Tensor

from sde_gen.data.simulator.prior import ParameterPrior
from sde_gen.utils.arguments import Checked


class Simulator(Checked, abc.ABC):
    """Abstract simulator x ~ p(x | theta) with a prior p(theta).

    A subclass in another package is named by ``data.simulator._target_``. It needs :attr:`prior` and :meth:`simulate`;
    the other methods are for tasks whose likelihood is known.
    """

    @property
    @abc.abstractmethod
    def prior(self) -> ParameterPrior:
        """Prior of the parameters."""

    @abc.abstractmethod
    def simulate(self, theta: Tensor, rng: np.random.Generator) -> Tensor:
        """Simulate once per row.

        Arguments:
            theta: parameters, float64 with shape (N, D).
            rng: source of all randomness.

        Returns:
            Observations with shape (N, V).
        """

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | theta) in nats, up to a function of x, with shape (N,).

        Arguments:
            theta: parameters, float64 with shape (N, D).
            x: one observation, float64 with shape (V,), or one per row with shape (N, V).

        Raises:
            ValueError: the likelihood is unknown.
        """
        raise ValueError(f"{type(self).__name__} {NO_REFERENCE}")

    def posterior(self, x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
        """Draw from the posterior p(theta | x) by its likelihood, without a network.

        Arguments:
            x: one observation, float64 with shape (V,).
            count: number of draws.
            rng: source of all randomness.

        Returns:
            Independent draws, float64 with shape (count, D).

        Raises:
            ValueError: the posterior is unknown.
        """
        raise ValueError(f"{type(self).__name__} {NO_REFERENCE}")


NO_REFERENCE = (
    "has no reference posterior: give it a method posterior(x, count, rng), or take metrics=[sbc,tarp,coverage], which "
    "need none"
)
"""Advice where a posterior is not known."""
