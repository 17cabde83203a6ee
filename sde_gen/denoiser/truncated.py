"""Denoiser on a truncated process."""

import copy

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction


class TruncatedProcess(Denoiser):
    """Denoiser on a process with another t_min; densities and bounds are then those of x at that time.

    The process is otherwise unchanged, and the given denoiser is not modified.

    Arguments:
        denoiser: the model, conditioning bound.
        t_min: the new end, not below the process's.

    Raises:
        ValueError: t_min lies below the process's, or not below 1.
    """

    def __init__(self, denoiser: Denoiser, t_min: float) -> None:
        super().__init__()
        if not denoiser.sde.t_min <= t_min < 1:
            raise ValueError(
                f"t_min={t_min} must lie in [{denoiser.sde.t_min}, 1), from the process's end on"
            )
        self.denoiser = denoiser
        self.sde = copy.copy(denoiser.sde)
        object.__setattr__(self.sde, "t_min", t_min)  # processes are frozen, and some derive their t_min

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict as the given denoiser does."""
        return self.denoiser(x_t, t, **cond)

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Return the denoiser of some samples, with the same end."""
        return self.replace_modules(denoiser=self.denoiser.select(index, count))
