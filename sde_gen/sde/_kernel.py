"""The kernel of a process defined by drift and diffusion."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.sde import _quadrature
from sde_gen.utils.types import TimeFunction

TOLERANCE = 1e-7
"""Largest error of log(alpha), and relative error of sigma^2, that a kernel is made with."""


@dataclass(frozen=True)
class Kernel:
    """Alpha and sigma of dx = f(t) x dt + g(t) dw, by integrals on panels of time.

    On the panel from a to b: alpha(t) = alpha(a) exp(F(t)), sigma^2(t) = exp(2 F(t)) (sigma^2(a) + G(t)),
    with the integrals F of f and G of g^2 exp(-2 F) from a: nothing overflows, whatever alpha.

    Arguments:
        log_alpha_left: log(alpha) at the edges of the panels.
        variance_left: sigma^2 there.
        rate: F.
        noise: G.
    """

    log_alpha_left: Tensor
    variance_left: Tensor
    rate: _quadrature.Integral
    noise: _quadrature.Integral

    @classmethod
    def of(
        cls, drift_rate: TimeFunction, diffusion: TimeFunction, sigma0: float, breakpoints: Sequence[float]
    ) -> "Kernel":
        """Integrate.

        Arguments:
            drift_rate: f.
            diffusion: g.
            sigma0: sigma at t = 0.
            breakpoints: times in (0, 1) where f, g or a derivative jumps.

        Raises:
            ValueError: f or g returns another shape, a value that is not finite or a g that is not positive, or is
                too rough to be integrated.
        """
        edges = _quadrature.panels(breakpoints)
        nodes = _quadrature.nodes(edges)
        f, g = _values("drift_rate", drift_rate, nodes), _values("diffusion", diffusion, nodes)
        if not bool((g > 0).all()):
            where = float(nodes.flatten()[g.argmin()])
            raise ValueError(
                f"diffusion must be positive on (0, 1); at t={where:.6g} it is {float(g.min()):.6g}"
            )
        rate = _quadrature.Integral.of(edges, f)
        panel = torch.arange(len(nodes))[:, None].expand_as(nodes)
        noise = _quadrature.Integral.of(edges, g**2 * torch.exp(-2 * rate(panel, nodes)))
        variance = [sigma0**2]
        for growth, gain in zip(torch.exp(2 * rate.totals()).tolist(), noise.totals().tolist(), strict=True):
            variance.append(growth * (variance[-1] + gain))
        log_alpha = torch.cat([torch.zeros(1, dtype=torch.float64), rate.totals().cumsum(0)])
        kernel = cls(log_alpha, torch.tensor(variance, dtype=torch.float64), rate, noise)
        kernel.check()
        return kernel

    def check(self) -> None:
        """Raise ValueError if the integrals are not accurate."""
        rate = float(self.rate.errors.sum())
        noise = float((self.noise.errors / (self.variance_left[:-1] + self.noise.totals())).max())
        if not (rate <= TOLERANCE and noise <= TOLERANCE):
            raise ValueError(
                "drift_rate and diffusion are too rough to integrate: "
                f"errors {rate:.1e} in log(alpha) and {noise:.1e} in the noise, "
                f"more than {TOLERANCE:.0e}; name the times where they jump or kink in breakpoints"
            )

    def alpha(self, t: Tensor) -> Tensor:
        """Alpha at times of any shape, float64."""
        panel = _quadrature.locate(self.rate.edges, t)
        return torch.exp(self.log_alpha_left.to(t.device)[panel] + self.rate(panel, t))

    def sigma(self, t: Tensor) -> Tensor:
        """Sigma at times of any shape, float64."""
        panel = _quadrature.locate(self.rate.edges, t)
        return torch.exp(self.rate(panel, t)) * torch.sqrt(self._grown(panel, t))

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2) at times of any shape, float64; F falls out."""
        panel = _quadrature.locate(self.rate.edges, t)
        return 2 * self.log_alpha_left.to(t.device)[panel] - torch.log(self._grown(panel, t))

    def _grown(self, panel: Tensor, t: Tensor) -> Tensor:
        """Return ``sigma^2(a) + G(t)``, with a the left edge of the panel."""
        variance = self.variance_left.to(t.device)[panel] + self.noise(panel, t)
        return variance.clamp(min=0)  # rounding at t = 0


def _values(name: str, function: TimeFunction, t: Tensor) -> Tensor:
    values = function(t)
    if not isinstance(values, Tensor) or values.shape != t.shape:
        got = tuple(values.shape) if isinstance(values, Tensor) else repr(values)
        raise ValueError(
            f"{name} must return a tensor of the shape of its times, {tuple(t.shape)}, got {got}; "
            "for a constant c write c * torch.ones_like(t)"
        )
    if not bool(torch.isfinite(values).all()):
        where = float(t[~torch.isfinite(values)].min())
        raise ValueError(f"{name} is not finite at t={where:.6g}; it must be on (0, 1)")
    return values.double()
