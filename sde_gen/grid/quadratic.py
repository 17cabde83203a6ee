"""Equal steps of the square root of time."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.grid.base import Curve
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class Quadratic(Curve):
    r"""Times whose square roots are in equal steps: smaller steps near the data.

    .. math::
        t = \left(\sqrt{t_{max}} + u (\sqrt{t_{min}} - \sqrt{t_{max}})\right)^2

    Source: Song et al., 2020, arXiv:2010.02502, appendix D.2.
    """

    def times(self, sde: SDE, t_max: Tensor, t_min: Tensor, u: Tensor) -> Tensor:
        """Interpolate sqrt(t) linearly between the ends."""
        del sde
        return (t_max.sqrt() + u * (t_min.sqrt() - t_max.sqrt())) ** 2
