"""Abstract base class of dequantizations."""

import abc
from typing import NamedTuple

from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.noise import Noise
from sde_gen.utils.arguments import Checked


class Dequantized(NamedTuple):
    """Points drawn from q(x | data).

    Arguments:
        x: in model space with shape (B, *event).
        log_q: log q(x | data) in nats, float64 with shape (B,). For continuous data it is minus the codec's
            log-determinant, so that the same formula gives their density.
        t: time of the process at which to evaluate the density of x.
    """

    x: Tensor
    log_q: Tensor
    t: float


class Dequantization(Checked, abc.ABC):
    r"""A distribution q(x | data) of continuous points for discrete data.

    .. math::
        \log P(k) \ge E_{x \sim q(x | k)} [\log p_t(x) - \log q(x | k)] ,

    an equality where q(x | k) is proportional to p_t(x) on the bin of k.

    Sources: Theis et al., 2016, arXiv:1511.01844, section 3.1 (uniform q); Ho et al., 2019, arXiv:1902.00275,
    section 3.1 (any q).
    """

    @abc.abstractmethod
    def __call__(self, denoiser: Denoiser, values: Tensor, codec: Codec, noise: Noise) -> Dequantized:
        """Draw one point per sample.

        Arguments:
            denoiser: the model, conditioning bound, for its process and, where q depends on them, its predictions.
            values: data with shape (B, *event), integer levels or continuous.
            codec: from data to model space.
            noise: source of the draws.
        """

    def clean(self, values: Tensor, codec: Codec, noise: Noise) -> tuple[Tensor, Tensor]:
        """Draw points of the clean data, before any noise of the process: x and log_q.

        Raises:
            ValueError: this distribution adds noise of the process to the data.
        """
        del values, codec, noise
        raise ValueError(
            f"{type(self).__name__} returns points with noise of the process, but this bound adds noise to "
            "clean data; take dequantization=uniform or variational"
        )
