"""Codes of a discrete autoencoder as the model space of images."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.data.codec.base import LatentBound, Lossy
from sde_gen.data.codec.latent import PART, TrainedAutoencoder
from sde_gen.noise import Noise
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True)
class Codes(Lossy):
    r"""Codes of a discrete autoencoder, whole numbers k ~ q(k | data) on a grid: int64 with shape (B, 1, h, w).

    The weights of the autoencoder are no part of the model: its run folder and their SHA-256 name them.

    Source: Ramesh et al., 2021, arXiv:2102.12092, section 2.

    Arguments:
        autoencoder: the autoencoder, opened from the run.
        run: its run folder.
        sha256: of its weights; None until a training begins.

    Raises:
        ValueError: the autoencoder has no codes.
    """

    of_latents: ClassVar[bool] = True

    autoencoder: TrainedAutoencoder
    run: str
    sha256: str | None = None

    def __post_init__(self) -> None:
        if getattr(self.autoencoder.net, "codes", None) is None:
            raise ValueError(
                f"{type(self.autoencoder.net).__name__} in {self.run} has no codes; train model=vq_autoencoder or "
                "model=discrete_autoencoder, or use codec=latent"
            )

    @property
    def _net(self) -> Any:
        return self.autoencoder.net

    def event(self, shape: Shape) -> Shape:
        """Return the shape (1, h, w) of the codes of data with a shape.

        Raises:
            ValueError: the autoencoder is for data of another shape.
        """
        net = self._net
        if tuple(shape) != tuple(net.shape):
            raise ValueError(
                f"the autoencoder in {self.run} is for data of shape {net.shape}, the data have {tuple(shape)}: train "
                "one on data of this shape, or give data of that size"
            )
        return (1, *net.latent[1:])

    @torch.no_grad()
    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Draw codes of data; without noise, return the most probable ones."""
        return self._draw(self._log_probs(values), noise)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Map codes to data: the decoder's location in levels, or numbers for continuous data."""
        return self.autoencoder.codec.decode(self.decode_continuous(x))

    @torch.no_grad()
    def decode_image(self, x: Tensor) -> Tensor:
        """Map codes to displayable values."""
        return self.autoencoder.codec.decode_image(self.decode_continuous(x))

    def decode_continuous(self, x: Tensor) -> Tensor:
        """Map codes to the model space of the autoencoder."""
        count = max(1, PART // math.prod(self._net.shape))
        device = next(self._net.parameters()).device
        parts = [self._net.decode_codes(part[:, 0].to(device)) for part in torch.split(x, count)]
        return torch.cat(parts).to(x.device)

    @torch.no_grad()
    def bound(self, values: Tensor, noise: Noise) -> LatentBound:
        r"""Return the terms of the bound for a draw of the codes, to which log p(k) of the model adds.

        .. math:: \log p(\mathrm{data}) \ge E_q[\log p(\mathrm{data} | k) - \log q(k | \mathrm{data}) + \log p(k)]
        """
        logs = self._log_probs(values)
        k = self._draw(logs, noise)
        log_q = logs.gather(1, k).double().flatten(1).sum(1)
        return LatentBound(
            z=k,
            log_q=log_q,
            log_likelihood=self.autoencoder.log_prob(values, self._net.decode_codes(k[:, 0])),
        )

    def _log_probs(self, values: Tensor) -> Tensor:
        """Return log q(k | data) with shape (B, K, h, w)."""
        found: Tensor = self._net.log_probs(self.autoencoder.codec.encode(values).to(self.autoencoder.dtype))
        return found

    def _draw(self, logs: Tensor, noise: Noise | None) -> Tensor:
        """Draw codes (B, 1, h, w) by the largest sum of log-probability and Gumbel noise."""
        if noise is not None:
            logs = logs - torch.log(-torch.special.log_ndtr(noise.normal(logs)))
        return logs.argmax(1, keepdim=True)
