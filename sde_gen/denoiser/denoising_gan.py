"""A generator of clean samples given noisy ones, with its discriminator."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor

from sde_gen.denoiser.network import NetworkDenoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.model.generator_pair import Discriminator, GeneratorPair
from sde_gen.noise import Noise
from sde_gen.utils.broadcasting import times, to_device


class DenoisingGAN(NetworkDenoiser):
    r"""The conditional generator of a denoising diffusion GAN: an implicit p(x_0 | x_t).

    .. math::
        \hat{x}_0 = G(x_t, t, z), \qquad z \sim N(0, I)

    Unlike a mean of the data, the sample is one of many possible ones, so that few long steps of the posterior
    q(x_s | x_t, x_0) suffice. There is no score, and no velocity.

    Source: Xiao et al., 2022, arXiv:2112.07804, section 3.2. The network is a
    :class:`~sde_gen.model.GeneratorPair`.
    """

    def forward(self, x_t: Tensor, t: Tensor, latent: Tensor | None = None, **cond: Tensor) -> Prediction:
        """Return the generated sample as a prediction, for the latent z with shape (B, latent).

        Raises:
            ValueError: without a latent: it was called as a denoiser.
        """
        if latent is None:
            raise ValueError(
                "a denoising GAN draws x_0 and predicts no mean, score or velocity: sample with solver=gan_ancestral "
                "and the grid and steps of its training; it has no likelihood and no guidance"
            )
        return super().forward(x_t, t, latent=latent, **cond)

    def draw(self, x_t: Tensor, t: Tensor | float, noise: Noise, **cond: Tensor) -> Tensor:
        """Generate x_0 for a new latent."""
        latent = noise.normal(x_t.new_empty(len(x_t), self._pair.latent))
        prediction: Prediction = self(x_t, t, latent=latent, **cond)
        return prediction.x0

    @property
    def _pair(self) -> GeneratorPair:
        return cast(GeneratorPair, self.net)

    def judged(
        self,
        x_t: Tensor,
        t: Tensor,
        latent: Tensor,
        judge: Callable[[Tensor, Callable[[Tensor], Tensor]], Any],
    ) -> Any:
        """Generate x_0, and evaluate a function of it and of the discriminator in the same call of the network.

        Arguments:
            x_t: noisy samples with shape (B, *event).
            t: their times with shape (B,).
            latent: z with shape (B, latent).
            judge: called with x_0 (B, *event), and the function from samples x_s (B, *event) to their log-odds (B,) of
                being data given x_t.

        Returns:
            The result of ``judge``.
        """
        dtype, marginal, t = self._dtype(x_t), self.sde.marginal(times(t)), t.double()
        x_in, c_noise = self.parametrization.inputs(x_t, marginal, t)
        label = to_device(c_noise, x_t.device, self._label_dtype(dtype)).expand(len(x_t))

        def of_output(out: Tensor, discriminator: Discriminator) -> Any:
            x0 = self.parametrization.predict(out.to(x_t.dtype), x_t, marginal).x0
            return judge(x0, lambda x_s: discriminator(x_s.to(dtype), x_t.to(dtype), label).to(x_t.dtype))

        with self.context():
            return self.net(x_in.to(dtype), label, latent=latent.to(dtype), judge=of_output)
