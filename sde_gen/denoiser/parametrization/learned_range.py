"""Learned variance in addition to a prediction."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.parametrization.base import Parametrization
from sde_gen.denoiser.parametrization.eps import Eps
from sde_gen.denoiser.prediction import Prediction
from sde_gen.sde.base import Marginal


@dataclass(frozen=True, kw_only=True)
class LearnedVariance(Parametrization):
    r"""The first half of the output's channels is another parametrization's; the second fills ``Prediction.aux``.

    .. math::
        \nu = (\mathrm{out} + 1) / 2

    is where the log-variance of a step lies between its least (0) and its largest value (1); the network's own numbers
    run from -1 to 1.

    Source: Nichol and Dhariwal, 2021, arXiv:2102.09672, eq. 15; the range of the numbers is that of their code.

    Arguments:
        mean: parametrization of the first half.
    """

    mean: Parametrization = field(default_factory=Eps)
    outputs: ClassVar[int] = 2

    def inputs(self, x_t: Tensor, marginal: Marginal, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of the parametrization of the mean."""
        return self.mean.inputs(x_t, marginal, t)

    def predict(self, out: Tensor, x_t: Tensor, marginal: Marginal) -> Prediction:
        """Split the output (B, 2 C, H, W) into the mean and the interpolation weight nu of the variance."""
        mean, variance = out.chunk(2, dim=1)
        return replace(self.mean.predict(mean, x_t, marginal), aux=(variance + 1) / 2)

    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """Return the target of the mean, and zeros for the variance, which x0 and eps leave open: nu = 1/2."""
        mean = self.mean.target(x0, eps, marginal)
        return torch.cat([mean, torch.zeros_like(mean)], dim=1)
