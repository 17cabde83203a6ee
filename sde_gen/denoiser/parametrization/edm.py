"""The preconditioning of EDM, for any process."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.denoiser.parametrization.base import LinearCoefficients, LinearParametrization
from sde_gen.denoiser.parametrization.label import LogSigma, NoiseLabel
from sde_gen.sde.base import Marginal
from sde_gen.utils.broadcasting import broadcast_like


@dataclass(frozen=True, kw_only=True)
class EDM(LinearParametrization):
    r"""The network predicts F, with input and target of unit variance at every noise level.

    With ``V = alpha^2 sigma_data^2 + sigma^2``, the variance of x_t,

    .. math::
        x_0 = \frac{\alpha \sigma_d^2}{V} x_t + \frac{\sigma_d \sigma}{\sqrt{V}} F, \qquad
        \epsilon = \frac{\sigma}{V} x_t - \frac{\alpha \sigma_d}{\sqrt{V}} F, \qquad
        c_{in} = \frac{1}{\sqrt{V}} .

    Source: Karras et al., 2022, arXiv:2206.00364, table 1, there for alpha = 1; the form for any alpha
    follows by applying their preconditioning to x_t / alpha at the noise level sigma / alpha.

    Arguments:
        sigma_data: standard deviation of the data in model space, about zero.
        label: the noise label given to the network.
    """

    sigma_data: float = 0.5
    label: NoiseLabel = LogSigma(scale=0.25)

    def __post_init__(self) -> None:
        if not self.sigma_data > 0:
            raise ValueError(
                f"sigma_data={self.sigma_data} must be positive: give the data's standard deviation "
                "in model space"
            )

    def linear(self, marginal: Marginal) -> LinearCoefficients:
        """Undo the preconditioning; eps directly, without the cancellation of (x_t - alpha x0) / sigma."""
        alpha, sigma = marginal
        variance = self._variance(marginal)
        scale = self.sigma_data / torch.sqrt(variance)
        return LinearCoefficients(
            x0_x=alpha * scale**2,
            x0_out=sigma * scale,
            eps_x=sigma / variance,
            eps_out=-alpha * scale,
        )

    def c_in(self, marginal: Marginal) -> Tensor:
        """Return ``c_in = 1 / sqrt(V)``, which scales the input to unit variance."""
        return self._variance(marginal).rsqrt()

    def target(self, x0: Tensor, eps: Tensor, marginal: Marginal) -> Tensor:
        """Return the output F that predicts x0 and eps exactly."""
        alpha, sigma = marginal
        std = torch.sqrt(self._variance(marginal))
        return (
            broadcast_like(sigma / (self.sigma_data * std), x0) * x0
            - broadcast_like(alpha * self.sigma_data / std, x0) * eps
        )

    def _variance(self, marginal: Marginal) -> Tensor:
        return (self.sigma_data * marginal.alpha) ** 2 + marginal.sigma**2
