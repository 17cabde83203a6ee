"""Bits per dimension of the probability flow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.evaluation.metric.base import Metric, MetricResult
from sde_gen.likelihood import bits_per_dim, log_prob
from sde_gen.likelihood.divergence import Divergence
from sde_gen.noise import Noise, PerSample, spawn_seeds
from sde_gen.ode.base import Integrator

RANDOM_ERRORS, ODE = ("dequantization", "probes"), "ODE"
"""Names of the components of the error."""


class Draws(NamedTuple):
    """Random numbers of one evaluation.

    Arguments:
        x: dequantized samples in model space with shape (B, *event).
        probes: noise source of the divergence's probes.
    """

    x: Tensor
    probes: Noise


def draw(values: Tensor, codec: Codec, seeds: Sequence[int]) -> Draws:
    """Dequantize data; every stream continues with the probes after the dequantization."""
    noise = PerSample(seeds)
    return Draws(codec.encode(values, noise), noise)


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

    def __call__(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int]
    ) -> MetricResult:
        """Dequantize, solve and convert; estimate the errors on a subset."""
        x, probes = draw(values, codec, seeds)
        bits = self._bits(denoiser, x, codec, probes)
        if self.diagnose_every is None:
            return MetricResult(value=bits)
        index = torch.tensor(
            [i for i, seed in enumerate(seeds) if seed % self.diagnose_every == 0], dtype=torch.long
        )
        subset = index.to(x.device)
        components = self._error_components(
            denoiser.select(index, len(x)),
            values[subset],
            codec,
            [seeds[i] for i in index.tolist()],
            bits[subset],
        )
        unknown = torch.full_like(bits, torch.nan)
        errors = {name: unknown.index_copy(0, subset, part) for name, part in components.items()}
        return MetricResult(
            value=bits,
            random_errors={name: errors[name] for name in RANDOM_ERRORS},
            biases={ODE: errors[ODE]},
        )

    def _error_components(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int], bits: Tensor
    ) -> dict[str, Tensor]:
        """Return the error components of these images, with shape (b,)."""
        if not seeds:
            return {name: bits for name in (*RANDOM_ERRORS, ODE)}
        other_seeds = [spawn_seeds(seed, 1)[0] for seed in seeds]
        first, other = draw(values, codec, seeds), draw(values, codec, other_seeds)
        b_other_u = self._bits(denoiser, other.x, codec, first.probes)
        e_u = (bits - b_other_u).abs() / 2**0.5
        e_v = torch.zeros_like(bits)
        if self.divergence.random:
            b_other_v = self._bits(denoiser, first.x, codec, other.probes)
            e_v = (bits - b_other_v).abs() / 2**0.5
        coarse, fine = (
            self._bits(
                denoiser,
                first.x,
                codec,
                PerSample(other_seeds),
                integrator=integrator,
                divergence=self.divergence.with_fixed_probes(),
            )
            for integrator in (self.integrator, self.integrator.refine())
        )
        return {"dequantization": e_u, "probes": e_v, ODE: coarse - fine}

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
        result = log_prob(
            denoiser,
            x,
            integrator=integrator or self.integrator,
            divergence=divergence or self.divergence,
            noise=noise,
        )
        return bits_per_dim(result.nats, x, codec)
