"""Posterior sampling methods: by the denoiser or by the solver."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.inverse.operator.base import Operator
from sde_gen.sampler import Sampler
from sde_gen.solver.base import Solver
from sde_gen.utils.arguments import Checked

__all__ = ["DenoiserMethod", "Method", "SolverMethod"]


def __dir__() -> list[str]:
    return sorted(__all__)


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


@dataclass(frozen=True, kw_only=True)
class DenoiserMethod(Method):
    """Sample from a denoiser conditioned on the measurement.

    Arguments:
        guidance: builds it from the keywords denoiser, operator and y, such as a partial
            :class:`~sde_gen.inverse.MMPS`.
    """

    guidance: Callable[..., Denoiser]

    def __call__(
        self, denoiser: Denoiser, sampler: Sampler, operator: Operator, y: Tensor
    ) -> tuple[Denoiser, Sampler]:
        """Return the guided denoiser and the given sampler."""
        return self.guidance(denoiser=denoiser, operator=operator, y=y), sampler


@dataclass(frozen=True, kw_only=True)
class SolverMethod(Method):
    """Sample from the given denoiser by a solver conditioned on the measurement.

    Arguments:
        solver: builds it from the keywords operator and y, such as a partial
            :class:`~sde_gen.inverse.RePaint`.
    """

    solver: Callable[..., Solver]

    @property
    def uses_solver(self) -> bool:
        """True if the solver wraps another one, as :class:`~sde_gen.inverse.RePaint` does."""
        return bool(getattr(getattr(self.solver, "func", self.solver), "wraps_solver", False))

    def __call__(
        self, denoiser: Denoiser, sampler: Sampler, operator: Operator, y: Tensor
    ) -> tuple[Denoiser, Sampler]:
        """Return the given denoiser and the sampler with the conditioned solver."""
        return denoiser, replace(sampler, solver=self.solver(operator=operator, y=y))
