"""Decoders: the distribution of the data given x_t at the last time of a bound."""

import abc
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser.prediction import Prediction
from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import sum_event


class Decoder(Checked, abc.ABC):
    """A distribution p(x_0 | x_t) at the last time t of a bound, as a density in model space.

    A probability of a level counts as the density that is constant on the level's bin, so bits per dimension
    of every decoder come from the one formula with the codec's log-determinant.
    """

    def of_chain(self, sde: SDE, times: Tensor, nu: float | None) -> "Decoder":
        """Return the decoder that ends a chain of steps.

        Arguments:
            sde: the process.
            times: descending grid of the chain, float64 with shape (T + 1,).
            nu: variance of the steps, as in :func:`~sde_gen.likelihood.discrete_vlb`.
        """
        del sde, times, nu
        return self

    @abc.abstractmethod
    def log_prob(self, prediction: Prediction, x0: Tensor) -> Tensor:
        """Evaluate the log-density.

        Arguments:
            prediction: prediction of the denoiser at x_t.
            x0: the data in model space with shape (B, *event).

        Returns:
            log p(x0 | x_t) in nats, float64 with shape (B,).
        """


@dataclass(frozen=True, kw_only=True)
class GaussianDecoder(Decoder):
    r"""A density for continuous and for dequantized data.

    .. math::
        p(x_0 | x_t) = N(x_0;\; \hat x_0(x_t),\; \sigma_t^2 / \alpha_t^2)

    Exact up to terms of the order of sigma^2, for data with a density that is smooth on that scale.

    Source: Song et al., 2021, arXiv:2101.09258.
    """

    def log_prob(self, prediction: Prediction, x0: Tensor) -> Tensor:
        """Return log N(x0; x0_hat, sigma^2 / alpha^2)."""
        std = (prediction.sigma / prediction.alpha).double()
        z = (x0 - prediction.x0).double() / std
        return sum_event(-0.5 * z**2 - torch.log(std) - 0.5 * math.log(2 * math.pi))


@dataclass(frozen=True, kw_only=True)
class DiscretizedGaussian(Decoder):
    r"""The mass that a Gaussian about the prediction gives to the bin of a level.

    .. math::
        P(k | x_t) = \int_{\mathrm{bin}\ k} N(x;\; \hat x_0(x_t),\; \sigma_t^2 / \alpha_t^2)\, dx

    The bins of the first and the last level reach to infinity.

    Source: Ho et al., 2020, arXiv:2006.11239, eq. 13, there with the standard deviation of the last step.

    Arguments:
        codec: codec that defines the bins.
    """

    codec: Codec

    def log_prob(self, prediction: Prediction, x0: Tensor) -> Tensor:
        """Return the log-mass of every pixel's bin, accurate in the tails."""
        std = self.std(prediction)
        mean = prediction.x0.double()
        low, high = (_standardized(edge, mean, std) for edge in self.codec.bins(x0))
        # of a bin and its mirror image, take the one in the lower tail, where log_ndtr keeps all digits
        low, high = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)
        top, bottom = _log_ndtr(high), _log_ndtr(low)
        mass = top + torch.log(-torch.expm1(bottom - top))
        return sum_event(mass) - self.codec.log_det(x0)

    def std(self, prediction: Prediction) -> Tensor:
        """Standard deviation of the Gaussian, float64 and broadcastable against x0."""
        return (prediction.sigma / prediction.alpha).double()


@dataclass(frozen=True, kw_only=True)
class LastStep(DiscretizedGaussian):
    r"""Discretized Gaussian with the variance of the chain's steps, extended to the step to clean data.

    Of a chain with the times t_{T-1}, t_T at its end, the last step to clean data has

    .. math::
        \log \sigma_p^2 = (1 - \nu) \log \mathrm{Var}[x_{t_T} | x_{t_{T-1}}, x_0] + \nu \log (\sigma_{t_T}^2) ,

    where the variance of the preceding step replaces the posterior variance, which is zero. With DDPM's chain and its
    grid this is the decoder of guided-diffusion: fixed small variances are nu = 0, learned ones nu = None. Their fixed
    large variance has nu = 0 in this step only. There the Gaussian's distribution function is approximated by a
    hyperbolic tangent and masses are at least 1e-12; here both are exact.

    Sources: Ho et al., 2020, arXiv:2006.11239, eq. 13; Nichol and Dhariwal, 2021, arXiv:2102.09672, eq. 15, and their
    code (``_vb_terms_bpd``).

    Arguments:
        codec: codec that defines the bins.
        posterior_std: standard deviation for nu = 0; None until :meth:`of_chain` sets it.
        nu: interpolation weight of the log-variance; None uses the one predicted by the denoiser.

    Raises:
        ValueError: when evaluated, posterior_std is None.
    """

    posterior_std: float | None = None
    nu: float | None = 0.0

    def of_chain(self, sde: SDE, times: Tensor, nu: float | None) -> Decoder:
        """Return the decoder with the variance of the last step."""
        return replace(self, posterior_std=float(sde.posterior(times[-2], times[-1]).std), nu=nu)

    def std(self, prediction: Prediction) -> Tensor:
        """Return the standard deviation of the last step."""
        if self.posterior_std is None:
            raise ValueError("posterior_std=None: give a number, or take the decoder from LastStep.of_chain")
        nu = prediction.nu.double() if self.nu is None else self.nu
        log_least, log_most = math.log(self.posterior_std), torch.log(prediction.sigma.double())
        return torch.exp((1 - nu) * log_least + nu * log_most)


@dataclass(frozen=True, kw_only=True)
class Categorical(Decoder):
    r"""Per-pixel posterior of a level given its noisy value, under a uniform prior of the levels.

    .. math::
        P(k | x_t) = \prod_i \frac{N(x_{t,i};\; \alpha_t c_{k_i},\; \sigma_t^2)}
                                  {\sum_j N(x_{t,i};\; \alpha_t c_j,\; \sigma_t^2)},
        \qquad c_j \text{ the middle of bin } j

    Source: Kingma et al., 2021, arXiv:2107.00630, section 3.

    Arguments:
        codec: codec that defines the bins.
    """

    codec: Codec

    def log_prob(self, prediction: Prediction, x0: Tensor) -> Tensor:
        """Return the log-softmax over all levels, accumulated level by level."""
        std = (prediction.sigma / prediction.alpha).double()
        y = (prediction.x_t / prediction.alpha).double()
        middles = self.codec.middles()
        middle = middles.to(x0.device)[self.codec.decode(x0)]
        total = torch.full_like(y, -math.inf)
        for center in middles.tolist():
            total = torch.logaddexp(total, -0.5 * ((y - center) / std) ** 2)
        mass = -0.5 * ((y - middle) / std) ** 2 - total
        return sum_event(mass) - self.codec.log_det(x0)


def _standardized(edge: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (edge - mean) / std; an infinite edge stays what it is, without a gradient, which would be NaN."""
    finite = torch.isfinite(edge)
    return torch.where(finite, (torch.where(finite, edge, 0.0) - mean) / std, edge)


def _log_ndtr(z: Tensor) -> Tensor:
    """Return the logarithm of the normal distribution function, with gradient zero at infinite z."""
    finite = torch.isfinite(z)
    return torch.where(
        finite, torch.special.log_ndtr(torch.where(finite, z, 0.0)), torch.where(z > 0, 0.0, -math.inf)
    )
