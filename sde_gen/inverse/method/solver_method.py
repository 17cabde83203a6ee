"""Methods that replace the solver."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.inverse.method.base import Method
from sde_gen.inverse.operator.base import Operator
from sde_gen.sampler import Sampler
from sde_gen.solver.base import Solver


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
