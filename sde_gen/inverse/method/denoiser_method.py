"""Methods that change the denoiser."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.inverse.method.base import Method
from sde_gen.inverse.operator.base import Operator
from sde_gen.sampler import Sampler


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
