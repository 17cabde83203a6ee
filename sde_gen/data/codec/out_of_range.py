"""Values of samples that no data and no noise explain."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.data.codec.base import Codec

OVERSHOOT = 0.1
"""How far samples of a good model lie beyond the data's limits, in units of the distance between these: at most 1 value
in 1,000 with solvers and steps that suffice."""

DEVIATIONS = 4.0
"""Standard deviations of the noise at the last time that are allowed for too."""

NOTABLE, FAR = 0.01, 1.0
"""The share of values from which it is notable, and the distance from the limits, in units of that between them, from
which a single value is."""


@dataclass(frozen=True, kw_only=True)
class OutOfRange:
    """How many values of samples lie outside the range that data and noise explain.

    Arguments:
        share: of all values.
        farthest: the value that is farthest from the middle of the range.
        low: smallest value that is explained, in model space.
        high: largest one.
        notable: whether so many, or one so far away, mean that something went wrong.
    """

    share: float
    farthest: float
    low: float
    high: float
    notable: bool

    @classmethod
    def of(cls, x: Tensor, codec: Codec, *, sigma: float = 0.0) -> "OutOfRange | None":
        """Count the values of samples that lie outside; None where the codec has no limits.

        With w the distance between the limits of the data, the range is widened by 0.1 w and 4 sigma on both sides.
        Samples of a trained model have fewer than 0.1 % of their values outside. More than 1 %, or one value farther
        than w from the limits (and 4 sigma), are notable.

        Arguments:
            x: finite samples in model space with shape (B, *event).
            codec: the map from data to model space.
            sigma: standard deviation of the noise that is left in them, or may be.
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
        """The share and the range."""
        share = "no value" if self.share == 0 else f"{100 * self.share:.2g} % of the values"
        return f"{share} outside [{self.low:.3g}, {self.high:.3g}]"

    @property
    def advice(self) -> str:
        """What was found, and what it may come from."""
        return (
            f"{self}, the farthest at {self.farthest:.4g}: more than data and noise explain; the steps are too few for "
            "this solver and grid, guidance is too strong, or the model is hardly trained"
        )
