"""Lagrangian self-distillation: the end of the map moves with the model's own velocity."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.flow_map import direction, path_rate, path_time, point
from sde_gen.objective.two_times import TwoTimes, forward_derivative
from sde_gen.utils.broadcasting import broadcast_like


@dataclass(frozen=True, kw_only=True)
class Lagrangian(TwoTimes):
    r"""The derivative of the map in its second time is the velocity where it ends.

    .. math::
        R = u_{t,s}(x_t) - (\tau_t - \tau_s) \frac{\partial}{\partial \tau_s} u_{t,s}(x_t)
            - \mathrm{sg}\left[u_{s,s}(X_{t,s}(x_t))\right] \quad (s < t), \qquad
        R = u_{t,t}(x_t) - (\epsilon - x_0) \quad (s = t)

    with the chord's slope u and tau = sigma / (alpha + sigma): the derivative of X_{t,s} / (alpha_s + sigma_s) in
    tau_s, less the velocity of the model as a denoiser, which the pairs of equal times train. The gradient passes
    through the derivative.

    Source: Boffi et al., 2025, arXiv:2505.18825, section 3 (Lagrangian self-distillation; three quarters of a batch
    have equal times, and the velocity is not differentiated). The learned weight of the paper is not used.
    """

    channels_last: ClassVar[bool] = False

    diagonal: float = 0.75

    def residual(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, u: Tensor, **cond: Tensor
    ) -> Tensor:
        """Return the residual; where both times are equal, that of the regression to u."""
        sde = model.sde
        rate = 1 / path_rate(sde, s)

        def slope(s: Tensor) -> tuple[Tensor, Tensor]:
            chord = model.chord(x_t, t, s, **cond)
            return direction(chord), point(sde, chord, s)

        (found, end), (change, _) = forward_derivative(slope, (s,), (rate,))
        with torch.no_grad():
            velocity = direction(model(end.detach(), s, **cond))
        span = broadcast_like(path_time(sde, t) - path_time(sde, s), x_t)
        equal = broadcast_like(s == t, x_t).bool()
        residual: Tensor = found - span * change - torch.where(equal, u, velocity)
        return residual
