"""DDIM: deterministic or, by eta, partly stochastic."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver.base import StepSolver


class Row(NamedTuple):
    """One step: ``x_s = x0 x_0 + eps eps + draw z``."""

    x0: float
    eps: float
    draw: float


class Walk(NamedTuple):
    """The number of the step to come, and the coefficients of all."""

    number: int
    rows: list[Row]


@dataclass(frozen=True, kw_only=True)
class DDIM(StepSolver[Walk]):
    r"""Keep the predicted x_0, keep some of the predicted noise and draw the rest.

    .. math::
        x_s = \alpha_s \hat{x}_0 + \sqrt{\sigma_s^2 - c^2}\, \hat\epsilon + c\, z, \qquad
        c = \eta\, \sigma_s \sqrt{1 - \mathrm{SNR}_t / \mathrm{SNR}_s}

    c / eta is the standard deviation of q(x_s | x_t, x_0). eta = 0 is the first exponential integrator of the
    probability flow, finite where alpha is zero; eta = 1 is ancestral sampling.

    Source: Song et al., 2020, arXiv:2010.02502, eq. 12 and 16, for any alpha and sigma.

    Arguments:
        eta: 0 draws no noise, 1 as much as the posterior has.

    Raises:
        ValueError: eta lies outside [0, 1].
    """

    eta: float = 0.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta={self.eta} must lie in [0, 1]: 0 is deterministic, 1 ancestral")

    @property
    def stochastic(self) -> bool:
        """Whether eta is positive."""
        return self.eta > 0

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Refuse to draw noise toward larger times."""
        del model
        if self.eta > 0 and bool(times[-1] > times[0]):
            raise ValueError(
                f"eta={self.eta}: with noise DDIM goes from large to small times only; use eta=0 to encode"
            )

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> Walk:
        """Make all coefficients."""
        del x
        alpha, sigma = (part[1:] for part in model.sde.marginal(times))
        if self.eta == 0:
            return Walk(0, list(map(Row, alpha.tolist(), sigma.tolist(), [0.0] * len(alpha))))
        fresh = -torch.expm1(-model.sde.log_snr(times).diff())
        keep, draw = sigma * torch.sqrt(1 - self.eta**2 * fresh), self.eta * sigma * torch.sqrt(fresh)
        return Walk(0, list(map(Row, alpha.tolist(), keep.tolist(), draw.tolist())))

    def reinit(self, model: Denoiser, x: Tensor, times: Tensor, state: Walk) -> Walk:
        """Go on: the state holds no samples."""
        del model, x, times
        return state

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: Walk, noise: Noise
    ) -> tuple[Tensor, Walk]:
        """One step."""
        prediction, row = model(x_t, t), state.rows[state.number]
        x_s = row.x0 * prediction.x0 + row.eps * prediction.eps
        if row.draw:
            x_s = x_s + row.draw * noise(x_t, float(t), float(s))
        return x_s, Walk(state.number + 1, state.rows)

    def nfe(self, steps: int) -> int:
        """One evaluation a step."""
        return steps
