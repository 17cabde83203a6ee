"""Divergences of the steps of a chain from those of the process."""

import torch
from torch import Tensor

from sde_gen.denoiser.prediction import Prediction
from sde_gen.sde.base import SDE
from sde_gen.utils.broadcasting import broadcast_like, sum_event


def gaussian_kl(gap: Tensor, std_q: Tensor, std_p: Tensor) -> Tensor:
    r"""KL(N(m, std_q^2) || N(m', std_p^2)) in nats, summed over the event, float64 with shape (B,).

    .. math::
        \sum_i \log \frac{\sigma_p}{\sigma_q} + \frac12 \Big( \frac{\sigma_q^2}{\sigma_p^2} - 1 \Big)
        + \frac{(m_i - m'_i)^2}{2 \sigma_p^2}

    Arguments:
        gap: m - m' with shape (B, *event).
        std_q: with shape () or that of the gap.
        std_p: with shape () or that of the gap.
    """
    ratio = std_q / std_p
    widths = 0.5 * (ratio**2 - 1) - torch.log(ratio)
    return sum_event(widths + 0.5 * (gap.double() / std_p) ** 2)


def step_kl(
    sde: SDE, prediction: Prediction, x0: Tensor, t: Tensor, s: Tensor, nu: float | None = None
) -> Tensor:
    r"""KL of a step of the process given the data from the step of the model, in nats, float64 with shape (B,).

    .. math::
        KL\big(q(x_s | x_t, x_0) \,\|\, N(c_t x_t + c_0 \hat x_0, \tilde\beta^{1 - \nu} \beta^\nu)\big), \qquad
        \tilde\beta = \mathrm{Var}[x_s | x_t, x_0], \quad \beta = \mathrm{Var}[x_t | x_s]

    Sources: Ho et al., 2020, arXiv:2006.11239, eq. 5 and 7; Nichol and Dhariwal, 2021, arXiv:2102.09672, eq. 15.

    Arguments:
        sde: the process.
        prediction: prediction of the denoiser at x_t.
        x0: data in model space with shape (B, *event).
        t: time of the prediction with shape () or (B,).
        s: earlier time with the same shape.
        nu: weight of the log-variance; None takes the predicted one, see :attr:`Prediction.nu`.
    """
    x = x0.double()
    c_0, std = (broadcast_like(part, x) for part in sde.posterior(t, s)[1:])
    log_ratio = (prediction.nu.double() if nu is None else nu) * torch.log(
        broadcast_like(sde.transition(s, t).std, x) / std
    )
    return gaussian_kl(c_0 * (x0 - prediction.x0).double(), std, std * torch.exp(log_ratio))
