"""Uniform dequantization of integer levels."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.likelihood.dequantization.base import Dequantization, Dequantized
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True)
class UniformDequantization(Dequantization):
    """x uniform on the bin of its level, as the codec encodes for training; continuous data as they are.

    The density at the process's t_min is evaluated at clean points, which is accurate if sigma / alpha there is far
    below the width of a bin; :class:`~sde_gen.likelihood.dequantization.Noised` does not need this.

    Source: Theis et al., 2016, arXiv:1511.01844, section 3.1.
    """

    def __call__(self, denoiser: Denoiser, values: Tensor, codec: Codec, noise: Noise) -> Dequantized:
        """Encode the levels with uniform noise on the bin."""
        return Dequantized(*self.clean(values, codec, noise), denoiser.sde.t_min)

    def clean(self, values: Tensor, codec: Codec, noise: Noise) -> tuple[Tensor, Tensor]:
        """Encode with noise; the density of a bin is one over its size."""
        x = codec.encode(values, noise)
        return x, -codec.log_det(x)
