"""The abstract method for inverse problems."""

import abc

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.inverse.operator.base import Operator
from sde_gen.sampler import Sampler
from sde_gen.utils.arguments import Checked


class Method(Checked, abc.ABC):
    """A posterior sampling method."""

    @property
    def uses_solver(self) -> bool:
        """True if the method keeps or wraps the sampler's solver, False if it replaces it."""
        return True

    @abc.abstractmethod
    def __call__(
        self, denoiser: Denoiser, sampler: Sampler, operator: Operator, y: Tensor
    ) -> tuple[Denoiser, Sampler]:
        """Condition denoiser and sampler on the measurement.

        Arguments:
            denoiser: the model, conditioning bound.
            sampler: how it is sampled.
            operator: the measurement A.
            y: measurement with shape (1, *measurement).

        Raises:
            ValueError: the method cannot work with this operator.
        """
