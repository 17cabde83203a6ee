"""Bits per dimension of the probability flow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.evaluation.metric.base import Metric, MetricResult
from sde_gen.likelihood import log_prob, nats_to_bits
from sde_gen.likelihood.divergence import Divergence
from sde_gen.noise import Noise, PerSample, spawn_seeds
from sde_gen.ode.base import Integrator

ODE = "ODE"
"""Name of the error of the integrator."""


class Draws(NamedTuple):
    """Random numbers of one evaluation.

    Arguments:
        x: dequantized samples in model space with shape (B, *event).
        probes: noise source of the divergence's probes.
        nats: what is added to log p(x) in model space, with shape (B,).
    """

    x: Tensor
    probes: Noise
    nats: Tensor


@dataclass(frozen=True, kw_only=True)
class BitsPerDim(Metric):
    r"""Bits per dimension by the probability flow, with one uniform dequantization of every image.

    The components of the error of the mean are estimated on a subset of the images. With b(u, v) the value for the
    dequantization u and the probes v, and independent draws u' and v',

    .. math::
        e_u^2 = \tfrac12 (b(u, v) - b(u', v))^2, \qquad e_v^2 = \tfrac12 (b(u, v) - b(u, v'))^2

    are unbiased for the variances of b in u and in v (their interaction is in both). The error of the ODE is
    estimated by a finer solve of the same image with the same probes, fixed for the whole solve, so that the errors of
    the probes cancel in the difference.

    Source: Song et al., 2021, arXiv:2011.13456, appendix D.2.

    Arguments:
        integrator: method for the ODE.
        divergence: exact or estimated.
        diagnose_every: images per image on which errors are estimated, selected by its seed, at the cost of five or six
            solves instead of one; None estimates none.

    Raises:
        ValueError: diagnose_every is below 1.
    """

    integrator: Integrator
    divergence: Divergence
    diagnose_every: int | None = 16
    what: ClassVar[str] = "probability-flow code length, uniform dequantization"
    unit: ClassVar[str] = "bits/dim"
    drawn: ClassVar[str] = "dequantization"
    """Name of the error of the draw of x."""

    def __post_init__(self) -> None:
        every = self.diagnose_every
        if every is not None and (type(every) is not int or every < 1):
            raise ValueError(
                f"diagnose_every={every!r} must be a whole number from 1 on, or null to estimate no errors"
            )

    @property
    def batch_coupled(self) -> bool:
        """Return whether the integrator couples the samples of a batch."""
        return self.integrator.batch_coupled

    def draw(self, values: Tensor, codec: Codec, seeds: Sequence[int]) -> Draws:
        """Dequantize data; every stream continues with the probes after the dequantization."""
        noise = PerSample(seeds)
        x = codec.encode(values, noise)
        return Draws(x, noise, codec.log_det(x))

    def __call__(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int]
    ) -> MetricResult:
        """Dequantize, solve and convert; estimate the errors on a subset."""
        first = self.draw(values, codec, seeds)
        bits = self._bits(denoiser, first, values, first.probes)
        if self.diagnose_every is None:
            return MetricResult(value=bits)
        index = torch.tensor(
            [i for i, seed in enumerate(seeds) if seed % self.diagnose_every == 0], dtype=torch.long
        )
        subset = index.to(first.x.device)
        components = self._error_components(
            denoiser.select(index, len(values)),
            values[subset],
            codec,
            [seeds[i] for i in index.tolist()],
            bits[subset],
        )
        unknown = torch.full_like(bits, torch.nan)
        errors = {name: unknown.index_copy(0, subset, part) for name, part in components.items()}
        return MetricResult(
            value=bits,
            random_errors={name: errors[name] for name in (self.drawn, "probes")},
            biases={ODE: errors[ODE]},
        )

    def _error_components(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int], bits: Tensor
    ) -> dict[str, Tensor]:
        """Return the error components of these images, with shape (b,)."""
        if not seeds:
            return {name: bits for name in (self.drawn, "probes", ODE)}
        other_seeds = [spawn_seeds(seed, 1)[0] for seed in seeds]
        first, other = self.draw(values, codec, seeds), self.draw(values, codec, other_seeds)
        b_other_u = self._bits(denoiser, other, values, first.probes)
        e_u = (bits - b_other_u).abs() / 2**0.5
        e_v = torch.zeros_like(bits)
        if self.divergence.random:
            b_other_v = self._bits(denoiser, first, values, other.probes)
            e_v = (bits - b_other_v).abs() / 2**0.5
        coarse, fine = (
            self._bits(
                denoiser,
                first,
                values,
                PerSample(other_seeds),
                integrator=integrator,
                divergence=self.divergence.with_fixed_probes(),
            )
            for integrator in (self.integrator, self.integrator.refine())
        )
        return {self.drawn: e_u, "probes": e_v, ODE: coarse - fine}

    def _bits(
        self,
        denoiser: Denoiser,
        draws: Draws,
        values: Tensor,
        noise: Noise,
        *,
        integrator: Integrator | None = None,
        divergence: Divergence | None = None,
    ) -> Tensor:
        result = log_prob(
            denoiser,
            draws.x,
            integrator=integrator or self.integrator,
            divergence=divergence or self.divergence,
            noise=noise,
        )
        return nats_to_bits(-(result.nats + draws.nats), values)
