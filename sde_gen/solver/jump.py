"""Jumps of a flow map, with or without new noise."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.flow_map import FlowMap
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.solver._validation import require_descent
from sde_gen.solver.base import StepSolver


@dataclass(frozen=True, kw_only=True)
class Jump(StepSolver[None]):
    r"""One evaluation of a flow map a step, exact for the exact map whatever the step.

    .. math::
        x_r = X_{t,r}(x_t), \qquad x_s \sim q(x_s | x_r), \qquad
        \frac{\sigma_r}{\alpha_r} = \sqrt{1 - \gamma^2}\, \frac{\sigma_s}{\alpha_s}

    with r at least t_min, the end of the process. gamma = 0 draws no noise. gamma = 1 always maps to t_min and adds all
    noise anew, as a consistency model needs, which has no other end. The step to t_min adds none.

    Sources: Kim et al., 2023, arXiv:2310.02279, algorithm 3 (gamma); Song et al., 2023, arXiv:2303.01469, algorithm 1
    (gamma = 1).

    Arguments:
        renoise: gamma, the share of the standard deviation of the noise that is drawn anew.

    Raises:
        ValueError: renoise lies outside [0, 1]; or, when called, the model is no flow map.
    """

    renoise: float = 0.0
    order: ClassVar[int] = 1
    needs_denoiser: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.renoise <= 1:
            raise ValueError(
                f"renoise={self.renoise} must lie in [0, 1]: 0 draws no noise, 1 all noise anew after every jump"
            )

    @property
    def stochastic(self) -> bool:
        """True if renoise is positive."""
        return self.renoise > 0

    @property
    def pathwise(self) -> bool:
        """True without noise."""
        return not self.stochastic

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError for ascending times."""
        del model
        require_descent(type(self).__name__, times)

    def nfe(self, steps: int) -> int:
        """One evaluation a step."""
        return steps

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """Map to r, and noise to s."""
        r = self.end(model.sde, s)
        x = FlowMap(model)(x_t, t, r)
        if r == s:
            return x, None
        scale, std = model.sde.transition(r, s)
        return scale * x + std * noise(x_t, float(t), float(s)), None

    def end(self, sde: SDE, s: Tensor) -> Tensor:
        """Return the time r that a step to s maps to, a float64 scalar."""
        if self.renoise == 0:
            return s
        last = torch.tensor(sde.t_min, dtype=torch.float64)
        if self.renoise == 1:
            return torch.minimum(last, s)
        kept = torch.tensor(1 - self.renoise**2, dtype=torch.float64)
        return torch.minimum(s, torch.maximum(last, sde.t_from_log_snr(sde.log_snr(s) - torch.log(kept))))
