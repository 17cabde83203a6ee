"""Predictor-corrector sampling: a solver's step, followed by Langevin steps."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._validation import require_descent, require_steps
from sde_gen.solver.base import Stepping, StepSolver
from sde_gen.solver.langevin import AffineLangevin, Corrector
from sde_gen.solver.reverse_diffusion import ReverseDiffusion


@dataclass(frozen=True, kw_only=True)
class PredictorCorrector(StepSolver[Any]):
    """Take a step of the predictor from t to s, then let the corrector move the samples at s.

    The predictor comes first, as in the paper's Algorithm 1, and a sample ends with a correction at the last time
    of the grid. With ``corrector_first`` the corrector moves the samples at t before the
    predictor's step, as in the authors' code (score_sde, ``get_pc_sampler``): samples of the prior are corrected, the
    last are not. The default corrector keeps the order of the predictor; the
    paper's is :class:`~sde_gen.solver.Langevin`, whose bias more steps do not remove.

    Source: Song et al., 2021, arXiv:2011.13456, Algorithms 1 to 3.

    Arguments:
        predictor: any solver that steps.
        corrector: moves at a fixed time.
        corrector_first: whether the corrector precedes the predictor in every step.

    Raises:
        ValueError: the predictor has adaptive steps.
    """

    predictor: Stepping = ReverseDiffusion()  # noqa: RUF009 (frozen)
    corrector: Corrector = AffineLangevin()  # noqa: RUF009 (frozen)
    corrector_first: bool = False
    stochastic: ClassVar[bool] = True
    pathwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_steps("predictor", self.predictor)

    @property
    def order(self) -> int:
        """The lower of the two orders."""
        return min(self.predictor.order, self.corrector.order)

    @property
    def batch_coupled(self) -> bool:
        """True if one of the two couples the samples of a batch."""
        return self.predictor.batch_coupled or self.corrector.batch_coupled

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise an error for ascending times and for what the predictor does not support."""
        require_descent(type(self).__name__, times)
        self.predictor.check(model, times)

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> Any:
        """Return the predictor's state."""
        return self.predictor.init(model, x, times)

    def reinit(self, model: Denoiser, x: Tensor, times: Tensor, state: Any) -> Any:
        """Return the state: every step begins with a new one."""
        del model, x, times
        return state

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        """Take a step of the predictor, then the corrector, or in reverse order."""
        if self.corrector_first:
            x_t = self.corrector.correct(model, x_t, t, s, noise, at=t)
        state = self.predictor.reinit(model, x_t, torch.stack([t, s]), state)  # the corrector has moved x_t
        if self.corrector_first:
            return self.predictor.step(model, x_t, t, s, state, noise)
        x_s, state = self.predictor.step(model, x_t, t, s, state, noise)
        return self.corrector.correct(model, x_s, t, s, noise), state

    def nfe(self, steps: int) -> int:
        """The predictor's evaluations and one for every move of the corrector."""
        return self.predictor.nfe_reinit(steps) + self.corrector.steps * steps

    def nfe_reinit(self, steps: int) -> int:
        """The same number, since every step begins with it."""
        return self.nfe(steps)
