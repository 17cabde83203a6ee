"""Pseudo-inverse guidance (PiGDM)."""

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.inverse.operator.base import Operator
from sde_gen.inverse.operator.conjugate_gradients import Map
from sde_gen.inverse.posterior import GaussianPosterior
from sde_gen.utils.broadcasting import broadcast_like


class PiGDM(GaussianPosterior):
    r"""Take x_0 given x_t as isotropic, and the gradient of the measurement's likelihood through the network.

    .. math::
        V = r^2 I \ \text{inside the inverse}, \qquad
        r^2 = \frac{\mathrm{data\_std}^2 \sigma^2}{\mathrm{data\_std}^2 \alpha^2 + \sigma^2}, \qquad
        V = \frac{\sigma^2}{\alpha} \frac{\partial \hat{x}_0}{\partial x_t} \ \text{in front of it} .

    Exact for data N(m, data_std^2 I). One derivative of the network per evaluation.

    Source: Song et al., 2023, Pseudoinverse-guided diffusion models for inverse problems, ICLR, eq. 7, where
    data_std = 1.

    Arguments:
        denoiser: the model.
        operator: A, linear.
        y: measurement with shape (B, *measurement), or (1, *measurement) for all samples.
        noise_std: standard deviation of the measurement's noise, in model space.
        data_std: standard deviation of the data in model space.
        steps: products of the conjugate gradients, which cost no evaluation.

    Raises:
        ValueError: as :class:`MMPS`, or data_std is not positive.
    """

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        operator: Operator,
        y: Tensor,
        noise_std: float,
        data_std: float = 1.0,
        steps: int = 20,
    ) -> None:
        super().__init__(denoiser=denoiser, operator=operator, y=y, noise_std=noise_std, steps=steps)
        if not data_std > 0:
            raise ValueError(
                f"data_std={data_std} must be positive: the data's standard deviation in model space"
            )
        self.data_std = data_std

    def covariance(self, x_t: Tensor, t: Tensor, cond: dict[str, Tensor]) -> tuple[Prediction, Map, Map]:
        """Isotropic inside, the network's derivative in front."""
        prediction, product = self.differentiate(x_t, t, cond)
        alpha, sigma = self.sde.marginal(t)
        variance = broadcast_like(1 / (1 / self.data_std**2 + (alpha / sigma) ** 2), x_t)
        return prediction, lambda v: variance * v, product
