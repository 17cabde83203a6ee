"""Abstract base class of losses of a difference of two numbers."""

import abc

from torch import Tensor

from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import mean_event


class PointwiseLoss(Checked, abc.ABC):
    """A loss of every number of a difference, averaged over the event.

    The minimum of the squared error is the conditional mean of the noise, which is the score up to a factor. That of
    any other loss is another number where the noise given x_t is not symmetric: samples are then those of another
    distribution than the data's, with less weight on what is rare.
    """

    @abc.abstractmethod
    def pointwise(self, difference: Tensor) -> Tensor:
        """Return the loss of every number, with the shape of the difference."""

    def __call__(self, difference: Tensor) -> Tensor:
        """Return the mean over the event of a difference (B, *event), with shape (B,)."""
        return mean_event(self.pointwise(difference))
