"""The abstract autoencoder with discrete latents."""

import abc

from torch import Tensor

from sde_gen.model.autoencoder.base import Autoencoder


class CodeAutoencoder(Autoencoder):
    """An autoencoder with one of K codes at every place of the latent grid.

    Attributes:
        codes: number of codes, K.
    """

    codes: int

    @abc.abstractmethod
    def log_probs(self, x: Tensor) -> Tensor:
        """Return log q(k | x) in nats with shape (B, K, h, w), for data in model space (B, *event).

        Of a deterministic encoder it is 0 for one code of every place, and minus infinity for the others.
        """

    @abc.abstractmethod
    def decode_codes(self, k: Tensor) -> Tensor:
        """Return the location of p(x | k) with shape (B, *event), for codes int64 with shape (B, h, w)."""
