"""The distribution of data given the output of a decoder, a location and a scale."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sde_gen.data.codec.base import Codec
from sde_gen.model.autoencoder.distribution import LocationScale, Logistic
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import sum_event

FARTHEST = 64.0
"""Edge of a bin in place of infinity: the number of scales beyond the location and the other edge."""


@dataclass(frozen=True, kw_only=True)
class Observation(Checked):
    r"""The distribution of data given the location of a decoder, independent in every dimension.

    A level has the probability of its bin, the first and the last bin reaching to infinity; continuous data have a
    density. Both are in units of the data, so their nats are those of a code for the data.

    Arguments:
        codec: from data to model space, where location and scale are.
        family: the standard distribution.
    """

    codec: Codec
    family: LocationScale = field(default_factory=Logistic)

    def log_prob(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        """Evaluate the log-probability.

        Arguments:
            x: data in model space with shape (B, *event).
            mean: location with shape (B, *event).
            log_scale: logarithm of the scale, broadcastable against the location.

        Returns:
            log p(data | location) in nats, float64 with shape (B,).
        """
        mean, log_scale = mean.double(), log_scale.double()
        scale = torch.exp(log_scale)
        if self.codec.limits is None:
            density = self.family.log_density((x.double() - mean) / scale) - log_scale
            return sum_event(density) + self.codec.log_det(x)
        low, high = self.codec.bins(x)
        first, last = torch.isinf(low), torch.isinf(high)
        # an infinite edge has no derivative by the scale; the mass beyond a finite one this far is below rounding
        above = (torch.where(last, low, high) - mean) / scale
        below = (torch.where(first, high, low) - mean) / scale
        return sum_event(
            self.family.log_mass(
                torch.where(first, above.clamp(max=0) - FARTHEST, below),
                torch.where(last, below.clamp(min=0) + FARTHEST, above),
            )
        )
