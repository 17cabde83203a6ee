"""Times shifted towards noise."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.grid.base import Curve
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class Shifted(Curve):
    r"""Times :math:`t = a s / (1 + (a - 1) s)` with a shift a and s in equal steps.

    On rectified flow sigma / alpha of every time is a times that of s, as larger images need: there noise of the same
    deviation hides less.

    Source: Esser et al., 2024, arXiv:2403.03206, section 5.3.2 (eq. 23); Stable Diffusion 3 has a = 3.

    Arguments:
        t_max: the first time.
        t_min: the last time; None uses the process's t_min.
        shift: a; 1 gives equal steps of time, more shifts towards noise.

    Raises:
        ValueError: the shift is not positive, or the ends are out of range.
    """

    shift: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shift > 0:
            raise ValueError(f"shift={self.shift} must be positive; 1 gives equal steps of time")

    def times(self, sde: SDE, t_max: Tensor, t_min: Tensor, u: Tensor) -> Tensor:
        """Interpolate s linearly between those of the ends, and shift."""
        del sde
        first, last = (t / (self.shift - (self.shift - 1) * t) for t in (t_max, t_min))
        s = first + u * (last - first)
        return self.shift * s / (1 + (self.shift - 1) * s)
