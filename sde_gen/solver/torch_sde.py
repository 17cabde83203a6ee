"""Methods of torchsde on the reverse-time SDE."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torchsde
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.dynamics import ReverseSDE
from sde_gen.noise import Noise
from sde_gen.solver._validation import require_descent, require_eta, require_finite_diffusion
from sde_gen.solver.base import StepSolver
from sde_gen.utils.broadcasting import broadcast_like

METHODS = {"euler": ("ito", 1, 1), "heun": ("stratonovich", 2, 2), "midpoint": ("stratonovich", 2, 2)}
"""Calculus, evaluations per step and weak order of a method; the calculi agree, since g depends only on t."""


@dataclass(frozen=True, kw_only=True)
class TorchSDE(StepSolver[None]):
    r"""A method of the torchsde package on the reverse-time SDE, one of its steps per step of the grid.

    torchsde runs forward in time over states (B, D). Each step is carried to the unit interval by
    t(tau) = t + tau (s - t), where

    .. math::
        dx = (s - t) f_\eta(x, t(\tau))\, d\tau + \sqrt{t - s}\; \eta\, g(t(\tau))\, dw_\tau,

    so that the only Brownian increment that it queries is the one over [0, 1], given by the noise source.

    Sources: Li et al., 2020, arXiv:2001.01328, https://github.com/google-research/torchsde;
    the SDE: :class:`~sde_gen.denoiser.ReverseSDE`.

    Arguments:
        method: euler (weak order 1), heun or midpoint (weak order 2).
        eta: strength of the noise; 1 is the reverse of the forward process.

    Raises:
        ValueError: unknown method, or eta is not positive.
    """

    method: str = "heun"
    eta: float = 1.0
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is unknown; choose one of {', '.join(METHODS)}")
        require_eta(self.eta)
        if self.eta == 0:
            raise ValueError("eta=0 puts no noise back; without noise use solver torch_diffeq")

    @property
    def order(self) -> int:
        """Weak order of the method."""
        return METHODS[self.method][2]

    def nfe(self, steps: int) -> int:
        """Return the number of evaluations of the denoiser in the given number of steps."""
        return METHODS[self.method][1] * steps

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError for ascending times, or where g is infinite at the first time."""
        require_descent(type(self).__name__, times)
        require_finite_diffusion(type(self).__name__, model, times[0])

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """Solve the SDE from t to s by one step of the method."""
        unit = torch.tensor([0.0, 1.0], dtype=torch.float64)
        flat = x_t.reshape(len(x_t), math.prod(x_t.shape[1:]))
        interval = _Interval(ReverseSDE(model, self.eta), METHODS[self.method][0], x_t, t, s)
        path = torchsde.sdeint(
            interval, flat, unit, bm=_Increment(noise, x_t, t, s), method=self.method, dt=1.0
        )
        x_s: Tensor = path[-1].reshape(x_t.shape)
        return x_s, state


class _Interval:
    """The reverse-time SDE between two times, with the interface of torchsde."""

    noise_type = "diagonal"

    def __init__(self, reverse: ReverseSDE, sde_type: str, x: Tensor, t: Tensor, s: Tensor) -> None:
        self.reverse, self.sde_type, self.x, self.t, self.s = reverse, sde_type, x, t, s
        self.last: tuple[float, Tensor, Tensor] | None = None

    def f(self, tau: Tensor, y: Tensor) -> Tensor:
        """Drift with shape (B, D); cached, because torchsde evaluates it twice at the start."""
        if self.last is None or self.last[0] != float(tau) or self.last[1] is not y:
            drift = self.reverse.drift(y.reshape(self.x.shape), self._time(tau)).reshape(y.shape)
            self.last = float(tau), y, (self.s - self.t) * drift
        return self.last[2]

    def g(self, tau: Tensor, y: Tensor) -> Tensor:
        """Diffusion with shape (B, D)."""
        g = torch.sqrt(self.t - self.s) * self.reverse.diffusion(self._time(tau))
        return (broadcast_like(g, self.x) * torch.ones_like(self.x)).reshape(y.shape)

    def _time(self, tau: Tensor) -> Tensor:
        return self.s if float(tau) == 1 else self.t + tau * (self.s - self.t)  # s itself, not s by rounding


class _Increment:
    """Brownian motion on one interval, restricted to its total increment."""

    levy_area_approximation = "none"

    def __init__(self, noise: Noise, x: Tensor, t: Tensor, s: Tensor) -> None:
        self.noise, self.x, self.t, self.s = noise, x, t, s
        self.shape = (len(x), math.prod(x.shape[1:]))

    def __call__(self, ta: Tensor, tb: Tensor) -> Tensor:
        """The increment from 0 to 1 with shape (B, D)."""
        assert (float(ta), float(tb)) == (0, 1), "torchsde left the unit interval"
        return self.noise(self.x, float(self.t), float(self.s)).reshape(self.shape)
