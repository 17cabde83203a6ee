"""A generator and a discriminator as one network."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Discriminator(nn.Module):
    r"""The log-odds of data against generated samples, of a classifier of two classes.

    The classifier sees the sample and the noisier one that it came from as channels of one event.

    Arguments:
        classifier: a module ``net(x, c_noise)`` from (B, 2 C, *sides) and (B,) to logits (B, 2).
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x_s: Tensor, x_t: Tensor, c_noise: Tensor) -> Tensor:
        """Return the log-odds (B,) that x_s (B, *event) is data, given x_t (B, *event) and its noise labels (B,)."""
        generated, data = self.classifier(torch.cat([x_s, x_t], 1), c_noise).unbind(1)
        odds: Tensor = data - generated
        return odds


class GeneratorPair(nn.Module):
    """A generator, and the discriminator of its samples beside it, which no sampling needs.

    Both are children of one network, so that optimizer, averages and checkpoints hold them as any other. A training
    computes everything in one call, as processes that share a batch require, by the function ``judge``.

    Arguments:
        generator: a network ``net(x, c_noise, vector=..., **cond)`` of any kind that is given vectors.
        discriminator: function from event shape and number of classes, ``shape`` and ``num_classes``, to a classifier.
        shape: event shape of the samples.
        latent: length of the latent z.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: Callable[..., nn.Module],
        shape: Sequence[int],
        latent: int,
    ) -> None:
        super().__init__()
        self.latent = latent
        self.generator = generator
        pair = (2 * shape[0], *shape[1:])
        self.discriminator = Discriminator(discriminator(shape=pair, num_classes=2))

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        *,
        latent: Tensor,
        judge: Callable[[Tensor, Discriminator], Any] | None = None,
    ) -> Any:
        """Apply the generator.

        Arguments:
            x: noisy samples with shape (B, *event).
            c_noise: their noise labels with shape (B,).
            latent: z with shape (B, latent).
            judge: called with the output and the discriminator; its result is returned in place of the output.

        Returns:
            The output with shape (B, *event), or the result of ``judge``.
        """
        out: Tensor = self.generator(x, c_noise, vector=latent)
        return out if judge is None else judge(out, self.discriminator)
