"""Times by importance for the likelihood, on the whole way to pure noise."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class Log1pSNR(TimeSampler):
    r"""Times uniform in log(1 + SNR), twice the information that x_t has of unit Gaussian data.

    .. math::
        \rho(t) \propto \frac{g^2}{\sigma^2} \frac{\mathrm{SNR}}{1 + \mathrm{SNR}}
        = -\frac{d}{dt} \log(1 + \mathrm{SNR})

    Of data N(0, I) the best prediction's error is SNR / (1 + SNR) per dimension, so every drawn time then
    counts alike in the likelihood's bound. Unlike g^2 / sigma^2 alone it has a finite integral where the
    log-SNR at t = 1 is -infinity.

    Source: the error of Gaussian data from the information: Guo et al., 2005, IEEE Trans. Inf. Theory 51(4), eq. 9.
    """

    def times(self, sde: SDE, u: Tensor) -> Tensor:
        """Interpolate log(1 + SNR)."""
        first, last = self._ends(sde)
        information = first + (last - first) * u
        log_snr = information + torch.log(-torch.expm1(-information))  # log(exp(information) - 1)
        return sde.t_from_log_snr(log_snr).clamp(sde.t_min, 1.0)  # rounding

    def density(self, sde: SDE, t: Tensor) -> Tensor:
        """g^2 / sigma^2 SNR / (1 + SNR) over its integral."""
        first, last = self._ends(sde)
        rate = (sde.diffusion(t) / sde.sigma(t)) ** 2
        return rate * torch.sigmoid(sde.log_snr(t)) / (first - last)

    def _ends(self, sde: SDE) -> tuple[Tensor, Tensor]:
        """log(1 + SNR) at t_min and 1, shape (), on the CPU: no wait for a GPU."""
        first, last = F.softplus(sde.log_snr(torch.tensor([sde.t_min, 1.0], dtype=torch.float64)))
        return first, last
