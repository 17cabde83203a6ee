"""Detection of sample values outside the range of the data."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.data.codec.base import Codec

OVERSHOOT = 0.1
"""Margin beyond the data's limits, in units of their distance; with enough solver steps, at most 1 value in 1,000 of a
trained model's samples lies outside it."""

DEVIATIONS = 4.0
"""Further margin in standard deviations of the noise at the last time."""

NOTABLE, FAR = 0.01, 1.0
"""Thresholds of a warning: the fraction of values outside, and the distance of a single value from the limits in units
of the distance between them."""


@dataclass(frozen=True, kw_only=True)
class OutOfRange:
    """Fraction of sample values outside the expected range.

    Arguments:
        share: fraction of all values.
        farthest: value farthest from the center of the range.
        low: lower bound of the expected range in model space.
        high: upper bound of the expected range.
        notable: True if the fraction, or a single value, exceeds its threshold.
    """

    share: float
    farthest: float
    low: float
    high: float
    notable: bool

    @classmethod
    def of(cls, x: Tensor, codec: Codec, *, sigma: float = 0.0) -> "OutOfRange | None":
        """Count the sample values outside the expected range; None if the codec has no limits.

        With w the distance between the limits of the data, the range is widened by 0.1 w and 4 sigma on both sides.
        Samples of a trained model have fewer than 0.1 % of their values outside. More than 1 %, or one value farther
        than w from the limits (and 4 sigma), are notable.

        Arguments:
            x: finite samples in model space with shape (B, *event).
            codec: the map from data to model space.
            sigma: standard deviation of the residual noise of the samples, or an upper bound.
        """
        if codec.limits is None:
            return None
        low, high = codec.limits
        width, noise = high - low, DEVIATIONS * sigma
        middle = 0.5 * (low + high)
        away = (x.detach().double() - middle).abs()
        beyond = away - 0.5 * width - noise
        share = float((beyond > OVERSHOOT * width).double().mean())
        margin = OVERSHOOT * width + noise
        return cls(
            share=share,
            farthest=float(x.flatten()[away.flatten().argmax()]),
            low=low - margin,
            high=high + margin,
            notable=share > NOTABLE or bool((beyond > FAR * width).any()),
        )

    def __str__(self) -> str:
        """Format the fraction and the range."""
        share = "no value" if self.share == 0 else f"{100 * self.share:.3g} % of the values"
        return f"{share} outside [{self.low:.3g}, {self.high:.3g}]"

    @property
    def advice(self) -> str:
        """Format the warning, with possible causes."""
        return (
            f"{self}, the farthest at {self.farthest:.4g}: more than data and noise explain; the steps are too few for "
            "this solver and grid, guidance is too strong, or the model is hardly trained"
        )
