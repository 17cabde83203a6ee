"""Dynamic thresholding of the predicted clean sample."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.guidance.requirements import Requirements


class DynamicThreshold(Denoiser):
    r"""Keep predicted clean samples in the range of the data, without saturating them.

    With s the given quantile of :math:`|\hat{x}_0|` over a sample's coordinates, but at least ``limit``
    and at most ``most``,

    .. math::
        \hat{x}_0 \leftarrow \mathrm{limit}\; \mathrm{clip}(\hat{x}_0, -s, s) / s .

    quantile = 1 scales without clipping; a sample within the limit stays as it is. It changes the distribution
    sampled: use it against the saturation of large guidance scales.

    Source: Saharia et al., 2022, arXiv:2205.11487, section 2.3.

    Arguments:
        denoiser: the model, usually a guided one.
        quantile: fraction of the coordinates within the threshold, in (0, 1]; 0.995 in the paper.
        limit: largest absolute value of the data in model space.
        most: largest s; larger numbers are clipped.

    Raises:
        ValueError: a number is out of its range.
    """

    requires: ClassVar[Requirements] = Requirements()

    def __init__(
        self, *, denoiser: Denoiser, quantile: float = 0.995, limit: float = 1.0, most: float = math.inf
    ) -> None:
        super().__init__()
        if not 0 < quantile <= 1:
            raise ValueError(f"quantile={quantile} must lie in (0, 1]")
        if not limit > 0:
            raise ValueError(f"limit={limit} must be positive: the data's largest absolute value")
        if not most >= limit:
            raise ValueError(f"most={most}: expected at least limit={limit}, below which nothing is changed")
        self.denoiser = denoiser
        self.sde = denoiser.sde
        self.quantile = quantile
        self.limit = limit
        self.most = most

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict, and rescale the clean sample to the range."""
        prediction = self.denoiser(x_t, t, **cond)
        x0 = prediction.x0
        flat = x0.flatten(1)
        s = torch.quantile(flat.abs(), self.quantile, dim=1, keepdim=True).clamp(self.limit, self.most)
        bounded = (self.limit * flat.clamp(-s, s) / s).reshape(x0.shape)
        return prediction.with_x0(bounded)

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Return the thresholded denoiser of the samples ``index`` (b,)."""
        return self.replace_modules(denoiser=self.denoiser.select(index, count))
