"""Equal steps of time."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.grid.base import Curve
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class Uniform(Curve):
    r"""Times in equal steps: ``t = t_max + u (t_min - t_max)``.

    Source: Song et al., 2021, arXiv:2011.13456, appendix G.
    """

    def times(self, sde: SDE, t_max: Tensor, t_min: Tensor, u: Tensor) -> Tensor:
        """Interpolate t linearly between the ends."""
        del sde
        return t_max + u * (t_min - t_max)
