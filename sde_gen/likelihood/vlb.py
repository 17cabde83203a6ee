"""The variational bound of a chain of finitely many steps."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.chain import step_kl
from sde_gen.denoiser.decoder import Decoder
from sde_gen.denoiser.prediction import Prediction
from sde_gen.likelihood.bound import prior_kl, standard_error
from sde_gen.noise import Noise
from sde_gen.utils.arguments import checked


class VLB(NamedTuple):
    """A lower bound on the log-density of samples in model space, term by term, float64 and in nats.

    Arguments:
        nats: the bound on log p(x_0), that is -(prior + steps + reconstruction), with shape (B,).
        se: standard error of nats that the draws of noise cause, with shape (B,); NaN with one repeat.
        prior: KL of the first state given the data from the prior, with shape (B,).
        steps: KL of every step, in the order of the times, with shape (B, T).
        reconstruction: -log p(x_0 | last state), with shape (B,).
        nfe: evaluations of the denoiser per sample.
    """

    nats: Tensor
    se: Tensor
    prior: Tensor
    steps: Tensor
    reconstruction: Tensor
    nfe: int


@checked
def discrete_vlb(
    denoiser: Denoiser,
    x0: Tensor,
    times: Tensor,
    *,
    decoder: Decoder,
    noise: Noise,
    nu: float | None = 0.0,
    repeats: int = 1,
) -> VLB:
    r"""Evaluate the bound of the chain of Gaussian steps along a descending grid.

    .. math::
        -\log p(x_0) \le KL(q(x_{t_0} | x_0) \| N(0, \sigma_{t_0}^2 I))
        + \sum_{i=1}^T E\, KL\big(q(x_{t_i} | x_{t_{i-1}}, x_0) \,\|\, p(x_{t_i} | x_{t_{i-1}})\big)
        + E[-\log p(x_0 | x_{t_T})]

    p steps from t down to s with the posterior's mean at the predicted clean sample, c_t x_t + c_0 x0_hat, and
    the variance of :class:`~sde_gen.solver.Ancestral` of the same nu,

    .. math::
        \log \sigma_p^2 = (1 - \nu) \log \tilde\beta + \nu \log \beta, \qquad
        \tilde\beta = \mathrm{Var}[x_s | x_t, x_0], \quad \beta = \mathrm{Var}[x_t | x_s] .

    The bound thus refers to the discrete model from which this solver samples on this grid. Every term is an unbiased
    estimate from one draw of x_t given x_0 per repeat.

    Sources: Ho et al., 2020, arXiv:2006.11239, eq. 5 and 8; Nichol and Dhariwal, 2021, arXiv:2102.09672,
    eq. 15 (variances, learned ones too).

    Arguments:
        denoiser: the model, conditioning bound.
        x0: data in model space with shape (B, *event).
        times: descending grid, float64 with shape (T + 1,).
        decoder: distribution of the data given the last state.
        noise: source of the draws.
        nu: interpolation weight of the log-variance between the posterior's (0) and the transition's (1); None
            uses the one predicted by the denoiser, :attr:`Prediction.nu <sde_gen.denoiser.Prediction.nu>`.
        repeats: independent repeats.

    Raises:
        ValueError: the times do not descend, nu lies outside [0, 1], repeats is not positive, or nu is None
            and the denoiser predicts no variance.
    """
    if times.ndim != 1 or len(times) < 2 or not bool((times[1:] < times[:-1]).all()):
        raise ValueError(f"times must be at least two descending numbers, got {times.tolist()}")
    if nu is not None and not 0 <= nu <= 1:
        raise ValueError(f"nu={nu} must lie in [0, 1]: 0 is the posterior's variance, 1 the transition's")
    if repeats < 1:
        raise ValueError(f"repeats={repeats} must be at least 1")
    times = times.double()
    prior = prior_kl(denoiser.sde, x0, times[0])
    decoder = decoder.of_chain(denoiser.sde, times, nu)
    draws = [_draw(denoiser, x0, times, decoder, noise, nu) for _ in range(repeats)]
    steps = torch.stack([kl for kl, _ in draws])
    reconstruction = torch.stack([term for _, term in draws])
    total = prior + steps.sum(2) + reconstruction
    return VLB(
        -total.mean(0),
        standard_error(total),
        prior,
        steps.mean(0),
        reconstruction.mean(0),
        repeats * len(times),
    )


def _draw(
    denoiser: Denoiser, x0: Tensor, times: Tensor, decoder: Decoder, noise: Noise, nu: float | None
) -> tuple[Tensor, Tensor]:
    """Draw the KL of every step, with shape (B, T), and the reconstruction term, with shape (B,)."""
    sde = denoiser.sde

    def predict(t: Tensor) -> Prediction:
        alpha, sigma = sde.marginal(t)
        return denoiser(alpha * x0 + sigma * noise.normal(x0), t)

    steps = []
    for t, s in pairwise(times):
        steps.append(step_kl(sde, predict(t), x0, t, s, nu))
    return torch.stack(steps, 1), -decoder.log_prob(predict(times[-1]), x0)
