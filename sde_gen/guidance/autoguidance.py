"""Guidance by a weaker version of the model."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.guidance._extrapolation import extrapolate
from sde_gen.guidance.requirements import Requirements
from sde_gen.utils.broadcasting import to_device


class Autoguidance(Denoiser):
    r"""Extrapolate from the prediction of a weaker model through that of the model.

    .. math::
        \hat{x}_0 = \hat{x}_0^{weak} + \mathrm{scale}\, (\hat{x}_0 - \hat{x}_0^{weak})

    A smaller or less trained model has similar but larger errors; scale > 1 moves away from them, with
    or without conditioning. scale = 1 is the model itself.

    Source: Karras et al., 2024, arXiv:2406.02507, section 4.

    Arguments:
        denoiser: the model.
        weak: its weaker version, on the same process.
        scale: guidance scale; 1 is the model without guidance.

    Raises:
        ValueError: scale is not finite, or the processes differ.
    """

    requires: ClassVar[Requirements] = Requirements(weak_model=True)

    def __init__(self, *, denoiser: Denoiser, weak: Denoiser, scale: float = 1.0) -> None:
        super().__init__()
        if not math.isfinite(scale):
            raise ValueError(f"scale={scale} must be finite; 1 is the model without guidance")
        if weak.sde != denoiser.sde:
            raise ValueError(
                f"the weak model has the process {weak.sde}, the model {denoiser.sde}; both need the same process"
            )
        self.denoiser = denoiser
        self.weak = weak
        self.sde = denoiser.sde
        self.scale = scale

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict on the line from the weak model's prediction to the model's."""
        prediction = self.denoiser(x_t, t, **cond)
        if self.scale == 1:
            return prediction
        return extrapolate(
            self.weak(x_t, t, **cond), prediction, to_device(torch.tensor(self.scale), x_t.device, x_t.dtype)
        )

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Return the guided denoiser of the samples ``index`` (b,)."""
        return self.replace_modules(
            denoiser=self.denoiser.select(index, count), weak=self.weak.select(index, count)
        )
