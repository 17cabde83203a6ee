"""Adversarial training of long denoising steps."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sde_gen.denoiser.denoising_gan import DenoisingGAN
from sde_gen.grid.base import Grid
from sde_gen.grid.uniform import Uniform
from sde_gen.model import Encoder
from sde_gen.model.classifier.base import ClassifierNetwork
from sde_gen.noise import Noise
from sde_gen.objective.base import Loss, NoiseDraw, Objective
from sde_gen.sde.base import SDE
from sde_gen.utils.broadcasting import broadcast_like, mean_event, sum_event

LogOdds = Callable[[Tensor], Tensor]
"""The discriminator at given x_t: samples x_s (B, *event) to log-odds (B,)."""


@dataclass(frozen=True, kw_only=True)
class DiffusionGAN(Objective):
    r"""The denoising diffusion GAN: a discriminator of long steps (x_s, x_t), and a generator of x_0 against it.

    With a step t -> s of the grid, drawn uniformly, data :math:`x_s \sim q(x_s | x_0)`,
    :math:`x_t \sim q(x_t | x_s)` and generated :math:`x'_s \sim q(x_s | x_t, G(x_t, t, z))`, the losses of
    discriminator and generator are

    .. math::
        L_D &= E\left[-\log \varsigma(D(x_s)) - \log(1 - \varsigma(D(x'_s)))
            + \frac{\gamma}{2} |\nabla_{x_s} D(x_s)|^2\right] \\
        L_G &= E[-\log \varsigma(D(x'_s))], \qquad D = D(\cdot, x_t, t) .

    The loss of a sample is their sum. Its gradient with respect to the discriminator is that of L_D alone, and to the
    generator that of L_G alone, so one optimizer moves both at once. With the best D, the mean of L_D without penalty
    is 2 log 2 - 2 JSD(q(x_s | x_t), p(x_s | x_t)) in nats, averaged over x_t. The last step ends at the data: x_s is
    x_0. One step is a plain GAN.

    Sources: Xiao et al., 2022, arXiv:2112.07804, eq. 4 to 6; the penalty R1: Mescheder et al., 2018,
    arXiv:1801.04406, eq. 9. The paper takes the steps of D and G in turn and the penalty every 15 steps.

    Arguments:
        grid: time grid of the steps, and of sampling.
        steps: number of steps T.
        latent: length of z.
        penalty: gamma, weight of R1.
        discriminator: function from ``shape`` and ``num_classes`` to a classifier of noisy samples.

    Raises:
        ValueError: steps or latent is below 1, or penalty negative.
    """

    trains: ClassVar[type] = DenoisingGAN
    conditional: ClassVar[bool] = False

    grid: Grid = field(default_factory=Uniform)
    steps: int = 4
    latent: int = 64
    penalty: float = 0.05
    discriminator: Callable[..., ClassifierNetwork] = Encoder

    def __post_init__(self) -> None:
        if self.steps < 1 or self.latent < 1 or self.penalty < 0:
            raise ValueError(
                f"steps={self.steps}, latent={self.latent}, penalty={self.penalty}: expected at least 1, at least 1 "
                "and no negative number"
            )

    def draw(self, sde: SDE, x0: Tensor, noise: Noise) -> NoiseDraw:
        """Draw the steps, the noise of x_s, x_t and x'_s, and z: eps has the shape (B, 3 D + latent)."""
        times = self.grid(sde, self.steps)[:-1].to(x0.device)
        t = times[(self.steps * noise.uniform(x0)).long()]
        eps = noise.normal(x0.new_empty(len(x0), 3 * x0[0].numel() + self.latent))
        return NoiseDraw(t, torch.ones_like(t), eps)

    def loss(  # type: ignore[override]  # without conditions
        self, model: DenoisingGAN, x0: Tensor, draw: NoiseDraw
    ) -> Loss:
        """Evaluate the loss of the given steps and noise; its error is the mean squared error of x_0."""
        sde, size = model.sde, x0[0].numel()
        s, last = self._ends(sde, draw.t)
        *eps, latent = torch.split(draw.eps, [size, size, size, self.latent], 1)
        eps_s, eps_t, eps_post = (part.reshape(x0.shape) for part in eps)

        def of_step(at_s: Tensor, at_data: float) -> Tensor:
            """Broadcast a coefficient of steps, which is another one where the step ends at the data."""
            return broadcast_like(torch.where(last, at_data, at_s), x0)

        (alpha, sigma), (alpha_t, sigma_t) = sde.marginal(s), sde.marginal(draw.t)
        kernel, posterior = sde.transition(s, draw.t), sde.posterior(draw.t, s)
        x_s = of_step(alpha, 1.0) * x0 + of_step(sigma, 0.0) * eps_s
        scale = broadcast_like(torch.where(last, alpha_t, kernel.scale), x0)
        x_t = scale * x_s + broadcast_like(torch.where(last, sigma_t, kernel.std), x0) * eps_t

        def judge(generated: Tensor, log_odds: LogOdds) -> tuple[Tensor, Tensor]:
            fake = of_step(posterior.c_t, 0.0) * x_t + of_step(posterior.c_0, 1.0) * generated
            fake = fake + of_step(posterior.std, 0.0) * eps_post
            return adversarial_loss(log_odds, x_s, fake, penalty=self.penalty), generated.detach()

        per_sample, generated = model.judged(x_t, draw.t, latent, judge)
        return Loss(per_sample, draw.t, mean_event((generated - x0) ** 2))

    def _ends(self, sde: SDE, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ends s of steps from t, both with shape (B,), and whether a step is the last."""
        times = self.grid(sde, self.steps).to(t.device)
        step = (t.unsqueeze(1) == times[:-1]).long().argmax(1)
        return times[step + 1], step == self.steps - 1


def adversarial_loss(log_odds: LogOdds, data: Tensor, generated: Tensor, *, penalty: float) -> Tensor:
    r"""The non-saturating losses of a discriminator and a generator as one, with shape (B,).

    .. math::
        L = \log(1 + e^{-D(x)}) + \log(1 + e^{D(x')}) + \frac{\gamma}{2} |\nabla D(x)|^2 + \log(1 + e^{-D(x')})

    Parameters of D get the gradient of the first three terms. Those of the generator get that of the last term, which
    is put into the sum as the scalar product of x' with the gradient of L with respect to x'.

    Sources: Goodfellow et al., 2014, arXiv:1406.2661, section 3; the penalty R1: Mescheder et al., 2018,
    arXiv:1801.04406, eq. 9.

    Arguments:
        log_odds: D, from samples (B, *event) to log-odds (B,) of being data.
        data: samples x of the data with shape (B, *event).
        generated: generated samples x' with shape (B, *event), with their graph.
        penalty: gamma.
    """
    train = torch.is_grad_enabled()
    with torch.enable_grad():  # R1 is a derivative in a validation, too
        real = data.detach().requires_grad_(penalty > 0)
        fake = generated.detach().requires_grad_(train)
        odds, odds_fake = log_odds(real), log_odds(fake)
        loss = F.softplus(-odds) + F.softplus(odds_fake)
        if penalty > 0:
            (slope,) = torch.autograd.grad(odds.sum(), real, create_graph=train)
            loss = loss + 0.5 * penalty * sum_event(slope**2)
        against = F.softplus(-odds_fake)
        total = loss + against.detach()
        if not train:
            return total.detach()
        (slope,) = torch.autograd.grad(against.sum(), fake, retain_graph=True)
        push = sum_event(slope * generated)
        return total + push - push.detach()
