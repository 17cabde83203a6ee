"""Bits per dimension of the probability flow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.evaluation.metric.base import Metric, MetricResult
from sde_gen.likelihood import bits_per_dim, log_prob
from sde_gen.likelihood.divergence import Divergence
from sde_gen.noise import Noise, PerSample, spawn_seeds
from sde_gen.ode.base import Integrator

REDRAWN, ODE = ("dequantization", "probes"), "ODE"
"""Names of the parts of the error."""


@dataclass(frozen=True, kw_only=True)
class BitsPerDim(Metric):
    r"""Bits per dimension by the probability flow, with one uniform dequantization of every image.

    Some images are looked at more closely, to tell the parts of the error of the mean. With b(u, v) the number that
    comes of the dequantization u and the probes v, and other draws u' and v',

    .. math::
        e_u^2 = \tfrac12 (b(u, v) - b(u', v))^2, \qquad e_v^2 = \tfrac12 (b(u, v) - b(u, v'))^2

    are unbiased for the variances of b in u and in v (what they do together is in both). The error of the ODE is
    told by a finer solve, of the same image by the same probes, kept for the whole solve: their errors are the same
    in both, so the difference has none of them.

    Source: Song et al., 2021, arXiv:2011.13456, appendix D.2.

    Arguments:
        integrator: method for the ODE.
        divergence: exact or estimated.
        closer: one image out of so many, drawn by its seed, is looked at more closely, with five or six solves in place
            of one; None looks at none.

    Raises:
        ValueError: closer is below 1.
    """

    integrator: Integrator
    divergence: Divergence
    closer: int | None = 16
    what: ClassVar[str] = "probability-flow code length, uniform dequantization"
    unit: ClassVar[str] = "bits/dim"

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if self.closer is not None and (type(self.closer) is not int or self.closer < 1):
            raise ValueError(
                f"closer={self.closer!r} must be a whole number from 1 on, or null for no closer look"
            )

    @property
    def batch_coupled(self) -> bool:
        """Whether the integrator couples them."""
        return self.integrator.batch_coupled

    def __call__(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int]
    ) -> MetricResult:
        """Dequantize, solve and convert; look closer at some."""
        noise = PerSample(seeds)
        x = codec.encode(values, noise)
        found = self._bits(denoiser, x, codec, noise)
        if self.closer is None:
            return MetricResult(value=found)
        index = torch.tensor([i for i, seed in enumerate(seeds) if seed % self.closer == 0], dtype=torch.long)
        near = index.to(x.device)
        parts = self._parts(
            denoiser.select(index, len(x)),
            values[near],
            codec,
            [seeds[i] for i in index.tolist()],
            found[near],
        )
        unknown = torch.full_like(found, torch.nan)
        whole = {name: unknown.index_copy(0, near, part) for name, part in parts.items()}
        return MetricResult(
            value=found, random_errors={name: whole[name] for name in REDRAWN}, biases={ODE: whole[ODE]}
        )

    def _parts(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int], found: Tensor
    ) -> dict[str, Tensor]:
        """Parts of the errors of these images, with shape (b,)."""
        if not seeds:
            return {name: found for name in (*REDRAWN, ODE)}
        other = [spawn_seeds(seed, 1)[0] for seed in seeds]
        same, other_noise = PerSample(seeds), PerSample(other)
        x = codec.encode(values, same)  # what same draws next are the probes of before
        x_other = codec.encode(values, other_noise)
        spread = {"dequantization": (found - self._bits(denoiser, x_other, codec, same)).abs() / 2**0.5}
        spread["probes"] = torch.zeros_like(found)
        if self.divergence.random:
            spread["probes"] = (found - self._bits(denoiser, x, codec, other_noise)).abs() / 2**0.5
        coarse, fine = (
            self._bits(
                denoiser,
                x,
                codec,
                PerSample(other),
                integrator=integrator,
                divergence=self.divergence.with_fixed_probes(),
            )
            for integrator in (self.integrator, self.integrator.refine())
        )
        return {**spread, ODE: coarse - fine}

    def _bits(
        self,
        denoiser: Denoiser,
        x: Tensor,
        codec: Codec,
        noise: Noise,
        *,
        integrator: Integrator | None = None,
        divergence: Divergence | None = None,
    ) -> Tensor:
        found = log_prob(
            denoiser,
            x,
            integrator=integrator or self.integrator,
            divergence=divergence or self.divergence,
            noise=noise,
        )
        return bits_per_dim(found.nats, x, codec)
