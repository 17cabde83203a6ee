"""Clipping of the predicted clean sample."""

from typing import ClassVar

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.guidance.requirements import Requirements


class Clip(Denoiser):
    r"""Clip predicted clean samples to the range of the data, and change the predicted noise accordingly.

    .. math::
        \hat{x}_0 \leftarrow \min\{\max\{\hat{x}_0, \mathrm{low}\}, \mathrm{high}\}, \qquad
        \hat\epsilon \leftarrow (x_t - \alpha \hat{x}_0) / \sigma

    ``clip_denoised`` of other projects. Predictions that are the mean of data in the range lie in it, so an exact model
    is not changed.

    Source: Ho et al., 2020, arXiv:2006.11239, in their code; Nichol and Dhariwal, 2021, arXiv:2102.09672
    (``p_mean_variance``).

    Arguments:
        denoiser: the model, usually a guided one.
        low: smallest value of the data in model space.
        high: largest value of the data in model space.

    Raises:
        ValueError: low is not less than high.
    """

    requires: ClassVar[Requirements] = Requirements(data_range=True)

    def __init__(self, *, denoiser: Denoiser, low: float, high: float) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(
                f"low={low}, high={high}: expected low < high, the range of the data in model space"
            )
        self.denoiser = denoiser
        self.sde = denoiser.sde
        self.low = low
        self.high = high

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict, and clip the clean sample."""
        prediction = self.denoiser(x_t, t, **cond)
        return prediction.with_x0(prediction.x0.clamp(self.low, self.high))

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Return the clipped denoiser of the samples ``index`` (b,)."""
        return self.replace_modules(denoiser=self.denoiser.select(index, count))
