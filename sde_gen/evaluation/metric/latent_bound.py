"""Bits per dimension of a model of latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.evaluation.metric.bpd import BitsPerDim, Draws
from sde_gen.noise import PerSample


@dataclass(frozen=True, kw_only=True)
class LatentBits(BitsPerDim):
    r"""An upper bound on the bits per dimension of the data, of an autoencoder and a model of its latents.

    .. math::
        -\log p(y) \le E_{q(z | y)}[-\log p(y | z) + \log q(z | y) - \log p(z)]

    log p(z) is the log-density of the latents under the probability flow; all else is of the autoencoder, whose own
    bound has N(0, I) in its place. Errors are estimated as those of :class:`BitsPerDim`.

    Source: Vahdat et al., 2021, arXiv:2106.05931, eq. 1 and appendix G.

    Arguments:
        integrator: method for the ODE.
        divergence: exact or estimated.
        diagnose_every: errors are estimated on one image in ``diagnose_every``, chosen by seed; None estimates none.

    Raises:
        ValueError: diagnose_every is below 1; or later the codec has no latents with a density.
    """

    what: ClassVar[str] = "bound with the probability flow of latents"
    drawn: ClassVar[str] = "latents"
    of_latents: ClassVar[bool] = True

    def draw(self, values: Tensor, codec: Codec, seeds: Sequence[int]) -> Draws:
        """Draw latents; every stream continues with the probes after the latents."""
        noise = PerSample(seeds)
        terms = codec.bound(values, noise)
        return Draws(terms.z, noise, terms.log_likelihood - terms.log_q)
