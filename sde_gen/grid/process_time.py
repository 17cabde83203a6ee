"""Equal steps of the time of another process."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.grid.base import RatioGrid
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class ProcessTime(RatioGrid):
    r"""Noise-to-signal ratios of another process in equal steps of its time.

    .. math::
        \lambda = \lambda'\big(\tau_{max} + u (\tau_{min} - \tau_{max})\big), \qquad
        \lambda'(\tau_{max}) = \lambda(t_{max}), \quad \lambda'(\tau_{min}) = \lambda(t_{min}),

    where the prime is the other process. Its time may run beyond [0, 1] where its formulae do.

    Source: Karras et al., 2022, arXiv:2206.00364, table 1: the time steps of their columns VP and VE are those of
    these processes, and appendix C carries them to any network. In VE's time the ratio is geometric, so that
    column is equal steps of the log-SNR.

    Arguments:
        process: the other process.
    """

    process: SDE

    def log_snrs(self, first: Tensor, last: Tensor, u: Tensor) -> Tensor:
        """Interpolate the time of the other process."""
        tau_first, tau_last = self.process.t_from_log_snr(first), self.process.t_from_log_snr(last)
        return self.process.log_snr(tau_first + u * (tau_last - tau_first))
