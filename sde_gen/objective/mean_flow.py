"""MeanFlow: the average velocity of the probability flow between two times."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.flow_map import direction, path_rate, path_time, path_velocity
from sde_gen.objective.two_times import TwoTimes, forward_derivative
from sde_gen.utils.broadcasting import broadcast_like


@dataclass(frozen=True, kw_only=True)
class MeanFlow(TwoTimes):
    r"""The identity of the average velocity, whose derivative follows the pair (x0, eps).

    .. math::
        R = u_{t,s}(x_t) - \mathrm{sg}\left[(\epsilon - x_0)
            - (\tau_t - \tau_s) \frac{d}{d\tau_t} u_{t,s}(x_t)\right], \qquad
        \frac{d}{d\tau} = \frac{1}{\tau'} \left(\partial_t + (\alpha' x_0 + \sigma' \epsilon) \cdot \nabla\right)

    with the chord's slope u and tau = sigma / (alpha + sigma), by one forward derivative. It is the derivative in t of
    X_{t,s}(x_t), which the flow leaves constant. On the rectified flow tau is t, and the objective is the paper's.

    Source: Geng et al., 2025, arXiv:2505.13447, eq. 6 and 8 to 11. Power 0.75 is the paper's for CIFAR-10.
    """

    channels_last: ClassVar[bool] = False

    diagonal: float = 0.25
    power: float = 0.75

    def residual(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, u: Tensor, **cond: Tensor
    ) -> Tensor:
        """Return the residual; its gradient is that of the slope of the chord."""
        sde = model.sde
        slope, change = forward_derivative(
            lambda x, t: direction(model.chord(x, t, s, **cond)),
            (x_t, t),
            (path_velocity(sde, x_t, t, u), 1 / path_rate(sde, t)),
        )
        span = broadcast_like(path_time(sde, t) - path_time(sde, s), x_t)
        residual: Tensor = slope - (u - span * change).detach()
        return residual
