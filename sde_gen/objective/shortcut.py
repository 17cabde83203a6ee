"""Shortcut models: one step is two steps of half the length."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.flow_map import direction, path_time, point
from sde_gen.objective.two_times import TwoTimes
from sde_gen.utils.broadcasting import broadcast_like


@dataclass(frozen=True, kw_only=True)
class Shortcut(TwoTimes):
    r"""The map from t to s is that from t to m, followed by that from m to s.

    .. math::
        R = u_{t,s}(x_t) - \mathrm{sg}\left[\tfrac{1}{2} u_{t,m}(x_t) + \tfrac{1}{2} u_{m,s}(X_{t,m}(x_t))\right]
            \quad (s < t), \qquad
        R = u_{t,t}(x_t) - (\epsilon - x_0) \quad (s = t)

    with the chord's slope u, tau = sigma / (alpha + sigma) and the middle m, where tau is the mean of tau_t and tau_s.
    No derivative is taken.

    Source: Frans et al., 2024, arXiv:2410.12557, eq. 4 and 5 (there with step sizes that are powers of two, on the
    rectified flow); progressive distillation (Salimans and Ho, 2022, arXiv:2202.00512) takes the same two steps with a
    fixed teacher.
    """

    diagonal: float = 0.75

    def residual(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, u: Tensor, **cond: Tensor
    ) -> Tensor:
        """Return the residual; where both times are equal, that of the regression to u."""
        sde = model.sde
        middle = 0.5 * (path_time(sde, t) + path_time(sde, s))
        m = torch.minimum(torch.maximum(sde.t_from_log_snr(-2 * torch.logit(middle)), s), t)
        with torch.no_grad():
            first = model.chord(x_t, t, m, **cond)
            second = model.chord(point(sde, first, m), m, s, **cond)
            mean = 0.5 * (direction(first) + direction(second))
        equal = broadcast_like(s == t, x_t).bool()
        return direction(model.chord(x_t, t, s, **cond)) - torch.where(equal, u, mean)
